package edge

import (
	"crypto/ecdsa"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"bulkhead/pki/ocsp"
)

// question is everything that a CertID says.
type question struct {
	name, key int
	serial    int64
	hash      ocsp.HashAlgorithm
}

// TestOneChangeOneAnswer is promise P1 as the world sees it. Hierarchies are drawn in which issuers share names, and
// issuers share keys (cross-certificates and rotations), and in which the same serials are under all of them. All
// questions that names, keys, serials and hashes can make are asked; then the answer of one (issuer, serial) changes;
// of all questions only those two (SHA-1 and SHA-256) for it may be answered differently.
func TestOneChangeOneAnswer(t *testing.T) {
	const pool = 3
	keys := make([]*ecdsa.PrivateKey, pool)
	for i := range keys {
		keys[i] = newKey(t)
	}
	all := map[[2]int]*authority{}
	for n := range pool {
		for k := range pool {
			all[[2]int{n, k}] = newAuthority(t, fmt.Sprintf("n%d-k%d", n, k), fmt.Sprintf("Name %d", n), keys[k])
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		var pairs [][2]int
		for n := range pool {
			for k := range pool {
				pairs = append(pairs, [2]int{n, k})
			}
		}
		issuers := rapid.SliceOfNDistinct(rapid.SampledFrom(pairs), 1, 4, rapid.ID).Draw(rt, "issuers")
		serials := rapid.SliceOfNDistinct(rapid.Int64Range(1, 12), 2, 5, rapid.ID).Draw(rt, "serials")
		for _, p := range issuers {
			var base []answer
			for _, s := range rapid.SliceOfNDistinct(rapid.SampledFrom(serials), 1, len(serials), rapid.ID).Draw(rt, "issued") {
				base = append(base, w.good(s))
			}
			w.add(all[p], base...)
		}
		w.publish()
		e := w.refreshed()
		askAll := func() map[question]string {
			out := map[question]string{}
			for n := range pool {
				for k := range pool {
					for s := int64(1); s <= 12; s++ {
						for _, h := range []ocsp.HashAlgorithm{ocsp.SHA1, ocsp.SHA256} {
							out[question{n, k, s, h}] = string(e.askFor(t, all[[2]int{n, k}].request(t, h, s)))
						}
					}
				}
			}
			return out
		}
		before := askAll()
		p := rapid.SampledFrom(issuers).Draw(rt, "changed issuer")
		s := rapid.SampledFrom(serials).Draw(rt, "changed serial")
		x := w.revoked(s)
		x.next = x.next.Add(time.Minute)
		w.add(all[p], x)
		w.head.Issuer(all[p].id).Epoch++
		w.publish()
		if err := e.Refresh(t.Context()); err != nil {
			rt.Fatal(err)
		}
		for q, now := range askAll() {
			mine := q.name == p[0] && q.key == p[1] && q.serial == s
			if mine != (now != before[q]) {
				rt.Fatalf("revoking serial %d of %v: %+v changed: %v", s, p, q, now != before[q])
			}
			if mine && all[p].stateOf(t, []byte(now), s, w.clock()) != "revoked" {
				rt.Fatalf("serial %d of %v is not revoked", s, p)
			}
		}
	})
}
