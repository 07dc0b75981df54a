package verifiers

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/pki/ocsp"
	"bulkhead/status"
)

// authority is an issuing authority with its OCSP delegate.
type authority struct {
	t        *testing.T
	key      *ecdsa.PrivateKey
	cert     *x509.Certificate
	delegate *x509.Certificate
	signs    *ecdsa.PrivateKey // key of the delegate
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	return k
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t, key: newKey(t), signs: newKey(t)}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(100 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	a.cert = a.certify(ca, ca, &a.key.PublicKey)
	a.delegate = a.certify(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name + " OCSP"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(50 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}, BasicConstraintsValid: true,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: []byte{5, 0}}}}, a.cert, &a.signs.PublicKey)
	return a
}

func (a *authority) certify(c, parent *x509.Certificate, pub crypto.PublicKey) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, a.key)
	ok(a.t, err)
	cert, err := x509.ParseCertificate(der)
	ok(a.t, err)
	return cert
}

func (a *authority) leaf(serial int64) *x509.Certificate {
	return a.certify(&x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "leaf.test"}, DNSNames: []string{"leaf.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(40 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}, a.cert, &newKey(a.t).PublicKey)
}

func serialOf(t *testing.T, c *x509.Certificate) bulkhead.Serial {
	t.Helper()
	s, err := bulkhead.SerialFromBig(c.SerialNumber)
	ok(t, err)
	return s
}

// answer signs one answer; it is about by's issuer, which may be another than a.
func (a *authority) answer(about *authority, serial bulkhead.Serial, state ocsp.State, hash ocsp.HashAlgorithm, from time.Time) []byte {
	a.t.Helper()
	id, err := ocsp.NewIssuer(about.cert.RawSubject, about.cert.RawSubjectPublicKeyInfo)
	ok(a.t, err)
	responder, err := ocsp.KeyHash(a.delegate.RawSubjectPublicKeyInfo)
	ok(a.t, err)
	one := ocsp.Single{Serial: serial, State: state, ThisUpdate: from, NextUpdate: from.Add(10 * time.Hour)}
	if state == ocsp.Revoked {
		one.RevokedAt = from.Add(-time.Minute)
	}
	tbs, err := ocsp.BuildTBSFor(id, responder, from, one, hash)
	ok(a.t, err)
	digest := sha256.Sum256(tbs)
	sig, err := a.signs.Sign(rand.Reader, digest[:], crypto.SHA256)
	ok(a.t, err)
	return ocsp.Assemble(tbs, sig, a.delegate.Raw)
}

func (a *authority) list(revoked ...*x509.Certificate) []byte {
	a.t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(7), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	for _, c := range revoked {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now().Add(-time.Minute)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, a.cert, a.key)
	ok(a.t, err)
	return der
}

// exhibit is a certificate of a with the answers and the CRL as given.
func (a *authority) exhibit(leaf *x509.Certificate, state ocsp.State, crl []byte) status.Exhibit {
	a.t.Helper()
	serial, from := serialOf(a.t, leaf), time.Now().Add(-time.Minute)
	return status.Exhibit{Ref: bulkhead.CertificateRef{Issuer: "a", Serial: serial}, Issuer: a.cert.Raw, Certificate: leaf.Raw, CRL: crl, At: time.Now(),
		Answers: [2][]byte{a.answer(a, serial, state, ocsp.SHA1, from), a.answer(a, serial, state, ocsp.SHA256, from)}}
}

// TestVerdicts holds the real programs against what is right and what is not: nothing wrong is ever called good.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	a, b := newAuthority(t, "Verify A"), newAuthority(t, "Verify B")
	leaf, other := a.leaf(0x0400000000014444), a.leaf(0x55)
	serial := serialOf(t, leaf)
	past := time.Now().Add(-48 * time.Hour)
	broken := func(der []byte) []byte {
		der = append([]byte(nil), der...)
		i := strings.LastIndex(string(der), string(a.delegate.Raw)) - 30 // inside the signature
		der[i] ^= 1
		return der
	}
	all := func(v status.Verdict) [3]status.Verdict { return [3]status.Verdict{v, v, v} }
	for name, c := range map[string]struct {
		exhibit func() status.Exhibit
		want    [3]status.Verdict
	}{
		"good":    {func() status.Exhibit { return a.exhibit(leaf, ocsp.Good, a.list(other)) }, all(status.VerdictGood)},
		"revoked": {func() status.Exhibit { return a.exhibit(leaf, ocsp.Revoked, a.list(other, leaf)) }, all(status.VerdictRevoked)},
		"OCSP and CRL of two minds": {func() status.Exhibit { return a.exhibit(leaf, ocsp.Good, a.list(leaf)) },
			[3]status.Verdict{status.VerdictGood, status.VerdictGood, status.VerdictRevoked}},
		"signatures broken": {func() status.Exhibit {
			e := a.exhibit(leaf, ocsp.Good, a.list())
			e.Answers[0], e.Answers[1] = broken(e.Answers[0]), broken(e.Answers[1])
			e.CRL = append([]byte(nil), e.CRL...)
			e.CRL[len(e.CRL)-1] ^= 1
			return e
		}, all(status.VerdictRefused)},
		"signed by another authority": {func() status.Exhibit {
			e := a.exhibit(leaf, ocsp.Good, b.list())
			for i, h := range []ocsp.HashAlgorithm{ocsp.SHA1, ocsp.SHA256} {
				e.Answers[i] = b.answer(a, serial, ocsp.Good, h, time.Now().Add(-time.Minute))
			}
			return e
		}, all(status.VerdictRefused)},
		"about another certificate": {func() status.Exhibit {
			e := a.exhibit(leaf, ocsp.Good, a.list())
			e.Answers = a.exhibit(other, ocsp.Good, nil).Answers
			return e
		}, [3]status.Verdict{status.VerdictRefused, status.VerdictRefused, status.VerdictGood}},
		"over": {func() status.Exhibit {
			e := a.exhibit(leaf, ocsp.Good, a.list())
			for i, h := range []ocsp.HashAlgorithm{ocsp.SHA1, ocsp.SHA256} {
				e.Answers[i] = a.answer(a, serial, ocsp.Good, h, past)
			}
			return e
		}, [3]status.Verdict{status.VerdictRefused, status.VerdictRefused, status.VerdictGood}},
		"no answer": {func() status.Exhibit {
			e := a.exhibit(leaf, ocsp.Good, []byte("no CRL"))
			e.Answers[0], e.Answers[1] = ocsp.ErrorResponse(ocsp.Unauthorized), nil
			return e
		}, all(status.VerdictRefused)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := c.exhibit()
			for _, v := range New([]string{OpenSSL, GnuTLS}) {
				got := v.Look(t.Context(), e)
				if len(got) != 3 {
					t.Fatalf("%s: %d opinions: %v", v.Name(), len(got), got)
				}
				for i, o := range got {
					if o.Verdict != c.want[i] {
						t.Errorf("%s takes the %s for %s, want %s: %s", v.Name(), o.Source, o.Verdict, c.want[i], o.Detail)
					}
				}
			}
		})
	}
}

