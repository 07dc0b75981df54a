package outside

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"bulkhead"
	"bulkhead/pki/pack"
	"bulkhead/pki/tlog"
)

// ReconcilerConfig is what a reconciler needs. Record, Public and Raise are required.
type ReconcilerConfig struct {
	Record Record
	Public Public
	Raise  Raise
	Every  time.Duration // between ticks; 0 means 10 s
	Agree  time.Duration // within which a revocation stands everywhere; 0 means DefaultAgree
	Rows   int           // certificates compared in a tick; 0 means 1,000
	Leaves int           // evidence rows read in a tick; 0 means 20,000
	Now    func() time.Time
	Log    *slog.Logger
}

// Reconciler compares record, evidence and what is published, a part in each tick: new evidence first, then the counters of
// signatures, then the next rows of the inventory, then objects that it has not seen. A planted row is found within one round of the inventory, whatever is
// new within two ticks.
type Reconciler struct {
	cfg    ReconcilerConfig
	ledger *ledger

	mu      sync.Mutex                               // one tick at a time; guards below
	begun   bool                                     // the tail has its starting point
	tail    int64                                    // evidence read through this sequence
	pending map[bulkhead.CertificateRef]*revocation  // in evidence, not yet seen everywhere
	suspect map[bulkhead.CertificateRef]int64        // outcomes without a row, to be looked at once more
	sweep   map[bulkhead.AuthorityID]bulkhead.Serial // inventory compared through this serial
	walked  map[bulkhead.Hash]bool                   // packs whose revoked entries were compared
	numbers map[crlShard]int64                       // highest CRL numbers seen, in earlier lives too; nil until they are read
	foreign map[bulkhead.AuthorityID]time.Time       // since when foreign authorities are seen in the head, in this life
	tally   *tally                                   // signatures of each key by its leaves
	state   Reconciled
}

// Reconciled is how far the reconciler is.
type Reconciled struct {
	At       time.Time `json:"at"`       // of the last whole tick
	Evidence int64     `json:"evidence"` // read through this sequence
	Behind   int64     `json:"behind"`   // rows of evidence still to be read
	Counted  int64     `json:"counted"`  // signatures of each key are counted, and held against its counter, through this sequence
	Pending  int       `json:"pending"`  // revocations that are not yet seen everywhere
	Rows     int64     `json:"rows"`     // certificates compared since the start
	Rounds   int64     `json:"rounds"`   // times that the whole inventory was compared
}

// revocation is one that evidence has.
type revocation struct {
	at     time.Time
	change string
}

// maxPending bounds revocations that wait; at the bound no more evidence is read until some are seen.
const maxPending = 20_000

