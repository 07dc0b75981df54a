package storetest

import (
	"context"
	"testing"
	"time"

	"bulkhead"
)

// owedStore says what an authority owes a status.
type owedStore interface {
	Owed(ctx context.Context, issuer bulkhead.AuthorityID, t time.Time) (bulkhead.Owed, error)
}

// testOwed: what is reserved, ended or a delegate's owes nothing; CRLs that lie ready know their shard.
func testOwed(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	equal(t, value(s.Owed(ctx, issuer, at(0)))(t), bulkhead.Owed{})
	for n := 1; n <= 5; n++ {
		put(t, s, n, func(c *bulkhead.Certificate) {
			c.NotAfter = at(100 * n)
			if n == 5 {
				c.Kind = bulkhead.DelegateCertificate
			}
		})
	}
	reserve(t, s, 9)
	revoke(t, s, "change", bulkhead.Superseded, at(1), 2, 4)
	equal(t, value(s.Owed(ctx, issuer, at(10)))(t), bulkhead.Owed{Good: 2, Revoked: 2, Last: at(400)})
	equal(t, value(s.Owed(ctx, issuer, at(250)))(t), bulkhead.Owed{Good: 1, Revoked: 1, Last: at(400)})
	equal(t, value(s.Owed(ctx, issuer, at(401)))(t), bulkhead.Owed{})
	equal(t, value(s.Owed(ctx, "another", at(10)))(t), bulkhead.Owed{})

	ready := bulkhead.Prepared{Authority: issuer, Kind: bulkhead.PreparedCRL, Shard: 3, NotBefore: at(1), NotAfter: at(9), DER: []byte("crl"), CRLNumber: 7, ImportedAt: at(1)}
	ok(t, s.PutPrepared(ctx, []bulkhead.Prepared{ready}, event("sealed")))
	equal(t, value(s.Prepared(ctx, issuer))(t), []bulkhead.Prepared{ready})
}
