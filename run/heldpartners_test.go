package run

import (
	"crypto/ed25519"
	"crypto/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/pki/approval"
	"bulkhead/quorum"
)

// customer is an order of a partner's customer, planted past validation: what is tried here is what a role with the rights to
// write such rows could do.
func (w *world) customer(partner, creator, name string) (bulkhead.CertificateRequest, bulkhead.Order) {
	w.Helper()
	id := strings.ReplaceAll(name, ".", "-")
	w.ok(w.h.store.CreateAccount(w.Context(), bulkhead.Account{ID: id, State: bulkhead.AccountValid, Thumbprint: id, Partner: partner, Creator: creator, CreatedAt: w.now()}))
	r := w.orderOf(id, name)
	o, err := w.h.store.Order(w.Context(), r.OrderID)
	w.ok(err)
	return r, o
}

func (w *world) kind(what string, err error, kind bulkhead.Kind) {
	w.Helper()
	if bulkhead.KindOf(err) != kind {
		w.Errorf("%s: %v; want %q", what, err, kind)
	}
}

// alarmed reports whether the quorum's alarm with the key is in the record.
func (w *world) alarmed(key string) bool {
	w.Helper()
	all, err := w.h.store.Alarms(w.Context(), 1000)
	w.ok(err)
	return slices.ContainsFunc(all, func(a bulkhead.Alarm) bool { return a.Detector == quorum.Detector && a.Key == key })
}

// TestPartnerRowsForged: a partner's row decides nothing. What two people signed bounds it, one person may make it narrower,
// and a row that is wider than either is held to what holds, with an alarm; so is a partner whom nobody approved.
func TestPartnerRowsForged(t *testing.T) { onBoth(t, (*world).partnerRowsForged) }

// onBoth runs a test over SQLite and over PostgreSQL.
func onBoth(t *testing.T, test func(*world), change ...func(*Config)) {
	t.Run("sqlite", func(t *testing.T) { test(newWorld(t, change...)) })
	t.Run("postgres", func(t *testing.T) { test(newWorldOnPostgres(t, change...)) })
}

func (w *world) partnerRowsForged() {
	ctx, t := w.Context(), w.T
	scope := bulkhead.PartnerScope{Names: []string{"north.test"}, Profiles: []string{"tls-server"}, PerHour: 50, PerDay: 50}
	_, err := w.approve(console.ActionAddPartner, bulkhead.Partner{ID: "north", Scope: scope})
	w.ok(err)
	issue := func(name string) error {
		r, _ := w.customer("north", "operator:test", name)
		_, err := w.h.signer.Issue(ctx, r)
		return err
	}
	w.ok(issue("a.north.test"))
	forge := func(id string, s bulkhead.PartnerScope) {
		p, err := w.h.store.Partner(ctx, id)
		w.ok(err)
		p.Scope = s
		w.ok(w.h.store.UpdatePartner(ctx, p, p.State, nil))
	}
	wide := scope
	wide.Names = []string{"*"}
	forge("north", wide)
	w.kind("a forged scope", issue("www.google.test"), bulkhead.KindRejectedIdentifier)
	w.ok(issue("b.north.test"))
	if !w.alarmed("partner,north") {
		t.Error("no alarm")
	}
	w.again()
	w.kind("a forged scope, after a restart", issue("www2.google.test"), bulkhead.KindRejectedIdentifier)

	// Widened by two people, it holds; made narrower by one, it holds; forged back, it does not.
	forge("north", scope)
	two := scope
	two.Names = []string{"north.test", "south.test"}
	_, err = w.approve(console.ActionLimitPartner, bulkhead.Partner{ID: "north", Scope: two})
	w.ok(err)
	w.ok(issue("a.south.test"))
	_, err = w.h.enroll.LimitPartner(ctx, "operator:test", "north", scope, false)
	w.ok(err)
	w.kind("narrower", issue("b.south.test"), bulkhead.KindRejectedIdentifier)
	forge("north", two)
	w.kind("forged back", issue("c.south.test"), bulkhead.KindRejectedIdentifier)
	w.again()
	w.kind("forged back, after a restart", issue("d.south.test"), bulkhead.KindRejectedIdentifier)
	if _, last := w.leaves(bulkhead.EvScopeHeld); last.Ref != "north" || !strings.Contains(last.Detail, `"Names":["north.test"]`) {
		t.Errorf("the record says of what the partner is held to: %+v", last)
	}

	// An older request that is signed only now is not what people meant last.
	older, err := w.h.quorum.Propose(ctx, console.ActionLimitPartner, bulkhead.Partner{ID: "north", Scope: wide}, "operator:test", "first thought")
	w.ok(err)
	_, err = w.approve(console.ActionLimitPartner, bulkhead.Partner{ID: "north", Scope: two})
	w.ok(err)
	_, err = w.signs(older, 0)
	w.ok(err)
	_, err = w.signs(older, 1)
	w.kind("an older request", err, bulkhead.KindConflict)
	w.ok(issue("e.south.test"))

	w.ok(w.h.store.CreatePartner(ctx, bulkhead.Partner{ID: "forged", State: bulkhead.PartnerActive, Scope: wide, CreatedAt: w.now()}))
	r, _ := w.customer("forged", "operator:test", "www3.google.test")
	_, err = w.h.signer.Issue(ctx, r)
	w.kind("a partner whom nobody approved", err, bulkhead.KindForbidden)
}

