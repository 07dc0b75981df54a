package storetest

import (
	"slices"
	"testing"
	"time"

	"bulkhead"
)

func items(reason bulkhead.Reason, when time.Time, ns ...int) []bulkhead.ChangeItem {
	return each(ns, func(n int) bulkhead.ChangeItem {
		return bulkhead.ChangeItem{CertificateRef: ref(n), Reason: reason, RevokedAt: when}
	})
}

// stage makes a change that is ready to be activated.
func stage(t testing.TB, s Store, id string, list []bulkhead.ChangeItem) bulkhead.Change {
	t.Helper()
	c := bulkhead.Change{ID: id, State: bulkhead.ChangeStaged, Actor: "operator:a", Why: "test", CreatedAt: at(1)}
	ok(t, s.CreateChange(t.Context(), c, list, event("planned "+id)))
	return value(s.Change(t.Context(), id))(t)
}

func nextHead(t testing.TB, s Store) bulkhead.HeadRecord {
	t.Helper()
	h := value(s.Head(t.Context()))(t)
	return bulkhead.HeadRecord{Sequence: h.Sequence + 1, Body: []byte("head"), At: at(2)}
}

// revoke changes the status of issued certificates by a change of its own.
func revoke(t testing.TB, s Store, id string, reason bulkhead.Reason, when time.Time, ns ...int) {
	t.Helper()
	c := stage(t, s, id, items(reason, when, ns...))
	ok(t, s.Activate(t.Context(), c, nextHead(t, s), nil))
}

func testStatus(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	issue(t, s, numbers(0, 20)...)
	reserve(t, s, 20)
	revoke(t, s, "change-1", bulkhead.Superseded, at(5), 1, 5, 9, 2)

	rows := value(s.Statuses(ctx, issuer, []bulkhead.Serial{serial(5), serial(20), serial(77), serial(5), serial(0)}))(t)
	equal(t, len(rows), 3)
	for _, v := range rows {
		switch v.Serial {
		case serial(5):
			equal(t, v, bulkhead.Status{CertificateRef: ref(5), State: bulkhead.Revoked, RevokedAt: at(5),
				Reason: bulkhead.Superseded, NotAfter: at(1000), Shard: 1, Seq: 26})
		case serial(20):
			equal(t, v.State, bulkhead.Reserved)
			equal(t, v.Seq, 0)
		}
	}
	equal(t, len(value(s.Statuses(ctx, "another", []bulkhead.Serial{serial(5)}))(t)), 0)
	equal(t, len(value(s.Statuses(ctx, issuer, nil))(t)), 0)

	want := each(numbers(0, 20), serial)
	slices.SortFunc(want, bulkhead.Serial.Compare)
	var paged []bulkhead.Serial
	for after := (bulkhead.Serial{}); ; after = paged[len(paged)-1] {
		page := value(s.StatusPage(ctx, issuer, after, at(1000), 7))(t)
		if len(page) == 0 {
			break
		}
		for _, v := range page {
			paged = append(paged, v.Serial)
		}
	}
	equal(t, paged, want)
	equal(t, len(value(s.StatusPage(ctx, issuer, bulkhead.Serial{}, at(1001), 7))(t)), 0)

	since := value(s.StatusSince(ctx, issuer, 38, 100))(t)
	equal(t, []int64{since[0].Seq, since[1].Seq}, []int64{39, 40})
	equal(t, len(since), 2)
	equal(t, len(value(s.StatusSince(ctx, issuer, 0, 100))(t)), 20)

	revoked := each([]int{1, 5, 9}, serial) // of shard 1
	slices.SortFunc(revoked, bulkhead.Serial.Compare)
	equal(t, revokedSerials(t, s, 1, at(1000), 100), revoked)
	equal(t, revokedSerials(t, s, 1, at(1000), 2), revoked[:2])
	equal(t, revokedSerials(t, s, 1, at(1001), 100), nil)
	equal(t, revokedSerials(t, s, 2, at(0), 100), []bulkhead.Serial{serial(2)})
}

