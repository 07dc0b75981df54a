package rel

import (
	"cmp"
	"context"
	"hash/maphash"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"bulkhead"
)

// recent are rows that orders have lately written or read: the requests of an order read the same few again and again. A row
// is taken out when a transaction runs a statement that writes it, before anybody can see what it wrote, and stands there
// again, as the transaction left it, once that is committed. A statement that writes one of the tables and does not name its rows (tx.only)
// takes all rows of the table out. It belongs to memo, whose lock guards it and whose Sole tells of everybody else.
type recent struct {
	seed       maphash.Seed
	young, old map[rowKey]row // when the young weigh half of what is allowed the old are forgotten
	weight     int            // of the young, in octets
	busy       map[rowKey]bool
	touched    [256]uint64 // moves with each beginning and end of a write of a row; several rows share one
}

// rowKey names a row of one table.
type rowKey struct {
	of     tables
	id     string          // of a certificate: its issuer
	serial bulkhead.Serial // of a certificate
}

// row is what is remembered of a row: an orderRow, an authorizationRow or a certificateRow. Readers get copies.
type row interface {
	octets() int
}

// rowLeft is a row as a transaction leaves it; nil when it does not know.
type rowLeft struct {
	key rowKey
	row row
}

// recentMost bounds what is remembered, in octets by estimate.
const recentMost = 16 << 20

func newMemo(sole Sole) *memo {
	return &memo{sole: sole, kept: map[string]answer{}, recent: recent{seed: maphash.MakeSeed(), young: map[rowKey]row{}, busy: map[rowKey]bool{}}}
}

func (r *recent) find(key rowKey) row {
	if found := r.young[key]; found != nil {
		return found
	}
	return r.old[key]
}

func (r *recent) put(key rowKey, v row) {
	r.remove(key)
	if r.weight += v.octets(); r.weight > recentMost/2 {
		r.old, r.young, r.weight = r.young, map[rowKey]row{}, v.octets()
	}
	r.young[key] = v
}

func (r *recent) remove(key rowKey) {
	if was := r.young[key]; was != nil {
		r.weight -= was.octets()
		delete(r.young, key)
	}
	delete(r.old, key)
}

// clear forgets the rows of tables.
func (r *recent) clear(of tables) {
	for _, rows := range []map[rowKey]row{r.young, r.old} {
		for key := range rows {
			if key.of&of != 0 {
				r.remove(key)
			}
		}
	}
}

func (r *recent) mark(key rowKey) *uint64 {
	return &r.touched[maphash.Comparable(r.seed, key)%uint64(len(r.touched))]
}

// touch takes a row out that is about to be written.
func (r *recent) touch(key rowKey) {
	r.remove(key)
	*r.mark(key)++
	r.busy[key] = true
}

// settle ends the writes of a transaction and takes in what it left, but for tables of which it wrote more rows than it named.
func (r *recent) settle(left []rowLeft, more tables) {
	for key := range r.busy {
		*r.mark(key)++
	}
	clear(r.busy)
	for _, l := range left {
		if r.remove(l.key); l.row != nil && l.key.of&more == 0 {
			r.put(l.key, l.row)
		}
	}
}

// recalled is a row as a read would give it, or what read gives. read returns no row when it is not to be remembered.
func recalled[T row](s *Store, key rowKey, read func() (T, bool, error)) (T, error) {
	m := s.memo
	if m == nil {
		v, _, err := read()
		return v, err
	}
	m.mu.RLock()
	found, known := m.recent.find(key).(T)
	generation, mark := m.generation, *m.recent.mark(key)
	free := !m.recent.busy[key] && m.writing&key.of == 0
	m.mu.RUnlock()
	quiet := (known || free) && m.sole.Quiet()
	if known && quiet {
		m.given.Add(1)
		return found, nil
	}
	v, fit, err := read()
	if err == nil && fit && quiet && free {
		m.mu.Lock()
		defer m.mu.Unlock()
		if r := &m.recent; m.generation == generation && *r.mark(key) == mark && !r.busy[key] && m.writing&key.of == 0 {
			r.put(key, v)
		}
	}
	return v, err
}

