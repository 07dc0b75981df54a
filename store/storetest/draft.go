package storetest

import (
	"testing"

	"bulkhead"
)

// testDraft: a change takes items while it is planned, each once, and a scope gives what is in use page by page.
func testDraft(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	issue(t, s, numbers(0, 12)...)
	ok(t, s.CreateChange(ctx, bulkhead.Change{ID: "draft", State: bulkhead.ChangePlanned, CreatedAt: at(1)}, nil, event("opened")))
	equal(t, value(s.AddItems(ctx, "draft", items(bulkhead.Superseded, at(2), 0, 1, 2), 10))(t), 3)
	equal(t, value(s.AddItems(ctx, "draft", items(bulkhead.Superseded, at(3), 2, 3), 10))(t), 4)
	equal(t, value(s.AddItems(ctx, "draft", items(bulkhead.Superseded, at(3), 2, 3), 10))(t), 4)
	equal(t, value(s.Change(ctx, "draft"))(t).Count, 4)
	got := value(s.ChangeItems(ctx, "draft", bulkhead.CertificateRef{}, 100))(t)
	equal(t, len(got), 4)
	for _, it := range got {
		if it.Serial == serial(2) {
			equal(t, it.RevokedAt, at(2)) // as it was first added
		}
	}
	for name, try := range map[string]func() (int, error){
		"another reason": func() (int, error) {
			return s.AddItems(ctx, "draft", items(bulkhead.KeyCompromise, at(4), 5, 1), 10)
		},
		"too many": func() (int, error) {
			return s.AddItems(ctx, "draft", items(bulkhead.Superseded, at(4), numbers(4, 11)...), 10)
		},
	} {
		if _, err := try(); bulkhead.KindOf(err) != bulkhead.KindConflict {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := s.AddItems(ctx, "none", items(bulkhead.Superseded, at(4), 5), 10)
	wantKind(t, err, bulkhead.KindNotFound)
	equal(t, value(s.Change(ctx, "draft"))(t).Count, 4)
	c := value(s.Change(ctx, "draft"))(t)
	c.State = bulkhead.ChangePreviewed
	ok(t, s.MoveChange(ctx, c, bulkhead.ChangePlanned))
	equal(t, value(s.Change(ctx, "draft"))(t).Count, 4)
	_, err = s.AddItems(ctx, "draft", items(bulkhead.Superseded, at(4), 5), 10)
	wantKind(t, err, bulkhead.KindConflict)

	revoke(t, s, "gone", bulkhead.Superseded, at(5), 7)
	scope := bulkhead.Scope{Issuers: []bulkhead.AuthorityID{issuer}}
	now := at(6)
	want := value(s.ScopeSize(ctx, scope, now))(t)
	seen, after := map[bulkhead.Serial]bool{}, int64(0)
	for {
		rows, next, err := s.ScopePage(ctx, scope, now, after, 5)
		ok(t, err)
		if len(rows) == 0 {
			break
		}
		for _, r := range rows {
			if r.State != bulkhead.Issued || r.Kind == bulkhead.CACertificate || r.NotAfter.Before(now) || r.NotBefore.IsZero() || seen[r.Serial] {
				t.Errorf("%+v", r)
			}
			seen[r.Serial] = true
		}
		after = next
	}
	if int64(len(seen)) != want || want != 11 || seen[serial(7)] {
		t.Errorf("%d of %d certificates, the revoked one among them: %v", len(seen), want, seen[serial(7)])
	}
	equal(t, value(s.ScopeSize(ctx, bulkhead.Scope{Issuers: []bulkhead.AuthorityID{"other"}}, now))(t), int64(0))
	last := value(s.CertificatesBySerial(ctx, issuer, []bulkhead.Serial{serial(0)}))(t)[0]
	equal(t, value(s.ScopeSize(ctx, scope, last.NotAfter.AddDate(1, 0, 0)))(t), int64(0))
}
