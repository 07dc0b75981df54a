package day

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/evidence"
	"bulkhead/pki/pack"
	"bulkhead/status"
)

// seed makes the load the same every time.
const seed = 20140407

// maxPacks bounds the packs of one issuer: the base, the deltas above it and one that is not merged yet.
const maxPacks = 10

// load is one day's work.
type load struct {
	t     testing.TB
	h     *house
	judge *judge
	rnd   *rand.Rand
	total int // certificates of the day

	began     time.Time
	left      int // certificates still to be ordered
	renewals  int
	revoked   int
	refused   int
	heads     int
	head      *pack.Head
	verifier  note.Verifier
	mostPacks int
}

func newLoad(t testing.TB, total int) *load {
	t.Helper()
	h := newHouse(t)
	text, err := os.ReadFile(filepath.Join(h.dir, "head.pub"))
	ok(t, err)
	v, err := note.NewVerifier(strings.TrimSpace(string(text)))
	ok(t, err)
	l := &load{t: t, h: h, rnd: rand.New(rand.NewPCG(seed, seed)), total: total, left: total, began: h.clock.now(), verifier: v, judge: newJudge(h.clock.now)}
	l.judge.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.roles.Edge.Handler().ServeHTTP(w, r) })
	return l
}

func (l *load) at() time.Duration { return l.h.clock.now().Sub(l.began) }

// issue orders n certificates at once; every fourth by ACME.
func (l *load) issue(n int) {
	l.t.Helper()
	n = min(n, l.left)
	got := make([]*held, n)
	first := l.h.names.Add(int64(n)) - int64(n)
	each(l.t, n, func(i int) (err error) {
		byACME := (first+int64(i))%4 == 0
		name := fmt.Sprintf("w%d.day.test", first+int64(i))
		if byACME {
			name = fmt.Sprintf("w%d.day.example.com", first+int64(i))
		}
		got[i], err = l.h.order(context.Background(), byACME, name, newKey(l.t), bulkhead.CertificateRef{})
		return err
	})
	l.judge.held = append(l.judge.held, got...)
	l.left -= n
}

// renew replaces what is past the middle of its life, as renewal information advises.
func (l *load) renew(most int) {
	l.t.Helper()
	now := l.h.clock.now()
	var due []*held
	for _, h := range l.judge.held {
		if h.key != nil && !h.renewed && !h.revoked && now.After(h.leaf.NotBefore.Add(leafValidity/2)) && now.Before(h.leaf.NotAfter) && len(due) < most {
			due = append(due, h)
		}
	}
	got := make([]*held, len(due))
	each(l.t, len(due), func(i int) (err error) {
		key := due[i].key // half of them keep their keys, as many clients do
		if i%2 == 0 {
			key = newKey(l.t)
		}
		got[i], err = l.h.order(context.Background(), due[i].byACME, due[i].name, key, due[i].ref)
		return err
	})
	for _, h := range due {
		h.renewed = true
	}
	l.judge.held = append(l.judge.held, got...)
	l.renewals += len(got)
}

// alive picks certificates at random for which want holds.
func (l *load) alive(n int, want func(*held) bool) []*held {
	var all []*held
	now := l.h.clock.now()
	for _, h := range l.judge.held {
		if h.key != nil && !h.revoked && now.Before(h.leaf.NotAfter.Add(-10*time.Minute)) && want(h) {
			all = append(all, h)
		}
	}
	l.rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:min(n, len(all))]
}

func anyOf(*held) bool { return true }

var reasons = []bulkhead.Reason{bulkhead.Unspecified, bulkhead.Superseded, bulkhead.CessationOfOperation, bulkhead.AffiliationChanged, bulkhead.PrivilegeWithdrawn, bulkhead.KeyCompromise}

// revoke revokes up to n certificates in one change.
func (l *load) revoke(n int, want func(*held) bool) {
	l.t.Helper()
	ctx := l.t.Context()
	reason := reasons[l.rnd.IntN(len(reasons)-1)]
	picked := l.alive(n, want)
	var items []bulkhead.ChangeItem
	for _, h := range picked {
		items = append(items, bulkhead.ChangeItem{CertificateRef: h.ref, Reason: reason, RevokedAt: l.h.clock.now()})
	}
	if len(items) == 0 {
		return
	}
	_, err := l.h.roles.Status.RevokeCertificates(ctx, "operator:day", "the load", items)
	ok(l.t, err)
	for _, h := range picked {
		h.revoked, h.reason = true, int(reason)
	}
	l.revoked += len(picked)
}

