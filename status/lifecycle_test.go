package status_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/keys"
	"bulkhead/pki/ocsp"
	"bulkhead/pki/pack"
	"bulkhead/pki/profile"
	"bulkhead/publish"
	"bulkhead/status"
	"bulkhead/status/verifiers"
)

// rewire gives the service that the next process would have, with what looks at changes from outside. It is not started.
func (h *house) rewire(change func(*status.Config)) {
	h.t.Helper()
	c := status.Config{Store: h.store, Signer: h.door, Objects: h.objects, HeadVerifier: h.verifier, Policy: h.policy, Now: h.now}
	change(&c)
	s, err := status.New(c)
	ok(h.t, err)
	h.status = s
}

// realCertificate plants a certificate that relying parties can read.
func (h *house) realCertificate(id bulkhead.AuthorityID) bulkhead.CertificateRef {
	h.t.Helper()
	row, a := h.row(id), h.authority(id)
	key, err := h.ring.Open(context.Background(), a.KeyURI)
	ok(h.t, err)
	issuer, err := x509.ParseCertificate(a.Certificate)
	ok(h.t, err)
	_, leaf, err := h.ring.Generate(context.Background(), "leaf-"+row.Serial.String(), keys.P256)
	ok(h.t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: row.Serial.Big(), Subject: pkix.Name{CommonName: row.Names[0].Value}, DNSNames: []string{row.Names[0].Value},
		NotBefore: row.NotBefore, NotAfter: row.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature, CRLDistributionPoints: []string{profile.URLs{Base: statusURL}.CRL(id, row.Shard)}}, issuer, leaf.Public(), key)
	ok(h.t, err)
	return h.plant(row, der)
}

// eyes is a verifier whose opinion a test can bend. It is Go's own unless bent.
type eyes struct {
	status.Verifier
	mu    sync.Mutex
	bend  func(e status.Exhibit, o []status.Opinion) []status.Opinion
	asked int
}

func newEyes() *eyes { return &eyes{Verifier: verifiers.New([]string{verifiers.None})[0]} }

func (x *eyes) Look(ctx context.Context, e status.Exhibit) []status.Opinion {
	o := x.Verifier.Look(ctx, e)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.asked++
	if x.bend != nil {
		o = x.bend(e, o)
	}
	return o
}

func (x *eyes) set(bend func(e status.Exhibit, o []status.Opinion) []status.Opinion) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.bend = bend
}

func blind(_ status.Exhibit, o []status.Opinion) []status.Opinion {
	for i := range o {
		o[i].Verdict, o[i].Detail = status.VerdictNotSeen, "it is not installed"
	}
	return o
}

// approved plans a revocation and approves it.
func (h *house) approved(refs ...bulkhead.CertificateRef) bulkhead.Change {
	h.t.Helper()
	c, err := h.status.PlanRevocation(h.t.Context(), "operator:anna", "a test", items(bulkhead.Superseded, refs...))
	ok(h.t, err)
	ok(h.t, h.status.Approve(h.t.Context(), c.ID, c.PreviewHash, "operator:bert"))
	return c
}

