package rel

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"

	"bulkhead"
	"bulkhead/store/internal/btree"
)

// Bulk opens one moment of the database for reading whole tables, where the engine has a faster way than statements.
type Bulk func(ctx context.Context) (Moment, error)

// Moment is a snapshot of the database, read page by page. It belongs to one goroutine.
type Moment interface {
	// Scan begins a walk over a table with an integer key: rows with a key above after and not above through, in its order.
	Scan(ctx context.Context, table string, after, through int64) (Walk, error)
	// QueryContext runs a statement at the same moment.
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	Close() error
}

// Walk is a cursor over a table together with the names of its columns.
type Walk struct {
	*btree.Cursor
	Columns  []string
	Defaults []btree.Value // of columns that were added later: what an older row has
}

// picked reads some columns of the rows that a walk goes over.
type picked struct {
	walk  Walk
	at    []int // where each wanted column is stored
	all   []btree.Value
	ended bool
}

// pick chooses columns by name.
func pick(ctx context.Context, m Moment, table string, after, through int64, columns ...string) (*picked, error) {
	w, err := m.Scan(ctx, table, after, through)
	if err != nil {
		return nil, err
	}
	p, last := &picked{walk: w}, 0
	for _, name := range columns {
		at := -1
		for i, is := range w.Columns {
			if is == name {
				at = i
			}
		}
		if at < 0 {
			return nil, fmt.Errorf("table %s has no column %s", table, name)
		}
		p.at, last = append(p.at, at), max(last, at+1)
	}
	p.all = make([]btree.Value, last)
	return p, nil
}

// next moves to the next row; false at the end.
func (p *picked) next(ctx context.Context) (bool, error) {
	if p.ended {
		return false, nil
	}
	ok, err := p.walk.Next(ctx)
	p.ended = !ok
	return ok, err
}

// row reads the columns of the row; col gives them.
func (p *picked) row() error {
	copy(p.all, p.walk.Defaults)
	return p.walk.Cursor.Columns(p.all)
}

// to moves to the row with this key, or to the first after it; found says which. Keys must rise.
func (p *picked) to(ctx context.Context, key int64) (found bool, err error) {
	for !p.ended && p.walk.Key() < key {
		if _, err := p.next(ctx); err != nil {
			return false, err
		}
	}
	return !p.ended && p.walk.Key() == key, nil
}

// value is a wanted column, by its number in pick.
func (p *picked) value(i int) *btree.Value { return &p.all[p.at[i]] }

func (p *picked) int(i int) (int64, error) {
	v := p.value(i)
	if v.Kind != btree.Integer {
		return 0, fmt.Errorf("integer column holds a value of kind %d", v.Kind)
	}
	return v.Int, nil
}

// bytes of a blob or a text.
func (p *picked) bytes(i int) ([]byte, error) {
	v := p.value(i)
	if v.Kind != btree.Blob && v.Kind != btree.Text {
		return nil, fmt.Errorf("blob column holds a value of kind %d", v.Kind)
	}
	return v.Bytes, nil
}

func (p *picked) hash(i int, to *bulkhead.Hash) error {
	v, err := p.bytes(i)
	if err != nil {
		return err
	}
	return hashCol{to}.Scan(v)
}

