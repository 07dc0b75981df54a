package storetest

import (
	"testing"

	"bulkhead"
)

// testRestated: what a foreign authority held may become good, or be revoked for another reason, each with its leaf; what it revoked
// otherwise, what is good, and what is not there is left as it is, and so is everything of an authority of ours.
func testRestated(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	a := bulkhead.Authority{ID: issuer, Kind: bulkhead.IssuingAuthority, State: bulkhead.AuthorityForeign, Subject: []byte("s"), SPKI: []byte("k"), Certificate: []byte("c"), Shards: 1, CreatedAt: at(1)}
	ok(t, s.PutAuthority(ctx, a, event("authority")))
	var items []bulkhead.Imported
	for n, reason := range []bulkhead.Reason{bulkhead.CertificateHold, bulkhead.CertificateHold, bulkhead.KeyCompromise, bulkhead.CertificateHold} {
		c := reservation(n + 1).Certificate
		c.State, c.Profile, c.OrderID, c.Fingerprint, c.RevokedAt, c.Reason = bulkhead.Revoked, "imported", "", bulkhead.Digest(der(n+1)), at(2), reason
		it := bulkhead.Imported{Certificate: c, DER: der(n + 1), Leaf: event("imported"), Revocation: event("revoked")}
		it.Leaf.Kind, it.Leaf.Authority, it.Leaf.Serial, it.Leaf.Digest = bulkhead.EvImportedCertificate, c.Issuer, c.Serial, c.Fingerprint
		items = append(items, it)
	}
	value(imported(ctx, s, items))(t)
	held := value(s.HeldCertificates(ctx, issuer, bulkhead.Serial{}, 10))(t)
	equal(t, len(held), 3)
	equal(t, len(value(s.HeldCertificates(ctx, issuer, held[0].Serial, 1))(t)), 1)
	equal(t, len(value(s.HeldCertificates(ctx, "other", bulkhead.Serial{}, 10))(t)), 0)
	restated := func(n int, state bulkhead.CertificateState, reason bulkhead.Reason) bulkhead.Restated {
		x := bulkhead.Restated{CertificateRef: ref(n), State: state, Reason: reason, Leaf: event("restated")}
		if state == bulkhead.Revoked {
			x.RevokedAt = at(3)
		}
		x.Leaf.Kind, x.Leaf.Authority, x.Leaf.Serial = bulkhead.EvImportedRelease, issuer, x.Serial
		return x
	}
	before, _, err := s.EvidenceHead(ctx)
	ok(t, err)
	change := []bulkhead.Restated{restated(1, bulkhead.Issued, 0), restated(2, bulkhead.Revoked, bulkhead.Superseded), restated(3, bulkhead.Issued, 0), restated(9, bulkhead.Issued, 0)}
	equal(t, value(s.Restate(ctx, change))(t), 2)
	equal(t, value(s.Restate(ctx, change))(t), 0)
	after, _, err := s.EvidenceHead(ctx)
	ok(t, err)
	equal(t, after-before, int64(2))
	for n, want := range map[int]bulkhead.Status{1: {State: bulkhead.Issued}, 2: {State: bulkhead.Revoked, Reason: bulkhead.Superseded, RevokedAt: at(3)}, 3: {State: bulkhead.Revoked, Reason: bulkhead.KeyCompromise, RevokedAt: at(2)}} {
		c, _, err := s.Certificate(ctx, ref(n))
		ok(t, err)
		equal(t, bulkhead.Status{State: c.State, Reason: c.Reason, RevokedAt: c.RevokedAt}, want)
	}
	seen := value(s.StatusSince(ctx, issuer, before, 10))(t) // as whoever publishes it sees it
	equal(t, len(seen), 2)
	equal(t, seen[0].State, bulkhead.Issued)
	a.State = bulkhead.AuthorityActive
	ok(t, s.PutAuthority(ctx, a, event("authority")))
	equal(t, value(s.Restate(ctx, []bulkhead.Restated{restated(4, bulkhead.Issued, 0)}))(t), 0)
}

// testBlockKeys: many keys are blocked in one transaction, each once and with its leaf; the first block stays.
func testBlockKeys(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	key := func(n int) bulkhead.BlockedKey {
		return bulkhead.BlockedKey{KeyHash: digest("key", n), BlockedAt: at(n), Reason: "told", Actor: "role:import"}
	}
	ok(t, s.BlockKey(ctx, bulkhead.BlockedKey{KeyHash: digest("key", 1), BlockedAt: at(0), Reason: "first", Actor: "operator:a"}, event("block")))
	before, _, err := s.EvidenceHead(ctx)
	ok(t, err)
	ev := []bulkhead.Evidence{event("1"), event("2"), event("2 again"), event("3")}
	equal(t, value(s.BlockKeys(ctx, []bulkhead.BlockedKey{key(1), key(2), key(2), key(3)}, ev))(t), []bulkhead.Hash{digest("key", 2), digest("key", 3)})
	after, _, err := s.EvidenceHead(ctx)
	ok(t, err)
	equal(t, after-before, int64(2))
	have := value(s.BlockedKeys(ctx, digest("key", 1), digest("key", 2), digest("key", 3)))(t)
	equal(t, len(have), 3)
	for _, k := range have {
		if k.KeyHash == digest("key", 1) {
			equal(t, k.Reason, "first")
		}
	}
	_, err = s.BlockKeys(ctx, []bulkhead.BlockedKey{{}}, []bulkhead.Evidence{event("none")})
	wantKind(t, err, bulkhead.KindMalformed)
	_, err = s.BlockKeys(ctx, []bulkhead.BlockedKey{key(4)}, nil)
	wantKind(t, err, bulkhead.KindMalformed)
	equal(t, len(value(s.BlockKeys(ctx, nil, nil))(t)), 0)
}
