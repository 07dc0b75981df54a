package incident

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"bulkhead"
)

// Bounds of a scope: what one statement of the store can hold. Certificates come by the file.
const (
	maxValues       = 500
	maxCertificates = 500_000
)

func checkScope(sc bulkhead.Scope) error {
	for what, n := range map[string]int{"issuers": len(sc.Issuers), "profiles": len(sc.Profiles), "keys": len(sc.Keys), "accounts": len(sc.Accounts), "names": len(sc.Names), "partners": len(sc.Partners)} {
		if n > maxValues {
			return bulkhead.Faultf(bulkhead.KindUsage, "a scope takes at most %d %s, this one has %d", maxValues, what, n).WithHint("name the certificates: --serials FILE")
		}
	}
	if len(sc.Certificates) > maxCertificates {
		return bulkhead.Faultf(bulkhead.KindUsage, "a scope names at most %d certificates", maxCertificates).WithHint("select them by issuer, profile or time")
	}
	if v := sc.Validation; v != nil && v.Method == "" && v.Name == "" && v.Since.IsZero() && v.Until.IsZero() {
		return bulkhead.NewFault(bulkhead.KindUsage, "a scope by validation needs a method, a name or a time")
	}
	narrow := sc
	narrow.All = false
	if sc.All && !narrow.IsEmpty() {
		return bulkhead.NewFault(bulkhead.KindUsage, "all stands alone: with a selection it would be ambiguous")
	}
	return nil
}

// Scope replaces the query of an incident and counts it. With an empty scope the query stays and is counted again: the
// answer to "has the number changed". The same certificates as before make no new count.
func (s *Service) Scope(ctx context.Context, actor, id string, sc bulkhead.Scope, why string) (bulkhead.ScopeCount, error) {
	i, err := s.open(ctx, id)
	if err != nil {
		return bulkhead.ScopeCount{}, err
	}
	if sc.IsEmpty() {
		if i.Scope.IsEmpty() {
			return bulkhead.ScopeCount{}, bulkhead.Faultf(bulkhead.KindUsage, "incident %s has no scope yet, and none was given", id).WithHint("bulkhead incident scope " + id + " --issuer X, or --all")
		}
	} else if err := checkScope(sc); err != nil {
		return bulkhead.ScopeCount{}, err
	} else {
		i.Scope = sc
		if err := s.cfg.Store.MoveIncident(ctx, i, bulkhead.IncidentOpen); err != nil {
			return bulkhead.ScopeCount{}, err
		}
	}
	if strings.TrimSpace(why) == "" {
		why = "counted again"
	}
	return s.count(ctx, actor, i, why)
}

// count materialises the scope. Partners are resolved to their accounts at this moment.
func (s *Service) count(ctx context.Context, actor string, i bulkhead.Incident, why string) (bulkhead.ScopeCount, error) {
	sc := i.Scope
	if len(sc.Partners) > 0 {
		accounts, err := s.partnerAccounts(ctx, sc.Partners)
		if err != nil {
			return bulkhead.ScopeCount{}, err
		}
		if sc.Accounts = both(sc.Accounts, accounts); len(sc.Accounts) == 0 {
			return bulkhead.ScopeCount{}, bulkhead.NewFault(bulkhead.KindNotFound, "the partners of the scope brought no account that it also names")
		}
	}
	return s.cfg.Store.CountScope(ctx, i.ID, sc, bulkhead.ScopeCount{At: s.now(), Why: why, Actor: actor}, func(before, now bulkhead.ScopeCount) bulkhead.Evidence {
		ev := s.leaf(bulkhead.EvIncidentScope, i.ID, actor, fmt.Sprintf("%d certificates, %d of them live; before: %d; %s", now.Items, now.Live, before.Items, why))
		ev.Count, ev.Digest, ev.Link = now.Items, now.Digest, before.Digest
		return ev
	})
}

// both is the accounts that two selections share; an empty one selects all.
func both(named, partners []string) []string {
	if len(named) == 0 {
		return partners
	}
	return slices.DeleteFunc(slices.Clone(named), func(a string) bool { return !slices.Contains(partners, a) })
}

