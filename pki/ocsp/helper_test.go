package ocsp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"bulkhead"
)

// now is the real time cut to seconds: the outside tools have clocks of their own.
var now = time.Now().UTC().Truncate(time.Second)

// party is a certificate with its key.
type party struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func (p *party) serial(t testing.TB) bulkhead.Serial {
	t.Helper()
	s, err := bulkhead.SerialFromBig(p.cert.SerialNumber)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (p *party) issuer(t testing.TB) Issuer {
	t.Helper()
	i, err := NewIssuer(p.cert.RawSubject, p.cert.RawSubjectPublicKeyInfo)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var lastSerial int64 = 0x80ff00

// issue signs a template; a nil parent means self-signed.
func issue(t testing.TB, parent *party, key crypto.Signer, c *x509.Certificate) *party {
	t.Helper()
	if c.SerialNumber == nil {
		lastSerial++
		c.SerialNumber = big.NewInt(lastSerial)
	}
	if c.NotBefore.IsZero() {
		c.NotBefore, c.NotAfter = now.Add(-time.Hour), now.Add(30*24*time.Hour)
	}
	if parent == nil {
		parent = &party{cert: c, key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent.cert, key.Public(), parent.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &party{cert, key}
}

func caTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:  x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(365 * 24 * time.Hour),
	}
}

func noCheck() pkix.Extension { return pkix.Extension{Id: idNoCheck, Value: []byte{5, 0}} }

func delegateTemplate() *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: "OCSP delegate"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}, ExtraExtensions: []pkix.Extension{noCheck()},
	}
}

func leafTemplate() *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: "leaf"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, DNSNames: []string{"leaf.test"},
	}
}

// house is a root with a delegate and a child.
type house struct{ root, delegate, child *party }

func newHouse(t testing.TB) house {
	t.Helper()
	root := issue(t, nil, newKey(t), caTemplate("Root"))
	return house{root, issue(t, root, newKey(t), delegateTemplate()), issue(t, root, newKey(t), caTemplate("Sibling A"))}
}

func goodSingle(serial bulkhead.Serial) Single {
	return Single{Serial: serial, State: Good, ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(24 * time.Hour)}
}

// sign makes a full response by signer about s, embedding the signer's certificate.
func sign(t testing.TB, issuer Issuer, signer *party, s Single, hashes ...HashAlgorithm) []byte {
	t.Helper()
	if len(hashes) == 0 {
		hashes = []HashAlgorithm{SHA1, SHA256}
	}
	keyHash, err := KeyHash(signer.cert.RawSubjectPublicKeyInfo)
	if err != nil {
		t.Fatal(err)
	}
	tbs, err := statements(issuer, keyHash, now, s, hashes...)
	if err != nil {
		t.Fatal(err)
	}
	return Assemble(tbs, signTBS(t, signer.key, tbs), signer.cert.Raw)
}

// statements says one thing under several hashes: what verifiers make of it is pinned by the interop tests.
func statements(issuer Issuer, responder [20]byte, at time.Time, s Single, hashes ...HashAlgorithm) ([]byte, error) {
	var list []Statement
	for _, h := range hashes {
		list = append(list, Statement{ID: issuer.CertID(h, s.Serial), Single: s})
	}
	return BuildLiveTBS(responder, at, list, nil)
}

func signTBS(t testing.TB, key crypto.Signer, tbs []byte) []byte {
	t.Helper()
	if _, ok := key.(*rsa.PrivateKey); ok {
		t.Fatal("delegates are ECDSA")
	}
	d := sha256.Sum256(tbs)
	sig, err := key.Sign(rand.Reader, d[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// file writes data into the test's folder and returns its path.
func file(t testing.TB, name string, data []byte) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func pemFile(t testing.TB, certs ...*x509.Certificate) string {
	t.Helper()
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return file(t, "certs.pem", out)
}

// tool runs a program that the machine must have and returns all it printed.
func tool(t testing.TB, name string, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is needed by this test: apt-get install openssl gnutls-bin", name)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	return string(out), err
}
