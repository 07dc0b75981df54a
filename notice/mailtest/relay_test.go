package mailtest_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/smtp"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"bulkhead/notice/mailtest"
)

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantCode wants the answer of an SMTP server.
func wantCode(t *testing.T, err error, code int) {
	t.Helper()
	if e, is := err.(*textproto.Error); !is || e.Code != code {
		t.Fatalf("got %v, want %d", err, code)
	}
}

// send sends a message by the client of the standard library.
func send(c *smtp.Client, data string, to ...string) error {
	if err := c.Mail("ca@example.test"); err != nil {
		return err
	}
	for _, x := range to {
		if err := c.Rcpt(x); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, data); err != nil {
		return err
	}
	return w.Close()
}

func dial(t *testing.T, r *mailtest.Relay) *smtp.Client {
	t.Helper()
	conn, err := net.DialTimeout("tcp", r.Addr, 5*time.Second)
	ok(t, err)
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	c, err := smtp.NewClient(conn, "127.0.0.1")
	ok(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

const letter = "Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n.begins with a dot\r\n..and two\r\n.\r\ncaf=C3=A9\r\n"

// TestKeepsWhatWasWritten: a message arrives as its author wrote it, lines of dots included, for each recipient, and is taken once.
func TestKeepsWhatWasWritten(t *testing.T) {
	r := mailtest.New(t, false)
	c := dial(t, r)
	ok(t, send(c, letter, "a@a.test", "b@b.test"))
	ok(t, send(c, letter, "a@a.test"))
	ok(t, c.Quit())
	got := r.Take()
	if len(got) != 3 || got[0].To != "a@a.test" || got[1].To != "b@b.test" || got[0].From != "ca@example.test" || got[0].Encrypted {
		t.Fatalf("%+v", got)
	}
	if got[0].Data != letter || got[0].Subject() != "grüße" || got[0].Text() != ".begins with a dot\r\n..and two\r\n.\r\ncafé\r\n" {
		t.Errorf("%q\n%q\n%q", got[0].Data, got[0].Subject(), got[0].Text())
	}
	if len(r.Take()) != 0 || len(r.All()) != 3 || len(r.To("a@a.test")) != 2 || len(r.To("c@c.test")) != 0 {
		t.Error("what was taken comes back, or what was kept is gone")
	}
}

// TestMisbehaves: it refuses for now, for so long; for good; and hangs up after it kept the message.
func TestMisbehaves(t *testing.T) {
	r := mailtest.New(t, false)
	r.Refuse("slow@a.test", 2)
	r.Refuse("never@a.test", -1)
	r.Reject("gone@a.test")
	r.HangUp("doubt@a.test", 1)
	c := dial(t, r)
	for range 2 {
		wantCode(t, send(c, letter, "slow@a.test"), 450)
		wantCode(t, send(c, letter, "never@a.test"), 450)
		wantCode(t, send(c, letter, "gone@a.test"), 550)
	}
	ok(t, send(c, letter, "slow@a.test"))
	r.Refuse("never@a.test", 0)
	ok(t, send(c, letter, "never@a.test"))
	if err := send(c, letter, "doubt@a.test"); err == nil {
		t.Fatal("a connection that ended without an answer was a success")
	}
	c = dial(t, r)
	ok(t, send(c, letter, "doubt@a.test"))
	if n := len(r.To("doubt@a.test")); n != 2 {
		t.Errorf("%d messages whose answer was lost", n)
	}
	if n := len(r.All()); n != 4 {
		t.Errorf("%d messages in all", n)
	}
}

// TestStartTLS: with it, a client that asks is encrypted and may log in; before it nobody may.
func TestStartTLS(t *testing.T) {
	r := mailtest.New(t, true)
	c := dial(t, r)
	if offered, _ := c.Extension("STARTTLS"); !offered {
		t.Fatal("STARTTLS is not offered")
	}
	if offered, _ := c.Extension("AUTH"); offered {
		t.Fatal("passwords are asked for in the clear")
	}
	ok(t, c.StartTLS(&tls.Config{RootCAs: r.Roots, ServerName: "127.0.0.1"}))
	ok(t, c.Auth(smtp.PlainAuth("", "ca", "secret", "127.0.0.1")))
	ok(t, send(c, letter, "a@a.test"))
	if got := r.Take(); len(got) != 1 || !got[0].Encrypted {
		t.Errorf("%+v", got)
	}
	if got := r.Logins(); len(got) != 1 || got[0] != "|ca|secret" {
		t.Errorf("%q", got)
	}
}

// TestOutOfOrder: what comes out of order, or without end, is refused, and what was not ended is not kept.
func TestOutOfOrder(t *testing.T) {
	r := mailtest.New(t, false)
	conn, err := net.DialTimeout("tcp", r.Addr, 5*time.Second)
	ok(t, err)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	in := bufio.NewReader(conn)
	says := func(line, want string) {
		t.Helper()
		if line != "" {
			fmt.Fprintf(conn, "%s\r\n", line)
		}
		if got, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(got, want) {
			t.Fatalf("%q: %q %v, want %s", line, got, err, want)
		}
	}
	says("", "220")
	says("DATA", "503")
	says("STARTTLS", "503")
	says("AUTH PLAIN AGNhAHNlY3JldA==", "504")
	says("RCPT TO:nobody", "501")
	says("FROB", "502")
	says("MAIL FROM:<ca@example.test>", "250")
	says("RCPT TO:<a@a.test>", "250")
	says("RSET", "250")
	says("DATA", "503")
	says("RCPT TO:<a@a.test>", "250")
	says("DATA", "354")
	fmt.Fprint(conn, strings.Repeat("x", 5000)+"\r\n")
	says("", "500")
	if n := len(r.All()); n != 0 {
		t.Errorf("%d messages were kept that never ended", n)
	}
}