// plant puts programs of our own on the search path.
func plant(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	for _, names := range programs {
		for _, p := range names {
			ok(t, os.WriteFile(filepath.Join(dir, p), []byte("#!/bin/sh\n"+script+"\n"), 0o700)) // #nosec G306 -- it is to be run
		}
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	t.Setenv("BULKHEAD_TOKEN", "secret-of-the-house")
}

// TestNeverGood: a program that is away, hangs, chatters, fails or lies half-heartedly never makes anything good, and gets
// nothing of ours to tell.
func TestNeverGood(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()) // other processes have folders, too
	a := newAuthority(t, "Verify C")
	leaf := a.leaf(0x77)
	e := a.exhibit(leaf, ocsp.Good, a.list())
	for name, c := range map[string]struct {
		script string
		want   status.Verdict
		word   string
	}{
		"hangs":                          {"sleep 60 & sleep 60", status.VerdictNotSeen, "in time"},
		"chatters":                       {"yes Response verify OK | head -c 1000000; echo '0x77: good'", status.VerdictNotSeen, "octets"},
		"good and fails":                 {"echo Response verify OK; echo '0x77: good'; echo 'Verifying OCSP Response: Success.'; exit 3", status.VerdictRefused, ""},
		"good and verifies nothing":      {"echo '0x77: good'; echo 'Certificate Status: good'; echo 'Serial Number: 77'", status.VerdictRefused, ""},
		"says nothing":                   {"exit 0", status.VerdictRefused, "nothing"},
		"is killed":                      {"kill -9 $$", status.VerdictNotSeen, "could not be run"},
		"has nothing of ours to tell":    {`test -z "$BULKHEAD_TOKEN" || echo "LEAK $BULKHEAD_TOKEN"; test "$(stat -c %a .)" = 700 || echo LEAK folder; exit 1`, status.VerdictRefused, "nothing"},
		"has no terminal, no way to ask": {"read -r x && echo LEAK; exit 1", status.VerdictRefused, "nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			plant(t, c.script)
			ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
			defer cancel()
			if name != "hangs" {
				ctx = t.Context()
			}
			for _, v := range New([]string{OpenSSL, GnuTLS})[1:] {
				for _, o := range v.Look(ctx, e) {
					if o.Verdict != c.want || !strings.Contains(o.Detail, c.word) {
						t.Errorf("%s takes the %s for %s (%s), want %s (%s)", v.Name(), o.Source, o.Verdict, o.Detail, c.want, c.word)
					}
				}
			}
		})
	}
	t.Run("is not there", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		if got := Found(); len(got) != 0 || Missing(OpenSSL) != "openssl" || Missing(GnuTLS) != "ocsptool" {
			t.Errorf("found %v", got)
		}
		for _, v := range New([]string{OpenSSL, GnuTLS})[1:] {
			for _, o := range v.Look(t.Context(), e) {
				if o.Verdict != status.VerdictNotSeen || !strings.Contains(o.Detail, "not installed") {
					t.Errorf("%s: %v", v.Name(), o)
				}
			}
		}
	})
	if left, err := filepath.Glob(filepath.Join(os.TempDir(), "bulkhead-verify-*")); err != nil || len(left) > 0 {
		t.Errorf("folders are left: %d, %v", len(left), err)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		names []string
		good  bool
	}{{nil, true}, {[]string{OpenSSL, GnuTLS}, true}, {[]string{None}, true}, {[]string{None, OpenSSL}, false}, {[]string{OpenSSL, OpenSSL}, false}, {[]string{"sh"}, false}} {
		if err := Check(c.names); (err == nil) != c.good {
			t.Errorf("%v: %v", c.names, err)
		}
	}
	if got := New([]string{None}); len(got) != 1 || got[0].Name() != "go" {
		t.Errorf("none gives %v", got)
	}
}