// NewReconciler checks the configuration.
func NewReconciler(cfg ReconcilerConfig) (*Reconciler, error) {
	if cfg.Record == nil || cfg.Public == nil || cfg.Raise == nil {
		return nil, errors.New("outside: record, public and raise are required")
	}
	if cfg.Every == 0 {
		cfg.Every = 10 * time.Second
	}
	if cfg.Agree == 0 {
		cfg.Agree = DefaultAgree
	}
	if cfg.Rows == 0 {
		cfg.Rows = 1000
	}
	if cfg.Leaves == 0 {
		cfg.Leaves = 20_000
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Reconciler{cfg: cfg, ledger: newLedger(), pending: map[bulkhead.CertificateRef]*revocation{}, suspect: map[bulkhead.CertificateRef]int64{},
		sweep: map[bulkhead.AuthorityID]bulkhead.Serial{}, walked: map[bulkhead.Hash]bool{}, foreign: map[bulkhead.AuthorityID]time.Time{}, tally: newTally()}, nil
}

// Run ticks until ctx ends.
func (r *Reconciler) Run(ctx context.Context) error {
	t := time.NewTicker(r.cfg.Every)
	defer t.Stop()
	for {
		r.Tick(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// State says how far it is.
func (r *Reconciler) State() Reconciled {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

// Tick makes one part of the comparison. What it could not look at is an alarm.
func (r *Reconciler) Tick(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{{"evidence", r.readEvidence}, {"signature counters", r.counters}, {"published state", r.compare}} {
		if err := step.do(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			r.cfg.Log.ErrorContext(ctx, "the reconciler could not look", slog.String("at", step.name), slog.String("error", err.Error()))
			r.raise(ctx, "reconciler", "blind,"+step.name, bulkhead.Warning, "watch.md", "the reconciler could not look at the %s: %s", step.name, bulkhead.AsFault(err).Detail)
			return
		}
	}
	r.state.At, r.state.Evidence, r.state.Pending = r.cfg.Now(), r.tail, len(r.pending)
}

func (r *Reconciler) raise(ctx context.Context, detector, key string, severity bulkhead.Severity, runbook, format string, args ...any) {
	if ctx.Err() == nil {
		r.cfg.Raise(ctx, alarm(r.cfg.Now(), detector, key, severity, runbook, fmt.Sprintf(format, args...)))
	}
}

// compare looks at what is published: CRLs, holes, pending revocations, a part of the inventory, new packs.
func (r *Reconciler) compare(ctx context.Context) error {
	now := r.cfg.Now() // before the view: what is public can be as old as that, and what was issued later is not expected in it
	view, err := r.cfg.Public.Open(ctx)
	if err != nil {
		return err
	}
	defer view.Close()
	authorities, err := r.cfg.Record.Authorities(ctx)
	if err != nil {
		return err
	}
	if err := r.heads(ctx, view, authorities, now); err != nil {
		return err
	}
	lists := newLists(view)
	if err := r.settle(ctx, view, lists, now); err != nil {
		return err
	}
	if err := r.inventory(ctx, view, lists, authorities, now); err != nil {
		return err
	}
	return r.packs(ctx, view)
}

// heads is S2-18 and the coarse half of D14: every authority that owes answers is in the head, and every CRL is within the
// first half of its life.
func (r *Reconciler) heads(ctx context.Context, view *View, authorities []bulkhead.Authority, now time.Time) error {
	if err := r.remembered(ctx); err != nil {
		return err
	}
	var higher []bulkhead.CRLSeen
	for _, a := range authorities {
		is := view.Issuers[a.ID]
		if len(a.Certificate) == 0 || !served(ctx, r.cfg.Record, a, now) {
			continue
		}
		if is == nil {
			if now.Sub(a.CreatedAt) > AvailableWithin {
				r.raise(ctx, "D14", "authority,"+string(a.ID), bulkhead.Critical, "d14-coverage.md", "authority %s owes CRLs and answers, and the published head does not name it", a.ID)
			}
			continue
		}
		if _, seen := r.foreign[a.ID]; a.Foreign() && !seen {
			r.foreign[a.ID] = now
		}
		for _, c := range is.Head.CRLs {
			r.continuity(ctx, a.ID, c, now)
			if c.Number > r.numbers[crlShard{a.ID, c.Shard}] {
				higher = append(higher, bulkhead.CRLSeen{Authority: a.ID, Shard: c.Shard, Number: c.Number, At: now})
			}
		}
	}
	if len(higher) == 0 {
		return nil
	}
	if err := r.cfg.Record.SeeCRLs(ctx, higher); err != nil {
		return err
	}
	for _, c := range higher {
		r.numbers[crlShard{c.Authority, c.Shard}] = c.Number
	}
	return nil
}

// crlShard names one series of CRLs.
type crlShard struct {
	authority bulkhead.AuthorityID
	shard     int
}

// remembered reads what was seen in earlier lives, once: a number that goes back while nobody looked is to be found as well.
func (r *Reconciler) remembered(ctx context.Context) error {
	if r.numbers != nil {
		return nil
	}
	seen, err := r.cfg.Record.CRLsSeen(ctx)
	if err != nil {
		return err
	}
	r.numbers = make(map[crlShard]int64, len(seen))
	for _, c := range seen {
		r.numbers[crlShard{c.Authority, c.Shard}] = c.Number
	}
	return nil
}

// served reports whether an authority's status is to be public: it signs it, or it was signed before its key was destroyed,
// until the last certificate has ended.
func served(ctx context.Context, record Record, a bulkhead.Authority, now time.Time) bool {
	if !a.Dead() {
		return a.Served()
	}
	owed, err := record.Owed(ctx, a.ID, now.Add(-bulkhead.AfterTheEnd))
	return err != nil || !owed.Last.IsZero()
}

// grace is how far into the second half of its life a CRL may be before that is an alarm: it is renewed at half-life.
func grace(life time.Duration) time.Duration { return min(time.Hour, life/20) }

// continuity is S2-18.
func (r *Reconciler) continuity(ctx context.Context, id bulkhead.AuthorityID, c pack.CRLRef, now time.Time) {
	name := fmt.Sprintf("%s,%d", id, c.Shard)
	if last := r.numbers[crlShard{id, c.Shard}]; c.Number < last {
		r.raise(ctx, "crl", "number,"+name, bulkhead.Critical, "crl-continuity.md", "the CRL of %s shard %d went from number %d back to %d", id, c.Shard, last, c.Number)
	}
	life, left := c.NextUpdate.Sub(c.ThisUpdate), c.NextUpdate.Sub(now)
	if left >= life/2-grace(life) {
		return
	}
	severity := bulkhead.Warning
	if left < life/4 {
		severity = bulkhead.Critical
	}
	r.raise(ctx, "crl", string(severity)+","+name, severity, "crl-continuity.md", "CRL %d of %s shard %d has %s left, less than half of its life, and there is no newer one (ends %s)", c.Number, id, c.Shard, max(left, 0).Round(time.Second), stamp(c.NextUpdate))
}

// start finds where the tail begins: far enough back to know every signature that may still be served.
func (r *Reconciler) start(ctx context.Context) error {
	if r.begun {
		return nil
	}
	since := r.cfg.Now().Add(-remember)
	seq, err := firstSince(ctx, r.cfg.Record, since)
	if err != nil {
		return err
	}
	r.begun, r.tail = true, seq
	if seq > 0 {
		r.ledger.since = since
	}
	return nil
}

// leavesPage is how many leaves are read at once.
const leavesPage = 1000

// readEvidence goes on with the tail.
func (r *Reconciler) readEvidence(ctx context.Context) error {
	if err := r.start(ctx); err != nil {
		return err
	}
	head, _, err := r.cfg.Record.EvidenceHead(ctx)
	if err != nil {
		return err
	}
	for n := 0; n < r.cfg.Leaves && len(r.pending) < maxPending; n += leavesPage {
		rows, err := r.cfg.Record.EvidenceAfter(ctx, r.tail, leavesPage)
		if err != nil {
			return err
		}
		if err := r.leaves(ctx, rows); err != nil {
			return err
		}
		if len(rows) < leavesPage && (len(rows) == 0 || r.tail == rows[len(rows)-1].Seq) {
			r.ledger.mu.Lock()
			r.ledger.ready = true
			r.ledger.mu.Unlock()
			break
		}
	}
	r.state.Behind = max(0, head-r.tail)
	return r.suspects(ctx)
}

// signed is what evidence has of a signature by the key for an answer produced then. What the ticks did not find is looked for again up to
// the end of evidence: the answer is there by now, so its leaf is. While there is more to read than a tick takes nothing is known: on the
// day of a large revocation the tail waits until what it has read is public.
func (r *Reconciler) signed(ctx context.Context, key bulkhead.Hash, produced, now time.Time) (found signed, ok, known bool, err error) {
	if found, ok, known = r.ledger.signed(key, produced, now); ok || !known {
		return found, ok, known, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.readEvidence(ctx); err != nil {
		return signed{}, false, false, err
	}
	found, ok, known = r.ledger.signed(key, produced, now)
	return found, ok, known && r.state.Behind == 0, nil
}

// leaves takes one page of evidence.
func (r *Reconciler) leaves(ctx context.Context, rows []bulkhead.EvidenceRow) error {
	outcomes := map[bulkhead.AuthorityID][]outcome{}
	through := r.tail
	for _, row := range rows {
		if len(r.pending) >= maxPending {
			break // one leaf may name many
		}
		e, err := tlog.Parse(row.Leaf)
		if err != nil {
			return err
		}
		through = row.Seq
		r.ledger.note(row.Seq, e)
		ref := bulkhead.CertificateRef{Issuer: e.Authority, Serial: e.Serial}
		switch e.Kind {
		case bulkhead.EvCertificateOutcome:
			outcomes[e.Authority] = append(outcomes[e.Authority], outcome{row.Seq, e})
		case bulkhead.EvRevocation, bulkhead.EvRevocations:
			serials, err := tlog.RevokedIn(e)
			if err != nil {
				return err
			}
			for _, serial := range serials {
				ref.Serial = serial
				if r.pending[ref] == nil {
					r.pending[ref] = &revocation{at: e.At, change: e.Ref}
				}
			}
		case bulkhead.EvRestoration:
			delete(r.pending, ref) // taken back by a change that says why
		}
	}
	for id, list := range outcomes {
		if err := r.outcomes(ctx, id, list); err != nil {
			return err
		}
	}
	r.tail = through
	return nil
}

type outcome struct {
	seq int64
	e   bulkhead.Evidence
}
