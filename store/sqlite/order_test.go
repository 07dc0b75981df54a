package sqlite_test

import (
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"bulkhead/store/sqlite"
	"bulkhead/store/storetest"
)

func cpu() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return float64(u.Utime.Sec+u.Stime.Sec)*1e6 + float64(u.Utime.Usec+u.Stime.Usec)
}

// BenchmarkOrder measures what the record costs an order of a lone client.
func BenchmarkOrder(b *testing.B) {
	path := filepath.Join(b.TempDir(), "x.db")
	s, err := sqlite.Open(b.Context(), sqlite.Config{Path: path})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	storetest.Placing(b, s)
	n := 0
	for ; n < 2000; n++ {
		storetest.PlaceOne(b, s, n, func(string) {})
	}
	var batches []float64 // on a busy machine the cheaper ones say what an order costs
	for b.Loop() {
		began := cpu()
		for range 20 {
			storetest.PlaceOne(b, s, n, func(string) {})
			n++
		}
		batches = append(batches, (cpu()-began)/20)
	}
	slices.Sort(batches)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(batches[len(batches)/2], "cpu-us/order")
	b.ReportMetric(batches[len(batches)/10], "cpu-us/order-p10")
	for frames := int64(0); frames <= 0; { // a log that was begun anew has few
		at := s.LogFrames()
		for range 50 {
			storetest.PlaceOne(b, s, n, func(string) {})
			n++
		}
		frames = s.LogFrames() - at
		b.ReportMetric(float64(frames)/50, "frames/order")
	}
}

// TestOrderCost holds what an order costs that does not depend on the machine: frames of the log, each of which is a page with its
// checksum and two writes, and statements in transactions.
func TestOrderCost(t *testing.T) {
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "x.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	storetest.Placing(t, s)
	n := 0
	place := func(orders int, step func(string)) {
		for end := n + orders; n < end; n++ {
			storetest.PlaceOne(t, s, n, step)
		}
	}
	place(10, func(string) {}) // which prepare the statements
	const orders = 40
	frames := s.LogFrames()
	_, statements := s.Statements()
	place(orders, func(string) {})
	if got := float64(s.LogFrames()-frames) / orders; got > mostFrames {
		t.Errorf("%.1f frames of an order, at most %.1f", got, mostFrames)
	}
	_, now := s.Statements()
	if got := float64(now-statements) / orders; got > mostStatements {
		t.Errorf("%.1f statements of an order, at most %d", got, mostStatements)
	}
}

const (
	mostFrames     = 54.0
	mostStatements = 26
)
