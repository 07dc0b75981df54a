package run

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/edge"
	"bulkhead/pki/pack"
	"bulkhead/publish"
	"bulkhead/status"
	"bulkhead/status/caches"
	"bulkhead/status/verifiers"
)

// edges implements status.Edges by the edge's own code.
type edges struct{ h *House }

// stagedSource is the published objects, as files, under a head that is not public.
type stagedSource struct {
	copies
	publish.Reader
	head  []byte
	named map[string]pack.ObjectRef
}

// Head gives the staged head.
func (s stagedSource) Head(context.Context) ([]byte, error) { return s.head, nil }

// LocalPath is where an object's file lies, which an edge maps.
func (s stagedSource) LocalPath(name string) (string, error) {
	return s.file(context.Background(), s.named[name])
}

// loaded is an edge that serves one head to its caller alone.
func (x edges) loaded(ctx context.Context, signed []byte) (*edge.Edge, error) {
	head, err := pack.OpenHead(signed, x.h.heads)
	if err != nil {
		return nil, err
	}
	e, err := edge.New(edge.Config{Source: stagedSource{x.h.copiesOf(x.h.objects), x.h.objects, signed, named(head)}, HeadVerifier: x.h.heads, Log: slog.New(slog.DiscardHandler), Now: x.h.now})
	if err != nil {
		return nil, err
	}
	return e, e.Refresh(ctx)
}

// Staged implements status.Edges.
func (x edges) Staged(ctx context.Context, head []byte) (status.Answerer, func(), error) {
	e, err := x.loaded(ctx, head)
	if err != nil {
		return nil, nil, err
	}
	return answerer{e.Handler()}, func() {}, nil
}

// Public implements status.Edges.
func (x edges) Public(ctx context.Context, sequence uint64) (status.Answerer, error) {
	if x.h.edge == nil { // edges are other processes: one like them is loaded
		head, err := x.h.objects.Head(ctx)
		if err != nil {
			return nil, err
		}
		e, err := x.loaded(ctx, head)
		if err != nil {
			return nil, err
		}
		return answerer{e.Handler()}, nil
	}
	if err := x.h.edge.Refresh(ctx); err != nil {
		return nil, err
	}
	if got := x.h.edge.Sequence(); got < sequence {
		return nil, bulkhead.Faultf(bulkhead.KindUnavailable, "the edge serves head %d, head %d is public", got, sequence).WithHint("look at /readyz on the status listener")
	}
	return answerer{x.h.edge.Handler()}, nil
}

// answerer asks a handler in the way of OCSP over HTTP (RFC 6960 appendix A).
type answerer struct{ http.Handler }

// reply collects what a handler writes.
type reply struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (r *reply) Header() http.Header         { return r.header }
func (r *reply) WriteHeader(code int)        { r.code = code }
func (r *reply) Write(p []byte) (int, error) { return r.body.Write(p) }

// Answer implements status.Answerer.
func (a answerer) Answer(ctx context.Context, request []byte) ([]byte, error) {
	r := (&http.Request{Method: http.MethodPost, URL: &url.URL{Path: "/ocsp"}, RequestURI: "/ocsp", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: "canary.invalid", RemoteAddr: "127.0.0.1:0",
		Header: http.Header{"Content-Type": {"application/ocsp-request"}}, ContentLength: int64(len(request)), Body: io.NopCloser(bytes.NewReader(request))}).WithContext(ctx)
	w := &reply{header: http.Header{}, code: http.StatusOK}
	a.ServeHTTP(w, r)
	if w.code != http.StatusOK {
		return nil, bulkhead.Faultf(bulkhead.KindUnavailable, "the responder says HTTP %d", w.code)
	}
	return w.body.Bytes(), nil
}

// tiers implements status.Tiers by the configured caches.
type tiers struct{ h *House }

// view looks at the house's own published state; closing it closes neither store nor objects.
func (x tiers) view() (*CacheView, error) {
	v := &CacheView{dir: x.h.dir, cfg: x.h.cfg, verifier: x.h.heads, store: x.h.store, now: x.h.now, objects: x.h.copiesOf(x.h.objects)}
	var err error
	v.tiers, err = x.h.cfg.Caches.tiers(unread)
	return v, err
}

// selection is everything for a change that is too large to be named URL by URL.
func (x tiers) selection(ctx context.Context, id string) (bulkhead.Change, CacheSelection, error) {
	c, err := x.h.store.Change(ctx, id)
	if err == nil && c.Count > caches.MaxAnswers {
		return c, CacheSelection{All: true}, nil
	}
	return c, CacheSelection{Change: id}, err
}

func (x tiers) log() *slog.Logger { return x.h.log.With(slog.String("role", "status")) }

