package storetest

import (
	"testing"
	"time"

	"bulkhead"
)

// Bench measures what the critical path asks of an engine. Figures are per certificate, certificates/s beside them.
func Bench(b *testing.B, fresh Fresh) {
	for _, c := range []struct {
		name  string
		bench func(b *testing.B, s Store)
	}{
		{"Issue/batch=1", func(b *testing.B, s Store) { benchIssue(b, s, 1) }},
		{"Issue/batch=50", func(b *testing.B, s Store) { benchIssue(b, s, 50) }},
		{"Issue/batch=500", func(b *testing.B, s Store) { benchIssue(b, s, 500) }},
		{"Activate", benchActivate},
		{"Revoked", benchRevoked},
		{"StatusPage", benchStatusPage},
	} {
		b.Run(c.name, func(b *testing.B) { c.bench(b, fresh(b)(b, nil)) })
	}
}

// benchReservation is a reservation of ordinary size: two names, an account, an order.
func benchReservation(n int) bulkhead.Reservation {
	r := reservation(n)
	name := digest("name", n).String()[:12] + ".example.com"
	r.Certificate.Names = []bulkhead.Identifier{{Type: bulkhead.DNS, Value: name}, {Type: bulkhead.DNS, Value: "www." + name}}
	r.Certificate.Subject = "CN=" + name
	r.Certificate.AccountID, r.Certificate.OrderID = "account-"+name[:2], "order-"+name
	return r
}

// benchCompletion carries a certificate of ordinary size, 1,000 octets.
func benchCompletion(n int) bulkhead.Completion {
	c := completion(n)
	for len(c.DER) < 1000 {
		h := digest("fill", len(c.DER))
		c.DER = append(c.DER, h[:]...)
	}
	c.Outcome.Digest = bulkhead.Digest(c.DER)
	return c
}

func benchIssue(b *testing.B, s Store, batch int) {
	n := 0
	for b.Loop() {
		issueBatch(b, s, n, batch)
		n += batch
	}
	report(b, n)
}

func issueBatch(b *testing.B, s Store, from, batch int) {
	ns := numbers(from, from+batch)
	seqs, errs, err := s.Reserve(b.Context(), each(ns, benchReservation))
	settled(b, seqs, errs, err, batch)
	seqs, errs, err = s.Complete(b.Context(), each(ns, benchCompletion))
	settled(b, seqs, errs, err, batch)
}

// population is the number of certificates under the measurements of status.
const population = 20_000

func populate(b *testing.B, s Store) {
	for from := 0; from < population; from += 500 {
		issueBatch(b, s, from, 500)
	}
}

// benchActivate measures changes of 1,000 certificates each; making the change is not counted.
func benchActivate(b *testing.B, s Store) {
	const size = 1000
	n, total := 0, 0
	for b.Loop() {
		b.StopTimer()
		for from := n; from < n+size; from += 500 {
			issueBatch(b, s, from, 500)
		}
		c := stage(b, s, serial(n).String(), items(bulkhead.Superseded, at(5), numbers(n, n+size)...))
		head := nextHead(b, s)
		b.StartTimer()
		ok(b, s.Activate(b.Context(), c, head, nil, event("activated")))
		n += size
		total += size
	}
	report(b, total)
}

func benchRevoked(b *testing.B, s Store) {
	populate(b, s)
	revoke(b, s, "all", bulkhead.Superseded, at(5), numbers(0, population)...)
	total := 0
	for b.Loop() {
		for _, err := range s.Revoked(b.Context(), issuer, 1, at(0)) {
			ok(b, err)
			total++
		}
	}
	report(b, total)
}

func benchStatusPage(b *testing.B, s Store) {
	populate(b, s)
	total := 0
	for b.Loop() {
		for after := (bulkhead.Serial{}); ; {
			page, err := s.StatusPage(b.Context(), issuer, after, time.Time{}, 1000)
			ok(b, err)
			if len(page) == 0 {
				break
			}
			after = page[len(page)-1].Serial
			total += len(page)
		}
	}
	report(b, total)
}

func report(b *testing.B, certificates int) {
	b.ReportMetric(float64(certificates)/b.Elapsed().Seconds(), "certificates/s")
	b.ReportMetric(0, "ns/op")
}

// Large activates one change of n certificates, and checks it. It is for a run by hand: with a million it takes
// minutes.
func Large(t testing.TB, s Store, n int) {
	for from := 0; from < n; from += 500 {
		ns := numbers(from, min(from+500, n))
		reserve(t, s, ns...)
		complete(t, s, ns...)
	}
	t.Logf("%d certificates issued", n)
	began := time.Now()
	c := stage(t, s, "large", items(bulkhead.KeyCompromise, at(5), numbers(0, n)...))
	t.Logf("change made in %s", time.Since(began).Round(time.Millisecond))
	began = time.Now()
	ok(t, s.Activate(t.Context(), c, nextHead(t, s), nil, event("activated")))
	t.Logf("activated in %s", time.Since(began).Round(time.Millisecond))
	began = time.Now()
	seen := 0
	for shard := range 4 {
		last := bulkhead.Serial{}
		for v, err := range s.Revoked(t.Context(), issuer, shard, at(0)) {
			ok(t, err)
			if last.Compare(v.Serial) >= 0 {
				t.Fatal("out of order")
			}
			last, seen = v.Serial, seen+1
		}
	}
	equal(t, seen, n)
	t.Logf("%d revoked rows read in %s", seen, time.Since(began).Round(time.Millisecond))
}
