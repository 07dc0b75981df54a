package drill

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"bulkhead"
	"bulkhead/pki/ocsp"
	"bulkhead/run"
)

// The serial numbers that stood on the CRL of October 2016: the cross-certificate of R1 by R2, and the intermediate of an
// authority that had reached its end.
const (
	crossSerial = "040000000001444ef0464e"
	oldSerial   = "0400000000011256ad5fb2"
)

func hm(h, m int) time.Duration { return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute }

// crossRoot2016 is the day on which one correct revocation of one cross-certificate made a responder call every
// intermediate of another root revoked.
var crossRoot2016 = Day{
	Name: "cross-root-2016", Title: "A correct revocation of a cross-certificate takes down the intermediates of another root",
	Source: "GlobalSign, report on the OCSP incident of 2016-10-13 (times in JST)",
	Historic: []Moment{
		{0, "16:00", "the OCSP status of the cross-certificate is updated"},
		{hm(2, 20), "18:20", "failure reports reach support"},
		{hm(2, 40), "18:40", "Chrome and Safari are seen to be hit"},
		{hm(3, 7), "19:07", "judged to be the chain of R1"},
		{hm(4, 2), "20:02", "the responder is confirmed as the cause"},
		{hm(4, 20), "20:20", "the cross-certificate is removed from the responder"},
		{hm(5, 20), "21:20", "deletion of caches starts"},
		{hm(6, 30), "22:30", "the CDN provider forces the purge"},
		{hm(10, 14), "02:14", "\"cache deletion complete\""},
		{hm(12, 24), "04:24", "a stale load-balancer cache is found"},
		{hm(13, 19), "05:19", "all caches are confirmed clean"},
		{hm(100, 20), "10-17 20:20", "the last wrong answer dies in a client (4 days)"},
	},
	Wants: []string{"S2-1", "S2-2", "S2-3", "S2-4", "S2-8", "S2-9", "S2-10", "S2-11", "S2-16", "S2-19"},
	run:   playCrossRoot2016,
}

// products are the product lines of that day, by authority.
var products2016 = []struct{ id, name, parent, product string }{
	{"domain", "Domain Validation CA", "r1", "domain-ssl"},
	{"organisation", "Organisation Validation CA", "r1", "organisation-ssl"},
	{"alpha", "Alpha CA", "r1", "alpha-ssl"},
	{"cloud", "Cloud CA", "r1", "cloud-ssl"},
	{"extended", "Extended Validation CA", "r3", "ev-ssl"},
	{"document", "Document Signing CA", "r3", "document-signing"},
}

// day2016 is the day while it is played.
type day2016 struct {
	*Stage
	lb    [2]Cache
	cdn   Cache
	house *shadow
	// poisoned is set while a responder that matches by subject and key stands where our edge should.
	poisoned atomic.Bool
	wrong    map[string][]byte // by request octets: what the foreign responder says
	intermed []bulkhead.CertificateRef
	cross    bulkhead.CertificateRef
	old      bulkhead.CertificateRef
}

func playCrossRoot2016(_ context.Context, s *Stage) error {
	d := &day2016{Stage: s, wrong: map[string][]byte{}}
	for _, act := range []func() error{d.blocked, d.build, d.correct, d.outage, d.figures} {
		if err := act(); err != nil {
			return err
		}
	}
	s.measured("issuance, preview, quorum, staging, verification by our checker and by the foreign programs that are installed, activation, purge and verification of tiers: the compartments of a house on SQLite")
	s.measured("answers: real OCSP responses, fetched over HTTP through the tiers")
	s.simulated("the foreign responder that matches by subject and key; clients, as a share of a population that asks evenly over 4 days")
	s.simulated("people: operators act at once")
	return nil
}

