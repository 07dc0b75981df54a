package rel

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"bulkhead"
	"bulkhead/pki/tlog"
)

var (
	insertCertificate = insert("certificates", "intent_seq bigint", "issuer text", "serial bytea", "kind text",
		"state text", "profile text", "names text", "subject text", "key_hash bytea", "intent_digest bytea",
		"fingerprint bytea", "account_id text", "order_id text", "not_before bigint", "not_after bigint", "shard bigint",
		"revoked_at bigint", "reason bigint", "reserved_at bigint", "replaces_issuer text", "replaces_serial bytea",
		"replaced_by_issuer text", "replaced_by_serial bytea", "outcome_seq bigint")
	insertName = insert("certificate_names", "reversed text", "intent_seq bigint")
	insertDER  = insert("certificate_ders", "intent_seq bigint", "der bytea")

	completeCertificate = statement{
		each: `UPDATE certificates SET state = 'issued', fingerprint = $1, outcome_seq = $2 WHERE intent_seq = $3`,
		many: `UPDATE certificates c SET state = 'issued', fingerprint = v.fingerprint, outcome_seq = v.outcome
			FROM unnest($1::bytea[], $2::bigint[], $3::bigint[]) AS v (fingerprint, outcome, seq) WHERE c.intent_seq = v.seq`,
	}
	abandonCertificate = statement{
		each: `UPDATE certificates SET state = 'abandoned' WHERE intent_seq = $1`,
		many: `UPDATE certificates SET state = 'abandoned' WHERE intent_seq = ANY($1::bigint[])`,
	}
)

// issueState is what Reserve, Complete and Abandon compare.
type issueState struct {
	ref         bulkhead.CertificateRef
	state       bulkhead.CertificateState
	fingerprint bulkhead.Hash
	intentSeq   int64
	outcomeSeq  int64
}

const issueStateFields = `serial, state, fingerprint, intent_seq, outcome_seq`

// eachSerial looks each serial up by its whole key, whatever PostgreSQL believes of the table: while that is young, every index that begins
// with the issuer promises one row, and only this one has the order. With IN, all certificates of the issuer were read.
const eachSerial = `SELECT c.* FROM unnest($2::bytea[]) AS v (serial), LATERAL (SELECT ` + issueStateFields + ` FROM certificates
	WHERE issuer = $1 AND serial BETWEEN v.serial AND v.serial ORDER BY serial LIMIT 1) AS c`

