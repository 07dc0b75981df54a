package plan_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/incident/plan"
)

var now = time.Date(2026, 11, 26, 3, 8, 0, 0, time.UTC)

func item(n int) plan.Item {
	var b [16]byte
	binary.BigEndian.PutUint64(b[8:], uint64(n)+1)
	b[0] = 1
	s, err := bulkhead.SerialFromBytes(b[:])
	if err != nil {
		panic(err)
	}
	return plan.Item{CertificateRef: bulkhead.CertificateRef{Issuer: "ca", Serial: s}, IntentSeq: int64(n + 1), Product: "tls", Account: fmt.Sprintf("a%d", n/3), Deadline: now.Add(24 * time.Hour)}
}

func planned(t testing.TB, s plan.Snapshot) (*plan.Plan, []byte, bulkhead.Hash) {
	t.Helper()
	p, body, hash, err := plan.Make(s)
	if err != nil {
		t.Fatal(err)
	}
	return p, body, hash
}

// random makes a world of any mixture.
func random(r *rand.Rand) plan.Snapshot {
	s := plan.Snapshot{Incident: "i", Now: now.Add(time.Duration(r.IntN(3600)) * time.Second), Chunk: 1 + r.IntN(50)}
	life := time.Duration(1+r.IntN(7*24)) * time.Hour
	for n := range r.IntN(400) {
		it := item(n)
		it.Account = fmt.Sprintf("a%d", r.IntN(60))
		it.Replaced, it.Own, it.Critical, it.Held, it.Ceremony, it.Revalidate = r.IntN(4) == 0, r.IntN(9) == 0, r.IntN(9) == 0, r.IntN(20) == 0, r.IntN(30) == 0, r.IntN(2) == 0
		it.Product = []string{"tls", "smime", "code-signing"}[r.IntN(3)]
		if it.Deadline = s.Now.Add(life + time.Duration(r.IntN(100))*time.Hour); r.IntN(10) == 0 {
			it.Deadline = time.Time{}
		}
		s.Items = append(s.Items, it)
	}
	capacity := func() int { return []int{0, 1 + r.IntN(20), 100, 10_000}[r.IntN(4)] }
	s.Capacity = plan.Capacity{Signatures: capacity(), Validations: capacity(), Notices: capacity()}
	return s
}

// TestProperties: over random worlds every item is in exactly one wave and one job of each kind, load stays within
// capacity, windows and dates stay within the time left, and the plan depends on the world alone.
func TestProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 400 {
		s := random(r)
		p, body, hash := planned(t, s)
		check(t, s, p)
		r.Shuffle(len(s.Items), func(i, j int) { s.Items[i], s.Items[j] = s.Items[j], s.Items[i] })
		if _, again, h := planned(t, s); h != hash || !bytes.Equal(body, again) {
			t.Fatal("the order of the items changes the plan")
		}
		if len(s.Items) > 0 {
			s.Items[0].Held = !s.Items[0].Held
			if _, _, h := planned(t, s); h == hash {
				t.Fatal("a hold does not change the plan")
			}
		}
	}
}

