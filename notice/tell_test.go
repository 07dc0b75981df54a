package notice_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/notice"
	"bulkhead/notice/mailtest"
)

var update = flag.Bool("update", false, "write the golden files")

const (
	whatJSON = `{"en":"A fault in OpenSSL 1.0.1 to 1.0.1f lets strangers read the memory of servers.","ja":"OpenSSL 1.0.1 ~ 1.0.1f の脆弱性により、サーバーのメモリを第三者に読み取られる可能性があります。"}`
	doJSON   = `{"en":"Update OpenSSL to 1.0.1g.","ja":"OpenSSL を 1.0.1g に更新してください。"}`
)

// TestLetters holds each letter in each language against what people reviewed.
func TestLetters(t *testing.T) {
	for _, day := range notice.Days {
		for _, language := range []string{"en", "ja"} {
			l := notice.Letter{House: "Example CA", Incident: "inc1", Portal: "https://ca.test/portal", Page: "https://ca.test/status/", Contact: "support@ca.test",
				Step:  bulkhead.NoticeStep{Step: "first", Day: day, What: whatJSON, Do: doJSON, Until: start.Add(24 * time.Hour)},
				Items: []notice.Item{{Issuer: "issuing", Serial: "01ab", Names: []string{"www.a.test", "a.test"}, NotAfter: start.Add(90 * 24 * time.Hour)}, {Issuer: "issuing", Serial: "02cd", Names: []string{"日本.test"}, NotAfter: start, Product: "smime"}}}
			if language == "ja" {
				l.Proof = "https://ca.test/proof.json"
			}
			subject, body, err := l.Write(language)
			ok(t, err)
			golden(t, day+"."+language+".txt", subject+"\n\n"+body)
			if strings.Contains(body, "<no value>") || !strings.Contains(body, "www.a.test") || strings.ContainsAny(subject, "\r\n") {
				t.Errorf("%s %s: %q %q", day, language, subject, body)
			}
		}
	}
	for _, language := range []string{"en", "ja"} { // of a campaign: with window, date, order and code of each
		l := notice.Letter{House: "Example CA", Incident: "inc1", Step: bulkhead.NoticeStep{Step: notice.CampaignStep("k1", 1), Day: "key-compromise", What: whatJSON, Do: doJSON, Until: start.Add(24 * time.Hour)}, More: 3,
			Items: []notice.Item{{Issuer: "issuing", Serial: "01ab", Names: []string{"www.a.test"}, NotAfter: start.Add(90 * day), Replace: &notice.Replacement{Order: "o77", Code: "ABCDEF-GHJKMN-PQRSTV-WXYZ01-23",
				From: start.Add(time.Hour), To: start.Add(2 * time.Hour), Revoked: start.Add(20 * time.Hour)}}, {Issuer: "issuing", Serial: "02cd", Names: []string{"a.test"}, NotAfter: start.Add(90 * day), Replace: &notice.Replacement{}}}}
		subject, body, err := l.Write(language)
		ok(t, err)
		golden(t, "campaign."+language+".txt", subject+"\n\n"+body)
	}
	if _, _, err := (notice.Letter{Step: bulkhead.NoticeStep{Day: "party"}}).Write("en"); bulkhead.KindOf(err) != bulkhead.KindUsage {
		t.Error(err)
	}
}

// golden holds a text against what people reviewed.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		ok(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	ok(t, err)
	if got != string(want) {
		t.Errorf("%s differs (go test ./notice -update, then look at the diff)", path)
	}
}

// gate is the campaign's word.
type gate struct{ err error }

func (g *gate) MayTell(context.Context, string) error { return g.err }

// day is an incident over the certificates of three accounts, one of them a partner's customer.
func (w *world) day(t testing.TB) {
	t.Helper()
	w.account(t, "a", "mailto:a@a.test")
	w.account(t, "none")
	ok(t, w.CreateAccount(t.Context(), bulkhead.Account{ID: "p", State: bulkhead.AccountValid, Thumbprint: "p", JWK: []byte("{}"), Contacts: []string{"mailto:p@p.test"}, Partner: "reseller", CreatedAt: start}))
	w.issue(t, "a", "one.a.test", start.Add(80*day))
	w.issue(t, "none", "two.none.test", start.Add(80*day))
	w.issue(t, "p", "three.p.test", start.Add(80*day))
	ok(t, w.CreateIncident(t.Context(), bulkhead.Incident{ID: "i", Kind: bulkhead.GeneralIncident, State: bulkhead.IncidentOpen, Title: "t", Source: bulkhead.SourceOperator, AwareAt: start, OpenedAt: start, Scope: bulkhead.Scope{All: true}}))
	_, err := w.CountScope(t.Context(), "i", bulkhead.Scope{All: true}, bulkhead.ScopeCount{At: start}, func(_, now bulkhead.ScopeCount) bulkhead.Evidence {
		return bulkhead.Evidence{Kind: bulkhead.EvIncidentScope, At: start, Ref: "i", Count: now.Items, Digest: now.Digest}
	})
	ok(t, err)
}

