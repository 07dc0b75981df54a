package status

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sort"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/pki/pack"
)

// Preview is what a change would do to the answers, computed before anything is signed. Its JSON is kept with the
// change; its hash is what an approval quotes.
type Preview struct {
	Change         string                        `json:"change"`
	Why            string                        `json:"why"`
	Direct         []PreviewItem                 `json:"direct"`          // at most 100 shown; Count has all
	Count          int                           `json:"count"`           // certificates named by the change
	AnswersChanged int                           `json:"answers_changed"` // answers that differ afterwards
	ByIssuer       map[bulkhead.AuthorityID]int  `json:"by_issuer"`
	ByProfile      map[string]int                `json:"by_profile"`
	Unaffected     map[bulkhead.AuthorityID]bool `json:"unaffected"` // authorities with no certificate in the change
	Blocked        []string                      `json:"blocked"`
	Head           uint64                        `json:"head"` // sequence of the head that the preview was made on
}

// PreviewItem is one certificate of a preview.
type PreviewItem struct {
	Issuer bulkhead.AuthorityID      `json:"issuer"`
	Serial bulkhead.Serial           `json:"serial"`
	Names  []string                  `json:"names"`
	Before bulkhead.CertificateState `json:"before"`
	After  bulkhead.CertificateState `json:"after"`
	Reason string                    `json:"reason"`
}

// shown bounds the items that a preview prints.
const shown = 100

// RevokeCertificates makes a change, previews it, and carries it through when policy lets one person do so: at most
// Policy.OnePerson items, or any number whose keys are all blocked as compromised. Otherwise it fails with KindGate
// and the change waits for approvals of its preview.
//
// It refuses, and changes nothing: a serial that was never issued (KindNotFound), one revoked already
// (KindAlreadyRevoked, unless the reason is upgraded to keyCompromise), a reason that BR 7.2.2 does not allow.
func (s *Service) RevokeCertificates(ctx context.Context, actor, why string, items []bulkhead.ChangeItem) (string, error) {
	c, err := s.Plan(ctx, actor, why, items)
	if err != nil {
		return "", err
	}
	p, hash, err := s.Preview(ctx, c.ID)
	if err != nil {
		return c.ID, err
	}
	if len(p.Blocked) > 0 {
		return c.ID, bulkhead.Faultf(bulkhead.KindGate, "the preview of change %s is blocked: %s", c.ID, p.Blocked[0]).WithHint("bulkhead change show " + c.ID)
	}
	return c.ID, s.ActivateByOne(ctx, actor, c.ID, hash)
}

// ActivateByOne carries a previewed change through on one person's word, where policy lets one person do so; hash is that
// of the preview that the person saw. KindGate otherwise: the change goes on waiting for approvals.
func (s *Service) ActivateByOne(ctx context.Context, actor, id string, hash bulkhead.Hash) error {
	c, err := s.cfg.Store.Change(ctx, id)
	if err != nil {
		return err
	}
	if c.State == bulkhead.ChangePreviewed {
		one, err := s.onePersonMay(ctx, id, c.Count)
		if err != nil {
			return err
		}
		if !one {
			return bulkhead.Faultf(bulkhead.KindGate, "change %s touches %d certificates; more than %d take two people", id, c.Count, s.cfg.Policy.OnePerson).
				WithHint("bulkhead change approve " + id)
		}
	}
	// Held from the approval on: the one who asked learns what became of the change, and not the carrying on of
	// interrupted ones in between.
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.State == bulkhead.ChangePreviewed {
		if err := s.Approve(ctx, id, hash, actor); err != nil {
			return err
		}
	}
	return s.activate(ctx, id)
}

// Withdraw ends a change that is not approved yet; nothing of it went public.
func (s *Service) Withdraw(ctx context.Context, actor, id, why string) error {
	c, err := s.cfg.Store.Change(ctx, id)
	if err != nil {
		return err
	}
	if c.State != bulkhead.ChangePlanned && c.State != bulkhead.ChangePreviewed {
		return bulkhead.Faultf(bulkhead.KindConflict, "change %s is %s and cannot be withdrawn", id, c.State).WithHint("bulkhead change show " + id)
	}
	was := c.State
	c.State = bulkhead.ChangeRefused
	return s.cfg.Store.MoveChange(ctx, c, was, s.leaf(bulkhead.EvChangeRefused, c, actor, "withdrawn: "+why))
}