func check(t *testing.T, s plan.Snapshot, p *plan.Plan) {
	t.Helper()
	seen, unplaced, total := map[int]bool{}, 0, 0
	load := map[time.Time]*plan.Slice{}
	told := map[string]time.Time{}
	var wave plan.Wave
	for n, a := range p.Assignments {
		it := s.Items[a.Index]
		if seen[a.Index] || a.Ordinal != int64(n+1) || a.Wave < wave {
			t.Fatalf("assignment %d: item %d again, or out of order", n, a.Index)
		}
		seen[a.Index], wave = true, a.Wave
		idle := a.Wave == plan.Held || a.Wave == plan.Ceremony
		if told := a.Wave == plan.Ceremony && it.Account != "" && !it.Own && !it.Replaced; idle && told == a.NotifyAt.IsZero() {
			t.Fatalf("told %v: %+v", told, a)
		}
		if idle != a.RevokeAt.IsZero() || idle && !a.Start.IsZero() || it.Held != (a.Wave == plan.Held) {
			t.Fatalf("%+v", a)
		}
		if idle || a.Wave == plan.Replaced {
			continue
		}
		if a.RevokeAt.After(p.ForceAt) || !p.ForceAt.Before(p.FinishBy) || a.NotifyAt.Before(p.MadeAt) {
			t.Fatalf("%+v with %s and %s", a, p.ForceAt, p.FinishBy)
		}
		if a.Wave != plan.OwnEstate {
			if at, ok := told[it.Account]; ok && !at.Equal(a.NotifyAt) {
				t.Fatalf("account %s is told at %s and at %s", it.Account, at, a.NotifyAt)
			}
			told[it.Account] = a.NotifyAt
		}
		if a.Start.IsZero() {
			unplaced++
			continue
		}
		if a.Start.Before(p.MadeAt) || a.End.After(p.UsableEnd) || a.Start.Before(a.NotifyAt) || a.RevokeAt.Before(a.End) {
			t.Fatalf("window %+v outside the time left until %s", a, p.UsableEnd)
		}
		l := load[a.Start]
		if l == nil {
			l = &plan.Slice{}
			load[a.Start] = l
		}
		l.Replacements++
		if it.Revalidate {
			l.Validations++
		}
	}
	for _, at := range told {
		if l := load[at]; l != nil {
			l.Notices++
		}
	}
	hours := p.SliceLength.Hours()
	for _, sl := range p.Slices {
		l := load[sl.Start]
		if l == nil {
			l = &plan.Slice{}
		}
		if l.Replacements != sl.Replacements || l.Validations != sl.Validations {
			t.Fatalf("slice %+v holds %+v", sl, *l)
		}
		for _, x := range []struct{ n, hourly int }{{sl.Replacements, s.Capacity.Signatures}, {sl.Validations, s.Capacity.Validations}, {sl.Notices, s.Capacity.Notices}} {
			if x.hourly > 0 && float64(x.n) >= float64(x.hourly)*hours+1 {
				t.Fatalf("%d in a slice of %s with %d an hour", x.n, p.SliceLength, x.hourly)
			}
		}
	}
	for _, w := range p.Waves {
		total += w.Items
	}
	if len(seen) != len(s.Items) || total != len(s.Items) || p.Items != total || unplaced != p.Unplaced {
		t.Fatalf("%d items, %d assigned, %d in waves, %d of %d unplaced", len(s.Items), len(seen), total, unplaced, p.Unplaced)
	}
	checkJobs(t, p)
}

func checkJobs(t *testing.T, p *plan.Plan) {
	t.Helper()
	for _, kind := range []bulkhead.JobKind{bulkhead.JobNotify, bulkhead.JobRevoke} {
		covered := map[int64]int{}
		for _, j := range p.Jobs {
			for n := j.First; j.Kind == kind && n <= j.Last; n++ {
				covered[n]++
			}
		}
		for _, a := range p.Assignments {
			due := map[bulkhead.JobKind]time.Time{bulkhead.JobNotify: a.NotifyAt, bulkhead.JobRevoke: a.RevokeAt}[kind]
			if want := map[bool]int{true: 0, false: 1}[due.IsZero()]; covered[a.Ordinal] != want {
				t.Fatalf("ordinal %d is in %d %s jobs", a.Ordinal, covered[a.Ordinal], kind)
			}
		}
	}
}

// TestSafeFirst: what is replaced is revoked first and at once, the own estate is replaced before anybody is told, what is
// critical is told first and revoked last, and what is held has no date.
func TestSafeFirst(t *testing.T) {
	s := plan.Snapshot{Now: now, Capacity: plan.Capacity{Signatures: 600, Notices: 60}}
	for n := range 300 {
		it := item(n)
		it.Replaced, it.Own, it.Critical, it.Held = n < 50, n >= 50 && n < 60, n >= 60 && n < 90, n == 299
		s.Items = append(s.Items, it)
	}
	p, _, _ := planned(t, s)
	if len(p.Waves) != 5 || p.Waves[0].Items != 50 || !p.Waves[0].LastRevoke.Equal(now) {
		t.Fatalf("%+v", p.Waves)
	}
	own, subscribers, critical := p.Waves[1], p.Waves[2], p.Waves[3]
	if own.LastWindow.After(subscribers.FirstNotice) || own.LastWindow.After(critical.FirstNotice) {
		t.Errorf("customers are told at %s, the own estate ends at %s", critical.FirstNotice, own.LastWindow)
	}
	if critical.LastNotice.After(subscribers.FirstNotice) || critical.FirstRevoke.Before(subscribers.LastRevoke) || !critical.FirstRevoke.Equal(p.ForceAt) {
		t.Errorf("critical %+v subscribers %+v", critical, subscribers)
	}
	if subscribers.LastWindow.After(now.Add(20*time.Hour)) || subscribers.LastWindow.Before(now.Add(16*time.Hour)) {
		t.Errorf("windows are not spread over the time left: they end at %s", subscribers.LastWindow)
	}
	if held := p.Waves[4]; held.Items != 1 || !held.FirstRevoke.IsZero() {
		t.Errorf("%+v", held)
	}
}

