package status

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/pki/pack"
	"bulkhead/publish"
)

// Policy is the part of the status service that an operator may set. Every duration is checked against dated policy
// by the caller.
type Policy struct {
	AnswerValidity time.Duration // thisUpdate to nextUpdate of an OCSP answer; default 24 h (BR 4.9.9: 8 h to 10 d)
	CRLValidity    time.Duration // default 7 d (BR 7.2: at most 10 d)
	Backdate       time.Duration // thisUpdate is this much before signing, for clients whose clocks are slow; default 1 min
	KeepExpired    time.Duration // answers go on this long after notAfter; default 24 h
	OnePerson      int           // a change of at most so many items needs one person; default 10
	Interval       time.Duration // between looks for new certificates and due refreshes; default 1 s
	MaxDeltas      int           // deltas above the base before they are merged; default 8
	AnswersAtOnce  int           // new certificates of an authority that one head takes; default 20,000
	KeepObjects    time.Duration // an object stays this long after the last head that named it; default 24 h
}

func (p *Policy) defaults() {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&p.AnswerValidity, 24*time.Hour)
	set(&p.CRLValidity, 7*24*time.Hour)
	set(&p.Backdate, time.Minute)
	set(&p.KeepExpired, 24*time.Hour)
	set(&p.Interval, time.Second)
	set(&p.KeepObjects, 24*time.Hour)
	if p.OnePerson == 0 {
		p.OnePerson = 10
	}
	if p.AnswersAtOnce == 0 {
		p.AnswersAtOnce = 20_000
	}
	if p.MaxDeltas == 0 {
		p.MaxDeltas = 8
	}
}

// Config is what the service needs; Store, Signer, Objects and HeadVerifier are required.
type Config struct {
	Store        Store
	Signer       Signer
	Objects      publish.Store
	HeadVerifier note.Verifier
	AnchorSets   []AnchorSet                                 // nil: our roots, each alone and all together
	Verifiers    []Verifier                                  // foreign ones: they look before a change above Policy.OnePerson is public, and after every one
	Edges        Edges                                       // nil: packs are read as they lie in Objects
	Tiers        Tiers                                       // nil: no caches are configured
	Incident     func(ctx context.Context, ref string) error // refuses an incident that is not on record; nil takes any name
	Alarm        func(ctx context.Context, a bulkhead.Alarm) // nil: alarms are in the log alone
	Approvals    Approvals                                   // nil: the row that says approved is believed
	Policy       Policy
	// Elsewhere says that another process signs, publishes and activates: this one plans, previews and approves, and waits for
	// what becomes of it.
	Elsewhere bool
	Now       func() time.Time
	Rand      io.Reader
	Log       *slog.Logger
}

// Service is the one writer of heads in its process; other processes are fenced by the head's sequence in the store.
type Service struct {
	cfg Config

	mu        sync.Mutex           // held for the whole of every step that makes a head, so steps never interleave
	head      *pack.Head           // newest head of the store; guarded by mu
	unnamed   map[string]time.Time // objects that no head names, and since when that is known; guarded by mu
	behind    bool                 // the authority that was brought up last has more new certificates; guarded by mu
	collected time.Time            // when objects were last looked through; guarded by mu

	pursuing   sync.Mutex   // one chunk of a compromise at a time
	slowKeys   sync.Map     // compromised keys → when it was last said that they are not done
	latest     atomic.Int64 // Unix time of the newest head: no statement is dated before it
	troubles   sync.Map     // change id → trouble: a change that could not be carried on
	refreshing sync.Map     // bulkhead.AuthorityID → struct{}: a base refresh is under way
	background sync.WaitGroup
	refreshed  sync.Map     // bulkhead.AuthorityID → time.Time: when the last base refresh began
	woken      chan string  // a change is public and waits to be verified
	following  sync.Map     // change id → struct{}: it is public, and being verified
	corpora    sync.Map     // change id → []bulkhead.CertificateRef: bystanders that were good before it
	ends       sync.Map     // object name → time.Time: earliest nextUpdate inside a pack
	swept      atomic.Int64 // Unix time in nanoseconds of the last look for planned changes that nobody holds
	previews   sync.Map     // change id → context.CancelFunc: a preview that goes on by itself
	charted    atomic.Pointer[chart]
}

