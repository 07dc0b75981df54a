package regress

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"bulkhead"
	"bulkhead/keys"
	"bulkhead/proof"
	"bulkhead/run"
)

// proved runs the proof over a data directory.
func proved(t testing.TB, o run.ProveOptions) proof.Report {
	t.Helper()
	if o.Issuer == "" {
		o.All = true
	}
	o.Now = time.Now()
	r, err := run.Prove(t.Context(), o)
	ok(t, err)
	return r
}

// rogue signs a certificate with the authority's own key, past the signer, as the intruder of 2011 did.
func (h *house) rogue(t testing.TB, dir, name string, more ...pkix.Extension) *x509.Certificate {
	t.Helper()
	return h.rogueFor(t, dir, newKey(t), name, more...)
}

// rogueFor is rogue for a key that somebody has.
func (h *house) rogueFor(t testing.TB, dir string, own crypto.Signer, name string, more ...pkix.Extension) *x509.Certificate {
	t.Helper()
	a, err := h.Store.Authority(t.Context(), issuing)
	ok(t, err)
	ring, err := keys.OpenFileRing(keys.Config{Dir: filepath.Join(dir, "keys"), IdentityFile: filepath.Join(dir, "keys.identity")})
	ok(t, err)
	key, err := ring.Open(t.Context(), a.KeyURI)
	ok(t, err)
	return forge(t, a.Certificate, key, own.Public(), name, more...)
}

func forge(t testing.TB, parent []byte, key crypto.Signer, own crypto.PublicKey, name string, more ...pkix.Extension) *x509.Certificate {
	t.Helper()
	issuer, err := x509.ParseCertificate(parent)
	ok(t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: new(big.Int).SetBytes([]byte("rogue 2011-07-10")), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), ExtraExtensions: more}, &x509.Certificate{Subject: issuer.Subject, RawSubject: issuer.RawSubject, PublicKey: key.Public(), SubjectKeyId: issuer.SubjectKeyId}, own, key)
	ok(t, err)
	x, err := x509.ParseCertificate(der)
	ok(t, err)
	return x
}

