package run

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/keys"
	"bulkhead/pki/tlog"
	"bulkhead/pki/transcript"
	"bulkhead/signer"
)

// endings implements console.Endings.
type endings struct{ h *House }

func (x endings) authority(ctx context.Context, id bulkhead.AuthorityID) (bulkhead.Authority, string, error) {
	a, err := x.h.store.Authority(ctx, id)
	if err != nil {
		return a, "", err
	}
	cert, err := x509.ParseCertificate(a.Certificate)
	if err != nil {
		return a, "", bulkhead.Faultf(bulkhead.KindConflict, "authority %s has no certificate yet", id).WithHint("bulkhead hierarchy show").WithCause(err)
	}
	return a, cert.Subject.String(), nil
}

// Retirement implements console.Endings.
func (x endings) Retirement(ctx context.Context, id bulkhead.AuthorityID) (console.Retirement, error) {
	a, subject, err := x.authority(ctx, id)
	switch {
	case err != nil:
		return console.Retirement{}, err
	case a.State != bulkhead.AuthorityActive:
		return console.Retirement{}, bulkhead.Faultf(bulkhead.KindConflict, "authority %s is %s; an active one is retired", id, a.State).WithHint("bulkhead hierarchy show")
	case a.Kind == bulkhead.InfrastructureAuthority:
		return console.Retirement{}, bulkhead.Faultf(bulkhead.KindGate, "%s certifies the house's own listeners and roles: without it they could not prove who they are", id).
			WithHint("rotate it: bulkhead hierarchy rotate " + string(id))
	case x.h.currentAuthority(x.h.cfg.DefaultAuthority) == id:
		return console.Retirement{}, bulkhead.Faultf(bulkhead.KindGate, "%s issues for every order that names no authority", id).
			WithHint("name another as default_authority in " + ConfigFile + ", or rotate it: bulkhead hierarchy rotate " + string(id))
	}
	owed, err := x.h.store.Owed(ctx, id, x.h.now())
	return console.Retirement{Authority: id, Subject: subject, KeySHA256: bulkhead.Digest(a.SPKI), Good: owed.Good}, err
}

// Destruction implements console.Endings.
func (x endings) Destruction(ctx context.Context, id bulkhead.AuthorityID, acceptGood bool) (console.Destruction, error) {
	none := console.Destruction{}
	a, subject, err := x.authority(ctx, id)
	switch {
	case err != nil:
		return none, err
	case a.Dead():
		return none, bulkhead.Faultf(bulkhead.KindConflict, "the key of %s is destroyed already", id).WithHint("bulkhead keys list")
	case a.State != bulkhead.AuthorityRevoked:
		return none, bulkhead.Faultf(bulkhead.KindConflict, "authority %s is %s: it is dead only after its revocation and the destruction of its key", id, a.State).
			WithHint("revoke it first: bulkhead change preview --revoke-ca FILE")
	case a.KeyURI == "":
		return none, bulkhead.Faultf(bulkhead.KindConflict, "no online role has the key of %s, or its destruction has begun", id).WithHint("a key that is offline is destroyed at a ceremony: doc/ceremony.md")
	}
	owed, err := x.h.store.Owed(ctx, id, x.h.now())
	if err != nil {
		return none, err
	}
	if owed.Good > 0 && !acceptGood {
		return none, bulkhead.Faultf(bulkhead.KindGate, "%d certificates below %s are in force: once its key is gone no CRL can ever name them", owed.Good, id).
			WithHint("replace and revoke them first, or accept it: --accept-good")
	}
	p := console.Destruction{Authority: id, Subject: subject, KeySHA256: bulkhead.Digest(a.SPKI), KeyURI: a.KeyURI, Revoked: owed.Revoked, Good: owed.Good, Notice: keys.NoticeOf(a.KeyURI), Sealed: "nothing: every certificate below it has ended"}
	if !owed.Last.IsZero() {
		last := owed.Last.UTC()
		p.LastEnd, p.Sealed = &last, fmt.Sprintf("CRLs of %d shards and OCSP delegates until %s", max(a.Shards, 1), last.Format(time.DateOnly))
	}
	return p, nil
}

