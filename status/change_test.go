package status_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/status"
)

// TestOrdinaryPath walks a change through its states by hand and sees nothing public before activation.
func TestOrdinaryPath(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	refs := h.issue(caA, 3)
	w := h.world()
	w.refresh()
	if got := w.ask(refs[1]); got != (said{ocsp: [2]string{"good", "good"}}) {
		t.Fatalf("a new certificate is %v", got)
	}
	before := h.head()
	c, err := h.status.Plan(t.Context(), "operator:anna", "key lost", items(bulkhead.Superseded, refs[1]))
	ok(t, err)
	p, hash, err := h.status.Preview(t.Context(), c.ID)
	ok(t, err)
	if p.Count != 1 || p.AnswersChanged != 1 || p.ByIssuer[caA] != 1 || p.Unaffected[caB].Roots[0] != rootCA || len(p.Unaffected) != 2 || len(p.Blocked) != 0 || len(p.PathsLost)+len(p.PathsReduced) != 0 ||
		len(p.Direct) != 1 || p.Direct[0].Serial != refs[1].Serial || p.Direct[0].Before != bulkhead.Issued || p.Direct[0].After != bulkhead.Revoked {
		t.Errorf("preview %+v", p)
	}
	stored := h.change(c.ID)
	var back status.Preview
	if err := json.Unmarshal(stored.Preview, &back); err != nil || bulkhead.Digest(stored.Preview) != hash || stored.PreviewHash != hash {
		t.Error("the stored preview is not the one that was shown")
	}
	ok(t, h.status.Approve(t.Context(), c.ID, hash, "operator:bert"))
	if got := h.head(); got.Sequence != before.Sequence || h.state(refs[1]) != bulkhead.Issued {
		t.Error("an approval alone moved something")
	}
	ok(t, h.status.Activate(t.Context(), c.ID))
	done := h.change(c.ID)
	head := h.head()
	if done.State != bulkhead.ChangeSettled || done.Epoch != head.Sequence || head.Sequence != before.Sequence+1 {
		t.Errorf("change %s at epoch %d, head %d", done.State, done.Epoch, head.Sequence)
	}
	if a := head.Issuer(caA); a.Epoch != before.Issuer(caA).Epoch+1 || a.Change != c.ID || head.Issuer(caB).Epoch != before.Issuer(caB).Epoch {
		t.Error("epochs did not move as the change says")
	}
	w.refresh()
	want := "superseded " + h.now().Format(time.RFC3339)
	if got := w.ask(refs[1]); got != (said{[2]string{"revoked " + want, "revoked " + want}, want}) {
		t.Errorf("after revocation the world hears %v", got)
	}
	for _, r := range []bulkhead.CertificateRef{refs[0], refs[2]} {
		if got := w.ask(r); got != (said{ocsp: [2]string{"good", "good"}}) {
			t.Errorf("%s is %v", r, got)
		}
	}
	ok(t, h.status.Activate(t.Context(), c.ID)) // again: nothing happens
	if h.head().Sequence != head.Sequence {
		t.Error("a second activation made a head")
	}
	h.agree()
}

// TestRefusals lists what a change may not be. Nothing that is public may move.
func TestRefusals(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(p *status.Policy) { p.OnePerson = 2 })
	refs := h.issue(caA, 4)
	h.revoke(refs[0])
	open := h.row(caA)
	h.reserve(open, []byte("never signed"))
	never := h.row(caA).CertificateRef
	before := h.head().Sequence
	root := bulkhead.CertificateRef{Issuer: rootCA}
	for _, p := range h.packsSerials(rootCA) {
		root.Serial = p
	}
	for _, c := range []struct {
		name  string
		items []bulkhead.ChangeItem
		kind  bulkhead.Kind
		word  string
	}{
		{"nothing", nil, bulkhead.KindMalformed, "at least one"},
		{"never issued", items(bulkhead.Superseded, never), bulkhead.KindNotFound, "never issued"},
		{"reserved only", items(bulkhead.Superseded, open.CertificateRef), bulkhead.KindNotFound, "never issued"},
		{"one of several never issued", items(bulkhead.Superseded, refs[1], never), bulkhead.KindNotFound, "never issued"},
		{"other issuer", items(bulkhead.Superseded, bulkhead.CertificateRef{Issuer: caB, Serial: refs[1].Serial}), bulkhead.KindNotFound, "never issued"},
		{"twice", items(bulkhead.Superseded, refs[1], refs[1]), bulkhead.KindMalformed, "twice"},
		{"revoked already", items(bulkhead.CessationOfOperation, refs[0]), bulkhead.KindAlreadyRevoked, "was revoked"},
		{"reason of authorities", items(bulkhead.CACompromise, refs[1]), bulkhead.KindBadRevocationReason, "BR 7.2.2"},
		{"hold", items(bulkhead.CertificateHold, refs[1]), bulkhead.KindBadRevocationReason, "BR 7.2.2"},
		{"above one person", items(bulkhead.Superseded, refs[1:4]...), bulkhead.KindGate, "take two people"},
		{"compromise without a block, above one person", items(bulkhead.KeyCompromise, refs[1:4]...), bulkhead.KindGate, "take two people"},
		{"issuer whose key is offline", items(bulkhead.Superseded, root), bulkhead.KindGate, "offline"},
	} {
		id, err := h.status.RevokeCertificates(t.Context(), "test", c.name, c.items)
		if bulkhead.KindOf(err) != c.kind {
			t.Errorf("%s: %v, want %s", c.name, err, c.kind)
			continue
		}
		wantKind(t, err, c.kind, c.word)
		if (id != "") != (c.kind == bulkhead.KindGate) {
			t.Errorf("%s: change %q", c.name, id)
		}
	}
	if h.head().Sequence != before {
		t.Error("a refused change made a head")
	}
	for _, r := range refs[1:] {
		if h.state(r) != bulkhead.Issued {
			t.Errorf("%s is %s", r, h.state(r))
		}
	}
	h.agree()
}