// hierarchy makes the roots, the product lines and the cross-certificate, as they were named and numbered.
func (d *day2016) hierarchy(h *shadow) error {
	now := d.clock.now().UTC()
	y := func(n int) time.Time { return now.AddDate(n, 0, 0) }
	for _, r := range []struct{ id, name, serial string }{{"r1", "Root R1", "040000000001154b5ac394"}, {"r2", "Root R2", "0400000000010f8626e60d"}, {"r3", "Root R3", "04000000000121585308a2"}} {
		if err := h.reh.Authority(d.ctx, run.RehearsedAuthority{ID: bulkhead.AuthorityID(r.id), Name: r.name, Serial: r.serial, NotBefore: y(-10), NotAfter: y(12)}); err != nil {
			return err
		}
	}
	for i, p := range products2016 {
		serial := fmt.Sprintf("040000000001444ef0%04x", 0x3e20+i)
		a := run.RehearsedAuthority{ID: bulkhead.AuthorityID(p.id), Name: p.name, Parent: bulkhead.AuthorityID(p.parent), Serial: serial, NotBefore: y(-2), NotAfter: y(8)}
		if err := h.reh.Authority(d.ctx, a); err != nil {
			return err
		}
		if p.parent == "r1" {
			ref, err := refOf("r1", serial)
			if err != nil {
				return err
			}
			d.intermed = append(d.intermed, ref)
		}
	}
	old := run.RehearsedAuthority{ID: "extended-sha1", Name: "Extended Validation SHA-1 CA", Parent: "r2", Serial: oldSerial, NotBefore: y(-5), NotAfter: y(5)}
	if err := h.reh.Authority(d.ctx, old); err != nil {
		return err
	}
	var err error
	if d.old, err = refOf("r2", oldSerial); err != nil {
		return err
	}
	d.cross, err = h.reh.Cross(d.ctx, "r1", run.RehearsedAuthority{Parent: "r2", Serial: crossSerial, NotBefore: y(-1), NotAfter: y(6)})
	return err
}

func refOf(issuer, serial string) (bulkhead.CertificateRef, error) {
	s, err := bulkhead.ParseSerial(serial)
	return bulkhead.CertificateRef{Issuer: bulkhead.AuthorityID(issuer), Serial: s}, err
}

func productNames() []string {
	var out []string
	for _, p := range products2016 {
		out = append(out, p.product)
	}
	return out
}

// items are the two correct revocations of the day.
func (d *day2016) items() []bulkhead.ChangeItem {
	return []bulkhead.ChangeItem{{CertificateRef: d.cross, Reason: bulkhead.CessationOfOperation}, {CertificateRef: d.old, Reason: bulkhead.CessationOfOperation}}
}

// blocked: the fault of that day is planted where a house computes its answers. The preview must name who would be called
// revoked, and nothing can be activated.
func (d *day2016) blocked() error {
	var h *shadow
	fault := func(change string, a *bulkhead.ShadowAnswer) {
		// Matches by subject and key: what R1 issued hangs under a name and key of which a certificate is revoked.
		if a.After.Issuer == "r1" {
			a.After.State, a.After.Reason, a.After.RevokedAt = bulkhead.Revoked, bulkhead.CessationOfOperation, d.clock.now().UTC()
		}
	}
	h, err := d.Stage.house("planted", productNames(), nil, fault)
	if err != nil {
		return err
	}
	if err := d.hierarchy(h); err != nil {
		return err
	}
	if err := h.start(); err != nil {
		return err
	}
	p, c, err := d.plan(h)
	if err != nil {
		return err
	}
	d.say("A house with the responder's fault of that day planted plans the two revocations; its preview is blocked", append([]string{}, p.Blocked...)...)
	named := 0
	for _, s := range p.Shadow.Samples {
		if s.Issuer == "r1" {
			named++
		}
	}
	d.check("S2-2", len(p.Blocked) > 0 && named >= len(d.intermed), "the preview names the intermediates of R1 and blocks", "%d answers outside the change would flip, %d of them of R1 named", p.Shadow.Outside, named)
	err = h.reh.Approve(d.ctx, c, "rehearsal: go on in spite of the preview")
	after, rerr := h.roles.Status.Change(d.ctx, c.ID)
	if rerr != nil {
		return rerr
	}
	d.check("S2-4", err != nil && after.State == bulkhead.ChangePreviewed, "two operators cannot activate a blocked preview", "refused: %v; the change is %s", err, after.State)
	d.intermed = nil
	return nil
}

