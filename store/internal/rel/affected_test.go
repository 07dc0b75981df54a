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

// TestAffectedByPages: a change that is read page by page is the one that is read by statements, whatever states its rows
// are in and whatever lies among them, before its activation and after it.
func TestAffectedByPages(t *testing.T) {
	ctx := t.Context()
	s, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(t.TempDir(), "x.db")})
	fine(t, err)
	defer s.Close()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	const rows = 600
	ref := func(n int) bulkhead.CertificateRef {
		serial, err := bulkhead.SerialFromBytes([]byte{byte(n*37%251 + 1), byte(n >> 8), byte(n)})
		fine(t, err)
		return bulkhead.CertificateRef{Issuer: []bulkhead.AuthorityID{"one", "two"}[n%2], Serial: serial}
	}
	var reserve []bulkhead.Reservation
	var complete []bulkhead.Completion
	for n := range rows {
		c := bulkhead.Certificate{CertificateRef: ref(n), State: bulkhead.Reserved, Kind: bulkhead.LeafCertificate, Shard: n % 3, ReservedAt: now, NotBefore: now, NotAfter: now.Add(time.Duration(n) * time.Hour)}
		ev := bulkhead.Evidence{Kind: bulkhead.EvCertificateIntent, At: now, Actor: "role:test", Authority: c.Issuer, Serial: c.Serial}
		reserve = append(reserve, bulkhead.Reservation{Certificate: c, Intent: ev})
		if n%11 != 0 { // the others stay reserved
			ev.Kind = bulkhead.EvCertificateOutcome
			complete = append(complete, bulkhead.Completion{CertificateRef: c.CertificateRef, DER: []byte{byte(n)}, Outcome: ev})
		}
	}
	_, errs, err := s.Reserve(ctx, reserve)
	fine(t, err)
	fine(t, errs[0])
	_, errs, err = s.Complete(ctx, complete)
	fine(t, err)
	fine(t, errs[0])
	head := uint64(0)
	change := func(id string, of func(n int) bool, reason bulkhead.Reason) bulkhead.Change {
		var items []bulkhead.ChangeItem
		for n := range rows {
			if of(n) {
				items = append(items, bulkhead.ChangeItem{CertificateRef: ref(n), Reason: reason, RevokedAt: now.Add(time.Duration(n%5) * time.Minute)})
			}
		}
		c := bulkhead.Change{ID: id, State: bulkhead.ChangeStaged, Count: len(items), CreatedAt: now}
		fine(t, s.CreateChange(ctx, c, items))
		return c
	}
	activate := func(c bulkhead.Change) {
		head++
		fine(t, s.Activate(ctx, c, bulkhead.HeadRecord{Sequence: head, Body: []byte("head"), At: now}, nil))
	}
	read := func(id string, issuer bulkhead.AuthorityID, least int64) (list []bulkhead.AffectedStatus) {
		rel.SetBulkItems(s.Store, least)
		for a, err := range s.Affected(ctx, id, issuer) {
			fine(t, err)
			list = append(list, a)
		}
		return list
	}
	same := func(id string, want int) {
		t.Helper()
		total := 0
		for _, issuer := range []bulkhead.AuthorityID{"one", "two", "none"} {
			byRow := read(id, issuer, 1<<40)
			byPage := read(id, issuer, 1)
			if !reflect.DeepEqual(byRow, byPage) {
				t.Errorf("%s under %s: %d rows, page by page %d", id, issuer, len(byRow), len(byPage))
			}
			total += len(byRow)
		}
		if total != want {
			t.Errorf("%s has %d rows, want %d", id, total, want)
		}
	}
	activate(change("some", func(n int) bool { return n%11 != 0 && n%4 == 0 }, bulkhead.Superseded))
	change("all", func(n int) bool { return n < rows-7 }, bulkhead.KeyCompromise)
	same("all", rows-7)
	upgrade := change("upgrade", func(n int) bool { return n%11 != 0 }, bulkhead.KeyCompromise)
	activate(upgrade)
	same("upgrade", len(complete))
	same("all", rows-7)
}

func fine(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
