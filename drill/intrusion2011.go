package drill

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bulkhead"
	"bulkhead/pki/ocsp"
	"bulkhead/run"
)

// intrusion2011 is the day on which an attacker claimed to be inside, and nothing was known.
var intrusion2011 = Day{
	Name: "intrusion-2011", Title: "An attacker claims to be inside: stop at once, keep status alive, prove what did not happen, go on",
	Source: "GMO GlobalSign, final report of 2011-12-14 (dates in JST)",
	Historic: []Moment{
		{0, "09-06", "Comodohacker claims on Pastebin to have broken into several authorities and names GlobalSign"},
		{day24, "09-07", "issuance of new certificates is stopped, without proof of the claim"},
		{3 * day24, "09-09", "traces of an intrusion at the web server of the sales site; its certificate is revoked and its key destroyed"},
		{9 * day24, "09-15", "service goes on after rebuilding; every customer's password is reset"},
		{99 * day24, "12-14", "final report: no rogue certificate, no loss of customers' data, no access to keys, HSM, issuing or registration authority"},
	},
	Wants: []string{"S0-1", "S0-2", "S0-3", "S0-4", "S0-5", "S0-13", "S0-14"},
	Hour:  6,
	run:   playIntrusion2011,
}

// day2011 is the day while it is played.
type day2011 struct {
	*Stage
	house    *shadow
	web      *web
	own      bulkhead.Account
	webKey   *ecdsa.PrivateKey // of the sales site
	webCert  bulkhead.IssuedCertificate
	victim   bulkhead.IssuedCertificate // revoked while issuance stands still
	incident bulkhead.Incident
	stop     bulkhead.Stop
	callers  []*caller
}

// caller orders over and over, as a client of ACME.
type caller struct {
	name    string
	account bulkhead.Account
	ready   atomic.Int64 // certificates received
	last    atomic.Int64 // when the last one came, real time in nanoseconds
	refused atomic.Int64 // orders refused because issuance is stopped
	waiting atomic.Int64 // orders in flight when the stop came: neither signed nor failed
	other   atomic.Pointer[error]
}

func playIntrusion2011(_ context.Context, s *Stage) error {
	d := &day2011{Stage: s}
	for _, act := range []func() error{d.build, d.scoped, d.stopAll, d.alive, d.triage, d.prove, d.reset, d.resume, d.tell} {
		if err := act(); err != nil {
			return err
		}
	}
	s.measured("the stop under load: callers that order by the path of ACME, with http-01 on loopback, from the commit of the stop to the last certificate that anybody received, in real time")
	s.measured("stops, refusals, OCSP at the edge, revocation, compromise of a key, the proof of the six negatives, reset of credentials, approvals, timeline: real compartments")
	s.simulated("people, and the dates of the day: the clock is moved to the hours at which they acted, and jumps; so an alarm that the evidence log's checkpoint is old may stand in the timeline")
	s.simulated("not in this drill: OpenSSL and GnuTLS looking at each change, because they go by the machine's clock and this day has its own")
	s.simulated("the intruder: nothing is broken into; which key is exposed is given")
	return nil
}