// PlanRevocation makes a change and its preview and stops there: what a dry run shows.
func (s *Service) PlanRevocation(ctx context.Context, actor, why string, items []bulkhead.ChangeItem) (bulkhead.Change, error) {
	c, err := s.Plan(ctx, actor, why, items)
	if err != nil {
		return c, err
	}
	if _, _, err := s.Preview(ctx, c.ID); err != nil {
		return c, err
	}
	return s.cfg.Store.Change(ctx, c.ID)
}

// Plan records a change and its items after checking each against the record.
func (s *Service) Plan(ctx context.Context, actor, why string, items []bulkhead.ChangeItem) (bulkhead.Change, error) {
	if len(items) == 0 {
		return bulkhead.Change{}, bulkhead.NewFault(bulkhead.KindMalformed, "a change needs at least one certificate")
	}
	items = append([]bulkhead.ChangeItem(nil), items...)
	sort.Slice(items, func(i, j int) bool {
		if items[i].Issuer != items[j].Issuer {
			return items[i].Issuer < items[j].Issuer
		}
		return items[i].Serial.Compare(items[j].Serial) < 0
	})
	now := s.now()
	for i := range items {
		if i > 0 && items[i].CertificateRef == items[i-1].CertificateRef {
			return bulkhead.Change{}, bulkhead.Faultf(bulkhead.KindMalformed, "certificate %s stands twice in the change", items[i].CertificateRef)
		}
		if err := s.checkItem(ctx, &items[i], now); err != nil {
			return bulkhead.Change{}, err
		}
	}
	id, err := s.newID()
	if err != nil {
		return bulkhead.Change{}, err
	}
	c := bulkhead.Change{ID: id, State: bulkhead.ChangePlanned, Actor: actor, Why: why, Count: len(items), CreatedAt: now}
	return c, s.cfg.Store.CreateChange(ctx, c, items, s.leaf(bulkhead.EvChangePlanned, c, actor, why))
}

func (s *Service) leaf(k bulkhead.EvidenceKind, c bulkhead.Change, actor, detail string) bulkhead.Evidence {
	return bulkhead.Evidence{Kind: k, At: s.cfg.Now().UTC(), Actor: actor, Ref: c.ID, Count: int64(c.Count), Digest: c.PreviewHash, Detail: detail}
}

// checkItem holds one item against the record and sets its date.
func (s *Service) checkItem(ctx context.Context, it *bulkhead.ChangeItem, now time.Time) error {
	cert, _, err := s.cfg.Store.Certificate(ctx, it.CertificateRef)
	if err != nil {
		if bulkhead.KindOf(err) == bulkhead.KindNotFound {
			return bulkhead.Faultf(bulkhead.KindNotFound, "serial %s was never issued by %s", it.Serial, it.Issuer).WithHint("bulkhead cert list")
		}
		return err
	}
	if cert.Kind != bulkhead.CACertificate && !it.Reason.AllowedForLeaf() {
		return bulkhead.Faultf(bulkhead.KindBadRevocationReason, "reason %s is not allowed for a subscriber certificate (BR 7.2.2)", it.Reason).
			WithHint("use one of: unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn")
	}
	switch cert.State {
	case bulkhead.Issued:
	case bulkhead.Revoked:
		if it.Reason != bulkhead.KeyCompromise || cert.Reason == bulkhead.KeyCompromise {
			return bulkhead.Faultf(bulkhead.KindAlreadyRevoked, "certificate %s was revoked at %s", it.Serial, cert.RevokedAt.UTC().Format(time.RFC3339))
		}
	default:
		return bulkhead.Faultf(bulkhead.KindNotFound, "serial %s of %s was reserved and never issued", it.Serial, it.Issuer).WithHint("bulkhead cert list")
	}
	if it.RevokedAt.IsZero() || it.RevokedAt.After(now) || it.Reason != bulkhead.KeyCompromise && it.RevokedAt.Before(now) {
		it.RevokedAt = now // only a proof of compromise moves the date back (BR 7.2.2)
	}
	if it.RevokedAt.Before(cert.NotBefore) {
		it.RevokedAt = cert.NotBefore
	}
	it.RevokedAt = it.RevokedAt.UTC().Truncate(time.Second)
	return nil
}

