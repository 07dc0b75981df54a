package run

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/incident"
	"bulkhead/notice/mailtest"
	"bulkhead/quorum"
)

// campaignWorld is a house of which one person may start campaigns of one certificate, with a relay for its mail.
func campaignWorld(t *testing.T) (*world, *mailtest.Relay) {
	t.Helper()
	w := &world{T: t, at: time.Now().UTC().Truncate(time.Second), raised: map[string]bulkhead.Alarm{}}
	dir := filepath.Join(t.TempDir(), "data")
	made, err := firstHouse()
	w.ok(err)
	w.ok(exec.Command("cp", "-a", made, dir).Run())
	w.ok(exec.Command("cp", "-a", RootDir(made), RootDir(dir)).Run())
	cfg, err := LoadConfig(dir)
	w.ok(err)
	r := mailtest.New(t, false)
	cfg.Resolver = nobodyIsThere(t)
	cfg.Status.OnePerson, cfg.Status.Verifiers = 1, []string{"none"}
	cfg.ExpiryNotices.To.Mail.SMTP, cfg.ExpiryNotices.To.Mail.From, cfg.ExpiryNotices.To.Mail.StartTLS = r.Addr, "ca@house.test", false
	w.h, err = OpenWith(t.Context(), Options{Dir: dir, Config: cfg, Now: w.now})
	w.ok(err)
	t.Cleanup(func() { _ = w.h.Close() })
	w.ok(w.h.Start(t.Context()))
	w.db, err = sql.Open("sqlite", "file:"+filepath.Join(dir, "bulkhead.db")+"?_pragma=busy_timeout(5000)")
	w.ok(err)
	t.Cleanup(func() { _ = w.db.Close() })
	w.ok(w.h.store.CreateAccount(t.Context(), bulkhead.Account{ID: "customer", State: bulkhead.AccountValid, Thumbprint: "c", JWK: []byte("{}"), Contacts: []string{"mailto:pki@customer.test"}, CreatedAt: w.now()}))
	return w, r
}

// nobodyIsThere is a resolver that knows no name: nothing is served at the names of the day.
func nobodyIsThere(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{PacketConn: c, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		_ = w.WriteMsg(new(dns.Msg).SetRcode(r, dns.RcodeNameError))
	})}
	go func() { _ = s.ActivateAndServe() }()
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().String()
}

// customers issues a certificate for a name of the customer.
func (w *world) customers(name string) bulkhead.CertificateRef {
	w.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.ok(err)
	got, err := w.order(name, key)
	w.ok(err)
	ref := got.Certificate.CertificateRef
	w.plant(`UPDATE certificates SET account_id = 'customer' WHERE issuer = ? AND hex(serial) LIKE ?`, string(ref.Issuer), "%"+strings.ToUpper(ref.Serial.String()))
	return ref
}

// operatorKeyOf is the key of the first or the second operator.
func (w *world) operatorKeyOf(n int) ed25519.PrivateKey {
	w.Helper()
	text, err := os.ReadFile([]string{filepath.Join(w.h.dir, operatorKey), filepath.Join(RootDir(w.h.dir), secondOperator)}[n])
	w.ok(err)
	key, err := quorum.ParseKey(text)
	w.ok(err)
	return key
}

// call is one request to the API by the first operator.
func (w *world) call(method, path string, in, out any) int {
	w.Helper()
	body, err := json.Marshal(in)
	w.ok(err)
	req := httptest.NewRequest(method, path, bytes.NewReader(body))
	nonce := make([]byte, 12)
	_, err = rand.Read(nonce)
	w.ok(err)
	header, err := quorum.SignRequest(w.operatorKeyOf(0), method, req.URL.RequestURI(), body, w.now(), hex.EncodeToString(nonce))
	w.ok(err)
	req.Header.Set("Authorization", header)
	req.Header.Set("Content-Type", "application/json")
	rec := httptest.NewRecorder()
	w.h.API().ServeHTTP(rec, req)
	if out != nil && rec.Code/100 == 2 {
		w.ok(json.Unmarshal(rec.Body.Bytes(), out))
	}
	return rec.Code
}

