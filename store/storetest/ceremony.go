package storetest

import (
	"context"
	"testing"
	"time"

	"bulkhead"
)

// ceremonyStore is the record of ceremonies, of stand-by certificates and of an authority's end.
type ceremonyStore interface {
	Ceremonies(ctx context.Context) ([]bulkhead.Ceremony, error)
	PutCeremony(ctx context.Context, c bulkhead.Ceremony, parts bulkhead.CeremonyParts, ev ...bulkhead.Evidence) error
	MoveAuthority(ctx context.Context, a bulkhead.Authority, expect bulkhead.AuthorityState, ev ...bulkhead.Evidence) error
	Standbys(ctx context.Context) ([]bulkhead.Standby, error)
	PutStandby(ctx context.Context, x bulkhead.Standby, ev ...bulkhead.Evidence) error
	SwitchChain(ctx context.Context, to, old bulkhead.Standby, ev ...bulkhead.Evidence) error
	OfferStandby(ctx context.Context, authority bulkhead.AuthorityID, certificate bulkhead.Hash, until time.Time, ev ...bulkhead.Evidence) error
}

func testCeremonies(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	a := bulkhead.Authority{ID: "issuing-a", Kind: bulkhead.IssuingAuthority, State: bulkhead.AuthorityActive, Parent: "root", Subject: []byte("s"),
		SPKI: []byte("k"), Certificate: []byte("old"), Chain: [][]byte{[]byte("root")}, KeyURI: "file:a", Shards: 1, CreatedAt: at(1)}
	c := bulkhead.Ceremony{Digest: digest("t", 1), Previous: digest("t", 0), Root: digest("r", 1), Title: "first", Change: "c1", BeganAt: at(1), FinishedAt: at(2), ImportedAt: at(3),
		Actor: "operator:a", Signed: []byte("signed")}
	crl := bulkhead.Prepared{Authority: "root", Kind: bulkhead.PreparedCRL, NotBefore: at(1), NotAfter: at(9), DER: []byte("crl"), CRLNumber: 7, Change: "c1", ImportedAt: at(3)}
	ready := bulkhead.Standby{Authority: a.ID, Under: "root2", Certificate: []byte("new"), Chain: [][]byte{[]byte("root2")}, NotAfter: at(99), AddedAt: at(3)}
	parts := bulkhead.CeremonyParts{Authorities: []bulkhead.Authority{a}, Prepared: []bulkhead.Prepared{crl}, Standbys: []bulkhead.Standby{ready},
		Delegates: []bulkhead.Delegate{{Authority: "root", Certificate: []byte("d"), KeyURI: "file:d", NotBefore: at(1), NotAfter: at(9)}}}
	ok(t, s.PutCeremony(ctx, c, parts, event("import")))
	equal(t, value(s.Ceremonies(ctx))(t), []bulkhead.Ceremony{c})
	equal(t, value(s.Prepared(ctx, "root"))(t), []bulkhead.Prepared{crl})
	equal(t, value(s.Authority(ctx, a.ID))(t), a)
	equal(t, value(s.Standbys(ctx))(t), []bulkhead.Standby{ready})
	equal(t, len(value(s.Delegates(ctx, "root"))(t)), 1)

	// Once only, and all or nothing.
	wantKind(t, s.PutCeremony(ctx, c, parts, event("again")), bulkhead.KindConflict)
	second := c
	second.Digest, second.Rehearsal, second.ImportedAt = digest("t", 2), true, at(4)
	wantKind(t, s.PutCeremony(ctx, second, bulkhead.CeremonyParts{Destroyed: []bulkhead.AuthorityID{a.ID}}, event("destroy")), bulkhead.KindConflict)
	equal(t, len(value(s.Ceremonies(ctx))(t)), 1)
	equal(t, len(checkEvidence(t, s)), 1)

	// The chain is switched, and back; each only from what was seen.
	old := bulkhead.Standby{Authority: a.ID, Under: "root", Certificate: a.Certificate, Chain: a.Chain, NotAfter: at(50), AddedAt: at(5), OfferedUntil: at(20)}
	ok(t, s.SwitchChain(ctx, ready, old, event("switch")))
	now := value(s.Authority(ctx, a.ID))(t)
	equal(t, string(now.Certificate)+string(now.Chain[0])+string(now.Parent), "newroot2root2")
	equal(t, value(s.Standbys(ctx))(t), []bulkhead.Standby{old})
	wantKind(t, s.SwitchChain(ctx, ready, old, event("switch again")), bulkhead.KindConflict)
	stale := ready
	stale.Certificate = []byte("another")
	wantKind(t, s.SwitchChain(ctx, old, stale, event("from another")), bulkhead.KindConflict)
	equal(t, value(s.Standbys(ctx))(t), []bulkhead.Standby{old})
	ok(t, s.OfferStandby(ctx, a.ID, bulkhead.Digest(old.Certificate), time.Time{}, event("no more")))
	old.OfferedUntil = time.Time{}
	equal(t, value(s.Standbys(ctx))(t), []bulkhead.Standby{old})
	wantKind(t, s.OfferStandby(ctx, a.ID, digest("x", 1), at(1)), bulkhead.KindConflict)
	ok(t, s.PutStandby(ctx, old, event("there already")))
	equal(t, len(value(s.Standbys(ctx))(t)), 1)

	// The end of an authority: revoked, then destroyed.
	gone := now
	gone.State = bulkhead.AuthorityRevoked
	wantKind(t, s.MoveAuthority(ctx, gone, bulkhead.AuthorityRetired), bulkhead.KindConflict)
	ok(t, s.MoveAuthority(ctx, gone, bulkhead.AuthorityActive, event("revoked")))
	ok(t, s.PutCeremony(ctx, second, bulkhead.CeremonyParts{Destroyed: []bulkhead.AuthorityID{a.ID}}, event("destroy")))
	end := value(s.Authority(ctx, a.ID))(t)
	equal(t, string(end.State)+end.KeyURI, "destroyed")
	equal(t, value(s.Ceremonies(ctx))(t), []bulkhead.Ceremony{second, c})
}
