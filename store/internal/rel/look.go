package rel

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"bulkhead"
)

const lookFields = `seq, host, address, starttls, first_at, last_at, looks, verdict, reason, detail, fingerprint, key_hash, issued, not_after, findings, changed`

func scanLook(r scanner) (l bulkhead.LookRecord, err error) {
	var address string
	if err = r.Scan(&l.Seq, &l.Host, &address, &l.STARTTLS, timeCol{&l.FirstAt}, timeCol{&l.LastAt}, &l.Looks, &l.Verdict, &l.Reason, &l.Detail, hashCol{&l.Fingerprint}, hashCol{&l.Key},
		timeCol{&l.Issued}, timeCol{&l.NotAfter}, jsonCol{&l.Findings}, jsonCol{&l.Changed}); err != nil {
		return l, err
	}
	if l.Address, err = netip.ParseAddrPort(address); err != nil {
		return l, fmt.Errorf("address of a look: %w", err)
	}
	return l, nil
}

// PlaceLooks returns what looks at a place showed, the newest first.
func (s *Store) PlaceLooks(ctx context.Context, book bulkhead.LookBook, p bulkhead.LookPlace, limit int) ([]bulkhead.LookRecord, error) {
	rows, err := list(ctx, s.reader, scanLook, `SELECT `+lookFields+` FROM looks WHERE book = $1 AND host = $2 AND address = $3 AND starttls = $4 ORDER BY seq DESC LIMIT $5`,
		string(book), p.Host, p.Address.String(), string(p.STARTTLS), atMost(limit))
	return rows, s.fault("PlaceLooks", err)
}

// HostLooks returns what looks at every address and port of a host showed, the newest first.
func (s *Store) HostLooks(ctx context.Context, book bulkhead.LookBook, host string, limit int) ([]bulkhead.LookRecord, error) {
	rows, err := list(ctx, s.reader, scanLook, `SELECT `+lookFields+` FROM looks WHERE book = $1 AND host = $2 ORDER BY seq DESC LIMIT $3`, string(book), host, atMost(limit))
	return rows, s.fault("HostLooks", err)
}

// HostsOfKey returns the hosts that showed a key at since or later, and no other one after it.
func (s *Store) HostsOfKey(ctx context.Context, book bulkhead.LookBook, key bulkhead.Hash, since time.Time, limit int) ([]string, error) {
	rows, err := list(ctx, s.reader, func(r scanner) (h string, err error) { err = r.Scan(&h); return h, err }, `SELECT DISTINCT l.host FROM looks l
		WHERE l.book = $1 AND l.key_hash = $2 AND l.last_at >= $3 AND NOT EXISTS (SELECT 1 FROM looks n WHERE n.book = l.book AND n.host = l.host AND n.address = l.address
			AND n.starttls = l.starttls AND n.seq > l.seq AND length(n.key_hash) > 0 AND n.key_hash <> l.key_hash) ORDER BY l.host LIMIT $4`, string(book), hashArg(key), unix(since), atMost(limit))
	return rows, s.fault("HostsOfKey", err)
}

// KeepLooks keeps looks, all or none: one with a Seq continues that row, another begins one. Of each place the newest most
// rows stay. It is no evidence: strangers decide how many there are.
func (s *Store) KeepLooks(ctx context.Context, book bulkhead.LookBook, looks []bulkhead.LookRecord, most int) error {
	return s.write(ctx, "KeepLooks", nil, func(t *tx) error {
		for _, l := range looks {
			if err := t.keepLook(ctx, book, l, most); err != nil {
				return err
			}
		}
		return nil
	})
}

func (t *tx) keepLook(ctx context.Context, book bulkhead.LookBook, l bulkhead.LookRecord, most int) error {
	if l.Seq != 0 {
		_, err := exec(ctx, t, `UPDATE looks SET looks = looks + 1, last_at = CASE WHEN last_at < $2 THEN $2 ELSE last_at END, detail = $3, findings = $4 WHERE seq = $1`,
			l.Seq, unix(l.LastAt), text(l.Detail), text(jsonArg(l.Findings)))
		return err
	}
	place := []any{string(book), l.Host, l.Address.String(), string(l.STARTTLS)}
	_, err := exec(ctx, t, `INSERT INTO looks (book, host, address, starttls, first_at, last_at, looks, verdict, reason, detail, fingerprint, key_hash, issued, not_after, findings, changed)
		VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $8, $9, $10, $11, $12, $13, $14, $15)`, append(place, unix(l.FirstAt), unix(l.LastAt), string(l.Verdict), string(l.Reason), text(l.Detail),
		hashArg(l.Fingerprint), hashArg(l.Key), unix(l.Issued), unix(l.NotAfter), text(jsonArg(l.Findings)), text(jsonArg(l.Changed)))...)
	if err != nil {
		return err
	}
	_, err = exec(ctx, t, `DELETE FROM looks WHERE book = $1 AND host = $2 AND address = $3 AND starttls = $4 AND seq <= (SELECT MAX(seq) FROM looks o WHERE o.book = $1 AND o.host = $2
		AND o.address = $3 AND o.starttls = $4 AND (SELECT COUNT(*) FROM looks n WHERE n.book = $1 AND n.host = $2 AND n.address = $3 AND n.starttls = $4 AND n.seq > o.seq) >= $5)`, append(place, int64(most))...)
	return err
}

// ForgetLooks deletes what was seen last before a time.
func (s *Store) ForgetLooks(ctx context.Context, book bulkhead.LookBook, before time.Time) error {
	return s.write(ctx, "ForgetLooks", nil, func(t *tx) error {
		_, err := exec(ctx, t, `DELETE FROM looks WHERE book = $1 AND last_at < $2`, string(book), unix(before))
		return err
	})
}

// KeepEstate keeps the last look of a campaign at the own estate.
func (s *Store) KeepEstate(ctx context.Context, campaign string, e bulkhead.EstateLook, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "KeepEstate", ev, func(t *tx) error {
		_, err := exec(ctx, t, `INSERT INTO estate_looks (campaign, at, body) VALUES ($1, $2, $3) ON CONFLICT (campaign) DO UPDATE SET at = excluded.at, body = excluded.body`,
			campaign, unix(e.At), []byte(jsonArg(e)))
		return err
	})
}

// Estate returns the last look of a campaign at the own estate; the zero value when there was none.
func (s *Store) Estate(ctx context.Context, campaign string) (bulkhead.EstateLook, error) {
	rows, err := list(ctx, s.reader, func(r scanner) (e bulkhead.EstateLook, err error) { err = r.Scan(jsonCol{&e}); return e, err }, `SELECT body FROM estate_looks WHERE campaign = $1`, campaign)
	if err != nil || len(rows) == 0 {
		return bulkhead.EstateLook{}, s.fault("Estate", err)
	}
	return rows[0], nil
}