// round lets the desk and the sender work once.
func (w *world) round() {
	w.Helper()
	w.ok(w.h.desk.Tick(w.Context()))
	_, err := w.h.tell.SendCampaigns(w.Context(), 100)
	w.ok(err)
	w.pass(time.Minute)
	w.ok(w.h.desk.Tick(w.Context()))
}

// TestCampaignByQuorum: over the API a plan is asked for and started by two people, for exactly that plan; nothing happens
// before; customers are told by mail when the house's own estate is replaced to the last one and not before (S4-6); and
// what was approved for one plan revokes nothing for another (S0-15, P4).
func TestCampaignByQuorum(t *testing.T) {
	w, r := campaignWorld(t)
	own, _ := w.issue("own.test")
	first, second := w.customers("one.customer.test"), w.customers("two.customer.test")
	i, err := w.h.desk.Open(t.Context(), "operator:a", incident.Intake{Title: "validated the wrong way", Playbook: "mass-revocation", Scope: bulkhead.Scope{Names: []string{"own.test", ".customer.test"}}})
	w.ok(err)
	var plan console.CampaignView
	if code := w.call(http.MethodPost, "/api/v1/campaigns", console.PlanCampaignRequest{Incident: i.ID}, &plan); code/100 != 2 || plan.Items != 3 || plan.State != bulkhead.CampaignPlanned {
		t.Fatalf("%d %+v", code, plan)
	}
	start := "/api/v1/campaigns/" + plan.ID + "/start"
	if code := w.call(http.MethodPost, start, console.StartCampaignRequest{PlanHash: bulkhead.Digest([]byte("another plan"))}, nil); code/100 == 2 {
		t.Fatal("a plan was started by another one's hash")
	}
	var asked console.StartCampaignResponse
	if code := w.call(http.MethodPost, start, console.StartCampaignRequest{PlanHash: plan.PlanHash, Why: "the day"}, &asked); code/100 != 2 || asked.Approval == nil || asked.Campaign.State != bulkhead.CampaignPlanned {
		t.Fatalf("%d %+v", code, asked)
	}
	state := func() bulkhead.CampaignState {
		var v console.CampaignView
		if code := w.call(http.MethodGet, "/api/v1/campaigns/"+plan.ID, nil, &v); code != http.StatusOK {
			t.Fatal(code)
		}
		return v.State
	}
	w.round()
	w.signAs(asked.Approval.ID, 0)
	if s := state(); s != bulkhead.CampaignPlanned || len(r.All()) != 0 {
		t.Fatalf("one approval made it %s", s)
	}
	w.signAs(asked.Approval.ID, 1)
	if s := state(); s != bulkhead.CampaignRunning {
		t.Fatalf("two approvals made it %s", s)
	}

	// Own estate first: planted, then gone.
	w.pass(4 * time.Hour) // every notice is due
	w.round()
	gate := ownEstateFirst{w.h}
	if err := gate.MayTell(t.Context(), i.ID); bulkhead.KindOf(err) != bulkhead.KindGate || len(r.All()) != 0 {
		t.Fatalf("customers are told before the house has done its own: %v, %d mails", err, len(r.All()))
	}
	estate := func() *console.OwnEstate {
		var v console.CampaignView
		if code := w.call(http.MethodGet, "/api/v1/campaigns/"+plan.ID, nil, &v); code != http.StatusOK || v.OwnEstate == nil {
			t.Fatal(code, v.OwnEstate)
		}
		return v.OwnEstate
	}
	if o := estate(); o.Certificates != 1 || o.Replaced != 0 || o.Percent != 0 || o.Clean {
		t.Errorf("the own estate before it is replaced: %+v", o)
	}
	w.issue("own.test") // by account and name the replacement of the first
	w.round()
	w.pass(2 * time.Minute)
	w.round()
	w.ok(gate.MayTell(t.Context(), i.ID))
	if o := estate(); o.Percent != 100 || !o.Clean {
		t.Errorf("customers are told, and the own estate is %+v", o)
	}
	mails := r.All()
	if len(mails) != 1 || mails[0].To != "pki@customer.test" || !strings.Contains(mails[0].Data, "one.customer.test") || !strings.Contains(mails[0].Data, "two.customer.test") || strings.Contains(mails[0].Data, "own.test") {
		t.Fatalf("%d mails: %v", len(mails), mails)
	}
	for _, ref := range []bulkhead.CertificateRef{first, second} {
		_, it, err := w.h.store.MembershipOf(t.Context(), ref)
		w.ok(err)
		if it.State != bulkhead.ItemNotified || !strings.Contains(it.Detail, "told by message") {
			t.Errorf("%s: %s", it.State, it.Detail)
		}
	}

	c, err := w.h.store.Campaign(t.Context(), plan.ID)
	w.ok(err)
	x := campaignChanges{w.h.status, w.h}
	w.ok(x.approved(t.Context(), c))
	for _, other := range []bulkhead.Campaign{{ID: c.ID, PlanHash: bulkhead.Digest([]byte("x")), Approval: c.Approval, Items: 3}, {ID: c.ID, PlanHash: c.PlanHash, Approval: "operator:a", Items: 3}, {ID: c.ID, PlanHash: c.PlanHash, Items: 3}} {
		if err := x.approved(t.Context(), other); bulkhead.KindOf(err) != bulkhead.KindGate {
			t.Errorf("the approval serves %+v: %v", other, err)
		}
	}
	w.pass(c.ForceAt.Sub(w.now()) + time.Minute)
	w.publish() // answers that grew old in the jump
	w.ok(w.h.desk.Tick(t.Context()))
	for _, ref := range []bulkhead.CertificateRef{own, first, second} {
		got, _, err := w.h.store.Certificate(t.Context(), ref)
		w.ok(err)
		if got.State != bulkhead.Revoked {
			t.Errorf("%s is %s after the clock", ref, got.State)
		}
	}
}