func revokedSerials(t testing.TB, s Store, shard int, keep time.Time, most int) []bulkhead.Serial {
	t.Helper()
	var out []bulkhead.Serial
	for v, err := range s.Revoked(t.Context(), issuer, shard, keep) {
		ok(t, err)
		out = append(out, v.Serial)
		if len(out) == most {
			break
		}
	}
	return out
}

func testChanges(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	c := bulkhead.Change{ID: "c-1", State: bulkhead.ChangePlanned, Actor: "account:x", Why: "lost key", CreatedAt: at(1)}
	list := items(bulkhead.KeyCompromise, at(2), 3, 1, 2)
	list = append(list, bulkhead.ChangeItem{CertificateRef: bulkhead.CertificateRef{Issuer: "another", Serial: serial(3)}, RevokedAt: at(3)})
	ok(t, s.CreateChange(ctx, c, list, event("planned")))
	wantKind(t, s.CreateChange(ctx, c, list, event("again")), bulkhead.KindConflict)
	c.Count = 4
	equal(t, value(s.Change(ctx, "c-1"))(t), c)
	_, err := s.Change(ctx, "none")
	wantKind(t, err, bulkhead.KindNotFound)

	bad := c
	bad.ID = "bad"
	wantKind(t, s.CreateChange(ctx, bad, append(list, list[0])), bulkhead.KindMalformed)
	wantKind(t, s.CreateChange(ctx, bad, items(bulkhead.Superseded, time.Time{}, 1)), bulkhead.KindMalformed)
	_, err = s.Change(ctx, "bad")
	wantKind(t, err, bulkhead.KindNotFound)

	var got []bulkhead.ChangeItem
	var after bulkhead.CertificateRef
	for {
		page := value(s.ChangeItems(ctx, "c-1", after, 1))(t)
		if len(page) == 0 {
			break
		}
		got = append(got, page...)
		after = page[len(page)-1].CertificateRef
	}
	want := slices.Clone(list)
	slices.SortFunc(want, func(a, b bulkhead.ChangeItem) int {
		if a.Issuer != b.Issuer {
			return map[bool]int{true: -1, false: 1}[a.Issuer < b.Issuer]
		}
		return a.Serial.Compare(b.Serial)
	})
	equal(t, got, want)
	_, err = s.ChangeItems(ctx, "none", after, 3)
	wantKind(t, err, bulkhead.KindNotFound)

	c.State, c.PreviewHash, c.Preview = bulkhead.ChangePreviewed, digest("preview", 1), []byte(`{"answers":4}`)
	ok(t, s.MoveChange(ctx, c, bulkhead.ChangePlanned, event("previewed")))
	equal(t, value(s.Change(ctx, "c-1"))(t), c)
	wantKind(t, s.MoveChange(ctx, c, bulkhead.ChangePlanned, event("late")), bulkhead.KindConflict)
	gone := c
	gone.ID = "none"
	wantKind(t, s.MoveChange(ctx, gone, bulkhead.ChangePlanned, event("gone")), bulkhead.KindNotFound)
	equal(t, len(checkEvidence(t, s)), 2)

	for _, id := range []string{"c-2", "c-3"} {
		stage(t, s, id, items(bulkhead.Superseded, at(1), 8))
	}
	ids := func(list []bulkhead.Change) (out []string) {
		for _, c := range list {
			out = append(out, c.ID)
		}
		return out
	}
	equal(t, ids(value(s.Changes(ctx, 10))(t)), []string{"c-3", "c-2", "c-1"})
	equal(t, ids(value(s.Changes(ctx, 1, bulkhead.ChangeStaged, bulkhead.ChangePlanned))(t)), []string{"c-3"})
	equal(t, ids(value(s.Changes(ctx, 10, bulkhead.ChangePreviewed))(t)), []string{"c-1"})
}

func crl(shard int, number int64) bulkhead.CRLRecord {
	return bulkhead.CRLRecord{Authority: issuer, Shard: shard, Number: number, ThisUpdate: at(1), NextUpdate: at(99),
		Object: "crl/x", Digest: digest("crl", int(number)), Entries: 3}
}

