package incident_test

import (
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/incident"
	"bulkhead/incident/plan"
)

// TestForeignAuthority: a day that touches certificates of an imported authority, whose key is somebody else's, counts and plans them
// apart, as what only that authority can revoke; the clock revokes our own of that day and leaves those, and the campaign stays open
// over them (S1-8). Who holds nothing else of that day is told all the same, without a date; who holds what is on hold is not.
func TestForeignAuthority(t *testing.T) {
	h, l, relay := mailHouse(t, engines()[0])
	for _, a := range []string{"a1", "a2", "a3"} {
		h.account(a, "", "mailto:"+a+"@a.test")
	}
	own, err := h.store.Authority(t.Context(), issuingCA)
	ok(t, err)
	foreign := own
	foreign.ID, foreign.State, foreign.KeyURI, foreign.CreatedAt = "foreign", bulkhead.AuthorityForeign, "", h.now()
	ok(t, h.store.PutAuthority(t.Context(), foreign))
	ours := h.issue(h.cert("a1", "ours.test"))[0]
	theirs := h.issue(h.cert("a1", "theirs.test", func(c *bulkhead.Certificate) { c.Issuer = "foreign" }))[0]
	alone := h.issue(h.cert("a2", "alone.test", func(c *bulkhead.Certificate) { c.Issuer = "foreign" }))[0]
	frozen := h.issue(h.cert("a3", "frozen.test"))[0]
	i := h.incident(incident.Intake{Playbook: "mass-revocation", Scope: bulkhead.Scope{Issuers: []bulkhead.AuthorityID{issuingCA, "foreign"}}})
	ok(t, h.desk.Hold(t.Context(), "operator:a", i.ID, frozen, "court order 1"))
	c := h.campaign(i, incident.PlanRequest{})
	if it := h.item(theirs); c.Items != 4 || it.Wave != int(plan.Ceremony) || !it.RevokeAt.IsZero() || h.item(ours).Wave != int(plan.Subscribers) {
		t.Fatalf("%d items, theirs in wave %d", c.Items, it.Wave)
	}
	h.pass(6 * time.Hour) // every notice is due
	for range 3 {
		h.tick()
		_, err = l.tell.SendCampaigns(t.Context(), 100)
		ok(t, err)
		h.pass(time.Minute)
	}
	h.tick()
	for account, want := range map[string][]string{"a1": {"ours.test", "theirs.test"}, "a2": {"alone.test"}} {
		mails := relay.To(account + "@a.test")
		if len(mails) != 1 {
			t.Fatalf("%s got %d letters", account, len(mails))
		}
		for _, name := range want {
			if !strings.Contains(mails[0].Text(), name) {
				t.Errorf("the letter of %s lacks %s", account, name)
			}
		}
		if !strings.Contains(mails[0].Text(), "its revocation is not in our hands alone") {
			t.Errorf("the letter of %s gives what it has a date: %s", account, mails[0].Text())
		}
	}
	if it := h.item(alone); it.State != bulkhead.ItemNotified || !strings.Contains(it.Detail, "told by message") {
		t.Errorf("%s: %s", it.State, it.Detail)
	}
	if it := h.item(frozen); it.State != bulkhead.ItemHeld || len(relay.To("a3@a.test")) != 0 {
		t.Errorf("%s, and its holder got %d letters", it.State, len(relay.To("a3@a.test")))
	}
	h.pass(c.ForceAt.Sub(h.now()) + time.Second)
	h.tick()
	if s := h.state(ours); s != bulkhead.Revoked {
		t.Errorf("ours is %s", s)
	}
	if s, it := h.state(theirs), h.item(theirs); s != bulkhead.Issued || it.State == bulkhead.ItemRevoked {
		t.Errorf("theirs is %s, and %s in the campaign", s, it.State)
	}
	_, err = h.desk.End(t.Context(), "operator:a", c.ID, "done")
	wantKind(t, err, bulkhead.KindGate)

	// A hold of theirs is no end; a revocation is, and with it the day is over.
	revoked := func(ref bulkhead.CertificateRef, reason bulkhead.Reason) {
		t.Helper()
		row, der, err := h.store.Certificate(t.Context(), ref)
		ok(t, err)
		row.State, row.RevokedAt, row.Reason = bulkhead.Revoked, h.now(), reason
		leaf := bulkhead.Evidence{Kind: bulkhead.EvImportedRevocation, At: h.now(), Actor: "role:import", Authority: ref.Issuer, Serial: ref.Serial, Digest: bulkhead.Digest(der), Ref: "list 7"}
		commit, err := h.store.PrepareImport([]bulkhead.Imported{{Certificate: row, DER: der, Leaf: leaf, Revocation: leaf}})
		ok(t, err)
		got, err := commit(t.Context())
		ok(t, err)
		if got[0] != bulkhead.ImportedRevoked {
			t.Fatalf("%s of %s", got[0], ref)
		}
	}
	revoked(theirs, bulkhead.Superseded)
	revoked(alone, bulkhead.CertificateHold)
	h.tick()
	if it := h.item(theirs); it.State != bulkhead.ItemRevoked || !strings.Contains(it.Detail, "by its authority") {
		t.Errorf("revoked by its authority, and %s in the campaign: %s", it.State, it.Detail)
	}
	if it := h.item(alone); it.State.Done() {
		t.Errorf("on hold by its authority, and %s in the campaign", it.State)
	}
	_, err = h.desk.End(t.Context(), "operator:a", c.ID, "done")
	wantKind(t, err, bulkhead.KindGate)
	_, err = h.store.Restate(t.Context(), []bulkhead.Restated{{CertificateRef: alone, State: bulkhead.Revoked, RevokedAt: h.now(), Reason: bulkhead.KeyCompromise,
		Leaf: bulkhead.Evidence{Kind: bulkhead.EvImportedRevocation, At: h.now(), Actor: "role:import", Authority: "foreign", Serial: alone.Serial, Ref: "list 8"}}})
	ok(t, err)
	h.tick()
	if it := h.item(alone); it.State != bulkhead.ItemRevoked {
		t.Errorf("the hold became a revocation, and %s in the campaign", it.State)
	}
	if _, err = h.desk.End(t.Context(), "operator:a", c.ID, "done"); err != nil {
		t.Errorf("all is over but what is on hold by law: %v", err)
	}
}