// New checks the configuration. Start must be called before anything else.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Signer == nil || cfg.Objects == nil || cfg.HeadVerifier == nil {
		return nil, fmt.Errorf("status: store, signer, objects and head verifier are required")
	}
	cfg.Policy.defaults()
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Service{cfg: cfg, woken: make(chan string, 1)}, nil
}

// now is UTC to the second: certificates, CRLs and OCSP know nothing finer.
func (s *Service) now() time.Time { return s.cfg.Now().UTC().Truncate(time.Second) }

// from is the thisUpdate of whatever is signed now. It never goes back: while the clock is behind the newest head by no
// more than Backdate it stands still, and beyond that nothing is signed, for an answer that looks older than the one
// before it would be believed by nobody who has seen both.
func (s *Service) from() (time.Time, error) {
	now, last := s.now(), time.Unix(s.latest.Load(), 0).UTC()
	if behind := last.Sub(now); behind > s.cfg.Policy.Backdate {
		return now, bulkhead.Faultf(bulkhead.KindUnavailable, "the clock says %s, the newest head was made at %s: nothing is signed that would look older", now.Format(time.RFC3339), last.Format(time.RFC3339)).
			WithHint("set the clock of this machine right")
	}
	if last.After(now) {
		now = last
	}
	return now.Add(-s.cfg.Policy.Backdate), nil
}

// take makes h the newest head. Callers hold mu.
func (s *Service) take(h *pack.Head) {
	s.head = h
	s.latest.Store(h.At.Unix())
}

func (s *Service) newID() (string, error) {
	b := make([]byte, 10)
	if _, err := io.ReadFull(s.cfg.Rand, b); err != nil {
		return "", fmt.Errorf("random id: %w", err)
	}
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b)), nil
}

// Start takes up where the last process stopped: the newest head is published if it was not, and changes that were
// approved are carried on by the ordinary path. It returns when every authority has its CRLs and its answers, of very many new
// certificates the first.
func (s *Service) Start(ctx context.Context) error {
	defer s.background.Wait()
	if _, err := s.bringAllUp(ctx); err != nil {
		return err
	}
	if err := s.withdraw(ctx); err != nil {
		return err
	}
	return s.carryOn(ctx, false)
}

// Run looks for new certificates and due refreshes until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	t := time.NewTicker(s.cfg.Policy.Interval)
	defer t.Stop()
	defer s.background.Wait()
	defer s.endPreviews()
	for {
		select {
		case <-ctx.Done():
			return nil
		case id := <-s.woken:
			s.follow(ctx, id)
		case <-t.C:
			if err := s.Tick(ctx); err != nil && ctx.Err() == nil {
				s.cfg.Log.ErrorContext(ctx, "status could not be brought up to date; what is published stands", slog.String("error", err.Error()))
			}
		}
	}
}

// load reads the newest head of the store and makes sure that it is the one in public: a crash between the commit
// and the switch is mended here, by the same path that every start takes. Callers hold mu.
func (s *Service) load(ctx context.Context) error {
	rec, err := s.cfg.Store.Head(ctx)
	if err != nil {
		return err
	}
	if rec.Sequence == 0 {
		s.take(&pack.Head{Origin: s.cfg.HeadVerifier.Name(), At: time.Unix(0, 0)})
		return nil
	}
	if s.head == nil || s.head.Sequence != rec.Sequence {
		h, err := pack.OpenHead(rec.Body, s.cfg.HeadVerifier)
		if err != nil {
			return fmt.Errorf("newest head of the store: %w", err)
		}
		s.take(h)
	}
	public, err := s.cfg.Objects.Head(ctx)
	if err == nil && string(public) == string(rec.Body) {
		return nil
	}
	if err != nil && bulkhead.KindOf(err) != bulkhead.KindNotFound {
		return fmt.Errorf("reading the public head: %w", err)
	}
	if h, perr := pack.OpenHead(public, s.cfg.HeadVerifier); err == nil && perr == nil && h.Sequence >= rec.Sequence {
		// Another writer was faster, and the next look sees its record; or the record is an old copy, and going on
		// from it would take back what the world has seen.
		return bulkhead.Faultf(bulkhead.KindConflict, "head %d is public and not the newest of the record, which is %d", h.Sequence, rec.Sequence).
			WithHint("if the database was restored from an older copy, restore the newest one; see: bulkhead fsck")
	}
	return s.expose(ctx, rec)
}

