package rel

import (
	"context"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead"
)

// certificateFields are the columns that scanCertificate reads.
const certificateFields = `intent_seq, issuer, serial, kind, state, profile, names, subject, key_hash, fingerprint,
	account_id, order_id, not_before, not_after, shard, revoked_at, reason, reserved_at,
	replaces_issuer, replaces_serial, replaced_by_issuer, replaced_by_serial, outcome_seq`

func scanCertificate(r scanner, more ...any) (bulkhead.Certificate, error) {
	var c bulkhead.Certificate
	err := r.Scan(append([]any{&c.IntentSeq, &c.Issuer, serialCol{&c.Serial}, &c.Kind, &c.State, &c.Profile,
		jsonCol{&c.Names}, &c.Subject, hashCol{&c.KeyHash}, hashCol{&c.Fingerprint}, &c.AccountID, &c.OrderID,
		timeCol{&c.NotBefore}, timeCol{&c.NotAfter}, &c.Shard, timeCol{&c.RevokedAt}, &c.Reason, timeCol{&c.ReservedAt},
		&c.Replaces.Issuer, serialCol{&c.Replaces.Serial}, &c.ReplacedBy.Issuer, serialCol{&c.ReplacedBy.Serial},
		&c.OutcomeSeq}, more...)...)
	return c, err
}

func scanPlainCertificate(r scanner) (bulkhead.Certificate, error) { return scanCertificate(r) }

// certificateWithDER is a row and its certificate; DER is nil until it is issued.
type certificateWithDER struct {
	row bulkhead.Certificate
	der []byte
}

func scanCertificateWithDER(r scanner) (certificateWithDER, error) {
	var c certificateWithDER
	var err error
	c.row, err = scanCertificate(r, bytesCol{&c.der})
	return c, err
}

const selectWithDER = `SELECT ` + certificateFields + `, der FROM certificates LEFT JOIN certificate_ders USING (intent_seq) `

// Certificate returns a row and its DER, which is nil while nothing is issued; KindNotFound when there is no row.
func (s *Store) Certificate(ctx context.Context, ref bulkhead.CertificateRef) (bulkhead.Certificate, []byte, error) {
	c, err := recalled(s, certificateKey(ref), func() (certificateWithDER, bool, error) {
		c, err := one(s.brief(ctx), s.reader, scanCertificateWithDER, selectWithDER+`WHERE issuer = $1 AND serial = $2`,
			string(ref.Issuer), serialArg(ref.Serial))
		return c, true, err
	})
	c = c.copy()
	return c.row, c.der, s.fault("Certificate", absent(err, "certificate", ref.String()))
}

// CertificateDER returns the DER of an issued certificate; KindNotFound when there is none.
func (s *Store) CertificateDER(ctx context.Context, ref bulkhead.CertificateRef) ([]byte, error) {
	var der []byte
	err := s.reader.QueryRowContext(ctx, `SELECT der FROM certificates JOIN certificate_ders USING (intent_seq)
		WHERE issuer = $1 AND serial = $2`, string(ref.Issuer), serialArg(ref.Serial)).Scan(bytesCol{&der})
	return der, s.fault("CertificateDER", absent(err, "certificate", ref.String()))
}

// CertificateByOrder returns the durable certificate of an order, the newest if there are several; KindNotFound when
// there is none.
func (s *Store) CertificateByOrder(ctx context.Context, orderID string) (bulkhead.Certificate, []byte, error) {
	c, err := one(ctx, s.looks, scanCertificateWithDER, selectWithDER+`
		WHERE order_id = $1 AND order_id <> '' AND state IN ('issued', 'revoked') AND kind <> 'precertificate' ORDER BY outcome_seq DESC LIMIT 1`, orderID)
	return c.row, c.der, s.fault("CertificateByOrder", absent(err, "certificate of order", orderID))
}

// CertificatesByKey returns the certificates (issued or revoked, not expired at t) that hold a key.
func (s *Store) CertificatesByKey(ctx context.Context, key bulkhead.Hash, t time.Time) ([]bulkhead.Certificate, error) {
	rows, err := list(ctx, s.reader, scanPlainCertificate, `SELECT `+certificateFields+` FROM certificates
		WHERE key_hash = $1 AND state IN ('issued', 'revoked') AND not_after >= $2 ORDER BY intent_seq`, hashArg(key), unix(t))
	return rows, s.fault("CertificatesByKey", err)
}