// TestSixNegatives is the day of 2011: everything reconciles while nothing is planted; a certificate that the issuing key
// signed past the signer is reported as exactly that one; and so is each fault in the record, the log and the counters.
func TestSixNegatives(t *testing.T) {
	h := newHouse(t)
	var papers []paper
	outside := t.TempDir()
	for _, name := range []string{"one.proof.test", "two.proof.test", "three.proof.test"} {
		p := h.issue(name)
		papers = append(papers, p)
		write(t, outside, name, "CERTIFICATE", p.leaf.Raw)
	}
	write(t, outside, "root", "CERTIFICATE", h.root.Raw)
	write(t, outside, "issuer", "CERTIFICATE", papers[0].issuer.Raw)
	h.revoke(bulkhead.Superseded, papers[2].Certificate.CertificateRef)
	h.serve()
	h.wantClean()

	running := proved(t, run.ProveOptions{Dir: h.dir, Certificates: outside})
	for end := time.Now().Add(time.Minute); running.OK && running.Uncovered > 0 && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		running = proved(t, run.ProveOptions{Dir: h.dir, Certificates: outside})
	}
	if !running.OK || len(running.Negatives) != 6 || running.Checkpoint.Size == 0 {
		t.Fatalf("a running house: %s", running.Text())
	}
	rogue := h.rogue(t, h.dir, "www.google.com")
	stranger := forge(t, papers[0].issuer.Raw, newKey(t), newKey(t).Public(), "www.google.com")
	h.stop()

	for _, n := range running.Negatives {
		if n.Answer == proof.Found || n.Examined == "" || len(n.Numbers) == 0 || len(n.Evidence) == 0 || len(n.NotCovered) == 0 {
			t.Errorf("%+v", n)
		}
	}
	if i := slices.IndexFunc(running.Keys, func(k proof.KeyReport) bool { return k.Certificates >= 3 }); i < 0 || running.Keys[i].Counter == nil || running.Keys[i].Counter.Made != running.Keys[i].Made {
		t.Errorf("keys %+v", running.Keys)
	}

	planted := t.TempDir()
	write(t, planted, "found-on-the-wire", "CERTIFICATE", rogue.Raw)
	got := proved(t, run.ProveOptions{Dir: h.dir, Issuer: issuing, Certificates: planted})
	if len(got.Findings) != 1 || got.Findings[0].Rule != proof.RuleRogue || got.Findings[0].SHA256 != bulkhead.Digest(rogue.Raw) || got.Findings[0].Issuer != issuing || got.OK {
		t.Errorf("the rogue: %s", got.Text())
	}
	if got := proved(t, run.ProveOptions{Dir: h.dir, Issuer: other, Certificates: planted}); !got.OK {
		t.Errorf("the rogue of another issuer: %s", got.Text())
	}
	write(t, outside, "stranger", "CERTIFICATE", stranger.Raw)
	if got := proved(t, run.ProveOptions{Dir: h.dir, Certificates: outside}); !got.OK || len(got.Leads) != 1 {
		t.Errorf("a stranger's signature under our name: %s", got.Text())
	}

	two := papers[1].Certificate
	serial := two.Serial.Fixed()
	for name, c := range map[string]struct {
		sql   []string
		args  []any
		rules []string // all of them, and nothing else
	}{
		"row removed": {[]string{`DELETE FROM certificate_ders WHERE intent_seq = ?1`, `DELETE FROM certificates WHERE intent_seq = ?1`}, []any{two.IntentSeq},
			[]string{"published/good-never-signed", proof.RuleRowRemoved}},
		"row added": {[]string{`INSERT INTO certificates SELECT intent_seq + 100000, issuer, CAST(x'01' || substr(serial, 2) AS BLOB), kind, state, profile, names, subject, key_hash, intent_digest, fingerprint, account_id, order_id,
			not_before, not_after, shard, revoked_at, reason, reserved_at, replaces_issuer, replaces_serial, replaced_by_issuer, replaced_by_serial, outcome_seq + 100000 FROM certificates WHERE intent_seq = ?1`},
			[]any{two.IntentSeq}, []string{proof.RuleRowWithoutLeaf}},
		"row reopened":    {[]string{`UPDATE certificates SET state = 'reserved' WHERE intent_seq = ?1`}, []any{two.IntentSeq}, []string{proof.RuleNotIssued, "published/good-never-signed"}},
		"other bytes":     {[]string{`UPDATE certificate_ders SET der = CAST(der || x'00' AS BLOB) WHERE intent_seq = ?1`}, []any{two.IntentSeq}, []string{proof.RuleOtherBytes}},
		"validation lost": {[]string{`DELETE FROM validations WHERE name = 'two.proof.test' AND ?1 > 0`}, []any{two.IntentSeq}, []string{proof.RuleUnfounded}},
		"validation aged": {[]string{`UPDATE validations SET at = at - 7200, reuse_until = at - 3600 WHERE name = 'two.proof.test' AND ?1 > 0`}, []any{two.IntentSeq}, []string{proof.RuleUnfounded}},
		"another account": {[]string{`UPDATE certificates SET account_id = 'nobody' WHERE intent_seq = ?1`}, []any{two.IntentSeq}, []string{proof.RuleUnfounded}},
		"leaf missing":    {[]string{`DELETE FROM evidence WHERE seq = ?1`}, []any{two.OutcomeSeq}, []string{"evidence/row-missing"}},
		"leaf rewritten":  {[]string{`UPDATE evidence SET leaf = (SELECT leaf FROM evidence WHERE seq = ?1 - 1) WHERE seq = ?1`}, []any{two.OutcomeSeq}, nil},
		"counter ahead":   {[]string{`UPDATE signature_counters SET announced = announced + 1, made = made + 1 WHERE key_hash = ?1`}, nil, []string{proof.RuleCounterAhead}},
		"counter behind":  {[]string{`UPDATE signature_counters SET made = made - 1 WHERE key_hash = ?1`}, nil, []string{proof.RuleCounterBehind}},
		"counter removed": {[]string{`DELETE FROM signature_counters WHERE key_hash = ?1`}, nil, []string{proof.RuleCounterMissing}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "copy")
			ok(t, os.CopyFS(dir, os.DirFS(h.dir)))
			db, err := sql.Open("sqlite", filepath.Join(dir, "bulkhead.db"))
			ok(t, err)
			args := c.args
			if args == nil {
				sum := bulkhead.Digest(papers[0].issuer.RawSubjectPublicKeyInfo)
				args = []any{sum[:]}
			}
			for _, q := range c.sql {
				res, err := db.Exec(q, args...)
				ok(t, err)
				if n, _ := res.RowsAffected(); n != 1 {
					t.Fatalf("%s: %d rows", q, n)
				}
			}
			ok(t, db.Close())
			got := proved(t, run.ProveOptions{Dir: dir, Issuer: issuing})
			var rules []string
			for _, f := range got.Findings {
				rules = append(rules, f.Rule)
			}
			slices.Sort(rules)
			if got.OK || c.rules != nil && !slices.Equal(rules, c.rules) {
				t.Errorf("found %v of serial %x: %s", rules, serial, got.Text())
			}
		})
	}
}

// TestProveOptions: what cannot be looked at is said, with what to type.
func TestProveOptions(t *testing.T) {
	h := newHouse(t)
	for name, c := range map[string]struct {
		o    run.ProveOptions
		kind bulkhead.Kind
	}{
		"neither":     {run.ProveOptions{Dir: h.dir}, bulkhead.KindUsage},
		"both":        {run.ProveOptions{Dir: h.dir, All: true, Issuer: issuing}, bulkhead.KindUsage},
		"nobody":      {run.ProveOptions{Dir: h.dir, Issuer: "nobody"}, bulkhead.KindNotFound},
		"no house":    {run.ProveOptions{Dir: t.TempDir(), All: true}, bulkhead.KindNotFound},
		"no evidence": {run.ProveOptions{Dir: h.dir, All: true, Certificates: filepath.Join(h.dir, "absent")}, bulkhead.KindNotFound},
	} {
		_, err := run.Prove(t.Context(), c.o)
		if bulkhead.KindOf(err) != c.kind || bulkhead.AsFault(err).Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