// plan previews the revocation.
func (d *day2016) plan(h *shadow) (bulkhead.Preview, bulkhead.Change, error) {
	c, err := h.roles.Status.PlanRevocation(d.ctx, "operator:operator-1", "end of life: cross-certificate and old intermediate", d.items())
	if err != nil {
		return bulkhead.Preview{}, c, err
	}
	var p bulkhead.Preview
	err = json.Unmarshal(c.Preview, &p)
	return p, c, err
}

// build makes the house of the day behind its tiers, and issues under every product line.
func (d *day2016) build() error {
	if err := d.tiers(); err != nil {
		return err
	}
	var err error
	d.house, err = d.Stage.house("house", productNames(), func(c *run.Config) {
		c.StatusURL = d.cdn.URL()
		c.Status.AnswerValidity = run.Duration(4 * 24 * time.Hour)
		c.Caches.Tiers = []run.CacheTier{
			{Name: "load-balancer", Kind: "load-balancer", TTL: run.Duration(8 * time.Hour), Owner: "operations", Nodes: []string{d.lb[0].URL(), d.lb[1].URL()}, Purge: run.CachePurge{Adapter: d.lb[0].Adapter()}},
			{Name: "cdn", Kind: "cdn", TTL: run.Duration(time.Hour), Owner: "the CDN provider", Nodes: []string{d.cdn.URL()}, Purge: run.CachePurge{Adapter: d.cdn.Adapter()}},
			{Name: "clients", Kind: "client", TTL: run.Duration(4 * 24 * time.Hour), Owner: "nobody"},
		}
	}, nil)
	if err != nil {
		return err
	}
	if err := d.hierarchy(d.house); err != nil {
		return err
	}
	leaves := max(1, d.o.Scale)
	for _, p := range products2016 {
		for i := range leaves {
			if _, err := d.house.reh.Issue(d.ctx, bulkhead.AuthorityID(p.id), p.product, fmt.Sprintf("www%d.%s.test", i, p.id)); err != nil {
				return err
			}
		}
	}
	if err := d.house.start(); err != nil {
		return err
	}
	if err := d.house.look(); err != nil {
		return err
	}
	d.say(fmt.Sprintf("The house of the day stands: R1, R2, R3, six product lines with %d certificates each, R1 cross-signed by R2, behind two load-balancer nodes (8 h) and a CDN (1 h)", leaves))
	d.began = d.clock.now().UTC().Truncate(time.Second)
	return nil
}

// tiers starts the caches of the day: two nodes of a load balancer before the origin, of which the second ignores purges,
// and a CDN before both.
func (d *day2016) tiers() error {
	balancer, cdn, say := d.tiersOf()
	say()
	origin, err := d.listen(http.HandlerFunc(d.origin))
	if err != nil {
		return err
	}
	for i := range d.lb {
		if d.lb[i], err = balancer(fmt.Sprintf("lb-%d", i+1), 8*time.Hour, origin); err != nil {
			return err
		}
		d.end(d.lb[i].Close)
	}
	var turn atomic.Uint64
	balance, err := d.listen(forward(func() string { return d.lb[turn.Add(1)%2].URL() }))
	if err != nil {
		return err
	}
	if d.cdn, err = cdn("cdn", time.Hour, balance); err != nil {
		return err
	}
	d.end(d.cdn.Close)
	return d.lb[1].SetDeaf(true)
}

// nodes are all caches, from the origin outwards.
func (d *day2016) nodes() []Cache { return []Cache{d.lb[0], d.lb[1], d.cdn} }

