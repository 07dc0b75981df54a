package rel

import (
	"bytes"
	"context"
	"iter"
	"maps"
	"math"
	"slices"

	"bulkhead"
	"bulkhead/pki/tlog"
)

// uses is what the leaves of one transaction say of each key. It is never changed in place, so that a write that is
// undone behind its savepoint takes its share back by putting the former map back.
type uses map[bulkhead.Hash]bulkhead.SignatureCounter

// with adds a leaf that is row seq.
func (u uses) with(seq int64, leaf []byte) (uses, error) {
	switch tlog.KindOf(leaf) {
	case bulkhead.EvCertificateIntent, bulkhead.EvCertificateOutcome, bulkhead.EvBatchIntent, bulkhead.EvBatchOutcome, bulkhead.EvLiveWindow, bulkhead.EvLiveOutcome:
	default:
		return u, nil
	}
	e, err := tlog.Parse(leaf)
	if err != nil {
		return u, err
	}
	announced, made := tlog.Uses(e)
	if e.Signer.IsZero() || announced+made == 0 {
		return u, nil
	}
	out := maps.Clone(u)
	if out == nil {
		out = uses{}
	}
	c, ok := out[e.Signer]
	if !ok {
		c.Since = seq
	}
	c.Announced, c.Made = c.Announced+announced, c.Made+made
	out[e.Signer] = c
	return out, nil
}

var countUses = statement{
	each: `INSERT INTO signature_counters (key_hash, announced, made, since) VALUES ($1, $2, $3, $4)` + andCount,
	many: `INSERT INTO signature_counters (key_hash, announced, made, since) SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bigint[])` + andCount,
}

const andCount = ` ON CONFLICT (key_hash) DO UPDATE SET announced = signature_counters.announced + excluded.announced, made = signature_counters.made + excluded.made`

// counted moves the counters by what this transaction's leaves say. The evidence head is held.
func (t *tx) counted() part {
	var hashes column[[]byte]
	var announced, made, since column[int64]
	for _, k := range slices.SortedFunc(maps.Keys(t.uses), func(a, b bulkhead.Hash) int { return slices.Compare(a[:], b[:]) }) {
		c := t.uses[k]
		hashes, announced, made, since = append(hashes, k[:]), append(announced, c.Announced), append(made, c.Made), append(since, c.Since)
	}
	return part{countUses, []values{hashes, announced, made, since}}
}

// SignatureCounters returns the counter of every key that signed, and the newest evidence row at that moment.
func (s *Store) SignatureCounters(ctx context.Context) (head int64, counters []bulkhead.SignatureCounter, err error) {
	rows, err := list(ctx, s.reader, func(r scanner) (c bulkhead.SignatureCounter, err error) {
		err = r.Scan(&head, hashCol{&c.Key}, &c.Announced, &c.Made, &c.Since)
		return c, err
	}, `SELECT h.seq, COALESCE(c.key_hash, h.chain), COALESCE(c.announced, 0), COALESCE(c.made, 0), COALESCE(c.since, 0)
		FROM evidence_head h LEFT JOIN signature_counters c ON c.since > 0 WHERE h.id = 1 ORDER BY c.key_hash`)
	for _, c := range rows {
		if c.Since > 0 { // without any counter there is one row, of the head alone
			counters = append(counters, c)
		}
	}
	return head, counters, s.fault("SignatureCounters", err)
}

const selectSigned = `SELECT c.intent_seq, c.serial, c.kind, c.state, c.key_hash, c.intent_digest, c.fingerprint, c.order_id, c.account_id, c.names, c.outcome_seq, c.revoked_at, c.reason, c.not_after, c.shard,
	c.issuer, d.der, p.der FROM certificates c LEFT JOIN certificate_ders d ON d.intent_seq = c.intent_seq LEFT JOIN precertificates p ON p.intent_seq = c.intent_seq `

// scanSigned reads a row; its DER is good until the next row is read.
func scanSigned(r scanner, c *bulkhead.SignedRow) error {
	var der, pre heldCol
	st := &c.Status
	err := r.Scan(&c.IntentSeq, serialCol{&c.Serial}, wordCol[bulkhead.CertificateKind]{&c.Kind}, wordCol[bulkhead.CertificateState]{&c.State}, hashCol{&c.KeyHash}, hashCol{&c.IntentDigest}, hashCol{&c.Fingerprint},
		&c.OrderID, wordCol[string]{&c.AccountID}, namesCol{&c.Names}, &c.OutcomeSeq, timeCol{&st.RevokedAt}, intCol[bulkhead.Reason]{&st.Reason}, timeCol{&st.NotAfter}, &st.Shard, wordCol[bulkhead.AuthorityID]{&c.Issuer}, &der, &pre)
	c.DER, c.Sum, c.Precert = der, bulkhead.Hash{}, bulkhead.Hash{}
	if len(der) > 0 {
		c.Sum = bulkhead.Digest(der)
	} else {
		c.DER = nil
	}
	if len(pre) > 0 {
		c.Precert = bulkhead.Digest(pre)
	}
	st.CertificateRef, st.State, st.Seq = c.CertificateRef, c.State, c.OutcomeSeq
	return err
}

