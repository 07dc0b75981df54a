package rel_test

import (
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/store/internal/rel"
	"bulkhead/store/sqlite"
)

// planted is a record of certificates of two authorities, in turns, of which some are only reserved.
type planted struct {
	*sqlite.Store
	t      *testing.T
	now    time.Time
	issued int
	head   uint64
}

func plant(t *testing.T, rows int, reserved func(n int) bool) *planted {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "x.db")})
	fine(t, err)
	t.Cleanup(func() { _ = s.Close() })
	p := &planted{Store: s, t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	var reserve []bulkhead.Reservation
	var complete []bulkhead.Completion
	for n := range rows {
		c := bulkhead.Certificate{CertificateRef: p.ref(n), State: bulkhead.Reserved, Kind: bulkhead.LeafCertificate, Shard: n % 3, ReservedAt: p.now, NotBefore: p.now, NotAfter: p.now.Add(time.Duration(n) * time.Hour)}
		ev := bulkhead.Evidence{Kind: bulkhead.EvCertificateIntent, At: p.now, Actor: "role:test", Authority: c.Issuer, Serial: c.Serial}
		reserve = append(reserve, bulkhead.Reservation{Certificate: c, Intent: ev})
		if !reserved(n) {
			ev.Kind = bulkhead.EvCertificateOutcome
			complete = append(complete, bulkhead.Completion{CertificateRef: c.CertificateRef, DER: []byte{byte(n)}, Outcome: ev})
		}
	}
	_, errs, err := s.Reserve(t.Context(), reserve)
	fine(t, err)
	fine(t, errs[0])
	_, errs, err = s.Complete(t.Context(), complete)
	fine(t, err)
	fine(t, errs[0])
	p.issued = len(complete)
	return p
}

func (p *planted) ref(n int) bulkhead.CertificateRef {
	serial, err := bulkhead.SerialFromBytes([]byte{byte(n*37%251 + 1), byte(n >> 8), byte(n)})
	fine(p.t, err)
	return bulkhead.CertificateRef{Issuer: []bulkhead.AuthorityID{"one", "two"}[n%2], Serial: serial}
}

// change stages a change of the certificates from first to last-1 that it is of, with dates that apart has differ.
func (p *planted) change(id string, first, last int, of func(n int) bool, reason bulkhead.Reason, apart time.Duration) bulkhead.Change {
	var items []bulkhead.ChangeItem
	for n := first; n < last; n++ {
		if of(n) {
			items = append(items, bulkhead.ChangeItem{CertificateRef: p.ref(n), Reason: reason, RevokedAt: p.now.Add(time.Duration(n%5) * apart)})
		}
	}
	c := bulkhead.Change{ID: id, State: bulkhead.ChangeStaged, Count: len(items), CreatedAt: p.now}
	fine(p.t, p.CreateChange(p.t.Context(), c, items))
	return c
}

func (p *planted) activate(c bulkhead.Change) {
	p.t.Helper()
	p.head++
	fine(p.t, p.Activate(p.t.Context(), c, bulkhead.HeadRecord{Sequence: p.head, Body: []byte("head"), At: p.now}, nil))
}

// read reads a change under an issuer, by pages when it has so many items.
func (p *planted) read(id string, issuer bulkhead.AuthorityID, least int64) (list []bulkhead.AffectedStatus) {
	rel.SetBulkItems(p.Store.Store, least)
	for a, err := range p.Affected(p.t.Context(), id, issuer) {
		fine(p.t, err)
		list = append(list, a)
	}
	return list
}

// TestAffectedByPages: a change that is read page by page is the one that is read by statements, whatever states its rows
// are in and whatever lies among them, before its activation and after it.
func TestAffectedByPages(t *testing.T) {
	const rows = 600
	reserved := func(n int) bool { return n%11 == 0 }
	p := plant(t, rows, reserved)
	same := func(id string, want int) {
		t.Helper()
		total := 0
		for _, issuer := range []bulkhead.AuthorityID{"one", "two", "none"} {
			byRow, byPage := p.read(id, issuer, 1<<40), p.read(id, issuer, 1)
			if !reflect.DeepEqual(byRow, byPage) {
				t.Errorf("%s under %s: %d rows, page by page %d", id, issuer, len(byRow), len(byPage))
			}
			total += len(byRow)
		}
		if total != want {
			t.Errorf("%s has %d rows, want %d", id, total, want)
		}
	}
	p.activate(p.change("some", 0, rows, func(n int) bool { return !reserved(n) && n%4 == 0 }, bulkhead.Superseded, time.Minute))
	p.change("all", 0, rows-7, func(int) bool { return true }, bulkhead.KeyCompromise, time.Minute)
	same("all", rows-7)
	upgrade := p.change("upgrade", 0, rows, func(n int) bool { return !reserved(n) }, bulkhead.KeyCompromise, time.Minute)
	p.activate(upgrade)
	same("upgrade", p.issued)
	same("all", rows-7)
}

// TestLocatedCost: once a change was read by pages it is known where its rows lie. The commit then moves neighbours by one
// statement, however many there are, and finding them was none.
func TestLocatedCost(t *testing.T) {
	p := plant(t, 900, func(int) bool { return false })
	cost := func(id string, first, last int) (finding, moving int64) {
		t.Helper()
		c := p.change(id, first, last, func(int) bool { return true }, bulkhead.Superseded, 0)
		for _, issuer := range []bulkhead.AuthorityID{"one", "two"} {
			if n := len(p.read(id, issuer, 1)); n != (last-first)/2 {
				t.Fatalf("%s has %d rows under %s", id, n, issuer)
			}
		}
		out, in := p.Statements()
		fine(t, p.Locate(t.Context(), id))
		found, _ := p.Statements()
		p.activate(c)
		_, moved := p.Statements()
		for n := first; n < last; n++ {
			got, _, err := p.Certificate(t.Context(), p.ref(n))
			fine(t, err)
			if got.State != bulkhead.Revoked || got.Reason != bulkhead.Superseded || !got.RevokedAt.Equal(p.now) {
				t.Fatalf("%s: certificate %d is %s", id, n, got.State)
			}
		}
		return found - out, moved - in
	}
	cost("warm", 0, 10)
	findFew, moveFew := cost("few", 20, 220)
	findMany, moveMany := cost("many", 240, 840)
	if findFew != findMany || moveFew != moveMany {
		t.Errorf("200 rows take %d statements to find and %d to move, 600 %d and %d", findFew, moveFew, findMany, moveMany)
	}
	got, _, err := p.Certificate(t.Context(), p.ref(840))
	fine(t, err)
	if got.State != bulkhead.Issued {
		t.Errorf("the neighbour of the change is %s", got.State)
	}
}

func fine(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