func announcement() notice.Announcement {
	a := notice.Announcement{Incident: "i", Step: "first", Day: "key-compromise", Until: start.Add(24 * time.Hour)}
	_ = json.Unmarshal([]byte(whatJSON), &a.What)
	_ = json.Unmarshal([]byte(doJSON), &a.Do)
	return a
}

func (w *world) tell(t testing.TB, store notice.IncidentStore, g notice.Gate, carriers ...notice.Carrier) *notice.Tell {
	t.Helper()
	x, err := notice.NewTell(notice.TellConfig{Store: store, Gate: g, Carriers: carriers, PartnerContacts: map[string]string{"reseller": "desk@reseller.test"}, Language: "ja", House: "Example CA", Domain: "ca.test",
		Now: func() time.Time { return w.now }})
	ok(t, err)
	return x
}

// counts is the messages of the incident by state, on mail.
func (w *world) counts(t testing.TB, x *notice.Tell) map[bulkhead.NoticeState]int64 {
	t.Helper()
	all, err := x.Counts(t.Context(), "i")
	ok(t, err)
	out := map[bulkhead.NoticeState]int64{}
	for _, c := range all {
		out[c.State] += c.N
	}
	return out
}

// TestTell: each account is told of its own certificates, the partner of those of its own customers, and nobody else's;
// a second call and a second step of the same name tell nobody; who has no contact is listed; the gate holds everything.
func TestTell(t *testing.T) {
	w, s := newWorld(t), mailtest.New(t, false)
	w.day(t)
	g := &gate{bulkhead.NewFault(bulkhead.KindGate, "own estate first")}
	x := w.tell(t, w, g, mailTo(t, s))
	_, messages, err := x.Draft(t.Context(), "operator:a", announcement())
	ok(t, err)
	if len(messages) != 4 || w.counts(t, x)[bulkhead.NoticePlanned] != 0 {
		t.Fatalf("%d messages: %+v", len(messages), messages)
	}
	_, _, err = x.Plan(t.Context(), "operator:a", announcement())
	ok(t, err)
	if _, _, err = x.Plan(t.Context(), "operator:a", announcement()); bulkhead.KindOf(err) != bulkhead.KindConflict {
		t.Error(err)
	}
	if _, err := x.Send(t.Context(), "i", "first", 100); bulkhead.KindOf(err) != bulkhead.KindGate || len(s.Take()) != 0 {
		t.Fatalf("the gate was passed: %v", err)
	}
	g.err = nil
	for _, want := range []int{3, 0} {
		n, err := w.tell(t, w, g, mailTo(t, s)).Send(t.Context(), "i", "first", 100)
		ok(t, err)
		got := s.Take()
		if n != want || len(got) != want {
			t.Fatalf("%d messages handled, %d arrived, want %d", n, len(got), want)
		}
		for _, l := range got {
			body := text(t, l)
			own := map[string]string{"a@a.test": "one.a.test", "p@p.test": "three.p.test", "desk@reseller.test": "three.p.test"}[l.To]
			for _, name := range []string{"one.a.test", "two.none.test", "three.p.test"} {
				if strings.Contains(body, name) != (name == own) {
					t.Errorf("%s is told of %s: %v", l.To, name, name != own)
				}
			}
		}
	}
	stale, err := x.Stale(t.Context(), 0, 10)
	ok(t, err)
	if len(stale) != 1 || stale[0].Account != "none" || stale[0].State != bulkhead.NoticeNoContact {
		t.Errorf("%+v", stale)
	}
	_, body, err := x.Preview(t.Context(), "operator:a", announcement(), "a", "en")
	ok(t, err)
	if !strings.Contains(body, "one.a.test") || strings.Contains(body, "three.p.test") {
		t.Error(body)
	}
}

// TestRefusedForGood: a 5xx is a bounce and not sent again, a 4xx is; a connection that broke after the data leaves doubt,
// which a person resolves.
func TestRefusedForGood(t *testing.T) {
	w, s := newWorld(t), mailtest.New(t, false)
	w.day(t)
	s.Reject("a@a.test")
	s.Refuse("p@p.test", 1)
	s.HangUp("desk@reseller.test", 1)
	x := w.tell(t, w, &gate{}, mailTo(t, s))
	_, _, err := x.Plan(t.Context(), "operator:a", announcement())
	ok(t, err)
	_, err = x.Send(t.Context(), "i", "first", 100)
	ok(t, err)
	if c := w.counts(t, x); c[bulkhead.NoticeBounced] != 1 || c[bulkhead.NoticePlanned] != 1 || c[bulkhead.NoticeInDoubt] != 1 {
		t.Fatalf("%+v", c)
	}
	_, err = x.Send(t.Context(), "i", "first", 100)
	ok(t, err)
	if c := w.counts(t, x); c[bulkhead.NoticeSent] != 1 || c[bulkhead.NoticeInDoubt] != 1 {
		t.Fatalf("%+v", c)
	}
	n, err := x.Resend(t.Context(), "i", "first")
	ok(t, err)
	_, err = x.Send(t.Context(), "i", "first", 100)
	ok(t, err)
	if c := w.counts(t, x); n != 1 || c[bulkhead.NoticeSent] != 2 || c[bulkhead.NoticeInDoubt] != 0 {
		t.Fatalf("%d %+v", n, c)
	}
}

