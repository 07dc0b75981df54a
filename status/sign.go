package status

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"bulkhead"
	"bulkhead/pki/ocsp"
	"bulkhead/pki/pack"
)

const (
	// largeBatch is how many answers one token covers in a change that has so many.
	largeBatch = 16_384
	// verifyAll is up to how many items every answer of a change is verified whole. Verifying a signature costs three
	// times as much as making it: of a larger change every answer is read and held against what was approved, and the
	// signatures of a sample are verified. One key and one code path make all of them, and evidence has the digest of each.
	verifyAll = 1000
	// sampled is how many signatures of each large batch are verified.
	sampled = 64
)

// stageAnswers makes the delta of one authority.
func (s *Service) stageAnswers(ctx context.Context, st *staging, u affected, ih *pack.IssuerHead) error {
	id, err := ocsp.NewIssuer(u.authority.Subject, u.authority.SPKI)
	if err != nil {
		return err
	}
	ref, err := s.writePack(ctx, u.authority.ID, id, func(w *pack.Writer) error {
		return s.signParts(ctx, st, u, func(b signedPart) error { return addAll(w, b.entries, b.responders) })
	})
	if err != nil {
		return err
	}
	if err := s.readBack(ctx, ref); err != nil {
		return err
	}
	ih.Packs = append([]pack.ObjectRef{ref}, ih.Packs...)
	return nil
}

// signedPart is what came of one batch of a change.
type signedPart struct {
	entries    []pack.Entry
	responders responderTable
	err        error
}

// signParts has the answers of a change signed in batches and gives them on in order. While one is taken in the next two are
// signed already: what each costs beside its signatures, and the syncs of its evidence, are then done while the processors sign, and
// memory holds three.
func (s *Service) signParts(ctx context.Context, st *staging, u affected, take func(signedPart) error) error {
	ctx, stop := context.WithCancel(ctx)
	var g sync.WaitGroup
	defer g.Wait()
	defer stop()
	parts := make(chan chan signedPart, 1)
	g.Go(func() {
		defer close(parts)
		for from := 0; from < u.rows.Len(); from += largeBatch {
			done := make(chan signedPart, 1)
			g.Go(func() { done <- s.signPart(ctx, st, u, from, min(from+largeBatch, u.rows.Len())) })
			select {
			case parts <- done:
			case <-ctx.Done():
				return
			}
		}
	})
	for done := range parts {
		part := <-done
		if part.err == nil {
			part.err = take(part)
		}
		if part.err != nil {
			return part.err
		}
	}
	return ctx.Err()
}

// signPart has the answers of the certificates first to last-1 signed.
func (s *Service) signPart(ctx context.Context, st *staging, u affected, first, last int) (b signedPart) {
	serials, expect := make([]bulkhead.Serial, last-first), make([]bulkhead.Status, last-first)
	for i := range serials {
		row := u.rows.At(first + i)
		serials[i], expect[i] = row.Serial, st.after(row)
	}
	b.entries, b.err = s.signAnswers(ctx, u.authority, serials, &st.change, expect, &b.responders)
	return b
}

// signAnswers asks the signer for one batch and checks each answer as a stranger would before it may go into a pack.
// Answers of a change must say what expect says, in the order of serials, no more and no less; change is nil for answers
// that say what the record says.
func (s *Service) signAnswers(ctx context.Context, a bulkhead.Authority, serials []bulkhead.Serial, change *bulkhead.Change, expect []bulkhead.Status, t *responderTable) ([]pack.Entry, error) {
	now := s.now()
	from, err := s.from()
	if err != nil {
		return nil, err
	}
	req := bulkhead.AnswerRequest{Authority: a.ID, Serials: serials, ThisUpdate: from, NextUpdate: from.Add(s.cfg.Policy.AnswerValidity), Object: "packs/" + string(a.ID)}
	if change != nil {
		req.Change = change.ID
	}
	b, err := s.cfg.Signer.SignAnswers(ctx, req)
	if err != nil {
		return nil, err
	}
	if len(b.Missing) > 0 {
		return nil, fmt.Errorf("authority %s: the signer knows no certificate %s, which the record lists", a.ID, b.Missing[0])
	}
	if len(b.Answers) != len(serials) {
		return nil, bulkhead.Faultf(bulkhead.KindGate, "authority %s: %d answers were signed for %d certificates", a.ID, len(b.Answers), len(serials))
	}
	issuer, err := parseAuthority(a)
	if err != nil {
		return nil, err
	}
	names, err := ocsp.NewIssuer(a.Subject, a.SPKI)
	if err != nil {
		return nil, err
	}
	r := t.index(b.Responder)
	entries := make([]pack.Entry, len(b.Answers))
	verify := s.whole(change, len(b.Answers))
	err = spread(ctx, len(b.Answers), func(i int) error {
		ans := &b.Answers[i]
		if ans.Status.Issuer != a.ID || ans.Status.Serial != serials[i] {
			return bulkhead.Faultf(bulkhead.KindGate, "the answer for %s of %s is about %s", serials[i], a.ID, ans.Status.CertificateRef)
		}
		if change != nil {
			if want, st := expect[i], ans.Status; st.State != want.State || st.Reason != want.Reason || !st.RevokedAt.Equal(want.RevokedAt) {
				return bulkhead.Faultf(bulkhead.KindGate, "staged answer for %s says %s (%s), the approved change says %s (%s)", st.CertificateRef,
					st.State, said(st.Reason, st.RevokedAt), want.State, said(want.Reason, want.RevokedAt))
			}
			if err := readAnswer(ans, &names); err != nil {
				return err
			}
		}
		if verify(i) {
			if err := checkAnswer(ans, b.Responder, issuer, now); err != nil {
				return err
			}
		}
		entries[i] = pack.Entry{Serial: ans.Status.Serial, TBS: ans.TBS, Signature: ans.Signature, TBS256: ans.TBS256, Signature256: ans.Signature256, Responder: r,
			ThisUpdate: b.ThisUpdate, NextUpdate: b.NextUpdate, Revoked: ans.Status.State == bulkhead.Revoked}
		return nil
	})
	return entries, err
}