func (h *house) packsSerials(id bulkhead.AuthorityID) []bulkhead.Serial {
	rows, err := h.store.StatusPage(h.t.Context(), id, bulkhead.Serial{}, time.Time{}, 100)
	ok(h.t, err)
	var out []bulkhead.Serial
	for _, r := range rows {
		out = append(out, r.Serial)
	}
	return out
}

// TestApprovals: only a previewed change, only by the hash of its newest preview, never a blocked one.
func TestApprovals(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	refs := h.issue(caA, 2)
	c, err := h.status.Plan(t.Context(), "test", "why", items(bulkhead.Superseded, refs[0]))
	ok(t, err)
	wantKind(t, h.status.Approve(t.Context(), c.ID, bulkhead.Hash{}, "test"), bulkhead.KindConflict, "only a previewed")
	wantKind(t, h.status.Activate(t.Context(), c.ID), bulkhead.KindConflict, "not approved")
	_, first, err := h.status.Preview(t.Context(), c.ID)
	ok(t, err)
	wantKind(t, h.status.Activate(t.Context(), c.ID), bulkhead.KindConflict, "not approved")
	wantKind(t, h.status.Approve(t.Context(), c.ID, bulkhead.Hash{}, "test"), bulkhead.KindGate, "another preview")
	h.revoke(refs[1]) // what can be recomputed moves, and with it the next preview
	_, second, err := h.status.Preview(t.Context(), c.ID)
	ok(t, err)
	wantKind(t, h.status.Approve(t.Context(), c.ID, first, "test"), bulkhead.KindGate, "another preview")
	ok(t, h.status.Approve(t.Context(), c.ID, second, "test"))
	// Previewed again after the approval: the approval counts no more.
	_, third, err := h.status.Preview(t.Context(), c.ID)
	ok(t, err)
	wantKind(t, h.status.Activate(t.Context(), c.ID), bulkhead.KindConflict, "not approved")
	ok(t, h.status.Approve(t.Context(), c.ID, third, "test"))
	ok(t, h.status.Activate(t.Context(), c.ID))
	if _, _, err := h.status.Preview(t.Context(), c.ID); bulkhead.KindOf(err) != bulkhead.KindConflict {
		t.Errorf("a settled change was previewed: %v", err)
	}
	// A preview that is blocked cannot be approved, by whomever.
	root := h.packsSerials(rootCA)[0]
	b, err := h.status.PlanRevocation(t.Context(), "test", "why", items(bulkhead.Superseded, bulkhead.CertificateRef{Issuer: rootCA, Serial: root}))
	ok(t, err)
	wantKind(t, h.status.Approve(t.Context(), b.ID, b.PreviewHash, "test"), bulkhead.KindGate, "blocked")
	h.agree()
}

// TestStalePreview: of two approved changes for one certificate the second is refused, ends, and moves nothing.
func TestStalePreview(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	refs := h.issue(caA, 2)
	plan := func(r ...bulkhead.CertificateRef) string {
		c, err := h.status.PlanRevocation(t.Context(), "test", "why", items(bulkhead.Superseded, r...))
		ok(t, err)
		ok(t, h.status.Approve(t.Context(), c.ID, c.PreviewHash, "test"))
		return c.ID
	}
	one, two := plan(refs[0]), plan(refs...)
	late, err := h.status.PlanRevocation(t.Context(), "test", "why", items(bulkhead.Superseded, refs[0]))
	ok(t, err)
	ok(t, h.status.Activate(t.Context(), one))
	before := h.head().Sequence
	wantKind(t, h.status.Activate(t.Context(), two), bulkhead.KindGate, "the world moved")
	if s := h.change(two).State; s != bulkhead.ChangeRefused || h.state(refs[1]) != bulkhead.Issued || h.head().Sequence != before {
		t.Errorf("the stale change is %s, its other certificate %s", s, h.state(refs[1]))
	}
	// Looked at again, the overtaken change shows why it cannot be.
	p, hash, err := h.status.Preview(t.Context(), late.ID)
	ok(t, err)
	if len(p.Blocked) != 1 || p.Direct[0].Before != bulkhead.Revoked {
		t.Errorf("preview of an overtaken change: %+v", p)
	}
	wantKind(t, h.status.Approve(t.Context(), late.ID, hash, "test"), bulkhead.KindGate, "blocked")
	h.agree()
}

