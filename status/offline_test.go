package status_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"bulkhead"
	"bulkhead/ceremony"
	"bulkhead/pki/pack"
	"bulkhead/status"
)

// childOf is the certificate that a parent issued to an authority.
func (h *house) childOf(id bulkhead.AuthorityID) bulkhead.CertificateRef {
	h.t.Helper()
	cert, err := x509.ParseCertificate(h.authority(id).Certificate)
	ok(h.t, err)
	serial, err := bulkhead.SerialFromBig(cert.SerialNumber)
	ok(h.t, err)
	return bulkhead.CertificateRef{Issuer: h.authority(id).Parent, Serial: serial}
}

// rootCRL holds the ceremony that a change of the root's children needs, without importing what it signed.
func (h *house) rootCRL(change string, after int64, adjust ...func(*ceremony.CRLStep)) []bulkhead.Prepared {
	h.t.Helper()
	rows, err := h.status.RevokedAfter(h.t.Context(), rootCA, change)
	ok(h.t, err)
	step := &ceremony.CRLStep{Authority: rootCA, AfterNumber: after, HorizonDays: 180, TurnoverDays: 90, OverlapDays: 30}
	for _, r := range rows {
		step.Revoked = append(step.Revoked, ceremony.RevokedChild{Serial: r.Serial, At: r.RevokedAt, Reason: r.Reason.String()})
	}
	for _, f := range adjust {
		f(step)
	}
	p := ceremony.Plan{Title: "revocation", StatusURL: statusURL, Root: rootCA, Change: change, Existing: []ceremony.Existing{h.existing(rootCA)}, Steps: []ceremony.Step{{CRL: step}}}
	res, err := ceremony.Execute(h.t.Context(), ceremony.Config{Ring: h.rootRing, Now: h.now, Rand: rand.Reader, Who: []string{"test"}, Lint: h.linter}, p)
	ok(h.t, err)
	return res.Prepared
}

func (h *house) previewOf(id string) (p status.Preview) {
	h.t.Helper()
	ok(h.t, json.Unmarshal(h.change(id).Preview, &p))
	return p
}

// packsOf is every published answer of an authority, byte for byte.
func (h *house) packsOf(id bulkhead.AuthorityID) map[string][]byte {
	h.t.Helper()
	signed, err := h.dir.Head(h.t.Context())
	ok(h.t, err)
	head, err := pack.OpenHead(signed, h.verifier)
	ok(h.t, err)
	out := map[string][]byte{}
	ih := head.Issuer(id)
	names := []string{ih.Certificate.Name}
	for _, ref := range ih.Packs {
		names = append(names, ref.Name)
	}
	for _, ref := range ih.CRLs {
		names = append(names, ref.Name)
	}
	for _, n := range names {
		out[n], err = h.dir.Get(h.t.Context(), n)
		ok(h.t, err)
	}
	return out
}

