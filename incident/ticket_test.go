package incident_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/incident"
)

// reissuer issues rows; fail is what it answers first.
type reissuer struct {
	h     *house
	fail  error
	byCSR map[bulkhead.Hash]bulkhead.CertificateRef
}

// Reissue implements incident.Reissuer: the same request gets the same certificate, as enrolment does it.
func (r *reissuer) Reissue(_ context.Context, account string, old bulkhead.Certificate, csr []byte, _ bulkhead.Method) (bulkhead.IssuedCertificate, error) {
	if err := r.fail; err != nil {
		r.fail = nil
		return bulkhead.IssuedCertificate{}, err
	}
	ref, again := r.byCSR[bulkhead.Digest(csr)]
	if !again {
		ref = r.h.issue(r.h.cert(account, old.Names[0].Value, func(c *bulkhead.Certificate) { c.Replaces = old.CertificateRef }))[0]
		r.byCSR[bulkhead.Digest(csr)] = ref
	}
	return bulkhead.IssuedCertificate{Certificate: bulkhead.Certificate{CertificateRef: ref}}, nil
}

func ticketHouse(t *testing.T) (*house, *reissuer) {
	t.Helper()
	r := &reissuer{byCSR: map[bulkhead.Hash]bulkhead.CertificateRef{}}
	h := newHouse(t, func(c *incident.Config) { c.Reissuer = r })
	r.h = h
	for _, a := range []string{"a0", "a1"} {
		ok(t, h.store.CreateAccount(t.Context(), bulkhead.Account{ID: a, State: bulkhead.AccountValid, TokenHash: bulkhead.Digest([]byte(a)), Contacts: []string{"mailto:" + a + "@example.com"}, CreatedAt: h.now()}))
	}
	return h, r
}

// TestTicket: a code serves its order, its name and its account, once, while it lasts; everything else is refused (S3-4).
func TestTicket(t *testing.T) {
	h, r := ticketHouse(t)
	refs := h.many(2, 2)
	cert, _, err := h.store.Certificate(t.Context(), refs[0])
	ok(t, err)
	_, _, err = h.desk.IssueTicket(t.Context(), "operator:a", incident.TicketRequest{OrderID: cert.OrderID, Name: "other.example.com"})
	wantKind(t, err, bulkhead.KindNotFound)
	k, code, err := h.desk.IssueTicket(t.Context(), "operator:a", incident.TicketRequest{OrderID: cert.OrderID, Name: "w0.example.com"})
	ok(t, err)
	if len(code) < 26 || strings.Contains(fmt.Sprintf("%+v", k), code) {
		t.Fatalf("code %q in %+v", code, k)
	}
	good := incident.Redemption{Code: code, OrderID: cert.OrderID, Name: "w0.example.com", CSR: []byte("csr 1")}
	for what, change := range map[string]func(x *incident.Redemption) string{
		"another account": func(*incident.Redemption) string { return "a1" },
		"another name":    func(x *incident.Redemption) string { x.Name = "w1.example.com"; return "a0" },
		"another order":   func(x *incident.Redemption) string { x.OrderID = "order-x"; return "a0" },
		"another code":    func(x *incident.Redemption) string { x.Code = "AAAAAA-AAAAAA-AAAAAA-AAAAAA-AA"; return "a0" },
	} {
		x := good
		if _, err := h.desk.Redeem(t.Context(), change(&x), x); bulkhead.KindOf(err) != bulkhead.KindForbidden {
			t.Errorf("%s: %v", what, err)
		}
	}
	// By mail: only from the registered address (S4-4).
	_, err = h.desk.RedeemFor(t.Context(), "operator:a", "mallory@example.com", good)
	wantKind(t, err, bulkhead.KindForbidden)
	// A request that was refused leaves the code good for another.
	r.fail = bulkhead.NewFault(bulkhead.KindBadPublicKey, "blocked")
	_, err = h.desk.Redeem(t.Context(), "a0", good)
	wantKind(t, err, bulkhead.KindBadPublicKey)
	// One whose outcome is not known keeps it.
	r.fail = bulkhead.NewFault(bulkhead.KindUnavailable, "away")
	_, err = h.desk.Redeem(t.Context(), "a0", good)
	wantKind(t, err, bulkhead.KindUnavailable)
	other := good
	other.CSR = []byte("csr 2")
	_, err = h.desk.Redeem(t.Context(), "a0", other)
	wantKind(t, err, bulkhead.KindConflict)
	good.Code = strings.ToLower(strings.ReplaceAll(code, "-", " ")) // as people type it
	first, err := h.desk.RedeemFor(t.Context(), "operator:a", "A0@example.com", good)
	ok(t, err)
	again, err := h.desk.Redeem(t.Context(), "a0", good)
	ok(t, err)
	if first.Certificate.CertificateRef != again.Certificate.CertificateRef {
		t.Fatal("the same request got two certificates")
	}
	_, err = h.desk.Redeem(t.Context(), "a0", other)
	wantKind(t, err, bulkhead.KindConflict)

	cert, _, err = h.store.Certificate(t.Context(), refs[1])
	ok(t, err)
	_, code, err = h.desk.IssueTicket(t.Context(), "operator:a", incident.TicketRequest{OrderID: cert.OrderID, Name: "w1.example.com", Life: time.Hour})
	ok(t, err)
	h.pass(2 * time.Hour)
	_, err = h.desk.Redeem(t.Context(), "a1", incident.Redemption{Code: code, OrderID: cert.OrderID, Name: "w1.example.com", CSR: []byte("csr 3")})
	wantKind(t, err, bulkhead.KindConflict)
}

