package signer_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/pki/profile"
	"bulkhead/pki/sct"
	"bulkhead/signer"
)

// testLog signs timestamps as a log does; bend spoils one.
type testLog struct {
	sct.Log
	key  crypto.Signer
	bend func(*sct.SCT)
	seen [][]byte // precertificates
}

func newLog(t testing.TB, operator string, tiled bool) *testLog {
	key := newKey(t)
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	ok(t, err)
	return &testLog{Log: sct.Log{Name: operator + " log", Operator: operator, Key: spki, Tiled: tiled}, key: key}
}

// testLogs is a Transparency without HTTP: what it returns is for the signer to judge.
type testLogs struct {
	t    testing.TB
	all  []*testLog
	fail error
	hook func() // after the logs have the precertificate
}

func (x *testLogs) AddPreChain(_ context.Context, chain [][]byte, _ time.Time, _ int) ([]sct.SCT, error) {
	pre, issuer := parse(x.t, chain[0]), parse(x.t, chain[1])
	bare, poisoned, err := sct.Bare(pre.RawTBSCertificate)
	if err != nil || !poisoned {
		x.t.Errorf("a log was given something that is no precertificate: %v", err)
	}
	var out []sct.SCT
	for _, l := range x.all {
		l.seen = append(l.seen, chain[0])
		s := sct.SCT{LogID: l.ID(), Timestamp: uint64(time.Now().UnixMilli()), Hash: 4, Sig: 3}
		if l.Tiled {
			s.Extensions = []byte{0, 0, 5, 0, 0, 0, 0, 9} // leaf_index of static-ct-api
		}
		signed, err := sct.SignedPrecert(s, issuer.RawSubjectPublicKeyInfo, bare)
		ok(x.t, err)
		digest := sha256.Sum256(signed)
		s.Signature, err = ecdsa.SignASN1(rand.Reader, l.key.(*ecdsa.PrivateKey), digest[:])
		ok(x.t, err)
		if l.bend != nil {
			l.bend(&s)
		}
		out = append(out, s)
	}
	if x.hook != nil {
		x.hook()
	}
	return out, x.fail
}

// loggedHouse is a house whose tls-server profile wants two timestamps.
func loggedHouse(t testing.TB) (*house, *testLogs) {
	logs := &testLogs{t: t, all: []*testLog{newLog(t, "A", false), newLog(t, "B", true)}}
	return newHouse(t, logs.configure), logs
}

func (x *testLogs) configure(c *signer.Config) {
	for _, p := range c.Profiles {
		if p.Kind == profile.TLSServer {
			p.Logs = 2
		}
	}
	c.Transparency = x
	for _, l := range x.all {
		c.Logs = append(c.Logs, l.Log)
	}
}

// TestTransparency: the certificate carries verified timestamps, differs from its precertificate in nothing else, and each
// of the two signatures has its intent and outcome; openssl reads the list.
func TestTransparency(t *testing.T) {
	h, logs := loggedHouse(t)
	got := h.issue("www.example.test", "10.0.0.7")
	openssl(t, got)
	cert, pre := parse(t, got.DER), parse(t, logs.all[0].seen[0])
	list, err := sct.FromExtensions(cert.Extensions)
	ok(t, err)
	if len(list) != 2 || len(list[1].Extensions) != 8 || len(pre.UnhandledCriticalExtensions) != 1 {
		t.Fatalf("timestamps %v, precertificate with critical %v", list, pre.UnhandledCriticalExtensions)
	}
	final, had, err := sct.Bare(cert.RawTBSCertificate)
	before, poisoned, err2 := sct.Bare(pre.RawTBSCertificate)
	if err != nil || err2 != nil || !had || !poisoned || string(final) != string(before) {
		t.Error("certificate and precertificate differ in more than the extensions")
	}
	if err := pre.CheckSignatureFrom(h.certs[ecdsaCA]); err != nil {
		t.Error(err)
	}
	row, der, err := h.store.CertificateByOrder(t.Context(), got.Certificate.OrderID)
	ok(t, err)
	if row.Kind != bulkhead.LeafCertificate || string(der) != string(got.DER) || row.Fingerprint != bulkhead.Digest(got.DER) {
		t.Errorf("the order's certificate is %+v", row)
	}
	kept, err := h.store.Precertificate(t.Context(), row.CertificateRef)
	ok(t, err)
	if string(kept) != string(pre.Raw) {
		t.Error("the precertificate was not kept")
	}
	var first, second int
	for _, e := range h.leaves() {
		if e.Kind == bulkhead.EvCertificateOutcome && e.Digest == bulkhead.Digest(pre.Raw) {
			first++
		}
		if e.Kind == bulkhead.EvBatchOutcome && strings.Contains(e.Detail, row.Fingerprint.String()) {
			second++
		}
	}
	if first != 1 || second != 1 {
		t.Errorf("%d outcomes of the precertificate and %d of the certificate", first, second)
	}
	path := filepath.Join(t.TempDir(), "cert.pem")
	ok(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: got.DER}), 0o600))
	out, err := exec.Command("openssl", "x509", "-in", path, "-noout", "-text").CombinedOutput()
	if err != nil || strings.Count(string(out), "Signed Certificate Timestamp:") != 2 || !strings.Contains(string(out), "ecdsa-with-SHA256") {
		t.Errorf("openssl: %v: %s", err, out)
	}
}

