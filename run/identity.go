package run

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"bulkhead"
	"bulkhead/signer/signerrpc"
)

// identityPEM is the file with a role's own key and certificate, in its directory.
const identityPEM = "identity.pem"

// identity is the certificate by which the other processes of the house know this one. It is renewed at two thirds of
// its life, with a new key each time; the old one stands until the new one is on the disk.
type identity struct {
	dir  string
	now  func() time.Time
	log  *slog.Logger
	cert atomic.Pointer[tls.Certificate]
}

// renewer is the part of the signer that certifies the caller again.
type renewer interface {
	RenewIdentity(ctx context.Context, csr []byte) (bulkhead.IssuedCertificate, error)
}

func loadIdentity(dir string, now func() time.Time) (*identity, error) {
	c, err := tls.LoadX509KeyPair(filepath.Join(dir, identityPEM), filepath.Join(dir, identityPEM))
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "%s holds no certificate of a role", dir).WithHint("on the signer's machine: bulkhead role export ROLE --out DIR").WithCause(err)
	}
	if !now().Before(c.Leaf.NotAfter) {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "the certificate of this role ended at %s", c.Leaf.NotAfter.UTC().Format(time.RFC3339)).WithHint("on the signer's machine: bulkhead role export ROLE --out DIR")
	}
	id := &identity{dir: dir, now: now, log: slog.New(slog.DiscardHandler)}
	id.cert.Store(&c)
	return id, nil
}

func (i *identity) certificate() *tls.Certificate { return i.cert.Load() }

// identityLook is how often the end of the certificate is looked at.
const identityLook = time.Minute

// keep renews until ctx ends.
func (i *identity) keep(ctx context.Context, d door) error {
	r, ok := d.(renewer)
	if !ok {
		<-ctx.Done()
		return nil
	}
	look := func() {
		if c := i.certificate().Leaf; i.now().After(c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) * 2 / 3)) {
			if err := i.renew(ctx, r); err != nil && ctx.Err() == nil {
				i.log.ErrorContext(ctx, "the certificate of this role could not be renewed", slog.Time("until", c.NotAfter), slog.String("error", err.Error()))
			}
		}
	}
	look()
	return every(ctx, identityLook, look)
}

func (i *identity) renew(ctx context.Context, r renewer) error {
	key, csr, err := newRequest()
	if err != nil {
		return err
	}
	got, err := r.RenewIdentity(ctx, csr)
	if err != nil {
		return err
	}
	c, err := writeIdentity(i.dir, key, got)
	if err != nil {
		return err
	}
	i.cert.Store(c)
	i.log.InfoContext(ctx, "the certificate of this role was renewed", slog.Time("until", c.Leaf.NotAfter))
	return nil
}

func newRequest() (*ecdsa.PrivateKey, []byte, error) { return requestFor() }

// requestFor makes a key and a request for DNS names.
func requestFor(names ...string) (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("key: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate request: %w", err)
	}
	return key, csr, nil
}

// writeIdentity writes key, certificate and chain into one file, so that they fit at every instant.
func writeIdentity(dir string, key *ecdsa.PrivateKey, got bulkhead.IssuedCertificate) (*tls.Certificate, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("key of a role: %w", err)
	}
	var chain []byte
	for _, c := range append([][]byte{got.DER}, got.Chain[:max(0, len(got.Chain)-1)]...) {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	c, err := tls.X509KeyPair(chain, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("certificate of a role: %w", err)
	}
	return &c, writeFile(filepath.Join(dir, identityPEM), append(keyPEM, chain...), 0o600)
}

func readPool(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "the trust anchor %s cannot be read", path).WithCause(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "%s holds no certificate", path)
	}
	return pool, nil
}

// roleCertificate has the signer of this process certify a role.
func (h *House) roleCertificate(ctx context.Context, r signerrpc.Role, dir string) (*tls.Certificate, error) {
	key, csr, err := newRequest()
	if err != nil {
		return nil, err
	}
	got, err := h.signer.IssueInfrastructure(ctx, []bulkhead.Identifier{{Type: bulkhead.DNS, Value: r.Name()}}, csr)
	if err != nil {
		return nil, err
	}
	return writeIdentity(dir, key, got)
}