// TestManyKeysBlocked: who can block every key in use cannot thereby revoke every certificate alone. Two keys are as many as one
// person may revoke certificates, and go through with all that is on them; three take two people.
func TestManyKeysBlocked(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(p *status.Policy) { p.OnePerson = 2 })
	var on [3][]bulkhead.CertificateRef
	for i := range on {
		key := bulkhead.Digest([]byte{byte(i)})
		on[i] = h.issue(caB, 3, func(c *bulkhead.Certificate) { c.KeyHash = key })
		ok(t, h.status.BlockKey(t.Context(), bulkhead.BlockedKey{KeyHash: key, Reason: "said to be public", Actor: "test"}))
	}
	id, err := h.status.RevokeCertificates(t.Context(), "test", "three keys", items(bulkhead.KeyCompromise, slices.Concat(on[:]...)...))
	wantKind(t, err, bulkhead.KindGate, "take two people")
	c, err := h.store.Change(t.Context(), id)
	ok(t, err)
	if c.State != bulkhead.ChangePreviewed {
		t.Errorf("the change is %s", c.State)
	}
	_, err = h.status.RevokeCertificates(t.Context(), "test", "two keys", items(bulkhead.KeyCompromise, slices.Concat(on[:2]...)...))
	ok(t, err)
	h.agree()
}

// TestKeyCompromise: the reason may be upgraded once, with an earlier date; a blocked key expedites any number.
func TestKeyCompromise(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(p *status.Policy) { p.OnePerson = 2 })
	refs := h.issue(caA, 2)
	h.revoke(refs[0])
	when := h.now()
	h.move(time.Minute)
	up := items(bulkhead.KeyCompromise, refs[0])
	up[0].RevokedAt = h.now().Add(-30 * time.Minute)
	_, err := h.status.RevokeCertificates(t.Context(), "test", "compromised", up)
	ok(t, err)
	w := h.world()
	w.refresh()
	want := "keyCompromise " + when.Add(-29*time.Minute).Format(time.RFC3339)
	if got := w.ask(refs[0]); got != (said{[2]string{"revoked " + want, "revoked " + want}, want}) {
		t.Errorf("upgraded: %v, want %s", got, want)
	}
	_, err = h.status.RevokeCertificates(t.Context(), "test", "again", up)
	wantKind(t, err, bulkhead.KindAlreadyRevoked, "was revoked")
	// A later date does not move an upgraded revocation later, a date in the future or before notBefore is cut.
	early := items(bulkhead.KeyCompromise, refs[1])
	early[0].RevokedAt = h.now().Add(-100 * day)
	_, err = h.status.RevokeCertificates(t.Context(), "test", "early", early)
	ok(t, err)
	row, _, err := h.store.Certificate(t.Context(), refs[1])
	ok(t, err)
	if !row.RevokedAt.Equal(row.NotBefore) {
		t.Errorf("revoked at %s, certificate from %s", row.RevokedAt, row.NotBefore)
	}
	key := bulkhead.Digest([]byte("one key"))
	many := h.issue(caB, 5, func(c *bulkhead.Certificate) { c.KeyHash = key })
	other := h.issue(caB, 1)
	ok(t, h.status.BlockKey(t.Context(), bulkhead.BlockedKey{KeyHash: key, Reason: "seen in public", Actor: "test"}))
	_, err = h.status.RevokeCertificates(t.Context(), "test", "one is not blocked", items(bulkhead.KeyCompromise, append(many, other...)...))
	wantKind(t, err, bulkhead.KindGate, "take two people")
	_, err = h.status.RevokeCertificates(t.Context(), "test", "other reason", items(bulkhead.Superseded, many...))
	wantKind(t, err, bulkhead.KindGate, "take two people")
	_, err = h.status.RevokeCertificates(t.Context(), "test", "expedited", items(bulkhead.KeyCompromise, many...))
	ok(t, err)
	w.refresh()
	for _, r := range many {
		if got := w.ask(r); got.listed == "" || got.ocsp[0] == "good" {
			t.Errorf("%s: %v", r, got)
		}
	}
	if got := w.ask(other[0]); got != (said{ocsp: [2]string{"good", "good"}}) {
		t.Errorf("the other: %v", got)
	}
	h.agree()
}