func (d *day2011) build() error {
	var err error
	if d.web, err = d.newWeb(); err != nil {
		return err
	}
	d.house, err = d.Stage.house("house", []string{"sales"}, func(c *run.Config) {
		c.ValidateHTTPPort, c.ValidateTLSPort, c.PrivateTargets = d.web.HTTPPort, d.web.TLSPort, true
		c.RateLimits = run.RateLimits{}
		ownClock(c)
	}, nil)
	if err != nil {
		return err
	}
	if d.own, err = d.house.reh.OwnAccount(d.ctx); err != nil {
		return err
	}
	if d.webKey, err = newKey(); err != nil {
		return err
	}
	csr, err := requestWith(d.webKey, "www.house.test")
	if err != nil {
		return err
	}
	if d.webCert, err = d.house.reh.Order(d.ctx, d.own, "", "sales", csr, bulkhead.CertificateRef{}); err != nil {
		return err
	}
	if d.victim, err = d.house.reh.Issue(d.ctx, "", "sales", "left.house.test"); err != nil {
		return err
	}
	n := d.o.Scale
	if n <= 0 {
		n = 8
	}
	for i := range n {
		key, err := newKey()
		if err != nil {
			return err
		}
		c := &caller{name: fmt.Sprintf("caller%d.localhost", i)}
		if c.account, err = d.house.reh.ACMEAccount(d.ctx, &key.PublicKey); err != nil {
			return err
		}
		if _, err := d.order(c, bulkhead.HTTP01); err != nil {
			return err
		}
		d.callers = append(d.callers, c)
	}
	if err := d.house.start(); err != nil {
		return err
	}
	if err := d.house.look(); err != nil {
		return err
	}
	d.began = d.clock.now().UTC().Truncate(time.Second)
	d.incident, err = d.house.reh.Desk().Open(d.ctx, "operator:operator-1", bulkhead.IncidentIntake{Title: "an attacker claims to be inside", Playbook: "intrusion-2011"})
	if err != nil {
		return err
	}
	d.say(fmt.Sprintf("06:00: the claim becomes known; an incident is opened. %d clients order certificates as on any day", n))
	return nil
}

// order is one order of a caller with a new key.
func (d *day2011) order(c *caller, m bulkhead.Method) (bulkhead.IssuedCertificate, error) {
	key, err := newKey()
	if err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	csr, err := requestWith(key, c.name)
	if err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	return d.house.reh.Subscribe(d.ctx, c.account, "sales", csr, bulkhead.CertificateRef{}, m, d.web.show)
}

// other is the issuing authority that the claim names.
const other bulkhead.AuthorityID = "issuing-rsa2048"

// pass lets time pass as a house spends it: its log is under a checkpoint before, and it looks at its status after.
func (d *day2011) pass(t time.Duration) error {
	if err := d.house.reh.Covered(d.ctx); err != nil {
		return err
	}
	d.clock.advance(t)
	return d.house.look()
}

// stopped reports whether an error is the refusal of a stop.
func stopped(err error) bool { return err != nil && bulkhead.KindOf(err) == bulkhead.KindStopped }

// endStop takes a stop through the quorum with both operators.
func (d *day2011) endStop(x bulkhead.Stop, why string) error {
	req, err := d.house.reh.AskResume(d.ctx, x, why)
	for i := 0; i < 2 && err == nil; i++ {
		err = d.house.reh.Sign(d.ctx, req.ID, i)
	}
	return err
}

// scoped: a stop of one issuer, and of one method, stops that and nothing else.
func (d *day2011) scoped() error {
	try := func(authority bulkhead.AuthorityID) error {
		key, err := newKey()
		if err != nil {
			return err
		}
		csr, err := requestWith(key, "try.house.test")
		if err != nil {
			return err
		}
		_, err = d.house.reh.Order(d.ctx, d.own, authority, "sales", csr, bulkhead.CertificateRef{})
		return err
	}
	enroll := d.house.roles.Enroll
	one, err := enroll.Stop(d.ctx, "operator:operator-1", bulkhead.Stop{Kind: bulkhead.StopIssuer, Value: string(other), Reason: "the claim names it"})
	if err != nil {
		return err
	}
	a, b := try(other), try("")
	two, err := enroll.Stop(d.ctx, "operator:operator-1", bulkhead.Stop{Kind: bulkhead.StopMethod, Value: string(bulkhead.HTTP01), Reason: "in doubt"})
	if err != nil {
		return err
	}
	c := d.callers[0]
	_, byStopped := d.order(c, bulkhead.HTTP01)
	_, byOther := d.order(c, bulkhead.TLSALPN01)
	d.say("Before all is stopped: one issuer and one validation method were stopped by one person each")
	d.check("S0-2", stopped(a) && b == nil, "a stop of one issuer stops it and no other", "%s: %v; the other: %v", other, a, b)
	d.check("S0-2", byStopped != nil && byOther == nil, "a stop of one method stops orders that rest on it and no others", "http-01: %v; tls-alpn-01: %v", byStopped, byOther)
	for _, x := range []bulkhead.Stop{one, two} {
		if err := d.endStop(x, "rehearsed"); err != nil {
			return err
		}
	}
	return nil
}