// evidencePages is EvidenceRange page by page.
func (s *Store) evidencePages(ctx context.Context, seq, through int64, yield func(*bulkhead.EvidenceRow) bool) (err error) {
	m, err := s.bulk(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	p, err := pick(ctx, m, "evidence", seq, through, "leaf", "chain")
	if err != nil {
		return err
	}
	var row bulkhead.EvidenceRow
	for {
		if ok, err := p.next(ctx); err != nil || !ok {
			return err
		}
		if err := p.row(); err != nil {
			return err
		}
		row.Seq = p.walk.Key()
		if row.Leaf, err = p.bytes(0); err != nil {
			return err
		}
		if err := p.hash(1, &row.Chain); err != nil {
			return err
		}
		if !yield(&row) {
			return nil
		}
	}
}

// Columns of certificates that signedPages reads, in this order.
const (
	colSerial = iota
	colKind
	colState
	colKey
	colTBS
	colFingerprint
	colOrder
	colOutcome
	colRevokedAt
	colReason
	colNotAfter
	colShard
	colIssuer
	colAccount
	colNames
)

var signedColumns = []string{"serial", "kind", "state", "key_hash", "intent_digest", "fingerprint", "order_id", "outcome_seq", "revoked_at", "reason", "not_after", "shard", "issuer", "account_id", "names"}

// signedPages is SignedRange page by page: the three tables lie in the order of the intent, and are read side by side.
func (s *Store) signedPages(ctx context.Context, issuers []bulkhead.AuthorityID, seq, through int64, yield func(*bulkhead.SignedRow) bool) (err error) {
	m, err := s.bulk(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	certs, err := pick(ctx, m, "certificates", seq, through, signedColumns...)
	if err != nil {
		return err
	}
	var bodies [2]*picked
	for i, table := range []string{"certificate_ders", "precertificates"} {
		if bodies[i], err = pick(ctx, m, table, seq, through, "der"); err != nil {
			return err
		}
	}
	var row bulkhead.SignedRow
	for {
		if ok, err := certs.next(ctx); err != nil || !ok {
			return err
		}
		if err := certs.row(); err != nil {
			return err
		}
		if err := certs.signed(&row); err != nil {
			return err
		}
		if !slices.Contains(issuers, row.Issuer) {
			continue
		}
		row.DER, row.Sum, row.Precert = nil, bulkhead.Hash{}, bulkhead.Hash{}
		for i, to := range []*bulkhead.Hash{&row.Sum, &row.Precert} {
			found, err := bodies[i].to(ctx, row.IntentSeq)
			if err != nil {
				return err
			}
			if !found {
				continue
			}
			if err := bodies[i].row(); err != nil {
				return err
			}
			der, err := bodies[i].bytes(0)
			if err != nil {
				return err
			}
			if len(der) == 0 {
				continue
			}
			*to = bulkhead.Digest(der)
			if i == 0 {
				row.DER = der
			}
		}
		if !yield(&row) {
			return nil
		}
	}
}

// signed reads a row of certificates without what stands in other tables.
func (p *picked) signed(c *bulkhead.SignedRow) error {
	var numbers [5]int64
	for i, at := range [...]int{colOutcome, colRevokedAt, colReason, colNotAfter, colShard} {
		v, err := p.int(at)
		if err != nil {
			return err
		}
		numbers[i] = v
	}
	for _, x := range [...]struct {
		at int
		to *bulkhead.Hash
	}{{colKey, &c.KeyHash}, {colTBS, &c.IntentDigest}, {colFingerprint, &c.Fingerprint}} {
		if err := p.hash(x.at, x.to); err != nil {
			return err
		}
	}
	var texts [7][]byte
	for i, at := range [...]int{colIssuer, colKind, colState, colOrder, colSerial, colAccount, colNames} {
		v, err := p.bytes(at)
		if err != nil {
			return err
		}
		texts[i] = v
	}
	word(&c.Issuer, texts[0])
	word(&c.Kind, texts[1])
	word(&c.State, texts[2])
	word(&c.OrderID, texts[3])
	word(&c.AccountID, texts[5])
	st := &c.Status
	if err := errors.Join(serialCol{&c.Serial}.Scan(texts[4]), namesCol{&c.Names}.Scan(texts[6]), timeCol{&st.RevokedAt}.Scan(numbers[1]), intCol[bulkhead.Reason]{&st.Reason}.Scan(numbers[2]), timeCol{&st.NotAfter}.Scan(numbers[3])); err != nil {
		return err
	}
	c.IntentSeq, c.OutcomeSeq, st.Shard = p.walk.Key(), numbers[0], int(numbers[4])
	st.CertificateRef, st.State, st.Seq = c.CertificateRef, c.State, c.OutcomeSeq
	return nil
}

// word keeps a word of which there are few without a copy of its own for each row.
func word[T ~string](to *T, v []byte) {
	if string(*to) != string(v) {
		*to = T(v)
	}
}

// validationPages is ValidationRange page by page.
func (s *Store) validationPages(ctx context.Context, yield func(*bulkhead.Validation) bool) (err error) {
	m, err := s.bulk(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	p, err := pick(ctx, m, "validations", math.MinInt64, math.MaxInt64, "id", "authorization_id", "account_id", "name_type", "name", "method", "wildcard", "at", "reuse_until")
	if err != nil {
		return err
	}
	var v bulkhead.Validation
	for {
		if ok, err := p.next(ctx); err != nil || !ok {
			return err
		}
		if err := p.row(); err != nil {
			return err
		}
		for i, to := range [...]*string{&v.ID, &v.AuthorizationID, &v.AccountID, (*string)(&v.Identifier.Type), &v.Identifier.Value, (*string)(&v.Method)} {
			text, err := p.bytes(i)
			if err != nil {
				return err
			}
			word(to, text)
		}
		var numbers [3]int64
		for i := range numbers {
			if numbers[i], err = p.int(6 + i); err != nil {
				return err
			}
		}
		v.Wildcard = numbers[0] != 0
		if err := errors.Join(timeCol{&v.At}.Scan(numbers[1]), timeCol{&v.ReuseUntil}.Scan(numbers[2])); err != nil {
			return err
		}
		if !yield(&v) {
			return nil
		}
	}
}
