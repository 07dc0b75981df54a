package watch

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"bulkhead"
)

// Sighting is one thing that a sensor saw; detectors turn sightings into alarms.
type Sighting struct {
	Kind   SightingKind
	Issuer bulkhead.AuthorityID
	Serial bulkhead.Serial
	At     time.Time
	Detail string

	// Of what a server shows.
	Fingerprint, Key bulkhead.Hash
	Since            time.Time // notBefore of the certificate

	// Of a registration partner's order.
	Partner string
	Names   []bulkhead.Identifier
	Refused bulkhead.Kind // "" for one that was taken
}

// SightingKind says what was seen.
type SightingKind string

// Sightings.
const (
	// UnassignedAsked is a status request for a serial of our issuer for which the edge has no answer.
	UnassignedAsked SightingKind = "unassigned-asked"
	// BlockedKeyShown is a request that shows a key which is blocked; Detail is the SHA-256 of its SPKI.
	BlockedKeyShown SightingKind = "blocked-key-shown"
)

// Detector judges one sighting. It returns nil when all is well, an alarm when it is not, an error when it could not
// look; an error is reported as an alarm of its own.
type Detector interface {
	ID() string // "D1"
	Wants(k SightingKind) bool
	Judge(ctx context.Context, s Sighting) (*bulkhead.Alarm, error)
}

// queueLength bounds sightings that wait; the sensor drops beyond it and the drop is counted in an alarm.
const queueLength = 4096

// Config is what a watch needs. Store is required.
type Config struct {
	Store     Store
	Detectors []Detector
	Now       func() time.Time
	Log       *slog.Logger

	// Clocks are the wall clock and the time since some moment that no adjustment moves; nil asks the machine.
	Clocks     func() (wall time.Time, mono time.Duration)
	ClockEvery time.Duration // between two looks at them; 0 means 5 s
}

// Watch feeds sightings to detectors and records alarms.
type Watch struct {
	cfg   Config
	queue chan Sighting
	drops chan struct{} // at most one pending note that sightings were dropped
}

// New checks the configuration.
func New(cfg Config) (*Watch, error) {
	if cfg.Store == nil {
		return nil, fmt.Errorf("watch: no store")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Clocks == nil {
		began := time.Now()
		cfg.Clocks = func() (time.Time, time.Duration) {
			now := time.Now()
			return now, now.Sub(began)
		}
	}
	if cfg.ClockEvery == 0 {
		cfg.ClockEvery = clockEvery
	}
	return &Watch{cfg: cfg, queue: make(chan Sighting, queueLength), drops: make(chan struct{}, 1)}, nil
}

// Add takes one more detector, before Run.
func (w *Watch) Add(d Detector) { w.cfg.Detectors = append(w.cfg.Detectors, d) }

// See hands over a sighting without waiting; safe on any path, however hot.
func (w *Watch) See(s Sighting) {
	select {
	case w.queue <- s:
	default:
		select {
		case w.drops <- struct{}{}:
		default:
		}
	}
}

// Run judges sightings until ctx ends.
func (w *Watch) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-w.queue:
			w.judge(ctx, s)
		case <-w.drops:
			now := w.cfg.Now().UTC()
			w.Raise(ctx, bulkhead.Alarm{Detector: "watch", Key: "dropped", Severity: bulkhead.Warning, FirstAt: now, LastAt: now, Count: 1,
				Message: "sightings arrive faster than they can be judged; some were dropped", Runbook: "watch.md"})
		}
	}
}

func (w *Watch) judge(ctx context.Context, s Sighting) {
	for _, d := range w.cfg.Detectors {
		if !d.Wants(s.Kind) {
			continue
		}
		a, err := d.Judge(ctx, s)
		if err != nil {
			now := w.cfg.Now().UTC()
			a = &bulkhead.Alarm{Detector: d.ID(), Key: "blind", Severity: bulkhead.Warning, FirstAt: now, LastAt: now, Count: 1,
				Message: "the detector could not look: " + bulkhead.AsFault(err).Detail, Runbook: "watch.md"}
			w.cfg.Log.ErrorContext(ctx, "detector could not look", slog.String("detector", d.ID()), slog.String("error", err.Error()))
		}
		if a != nil {
			w.Raise(ctx, *a)
		}
	}
}

// quiet is after how long without a sighting an acknowledged alarm that comes back is news.
const quiet = time.Hour

