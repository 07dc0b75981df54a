package drill

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"bulkhead"
	"bulkhead/incident/plan"
)

// behaviour is how one kind of subscriber comes to a replacement. Where no source is named, the number is an assumption.
type behaviour struct {
	name   string
	share  float64 // of all certificates
	source string
	// ari: comes when its window of renewal information is open, at its next look, some hours apart.
	ari bool
	// thirds: renews at two thirds of the lifetime and hears of nothing before; who is told acts by hand as well.
	thirds bool
	// median and spread of the time from the notice to the request, log-normal; 0: never acts on a notice.
	median time.Duration
	spread float64
	// install is the median time from the replacement to its being served.
	install time.Duration
	// twice: the first request has the old key and is refused; a second one follows after as long again.
	twice bool
}

// population is the ordinary one.
func population() []behaviour {
	return []behaviour{
		{name: "ACME with renewal information", share: 0.50, source: "RFC 9773 section 4.3: looks again after Retry-After, here 6 h; the share is an assumption", ari: true, install: time.Minute},
		{name: "ACME without it, reads mail", share: 0.15, source: "assumption", median: 10 * time.Hour, spread: 1, install: 10 * time.Minute},
		{name: "renews at two thirds of the lifetime only", share: 0.10, source: "assumption; the lifetime is 47 days", thirds: true, install: 10 * time.Minute},
		{name: "by hand", share: 0.15, source: "assumption: half have asked within 12 hours of the notice", median: 12 * time.Hour, spread: 1.2, install: 2 * time.Hour},
		{name: "by hand, first with the same key", share: 0.05, source: "Netcraft 2014: 7 % of reissues after Heartbleed kept the key", median: 12 * time.Hour, spread: 1.2, install: 2 * time.Hour, twice: true},
		{name: "cannot be reached", share: 0.05, source: "assumption"},
	}
}

// scenario is one bad day of POLICY 4.2.
type scenario struct {
	key, title string
	full       int           // certificates on the real day
	each       float64       // certificates of one account
	within     time.Duration // deadline after the house became aware
	held       float64       // share that a court has frozen
	noARI      float64       // share of the clients with renewal information that has none here
	noNotices  time.Duration // the notification provider is down at first
	noIssuance [2]time.Duration
	newKeys    bool
}

var scenarios = []scenario{
	{key: "a", title: "3 M of 116 M certificates within 24 h (2020)", full: 3_048_289, each: 7, within: day24},
	{key: "b", title: "83,267 certificates of 6,807 accounts within 24 h (2024)", full: 83_267, each: 83_267.0 / 6_807, within: day24},
	{key: "c", title: "one issuing authority lost, all of its leaves within 7 days", full: 1_000_000, each: 7, within: 7 * day24},
	{key: "d", title: "one key on 100,000 certificates within 24 h", full: 100_000, each: 1000, within: day24, newKeys: true},
	{key: "f", title: "the account of a registration partner was taken over", full: 20_000, each: 20_000, within: day24},
	{key: "g", title: "a court freezes 1 % for 7 days", full: 83_267, each: 12, within: day24, held: 0.01},
	{key: "h", title: "half of the clients have no renewal information", full: 83_267, each: 12, within: day24, noARI: 0.5},
	{key: "i", title: "the notification provider is down for the first 6 h", full: 83_267, each: 12, within: day24, noNotices: 6 * time.Hour},
	{key: "j", title: "no CT log answers from the 2nd to the 8th hour: nothing is issued", full: 83_267, each: 12, within: day24, noIssuance: [2]time.Duration{2 * time.Hour, 8 * time.Hour}},
}

// rates are what the house does in a second, as measured in the same run.
type rates struct{ issue, revoke float64 }

// world is the simulated population of one scenario.
type world struct {
	scenario
	rates
	now      time.Time
	accounts int
	kinds    []behaviour
	kind     []uint8 // of each item
	items    []plan.Item
	plan     *plan.Plan
	rng      *rand.Rand
}

// outcome is what became of it, in numbers at the end of each hour.
type outcome struct {
	hours                                 []hour
	total, held, dark, refused            int // dark: revoked by the clock without an installed replacement; refused: same-key requests
	waitIssue, waitRevoke, waitPeople     time.Duration
	firstRevoked, lastRevoked, lastNotice time.Duration
	overdue                               int // at the deadline, without those on hold
	atClock                               int // left to the clock
	bottleneck                            string
}

type hour struct{ asked, replaced, installed, revoked, overdue int }

const lifetime = 47 * day24 // of the certificates

