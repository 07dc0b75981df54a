package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/mail"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/notice"
	"bulkhead/signer/signerrpc"
	"bulkhead/watch"
	"bulkhead/watch/deliver"
	"bulkhead/watch/outside"
)

// Watch says how the house looks at itself from outside and whom its alarms go to.
type Watch struct {
	// ProbeEvery is the time between two rounds of probes: a live and a revoked certificate of each authority, by GET, POST
	// and CRL, through the status listener and every address of caches.tiers. 3m at most, for a fault must be told within that.
	ProbeEvery Duration `yaml:"probe_every"`
	// Agree is within what time record, OCSP answers and CRL must agree on a revocation.
	Agree Duration `yaml:"agree"`
	// Sightings are metrics listeners of edges (and of enroll and console) that are processes of their own, as http://HOST:PORT:
	// what they saw is fetched from there and judged here.
	Sightings []string `yaml:"sightings,omitempty"`
	// Deliver lists who gets alarms: name, severity (critical, warning or notice: the mildest that is sent) and one of webhook
	// with key_file, syslog, or mail. Mail goes over the relay of expiry_notices.to.mail.
	Deliver []AlarmReceiver `yaml:"deliver,omitempty"`
}

// AlarmReceiver is one way out for alarms.
type AlarmReceiver struct {
	Name     string   `yaml:"name"`
	Severity string   `yaml:"severity"`
	Webhook  string   `yaml:"webhook,omitempty"`  // URL that gets each alarm as JSON by POST
	KeyFile  string   `yaml:"key_file,omitempty"` // with webhook: secret of the signature over the body, relative to the data directory
	Syslog   string   `yaml:"syslog,omitempty"`   // udp://HOST:PORT, tcp://HOST:PORT or unix:///PATH
	Mail     []string `yaml:"mail,omitempty"`     // addresses
}

func defaultWatch() Watch {
	return Watch{ProbeEvery: Duration(outside.DefaultEvery), Agree: Duration(outside.DefaultAgree)}
}

func (c Config) checkWatch() error {
	if d := time.Duration(c.Watch.ProbeEvery); d < time.Second || d > 3*time.Minute {
		return wrong("watch.probe_every", "%s is not within 1s and 3m", d)
	}
	if d := time.Duration(c.Watch.Agree); d < time.Minute || d > 24*time.Hour {
		return wrong("watch.agree", "%s is not within 1m and 24h (BR 4.9.7)", d)
	}
	if err := c.Watch.checkSightings(); err != nil {
		return err
	}
	names := map[string]bool{}
	for _, r := range c.Watch.Deliver {
		if r.Name == "" || names[r.Name] {
			return wrong("watch.deliver", "receiver %q has no name of its own", r.Name)
		}
		names[r.Name] = true
		if err := r.check(c.ExpiryNotices.To.Mail); err != nil {
			return wrong("watch.deliver", "receiver %q: %s", r.Name, err)
		}
	}
	return nil
}

func (r AlarmReceiver) check(relay NoticeMail) error {
	ways := 0
	for _, set := range []bool{r.Webhook != "", r.Syslog != "", len(r.Mail) > 0} {
		if set {
			ways++
		}
	}
	switch {
	case len(bulkhead.AtLeast(bulkhead.Severity(r.Severity))) == 0:
		return fmt.Errorf("severity %q is not critical, warning or notice", r.Severity)
	case ways != 1:
		return errors.New("one of webhook, syslog and mail is wanted")
	case (r.Webhook == "") != (r.KeyFile == ""):
		return errors.New("webhook and key_file belong together")
	case len(r.Mail) > 0 && relay.SMTP == "":
		return errors.New("mail takes a relay: set expiry_notices.to.mail.smtp")
	}
	for _, to := range r.Mail {
		if a, err := mail.ParseAddress(to); err != nil || a.Address != to {
			return fmt.Errorf("%q is not a plain mail address", to)
		}
	}
	if r.Syslog != "" {
		_, err := deliver.NewSyslog(r.Syslog, "", nil)
		return err
	}
	if r.Webhook != "" {
		_, err := deliver.NewWebhook(r.Webhook, "", make([]byte, deliver.LeastKey), nil)
		return err
	}
	return nil
}