// TestBadTimestamps: a timestamp that does not verify is worth nothing. The precertificate then counts as issued: it is
// answered for and can be revoked, nobody receives it, and the evidence says so.
func TestBadTimestamps(t *testing.T) {
	h, logs := loggedHouse(t)
	other := newLog(t, "B", true)
	for what, bend := range map[string]func(*sct.SCT){
		"wrong signature": func(s *sct.SCT) { s.Signature[len(s.Signature)-1] ^= 1 },
		"wrong key":       func(s *sct.SCT) { s.Signature = []byte{0x30, 6, 2, 1, 1, 2, 1, 1} },
		"other log":       func(s *sct.SCT) { s.LogID = other.ID() },
		"future":          func(s *sct.SCT) { s.Timestamp += uint64(time.Hour.Milliseconds()) },
		"past":            func(s *sct.SCT) { s.Timestamp -= uint64(48 * time.Hour.Milliseconds()) },
		"extension":       func(s *sct.SCT) { s.Extensions = append(s.Extensions, 1) },
		"hash":            func(s *sct.SCT) { s.Hash = 2 },
		"the first log's": func(s *sct.SCT) { s.LogID = logs.all[0].ID() },
	} {
		logs.all[1].bend = bend
		req := h.request("www.example.test")
		_, err := h.signer.Issue(t.Context(), req)
		wantKind(t, err, bulkhead.KindUnavailable, "timestamps verify")
		if _, _, err := h.store.CertificateByOrder(t.Context(), req.OrderID); bulkhead.KindOf(err) != bulkhead.KindNotFound {
			t.Errorf("%s: the order has a certificate: %v", what, err)
		}
		rows, _, err := h.store.Certificates(t.Context(), bulkhead.CertificateFilter{OrderID: req.OrderID})
		ok(t, err)
		if len(rows) != 1 || rows[0].Kind != bulkhead.Precertificate || rows[0].State != bulkhead.Issued {
			t.Fatalf("%s: %+v", what, rows)
		}
		statuses, err := h.store.Statuses(t.Context(), ecdsaCA, []bulkhead.Serial{rows[0].Serial})
		ok(t, err)
		if len(statuses) != 1 || statuses[0].State != bulkhead.Issued {
			t.Errorf("%s: nobody is answered for the precertificate: %+v", what, statuses)
		}
	}
	if n := h.count(bulkhead.EvOrderRefused); n != 8 {
		t.Errorf("%d failures are in evidence, want 8", n)
	}
	logs.all[1].bend, logs.fail = nil, errors.New("away")
	_, err := h.signer.Issue(t.Context(), h.request("www.example.test"))
	wantKind(t, err, bulkhead.KindUnavailable, "too few")
	logs.fail = nil
	h.issue("www.example.test") // silent without a fault
}

// TestSubmittedAgain: a retry after the logs were away submits the precertificate that is there, and signs none beside it.
// One that was revoked, or is for another key, is not used.
func TestSubmittedAgain(t *testing.T) {
	h, logs := loggedHouse(t)
	req := h.request("www.example.test")
	away := func() bulkhead.Certificate {
		t.Helper()
		logs.fail = errors.New("away")
		_, err := h.signer.Issue(t.Context(), req)
		wantKind(t, err, bulkhead.KindUnavailable, "too few")
		logs.fail = nil
		c, _, err := h.store.PrecertificateByOrder(t.Context(), req.OrderID)
		ok(t, err)
		return c
	}
	first := away()
	if again := away(); again.Serial != first.Serial {
		t.Errorf("a second try made %s beside %s", again.Serial, first.Serial)
	}
	ok(t, h.signer.Close())
	h.signer = h.newSigner(logs.configure) // another process goes on
	got, err := h.signer.Issue(t.Context(), req)
	ok(t, err)
	if got.Certificate.Serial != first.Serial || h.count(bulkhead.EvCertificateIntent) != 1 {
		t.Errorf("certificate %s after precertificate %s, with %d intents", got.Certificate.Serial, first.Serial, h.count(bulkhead.EvCertificateIntent))
	}
	openssl(t, got)
	if _, _, err := h.store.PrecertificateByOrder(t.Context(), req.OrderID); bulkhead.KindOf(err) != bulkhead.KindNotFound {
		t.Errorf("a precertificate is left: %v", err)
	}

	req = h.request("other.example.test")
	left := away()
	req.CSR = h.request("other.example.test").CSR // another key
	got, err = h.signer.Issue(t.Context(), req)
	ok(t, err)
	if got.Certificate.Serial == left.Serial {
		t.Error("a precertificate of another key was used")
	}

	req = h.request("third.example.test")
	left = away()
	h.revoke("gone", bulkhead.ChangeItem{CertificateRef: left.CertificateRef, Reason: bulkhead.Superseded, RevokedAt: h.now()})
	got, err = h.signer.Issue(t.Context(), req)
	ok(t, err)
	if got.Certificate.Serial == left.Serial {
		t.Error("a revoked precertificate was used")
	}
}

