package sqlite_test

import (
	"context"
	"database/sql"
	"fmt"
	"math/big"
	"path/filepath"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/store/sqlite"
)

// TestImportWritesOnce: the row of a new certificate is written once, as it ends, revoked or not: an update for each, with
// every index that it moves, was a third of an import.
func TestImportWritesOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`CREATE TRIGGER once BEFORE UPDATE ON certificates BEGIN SELECT RAISE(ABORT, 'written twice'); END`); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	items := foreign(t, 100, func(i int, it *bulkhead.Imported) {
		it.Revocation = it.Leaf
		it.Revocation.Kind = bulkhead.EvImportedRevocation
		if i%3 == 0 {
			it.Certificate.State, it.Certificate.RevokedAt, it.Certificate.Reason = bulkhead.Revoked, now, bulkhead.Superseded
		}
	})
	before, _ := s.Commits()
	if _, err := imported(t.Context(), s, items); err != nil {
		t.Fatal(err)
	}
	if after, _ := s.Commits(); after-before != 1 {
		t.Errorf("%d transactions", after-before)
	}
	items[1].Certificate.State, items[1].Certificate.RevokedAt = bulkhead.Revoked, now
	if _, err := imported(t.Context(), s, items); err == nil { // the trigger is not blind
		t.Error("a later revocation updates its row, and nobody noticed")
	}
}

// TestImportStatements: a large batch takes a statement of each table for 256 of its certificates, and no look for each.
func TestImportStatements(t *testing.T) {
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const n = 2048
	_, before := s.Statements()
	if _, err := imported(t.Context(), s, foreign(t, n, nil)); err != nil {
		t.Fatal(err)
	}
	_, after := s.Statements()
	const tables, around = 4, 3 // around: the head of the evidence before and after, and a look for the first and the last certificate
	if got := after - before; got > n/256*tables+around {
		t.Errorf("%d certificates took %d statements", n, got)
	}
}

// foreign are n certificates as an import brings them, changed.
func foreign(t *testing.T, n int, change func(i int, it *bulkhead.Imported)) []bulkhead.Imported {
	t.Helper()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	items := make([]bulkhead.Imported, n)
	for i := range items {
		serial, err := bulkhead.SerialFromBig(big.NewInt(int64(i + 1)))
		if err != nil {
			t.Fatal(err)
		}
		der := fmt.Appendf(nil, "certificate %d", i)
		it := bulkhead.Imported{DER: der, Certificate: bulkhead.Certificate{CertificateRef: bulkhead.CertificateRef{Issuer: "old-ca", Serial: serial}, Kind: bulkhead.LeafCertificate, State: bulkhead.Issued,
			Profile: "imported", Names: []bulkhead.Identifier{{Type: bulkhead.DNS, Value: fmt.Sprintf("h%d.example", i)}}, Fingerprint: bulkhead.Digest(der), NotBefore: now, NotAfter: now.Add(time.Hour), ReservedAt: now}}
		it.Leaf = bulkhead.Evidence{Kind: bulkhead.EvImportedCertificate, At: now, Authority: "old-ca", Serial: serial, Digest: it.Certificate.Fingerprint}
		if change != nil {
			change(i, &it)
		}
		items[i] = it
	}
	return items
}

// imported commits items.
func imported(ctx context.Context, s *sqlite.Store, items []bulkhead.Imported) ([]bulkhead.ImportResult, error) {
	commit, err := s.PrepareImport(items)
	if err != nil {
		return nil, err
	}
	return commit(ctx)
}
