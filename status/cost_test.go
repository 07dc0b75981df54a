package status_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/status"
	"bulkhead/store/sqlite"
)

// counted counts what a preview asks of the record, and the rows that come back.
type counted struct {
	*sqlite.Store
	calls, rows int
}

func tally[T any](c *counted, rows []T, err error) ([]T, error) {
	c.calls++
	c.rows += len(rows)
	return rows, err
}

func (c *counted) Certificate(ctx context.Context, ref bulkhead.CertificateRef) (bulkhead.Certificate, []byte, error) {
	c.calls++
	c.rows++
	return c.Store.Certificate(ctx, ref)
}

func (c *counted) CertificatesBySerial(ctx context.Context, issuer bulkhead.AuthorityID, serials []bulkhead.Serial) ([]bulkhead.Certificate, error) {
	rows, err := c.Store.CertificatesBySerial(ctx, issuer, serials)
	return tally(c, rows, err)
}

func (c *counted) Statuses(ctx context.Context, issuer bulkhead.AuthorityID, serials []bulkhead.Serial) ([]bulkhead.Status, error) {
	rows, err := c.Store.Statuses(ctx, issuer, serials)
	return tally(c, rows, err)
}

func (c *counted) StatusPage(ctx context.Context, issuer bulkhead.AuthorityID, after bulkhead.Serial, from time.Time, limit int) ([]bulkhead.Status, error) {
	rows, err := c.Store.StatusPage(ctx, issuer, after, from, limit)
	return tally(c, rows, err)
}

func (c *counted) StatusSince(ctx context.Context, issuer bulkhead.AuthorityID, seq int64, limit int) ([]bulkhead.Status, error) {
	rows, err := c.Store.StatusSince(ctx, issuer, seq, limit)
	return tally(c, rows, err)
}

func (c *counted) AuthorityCertificates(ctx context.Context) ([]bulkhead.IssuedCertificate, error) {
	rows, err := c.Store.AuthorityCertificates(ctx)
	return tally(c, rows, err)
}

func (c *counted) Twins(ctx context.Context, keys []bulkhead.Hash, t time.Time, limit int) ([]bulkhead.Certificate, error) {
	rows, err := c.Store.Twins(ctx, keys, t, limit)
	return tally(c, rows, err)
}

func (c *counted) Products(ctx context.Context, issuer bulkhead.AuthorityID, t time.Time, samples int) ([]bulkhead.Product, error) {
	rows, err := c.Store.Products(ctx, issuer, t, samples)
	for _, p := range rows {
		c.rows += len(p.Samples)
	}
	return tally(c, rows, err)
}

func (c *counted) CountProducts(ctx context.Context, issuer bulkhead.AuthorityID, t time.Time) (map[string]int64, error) {
	c.calls += 1_000_000 // reads an entry for each certificate: never for a leaf
	return c.Store.CountProducts(ctx, issuer, t)
}

// TestPreviewCost: what the preview of one certificate reads does not depend on how many there are. What the engine reads
// for it is held by TestPreviewReadsIndexes of the store.
func TestPreviewCost(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	c := &counted{Store: h.store.(*sqlite.Store)}
	s, err := status.New(status.Config{Store: c, Signer: h.door, Objects: h.objects, HeadVerifier: h.verifier, Now: h.now})
	ok(t, err)
	cost := func(ref bulkhead.CertificateRef) string {
		plan, err := s.Plan(t.Context(), "test", "why", items(bulkhead.Superseded, ref))
		ok(t, err)
		c.calls, c.rows = 0, 0
		p, _, err := s.Preview(t.Context(), plan.ID)
		ok(t, err)
		if p.AnswersChanged != 1 || len(p.Blocked) != 0 {
			t.Fatalf("%+v", p)
		}
		return fmt.Sprintf("%d calls, %d rows, %d answers", c.calls, c.rows, p.Shadow.Recomputed)
	}
	few := h.populate(caA, 20)
	h.populate(caB, 20)
	small := cost(few[0])
	many := h.populate(caA, 3000)
	h.populate(caB, 3000)
	if large := cost(many[1]); large != small {
		t.Errorf("one among 40: %s; one among 6,040: %s", small, large)
	}
}