// story is the kinds of a change's leaves, in order.
func (h *house) story(id string) (kinds []bulkhead.EvidenceKind) {
	h.t.Helper()
	all, err := h.status.Story(h.t.Context(), id)
	ok(h.t, err)
	for _, e := range all {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

// later lets the service carry on what it had put off, and waits for what goes on in the background.
func (h *house) later() { h.t.Helper(); h.move(retry); h.tick(); h.status.Wait() }

// TestForeignVerifiers: OpenSSL, GnuTLS and Go look at the staged copy of a change of two, and at a change of one once it is
// public; both settle, and every step is told.
func TestForeignVerifiers(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(p *status.Policy) { p.OnePerson = 1 })
	h.rewire(func(c *status.Config) { c.Verifiers = verifiers.New([]string{verifiers.OpenSSL, verifiers.GnuTLS}) })
	var refs []bulkhead.CertificateRef
	for range 4 {
		refs = append(refs, h.realCertificate(caA))
	}
	refs = append(refs, h.realCertificate(caB))
	h.tick()
	c := h.approved(refs[0], refs[1])
	ok(t, h.status.Activate(t.Context(), c.ID))
	h.tick()
	h.status.Wait()
	want := []bulkhead.EvidenceKind{bulkhead.EvChangePlanned, bulkhead.EvChangePreviewed, bulkhead.EvChangeApproved, bulkhead.EvChangeCanary, bulkhead.EvChangeStaged,
		bulkhead.EvChangeActivated, bulkhead.EvChangePublished, bulkhead.EvChangeVerified, bulkhead.EvChangeSettled}
	if got := h.story(c.ID); !slices.Equal(got, want) {
		t.Errorf("the story of a change of two is %v", got)
	}
	one := h.revoke(refs[2])
	h.tick()
	h.status.Wait()
	if got := h.story(one); h.change(one).State != bulkhead.ChangeSettled || slices.Contains(got, bulkhead.EvChangeCanary) || !slices.Contains(got, bulkhead.EvChangeVerified) {
		t.Errorf("a change of one is %s: %v", h.change(one).State, got)
	}
	all, err := h.status.Story(t.Context(), c.ID)
	ok(t, err)
	for _, word := range []string{"2 certificates of the change and ", "openssl agrees", "gnutls agrees", "go agrees"} {
		if d := all[3].Detail; !strings.Contains(d, word) {
			t.Errorf("the canary's leaf %q does not say %q", d, word)
		}
	}
	h.agree()
}

// TestCanaryBlocks plants one fault for each way in which a verifier can disagree. Above the threshold nothing becomes
// public, the change says why, and it goes through once the fault is gone.
func TestCanaryBlocks(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(p *status.Policy) { p.OnePerson = 1 })
	x := newEyes()
	var alarms []string
	h.rewire(func(c *status.Config) {
		c.Verifiers = []status.Verifier{x}
		c.Alarm = func(_ context.Context, a bulkhead.Alarm) { alarms = append(alarms, a.Detector) }
	})
	refs := h.issue(caA, 7)
	var current []bulkhead.CertificateRef // items of the change at hand
	turn := func(target bool, v status.Verdict) func(status.Exhibit, []status.Opinion) []status.Opinion {
		return func(e status.Exhibit, o []status.Opinion) []status.Opinion {
			if slices.Contains(current, e.Ref) == target {
				o[0].Verdict = v
			}
			return o
		}
	}
	for i, c := range []struct {
		name string
		bend func(status.Exhibit, []status.Opinion) []status.Opinion
		kind bulkhead.Kind
		word string
	}{
		{"a bystander turns revoked", turn(false, status.VerdictRevoked), bulkhead.KindGate, "which it does not name"},
		{"an item stays good", turn(true, status.VerdictGood), bulkhead.KindGate, "takes the OCSP (SHA-1)"},
		{"an answer is not believed", turn(false, status.VerdictRefused), bulkhead.KindGate, "refused"},
		{"nobody could look", blind, bulkhead.KindUnavailable, "not seen"},
		{"it says nothing", func(status.Exhibit, []status.Opinion) []status.Opinion { return nil }, bulkhead.KindUnavailable, "not seen"},
	} {
		t.Run(c.name, func(t *testing.T) {
			i = min(i, 2) // the rest of the table goes on with the last two certificates
			current = refs[2*i : 2*i+2]
			change := h.approved(current...)
			before := h.head().Sequence
			x.set(c.bend)
			wantKind(t, h.status.Activate(t.Context(), change.ID), c.kind, c.word)
			got := h.change(change.ID)
			if h.head().Sequence != before || got.State != bulkhead.ChangeApproved || got.Problem == "" || h.state(refs[2*i]) != bulkhead.Issued {
				t.Errorf("head %d after %d, change %s, problem %q", h.head().Sequence, before, got.State, got.Problem)
			}
			if len(alarms) == 0 {
				t.Error("no alarm")
			}
			alarms = nil
			x.set(nil)
			if i == 2 { // given up: nothing of it was public
				back, err := h.status.Rollback(t.Context(), "operator:anna", change.ID, "no verifier", "", "")
				ok(t, err)
				if back.State != bulkhead.ChangeRefused || h.state(refs[4]) != bulkhead.Issued {
					t.Errorf("taken back, the change is %s", back.State)
				}
				return
			}
			ok(t, h.status.Activate(t.Context(), change.ID))
			h.later()
			if got := h.change(change.ID); got.State != bulkhead.ChangeSettled || got.Problem != "" {
				t.Errorf("without the fault the change is %s, problem %q", got.State, got.Problem)
			}
		})
	}
	h.agree()
}