// TestNoReturn: the plan says when the deadline can no longer be met, and after that moment it says that it cannot.
func TestNoReturn(t *testing.T) {
	s := plan.Snapshot{Now: now, Capacity: plan.Capacity{Signatures: 100}}
	for n := range 1000 { // ten hours of work
		s.Items = append(s.Items, item(n))
	}
	p, _, _ := planned(t, s)
	if !p.Feasible() || !p.NoReturn.Equal(p.UsableEnd.Add(-10*time.Hour)) {
		t.Fatalf("no return at %s, usable end %s", p.NoReturn, p.UsableEnd)
	}
	s.Now = now.Add(16 * time.Hour)
	if p, _, _ = planned(t, s); p.Feasible() || p.Unplaced == 0 || !p.NoReturn.Before(s.Now) {
		t.Fatalf("unplaced %d, no return at %s", p.Unplaced, p.NoReturn)
	}
	s.Now = now.Add(24 * time.Hour)
	if _, _, _, err := plan.Make(s); bulkhead.KindOf(err) != bulkhead.KindGate {
		t.Fatalf("a plan without time: %v", err)
	}
	s.FinishBy = now.Add(90 * 24 * time.Hour)
	if p, _, _ = planned(t, s); !p.Late() || !p.Feasible() {
		t.Fatal("a plan of months is not late")
	}
}

// TestTwice: an item that stands twice is refused.
func TestTwice(t *testing.T) {
	if _, _, _, err := plan.Make(plan.Snapshot{Now: now, Items: []plan.Item{item(1), item(1)}}); bulkhead.KindOf(err) != bulkhead.KindMalformed {
		t.Fatal(err)
	}
}

// TestRisk plants slow notices, slow replacements and a world that no longer fits (D13), and shows silence without them.
func TestRisk(t *testing.T) {
	fine := plan.Progress{Now: now, UsableEnd: now.Add(10 * time.Hour), ForceAt: now.Add(11 * time.Hour), Capacity: plan.Capacity{Signatures: 100}, Total: 1000, Told: 900, DueTold: 1000, Replaced: 400, DueDone: 500}
	for name, c := range map[string]struct {
		change func(p *plan.Progress)
		want   bool
	}{
		"as planned":            {func(*plan.Progress) {}, false},
		"early":                 {func(p *plan.Progress) { p.Replaced, p.DueDone, p.Told, p.DueTold = 5, 40, 10, 45 }, false},
		"slow replacements":     {func(p *plan.Progress) { p.Replaced, p.DueDone = 240, 500 }, true},
		"slow notices":          {func(p *plan.Progress) { p.Told = 300 }, true},
		"fits no more":          {func(p *plan.Progress) { p.UsableEnd = now.Add(3 * time.Hour) }, true},
		"the clock acts":        {func(p *plan.Progress) { p.ForceAt, p.Replaced = now, 0 }, false},
		"nothing is to be done": {func(p *plan.Progress) { *p = plan.Progress{Now: now, ForceAt: now.Add(time.Hour)} }, false},
	} {
		p := fine
		if name == "early" {
			p.Capacity = plan.Capacity{}
		}
		c.change(&p)
		if name == "slow replacements" || name == "slow notices" {
			p.Capacity = plan.Capacity{}
		}
		if why, got := plan.Risk(p); got != c.want || got != (why != "") {
			t.Errorf("%s: %v %q", name, got, why)
		}
	}
}

func benchItems() int {
	if os.Getenv("BULKHEAD_TORTURE") != "" {
		return 1_000_000
	}
	return 100_000
}

// BenchmarkPlan plans a day; figures are per item.
func BenchmarkPlan(b *testing.B) {
	n := benchItems()
	s := plan.Snapshot{Now: now, Capacity: plan.Capacity{Signatures: n / 10, Validations: n / 10, Notices: n / 20}}
	for i := range n {
		s.Items = append(s.Items, item(i))
	}
	for b.Loop() {
		planned(b, s)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/item")
}