// Purge implements status.Tiers.
func (x tiers) Purge(ctx context.Context, id string) (status.TierReport, error) {
	v, err := x.view()
	if err != nil {
		return status.TierReport{}, err
	}
	defer v.Close()
	_, s, err := x.selection(ctx, id)
	if err != nil {
		return status.TierReport{}, err
	}
	p, err := v.Purge(ctx, s, x.log())
	if err != nil {
		return status.TierReport{}, err
	}
	out := status.TierReport{Head: p.Head, HeadAt: p.HeadAt, Began: x.h.now(), Clean: p.Accepted}
	var told []string
	for i, t := range p.Tiers {
		if i == 0 {
			out.Began = t.Began
		}
		failed := 0
		for _, n := range t.Nodes {
			if n.Failed > 0 {
				failed++
				out.Behind = append(out.Behind, fmt.Sprintf("%s of tier %s refused the purge: %s; call %s", n.Node, t.Name, n.Detail, t.Owner))
			}
		}
		text := fmt.Sprintf("tier %s (%s) from %s to %s: %d nodes, %d failed", t.Name, t.Kind, t.Began.UTC().Format(time.RFC3339Nano), t.Ended.UTC().Format(time.RFC3339Nano), len(t.Nodes), failed)
		if t.Skipped != "" {
			text += ", " + t.Skipped
		}
		told = append(told, text)
	}
	out.Detail = fmt.Sprintf("head %d of %s was public before; %s", p.Head, p.HeadAt.UTC().Format(time.RFC3339), strings.Join(told, "; "))
	return out, nil
}

// Verify implements status.Tiers.
func (x tiers) Verify(ctx context.Context, id string) (status.TierReport, error) {
	v, err := x.view()
	if err != nil {
		return status.TierReport{}, err
	}
	defer v.Close()
	c, s, err := x.selection(ctx, id)
	if err != nil {
		return status.TierReport{}, err
	}
	got, err := v.Verify(ctx, s, x.log())
	if err != nil {
		return status.TierReport{}, err
	}
	out := status.TierReport{Head: got.Head, HeadAt: got.At, Began: got.At, Clean: got.Complete}
	counts := map[string]int{}
	for _, n := range got.Nodes {
		counts[n.Tier]++
		if n.Verdict != caches.Newest {
			out.Behind = append(out.Behind, strings.TrimSpace(n.Sentence()))
		}
	}
	if !out.Clean {
		// No answer that was signed before the change outlives this moment, whoever holds it.
		out.Dies = c.ActivatedAt.Add(time.Duration(x.h.cfg.Status.AnswerValidity))
	}
	out.Detail = fmt.Sprintf("%d nodes of %d tiers held against head %d", len(got.Nodes), len(counts), got.Head)
	if len(out.Behind) > 0 {
		out.Detail += "; " + strings.Join(out.Behind, "; ")
	}
	return out, nil
}

// incidents reads the record of an incident; both engines do.
type incidents interface {
	Incident(ctx context.Context, id string) (bulkhead.Incident, error)
}

// lifecycle completes the status service's configuration with what looks at a change from outside.
func (h *House) lifecycle(c *status.Config) {
	c.Incident = func(ctx context.Context, ref string) error {
		_, err := h.store.(incidents).Incident(ctx, ref)
		if bulkhead.KindOf(err) == bulkhead.KindNotFound {
			return bulkhead.Faultf(bulkhead.KindNotFound, "there is no incident %s on record", ref).WithHint("bulkhead incident open")
		}
		return err
	}
	if c.Elsewhere {
		return // who plans and approves does not look
	}
	c.Verifiers = verifiers.New(h.cfg.Status.Verifiers)
	c.Edges = edges{h}
	if len(h.cfg.Caches.Tiers) > 0 {
		c.Tiers = tiers{h}
	}
	c.Alarm, c.Approvals = h.raise, approvals{h}
}

// raise hands an alarm to the watch, or records it.
func (h *House) raise(ctx context.Context, a bulkhead.Alarm) {
	a.FirstAt = h.now().UTC()
	a.LastAt, a.Count = a.FirstAt, 1
	if h.watch != nil {
		h.watch.Raise(ctx, a)
		return
	}
	ev := bulkhead.Evidence{Kind: bulkhead.EvAlarm, At: a.FirstAt, Actor: "role:status", Ref: a.Detector + "/" + a.Key, Detail: string(a.Severity) + ": " + a.Message}
	if _, err := h.store.RaiseAlarm(ctx, a, ev); err != nil && ctx.Err() == nil {
		h.log.ErrorContext(ctx, "alarm could not be recorded", slog.String("message", a.Message), slog.String("error", err.Error()))
	}
}

// diagnoseVerifiers names what looks at a change before and after it is public, and what cannot.
func (h *House) diagnoseVerifiers(add addFinding) {
	names := h.cfg.Status.Verifiers
	if names == nil {
		names = verifiers.Found()
	}
	var there []string
	for _, n := range names {
		if n == verifiers.None {
			continue
		}
		if p := verifiers.Missing(n); p != "" {
			add("verifiers", levelFailure, "install "+p+", or take "+n+" out of status.verifiers in "+filepath.Join(h.dir, ConfigFile),
				"%s is configured as a verifier and %s is not installed: changes above %d certificates are not activated, smaller ones not settled", n, p, h.cfg.Status.OnePerson)
			continue
		}
		there = append(there, n)
	}
	for _, n := range verifiers.Known() {
		if p := verifiers.Missing(n); p != "" && h.cfg.Status.Verifiers == nil {
			add("verifiers", levelFinding, "install "+p, "%s does not look at changes of status: %s is not installed", n, p)
		}
	}
	if len(there) == 0 {
		add("verifiers", levelFinding, "install openssl and gnutls-bin", "no foreign program looks at changes of status: only our own code and Go's library do")
	} else {
		add("verifiers", levelOK, "", "changes of status are looked at by %s and go", strings.Join(there, ", "))
	}
}
