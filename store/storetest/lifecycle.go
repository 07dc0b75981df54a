package storetest

import (
	"errors"
	"sync"
	"testing"

	"bulkhead"
	"bulkhead/pki/tlog"
)

func affected(t testing.TB, s Store, id string) (out []bulkhead.AffectedStatus) {
	t.Helper()
	for a, err := range s.Affected(t.Context(), id, issuer) {
		ok(t, err)
		out = append(out, a)
	}
	return out
}

// testTakeBack checks that a change restores exactly what its items say was taken away, and keeps a record of it.
func testTakeBack(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	issue(t, s, numbers(0, 5)...)
	revoke(t, s, "first", bulkhead.Superseded, at(50), 0)
	mixed := append(items(bulkhead.KeyCompromise, at(40), 0), items(bulkhead.KeyCompromise, at(55), 1, 2)...)
	revoke(t, s, "second", bulkhead.KeyCompromise, at(60), 3)
	ok(t, s.Activate(ctx, stage(t, s, "third", mixed), nextHead(t, s), nil))
	if c := value(s.Change(ctx, "third"))(t); !c.WasKept || c.TakesBack() {
		t.Errorf("activated: %+v", c)
	}
	was := map[bulkhead.Serial]bulkhead.ChangeItem{}
	for _, a := range affected(t, s, "third") {
		was[a.Serial] = a.Item
		equal(t, a.State, bulkhead.Revoked)
	}
	equal(t, len(was), 3)
	equal(t, was[serial(0)].WasReason, bulkhead.Superseded)
	equal(t, was[serial(0)].WasRevokedAt, at(50))
	equal(t, was[serial(1)].WasRevokedAt.IsZero(), true)

	back := func(id string, list ...bulkhead.ChangeItem) bulkhead.Change {
		c := bulkhead.Change{ID: id, State: bulkhead.ChangeStaged, Undoes: "third", Incident: "inc", Rule: "BR 4.9.13", CreatedAt: at(1)}
		ok(t, s.CreateChange(ctx, c, list, event("planned "+id)))
		c = value(s.Change(ctx, id))(t)
		c.ActivatedAt = at(70)
		return c
	}
	item := func(n int, reason bulkhead.Reason, when int) bulkhead.ChangeItem {
		return items(reason, at(when), n)[0]
	}
	upgraded := item(0, bulkhead.KeyCompromise, 40)
	upgraded.WasReason, upgraded.WasRevokedAt = bulkhead.Superseded, at(50)

	// What says something else by now, or holds a blocked key, keeps the whole change out.
	wantKind(t, s.Activate(ctx, back("other-date", item(1, bulkhead.KeyCompromise, 56), upgraded), nextHead(t, s), nil), bulkhead.KindConflict)
	equal(t, state(t, s, 1), bulkhead.Revoked)
	cert, _, err := s.Certificate(ctx, ref(2))
	ok(t, err)
	ok(t, s.BlockKey(ctx, bulkhead.BlockedKey{KeyHash: cert.KeyHash, BlockedAt: at(61), Reason: "test", Actor: "test"}))
	items, keys, err := s.BlockedItems(ctx, "third")
	ok(t, err)
	equal(t, [2]int{items, keys}, [2]int{1, 1})
	_, _, err = s.BlockedItems(ctx, "none")
	wantKind(t, err, bulkhead.KindNotFound)
	wantKind(t, s.Activate(ctx, back("blocked", item(2, bulkhead.KeyCompromise, 55)), nextHead(t, s), nil), bulkhead.KindConflict)
	equal(t, state(t, s, 2), bulkhead.Revoked)

	good := back("good", item(1, bulkhead.KeyCompromise, 55), upgraded, item(4, bulkhead.Unspecified, 69)) // 4 was never revoked
	equal(t, good.Undoes+good.Incident+good.Rule, "thirdincBR 4.9.13")
	head := nextHead(t, s)
	ok(t, s.Activate(ctx, good, head, nil, event("taken back")))
	for n, want := range []bulkhead.CertificateState{bulkhead.Revoked, bulkhead.Issued, bulkhead.Revoked, bulkhead.Revoked, bulkhead.Issued} {
		equal(t, state(t, s, n), want)
	}
	cert, _, err = s.Certificate(ctx, ref(0))
	ok(t, err)
	equal(t, cert.Reason, bulkhead.Superseded)
	equal(t, cert.RevokedAt, at(50))
	equal(t, value(s.Head(ctx))(t).Sequence, head.Sequence)
	equal(t, len(affected(t, s, "none")), 0)
}

// testChangeEvidence checks that a change's leaves are found by its name, those of single certificates left out.
func testChangeEvidence(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	issue(t, s, 0)
	told := func(kind bulkhead.EvidenceKind, id string) bulkhead.Evidence {
		return bulkhead.Evidence{Kind: kind, At: at(1), Actor: "test", Ref: id}
	}
	c := bulkhead.Change{ID: "c-1", State: bulkhead.ChangePlanned, CreatedAt: at(1)}
	ok(t, s.CreateChange(ctx, c, items(bulkhead.Superseded, at(2), 0), told(bulkhead.EvChangePlanned, "c-1")))
	c = value(s.Change(ctx, "c-1"))(t)
	c.State, c.Problem, c.Dies = bulkhead.ChangeStaged, "a node is behind", at(9)
	ok(t, s.MoveChange(ctx, c, bulkhead.ChangePlanned, told(bulkhead.EvChangeStaged, "c-1")))
	equal(t, value(s.Change(ctx, "c-1"))(t), c)
	ok(t, s.Activate(ctx, c, nextHead(t, s), nil, told(bulkhead.EvChangeActivated, "c-1"), told(bulkhead.EvRevocation, "c-1"), told(bulkhead.EvTakenBack, "c-0")))
	_, err := s.AppendEvidence(ctx, told(bulkhead.EvChangeVerified, "c-1"), told(bulkhead.EvAlarm, "c-1"))
	ok(t, err)
	var kinds []bulkhead.EvidenceKind
	for _, r := range value(s.ChangeEvidence(ctx, "c-1"))(t) {
		kinds = append(kinds, tlog.KindOf(r.Leaf))
	}
	equal(t, kinds, []bulkhead.EvidenceKind{bulkhead.EvChangePlanned, bulkhead.EvChangeStaged, bulkhead.EvChangeActivated, bulkhead.EvChangeVerified})
	equal(t, len(value(s.ChangeEvidence(ctx, "c-0"))(t)), 1)
	equal(t, len(value(s.ChangeEvidence(ctx, "none"))(t)), 0)
}

// testNewestHead checks that whoever exposes a head sees the newest one, and gives its turn back after an error.
func testNewestHead(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	for range 3 {
		ok(t, s.PutHead(ctx, nextHead(t, s), nil))
	}
	failed := errors.New("the object store is away")
	if err := s.WithNewestHead(ctx, func(bulkhead.HeadRecord) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
	var g sync.WaitGroup
	for range 4 {
		g.Go(func() {
			if err := s.WithNewestHead(ctx, func(h bulkhead.HeadRecord) error {
				if h.Sequence != 3 {
					t.Errorf("head %d", h.Sequence)
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
}