// origin is what stands behind the load balancer: our edge, or for a while the responder that matches by subject and key.
func (d *day2016) origin(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "the request broke off", http.StatusBadRequest)
		return
	}
	if d.poisoned.Load() {
		asked := body
		if r.Method == http.MethodGet {
			asked = decoded(r.RequestURI)
		}
		if der, ok := d.wrong[string(asked)]; ok {
			w.Header().Set("Content-Type", "application/ocsp-response")
			_, _ = w.Write(der)
			return
		}
	}
	up := r.Clone(r.Context())
	up.Body = io.NopCloser(bytes.NewReader(body))
	d.house.roles.Edge.Handler().ServeHTTP(w, up)
}

// decoded is the request in a URL (RFC 6960 appendix A.1); nil when there is none.
func decoded(uri string) []byte {
	text, is := strings.CutPrefix(uri, "/ocsp/")
	if !is {
		return nil
	}
	plain, err := url.PathUnescape(text)
	if err != nil {
		return nil
	}
	der, _ := base64.StdEncoding.DecodeString(plain) // what is none names no answer
	return der
}

// request is the OCSP request of most clients: one certificate, SHA-1 CertID.
func (d *day2016) request(ref bulkhead.CertificateRef) ([]byte, error) {
	a, err := d.house.roles.Store.Authority(d.ctx, ref.Issuer)
	if err != nil {
		return nil, err
	}
	id, err := ocsp.NewIssuer(a.Subject, a.SPKI)
	if err != nil {
		return nil, err
	}
	return ocsp.EncodeRequest([]ocsp.CertID{id.CertID(ocsp.SHA1, ref.Serial)}, nil)
}

// ask fetches an answer at an address of the world outside.
func (d *day2016) ask(at string, ref bulkhead.CertificateRef) (ocsp.State, []byte, error) {
	req, err := d.request(ref)
	if err != nil {
		return 0, nil, err
	}
	ctx, cancel := context.WithTimeout(d.ctx, time.Minute)
	defer cancel()
	// By GET: that is what caches keep.
	hr, err := http.NewRequestWithContext(ctx, http.MethodGet, at+"/ocsp/"+url.QueryEscape(base64.StdEncoding.EncodeToString(req)), nil)
	if err != nil {
		return 0, nil, err
	}
	hr.Host = strings.TrimPrefix(d.cdn.URL(), "http://") // every tier serves the name that stands in certificates
	res, err := http.DefaultClient.Do(hr)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(http.MaxBytesReader(nil, res.Body, maxBody)); err != nil {
		return 0, nil, err
	}
	r, err := ocsp.ParseResponse(body.Bytes())
	if err != nil {
		return 0, nil, err
	}
	if len(r.Singles) != 1 {
		return 0, nil, fmt.Errorf("%d answers in a response", len(r.Singles))
	}
	return r.Singles[0].State, body.Bytes(), nil
}

