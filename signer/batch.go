package signer

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/pki/tlog"
)

// batch is one token over many signatures of one key: an intent with the Merkle root of what will be signed, then the
// signatures, then an outcome with the root of the signatures.
type batch struct {
	id        string
	authority bulkhead.AuthorityID
	signer    bulkhead.Hash // SHA-256 of the SPKI of the key that signs
	detail    string
	root      bulkhead.Hash // set by announce
	count     int64
}

func (s *Signer) newBatch(authority bulkhead.AuthorityID, signer bulkhead.Hash, detail string) (*batch, error) {
	var id [16]byte
	if _, err := io.ReadFull(s.cfg.Rand, id[:]); err != nil {
		return nil, fmt.Errorf("random source: %w", err)
	}
	return &batch{id: hex.EncodeToString(id[:]), authority: authority, signer: signer, detail: strings.ToValidUTF8(detail[:min(len(detail), tlog.MaxDetail)], "")}, nil
}

// announce makes the intent durable; only then may the key be used.
func (s *Signer) announce(ctx context.Context, b *batch, digests []bulkhead.Hash) error {
	b.root, b.count = tlog.BatchRoot(digests), int64(len(digests))
	_, err := s.cfg.Store.AppendEvidence(ctx, bulkhead.Evidence{Kind: bulkhead.EvBatchIntent, At: s.now(), Actor: s.cfg.Actor, Authority: b.authority,
		Ref: b.id, Signer: b.signer, Digest: b.root, Count: b.count, Detail: b.detail})
	if err != nil {
		return unavailable("the intent to sign could not be made durable", err)
	}
	return nil
}

// outcome is the leaf that closes the batch.
func (b *batch) outcome(signatures []bulkhead.Hash, at time.Time, actor string) bulkhead.Evidence {
	return bulkhead.Evidence{Kind: bulkhead.EvBatchOutcome, At: at, Actor: actor, Authority: b.authority,
		Ref: b.id, Signer: b.signer, Digest: tlog.BatchRoot(signatures), Link: b.root, Count: b.count, Detail: b.detail}
}

// conclude makes the outcome durable; only then may the signatures leave.
func (s *Signer) conclude(ctx context.Context, b *batch, signatures []bulkhead.Hash) error {
	ctx, cancel := detached(ctx)
	defer cancel()
	_, err := s.cfg.Store.AppendEvidence(ctx, b.outcome(signatures, s.now(), s.cfg.Actor))
	if err != nil {
		return unavailable("the outcome could not be made durable; the signatures were thrown away", err)
	}
	return nil
}

// window checks the times that a caller asks for, and cuts the end to the earliest of ends. A statement about the
// future is refused, and so is one that would be over before it began.
func (s *Signer) window(this, next time.Time, ends ...time.Time) (time.Time, time.Time, error) {
	this, next = this.UTC().Truncate(time.Second), next.UTC().Truncate(time.Second)
	if this.IsZero() || this.After(s.now()) {
		return this, next, bulkhead.Faultf(bulkhead.KindMalformed, "thisUpdate %s is in the future or missing", this.Format(time.RFC3339)).WithHint("ask for a status as of now")
	}
	for _, end := range ends {
		if next.After(end) {
			next = end.UTC()
		}
	}
	if !next.After(this) || !next.After(s.now()) {
		return this, next, bulkhead.Faultf(bulkhead.KindConflict, "the status would end at %s, which is over", next.Format(time.RFC3339)).
			WithHint("ask for a later end; if the OCSP delegate or the authority is at its end, renew it")
	}
	return this, next, nil
}
