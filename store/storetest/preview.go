package storetest

import (
	"slices"
	"testing"
	"time"

	"bulkhead"
)

// testProducts: what an authority has in use, by profile, and the certificates of authorities beside it.
func testProducts(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	const other bulkhead.AuthorityID = "issuing-rsa"
	for n, change := range []func(c *bulkhead.Certificate){
		func(c *bulkhead.Certificate) {},
		func(c *bulkhead.Certificate) { c.NotAfter = at(3000) },
		func(c *bulkhead.Certificate) { c.NotAfter = at(2000) },
		func(c *bulkhead.Certificate) {}, // revoked
		func(c *bulkhead.Certificate) { c.Profile = "a" },
		func(c *bulkhead.Certificate) { c.Profile, c.Kind = "a", bulkhead.InfraCertificate },
		func(c *bulkhead.Certificate) { c.Profile, c.NotAfter = "expired", at(5) },
		func(c *bulkhead.Certificate) { c.Profile, c.Kind = "none", bulkhead.DelegateCertificate },
		func(c *bulkhead.Certificate) { c.Profile, c.Kind = "cross", bulkhead.CACertificate },
		func(c *bulkhead.Certificate) { c.Profile, c.Kind = "cross", bulkhead.CACertificate }, // revoked
		func(c *bulkhead.Certificate) { c.Profile = "" },
	} {
		put(t, s, n, change)
	}
	reserve(t, s, 20)
	revoke(t, s, "change", bulkhead.Superseded, at(1), 3, 9)

	type product struct {
		name    string
		samples []bulkhead.Serial
	}
	var got []product
	for _, p := range value(s.Products(ctx, issuer, at(10), 2))(t) {
		x := product{name: p.Profile}
		for _, c := range p.Samples {
			x.samples = append(x.samples, c.Serial)
		}
		if p.Profile == "a" {
			slices.SortFunc(x.samples, bulkhead.Serial.Compare)
		}
		got = append(got, x)
	}
	a := []bulkhead.Serial{serial(4), serial(5)}
	slices.SortFunc(a, bulkhead.Serial.Compare)
	equal(t, got, []product{{"", []bulkhead.Serial{serial(10)}}, {"a", a}, {"tls-server", []bulkhead.Serial{serial(1), serial(2)}}})
	equal(t, value(s.CountProducts(ctx, issuer, at(10)))(t), map[string]int64{"": 1, "a": 2, "tls-server": 3})
	equal(t, value(s.CountProducts(ctx, issuer, at(1500)))(t), map[string]int64{"tls-server": 2})
	equal(t, len(value(s.Products(ctx, other, at(10), 2))(t)), 0)
	equal(t, value(s.CountProducts(ctx, other, at(10)))(t), map[string]int64{})

	cas := value(s.AuthorityCertificates(ctx))(t)
	states := map[bulkhead.Serial]bulkhead.CertificateState{}
	for _, c := range cas {
		states[c.Certificate.Serial] = c.Certificate.State
		n := 8
		if c.Certificate.Serial == serial(9) {
			n = 9
		}
		equal(t, c.DER, der(n))
	}
	equal(t, states, map[bulkhead.Serial]bulkhead.CertificateState{serial(8): bulkhead.Issued, serial(9): bulkhead.Revoked})

	rows := value(s.CertificatesBySerial(ctx, issuer, []bulkhead.Serial{serial(3), serial(20), serial(3), serial(77)}))(t)
	slices.SortFunc(rows, func(a, b bulkhead.Certificate) int { return int(a.IntentSeq - b.IntentSeq) })
	equal(t, len(rows), 2)
	for i, n := range []int{3, 20} {
		want, _, err := s.Certificate(ctx, ref(n))
		ok(t, err)
		equal(t, rows[i], want)
	}
}

// testTwins: certificates that share a key, whoever issued them.
func testTwins(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	key := digest("shared", 1)
	for n := range 7 {
		put(t, s, n, func(c *bulkhead.Certificate) {
			if n > 0 {
				c.KeyHash = key
			}
			if n == 1 {
				c.Kind = bulkhead.CACertificate
			}
			if n == 2 {
				c.NotAfter = at(5)
			}
		})
	}
	revoke(t, s, "change", bulkhead.Superseded, at(1), 3)
	find := func(limit int, at time.Time, keys ...bulkhead.Hash) (out []int) {
		for _, c := range value(s.Twins(ctx, keys, at, limit))(t) {
			for n := range 7 {
				if c.CertificateRef == ref(n) {
					out = append(out, n)
				}
			}
		}
		slices.Sort(out)
		return out
	}
	equal(t, find(10, at(10), key), []int{1, 4, 5, 6})
	equal(t, find(10, at(10), key, digest("key", 0), key, digest("key", 99)), []int{0, 1, 4, 5, 6})
	equal(t, find(10, at(0), key), []int{1, 2, 4, 5, 6})
	equal(t, len(find(2, at(10), key)), 2)
	equal(t, len(find(10, at(10))), 0)
}
