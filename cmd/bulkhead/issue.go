package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"crypto"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/run/client"
)

// issued is what issue and renew print.
type issued struct {
	Certificate console.CertificateView `json:"certificate"`
	Files       files                   `json:"files"`
}

// files are absolute paths.
type files struct {
	Key       string `json:"key,omitempty"`
	Cert      string `json:"cert"`
	Chain     string `json:"chain"`
	FullChain string `json:"fullchain"`
	Root      string `json:"root"`
	PKCS12    string `json:"pkcs12,omitempty"`
}

// order is the flags of issue and renew.
type order struct {
	out, profile, authority, keyType, csr string
	force, dry                            bool
	p12                                   bundle
	replaces                              string // of a renewal
	typed                                 string // the command as it was given, for hints
}

func (o *order) flags(c *cobra.Command) {
	c.Flags().StringVar(&o.out, "out", ".", "directory for the files")
	c.Flags().StringVar(&o.keyType, "key-type", "p256", "p256, p384, rsa2048, rsa3072 or rsa4096")
	c.Flags().BoolVar(&o.force, "force", false, "overwrite files that exist")
	o.p12.flags(c)
	dryRunFlag(c, &o.dry)
}

func (a *app) issue() *cobra.Command {
	var o order
	c := &cobra.Command{
		Use: "issue NAME…", Short: "key, CSR, order, certificate and chain on disk",
		Long: "Makes a key and a CSR, orders a certificate on the operator's word for the house's own names, and writes NAME.key,\nNAME.crt, NAME.chain.crt, NAME.fullchain.crt and root.crt.",
		RunE: func(c *cobra.Command, args []string) error {
			o.typed = typed(c, args)
			return a.order(c.Context(), o, args)
		},
	}
	o.flags(c)
	c.Flags().StringVar(&o.profile, "profile", "", "certificate profile (default: the house's)")
	c.Flags().StringVar(&o.authority, "issuer", "", "issuing authority (default: the profile's)")
	c.Flags().StringVar(&o.csr, "csr", "", "use this CSR instead of a new key; NAMEs are then those in it")
	return c
}

// order obtains a certificate, or says what would come of it.
func (a *app) order(ctx context.Context, o order, names []string) error {
	if o.dry {
		return a.rehearseOrder(ctx, o, names)
	}
	got, err := a.obtain(ctx, o, names)
	if err != nil {
		return err
	}
	return a.show(got, "certificate  %s\nkey          %s\nchain        %s\nserial       %s (%s)\nvalid until  %s", got.Files.Cert, got.Files.Key, got.Files.FullChain,
		got.Certificate.Serial, got.Certificate.Issuer, got.Certificate.NotAfter.Format("2006-01-02 15:04:05 UTC"))
}

// rehearseOrder asks with a key that is thrown away.
func (a *app) rehearseOrder(ctx context.Context, o order, names []string) error {
	ids, err := o.identifiers(names)
	if err != nil {
		return err
	}
	cl, err := client.New(a.opts)
	if err != nil {
		return err
	}
	csrPEM, _, _, err := o.request(ids)
	if err != nil {
		return err
	}
	in := console.IssueRequest{CSR: csrPEM, Profile: o.profile, Authority: bulkhead.AuthorityID(o.authority), Replaces: o.replaces}
	return a.succeeding(in, func(in console.IssueRequest) error {
		return a.rehearse(ctx, cl, http.MethodPost, "/api/v1/certificates", in)
	})
}

// succeeding asks for a certificate in the place of another, and for one in nobody's place when the other has a successor already, or
// another holder.
func (a *app) succeeding(in console.IssueRequest, ask func(console.IssueRequest) error) error {
	err := ask(in)
	if k := bulkhead.KindOf(err); in.Replaces != "" && (k == bulkhead.KindAlreadyReplaced || k == bulkhead.KindForbidden) {
		a.say("the new certificate is not recorded as the successor of %s: %s", in.Replaces, bulkhead.AsFault(err).Detail)
		in.Replaces = ""
		err = ask(in)
	}
	return err
}

func (o order) identifiers(names []string) ([]bulkhead.Identifier, error) {
	if len(names) == 0 && o.csr == "" {
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "issue takes at least one name").WithHint("bulkhead issue www.example.test")
	}
	ids := make([]bulkhead.Identifier, len(names))
	for i, n := range names {
		id, err := bulkhead.ParseIdentifier(n)
		if err != nil {
			return nil, err
		}
		ids[i] = id
	}
	return ids, nil
}

// fresh ends the names of files that wait for the others.
const fresh = ".new"

// obtain gets one certificate. The key is on disk before the certificate is asked for: nobody is issued a certificate
// whose key was lost. It waits beside the file whose place it takes, and takes it with the certificate: an order that is refused
// leaves a key and a certificate that are in use as they were.
func (a *app) obtain(ctx context.Context, o order, names []string) (issued, error) {
	var none issued
	ids, err := o.identifiers(names)
	if err != nil {
		return none, err
	}
	password, err := o.p12.password(o.force)
	if err != nil {
		return none, err
	}
	if o.p12.file != "" && o.csr != "" {
		return none, bulkhead.NewFault(bulkhead.KindUsage, "--p12 needs the private key, and --csr leaves it elsewhere").WithHint("bulkhead cert export SERIAL --key FILE --p12 FILE --p12-password-file FILE")
	}
	cl, err := client.New(a.opts)
	if err != nil {
		return none, err
	}
	csrPEM, key, first, err := o.request(ids)
	if err != nil {
		return none, err
	}
	dir, err := filepath.Abs(o.out)
	if err != nil {
		return none, err
	}
	base := filepath.Join(dir, fileName(first))
	f := files{Cert: base + ".crt", Chain: base + ".chain.crt", FullChain: base + ".fullchain.crt", Root: filepath.Join(dir, "root.crt")}
	if key != nil {
		f.Key = base + ".key"
	}
	if err := o.place(dir, f, key); err != nil {
		return none, err
	}
	var res console.IssueResponse
	in := console.IssueRequest{CSR: csrPEM, Profile: o.profile, Authority: bulkhead.AuthorityID(o.authority), Replaces: o.replaces}
	if err := a.succeeding(in, func(in console.IssueRequest) error {
		return cl.DoOnce(ctx, http.MethodPost, "/api/v1/certificates", in, &res)
	}); err != nil {
		if key == nil {
			return none, err
		}
		if mayArrive(err) {
			a.say("the new key stays in %s: the order may have arrived, and may still be fulfilled", f.Key+fresh)
		} else {
			os.Remove(f.Key + fresh) // it will have no certificate
		}
		return none, err
	}
	if err := f.write(res); err != nil {
		return none, err
	}
	if o.p12.file != "" {
		if err := o.p12.write(key, res.PEM, res.ChainPEM, password); err != nil {
			return none, err
		}
		f.PKCS12 = absolute(o.p12.file)
	}
	return issued{Certificate: res.Certificate, Files: f}, nil
}

