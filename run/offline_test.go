package run

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/ceremony"
	"bulkhead/console"
	"bulkhead/keys"
	"bulkhead/pki/lint"
	"bulkhead/pki/transcript"
)

// vault is an offline machine with a root's key and the transcripts of its ceremonies.
type vault struct {
	w    *world
	ring keys.Ring
	last []byte // signed transcript
}

// vault opens the folder of the root that the first start made.
func (w *world) vault() *vault {
	w.Helper()
	made, err := firstHouse()
	w.ok(err)
	dir := RootDir(made)
	ring, err := keys.OpenFileRing(keys.Config{Dir: dir, IdentityFile: filepath.Join(dir, rootIdentity)})
	w.ok(err)
	return &vault{w: w, ring: ring}
}

// hold carries out a plan and gives the bundle that is carried to the house.
func (v *vault) hold(plan ceremony.Plan, rehearsal bool) []byte {
	v.w.Helper()
	linter, err := lint.New(lint.Config{})
	v.w.ok(err)
	res, err := ceremony.Execute(v.w.Context(), ceremony.Config{Ring: v.ring, Now: v.w.now, Rand: rand.Reader, Who: []string{"Ada", "Grace"}, Lint: linter, PreviousTranscript: v.last, Rehearsal: rehearsal}, plan)
	v.w.ok(err)
	if !rehearsal {
		v.last = res.Transcript
	}
	text, err := res.Bundle(plan, nil, v.w.now(), rehearsal)
	v.w.ok(err)
	return text
}

// plan is the ceremony file that the house proposes, with its transcript before.
func (v *vault) plan(root, standby bulkhead.AuthorityID) ceremony.Plan {
	v.w.Helper()
	f, err := offline{v.w.h}.CeremonyFile(v.w.Context(), "", root, standby)
	v.w.ok(err)
	p, err := ceremony.ParsePlan([]byte(f.YAML))
	v.w.ok(err)
	if f.Previous != "" {
		v.last = []byte(f.Previous)
	}
	return p
}

// record is what an import may change, counted.
func (w *world) record() [4]int {
	w.Helper()
	w.h.status.Wait() // what is signed again in the background has its leaves
	rows, err := w.h.store.Ceremonies(w.Context())
	w.ok(err)
	ready, err := w.h.store.Prepared(w.Context(), rootID)
	w.ok(err)
	all, err := w.h.store.Authorities(w.Context())
	w.ok(err)
	seq, _, err := w.h.store.EvidenceHead(w.Context())
	w.ok(err)
	return [4]int{len(rows), len(ready), len(all), int(seq)}
}

func (w *world) refused(what string, err error, kind bulkhead.Kind, before [4]int) {
	w.Helper()
	if bulkhead.KindOf(err) != kind || bulkhead.AsFault(err).Hint == "" {
		w.Errorf("%s: %v; want %s with the next step", what, err, kind)
	}
	if now := w.record(); now != before {
		w.Errorf("%s: refused, and changed the record from %v to %v", what, before, now)
	}
}

func (w *world) bring(text []byte, newRoot bulkhead.Hash, dry bool) (console.ImportView, error) {
	return offline{w.h}.ImportCeremony(w.Context(), "operator:test", text, newRoot, dry)
}

// finding is what the doctor says of a check.
func (w *world) finding(check string) console.Finding {
	w.Helper()
	for _, f := range w.h.Diagnose(w.Context()) {
		if f.Check == check {
			return f
		}
	}
	w.Fatalf("the doctor does not speak of %s", check)
	return console.Finding{}
}