// expose makes the newest head of the record the public one: rec, or the one that another process has made of it by now.
// Processes take turns, so that a slow one never covers a newer head with an older.
func (s *Service) expose(ctx context.Context, rec bulkhead.HeadRecord) error {
	return s.cfg.Store.WithNewestHead(ctx, func(newest bulkhead.HeadRecord) error {
		if newest.Sequence < rec.Sequence {
			return bulkhead.Faultf(bulkhead.KindConflict, "head %d is the newest of the record, which had head %d", newest.Sequence, rec.Sequence)
		}
		return s.cfg.Objects.SetHead(ctx, newest.Body)
	})
}

// clone copies the head so that a step that fails leaves the old one untouched.
func clone(h *pack.Head) *pack.Head {
	n := *h
	n.Issuers = make([]pack.IssuerHead, len(h.Issuers))
	for i, is := range h.Issuers {
		is.Packs = append([]pack.ObjectRef(nil), is.Packs...)
		is.CRLs = append([]pack.CRLRef(nil), is.CRLs...)
		n.Issuers[i] = is
	}
	return &n
}

// issuerHead finds or adds the entry of an authority; a head lists them by id.
func issuerHead(h *pack.Head, id bulkhead.AuthorityID) *pack.IssuerHead {
	if is := h.Issuer(id); is != nil {
		return is
	}
	i := sort.Search(len(h.Issuers), func(i int) bool { return h.Issuers[i].ID >= id })
	h.Issuers = slices.Insert(h.Issuers, i, pack.IssuerHead{ID: id})
	return &h.Issuers[i]
}

// sign stamps the next sequence on a head and has it signed.
func (s *Service) sign(ctx context.Context, next *pack.Head) (bulkhead.HeadRecord, error) {
	next.Sequence = s.head.Sequence + 1
	next.At = s.now()
	if next.At.Before(s.head.At) {
		next.At = s.head.At
	}
	prev := s.head
	if prev.Sequence == 0 {
		prev = nil
	}
	if err := next.Follows(prev); err != nil {
		return bulkhead.HeadRecord{}, fmt.Errorf("next head: %w", err)
	}
	body, err := next.Body()
	if err != nil {
		return bulkhead.HeadRecord{}, err
	}
	signed, err := s.cfg.Signer.SignHead(ctx, body)
	if err != nil {
		return bulkhead.HeadRecord{}, err
	}
	return bulkhead.HeadRecord{Sequence: next.Sequence, Body: signed, At: next.At}, nil
}

// Tick does what is due: certificates that are new, CRLs and answers at half-life, deltas to merge. One new head
// carries all of it, or more of them when there is much: between two of them changes get their turn. Then changes that were
// approved and interrupted are carried on, and what no head has named for long is cleared away.
func (s *Service) Tick(ctx context.Context) error {
	for {
		more, err := s.bringAllUp(ctx)
		if err != nil {
			return err
		}
		if !more {
			break
		}
		if err := s.carryOn(ctx, true); err != nil {
			return err
		}
	}
	return errors.Join(s.sweep(ctx), s.carryOn(ctx, true), s.collect(ctx))
}

