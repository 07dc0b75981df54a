package run

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/ceremony"
	"bulkhead/console"
	"bulkhead/pki/tlog"
	"bulkhead/quorum"
)

// people are the keys of the two operators of a first start.
func (w *world) people() []ed25519.PrivateKey {
	w.Helper()
	var out []ed25519.PrivateKey
	for _, path := range []string{filepath.Join(cmp.Or(w.desk, w.h.dir), operatorKey), filepath.Join(w.root, secondOperator)} {
		text, err := os.ReadFile(path)
		w.ok(err)
		k, err := quorum.ParseKey(text)
		w.ok(err)
		out = append(out, k)
	}
	return out
}

// approve proposes an action and signs it with both keys; the second signature carries it out.
func (w *world) approve(action string, payload any) (bulkhead.ApprovalRequest, error) {
	w.Helper()
	ctx := context.WithoutCancel(w.Context())
	r, err := w.h.quorum.Propose(ctx, action, payload, "operator:test", "for the test")
	w.ok(err)
	for i, k := range w.people() {
		shown, err := w.h.quorum.Request(ctx, r.ID)
		w.ok(err)
		r, err = w.h.quorum.Approve(ctx, r.ID, bulkhead.Operator{PublicKey: k.Public().(ed25519.PublicKey)}.KeyHash(), quorum.SignApproval(k, shown))
		if i == 0 {
			w.ok(err)
			continue
		}
		return r, err
	}
	return r, nil
}

// leaves counts the evidence of a kind.
func (w *world) leaves(kind bulkhead.EvidenceKind) (n int, last bulkhead.Evidence) {
	w.Helper()
	var after int64
	for {
		rows, err := w.h.store.EvidenceAfter(w.Context(), after, 1000)
		w.ok(err)
		for _, r := range rows {
			ev, err := tlog.Parse(r.Leaf)
			w.ok(err)
			if ev.Kind == kind {
				n, last = n+1, ev
			}
			after = r.Seq
		}
		if len(rows) < 1000 {
			return n, last
		}
	}
}

// TestRetire: two people take an authority out of service; it goes on answering, and comes back by nothing.
func TestRetire(t *testing.T) {
	w := newWorld(t)
	x := endings{w.h}
	for id, kind := range map[bulkhead.AuthorityID]bulkhead.Kind{p256ID: bulkhead.KindGate, infraID: bulkhead.KindGate, "absent": bulkhead.KindNotFound} {
		if _, err := x.Retirement(t.Context(), id); bulkhead.KindOf(err) != kind || kind == bulkhead.KindGate && bulkhead.AsFault(err).Hint == "" {
			t.Errorf("%s: %v", id, err)
		}
	}
	p, err := x.Retirement(t.Context(), rsaID)
	w.ok(err)
	if r, err := w.approve(console.ActionRetire, p); err != nil || r.State != bulkhead.RequestExecuted {
		t.Fatalf("%s, %v", r.State, err)
	}
	a, err := w.h.store.Authority(t.Context(), rsaID)
	w.ok(err)
	if a.State != bulkhead.AuthorityRetired || a.KeyURI == "" {
		t.Errorf("%s %q", a.State, a.KeyURI)
	}
	if _, err := x.Retirement(t.Context(), rsaID); bulkhead.KindOf(err) != bulkhead.KindConflict {
		t.Errorf("retired twice: %v", err)
	}
	w.publish()
	rec := w.reconciler(nil)
	rec.Tick(t.Context())
	w.want("a retired authority", nil)
}

// doomed is a world whose first authority is revoked, with a good and a revoked certificate below it.
func doomed(t *testing.T) (*world, console.Destruction) {
	t.Helper()
	w := newWorld(t)
	if _, err := (endings{w.h}).Destruction(t.Context(), p256ID, true); bulkhead.KindOf(err) != bulkhead.KindConflict {
		t.Errorf("an active authority: %v", err)
	}
	w.revokeAuthority(p256ID)
	_, err := (endings{w.h}).Destruction(t.Context(), p256ID, false)
	if bulkhead.KindOf(err) != bulkhead.KindGate || !strings.Contains(bulkhead.AsFault(err).Hint, "--accept-good") {
		t.Errorf("certificates in force: %v", err)
	}
	p, err := (endings{w.h}).Destruction(t.Context(), p256ID, true)
	w.ok(err)
	return w, p
}

