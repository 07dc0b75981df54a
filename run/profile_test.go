package run

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/quorum"
)

// again ends the process and starts the next one on the same directory.
func (w *world) again() {
	w.Helper()
	w.ok(w.h.Close())
	cfg, err := LoadConfig(w.h.dir)
	w.ok(err)
	w.h, err = OpenWith(context.WithoutCancel(w.Context()), Options{Dir: w.h.dir, Config: cfg, Now: w.now})
	w.ok(err)
	w.ok(w.h.Start(w.Context()))
}

// file writes tls-server with another life into the folder, and returns the text.
func (w *world) file(days string) string {
	w.Helper()
	path := filepath.Join(w.h.dir, profilesDir, "tls-server.yaml")
	text, err := os.ReadFile(path)
	w.ok(err)
	var lines []string
	for _, l := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(l, "validity:") {
			l = "validity: " + days
		}
		lines = append(lines, l)
	}
	w.ok(os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o644))
	return strings.Join(lines, "\n")
}

// lives issues under a profile and says for how many days; the error is the refusal.
func (w *world) lives(name, profile string) (int, error) {
	w.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.ok(err)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{name}}, key)
	w.ok(err)
	got, err := (&orders{Service: w.h.enroll}).IssueForOperator(w.Context(), "test", bulkhead.CertificateRequest{CSR: csr, Profile: profile})
	if err != nil {
		return 0, err
	}
	return int(got.Certificate.NotAfter.Sub(got.Certificate.NotBefore).Round(time.Hour).Hours()) / 24, nil
}

// taken asks the signer itself, as whoever took enrolment over would, with the order and evidence of an earlier certificate.
func (w *world) taken(profile string) error {
	w.Helper()
	c, _, err := w.h.store.Certificate(w.Context(), w.live)
	w.ok(err)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"here.test"}}, w.key)
	w.ok(err)
	_, err = w.h.signer.Issue(w.Context(), bulkhead.CertificateRequest{Profile: profile, Authority: c.Issuer, CSR: csr, Names: c.Names, AccountID: c.AccountID, OrderID: c.OrderID})
	return err
}

func (w *world) gate(what string, err error) {
	w.Helper()
	if f := bulkhead.AsFault(err); err == nil || f.Kind != bulkhead.KindGate || !strings.Contains(f.Hint, "bulkhead profile propose") {
		w.Errorf("%s: %v; want a refusal by the gate that says how a profile is proposed", what, err)
	}
}

// propose opens a request over the API's own port and returns it with what it says it grants.
func (w *world) propose(text string) (bulkhead.ApprovalRequest, console.ProfileChange) {
	w.Helper()
	c, err := w.h.book.ProposedProfile(w.Context(), text)
	w.ok(err)
	r, err := w.h.quorum.Propose(w.Context(), console.ActionChangeProfile, c.Payload, "operator:test", "for the test")
	w.ok(err)
	return r, c
}

func (w *world) signs(r bulkhead.ApprovalRequest, person int) (bulkhead.ApprovalRequest, error) {
	w.Helper()
	k := w.people()[person]
	shown, err := w.h.quorum.Request(w.Context(), r.ID)
	w.ok(err)
	return w.h.quorum.Approve(w.Context(), r.ID, bulkhead.Digest(k.Public().(ed25519.PublicKey)), quorum.SignApproval(k, shown))
}

// TestProfileApproval: a widened profile takes two people, a narrowed one takes one, and until then the signer refuses it by
// name while everything else goes on; what was approved stays so over restarts, and what was replaced does not come back.
func TestProfileApproval(t *testing.T) {
	w := newWorld(t)
	wide := w.file("90d")
	w.again()
	w.gate("enrolment", second(w.lives("a.test", "tls-server")))
	w.gate("the signer", w.taken("tls-server"))
	if _, err := w.lives("b.test", "tls-server-short"); err != nil {
		t.Errorf("another profile: %v", err)
	}
	if f := w.finding("profiles"); f.Level != levelFailure || !strings.Contains(f.Detail, "tls-server.yaml was changed") {
		t.Errorf("the doctor says %+v", f)
	}
	r, c := w.propose(wide)
	if r.Needed != 2 || len(c.Grants) != 1 || c.Version != 1 {
		t.Fatalf("the change takes %d people and grants %q", r.Needed, c.Grants)
	}
	r, err := w.signs(r, 0)
	w.ok(err)
	w.gate("one of two", w.taken("tls-server"))
	if _, err := w.h.quorum.Finish(w.Context(), r.ID); bulkhead.KindOf(err) != bulkhead.KindGate {
		t.Errorf("activated on one signature: %v", err)
	}
	if _, err := w.signs(r, 0); bulkhead.KindOf(err) != bulkhead.KindGate {
		t.Errorf("one person twice: %v", err)
	}
	r, err = w.signs(r, 1)
	w.ok(err)
	if days, err := w.lives("c.test", "tls-server"); err != nil || days != 90 || r.State != bulkhead.RequestExecuted {
		t.Fatalf("%d days, %v, request %s", days, err, r.State)
	}
	if again, err := w.h.quorum.Finish(w.Context(), r.ID); err != nil || again.State != bulkhead.RequestExecuted {
		t.Errorf("a second activation: %v", err)
	}

	// Less power takes one person; the file of before is an older version, and no offer.
	narrow, c := w.propose(strings.Replace(wide, "validity: 90d", "validity: 20d", 1))
	if narrow.Needed != 1 || len(c.Grants) != 0 || c.Version != 2 {
		t.Fatalf("less power takes %d people and grants %q", narrow.Needed, c.Grants)
	}
	// Made for the same place: it comes too late, whoever signed it.
	late, _ := w.propose(strings.Replace(wide, "validity: 90d", "validity: 91d", 1))
	_, err = w.signs(narrow, 1)
	w.ok(err)
	_, err = w.signs(late, 0)
	w.ok(err)
	if _, err = w.signs(late, 1); bulkhead.KindOf(err) != bulkhead.KindConflict {
		t.Errorf("a change of what is no more in force: %v", err)
	}
	w.again()
	if days, err := w.lives("d.test", "tls-server"); err != nil || days != 20 {
		t.Errorf("after a restart %d days, %v", days, err)
	}
	rows, err := w.h.book.ProfileVersions(w.Context(), "tls-server")
	w.ok(err)
	if n, last := w.leaves(bulkhead.EvProfile); n != 2 || last.Ref != "tls-server" || last.Digest != rows[2].SHA256 || len(rows) != 3 {
		t.Errorf("%d leaves, the last %+v; %d versions", n, last, len(rows))
	}
	if f := w.finding("profiles"); f.Level != levelOK {
		t.Errorf("the doctor says %+v", f)
	}
}