// mayArrive says whether an order that failed may still lead to a certificate: neither refused nor never sent.
func mayArrive(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return false
	}
	k := bulkhead.KindOf(err)
	return k == bulkhead.KindUnavailable || k == bulkhead.KindInternal || errors.Is(err, client.ErrLost)
}

// place checks that nothing is in the way and writes the key beside its place.
func (o order) place(dir string, f files, key []byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making %s: %w", dir, err)
	}
	places := []string{f.Cert}
	if key != nil {
		places = []string{f.Key, f.Key + fresh, f.Cert}
	}
	for _, path := range places {
		if _, err := os.Stat(path); err == nil && !o.force {
			return bulkhead.Faultf(bulkhead.KindUsage, "%s exists", path).
				WithHint(o.typed + " --force   (replaces it once the new certificate is here; with --out DIR it stays)")
		}
	}
	if key == nil {
		return nil
	}
	return writeWhole(f.Key+fresh, key, 0o600)
}

// write puts the certificate, its chain and the key that waits into their places, none before all are written.
func (f files) write(res console.IssueResponse) error {
	places := []string{f.Cert, f.Chain, f.FullChain, f.Root}
	for i, body := range []string{res.PEM, res.ChainPEM, res.PEM + res.ChainPEM, res.RootPEM} {
		if err := writeWhole(places[i]+fresh, []byte(body), 0o644); err != nil {
			return bulkhead.AsFault(err).WithHint(fmt.Sprintf("bulkhead cert export %s --issuer %s --out FILE   (the certificate is issued; its key is in %s)",
				res.Certificate.Serial, res.Certificate.Issuer, f.Key+fresh))
		}
	}
	if f.Key != "" {
		places = append(places, f.Key)
	}
	for _, path := range places {
		if err := os.Rename(path+fresh, path); err != nil {
			return fmt.Errorf("writing %s: %w", path, err)
		}
	}
	return nil
}

// typed is a command as it was given, so that a hint can add a flag to it.
func typed(c *cobra.Command, args []string) string {
	words := append(strings.Fields(c.CommandPath()), args...)
	c.Flags().Visit(func(f *pflag.Flag) { words = append(words, "--"+f.Name+"="+f.Value.String()) })
	for i, w := range words {
		if strings.ContainsFunc(w, func(r rune) bool {
			return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_./:=,@%+", r)
		}) {
			words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

// request makes the CSR, or reads the one given. key is nil then.
func (o order) request(ids []bulkhead.Identifier) (csrPEM string, keyPEM []byte, first string, err error) {
	if o.csr != "" {
		body, err := os.ReadFile(o.csr)
		if err != nil {
			return "", nil, "", bulkhead.Faultf(bulkhead.KindUsage, "the CSR %s cannot be read", o.csr).WithCause(err)
		}
		block, _ := pem.Decode(body)
		if block == nil {
			return "", nil, "", bulkhead.Faultf(bulkhead.KindBadCSR, "%s is not PEM", o.csr).WithHint("openssl req -new -key KEY -subj / -addext subjectAltName=DNS:NAME")
		}
		return string(body), nil, strings.TrimSuffix(filepath.Base(o.csr), filepath.Ext(o.csr)), nil
	}
	key, err := newKey(o.keyType)
	if err != nil {
		return "", nil, "", err
	}
	t := &x509.CertificateRequest{}
	for _, id := range ids {
		switch id.Type {
		case bulkhead.IP:
			t.IPAddresses = append(t.IPAddresses, net.ParseIP(id.Value))
		case bulkhead.Email:
			t.EmailAddresses = append(t.EmailAddresses, id.Value)
		default:
			t.DNSNames = append(t.DNSNames, id.Value)
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, t, key)
	if err != nil {
		return "", nil, "", fmt.Errorf("making the CSR: %w", err)
	}
	p8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", nil, "", fmt.Errorf("encoding the key: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: p8}), ids[0].Value, nil
}

func newKey(kind string) (crypto.Signer, error) {
	switch kind {
	case "p256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "p384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "rsa2048":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "rsa3072":
		return rsa.GenerateKey(rand.Reader, 3072)
	case "rsa4096":
		return rsa.GenerateKey(rand.Reader, 4096)
	default:
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "%q is not a key type", kind).WithHint("--key-type p256, p384, rsa2048, rsa3072 or rsa4096")
	}
}

// fileName is the first name as a file: "*" becomes "_wildcard", ":" of an address "_".
func fileName(name string) string {
	return strings.NewReplacer("*", "_wildcard", ":", "_", "/", "_").Replace(name)
}
