package regress

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/pki/tlog"
	"bulkhead/quorum"
	"bulkhead/run"
)

// operators are the keys of the two operators of the first start.
func (h *house) operators() [2]ed25519.PrivateKey {
	h.t.Helper()
	var out [2]ed25519.PrivateKey
	for i, path := range []string{filepath.Join(h.dir, "operator", "operator-1.key"), filepath.Join(run.RootDir(h.dir), "operator-2.key")} {
		text, err := os.ReadFile(path)
		ok(h.t, err)
		out[i], err = quorum.ParseKey(text)
		ok(h.t, err)
	}
	return out
}

func (h *house) sign(r bulkhead.ApprovalRequest, keys ...ed25519.PrivateKey) (last bulkhead.ApprovalRequest, err error) {
	h.t.Helper()
	for _, k := range keys {
		if last, err = h.Quorum.Approve(h.t.Context(), r.ID, bulkhead.Digest(k.Public().(ed25519.PublicKey)), quorum.SignApproval(k, r)); err != nil {
			return last, err
		}
	}
	return last, nil
}

// onePerson makes two certificates a large change.
func onePerson(c *run.Config) { c.Status.OnePerson = 1 }

// large plans a change that takes two people, and previews it.
func (h *house) large(tag string) bulkhead.Change {
	h.t.Helper()
	var items []bulkhead.ChangeItem
	for i := range 2 {
		p := h.issue(fmt.Sprintf("%s-%d.test", tag, i))
		items = append(items, bulkhead.ChangeItem{CertificateRef: p.CertificateRef, Reason: bulkhead.Superseded})
	}
	c, err := h.Status.PlanRevocation(h.t.Context(), "operator:operator-1", "a test", items)
	ok(h.t, err)
	return c
}

// mark sets the row of a change to approved, with a leaf that says by what, as somebody with the rights of the database
// could.
func (h *house) mark(c bulkhead.Change, by string) {
	h.t.Helper()
	c.State = bulkhead.ChangeApproved
	ok(h.t, h.Store.MoveChange(h.t.Context(), c, bulkhead.ChangePreviewed, bulkhead.Evidence{Kind: bulkhead.EvChangeApproved, At: h.now().UTC(), Actor: by, Ref: c.ID, Digest: c.PreviewHash, Detail: "approved"}))
}

func (h *house) alarmed(key string) bool {
	h.t.Helper()
	all, err := h.Store.AlarmsOf(h.t.Context(), quorum.Detector, 100)
	ok(h.t, err)
	return slices.ContainsFunc(all, func(a bulkhead.Alarm) bool { return a.Key == key && a.Severity == bulkhead.Critical })
}

// unsigned finds the leaf that tells of a forged approval.
func (h *house) unsigned(ref string) bool {
	h.t.Helper()
	rows, err := h.Store.EvidenceAfter(h.t.Context(), 0, 100_000)
	ok(h.t, err)
	return slices.ContainsFunc(rows, func(r bulkhead.EvidenceRow) bool {
		e, err := tlog.Parse(r.Leaf)
		return err == nil && e.Kind == bulkhead.EvUnsigned && e.Ref == ref
	})
}

type activation struct {
	Change  string        `json:"change"`
	Preview bulkhead.Hash `json:"preview"`
}