// correct: the same two revocations in a house without the fault.
func (d *day2016) correct() error {
	h := d.house
	before := map[string][]byte{}
	for _, ref := range d.intermed {
		state, der, err := d.ask(d.cdn.URL(), ref)
		if err != nil || state != ocsp.Good {
			return fmt.Errorf("%s is %v before anything happened: %w", ref, state, err)
		}
		before[ref.String()] = der
	}
	p, c, err := d.plan(h)
	if err != nil {
		return err
	}
	d.say("The preview of the same two revocations, in a house as it should be", p.Words())
	d.check("S2-1", p.AnswersChanged == 2 && p.Shadow.Outside == 0 && len(p.Blocked) == 0, "two answers change, and no other", "%d change, %d outside the change, of %d recomputed", p.AnswersChanged, p.Shadow.Outside, p.Shadow.Recomputed)
	paths := fmt.Sprintf("%d kinds of clients lose a last path, %d lose one of several", len(p.PathsLost), len(p.PathsReduced))
	d.check("S2-3", len(p.AnchorSets) > 1 && len(p.PathsLost)+len(p.PathsReduced) > 0, "it says which clients lose a path, and keeps that apart from answers", "%s", paths)
	misread := map[string]bool{}
	for _, m := range p.Misread {
		for _, x := range m.Certificates {
			if x.Issuer == "r1" {
				misread[m.Habit] = true
			}
		}
	}
	d.check("S2-2", misread["subject-and-key"] && misread["newest-twin"], "it warns what a foreign responder with the habit of 2016 would say", "habits that would hit the intermediates of R1: %d", len(misread))
	took := time.Now()
	if err := h.reh.Approve(d.ctx, c, "end of life, seen in the preview"); err != nil {
		return err
	}
	if err := h.look(); err != nil {
		return err
	}
	c, err = h.roles.Status.Change(d.ctx, c.ID)
	if err != nil {
		return err
	}
	d.say(fmt.Sprintf("Approved by two, staged, verified, public as head %d, purged from the origin outwards, verified through every node, in %s: change %s", c.Epoch, time.Since(took).Round(time.Millisecond), c.State), c.Problem)
	d.check("S2-11", c.Epoch > 0 && !c.ActivatedAt.IsZero(), "the purge came after the new head was public", "head %d at %s", c.Epoch, c.ActivatedAt.UTC().Format(time.RFC3339))
	same := 0
	for _, ref := range d.intermed {
		if state, der, err := d.ask(d.lb[0].URL(), ref); err == nil && state == ocsp.Good && bytes.Equal(der, before[ref.String()]) {
			same++
		}
	}
	d.check("S2-1", same == len(d.intermed), "every answer for the intermediates of R1 is what it was, octet by octet", "%d of %d", same, len(d.intermed))
	state, _, err := d.ask(d.lb[0].URL(), d.cross)
	d.check("S2-19", err == nil && state == ocsp.Revoked, "the cross-certificate is revoked, with its reason", "%s, cessationOfOperation", state)
	return nil
}

// outage: somebody else's responder takes the place of ours, as on that day, and the tiers fill up with its answers.
func (d *day2016) outage() error {
	d.clock.advance(time.Hour)
	now := d.clock.now().UTC()
	for _, ref := range d.intermed {
		req, err := d.request(ref)
		if err != nil {
			return err
		}
		if d.wrong[string(req)], err = d.house.reh.ForeignAnswer(d.ctx, ref, now, 4*24*time.Hour); err != nil {
			return err
		}
	}
	for _, n := range d.nodes() {
		if err := n.Empty(); err != nil { // what was kept is over by now, one way or another
			return err
		}
	}
	start := d.clock.now()
	d.poisoned.Store(true)
	for _, ref := range d.intermed {
		for _, n := range d.nodes() {
			if _, _, err := d.ask(n.URL(), ref); err != nil {
				return err
			}
		}
	}
	d.say("A responder that matches by subject and key stands at the origin: the tiers fill up with \"revoked\" for every intermediate of R1")
	d.clock.advance(time.Minute) // the probe's interval
	found, where := d.probe()
	detected := d.clock.now().Sub(start)
	d.say(fmt.Sprintf("The probe of the next minute finds %d wrong answers through %d addresses, and raises the alarm (on the day: 2:20)", found, len(where)), where...)
	d.check("S2-16", found > 0 && detected <= 3*time.Minute, "the wrong status is seen from outside within three minutes", "after %s", detected)
	d.clock.advance(time.Minute)
	d.poisoned.Store(false)
	last := d.clock.now().UTC().Truncate(time.Second)
	d.say("Our own edge stands at the origin again: a forward move, every answer newly fetched from what is published")
	return d.cleanUp(start, last)
}