// stopAll stops under load and measures how long anything was still signed.
func (d *day2011) stopAll() error {
	ctx, cancel := context.WithCancel(d.ctx)
	defer cancel()
	var wg sync.WaitGroup
	for _, c := range d.callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				switch _, err := d.order(c, bulkhead.HTTP01); {
				case err == nil:
					c.ready.Add(1)
					c.last.Store(time.Now().UnixNano())
				case stopped(err):
					c.refused.Add(1)
				case bulkhead.KindOf(err) == bulkhead.KindUnavailable:
					c.waiting.Add(1)
				default:
					c.other.Store(&err)
				}
			}
		})
	}
	if err := d.until(func() bool { return d.sum(func(c *caller) int64 { return c.ready.Load() }) >= int64(len(d.callers)) }); err != nil {
		return err
	}
	d.clock.advance(10 * time.Minute)
	asked := time.Now()
	var err error
	d.stop, err = d.house.roles.Enroll.Stop(d.ctx, "operator:operator-1", bulkhead.Stop{Kind: bulkhead.StopAll, Reason: "an attacker claims to be inside; nothing is proved"})
	if err != nil {
		return err
	}
	took, before := time.Since(asked), d.sum(func(c *caller) int64 { return c.ready.Load() })
	if err := d.until(func() bool {
		return !slices.ContainsFunc(d.callers, func(c *caller) bool { return c.refused.Load() < 2 })
	}); err != nil {
		return err
	}
	cancel()
	wg.Wait()
	var last time.Duration
	var odd []string
	for _, c := range d.callers {
		last = max(last, time.Unix(0, c.last.Load()).Sub(asked))
		if e := c.other.Load(); e != nil {
			odd = append(odd, (*e).Error())
		}
	}
	refused := d.sum(func(c *caller) int64 { return c.refused.Load() })
	d.say(fmt.Sprintf("One person stopped all issuance, without proof, ten minutes after the claim (on the day: the next day). %d certificates had been issued under load; %d orders were refused afterwards", before, refused),
		fmt.Sprintf("the command took %s; the last certificate was received %s after it was given; %d orders in flight wait, unsigned, for the end of the stop", took.Round(time.Millisecond), last.Round(time.Millisecond), d.sum(func(c *caller) int64 { return c.waiting.Load() })))
	d.check("S0-1", last < 5*time.Second && refused > 0 && len(odd) == 0, "from the command to the last signature under load less than five seconds, then clean refusals", "%s; failures of another kind: %d %s", last.Round(time.Millisecond), len(odd), strings.Join(odd, "; "))
	_, err = d.house.reh.Issue(d.ctx, "", "sales", "more.house.test")
	d.check("S0-1", stopped(err), "an operator's order is refused as well", "%v", err)
	return nil
}

func (d *day2011) sum(of func(*caller) int64) (n int64) {
	for _, c := range d.callers {
		n += of(c)
	}
	return n
}

// until waits in real time for what callers do.
func (d *day2011) until(done func() bool) error {
	ctx, cancel := context.WithTimeout(d.ctx, time.Minute)
	defer cancel()
	for !done() {
		select {
		case <-ctx.Done():
			return bulkhead.NewFault(bulkhead.KindUnavailable, "the callers did not come far enough within a minute")
		case <-time.After(2 * time.Millisecond):
		}
	}
	return nil
}

// alive: status, revocation and evidence go on while issuance stands still.
func (d *day2011) alive() error {
	if err := d.pass(13 * time.Hour); err != nil { // beyond half of the life of an answer: what is served now was signed during the stop
		return err
	}
	good, err := d.house.status(d.webCert.Certificate.CertificateRef)
	if err != nil {
		return err
	}
	fresh := good.State == ocsp.Good && good.NextUpdate.After(d.clock.now()) && good.ThisUpdate.After(d.stop.At)
	c, err := d.house.roles.Status.PlanRevocation(d.ctx, "operator:operator-1", "asked for by its holder", []bulkhead.ChangeItem{{CertificateRef: d.victim.Certificate.CertificateRef, Reason: bulkhead.CessationOfOperation}})
	if err != nil {
		return err
	}
	if err := d.house.reh.Approve(d.ctx, c, "asked for by its holder"); err != nil {
		return err
	}
	if err := d.house.look(); err != nil {
		return err
	}
	after, err := d.house.status(d.victim.Certificate.CertificateRef)
	if err != nil {
		return err
	}
	d.say("While issuance stands still: answers were signed anew, and a revocation went through to the edge")
	d.check("S0-1", fresh && after.State == ocsp.Revoked, "status and revocation go on during the stop", "an answer of %s is good; the revoked one is %s", good.ThisUpdate.UTC().Format(time.RFC3339), after.State)
	return nil
}

