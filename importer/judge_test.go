package importer_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkhead/importer"
)

// authority is one with a key, and what it signs.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newAuthority(t testing.TB, name string, key crypto.Signer) authority {
	t.Helper()
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: from.AddDate(9, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

func (a authority) leaf(t testing.TB, serial int64) []byte {
	t.Helper()
	name := fmt.Sprintf("www%d.example", serial)
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func newP256(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Many pieces judged together are each what they are by themselves, whatever stands beside them.
func TestJudgeAll(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for what, key := range map[string]crypto.Signer{"P-256": newP256(t), "RSA": rsaKey} {
		a := newAuthority(t, "an authority", key)
		stranger, twin := newAuthority(t, "a stranger", newP256(t)), newAuthority(t, "an authority", newP256(t)) // of the same name, with another key
		list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: a.cert.NotBefore, NextUpdate: a.cert.NotAfter}, a.cert, a.key)
		if err != nil {
			t.Fatal(err)
		}
		damaged := a.leaf(t, 99)
		damaged[len(damaged)-1] ^= 1
		others := [][]byte{a.cert.Raw, list, stranger.leaf(t, 50), twin.leaf(t, 51), damaged, []byte("nothing"), nil}
		var pieces []importer.Piece
		for n := range 60 {
			pieces = append(pieces, importer.Piece{File: "f", Line: len(pieces) + 1, DER: a.leaf(t, int64(n)+100)})
			if n%9 == 0 {
				pieces = append(pieces, importer.Piece{File: "f", Line: len(pieces) + 1, DER: others[n/9]})
			}
		}
		pieces = append(pieces, importer.Piece{File: "f", Line: 999, Problem: "known"})
		together, alone := importer.New(a.cert), importer.New(a.cert)
		all := together.JudgeAll(pieces)
		if len(all) != len(pieces) {
			t.Fatalf("%d of %d", len(all), len(pieces))
		}
		for n, p := range pieces {
			j := alone.Judge(p)
			if !reflect.DeepEqual(j, all[n]) {
				t.Errorf("%s: line %d: alone %+v, together %+v", what, p.Line, j, all[n])
			}
			for s, j := range map[*importer.Set]importer.Judged{alone: j, together: all[n]} {
				s.TakeList(j)
				s.Take(j)
			}
		}
		var said []string
		for _, p := range together.Problems {
			said = append(said, p.Reason)
		}
		if !reflect.DeepEqual(together.Problems, alone.Problems) || together.Size() != 60 || together.Newest == nil {
			t.Errorf("%s: %d certificates, %q", what, together.Size(), said)
		}
		for _, want := range []string{`issued by "CN=a stranger"`, "serial 33: the signature is not this authority's", "serial 63: the signature is not this authority's", "not a certificate", "known"} {
			if strings.Count(strings.Join(said, "\n"), want) != 1 {
				t.Errorf("%s: %q is not named once in %q", what, want, said)
			}
		}
	}
}

// A chunk of P-256 certificates costs little more than parsing it: what the standard library needs to look at a signature, a
// dozen allocations, would be seen.
func TestJudgeAllAllocations(t *testing.T) {
	a := newAuthority(t, "an authority", newP256(t))
	s := importer.New(a.cert)
	pieces := make([]importer.Piece, 64)
	for n := range pieces {
		pieces[n] = importer.Piece{File: "f", Line: 1, DER: a.leaf(t, int64(n)+2)}
	}
	parse := testing.AllocsPerRun(5, func() {
		for _, p := range pieces {
			if _, err := x509.ParseCertificate(p.DER); err != nil {
				t.Fatal(err)
			}
		}
	})
	judge := testing.AllocsPerRun(5, func() {
		for _, j := range s.JudgeAll(pieces) {
			if j.Certificate == nil {
				t.Fatal("not this authority's")
			}
		}
	})
	if more := (judge - parse) / float64(len(pieces)); more > 5 {
		t.Errorf("%.1f allocations a certificate more than parsing", more)
	}
}

// BenchmarkJudge judges chunks of different certificates, beside parsing them, and parsing and verifying them one by one, and prints
// the processor time of each way for one certificate, and its ratio to parsing.
func BenchmarkJudge(b *testing.B) {
	a := newAuthority(b, "an authority", newP256(b))
	s := importer.New(a.cert)
	pieces := make([]importer.Piece, 8192)
	for n := range pieces {
		pieces[n] = importer.Piece{File: "f", Line: 1, DER: a.leaf(b, int64(n)+2)}
	}
	each := func(check func(*x509.Certificate) error) func(chunk []importer.Piece) {
		return func(chunk []importer.Piece) {
			for _, p := range chunk {
				c, err := x509.ParseCertificate(p.DER)
				if err == nil {
					err = check(c)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	judge := func(chunk []importer.Piece) {
		for _, j := range s.JudgeAll(chunk) {
			if j.Certificate == nil {
				b.Fatal("not this authority's")
			}
		}
	}
	for n := 0; n < len(pieces); n += 64 { // tables
		judge(pieces[n:][:64])
	}
	ways := []struct {
		name string
		do   func([]importer.Piece)
		took time.Duration
	}{{name: "parse", do: each(func(*x509.Certificate) error { return nil })}, {name: "verify", do: each(func(c *x509.Certificate) error { return c.CheckSignatureFrom(a.cert) })}, {name: "judge", do: judge}}
	n := 0
	for b.Loop() {
		for k := range ways {
			before := processors(b)
			ways[k].do(pieces[n:][:64])
			ways[k].took += processors(b) - before
		}
		n = (n + 64) % len(pieces)
	}
	for _, w := range ways {
		b.ReportMetric(float64(w.took.Nanoseconds())/1000/64/float64(b.N), w.name+"-µs")
		b.ReportMetric(float64(w.took)/float64(ways[0].took), w.name+"/parse")
	}
}

// processors is the time that this process has had.
func processors(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