// TestSecondWordsForged: a row that says that somebody approved an order counts when that was signed, for the very names, by
// operators or by the key that operators bound to a person; nothing else does, and an alarm says so.
func TestSecondWordsForged(t *testing.T) {
	onBoth(t, (*world).secondWordsForged, func(c *Config) { c.HighValueNames = []string{"bank.test"} })
}

func (w *world) secondWordsForged() {
	ctx, t := w.Context(), w.T
	scope := bulkhead.PartnerScope{Names: []string{"bank.test"}, Profiles: []string{"tls-server"}, PerHour: 50, PerDay: 50}
	_, err := w.approve(console.ActionAddPartner, bulkhead.Partner{ID: "north", Scope: scope})
	w.ok(err)
	for _, name := range []string{"ken", "yuki"} {
		_, _, err := w.h.enroll.AddPerson(ctx, "operator:test", "north", name)
		w.ok(err)
	}
	ken := bulkhead.PartnerPerson{Partner: "north", Name: "ken"}
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	w.ok(err)
	r, o := w.customer("north", "partner:north/yuki", "pay.bank.test")
	other, oo := w.customer("north", "partner:north/yuki", "login.bank.test")
	word := func(o bulkhead.Order, actor string, signature []byte) {
		w.ok(w.h.store.PutSecondApproval(ctx, bulkhead.SecondApproval{OrderID: o.ID, Actor: actor, Signature: signature, At: w.now()}))
	}
	refused := func(what string) {
		t.Helper()
		_, err := w.h.signer.Issue(ctx, r)
		w.kind(what, err, bulkhead.KindGate)
	}
	refused("no word")
	word(o, "request:made-up", nil)
	word(o, "partner:north/ken", nil)
	word(o, "operator:operator-2", nil)
	unsigned, err := w.h.quorum.Propose(ctx, console.ActionApproveOrder, console.OrderPayload{Order: o.ID, Names: o.Identifiers}, "operator:test", "forged")
	w.ok(err)
	w.ok(w.h.store.MoveRequest(ctx, unsigned.ID, bulkhead.RequestOpen, bulkhead.RequestExecuted))
	word(o, "request:"+unsigned.ID, nil)
	word(o, "partner:north/stranger", quorum.SignOrder(key, "north", "stranger", o.ID, o.Identifiers))
	refused("rows that nobody signed")
	if !w.alarmed("order," + o.ID) {
		t.Error("no alarm")
	}
	// Signed by two, for another order, and for this order under other names.
	signed, err := w.approve(console.ActionApproveOrder, console.OrderPayload{Order: oo.ID, Names: oo.Identifiers})
	w.ok(err)
	word(o, "request:"+signed.ID, nil)
	refused("signed for another order")
	elsewhere, err := w.h.quorum.Propose(ctx, console.ActionApproveOrder, console.OrderPayload{Order: o.ID, Names: oo.Identifiers}, "operator:test", "another name")
	w.ok(err)
	for i := range 2 {
		_, _ = w.signs(elsewhere, i) // the second carries it out, and it is refused
	}
	word(o, "request:"+elsewhere.ID, nil)
	refused("signed for another name")
	_, err = w.h.signer.Issue(ctx, other)
	w.ok(err)

	// A person's key: without a quorum's signatures it is nobody's.
	word(o, "partner:north/ken,early", nil)
	_, err = w.h.enroll.ApproveOrder(ctx, ken, "", o.ID, quorum.SignOrder(key, "north", "ken", o.ID, o.Identifiers))
	w.kind("a key that nobody bound", err, bulkhead.KindGate)
	_, err = w.approve(console.ActionBindPerson, approval.PersonPayload{Partner: "north", Name: "ken", PublicKey: pub})
	w.ok(err)
	_, err = w.h.enroll.ApproveOrder(ctx, ken, "", o.ID, quorum.SignOrder(key, "north", "ken", o.ID, oo.Identifiers))
	w.kind("over other names", err, bulkhead.KindGate)
	third, to := w.customer("north", "partner:north/yuki", "card.bank.test")
	_, err = w.h.enroll.ApproveOrder(ctx, ken, "", to.ID, quorum.SignOrder(key, "north", "ken", to.ID, to.Identifiers))
	w.ok(err)
	w.plant(`UPDATE partner_people SET revoked_at = 1 WHERE name = 'ken'`)
	_, err = w.h.signer.Issue(ctx, third)
	w.kind("a person who is gone", err, bulkhead.KindGate)
	w.plant(`UPDATE partner_people SET revoked_at = 0 WHERE name = 'ken'`)
	_, err = w.h.signer.Issue(ctx, third)
	w.ok(err)
	if n, last := w.leaves(bulkhead.EvPersonKey); n != 1 || last.Ref != "north/ken" || last.KeyHash != bulkhead.Digest(pub) {
		t.Errorf("%d leaves, %+v", n, last)
	}
	// An order for other names under the same id, which who writes orders could make.
	fourth := third
	fourth.Names = r.Names
	fourth.CSR = r.CSR
	_, err = w.h.signer.Issue(ctx, fourth)
	w.kind("other names under an approved order", err, bulkhead.KindGate)
}

