package signer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"fmt"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"bulkhead"
	"bulkhead/pki/ocsp"
)

// maxAnswers bounds one batch, and thereby memory.
const maxAnswers = 1 << 17

// certIDHashes are the hashes by which clients name a certificate; each has an answer of its own.
var certIDHashes = [2]ocsp.HashAlgorithm{ocsp.SHA1, ocsp.SHA256}

// SignAnswers implements Door. The answers are in the order of the request; a serial that is not issued or revoked in
// the record is in Missing and nothing is signed for it (P11). Faults: KindMalformed for a batch too large, a serial
// twice or a thisUpdate in the future; KindConflict for a change that is not approved, an authority that does not answer, a window that is over;
// KindUnavailable when there is no delegate or evidence could not be written.
func (s *Signer) SignAnswers(ctx context.Context, req bulkhead.AnswerRequest) (bulkhead.AnswerBatch, error) {
	none := bulkhead.AnswerBatch{}
	leave, err := s.enter()
	if err != nil {
		return none, err
	}
	defer leave()
	if err := checkSerials(req.Serials); err != nil {
		return none, err
	}
	a, err := s.answering(ctx, req.Authority)
	if err != nil {
		return none, err
	}
	over, err := s.overlay(ctx, req.Change, a.ID)
	if err != nil {
		return none, err
	}
	d, err := s.delegate(ctx, a)
	if err != nil {
		return none, err
	}
	out := bulkhead.AnswerBatch{Responder: d.Certificate}
	if out.ThisUpdate, out.NextUpdate, err = s.window(req.ThisUpdate, req.NextUpdate, d.cert.NotAfter, a.cert.NotAfter); err != nil {
		return none, err
	}
	rows, err := s.said(ctx, a.ID, req.Serials, over)
	if err != nil {
		return none, err
	}
	out.Answers = make([]bulkhead.SignedAnswer, 0, len(rows))
	for i, serial := range req.Serials {
		if !answered(rows[i]) {
			out.Missing = append(out.Missing, serial)
			continue
		}
		out.Answers = append(out.Answers, bulkhead.SignedAnswer{Status: rows[i]})
	}
	if len(out.Answers) == 0 {
		return out, nil
	}
	if err := s.signAnswers(ctx, req, a, d, &out); err != nil {
		return none, err
	}
	return out, nil
}

// answered reports whether anything is said of a certificate with this row (P11).
func answered(st bulkhead.Status) bool {
	return st.State == bulkhead.Issued || st.State == bulkhead.Revoked
}

// signAnswers encodes, announces, signs and concludes. On error out is not to be used.
func (s *Signer) signAnswers(ctx context.Context, req bulkhead.AnswerRequest, a *authority, d *delegate, out *bulkhead.AnswerBatch) error {
	issuer, err := ocsp.NewIssuer(a.Subject, a.SPKI)
	if err != nil {
		return err
	}
	produced := s.now()
	// Two answers for each certificate: number 2i for its SHA-1 CertID, 2i+1 for its SHA-256 one.
	digests := make([]bulkhead.Hash, 2*len(out.Answers))
	err = parallel(ctx, len(digests), func(i int) error {
		ans, hash := &out.Answers[i/2], certIDHashes[i%2]
		tbs, err := ocsp.BuildTBSFor(issuer, d.responder, produced, single(ans.Status, out.ThisUpdate, out.NextUpdate), hash)
		if hash == ocsp.SHA1 {
			ans.TBS = tbs
		} else {
			ans.TBS256 = tbs
		}
		digests[i] = sha256.Sum256(tbs)
		return err
	})
	if err != nil {
		return err
	}
	detail := "ocsp answers: " + req.Object
	if req.Change != "" {
		detail += ", change " + req.Change
	}
	b, err := s.newBatch(a.ID, d.hash, detail)
	if err != nil {
		return err
	}
	if err := s.announce(ctx, b, digests); err != nil {
		return err
	}
	out.ID = b.id
	signatures := make([]bulkhead.Hash, len(digests))
	err = parallel(ctx, len(digests), func(i int) error {
		sig, err := d.key.Sign(nil, digests[i][:], crypto.SHA256) // deterministic: decision 0042
		if err != nil {
			return unavailable("the OCSP delegate's key did not sign", err)
		}
		if ans := &out.Answers[i/2]; certIDHashes[i%2] == ocsp.SHA1 {
			ans.Signature = sig
		} else {
			ans.Signature256 = sig
		}
		signatures[i] = bulkhead.Digest(sig)
		return nil
	})
	if err != nil {
		return err
	}
	// One check shows that key and certificate belong together; all answers share them and the code path.
	if pub, ok := d.cert.PublicKey.(*ecdsa.PublicKey); !ok || !ecdsa.VerifyASN1(pub, digests[0][:], out.Answers[0].Signature) {
		return bulkhead.NewFault(bulkhead.KindInternal, "the OCSP delegate's signature does not verify")
	}
	return s.conclude(ctx, b, signatures)
}

// single is what is said of one certificate.
func single(st bulkhead.Status, this, next time.Time) ocsp.Single {
	one := ocsp.Single{Serial: st.Serial, State: ocsp.Good, ThisUpdate: this, NextUpdate: next}
	if st.State == bulkhead.Revoked {
		one.State, one.RevokedAt, one.Reason = ocsp.Revoked, st.RevokedAt, st.Reason.InAnswer()
		one.HasReason = one.Reason != bulkhead.Unspecified
	}
	return one
}

// answering is an authority that owes answers. One whose key is destroyed has delegates from before.
func (s *Signer) answering(ctx context.Context, id bulkhead.AuthorityID) (*authority, error) {
	a, err := s.authority(ctx, id)
	if err != nil {
		return nil, err
	}
	if a.State == bulkhead.AuthorityForeign {
		return nil, bulkhead.Faultf(bulkhead.KindGate, "authority %s was imported: its key is elsewhere and gave no delegate, so no status is published for it here", a.ID).
			WithHint("have it sign a delegate: bulkhead import --ocsp-request, then --ocsp-delegate")
	}
	if !a.Served() {
		return nil, bulkhead.Faultf(bulkhead.KindConflict, "authority %s is %s and answers for nothing", a.ID, a.State).WithHint("see: bulkhead hierarchy show")
	}
	return a, nil
}

// checkSerials refuses an empty or too large batch and a serial twice.
func checkSerials(serials []bulkhead.Serial) error {
	if len(serials) == 0 || len(serials) > maxAnswers {
		return bulkhead.Faultf(bulkhead.KindMalformed, "a batch has 1 to %d serials, not %d", maxAnswers, len(serials)).WithHint("split the batch")
	}
	sorted := serials
	if !slices.IsSortedFunc(sorted, bulkhead.Serial.Compare) {
		sorted = slices.SortedFunc(slices.Values(serials), bulkhead.Serial.Compare)
	}
	for i, x := range sorted {
		if x.IsZero() || i > 0 && x == sorted[i-1] {
			return bulkhead.Faultf(bulkhead.KindMalformed, "serial %q is empty or stands twice in the batch", x).WithHint("name each certificate once")
		}
	}
	return nil
}

// parallel runs f for 0 … n-1 on all processors.
func parallel(ctx context.Context, n int, f func(i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	workers := min(runtime.GOMAXPROCS(0), n)
	for w := range workers {
		g.Go(func() error {
			for i := w; i < n; i += workers {
				if err := ctx.Err(); err != nil {
					return fmt.Errorf("batch: %w", err)
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