// compromise revokes by proof of the key; the key is dead in every order from then on, and all else on it goes with it.
func (l *load) compromise() {
	l.t.Helper()
	ctx := l.t.Context()
	for _, h := range l.alive(1, anyOf) {
		_, err := l.h.roles.Enroll.RevokeByKey(ctx, h.leaf.RawSubjectPublicKeyInfo, h.leaf.Raw, bulkhead.KeyCompromise)
		ok(l.t, err)
		h.revoked, h.reason = true, int(bulkhead.KeyCompromise)
		l.revoked++
		_, err = l.h.order(ctx, h.byACME, h.name, h.key, h.ref)
		if bulkhead.KindOf(err) != bulkhead.KindBadPublicKey {
			l.t.Fatalf("a compromised key was certified again, or refused as %v", err)
		}
		l.refused++
	}
}

// watch follows the heads.
func (l *load) watch() {
	l.t.Helper()
	signed, err := l.h.roles.Objects.Head(l.t.Context())
	ok(l.t, err)
	head, err := pack.OpenHead(signed, l.verifier)
	ok(l.t, err)
	if l.head != nil && head.Sequence != l.head.Sequence {
		ok(l.t, head.Follows(l.head))
		l.heads++
	}
	l.head = head
	for _, is := range head.Issuers {
		l.mostPacks = max(l.mostPacks, len(is.Packs))
		if len(is.Packs) > maxPacks {
			l.t.Errorf("%s: issuer %s has %d packs", l.at(), is.ID, len(is.Packs))
		}
	}
}

// judged looks as a relying party does and ends the test when it objects.
func (l *load) judged() {
	l.t.Helper()
	l.watch()
	l.judge.look()
	if p := l.judge.problems; len(p) > 0 {
		l.t.Fatalf("%s into the day, %d objections:\n%s", l.at(), len(p), strings.Join(p[:min(len(p), 20)], "\n"))
	}
}

// authorities puts the issuing authorities among what is judged: their status is public too.
func (l *load) authorities() {
	l.t.Helper()
	ctx := l.t.Context()
	rows, _, err := l.h.roles.Store.Certificates(ctx, bulkhead.CertificateFilter{Kind: bulkhead.CACertificate})
	ok(l.t, err)
	root, err := l.h.roles.Store.Authority(ctx, "root")
	ok(l.t, err)
	for _, row := range rows {
		if row.Issuer != root.ID || slices.ContainsFunc(l.judge.held, func(h *held) bool { return h.ref == row.CertificateRef }) {
			continue
		}
		_, der, err := l.h.roles.Store.Certificate(ctx, row.CertificateRef)
		ok(l.t, err)
		h, err := newHeld(bulkhead.IssuedCertificate{Certificate: row, DER: der, Chain: [][]byte{root.Certificate}}, nil, row.Subject, false, l.h.clock.now())
		ok(l.t, err)
		l.judge.held = append(l.judge.held, h)
	}
}

// event is something that happens once in the day.
type event struct {
	at time.Duration
	do func()
}

// day is what happens besides the steady load.
func (l *load) day() []event {
	restart := func() { l.h.stop(); l.h.start() }
	burst := func() { l.issue(l.total / 12) }
	events := []event{
		{3*time.Hour + 15*time.Minute, restart},
		{7 * time.Hour, func() { l.revoke(8, anyOf) }},
		{9 * time.Hour, func() {
			l.h.rotate("issuing-p256", "issuing-p256-g2")
			l.authorities()
		}},
		{9*time.Hour + 30*time.Minute, func() { l.revoke(3, func(h *held) bool { return h.ref.Issuer == "issuing-p256" }) }},
		{11 * time.Hour, func() { l.revoke(3, func(h *held) bool { return h.ref.Issuer == "issuing-p256" }) }},
		{12*time.Hour + 30*time.Minute, restart},
		{13 * time.Hour, func() { l.revoke(10, anyOf) }},
	}
	for i := range 10 {
		events = append(events, event{time.Duration(i) * 2 * time.Hour, burst})
	}
	for i := range 8 {
		events = append(events, event{time.Duration(i)*3*time.Hour + 80*time.Minute, l.compromise})
	}
	slices.SortStableFunc(events, func(a, b event) int { return int(a.at - b.at) })
	return events
}