// probe asks for each intermediate of R1 at every address, as a relying party would.
func (d *day2016) probe() (wrong int, where []string) {
	for _, n := range d.nodes() {
		bad := 0
		for _, ref := range d.intermed {
			if state, _, err := d.ask(n.URL(), ref); err != nil || state != ocsp.Good {
				bad++
			}
		}
		if bad > 0 {
			where = append(where, fmt.Sprintf("%s: %d of %d intermediates of R1 are called revoked, and no change says so", n.Name(), bad, len(d.intermed)))
		}
		wrong += bad
	}
	return wrong, where
}

// cleanUp purges outwards, verifies, finds the node that ignores purges, and waits for the clients.
func (d *day2016) cleanUp(start time.Time, last time.Time) error {
	view, err := d.house.reh.Caches()
	if err != nil {
		return err
	}
	defer view.Close()
	all := run.CacheSelection{All: true}
	if _, err := view.Purge(d.ctx, all, d.o.Log); err != nil {
		return err
	}
	d.clock.advance(time.Minute)
	v, err := view.Verify(d.ctx, all, d.o.Log)
	if err != nil {
		return err
	}
	var behind []string
	for _, n := range v.Nodes {
		if n.Verdict != "newest" {
			behind = append(behind, strings.TrimSpace(n.Sentence()))
		}
	}
	named := strings.Contains(strings.Join(behind, " "), d.lb[1].URL())
	wrong, where := d.probe()
	d.say("Purged from the origin outwards, then verified through every node: one node of the load balancer kept its answers", append(behind, where...)...)
	d.check("S2-10", named && !v.Complete && wrong > 0, "the node that silently ignored the purge is named at once (on the day: 2:10 after \"complete\")", "%d nodes behind", len(behind))
	if err := d.lb[1].SetDeaf(false); err != nil {
		return err
	}
	d.clock.advance(5 * time.Minute)
	if _, err := view.Purge(d.ctx, all, d.o.Log); err != nil {
		return err
	}
	if v, err = view.Verify(d.ctx, all, d.o.Log); err != nil {
		return err
	}
	wrong, _ = d.probe()
	clean := d.clock.now().Sub(start)
	d.say("Its owner was called, it purges now; every server cache is verified clean (on the day: 13:19)")
	d.check("S2-10", v.Complete && wrong == 0, "complete means verified through every node", "%d wrong answers left after %s", wrong, clean)
	share := float64(last.Sub(start)) / float64(4*24*time.Hour) * 100
	d.clock.advance(start.Add(last.Sub(start) + 4*24*time.Hour).Sub(d.clock.now()))
	d.say(fmt.Sprintf("The last wrong answer dies in a client: 4 days after the last one was signed. %.2f %% of clients that ask once in 4 days had met one (on the day: %.1f %%)", share, hm(4, 20).Hours()/96*100))
	return nil
}

// figures are those of the source, computed from the tiers that are configured.
func (d *day2016) figures() error {
	view, err := d.house.reh.Caches()
	if err != nil {
		return err
	}
	defer view.Close()
	jst := time.FixedZone("JST", 9*3600)
	for validity, want := range map[string]string{"4d": "2016-10-17 20:20", "8h": "2016-10-14 04:20"} {
		in, err := view.Assume("2016-10-13T20:20:00+09:00", validity, "", "", func(_, text string) (time.Time, error) {
			if text == "" {
				return time.Time{}, nil
			}
			return time.Parse(time.RFC3339, text)
		})
		if err != nil {
			return err
		}
		p, err := view.Plan(d.ctx, in)
		if err != nil {
			return err
		}
		got := p.Dies.In(jst).Format("2006-01-02 15:04")
		d.check("S2-8", got == want, "the last wrong answer of the day dies when the source's figures say, with a validity of "+validity, "%s JST", got)
	}
	found := view.Lint()
	var texts []string
	for _, f := range found {
		texts = append(texts, fmt.Sprint(f))
	}
	d.check("S2-9", len(found) > 0, "a load balancer of 8 h behind a CDN of 1 h is a finding", "%s", strings.Join(texts, "; "))
	return nil
}