// watchRecord is the record as those see it who look from outside.
type watchRecord interface {
	outside.Record
	deliver.Store
	FailedDeliveries(ctx context.Context, limit int) ([]bulkhead.AlarmDelivery, error)
}

// watcher is what looks from outside without a listener.
type watcher struct {
	mu         sync.Mutex // guards the copies of what is published
	reconciler *outside.Reconciler
	delivery   *deliver.Service // nil while nobody is to be told
}

// openWatch makes the detectors, the reconciler and the ways out.
func (h *House) openWatch(context.Context, seed) error {
	if !h.roles.has(signerrpc.Watch) {
		return nil
	}
	if h.heads == nil {
		var err error
		if h.heads, err = readVerifier(filepath.Join(h.dir, headPub)); err != nil {
			return err
		}
	}
	h.watch.Add(watch.BlockedKey{})
	h.watch.Add(watch.UnknownCertificate{Store: h.store})
	h.watch.Add(watch.KeyReappears{Store: h.store})
	r, err := outside.NewReconciler(outside.ReconcilerConfig{Record: h.store, Public: newPublication(h), Raise: h.watch.Raise, Agree: time.Duration(h.cfg.Watch.Agree), Now: h.now,
		Log: h.log.With(slog.String("role", "watch"))})
	if err != nil {
		return err
	}
	h.outside.reconciler = r
	var to []deliver.Receiver
	for _, x := range h.cfg.Watch.Deliver {
		s, err := h.sender(x)
		if err != nil {
			return wrong("watch.deliver", "receiver %q: %s", x.Name, err)
		}
		to = append(to, deliver.Receiver{Name: x.Name, Least: bulkhead.Severity(x.Severity), Sender: s})
	}
	if len(to) == 0 {
		return nil
	}
	h.outside.delivery, err = deliver.New(deliver.Config{Store: h.store, Receivers: to, Now: h.now, Log: h.log.With(slog.String("role", "watch"))})
	return err
}

func (h *House) sender(r AlarmReceiver) (deliver.Sender, error) {
	switch {
	case r.Webhook != "":
		key, err := ReadSecret(inDir(h.dir, r.KeyFile))
		if err != nil {
			return nil, err
		}
		return deliver.NewWebhook(r.Webhook, h.cfg.House, key, h.now)
	case r.Syslog != "":
		return deliver.NewSyslog(r.Syslog, h.cfg.House, h.now)
	default:
		m, err := h.relay()
		return deliver.Mail{Mailer: m, To: r.Mail, House: h.cfg.House}, err
	}
}

// relay is the mail relay of the configuration.
func (h *House) relay() (*notice.Mail, error) { return h.mail() }

// points are the addresses to look through: the status listener and every node of every tier. The time for which a tier may
// keep an older answer includes that of the tiers behind it.
func (h *House) points(statusListener net.Listener) ([]outside.Point, error) {
	var out []outside.Point
	known := map[string]bool{}
	if statusListener != nil {
		out = append(out, outside.Point{Name: "status listener", Base: "http://" + dialable(statusListener.Addr())})
		known[out[0].Base] = true
	}
	tiers, err := h.cfg.Caches.tiers(unread)
	if err != nil {
		return nil, err
	}
	var ttl time.Duration
	for _, t := range tiers {
		ttl += t.TTL
		if t.Kind == "client" {
			continue
		}
		nodes := t.Nodes
		if t.Probe != "" {
			nodes = append(append([]string(nil), nodes...), t.Probe)
		}
		for _, n := range nodes {
			if !known[n] {
				known[n] = true
				out = append(out, outside.Point{Name: "tier " + t.Name, Base: n, TTL: ttl, Owner: t.Owner})
			}
		}
	}
	return out, nil
}