// populate makes n certificates with accounts, ages and behaviours; the same scenario and n give the same world.
func populate(sc scenario, n int, now time.Time) *world {
	w := &world{scenario: sc, now: now.UTC().Truncate(time.Second), rng: rand.New(rand.NewPCG(2014, uint64(n))), kinds: population()}
	w.items, w.kind = make([]plan.Item, n), make([]uint8, n)
	accounts := max(1, int(float64(n)/sc.each))
	w.accounts = accounts
	names := make([]string, accounts)
	behaves := make([]uint8, accounts)
	for i := range names {
		names[i], behaves[i] = fmt.Sprintf("a%07d", i), w.draw()
	}
	for i := range w.items {
		a := w.rng.IntN(accounts)
		age := time.Duration(w.rng.Int64N(int64(lifetime * 2 / 3)))
		var b [16]byte
		b[0] = 1
		binary.BigEndian.PutUint64(b[8:], uint64(i+1))
		serial, _ := bulkhead.SerialFromBytes(b[:]) // sixteen octets are always a serial
		w.items[i] = plan.Item{CertificateRef: bulkhead.CertificateRef{Issuer: "issuing", Serial: serial}, IntentSeq: int64(i + 1), Product: "tls", Account: names[a],
			Revalidate: age > 10*day24, Deadline: w.now.Add(sc.within), Held: w.rng.Float64() < sc.held}
		if w.kind[i] = behaves[a]; accounts < 100 { // a few large accounts are no crowd: their certificates act one by one
			w.kind[i] = w.draw()
		}
	}
	return w
}

// draw picks a behaviour by the shares.
func (w *world) draw() uint8 {
	x := w.rng.Float64()
	for i, k := range w.kinds {
		if x -= k.share; x < 0 {
			if k.ari && w.rng.Float64() < w.noARI {
				return uint8(i + 1)
			}
			return uint8(i)
		}
	}
	return uint8(len(w.kinds) - 1)
}

// make plans with the real planner at the measured rate of issuance.
func (w *world) make(c plan.Capacity) error {
	c.Signatures = max(1, int(w.issue*3600))
	p, _, _, err := plan.Make(plan.Snapshot{Incident: "drill", Now: w.now, Capacity: c, Items: w.items})
	w.plan = p
	return err
}

const never = math.MaxFloat64

// after is a log-normal time in seconds.
func (w *world) after(median time.Duration, spread float64) float64 {
	if median == 0 {
		return never
	}
	return median.Seconds() * math.Exp(spread*w.rng.NormFloat64())
}

// asks is when the holder of an item asks for a replacement, in seconds since the beginning, and how many of its requests
// are refused before.
func (w *world) asks(a plan.Assignment) (at float64, refused int) {
	k := w.kinds[w.kind[a.Index]]
	notice := a.NotifyAt.Sub(w.now).Seconds()
	if until := w.noNotices.Seconds(); notice < until {
		notice = until
	}
	switch {
	case k.ari && !a.Start.IsZero():
		// It picks a moment of the window, and sees the window at its next look; one that looks too late asks at once.
		pick := a.Start.Sub(w.now).Seconds() + w.rng.Float64()*a.End.Sub(a.Start).Seconds()
		return max(pick, w.rng.Float64()*6*3600), 0
	case k.thirds:
		return w.rng.Float64() * (lifetime * 2 / 3).Seconds(), 0
	}
	at = notice + w.after(k.median, k.spread)
	if k.twice && at < never {
		return at + w.after(k.median, k.spread), 1
	}
	return at, 0
}

type event struct {
	at   float64
	item int32
}

// serve takes events in order through one door of a rate and returns the mean wait. Nothing passes while it is closed.
func serve(events []event, rate float64, closed [2]time.Duration) (mean time.Duration) {
	slices.SortFunc(events, func(a, b event) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.item, b.item))
	})
	free, sum, n := 0.0, 0.0, 0
	for i := range events {
		if events[i].at >= never {
			break
		}
		start := max(free, events[i].at)
		if from, to := closed[0].Seconds(), closed[1].Seconds(); start >= from && start < to {
			start = to
		}
		free = start + 1/rate
		sum += free - events[i].at
		events[i].at = free
		n++
	}
	if n == 0 {
		return 0
	}
	return time.Duration(sum / float64(n) * float64(time.Second))
}