// faulty fails the nth move: lost, or persisted but reported lost. With down, everything after it fails too, as when the
// process dies.
type faulty struct {
	*world
	at        int
	persisted bool
	down      bool
	n         int
}

func (f *faulty) MoveNotices(ctx context.Context, m []bulkhead.IncidentNotice, expect bulkhead.NoticeState, ev ...bulkhead.Evidence) error {
	f.n++
	if f.n != f.at && !(f.down && f.n > f.at) {
		return f.world.MoveNotices(ctx, m, expect, ev...)
	}
	if f.persisted && f.n == f.at {
		if err := f.world.MoveNotices(ctx, m, expect, ev...); err != nil {
			return err
		}
	}
	return bulkhead.NewFault(bulkhead.KindUnavailable, "the commit was lost")
}

// TestNobodyIsToldTwice fails each commit in each way, with and without the end of the process, and starts again: every
// message arrived once, or is in doubt by name and arrived at most once.
func TestNobodyIsToldTwice(t *testing.T) {
	for _, c := range []struct {
		name string
		f    faulty
	}{{"claim lost", faulty{at: 1}}, {"claim persisted", faulty{at: 1, persisted: true}}, {"outcome lost", faulty{at: 2}}, {"outcome persisted", faulty{at: 2, persisted: true}},
		{"died before the claim", faulty{at: 1, down: true}}, {"died after the claim", faulty{at: 1, persisted: true, down: true}}, {"died after sending", faulty{at: 2, down: true}}, {"died after the outcome", faulty{at: 2, persisted: true, down: true}}} {
		t.Run(c.name, func(t *testing.T) {
			w, s := newWorld(t), mailtest.New(t, false)
			w.day(t)
			f := c.f
			f.world = w
			x := w.tell(t, &f, &gate{}, mailTo(t, s))
			_, _, err := x.Plan(t.Context(), "operator:a", announcement())
			ok(t, err)
			_, _ = x.Send(t.Context(), "i", "first", 100)
			w.now = w.now.Add(time.Hour)
			again := w.tell(t, w, &gate{}, mailTo(t, s))
			_, err = again.Send(t.Context(), "i", "first", 100)
			ok(t, err)
			arrived := map[string]int{}
			for _, l := range s.Take() {
				arrived[l.To]++
			}
			n := w.counts(t, again)
			if n[bulkhead.NoticePlanned]+n[bulkhead.NoticeSending] != 0 || n[bulkhead.NoticeSent]+n[bulkhead.NoticeInDoubt] != 3 {
				t.Errorf("%+v", n)
			}
			if n[bulkhead.NoticeInDoubt] == 0 && len(arrived) != 3 {
				t.Errorf("arrived at %v, and nothing is in doubt", arrived)
			}
			for to, times := range arrived {
				if times != 1 {
					t.Errorf("%s was told %d times", to, times)
				}
			}
		})
	}
}

// TestDKIM checks the signature as a receiver does: the hash of the body, and the domain and selector of the house.
func TestDKIM(t *testing.T) {
	w, s := newWorld(t), mailtest.New(t, false)
	w.day(t)
	_, key, err := ed25519.GenerateKey(nil)
	ok(t, err)
	m, err := notice.NewMail(notice.MailConfig{Server: s.Addr, From: "ca@example.test", Language: "en", DKIM: key, DKIMSelector: "day"})
	ok(t, err)
	x := w.tell(t, w, &gate{}, m)
	_, _, err = x.Plan(t.Context(), "operator:a", announcement())
	ok(t, err)
	_, err = x.Send(t.Context(), "i", "first", 1)
	ok(t, err)
	got := s.Take()
	if len(got) != 1 {
		t.Fatalf("%d mails", len(got))
	}
	head, body, _ := strings.Cut(got[0].Data, "\r\n\r\n")
	head = regexp.MustCompile(`\r\n[ \t]+`).ReplaceAllString(head, "")
	found := regexp.MustCompile(`(?m)^DKIM-Signature:.*$`).FindString(head)
	bh := regexp.MustCompile(`\bbh=([A-Za-z0-9+/= ]+)`).FindStringSubmatch(found)
	if bh == nil || !strings.Contains(found, "d=example.test") || !strings.Contains(found, "s=day") || !strings.Contains(found, "a=ed25519-sha256") {
		t.Fatalf("signature: %q", found)
	}
	lines := strings.Split(body, "\r\n")
	if strings.Contains(found, "/relaxed") {
		for i, l := range lines {
			lines[i] = strings.TrimRight(regexp.MustCompile(`[ \t]+`).ReplaceAllString(l, " "), " ")
		}
	}
	sum := sha256.Sum256([]byte(strings.TrimRight(strings.Join(lines, "\r\n"), "\r\n") + "\r\n"))
	if want := base64.StdEncoding.EncodeToString(sum[:]); strings.ReplaceAll(bh[1], " ", "") != want {
		t.Errorf("body hash %s, the body that arrived has %s", bh[1], want)
	}
}