// TestImportCeremony: a bundle comes in once, in its place in the chain, from a root that the house knows, whole; everything
// else is refused and changes nothing.
func TestImportCeremony(t *testing.T) {
	w := newWorld(t)
	v := w.vault()
	plan := v.plan("", "")
	good := v.hold(plan, false)
	before := w.record()

	if got, err := w.bring(good, bulkhead.Hash{}, true); err != nil || got.CRLs == 0 || w.record() != before {
		t.Errorf("dry: %+v, %v, record %v then %v", got, err, before, w.record())
	}
	cut := good[:len(good)/2]
	_, err := w.bring(cut, bulkhead.Hash{}, false)
	w.refused("half a bundle", err, bulkhead.KindMalformed, before)
	foreign := &vault{w: w, ring: keys.NewMemoryRing()}
	stranger := foreign.hold(ceremony.Plan{Title: "another root", StatusURL: "http://status.test", Root: "other", Steps: []ceremony.Step{
		{Root: &ceremony.RootStep{ID: "other", Subject: ceremony.Name{CommonName: "Other Root", Organization: "Other", Country: "CH"}, Algorithm: keys.P256, Days: 3650}},
		{CRL: &ceremony.CRLStep{Authority: "other", HorizonDays: 90, TurnoverDays: 30, OverlapDays: 30}}}}, false)
	_, err = w.bring(stranger, bulkhead.Hash{}, false)
	w.refused("a root that nobody quoted", err, bulkhead.KindForbidden, before)
	_, err = w.bring(stranger, bulkhead.Digest([]byte("x")), false)
	w.refused("a root quoted wrongly", err, bulkhead.KindForbidden, before)

	// The next ceremony cannot come before this one, and no second one may follow the same.
	next := plan
	next.Title = "the next"
	next.Steps = []ceremony.Step{{CRL: &ceremony.CRLStep{Authority: rootID, AfterNumber: 1000, HorizonDays: 90, TurnoverDays: 30, OverlapDays: 30}}}
	second := v.hold(next, false)
	_, err = w.bring(second, bulkhead.Hash{}, false)
	w.refused("out of order", err, bulkhead.KindConflict, before)

	got, err := w.bring(good, bulkhead.Hash{}, false)
	if err != nil || got.Already || got.CRLs == 0 {
		t.Fatalf("%+v, %v", got, err)
	}
	after := w.record()
	if again, err := w.bring(good, bulkhead.Hash{}, false); err != nil || !again.Already || w.record() != after {
		t.Errorf("once more: %+v, %v", again, err)
	}
	if n, last := w.leaves(bulkhead.EvCeremony); n < 2 || last.Digest != got.Transcript {
		t.Errorf("%d leaves, the last %+v", n, last)
	}
	if text, err := transcript.Open(good, nil); err != nil || bulkhead.Digest(text.Signed) != got.Transcript {
		t.Errorf("the transcript is not the bundle's: %v", err)
	}
	v.last = mustSigned(t, good)
	fork := next
	fork.Title = "the fork"
	first := v.hold(next, false)
	v.last = mustSigned(t, good)
	other := v.hold(fork, false)
	_, err = w.bring(first, bulkhead.Hash{}, false)
	w.ok(err)
	forked := w.record()
	_, err = w.bring(other, bulkhead.Hash{}, false)
	w.refused("two that follow the same one", err, bulkhead.KindConflict, forked)
}

