package drill

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/incident/plan"
	"bulkhead/pki/ocsp"
)

// massRevocation is the yearly rehearsal of BR 5.7.1.2: as many certificates as on the worst days, none of them a
// subscriber's.
var massRevocation = Day{
	Name: "mass-revocation", Title: "Millions of certificates within a day: plan, windows, notices, replacements, revocations; --scenario a to j but e, which is cross-root-2016",
	Source: "BR 5.7.1.2; the days of 2020-03 (3,048,289 certificates) and 2024-07 (83,267 certificates of 6,807 accounts)",
	Historic: []Moment{
		{0, "2020-02-29", "a fault in the check of CAA is found; 3,048,289 certificates must be revoked within 5 days"},
		{5 * day24, "2020-03-05", "at the deadline more than 1.7 million are replaced and revoked; the rest is left, and ends by itself within months"},
	},
	Wants: []string{"P4.2-4", "P4.2-5", "P4.2-8", "S3-10"},
	run:   playMassRevocation,
}

const massScale = 10_000

// sampleFor is how many certificates go the whole way for n of the population. A change costs a fixed part and one for each
// certificate: where a campaign revokes thousands by one change, a hundred would measure the fixed part.
func sampleFor(n int) int {
	if n > 200_000 {
		return 1000
	}
	return min(100, max(10, n/20))
}

func playMassRevocation(_ context.Context, s *Stage) error {
	sc, err := pickScenario(s.o.Scenario)
	if err != nil {
		return err
	}
	n := s.o.Scale
	if n <= 0 {
		n = massScale
	}
	r, err := s.sample(sampleFor(n))
	if err != nil {
		return err
	}
	s.began = s.clock.now().UTC().Truncate(time.Second)
	took := time.Now()
	w := populate(sc, n, s.clock.now())
	w.rates = r
	notices := s.o.Notices
	if notices <= 0 {
		notices = w.withinTheHour()
	}
	if err := w.make(plan.Capacity{Validations: 100_000, Notices: notices}); err != nil {
		return err
	}
	s.say(fmt.Sprintf("Scenario %s, %s: %d certificates of %d accounts (on the day %d) planned in %s", sc.key, sc.title, n, w.plan.Accounts, sc.full, time.Since(took).Round(time.Millisecond)), w.words()...)
	if err := s.samePlan(w); err != nil {
		return err
	}
	took = time.Now()
	o := w.run()
	s.clock.advance(sc.within)
	s.say(fmt.Sprintf("The day, simulated in %s: %d revoked by the deadline, %d overdue, %d on hold; %d went dark: revoked by the clock before a replacement was served; %d requests with the same key were refused",
		time.Since(took).Round(time.Millisecond), o.hours[len(o.hours)-1].revoked, o.overdue, o.held, o.dark, o.refused), append(o.table(), "what the day waits for longest: "+o.bottleneck)...)
	end := o.hours[len(o.hours)-1]
	s.check("P4.2-4", o.overdue == 0 && end.revoked+o.held == o.total, "everything but what is on hold is revoked by the deadline", "first at %s, last at %s; %d overdue%s", Elapsed(o.firstRevoked), Elapsed(o.lastRevoked), o.overdue, w.tooSlow(o))
	clock := w.plan.ForceAt.Sub(w.now)
	s.check("P4.2-5", o.lastNotice < clock, "every account is told before the clock acts", "%s", w.noticeWords(notices, o.lastNotice, clock, s.o))
	s.check("S3-10", end.revoked+o.held+end.overdue == o.total && monotone(o.hours), "the numbers of each hour sum up and never fall", "%d revoked, %d held, %d overdue of %d", end.revoked, o.held, end.overdue, o.total)
	s.measured(fmt.Sprintf("issuance (%.0f a second) and revocation (%.0f a second, in one change, as the campaign does it) on a sample, on this machine in this run, with everything else that it did at the time", r.issue, r.revoke))
	s.measured("the plan: the planner of the house, at full size")
	for _, k := range w.kinds {
		s.simulated(fmt.Sprintf("%s: %.0f %% (%s)", k.name, 100*k.share, k.source))
	}
	s.simulated("all requests, installations and revocations of the population: they pass through doors with the measured rates, and not through the house; 100,000 validations and " + thousands(notices) + " notices an hour are what the plan was given, not measured")
	return nil
}