// reset: every credential of customers is worth nothing from now on.
func (d *day2011) reset() error {
	enroll := d.house.roles.Enroll
	_, token, err := enroll.NewTokenAccount(d.ctx, "operator:operator-1", false)
	if err != nil {
		return err
	}
	if _, err := enroll.AccountByToken(d.ctx, token); err != nil {
		return err
	}
	n, err := enroll.ResetCredentials(d.ctx, "operator:operator-1", "all customers' credentials, as on 2011-09-15")
	if err != nil {
		return err
	}
	_, after := enroll.AccountByToken(d.ctx, token)
	rolled, err := enroll.RollAccounts(d.ctx, "operator:operator-1", "keys may be known")
	if err != nil {
		return err
	}
	acct, err := enroll.AnyAccount(d.ctx, d.callers[0].account.ID)
	if err != nil {
		return err
	}
	mustRoll := acct.MayOrder()
	d.say(fmt.Sprintf("Every credential of customers was reset in one action: %d tokens; %d ACME accounts must change their keys", n.Tokens, rolled))
	d.check("S0-13", after != nil && n.Tokens > 0 && mustRoll != nil, "a token that was good is refused at its next use, an ACME account must change its key before it orders", "token: %v; account: %v", after, mustRoll)
	return nil
}

// resume: one person cannot, two can.
func (d *day2011) resume() error {
	if err := d.pass(time.Hour); err != nil {
		return err
	}
	why := "the house was looked through; nothing was found at keys, issuing or registration"
	req, err := d.house.reh.AskResume(d.ctx, d.stop, why)
	if err != nil {
		return err
	}
	if err := d.house.reh.Sign(d.ctx, req.ID, 0); err != nil {
		return err
	}
	again := d.house.reh.Sign(d.ctx, req.ID, 0)
	stops, err := d.house.roles.Enroll.Stops(d.ctx)
	if err != nil {
		return err
	}
	still := len(stops)
	if err := d.house.reh.Sign(d.ctx, req.ID, 1); err != nil {
		return err
	}
	if stops, err = d.house.roles.Enroll.Stops(d.ctx); err != nil {
		return err
	}
	_, works := d.house.reh.Issue(d.ctx, "", "sales", "again.house.test")
	d.say("One operator asked to go on and signed, and nothing happened; with the second signature issuance went on")
	d.check("S0-3", still == 1 && len(stops) == 0 && works == nil, "one person may stop; to go on takes two, and a reason", "after one signature %d in force (signed twice by the same: %v), after two %d; an order: %v", still, again, len(stops), works)
	return nil
}

// tell prints the timeline.
func (d *day2011) tell() error {
	timeline, err := d.house.reh.Desk().Timeline(d.ctx, d.incident.ID)
	if err != nil {
		return err
	}
	var lines []string
	var stop, resume bool
	for _, e := range timeline {
		if e.At.Before(d.began) {
			continue
		}
		lines = append(lines, fmt.Sprintf("%s  entry %d  %s", e.At.UTC().Format(time.RFC3339), e.LogIndex, e.What))
		stop = stop || e.Ref == d.stop.ID && e.Kind == bulkhead.EvStop && e.LogIndex >= 0
		resume = resume || e.Ref == d.stop.ID && e.Kind == bulkhead.EvResume && e.LogIndex >= 0
	}
	d.say("The timeline, as it goes into the report", lines...)
	d.check("S0-4", stop && resume, "stop and resumption stand in the timeline in UTC to the second, each with its log entry", "%d lines", len(lines))
	return nil
}
