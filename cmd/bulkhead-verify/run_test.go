package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/evidence"
	"bulkhead/pki/tlog"
	"bulkhead/store/sqlite"
)

const origin = "test.example/evidence"

// auditee is an authority's evidence as an auditor gets it: a log, a verifier key, certificates.
type auditee struct {
	t     *testing.T
	dir   string
	store *sqlite.Store
}

func newAuditee(t *testing.T) *auditee {
	t.Helper()
	dir := t.TempDir()
	store, err := sqlite.Open(context.Background(), sqlite.Config{Path: filepath.Join(dir, "store.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	if _, err := evidence.NewKey(filepath.Join(dir, "key"), origin); err != nil {
		t.Fatal(err)
	}
	return &auditee{t: t, dir: dir, store: store}
}

func (a *auditee) path(name string) string { return filepath.Join(a.dir, name) }

// commit appends leaves and has the log cover them.
func (a *auditee) commit(leaves ...bulkhead.Evidence) {
	a.t.Helper()
	seqs, err := a.store.AppendEvidence(context.Background(), leaves...)
	if err != nil {
		a.t.Fatal(err)
	}
	l, err := evidence.New(evidence.Config{Rows: a.store, Dir: a.path("log"), Origin: origin, KeyFile: a.path("key"),
		Interval: evidence.MinInterval, Now: time.Now})
	if err != nil {
		a.t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	for deadline := time.Now().Add(time.Minute); l.Checkpoint().Size < seqs[len(seqs)-1]; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			a.t.Fatal("the log does not cover its rows")
		}
	}
	cancel()
	if err := <-done; err != nil {
		a.t.Fatal(err)
	}
}

// verify runs the tool and returns exit code and output.
func (a *auditee) verify(stdin io.Reader, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	args = append(args, "--log", a.path("log"), "--key", a.path("key.pub"))
	code = run(args, stdin, &out, &errs)
	return code, out.String(), errs.String()
}

// json runs the tool with --json and decodes its one document.
func (a *auditee) json(want int, doc any, args ...string) {
	a.t.Helper()
	code, out, errs := a.verify(nil, append(args, "--json")...)
	if code != want {
		a.t.Errorf("%v: exit %d, want %d\n%s%s", args, code, want, out, errs)
	}
	dec := json.NewDecoder(strings.NewReader(out))
	if err := dec.Decode(doc); err != nil {
		a.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	if _, err := dec.Token(); err != io.EOF {
		a.t.Errorf("%v: more than one document\n%s", args, out)
	}
	if code != exitDone && !strings.Contains(errs, "next: ") {
		a.t.Errorf("%v: no next step in %q", args, errs)
	}
}

// certificate makes a certificate with its two leaves and writes it to a file.
func (a *auditee) certificate(serial int64) (file string, intent, outcome bulkhead.Evidence) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	file = a.path(bulkhead.Digest(der).String() + ".pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		a.t.Fatal(err)
	}
	number, err := bulkhead.SerialFromBig(cert.SerialNumber)
	if err != nil {
		a.t.Fatal(err)
	}
	spki := bulkhead.Digest(cert.RawSubjectPublicKeyInfo)
	intent = bulkhead.Evidence{Kind: bulkhead.EvCertificateIntent, At: time.Now(), Authority: "ecdsa-1", Serial: number,
		KeyHash: spki, Signer: bulkhead.Digest([]byte("ca")), Digest: bulkhead.Digest(cert.RawTBSCertificate)}
	outcome = bulkhead.Evidence{Kind: bulkhead.EvCertificateOutcome, At: time.Now(), Authority: "ecdsa-1", Serial: number,
		KeyHash: spki, Signer: intent.Signer, Digest: bulkhead.Digest(der), Link: intent.Digest}
	return file, intent, outcome
}

func TestCertificate(t *testing.T) {
	a := newAuditee(t)
	good, intent, outcome := a.certificate(0x1001)
	foreign, _, _ := a.certificate(0x1001)
	unsigned, intent2, _ := a.certificate(0x1002)
	secret, _, outcome3 := a.certificate(0x1003)
	late, intent4, outcome4 := a.certificate(0x1004)
	stolen, intent5, outcome5 := a.certificate(0x1005)
	intent5.KeyHash = bulkhead.Digest([]byte("another key"))
	other, intent6, outcome6 := a.certificate(0x1006)
	outcome6.Link = bulkhead.Digest([]byte("another intent"))
	a.commit(intent, intent2, outcome, outcome3, outcome4, intent4, intent5, outcome5, intent6, outcome6)

	var doc certificateDoc
	a.json(exitDone, &doc, "certificate", good)
	if !doc.OK || doc.Intent.Index != 0 || doc.Outcome.Index != 2 || doc.Serial != "1001" || doc.Checkpoint.Size != 10 || len(doc.Findings) != 0 {
		t.Errorf("%+v", doc)
	}
	for file, rule := range map[string]string{
		foreign: "not-in-log", unsigned: "no-outcome", secret: tlog.RuleNoIntent, late: tlog.RuleNoIntent,
		stolen: "other-key", other: tlog.RuleOtherIntent,
	} {
		doc = certificateDoc{}
		a.json(exitFindings, &doc, "certificate", file)
		if doc.OK || len(doc.Findings) != 1 || doc.Findings[0].Rule != rule {
			t.Errorf("%s: %+v, want %s", rule, doc.Findings, rule)
		}
	}
}

func TestConsistencyAndLog(t *testing.T) {
	a := newAuditee(t)
	_, intent, outcome := a.certificate(0x2001)
	a.commit(intent, outcome)
	old := a.path("old")
	a.copy(a.path("log/checkpoint"), old)
	_, intent2, outcome2 := a.certificate(0x2002)
	a.commit(intent2, outcome2)

	var cons consistencyDoc
	a.json(exitDone, &cons, "consistency", "--old", old)
	if !cons.OK || cons.Old.Size != 2 || cons.Checkpoint.Size != 4 {
		t.Errorf("%+v", cons)
	}
	a.sign(old, tlog.Checkpoint{Origin: origin, Size: 2, Root: bulkhead.Digest([]byte("fork"))})
	a.json(exitFindings, &cons, "consistency", "--old", old)
	if cons.OK || len(cons.Findings) != 1 || cons.Findings[0].Rule != "fork" {
		t.Errorf("a forked log: %+v", cons)
	}

	var log logDoc
	a.json(exitDone, &log, "log")
	if !log.OK || log.Leaves != 4 || len(log.Keys) != 1 || log.Keys[0].Signatures != 2 || log.Kinds["certificate-outcome"] != 2 {
		t.Errorf("%+v", log)
	}
	code, out, errs := a.verify(nil, "log")
	if code != exitDone || !strings.Contains(out, "4 of 4 leaves proved") || errs != "" {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	_, _, unannounced := a.certificate(0x2003)
	a.commit(unannounced)
	log = logDoc{}
	a.json(exitFindings, &log, "log")
	if log.OK || len(log.Findings) != 1 || log.Findings[0].Rule != tlog.RuleNoIntent || *log.Findings[0].Index != 4 {
		t.Errorf("an outcome without intent: %+v", log.Findings)
	}
}

func TestLeaf(t *testing.T) {
	a := newAuditee(t)
	_, intent, outcome := a.certificate(0x3001)
	a.commit(intent, outcome)
	var doc leafDoc
	a.json(exitDone, &doc, "leaf", "--index", "1")
	if doc.Kind != "certificate-outcome" || doc.Serial != "3001" || doc.Link != intent.Digest || doc.LeafHash.IsZero() {
		t.Errorf("%+v", doc)
	}
	if code, out, _ := a.verify(nil, "leaf", "--index", "0"); code != exitDone || !json.Valid([]byte(out)) {
		t.Errorf("exit %d: %s", code, out)
	}
	var failed struct{ Error, Hint string }
	a.json(exitFailed, &failed, "leaf", "--index", "2")
	if failed.Error == "" || failed.Hint == "" {
		t.Errorf("%+v", failed)
	}
}

// TestDamagedLog plants one fault in a copy of a log; every command that reads it must report it.
func TestDamagedLog(t *testing.T) {
	a := newAuditee(t)
	file, intent, outcome := a.certificate(0x4001)
	a.commit(intent, outcome)
	old := a.path("old")
	a.sign(old, tlog.Checkpoint{Origin: origin, Size: 1, Root: tlog.LeafHash(a.leaf(intent))})
	commands := [][]string{{"certificate", file}, {"consistency", "--old", old}, {"log"}, {"leaf", "--index", "0"}}
	for _, args := range commands {
		var doc map[string]any
		a.json(exitDone, &doc, args...)
	}
	for name, c := range map[string]struct {
		path, rule string
		damage     func(p []byte) []byte
		bundles    bool // consistency reads no bundles
	}{
		"flipped tile":       {"log/tile/0/000.p/2", "tile", flip, false},
		"cut tile":           {"log/tile/0/000.p/2", "tile", func(p []byte) []byte { return p[:40] }, false},
		"missing tile":       {"log/tile/0/000.p/2", "tile-missing", nil, false},
		"flipped bundle":     {"log/tile/entries/000.p/2", "leaf", flip, true},
		"missing bundle":     {"log/tile/entries/000.p/2", "tile-missing", nil, true},
		"flipped checkpoint": {"log/checkpoint", "checkpoint", flip, false},
	} {
		whole, err := os.ReadFile(a.path(c.path))
		if err != nil {
			t.Fatal(err)
		}
		if c.damage == nil {
			err = os.Remove(a.path(c.path))
		} else {
			err = os.WriteFile(a.path(c.path), c.damage(bytes.Clone(whole)), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, args := range commands {
			if c.bundles && args[0] == "consistency" {
				continue
			}
			var doc struct{ Findings []finding }
			a.json(exitFindings, &doc, args...)
			if len(doc.Findings) != 1 || doc.Findings[0].Rule != c.rule {
				t.Errorf("%s, %s: %+v, want %s", name, args[0], doc.Findings, c.rule)
			}
		}
		if err := os.WriteFile(a.path(c.path), whole, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func flip(p []byte) []byte { p[len(p)/2] ^= 1; return p }

func TestUsageAndFailures(t *testing.T) {
	a := newAuditee(t)
	file, intent, outcome := a.certificate(0x5001)
	a.commit(intent, outcome)
	junk := a.path("junk")
	if err := os.WriteFile(junk, []byte("junk"), 0o644); err != nil {
		t.Fatal(err)
	}
	all := []string{"--log", a.path("log"), "--key", a.path("key.pub")}
	with := func(args ...string) []string { return append(args, all...) }
	for name, c := range map[string]struct {
		args []string
		want int
	}{
		"nothing":            {nil, exitUsage},
		"unknown command":    {[]string{"prove"}, exitUsage},
		"unknown flag":       {with("log", "--bogus"), exitUsage},
		"no log":             {[]string{"log", "--key", junk}, exitUsage},
		"no file":            {with("certificate"), exitUsage},
		"no old":             {with("consistency"), exitUsage},
		"no index":           {with("leaf"), exitUsage},
		"negative index":     {with("leaf", "--index", "-1"), exitUsage},
		"index is no number": {with("leaf", "--index", "x"), exitUsage},
		"no such log":        {[]string{"log", "--log", junk, "--key", a.path("key.pub")}, exitFailed},
		"no such key":        {[]string{"log", "--log", a.path("log"), "--key", a.path("gone")}, exitFailed},
		"junk key":           {[]string{"log", "--log", a.path("log"), "--key", junk}, exitFailed},
		"no such file":       {with("certificate", a.path("gone")), exitFailed},
		"junk file":          {with("certificate", junk), exitFailed},
		"no such old":        {with("consistency", "--old", a.path("gone")), exitFailed},
		"junk old":           {with("consistency", "--old", junk), exitFindings},
	} {
		for _, asJSON := range []bool{false, true} {
			args := c.args
			if asJSON {
				args = append(append([]string{}, args...), "--json")
			}
			var out, errs bytes.Buffer
			if code := run(args, strings.NewReader(""), &out, &errs); code != c.want {
				t.Errorf("%s: exit %d, want %d: %s", name, code, c.want, errs.String())
			}
			if !strings.Contains(errs.String(), "next: ") {
				t.Errorf("%s: no next step in %q", name, errs.String())
			}
			if asJSON && !json.Valid(out.Bytes()) {
				t.Errorf("%s: not one JSON document: %q", name, out.String())
			}
		}
	}
	der, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if code, out, errs := a.verify(bytes.NewReader(der), "certificate", "-"); code != exitDone || !strings.Contains(out, "outcome is leaf 1 of 2") {
		t.Errorf("standard input: exit %d: %s%s", code, out, errs)
	}
}

func (a *auditee) copy(from, to string) {
	a.t.Helper()
	p, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, p, 0o644)
	}
	if err != nil {
		a.t.Fatal(err)
	}
}

// sign writes a checkpoint signed by the log's own key.
func (a *auditee) sign(to string, cp tlog.Checkpoint) {
	a.t.Helper()
	text, err := os.ReadFile(a.path("key"))
	if err != nil {
		a.t.Fatal(err)
	}
	signer, err := note.NewSigner(strings.TrimSpace(string(text)))
	if err != nil {
		a.t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: cp.Body()}, signer)
	if err == nil {
		err = os.WriteFile(to, signed, 0o644)
	}
	if err != nil {
		a.t.Fatal(err)
	}
}

func (a *auditee) leaf(e bulkhead.Evidence) []byte {
	a.t.Helper()
	leaf, err := tlog.Marshal(e)
	if err != nil {
		a.t.Fatal(err)
	}
	return leaf
}
