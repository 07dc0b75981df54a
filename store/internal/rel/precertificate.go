package rel

import (
	"context"
	"database/sql"
	"errors"

	"bulkhead"
)

// Finalize puts the certificate in the place of its precertificate: the row becomes a leaf, the precertificate's bytes are
// kept. KindConflict for a row that is not an issued precertificate, above all for one that was revoked meanwhile. A second
// Finalize with the same certificate succeeds and changes nothing.
func (s *Store) Finalize(ctx context.Context, ref bulkhead.CertificateRef, der []byte, ev bulkhead.Evidence) error {
	fingerprint := bulkhead.Digest(der)
	err := s.write(ctx, "Finalize", []bulkhead.Evidence{ev}, func(t *tx) error {
		n, err := exec(ctx, t, `UPDATE certificates SET kind = 'leaf', fingerprint = $3
			WHERE issuer = $1 AND serial = $2 AND kind = 'precertificate' AND state = 'issued'`, string(ref.Issuer), serialArg(ref.Serial), fingerprint[:])
		if err != nil {
			return err
		}
		if n == 0 {
			return t.finalized(ctx, ref, fingerprint)
		}
		const row = `(SELECT intent_seq FROM certificates WHERE issuer = $1 AND serial = $2)`
		if _, err := exec(ctx, t, `INSERT INTO precertificates (intent_seq, der) SELECT intent_seq, der FROM certificate_ders WHERE intent_seq = `+row,
			string(ref.Issuer), serialArg(ref.Serial)); err != nil {
			return err
		}
		_, err = exec(ctx, t, `UPDATE certificate_ders SET der = $3 WHERE intent_seq = `+row, string(ref.Issuer), serialArg(ref.Serial), der)
		return err
	})
	if errors.Is(err, errFinalized) {
		return nil
	}
	return err
}

// errFinalized undoes a second Finalize, whose evidence is there already.
var errFinalized = errors.New("finalized before")

func (t *tx) finalized(ctx context.Context, ref bulkhead.CertificateRef, fingerprint bulkhead.Hash) error {
	var have bulkhead.Hash
	var state, kind string
	err := t.QueryRowContext(ctx, `SELECT fingerprint, state, kind FROM certificates WHERE issuer = $1 AND serial = $2`,
		string(ref.Issuer), serialArg(ref.Serial)).Scan(hashCol{&have}, &state, &kind)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return notFound("certificate", ref.String())
	case err != nil:
		return err
	case have == fingerprint:
		return errFinalized
	}
	return conflict("certificate %s is a %s and %s, not an issued precertificate", ref, kind, state)
}

// Precertificate returns the precertificate of a certificate that was finalized; KindNotFound when there was none.
func (s *Store) Precertificate(ctx context.Context, ref bulkhead.CertificateRef) ([]byte, error) {
	der, err := one(ctx, s.reader, func(r scanner) (der []byte, err error) { return der, r.Scan(&der) },
		`SELECT der FROM precertificates WHERE intent_seq = (SELECT intent_seq FROM certificates WHERE issuer = $1 AND serial = $2)`,
		string(ref.Issuer), serialArg(ref.Serial))
	return der, s.fault("Precertificate", absent(err, "precertificate", ref.String()))
}

// PrecertificateByOrder returns the newest precertificate of an order that is issued and has no certificate in its place;
// KindNotFound when there is none.
func (s *Store) PrecertificateByOrder(ctx context.Context, orderID string) (bulkhead.Certificate, []byte, error) {
	c, err := one(ctx, s.reader, scanCertificateWithDER, selectWithDER+`
		WHERE order_id = $1 AND order_id <> '' AND state = 'issued' AND kind = 'precertificate' ORDER BY outcome_seq DESC LIMIT 1`, orderID)
	return c.row, c.der, s.fault("PrecertificateByOrder", absent(err, "precertificate of order", orderID))
}
