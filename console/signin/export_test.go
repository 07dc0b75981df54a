package signin

import (
	"context"

	"bulkhead"
)

// Admit is the last step of a sign-in at a provider: the token was verified, and its claims name somebody.
func (s *Service) Admit(ctx context.Context, subject string) (string, bulkhead.Session, error) {
	return s.admit(ctx, map[string]any{s.cfg.OIDC.Claim: subject})
}