// recallAll gives rows only when all of them are remembered.
func recallAll[T row](s *Store, keys []rowKey) ([]T, bool) {
	m := s.memo
	if m == nil {
		return nil, false
	}
	out := make([]T, len(keys))
	m.mu.RLock()
	all := true
	for i, key := range keys {
		var known bool
		out[i], known = m.recent.find(key).(T)
		all = all && known
	}
	m.mu.RUnlock()
	if !all || !m.sole.Quiet() {
		return nil, false
	}
	m.given.Add(1)
	return out, true
}

// evidence is that on which an order rests, if all of it is remembered.
func (r *recent) evidence(order string) (*bulkhead.OrderEvidence, bool) {
	o, known := r.find(orderKey(order)).(orderRow)
	if !known || !o.whole {
		return nil, false
	}
	e := &bulkhead.OrderEvidence{Checks: slices.Clone(o.looks)}
	var all []numbered
	for _, id := range distinct(o.Authorizations) {
		a, known := r.find(authorizationKey(id)).(authorizationRow)
		if !known || !a.whole {
			return nil, false
		}
		if a.State == bulkhead.AuthorizationValid {
			all = append(all, a.validations...)
		}
	}
	slices.SortFunc(all, func(a, b numbered) int { return cmp.Compare(a.seq, b.seq) })
	for _, v := range all {
		e.Validations = append(e.Validations, v.Validation)
	}
	return e, true
}

// only says that the statements of the transaction, until the returned func is called, write no rows of the tables but these, and
// rows that it touches before its commit.
func (t *tx) only(of tables, keys ...rowKey) (end func()) {
	if t.memo == nil {
		return func() {}
	}
	t.touch(keys...)
	t.named = of
	return func() { t.named = 0 }
}

// touch takes rows out of memory that the transaction has written or is about to write.
func (t *tx) touch(keys ...rowKey) {
	m := t.memo
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range keys {
		m.recent.touch(key)
		t.left = append(t.left, rowLeft{key: key})
	}
}

// writing runs a statement that writes rows of a table and returns the id of each, and returns what was known of them.
func (t *tx) writing(ctx context.Context, of tables, keyOf func(string) rowKey, query string, args ...any) (map[rowKey]row, error) {
	if t.memo == nil {
		_, err := t.ExecContext(ctx, query, args...)
		return nil, err
	}
	defer t.only(of)()
	ids, err := list(ctx, t, func(r scanner) (id string, err error) { return id, r.Scan(&id) }, query, args...)
	if len(ids) == 0 {
		return nil, err
	}
	t.wrote = true
	was := make(map[rowKey]row, len(ids))
	for _, key := range keysOf(ids, keyOf) {
		was[key], _ = knownRow[row](t, key)
		t.touch(key)
	}
	return was, err
}

func keysOf(ids []string, keyOf func(string) rowKey) []rowKey {
	out := make([]rowKey, len(ids))
	for i, id := range ids {
		out[i] = keyOf(id)
	}
	return out
}

// leave says how the transaction leaves a row that it has touched.
func (t *tx) leave(key rowKey, v row) {
	if t.memo != nil {
		t.left = append(t.left, rowLeft{key, v})
	}
}