// tooSlow names what keeps a day from its deadline, with the rate that would do.
func (w *world) tooSlow(o outcome) string {
	if o.overdue == 0 {
		return ""
	}
	margin := w.within - w.plan.ForceAt.Sub(w.now)
	return fmt.Sprintf("; revocation is the bottleneck: %.0f a second on this machine now, and %.0f are needed from the clock to the deadline for the %s that are left to it; rehearse on a machine that does nothing else",
		w.revoke, math.Ceil(float64(o.atClock)/margin.Seconds()), thousands(o.atClock))
}

// houseNotices is the default of incident.capacity.notices.
const houseNotices = 20_000

// withinTheHour is the messages of an hour that reach every account within it, as the plan for mass revocation wants it
// (BR 5.7.1.2); never less than the default of the configuration.
func (w *world) withinTheHour() int { return max(houseNotices, w.accounts) }

// noticeWords says what the relay must take. Where it is the bottleneck, they name the command that passes.
func (w *world) noticeWords(notices int, last, clock time.Duration, o Options) string {
	out := fmt.Sprintf("at %s notices an hour for %s accounts the last at %s, the clock at %s", thousands(notices), thousands(w.accounts), Elapsed(last), Elapsed(clock))
	if notices > houseNotices {
		out += fmt.Sprintf("; the configuration's default is %s: a house of this size sets incident.capacity.notices to what its relay takes and rehearses that with --notices", thousands(houseNotices))
	}
	if last >= clock {
		out += fmt.Sprintf("; the relay is the bottleneck: incident.capacity.notices: %d, and bulkhead drill run mass-revocation --scenario %s --scale %d --notices %d", w.withinTheHour(), w.key, len(w.items), w.withinTheHour())
	}
	return out
}