// retireApproved carries out a retirement that two people approved.
func (h *House) retireApproved(ctx context.Context, r bulkhead.ApprovalRequest) error {
	p, err := payload[console.Retirement](r)
	if err != nil {
		return err
	}
	a, err := h.store.Authority(ctx, p.Authority)
	switch {
	case err != nil:
		return err
	case bulkhead.Digest(a.SPKI) != p.KeySHA256:
		return bulkhead.Faultf(bulkhead.KindConflict, "%s is not the authority that was approved", p.Authority).WithHint("bulkhead hierarchy show")
	case a.State == bulkhead.AuthorityRetired:
		return nil // before a crash, or by a rotation
	case !a.State.CanMove(bulkhead.AuthorityRetired):
		return bulkhead.Faultf(bulkhead.KindConflict, "authority %s is %s by now", p.Authority, a.State).WithHint("bulkhead hierarchy show")
	}
	was := a.State
	a.State = bulkhead.AuthorityRetired
	return h.store.MoveAuthority(ctx, a, was, bulkhead.Evidence{Kind: bulkhead.EvAuthority, At: h.now().UTC(), Actor: "request:" + r.ID, Authority: a.ID, Ref: r.ID, KeyHash: p.KeySHA256, Digest: r.Digest,
		Detail: clip("retired: issues no more, answers for what it issued; " + r.Reason)})
}

// clip cuts a text to what a leaf holds.
func clip(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), tlog.MaxDetail)], "")
}

