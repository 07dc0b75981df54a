// Package live is the live-signing switch of private hierarchies: it signs OCSP answers one request at a time, which is
// what nonces, several CertIDs and signed "unknown" need.
//
// What is said comes from the caller, who read it in the published packs; here is only the key. It is a P-256 key of
// this process, never written down, certified as an OCSP delegate for a day at most.
//
// Invariant: a signature is made only inside a window whose intent (delegate, most signatures, end) is durable in evidence,
// and every signature is counted in the window's outcome (promises P2, P3; doc/decisions/0006-live-signing.md).
//
// Refuses: to start with a delegate that ocsp.CheckDelegate refuses; to sign without a window; more requests at a time
// than its queue holds. It knows no serials, opens no store and answers no network.
package live

import (
	"context"
	"crypto"
	"crypto/x509"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"bulkhead"
	"bulkhead/pki/ocsp"
)

// Door is what a switch asks of the signer.
type Door interface {
	// LiveAuthorities are the authorities that can have live delegates.
	LiveAuthorities(ctx context.Context) ([]bulkhead.Authority, error)
	// CertifyLive certifies the key of a CSR without names as an OCSP delegate of the authority.
	CertifyLive(ctx context.Context, id bulkhead.AuthorityID, csr []byte) (bulkhead.IssuedCertificate, error)
	// OpenLiveWindow makes durable that the delegate with this key (SHA-256 of its SPKI) signs at most limit answers until
	// then, and names the window.
	OpenLiveWindow(ctx context.Context, key bulkhead.Hash, limit int, until time.Time) (id string, err error)
	// CloseLiveWindow accounts for the SHA-256 of each signature, in the order in which they were made.
	CloseLiveWindow(ctx context.Context, id string, signatures []bulkhead.Hash) error
}

// Defaults.
const (
	DefaultWindow = time.Minute
	DefaultLimit  = 1 << 16
	DefaultQueue  = 256
)

const (
	doorTimeout  = 5 * time.Second // for one call through the door
	retryOpen    = time.Second     // between attempts at a window after one that failed
	lookEvery    = time.Minute     // for new authorities and delegates to renew
	sweepEvery   = time.Second     // for windows that ended
	closeTimeout = 10 * time.Second
)

// Config of a Switch. Door, Now, Rand and Log are required.
type Config struct {
	Door Door
	Now  func() time.Time
	Rand io.Reader // keys and signatures
	Log  *slog.Logger

	Window time.Duration // how long one intent allows signatures; 0 means DefaultWindow
	Limit  int           // how many; 0 means DefaultLimit
	Queue  int           // requests waiting or being signed; 0 means DefaultQueue
	// Keep, when set, stores the digests of a window before they are accounted for, so that a single answer can be proved.
	Keep func(window string, signatures []bulkhead.Hash) error
}

// Switch signs answers. Call Start once, and Run for as long as Answer may be called.
type Switch struct {
	cfg      Config
	services atomic.Pointer[[]*service]
	slots    chan struct{} // taken by every request inside Answer
	workers  chan struct{} // taken by those that sign
	tasks    sync.WaitGroup
}

// New checks the configuration.
func New(c Config) (*Switch, error) {
	if c.Door == nil || c.Now == nil || c.Rand == nil || c.Log == nil {
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "live: door, clock, random source and logger are required")
	}
	if c.Window < 0 || c.Limit < 0 || c.Queue < 0 {
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "live: window, limit and queue are not negative")
	}
	if c.Window == 0 {
		c.Window = DefaultWindow
	}
	if c.Limit == 0 {
		c.Limit = DefaultLimit
	}
	if c.Queue == 0 {
		c.Queue = DefaultQueue
	}
	s := &Switch{cfg: c, slots: make(chan struct{}, c.Queue), workers: make(chan struct{}, runtime.GOMAXPROCS(0))}
	s.services.Store(&[]*service{})
	return s, nil
}

// Start gets a delegate for each authority. It fails with KindGate when one of them is refused by ocsp.CheckDelegate.
// Other trouble is logged: the switch answers KindUnavailable until Run has mended it.
func (s *Switch) Start(ctx context.Context) error { return s.look(ctx, true) }

// Run renews delegates and accounts for windows until ctx ends, and then for all that are open.
func (s *Switch) Run(ctx context.Context) error {
	sweep, look := time.NewTicker(sweepEvery), time.NewTicker(lookEvery)
	defer sweep.Stop()
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
			defer cancel()
			return s.finish(end)
		case <-sweep.C:
			s.sweep(ctx, false)
		case <-look.C:
			_ = s.look(ctx, false) // logged
		}
	}
}

// finish waits for what is under way and closes every window.
func (s *Switch) finish(ctx context.Context) error {
	for range cap(s.slots) { // nobody comes in any more
		select {
		case s.slots <- struct{}{}:
		case <-ctx.Done():
		}
	}
	s.tasks.Wait()
	s.sweep(ctx, true)
	return nil
}