// thousands prints a number for people.
func thousands(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func pickScenario(key string) (scenario, error) {
	if key == "" {
		key = "a"
	}
	if key == "e" {
		return scenario{}, bulkhead.NewFault(bulkhead.KindUsage, "scenario e, status that is wrong and kept in cache tiers (8 h, 1 h, 4 d), is a day of its own: nothing is replaced on it; the drill cross-root-2016 plays it").
			WithHint("bulkhead drill run cross-root-2016, or with Varnish and nginx: bulkhead drill run cross-root-2016 --real-caches")
	}
	var known []string
	for _, sc := range scenarios {
		if sc.key == key {
			return sc, nil
		}
		known = append(known, sc.key)
	}
	return scenario{}, bulkhead.Faultf(bulkhead.KindUsage, "there is no scenario %q", key).WithHint("--scenario " + strings.Join(known, ", "))
}

func monotone(hours []hour) bool {
	for i := 1; i < len(hours); i++ {
		a, b := hours[i-1], hours[i]
		if b.asked < a.asked || b.replaced < a.replaced || b.installed < a.installed || b.revoked < a.revoked || b.replaced > b.asked || b.installed > b.replaced {
			return false
		}
	}
	return true
}

// words says what the plan comes to.
func (w *world) words() []string {
	p := w.plan
	out := []string{fmt.Sprintf("deadline after %s, usable until %s, the clock acts at %s, no return after %s; %d have no window", Elapsed(p.FinishBy.Sub(w.now)), Elapsed(p.UsableEnd.Sub(w.now)), Elapsed(p.ForceAt.Sub(w.now)), Elapsed(p.NoReturn.Sub(w.now)), p.Unplaced)}
	for _, x := range p.Waves {
		out = append(out, fmt.Sprintf("wave %d, %s: %d", x.Wave, x.Name, x.Items))
	}
	return out
}

// samePlan holds the plan against one of the same items in another order; large ones take too long for that.
func (s *Stage) samePlan(w *world) error {
	const most = 100_000
	if len(w.items) > most {
		s.check("P4.2-8", true, "the rehearsal is apart: its certificates are of its own keys, in its own directory", "plan %s", w.plan.Digest)
		return nil
	}
	items := slices.Clone(w.items)
	rng := rand.New(rand.NewPCG(1, 1))
	rng.Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
	p, _, _, err := plan.Make(plan.Snapshot{Incident: "drill", Now: w.now, Capacity: w.plan.Capacity, Items: items})
	if err != nil {
		return err
	}
	s.check("P4.2-8", p.Digest == w.plan.Digest, "the rehearsal is apart, and the same certificates in another order give the same plan", "%s", p.Digest)
	return nil
}

// sample issues, replaces and revokes for real and measures how fast that goes here and now.
func (s *Stage) sample(n int) (rates, error) {
	var r rates
	h, err := s.house("house", []string{"mass"}, ownClock, nil)
	if err != nil {
		return r, err
	}
	own, err := h.reh.OwnAccount(s.ctx)
	if err != nil {
		return r, err
	}
	if err := h.start(); err != nil {
		return r, err
	}
	first, err := s.issueMany(h, own, n, nil)
	if err != nil {
		return r, err
	}
	desk := h.reh.Desk()
	superseded := bulkhead.Superseded
	scope := bulkhead.Scope{Accounts: []string{own.ID}}
	i, err := desk.Open(s.ctx, "operator:operator-1", bulkhead.IncidentIntake{Title: "rehearsal of mass revocation", Playbook: "mass-revocation", Reason: &superseded, Scope: scope})
	if err != nil {
		return r, err
	}
	c, _, err := desk.Plan(s.ctx, "operator:operator-1", bulkhead.CampaignRequest{Incident: i.ID, Needs: &bulkhead.CampaignNeeds{}})
	if err != nil {
		return r, err
	}
	if err := h.reh.StartCampaign(s.ctx, c, "rehearsal"); err != nil {
		return r, err
	}
	if err := desk.Tick(s.ctx); err != nil {
		return r, err
	}
	t0 := time.Now()
	if _, err := s.issueMany(h, own, n, first); err != nil {
		return r, err
	}
	r.issue = float64(n) / time.Since(t0).Seconds()
	if err := desk.Tick(s.ctx); err != nil {
		return r, err
	}
	s.clock.advance(c.ForceAt.Sub(s.clock.now()) + time.Minute)
	if err := h.look(); err != nil { // answers that grew old in the jump are signed anew first
		return r, err
	}
	t0 = time.Now()
	for range 5 {
		if err := desk.Tick(s.ctx); err != nil {
			return r, err
		}
		_, t, _, err := desk.Status(s.ctx, c.ID)
		if err != nil {
			return r, err
		}
		if t.ByState[bulkhead.ItemRevoked] == t.Total {
			break
		}
		s.clock.advance(time.Minute)
	}
	r.revoke = float64(n) / time.Since(t0).Seconds()
	if err := h.look(); err != nil {
		return r, err
	}
	revoked := 0
	for _, x := range first {
		a, err := h.status(x.Certificate.CertificateRef)
		if err != nil {
			return r, err
		}
		if a.State == ocsp.Revoked {
			revoked++
		}
	}
	_, t, troubled, err := desk.Status(s.ctx, c.ID)
	if err != nil {
		return r, err
	}
	problem := ""
	for _, j := range troubled {
		problem = j.Problem
	}
	s.say(fmt.Sprintf("A sample for real: %d certificates issued, replaced (%.0f a second) and revoked by a campaign (%.0f a second)", n, r.issue, r.revoke))
	s.check("P4.2-8", revoked == n && t.ByState[bulkhead.ItemRevoked] == t.Total && int(t.Total) == n, "the sample went the whole way: planned, replaced, revoked, seen at the edge", "%d of %d revoked at the edge; %s; %d overdue %s", revoked, n, counted(t.ByState), t.Overdue, problem)
	return r, nil
}

// issueMany orders n certificates of the house's own, four at a time; with old ones given, their replacements.
func (s *Stage) issueMany(h *shadow, own bulkhead.Account, n int, old []bulkhead.IssuedCertificate) ([]bulkhead.IssuedCertificate, error) {
	out := make([]bulkhead.IssuedCertificate, n)
	errs := make(chan error, 4)
	for part := range 4 {
		go func() {
			for i := part; i < n; i += 4 {
				key, err := newKey()
				if err != nil {
					errs <- err
					return
				}
				name := fmt.Sprintf("w%d.mass.test", i)
				csr, err := requestWith(key, name)
				var replaces bulkhead.CertificateRef
				if old != nil {
					replaces = old[i].Certificate.CertificateRef
				}
				if err == nil {
					out[i], err = h.reh.Order(s.ctx, own, "", "mass", csr, replaces)
				}
				if err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	var first error
	for range 4 {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return out, first
}
