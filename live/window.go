package live

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"log/slog"
	"sync"
	"time"

	"bulkhead"
	"bulkhead/pki/ocsp"
)

// service is one authority with its delegate and its windows.
type service struct {
	id     bulkhead.AuthorityID
	issuer ocsp.Issuer
	cert   *x509.Certificate

	mu       sync.Mutex
	delegate *delegate // the newest; nil when there is none
	current  *window   // nil when none is open
	ended    []*window // to be accounted for
	opening  chan struct{}
	failed   error // of the last attempt to open a window
	retryAt  time.Time
}

// delegate never changes.
type delegate struct {
	key       *ecdsa.PrivateKey
	cert      *x509.Certificate
	hash      bulkhead.Hash // SHA-256 of its SPKI
	responder [20]byte
}

// window is what one intent allows; guarded by its service.
type window struct {
	id             string
	delegate       *delegate
	until          time.Time
	taken, pending int
	signatures     []bulkhead.Hash
}

func (s *Switch) open(w *window, now time.Time) bool {
	return w != nil && w.taken < s.cfg.Limit && now.Before(w.until)
}

// take reserves one signature in the open window, and opens one when there is none.
func (s *Switch) take(ctx context.Context, v *service) (*window, error) {
	for waited := false; ; waited = true {
		now := s.cfg.Now()
		v.mu.Lock()
		if s.open(v.current, now) {
			w := v.current
			w.taken++
			w.pending++
			v.mu.Unlock()
			return w, nil
		}
		if v.failed != nil && (waited || now.Before(v.retryAt)) {
			err := v.failed
			v.mu.Unlock()
			return nil, err
		}
		v.end()
		if v.opening == nil {
			v.opening = make(chan struct{})
			d := v.delegate
			s.tasks.Go(func() { s.openWindow(v, d) })
		}
		wait := v.opening
		v.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, unavailable("the request was given up", ctx.Err())
		}
	}
}

// end puts the current window among those to be accounted for. Callers hold mu.
func (v *service) end() {
	if v.current != nil {
		v.ended, v.current = append(v.ended, v.current), nil
	}
}

// openWindow asks for the intent; those who wait for it are many, so it has a context of its own.
func (s *Switch) openWindow(v *service, d *delegate) {
	ctx, cancel := context.WithTimeout(context.Background(), doorTimeout)
	defer cancel()
	now := s.cfg.Now()
	w, err := s.askWindow(ctx, v.id, d, now)
	if err != nil {
		s.cfg.Log.WarnContext(ctx, "no live OCSP answers: no window", slog.String("authority", string(v.id)), slog.String("error", err.Error()))
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.current, v.failed, v.retryAt = w, err, now.Add(retryOpen)
	if v.delegate != d {
		v.end() // renewed or dropped meanwhile
	}
	close(v.opening)
	v.opening = nil
}

func (s *Switch) askWindow(ctx context.Context, id bulkhead.AuthorityID, d *delegate, now time.Time) (*window, error) {
	if d == nil || !now.Before(d.cert.NotAfter) {
		return nil, noDelegate(id)
	}
	until := now.Add(s.cfg.Window)
	if until.After(d.cert.NotAfter) {
		until = d.cert.NotAfter
	}
	name, err := s.cfg.Door.OpenLiveWindow(ctx, d.hash, s.cfg.Limit, until)
	if err != nil {
		return nil, unavailable("the intent to sign live answers is not durable", err)
	}
	return &window{id: name, delegate: d, until: until}, nil
}

// done counts what was made in a window; signature is nil when nothing was. It reports whether that was the first.
func (v *service) done(w *window, signature []byte) (first bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	w.pending--
	if signature == nil {
		return false
	}
	w.signatures = append(w.signatures, bulkhead.Digest(signature))
	return len(w.signatures) == 1
}

// drop ends a window and its delegate.
func (v *service) drop(w *window) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.current == w {
		v.end()
	}
	if v.delegate == w.delegate {
		v.delegate = nil
	}
}

// sweep accounts for windows that are over, or for all.
func (s *Switch) sweep(ctx context.Context, all bool) {
	for _, v := range *s.services.Load() {
		v.mu.Lock()
		if all || !s.open(v.current, s.cfg.Now()) {
			v.end()
		}
		var due, later []*window
		for _, w := range v.ended {
			if w.pending > 0 {
				later = append(later, w)
				continue
			}
			due = append(due, w)
		}
		v.ended = later
		v.mu.Unlock()
		for _, w := range due {
			if !s.account(ctx, v, w) {
				v.mu.Lock()
				v.ended = append(v.ended, w)
				v.mu.Unlock()
			}
		}
	}
}

// account closes one window; false means that it must be tried again.
func (s *Switch) account(ctx context.Context, v *service, w *window) bool {
	ctx, cancel := context.WithTimeout(ctx, doorTimeout)
	defer cancel()
	var err error
	if s.cfg.Keep != nil {
		err = s.cfg.Keep(w.id, w.signatures)
	}
	if err == nil {
		err = s.cfg.Door.CloseLiveWindow(ctx, w.id, w.signatures)
	}
	if err == nil {
		return true
	}
	kind := bulkhead.KindOf(err)
	final := kind == bulkhead.KindNotFound || kind == bulkhead.KindConflict
	s.cfg.Log.ErrorContext(ctx, "a window of live answers is not accounted for", slog.String("authority", string(v.id)), slog.String("window", w.id),
		slog.Int("signatures", len(w.signatures)), slog.Bool("again", !final), slog.String("error", err.Error()))
	return final
}