// revokeAuthority takes the way of a real day: a change, the ceremony of its root for exactly that change, the bundle back into
// the house, and two people's signatures.
func (w *world) revokeAuthority(id bulkhead.AuthorityID) {
	w.Helper()
	ctx := w.Context()
	a, err := w.h.store.Authority(ctx, id)
	w.ok(err)
	cert, err := x509.ParseCertificate(a.Certificate)
	w.ok(err)
	serial, err := bulkhead.SerialFromBig(cert.SerialNumber)
	w.ok(err)
	c, err := w.h.status.PlanRevocation(ctx, "operator:test", "its key is to be destroyed", []bulkhead.ChangeItem{{CertificateRef: bulkhead.CertificateRef{Issuer: rootID, Serial: serial}, Reason: bulkhead.CessationOfOperation}})
	w.ok(err)
	f, err := offline{w.h}.CeremonyFile(ctx, c.ID, "", "")
	w.ok(err)
	plan, err := ceremony.ParsePlan([]byte(f.YAML))
	w.ok(err)
	v := w.vault()
	v.last = []byte(f.Previous)
	_, err = w.bring(v.hold(plan, false), bulkhead.Hash{}, false)
	w.ok(err)
	_, hash, err := w.h.status.Preview(ctx, c.ID)
	w.ok(err)
	if _, err = w.approve(actionActivate, activation{c.ID, hash}); err != nil {
		w.Fatal(err)
	}
	w.publish()
	w.h.status.Wait()
	w.publish()
	if a, err = w.h.store.Authority(ctx, id); err != nil || a.State != bulkhead.AuthorityRevoked {
		w.Fatalf("authority %s is %s, %v", id, a.State, err)
	}
}

// gone asserts that the authority is dead, on record and in the ring, and that each step has its leaf once.
func (w *world) gone(p console.Destruction) {
	w.Helper()
	a, err := w.h.store.Authority(w.Context(), p256ID)
	w.ok(err)
	if a.State != bulkhead.AuthorityDestroyed || a.KeyURI != "" {
		w.Errorf("%s %q", a.State, a.KeyURI)
	}
	if _, err := w.h.ring.Open(w.Context(), p.KeyURI); bulkhead.KindOf(err) != bulkhead.KindNotFound {
		w.Errorf("the key: %v", err)
	}
	for _, kind := range []bulkhead.EvidenceKind{bulkhead.EvKeyEnding, bulkhead.EvStatusSealed, bulkhead.EvKeyDestroyed} {
		if n, last := w.leaves(kind); n != 1 || last.Authority != p256ID || last.KeyHash != p.KeySHA256 {
			w.Errorf("%d leaves %s: %+v", n, tlog.KindName(kind), last)
		}
	}
	if _, last := w.leaves(bulkhead.EvKeyDestroyed); !strings.Contains(last.Detail, "operator-1, operator-2") || last.Link.IsZero() {
		w.Errorf("%+v", last)
	}
}

// TestDestroyKey is S1-7 for a key that is online, and P8: two people destroy it; nothing can be signed with it any more, and
// the status of what it issued is served, looked at by a stranger, until the last certificate has ended.
func TestDestroyKey(t *testing.T) {
	w, p := doomed(t)
	r, err := w.approve(console.ActionDestroyKey, p)
	if err != nil || r.State != bulkhead.RequestExecuted {
		t.Fatalf("%s, %v", r.State, err)
	}
	w.gone(p)
	if _, err := w.approve(console.ActionDestroyKey, p); err != nil {
		t.Errorf("the same once more: %v", err)
	}
	w.gone(p)
	ctx := t.Context()
	if _, err := w.h.signer.SignCRL(ctx, bulkhead.CRLRequest{Authority: p256ID, Number: 1 << 40, ThisUpdate: w.now(), NextUpdate: w.now().Add(time.Hour)}, nil); bulkhead.KindOf(err) != bulkhead.KindUnavailable {
		t.Errorf("a CRL: %v", err)
	}
	if _, err := w.h.signer.Issue(ctx, bulkhead.CertificateRequest{Authority: p256ID, Profile: "tls-server"}); err == nil {
		t.Error("a certificate")
	}
	// One more revocation can go on no CRL, and is refused with the reason.
	_, err = w.h.status.RevokeCertificates(ctx, "operator:test", "too late", []bulkhead.ChangeItem{{CertificateRef: w.live, Reason: bulkhead.Superseded}})
	if bulkhead.KindOf(err) != bulkhead.KindGate {
		t.Errorf("a revocation: %v", err)
	}
	v, err := offline{w.h}.Keys(ctx)
	w.ok(err)
	for _, k := range v {
		if strings.Contains(k.Use, string(p256ID)+" (destroyed)") && !strings.Contains(k.Where, "destroyed") {
			t.Errorf("%+v", k)
		}
	}
	probe, rec := w.prober(w.own()), w.reconciler(nil)
	for w.now().Before(*p.LastEnd) {
		w.publish()
		w.h.status.Wait()
		w.publish()
		probe.Once(ctx)
		rec.Tick(ctx)
		w.want(w.now().Format(time.DateOnly), nil)
		w.pass(5 * 24 * time.Hour)
	}
	for range 7 { // and after the end: nobody is alarmed by what has run out
		w.publish()
		w.h.status.Wait()
		rec.Tick(ctx)
		for k, a := range w.alarms() {
			if strings.Contains(k, string(p256ID)) {
				t.Errorf("%s: %s", w.now().Format(time.DateOnly), a.Message)
			}
		}
		w.pass(9 * 24 * time.Hour)
	}
}