// whole says which answers of a batch of n are verified whole, their signatures included: the first of each batch, every
// one of a change that is not large, and of a large one a sample that nobody can foresee.
func (s *Service) whole(change *bulkhead.Change, n int) func(i int) bool {
	switch {
	case change == nil:
		return func(i int) bool { return i == 0 }
	case change.Count <= verifyAll || n <= sampled:
		return func(int) bool { return true }
	}
	var b [2]byte
	_, _ = io.ReadFull(s.cfg.Rand, b[:]) // a sample that could be foreseen is still a sample
	step := n / sampled
	first := (int(b[0])<<8 | int(b[1])) % step
	return func(i int) bool { return i == 0 || i%step == first }
}

// spread runs f for 0 … n-1 on all processors.
func spread(ctx context.Context, n int, f func(i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	workers := min(runtime.GOMAXPROCS(0), n)
	for w := range workers {
		g.Go(func() error {
			for i := w; i < n; i += workers {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := f(i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// parts are the two answers of a certificate, by the hash of their CertID.
func parts(ans *bulkhead.SignedAnswer) [2]struct {
	hash           ocsp.HashAlgorithm
	tbs, signature []byte
} {
	return [2]struct {
		hash           ocsp.HashAlgorithm
		tbs, signature []byte
	}{{ocsp.SHA1, ans.TBS, ans.Signature}, {ocsp.SHA256, ans.TBS256, ans.Signature256}}
}

// readAnswer reads what both answers say, and holds it against the status that they are of: one answer, about exactly
// this certificate of this issuer.
func readAnswer(ans *bulkhead.SignedAnswer, issuer *ocsp.Issuer) error {
	for _, p := range parts(ans) {
		r, err := ocsp.ParseData(p.tbs)
		if err != nil {
			return fmt.Errorf("signed answer for %s: %w", ans.Status.Serial, err)
		}
		if len(r.Singles) != 1 || r.Singles[0].CertID.Serial != ans.Status.Serial || r.Singles[0].CertID.Hash != p.hash ||
			!issuer.Matches(p.hash, r.Singles[0].CertID.NameHash, r.Singles[0].CertID.KeyHash) {
			return bulkhead.Faultf(bulkhead.KindGate, "signed answer for %s is about another certificate", ans.Status.Serial)
		}
		if err := says(ans, r.Singles[0].Single); err != nil {
			return err
		}
	}
	return nil
}

// says holds one answer against the status that it is of.
func says(ans *bulkhead.SignedAnswer, got ocsp.Single) error {
	revoked := ans.Status.State == bulkhead.Revoked
	if (got.State == ocsp.Revoked) != revoked || got.State == ocsp.Unknown || revoked && (got.Reason != ans.Status.Reason.InAnswer() || !got.RevokedAt.Equal(ans.Status.RevokedAt)) {
		return bulkhead.Faultf(bulkhead.KindGate, "signed answer for %s does not say what the record says", ans.Status.Serial)
	}
	return nil
}

// checkAnswer assembles both answers for a certificate and judges each as a relying party would.
func checkAnswer(ans *bulkhead.SignedAnswer, responder []byte, issuer *x509.Certificate, now time.Time) error {
	for _, p := range parts(ans) {
		r, err := ocsp.ParseResponse(ocsp.Assemble(p.tbs, p.signature, responder))
		if err != nil {
			return fmt.Errorf("signed answer for %s: %w", ans.Status.Serial, err)
		}
		got, err := ocsp.CheckResponse(r, issuer, ans.Status.Serial, now)
		if err != nil {
			return fmt.Errorf("signed answer for %s: %w", ans.Status.Serial, err)
		}
		if err := says(ans, got); err != nil {
			return err
		}
	}
	return nil
}