// conditions is the WHERE of a statement under construction.
type conditions struct {
	where []string
	args  []any
}

// add takes a condition whose "?" stands for arg.
func (c *conditions) add(condition string, arg any) {
	c.args = append(c.args, arg)
	c.where = append(c.where, strings.ReplaceAll(condition, "?", "$"+strconv.Itoa(len(c.args))))
}

// filter translates everything but Text, After and Limit.
func filter(f bulkhead.CertificateFilter) *conditions {
	c := &conditions{where: []string{"1 = 1"}}
	for _, m := range []struct{ column, value string }{{"issuer", string(f.Issuer)}, {"kind", string(f.Kind)}, {"profile", f.Profile},
		{"state", string(f.State)}, {"account_id", f.AccountID}, {"order_id", f.OrderID}} {
		if m.value != "" {
			c.add(m.column+" = ? AND "+m.column+" <> ''", m.value)
		}
	}
	if f.Partner != "" {
		c.add("account_id IN (SELECT id FROM accounts WHERE partner = ? AND partner <> '')", f.Partner)
	}
	if !f.Serial.IsZero() {
		c.add("serial = ?", serialArg(f.Serial))
	}
	if !f.KeyHash.IsZero() {
		c.add("key_hash = ?", hashArg(f.KeyHash))
	}
	for _, m := range []struct {
		condition string
		t         time.Time
	}{{"reserved_at >= ?", f.IssuedFrom}, {"reserved_at < ?", f.IssuedBefore}, {"not_after >= ?", f.ExpiresFrom},
		{"not_after < ?", f.ExpiresBefore}, {"not_after <= ?", f.ExpiresBy}} {
		if !m.t.IsZero() {
			c.add(m.condition, unix(m.t))
		}
	}
	if strings.HasPrefix(f.Name, ".") {
		lower := reverse(f.Name)
		c.add("intent_seq IN (SELECT intent_seq FROM certificate_names WHERE reversed >= ?", lower)
		c.add("reversed < ?)", lower[:len(lower)-1]+"/") // '/' follows '.'
	} else if f.Name != "" {
		c.add("intent_seq IN (SELECT intent_seq FROM certificate_names WHERE reversed = ?)", reverse(f.Name))
	}
	return c
}

// page reads the newest rows that meet the conditions.
func (s *Store) page(ctx context.Context, c *conditions, limit int) ([]bulkhead.Certificate, error) {
	return list(ctx, s.reader, scanPlainCertificate, `SELECT `+certificateFields+` FROM certificates WHERE `+
		strings.Join(c.where, " AND ")+` ORDER BY intent_seq DESC LIMIT $`+strconv.Itoa(len(c.args)+1), append(c.args[:len(c.args):len(c.args)], limit)...)
}

// Certificates returns a page of the inventory, newest reservation first, and the cursor of the next page, "" after
// the last. Rows that are added meanwhile come before the first page and disturb no cursor. With Text a page may be
// short, or empty, and have a next one: one call looks through a bounded part of the record. KindMalformed for a cursor
// that we did not hand out.
func (s *Store) Certificates(ctx context.Context, f bulkhead.CertificateFilter) (rows []bulkhead.Certificate, next string, err error) {
	var after int64
	if f.After != "" {
		if after, err = strconv.ParseInt(f.After, 10, 64); err != nil || after <= 0 {
			return nil, "", bulkhead.Faultf(bulkhead.KindMalformed, "%q is not a cursor", f.After).WithHint("begin without a cursor")
		}
	}
	limit := atMost(f.Limit)
	if f.Text != "" {
		rows, next, err = s.search(ctx, f, after, limit)
		return rows, next, s.fault("Certificates", err)
	}
	c := filter(f)
	if after > 0 {
		c.add("intent_seq < ?", after)
	}
	rows, err = s.page(ctx, c, limit+1)
	if err != nil {
		return nil, "", s.fault("Certificates", err)
	}
	if len(rows) > limit {
		rows = rows[:limit]
		next = strconv.FormatInt(rows[limit-1].IntentSeq, 10)
	}
	return rows, next, nil
}

// searchWindow is how many evidence numbers one search for text goes back: no index serves a part of a word on both
// engines, so the work of one call is bounded instead.
const searchWindow = 200_000

