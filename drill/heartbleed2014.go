package drill

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/run"
	"bulkhead/scan/probe"
	"bulkhead/scan/probe/probetest"
)

const day24 = 24 * time.Hour

// heartbleed2014 is the day on which the keys of subscribers had to be taken for lost, and nobody knew whose.
var heartbleed2014 = Day{
	Name: "heartbleed-2014", Title: "The keys of subscribers may have leaked: patch, new key, new certificate, install, revoke, in this order",
	Source: "Cybertrust Japan, blog of 2014-04-08; Comodo Japan, notice of 2014-04-10",
	Historic: []Moment{
		{0, "04-07", "CVE-2014-0160 becomes public, with OpenSSL 1.0.1g"},
		{day24, "04-08", "subscribers are told: upgrade, new key and CSR, reissue free of charge by ticket code, install, then revoke the old one"},
		{3 * day24, "04-10", "subscribers are told: a checker by name or address gives three verdicts; a reissue is asked for by mail, one name a mail"},
		{3 * day24, "04-10", "all own sites are confirmed patched and their certificates replaced"},
	},
	Wants: []string{"S3-1", "S3-2", "S3-3", "S3-5", "S3-6", "S3-10", "S4-1", "S4-2", "S4-5", "S4-6", "S4-7"},
	run:   playHeartbleed2014,
}

// Parts that some subscribers play; all others do what they are told.
const (
	twoNodes    = iota // has two nodes and forgets one
	sameKey            // asks with the old key, then with a neighbour's
	planted            // was reissued with the old key before the campaign began
	unpatched          // replaces first and patches last
	otherMethod        // shows the name by another method at the reissue
	slow               // has the replacement and installs it late
	gone               // cannot be reached
	idle               // does nothing
	firstOrdinary
)

// site is one name of the fleet with its servers.
type site struct {
	name    string
	part    int
	own     bool
	concern bool // its key may have leaked
	account bulkhead.Account
	key     *ecdsa.PrivateKey
	first   bulkhead.IssuedCertificate // what the campaign replaces
	now     bulkhead.IssuedCertificate // its newest
	nodes   []node
}

type node struct {
	server *probetest.Server // nil: nobody listens
	at     netip.AddrPort
	plays  probetest.Behaviour
}

// day2014 is the day while it is played.
type day2014 struct {
	*Stage
	house    *shadow
	web      *web
	prober   *probe.Prober
	sites    []*site
	incident bulkhead.Incident
	campaign bulkhead.Campaign
}

func playHeartbleed2014(_ context.Context, s *Stage) error {
	d := &day2014{Stage: s}
	for _, act := range []func() error{d.build, d.scan, d.openDay, d.ownFirst, d.ordinary, d.wrongKeys, d.order, d.lateOnes, d.clockRunsOut, d.numbers} {
		if err := act(); err != nil {
			return err
		}
	}
	s.measured("every look by the real probe at servers on loopback; incident, plan, approvals, campaign, reissues with validations by http-01 and tls-alpn-01, revocations through preview, head and edge: real compartments on a clock that the day moves")
	s.simulated("the servers: behaviours of genuine builds up to the end of their first flight (scan/probe/probetest); the certificate that one serves is put there by the rehearsal")
	s.simulated("people: subscribers act at the hours that the day says, operators at once")
	return nil
}

// build makes the house, the fleet and its certificates.
func (d *day2014) build() error {
	var err error
	if d.web, err = d.newWeb(); err != nil {
		return err
	}
	if d.prober, err = probe.New(probe.Config{Now: time.Now, Timeout: 20 * time.Second, Total: time.Minute, Dial: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", to.String())
	}}); err != nil {
		return err
	}
	d.house, err = d.Stage.houseWith("house", []string{"fleet"}, func(c *run.Config) {
		c.ValidateHTTPPort, c.ValidateTLSPort, c.PrivateTargets = d.web.HTTPPort, d.web.TLSPort, true
		c.RateLimits = run.RateLimits{}
		ownClock(c)
	}, run.Options{Look: d.lookAt})
	if err != nil {
		return err
	}
	for i := range 2 {
		if err := d.settle(&site{name: fmt.Sprintf("www%d.house.test", i), part: firstOrdinary, own: true}, probetest.Vulnerable, 1); err != nil {
			return err
		}
	}
	n := max(d.o.Scale, firstOrdinary+3)
	if d.o.Scale == 0 {
		n = 12
	}
	for i := range n {
		behaves, nodes := probetest.Vulnerable, 1
		if i >= firstOrdinary {
			behaves = []probetest.Behaviour{probetest.Vulnerable, probetest.Patched, probetest.NotSupported}[i%3]
		}
		if i == twoNodes {
			nodes = 2
		}
		if err := d.settle(&site{name: fmt.Sprintf("shop%d.localhost", i), part: min(i, firstOrdinary)}, behaves, nodes); err != nil {
			return err
		}
	}
	if err := d.house.start(); err != nil {
		return err
	}
	if err := d.house.look(); err != nil {
		return err
	}
	d.say(fmt.Sprintf("The fleet stands: %d subscribers, each validated by http-01, and 2 servers of the house's own, all with certificates of the house", n))
	d.began = d.clock.now().UTC().Truncate(time.Second)
	return nil
}

