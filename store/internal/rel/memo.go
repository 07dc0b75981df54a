package rel

import (
	"context"
	"database/sql"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"

	"bulkhead"
)

// tables is a set of tables that are read for every certificate: some seldom written, whose answers are remembered whole, and those
// of what orders rest on, of which rows are (recent.go).
type tables uint16

const (
	ofAccounts tables = 1 << iota
	ofPartners
	ofStops
	ofAuthorities
	ofStandbys
	ofBlockedKeys
	ofOrders         // with the authorisations and looks at CAA of each
	ofAuthorizations // with the validations of each
	ofCertificates   // with the DER of each
)

var tablesOf = map[string]tables{"accounts": ofAccounts, "partners": ofPartners, "stops": ofStops, "authorities": ofAuthorities,
	"standbys": ofStandbys, "blocked_keys": ofBlockedKeys,
	"orders": ofOrders, "order_authorizations": ofOrders, "caa_checks": ofOrders,
	"authorizations": ofAuthorizations, "validations": ofAuthorizations,
	"certificates": ofCertificates, "certificate_ders": ofCertificates}

// Sole says whether anybody but this store commits to its database. It is there for an engine whose file one process has to
// itself, where nothing of what was read can have changed unless this store changed it or Sole says so.
type Sole interface {
	// Quiet reports that all that was ever committed was there at the last Hold or Release, or is under way by this store.
	Quiet() bool
	// Hold is called when a transaction has got the right to write, which nobody else has then. It calls foreign, before Quiet
	// is true again, when somebody else has committed, and reports whether it is sure that nobody has since the last Release.
	Hold(foreign func()) (alone bool)
	// Commits is called before the commit of a transaction that has changed rows.
	Commits()
	// Release is called after the end of the transaction, and calls foreign like Hold. failed says that its commit gave an error, so
	// that nobody knows what became of it.
	Release(failed bool, foreign func())
}

// memo remembers answers that rest on seldom-written tables. An answer is given again only while a read would give the same:
// a write of this store to one of its tables ends it before that write is committed, and nothing is remembered until
// it is over; Sole tells of everybody else. Nothing in it has a time to live. Answers are shared: their readers must not change them.
type memo struct {
	sole Sole

	mu         sync.RWMutex
	generation uint64 // moves with each end of an answer
	writing    tables // of the transaction under way; one writes at a time
	kept       map[string]answer
	recent     recent
	head       *evidenceHead // as the last commit left it; of the one transaction at a time, and guarded by nothing
	writes     sync.Map      // text of a statement → what it writes
	given      atomic.Int64
}

type answer struct {
	of    tables
	value any
}

// memoMost bounds the answers; beyond it all are forgotten.
const memoMost = 8192

// Remembered returns how many reads were answered without a statement.
func (s *Store) Remembered() int64 {
	if s.memo == nil {
		return 0
	}
	return s.memo.given.Load()
}

// remembered is read(), or what it gave when that is still so.
func remembered[T any](s *Store, of tables, key string, read func() (T, error)) (T, error) {
	m := s.memo
	if m == nil {
		return read()
	}
	m.mu.RLock()
	found, known := m.kept[key]
	generation, free := m.generation, m.writing&of == 0
	m.mu.RUnlock()
	quiet := free && m.sole.Quiet()
	if known && quiet {
		m.given.Add(1)
		return found.value.(T), nil
	}
	v, err := read()
	if err == nil && quiet {
		m.keep(generation, key, answer{of, v})
	}
	return v, err
}

func (m *memo) keep(generation uint64, key string, a answer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.generation != generation || m.writing&a.of != 0 {
		return // it may be of yesterday
	}
	if len(m.kept) >= memoMost {
		clear(m.kept)
	}
	m.kept[key] = a
}

// forget ends all answers.
func (m *memo) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.generation++
	clear(m.kept)
	m.recent.clear(^tables(0))
}

