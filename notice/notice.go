package notice

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"bulkhead"
)

const (
	every    = 24 * time.Hour // between runs
	again    = time.Hour      // after a run in which something could not be sent
	attempts = 3              // for one message in one run
	page     = 1000           // rows read at once
)

// Config is what notices need. Store, Before and Senders are required.
type Config struct {
	Store   Store
	Senders []Sender
	Before  []time.Duration // how long before the end, whole seconds
	House   string
	Alarm   func(ctx context.Context, a bulkhead.Alarm) // what could not be sent; nil is silent
	Backoff time.Duration                               // after the first failed attempt, doubled after the next; 0 means 10 s
	Now     func() time.Time
	Log     *slog.Logger
}

// Service sends notices.
type Service struct{ cfg Config }

// New checks the configuration.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || len(cfg.Senders) == 0 || len(cfg.Before) == 0 {
		return nil, errors.New("notice: store, senders and thresholds are required")
	}
	cfg.Before = slices.Clone(cfg.Before)
	slices.Sort(cfg.Before)
	if cfg.Before[0] <= 0 {
		return nil, errors.New("notice: a threshold is not positive")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Alarm == nil {
		cfg.Alarm = func(context.Context, bulkhead.Alarm) {}
	}
	if cfg.Backoff == 0 {
		cfg.Backoff = 10 * time.Second
	}
	return &Service{cfg}, nil
}

// Run sends what is due, once a day, and an hour after a run that failed, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	for {
		wait := every
		if err := s.Once(ctx); err != nil && ctx.Err() == nil {
			wait = again
			now := s.cfg.Now().UTC()
			s.cfg.Log.WarnContext(ctx, "expiry notices could not all be sent; they are tried again", slog.String("error", err.Error()))
			s.cfg.Alarm(ctx, bulkhead.Alarm{Detector: "notice", Key: "unsent", Severity: bulkhead.Warning, FirstAt: now, LastAt: now, Count: 1,
				Message: "expiry notices could not all be sent; the diagnostic log says which", Runbook: "notices.md"})
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// due is a certificate, whom to tell of it still, and for which threshold.
type due struct {
	bulkhead.Expiring
	threshold time.Duration
	left      int // recipients who have not been told
}

// Once sends every message that is due. One that cannot be sent keeps no other from going.
func (s *Service) Once(ctx context.Context) error {
	var errs []error
	for _, x := range s.cfg.Senders {
		errs = append(errs, s.sendAll(ctx, x))
	}
	return errors.Join(errs...)
}

func (s *Service) sendAll(ctx context.Context, x Sender) error {
	byRecipient, err := s.collect(ctx, x)
	if err != nil {
		return err
	}
	var errs []error
	for _, to := range sortedKeys(byRecipient) {
		list := byRecipient[to]
		slices.SortStableFunc(list, func(a, b *due) int { return a.NotAfter.Compare(b.NotAfter) })
		if err := s.deliver(ctx, x, to, message(s.cfg.House, list)); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", x.Channel(), err))
			continue
		}
		var told []bulkhead.ExpiryNotice
		for _, d := range list {
			n := bulkhead.ExpiryNotice{CertificateRef: d.CertificateRef, Channel: x.Channel(), Recipient: to, Threshold: d.threshold, At: s.cfg.Now()}
			if d.left--; d.left == 0 {
				n.Recipient = "" // that was everybody
			}
			told = append(told, n)
		}
		for part := range slices.Chunk(told, page) {
			if err := s.cfg.Store.PutNotices(ctx, part); err != nil {
				return errors.Join(append(errs, fmt.Errorf("notice: %w", err))...)
			}
		}
	}
	return errors.Join(errs...)
}

// collect finds what is due on a channel. A certificate inside several thresholds is due for the shortest.
func (s *Service) collect(ctx context.Context, x Sender) (map[string][]*due, error) {
	now := s.cfg.Now()
	out := map[string][]*due{}
	from := now
	for _, threshold := range s.cfg.Before {
		f := bulkhead.ExpiringFilter{Channel: x.Channel(), Threshold: threshold, From: from, To: now.Add(threshold), Limit: page}
		from = f.To
		for {
			rows, err := s.cfg.Store.Expiring(ctx, f)
			if err != nil {
				return nil, fmt.Errorf("notice: %w", err)
			}
			for _, e := range rows {
				f.After = e.IntentSeq
				d := &due{Expiring: e, threshold: threshold}
				to, err := s.pending(ctx, x, d)
				if err != nil {
					return nil, err
				}
				d.left = len(to)
				for _, r := range to {
					out[r] = append(out[r], d)
				}
			}
			if len(rows) < page {
				break
			}
		}
	}
	return out, nil
}

// pending are the recipients who have not been told.
func (s *Service) pending(ctx context.Context, x Sender, d *due) ([]string, error) {
	to := x.Recipients(d.Expiring)
	if len(to) < 2 {
		return to, nil // one who was told is everybody
	}
	told, err := s.cfg.Store.Told(ctx, x.Channel(), d.CertificateRef, d.threshold)
	if err != nil {
		return nil, fmt.Errorf("notice: %w", err)
	}
	return slices.DeleteFunc(to, func(r string) bool { return slices.Contains(told, r) }), nil
}

func (s *Service) deliver(ctx context.Context, x Sender, to string, m Message) error {
	wait := s.cfg.Backoff
	for n := 1; ; n++ {
		err := x.Send(ctx, to, m)
		if err == nil || n == attempts || ctx.Err() != nil {
			return err
		}
		s.cfg.Log.WarnContext(ctx, "an expiry notice was not accepted", slog.String("channel", string(x.Channel())), slog.Int("attempt", n), slog.String("error", err.Error()))
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
		wait *= 2
	}
}

func message(house string, list []*due) Message {
	m := Message{House: house}
	for _, d := range list {
		i := Item{Issuer: string(d.Issuer), Serial: d.Serial.String(), NotAfter: d.NotAfter.UTC(), Names: []string{}}
		for _, n := range d.Names {
			i.Names = append(i.Names, n.Value)
		}
		m.Certificates = append(m.Certificates, i)
	}
	return m
}

func sortedKeys[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.SortFunc(out, strings.Compare)
	return out
}
