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
	items := make([]bulkhead.Imported, 100)
	for i := range items {
		serial, err := bulkhead.SerialFromBig(big.NewInt(int64(i + 1)))
		if err != nil {
			t.Fatal(err)
		}
		der := fmt.Appendf(nil, "certificate %d", i)
		it := bulkhead.Imported{DER: der, Certificate: bulkhead.Certificate{CertificateRef: bulkhead.CertificateRef{Issuer: "old-ca", Serial: serial}, Kind: bulkhead.LeafCertificate, State: bulkhead.Issued,
			Profile: "imported", Fingerprint: bulkhead.Digest(der), NotBefore: now, NotAfter: now.Add(time.Hour)}}
		it.Leaf = bulkhead.Evidence{Kind: bulkhead.EvImportedCertificate, At: now, Authority: "old-ca", Serial: serial, Digest: it.Certificate.Fingerprint}
		it.Revocation = it.Leaf
		it.Revocation.Kind = bulkhead.EvImportedRevocation
		if i%3 == 0 {
			it.Certificate.State, it.Certificate.RevokedAt, it.Certificate.Reason = bulkhead.Revoked, now, bulkhead.Superseded
		}
		items[i] = it
	}
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

// imported commits items.
func imported(ctx context.Context, s *sqlite.Store, items []bulkhead.Imported) ([]bulkhead.ImportResult, error) {
	commit, err := s.PrepareImport(items)
	if err != nil {
		return nil, err
	}
	return commit(ctx)
}
