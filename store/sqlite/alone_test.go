package sqlite_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/store/sqlite"
)

// TestAlone: a file that nobody else has is read itself while its log is empty, and is what SQLite says; what stands in the log only
// is seen as well.
func TestAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record.db")
	add := func(s *sqlite.Store, n int) {
		t.Helper()
		for i := range n {
			if _, err := s.AppendEvidence(t.Context(), bulkhead.Evidence{Kind: bulkhead.EvCertificateIntent, At: time.Unix(int64(i), 0), Ref: "r"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	all := func(s *sqlite.Store) (out []string) {
		t.Helper()
		for row, err := range s.EvidenceRange(t.Context(), 0, 0) {
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, string(row.Leaf)+row.Chain.String())
		}
		return out
	}
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	add(s, 300)
	want := all(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err = sqlite.Open(t.Context(), sqlite.Config{Path: path, Alone: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if info, err := os.Stat(path + "-wal"); err == nil && info.Size() > 0 {
		t.Fatalf("opening wrote a log of %d octets: the file is never read itself", info.Size())
	}
	if got := all(s); len(got) != 300 || got[299] != want[299] || got[0] != want[0] {
		t.Errorf("%d rows", len(got))
	}
	add(s, 5)
	if got := all(s); len(got) != 305 {
		t.Errorf("%d rows with those of the log", len(got))
	}
}