// target finds the tables that a statement writes.
var target = regexp.MustCompile(`(?i)\b(?:INTO|UPDATE(?:\s+OR\s+\w+)?|DELETE\s+FROM|ALTER\s+TABLE|DROP\s+TABLE(?:\s+IF\s+EXISTS)?)\s+(?:ONLY\s+)?"?(\w+)`)

// writ is what a statement writes.
type writ struct {
	any bool
	of  tables
}

// runs is called before a transaction runs a statement: from then on no answer from a table that it writes is given, but for tables of
// which the transaction names the rows itself.
func (m *memo) runs(query string, named tables) writ {
	var w writ
	if known, ok := m.writes.Load(query); ok {
		w = known.(writ)
	} else {
		for _, hit := range target.FindAllStringSubmatch(query, -1) {
			w.any, w.of = true, w.of|tablesOf[strings.ToLower(hit[1])]
		}
		m.writes.Store(query, w)
	}
	of := w.of &^ named
	if of == 0 {
		return w
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writing |= of
	m.generation++
	m.recent.clear(of)
	for key, a := range m.kept {
		if a.of&m.writing != 0 {
			delete(m.kept, key)
		}
	}
	return w
}

// over is called after the end of a transaction; left are rows as it left them, if it is committed.
func (m *memo) over(failed bool, left []rowLeft) {
	m.sole.Release(failed, func() {
		left = nil // what it left may be gone already
		m.forget()
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recent.settle(left, m.writing)
	if m.writing != 0 {
		m.writing = 0
		m.generation++
	}
}

// runs is called before each statement of the transaction, and ran with what became of it.
func (t *tx) runs(query string) {
	t.pool.inTx.Add(1)
	if t.memo != nil {
		t.writes = t.memo.runs(query, t.named).any
	}
}

func (t *tx) ran(res sql.Result, err error) (sql.Result, error) {
	if t.memo != nil && t.writes && !t.wrote && err == nil {
		n, err := res.RowsAffected()
		t.wrote = err != nil || n > 0
	}
	return res, err
}

// begun is called when the transaction has the right to write.
func (t *tx) begun() {
	if t.memo == nil {
		return
	}
	if t.alone = t.memo.sole.Hold(t.memo.forget); !t.alone {
		t.memo.head = nil
	}
}

// sole reports whether what this store remembers of some tables is what the transaction would read of them.
func (t *tx) sole(of tables) (*memo, bool) {
	m := t.memo
	if m == nil || !t.alone {
		return nil, false
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m, m.writing&of == 0
}

// rememberedHead is the evidence head where nobody else can have moved it since the last commit.
func (t *tx) rememberedHead() (h evidenceHead, known bool) {
	if m, ok := t.sole(0); ok && m.head != nil {
		return *m.head, true
	}
	return h, false
}

// blockedKeys are those of the hashes that are blocked.
func (t *tx) blockedKeys(ctx context.Context, hashes []bulkhead.Hash) ([]bulkhead.BlockedKey, error) {
	if m, ok := t.sole(ofBlockedKeys); ok {
		m.mu.RLock()
		all, known := m.kept[blockedAnswer].value.(map[bulkhead.Hash]bulkhead.BlockedKey)
		m.mu.RUnlock()
		if known && all != nil {
			return ofThese(all, hashes), nil
		}
	}
	return blockedKeys(ctx, t.dialect, t, hashes)
}

// committing is called before its commit.
func (t *tx) committing() {
	if t.memo != nil && t.wrote {
		t.memo.sole.Commits()
	}
}

// ended is called when it is over; only the first call counts.
func (t *tx) ended(how outcome) {
	m := t.memo
	if m == nil {
		return
	}
	switch {
	case how == failed:
		m.head = nil
	case how == committed && t.head != nil:
		h := *t.head
		m.head = &h
	}
	if how != committed {
		t.left = nil
	}
	m.over(how == failed, t.left)
	t.memo = nil
}

// outcome is how a transaction ended.
type outcome int

const (
	undone outcome = iota
	committed
	failed // nobody knows
)
