package signer

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"bulkhead"
)

// errNotTaken: the caller gave up before its item was in a batch.
var errNotTaken = errors.New("given up before the commit began")

// completeWaits are the pauses between tries of Complete, which is idempotent.
var completeWaits = [...]time.Duration{0, 50 * time.Millisecond, 200 * time.Millisecond, 800 * time.Millisecond}

// completion is a signed certificate on its way to being durable.
type completion struct {
	bulkhead.Completion
	keyHash bulkhead.Hash
}

// flushReservations commits one batch of intents. When the commit as a whole fails its outcome is unknown: nobody may
// sign, and Recover abandons what was kept.
func (s *Signer) flushReservations(items []bulkhead.Reservation) []outcome[int64] {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	seqs, errs, err := s.cfg.Store.Reserve(ctx, items)
	if err != nil {
		s.cfg.Log.Error("intents could not be made durable; nothing is signed", slog.Int("count", len(items)), slog.String("error", err.Error()))
		return failed[int64](len(items), unavailable("the intent to sign could not be made durable", err))
	}
	return outcomes(len(items), seqs, errs)
}

// flushCompletions commits one batch of signed certificates. After the commit the block list is asked once more: a key
// blocked between reservation and outcome may have been missed by the revocations that followed the block, so its
// certificate is not handed out and the log says that it must be revoked.
func (s *Signer) flushCompletions(items []completion) []outcome[int64] {
	plain := make([]bulkhead.Completion, len(items))
	hashes := make([]bulkhead.Hash, len(items))
	for i, it := range items {
		plain[i], hashes[i] = it.Completion, it.keyHash
	}
	seqs, errs, err := s.complete(plain)
	if err != nil {
		return failed[int64](len(items), unavailable("the certificate could not be made durable and was not handed out", err))
	}
	out := outcomes(len(items), seqs, errs)
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	blocked, err := s.cfg.Store.BlockedKeys(ctx, hashes...)
	if err != nil {
		return failed[int64](len(items), unavailable("the list of blocked keys could not be read after signing", err))
	}
	for _, b := range blocked {
		for i, it := range items {
			if it.keyHash == b.KeyHash && out[i].err == nil {
				s.cfg.Log.Error("a key was blocked while its certificate was being signed: revoke it", slog.String("certificate", it.CertificateRef.String()))
				out[i].err = blockedKey().WithHint("revoke " + it.CertificateRef.String() + ": it was signed before the block and handed to nobody")
			}
		}
	}
	return out
}

// complete tries a bounded number of times. A lost commit is made up for, one only reported lost is found done.
func (s *Signer) complete(items []bulkhead.Completion) (seqs []int64, errs []error, err error) {
	for try, wait := range completeWaits {
		time.Sleep(wait)
		ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
		seqs, errs, err = s.cfg.Store.Complete(ctx, items)
		cancel()
		if err == nil {
			return seqs, errs, nil
		}
		s.cfg.Log.Warn("outcomes could not be made durable", slog.Int("count", len(items)), slog.Int("try", try+1), slog.String("error", err.Error()))
	}
	return nil, nil, err
}

func outcomes(n int, seqs []int64, errs []error) []outcome[int64] {
	out := make([]outcome[int64], n)
	for i := range out {
		switch {
		case i < len(errs) && errs[i] != nil:
			out[i].err = errs[i]
		case i < len(seqs) && seqs[i] > 0:
			out[i].value = seqs[i]
		default:
			out[i].err = bulkhead.NewFault(bulkhead.KindInternal, "the store did not say what became of a commit")
		}
	}
	return out
}

// failed is the same error for everybody.
func failed[R any](n int, err error) []outcome[R] {
	out := make([]outcome[R], n)
	for i := range out {
		out[i].err = err
	}
	return out
}

func unavailable(detail string, cause error) *bulkhead.Fault {
	return bulkhead.NewFault(bulkhead.KindUnavailable, detail).WithHint("try again; if it lasts, see: bulkhead doctor").
		WithRetry(5 * time.Second).WithCause(cause)
}

func blockedKey() *bulkhead.Fault {
	return bulkhead.NewFault(bulkhead.KindBadPublicKey, "this key is blocked and can never be certified again").WithHint("make a new key pair and ask again")
}

// abandon gives a reservation up, with evidence. It is best effort: Recover finds what it leaves.
func (s *Signer) abandon(ctx context.Context, c bulkhead.Certificate, intent bulkhead.Hash, why string) {
	ctx, cancel := detached(ctx)
	defer cancel()
	if err := s.cfg.Store.Abandon(ctx, []bulkhead.CertificateRef{c.CertificateRef}, []bulkhead.Evidence{s.abandonment(c, intent, why)}); err != nil {
		s.cfg.Log.Warn("reservation could not be abandoned; recovery will", slog.String("certificate", c.CertificateRef.String()), slog.String("error", err.Error()))
	}
	s.release(c.CertificateRef)
}

func (s *Signer) abandonment(c bulkhead.Certificate, intent bulkhead.Hash, why string) bulkhead.Evidence {
	return bulkhead.Evidence{Kind: bulkhead.EvCertificateAbandon, At: s.now(), Actor: s.cfg.Actor, Authority: c.Issuer, Serial: c.Serial,
		Ref: c.OrderID, Link: intent, Detail: why}
}

func (s *Signer) hold(ref bulkhead.CertificateRef) {
	s.mu.Lock()
	s.live[ref] = struct{}{}
	s.mu.Unlock()
}

func (s *Signer) release(refs ...bulkhead.CertificateRef) {
	s.mu.Lock()
	for _, ref := range refs {
		delete(s.live, ref)
	}
	s.mu.Unlock()
}

func (s *Signer) held(ref bulkhead.CertificateRef) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.live[ref]
	return ok
}

// Recover abandons, with evidence, reservations that nobody can complete any more: those made before this process
// began, and those older than any token. Nobody received their certificates, because a certificate leaves only after
// its outcome is durable (P3). Call it at start and now and then; it returns how many it abandoned.
func (s *Signer) Recover(ctx context.Context) (int, error) {
	const page = 500
	// The record keeps whole seconds: include the second in which this process began, except for its own work.
	before := s.start.Truncate(time.Second).Add(time.Second)
	if stale := s.now().Add(-staleAfter); stale.After(before) {
		before = stale
	}
	total := 0
	for {
		open, err := s.cfg.Store.OpenReservations(ctx, before, page)
		if err != nil {
			return total, err
		}
		var refs []bulkhead.CertificateRef
		var evidence []bulkhead.Evidence
		for _, c := range open {
			if s.held(c.CertificateRef) && !c.ReservedAt.Before(s.now().Add(-staleAfter)) {
				continue
			}
			refs = append(refs, c.CertificateRef)
			evidence = append(evidence, s.abandonment(c, c.Fingerprint, "no outcome became durable; the certificate was handed to nobody"))
		}
		if len(refs) == 0 {
			return total, nil
		}
		if err := s.cfg.Store.Abandon(ctx, refs, evidence); err != nil {
			return total, err
		}
		s.release(refs...)
		total += len(refs)
		if len(open) < page {
			s.cfg.Log.InfoContext(ctx, "reservations without an outcome were abandoned", slog.Int("count", total))
			return total, nil
		}
	}
}