// TestNotSeenIsNotSettled: below the threshold a verifier that cannot look keeps nothing from the public, and settles
// nothing.
func TestNotSeenIsNotSettled(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	x := newEyes()
	x.set(blind)
	h.rewire(func(c *status.Config) { c.Verifiers = []status.Verifier{x} })
	refs := h.issue(caA, 2)
	w := h.world()
	id := h.revoke(refs[0])
	h.tick()
	h.status.Wait()
	w.refresh()
	if got := h.change(id); got.State != bulkhead.ChangePublished || !strings.Contains(got.Problem, "not installed") || !strings.HasPrefix(w.ask(refs[0]).ocsp[0], "revoked") {
		t.Errorf("the change is %s, problem %q", got.State, got.Problem)
	}
	x.set(nil)
	h.later()
	if got := h.change(id); got.State != bulkhead.ChangeSettled || got.Problem != "" {
		t.Errorf("seen, the change is %s, problem %q", got.State, got.Problem)
	}
}

// wrongPack signs a revoked answer for a certificate that no change revokes, as a responder that matches by something else
// would, and puts it on top of what is public.
func (h *house) wrongPack(ref bulkhead.CertificateRef) {
	h.t.Helper()
	c := h.approved(ref) // never activated: it lends the signer what to say
	b, err := h.signer.SignAnswers(h.t.Context(), bulkhead.AnswerRequest{Authority: ref.Issuer, Serials: []bulkhead.Serial{ref.Serial}, Change: c.ID, ThisUpdate: h.now().Add(-time.Minute), NextUpdate: h.now().Add(day)})
	ok(h.t, err)
	a := h.authority(ref.Issuer)
	id, err := ocsp.NewIssuer(a.Subject, a.SPKI)
	ok(h.t, err)
	var buf strings.Builder
	w, err := pack.NewWriter(&buf, id)
	ok(h.t, err)
	responder, err := w.AddResponder(b.Responder)
	ok(h.t, err)
	ans := b.Answers[0]
	ok(h.t, w.Add(pack.Entry{Serial: ref.Serial, TBS: ans.TBS, Signature: ans.Signature, TBS256: ans.TBS256, Signature256: ans.Signature256, Responder: responder, ThisUpdate: b.ThisUpdate, NextUpdate: b.NextUpdate, Revoked: true}))
	obj, err := w.Finish()
	ok(h.t, err)
	obj.Name = fmt.Sprintf("packs/%s/wrong-%d.pack", ref.Issuer, h.serials.Add(1))
	ok(h.t, h.dir.Put(h.t.Context(), publish.Object{Name: obj.Name, Type: "application/octet-stream", Body: strings.NewReader(buf.String())}))
	_, err = h.status.Rollback(h.t.Context(), "test", c.ID, "it lent its answer", "", "")
	ok(h.t, err)
	h.publish(func(x *headEdit) {
		ih := x.Issuer(ref.Issuer)
		ih.Packs = append([]pack.ObjectRef{obj}, ih.Packs...)
	})
}

// TestAutomaticRollback: after a change, a certificate outside it is said to be revoked. The next look takes exactly that
// back, by a change with its own record and epoch; what people approved stays.
func TestAutomaticRollback(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.rewire(func(c *status.Config) { c.Verifiers = verifiers.New([]string{verifiers.OpenSSL, verifiers.GnuTLS}) })
	target, bystander := h.realCertificate(caA), h.realCertificate(caA)
	h.tick()
	w := h.world()
	id := h.revoke(target)
	h.wrongPack(bystander)
	w.refresh()
	if got := w.ask(bystander).ocsp; !strings.HasPrefix(got[0], "revoked") {
		t.Fatalf("the fault is not planted: %v", got)
	}
	before := h.head()
	began := time.Now()
	h.tick()
	h.status.Wait()
	t.Logf("the rollback took %s", time.Since(began))
	w.refresh()
	if got := w.ask(bystander); got != (said{ocsp: [2]string{"good", "good"}}) {
		t.Errorf("the bystander is %v", got)
	}
	if got := w.ask(target).ocsp; !strings.HasPrefix(got[0], "revoked") {
		t.Errorf("what was approved was taken back: %v", got)
	}
	after := h.head()
	if err := after.Follows(before); err != nil || after.Issuer(caA).Epoch != before.Issuer(caA).Epoch+1 {
		t.Errorf("epoch %d after %d: %v", after.Issuer(caA).Epoch, before.Issuer(caA).Epoch, err)
	}
	all, err := h.status.Changes(t.Context(), 10)
	ok(t, err)
	back := all[0]
	if back.Undoes != id || back.Rule != "" || back.Actor != "role:status" || back.Count != 1 {
		t.Errorf("the record of the rollback is %+v", back)
	}
	if got := h.story(back.ID); got[0] != bulkhead.EvRollback || !slices.Contains(got, bulkhead.EvChangeCanary) {
		t.Errorf("its story is %v", got)
	}
	if got := h.story(id); !slices.Contains(got, bulkhead.EvTakenBack) || !slices.Contains(got, bulkhead.EvChangeProblem) {
		t.Errorf("the story of the first change is %v", got)
	}
	h.later()
	h.later()
	if a, b := h.change(id), h.change(back.ID); a.State != bulkhead.ChangeSettled || b.State != bulkhead.ChangeSettled {
		t.Errorf("in the end the change is %s (%s), the rollback %s (%s)", a.State, a.Problem, b.State, b.Problem)
	}
	h.agree()
}

