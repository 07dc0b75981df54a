package regress

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/proof"
	"bulkhead/run"
	"bulkhead/store/storetest/pgtest"
)

// TestSixNegativesPostgreSQL: the same proof where the record is in PostgreSQL: a house that reconciles, the rogue certificate
// as exactly that one, and the bundle that a stranger verifies.
func TestSixNegativesPostgreSQL(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dsn")
	ok(t, os.WriteFile(file, []byte(pgtest.New(t)+"\n"), 0o600))
	h := newHouse(t, func(c *run.Config) { c.Store = "postgres:" + file })
	p := h.issue("one.pg.test")
	h.revoke(bulkhead.Superseded, h.issue("two.pg.test").CertificateRef)
	h.serve()
	h.wantClean()
	outside := t.TempDir()
	write(t, outside, "ours", "CERTIFICATE", p.leaf.Raw)
	got := proved(t, run.ProveOptions{Dir: h.dir, Certificates: outside})
	for end := time.Now().Add(time.Minute); got.OK && got.Uncovered > 0 && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		got = proved(t, run.ProveOptions{Dir: h.dir, Certificates: outside})
	}
	if !got.OK || len(got.Negatives) != 6 || len(got.Keys) == 0 || got.Keys[0].Counter == nil {
		t.Fatalf("%s", got.Text())
	}
	rogue := h.rogue(t, h.dir, "www.google.com")
	write(t, outside, "rogue", "CERTIFICATE", rogue.Raw)
	if got := proved(t, run.ProveOptions{Dir: h.dir, Issuer: issuing, Certificates: outside}); len(got.Findings) != 1 || got.Findings[0].Rule != proof.RuleRogue || got.Findings[0].SHA256 != bulkhead.Digest(rogue.Raw) {
		t.Errorf("%s", got.Text())
	}
	bin := t.TempDir()
	programs(t, bin, "bulkhead-verify")
	bundle := filepath.Join(bin, "bundle")
	_, err := run.Bundle(t.Context(), run.ProveOptions{Dir: h.dir, Now: time.Now()}, bundle)
	ok(t, err)
	if out, err := bounded(t, bin, "./bulkhead-verify", "bundle", bundle, "--key", filepath.Join(h.dir, "evidence.key.pub")); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// TestIssuedWithoutBasis is D11 in the proof: a certificate of an order whose CAA check is in no leaf before it is found, as
// exactly that one; those that the house issued are not.
func TestIssuedWithoutBasis(t *testing.T) {
	h := newHouse(t)
	h.issue("checked.basis.test")
	s := newStamped(t, issuing)
	serial, der := s.number(t, 1)
	now := h.now().UTC().Truncate(time.Second)
	a, err := h.Store.Authority(t.Context(), issuing)
	ok(t, err)
	leaf := bulkhead.Evidence{Kind: bulkhead.EvCertificateIntent, At: now, Actor: "role:signer", Authority: issuing, Serial: serial, KeyHash: s.key, Signer: bulkhead.Digest(a.SPKI), Ref: "order-without-check",
		Digest: bulkhead.Digest(der[s.tbs[0]:s.tbs[1]])}
	ref := bulkhead.CertificateRef{Issuer: issuing, Serial: serial}
	_, errs, err := h.Store.Reserve(t.Context(), []bulkhead.Reservation{{Intent: leaf, Certificate: bulkhead.Certificate{CertificateRef: ref, Kind: bulkhead.LeafCertificate, State: bulkhead.Reserved, Profile: "tls-server",
		OrderID: "order-without-check", KeyHash: s.key, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(30 * 24 * time.Hour), ReservedAt: now}}})
	ok(t, err)
	ok(t, errs[0])
	leaf.Kind, leaf.Link, leaf.Digest = bulkhead.EvCertificateOutcome, leaf.Digest, bulkhead.Digest(der)
	_, errs, err = h.Store.Complete(t.Context(), []bulkhead.Completion{{CertificateRef: ref, DER: der, Outcome: leaf}})
	ok(t, err)
	ok(t, errs[0])
	h.look()
	got := proved(t, run.ProveOptions{Dir: h.dir, Issuer: issuing})
	rules := map[string]bool{}
	for _, f := range got.Findings {
		if f.Serial == serial.String() && f.Negative == proof.Registration {
			rules[f.Rule] = true
		}
	}
	if len(got.Findings) != 2 || !rules[proof.RuleUnchecked] || !rules[proof.RuleUnfounded] {
		t.Errorf("%s", got.Text())
	}
}