// TestMarkedApproved sets the row of a change that takes two people to approved by hand, with everything beside it that a
// row can have. The status role refuses each, and says so; nothing goes public. The same change, signed, goes through.
func TestMarkedApproved(t *testing.T) {
	t.Parallel()
	h := newHouse(t, onePerson)
	keys := h.operators()
	propose := func(c bulkhead.Change) bulkhead.ApprovalRequest {
		r, err := h.Quorum.Propose(t.Context(), "change.activate", activation{c.ID, c.PreviewHash}, "operator:operator-1", "a test")
		ok(t, err)
		return r
	}
	signedElsewhere := func() string {
		c := h.large("first")
		r, err := h.sign(propose(c), keys[:]...)
		ok(t, err)
		if r.State != bulkhead.RequestExecuted {
			t.Fatalf("request is %s", r.State)
		}
		if got, err := h.Store.Change(t.Context(), c.ID); err != nil || got.State != bulkhead.ChangePublished && got.State != bulkhead.ChangeSettled {
			t.Fatalf("what two people signed is %s: %v", got.State, err)
		}
		if h.alarmed("change," + c.ID) {
			t.Error("an alarm for what two people signed")
		}
		return r.ID
	}()
	for name, basis := range map[string]func(c bulkhead.Change) string{
		"no-request":      func(bulkhead.Change) string { return "operator:operator-1" },
		"unknown-request": func(bulkhead.Change) string { return "request:nosuch" },
		"one-signature": func(c bulkhead.Change) string {
			r := propose(c)
			_, err := h.sign(r, keys[0])
			ok(t, err)
			ok(t, h.Store.MoveRequest(t.Context(), r.ID, bulkhead.RequestOpen, bulkhead.RequestApproved))
			return "request:" + r.ID
		},
		"executed-by-hand": func(c bulkhead.Change) string {
			r := propose(c)
			ok(t, h.Store.MoveRequest(t.Context(), r.ID, bulkhead.RequestOpen, bulkhead.RequestExecuted))
			return "request:" + r.ID
		},
		"another-change":   func(bulkhead.Change) string { return "request:" + signedElsewhere },
		"no-such-campaign": func(bulkhead.Change) string { return "request:" + signedElsewhere + " of campaign nosuch" },
	} {
		c := h.large(name)
		h.mark(c, basis(c))
		before := len(h.revoked())
		err := h.Status.Activate(t.Context(), c.ID)
		if bulkhead.KindOf(err) != bulkhead.KindGate {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := h.Store.Change(t.Context(), c.ID)
		ok(t, err)
		if got.State != bulkhead.ChangeRefused || len(h.revoked()) != before {
			t.Errorf("%s: the change is %s", name, got.State)
		}
		if !h.alarmed("change,"+c.ID) || !h.unsigned(c.ID) {
			t.Errorf("%s: alarm %v, leaf %v", name, h.alarmed("change,"+c.ID), h.unsigned(c.ID))
		}
	}
}

// revoked lists what the record says is revoked.
func (h *house) revoked() []bulkhead.Certificate {
	h.t.Helper()
	rows, _, err := h.Store.Certificates(h.t.Context(), bulkhead.CertificateFilter{State: bulkhead.Revoked, Limit: 1000})
	ok(h.t, err)
	return rows
}

// TestMarkedRollback makes the row of a rollback look like an automatic one, which nobody signs. It is held to its one
// reason, that nothing revokes what it says is good, and refused.
func TestMarkedRollback(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	p := h.issue("rolled.test")
	id, err := h.Status.RevokeCertificates(t.Context(), "operator:operator-1", "a test", []bulkhead.ChangeItem{{CertificateRef: p.CertificateRef, Reason: bulkhead.Superseded}})
	ok(t, err)
	row, _, err := h.Store.Certificate(t.Context(), p.CertificateRef)
	ok(t, err)
	preview := []byte(`{}`)
	c := bulkhead.Change{ID: "forged", State: bulkhead.ChangePreviewed, Actor: "role:status", Why: "automatic", Undoes: id, Count: 1, CreatedAt: h.now().UTC().Truncate(time.Second), Preview: preview, PreviewHash: bulkhead.Digest(preview)}
	ok(t, h.Store.CreateChange(t.Context(), c, []bulkhead.ChangeItem{{CertificateRef: p.CertificateRef, Reason: row.Reason, RevokedAt: row.RevokedAt}}))
	h.mark(c, "role:status")
	wantKind(t, h.Status.Activate(t.Context(), c.ID), bulkhead.KindGate)
	if row, _, err = h.Store.Certificate(t.Context(), p.CertificateRef); err != nil || row.State != bulkhead.Revoked || !h.alarmed("change,forged") {
		t.Errorf("the certificate is %s, alarm %v: %v", row.State, h.alarmed("change,forged"), err)
	}
}

// TestMarkedRequest sets requests to approved by hand, one for each action. None is carried out at the next start, each has
// its alarm; one that was signed before the process died is carried out, in silence.
func TestMarkedRequest(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	keys := h.operators()
	stop, err := h.Enroll.Stop(t.Context(), "operator:operator-1", bulkhead.Stop{Kind: bulkhead.StopAll, Reason: "a test"})
	ok(t, err)
	var marked []bulkhead.ApprovalRequest
	for action, payload := range map[string]string{
		"issuance.resume": `{"stop":"` + stop.ID + `","scope":"all","why":"w"}`, "campaign.start": `{"campaign":"x"}`, "account.resume": `{"account":"x"}`, "partner.add": `{"ID":"p"}`,
		"partner.limit": `{"ID":"p"}`, "partner.resume": `{"ID":"p"}`, "order.approve": `{"order":"x"}`, "change.rollback": `{"change":"x"}`, "operator.remove": `{"name":"operator-2"}`,
	} {
		r := bulkhead.ApprovalRequest{ID: strings.ReplaceAll(action, ".", "-"), Action: action, Payload: json.RawMessage(payload), Digest: bulkhead.Digest([]byte(action + "\n" + payload)), Needed: 0,
			State: bulkhead.RequestApproved, Actor: "operator:operator-1", Reason: "a test", CreatedAt: h.now().UTC(), ExpiresAt: h.now().Add(time.Hour).UTC()}
		ok(t, h.Store.CreateRequest(t.Context(), r))
		marked = append(marked, r)
	}
	h.restart()
	for _, r := range marked {
		got, err := h.Quorum.Request(t.Context(), r.ID)
		ok(t, err)
		if got.State != bulkhead.RequestRefused || !h.alarmed(r.ID) || !h.unsigned(r.ID) {
			t.Errorf("%s: %s, alarm %v, leaf %v", r.Action, got.State, h.alarmed(r.ID), h.unsigned(r.ID))
		}
	}
	if s, err := h.Store.Stop(t.Context(), stop.ID); err != nil || !s.InForce() {
		t.Errorf("the stop ended: %v", err)
	}
	good, err := h.Quorum.Propose(t.Context(), "issuance.resume", map[string]string{"stop": stop.ID, "scope": "all", "why": "w"}, "operator:operator-1", "mended")
	ok(t, err)
	_, err = h.sign(good, keys[0])
	ok(t, err)
	ok(t, h.Store.AddApproval(t.Context(), bulkhead.Approval{RequestID: good.ID, Operator: "operator-2", KeyHash: bulkhead.Digest(keys[1].Public().(ed25519.PublicKey)), Signature: quorum.SignApproval(keys[1], good), At: h.now().UTC()}))
	ok(t, h.Store.MoveRequest(t.Context(), good.ID, bulkhead.RequestOpen, bulkhead.RequestApproved)) // and the process dies
	h.restart()
	if got, err := h.Quorum.Request(t.Context(), good.ID); err != nil || got.State != bulkhead.RequestExecuted || h.alarmed(good.ID) {
		t.Errorf("what was signed is %s: %v", got.State, err)
	}
}

// TestStrangersInTheTable puts two operators into the table by hand. Their signatures count for nothing: nobody who was in
// office signed for them.
func TestStrangersInTheTable(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var strangers []ed25519.PrivateKey
	for _, name := range []string{"mallory", "trudy"} {
		pub, key, err := ed25519.GenerateKey(rand.Reader)
		ok(t, err)
		ok(t, h.Store.PutOperator(t.Context(), bulkhead.Operator{Name: name, PublicKey: pub, Roles: []string{"admin"}, AddedAt: h.now()}))
		strangers = append(strangers, key)
	}
	r, err := h.Quorum.Propose(t.Context(), "operator.remove", quorum.OperatorPayload{Name: "operator-1"}, "operator:mallory", "a test")
	ok(t, err)
	_, err = h.sign(r, strangers...)
	wantKind(t, err, bulkhead.KindForbidden)
	// Nor does a request in the table that they signed themselves bring them in.
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	ok(t, err)
	body, err := json.Marshal(quorum.OperatorPayload{Name: "mallory", PublicKey: strangers[0].Public().(ed25519.PublicKey)})
	ok(t, err)
	own := bulkhead.ApprovalRequest{ID: "own", Action: "operator.add", Payload: body, State: bulkhead.RequestExecuted, CreatedAt: h.now(), ExpiresAt: h.now().Add(time.Hour)}
	for i, k := range strangers {
		own.Approvals = append(own.Approvals, bulkhead.Approval{Operator: fmt.Sprintf("operator-%d", i+1), KeyHash: bulkhead.Digest(k.Public().(ed25519.PublicKey)), Signature: quorum.SignApproval(k, own), At: h.now()})
	}
	ok(t, h.Store.CreateRequest(t.Context(), own))
	_, err = h.sign(r, strangers[0])
	wantKind(t, err, bulkhead.KindForbidden)
	// Whom two people in office signed for is one of them, and may sign for the next.
	keys := h.operators()
	add, err := h.Quorum.Propose(t.Context(), "operator.add", quorum.OperatorPayload{Name: "carol", PublicKey: pub}, "operator:operator-1", "a test")
	ok(t, err)
	if got, err := h.sign(add, keys[:]...); err != nil || got.State != bulkhead.RequestExecuted {
		t.Fatalf("%s: %v", got.State, err)
	}
}

// TestMarkedResumption ends a stop in the record by hand, and once quoting a request for another stop. The signer holds it all
// the same, and says so; also after a restart. When two people sign that it ends, it ends, in silence.
func TestMarkedResumption(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	keys := h.operators()
	end := func(id, by string) {
		t.Helper()
		x, err := h.Store.Stop(t.Context(), id)
		ok(t, err)
		x.EndedAt, x.EndedBy, x.Ending = h.now().UTC(), by, "x"
		ok(t, h.Store.EndStop(t.Context(), x))
	}
	stop := func() bulkhead.Stop {
		x, err := h.Enroll.Stop(t.Context(), "operator:operator-1", bulkhead.Stop{Kind: bulkhead.StopAll, Reason: "a test"})
		ok(t, err)
		return x
	}
	resume := func(x bulkhead.Stop) bulkhead.ApprovalRequest {
		r, err := h.Quorum.Propose(t.Context(), "issuance.resume", map[string]string{"stop": x.ID, "scope": "all"}, "operator:operator-1", "mended")
		ok(t, err)
		r, err = h.sign(r, keys[:]...)
		ok(t, err)
		return r
	}
	refused := func(what string) {
		t.Helper()
		// Enrolment refuses what it sees stopped; what the signer alone holds waits as an order under way.
		_, err := h.order("held.test", newKey(t), issuing, bulkhead.CertificateRef{})
		if k := bulkhead.KindOf(err); k != bulkhead.KindStopped && k != bulkhead.KindUnavailable {
			t.Errorf("%s: %v", what, err)
		}
		rows, _, err := h.Store.Certificates(t.Context(), bulkhead.CertificateFilter{Name: "held.test", State: bulkhead.Issued, Limit: 10})
		if err != nil || len(rows) > 0 {
			t.Errorf("%s: %d certificates: %v", what, len(rows), err)
		}
	}
	first := stop()
	refused("stopped")
	good := resume(first)
	if _, err := h.order("signed.test", newKey(t), issuing, bulkhead.CertificateRef{}); err != nil || h.alarmed("stop,"+first.ID) {
		t.Fatalf("after two people signed: alarm %v, %v", h.alarmed("stop,"+first.ID), err)
	}
	second := stop()
	refused("stopped again")
	end(second.ID, good.ID)
	h.shift.Add(int64(2 * time.Second)) // within which the signer hears of stops
	refused("ended with a request for another stop")
	if !h.alarmed("stop," + second.ID) {
		t.Error("no alarm")
	}
	h.restart()
	refused("after a restart")
	third := stop()
	resume(third) // signed, and the one before it is held all the same
	refused("another one was ended by people")
}