// TestTooFewLogs: what could never get its timestamps is refused before anything is signed.
func TestTooFewLogs(t *testing.T) {
	a, b, a2 := newLog(t, "A", false), newLog(t, "B", true), newLog(t, "A", false)
	tiled := newLog(t, "C", true)
	past := newLog(t, "B", true)
	past.Until = time.Now().Add(dayTime)
	for what, c := range map[string]struct {
		logs []*testLog
		good bool
	}{
		"none": {nil, false}, "one": {[]*testLog{a}, false}, "one operator": {[]*testLog{a, a2}, false}, "tiled only": {[]*testLog{b, tiled}, false},
		"one that is over": {[]*testLog{a, past}, false}, "enough": {[]*testLog{a, b}, true},
	} {
		h := newHouse(t, func(cfg *signer.Config) {
			for _, p := range cfg.Profiles {
				if p.Kind == profile.TLSServer {
					p.Logs = 2
				}
			}
			cfg.Transparency = &testLogs{t: t, all: c.logs}
			for _, l := range c.logs {
				cfg.Logs = append(cfg.Logs, l.Log)
			}
		})
		_, err := h.signer.Issue(t.Context(), h.request("www.example.test"))
		if c.good {
			ok(t, err)
			continue
		}
		wantKind(t, err, bulkhead.KindGate, "logs take")
		if n := h.count(bulkhead.EvCertificateIntent); n != 0 {
			t.Errorf("%s: %d intents", what, n)
		}
	}
}

// TestRevokedBetween: a precertificate that is revoked while the logs are asked gets no certificate.
func TestRevokedBetween(t *testing.T) {
	h, logs := loggedHouse(t)
	req := h.request("www.example.test")
	logs.hook = func() {
		ok(t, h.store.BlockKey(t.Context(), bulkhead.BlockedKey{KeyHash: keyHash(t, mustCSR(t, req.CSR).PublicKey), BlockedAt: h.now(), Reason: "stolen", Actor: "test"}))
	}
	_, err := h.signer.Issue(t.Context(), req)
	wantKind(t, err, bulkhead.KindBadPublicKey, "blocked")
	if _, _, err := h.store.CertificateByOrder(t.Context(), req.OrderID); bulkhead.KindOf(err) != bulkhead.KindNotFound {
		t.Errorf("the order has a certificate: %v", err)
	}
	rows, _, err := h.store.Certificates(t.Context(), bulkhead.CertificateFilter{OrderID: req.OrderID})
	ok(t, err)
	ev := bulkhead.Evidence{Kind: bulkhead.EvBatchOutcome, At: h.now(), Actor: "test", Ref: "x", Count: 1}
	ref := bulkhead.CertificateRef{Issuer: ecdsaCA, Serial: h.serial()}
	if err := h.store.Finalize(t.Context(), ref, []byte("der"), ev); bulkhead.KindOf(err) != bulkhead.KindNotFound {
		t.Errorf("a certificate without a row was finalized: %v", err)
	}
	ok(t, h.store.Finalize(t.Context(), rows[0].CertificateRef, []byte("der"), ev))
	n := len(h.leaves())
	ok(t, h.store.Finalize(t.Context(), rows[0].CertificateRef, []byte("der"), ev)) // again: no change
	if len(h.leaves()) != n {
		t.Error("a second Finalize left evidence")
	}
	if err := h.store.Finalize(t.Context(), rows[0].CertificateRef, []byte("other"), ev); bulkhead.KindOf(err) != bulkhead.KindConflict {
		t.Errorf("another certificate took the place: %v", err)
	}
}

func mustCSR(t testing.TB, der []byte) *x509.CertificateRequest {
	t.Helper()
	c, err := x509.ParseCertificateRequest(der)
	ok(t, err)
	return c
}