// knownRow is a row as the transaction would read it, if it is remembered; ask before it is touched.
func knownRow[T row](t *tx, key rowKey) (v T, ok bool) {
	m := t.memo
	if m == nil {
		return v, false
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.writing&key.of != 0 {
		return v, false
	}
	for i := len(t.left) - 1; i >= 0; i-- {
		if t.left[i].key == key {
			v, ok = t.left[i].row.(T)
			return v, ok
		}
	}
	if t.alone {
		v, ok = m.recent.find(key).(T)
	}
	return v, ok
}

func orderKey(id string) rowKey         { return rowKey{of: ofOrders, id: id} }
func authorizationKey(id string) rowKey { return rowKey{of: ofAuthorizations, id: id} }
func certificateKey(ref bulkhead.CertificateRef) rowKey {
	return rowKey{ofCertificates, string(ref.Issuer), ref.Serial}
}

// orderRow is an order; looks are the looks at CAA for it, when they are known.
type orderRow struct {
	bulkhead.Order
	looks []bulkhead.CAACheck
	whole bool // looks are known
}

// authorizationRow is an authorisation; validations are its own, oldest first, when they are known.
type authorizationRow struct {
	bulkhead.Authorization
	validations []numbered
	whole       bool // validations are known
}

// numbered is a validation with its place in the record.
type numbered struct {
	bulkhead.Validation
	seq int64
}

func (o orderRow) octets() int {
	return 600 + len(o.CSR) + 100*(len(o.Identifiers)+len(o.Authorizations)) + 300*len(o.looks)
}

func (a authorizationRow) octets() int {
	return 500 + 200*len(a.Challenges) + 400*len(a.validations)
}

func (c certificateWithDER) octets() int { return 600 + len(c.der) + 100*len(c.row.Names) }

// order is the reader's own copy.
func (o orderRow) order() bulkhead.Order {
	c := o.Order
	c.Identifiers, c.Authorizations, c.CSR = slices.Clone(c.Identifiers), slices.Clone(c.Authorizations), slices.Clone(c.CSR)
	return c
}

func (a authorizationRow) authorization() bulkhead.Authorization {
	c := a.Authorization
	c.Challenges = slices.Clone(c.Challenges)
	return c
}

func (c certificateWithDER) copy() certificateWithDER {
	c.row.Names, c.der = slices.Clone(c.row.Names), slices.Clone(c.der)
	return c
}

// stored is a time as the record gives it back.
func stored(t time.Time) time.Time {
	if v := unix(t); v != 0 {
		return time.Unix(v, 0).UTC()
	}
	return time.Time{}
}

// faithful reports that the record gives texts back as they are.
func faithful(texts ...string) bool {
	return !slices.ContainsFunc(texts, func(s string) bool { return !utf8.ValidString(s) || strings.Contains(s, "\x00") })
}

func faithfulNames(ids []bulkhead.Identifier) bool {
	return !slices.ContainsFunc(ids, func(id bulkhead.Identifier) bool { return !faithful(string(id.Type), id.Value) })
}

// keepOrder is an order as the record gives it back, if it is one to remember: not with a fault, which its readers may write in.
func keepOrder(o bulkhead.Order) (bulkhead.Order, bool) {
	o = orderRow{Order: o}.order()
	if len(o.CSR) == 0 {
		o.CSR = nil
	}
	o.ExpiresAt, o.CreatedAt, o.ProcessingSince = stored(o.ExpiresAt), stored(o.CreatedAt), stored(o.ProcessingSince)
	return o, o.Problem == nil && faithful(o.ID, o.AccountID, string(o.State), o.Profile, string(o.Authority), string(o.Certificate.Issuer),
		string(o.Replaces.Issuer)) && faithful(o.Authorizations...) && faithfulNames(o.Identifiers)
}

// keepAuthorization is keepOrder for an authorisation.
func keepAuthorization(a bulkhead.Authorization) (bulkhead.Authorization, bool) {
	a = authorizationRow{Authorization: a}.authorization()
	fit := faithful(a.ID, a.AccountID, string(a.Identifier.Type), a.Identifier.Value, string(a.State))
	if len(a.Challenges) == 0 {
		a.Challenges = nil
	}
	for i := range a.Challenges {
		c := &a.Challenges[i]
		fit = fit && c.Problem == nil && faithful(c.ID, string(c.Method), c.Token, string(c.State))
		c.ValidatedAt = stored(c.ValidatedAt)
	}
	a.ExpiresAt, a.CreatedAt = stored(a.ExpiresAt), stored(a.CreatedAt)
	return a, fit
}

// keepValidation is a validation as the record gives it back.
func keepValidation(v bulkhead.Validation) (bulkhead.Validation, bool) {
	v.At, v.ReuseUntil, v.Detail = stored(v.At), stored(v.ReuseUntil), text(v.Detail)
	return v, faithful(v.ID, v.AuthorizationID, v.AccountID, string(v.Identifier.Type), v.Identifier.Value, string(v.Method))
}

// keepCertificate is a certificate as the record gives it back.
func keepCertificate(c bulkhead.Certificate) (bulkhead.Certificate, bool) {
	c.Names, c.Subject = slices.Clone(c.Names), text(c.Subject)
	c.NotBefore, c.NotAfter, c.RevokedAt, c.ReservedAt = stored(c.NotBefore), stored(c.NotAfter), stored(c.RevokedAt), stored(c.ReservedAt)
	return c, faithful(string(c.Issuer), string(c.Kind), string(c.State), c.Profile, c.AccountID, c.OrderID, string(c.Replaces.Issuer)) && faithfulNames(c.Names)
}