// settle gives a site its certificate and its servers.
func (d *day2014) settle(x *site, behaves probetest.Behaviour, nodes int) error {
	var err error
	if x.own {
		x.account, err = d.house.reh.OwnAccount(d.ctx)
	} else {
		var key *ecdsa.PrivateKey
		if key, err = newKey(); err == nil {
			x.account, err = d.house.reh.ACMEAccount(d.ctx, &key.PublicKey)
		}
	}
	if err != nil {
		return err
	}
	if err := d.reissue(x, nil); err != nil {
		return err
	}
	x.first, x.concern = x.now, behaves.Verdict != bulkhead.NotSupported
	for range nodes {
		behaves.Chain = chainOf(x.now)
		srv, err := probetest.Listen(behaves, "127.0.0.1:0")
		if err != nil {
			return err
		}
		n := node{server: srv, at: srv.Addr(), plays: behaves}
		if x.part == gone {
			srv.Close()
			n.server = nil
		} else {
			d.end(func() error { srv.Close(); return nil })
		}
		x.nodes = append(x.nodes, n)
	}
	d.sites = append(d.sites, x)
	return nil
}

func chainOf(c bulkhead.IssuedCertificate) [][]byte {
	return append([][]byte{c.DER}, c.Chain[:max(0, len(c.Chain)-1)]...)
}

// reissue orders a certificate for the site; a nil key is a new one.
func (d *day2014) reissue(x *site, key *ecdsa.PrivateKey) error {
	var err error
	if key == nil {
		if key, err = newKey(); err != nil {
			return err
		}
	}
	csr, err := requestWith(key, x.name)
	if err != nil {
		return err
	}
	var got bulkhead.IssuedCertificate
	replaces := x.first.Certificate.CertificateRef
	if x.now.Certificate.CertificateRef != replaces { // one order may claim a certificate: the next is found by account and name
		replaces = bulkhead.CertificateRef{}
	}
	if x.own {
		got, err = d.house.reh.Order(d.ctx, x.account, "", "fleet", csr, replaces)
	} else {
		got, err = d.house.reh.Subscribe(d.ctx, x.account, "fleet", csr, replaces, bulkhead.HTTP01, d.web.show)
	}
	if err != nil {
		return err
	}
	x.now, x.key = got, key
	return nil
}

// behave puts a behaviour and the newest certificate onto nodes of a site; none means all.
func (x *site) behave(b probetest.Behaviour, nodes ...int) {
	for i := range x.nodes {
		if n := &x.nodes[i]; n.server != nil && (len(nodes) == 0 || slices.Contains(nodes, i)) {
			b.Chain = n.plays.Chain
			n.plays = b
			n.server.Swap(b)
		}
	}
}

// install has nodes serve the newest certificate.
func (x *site) install(nodes ...int) {
	for i := range x.nodes {
		if n := &x.nodes[i]; n.server != nil && (len(nodes) == 0 || slices.Contains(nodes, i)) {
			n.plays.Chain = chainOf(x.now)
			n.server.Swap(n.plays)
		}
	}
}

func (d *day2014) looks(ctx context.Context, x *site) []bulkhead.Look {
	var out []bulkhead.Look
	for _, n := range x.nodes {
		out = append(out, d.prober.Look(ctx, bulkhead.Endpoint{Host: x.name, Address: n.at.Addr(), Port: n.at.Port(), SNI: x.name}))
	}
	return out
}

// lookAt is how the desk looks.
func (d *day2014) lookAt(ctx context.Context, item bulkhead.CampaignItem) []bulkhead.Look {
	for _, x := range d.sites {
		if x.name == item.Name {
			return d.looks(ctx, x)
		}
	}
	return nil
}