// search looks for text from the row before after (the newest when 0) backwards. The engine sorts out most rows; what
// it cannot tell from the JSON around the names is decided here.
func (s *Store) search(ctx context.Context, f bulkhead.CertificateFilter, after int64, limit int) (found []bulkhead.Certificate, next string, err error) {
	if after == 0 {
		if err := s.reader.QueryRowContext(ctx, `SELECT COALESCE(MAX(intent_seq), 0) FROM certificates`).Scan(&after); err != nil {
			return nil, "", err
		}
		after++
	}
	want := lowerASCII(f.Text)
	pattern := "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(want) + "%"
	floor := max(after-s.window, 0)
	for {
		c := filter(f)
		c.add(`(lower(names) LIKE ? ESCAPE '\' OR lower(subject) LIKE ? ESCAPE '\')`, pattern)
		c.add("intent_seq < ?", after)
		c.add("intent_seq >= ?", floor)
		rows, err := s.page(ctx, c, limit+1)
		if err != nil {
			return nil, "", err
		}
		for _, r := range rows {
			if after = r.IntentSeq; !mentions(r, want) {
				continue
			}
			if len(found) == limit {
				return found, strconv.FormatInt(found[limit-1].IntentSeq, 10), nil
			}
			found = append(found, r)
		}
		if len(rows) <= limit {
			break
		}
	}
	if floor > 0 {
		next = strconv.FormatInt(floor, 10)
	}
	return found, next, nil
}

// mentions reports whether a name or the subject holds want, which is in lower case.
func mentions(c bulkhead.Certificate, want string) bool {
	for _, n := range c.Names {
		if strings.Contains(lowerASCII(n.Value), want) {
			return true
		}
	}
	return strings.Contains(lowerASCII(c.Subject), want)
}

// lowerASCII is lower() as SQLite has it.
func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// reverse turns a name round, so that a suffix becomes a prefix.
func reverse(name string) string {
	if b := []byte(name); plain(name) {
		slices.Reverse(b)
		return string(b)
	}
	r := []rune(name)
	slices.Reverse(r)
	return string(r)
}

// Counts returns the number of certificates of each authority in each state. It reads the whole table.
func (s *Store) Counts(ctx context.Context) (map[bulkhead.AuthorityID]map[bulkhead.CertificateState]int64, error) {
	type count struct {
		issuer bulkhead.AuthorityID
		state  bulkhead.CertificateState
		n      int64
	}
	rows, err := list(ctx, s.reader, func(r scanner) (c count, err error) {
		err = r.Scan(&c.issuer, &c.state, &c.n)
		return c, err
	}, `SELECT issuer, state, COUNT(*) FROM certificates GROUP BY issuer, state`)
	if err != nil {
		return nil, s.fault("Counts", err)
	}
	out := map[bulkhead.AuthorityID]map[bulkhead.CertificateState]int64{}
	for _, c := range rows {
		if out[c.issuer] == nil {
			out[c.issuer] = map[bulkhead.CertificateState]int64{}
		}
		out[c.issuer][c.state] = c.n
	}
	return out, nil
}

// IsEmpty reports whether nothing was ever recorded: no authority and no evidence.
func (s *Store) IsEmpty(ctx context.Context) (bool, error) {
	var authorities, seq int64
	err := s.reader.QueryRowContext(ctx, `SELECT (SELECT COUNT(*) FROM authorities), seq FROM evidence_head WHERE id = 1`).
		Scan(&authorities, &seq)
	return err == nil && authorities == 0 && seq == 0, s.fault("IsEmpty", err)
}

const statusFields = `issuer, serial, state, revoked_at, reason, not_after, shard, outcome_seq`

func scanStatus(r scanner) (bulkhead.Status, error) {
	var v bulkhead.Status
	err := r.Scan(&v.Issuer, serialCol{&v.Serial}, &v.State, timeCol{&v.RevokedAt}, &v.Reason, timeCol{&v.NotAfter}, &v.Shard, &v.Seq)
	return v, err
}

// Statuses returns the status rows that exist among the serials, in any state and any order.
func (s *Store) Statuses(ctx context.Context, issuer bulkhead.AuthorityID, serials []bulkhead.Serial) ([]bulkhead.Status, error) {
	serials = slices.Clone(serials)
	slices.SortFunc(serials, bulkhead.Serial.Compare)
	serials = slices.Compact(serials)
	out := make([]bulkhead.Status, 0, len(serials))
	err := inChunks(serials, 2, func(n bulkhead.Serial) any { return serialArg(n) },
		func(_ []bulkhead.Serial, in string, args []any) error {
			rows, err := list(ctx, s.reader, scanStatus, `SELECT `+statusFields+` FROM certificates
				WHERE issuer = $1 AND serial IN `+in, append([]any{string(issuer)}, args...)...)
			out = append(out, rows...)
			return err
		})
	return out, s.fault("Statuses", err)
}

