package rel

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/pki/tlog"
)

const incidentFields = `id, kind, parent, state, title, source, source_ref, playbook, cause, reason, aware_at, opened_at, closed_at, actor, duties, scope, deadlines, closing`

func scanIncident(r scanner) (bulkhead.Incident, error) {
	var i bulkhead.Incident
	err := r.Scan(&i.ID, &i.Kind, &i.Parent, &i.State, &i.Title, &i.Source, &i.SourceRef, &i.Playbook, &i.Cause, &i.Reason, timeCol{&i.AwareAt},
		timeCol{&i.OpenedAt}, timeCol{&i.ClosedAt}, &i.Actor, jsonCol{&i.Duties}, jsonCol{&i.Scope}, jsonCol{&i.Deadlines}, &i.Closing)
	return i, err
}

// CreateIncident inserts; KindConflict when the id exists, or when the parent has an open record of its delay already.
func (s *Store) CreateIncident(ctx context.Context, i bulkhead.Incident, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "CreateIncident", ev, func(t *tx) error {
		n, err := exec(ctx, t, `INSERT INTO incidents (`+incidentFields+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
			ON CONFLICT DO NOTHING`, i.ID, string(i.Kind), i.Parent, string(i.State), text(i.Title), string(i.Source), text(i.SourceRef), i.Playbook, i.Cause, int64(i.Reason),
			unix(i.AwareAt), unix(i.OpenedAt), unix(i.ClosedAt), text(i.Actor), jsonArg(i.Duties), jsonArg(i.Scope), jsonArg(i.Deadlines), text(i.Closing))
		if err == nil && n == 0 {
			return conflict("incident %s exists, or its parent has an open record of its delay", i.ID)
		}
		return err
	})
}

// Incident returns one incident; KindNotFound when there is none.
func (s *Store) Incident(ctx context.Context, id string) (bulkhead.Incident, error) {
	i, err := one(ctx, s.reader, scanIncident, `SELECT `+incidentFields+` FROM incidents WHERE id = $1`, id)
	return i, s.fault("Incident", absent(err, "incident", id))
}

// Incidents returns incidents in any of the states (all when none is given), newest first.
func (s *Store) Incidents(ctx context.Context, limit int, states ...bulkhead.IncidentState) ([]bulkhead.Incident, error) {
	where, args := oneOf("state", 2, states)
	rows, err := list(ctx, s.reader, scanIncident, `SELECT `+incidentFields+` FROM incidents WHERE `+where+` ORDER BY seq DESC LIMIT $1`,
		append([]any{atMost(limit)}, args...)...)
	return rows, s.fault("Incidents", err)
}

// MoveIncident stores state, duties, deadlines, scope and closing if the state is still expect.
func (s *Store) MoveIncident(ctx context.Context, i bulkhead.Incident, expect bulkhead.IncidentState, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "MoveIncident", ev, func(t *tx) error {
		n, err := exec(ctx, t, `UPDATE incidents SET state = $3, duties = $4, scope = $5, deadlines = $6, closing = $7, closed_at = $8 WHERE id = $1 AND state = $2`,
			i.ID, string(expect), string(i.State), jsonArg(i.Duties), jsonArg(i.Scope), jsonArg(i.Deadlines), text(i.Closing), unix(i.ClosedAt))
		return t.moved(ctx, n, err, "incidents", "incident", i.ID, string(expect))
	})
}

func (t *tx) incidentSeq(ctx context.Context, id string) (seq int64, err error) {
	err = t.QueryRowContext(ctx, `SELECT seq FROM incidents WHERE id = $1`, id).Scan(&seq)
	return seq, absent(err, "incident", id)
}

const countFields = `number, at, items, live, digest, why, actor, leaf_seq`

func scanCount(r scanner) (bulkhead.ScopeCount, error) {
	var c bulkhead.ScopeCount
	err := r.Scan(&c.Number, timeCol{&c.At}, &c.Items, &c.Live, hashCol{&c.Digest}, &c.Why, &c.Actor, &c.LogIndex)
	c.LogIndex--
	return c, err
}

// CountScope materialises the scope into the items of the incident and records the count, with the leaf made of the
// count before and the new one, in one transaction. Holds stay. When the same certificates come out as before, nothing is
// recorded and the count before is returned.
func (s *Store) CountScope(ctx context.Context, id string, scope bulkhead.Scope, c bulkhead.ScopeCount, leaf func(before, now bulkhead.ScopeCount) bulkhead.Evidence) (bulkhead.ScopeCount, error) {
	before, now := bulkhead.ScopeCount{Incident: id}, c
	errSame := errors.New("the same as before")
	err := s.write(ctx, "CountScope", nil, func(t *tx) error {
		if err := t.lockEvidence(ctx); err != nil {
			return err
		}
		seq, err := t.incidentSeq(ctx, id)
		if err != nil {
			return err
		}
		found, err := list(ctx, t, scanCount, `SELECT `+countFields+` FROM incident_counts WHERE incident_seq = $1 ORDER BY number DESC LIMIT 1`, seq)
		if err != nil {
			return err
		}
		if len(found) > 0 {
			before = found[0]
			before.Incident = id
		}
		if err := t.materialise(ctx, seq, scope); err != nil {
			return err
		}
		if now.Items, now.Live, now.Digest, err = t.digestItems(ctx, seq, c.At); err != nil {
			return err
		}
		if before.Number > 0 && before.Digest == now.Digest {
			return errSame
		}
		now.Incident, now.Number = id, before.Number+1
		row, err := tlog.Marshal(leaf(before, now))
		if err != nil {
			return err
		}
		seqs, err := t.append(ctx, [][]byte{row})
		if err != nil {
			return err
		}
		now.LogIndex = seqs[0] - 1
		_, err = exec(ctx, t, `INSERT INTO incident_counts (incident_seq, `+countFields+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			seq, now.Number, unix(now.At), now.Items, now.Live, hashArg(now.Digest), text(now.Why), text(now.Actor), seqs[0])
		return err
	})
	if errors.Is(err, errSame) {
		return before, nil
	}
	return now, err
}

// materialise replaces the items by what the scope selects now.
func (t *tx) materialise(ctx context.Context, seq int64, scope bulkhead.Scope) error {
	for _, text := range []string{`UPDATE incident_items SET dropped = 1 WHERE incident_seq = $1 AND held_at > 0`,
		`DELETE FROM incident_items WHERE incident_seq = $1 AND held_at = 0`} {
		if _, err := exec(ctx, t, text, seq); err != nil {
			return err
		}
	}
	insert := func(more string, args ...any) error {
		c := scoped(scope, append([]any{seq}, args...))
		_, err := exec(ctx, t, `INSERT INTO incident_items (incident_seq, intent_seq, issuer, serial, account_id, dropped, held_why, held_by, held_at)
			SELECT $1, c.intent_seq, c.issuer, c.serial, c.account_id, 0, '', '', 0 FROM certificates c WHERE `+strings.Join(c.where, " AND ")+more+`
			ON CONFLICT (incident_seq, intent_seq) DO UPDATE SET dropped = 0`, c.args...)
		return err
	}
	if len(scope.Certificates) == 0 {
		return insert("")
	}
	byIssuer := map[bulkhead.AuthorityID][]bulkhead.Serial{}
	for _, r := range scope.Certificates {
		byIssuer[r.Issuer] = append(byIssuer[r.Issuer], r.Serial)
	}
	for issuer, serials := range byIssuer {
		err := inChunks(serials, 3, func(n bulkhead.Serial) any { return serialArg(n) }, func(_ []bulkhead.Serial, in string, args []any) error {
			return insert(" AND c.issuer = $2 AND c.serial IN "+in, append([]any{string(issuer)}, args...)...)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// scoped is the WHERE of a scope over certificates c, after arguments that are bound already. Delegates are no items: the
// status service replaces them by itself.
func scoped(s bulkhead.Scope, bound []any) *conditions {
	c := &conditions{where: []string{"c.state IN ('issued', 'revoked')", "c.kind <> 'delegate'"}, args: bound}
	either(c, "c.issuer", s.Issuers, func(v bulkhead.AuthorityID) any { return string(v) })
	either(c, "c.profile", s.Profiles, func(v string) any { return v })
	either(c, "c.key_hash", s.Keys, func(v bulkhead.Hash) any { return hashArg(v) })
	either(c, "c.account_id", s.Accounts, func(v string) any { return v })
	var names []string
	for _, n := range s.Names {
		sub := &conditions{args: c.args}
		if strings.HasPrefix(n, ".") {
			lower := reverse(n)
			sub.add("reversed >= ?", lower)
			sub.add("reversed < ?", lower[:len(lower)-1]+"/") // '/' follows '.'
		} else {
			sub.add("reversed = ?", reverse(n))
		}
		c.args = sub.args
		names = append(names, "c.intent_seq IN (SELECT intent_seq FROM certificate_names WHERE "+strings.Join(sub.where, " AND ")+")")
	}
	if len(names) > 0 {
		c.where = append(c.where, "("+strings.Join(names, " OR ")+")")
	}
	if v := s.Validation; v != nil {
		c.validated(*v)
	}
	if !s.IssuedFrom.IsZero() {
		c.add("c.reserved_at >= ?", unix(s.IssuedFrom))
	}
	if !s.IssuedBefore.IsZero() {
		c.add("c.reserved_at < ?", unix(s.IssuedBefore))
	}
	return c
}

// either adds "column is one of values", nothing for none.
func either[T any](c *conditions, column string, values []T, arg func(T) any) {
	if len(values) == 0 {
		return
	}
	params := make([]string, len(values))
	for i, v := range values {
		c.args = append(c.args, arg(v))
		params[i] = "$" + strconv.Itoa(len(c.args))
	}
	c.where = append(c.where, column+" IN ("+strings.Join(params, ", ")+")")
}

// validated adds "its order rests on such a validation".
func (c *conditions) validated(v bulkhead.ValidationScope) {
	sub := &conditions{where: []string{"1 = 1"}, args: c.args}
	if v.Method != "" {
		sub.add("v.method = ?", string(v.Method))
	}
	if strings.HasPrefix(v.Name, ".") {
		sub.add(`v.name LIKE ? ESCAPE '\'`, "%"+strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(v.Name))
	} else if v.Name != "" {
		sub.add("v.name = ?", v.Name)
	}
	if !v.Since.IsZero() {
		sub.add("v.at >= ?", unix(v.Since))
	}
	if !v.Until.IsZero() {
		sub.add("v.at < ?", unix(v.Until))
	}
	c.args = sub.args
	c.where = append(c.where, "c.order_id <> ''", `c.order_id IN (SELECT oa.order_id FROM validations v JOIN order_authorizations oa ON oa.authorization_id = v.authorization_id WHERE `+
		strings.Join(sub.where, " AND ")+")")
}

// digestItems counts the items, and those that are issued and have not ended at a time, and hashes them in the order of issue.
func (t *tx) digestItems(ctx context.Context, seq int64, at time.Time) (n, live int64, digest bulkhead.Hash, err error) {
	rows, err := t.QueryContext(ctx, `SELECT i.issuer, i.serial, CASE WHEN c.state = 'issued' AND c.not_after >= $2 THEN 1 ELSE 0 END FROM incident_items i
		JOIN certificates c ON c.intent_seq = i.intent_seq WHERE i.incident_seq = $1 AND i.dropped = 0 ORDER BY i.intent_seq`, seq, unix(at))
	if err != nil {
		return 0, 0, digest, err
	}
	defer rows.Close()
	h, line := sha256.New(), []byte(nil)
	var issuer sql.RawBytes
	for rows.Next() {
		var serial bulkhead.Serial
		var lives int64
		if err := rows.Scan(&issuer, serialCol{&serial}, &lives); err != nil {
			return 0, 0, digest, err
		}
		line = append(append(append(line[:0], issuer...), ','), serial.String()...)
		h.Write(append(line, '\n'))
		n, live = n+1, live+lives
	}
	return n, live, bulkhead.Hash(h.Sum(nil)), rows.Err()
}

// ScopeCounts returns every count of an incident, oldest first.
func (s *Store) ScopeCounts(ctx context.Context, id string) ([]bulkhead.ScopeCount, error) {
	rows, err := list(ctx, s.reader, scanCount, `SELECT `+countFields+` FROM incident_counts WHERE incident_seq = (SELECT seq FROM incidents WHERE id = $1) ORDER BY number`, id)
	for i := range rows {
		rows[i].Incident = id
	}
	return rows, s.fault("ScopeCounts", err)
}

func scanIncidentItem(r scanner) (bulkhead.IncidentItem, error) {
	var i bulkhead.IncidentItem
	var err error
	i.Certificate, err = scanCertificate(r, &i.HeldWhy, &i.HeldBy, timeCol{&i.HeldAt})
	return i, err
}

// qualified is certificateFields of the table c.
var qualified = "c." + strings.Join(strings.FieldsFunc(certificateFields, func(r rune) bool { return strings.ContainsRune(", \n\t", r) }), ", c.")

// IncidentItems returns items after a certificate's IntentSeq, in that order. account "" means every account; heldOnly
// only those on hold, dropped ones included.
func (s *Store) IncidentItems(ctx context.Context, id, account string, heldOnly bool, after int64, limit int) ([]bulkhead.IncidentItem, error) {
	c := &conditions{where: []string{"i.incident_seq = (SELECT seq FROM incidents WHERE id = $1)", "i.intent_seq > $2"}, args: []any{id, after}}
	if account != "" {
		c.add("i.account_id = ?", account)
	}
	if heldOnly {
		c.where = append(c.where, "i.held_at > 0")
	} else {
		c.where = append(c.where, "i.dropped = 0")
	}
	c.add("1 = 1 ORDER BY i.intent_seq LIMIT ?", atMost(limit))
	rows, err := list(ctx, s.reader, scanIncidentItem, `SELECT `+qualified+`, i.held_why, i.held_by, i.held_at FROM incident_items i
		JOIN certificates c ON c.intent_seq = i.intent_seq WHERE `+strings.Join(c.where, " AND "), c.args...)
	return rows, s.fault("IncidentItems", err)
}

// AccountIncidents returns the open incidents that touch certificates of an account, oldest first.
func (s *Store) AccountIncidents(ctx context.Context, account string) ([]bulkhead.Incident, error) {
	rows, err := list(ctx, s.reader, scanIncident, `SELECT `+incidentFields+` FROM incidents WHERE state = 'open' AND kind = 'incident' AND seq IN
		(SELECT incident_seq FROM incident_items WHERE account_id = $1 AND account_id <> '' AND dropped = 0) ORDER BY seq`, account)
	return rows, s.fault("AccountIncidents", err)
}

// TallyIncident counts the items of an incident as the record has them at now.
func (s *Store) TallyIncident(ctx context.Context, id string, now time.Time) (bulkhead.IncidentTally, error) {
	type row struct {
		profile, kind                                   string
		total, live, revoked, expired, replaced, isHeld int64
	}
	rows, err := list(ctx, s.reader, func(r scanner) (v row, err error) {
		err = r.Scan(&v.profile, &v.kind, &v.total, &v.live, &v.revoked, &v.expired, &v.replaced, &v.isHeld)
		return v, err
	}, `SELECT c.profile, c.kind, COUNT(*), COUNT(CASE WHEN c.state = 'issued' AND c.not_after >= $2 THEN 1 END), COUNT(CASE WHEN c.state = 'revoked' THEN 1 END),
			COUNT(CASE WHEN c.state = 'issued' AND c.not_after < $2 THEN 1 END), COUNT(CASE WHEN c.replaced_by_issuer <> '' THEN 1 END), COUNT(CASE WHEN i.held_at > 0 THEN 1 END)
		FROM incident_items i JOIN certificates c ON c.intent_seq = i.intent_seq
		WHERE i.incident_seq = (SELECT seq FROM incidents WHERE id = $1) AND i.dropped = 0 GROUP BY c.profile, c.kind`, id, unix(now))
	t := bulkhead.IncidentTally{LiveByProfile: map[string]int64{}, LiveByKind: map[bulkhead.CertificateKind]int64{}}
	for _, r := range rows {
		t.Total, t.Live, t.Revoked, t.Expired = t.Total+r.total, t.Live+r.live, t.Revoked+r.revoked, t.Expired+r.expired
		t.Replaced, t.Held = t.Replaced+r.replaced, t.Held+r.isHeld
		t.LiveByProfile[r.profile] += r.live
		t.LiveByKind[bulkhead.CertificateKind(r.kind)] += r.live
	}
	return t, s.fault("TallyIncident", err)
}

// HoldItem freezes an item; KindNotFound when the incident has none like it, KindConflict when it is on hold already.
func (s *Store) HoldItem(ctx context.Context, id string, ref bulkhead.CertificateRef, why, by string, at time.Time, ev ...bulkhead.Evidence) error {
	return s.setHold(ctx, "HoldItem", id, ref, why, by, at, "held_at = 0", ev)
}

// ReleaseItem ends a hold; KindConflict when there is none.
func (s *Store) ReleaseItem(ctx context.Context, id string, ref bulkhead.CertificateRef, ev ...bulkhead.Evidence) error {
	return s.setHold(ctx, "ReleaseItem", id, ref, "", "", time.Time{}, "held_at > 0", ev)
}

func (s *Store) setHold(ctx context.Context, op, id string, ref bulkhead.CertificateRef, why, by string, at time.Time, expect string, ev []bulkhead.Evidence) error {
	return s.write(ctx, op, ev, func(t *tx) error {
		seq, err := t.incidentSeq(ctx, id)
		if err != nil {
			return err
		}
		n, err := exec(ctx, t, `UPDATE incident_items SET held_why = $4, held_by = $5, held_at = $6 WHERE incident_seq = $1 AND issuer = $2 AND serial = $3 AND `+expect,
			seq, string(ref.Issuer), serialArg(ref.Serial), text(why), text(by), unix(at))
		if err != nil || n > 0 {
			return err
		}
		var have int
		if err := t.QueryRowContext(ctx, `SELECT COUNT(*) FROM incident_items WHERE incident_seq = $1 AND issuer = $2 AND serial = $3`,
			seq, string(ref.Issuer), serialArg(ref.Serial)).Scan(&have); err != nil {
			return err
		}
		if have == 0 {
			return notFound("item", ref.String()+" in incident "+id)
		}
		return conflict("certificate %s of incident %s: the hold is as it was asked to be", ref, id)
	})
}

// EvidenceOfKinds returns rows of these kinds with a sequence above seq, in order.
func (s *Store) EvidenceOfKinds(ctx context.Context, seq int64, kinds []bulkhead.EvidenceKind, limit int) ([]bulkhead.EvidenceRow, error) {
	kinds = slices.Clone(kinds)
	c := &conditions{args: []any{seq}}
	// A leaf is a version octet and the kind in two octets (doc/evidence-format.md).
	either(c, "substr(leaf, 2, 2)", kinds, func(k bulkhead.EvidenceKind) any { return []byte{byte(k >> 8), byte(k)} })
	c.add("1 = 1 ORDER BY seq LIMIT ?", atMost(limit))
	rows, err := list(ctx, s.reader, func(r scanner) (row bulkhead.EvidenceRow, err error) {
		err = r.Scan(&row.Seq, bytesCol{&row.Leaf}, hashCol{&row.Chain})
		return row, err
	}, `SELECT seq, leaf, chain FROM evidence WHERE seq > $1 AND `+strings.Join(c.where, " AND "), c.args...)
	return rows, s.fault("EvidenceOfKinds", err)
}