// bringAllUp publishes one head with what is due; more says that it took the first part of it.
func (s *Service) bringAllUp(ctx context.Context) (more bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(ctx); err != nil {
		return false, err
	}
	authorities, err := s.cfg.Store.Authorities(ctx)
	if err != nil {
		return false, err
	}
	next := clone(s.head)
	var crls []bulkhead.CRLRecord
	dirty := false
	for _, a := range authorities {
		if over, err := s.over(ctx, a); err != nil || over {
			if err != nil {
				return false, err
			}
			continue
		}
		ih := issuerHead(next, a.ID)
		s.behind = false
		changed, recs, err := s.bringUp(ctx, a, ih)
		more = more || s.behind && err == nil
		if err != nil {
			// One authority in trouble must not keep the others from their answers.
			s.cfg.Log.ErrorContext(ctx, "authority could not be brought up to date", slog.String("authority", string(a.ID)), slog.String("error", err.Error()))
			next.Issuers = slices.DeleteFunc(next.Issuers, func(is pack.IssuerHead) bool { return is.ID == a.ID })
			if old := s.head.Issuer(a.ID); old != nil {
				*issuerHead(next, a.ID) = *old
			}
			continue
		}
		if changed {
			ih.Generation++
			dirty = true
			crls = append(crls, recs...)
		}
	}
	if !dirty {
		return false, nil
	}
	return more, s.put(ctx, next, crls)
}

// over reports that nothing is published anew in an authority's name: it owes no answers yet, or its key is destroyed and the
// last certificate below it has ended.
func (s *Service) over(ctx context.Context, a bulkhead.Authority) (bool, error) {
	if !a.Served() || len(a.Certificate) == 0 {
		return true, nil
	}
	if !a.Dead() {
		return false, nil
	}
	// A period beyond the end, so that every entry stands on a CRL after it (RFC 5280 section 3.3).
	owed, err := s.cfg.Store.Owed(ctx, a.ID, s.now().Add(-bulkhead.AfterTheEnd))
	return owed.Last.IsZero(), err
}

// put signs, stores and publishes a head that changes no status. Callers hold mu.
func (s *Service) put(ctx context.Context, next *pack.Head, crls []bulkhead.CRLRecord) error {
	rec, err := s.sign(ctx, next)
	if err != nil {
		return err
	}
	if err := s.cfg.Store.PutHead(ctx, rec, crls); err != nil {
		return err
	}
	s.take(next)
	return s.expose(ctx, rec)
}

// bringUp does what is due for one authority.
func (s *Service) bringUp(ctx context.Context, a bulkhead.Authority, ih *pack.IssuerHead) (changed bool, crls []bulkhead.CRLRecord, err error) {
	if named, err := s.nameCertificate(ctx, a, ih); err != nil {
		return false, nil, err
	} else if named {
		changed = true
	}
	crls, err = s.dueCRLs(ctx, a, ih)
	if err != nil {
		return false, nil, err
	}
	fresh, err := s.newAnswers(ctx, a, ih)
	if err != nil {
		return false, nil, err
	}
	merged, err := s.mergeDeltas(ctx, a, ih)
	if err != nil {
		return false, nil, err
	}
	if err := s.startRefresh(ctx, a, ih); err != nil {
		return false, nil, err
	}
	return changed || len(crls) > 0 || fresh || merged, crls, nil
}

// nameCertificate publishes the authority's certificate for AIA (RFC 5280 section 4.2.2.1).
func (s *Service) nameCertificate(ctx context.Context, a bulkhead.Authority, ih *pack.IssuerHead) (bool, error) {
	digest := bulkhead.Digest(a.Certificate)
	if ih.Certificate.Digest == digest {
		return false, nil
	}
	ref := pack.ObjectRef{Name: fmt.Sprintf("ca/%s/%s.cer", a.ID, digest.String()[:16]), Digest: digest, Size: int64(len(a.Certificate))}
	if err := s.cfg.Objects.Put(ctx, publish.Object{Name: ref.Name, Type: "application/pkix-cert", Body: bytes.NewReader(a.Certificate)}); err != nil {
		return false, err
	}
	ih.Certificate = ref
	return true, nil
}

func parseAuthority(a bulkhead.Authority) (*x509.Certificate, error) {
	c, err := x509.ParseCertificate(a.Certificate)
	if err != nil {
		return nil, fmt.Errorf("certificate of authority %s: %w", a.ID, err)
	}
	return c, nil
}

// Wait returns when no refresh is under way in the background.
func (s *Service) Wait() { s.background.Wait() }
