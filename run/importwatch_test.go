package run

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/status"
	"bulkhead/watch/outside"
)

// stranger is a certificate authority that is not ours: its key is in the test's hands.
type stranger struct {
	*world
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	n    int64 // serials and CRLs
}

func newStranger(w *world) *stranger {
	w.Helper()
	s := &stranger{world: w, dir: w.TempDir()}
	var err error
	s.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.ok(err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Old CA"}, NotBefore: w.now().Add(-240 * time.Hour), NotAfter: w.now().Add(8760 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, s.key.Public(), s.key)
	w.ok(err)
	s.cert, err = x509.ParseCertificate(der)
	w.ok(err)
	s.write("ca.pem", "CERTIFICATE", der)
	return s
}

func (s *stranger) write(name, kind string, der []byte) string {
	s.Helper()
	path := filepath.Join(s.dir, name)
	s.ok(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return path
}

// certify signs a certificate and returns its file and its serial.
func (s *stranger) certify(pub crypto.PublicKey, change func(*x509.Certificate)) (string, bulkhead.CertificateRef) {
	s.Helper()
	s.n++
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1000 + s.n), Subject: pkix.Name{CommonName: fmt.Sprintf("old%d.test", s.n)}, DNSNames: []string{fmt.Sprintf("old%d.test", s.n)},
		NotBefore: s.now().Add(-time.Hour), NotAfter: s.now().Add(2000 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	change(tmpl)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, s.cert, pub, s.key)
	s.ok(err)
	serial, err := bulkhead.SerialFromBig(tmpl.SerialNumber)
	s.ok(err)
	return s.write(fmt.Sprintf("%d.pem", s.n), "CERTIFICATE", der), bulkhead.CertificateRef{Issuer: "old-ca", Serial: serial}
}

func (s *stranger) leaf() (string, bulkhead.CertificateRef) {
	s.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.ok(err)
	return s.certify(key.Public(), func(*x509.Certificate) {})
}

// list signs a CRL.
func (s *stranger) list(said map[bulkhead.CertificateRef]bulkhead.Reason, at time.Time) string {
	s.Helper()
	s.n++
	tmpl := &x509.RevocationList{Number: big.NewInt(s.n), ThisUpdate: s.now(), NextUpdate: s.now().Add(720 * time.Hour)}
	for ref, reason := range said {
		tmpl.RevokedCertificateEntries = append(tmpl.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: new(big.Int).SetBytes(ref.Serial.Bytes()), RevocationTime: at, ReasonCode: int(reason)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, tmpl, s.cert, s.key)
	s.ok(err)
	return s.write(fmt.Sprintf("%d.crl.pem", s.n), "X509 CRL", der)
}

// delegate has the house make a key for answers, and certifies it.
func (s *stranger) delegate() string {
	s.Helper()
	file := filepath.Join(s.dir, "delegate.csr")
	s.ok(ImportRequest(s.Context(), ImportOptions{Dir: s.h.dir, Authority: "old-ca"}, file))
	body, err := os.ReadFile(file)
	s.ok(err)
	block, _ := pem.Decode(body)
	req, err := x509.ParseCertificateRequest(block.Bytes)
	s.ok(err)
	path, _ := s.certify(req.PublicKey, func(c *x509.Certificate) {
		c.Subject, c.DNSNames, c.ExtKeyUsage = req.Subject, nil, []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
		c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: []byte{5, 0}}}
	})
	return path
}

func (s *stranger) take(delegate string, paths ...string) ImportReport {
	s.Helper()
	r, err := Import(s.Context(), ImportOptions{Dir: s.h.dir, Authority: "old-ca", CA: filepath.Join(s.dir, "ca.pem"), Delegate: delegate, Paths: paths, Now: s.now})
	s.ok(err)
	if len(r.Problems) > 0 {
		s.Fatalf("%+v", r)
	}
	return r
}

