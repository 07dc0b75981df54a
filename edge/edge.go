// Package edge is the read path: it answers OCSP, CRL and AIA requests from the packs and CRLs that the signed head
// names.
//
// Invariant: an answer is looked up by issuer name hash, issuer key hash and serial and by nothing else (promise P1);
// what is served belongs to the highest head ever accepted (P5); a serial without an answer is never good (P11).
// With everything else gone the edge goes on answering from what it holds, and its health says so (P8).
//
// An answer past its nextUpdate is not served: the asker gets tryLater, uncacheable, because an expired answer helps
// nobody and a cache might keep it; no older pack is asked in its place. A CRL past its nextUpdate is still served,
// marked no-store: it carries its own date, and a relying party may have to see it.
// Answers to POST are marked no-store: no cache can purge them by URL. Nonces are ignored, since answers are pre-signed.
//
// With Config.Live, for private hierarchies, a request with a nonce, with several CertIDs, under another hash or for a
// serial without an answer gets a response signed for it alone. What it says still comes from the packs; the key is
// somebody else's.
//
// A start reads the tails of packs, which the head names by their digest; every page of theirs is verified before the first answer
// from it is served, and all of them in the background. What is damaged on this machine's disk is not served (tryLater), is
// named by readyz, and is fetched again where there is something to fetch it from.
//
// Refuses: keys, databases, heads that are unsigned or older, objects whose digest is not the head's, and without
// Config.Live more than one CertID in a request.
package edge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/pki/pack"
	"bulkhead/publish"
)

// Defaults and bounds.
const (
	// DefaultPoll is how often the head is looked at: a change is visible within two seconds.
	DefaultPoll = 500 * time.Millisecond
	// DefaultNearExpiry is when readyz begins to name what runs out.
	DefaultNearExpiry = 12 * time.Hour
	// DefaultMaxCertIDs is how many CertIDs one live answer speaks of.
	DefaultMaxCertIDs = 16

	// retryRefused spaces out attempts at a head that was refused: checking its objects may cost a second of CPU.
	retryRefused = 5 * time.Second
	// observeQueue bounds observations that wait for Observe; more are counted and dropped.
	observeQueue = 256
)

// Config is what an edge needs.
type Config struct {
	Source       publish.Reader // required; a *publish.Dir is mapped in place
	HeadVerifier note.Verifier  // required: the one key whose heads are believed
	Log          *slog.Logger   // required
	Now          func() time.Time
	Poll         time.Duration // between looks at the head; 0 means DefaultPoll
	// CacheDir keeps the last accepted head, so that a restart neither goes back nor depends on the source, and the
	// objects of a source that is not a directory. Without it objects live on the heap and a restart forgets.
	CacheDir string
	// MaxAge caps Cache-Control max-age of OCSP answers and CRLs; 0 leaves it at the time to nextUpdate.
	MaxAge time.Duration
	// NearExpiry is how long before nextUpdate readyz warns; 0 means DefaultNearExpiry.
	NearExpiry time.Duration
	// Observe is told, from one goroutine of Run, of requests for serials of our issuers that have no answer.
	Observe func(Unassigned)
	// Live signs answers to single requests; nil serves pre-signed answers only.
	Live Live
	// MaxCertIDs bounds the CertIDs of a request when Live is set: more is malformed; 0 means DefaultMaxCertIDs.
	MaxCertIDs int
	// StatusURL is the base of the URLs that certificates name, for /crl/ISSUER/urls.json; empty: that is not served.
	StatusURL string
	Metrics   prometheus.Registerer // nil: not registered
}

// Unassigned is a question about a serial that we have no answer for (detector D1).
type Unassigned struct {
	Issuer bulkhead.AuthorityID
	Serial bulkhead.Serial
	At     time.Time
}

// Edge answers from the newest accepted head. Its handler may be used before and while Run runs.
type Edge struct {
	cfg      Config
	current  atomic.Pointer[epoch] // nil until the first head
	headers  headerCache
	observed chan Unassigned
	metrics  *metrics

	mu       sync.Mutex // Refresh: one at a time; guards what follows
	floor    *pack.Head // newest head accepted in this or an earlier life; nil when none
	floorRaw []byte     // as signed
	refused  []byte     // signed head that was refused last, and when to look at it again
	retryAt  time.Time
	mendAt   time.Time               // when to try next to replace damaged objects
	problem  atomic.Pointer[problem] // nil when the last look at the source went well
}

type problem struct {
	kind  string // metric label
	text  string
	since time.Time
}

