package signer

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"bulkhead"
)

// Token is the right to one signature over one linted TBSCertificate. Only Prepare and its siblings make one; it is
// good once, for a short time, with the signer that made it. A copy of a token is the same token.
type Token struct {
	t *ticket
}

// ticket is what a token stands for. Nothing in it changes but used.
type ticket struct {
	owner     *Signer
	authority *authority
	row       bulkhead.Certificate // as reserved
	tbs       []byte               // the linted bytes, exactly
	digest    bulkhead.Hash        // of tbs: the intent
	subject   bulkhead.StopSubject // what a stop could cover
	actor     string
	expires   time.Time
	plan      *plan // of a precertificate: what becomes the certificate
	used      atomic.Bool
}

// Certificate is the row that the token has reserved.
func (t *Token) Certificate() bulkhead.Certificate { return t.t.row }

// Sign signs what the token's Prepare linted, makes the outcome durable and only then returns the certificate. KindForbidden
// for a token that was used, or is another signer's; KindConflict for one that is too old; KindBadPublicKey when the
// key was blocked since; KindStopped when issuance was stopped since; KindUnavailable when the outcome could not be made durable.
func (s *Signer) Sign(ctx context.Context, token *Token) (bulkhead.IssuedCertificate, error) {
	none := bulkhead.IssuedCertificate{}
	if token == nil || token.t == nil || token.t.owner != s {
		return none, bulkhead.NewFault(bulkhead.KindForbidden, "this signer did not make the token").WithHint("prepare the request with the signer that is to sign it")
	}
	t := token.t
	if !t.used.CompareAndSwap(false, true) {
		return none, bulkhead.NewFault(bulkhead.KindForbidden, "the token was used before").WithHint("prepare the request again: one token, one signature")
	}
	leave, err := s.enter()
	if err != nil {
		return none, err // the reservation is left to Recover
	}
	defer leave()
	der, err := s.signTicket(ctx, t)
	if err != nil {
		s.giveUp(ctx, t, err)
		return none, err
	}
	return s.finish(ctx, t, der)
}

// forgo uses a token up without a signature.
func (s *Signer) forgo(ctx context.Context, token *Token, why error) {
	if token.t.used.CompareAndSwap(false, true) {
		s.giveUp(ctx, token.t, why)
	}
}

func (s *Signer) giveUp(ctx context.Context, t *ticket, why error) {
	s.abandon(ctx, t.row, t.digest, "given up, handed to nobody: "+bulkhead.AsFault(why).Detail)
}

// signTicket does everything up to the signature. After an error nothing of it leaves the process.
func (s *Signer) signTicket(ctx context.Context, t *ticket) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, unavailable("the request was given up", err)
	}
	if s.now().After(t.expires) {
		return nil, bulkhead.NewFault(bulkhead.KindConflict, "the token is too old").WithHint("prepare the request again")
	}
	if err := s.mayStill(ctx, t.row.KeyHash, t.row.Kind, t.subject); err != nil {
		return nil, err
	}
	der, err := s.signTBS(t.authority, t.tbs)
	if err != nil {
		s.cfg.Log.ErrorContext(ctx, "signing failed", slog.String("certificate", t.row.CertificateRef.String()), slog.String("error", err.Error()))
		return nil, unavailable("the issuing key did not sign", err)
	}
	return der, nil
}

// finish makes the outcome durable. Its commit does not stop when the caller goes away, and is not abandoned when it
// fails: whether it happened is then unknown, and Recover looks.
func (s *Signer) finish(ctx context.Context, t *ticket, der []byte) (bulkhead.IssuedCertificate, error) {
	defer s.release(t.row.CertificateRef)
	row := t.row
	row.Fingerprint = bulkhead.Digest(der)
	c := completion{keyHash: row.KeyHash, Completion: bulkhead.Completion{CertificateRef: row.CertificateRef, DER: der, Outcome: bulkhead.Evidence{
		Kind: bulkhead.EvCertificateOutcome, At: s.now(), Actor: t.actor, Authority: row.Issuer, Serial: row.Serial, Ref: row.OrderID,
		KeyHash: row.KeyHash, Signer: t.authority.hash, Digest: row.Fingerprint, Link: t.digest}}}
	seq, err := s.completes.do(nil, c)
	if err != nil {
		s.cfg.Log.ErrorContext(ctx, "a signed certificate was not handed out", slog.String("certificate", row.CertificateRef.String()), slog.String("error", err.Error()))
		return bulkhead.IssuedCertificate{}, err
	}
	row.State, row.OutcomeSeq = bulkhead.Issued, seq
	return bulkhead.IssuedCertificate{Certificate: row, DER: der, Chain: t.authority.chain()}, nil
}
