package signer

import (
	"bytes"
	"context"
	"crypto/x509"
	"log/slog"
	"slices"
	"time"

	"bulkhead"
	"bulkhead/pki/keycheck"
	"bulkhead/pki/profile"
	"bulkhead/pki/sct"
)

// againWithin is how long a precertificate that the logs did not take may still become a certificate: as long as an order
// is tried. Later a new one is signed, whose dates are nearer.
const againWithin = time.Hour

// prepared is the result of the steps before a signature: a token, and the precertificate when the order has one that
// was signed before.
type prepared struct {
	*Token
	pre *bulkhead.IssuedCertificate
}

// unfinished finds the precertificate of the order that has no certificate because the logs were away, when it is
// exactly what would be signed now but for serial and dates. All checks of the request were made again before; a revoked
// one is not used, nor one of another key, of other names or of a profile that has changed. nil when there is none.
func (s *Signer) unfinished(ctx context.Context, d *draft) (*prepared, error) {
	row, der, err := s.cfg.Store.PrecertificateByOrder(ctx, d.orderID)
	if bulkhead.KindOf(err) == bulkhead.KindNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, unavailable("the order's precertificates cannot be read", err)
	}
	if row.State != bulkhead.Issued || row.Issuer != d.authority.ID || row.Profile != d.profile || row.AccountID != d.accountID || row.Replaces != d.replaces ||
		row.KeyHash != keycheck.SPKIHash(d.spki) || !slices.Equal(row.Names, d.names) || s.now().Sub(row.ReservedAt) > againWithin {
		return nil, nil
	}
	how, err := schemeOf(d.authority.cert.PublicKey)
	if err != nil {
		return nil, err
	}
	template, err := d.template(row.Serial, row.ReservedAt, row.Shard)
	if err != nil {
		return nil, err
	}
	bare := &plan{template: *template, draft: d}
	template.ExtraExtensions = append(slices.Clone(template.ExtraExtensions), sct.Poison())
	tbs, err := profile.MarshalTBS(template, d.authority.cert, d.spki, how.der)
	if err != nil {
		return nil, nil // the profile cannot make this any more
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil || !bytes.Equal(cert.RawTBSCertificate, tbs) {
		return nil, nil
	}
	s.cfg.Log.InfoContext(ctx, "the order's precertificate is submitted again", slog.String("certificate", row.CertificateRef.String()))
	t := &ticket{owner: s, authority: d.authority, row: row, tbs: tbs, digest: bulkhead.Digest(tbs), subject: d.mandate.subject, actor: d.actor, expires: s.now(), plan: bare}
	t.used.Store(true) // its signature was made
	return &prepared{&Token{t}, &bulkhead.IssuedCertificate{Certificate: row, DER: der, Chain: d.authority.chain()}}, nil
}