// TestWebhookOfIncidents: signed, with an id that stays; what was not accepted goes again with the same id.
func TestWebhookOfIncidents(t *testing.T) {
	w := newWorld(t)
	w.day(t)
	var ids []string
	status := http.StatusServiceUnavailable
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if got := r.Header.Get("Bulkhead-Signature"); got != notice.SignWebhook([]byte("secret"), w.now, body) {
			t.Errorf("signature %q", got)
		}
		ids = append(ids, r.Header.Get("Idempotency-Key"))
		rw.WriteHeader(status)
	}))
	defer srv.Close()
	x := w.tell(t, w, &gate{}, notice.NewWebhook(srv.URL).Signed([]byte("secret")))
	_, _, err := x.Plan(t.Context(), "operator:a", announcement())
	ok(t, err)
	_, err = x.Send(t.Context(), "i", "first", 100)
	ok(t, err)
	status = http.StatusOK
	for range 2 {
		_, err = x.Send(t.Context(), "i", "first", 100)
		ok(t, err)
	}
	if len(ids) != 6 || ids[0] != ids[3] || ids[0] == ids[1] {
		t.Errorf("%q", ids)
	}
}

const report = "From: MAILER-DAEMON@relay.test\r\nMessage-ID: <x@relay.test>\r\nContent-Type: multipart/report\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\nFinal-Recipient: rfc822; a@a.test\r\nAction: failed\r\nStatus: 5.1.1\r\n" +
	"Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n\r\n--b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: <%ID%>\r\n--b--\r\n"

// TestBounces: a report marks the message that it quotes; a delay, a stranger's message and nonsense mark none.
func TestBounces(t *testing.T) {
	w, s := newWorld(t), mailtest.New(t, false)
	w.day(t)
	x := w.tell(t, w, &gate{}, mailTo(t, s))
	_, _, err := x.Plan(t.Context(), "operator:a", announcement())
	ok(t, err)
	_, err = x.Send(t.Context(), "i", "first", 100)
	ok(t, err)
	rows, err := w.IncidentNotices(t.Context(), "i", "first", 0, 1)
	ok(t, err)
	mail := strings.ReplaceAll(report, "%ID%", rows[0].MessageID)
	for text, want := range map[string]bulkhead.Kind{strings.ReplaceAll(mail, "5.1.1", "4.4.1"): bulkhead.KindConflict, "nonsense": bulkhead.KindMalformed,
		strings.ReplaceAll(report, "%ID%", strings.Repeat("0", 40)+"@ca.test"): bulkhead.KindNotFound} {
		if _, err := x.Bounced(t.Context(), "operator:a", []byte(text)); bulkhead.KindOf(err) != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	for range 2 {
		m, err := x.Bounced(t.Context(), "operator:a", []byte(mail))
		ok(t, err)
		if m.State != bulkhead.NoticeBounced || !strings.HasPrefix(m.Problem, "5.1.1 smtp; 550") {
			t.Errorf("%+v", m)
		}
	}
	if c := w.counts(t, x); c[bulkhead.NoticeBounced] != 1 || c[bulkhead.NoticeSent] != 2 {
		t.Errorf("%+v", c)
	}
}

func FuzzParseBounce(f *testing.F) {
	f.Add([]byte(strings.ReplaceAll(report, "%ID%", strings.Repeat("0", 40)+"@ca.test")))
	f.Add([]byte("Status: 5.0.0\nMessage-ID: <x>"))
	f.Fuzz(func(t *testing.T, p []byte) {
		b, err := notice.ParseBounce(p)
		if err != nil {
			var fault *bulkhead.Fault
			if !errors.As(err, &fault) {
				t.Fatalf("%v is no fault", err)
			}
			return
		}
		if len(b.MessageID) < 42 || len(b.Diagnostic) > 300 || b.Status == "" {
			t.Fatalf("%+v", b)
		}
	})
}