// Preview computes what the change does and stores it with its hash. A change may be previewed again; approvals of
// the older preview then count no more.
func (s *Service) Preview(ctx context.Context, id string) (Preview, bulkhead.Hash, error) {
	c, err := s.cfg.Store.Change(ctx, id)
	if err != nil {
		return Preview{}, bulkhead.Hash{}, err
	}
	if !c.State.CanMove(bulkhead.ChangePreviewed) {
		return Preview{}, bulkhead.Hash{}, bulkhead.Faultf(bulkhead.KindConflict, "change %s is %s and cannot be previewed any more", id, c.State)
	}
	head, err := s.cfg.Store.Head(ctx)
	if err != nil {
		return Preview{}, bulkhead.Hash{}, err
	}
	p := Preview{Change: id, Why: c.Why, Count: c.Count, ByIssuer: map[bulkhead.AuthorityID]int{}, ByProfile: map[string]int{},
		Unaffected: map[bulkhead.AuthorityID]bool{}, Direct: []PreviewItem{}, Blocked: []string{}, Head: head.Sequence}
	err = s.eachItem(ctx, id, func(it bulkhead.ChangeItem) error { return s.previewItem(ctx, &p, it) })
	if err != nil {
		return p, bulkhead.Hash{}, err
	}
	authorities, err := s.cfg.Store.Authorities(ctx)
	if err != nil {
		return p, bulkhead.Hash{}, err
	}
	for _, a := range authorities {
		if p.ByIssuer[a.ID] == 0 {
			p.Unaffected[a.ID] = true
		} else if a.KeyURI == "" {
			p.Blocked = append(p.Blocked, fmt.Sprintf("the key of %s is offline: its CRL needs a ceremony first", a.ID))
		}
	}
	body, err := json.Marshal(p)
	if err != nil {
		return p, bulkhead.Hash{}, err
	}
	was := c.State
	c.State, c.Preview, c.PreviewHash = bulkhead.ChangePreviewed, body, bulkhead.Digest(body)
	return p, c.PreviewHash, s.cfg.Store.MoveChange(ctx, c, was, s.leaf(bulkhead.EvChangePreviewed, c, "role:status", "preview made"))
}

func (s *Service) previewItem(ctx context.Context, p *Preview, it bulkhead.ChangeItem) error {
	cert, _, err := s.cfg.Store.Certificate(ctx, it.CertificateRef)
	if err != nil {
		return err
	}
	if err := s.checkItem(ctx, &it, s.now()); err != nil {
		if k := bulkhead.KindOf(err); k != bulkhead.KindAlreadyRevoked && k != bulkhead.KindNotFound {
			return err
		}
		p.Blocked = append(p.Blocked, bulkhead.AsFault(err).Detail)
	}
	p.AnswersChanged++
	p.ByIssuer[it.Issuer]++
	p.ByProfile[cert.Profile]++
	if len(p.Direct) < shown {
		item := PreviewItem{Issuer: it.Issuer, Serial: it.Serial, Names: []string{}, Before: cert.State, After: bulkhead.Revoked, Reason: it.Reason.String()}
		for _, n := range cert.Names {
			item.Names = append(item.Names, n.Value)
		}
		p.Direct = append(p.Direct, item)
	}
	return nil
}

// onePersonMay decides whether a single person is enough. Certificates whose key is blocked are expedited whatever
// their number: the block was the decision, the revocations follow from it.
func (s *Service) onePersonMay(ctx context.Context, id string, count int) (bool, error) {
	if count <= s.cfg.Policy.OnePerson {
		return true, nil
	}
	expedited := true
	err := s.eachItem(ctx, id, func(it bulkhead.ChangeItem) error {
		if it.Reason != bulkhead.KeyCompromise {
			expedited = false
			return nil
		}
		cert, _, err := s.cfg.Store.Certificate(ctx, it.CertificateRef)
		if err != nil {
			return err
		}
		blocked, err := s.cfg.Store.BlockedKeys(ctx, cert.KeyHash)
		expedited = expedited && len(blocked) > 0
		return err
	})
	return expedited, err
}

// Approve moves a previewed change on. The hash must be that of the newest preview (promise P4).
func (s *Service) Approve(ctx context.Context, id string, hash bulkhead.Hash, actor string) error {
	c, err := s.cfg.Store.Change(ctx, id)
	if err != nil {
		return err
	}
	if c.State != bulkhead.ChangePreviewed {
		return bulkhead.Faultf(bulkhead.KindConflict, "change %s is %s, only a previewed change can be approved", id, c.State).WithHint("bulkhead change show " + id)
	}
	if hash != c.PreviewHash || hash.IsZero() {
		return bulkhead.Faultf(bulkhead.KindGate, "the approval quotes another preview of change %s", id).WithHint("bulkhead change preview " + id)
	}
	var p Preview
	if err := json.Unmarshal(c.Preview, &p); err != nil || len(p.Blocked) > 0 {
		return bulkhead.Faultf(bulkhead.KindGate, "the preview of change %s is blocked: %s", id, strings.Join(p.Blocked, "; ")).WithHint("bulkhead change show " + id)
	}
	c.State = bulkhead.ChangeApproved
	return s.cfg.Store.MoveChange(ctx, c, bulkhead.ChangePreviewed, s.leaf(bulkhead.EvChangeApproved, c, actor, "approved"))
}