// FuzzRead: whatever a program prints, it is good only with its exit code 0 and its own words for a verified signature.
func FuzzRead(f *testing.F) {
	for _, s := range []string{"Response verify OK\n0x77: good\n", "0x77: revoked\nResponse verify OK", "Serial Number: 77\nCertificate Status: good\nThis Update: Thu Nov 26 11:06:44 UTC 2026\nNext Update: Fri Nov 26 11:06:44 UTC 2028\nVerifying OCSP Response: Success.\n",
		"Checked against CRL[01]\nChain verification output: Verified. The certificate is trusted. \n", "", "\xff\x00: good"} {
		f.Add(s, 0)
		f.Add(s, 1)
	}
	serial, err := bulkhead.ParseSerial("77")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, said string, code int) {
		for i, o := range []status.Opinion{readOpenSSL("x", said, code), readGnuTLS("x", said, code, serial, time.Unix(1.8e9, 0)), readCerttool(said, code)} {
			proof := []string{"Response verify OK", "Success.", "Checked against CRL["}[i]
			if o.Verdict == status.VerdictGood && (code != 0 || !strings.Contains(said, proof)) {
				t.Errorf("reader %d calls %q with code %d good", i, said, code)
			}
			if o.Verdict == "" || len(o.Detail) > 1000 {
				t.Errorf("reader %d: %v", i, fmt.Sprint(o))
			}
		}
	})
}

// TestSweep: the folder of a process that was killed goes, one in use and one that is not ours by name stay.
func TestSweep(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(os.TempDir(), fmt.Sprintf("bulkhead-verify-%d-1", gone.Process.Pid))
	stay := []string{filepath.Join(os.TempDir(), fmt.Sprintf("bulkhead-verify-%d-1", os.Getpid())), filepath.Join(os.TempDir(), "bulkhead-verify-x-1"),
		filepath.Join(os.TempDir(), "bulkhead-verify-1-1")}
	for _, dir := range append(stay, dead) {
		if err := os.MkdirAll(filepath.Join(dir, "deep"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	New(nil)
	if _, err := os.Stat(dead); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", dead, err)
	}
	for _, dir := range stay {
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
		}
	}
}