// TestRollback: one person ends what is not public; what is public stays unless an incident, the rule broken and two people
// say otherwise, and then it is a forward move.
func TestRollback(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	refs := h.issue(caA, 5)
	early := h.approved(refs[0])
	back, err := h.status.Rollback(t.Context(), "operator:anna", early.ID, "a slip", "", "")
	ok(t, err)
	if back.ID != early.ID || back.State != bulkhead.ChangeRefused || h.state(refs[0]) != bulkhead.Issued {
		t.Errorf("before publication: %+v", back)
	}
	_, err = h.status.Rollback(t.Context(), "operator:anna", early.ID, "again", "", "")
	wantKind(t, err, bulkhead.KindConflict, "nothing of it is public")

	id := h.revoke(refs[1])
	published := h.head()
	for _, c := range []struct {
		incident, rule, why string
		kind                bulkhead.Kind
		word                string
	}{
		{"", "", "a slip", bulkhead.KindGate, "BR 4.10.1"},
		{"inc-1", "", "a slip", bulkhead.KindGate, "BR 4.9.13"},
		{"", "BR 4.9.13", "a slip", bulkhead.KindGate, "taken back"},
		{"inc-1", "BR 1.1.1", "a slip", bulkhead.KindGate, "not a rule"},
		{"in c;1", "BR 4.9.13", "a slip", bulkhead.KindMalformed, "incident"},
		{"inc-1", "BR 4.9.13", " ", bulkhead.KindMalformed, "reason"},
	} {
		_, err := h.status.Rollback(t.Context(), "operator:anna", id, c.why, c.incident, c.rule)
		wantKind(t, err, c.kind, c.word)
	}
	if h.head().Sequence != published.Sequence || h.state(refs[1]) != bulkhead.Revoked {
		t.Error("a refusal moved something")
	}
	back, err = h.status.Rollback(t.Context(), "operator:anna", id, "the wrong list was read", "inc-1", "br 4.9.13")
	ok(t, err)
	if back.State != bulkhead.ChangePreviewed || back.Undoes != id || back.Rule != "BR 4.9.13" || back.Incident != "inc-1" {
		t.Fatalf("planned: %+v", back)
	}
	wantKind(t, h.status.ActivateByOne(t.Context(), "operator:anna", back.ID, back.PreviewHash), bulkhead.KindGate, "two people")
	ok(t, h.status.Approve(t.Context(), back.ID, back.PreviewHash, "request:1"))
	ok(t, h.status.Activate(t.Context(), back.ID))
	w := h.world()
	w.refresh()
	if got := w.ask(refs[1]); got != (said{ocsp: [2]string{"good", "good"}}) || h.state(refs[1]) != bulkhead.Issued {
		t.Errorf("taken back, the certificate is %v, %s in the record", got, h.state(refs[1]))
	}
	now := h.head()
	if err := now.Follows(published); err != nil || now.Issuer(caA).Epoch != published.Issuer(caA).Epoch+1 {
		t.Errorf("it is no forward move: %v", err)
	}
	if got := h.story(id); got[len(got)-1] != bulkhead.EvTakenBack {
		t.Errorf("the story of the first change ends with %v", got)
	}
	_, err = h.status.Rollback(t.Context(), "operator:anna", back.ID, "no, it was right", "inc-1", "BR 4.9.13")
	wantKind(t, err, bulkhead.KindConflict, "takes back")
	h.revoke(refs[1]) // it can be revoked again
	_, err = h.status.Rollback(t.Context(), "operator:anna", id, "again", "inc-1", "BR 4.9.13")
	wantKind(t, err, bulkhead.KindConflict, "already")
	h.agree()
}

