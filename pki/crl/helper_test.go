package crl

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"bulkhead"
)

var epoch = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

type party struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newParty(t testing.TB, key crypto.Signer) party {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Issuing", Organization: []string{"Bulkhead"}}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		NotBefore: epoch.Add(-time.Hour), NotAfter: epoch.AddDate(40, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return party{cert, key}
}

func ecKey(t testing.TB, curve elliptic.Curve) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func rsaKey(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (p party) sign(t ToSign) ([]byte, error) { return p.key.Sign(rand.Reader, t.Digest, t.Hash) }

func (p party) info() Info {
	return Info{Issuer: p.cert, Number: 7, ThisUpdate: epoch, NextUpdate: epoch.Add(7 * 24 * time.Hour), URL: "http://crl.test/crl/issuing/3.crl", Scope: ScopeUserCerts}
}

func serial(t testing.TB, hex string) bulkhead.Serial {
	t.Helper()
	s, err := bulkhead.ParseSerial(hex)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// numbered makes n entries: 16-octet serials, dates over a year, half of them with a reason.
func numbered(n int) []Entry {
	list := make([]Entry, n)
	var raw [16]byte
	raw[0] = 0x5a
	for i := range list {
		binary.BigEndian.PutUint64(raw[8:], uint64(i))
		s, err := bulkhead.SerialFromBytes(raw[:])
		if err != nil {
			panic(err)
		}
		list[i] = Entry{Serial: s, RevokedAt: epoch.Add(-time.Duration(i%31536000) * time.Second)}
		if i%2 == 0 {
			list[i].Reason = bulkhead.KeyCompromise
		}
	}
	return list
}

// encoded is the entry file of a list.
func encoded(t testing.TB, list ...Entry) []byte {
	t.Helper()
	var c Encoder
	var b []byte
	var err error
	for i := range list {
		if b, err = c.Append(b, &list[i]); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func makeCRL(t testing.TB, p party, info Info, entries ...Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	r, err := Write(&b, info, entries, p.sign)
	if err != nil {
		t.Fatal(err)
	}
	if r.Size != int64(b.Len()) || r.Digest != bulkhead.Digest(b.Bytes()) {
		t.Fatalf("result %+v does not describe the %d octets written", r, b.Len())
	}
	return b.Bytes()
}

func read(t testing.TB, der []byte) (*Parsed, []Entry) {
	t.Helper()
	var list []Entry
	p, err := Parse(der, func(e Entry) error { list = append(list, e); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return p, list
}

func file(t testing.TB, name string, data []byte) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// openssl runs the program that the machine must have.
func openssl(t testing.TB, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatal("openssl is needed by this test: apt-get install openssl")
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %v: %v\n%s", args, err, out)
	}
	return string(out)
}