// TestThousandReissues: a thousand names make a thousand items, each with a code, a state and an outcome of its own; one
// that fails spoils no other (S4-4).
func TestThousandReissues(t *testing.T) {
	h, r := ticketHouse(t)
	const n = 1000 // of names, as many items
	refs := h.many(n, 2)
	yes := true
	i := h.incident(incident.Intake{Playbook: "mass-revocation", Scope: byIssuer()})
	c := h.campaign(i, incident.PlanRequest{Tickets: &yes})
	h.tick()
	all, err := h.desk.Tickets(t.Context(), "", c.ID, 10_000)
	ok(t, err)
	codes := h.desk.Codes(all)
	if len(all) != n || len(codes) != n {
		t.Fatalf("%d tickets, %d codes", len(all), len(codes))
	}
	for k, x := range all {
		if k == 500 {
			r.fail = bulkhead.NewFault(bulkhead.KindBadCSR, "not a request")
		}
		_, err := h.desk.Redeem(t.Context(), x.AccountID, incident.Redemption{Code: codes[x.ID], OrderID: x.OrderID, Name: x.Name, CSR: []byte(x.ID)})
		if (err != nil) != (k == 500) {
			t.Fatalf("%d: %v", k, err)
		}
	}
	h.tick()
	tally := h.sums(c.ID)
	if tally.ByState[bulkhead.ItemReissued] != n-1 || tally.TicketsUsed != n-1 || tally.Tickets != n || int(tally.Total) != len(refs) {
		t.Fatalf("%+v", tally)
	}
}

// TestMine: an account sees its own certificates in open incidents, with what is due and what replaces them, and nobody
// else's (S0-15); a partner's accounts are selected through it (S1-10).
func TestMine(t *testing.T) {
	h := newHouse(t, func(c *incident.Config) { c.Partners = brought{"reseller": {"a0"}} })
	refs := h.many(6, 3)
	i := h.incident(incident.Intake{Playbook: "mass-revocation", Scope: byIssuer()})
	h.campaign(i, incident.PlanRequest{})
	n := h.issue(h.cert("a0", "w0.example.com", func(c *bulkhead.Certificate) { c.Replaces = refs[0] }))[0]
	h.tick()
	mine, err := h.desk.Exposures(t.Context(), "a0", 100)
	ok(t, err)
	if len(mine) != 2 {
		t.Fatalf("%d of a0", len(mine))
	}
	for _, e := range mine {
		if e.Certificate.AccountID != "a0" || e.Deadline.IsZero() || e.Item == nil || e.Item.RevokeAt.IsZero() {
			t.Fatalf("%#v", e)
		}
	}
	if mine[0].Certificate.ReplacedBy != n {
		t.Fatalf("%#v", mine[0])
	}
	none, err := h.desk.Exposures(t.Context(), "nobody", 100)
	ok(t, err)
	_, err = h.desk.Exposures(t.Context(), "", 100)
	if wantKind(t, err, bulkhead.KindForbidden); len(none) != 0 {
		t.Fatal("somebody else's")
	}
	count, err := h.desk.Scope(t.Context(), "operator:a", i.ID, bulkhead.Scope{Partners: []string{"reseller"}}, "only what the reseller brought")
	ok(t, err)
	if count.Items != 3 || count.Number != 2 {
		t.Fatalf("%+v", count)
	}
	_, err = h.desk.Scope(t.Context(), "operator:a", i.ID, bulkhead.Scope{Partners: []string{"reseller"}, Accounts: []string{"a1"}}, "neither")
	wantKind(t, err, bulkhead.KindNotFound)
}

