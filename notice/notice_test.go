package notice_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/quotedprintable"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/notice"
	"bulkhead/notice/mailtest"
	"bulkhead/store/sqlite"
)

const day = 24 * time.Hour

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world is a record with certificates, and a clock.
type world struct {
	*sqlite.Store
	now time.Time
	n   int
}

func newWorld(t testing.TB) *world {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "x.db")})
	ok(t, err)
	t.Cleanup(func() { s.Close() })
	return &world{Store: s, now: start}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) account(t testing.TB, id string, contacts ...string) {
	t.Helper()
	ok(t, w.CreateAccount(t.Context(), bulkhead.Account{ID: id, State: bulkhead.AccountValid, Thumbprint: id, JWK: []byte("{}"), Contacts: contacts, CreatedAt: start}))
}

// issue puts a certificate of 90 days into the record.
func (w *world) issue(t testing.TB, account, name string, end time.Time) {
	t.Helper()
	w.n++
	d := sha256.Sum256([]byte(fmt.Sprint(w.n)))
	d[0] = 1
	serial, err := bulkhead.SerialFromBytes(d[:16])
	ok(t, err)
	ref := bulkhead.CertificateRef{Issuer: "issuing", Serial: serial}
	ev := bulkhead.Evidence{Kind: bulkhead.EvCertificateIntent, At: start, Actor: "role:signer", Authority: ref.Issuer, Serial: serial, KeyHash: d, Signer: d, Digest: d}
	_, errs, err := w.Reserve(t.Context(), []bulkhead.Reservation{{Intent: ev, Certificate: bulkhead.Certificate{CertificateRef: ref, Kind: bulkhead.LeafCertificate,
		State: bulkhead.Reserved, Names: []bulkhead.Identifier{{Type: bulkhead.DNS, Value: name}}, KeyHash: d, AccountID: account, NotBefore: end.Add(-90 * day).Add(time.Second), NotAfter: end}}})
	ok(t, errors.Join(append(errs, err)...))
	ev.Kind, ev.Link = bulkhead.EvCertificateOutcome, d
	_, errs, err = w.Complete(t.Context(), []bulkhead.Completion{{CertificateRef: ref, DER: []byte(name), Outcome: ev}})
	ok(t, errors.Join(append(errs, err)...))
}

func (w *world) service(t testing.TB, senders ...notice.Sender) *notice.Service {
	t.Helper()
	s, err := notice.New(notice.Config{Store: w, Senders: senders, Before: []time.Duration{30 * day, 7 * day, 14 * day, day}, House: "Example CA",
		Backoff: time.Millisecond, Now: func() time.Time { return w.now }})
	ok(t, err)
	return s
}

func mailTo(t testing.TB, s *mailtest.Relay) *notice.Mail {
	t.Helper()
	c := notice.MailConfig{Server: s.Addr, From: "ca@example.test", Operator: "ops@example.test", Language: "both", StartTLS: s.Roots != nil, Roots: s.Roots}
	if s.Roots != nil {
		c.User, c.Password = "ca", "secret"
	}
	m, err := notice.NewMail(c)
	ok(t, err)
	return m
}

func text(t testing.TB, l mailtest.Mail) string {
	t.Helper()
	_, body, _ := strings.Cut(l.Data, "\r\n\r\n")
	p, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(body)))
	ok(t, err)
	return string(p)
}

// TestMail: one message to a recipient in a run, in two languages, once for each threshold, also after a restart.
func TestMail(t *testing.T) {
	for _, startTLS := range []bool{false, true} {
		t.Run(fmt.Sprint("starttls=", startTLS), func(t *testing.T) {
			w, s := newWorld(t), mailtest.New(t, startTLS)
			w.account(t, "a", "mailto:a@a.test", "mailto:b@A.test")
			w.account(t, "none")
			w.issue(t, "a", "one.a.test", start.Add(20*day))
			w.issue(t, "a", "two.a.test", start.Add(10*day))
			w.issue(t, "none", "house.test", start.Add(29*day))
			w.issue(t, "a", "late.a.test", start.Add(60*day))
			ok(t, w.service(t, mailTo(t, s)).Once(t.Context()))
			got := s.Take()
			if len(got) != 3 || got[0].To != "a@a.test" || got[1].To != "b@a.test" || got[2].To != "ops@example.test" {
				t.Fatalf("mails: %+v", got)
			}
			body := text(t, got[0])
			for _, want := range []string{"two.a.test", "one.a.test", "Example CA", "2026-03-21 12:00 UTC", "有効期限"} {
				if !strings.Contains(body, want) {
					t.Errorf("%q is not in %s", want, body)
				}
			}
			if strings.Contains(body, "late") || strings.Contains(body, "house.test") || strings.Index(body, "two.") > strings.Index(body, "one.") || got[0].Encrypted != startTLS {
				t.Errorf("encrypted %v:\n%s", got[0].Encrypted, body)
			}
			if startTLS && (len(s.Logins()) == 0 || s.Logins()[0] != "|ca|secret") {
				t.Errorf("logins: %q", s.Logins())
			}
			ok(t, w.service(t, mailTo(t, s)).Once(t.Context())) // a restart
			if got := s.Take(); len(got) != 0 {
				t.Fatalf("told twice: %+v", got)
			}
			w.now = start.Add(6*day + time.Hour) // one is within 14 days, two within 7
			ok(t, w.service(t, mailTo(t, s)).Once(t.Context()))
			if got := s.Take(); len(got) != 2 || !strings.Contains(text(t, got[1]), "one.a.test") || !strings.Contains(text(t, got[1]), "two.a.test") {
				t.Fatalf("mails: %+v", got)
			}
		})
	}
}