// Issuer says whose certificate a CertID names, under any hash; false when no live answers are given for it.
func (s *Switch) Issuer(id *ocsp.CertID) (bulkhead.AuthorityID, bool) {
	for _, v := range *s.services.Load() {
		if v.issuer.Matches(id.Hash, id.NameHash, id.KeyHash) {
			return v.id, true
		}
	}
	return "", false
}

// Answer signs one response: the statements in order, and the nonce as it came (nil for none). nextUpdate is cut to the
// delegate's and the authority's end. Faults: KindRateLimited when the queue is full, KindUnavailable when there is no
// delegate or no window, KindMalformed for statements that contradict themselves.
func (s *Switch) Answer(ctx context.Context, id bulkhead.AuthorityID, statements []ocsp.Statement, nonce []byte) ([]byte, error) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return nil, bulkhead.NewFault(bulkhead.KindRateLimited, "too many live answers are being signed").WithHint("ask again").WithRetry(time.Second)
	}
	var v *service
	for _, x := range *s.services.Load() {
		if x.id == id {
			v = x
		}
	}
	if v == nil {
		return nil, noDelegate(id)
	}
	w, err := s.take(ctx, v)
	if err != nil {
		return nil, err
	}
	der, signature, err := s.sign(ctx, v, w, statements, nonce)
	first := v.done(w, signature)
	if err != nil {
		return nil, err
	}
	if first {
		err = s.selfCheck(ctx, v, w, der, statements[0].Serial)
	}
	return der, err
}

// sign encodes and signs. A signature that was made is returned even with an error.
func (s *Switch) sign(ctx context.Context, v *service, w *window, statements []ocsp.Statement, nonce []byte) (der, signature []byte, err error) {
	select {
	case s.workers <- struct{}{}:
		defer func() { <-s.workers }()
	case <-ctx.Done():
		return nil, nil, unavailable("the request was given up", ctx.Err())
	}
	now := s.cfg.Now().UTC().Truncate(time.Second)
	for i := range statements {
		x := &statements[i]
		for _, end := range []time.Time{w.delegate.cert.NotAfter, v.cert.NotAfter} {
			if x.NextUpdate.After(end) {
				x.NextUpdate = end
			}
		}
		if x.ThisUpdate.After(now) { // the publisher's clock is a little ahead
			x.ThisUpdate = now
		}
		if !x.NextUpdate.After(now) {
			return nil, nil, bulkhead.NewFault(bulkhead.KindUnavailable, "the status would end before it began").WithHint("ask again").WithRetry(time.Second)
		}
	}
	tbs, err := ocsp.BuildLiveTBS(w.delegate.responder, now, statements, nonce)
	if err != nil {
		return nil, nil, err
	}
	digest := bulkhead.Digest(tbs)
	signature, err = w.delegate.key.Sign(s.cfg.Rand, digest[:], crypto.SHA256)
	if err != nil {
		return nil, nil, bulkhead.NewFault(bulkhead.KindInternal, "the live delegate's key did not sign").WithCause(err)
	}
	return ocsp.Assemble(tbs, signature, w.delegate.cert.Raw), signature, nil
}

// selfCheck holds the first answer of a window against the check that clients should make. A delegate whose answer
// fails signs no more.
func (s *Switch) selfCheck(ctx context.Context, v *service, w *window, der []byte, serial bulkhead.Serial) error {
	r, err := ocsp.ParseResponse(der)
	if err == nil {
		_, err = ocsp.CheckResponse(r, v.cert, serial, s.cfg.Now())
	}
	if err == nil {
		return nil
	}
	s.cfg.Log.ErrorContext(ctx, "a live answer was refused by our own check; its delegate signs no more", slog.String("authority", string(v.id)), slog.String("error", err.Error()))
	v.drop(w)
	return bulkhead.NewFault(bulkhead.KindInternal, "the live answer was refused by our own check").WithCause(err)
}

// check is the gate that every delegate passes before it is used: what clients accept, and our own key in it.
func check(cert, issuer *x509.Certificate, key crypto.Signer, now time.Time) error {
	if err := ocsp.CheckDelegate(cert, issuer, now); err != nil {
		return err
	}
	if pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(cert.PublicKey) {
		return bulkhead.NewFault(bulkhead.KindGate, "the live delegate's certificate is for another key").WithHint("see what the signer certified")
	}
	return nil
}

func noDelegate(id bulkhead.AuthorityID) error {
	return bulkhead.Faultf(bulkhead.KindUnavailable, "authority %s has no live OCSP delegate now", id).
		WithHint("see the log of the edge; pre-signed answers are served meanwhile").WithRetry(5 * time.Second)
}

func unavailable(detail string, cause error) error {
	return bulkhead.NewFault(bulkhead.KindUnavailable, detail).WithHint("ask again").WithRetry(5 * time.Second).WithCause(cause)
}