// Raise records an alarm; the same detector and key is one alarm.
func (w *Watch) Raise(ctx context.Context, a bulkhead.Alarm) {
	a.Quiet = quiet
	ev := bulkhead.Evidence{Kind: bulkhead.EvAlarm, At: a.FirstAt, Actor: "role:watch", Ref: ref(a), Detail: string(a.Severity) + ": " + a.Message}
	fresh, err := w.cfg.Store.RaiseAlarm(ctx, a, ev)
	if err != nil {
		if ctx.Err() != nil {
			return // the process is going down; what raised it will be looked at again by the next one
		}
		w.cfg.Log.ErrorContext(ctx, "alarm could not be recorded", slog.String("detector", a.Detector), slog.String("message", a.Message), slog.String("error", err.Error()))
		return
	}
	if fresh {
		w.cfg.Log.WarnContext(ctx, "alarm", slog.String("detector", a.Detector), slog.String("severity", string(a.Severity)), slog.String("message", a.Message), slog.String("runbook", a.Runbook))
	}
}

// Alarms returns what was raised, newest first.
func (w *Watch) Alarms(ctx context.Context, limit int) ([]bulkhead.Alarm, error) {
	return w.cfg.Store.Alarms(ctx, limit)
}

// maxReason bounds an acknowledgement.
const maxReason = 1000

// Plan checks an acknowledgement and changes nothing. It returns the alarm.
func (w *Watch) Plan(ctx context.Context, id int64, reason string) (bulkhead.Alarm, error) {
	if strings.TrimSpace(reason) == "" || len(reason) > maxReason {
		return bulkhead.Alarm{}, bulkhead.Faultf(bulkhead.KindUsage, "an acknowledgement needs a reason of at most %d octets", maxReason).WithHint("--reason TEXT: what was found, or who is on it")
	}
	a, err := w.cfg.Store.Alarm(ctx, id)
	if bulkhead.KindOf(err) == bulkhead.KindNotFound {
		return a, bulkhead.Faultf(bulkhead.KindNotFound, "there is no alarm %d", id).WithHint("bulkhead alarms")
	}
	if err == nil && !a.Open() {
		return a, bulkhead.Faultf(bulkhead.KindConflict, "alarm %d was acknowledged by %s: %s", id, a.AckedBy, a.AckReason).WithHint("bulkhead alarms --all")
	}
	return a, err
}

// Acknowledge records that somebody takes an alarm: it is not delivered any more, and the same trouble is quiet while it goes
// on. It does not end the trouble.
func (w *Watch) Acknowledge(ctx context.Context, actor string, id int64, reason string) (bulkhead.Alarm, error) {
	a, err := w.Plan(ctx, id, reason)
	if err != nil {
		return a, err
	}
	now := w.cfg.Now().UTC()
	ev := bulkhead.Evidence{Kind: bulkhead.EvAlarmAcknowledged, At: now, Actor: actor, Ref: ref(a), Detail: reason}
	if err := w.cfg.Store.AckAlarm(ctx, id, now, actor, reason, ev); err != nil {
		return a, err
	}
	return w.cfg.Store.Alarm(ctx, id)
}

// ref names an alarm in evidence, within what a leaf takes.
func ref(a bulkhead.Alarm) string {
	r := a.Detector + "/" + a.Key
	return strings.ToValidUTF8(r[:min(len(r), 255)], "")
}

// UnassignedSerial is D1: somebody asks for the status of a serial under our issuer that we never assigned. In 2011 it
// would have shown the rogue DigiNotar certificates in use weeks before they were found.
type UnassignedSerial struct {
	Store Store
}

// ID implements Detector.
func (UnassignedSerial) ID() string { return "D1" }

// Wants implements Detector.
func (UnassignedSerial) Wants(k SightingKind) bool { return k == UnassignedAsked }

// Judge asks the store before it alarms: the edge may not have the newest answers yet. A reserved serial alarms as
// well, because no certificate with it was ever handed out.
func (d UnassignedSerial) Judge(ctx context.Context, s Sighting) (*bulkhead.Alarm, error) {
	rows, err := d.Store.Statuses(ctx, s.Issuer, []bulkhead.Serial{s.Serial})
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		if r.State == bulkhead.Issued || r.State == bulkhead.Revoked {
			return nil, nil
		}
	}
	if old, err := d.Store.Pruned(ctx, bulkhead.CertificateRef{Issuer: s.Issuer, Serial: s.Serial}); old || err != nil {
		return nil, err
	}
	return &bulkhead.Alarm{
		Detector: d.ID(), Key: string(s.Issuer) + "," + s.Serial.String(), Severity: bulkhead.Critical,
		Message: "status was asked for serial " + s.Serial.String() + " of " + string(s.Issuer) + ", which was never issued: a certificate may exist that this house did not record",
		Runbook: "d1-unassigned-serial.md", FirstAt: s.At, LastAt: s.At, Count: 1,
	}, nil
}