// TestRevokeAuthorityUnderOfflineRoot: revoke issuing authority A (S0-8). The preview lists A's subtree and names the
// ceremony; nothing can be approved before it; afterwards CRL and OCSP say it together, A is out of service, and what is
// public of B is byte for byte what it was.
func TestRevokeAuthorityUnderOfflineRoot(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	h.issue(caA, 3)
	h.issue(caB, 4)
	h.tick() // answers for the delegates, which are certificates too
	target := h.childOf(caA)
	before := h.packsOf(caB)

	c, err := h.status.PlanRevocation(ctx, "operator:a", "the key of A is lost", items(bulkhead.KeyCompromise, target))
	ok(t, err)
	p := h.previewOf(c.ID)
	if len(p.Subtree) != 1 || p.Subtree[0] != (bulkhead.SubtreeAuthority{Authority: caA, State: bulkhead.AuthorityActive, Certificates: 3}) {
		t.Errorf("subtree %+v", p.Subtree)
	}
	_, sparedA := p.Unaffected[caA]
	_, sparedB := p.Unaffected[caB]
	if sparedA || !sparedB || len(p.PathsLost) != 1 || p.PathsLost[0].Leaves != 3 {
		t.Errorf("unaffected %v, paths lost %+v", p.Unaffected, p.PathsLost)
	}
	if len(p.Ceremonies) != 1 || p.Ceremonies[0].Ready || p.Ceremonies[0].Next != "bulkhead change ceremony-file "+c.ID || len(p.Blocked) != 1 {
		t.Errorf("ceremonies %+v, blocked %v", p.Ceremonies, p.Blocked)
	}
	wantKind(t, h.status.Approve(ctx, c.ID, c.PreviewHash, "request:1"), bulkhead.KindGate, "needs a ceremony")

	// The ceremony. Its CRLs wait: ticks publish nothing of them.
	crls := h.rootCRL(c.ID, 5)
	ok(t, h.status.CheckPrepared(ctx, h.authority(rootCA), crls, c.ID))
	ok(t, h.store.PutPrepared(ctx, crls))
	root := h.packsOf(rootCA)
	h.tick()
	if after := h.packsOf(rootCA); !sameObjects(root, after) {
		t.Error("a CRL that waits for a change was published before it")
	}
	wantKind(t, h.status.Approve(ctx, c.ID, c.PreviewHash, "request:1"), bulkhead.KindGate, "needs a ceremony") // the old preview
	p, hash, err := h.status.Preview(ctx, c.ID)
	ok(t, err)
	if len(p.Blocked) != 0 || !p.Ceremonies[0].Ready {
		t.Fatalf("after the ceremony: blocked %v, %+v", p.Blocked, p.Ceremonies)
	}
	wantKind(t, h.status.ActivateByOne(ctx, "operator:a", c.ID, hash), bulkhead.KindGate, "two people")
	ok(t, h.status.Approve(ctx, c.ID, hash, "request:1"))
	ok(t, h.status.Activate(ctx, c.ID))

	w := h.world()
	w.refresh()
	if got := w.ask(target); got.ocsp[0] != got.ocsp[1] || got.ocsp[0] != "revoked "+got.listed || !strings.Contains(got.listed, "keyCompromise") {
		t.Errorf("public says %+v", got)
	}
	if after := h.packsOf(caB); !sameObjects(before, after) {
		t.Error("what is public of B changed")
	}
	if a, b := h.authority(caA), h.authority(caB); a.State != bulkhead.AuthorityRevoked || a.CanIssue() || b.State != bulkhead.AuthorityActive {
		t.Errorf("A is %s, B is %s", a.State, b.State)
	}
	if got := h.change(c.ID).State; got != bulkhead.ChangeSettled {
		t.Errorf("change is %s", got)
	}
	h.issue(caB, 1) // B goes on
	h.agree()

	// The successor of the change's CRL comes in its time, and the set from before the change never again.
	h.move(91 * day)
	h.tick()
	h.status.Wait()
	found := false
	for name := range h.packsOf(rootCA) {
		found = found || strings.HasSuffix(name, fmt.Sprintf("/%d.crl", crls[1].CRLNumber))
	}
	if !found {
		t.Error("the successor of the change's CRL did not follow")
	}
}