// StatusPage returns issued and revoked rows of an issuer whose notAfter is not before from, in serial order after a
// serial.
func (s *Store) StatusPage(ctx context.Context, issuer bulkhead.AuthorityID, after bulkhead.Serial, from time.Time, limit int) ([]bulkhead.Status, error) {
	rows, err := list(ctx, s.reader, scanStatus, `SELECT `+statusFields+` FROM certificates
		WHERE issuer = $1 AND serial > $2 AND state IN ('issued', 'revoked') AND not_after >= $3 ORDER BY serial LIMIT $4`,
		string(issuer), cursorSerial(after), unix(from), atMost(limit))
	return rows, s.fault("StatusPage", err)
}

// StatusSince returns rows whose outcome has an evidence sequence above seq, in that order.
func (s *Store) StatusSince(ctx context.Context, issuer bulkhead.AuthorityID, seq int64, limit int) ([]bulkhead.Status, error) {
	rows, err := list(ctx, s.reader, scanStatus, `SELECT `+statusFields+` FROM certificates
		WHERE issuer = $1 AND outcome_seq > 0 AND outcome_seq > $2 ORDER BY outcome_seq LIMIT $3`, string(issuer), seq, atMost(limit))
	return rows, s.fault("StatusSince", err)
}

// Revoked streams the revoked certificates of one shard whose notAfter is not before keepFrom, in serial order, without
// their sequences. It is one statement, so what it yields is one moment of the record; memory does not grow. It holds a reading connection
// until the loop ends.
func (s *Store) Revoked(ctx context.Context, issuer bulkhead.AuthorityID, shard int, keepFrom time.Time) iter.Seq2[bulkhead.Status, error] {
	return s.shardStatuses(ctx, "Revoked", issuer, shard, revokedOfShard, unix(keepFrom))
}

// MovedSince streams the certificates of one shard of which changes speak that were activated by a head above one, as they are
// now, in serial order and each once; the change except is left out. It is one moment of the record, without sequences.
func (s *Store) MovedSince(ctx context.Context, issuer bulkhead.AuthorityID, shard int, head uint64, except string) iter.Seq2[bulkhead.Status, error] {
	return s.shardStatuses(ctx, "MovedSince", issuer, shard, movedSince, int64(head), except)
}

const (
	revokedOfShard = `SELECT serial, state, revoked_at, reason, not_after FROM certificates
		WHERE issuer = $1 AND shard = $2 AND state = 'revoked' AND not_after >= $3 ORDER BY serial`
	// SQLite keeps the order of a cross join: else it reads all items that the issuer ever had.
	movedSince = `SELECT DISTINCT c.serial, c.state, c.revoked_at, c.reason, c.not_after FROM changes x CROSS JOIN change_items i CROSS JOIN certificates c
		WHERE x.epoch > 0 AND x.epoch > $3 AND x.id <> $4 AND i.change_seq = x.seq AND i.issuer = $1
		AND c.issuer = i.issuer AND c.serial = i.serial AND c.shard = $2 ORDER BY c.serial`
)

// shardStatuses streams serial, state, revocation, reason and end of certificates of one shard.
func (s *Store) shardStatuses(ctx context.Context, op string, issuer bulkhead.AuthorityID, shard int, query string, args ...any) iter.Seq2[bulkhead.Status, error] {
	return func(yield func(bulkhead.Status, error) bool) {
		rows, err := s.reader.QueryContext(ctx, query, append([]any{string(issuer), shard}, args...)...)
		if err != nil {
			yield(bulkhead.Status{}, s.fault(op, err))
			return
		}
		defer rows.Close()
		// One of each for a million rows: nothing is allocated for a row but what the driver does.
		v := bulkhead.Status{CertificateRef: bulkhead.CertificateRef{Issuer: issuer}, Shard: shard}
		into := []any{serialCol{&v.Serial}, wordCol[bulkhead.CertificateState]{&v.State}, timeCol{&v.RevokedAt}, intCol[bulkhead.Reason]{&v.Reason}, timeCol{&v.NotAfter}}
		for rows.Next() {
			if err := rows.Scan(into...); err != nil {
				yield(v, s.fault(op, err))
				return
			}
			if !yield(v, nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(bulkhead.Status{}, s.fault(op, err))
		}
	}
}