func mustSigned(t *testing.T, bundle []byte) []byte {
	t.Helper()
	b, err := transcript.Open(bundle, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b.Signed
}

// lostCeremony is a store that loses an import, or the news of it.
type lostCeremony struct {
	Store
	after bool
	hit   *bool
}

func (l lostCeremony) PutCeremony(ctx context.Context, c bulkhead.Ceremony, parts bulkhead.CeremonyParts, ev ...bulkhead.Evidence) error {
	if *l.hit {
		return l.Store.PutCeremony(ctx, c, parts, ev...)
	}
	*l.hit = true
	if l.after {
		if err := l.Store.PutCeremony(ctx, c, parts, ev...); err != nil {
			return err
		}
	}
	return bulkhead.NewFault(bulkhead.KindUnavailable, "planted").WithHint("again")
}

// TestImportInterrupted is the failure table of an import: lost, or persisted and reported lost. The same bundle is imported
// again, and stands once.
func TestImportInterrupted(t *testing.T) {
	for _, after := range []bool{false, true} {
		w := newWorld(t)
		v := w.vault()
		bundle := v.hold(v.plan("", ""), false)
		rows := w.record()[0]
		var hit bool
		w.h.store = lostCeremony{w.h.store, after, &hit}
		if _, err := w.bring(bundle, bulkhead.Hash{}, false); bulkhead.KindOf(err) != bulkhead.KindUnavailable {
			t.Fatalf("persisted %v: %v", after, err)
		}
		got, err := w.bring(bundle, bulkhead.Hash{}, false)
		if err != nil || got.Already != after {
			t.Errorf("persisted %v: %+v, %v", after, got, err)
		}
		if n := w.record()[0]; n != rows+1 {
			t.Errorf("persisted %v: %d ceremonies, then %d", after, rows, n)
		}
		w.publish()
	}
}

// TestRehearsalRecorded is S2-15: the doctor asks for a rehearsal until one was imported, and again a year later; what a
// rehearsal signed is of no use to the house.
func TestRehearsalRecorded(t *testing.T) {
	w := newWorld(t)
	if f := w.finding("rehearsal"); f.Level != levelFinding || !strings.Contains(f.Detail, "ever rehearsed") || f.Next == "" {
		t.Errorf("%+v", f)
	}
	v := w.vault()
	bundle := v.hold(v.plan("", ""), true)
	ready := w.record()[1]
	got, err := w.bring(bundle, bulkhead.Hash{}, false)
	if err != nil || !got.Rehearsal || got.CRLs+got.Certificates+got.Delegates != 0 || w.record()[1] != ready {
		t.Errorf("%+v, %v", got, err)
	}
	if n, _ := w.leaves(bulkhead.EvRehearsal); n != 1 {
		t.Errorf("%d leaves", n)
	}
	if f := w.finding("rehearsal"); f.Level != levelOK {
		t.Errorf("%+v", f)
	}
	w.pass(366 * 24 * time.Hour)
	if f := w.finding("rehearsal"); f.Level != levelFinding || !strings.Contains(f.Detail, "12 months") {
		t.Errorf("%+v", f)
	}
}

// TestStandby is S1-12 and S2-13: a second root certifies an issuing authority's key; the doctor names who has no stand-by; the
// chain that clients get is switched without a ceremony, at once, over ACME, AIA and the API, the old one is an alternate until
// the date that was said and no longer, and it is undone the same way.
func TestStandby(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	if f := w.finding("standby"); f.Level != levelFinding || !strings.Contains(f.Detail, string(p256ID)) {
		t.Errorf("%+v", f)
	}
	second := &vault{w: w, ring: keys.NewMemoryRing()}
	bundle := second.hold(ceremony.Plan{Title: "a second root", StatusURL: "http://status.test", Root: "root-two", Steps: []ceremony.Step{
		{Root: &ceremony.RootStep{ID: "root-two", Subject: ceremony.Name{CommonName: "Root Two", Organization: "Bulkhead", Country: "JP"}, Algorithm: keys.P384, Days: 3650}},
		{CRL: &ceremony.CRLStep{Authority: "root-two", HorizonDays: 365, TurnoverDays: 90, OverlapDays: 30}}}}, false)
	opened, err := transcript.Open(bundle, nil)
	w.ok(err)
	_, err = w.bring(bundle, bulkhead.Digest(opened.Root.Raw), false)
	w.ok(err)
	plan := second.plan("root-two", p256ID)
	got, err := w.bring(second.hold(plan, false), bulkhead.Hash{}, false)
	if err != nil || len(got.Standbys) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	old, err := w.h.store.Authority(ctx, p256ID)
	w.ok(err)
	row, _, err := w.h.store.Certificate(ctx, w.live)
	w.ok(err)
	account := bulkhead.Account{ID: row.AccountID}
	client := w.acmeClient()
	served := func(what string, want []byte, alternates int) {
		t.Helper()
		w.publish()
		if alternates == 0 {
			client.wants(what, want)
		} else {
			client.wants(what, want, old.Certificate)
		}
		c, others, err := w.h.enroll.CertificateChains(ctx, account, w.live)
		w.ok(err)
		if !bytes.Equal(c.Chain[0], want) || len(others) != alternates {
			t.Errorf("%s: ACME serves another chain, with %d alternates, want %d", what, len(others), alternates)
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		w.ok(err)
		fresh, err := w.order("new.test", key)
		w.ok(err)
		if !bytes.Equal(fresh.Chain[0], want) {
			t.Errorf("%s: the API gives another chain", what)
		}
		res, err := w.server.Client().Get(w.server.URL + "/ca/" + string(p256ID) + ".cer")
		w.ok(err)
		defer res.Body.Close()
		body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
		w.ok(err)
		if res.StatusCode != http.StatusOK || !bytes.Equal(body, want) {
			t.Errorf("%s: AIA serves another certificate: %s", what, res.Status)
		}
	}
	served("a stand-by that lies ready", old.Certificate, 0)
	rows, err := offline{w.h}.Standbys(ctx)
	w.ok(err)
	states := map[bulkhead.AuthorityID]string{}
	for _, s := range rows {
		states[s.Authority] = s.State
	}
	if states[p256ID] != standbyReady || states[rsaID] != standbyNone {
		t.Errorf("%v", states)
	}

	until := w.now().Add(10 * 24 * time.Hour)
	if _, err := (offline{w.h}).ActivateStandby(ctx, "operator:test", rsaID, bulkhead.Hash{}, until, false); bulkhead.KindOf(err) != bulkhead.KindNotFound {
		t.Errorf("without a stand-by: %v", err)
	}
	_, err = offline{w.h}.ActivateStandby(ctx, "operator:test", p256ID, bulkhead.Hash{}, until, true)
	w.ok(err)
	served("a dry run", old.Certificate, 0)
	_, err = offline{w.h}.ActivateStandby(ctx, "operator:test", p256ID, bulkhead.Hash{}, until, false)
	w.ok(err)
	now, err := w.h.store.Authority(ctx, p256ID)
	w.ok(err)
	if bytes.Equal(now.Certificate, old.Certificate) || now.Parent != "root-two" {
		t.Fatalf("the chain was not switched: parent %s", now.Parent)
	}
	served("switched", now.Certificate, 1)
	if n, last := w.leaves(bulkhead.EvChainSwitched); n != 1 || last.Digest != bulkhead.Digest(now.Certificate) || last.Link != bulkhead.Digest(old.Certificate) {
		t.Errorf("%d leaves, %+v", n, last)
	}
	w.pass(11 * 24 * time.Hour)
	served("after the date", now.Certificate, 0)
	_, err = offline{w.h}.ActivateStandby(ctx, "operator:test", p256ID, bulkhead.Digest(old.Certificate), time.Time{}, false)
	w.ok(err)
	served("undone", old.Certificate, 0)
}
