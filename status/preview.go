package status

import (
	"context"
	"encoding/json"
	"fmt"

	"bulkhead"
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
