package run

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"math/big"
	"path/filepath"
	"testing"
	"time"

	"bulkhead"
)

// fakeDoor certifies the caller again, or fails.
type fakeDoor struct {
	door
	ca    *x509.Certificate
	key   *ecdsa.PrivateKey
	from  time.Time
	calls int
	fail  error
}

func (d *fakeDoor) certify(pub any) bulkhead.IssuedCertificate {
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(int64(d.calls + 2)), DNSNames: []string{"edge.role.internal"}, NotBefore: d.from, NotAfter: d.from.Add(90 * time.Minute)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, d.ca, pub, d.key)
	if err != nil {
		panic(err)
	}
	return bulkhead.IssuedCertificate{DER: der, Chain: [][]byte{d.ca.Raw, d.ca.Raw}}
}

func (d *fakeDoor) RenewIdentity(_ context.Context, csr []byte) (bulkhead.IssuedCertificate, error) {
	d.calls++
	req, err := x509.ParseCertificateRequest(csr)
	if err != nil || req.CheckSignature() != nil {
		return bulkhead.IssuedCertificate{}, errors.New("no request")
	}
	return d.certify(req.PublicKey), d.fail
}

// TestIdentityRenewal: at two thirds of its life, with a new key, kept when the signer is away, and read again by a later
// process.
func TestIdentityRenewal(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now, NotAfter: now.Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	d := &fakeDoor{ca: ca, key: key, from: now}
	own, _, err := newRequest()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := writeIdentity(dir, own, d.certify(own.Public())); err != nil {
		t.Fatal(err)
	}
	clock := now
	id, err := loadIdentity(dir, func() time.Time { return clock })
	if err != nil {
		t.Fatal(err)
	}
	look := func() {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // keep looks once and ends
		if err := id.keep(ctx, d); err != nil {
			t.Fatal(err)
		}
	}
	first := id.certificate()
	clock = now.Add(59 * time.Minute)
	if look(); d.calls != 0 {
		t.Error("renewed before two thirds")
	}
	clock, d.fail = now.Add(61*time.Minute), errors.New("away")
	if look(); d.calls != 1 || id.certificate() != first {
		t.Errorf("%d calls; a failed renewal must leave the certificate", d.calls)
	}
	d.fail, d.from = nil, clock
	if look(); d.calls != 2 || id.certificate() == first || id.certificate().Leaf.PublicKey.(*ecdsa.PublicKey).Equal(first.Leaf.PublicKey) {
		t.Errorf("%d calls; want a certificate for a new key", d.calls)
	}
	again, err := loadIdentity(dir, func() time.Time { return clock })
	if err != nil || string(again.certificate().Certificate[0]) != string(id.certificate().Certificate[0]) {
		t.Errorf("a later process reads another certificate: %v", err)
	}
	clock = now.Add(48 * time.Hour)
	if _, err := loadIdentity(dir, func() time.Time { return clock }); bulkhead.KindOf(err) != bulkhead.KindUsage {
		t.Errorf("a certificate that ended: %v", err)
	}
	if _, err := loadIdentity(filepath.Join(dir, "none"), time.Now); bulkhead.KindOf(err) != bulkhead.KindUsage {
		t.Errorf("no certificate: %v", err)
	}
}