// TestImportedRows: the reconciler knows what was imported by the leaves of its imports. An authority that is answered for beside us raises nothing, whether
// its certificates are good, revoked long ago, held, or good again; neither does the moment in which the record has the end of a hold and
// the world has not, nor the older pack below the newer one. A row that says what no import said is found.
func TestImportedRows(t *testing.T) {
	w := newWorld(t)
	s := newStranger(w)
	goodFile, good := s.leaf()
	goneFile, gone := s.leaf()
	heldFile, held := s.leaf()
	was := w.now().Add(-48 * time.Hour)
	both := s.list(map[bulkhead.CertificateRef]bulkhead.Reason{gone: bulkhead.Superseded, held: bulkhead.CertificateHold}, was)
	if r := s.take(s.delegate(), goodFile, goneFile, heldFile, both); r.New != 3 || r.Revoked != 2 || !r.Served {
		t.Fatalf("%+v", r)
	}
	w.publish()
	agree := func(what string, rules ...string) {
		t.Helper()
		v, err := readVerifier(filepath.Join(w.h.dir, headPub))
		w.ok(err)
		found, _, err := status.Check(t.Context(), status.CheckConfig{Store: w.h.store, Objects: w.h.objects, HeadVerifier: v, Now: w.now})
		w.ok(err)
		var got []string
		for _, d := range found {
			got = append(got, d.Rule+" "+d.Ref.String())
		}
		if !slices.Equal(got, rules) {
			t.Errorf("%s: %v, want %v: %+v", what, got, rules, found)
		}
	}
	look := func(what string, want map[string][]string) {
		t.Helper()
		w.reconciler(nil).Tick(t.Context())
		w.want(what, want)
	}
	look("imported", nil)
	agree("imported")
	w.prober(w.own()).Once(t.Context())
	w.want("probed", nil)
	w.pass(time.Hour)
	look("an hour later", nil)

	before, err := w.h.objects.Head(t.Context())
	w.ok(err)
	if r := s.take("", s.list(map[bulkhead.CertificateRef]bulkhead.Reason{gone: bulkhead.Superseded}, was)); r.Released != 1 {
		t.Fatalf("%+v", r)
	}
	r := w.reconciler(stopped{newPublication(w.h), w, before})
	r.Tick(t.Context())
	w.want("the hold ended just now", nil)
	w.pass(outside.DefaultAgree + time.Second)
	r.Tick(t.Context()) // ends the round
	r.Tick(t.Context())
	w.want("and nobody published it", map[string][]string{"D9/" + held.String(): nil})
	w.publish()
	look("published", nil) // by one that meets the older packs for the first time
	before, err = w.h.objects.Head(t.Context())
	w.ok(err)
	later := s.list(map[bulkhead.CertificateRef]bulkhead.Reason{gone: bulkhead.Superseded, good: bulkhead.Superseded}, was)
	if r := s.take("", later); r.NewlyRevoked != 1 {
		t.Fatalf("%+v", r)
	}
	agree("in the record alone")
	r = w.reconciler(stopped{newPublication(w.h), w, before})
	r.Tick(t.Context())
	w.want("revoked long ago and imported just now", nil)
	w.publish()
	look("published", nil)
	agree("published")

	w.plant(`UPDATE certificates SET state = 'revoked', revoked_at = ?, reason = 4 WHERE issuer = 'old-ca' AND serial = ?`, w.now().Unix(), fixed(held.Serial))
	look("a row revoked past the importer", map[string][]string{"D4/evidence," + held.String(): {"no import that says so"}})
	w.plant(`UPDATE certificates SET state = 'issued', revoked_at = 0, reason = 0 WHERE issuer = 'old-ca' AND serial = ?`, fixed(good.Serial))
	look("a revocation taken away", map[string][]string{"D4/evidence," + held.String(): nil, "D4/evidence," + good.String(): nil, "D9/" + good.String(): nil})
	agree("planted rows", "answer "+good.String(), "crl "+good.String(), "answer "+held.String(), "crl "+held.String())
}
