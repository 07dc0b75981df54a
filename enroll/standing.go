package enroll

import (
	"context"

	"bulkhead"
)

type standingKey struct{}

// WithStanding gives the calls of one request what was read of its account at the request's beginning, so that none
// reads it again. The context must not outlive the request: nothing here is good for a second one, in this process or
// another, and what is decided on it is held against the record once more: by the transaction that makes an authorisation
// valid, and by the signer before it signs.
func WithStanding(ctx context.Context, st bulkhead.Standing) context.Context {
	return context.WithValue(ctx, standingKey{}, st)
}

// standing is what the record says of an account: as the request read it, else as it is now.
func (s *Service) standing(ctx context.Context, accountID string) (bulkhead.Standing, error) {
	if st, ok := ctx.Value(standingKey{}).(bulkhead.Standing); ok && st.Account.ID == accountID {
		return st, nil
	}
	return s.cfg.Store.Standing(ctx, accountID)
}

// Standing returns a usable account by id with what is stopped, KindAccountDoesNotExist when there is none.
func (s *Service) Standing(ctx context.Context, id string) (bulkhead.Standing, error) {
	st, err := s.cfg.Store.Standing(ctx, id)
	if err == nil && st.Account.ID == "" {
		err = bulkhead.Faultf(bulkhead.KindNotFound, "there is no account %s", id)
	}
	_, err = s.usable(st.Account, err)
	return st, err
}
