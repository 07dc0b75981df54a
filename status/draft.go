package status

import (
	"context"
	"fmt"
	"sort"
	"time"

	"bulkhead"
)

const (
	// MaxItems bounds a change: what is staged is held in memory, 72 octets an item here and as many in the signer.
	MaxItems = 5_000_000
	// MaxPart bounds the items that one call adds.
	MaxPart = 20_000
)

// Open begins a change whose certificates come in parts, because they are more than one call holds: Add, as often as it
// takes, then PreviewSoon. Nothing of it is public, nor can be, before its preview; one to which nothing was added for an hour is
// ended. A process that dies in between costs nothing but the part whose answer was lost.
func (s *Service) Open(ctx context.Context, actor, why string) (bulkhead.Change, error) {
	id, err := s.newID()
	if err != nil {
		return bulkhead.Change{}, err
	}
	c := bulkhead.Change{ID: id, State: bulkhead.ChangePlanned, Actor: actor, Why: why, CreatedAt: s.now(), Held: s.now().Add(openFor)}
	return c, s.cfg.Store.CreateChange(ctx, c, nil, s.leaf(bulkhead.EvChangePlanned, c, actor, why))
}

// Add takes more certificates into an open change, after holding each against the record as Plan does. Those that are in it
// for the same reason already count once, so that a part whose answer was lost can be sent again. KindForbidden for
// somebody else's change; KindConflict once it is being previewed.
func (s *Service) Add(ctx context.Context, actor, id string, items []bulkhead.ChangeItem) (bulkhead.Change, error) {
	c, err := s.opened(ctx, actor, id)
	if err != nil {
		return c, err
	}
	if len(items) == 0 || len(items) > MaxPart {
		return c, bulkhead.Faultf(bulkhead.KindMalformed, "a part has 1 to %d certificates, not %d", MaxPart, len(items)).WithHint("split it")
	}
	if heldUntil(c).Sub(s.cfg.Now()) < openFor/2 {
		s.hold(ctx, id, openFor)
	}
	items = append([]bulkhead.ChangeItem(nil), items...)
	sort.Slice(items, func(i, j int) bool {
		if items[i].Issuer != items[j].Issuer {
			return items[i].Issuer < items[j].Issuer
		}
		return items[i].Serial.Compare(items[j].Serial) < 0
	})
	n := 0
	for i, it := range items { // a list of a million has some twice
		if i == 0 || it != items[n-1] {
			items[n] = it
			n++
		}
	}
	items = items[:n]
	if err := s.checkItems(ctx, items, c.CreatedAt); err != nil {
		return c, err
	}
	return s.add(ctx, c, items)
}

func (s *Service) add(ctx context.Context, c bulkhead.Change, items []bulkhead.ChangeItem) (bulkhead.Change, error) {
	n, err := s.cfg.Store.AddItems(ctx, c.ID, items, MaxItems)
	if err == nil {
		c.Count = n
	}
	return c, err
}

// opened is a change that its opener may still add to.
func (s *Service) opened(ctx context.Context, actor, id string) (bulkhead.Change, error) {
	c, err := s.cfg.Store.Change(ctx, id)
	if err != nil {
		return c, err
	}
	if _, busy := s.previews.Load(id); busy || c.State != bulkhead.ChangePlanned {
		return c, bulkhead.Faultf(bulkhead.KindConflict, "change %s is %s and takes no more certificates", id, c.State).WithHint("bulkhead change show " + id)
	}
	if c.Actor != actor {
		return c, bulkhead.Faultf(bulkhead.KindForbidden, "change %s was opened by %s, who alone adds to it", id, c.Actor).WithHint("open one of your own: bulkhead change preview")
	}
	return c, nil
}

// PreviewSoon closes an open change, and previews it as PlanSoon does.
func (s *Service) PreviewSoon(ctx context.Context, actor, id string, wait time.Duration) (bulkhead.Change, error) {
	c, err := s.opened(ctx, actor, id)
	if err != nil {
		return c, err
	}
	if c.Count == 0 {
		return c, bulkhead.NewFault(bulkhead.KindMalformed, "a change needs at least one certificate").WithHint("add some, or: bulkhead change withdraw " + id)
	}
	return s.soon(ctx, c, wait, func(ctx context.Context) error { return s.completed(ctx, c) })
}