// TestFailures: a recipient that is refused keeps nobody else's mail from going, and gets his own later.
func TestFailures(t *testing.T) {
	w, s := newWorld(t), mailtest.New(t, false)
	w.account(t, "a", "mailto:a@a.test", "mailto:b@a.test")
	w.issue(t, "a", "one.a.test", start.Add(20*day))
	s.Refuse("a@a.test", -1)
	s.Refuse("b@a.test", 2)
	if err := w.service(t, mailTo(t, s)).Once(t.Context()); err == nil {
		t.Fatal("a refusal is no error")
	}
	if got := s.Take(); len(got) != 1 || got[0].To != "b@a.test" {
		t.Fatalf("mails: %+v", got)
	}
	s.Refuse("a@a.test", 0)
	for _, want := range []int{1, 0} {
		ok(t, w.service(t, mailTo(t, s)).Once(t.Context()))
		if got := s.Take(); len(got) != want || want == 1 && got[0].To != "a@a.test" {
			t.Fatalf("mails: %+v", got)
		}
	}
}

// TestUntrustedRelay: without a trusted certificate nothing is sent, least of all the password.
func TestUntrustedRelay(t *testing.T) {
	w, s := newWorld(t), mailtest.New(t, true)
	w.issue(t, "", "one.a.test", start.Add(20*day))
	plain := mailtest.New(t, false) // offers no STARTTLS
	for _, x := range []*mailtest.Relay{s, plain} {
		m, err := notice.NewMail(notice.MailConfig{Server: x.Addr, From: "ca@example.test", Operator: "ops@example.test", Language: "en", StartTLS: true, User: "ca", Password: "secret"})
		ok(t, err)
		if w.service(t, m).Once(t.Context()) == nil || len(x.Take()) != 0 || len(x.Logins()) != 0 {
			t.Fatalf("sent to a relay that is not trusted: %q", x.Logins())
		}
	}
}

// TestWebhook: one request with all, repeated until it is accepted; redirects are refused.
func TestWebhook(t *testing.T) {
	w := newWorld(t)
	w.issue(t, "", "one.a.test", start.Add(20*day))
	w.issue(t, "", "two.a.test", start.Add(2*day))
	var bodies []string
	status := []int{503, 302, 200}
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		p, _ := io.ReadAll(r.Body)
		bodies = append(bodies, r.Method+" "+string(p))
		rw.Header().Set("Location", "/elsewhere")
		rw.WriteHeader(status[(len(bodies)-1)%len(status)])
	}))
	defer srv.Close()
	ok(t, w.service(t, notice.NewWebhook(srv.URL)).Once(t.Context()))
	ok(t, w.service(t, notice.NewWebhook(srv.URL)).Once(t.Context()))
	if len(bodies) != 3 {
		t.Fatalf("requests: %q", bodies)
	}
	var m struct{ Certificates []notice.Item }
	ok(t, json.Unmarshal([]byte(strings.TrimPrefix(bodies[2], "POST ")), &m))
	if len(m.Certificates) != 2 || m.Certificates[0].Names[0] != "two.a.test" || !m.Certificates[1].NotAfter.Equal(start.Add(20*day)) {
		t.Fatalf("%+v", m)
	}
}

// TestRun: what could not be sent raises an alarm, and the end of the context ends it.
func TestRun(t *testing.T) {
	w, s := newWorld(t), mailtest.New(t, false)
	w.issue(t, "", "one.a.test", start.Add(20*day))
	s.Refuse("ops@example.test", -1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	alarms := 0
	x, err := notice.New(notice.Config{Store: w, Senders: []notice.Sender{mailTo(t, s)}, Before: []time.Duration{30 * day}, Backoff: time.Millisecond,
		Now: func() time.Time { return w.now }, Alarm: func(context.Context, bulkhead.Alarm) { alarms++; cancel() }})
	ok(t, err)
	ok(t, x.Run(ctx))
	if alarms != 1 {
		t.Errorf("%d alarms", alarms)
	}
}

func TestAddress(t *testing.T) {
	for contact, want := range map[string]string{"mailto:A@B.Test": "A@b.test", "mailto:a@b.test?subject=x": "", "mailto:a@b.test,c@d.test": "", "tel:1": "",
		"mailto:a@b.test\r\nBcc: x@y.test": "", "mailto:": "", "mailto:Name <a@b.test>": "", "mailto:a": ""} {
		if got, good := notice.Address(contact); got != want || good != (want != "") {
			t.Errorf("%q: %q %v", contact, got, good)
		}
	}
}

func FuzzAddress(f *testing.F) {
	f.Add("mailto:a@b.test")
	f.Add("mailto:a@b.test\nBcc:c@d.test")
	f.Fuzz(func(t *testing.T, contact string) {
		if a, ok := notice.Address(contact); ok && (strings.ContainsAny(a, "\r\n<> ,") || !strings.Contains(a, "@")) {
			t.Errorf("%q gives %q", contact, a)
		}
	})
}