// Activate stages an approved change, verifies what was staged, and makes it public in one step. After an error before
// the commit point nothing is public and the change can be activated again; after it, the next Tick publishes.
func (s *Service) Activate(ctx context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.activate(ctx, id)
}

// activate is Activate for callers that hold mu.
func (s *Service) activate(ctx context.Context, id string) error {
	if err := s.load(ctx); err != nil {
		return err
	}
	c, err := s.cfg.Store.Change(ctx, id)
	if err != nil {
		return err
	}
	switch c.State {
	case bulkhead.ChangeApproved, bulkhead.ChangeStaged:
	case bulkhead.ChangeActivated, bulkhead.ChangePublished:
		return s.settle(ctx, c)
	case bulkhead.ChangeSettled:
		return nil
	default:
		return bulkhead.Faultf(bulkhead.KindConflict, "change %s is %s and not approved", id, c.State).WithHint("bulkhead change approve " + id)
	}
	if err := s.stillTrue(ctx, c); err != nil {
		return s.refuse(ctx, c, err)
	}
	next := clone(s.head)
	crls, err := s.stage(ctx, c, next)
	if err != nil {
		return err
	}
	if c.State == bulkhead.ChangeApproved {
		c.State = bulkhead.ChangeStaged
		if err := s.cfg.Store.MoveChange(ctx, c, bulkhead.ChangeApproved, s.leaf(bulkhead.EvChangeStaged, c, "role:status", "objects signed, published and verified; no head names them yet")); err != nil {
			return err
		}
	}
	rec, err := s.sign(ctx, next)
	if err != nil {
		return err
	}
	evs, err := s.activationLeaves(ctx, c, rec)
	if err != nil {
		return err
	}
	c.State, c.Epoch, c.ActivatedAt = bulkhead.ChangeActivated, rec.Sequence, s.now()
	if err := s.cfg.Store.Activate(ctx, c, rec, crls, evs...); err != nil {
		return err
	}
	s.take(next)
	if err := s.cfg.Objects.SetHead(ctx, rec.Body); err != nil {
		return err
	}
	return s.settle(ctx, c)
}

// stillTrue fails with KindGate for a preview that the world has overtaken: an item that is no longer as it was when
// shown.
func (s *Service) stillTrue(ctx context.Context, c bulkhead.Change) error {
	var p Preview
	if err := json.Unmarshal(c.Preview, &p); err != nil || bulkhead.Digest(c.Preview) != c.PreviewHash {
		return bulkhead.Faultf(bulkhead.KindGate, "the stored preview of change %s does not have the hash that was approved", c.ID).WithHint("plan the change again: bulkhead cert revoke")
	}
	return s.eachItem(ctx, c.ID, func(it bulkhead.ChangeItem) error {
		err := s.checkItem(ctx, &it, s.now())
		switch bulkhead.KindOf(err) {
		case bulkhead.KindAlreadyRevoked, bulkhead.KindNotFound, bulkhead.KindBadRevocationReason:
			return bulkhead.Faultf(bulkhead.KindGate, "the world moved since the preview of change %s: %s", c.ID, bulkhead.AsFault(err).Detail).
				WithHint("plan what is left again: bulkhead cert revoke").WithCause(err)
		}
		return err
	})
}

// refuse ends a change whose preview is not true any more; other errors leave it as it is.
func (s *Service) refuse(ctx context.Context, c bulkhead.Change, why error) error {
	if bulkhead.KindOf(why) != bulkhead.KindGate {
		return why
	}
	was := c.State
	c.State = bulkhead.ChangeRefused
	if err := s.cfg.Store.MoveChange(ctx, c, was, s.leaf(bulkhead.EvChangeRefused, c, "role:status", bulkhead.AsFault(why).Detail)); err != nil {
		s.cfg.Log.WarnContext(ctx, "a stale change could not be closed", slog.String("change", c.ID), slog.String("error", err.Error()))
	}
	return why
}

