package enroll

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"time"

	"bulkhead"
)

// macSize is the length of an external account key: enough for every HMAC of RFC 7518 section 3.2.
const macSize = 64

// AddExternalKey makes a key with which one account can be made (RFC 8555 section 7.3.4). The MAC key is returned here
// and never again: it is derived from the house's secret and the id, so the record holds nothing to steal. life 0
// means no expiry.
func (s *Service) AddExternalKey(ctx context.Context, actor, note string, life time.Duration) (bulkhead.ExternalKey, []byte, error) {
	return s.addExternalKey(ctx, actor, "", note, life)
}

func (s *Service) addExternalKey(ctx context.Context, actor, partner, note string, life time.Duration) (bulkhead.ExternalKey, []byte, error) {
	if len(s.cfg.ExternalSecret) == 0 {
		return bulkhead.ExternalKey{}, nil, bulkhead.NewFault(bulkhead.KindUsage, "this house has no secret for external account keys").WithHint("start it with its data directory")
	}
	id, mac, err := s.newMAC()
	if err != nil {
		return bulkhead.ExternalKey{}, nil, err
	}
	k := bulkhead.ExternalKey{ID: id, Note: clip(note), Actor: actor, Partner: partner, CreatedAt: s.now().Truncate(time.Second)}
	if life > 0 {
		k.ExpiresAt = k.CreatedAt.Add(life.Truncate(time.Second))
	}
	return k, mac, s.cfg.Store.CreateExternalKey(ctx, k, s.externalEvidence(actor, id, "external key made: "+k.Note))
}

// ExternalKeys lists keys, newest first.
func (s *Service) ExternalKeys(ctx context.Context, limit int) ([]bulkhead.ExternalKey, error) {
	return s.cfg.Store.ExternalKeys(ctx, limit)
}

// RevokeExternalKey ends a key. An account that was made with it stays, unless withAccount says that it goes too: then
// it is revoked and its open orders come to nothing.
func (s *Service) RevokeExternalKey(ctx context.Context, actor, id string, withAccount bool) (bulkhead.ExternalKey, error) {
	now := s.now().Truncate(time.Second)
	err := s.cfg.Store.RevokeExternalKey(ctx, id, now, s.externalEvidence(actor, id, "external key revoked"))
	if err != nil && (!withAccount || bulkhead.KindOf(err) != bulkhead.KindConflict) {
		return bulkhead.ExternalKey{}, err
	}
	k, err := s.cfg.Store.ExternalKey(ctx, id)
	if err != nil || !withAccount || k.AccountID == "" {
		return k, err
	}
	return k, s.revokeAccount(ctx, actor, k.AccountID)
}

// revokeAccount ends an account by the house's decision.
func (s *Service) revokeAccount(ctx context.Context, actor, id string) error {
	defer s.lock(id)()
	a, err := s.cfg.Store.Account(ctx, id)
	if err != nil || a.State != bulkhead.AccountValid {
		return err
	}
	a.State = bulkhead.AccountRevoked
	ev := s.accountEvidence(a, "revoked by the house", bulkhead.Hash{})
	ev.Actor = actor
	if err := s.cfg.Store.UpdateAccount(ctx, a, bulkhead.AccountValid, ev); err != nil {
		return err
	}
	return s.cancelOpen(ctx, a)
}

// ExternalMAC returns the MAC key of an external key that can still make an account; KindUnauthorized otherwise.
func (s *Service) ExternalMAC(ctx context.Context, id string) ([]byte, error) {
	refused := bulkhead.NewFault(bulkhead.KindUnauthorized, "the external account key is unknown, used, revoked or expired, or did not make this MAC").
		WithHint("ask the operator for a new key")
	k, err := s.cfg.Store.ExternalKey(ctx, id)
	if bulkhead.KindOf(err) == bulkhead.KindNotFound || err == nil && !externalUsable(k, s.now()) {
		return nil, refused
	}
	if err != nil {
		return nil, err
	}
	if len(s.cfg.ExternalSecret) == 0 {
		return nil, refused
	}
	return s.deriveMAC(id)
}

func externalUsable(k bulkhead.ExternalKey, now time.Time) bool {
	return k.AccountID == "" && k.RevokedAt.IsZero() && (k.ExpiresAt.IsZero() || now.Before(k.ExpiresAt))
}

// newMAC draws an id and its MAC key. One whose base64url form would begin with a hyphen, as every 64th does, is drawn again: certbot takes that
// for an option ("--eab-hmac-key: expected one argument").
func (s *Service) newMAC() (id string, mac []byte, err error) {
	for {
		if id, err = s.newID(); err != nil {
			return "", nil, err
		}
		const hyphen = 62
		if mac, err = s.deriveMAC(id); err != nil || mac[0]>>2 != hyphen {
			return id, mac, err
		}
	}
}

func (s *Service) deriveMAC(id string) ([]byte, error) {
	return hkdf.Key(sha256.New, s.cfg.ExternalSecret, nil, "bulkhead external account key "+id, macSize)
}

func (s *Service) externalEvidence(actor, id, detail string) bulkhead.Evidence {
	return bulkhead.Evidence{Kind: bulkhead.EvAccount, At: s.now(), Actor: actor, Ref: id, Detail: clip(detail)}
}
