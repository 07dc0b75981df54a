package enroll

import (
	"context"
	"encoding/base64"
	"strings"
	"time"

	"bulkhead"
)

// credentialBatch is how many credentials one transaction kills.
const credentialBatch = 500

// CredentialsReset counts what a reset killed.
type CredentialsReset struct {
	Tokens       int // of API accounts
	ExternalKeys int // external account keys that had made no account
	People       int // tokens of people at registration partners
}

// ResetCredentials kills every API token, every external account key that could still make an account, and every token of
// a person at a registration partner, each with evidence of its own. One person may: it takes power away and gives none.
// Interrupted, it goes on where it was when called again. ACME accounts have no secret of ours: RollAccounts makes them
// change their keys, SuspendAccount keeps one out.
func (s *Service) ResetCredentials(ctx context.Context, actor, why string) (CredentialsReset, error) {
	var out CredentialsReset
	if err := wantReason(why); err != nil {
		return out, err
	}
	leaf := func(ref, what string) bulkhead.Evidence {
		return bulkhead.Evidence{Kind: bulkhead.EvCredential, At: s.now(), Actor: actor, Ref: ref, Detail: clip(what + ": " + why)}
	}
	for _, step := range []struct {
		count *int
		kill  func() (int, error)
	}{
		{&out.Tokens, func() (int, error) {
			return s.cfg.Store.KillTokens(ctx, credentialBatch, func(a bulkhead.Account) bulkhead.Evidence { return leaf(a.ID, "API token killed") })
		}},
		{&out.ExternalKeys, func() (int, error) {
			return s.cfg.Store.KillExternalKeys(ctx, "", s.now(), credentialBatch, func(k bulkhead.ExternalKey) bulkhead.Evidence {
				return leaf(k.ID, "external account key killed")
			})
		}},
		{&out.People, func() (int, error) {
			return s.cfg.Store.KillPeople(ctx, "", s.now(), credentialBatch, func(p bulkhead.PartnerPerson) bulkhead.Evidence {
				return leaf(p.Partner+"/"+p.Name, "token of a person at a registration partner killed")
			})
		}},
	} {
		for {
			n, err := step.kill()
			*step.count += n
			if err != nil {
				return out, err
			}
			if n == 0 {
				break
			}
		}
	}
	return out, nil
}

func wantReason(why string) error {
	if strings.TrimSpace(why) == "" {
		return bulkhead.NewFault(bulkhead.KindUsage, "this needs a reason for the record").WithHint("add --reason TEXT")
	}
	return nil
}

// AnyAccount returns an account in whatever state.
func (s *Service) AnyAccount(ctx context.Context, id string) (bulkhead.Account, error) {
	return s.cfg.Store.Account(ctx, id)
}

// SuspendAccount keeps an account out at once, on one person's word; its certificates and orders stay as they are.
func (s *Service) SuspendAccount(ctx context.Context, actor, id, why string) (bulkhead.Account, error) {
	if err := wantReason(why); err != nil {
		return bulkhead.Account{}, err
	}
	return s.decideAccount(ctx, id, bulkhead.AccountValid, s.credentialLeaf(actor, id, "account suspended: "+why), func(a *bulkhead.Account) { a.State = bulkhead.AccountSuspended })
}

// LiftSuspension lets an account in again, by an approved request of the quorum. Lifting it twice is no error.
func (s *Service) LiftSuspension(ctx context.Context, id, request string, digest bulkhead.Hash, why string) error {
	a, err := s.cfg.Store.Account(ctx, id)
	if err != nil || a.State == bulkhead.AccountValid {
		return err
	}
	ev := s.credentialLeaf("request:"+request, id, "suspension lifted: "+why)
	ev.Digest = digest
	_, err = s.decideAccount(ctx, id, bulkhead.AccountSuspended, ev, func(a *bulkhead.Account) { a.State = bulkhead.AccountValid })
	return err
}

// RollAccount makes an ACME account change its key before it orders again (RFC 8555 section 7.3.5).
func (s *Service) RollAccount(ctx context.Context, actor, id, why string) (bulkhead.Account, error) {
	if err := wantReason(why); err != nil {
		return bulkhead.Account{}, err
	}
	return s.decideAccount(ctx, id, bulkhead.AccountValid, s.credentialLeaf(actor, id, "key change demanded: "+why), func(a *bulkhead.Account) { a.RollDue = s.now().Truncate(time.Second) })
}

// RollAccounts is RollAccount for every ACME account that need not change its key yet; it returns how many there were.
func (s *Service) RollAccounts(ctx context.Context, actor, why string) (int, error) {
	if err := wantReason(why); err != nil {
		return 0, err
	}
	total := 0
	for {
		n, err := s.cfg.Store.RollAccounts(ctx, s.now(), credentialBatch, func(a bulkhead.Account) bulkhead.Evidence {
			return s.credentialLeaf(actor, a.ID, "key change demanded: "+why)
		})
		total += n
		if err != nil || n == 0 {
			return total, err
		}
	}
}

// NewToken gives an API account another token and returns it once; the one before is dead.
func (s *Service) NewToken(ctx context.Context, actor, id string) (bulkhead.Account, string, error) {
	a, err := s.cfg.Store.Account(ctx, id)
	if err != nil {
		return a, "", err
	}
	if a.Thumbprint != "" {
		return a, "", bulkhead.NewFault(bulkhead.KindConflict, "an ACME account has a key of its own and no token").WithHint("have its key changed: bulkhead account roll " + id + " --reason TEXT")
	}
	token, err := s.newSecret("bh_")
	if err != nil {
		return a, "", err
	}
	a, err = s.decideAccount(ctx, id, bulkhead.AccountValid, s.credentialLeaf(actor, id, "new API token"), func(a *bulkhead.Account) { a.TokenHash = bulkhead.Digest([]byte(token)) })
	return a, token, err
}

func (s *Service) newSecret(prefix string) (string, error) {
	p, err := s.random(32)
	return prefix + base64.RawURLEncoding.EncodeToString(p), err
}

func (s *Service) credentialLeaf(actor, ref, detail string) bulkhead.Evidence {
	return bulkhead.Evidence{Kind: bulkhead.EvCredential, At: s.now(), Actor: actor, Ref: ref, Detail: clip(detail)}
}

// decideAccount changes an account that is in a state by the house's decision.
func (s *Service) decideAccount(ctx context.Context, id string, in bulkhead.AccountState, ev bulkhead.Evidence, change func(*bulkhead.Account)) (bulkhead.Account, error) {
	defer s.lock(id)()
	a, err := s.cfg.Store.Account(ctx, id)
	if err != nil {
		return a, err
	}
	if a.State != in {
		return a, bulkhead.Faultf(bulkhead.KindConflict, "account %s is %s, not %s", id, a.State, in).WithHint("bulkhead account show " + id)
	}
	change(&a)
	return a, s.cfg.Store.UpdateAccount(ctx, a, in, ev)
}