// activationLeaves are the leaves of the commit: the switch itself and one for each certificate.
func (s *Service) activationLeaves(ctx context.Context, c bulkhead.Change, rec bulkhead.HeadRecord) ([]bulkhead.Evidence, error) {
	evs := []bulkhead.Evidence{{Kind: bulkhead.EvChangeActivated, At: s.cfg.Now().UTC(), Actor: c.Actor, Ref: c.ID, Digest: c.PreviewHash, Count: int64(rec.Sequence), Detail: c.Why}}
	err := s.eachItem(ctx, c.ID, func(it bulkhead.ChangeItem) error {
		evs = append(evs, bulkhead.Evidence{Kind: bulkhead.EvRevocation, At: s.cfg.Now().UTC(), Actor: c.Actor, Authority: it.Issuer, Serial: it.Serial, Ref: c.ID,
			Detail: it.Reason.String() + " " + it.RevokedAt.UTC().Format(time.RFC3339)})
		return nil
	})
	return evs, err
}

// stage signs and publishes the objects of a change, reads them back, and names them in next.
func (s *Service) stage(ctx context.Context, c bulkhead.Change, next *pack.Head) ([]bulkhead.CRLRecord, error) {
	byIssuer := map[bulkhead.AuthorityID][]bulkhead.ChangeItem{}
	err := s.eachItem(ctx, c.ID, func(it bulkhead.ChangeItem) error {
		byIssuer[it.Issuer] = append(byIssuer[it.Issuer], it)
		return nil
	})
	if err != nil {
		return nil, err
	}
	authorities, err := s.cfg.Store.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	var crls []bulkhead.CRLRecord
	for _, a := range authorities {
		if len(byIssuer[a.ID]) == 0 {
			continue
		}
		ih := issuerHead(next, a.ID)
		shards, err := s.stageAnswers(ctx, c, a, ih, byIssuer[a.ID])
		if err != nil {
			return nil, err
		}
		for shard := range shards {
			rec, err := s.newCRL(ctx, a, ih, shard, c.ID)
			if err != nil {
				return nil, err
			}
			crls = append(crls, rec)
		}
		ih.Epoch++
		ih.Change = c.ID
	}
	return crls, nil
}

// stageAnswers makes the delta of one authority and returns the CRL shards concerned.
func (s *Service) stageAnswers(ctx context.Context, c bulkhead.Change, a bulkhead.Authority, ih *pack.IssuerHead, items []bulkhead.ChangeItem) (map[int]bool, error) {
	shards := map[int]bool{}
	var entries []pack.Entry
	var t responderTable
	for part := range slices.Chunk(items, batchSize) {
		serials := make([]bulkhead.Serial, len(part))
		for i, it := range part {
			serials[i] = it.Serial
		}
		rows, err := s.rows(ctx, a.ID, serials)
		if err != nil {
			return nil, err
		}
		for _, it := range part {
			rows[it.Serial] = afterItem(rows[it.Serial], it)
			shards[rows[it.Serial].Shard] = true
		}
		got, err := s.signAnswers(ctx, a, serials, c.ID, rows, &t)
		if err != nil {
			return nil, err
		}
		entries = append(entries, got...)
	}
	ref, err := s.putPack(ctx, a, entries, t)
	if err != nil {
		return nil, err
	}
	if _, err := s.openPack(ctx, ref); err != nil {
		return nil, err
	}
	ih.Packs = append([]pack.ObjectRef{ref}, ih.Packs...)
	return shards, nil
}

// BlockKey blocks a key for ever (promise P10).
func (s *Service) BlockKey(ctx context.Context, k bulkhead.BlockedKey) error {
	if k.BlockedAt.IsZero() {
		k.BlockedAt = s.now()
	}
	return s.cfg.Store.BlockKey(ctx, k, bulkhead.Evidence{Kind: bulkhead.EvKeyBlocked, At: s.cfg.Now().UTC(), Actor: k.Actor, KeyHash: k.KeyHash, Detail: k.Reason})
}

// Change returns a change by id.
func (s *Service) Change(ctx context.Context, id string) (bulkhead.Change, error) {
	return s.cfg.Store.Change(ctx, id)
}

// Changes returns changes, newest first.
func (s *Service) Changes(ctx context.Context, limit int, states ...bulkhead.ChangeState) ([]bulkhead.Change, error) {
	return s.cfg.Store.Changes(ctx, limit, states...)
}
