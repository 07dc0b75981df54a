// Package deliver carries alarms to the people who act on them: to a webhook, to syslog, by mail.
//
// Invariant: each receiver gets each open alarm of its severities once, also after a restart; what was accepted is durable
// before the next one goes. An attempt that fails is made again with growing pauses, and a delivery that is given up is
// evidence and stays visible until somebody acknowledges the alarm: a silent receiver is never taken for a quiet house.
// The same trouble is one alarm (package watch), so it is delivered once however often it is seen.
//
// Refuses: to follow a redirect, to send to anybody who is not configured, to sign with a short key, to let one slow receiver
// keep the others waiting.
package deliver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"bulkhead"
)

// Store is the durable record as deliveries need it.
type Store interface {
	// DueDeliveries returns what has to go to a receiver by now, the oldest alarm first: open alarms of the severities that
	// it neither accepted nor was given up for.
	DueDeliveries(ctx context.Context, receiver string, severities []bulkhead.Severity, now time.Time, limit int) ([]bulkhead.AlarmDelivery, error)
	PutDelivery(ctx context.Context, d bulkhead.AlarmDelivery, ev ...bulkhead.Evidence) error
}

// Sender carries one alarm.
type Sender interface {
	// Send returns when the other side has accepted the alarm, or an error without secrets.
	Send(ctx context.Context, a bulkhead.Alarm) error
}

// Receiver is one configured way out.
type Receiver struct {
	Name   string
	Least  bulkhead.Severity // the mildest severity that it gets
	Sender Sender
}

const (
	// DefaultAttempts ends a delivery after some four hours of trying.
	DefaultAttempts = 10
	// DefaultBackoff is the pause after the first failed attempt; it doubles, up to an hour.
	DefaultBackoff = 30 * time.Second

	longestBackoff = time.Hour
	sendTimeout    = 30 * time.Second
	page           = 100
)

// Config is what a service needs. Store and Receivers are required.
type Config struct {
	Store     Store
	Receivers []Receiver
	Attempts  int           // 0 means DefaultAttempts
	Backoff   time.Duration // 0 means DefaultBackoff
	Every     time.Duration // between looks for what is due; 0 means 5 s
	Now       func() time.Time
	Log       *slog.Logger
}

// Service delivers.
type Service struct {
	cfg Config

	mu    sync.Mutex // guards tally
	tally map[string]Tally
}

// Tally counts what became of attempts since the start, by receiver.
type Tally struct{ Done, Retried, Failed int64 }

// New checks the configuration.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || len(cfg.Receivers) == 0 {
		return nil, errors.New("deliver: store and receivers are required")
	}
	names := map[string]bool{}
	for _, r := range cfg.Receivers {
		if r.Name == "" || names[r.Name] || r.Sender == nil || len(bulkhead.AtLeast(r.Least)) == 0 {
			return nil, fmt.Errorf("deliver: receiver %q has no name of its own, no sender, or no severity", r.Name)
		}
		names[r.Name] = true
	}
	if cfg.Attempts == 0 {
		cfg.Attempts = DefaultAttempts
	}
	if cfg.Backoff == 0 {
		cfg.Backoff = DefaultBackoff
	}
	if cfg.Every == 0 {
		cfg.Every = 5 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Service{cfg: cfg, tally: map[string]Tally{}}, nil
}

// Run delivers until ctx ends. Each receiver goes its own pace.
func (s *Service) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, r := range s.cfg.Receivers {
		wg.Go(func() {
			t := time.NewTicker(s.cfg.Every)
			defer t.Stop()
			for {
				if err := s.once(ctx, r); err != nil && ctx.Err() == nil {
					s.cfg.Log.ErrorContext(ctx, "alarms could not be delivered: the record does not answer", slog.String("receiver", r.Name), slog.String("error", err.Error()))
				}
				select {
				case <-ctx.Done():
					return
				case <-t.C:
				}
			}
		})
	}
	wg.Wait()
	return nil
}

// Once sends what is due to every receiver. The error is that of the record; a receiver's failure is in its deliveries.
func (s *Service) Once(ctx context.Context) error {
	var errs []error
	for _, r := range s.cfg.Receivers {
		errs = append(errs, s.once(ctx, r))
	}
	return errors.Join(errs...)
}

// Tallies returns the counters by receiver.
func (s *Service) Tallies() map[string]Tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]Tally{}
	for _, r := range s.cfg.Receivers {
		out[r.Name] = s.tally[r.Name]
	}
	return out
}

func (s *Service) once(ctx context.Context, r Receiver) error {
	due, err := s.cfg.Store.DueDeliveries(ctx, r.Name, bulkhead.AtLeast(r.Least), s.cfg.Now(), page)
	if err != nil {
		return err
	}
	for _, d := range due {
		accepted, err := s.attempt(ctx, r, d)
		if err != nil || !accepted {
			return err // a receiver that does not answer is not asked again in this round
		}
	}
	return nil
}

// attempt sends once and keeps what came of it.
func (s *Service) attempt(ctx context.Context, r Receiver, d bulkhead.AlarmDelivery) (accepted bool, err error) {
	sending, cancel := context.WithTimeout(ctx, sendTimeout)
	sent := r.Sender.Send(sending, d.Alarm)
	cancel()
	if sent != nil && ctx.Err() != nil {
		return false, ctx.Err() // cut off by our own end: no attempt
	}
	d.Attempts++
	d.At, d.NextAt, d.Error = s.cfg.Now().UTC(), time.Time{}, ""
	var ev []bulkhead.Evidence
	switch {
	case sent == nil:
		d.State = bulkhead.DeliveryDone
	case d.Attempts >= s.cfg.Attempts:
		d.State, d.Error = bulkhead.DeliveryFailed, short(sent.Error())
		ev = append(ev, bulkhead.Evidence{Kind: bulkhead.EvAlarmUndelivered, At: d.At, Actor: "role:watch", Ref: clip(d.Alarm.Detector+"/"+d.Alarm.Key, 255), Count: int64(d.Attempts), Detail: r.Name + ": " + d.Error})
	default:
		d.State, d.Error, d.NextAt = bulkhead.DeliveryPending, short(sent.Error()), d.At.Add(s.pause(d.Attempts))
	}
	if err := s.cfg.Store.PutDelivery(ctx, d, ev...); err != nil {
		return false, err
	}
	s.count(r.Name, d.State)
	if sent != nil {
		s.cfg.Log.WarnContext(ctx, "an alarm was not delivered", slog.String("receiver", r.Name), slog.Int64("alarm", d.Alarm.ID), slog.Int("attempts", d.Attempts), slog.Bool("given_up", d.State == bulkhead.DeliveryFailed), slog.String("error", d.Error))
	}
	return sent == nil, nil
}

func (s *Service) pause(attempts int) time.Duration {
	p := s.cfg.Backoff
	for range attempts - 1 {
		if p *= 2; p >= longestBackoff {
			return longestBackoff
		}
	}
	return p
}

func (s *Service) count(name string, state bulkhead.DeliveryState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tally[name]
	switch state {
	case bulkhead.DeliveryDone:
		t.Done++
	case bulkhead.DeliveryFailed:
		t.Failed++
	default:
		t.Retried++
	}
	s.tally[name] = t
}

// short bounds what is kept of an error.
func short(text string) string { return clip(text, 500) }

// clip cuts a text to so many octets of valid UTF-8.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && text[most]&0xc0 == 0x80 {
		most--
	}
	return text[:most]
}
