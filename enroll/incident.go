package enroll

import (
	"context"
	"fmt"
	"strings"

	"bulkhead"
)

// revokeBatch is how many authorisations one transaction revokes.
const revokeBatch = 500

// TallyAuthorizations counts the valid authorisations that a filter selects and what rests on them. It changes nothing.
func (s *Service) TallyAuthorizations(ctx context.Context, f bulkhead.AuthorizationFilter) (bulkhead.AuthorizationTally, error) {
	f.AliveAt = s.now()
	return s.cfg.Store.TallyAuthorizations(ctx, f)
}

// RevokeAuthorizations revokes the valid authorisations that a filter selects, each with evidence that says who and
// why, and returns how many. Open orders on them become invalid; orders in processing fail when the signer reads the
// record; certificates stay, their revocation is a change of its own. It may be repeated after a failure half-way.
func (s *Service) RevokeAuthorizations(ctx context.Context, actor, why string, f bulkhead.AuthorizationFilter) (int, error) {
	if strings.TrimSpace(why) == "" {
		return 0, bulkhead.NewFault(bulkhead.KindUsage, "revoking authorisations needs a reason for the record").WithHint("add --reason TEXT")
	}
	f.AliveAt = s.now()
	revoked := 0
	for {
		batch, err := s.cfg.Store.SelectAuthorizations(ctx, f, revokeBatch)
		if err != nil || len(batch) == 0 {
			return revoked, err
		}
		n, err := s.revokeAuthorizations(ctx, actor, why, batch)
		revoked += n
		if err != nil {
			return revoked, err
		}
	}
}

func (s *Service) revokeAuthorizations(ctx context.Context, actor, why string, batch []bulkhead.Authorization) (int, error) {
	ids := make([]string, len(batch))
	evidence := make([]bulkhead.Evidence, len(batch))
	for i, a := range batch {
		ids[i] = a.ID
		evidence[i] = s.validationEvidence(a, methodOf(a), "revoked: "+why)
		evidence[i].Actor = actor
	}
	n, err := s.cfg.Store.RevokeAuthorizations(ctx, ids, evidence)
	if err != nil {
		return n, err
	}
	for _, id := range ids {
		if err := s.settleOrders(ctx, id); err != nil {
			return n, fmt.Errorf("orders on authorisation %s: %w", id, err)
		}
	}
	return n, nil
}

// settleOrders brings the open orders on an authorisation to the state that it now gives them.
func (s *Service) settleOrders(ctx context.Context, authorizationID string) error {
	orders, err := s.cfg.Store.OrdersByAuthorization(ctx, authorizationID)
	if err != nil {
		return err
	}
	for _, o := range orders {
		if _, err := s.settle(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// cancelOpen ends the pending and ready orders of an account that is no longer in office. Those in processing end when
// issuance looks at the account.
func (s *Service) cancelOpen(ctx context.Context, a bulkhead.Account) error {
	for {
		orders, err := s.cfg.Store.OpenOrdersByAccount(ctx, a.ID, revokeBatch)
		if err != nil || len(orders) == 0 {
			return err
		}
		for _, o := range orders {
			if _, err := s.refuse(ctx, o, bulkhead.Faultf(bulkhead.KindUnauthorized, "the account was %s", a.State)); err != nil {
				return err
			}
		}
	}
}