// populate plants n certificates in large transactions and publishes nothing.
func (h *house) populate(issuer bulkhead.AuthorityID, n int) []bulkhead.CertificateRef {
	h.t.Helper()
	ctx := context.Background()
	shards := h.authority(issuer).Shards
	var refs []bulkhead.CertificateRef
	for from := 0; from < n; from += 1000 {
		var open []bulkhead.Reservation
		var done []bulkhead.Completion
		for range min(1000, n-from) {
			k := h.serials.Add(1)
			key := bulkhead.Digest([]byte(strconv.FormatInt(k, 10)))
			key[0] = 1
			serial, err := bulkhead.SerialFromBytes(key[:16])
			ok(h.t, err)
			ref := bulkhead.CertificateRef{Issuer: issuer, Serial: serial}
			der := []byte("certificate " + serial.String())
			ev := bulkhead.Evidence{Kind: bulkhead.EvCertificateIntent, At: h.now(), Actor: "test", Authority: issuer, Serial: serial, KeyHash: key, Digest: bulkhead.Digest(der)}
			open = append(open, bulkhead.Reservation{Intent: ev, Certificate: bulkhead.Certificate{CertificateRef: ref, Kind: bulkhead.LeafCertificate, State: bulkhead.Reserved,
				Profile: []string{"tls-server", "tls-short", "mail"}[k%3], Names: []bulkhead.Identifier{{Type: bulkhead.DNS, Value: fmt.Sprintf("h%d.test", k)}}, KeyHash: key,
				NotBefore: h.now().Add(-time.Hour), NotAfter: h.now().Add(time.Duration(40*24*3600+k) * time.Second), ReservedAt: h.now(), Shard: int(k) % shards}})
			ev.Kind, ev.Link = bulkhead.EvCertificateOutcome, ev.Digest
			done = append(done, bulkhead.Completion{CertificateRef: ref, DER: der, Outcome: ev})
			refs = append(refs, ref)
		}
		_, errs, err := h.store.Reserve(ctx, open)
		ok(h.t, err)
		ok(h.t, errs[0])
		_, errs, err = h.store.Complete(ctx, done)
		ok(h.t, err)
		ok(h.t, errs[0])
	}
	return refs
}

// benchmarked is the population of the benchmarks; BULKHEAD_TORTURE makes it a million.
func benchmarked() int {
	if os.Getenv("BULKHEAD_TORTURE") != "" {
		return 1_000_000
	}
	return 50_000
}

// BenchmarkPreview measures the preview of one certificate, and of an authority with everything below it, against reading
// all status rows of that authority once, in the order of serial numbers as a refresh does, and in the order of issuance,
// which is how the table lies. Figures are ratios to a reading in the same run.
func BenchmarkPreview(b *testing.B) {
	d := newDay2016(b)
	refs := d.populate("domain", benchmarked())
	preview := func(reason bulkhead.Reason, ref bulkhead.CertificateRef, lost int64) time.Duration {
		plan, err := d.status.Plan(b.Context(), "test", "why", items(reason, ref))
		ok(b, err)
		began := time.Now()
		p, _, err := d.status.Preview(b.Context(), plan.ID)
		took := time.Since(began)
		ok(b, err)
		if lost > 0 && (len(p.PathsLost) == 0 || p.PathsLost[0].Leaves != lost || p.Shadow.Recomputed < lost) {
			b.Fatalf("%d answers recomputed; %+v", p.Shadow.Recomputed, p.PathsLost)
		}
		return took
	}
	index := func() time.Duration {
		began := time.Now()
		for after, n := (bulkhead.Serial{}), 1; n > 0; {
			page, err := d.store.StatusPage(b.Context(), "domain", after, time.Time{}, 1000)
			ok(b, err)
			if n = len(page); n > 0 {
				after = page[n-1].Serial
			}
		}
		return time.Since(began)
	}
	table := func() time.Duration {
		began := time.Now()
		for after, n := int64(0), 1; n > 0; {
			page, err := d.store.StatusSince(b.Context(), "domain", after, 2000)
			ok(b, err)
			if n = len(page); n > 0 {
				after = page[n-1].Seq
			}
		}
		return time.Since(began)
	}
	var one, authority, byIndex, byTable time.Duration
	n := 0
	for b.Loop() {
		byIndex, byTable = byIndex+index(), byTable+table()
		one += preview(bulkhead.Superseded, refs[n], 0)
		authority += preview(bulkhead.CessationOfOperation, d.refs["domain"], int64(12+benchmarked()))
		n++
	}
	b.ReportMetric(float64(one)/float64(byIndex), "one/index")
	b.ReportMetric(float64(authority)/float64(byTable), "authority/rows")
	b.ReportMetric(one.Seconds()*1000/float64(n), "ms/one")
	b.ReportMetric(authority.Seconds()*1000/float64(n), "ms/authority")
	b.ReportMetric(0, "ns/op")
}