// TestCampaignByOne: a campaign of one certificate one person may start, and it names that person.
func TestCampaignByOne(t *testing.T) {
	w, _ := campaignWorld(t)
	w.customers("one.customer.test")
	i, err := w.h.desk.Open(t.Context(), "operator:a", incident.Intake{Title: "one certificate", Playbook: "mass-revocation", Scope: bulkhead.Scope{Names: []string{".customer.test"}}})
	w.ok(err)
	var plan console.CampaignView
	w.call(http.MethodPost, "/api/v1/campaigns", console.PlanCampaignRequest{Incident: i.ID}, &plan)
	var got console.StartCampaignResponse
	if code := w.call(http.MethodPost, "/api/v1/campaigns/"+plan.ID+"/start", console.StartCampaignRequest{PlanHash: plan.PlanHash}, &got); code/100 != 2 || got.Approval != nil || got.Campaign.State != bulkhead.CampaignRunning {
		t.Fatalf("%d %+v", code, got)
	}
	if c, err := w.h.store.Campaign(t.Context(), plan.ID); err != nil || !strings.HasPrefix(c.Approval, "operator:") {
		t.Fatalf("%q %v", c.Approval, err)
	}
}

// signAs signs a request as one of the two operators.
func (w *world) signAs(id string, operator int) {
	w.Helper()
	key := w.operatorKeyOf(operator)
	req, err := w.h.quorum.Request(w.Context(), id)
	w.ok(err)
	_, err = w.h.quorum.Approve(w.Context(), id, bulkhead.Operator{PublicKey: key.Public().(ed25519.PublicKey)}.KeyHash(), quorum.SignApproval(key, req))
	w.ok(err)
}