// issueStates reads the rows that exist among refs. The evidence head must be held: every writer of these columns
// holds it, so what is read stays true until commit.
func (t *tx) issueStates(ctx context.Context, refs []bulkhead.CertificateRef) (map[bulkhead.CertificateRef]*issueState, error) {
	byIssuer := map[bulkhead.AuthorityID][]bulkhead.Serial{}
	found := make(map[bulkhead.CertificateRef]*issueState, len(refs))
	for _, r := range refs {
		if c, known := knownRow[certificateWithDER](t, certificateKey(r)); known {
			found[r] = &issueState{r, c.row.State, c.row.Fingerprint, c.row.IntentSeq, c.row.OutcomeSeq}
			continue
		}
		byIssuer[r.Issuer] = append(byIssuer[r.Issuer], r.Serial)
	}
	for issuer, serials := range byIssuer {
		err := among(t.dialect, serials, 2, "bytea", serialArg,
			func(_ []bulkhead.Serial, in string, args []any) error {
				query := `SELECT ` + issueStateFields + ` FROM certificates WHERE issuer = $1 AND serial IN ` + in
				if t.dialect.Arrays {
					query = eachSerial
				}
				rows, err := list(ctx, t, func(r scanner) (*issueState, error) {
					c := &issueState{ref: bulkhead.CertificateRef{Issuer: issuer}}
					return c, r.Scan(serialCol{&c.ref.Serial}, &c.state, hashCol{&c.fingerprint}, &c.intentSeq, &c.outcomeSeq)
				}, query, append([]any{string(issuer)}, args...)...)
				for _, c := range rows {
					found[c.ref] = c
				}
				return err
			})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// Reserve commits reservations with their intents in one transaction. errs has one entry for each item: nil, or why
// this item alone was left out (KindBadPublicKey for a key that is blocked at the moment of commit, KindConflict for
// a serial that exists, KindRateLimited when its partner's volume is used up, KindMalformed); its seq is then 0. err is for the transaction as a whole.
func (s *Store) Reserve(ctx context.Context, items []bulkhead.Reservation) (seqs []int64, errs []error, err error) {
	seqs, errs = make([]int64, len(items)), make([]error, len(items))
	leaves := make([][]byte, len(items))
	for i, it := range items {
		leaves[i], errs[i] = tlog.Marshal(it.Intent)
		if errs[i] == nil && (it.Certificate.Serial.IsZero() || it.Certificate.Issuer == "") {
			errs[i] = bulkhead.NewFault(bulkhead.KindMalformed, "a reservation needs an issuer and a serial")
		}
	}
	malformed := slices.Clone(errs)
	err = s.writeAgain(ctx, "Reserve", nil, func(t *tx) error {
		clear(seqs)
		copy(errs, malformed)
		if err := t.lockEvidence(ctx); err != nil {
			return err
		}
		if err := t.refuse(ctx, items, errs); err != nil {
			return err
		}
		return t.reserve(ctx, items, leaves, errs, seqs)
	})
	if err != nil {
		return make([]int64, len(items)), errs, err
	}
	return seqs, errs, nil
}

// refuse marks the items whose key is blocked or whose serial is taken, in the store or by an earlier item.
func (t *tx) refuse(ctx context.Context, items []bulkhead.Reservation, errs []error) error {
	var refs []bulkhead.CertificateRef
	var keys []bulkhead.Hash
	for i, it := range items {
		if errs[i] == nil {
			refs, keys = append(refs, it.Certificate.CertificateRef), append(keys, it.Certificate.KeyHash)
		}
	}
	taken, err := t.issueStates(ctx, refs)
	if err != nil {
		return err
	}
	blocked := map[bulkhead.Hash]bool{}
	list, err := t.blockedKeys(ctx, keys)
	if err != nil {
		return err
	}
	for _, k := range list {
		blocked[k.KeyHash] = true
	}
	for i, it := range items {
		switch ref := it.Certificate.CertificateRef; {
		case errs[i] != nil:
		case blocked[it.Certificate.KeyHash]:
			errs[i] = bulkhead.NewFault(bulkhead.KindBadPublicKey, "this key is blocked and can never be certified again").
				WithHint("make a new key pair and ask again")
		case taken[ref] != nil:
			errs[i] = conflict("serial %s of %s is taken", ref.Serial, ref.Issuer)
		default:
			taken[ref] = &issueState{}
		}
	}
	return t.takeVolume(ctx, items, errs)
}

// reserve writes evidence, rows and names of the items without an error.
func (t *tx) reserve(ctx context.Context, items []bulkhead.Reservation, leaves [][]byte, errs []error, seqs []int64) error {
	var good [][]byte
	for i := range items {
		if errs[i] == nil {
			good = append(good, leaves[i])
		}
	}
	numbers, evidence, err := t.sequence(good)
	if err != nil || len(good) == 0 {
		return err
	}
	var rows certificateColumns
	var names nameColumns
	var keys []rowKey
	for i, it := range items {
		if errs[i] != nil {
			continue
		}
		seqs[i], numbers = numbers[0], numbers[1:]
		rows.addAs(it, seqs[i], bulkhead.Reserved, bulkhead.Hash{}, 0)
		names.add(it.Certificate.Names, seqs[i])
		keys = append(keys, certificateKey(it.Certificate.CertificateRef))
	}
	defer t.only(ofCertificates, keys...)()
	if err := t.all(ctx, evidence.part(), part{insertCertificate, rows.values()}, part{insertName, []values{names.reversed, names.owners}}); err != nil {
		return err
	}
	for i, it := range items {
		if c, fit := keepCertificate(it.Certificate); fit && errs[i] == nil {
			c.State, c.Fingerprint, c.ReplacedBy, c.IntentSeq, c.OutcomeSeq = bulkhead.Reserved, bulkhead.Hash{}, bulkhead.CertificateRef{}, seqs[i], 0
			t.leave(certificateKey(c.CertificateRef), certificateWithDER{row: c})
		}
	}
	return nil
}

// nameColumns holds rows for insertName, column by column.
type nameColumns struct {
	reversed column[string]
	owners   column[int64]
}

// add adds the names of row seq, each once.
func (n *nameColumns) add(names []bulkhead.Identifier, seq int64) {
	for _, name := range reversedNames(names) {
		n.reversed, n.owners = append(n.reversed, name), append(n.owners, seq)
	}
}

// reversedNames are names turned round, each once.
func reversedNames(names []bulkhead.Identifier) []string {
	out := make([]string, 0, len(names))
	for i, id := range names {
		if !slices.ContainsFunc(names[:i], func(b bulkhead.Identifier) bool { return b.Value == id.Value }) {
			out = append(out, reverse(id.Value))
		}
	}
	return out
}

// Len, Less and Swap sort rows into the order in which they lie, so that neighbours are written one after the other.
func (n *nameColumns) Len() int { return len(n.reversed) }

// Less implements sort.Interface.
func (n *nameColumns) Less(i, j int) bool { return n.reversed[i] < n.reversed[j] }

// Swap implements sort.Interface.
func (n *nameColumns) Swap(i, j int) {
	n.reversed[i], n.reversed[j] = n.reversed[j], n.reversed[i]
	n.owners[i], n.owners[j] = n.owners[j], n.owners[i]
}

// certificateColumns holds rows for insertCertificate, column by column.
type certificateColumns struct {
	issuer, kind, state, profile, names, subject, account, order column[string]
	replacesIssuer, replacedIssuer                               column[string]
	serial, key, digest, fingerprint                             column[[]byte]
	replacesSerial, replacedSerial                               column[[]byte]
	seq, notBefore, notAfter, shard, revokedAt, reason, reserved column[int64]
	outcome                                                      column[int64]
}

// addAs adds a row in a state; fingerprint and outcome are zero while it is reserved.
func (r *certificateColumns) addAs(it bulkhead.Reservation, seq int64, state bulkhead.CertificateState, fingerprint bulkhead.Hash, outcome int64) {
	c := it.Certificate
	r.seq = append(r.seq, seq)
	r.issuer = append(r.issuer, string(c.Issuer))
	r.serial = append(r.serial, serialArg(c.Serial))
	r.kind = append(r.kind, string(c.Kind))
	r.state = append(r.state, string(state))
	r.profile = append(r.profile, c.Profile)
	r.names = append(r.names, namesArg(c.Names))
	r.subject = append(r.subject, text(c.Subject))
	r.key = append(r.key, hashArg(c.KeyHash))
	r.digest = append(r.digest, hashArg(it.Intent.Digest))
	r.fingerprint = append(r.fingerprint, hashArg(fingerprint))
	r.account = append(r.account, c.AccountID)
	r.order = append(r.order, c.OrderID)
	r.notBefore = append(r.notBefore, unix(c.NotBefore))
	r.notAfter = append(r.notAfter, unix(c.NotAfter))
	r.shard = append(r.shard, int64(c.Shard))
	r.revokedAt = append(r.revokedAt, unix(c.RevokedAt))
	r.reason = append(r.reason, int64(c.Reason))
	r.reserved = append(r.reserved, unix(c.ReservedAt))
	r.replacesIssuer = append(r.replacesIssuer, string(c.Replaces.Issuer))
	r.replacesSerial = append(r.replacesSerial, serialArg(c.Replaces.Serial))
	r.replacedIssuer = append(r.replacedIssuer, "")
	r.replacedSerial = append(r.replacedSerial, []byte{})
	r.outcome = append(r.outcome, outcome)
}

func (r *certificateColumns) values() []values {
	return []values{r.seq, r.issuer, r.serial, r.kind, r.state, r.profile, r.names, r.subject, r.key, r.digest,
		r.fingerprint, r.account, r.order, r.notBefore, r.notAfter, r.shard, r.revokedAt, r.reason, r.reserved,
		r.replacesIssuer, r.replacesSerial, r.replacedIssuer, r.replacedSerial, r.outcome}
}

// Complete commits certificates with their outcomes: Reserved becomes Issued. errs has one entry for each item:
// KindConflict for one that is not reserved, KindNotFound for one that does not exist. A second Complete with the same
// DER succeeds, changes nothing and returns the first one's sequence.
func (s *Store) Complete(ctx context.Context, items []bulkhead.Completion) (seqs []int64, errs []error, err error) {
	seqs, errs = make([]int64, len(items)), make([]error, len(items))
	leaves := make([][]byte, len(items))
	refs := make([]bulkhead.CertificateRef, len(items))
	for i, it := range items {
		leaves[i], errs[i] = tlog.Marshal(it.Outcome)
		refs[i] = it.CertificateRef
		if errs[i] == nil && len(it.DER) == 0 {
			errs[i] = bulkhead.NewFault(bulkhead.KindMalformed, "a completion needs the certificate")
		}
	}
	malformed := slices.Clone(errs)
	err = s.writeAgain(ctx, "Complete", nil, func(t *tx) error {
		clear(seqs)
		copy(errs, malformed)
		if err := t.lockEvidence(ctx); err != nil {
			return err
		}
		states, err := t.issueStates(ctx, refs)
		if err != nil {
			return err
		}
		return t.complete(ctx, items, leaves, states, seqs, errs)
	})
	if err != nil {
		return make([]int64, len(items)), errs, err
	}
	return seqs, errs, nil
}

func (t *tx) complete(ctx context.Context, items []bulkhead.Completion, leaves [][]byte, states map[bulkhead.CertificateRef]*issueState, seqs []int64, errs []error) error {
	var rows, outcomes column[int64]
	var ders, fingerprints column[[]byte]
	var good [][]byte
	var keys []rowKey
	var left []rowLeft
	next := t.head.seq
	for i, it := range items {
		if errs[i] != nil {
			continue
		}
		row, fingerprint := states[it.CertificateRef], bulkhead.Digest(it.DER)
		switch {
		case row == nil:
			errs[i] = notFound("certificate", it.CertificateRef.String())
		case row.state == bulkhead.Reserved:
			next++
			seqs[i] = next
			row.state, row.fingerprint, row.outcomeSeq = bulkhead.Issued, fingerprint, next
			good = append(good, leaves[i])
			rows, outcomes = append(rows, row.intentSeq), append(outcomes, next)
			ders, fingerprints = append(ders, it.DER), append(fingerprints, fingerprint[:])
			key := certificateKey(it.CertificateRef)
			keys = append(keys, key)
			if c, known := knownRow[certificateWithDER](t, key); known {
				c.row.State, c.row.Fingerprint, c.row.OutcomeSeq, c.der = bulkhead.Issued, fingerprint, next, bytes.Clone(it.DER)
				left = append(left, rowLeft{key, c})
			}
		case row.outcomeSeq > 0 && row.fingerprint == fingerprint:
			seqs[i] = row.outcomeSeq
		default:
			errs[i] = conflict("certificate %s is %s, not reserved", it.CertificateRef, row.state)
		}
	}
	_, evidence, err := t.sequence(good)
	if err != nil {
		return err
	}
	defer t.only(ofCertificates, keys...)()
	if err := t.all(ctx, evidence.part(), part{completeCertificate, []values{fingerprints, outcomes, rows}}, part{insertDER, []values{rows, ders}}); err != nil {
		return err
	}
	for _, l := range left {
		t.leave(l.key, l.row)
	}
	return nil
}

// Abandon moves Reserved to Abandoned and appends ev[i] for each item i that moved; an item in any other state, or
// that does not exist, is left alone.
func (s *Store) Abandon(ctx context.Context, items []bulkhead.CertificateRef, ev []bulkhead.Evidence) error {
	if len(ev) != len(items) {
		return bulkhead.Faultf(bulkhead.KindMalformed, "%d items to abandon with %d pieces of evidence", len(items), len(ev))
	}
	leaves, err := marshal(ev)
	if err != nil {
		return s.fault("Abandon", err)
	}
	return s.writeKeyed(ctx, "Abandon", nil, func(t *tx) error {
		if err := t.lockEvidence(ctx); err != nil {
			return err
		}
		states, err := t.issueStates(ctx, items)
		if err != nil {
			return err
		}
		var rows column[int64]
		var good [][]byte
		for i, ref := range items {
			if row := states[ref]; row != nil && row.state == bulkhead.Reserved {
				row.state = bulkhead.Abandoned
				rows, good = append(rows, row.intentSeq), append(good, leaves[i])
			}
		}
		if _, err := t.append(ctx, good); err != nil || len(good) == 0 {
			return err
		}
		return t.batch(ctx, abandonCertificate, rows)
	})
}

// OpenReservations returns rows still Reserved and reserved before t, oldest first, with the intent's digest in
// Fingerprint.
func (s *Store) OpenReservations(ctx context.Context, before time.Time, limit int) ([]bulkhead.Certificate, error) {
	rows, err := list(ctx, s.reader, func(r scanner) (bulkhead.Certificate, error) {
		var digest bulkhead.Hash
		c, err := scanCertificate(r, hashCol{&digest})
		c.Fingerprint = digest
		return c, err
	}, `SELECT `+certificateFields+`, intent_digest FROM certificates
		WHERE state = 'reserved' AND reserved_at < $1 ORDER BY reserved_at, intent_seq LIMIT $2`, unix(before), atMost(limit))
	return rows, s.fault("OpenReservations", err)
}

// MarkReplaced records that old was replaced by new; the first mark stays.
func (s *Store) MarkReplaced(ctx context.Context, old, new bulkhead.CertificateRef) error {
	return s.write(ctx, "MarkReplaced", nil, func(t *tx) error {
		n, err := exec(ctx, t, `UPDATE certificates SET replaced_by_issuer = $3, replaced_by_serial = $4
			WHERE issuer = $1 AND serial = $2 AND replaced_by_issuer = ''`,
			string(old.Issuer), serialArg(old.Serial), string(new.Issuer), serialArg(new.Serial))
		if err != nil || n > 0 {
			return err
		}
		var one int
		err = t.QueryRowContext(ctx, `SELECT 1 FROM certificates WHERE issuer = $1 AND serial = $2`,
			string(old.Issuer), serialArg(old.Serial)).Scan(&one)
		if errors.Is(err, sql.ErrNoRows) {
			return notFound("certificate", old.String())
		}
		if err != nil {
			return fmt.Errorf("look for %s: %w", old, err)
		}
		return nil
	})
}
