package drill

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"bulkhead"
	"bulkhead/pki/ocsp"
	"bulkhead/run"
)

// clock moves when the day says so, and never back.
type clock struct{ at atomic.Int64 }

func newClock(t time.Time) *clock {
	c := &clock{}
	c.at.Store(t.UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

// shadow is a whole house in a directory of the rehearsal's.
type shadow struct {
	s     *Stage
	dir   string
	open  *run.House
	roles run.Roles
	reh   *run.Rehearsal
}

// profileFor is a profile of a product line.
const profileFor = `name: %s
kind: tls-server
description: product line of a rehearsal
validity: 47d
backdate: 5m
renew_at: 0.67
keys: [p256]
identifiers: [dns, ip]
max_names: 10
wildcard: true
common_name: omit
extended_key_usages: [server-auth]
policies: [2.23.140.1.2.1]
acme: true
`

// house makes and opens a house. change edits its configuration; fault, when not nil, is planted where the house computes
// what it would say.
func (s *Stage) house(name string, products []string, change func(*run.Config), fault func(change string, a *bulkhead.ShadowAnswer)) (*shadow, error) {
	return s.houseWith(name, products, change, run.Options{Planted: fault})
}

// ownClock is for a day whose clock goes ahead of the machine's: foreign verifiers look at the latter, and would take what is
// signed on such a day for a thing of the future.
func ownClock(c *run.Config) { c.Status.Verifiers = []string{"none"} }

// houseWith is house with more choices.
func (s *Stage) houseWith(name string, products []string, change func(*run.Config), o run.Options) (*shadow, error) {
	h := &shadow{s: s, dir: filepath.Join(s.dir, name)}
	cfg := run.DefaultConfig()
	if change != nil {
		change(&cfg)
	}
	if _, err := run.FirstStart(s.ctx, h.dir, cfg, nil); err != nil {
		return nil, err
	}
	for _, p := range products {
		if err := os.WriteFile(filepath.Join(h.dir, "profiles", p+".yaml"), fmt.Appendf(nil, profileFor, p), 0o644); err != nil {
			return nil, err
		}
	}
	stored, err := run.LoadConfig(h.dir)
	if err != nil {
		return nil, err
	}
	o.Dir, o.Config, o.Log, o.Version, o.Now, o.Rehearsal = h.dir, stored, s.o.Log, s.o.Version, s.clock.now, true
	h.open, err = run.OpenWith(s.ctx, o)
	if err != nil {
		return nil, err
	}
	s.end(h.open.Close)
	h.roles = h.open.Roles()
	if h.reh, err = h.open.Rehearsal(); err != nil {
		return nil, err
	}
	return h, nil
}

// start brings up status and evidence.
func (h *shadow) start() error {
	if err := h.open.Start(h.s.ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(h.s.ctx))
	done := make(chan error, 1)
	go func() { done <- h.roles.Evidence.Run(ctx) }()
	h.s.end(func() error {
		cancel()
		return <-done
	})
	return nil
}

// status asks the edge what a certificate is, as a relying party would: by OCSP.
func (h *shadow) status(ref bulkhead.CertificateRef) (ocsp.SingleResponse, error) {
	a, err := h.roles.Store.Authority(h.s.ctx, ref.Issuer)
	if err != nil {
		return ocsp.SingleResponse{}, err
	}
	id, err := ocsp.NewIssuer(a.Subject, a.SPKI)
	if err != nil {
		return ocsp.SingleResponse{}, err
	}
	body, err := ocsp.EncodeRequest([]ocsp.CertID{id.CertID(ocsp.SHA1, ref.Serial)}, nil)
	if err != nil {
		return ocsp.SingleResponse{}, err
	}
	req, err := http.NewRequestWithContext(h.s.ctx, http.MethodPost, "http://status.test/ocsp/", bytes.NewReader(body))
	if err != nil {
		return ocsp.SingleResponse{}, err
	}
	req.Header.Set("Content-Type", "application/ocsp-request")
	rec := &recorder{head: http.Header{}, code: http.StatusOK}
	h.roles.Edge.Handler().ServeHTTP(rec, req)
	r, err := ocsp.ParseResponse(rec.body.Bytes())
	if err != nil {
		return ocsp.SingleResponse{}, err
	}
	if len(r.Singles) != 1 {
		return ocsp.SingleResponse{}, fmt.Errorf("%d answers in a response for %s", len(r.Singles), ref)
	}
	return r.Singles[0], nil
}

// look lets every role of the house look once.
func (h *shadow) look() error {
	if err := h.roles.Status.Tick(h.s.ctx); err != nil {
		return err
	}
	h.roles.Status.Wait()
	return h.roles.Edge.Refresh(h.s.ctx)
}
