package rel_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/store/internal/rel"
	"bulkhead/store/sqlite"
)

// TestSearchWindow goes through a record that is many windows long: every match is found once, whatever the page.
func TestSearchWindow(t *testing.T) {
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "x.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	const rows = 400
	var list []bulkhead.Reservation
	want := 0
	for n := range rows {
		name := fmt.Sprintf("host%d.example.com", n)
		if n%7 == 0 || n < 20 {
			name, want = fmt.Sprintf("needle%d.example.com", n), want+1
		}
		serial, err := bulkhead.SerialFromBytes([]byte{1, byte(n >> 8), byte(n)})
		if err != nil {
			t.Fatal(err)
		}
		c := bulkhead.Certificate{CertificateRef: bulkhead.CertificateRef{Issuer: "issuing", Serial: serial}, State: bulkhead.Reserved, Kind: bulkhead.LeafCertificate,
			Names: []bulkhead.Identifier{{Type: bulkhead.DNS, Value: name}}, ReservedAt: start, NotBefore: start, NotAfter: start}
		list = append(list, bulkhead.Reservation{Certificate: c, Intent: bulkhead.Evidence{Kind: bulkhead.EvCertificateIntent, At: start, Actor: "role:test", Serial: serial}})
	}
	if _, errs, err := s.Reserve(t.Context(), list); err != nil || errs[0] != nil {
		t.Fatal(err, errs[0])
	}
	for _, window := range []int64{1, 13, 100, rows, rows + 1, 10 * rows} {
		rel.SetSearchWindow(s.Store, window)
		for _, limit := range []int{1, 5, 1000} {
			seen := map[bulkhead.Serial]bool{}
			calls := 0
			for f := (bulkhead.CertificateFilter{Text: "NEEDLE", Limit: limit}); ; calls++ {
				page, next, err := s.Certificates(t.Context(), f)
				if err != nil || calls > rows+1 || len(page) > limit {
					t.Fatalf("window %d, limit %d: %d rows after %d calls, %v", window, limit, len(page), calls, err)
				}
				for _, c := range page {
					if seen[c.Serial] {
						t.Fatalf("window %d, limit %d: %s twice", window, limit, c.Serial)
					}
					seen[c.Serial] = true
				}
				if f.After = next; next == "" {
					break
				}
			}
			if len(seen) != want {
				t.Errorf("window %d, limit %d: %d found, want %d", window, limit, len(seen), want)
			}
		}
	}
}