// New checks the configuration and reads the remembered head. It fails when that file is damaged: starting without
// it could serve answers older than those served before.
func New(cfg Config) (*Edge, error) {
	if cfg.Source == nil || cfg.HeadVerifier == nil || cfg.Log == nil {
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "edge: source, head key and logger are required")
	}
	if cfg.Poll < 0 || cfg.MaxAge < 0 || cfg.NearExpiry < 0 || cfg.MaxCertIDs < 0 || cfg.MaxCertIDs > maxCertIDs {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "edge: durations are not negative, and MaxCertIDs is at most %d", maxCertIDs)
	}
	switch {
	case cfg.Live == nil:
		cfg.MaxCertIDs = maxCertIDs
	case cfg.MaxCertIDs == 0:
		cfg.MaxCertIDs = DefaultMaxCertIDs
	}
	if cfg.Poll == 0 {
		cfg.Poll = DefaultPoll
	}
	if cfg.NearExpiry == 0 {
		cfg.NearExpiry = DefaultNearExpiry
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	e := &Edge{cfg: cfg, observed: make(chan Unassigned, observeQueue)}
	var err error
	if e.metrics, err = newMetrics(cfg.Metrics); err != nil {
		return nil, err
	}
	if cfg.CacheDir != "" {
		if e.floorRaw, e.floor, err = remembered(cfg.CacheDir); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// Sequence is the sequence of the head being served, 0 when there is none.
func (e *Edge) Sequence() uint64 {
	if ep := e.current.Load(); ep != nil {
		return ep.head.Sequence
	}
	return 0
}

// Run looks at the head until ctx ends. Trouble with the source never ends it.
func (e *Edge) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { e.observe(ctx) })
	tick := time.NewTicker(e.cfg.Poll)
	defer tick.Stop()
	verifying := false
	for {
		_ = e.Refresh(ctx) // kept as the problem that readyz shows
		if ep := e.current.Load(); ep != nil && !verifying {
			verifying = true
			wg.Go(func() { e.verifyPages(ctx, ep) })
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (e *Edge) observe(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case u := <-e.observed:
			if e.cfg.Observe != nil {
				e.cfg.Observe(u)
			}
		}
	}
}

// Refresh looks at the source once and switches to its head when that is new and whole. On any error what is served
// stays as it is. The kinds: KindUnavailable for a source that does not answer, KindNotFound before the first head,
// KindConflict for a head that is refused.
func (e *Edge) Refresh(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	signed, err := e.cfg.Source.Head(ctx)
	if err != nil {
		if e.current.Load() == nil && e.floorRaw != nil { // P8: a restart while the source is away
			if e.adopt(ctx, e.floorRaw) == nil {
				e.cfg.Log.InfoContext(ctx, "serving the remembered head", "sequence", e.floor.Sequence)
			}
		}
		return e.report(ctx, "source", err)
	}
	if ep := e.current.Load(); ep != nil && bytes.Equal(signed, ep.signed) && !e.mendable(ep) {
		return e.report(ctx, "", nil)
	}
	if bytes.Equal(signed, e.refused) && e.cfg.Now().Before(e.retryAt) {
		return bulkhead.NewFault(bulkhead.KindConflict, "edge: the published head was refused")
	}
	if err := e.adopt(ctx, signed); err != nil {
		e.refused, e.retryAt = signed, e.cfg.Now().Add(retryRefused)
		e.metrics.refused.Inc()
		if e.current.Load() == nil && e.floorRaw != nil && !bytes.Equal(signed, e.floorRaw) {
			_ = e.adopt(ctx, e.floorRaw) // a bad head must not keep a restarted edge silent
		}
		return e.report(ctx, "head", bulkhead.NewFault(bulkhead.KindConflict, "edge: the published head was refused").WithCause(err))
	}
	e.refused = nil
	return e.report(ctx, "", nil)
}

// adopt verifies a signed head, loads its objects, remembers it and switches to it.
func (e *Edge) adopt(ctx context.Context, signed []byte) error {
	head, err := pack.OpenHead(signed, e.cfg.HeadVerifier)
	if err != nil {
		return err
	}
	if e.floor != nil && !bytes.Equal(signed, e.floorRaw) {
		if err := head.Follows(e.floor); err != nil {
			return err
		}
	}
	ep, err := e.load(ctx, head, signed)
	if err != nil {
		return err
	}
	if e.cfg.CacheDir != "" && !bytes.Equal(signed, e.floorRaw) {
		if err := remember(e.cfg.CacheDir, signed); err != nil {
			return err // switching anyway could let a restart go back
		}
	}
	e.floor, e.floorRaw = head, signed
	e.current.Store(ep)
	e.metrics.sequence.Set(float64(head.Sequence))
	e.metrics.switches.Inc()
	e.cfg.Log.DebugContext(ctx, "head switched", "sequence", head.Sequence, "issuers", len(head.Issuers), "objects", len(ep.objects))
	e.prune(ctx, ep)
	return nil
}

// report keeps what is wrong for readyz and logs it once when it changes.
func (e *Edge) report(ctx context.Context, kind string, err error) error {
	old := e.problem.Load()
	if err == nil {
		e.metrics.polled.Set(float64(e.cfg.Now().Unix()))
		if old != nil {
			e.cfg.Log.InfoContext(ctx, "source is well again", "after", old.text)
			e.problem.Store(nil)
		}
		return nil
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return err
	}
	text := describe(err)
	e.metrics.failures.WithLabelValues(kind).Inc()
	if old != nil && old.kind == kind && old.text == text {
		return err
	}
	since := e.cfg.Now()
	if old != nil && old.kind == kind {
		since = old.since
	}
	e.problem.Store(&problem{kind: kind, text: text, since: since})
	e.cfg.Log.WarnContext(ctx, "keeping the head that is served", "kind", kind, "error", err.Error(), "sequence", e.Sequence())
	return err
}

// describe says what the public may read of an error: details of faults, never paths or causes of other errors.
func describe(err error) string {
	text := bulkhead.AsFault(err).Detail
	var inner *bulkhead.Fault
	if cause := errors.Unwrap(bulkhead.AsFault(err)); errors.As(cause, &inner) {
		text = fmt.Sprintf("%s: %s", text, inner.Detail)
	}
	return text
}