func second[A any](_ A, err error) error { return err }

// TestProfileForged: whoever writes the record as he likes cannot widen a profile. Rows without signatures, signatures of one
// person, of strangers and over another text, and a request for something else come to nothing but an alarm each.
func TestProfileForged(t *testing.T) {
	w := newWorld(t)
	ctx := w.Context()
	wide := strings.Replace(w.file("47d"), "validity: 47d", "validity: 90d", 1)
	c, err := w.h.book.ProposedProfile(ctx, wide)
	w.ok(err)
	body, err := json.Marshal(c.Payload)
	w.ok(err)
	put := func(id, action string, payload []byte, keys ...ed25519.PrivateKey) {
		r := bulkhead.ApprovalRequest{ID: id, Action: action, Payload: payload, Digest: bulkhead.Digest(payload), Needed: 1, State: bulkhead.RequestExecuted, CreatedAt: w.now(), ExpiresAt: w.now()}
		for i, k := range keys {
			r.Approvals = append(r.Approvals, bulkhead.Approval{Operator: "operator-" + string(rune('1'+i)), KeyHash: bulkhead.Digest(k.Public().(ed25519.PublicKey)), Signature: quorum.SignApproval(k, r), At: w.now()})
		}
		w.ok(w.h.store.CreateRequest(ctx, r))
		w.ok(w.h.store.PutProfileVersion(ctx, bulkhead.ProfileVersion{Name: "tls-server", Number: 1, Request: id, At: w.now()}))
	}
	_, one, err := ed25519.GenerateKey(rand.Reader)
	w.ok(err)
	_, two, err := ed25519.GenerateKey(rand.Reader)
	w.ok(err)
	people := w.people()
	w.ok(w.h.store.PutProfileVersion(ctx, bulkhead.ProfileVersion{Name: "tls-server", Number: 1, Request: "f-0", At: w.now()}))
	put("f-1", console.ActionChangeProfile, body)
	put("f-2", console.ActionChangeProfile, body, people[0])
	put("f-3", console.ActionChangeProfile, body, one, two)
	put("f-4", console.ActionResume, body, people...)
	put("f-5", console.ActionChangeProfile, []byte("{"), people...)
	// Signed by one as a change that grants nothing: the text before is not what is in force.
	fancy, err := json.Marshal(map[string]any{"name": "tls-server", "version": 1, "before": strings.Replace(wide, "90d", "91d", 1), "after": wide, "grants": []string{}})
	w.ok(err)
	put("f-6", console.ActionChangeProfile, fancy, people[0])
	// Strangers whom a row put into office.
	w.ok(w.h.store.PutOperator(ctx, bulkhead.Operator{Name: "one", PublicKey: one.Public().(ed25519.PublicKey), AddedAt: w.now()}))
	w.ok(w.h.store.PutOperator(ctx, bulkhead.Operator{Name: "two", PublicKey: two.Public().(ed25519.PublicKey), AddedAt: w.now()}))
	put("f-7", console.ActionChangeProfile, body, one, two)
	// Genuine, and the text changed afterwards.
	put("f-8", console.ActionChangeProfile, body, people...)
	w.plant(`UPDATE requests SET payload = $1 WHERE id = 'f-8'`, []byte(strings.Replace(string(body), "validity: 90d", "validity: 99d", 1)))
	w.pass(2 * profilesEvery)
	for range 2 {
		if days, err := w.lives("a.test", "tls-server"); err != nil || days != 47 {
			t.Errorf("%d days, %v", days, err)
		}
		w.again()
	}
	all, err := w.h.store.Alarms(ctx, 100)
	w.ok(err)
	told := map[string]bool{}
	for _, a := range all {
		if a.Detector == quorum.Detector && strings.HasPrefix(a.Key, "profile,tls-server,1,f-") {
			told[a.Key] = true
		}
	}
	if len(told) != 9 {
		t.Errorf("alarms %v", told)
	}
	// The genuine one still comes through.
	_, err = w.approve(console.ActionChangeProfile, c.Payload)
	w.ok(err)
	if days, err := w.lives("b.test", "tls-server"); err != nil || days != 90 {
		t.Errorf("%d days, %v", days, err)
	}
}