func testActivate(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	issue(t, s, numbers(0, 6)...)
	c := stage(t, s, "c-1", items(bulkhead.Superseded, at(50), 0, 1, 2))
	c.ActivatedAt = at(60)
	ok(t, s.Activate(ctx, c, nextHead(t, s), []bulkhead.CRLRecord{crl(0, 1), crl(1, 1)}, event("activated")))
	got := value(s.Change(ctx, "c-1"))(t)
	equal(t, got.State, bulkhead.ChangeActivated)
	equal(t, got.Epoch, 1)
	equal(t, got.ActivatedAt, at(60))
	equal(t, value(s.Head(ctx))(t), bulkhead.HeadRecord{Sequence: 1, Body: []byte("head"), At: at(2)})
	equal(t, value(s.CRLs(ctx))(t), []bulkhead.CRLRecord{crl(0, 1), crl(1, 1)})
	for n, want := range []bulkhead.CertificateState{bulkhead.Revoked, bulkhead.Revoked, bulkhead.Revoked, bulkhead.Issued, bulkhead.Issued, bulkhead.Issued} {
		equal(t, state(t, s, n), want)
	}
	leaves := checkEvidence(t, s)
	equal(t, leaves[len(leaves)-1].Detail, "activated")

	// A second change meets rows that are revoked: keyCompromise upgrades and may date back, nothing else rewrites.
	mixed := append(items(bulkhead.KeyCompromise, at(40), 0), items(bulkhead.KeyCompromise, at(55), 1)...)
	mixed = append(mixed, items(bulkhead.CessationOfOperation, at(10), 2)...)
	mixed = append(mixed, items(bulkhead.KeyCompromise, at(41), 3)...)
	ok(t, s.Activate(ctx, stage(t, s, "c-2", mixed), nextHead(t, s), []bulkhead.CRLRecord{crl(0, 2)}))
	for n, want := range []struct {
		when   time.Time
		reason bulkhead.Reason
	}{{at(40), bulkhead.KeyCompromise}, {at(50), bulkhead.KeyCompromise}, {at(50), bulkhead.Superseded}, {at(41), bulkhead.KeyCompromise}} {
		c, _, err := s.Certificate(ctx, ref(n))
		ok(t, err)
		equal(t, c.RevokedAt, want.when)
		equal(t, c.Reason, want.reason)
	}
	equal(t, value(s.CRLs(ctx))(t), []bulkhead.CRLRecord{crl(0, 2), crl(1, 1)})
	equal(t, state(t, s, 4), bulkhead.Issued)
	checkMovedSince(t, s)
}

// checkMovedSince reads what the changes of testActivate moved: 0 to 2 by the first head, 0 to 3 by the second, of which each has a shard.
func checkMovedSince(t *testing.T, s Store) {
	stage(t, s, "c-3", items(bulkhead.Superseded, at(50), 4)) // not activated
	for _, c := range []struct {
		shard  int
		head   uint64
		except string
		want   []int
	}{{0, 0, "", []int{0}}, {0, 1, "", []int{0}}, {0, 1, "c-1", []int{0}}, {0, 0, "c-2", []int{0}}, {0, 1, "c-2", nil}, {0, 2, "", nil}, {3, 0, "", []int{3}}, {3, 0, "c-2", nil}, {1, 1, "", []int{1}}} {
		var got []bulkhead.Status
		for st, err := range s.MovedSince(t.Context(), issuer, c.shard, c.head, c.except) {
			ok(t, err)
			got = append(got, st)
		}
		var want []bulkhead.Status
		for _, n := range c.want {
			st := value(s.Statuses(t.Context(), issuer, []bulkhead.Serial{serial(n)}))(t)[0]
			st.Seq = 0
			want = append(want, st)
		}
		equal(t, got, want)
	}
	for range s.MovedSince(t.Context(), "another", 0, 0, "") {
		t.Error("another issuer's certificates moved")
	}
}