// TestRollbackLeavesTheRest: a reason that was upgraded goes back to what it was, a blocked key stays revoked.
func TestRollbackLeavesTheRest(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	refs := h.issue(caA, 3)
	h.revoke(refs[0])
	first, _, err := h.store.Certificate(t.Context(), refs[0])
	ok(t, err)
	h.move(time.Hour)
	id, err := h.status.RevokeCertificates(t.Context(), "test", "an upgrade", items(bulkhead.KeyCompromise, refs[0], refs[1]))
	ok(t, err)
	back, err := h.status.Rollback(t.Context(), "operator:anna", id, "the proof was of another key", "inc-2", "BR 4.9.13")
	ok(t, err)
	ok(t, h.status.Approve(t.Context(), back.ID, back.PreviewHash, "request:2"))
	ok(t, h.status.Activate(t.Context(), back.ID))
	got, _, err := h.store.Certificate(t.Context(), refs[0])
	ok(t, err)
	if got.State != bulkhead.Revoked || got.Reason != first.Reason || !got.RevokedAt.Equal(first.RevokedAt) || h.state(refs[1]) != bulkhead.Issued {
		t.Errorf("the upgraded one is %s (%s %s), the other %s", got.State, got.Reason, got.RevokedAt, h.state(refs[1]))
	}
	h.agree()

	id, err = h.status.RevokeCertificates(t.Context(), "test", "found in a paste", items(bulkhead.KeyCompromise, refs[2]))
	ok(t, err)
	row, _, err := h.store.Certificate(t.Context(), refs[2])
	ok(t, err)
	ok(t, h.status.BlockKey(t.Context(), bulkhead.BlockedKey{KeyHash: row.KeyHash, Actor: "test", Reason: "paste"}))
	_, err = h.status.Rollback(t.Context(), "operator:anna", id, "no", "inc-3", "BR 4.9.13")
	wantKind(t, err, bulkhead.KindGate, "blocked")
}

// fakeTiers is a row of caches, one of which may ignore purges.
type fakeTiers struct {
	h      *house
	behind string
	fail   bool
	purged []uint64 // the public head at each purge
}

func (f *fakeTiers) Purge(context.Context, string) (status.TierReport, error) {
	if f.fail {
		return status.TierReport{}, bulkhead.NewFault(bulkhead.KindUnavailable, "the CDN says HTTP 500")
	}
	head := f.h.head()
	f.purged = append(f.purged, head.Sequence)
	return status.TierReport{Head: head.Sequence, HeadAt: head.At, Began: f.h.now(), Clean: true, Detail: "tier cdn: 2 nodes"}, nil
}

func (f *fakeTiers) Verify(context.Context, string) (status.TierReport, error) {
	r := status.TierReport{Head: f.h.head().Sequence, Clean: f.behind == "", Detail: "2 nodes"}
	if f.behind != "" {
		r.Behind, r.Dies = []string{f.behind}, f.h.now().Add(day)
	}
	return r, nil
}

// TestCaches: caches are purged after the head is public and never before; settled is verified through them; a node that
// ignores the purge is named, with the moment at which its last wrong answer dies. None of it keeps a status from the public.
func TestCaches(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	f := &fakeTiers{h: h, fail: true}
	h.rewire(func(c *status.Config) { c.Tiers = f })
	refs := h.issue(caA, 2)
	id := h.revoke(refs[0])
	h.tick()
	h.status.Wait()
	if c := h.change(id); c.State != bulkhead.ChangePublished || !strings.Contains(c.Problem, "HTTP 500") || c.Dies.IsZero() || h.head().Sequence < c.Epoch {
		t.Errorf("with a failing purge the change is %s, problem %q", c.State, c.Problem)
	}
	f.fail, f.behind = false, "10.0.0.7 of tier lb still serves an older answer; call the network team"
	h.later()
	if c := h.change(id); c.State != bulkhead.ChangePublished || c.Problem != f.behind || !c.Dies.Equal(h.now().Add(day)) {
		t.Errorf("with a node behind the change is %s, problem %q, dies %s", c.State, c.Problem, c.Dies)
	}
	h.move(time.Minute)
	f.behind = ""
	h.later()
	c := h.change(id)
	if c.State != bulkhead.ChangeSettled || c.Problem != "" || !c.Dies.IsZero() {
		t.Errorf("with clean caches the change is %s, problem %q", c.State, c.Problem)
	}
	for _, seq := range f.purged {
		if seq < c.Epoch {
			t.Errorf("purged on head %d, before head %d was public", seq, c.Epoch)
		}
	}
	got := h.story(id)
	published, purged, verified := slices.Index(got, bulkhead.EvChangePublished), slices.Index(got, bulkhead.EvCachesPurged), slices.Index(got, bulkhead.EvCachesVerified)
	if published < 0 || purged < published || verified < purged || got[len(got)-1] != bulkhead.EvChangeSettled {
		t.Errorf("the order in evidence is %v", got)
	}
	h.agree()
}
