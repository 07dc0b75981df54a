package csr

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"testing"

	"bulkhead"
)

func request(t testing.TB, name string, key any, algorithm x509.SignatureAlgorithm) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{name}, SignatureAlgorithm: algorithm}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestRead: a request is verified once, and anything that differs by one bit anew.
func TestRead(t *testing.T) {
	var r Reader
	good := request(t, "a.test", newKey(t), 0)
	first, err := r.Read(good)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := r.Read(bytes.Clone(good)); err != nil || again != first {
		t.Errorf("it was verified again: %v", err)
	}
	if elsewhere, err := new(Reader).Read(good); err != nil || elsewhere == first {
		t.Errorf("another reader has not verified it: %v", err)
	}
	for i := range len(good) * 8 {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		if got, err := r.Read(bad); got == first || err == nil && got.CheckSignature() != nil {
			t.Fatalf("bit %d: %v", i, err)
		}
	}
	if _, err := r.Read(append(bytes.Clone(good), 0)); bulkhead.KindOf(err) != bulkhead.KindBadCSR {
		t.Errorf("with an octet more: %v", err)
	}
}

// TestReadRefuses: neither a signature that does not verify nor one that could be forged is ever remembered as good.
func TestReadRefuses(t *testing.T) {
	var r Reader
	spoilt := request(t, "a.test", newKey(t), 0)
	spoilt[len(spoilt)-1] ^= 1
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := r.Read(spoilt); bulkhead.KindOf(err) != bulkhead.KindBadCSR {
			t.Errorf("spoilt: %v", err)
		}
		if _, err := r.Read(nil); bulkhead.KindOf(err) != bulkhead.KindBadCSR {
			t.Errorf("nothing: %v", err)
		}
		if _, err := r.Read(sha1Signed(t, k)); bulkhead.KindOf(err) != bulkhead.KindBadSignatureAlgorithm {
			t.Errorf("by SHA-1: %v", err)
		}
	}
	if len(r.seen) != 0 {
		t.Errorf("%d are remembered", len(r.seen))
	}
}

// sha1Signed is a request that says it is signed with SHA-1, which no library makes any more.
func sha1Signed(t *testing.T, k *rsa.PrivateKey) []byte {
	t.Helper()
	sha256, sha1 := []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b}, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05}
	return bytes.ReplaceAll(request(t, "a.test", k, 0), sha256, sha1)
}

// TestBounded: the newest are remembered and no more.
func TestBounded(t *testing.T) {
	var r Reader
	key := newKey(t)
	for n := range 3 * remembered {
		der := request(t, fmt.Sprintf("n%d.test", n), key, 0)
		first, err := r.Read(der)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := r.Read(der); again != first || len(r.seen) > remembered {
			t.Fatalf("request %d of %d remembered", n, len(r.seen))
		}
	}
	large := make([]string, 1000)
	for i := range large {
		large[i] = fmt.Sprintf("n%d.example.test", i)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: large}, key)
	if err != nil {
		t.Fatal(err)
	}
	first, err := r.Read(der)
	if again, _ := r.Read(der); err != nil || again == first {
		t.Errorf("a large one is remembered: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(request(f, "a.test", newKey(f), 0))
	f.Add([]byte{0x30, 0})
	var r Reader
	f.Fuzz(func(t *testing.T, der []byte) {
		req, err := r.Read(der)
		if again, err2 := r.Read(der); (err == nil) != (err2 == nil) || err == nil && (again != req && len(der) <= largest || req.CheckSignature() != nil || !bytes.Equal(req.Raw, der)) {
			t.Errorf("%v, then %v", err, err2)
		}
	})
}
