package rel

import (
	"context"
	"time"

	"bulkhead"
)

// Expiring returns certificates of which nobody was told on the channel for this threshold or a shorter one, in the
// order of IntentSeq.
func (s *Store) Expiring(ctx context.Context, f bulkhead.ExpiringFilter) ([]bulkhead.Expiring, error) {
	seconds := int64(f.Threshold / time.Second)
	rows, err := list(ctx, s.reader, func(r scanner) (e bulkhead.Expiring, err error) {
		e.Certificate, err = scanCertificate(r, jsonCol{&e.Contacts})
		return e, err
	}, `SELECT `+certificateFields+`, COALESCE((SELECT contacts FROM accounts WHERE accounts.id = certificates.account_id), '') FROM certificates
		WHERE not_after > $1 AND not_after <= $2 AND intent_seq > $3 AND kind = 'leaf' AND state = 'issued' AND replaced_by_issuer = ''
		AND not_after - not_before + 1 >= 3 * $4 AND NOT EXISTS (SELECT 1 FROM notices n WHERE n.issuer = certificates.issuer
			AND n.serial = certificates.serial AND n.channel = $5 AND n.recipient = '' AND n.threshold <= $4)
		ORDER BY intent_seq LIMIT $6`, unix(f.From), unix(f.To), f.After, seconds, string(f.Channel), atMost(f.Limit))
	return rows, s.fault("Expiring", err)
}

// Told returns who was told of a certificate on a channel for this threshold or a shorter one.
func (s *Store) Told(ctx context.Context, channel bulkhead.NoticeChannel, ref bulkhead.CertificateRef, threshold time.Duration) ([]string, error) {
	rows, err := list(ctx, s.reader, func(r scanner) (to string, err error) { err = r.Scan(&to); return to, err }, `SELECT DISTINCT recipient FROM notices
		WHERE issuer = $1 AND serial = $2 AND channel = $3 AND threshold <= $4 ORDER BY recipient`,
		string(ref.Issuer), serialArg(ref.Serial), string(channel), int64(threshold/time.Second))
	return rows, s.fault("Told", err)
}

// PutNotices keeps that people were told. Notices that are there already stay as they are.
func (s *Store) PutNotices(ctx context.Context, notices []bulkhead.ExpiryNotice) error {
	return s.write(ctx, "PutNotices", nil, func(t *tx) error {
		for _, n := range notices {
			if _, err := exec(ctx, t, `INSERT INTO notices (issuer, serial, channel, recipient, threshold, at) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`,
				string(n.Issuer), serialArg(n.Serial), string(n.Channel), text(n.Recipient), int64(n.Threshold/time.Second), unix(n.At)); err != nil {
				return err
			}
		}
		return nil
	})
}