type brought map[string][]string

// PartnerAccounts implements incident.Partners.
func (b brought) PartnerAccounts(_ context.Context, partner string) ([]string, error) {
	return b[partner], nil
}

// TestChainAdvice is the rule of 2014 at its minute (S3-7).
func TestChainAdvice(t *testing.T) {
	h := newHouse(t)
	jst := time.FixedZone("JST", 9*3600)
	for _, c := range []struct {
		product string
		at      time.Time
		want    int
	}{
		{"SureServer[2048bit]", time.Date(2013, 8, 2, 20, 58, 0, 0, jst), 1},
		{"SureServer[2048bit]", time.Date(2013, 8, 2, 20, 59, 0, 0, jst), 1},
		{"SureServer[SHA-2]", time.Date(2013, 8, 2, 20, 59, 59, 0, jst), 1},
		{"SureServer[2048bit]", time.Date(2013, 8, 2, 21, 0, 0, 0, jst), 0},
		{"SureServer[2048bit]", time.Date(2013, 8, 2, 11, 59, 0, 0, time.UTC), 1}, // the same minute elsewhere
		{"SureServer[2048bit]", time.Date(2013, 8, 2, 20, 58, 0, 0, time.UTC), 0},
		{"tls-server", time.Date(2013, 8, 2, 20, 58, 0, 0, jst), 0},
	} {
		if got := h.desk.ChainAdvice(c.product, c.at); len(got) != c.want {
			t.Errorf("%s issued %s: %v", c.product, c.at, got)
		}
	}
	for _, bad := range []string{"- {id: a, products: [p], advice: x, zone: JST}", "- {id: a, products: [p], advice: x, zone: 'JST +09:00', issued_until: '20:59'}", "- {id: a, advice: x, zone: 'JST +09:00'}", "- {more: 1}"} {
		if _, err := incident.ParseAdvice([]byte(bad)); bulkhead.KindOf(err) != bulkhead.KindMalformed {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// TestDeadlines: 24 hours, 5 days, 7 days and no duty, by object, cause and time of awareness; a plan that ends later opens
// a record of the delay by itself (S1-9).
func TestDeadlines(t *testing.T) {
	h := newHouse(t)
	aware := h.now().Add(-2 * time.Hour)
	due := func(i bulkhead.Incident, object string) time.Time {
		for _, d := range i.Deadlines {
			if d.Object == object {
				if span := map[time.Duration]string{24 * time.Hour: "within 24 h", 5 * 24 * time.Hour: "within 5 d", 7 * 24 * time.Hour: "within 7 d"}[d.Due.Sub(i.AwareAt)]; !d.Due.IsZero() && object != "report" && !strings.HasSuffix(d.Rule, span) {
					t.Errorf("%s is due %s after it was known, and reads %q", object, d.Due.Sub(i.AwareAt), d.Rule)
				}
				return d.Due
			}
		}
		return time.Time{}
	}
	for cause, want := range map[string]time.Duration{"key compromised": 24 * time.Hour, "validation should not be relied on": 24 * time.Hour, "misused": 5 * 24 * time.Hour} {
		i := h.incident(incident.Intake{Cause: cause, AwareAt: aware})
		if got := due(i, "subscriber").Sub(aware); got != want {
			t.Errorf("%s: %s, want %s", cause, got, want)
		}
		if got := due(i, "ca").Sub(aware); got != 7*24*time.Hour || !due(i, "short-lived").IsZero() {
			t.Errorf("%s: CA %s", cause, got)
		}
	}
	for _, bad := range []incident.Intake{{Title: " "}, {Title: "x", AwareAt: h.now().Add(time.Hour)}, {Title: "x", Cause: "bad luck"}, {Title: "x", Playbook: "none"}, {Title: "x", Source: "rumour"}} {
		if _, err := h.desk.Open(t.Context(), "operator:a", bad); bulkhead.KindOf(err) != bulkhead.KindUsage {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	h.many(3, 3)
	i := h.incident(incident.Intake{Cause: "misused", AwareAt: aware, Scope: byIssuer()})
	_, p, err := h.desk.Plan(t.Context(), "operator:a", incident.PlanRequest{Incident: i.ID, FinishBy: h.now().Add(90 * 24 * time.Hour)})
	ok(t, err)
	if !p.Late() {
		t.Fatal("a plan of months is in time")
	}
	all, err := h.desk.Incidents(t.Context(), 100)
	ok(t, err)
	if all[0].Kind != bulkhead.DelayedRevocation || all[0].Parent != i.ID || len(all[0].Deadlines) == 0 {
		t.Fatalf("%+v", all[0])
	}
	_, err = h.desk.Close(t.Context(), "operator:a", i.ID, "enough")
	wantKind(t, err, bulkhead.KindGate)
}

// TestWindow: renewal information of a member is its own slice of the time left; a stranger's is nobody's business here,
// and an order for a member is known as one.
func TestWindow(t *testing.T) {
	h := newHouse(t)
	refs := h.many(4, 2)
	stranger := h.issue(h.cert("a9", "else.example.com"))[0]
	i := h.incident(incident.Intake{Playbook: "mass-revocation", Scope: bulkhead.Scope{Accounts: []string{"a0", "a1"}}})
	if _, member, err := h.desk.RenewalWindow(t.Context(), refs[0]); err != nil || member {
		t.Fatal("a window before the campaign", err)
	}
	c := h.campaign(i, incident.PlanRequest{})
	info, member, err := h.desk.RenewalWindow(t.Context(), refs[0])
	ok(t, err)
	if !member || info.End.After(c.ForceAt) || !info.Start.Before(info.End) || info.RetryAfter >= 6*time.Hour || info.ExplanationURL == "" {
		t.Fatalf("%+v %v", info, member)
	}
	if _, member, err = h.desk.RenewalWindow(t.Context(), stranger); err != nil || member {
		t.Fatal("a stranger has a window", err)
	}
	names := []bulkhead.Identifier{{Type: bulkhead.DNS, Value: "w0.example.com"}}
	for _, x := range []struct {
		account  string
		replaces bulkhead.CertificateRef
		names    []bulkhead.Identifier
		want     bool
	}{{"a0", refs[0], names, true}, {"a1", refs[0], names, false}, {"a0", bulkhead.CertificateRef{}, names, true}, {"a1", bulkhead.CertificateRef{}, names, false}, {"a9", stranger, nil, false}} {
		if got, err := h.desk.IsMember(t.Context(), x.account, x.replaces, x.names); err != nil || got != x.want {
			t.Errorf("%+v: %v %v", x, got, err)
		}
	}
	h.issue(h.cert("a0", "w0.example.com", func(c *bulkhead.Certificate) { c.Replaces = refs[0] }))
	h.tick()
	h.tick()
	if _, member, err = h.desk.RenewalWindow(t.Context(), refs[0]); err != nil || member {
		t.Fatal("a replaced certificate still has a window", err)
	}
}

// FuzzPlaybook and FuzzAdvice: foreign bytes are read or refused, and what is read can be used.
func FuzzPlaybook(f *testing.F) {
	f.Add([]byte("name: a\nwhen: b\ncause: misused\nreason: superseded\nasks: [patch]\nsteps: [{who: a, do: b}]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if b, err := incident.ParsePlaybook(text); err == nil && (b.Name == "" || len(b.Steps) == 0) {
			t.Fatal("an empty playbook")
		}
	})
}

// FuzzAdvice is for the rules file.
func FuzzAdvice(f *testing.F) {
	f.Add([]byte("- {id: a, products: [p], advice: x, zone: 'JST +09:00', issued_until: '2013-08-02 20:59'}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		rules, err := incident.ParseAdvice(text)
		for _, r := range rules {
			if err == nil && r.Advice == "" {
				t.Fatal("a rule without advice")
			}
		}
	})
}