// through lives until an hour of the day.
func (l *load) through(until time.Duration, events []event) []event {
	l.t.Helper()
	steps := []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 5 * time.Minute}
	for l.at() < until {
		for len(events) > 0 && events[0].at <= l.at() {
			events[0].do()
			l.h.look()
			l.judged()
			events = events[1:]
		}
		switch l.rnd.IntN(12) {
		case 0:
			l.issue(1 + l.rnd.IntN(1+l.total/100))
		case 1:
			l.revoke(1, anyOf)
		}
		if l.rnd.IntN(4) == 0 {
			l.renew(1 + l.total/100)
		}
		l.h.step(steps[l.rnd.IntN(len(steps))])
		l.judged()
	}
	return events
}

// vitals are what must not grow.
type vitals struct {
	goroutines int
	heap       uint64
	held       int
}

func (l *load) vitals() vitals {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return vitals{runtime.NumGoroutine(), m.HeapAlloc, len(l.judge.held)}
}

// TestDay lives 24 hours of mixed load and a quiet day after it.
func TestDay(t *testing.T) {
	total := 300
	if torture() {
		total = 20_000
	}
	l := newLoad(t, total)
	l.authorities()
	l.h.look()
	events := l.through(6*time.Hour, l.day())
	early := l.vitals()
	events = l.through(24*time.Hour, events)
	late := l.vitals()
	if len(events) > 0 {
		t.Errorf("%d events did not happen", len(events))
	}
	full := l.h.objects()
	t.Logf("%d certificates, %d renewals, %d revocations, %d refused keys; %d answers judged, %d of them verified whole; %d heads, at most %d packs; %d objects",
		l.h.names.Load()+int64(l.renewals), l.renewals, l.revoked, l.refused, l.judge.answers, l.judge.verified, l.heads, l.mostPacks, full)
	t.Logf("after 6 h: %d goroutines, %d kB, %d certificates alive; after 24 h: %d goroutines, %d kB, %d certificates alive", early.goroutines, early.heap>>10, early.held, late.goroutines, late.heap>>10, late.held)
	// The judge remembers every certificate that lives, about 16 kB each with its answers.
	if most := early.heap + early.heap/2 + 16<<20 + uint64(max(0, late.held-early.held))*16<<10; late.heap > most {
		t.Errorf("the heap grew from %d to %d octets in 18 hours", early.heap, late.heap)
	}
	if late.goroutines > early.goroutines+20 {
		t.Errorf("goroutines grew from %d to %d", early.goroutines, late.goroutines)
	}
	if l.revoked < 20 || l.renewals < l.total/4 || l.refused < 5 {
		t.Errorf("the load is not mixed: %d revocations, %d renewals, %d refused", l.revoked, l.renewals, l.refused)
	}
	for _, issuer := range []string{"issuing-p256", "issuing-p256-g2"} {
		if n := len(l.judge.signers[issuer]); n < 2 {
			t.Errorf("%s: the day saw %d delegates", issuer, n)
		}
	}
	l.dayAfter(full)
	l.agrees()
}

// dayAfter is quiet: what nobody needs any more goes.
func (l *load) dayAfter(full int) {
	l.t.Helper()
	for l.at() < 48*time.Hour {
		l.h.step(10 * time.Minute)
		l.judged()
	}
	after := l.h.objects()
	l.t.Logf("%d objects after a quiet day", after)
	if after > full*2/3 {
		l.t.Errorf("%d objects at the end of the day, %d a day later: they are not collected", full, after)
	}
}

// agrees compares store, objects and evidence in full.
func (l *load) agrees() {
	l.t.Helper()
	ctx := l.t.Context()
	found, answers, err := status.Check(ctx, status.CheckConfig{Store: l.h.roles.Store, Objects: l.h.roles.Objects, HeadVerifier: l.verifier, Now: l.h.clock.now})
	ok(l.t, err)
	for _, d := range found {
		l.t.Errorf("%s: %s: %s", d.Rule, d.Ref, d.Message)
	}
	l.t.Logf("the record and %d answers agree", answers)
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		seq, _, err := l.h.roles.Store.EvidenceHead(ctx)
		ok(l.t, err)
		if l.h.roles.Evidence.Checkpoint().Size >= seq {
			break
		}
		if time.Now().After(end) {
			l.t.Fatalf("the log covers %d of %d rows", l.h.roles.Evidence.Checkpoint().Size, seq)
		}
	}
	report, err := evidence.Check(ctx, evidence.CheckConfig{Rows: l.h.roles.Store, Dir: filepath.Join(l.h.dir, "evidence"), Verifier: l.h.roles.Evidence.Verifier()})
	ok(l.t, err)
	if len(report.Findings) > 0 {
		l.t.Errorf("evidence: %+v", report.Findings)
	}
}