func sameObjects(a, b map[string][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for n := range a {
		if !bytes.Equal(a[n], b[n]) {
			return false
		}
	}
	return true
}

// TestCheckPrepared plants a fault in each thing that an imported CRL may get wrong.
func TestCheckPrepared(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	target := h.childOf(caA)
	c, err := h.status.PlanRevocation(ctx, "operator:a", "test", items(bulkhead.Superseded, target))
	ok(t, err)
	root := h.authority(rootCA)
	for _, x := range []struct {
		what   string
		crls   []bulkhead.Prepared
		change string
		word   string
	}{
		{"an item missing", h.rootCRL(c.ID, 5, func(s *ceremony.CRLStep) { s.Revoked = nil }), c.ID, "does not list"},
		{"an entry that nobody asked for", h.rootCRL(c.ID, 5), "", "nobody asked to revoke"},
		{"another reason", h.rootCRL(c.ID, 5, func(s *ceremony.CRLStep) { s.Revoked[0].Reason = "keyCompromise" }), c.ID, "the record says"},
		{"a number that the house has", h.rootCRL(c.ID, 1), c.ID, "is not above number"},
		{"silent without a fault", h.rootCRL(c.ID, 5), c.ID, ""},
	} {
		err := h.status.CheckPrepared(ctx, root, x.crls, x.change)
		if x.word == "" {
			ok(t, err)
			continue
		}
		t.Log(x.what)
		wantKind(t, err, bulkhead.KindGate, x.word)
	}
	foreign := slices.Clone(h.rootCRL(c.ID, 5))
	wantKind(t, h.status.CheckPrepared(ctx, h.authority(caB), foreign, ""), bulkhead.KindGate, "is not one of")
}

// TestOvertakenCeremony: two revocations are planned, the second one goes public first; the CRL of the first would drop it
// and is refused, and a new ceremony lets it through.
func TestOvertakenCeremony(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	plan := func(id bulkhead.AuthorityID) bulkhead.Change {
		c, err := h.status.PlanRevocation(ctx, "operator:a", "test", items(bulkhead.Superseded, h.childOf(id)))
		ok(t, err)
		return c
	}
	first, second := plan(caA), plan(caB)
	ok(t, h.store.PutPrepared(ctx, h.rootCRL(first.ID, 5)))
	ok(t, h.store.PutPrepared(ctx, h.rootCRL(second.ID, 10)))
	activate := func(id string) error {
		_, hash, err := h.status.Preview(ctx, id)
		ok(t, err)
		if err := h.status.Approve(ctx, id, hash, "request:1"); err != nil {
			return err
		}
		return h.status.Activate(ctx, id)
	}
	ok(t, activate(second.ID))
	wantKind(t, activate(first.ID), bulkhead.KindGate, "needs a ceremony")
	ok(t, h.store.PutPrepared(ctx, h.rootCRL(first.ID, 15)))
	ok(t, activate(first.ID))
	h.agree()

	// The other order: the CRL of the later number does not list what went public first.
	h = newHouse(t)
	first, second = plan(caA), plan(caB)
	ok(t, h.store.PutPrepared(ctx, h.rootCRL(first.ID, 5)))
	ok(t, h.store.PutPrepared(ctx, h.rootCRL(second.ID, 10)))
	ok(t, activate(first.ID))
	wantKind(t, activate(second.ID), bulkhead.KindGate, "drops")
	ok(t, h.store.PutPrepared(ctx, h.rootCRL(second.ID, 15)))
	ok(t, h.status.Activate(ctx, second.ID))
	h.agree()
}

// TestRevokeAuthorityFailures loses each commit of an authority's revocation, once unheard and once only its answer; the
// next process carries the change to its end by itself.
func TestRevokeAuthorityFailures(t *testing.T) {
	t.Parallel()
	lost := errors.New("planted")
	for _, op := range []string{"MoveChange", "Activate", "MoveAuthority"} {
		for _, heard := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", op, heard), func(t *testing.T) {
				h := newHouse(t)
				ctx := t.Context()
				target := h.childOf(caA)
				c, err := h.status.PlanRevocation(ctx, "operator:a", "test", items(bulkhead.Superseded, target))
				ok(t, err)
				ok(t, h.store.PutPrepared(ctx, h.rootCRL(c.ID, 5)))
				_, hash, err := h.status.Preview(ctx, c.ID)
				ok(t, err)
				ok(t, h.status.Approve(ctx, c.ID, hash, "request:1"))
				failed := false
				h.onCommit(func(name string, commit func() error) error {
					if name != op || failed {
						return commit()
					}
					failed = true
					if heard {
						ok(t, commit())
					}
					return lost
				})
				if err := h.status.Activate(ctx, c.ID); err == nil {
					t.Fatal("the planted fault was not met")
				}
				h.onCommit(nil)
				h.status = h.restart()
				ok(t, h.status.Start(ctx))
				if h.change(c.ID).State != bulkhead.ChangeSettled || h.state(target) != bulkhead.Revoked || h.authority(caA).State != bulkhead.AuthorityRevoked {
					t.Errorf("change %s, certificate %s, authority %s", h.change(c.ID).State, h.state(target), h.authority(caA).State)
				}
				w := h.world()
				w.refresh()
				if got := w.ask(target); got.ocsp[0] != "revoked "+got.listed {
					t.Errorf("public says %+v", got)
				}
				h.agree()
			})
		}
	}
}