func (s *Service) partnerAccounts(ctx context.Context, partners []string) ([]string, error) {
	if s.cfg.Partners == nil {
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "this house knows no registration partners").WithHint("select by account: --account ID")
	}
	var out []string
	for _, p := range partners {
		accounts, err := s.cfg.Partners.PartnerAccounts(ctx, p)
		if err != nil {
			return nil, err
		}
		out = append(out, accounts...)
	}
	if len(out) > 10*maxValues {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "the partners brought %d accounts, more than one query holds", len(out)).WithHint("name the certificates: --serials FILE")
	}
	return out, nil
}

// Counts returns every count of an incident, oldest first: the impact corrections.
func (s *Service) Counts(ctx context.Context, id string) ([]bulkhead.ScopeCount, error) {
	if _, err := s.cfg.Store.Incident(ctx, id); err != nil {
		return nil, err
	}
	return s.cfg.Store.ScopeCounts(ctx, id)
}

// Items returns certificates of an incident after an IntentSeq.
func (s *Service) Items(ctx context.Context, id, account string, heldOnly bool, after int64, limit int) ([]bulkhead.IncidentItem, error) {
	return s.cfg.Store.IncidentItems(ctx, id, account, heldOnly, after, limit)
}

// Hold freezes one certificate of an incident: a campaign does not touch it, the deadline clock neither, and it is
// reported as delayed. why names the order that forbids it.
func (s *Service) Hold(ctx context.Context, actor, id string, ref bulkhead.CertificateRef, why string) error {
	if _, err := s.open(ctx, id); err != nil {
		return err
	}
	if strings.TrimSpace(why) == "" {
		return bulkhead.NewFault(bulkhead.KindUsage, "a hold needs the order that forbids the revocation").WithHint("--why \"court, docket, until when\"")
	}
	ev := s.leaf(bulkhead.EvIncidentHold, id, actor, why)
	ev.Authority, ev.Serial = ref.Issuer, ref.Serial
	if err := s.cfg.Store.HoldItem(ctx, id, ref, why, actor, s.now(), ev); err != nil {
		return err
	}
	return s.freeze(ctx, actor, id, ref, "on legal hold: "+why)
}

// Release ends a hold. The item starts again where the campaign's steps find it.
func (s *Service) Release(ctx context.Context, actor, id string, ref bulkhead.CertificateRef, why string) error {
	if strings.TrimSpace(why) == "" {
		return bulkhead.NewFault(bulkhead.KindUsage, "ending a hold needs a reason for the record").WithHint("--why TEXT")
	}
	ev := s.leaf(bulkhead.EvIncidentRelease, id, actor, why)
	ev.Authority, ev.Serial = ref.Issuer, ref.Serial
	if err := s.cfg.Store.ReleaseItem(ctx, id, ref, ev); err != nil {
		return err
	}
	c, _, err := s.cfg.Store.MembershipOf(ctx, ref)
	if bulkhead.KindOf(err) == bulkhead.KindNotFound || err == nil && c.Incident != id {
		return nil
	}
	if err != nil {
		return err
	}
	return s.afterHolds(ctx, c, actor, "hold ended: "+why)
}

// freeze carries a hold into a campaign that has the certificate. Should that fail, the executor does it at its next round:
// holds are looked up there, too.
func (s *Service) freeze(ctx context.Context, actor, id string, ref bulkhead.CertificateRef, why string) error {
	c, it, err := s.cfg.Store.MembershipOf(ctx, ref)
	if bulkhead.KindOf(err) == bulkhead.KindNotFound || err == nil && c.Incident != id {
		return nil
	}
	if err != nil {
		return err
	}
	if it.State == bulkhead.ItemHeld || !c.Needs.CanMove(it.State, bulkhead.ItemHeld, false) {
		return nil
	}
	return s.move(ctx, c, actor, []bulkhead.CampaignItem{it}, bulkhead.ItemHeld, why, nil)
}
