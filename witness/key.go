package witness

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"bulkhead"
	"bulkhead/pki/tlog"
)

// Names in a witness's folder.
const (
	keyFile  = "witness.key" // PKCS #8 in PEM, with the witness's name as a header
	nameHead = "Witness"
)

// NewKey makes a witness's key in its folder, readable by its owner only, and returns the verifier key for policies.
// KindConflict when there is one: a witness keeps its key.
func NewKey(dir, name string) (verifier string, err error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", fmt.Errorf("witness key: %w", err)
	}
	c, err := tlog.NewCosigner(name, private)
	if err != nil {
		return "", bulkhead.Faultf(bulkhead.KindUsage, "%.100q cannot name a witness", name).WithHint("--name witness.example/1, without spaces and plus signs").WithCause(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", fmt.Errorf("witness key: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("witness key: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, keyFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return "", bulkhead.Faultf(bulkhead.KindConflict, "%s has a key already", dir).WithHint("bulkhead-witness key --dir DIR shows its verifier key; another witness takes another folder")
	}
	if err != nil {
		return "", fmt.Errorf("witness key: %w", err)
	}
	err = pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Headers: map[string]string{nameHead: name}, Bytes: der})
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("witness key: %w", err), os.Remove(f.Name()))
	}
	return c.String(), nil
}

// ReadKey reads the key of a folder. KindNotFound when there is none, KindForbidden when others may read it.
func ReadKey(dir string) (*tlog.Cosigner, error) {
	path := filepath.Join(dir, keyFile)
	info, err := os.Stat(path)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindNotFound, "there is no witness's key in %s", dir).WithHint("bulkhead-witness key --dir " + dir + " --name NAME").WithCause(err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, bulkhead.Faultf(bulkhead.KindForbidden, "others may read %s", path).WithHint("chmod 600 " + path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("witness key: %w", err)
	}
	damaged := bulkhead.Faultf(bulkhead.KindMalformed, "%s holds no witness's key", path).WithHint("bring it back from a backup")
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, damaged
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	private, ok := key.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, damaged.WithCause(err)
	}
	c, err := tlog.NewCosigner(strings.TrimSpace(block.Headers[nameHead]), private)
	if err != nil {
		return nil, damaged.WithCause(err)
	}
	return c, nil
}