// TestProfileFirst: what stands in the folder while the record is empty is what the house begins with. A profile that comes
// later is new power, and a directory from before this was kept trusts what comes with the program.
func TestProfileFirst(t *testing.T) {
	w := newWorld(t)
	w.ok(os.Remove(filepath.Join(w.h.dir, firstProfilesFile)))
	w.again()
	if days, err := w.lives("a.test", "tls-server"); err != nil || days != 47 {
		t.Errorf("%d days, %v", days, err)
	}
	fresh := strings.Replace(w.file("47d"), "name: tls-server", "name: tls-later", 1)
	w.ok(os.WriteFile(filepath.Join(w.h.dir, profilesDir, "tls-later.yaml"), []byte(fresh), 0o644))
	w.again()
	w.gate("a new profile in the folder", w.taken("tls-later"))
	r, c := w.propose(fresh)
	if r.Needed != 2 || len(c.Grants) < 4 {
		t.Errorf("a new profile takes %d people and grants %q", r.Needed, c.Grants)
	}
	for i := range 2 {
		_, err := w.signs(r, i)
		w.ok(err)
	}
	if days, err := w.lives("b.test", "tls-later"); err != nil || days != 47 {
		t.Errorf("%d days, %v", days, err)
	}

	dir := filepath.Join(t.TempDir(), "data")
	cfg := DefaultConfig()
	_, err := FirstStart(t.Context(), dir, cfg, nil)
	w.ok(err)
	own := strings.Replace(fresh, "name: tls-later", "name: tls-own", 1)
	w.ok(os.WriteFile(filepath.Join(dir, profilesDir, "tls-own.yaml"), []byte(own), 0o644))
	stored, err := LoadConfig(dir)
	w.ok(err)
	for _, days := range []string{"47d", "90d"} {
		w.ok(os.WriteFile(filepath.Join(dir, profilesDir, "tls-own.yaml"), []byte(strings.Replace(own, "validity: 47d", "validity: "+days, 1)), 0o644))
		h, err := OpenWith(t.Context(), Options{Dir: dir, Config: stored})
		w.ok(err)
		_, err = h.book.Profile(t.Context(), "tls-own")
		w.ok(h.Close())
		if days == "47d" {
			w.ok(err)
		} else {
			w.gate("changed after the first start", err)
		}
	}
}

// TestProfileOverAPI: proposing, approving and activating over the API, with a dry run that changes nothing.
func TestProfileOverAPI(t *testing.T) {
	w := newWorld(t)
	wide := strings.Replace(w.file("47d"), "validity: 47d", "validity: 90d", 1)
	in := console.ProfileRequest{YAML: wide, Reason: "for the test"}
	var plan console.Plan
	if code := w.call(http.MethodPost, "/api/v1/profiles?dry_run=true", in, &plan); code != 200 || !strings.Contains(strings.Join(plan.Would, " "), "longer life") {
		t.Errorf("%d, %+v", code, plan)
	}
	var p console.ProposedProfile
	if code := w.call(http.MethodPost, "/api/v1/profiles", in, &p); code != 200 || p.Approval.Needed != 2 || p.Change.Grants == nil {
		t.Fatalf("%d, %+v", code, p)
	}
	var problem struct{ Hint string }
	if code := w.call(http.MethodPost, "/api/v1/profiles/activation", console.ProfileActivation{Request: p.Approval.ID}, &problem); code < 400 {
		t.Error("activated without a signature")
	}
	for i := range 2 {
		_, err := w.signs(bulkhead.ApprovalRequest{ID: p.Approval.ID}, i)
		w.ok(err)
	}
	var v console.ApprovalView
	if code := w.call(http.MethodPost, "/api/v1/profiles/activation", console.ProfileActivation{Request: p.Approval.ID}, &v); code != 200 || v.State != bulkhead.RequestExecuted {
		t.Errorf("%d, %+v", code, v)
	}
	var list console.ProfileList
	w.call(http.MethodGet, "/api/v1/profiles", nil, &list)
	for _, x := range list.Profiles {
		if want := x.Name == "tls-server"; (x.Version == 1) != want || (x.Request != "") != want || x.Problem != "" {
			t.Errorf("%+v", x)
		}
	}
	if code := w.call(http.MethodPost, "/api/v1/profiles", in, &problem); code != 409 {
		t.Errorf("what is in force already: %d", code)
	}
}