// run lets the day pass.
func (w *world) run() outcome {
	o := outcome{total: len(w.items)}
	as := w.plan.Assignments
	asked := make([]event, 0, len(as))
	byIndex := make([]int32, len(w.items))
	people := 0.0
	reached := 0
	for i, a := range as {
		byIndex[a.Index] = int32(i)
		o.lastNotice = max(o.lastNotice, max(a.NotifyAt.Sub(w.now), w.noNotices))
		at, refused := w.asks(a)
		o.refused += refused
		if a.Wave == plan.Held {
			o.held++
		}
		if end := w.plan.ForceAt.Sub(w.now).Seconds(); at < end {
			people, reached = people+at-min(at, a.NotifyAt.Sub(w.now).Seconds()), reached+1
		}
		asked = append(asked, event{at, int32(a.Index)})
	}
	if reached > 0 {
		o.waitPeople = time.Duration(people / float64(reached) * float64(time.Second))
	}
	last := int(w.within.Hours())
	o.hours = make([]hour, last+1)
	count := func(at float64, f func(*hour)) {
		if at < never && at <= w.within.Seconds() {
			f(&o.hours[min(last, int(math.Ceil(at/3600)))])
		}
	}
	for _, e := range asked {
		count(e.at, func(h *hour) { h.asked++ })
	}
	o.waitIssue = serve(asked, w.issue, w.noIssuance)
	revoke := w.install(asked, as, byIndex, &o, count)
	o.waitRevoke = serve(revoke, w.revoke, [2]time.Duration{})
	for _, e := range revoke {
		count(e.at, func(h *hour) { h.revoked++ })
		if e.at > w.within.Seconds() {
			o.overdue++
		}
		o.lastRevoked = max(o.lastRevoked, time.Duration(e.at*float64(time.Second)))
	}
	if len(revoke) > 0 {
		o.firstRevoked = time.Duration(revoke[0].at * float64(time.Second))
	}
	o.sum()
	o.bottleneck = w.narrow(o)
	return o
}

// install gives the times at which old certificates may be revoked: at their date when the replacement is served, when it is
// served later, or by the clock.
func (w *world) install(replaced []event, as []plan.Assignment, byIndex []int32, o *outcome, count func(float64, func(*hour))) []event {
	force := w.plan.ForceAt.Sub(w.now).Seconds()
	out := make([]event, 0, len(replaced))
	for _, e := range replaced {
		a := as[byIndex[e.item]]
		count(e.at, func(h *hour) { h.replaced++ })
		served := never
		if e.at < never {
			served = e.at + w.after(max(w.kinds[w.kind[e.item]].install, time.Second), 0.5)
			count(served, func(h *hour) { h.installed++ })
		}
		if a.Wave == plan.Held {
			continue
		}
		at := max(a.RevokeAt.Sub(w.now).Seconds(), served)
		if at >= force {
			o.atClock++
		}
		if at > force {
			if at = force; served > force {
				o.dark++
			}
		}
		out = append(out, event{at, e.item})
	}
	return out
}

// sum makes the numbers of each hour cumulative.
func (o *outcome) sum() {
	for i := 1; i < len(o.hours); i++ {
		h, p := &o.hours[i], o.hours[i-1]
		h.asked, h.replaced, h.installed, h.revoked = h.asked+p.asked, h.replaced+p.replaced, h.installed+p.installed, h.revoked+p.revoked
	}
	if n := len(o.hours); n > 0 {
		o.hours[n-1].overdue = o.total - o.held - o.hours[n-1].revoked
	}
}

// narrow names what the day waits for longest.
func (w *world) narrow(o outcome) string {
	if o.overdue > 0 && w.plan.Unplaced == 0 { // however long people take, the clock revokes: what is late then waited for that
		return fmt.Sprintf("revocation (on average %s; %d overdue)", o.waitRevoke.Round(time.Second), o.overdue)
	}
	type wait struct {
		what string
		long time.Duration
	}
	all := []wait{{"issuance", o.waitIssue}, {"revocation", o.waitRevoke}, {"notices", o.lastNotice / 2}, {"people and clients, from the notice to the request", o.waitPeople}}
	slices.SortFunc(all, func(a, b wait) int { return cmp.Compare(b.long, a.long) })
	return fmt.Sprintf("%s (on average %s; next: %s, %s)", all[0].what, all[0].long.Round(time.Second), all[1].what, all[1].long.Round(time.Second))
}

// table prints the hours.
func (o outcome) table() []string {
	every := 1
	if len(o.hours) > 49 {
		every = 6
	}
	lines := []string{"  hour      asked   replaced  installed    revoked    overdue"}
	for i := 0; i < len(o.hours); i += every {
		h := o.hours[i]
		lines = append(lines, fmt.Sprintf("%6d %10d %10d %10d %10d %10d", i, h.asked, h.replaced, h.installed, h.revoked, h.overdue))
	}
	return lines
}
