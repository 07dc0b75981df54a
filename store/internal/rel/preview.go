package rel

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"bulkhead"
)

const authorityCertificates = selectWithDER + `WHERE kind = 'ca' AND state IN ('issued', 'revoked') ORDER BY issuer, serial`

// AuthorityCertificates returns every certificate of an authority that was issued, those revoked and expired included,
// with its DER, by issuer and serial.
func (s *Store) AuthorityCertificates(ctx context.Context) ([]bulkhead.IssuedCertificate, error) {
	rows, err := list(ctx, s.reader, func(r scanner) (bulkhead.IssuedCertificate, error) {
		c, err := scanCertificateWithDER(r)
		return bulkhead.IssuedCertificate{Certificate: c.row, DER: c.der}, err
	}, authorityCertificates)
	return rows, s.fault("AuthorityCertificates", err)
}

// CertificatesBySerial returns the rows that exist among the serials, in any state and any order, without their DER.
func (s *Store) CertificatesBySerial(ctx context.Context, issuer bulkhead.AuthorityID, serials []bulkhead.Serial) ([]bulkhead.Certificate, error) {
	serials = slices.Clone(serials)
	slices.SortFunc(serials, bulkhead.Serial.Compare)
	serials = slices.Compact(serials)
	out := make([]bulkhead.Certificate, 0, len(serials))
	err := inChunks(serials, 2, func(n bulkhead.Serial) any { return serialArg(n) },
		func(_ []bulkhead.Serial, in string, args []any) error {
			rows, err := list(ctx, s.reader, scanPlainCertificate, `SELECT `+certificateFields+` FROM certificates
				WHERE issuer = $1 AND serial IN `+in, append([]any{string(issuer)}, args...)...)
			out = append(out, rows...)
			return err
		})
	return out, s.fault("CertificatesBySerial", err)
}

// Twins returns issued certificates of any kind, not expired at t, that hold one of the keys; at most limit.
func (s *Store) Twins(ctx context.Context, keys []bulkhead.Hash, t time.Time, limit int) ([]bulkhead.Certificate, error) {
	keys = slices.Clone(keys)
	slices.SortFunc(keys, func(a, b bulkhead.Hash) int { return slices.Compare(a[:], b[:]) })
	keys = slices.Compact(keys)
	var out []bulkhead.Certificate
	err := inChunks(keys, 3, func(h bulkhead.Hash) any { return hashArg(h) }, func(_ []bulkhead.Hash, in string, args []any) error {
		if len(out) >= limit {
			return nil
		}
		rows, err := list(ctx, s.reader, scanPlainCertificate, `SELECT `+certificateFields+` FROM certificates
			WHERE not_after >= $1 AND state = 'issued' AND key_hash IN `+in+` LIMIT $2`, append([]any{unix(t), limit - len(out)}, args...)...)
		out = append(out, rows...)
		return err
	})
	return out, s.fault("Twins", err)
}

// inUse is what makes a certificate one that somebody uses; the index certificates_product has the same words.
const inUse = `state = 'issued' AND kind IN ('leaf', 'infra')`

const (
	firstProfile  = `SELECT profile FROM certificates WHERE issuer = $1 AND ` + inUse + ` ORDER BY profile LIMIT 1`
	nextProfile   = `SELECT profile FROM certificates WHERE issuer = $1 AND profile > $2 AND ` + inUse + ` ORDER BY profile LIMIT 1`
	samplesOf     = `SELECT ` + certificateFields + ` FROM certificates WHERE issuer = $1 AND profile = $2 AND not_after >= $3 AND ` + inUse + ` ORDER BY not_after DESC LIMIT $4`
	countProducts = `SELECT profile, COUNT(*) FROM certificates WHERE issuer = $1 AND not_after >= $2 AND ` + inUse + ` GROUP BY profile`
)

// Products returns the profiles under which an authority has certificates in use at t, by name, each with at most samples
// of them, those that last longest. Its work depends on the number of profiles and not on that of certificates.
func (s *Store) Products(ctx context.Context, issuer bulkhead.AuthorityID, t time.Time, samples int) ([]bulkhead.Product, error) {
	var out []bulkhead.Product
	query, args := firstProfile, []any{string(issuer)}
	for {
		var profile string
		err := s.reader.QueryRowContext(ctx, query, args...).Scan(&profile)
		if errors.Is(err, sql.ErrNoRows) {
			return out, nil
		}
		if err != nil {
			return nil, s.fault("Products", err)
		}
		query, args = nextProfile, []any{string(issuer), profile}
		rows, err := list(ctx, s.reader, scanPlainCertificate, samplesOf, string(issuer), profile, unix(t), samples)
		if err != nil {
			return nil, s.fault("Products", err)
		}
		if len(rows) > 0 {
			out = append(out, bulkhead.Product{Issuer: issuer, Profile: profile, Samples: rows})
		}
	}
}

// CountProducts counts the certificates that an authority has in use at t, by profile. It reads an index, not the rows.
func (s *Store) CountProducts(ctx context.Context, issuer bulkhead.AuthorityID, t time.Time) (map[string]int64, error) {
	type count struct {
		profile string
		n       int64
	}
	rows, err := list(ctx, s.reader, func(r scanner) (c count, err error) {
		err = r.Scan(&c.profile, &c.n)
		return c, err
	}, countProducts, string(issuer), unix(t))
	if err != nil {
		return nil, s.fault("CountProducts", err)
	}
	out := make(map[string]int64, len(rows))
	for _, c := range rows {
		out[c.profile] = c.n
	}
	return out, nil
}