// runOutside probes, reconciles, looks at the clock and delivers until ctx ends. Probes begin when everything is public.
func (h *House) runOutside(ctx context.Context, started <-chan struct{}, statusListener net.Listener) error {
	points, err := h.points(statusListener)
	if err != nil {
		return err
	}
	if len(points) == 0 {
		h.watch.Raise(ctx, bulkhead.Alarm{Detector: "probe", Key: "blind,nowhere", Severity: bulkhead.Warning, Runbook: "probe-blind.md", FirstAt: h.now().UTC(), LastAt: h.now().UTC(), Count: 1,
			Message: "the probes have nowhere to look: no status listener is in this process and caches.tiers names no address"})
	}
	p, err := outside.NewProber(outside.ProberConfig{Record: h.store, Public: newPublication(h), Points: points, Base: h.cfg.StatusURL, Raise: h.watch.Raise, Ledger: h.outside.reconciler,
		Every: time.Duration(h.cfg.Watch.ProbeEvery), Agree: time.Duration(h.cfg.Watch.Agree), Now: h.now, Log: h.log.With(slog.String("role", "watch"))})
	if err != nil {
		return err
	}
	h.prober.Store(p)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return h.watch.WatchClock(ctx) })
	if h.outside.delivery != nil {
		g.Go(func() error { return h.outside.delivery.Run(ctx) })
	}
	for _, run := range []func(context.Context) error{h.outside.reconciler.Run, p.Run} {
		g.Go(func() error {
			select {
			case <-ctx.Done():
				return nil
			case <-started:
			}
			return run(ctx)
		})
	}
	return g.Wait()
}

// explainer says where answers come from.
func (h *House) explainer() console.Explainer {
	return &outside.Explainer{Record: h.store, Public: newPublication(h), Ledger: h.outside.reconciler, Now: h.now}
}

// shownKeys is the record as those see it who look keys up for strangers: a blocked one that is shown is a sighting (D12).
type shownKeys struct {
	Store
	h *House
}

// BlockedKeys returns those of the given hashes that are blocked.
func (s shownKeys) BlockedKeys(ctx context.Context, hashes ...bulkhead.Hash) ([]bulkhead.BlockedKey, error) {
	found, err := s.Store.BlockedKeys(ctx, hashes...)
	for _, k := range found {
		s.h.see(watch.Sighting{Kind: watch.BlockedKeyShown, At: s.h.now().UTC(), Detail: k.KeyHash.String()})
	}
	return found, err
}

// diagnoseWatch says what the probes see and what could not be delivered.
func (h *House) diagnoseWatch(ctx context.Context, add addFinding) {
	failed, err := h.store.FailedDeliveries(ctx, 10)
	switch {
	case err != nil:
		add("alarm-delivery", levelFailure, "bring the store back", "whether alarms were delivered cannot be read")
	case len(failed) > 0:
		for _, d := range failed {
			add("alarm-delivery", levelFailure, fmt.Sprintf("mend receiver %s, then: bulkhead alarms ack %d --reason TEXT", d.Receiver, d.Alarm.ID),
				"alarm %d (%s, %s) was given up for receiver %s after %d attempts: %s", d.Alarm.ID, d.Alarm.Detector, d.Alarm.Severity, d.Receiver, d.Attempts, d.Error)
		}
	case len(h.cfg.Watch.Deliver) == 0:
		add("alarm-delivery", levelFinding, "set watch.deliver in "+ConfigFile, "nobody is told of alarms: they are seen by whoever looks")
	default:
		add("alarm-delivery", levelOK, "", "%d receivers get alarms, no delivery was given up", len(h.cfg.Watch.Deliver))
	}
	p := h.prober.Load()
	if p == nil {
		return
	}
	now, bad := h.now(), 0
	looks := p.Looks()
	for _, l := range looks {
		if l.At.IsZero() {
			continue // the first round is under way
		}
		if l.Good.IsZero() || now.Sub(l.Good) > 5*time.Minute {
			bad++
			add("probe", levelFinding, "bulkhead alarms", "no round through %s (%s) has been without a finding since %s", l.Point, l.Base, orNever(l.Good))
		}
	}
	if bad == 0 {
		add("probe", levelOK, "", "%d addresses serve what the record says", len(looks))
	}
}

func orNever(t time.Time) string {
	if t.IsZero() {
		return "the start"
	}
	return t.UTC().Format(time.RFC3339)
}