// completed previews a change that has all its certificates.
func (s *Service) completed(ctx context.Context, c bulkhead.Change) error {
	ev := s.leaf(bulkhead.EvChangePlanned, c, c.Actor, fmt.Sprintf("complete with %d certificates", c.Count))
	if _, err := s.cfg.Store.AppendEvidence(ctx, ev); err != nil {
		return err
	}
	_, _, err := s.Preview(ctx, c.ID)
	return err
}

// PlanScope plans the revocation of every certificate that a query selects and that is in use when the query comes to it,
// and previews it as PlanSoon does: collecting a million goes on after wait too. Certificates of authorities and delegates
// are never selected. KindNotFound for a query that selects nothing.
func (s *Service) PlanScope(ctx context.Context, actor, why string, scope bulkhead.Scope, reason bulkhead.Reason, wait time.Duration) (bulkhead.Change, error) {
	n, err := s.ScopeSize(ctx, scope)
	if err != nil {
		return bulkhead.Change{}, err
	}
	if !reason.AllowedForLeaf() {
		return bulkhead.Change{}, bulkhead.Faultf(bulkhead.KindBadRevocationReason, "reason %s is not allowed for a subscriber certificate (BR 7.2.2)", reason).
			WithHint("use one of: unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn")
	}
	switch {
	case n == 0:
		return bulkhead.Change{}, bulkhead.NewFault(bulkhead.KindNotFound, "the selection has no certificate that is in use: there is nothing to revoke").WithHint("bulkhead cert list")
	case n > MaxItems:
		return bulkhead.Change{}, bulkhead.Faultf(bulkhead.KindMalformed, "the selection has %d certificates, a change has at most %d", n, MaxItems).WithHint("revoke them in parts: by issuer, or by when they were issued")
	}
	c, err := s.Open(ctx, actor, why)
	if err != nil {
		return c, err
	}
	return s.soon(ctx, c, wait, func(ctx context.Context) error {
		c, err := s.gather(ctx, c, scope, reason)
		if err != nil {
			return err
		}
		if c.Count == 0 {
			return bulkhead.NewFault(bulkhead.KindNotFound, "the selection has no certificate that is in use any more")
		}
		return s.completed(ctx, c)
	})
}

// ScopeSize is how many certificates in use a query selects.
func (s *Service) ScopeSize(ctx context.Context, scope bulkhead.Scope) (int64, error) {
	if scope.IsEmpty() || len(scope.Certificates)+len(scope.Partners) > 0 {
		return 0, bulkhead.NewFault(bulkhead.KindMalformed, "a selection for a change names issuers, profiles, keys, accounts, names, validations or times of issue, or all").
			WithHint("certificates by their serials: --revoke-serials FILE")
	}
	return s.cfg.Store.ScopeSize(ctx, scope, s.now())
}

// gather adds what a scope selects, page by page.
func (s *Service) gather(ctx context.Context, c bulkhead.Change, scope bulkhead.Scope, reason bulkhead.Reason) (bulkhead.Change, error) {
	for after := int64(0); ; {
		rows, last, err := s.cfg.Store.ScopePage(ctx, scope, c.CreatedAt, after, gathered)
		if err != nil || len(rows) == 0 {
			return c, err
		}
		items := make([]bulkhead.ChangeItem, len(rows))
		for i, row := range rows {
			items[i] = bulkhead.ChangeItem{CertificateRef: row.CertificateRef, Reason: reason}
			if err := checkRow(row, &items[i], c.CreatedAt); err != nil {
				return c, err
			}
		}
		if c, err = s.add(ctx, c, items); err != nil {
			return c, err
		}
		after = last
	}
}

// gathered is how many certificates of a scope are added at once: few enough that other writes need not wait long.
const gathered = 5000