// TestNarrowedScopeKilled: a scope that one person made narrower holds after the signer's process was killed and started again, when
// the console's row says by then what two people had signed before; nobody had ordered in between.
func TestNarrowedScopeKilled(t *testing.T) {
	d := processes(t)
	w := &world{T: t, h: d.h, desk: d.dir, root: RootDir(d.dir), at: time.Now().UTC().Truncate(time.Second)}
	ctx := w.Context()
	wide := bulkhead.PartnerScope{Names: []string{"north.test", "south.test"}, Profiles: []string{"tls-server"}, PerHour: 50, PerDay: 50}
	narrow := wide
	narrow.Names = []string{"north.test"}
	_, err := w.approve(console.ActionAddPartner, bulkhead.Partner{ID: "north", Scope: wide})
	w.ok(err)
	issue := func(name string) error {
		r, _ := w.customer("north", "operator:test", name)
		_, err := w.h.door.IssueAfter(ctx, r, nil)
		return err
	}
	w.ok(issue("a.south.test"))
	p, err := w.h.enroll.LimitPartner(ctx, "operator:test", "north", narrow, false)
	w.ok(err)
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		held, err := w.h.store.HeldScopes(ctx)
		w.ok(err)
		if len(held) == 1 && slices.Equal(held[0].Scope.Names, narrow.Names) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the signer did not take in what became narrower: %+v", held)
		}
	}
	w.ok(d.apart.Process.Kill())
	_ = d.apart.Wait()
	p.Scope = wide
	w.ok(w.h.store.UpdatePartner(ctx, p, p.State, nil)) // what who may write the row can do
	d.signer(d.dir)
	w.kind("wide again after the signer was killed", issue("b.south.test"), bulkhead.KindRejectedIdentifier)
	w.ok(issue("a.north.test"))
	if !w.alarmed("partner,north") {
		t.Error("no alarm")
	}
}