// destroyApproved destroys the key of a revoked authority, where the key is. The order of its steps makes every one of them
// repeatable, and whatever is lost in between is made up for by the next call:
//
//  1. The record names the key no more: from here on nobody signs with it, and the leaf says who approved.
//  2. What will be owed is signed, and durable with its own leaf.
//  3. The key is destroyed, and looked for.
//  4. The authority is dead on record.
func (h *House) destroyApproved(ctx context.Context, r bulkhead.ApprovalRequest) error {
	if h.signer == nil {
		return bulkhead.NewFault(bulkhead.KindUnavailable, "the key is destroyed by the signer's process, which looks for what is approved every few seconds").WithHint("bulkhead hierarchy show")
	}
	p, err := payload[console.Destruction](r)
	if err != nil {
		return err
	}
	h.ending.Lock()
	defer h.ending.Unlock()
	a, err := h.store.Authority(ctx, p.Authority)
	if err != nil {
		return err
	}
	if bulkhead.Digest(a.SPKI) != p.KeySHA256 || a.KeyURI != "" && a.KeyURI != p.KeyURI {
		return bulkhead.Faultf(bulkhead.KindConflict, "the key of %s is not the one that was approved", p.Authority).WithHint("bulkhead keys list")
	}
	if a.Dead() {
		return nil
	}
	if a.State != bulkhead.AuthorityRevoked {
		return bulkhead.Faultf(bulkhead.KindConflict, "authority %s is %s, not revoked", a.ID, a.State).WithHint("bulkhead hierarchy show")
	}
	e := keyEnd{h: h, a: a, p: p, r: r}
	for _, step := range []func(context.Context) error{e.begin, e.seal, e.destroy} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// keyEnd is one destruction under way.
type keyEnd struct {
	h *House
	a bulkhead.Authority
	p console.Destruction
	r bulkhead.ApprovalRequest
}

func (e *keyEnd) leaf(kind bulkhead.EvidenceKind, detail string) bulkhead.Evidence {
	return bulkhead.Evidence{Kind: kind, At: e.h.now().UTC(), Actor: "request:" + e.r.ID, Authority: e.a.ID, Ref: e.r.ID, KeyHash: e.p.KeySHA256, Digest: e.r.Digest, Detail: clip(detail)}
}

// witnesses are those whose signatures stand under what was approved.
func (e *keyEnd) witnesses() string {
	var names []string
	for _, x := range e.r.Approvals {
		names = append(names, x.Operator)
	}
	return strings.Join(names, ", ")
}

func (e *keyEnd) begin(ctx context.Context) error {
	if e.a.KeyURI == "" {
		return nil
	}
	e.a.KeyURI = ""
	return e.h.store.MoveAuthority(ctx, e.a, e.a.State, e.leaf(bulkhead.EvKeyEnding, "the last signatures of key "+e.p.KeyURI+" begin; approved and witnessed by "+e.witnesses()))
}

// seal signs in advance what is owed, unless it lies ready.
func (e *keyEnd) seal(ctx context.Context) error {
	owed, err := e.h.store.Owed(ctx, e.a.ID, e.h.now())
	if err != nil || owed.Last.IsZero() {
		return err
	}
	ready, err := e.sealed(ctx, owed.Last)
	if err != nil || ready {
		return err
	}
	crls, err := e.h.signer.Seal(ctx, signer.SealRequest{Authority: e.a.ID, KeyURI: e.p.KeyURI, Until: owed.Last,
		Number: func(ctx context.Context, shard int) (int64, error) {
			return e.h.store.NextCRLNumber(ctx, e.a.ID, shard)
		}})
	if err != nil {
		return err
	}
	digests := make([]bulkhead.Hash, len(crls))
	for i, c := range crls {
		digests[i] = bulkhead.Digest(c.DER)
	}
	ev := e.leaf(bulkhead.EvStatusSealed, "CRLs signed in advance until "+owed.Last.UTC().Format(time.RFC3339))
	ev.Count, ev.Digest = int64(len(crls)), tlog.BatchRoot(digests)
	return e.h.store.PutPrepared(ctx, crls, ev)
}

// sealed reports that CRLs of every shard and delegates lie ready until a time. The record has the CRLs all or not at all.
func (e *keyEnd) sealed(ctx context.Context, until time.Time) (bool, error) {
	cert, err := x509.ParseCertificate(e.a.Certificate)
	if err != nil {
		return false, fmt.Errorf("certificate of authority %s: %w", e.a.ID, err)
	}
	if until.After(cert.NotAfter) {
		until = cert.NotAfter
	}
	all, err := e.h.store.Prepared(ctx, e.a.ID)
	if err != nil {
		return false, err
	}
	covered := make([]time.Time, max(e.a.Shards, 1))
	for _, p := range all {
		if p.Kind == bulkhead.PreparedCRL && p.Shard < len(covered) && p.NotAfter.After(covered[p.Shard]) {
			covered[p.Shard] = p.NotAfter
		}
	}
	for _, t := range covered {
		if t.Before(until) {
			return false, nil
		}
	}
	return true, nil
}

func (e *keyEnd) destroy(ctx context.Context) error {
	if err := e.h.signer.DestroyKey(ctx, e.a.ID, e.p.KeyURI); err != nil {
		return err
	}
	was := e.a.State
	e.a.State = bulkhead.AuthorityDestroyed
	d := transcript.Destruction{Authority: e.a.ID, Key: e.p.KeySHA256, KeyURI: e.p.KeyURI, At: e.h.now().UTC().Truncate(time.Second), Transcript: e.r.Digest, Notice: e.p.Notice}
	text, err := d.Statement()
	if err != nil {
		return err
	}
	ev := e.leaf(bulkhead.EvKeyDestroyed, "key "+e.p.KeyURI+" destroyed, and not found any more; witnessed by "+e.witnesses())
	ev.Digest, ev.Link = bulkhead.Digest(text), e.r.Digest
	return e.h.store.MoveAuthority(ctx, e.a, was, ev)
}

// endingsEvery is how often the process with the keys looks for destructions that were approved elsewhere, or interrupted.
const endingsEvery = 5 * time.Second

// runEndings carries out what was approved where the keys are.
func (h *House) runEndings(ctx context.Context) error {
	return every(ctx, endingsEvery, func() {
		if err := h.quorum.ResumeAction(ctx, console.ActionDestroyKey); err != nil && ctx.Err() == nil {
			h.log.ErrorContext(ctx, "a key that is to be destroyed is still there", slog.String("role", "signer"), slog.String("error", err.Error()))
		}
	})
}