// broken is a store that fails at a step: before it is done, or after.
type broken struct {
	Store
	at    string
	after bool
	hit   *bool
}

func (b broken) step(name string, do func() error) error {
	if name != b.at || *b.hit {
		return do()
	}
	*b.hit = true
	lost := bulkhead.NewFault(bulkhead.KindUnavailable, "planted at "+name).WithHint("again")
	if b.after {
		if err := do(); err != nil {
			return err
		}
	}
	return lost
}

func (b broken) MoveAuthority(ctx context.Context, a bulkhead.Authority, expect bulkhead.AuthorityState, ev ...bulkhead.Evidence) error {
	return b.step("move to "+string(a.State), func() error { return b.Store.MoveAuthority(ctx, a, expect, ev...) })
}

func (b broken) PutPrepared(ctx context.Context, p []bulkhead.Prepared, ev ...bulkhead.Evidence) error {
	return b.step("prepared", func() error { return b.Store.PutPrepared(ctx, p, ev...) })
}

// TestDestroyKeyInterrupted is the failure table of a destruction: each write lost, and persisted but reported lost. The
// request stays approved, the process that has the keys takes it up again, and each step has left its mark once.
func TestDestroyKeyInterrupted(t *testing.T) {
	for _, at := range []string{"move to revoked", "prepared", "move to destroyed"} {
		for _, after := range []bool{false, true} {
			t.Run(at+map[bool]string{false: ", lost", true: ", reported lost"}[after], func(t *testing.T) {
				w, p := doomed(t)
				var hit bool
				w.h.store = broken{w.h.store, at, after, &hit}
				r, err := w.approve(console.ActionDestroyKey, p)
				if bulkhead.KindOf(err) != bulkhead.KindUnavailable || r.State != bulkhead.RequestApproved || !hit {
					t.Fatalf("%s, %v, hit %v", r.State, err, hit)
				}
				w.ok(w.h.quorum.ResumeAction(t.Context(), console.ActionDestroyKey))
				w.gone(p)
				if now, err := w.h.quorum.Request(t.Context(), r.ID); err != nil || now.State != bulkhead.RequestExecuted {
					t.Errorf("%s, %v", now.State, err)
				}
			})
		}
	}
}

// TestDestroyKeyCopied: a key that lies in the ring twice is not said to be destroyed until the copy is gone.
func TestDestroyKeyCopied(t *testing.T) {
	w, p := doomed(t)
	folder := filepath.Join(w.h.dir, keysDir)
	sealed, err := os.ReadFile(filepath.Join(folder, strings.TrimPrefix(p.KeyURI, "file:")))
	w.ok(err)
	w.ok(os.WriteFile(filepath.Join(folder, "copy.age"), sealed, 0o600))
	r, err := w.approve(console.ActionDestroyKey, p)
	if bulkhead.KindOf(err) != bulkhead.KindUnavailable || !strings.Contains(err.Error(), "file:copy.age") || r.State != bulkhead.RequestApproved {
		t.Fatalf("%s, %v", r.State, err)
	}
	if n, _ := w.leaves(bulkhead.EvKeyDestroyed); n != 0 {
		t.Errorf("%d leaves say that the key is destroyed", n)
	}
	w.ok(os.Remove(filepath.Join(folder, "copy.age")))
	w.ok(w.h.quorum.ResumeAction(t.Context(), console.ActionDestroyKey))
	w.gone(p)
}