// scan looks at the whole fleet and at two servers that cannot be judged.
func (d *day2014) scan() error {
	mute, err := probetest.Listen(probetest.Behaviour{Quirk: probetest.PlainText}, "127.0.0.1:0")
	if err != nil {
		return err
	}
	d.end(func() error { mute.Close(); return nil })
	right, asked, codes := 0, 0, true
	counts := map[bulkhead.Verdict]int{}
	see := func(l bulkhead.Look, want bulkhead.Verdict) {
		asked++
		counts[l.Verdict]++
		if l.Verdict == want {
			right++
		}
		codes = codes && bulkhead.LookReasons[l.Reason] == l.Verdict
	}
	for _, x := range d.sites {
		for i, l := range d.looks(d.ctx, x) {
			want := x.nodes[i].plays.Verdict
			if x.nodes[i].server == nil {
				want = bulkhead.Unreachable
			}
			see(l, want)
		}
	}
	see(d.prober.Look(d.ctx, bulkhead.Endpoint{Host: "mute.localhost", Address: mute.Addr().Addr(), Port: mute.Addr().Port()}), bulkhead.Inconclusive)
	var words []string
	for _, v := range bulkhead.Verdicts {
		words = append(words, fmt.Sprintf("%d %s", counts[v], v))
	}
	d.say("Every server of the fleet was looked at: "+strings.Join(words, ", "), "patched ones may have leaked before: they belong to the day; unreachable ones are never taken for immune, so they do, too")
	d.check("S3-5", right == asked, "the probe tells vulnerable, patched and not supported apart", "%d of %d looks as the servers are", right, asked)
	d.check("S4-1", codes && counts[bulkhead.Unreachable] == 1 && counts[bulkhead.Inconclusive] == 1, "each look has one verdict of five with a code of its own; what was not seen is not immune", "%s", strings.Join(words, ", "))
	return nil
}

// openDay opens the incident and starts the campaign. One subscriber was reissued with the same key meanwhile.
func (d *day2014) openDay() error {
	for _, x := range d.sites {
		if x.part == planted {
			if err := d.reissue(x, x.key); err != nil {
				return err
			}
			x.install()
		}
	}
	var scope bulkhead.Scope
	for _, x := range d.sites {
		if x.concern {
			scope.Certificates = append(scope.Certificates, x.first.Certificate.CertificateRef)
		}
	}
	desk := d.house.reh.Desk()
	var err error
	d.incident, err = desk.Open(d.ctx, "operator:operator-1", bulkhead.IncidentIntake{Title: "keys of subscribers may have leaked (CVE-2014-0160)", Playbook: "heartbleed-2014", Scope: scope})
	if err != nil {
		return err
	}
	if d.campaign, _, err = desk.Plan(d.ctx, "operator:operator-1", bulkhead.CampaignRequest{Incident: d.incident.ID}); err != nil {
		return err
	}
	if err := d.house.reh.StartCampaign(d.ctx, d.campaign, "keys may have leaked"); err != nil {
		return err
	}
	if d.campaign, err = desk.Campaign(d.ctx, d.campaign.ID); err != nil {
		return err
	}
	d.say(fmt.Sprintf("Incident opened over %d certificates; the plan (patch, new key, installed) was approved by two and started: every key of it is refused from here on", d.campaign.Items),
		fmt.Sprintf("deadline %s after the start; the clock revokes the rest from %s on", Elapsed(d.campaign.Deadline.Sub(d.began)), Elapsed(d.campaign.ForceAt.Sub(d.began))))
	return d.step(0)
}

// step lets time pass and the roles work.
func (d *day2014) step(by time.Duration) error {
	d.clock.advance(by)
	if err := d.house.reh.Desk().Tick(d.ctx); err != nil {
		return err
	}
	return d.house.look()
}

// item is where a site stands.
func (d *day2014) item(x *site) (bulkhead.CampaignItem, []bulkhead.ItemStep, error) {
	_, it, steps, err := d.house.reh.Desk().History(d.ctx, x.first.Certificate.CertificateRef)
	return it, steps, err
}

func (d *day2014) tally() (bulkhead.CampaignTally, error) {
	_, t, _, err := d.house.reh.Desk().Status(d.ctx, d.campaign.ID)
	return t, err
}

// every does something for each site of a part that is concerned.
func (d *day2014) every(part int, own bool, do func(x *site) error) error {
	for _, x := range d.sites {
		if x.concern && x.part == part && x.own == own {
			if err := do(x); err != nil {
				return fmt.Errorf("%s: %w", x.name, err)
			}
		}
	}
	return nil
}

// through takes sites the whole way, a step of the campaign at a time.
func (d *day2014) through(part int, own bool) error {
	steps := []func(x *site) error{
		func(x *site) error { x.behave(probetest.Patched); return nil },
		func(x *site) error { return d.reissue(x, nil) },
		func(x *site) error { x.install(); return nil },
	}
	for _, do := range steps {
		if err := d.every(part, own, do); err != nil {
			return err
		}
		if err := d.step(5 * time.Minute); err != nil {
			return err
		}
	}
	return nil
}
