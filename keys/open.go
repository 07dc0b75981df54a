package keys

import (
	"bytes"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"bulkhead"
)

// OpenURI opens the ring that a URI names. Secrets are named by file, never written in the URI:
//
//	file:DIR?identity=FILE             a folder of sealed files; identity defaults to root.identity inside it
//	file:DIR?passphrase-file=FILE      the same, sealed with a passphrase
//	pkcs11:token=NAME?module-path=LIB&pin-source=FILE
//
// KindUsage for anything else, and for pkcs11 in a program that was built without it.
func OpenURI(uri string) (Ring, error) {
	switch {
	case strings.HasPrefix(uri, "pkcs11:"):
		return openPKCS11(uri)
	case strings.HasPrefix(uri, fileScheme):
		path, query, _ := strings.Cut(strings.TrimPrefix(uri, fileScheme), "?")
		values, err := url.ParseQuery(query)
		if err != nil {
			return nil, notRing(uri)
		}
		c := Config{Dir: path}
		for name, v := range values {
			switch {
			case name == "identity" && len(v) == 1:
				c.IdentityFile = v[0]
			case name == "passphrase-file" && len(v) == 1:
				if c.Passphrase, err = readSecret(v[0]); err != nil {
					return nil, err
				}
			default:
				return nil, notRing(uri)
			}
		}
		if c.IdentityFile == "" && len(c.Passphrase) == 0 {
			c.IdentityFile = filepath.Join(path, "root.identity")
		}
		if _, err := os.Stat(path); err != nil {
			return nil, bulkhead.Faultf(bulkhead.KindNotFound, "the key folder %s does not exist", path).WithHint("bring the folder that holds the keys").WithCause(err)
		}
		return OpenFileRing(c)
	default:
		return nil, notRing(uri)
	}
}

func notRing(uri string) error {
	scheme, _, _ := strings.Cut(uri, ":")
	return bulkhead.Faultf(bulkhead.KindUsage, "this is not the URI of a key ring (%q…)", scheme).
		WithHint("file:DIR, file:DIR?passphrase-file=FILE, or pkcs11:token=NAME?module-path=LIB&pin-source=FILE")
}

// readSecret reads the first line of a file that others may not read.
func readSecret(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "the secret file %s cannot be read", path).WithHint("check the path").WithCause(err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, bulkhead.Faultf(bulkhead.KindUnauthorized, "the secret file %s can be read by others", path).WithHint("chmod 600 " + path)
	}
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "the secret file %s cannot be read", path).WithHint("check the path").WithCause(err)
	}
	line, _, _ := bytes.Cut(body, []byte("\n"))
	if line = bytes.TrimSuffix(line, []byte("\r")); len(line) == 0 {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "the secret file %s is empty", path).WithHint("one line: the secret")
	}
	return line, nil
}
