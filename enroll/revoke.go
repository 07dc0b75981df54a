package enroll

import (
	"context"

	"bulkhead"
)

// RevokeByAccount revokes a certificate, given as DER, on the word of its owner, or of an account that holds valid
// authorisations for all its names; for the latter the reason is always cessationOfOperation. A key that its owner
// calls compromised is blocked before anything else (promise P10).
func (s *Service) RevokeByAccount(ctx context.Context, acct bulkhead.Account, der []byte, reason bulkhead.Reason) (changeID string, err error) {
	if !reason.AllowedForLeaf() {
		return "", badReason(reason)
	}
	c, err := s.FindCertificate(ctx, der)
	if err != nil {
		return "", err
	}
	if c.Kind != bulkhead.LeafCertificate && c.Kind != bulkhead.Precertificate {
		return "", bulkhead.NewFault(bulkhead.KindForbidden, "only subscriber certificates can be revoked here")
	}
	if c.AccountID != acct.ID {
		holds, err := s.cfg.Store.HoldsAuthorizations(ctx, acct.ID, c.Names, s.now())
		if err != nil {
			return "", err
		}
		if !holds {
			return "", bulkhead.NewFault(bulkhead.KindForbidden, "the account neither ordered this certificate nor holds authorizations for all its names")
		}
		reason = bulkhead.CessationOfOperation
	}
	actor := accountActor(acct.ID)
	if reason == bulkhead.KeyCompromise {
		if err := s.block(ctx, actor, "reported by its holder", c.KeyHash); err != nil {
			return "", err
		}
	}
	return s.revoke(ctx, actor, "asked for by account", c, reason)
}

// RevokeByKey revokes a certificate, given as DER, for whoever signed with its key (spki, canonical DER). That proves the key
// to be in more hands than one may know, so the reason is always keyCompromise and the key is blocked first, even when
// the certificate is revoked already.
func (s *Service) RevokeByKey(ctx context.Context, spki, der []byte, reason bulkhead.Reason) (changeID string, err error) {
	if !reason.AllowedForLeaf() {
		return "", badReason(reason)
	}
	c, err := s.FindCertificate(ctx, der)
	if err != nil {
		return "", err
	}
	if c.KeyHash != bulkhead.Digest(spki) {
		return "", bulkhead.NewFault(bulkhead.KindForbidden, "the request is not signed by the key of the certificate")
	}
	if c.Kind != bulkhead.LeafCertificate && c.Kind != bulkhead.Precertificate {
		return "", bulkhead.NewFault(bulkhead.KindForbidden, "only subscriber certificates can be revoked here")
	}
	const actor = "certificate key"
	if err := s.block(ctx, actor, "use of the key was shown", c.KeyHash); err != nil {
		return "", err
	}
	return s.revoke(ctx, actor, "asked for with the certificate's key", c, bulkhead.KeyCompromise)
}

func (s *Service) block(ctx context.Context, actor, why string, key bulkhead.Hash) error {
	return s.cfg.Revoker.BlockKey(ctx, bulkhead.BlockedKey{KeyHash: key, BlockedAt: s.now(), Reason: why, Actor: actor})
}

// revoke refuses what is revoked already, save that keyCompromise supersedes every other reason (BR 7.2.2).
func (s *Service) revoke(ctx context.Context, actor, why string, c bulkhead.Certificate, reason bulkhead.Reason) (string, error) {
	if c.State == bulkhead.Revoked && (reason != bulkhead.KeyCompromise || c.Reason == bulkhead.KeyCompromise) {
		return "", bulkhead.NewFault(bulkhead.KindAlreadyRevoked, "the certificate is revoked already")
	}
	defer s.renewals.forget()
	return s.cfg.Revoker.RevokeCertificates(ctx, actor, why, []bulkhead.ChangeItem{{CertificateRef: c.CertificateRef, Reason: reason, RevokedAt: s.now()}})
}

func badReason(r bulkhead.Reason) error {
	return bulkhead.Faultf(bulkhead.KindBadRevocationReason, "reason %d (%s) is not for subscriber certificates (BR 7.2.2)", int(r), r).
		WithHint("use 0, 1, 3, 4, 5 or 9")
}