// testActivateRefusals checks that each thing that moved keeps the whole change out.
func testActivateRefusals(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	issue(t, s, 0, 1)
	reserve(t, s, 2)
	ok(t, s.PutHead(ctx, nextHead(t, s), []bulkhead.CRLRecord{crl(0, 5)}))
	good := stage(t, s, "good", items(bulkhead.Superseded, at(50), 0, 1))
	open2 := stage(t, s, "reserved", items(bulkhead.Superseded, at(50), 0, 2))
	absent := stage(t, s, "absent", items(bulkhead.Superseded, at(50), 0, 44))
	before := len(checkEvidence(t, s))

	head := nextHead(t, s)
	unchanged := func() {
		t.Helper()
		equal(t, state(t, s, 0), bulkhead.Issued)
		equal(t, value(s.Head(ctx))(t).Sequence, 1)
		equal(t, value(s.Change(ctx, "good"))(t), good)
		equal(t, value(s.CRLs(ctx))(t), []bulkhead.CRLRecord{crl(0, 5)})
		equal(t, len(checkEvidence(t, s)), before)
	}
	none := good
	none.ID = "none"
	stale, ahead := head, head
	stale.Sequence, ahead.Sequence = 1, 3
	other := crl(0, 5)
	other.Digest = digest("other", 1)
	for _, c := range []struct {
		name   string
		change bulkhead.Change
		head   bulkhead.HeadRecord
		crls   []bulkhead.CRLRecord
		kind   bulkhead.Kind
	}{
		{"no such change", none, head, nil, bulkhead.KindNotFound},
		{"item only reserved", open2, head, nil, bulkhead.KindConflict},
		{"item absent", absent, head, nil, bulkhead.KindConflict},
		{"head taken", good, stale, nil, bulkhead.KindConflict},
		{"head ahead", good, ahead, nil, bulkhead.KindConflict},
		{"CRL number behind", good, head, []bulkhead.CRLRecord{crl(1, 1), crl(0, 4)}, bulkhead.KindConflict},
		{"CRL number with other bytes", good, head, []bulkhead.CRLRecord{other}, bulkhead.KindConflict},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantKind(t, s.Activate(ctx, c.change, c.head, c.crls, event("activated")), c.kind)
			unchanged()
		})
	}
	ok(t, s.Activate(ctx, good, head, []bulkhead.CRLRecord{crl(0, 5), crl(1, 1)}, event("activated")))
	wantKind(t, s.Activate(ctx, good, nextHead(t, s), nil, event("again")), bulkhead.KindConflict)
	equal(t, value(s.Head(ctx))(t).Sequence, 2)
}

func testHeads(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	equal(t, value(s.Head(ctx))(t), bulkhead.HeadRecord{})
	equal(t, len(value(s.CRLs(ctx))(t)), 0)
	wantKind(t, s.PutHead(ctx, bulkhead.HeadRecord{Sequence: 2, Body: []byte("x"), At: at(1)}, nil), bulkhead.KindConflict)
	wantKind(t, s.PutHead(ctx, bulkhead.HeadRecord{Body: []byte("x"), At: at(1)}, nil), bulkhead.KindConflict)
	for n := uint64(1); n < 4; n++ {
		h := bulkhead.HeadRecord{Sequence: n, Body: []byte{byte(n)}, At: at(int(n))}
		ok(t, s.PutHead(ctx, h, []bulkhead.CRLRecord{crl(0, 7)})) // the same CRL may be named again
		equal(t, value(s.Head(ctx))(t), h)
		wantKind(t, s.PutHead(ctx, h, nil), bulkhead.KindConflict)
	}
	wantKind(t, s.PutHead(ctx, nextHead(t, s), []bulkhead.CRLRecord{crl(0, 6)}), bulkhead.KindConflict)
	equal(t, value(s.Head(ctx))(t).Sequence, 3)

	equal(t, value(s.NextCRLNumber(ctx, issuer, 0))(t), 1)
	equal(t, value(s.NextCRLNumber(ctx, issuer, 0))(t), 2)
	equal(t, value(s.NextCRLNumber(ctx, issuer, 1))(t), 1)
	equal(t, value(s.NextCRLNumber(ctx, "another", 0))(t), 1)
	equal(t, value(s.NextCRLNumber(ctx, issuer, 0))(t), 3)
}
