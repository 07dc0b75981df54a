package main

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"software.sslmate.com/src/go-pkcs12"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/run"
)

// bundle is where a PKCS#12 file goes and what seals it. A password is never an argument: other users can read those.
type bundle struct {
	file, passwordFile string
	legacy             bool
}

func (b *bundle) flags(c *cobra.Command) {
	c.Flags().StringVar(&b.file, "p12", "", "write key, certificate and chain as PKCS#12 here")
	c.Flags().StringVar(&b.passwordFile, "p12-password-file", "", "file whose first line is the password of --p12, readable by its owner only")
	c.Flags().BoolVar(&b.legacy, "p12-legacy", false, "seal --p12 with 3DES and SHA-1, for readers that know nothing newer (Windows before 2019, macOS before 15)")
}

// password checks everything that could fail, before anything is asked of the server.
func (b bundle) password(force bool) (string, error) {
	if b.file == "" {
		if b.passwordFile != "" || b.legacy {
			return "", bulkhead.NewFault(bulkhead.KindUsage, "--p12-password-file and --p12-legacy go with --p12").WithHint("--p12 FILE")
		}
		return "", nil
	}
	if b.passwordFile == "" {
		return "", bulkhead.NewFault(bulkhead.KindUsage, "--p12 needs a password").WithHint("--p12-password-file FILE, with mode 600")
	}
	secret, err := run.ReadSecret(b.passwordFile)
	if err != nil {
		return "", err
	}
	secret = bytes.TrimRight(secret, "\r")
	if !utf8.Valid(secret) {
		return "", bulkhead.Faultf(bulkhead.KindUsage, "the password in %s is not UTF-8", b.passwordFile).WithHint("use ASCII: readers disagree about the rest")
	}
	if _, err := os.Stat(b.file); err == nil && !force {
		return "", bulkhead.Faultf(bulkhead.KindUsage, "%s exists", b.file).WithHint("--force, or another --p12 FILE")
	}
	return string(secret), nil
}

// write seals key, certificate and chain (PEM). It refuses a key that is not the certificate's.
func (b bundle) write(keyPEM []byte, certPEM, chainPEM, password string) error {
	key, err := parseKey(keyPEM)
	if err != nil {
		return err
	}
	cert, err := parseCertificates([]byte(certPEM))
	if err != nil {
		return err
	}
	chain, err := parseCertificates([]byte(chainPEM))
	if err != nil {
		return err
	}
	pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if len(cert) != 1 || !ok || !pub.Equal(cert[0].PublicKey) {
		return bulkhead.NewFault(bulkhead.KindUsage, "the key is not that of the certificate").WithHint("give the key that was made with it: --key FILE")
	}
	encoder := pkcs12.Modern
	if b.legacy {
		encoder = pkcs12.LegacyDES
	}
	der, err := encoder.Encode(key, cert[0], chain, password)
	if err != nil {
		return fmt.Errorf("encoding PKCS#12: %w", err)
	}
	return writeWhole(b.file, der, 0o600)
}

func parseKey(text []byte) (crypto.Signer, error) {
	wrong := bulkhead.NewFault(bulkhead.KindUsage, "the key is not an unencrypted PEM private key").WithHint("openssl pkey -in KEY -out PLAIN makes one")
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, wrong
	}
	var key any
	var err error
	switch block.Type {
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	default:
		err = errors.New("PEM of type " + block.Type)
	}
	signer, ok := key.(crypto.Signer)
	if err != nil || !ok {
		return nil, wrong.WithCause(err)
	}
	return signer, nil
}

func parseCertificates(text []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return out, nil
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("reading the certificate: %w", err)
		}
		out = append(out, c)
	}
}

// exported is what cert export prints.
type exported struct {
	Certificate console.CertificateView `json:"certificate"`
	Files       []string                `json:"files"` // absolute paths
}

func (a *app) certExport() *cobra.Command {
	var b bundle
	var issuer, keyFile, out string
	var root, force bool
	c := &cobra.Command{Use: "export SERIAL|FILE", Short: "write certificate and chain as PEM, or with its key as PKCS#12", Args: exactly(1, "a serial number or a file"),
		Long: "Writes the certificate and the chain above it as PEM to --out (standard output when neither --out nor --p12 is given), and with\n--key and --p12 as PKCS#12. The house never had the key: give the file that was made with it.",
		RunE: func(c *cobra.Command, args []string) error {
			password, err := b.password(force)
			if err != nil {
				return err
			}
			if (b.file == "") != (keyFile == "") {
				return bulkhead.NewFault(bulkhead.KindUsage, "--key and --p12 go together").WithHint("--key FILE --p12 FILE --p12-password-file FILE")
			}
			v, err := a.locate(c.Context(), args[0], issuer)
			if err != nil {
				return err
			}
			if v.PEM == "" {
				return bulkhead.Faultf(bulkhead.KindNotFound, "%s of %s is %s: there is no certificate", v.Serial, v.Issuer, v.State).WithHint("bulkhead cert list --state issued")
			}
			return a.export(v, b, password, keyFile, out, root, force)
		}}
	b.flags(c)
	c.Flags().StringVar(&keyFile, "key", "", "the certificate's private key, unencrypted PEM; for --p12")
	c.Flags().StringVar(&out, "out", "", "write certificate and chain as PEM here")
	c.Flags().BoolVar(&root, "root", false, "add the root to the chain")
	c.Flags().BoolVar(&force, "force", false, "overwrite files that exist")
	c.Flags().StringVar(&issuer, "issuer", "", "authority, where two share the serial")
	return c
}

func (a *app) export(v console.CertificateView, b bundle, password, keyFile, out string, root, force bool) error {
	chain := v.ChainPEM
	if root {
		chain += v.RootPEM
	}
	res := exported{Certificate: v, Files: []string{}}
	if b.file != "" {
		key, err := os.ReadFile(keyFile)
		if err != nil {
			return bulkhead.Faultf(bulkhead.KindUsage, "the key %s cannot be read", keyFile).WithHint("--key FILE").WithCause(err)
		}
		if err := b.write(key, v.PEM, chain, password); err != nil {
			return err
		}
		res.Files = append(res.Files, absolute(b.file))
	}
	if out != "" {
		if _, err := os.Stat(out); err == nil && !force {
			return bulkhead.Faultf(bulkhead.KindUsage, "%s exists", out).WithHint("--force, or another --out FILE")
		}
		if err := os.WriteFile(out, []byte(v.PEM+chain), 0o644); err != nil {
			return fmt.Errorf("writing %s: %w", out, err)
		}
		res.Files = append(res.Files, absolute(out))
	}
	if len(res.Files) == 0 {
		return a.show(res, "%s", v.PEM+chain)
	}
	text := "exported"
	for _, f := range res.Files {
		text += "  " + f
	}
	return a.show(res, "%s", text)
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