// SignedRange goes over the rows of some authorities with an intent above seq and not above through, in order of their intents;
// through 0 is the end. What it yields is one moment of the record, and memory does not grow; it holds a reading connection
// until the loop ends. The row and its DER are good until the next one.
func (s *Store) SignedRange(ctx context.Context, issuers []bulkhead.AuthorityID, seq, through int64) iter.Seq2[*bulkhead.SignedRow, error] {
	if through <= 0 {
		through = math.MaxInt64
	}
	walk := s.signedRows
	if s.bulk != nil {
		walk = s.signedPages
	}
	return func(yield func(*bulkhead.SignedRow, error) bool) {
		if len(issuers) == 0 {
			return
		}
		if err := walk(ctx, issuers, seq, through, func(r *bulkhead.SignedRow) bool { return yield(r, nil) }); err != nil {
			yield(nil, s.fault("SignedRange", err))
		}
	}
}

// signedRows is SignedRange by one statement.
func (s *Store) signedRows(ctx context.Context, issuers []bulkhead.AuthorityID, seq, through int64, yield func(*bulkhead.SignedRow) bool) error {
	where, args := oneOf("c.issuer", 3, issuers)
	rows, err := s.reader.QueryContext(ctx, selectSigned+`WHERE c.intent_seq > $1 AND c.intent_seq <= $2 AND `+where+` ORDER BY c.intent_seq`, append([]any{seq, through}, args...)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	var row bulkhead.SignedRow
	for rows.Next() {
		if err := scanSigned(rows, &row); err != nil {
			return err
		}
		if !yield(&row) {
			return nil
		}
	}
	return rows.Err()
}

// ValidationRange goes over all validations, in order, without their details. One is good until the next.
func (s *Store) ValidationRange(ctx context.Context) iter.Seq2[*bulkhead.Validation, error] {
	walk := s.validationRows
	if s.bulk != nil {
		walk = s.validationPages
	}
	return func(yield func(*bulkhead.Validation, error) bool) {
		if err := walk(ctx, func(v *bulkhead.Validation) bool { return yield(v, nil) }); err != nil {
			yield(nil, s.fault("ValidationRange", err))
		}
	}
}

// validationRows is ValidationRange by one statement.
func (s *Store) validationRows(ctx context.Context, yield func(*bulkhead.Validation) bool) error {
	rows, err := s.reader.QueryContext(ctx, `SELECT id, authorization_id, account_id, name_type, name, wildcard, method, at, reuse_until FROM validations ORDER BY seq`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var v bulkhead.Validation
	for rows.Next() {
		if err := rows.Scan(&v.ID, &v.AuthorizationID, &v.AccountID, &v.Identifier.Type, &v.Identifier.Value, &v.Wildcard, &v.Method, timeCol{&v.At}, timeCol{&v.ReuseUntil}); err != nil {
			return err
		}
		if !yield(&v) {
			return nil
		}
	}
	return rows.Err()
}

// namesCol scans the names of a certificate. Nearly all have one, a domain name: that is read without a parser.
type namesCol struct{ to *[]bulkhead.Identifier }

// Scan implements sql.Scanner.
func (c namesCol) Scan(src any) error {
	v, err := bytesOf(src)
	if err != nil {
		return err
	}
	*c.to = (*c.to)[:0]
	if rest, ok := bytes.CutPrefix(v, []byte(`[{"type":"dns","value":"`)); ok {
		if name, ok := bytes.CutSuffix(rest, []byte(`"}]`)); ok && !bytes.ContainsAny(name, "\"\\") {
			*c.to = append(*c.to, bulkhead.Identifier{Type: bulkhead.DNS, Value: string(name)})
			return nil
		}
	}
	return jsonCol{c.to}.Scan(v)
}

// PrunedAfter returns serials of an authority above after whose rows went with age, in order; the zero serial begins. A
// limit of 0 or less means 100.
func (s *Store) PrunedAfter(ctx context.Context, issuer bulkhead.AuthorityID, after bulkhead.Serial, limit int) ([]bulkhead.Serial, error) {
	rows, err := list(ctx, s.reader, func(r scanner) (x bulkhead.Serial, err error) {
		err = r.Scan(serialCol{&x})
		return x, err
	}, `SELECT serial FROM pruned WHERE issuer = $1 AND serial > $2 ORDER BY serial LIMIT $3`, string(issuer), cursorSerial(after), atMost(limit))
	return rows, s.fault("PrunedAfter", err)
}

// AlarmsOf returns a detector's alarms, oldest first.
func (s *Store) AlarmsOf(ctx context.Context, detector string, limit int) ([]bulkhead.Alarm, error) {
	rows, err := list(ctx, s.reader, func(r scanner) (bulkhead.Alarm, error) { return scanAlarm(r) }, `SELECT `+alarmFields+` FROM alarms a WHERE a.detector = $1 ORDER BY a.seq LIMIT $2`, detector, atMost(limit))
	return rows, s.fault("AlarmsOf", err)
}
