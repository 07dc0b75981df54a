package deliver_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/notice"
	"bulkhead/store/sqlite"
	"bulkhead/watch/deliver"
)

var start = time.Date(2026, 11, 26, 3, 0, 0, 0, time.UTC)

// room is a record with a clock.
type room struct {
	*sqlite.Store
	t   *testing.T
	now time.Time
}

func newRoom(t *testing.T) *room {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "d.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &room{Store: s, t: t, now: start}
}

func (r *room) raise(key string, severity bulkhead.Severity) {
	r.t.Helper()
	a := bulkhead.Alarm{Detector: "D8", Key: key, Severity: severity, Message: "Störung \"" + key + "\" ]\n失効", Runbook: "d8-revocation-missing.md", FirstAt: r.now, LastAt: r.now, Count: 1}
	if _, err := r.RaiseAlarm(r.t.Context(), a, bulkhead.Evidence{Kind: bulkhead.EvAlarm, At: r.now, Actor: "test"}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *room) service(receivers ...deliver.Receiver) *deliver.Service {
	r.t.Helper()
	s, err := deliver.New(deliver.Config{Store: r, Receivers: receivers, Attempts: 3, Backoff: time.Minute, Now: func() time.Time { return r.now }})
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (r *room) once(s *deliver.Service) {
	r.t.Helper()
	if err := s.Once(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// hook is a webhook's other side.
type hook struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	got    []deliver.Message
	bodies [][]byte
	signed []string
}

func newHook(t *testing.T) *hook {
	h := &hook{status: http.StatusNoContent}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		body, _ := io.ReadAll(r.Body)
		var m deliver.Message
		if err := json.Unmarshal(body, &m); err != nil {
			t.Errorf("%v: %s", err, body)
		}
		h.got, h.bodies, h.signed = append(h.got, m), append(h.bodies, body), append(h.signed, r.Header.Get(deliver.SignatureHeader))
		if h.status == http.StatusFound {
			w.Header().Set("Location", "http://127.0.0.1:1/elsewhere")
		}
		w.WriteHeader(h.status)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) take() []deliver.Message {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.got
	h.got = nil
	return out
}

func (h *hook) answer(status int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status = status
}

var key = []byte("0123456789abcdef0123456789abcdef")

func (h *hook) receiver(t *testing.T, least bulkhead.Severity) deliver.Receiver {
	t.Helper()
	w, err := deliver.NewWebhook(h.URL, "house-1", key, func() time.Time { return start })
	if err != nil {
		t.Fatal(err)
	}
	return deliver.Receiver{Name: "pager", Least: least, Sender: w}
}

// TestWebhook: one signed message an alarm, of the severities that are wanted, once, also after a restart.
func TestWebhook(t *testing.T) {
	r, h := newRoom(t), newHook(t)
	r.raise("a", bulkhead.Critical)
	r.raise("b", bulkhead.Notice)
	r.once(r.service(h.receiver(t, bulkhead.Warning)))
	got := h.take()
	if len(got) != 1 || got[0].Key != "a" || got[0].House != "house-1" || got[0].Event != "alarm" || got[0].Severity != bulkhead.Critical || got[0].ID == 0 {
		t.Fatalf("%+v", got)
	}
	if !deliver.Verify(key, h.bodies[0], h.signed[0]) || deliver.Verify([]byte("another key, long enough"), h.bodies[0], h.signed[0]) || deliver.Verify(key, append(h.bodies[0], ' '), h.signed[0]) {
		t.Errorf("signature %q", h.signed[0])
	}
	r.raise("a", bulkhead.Critical) // seen again: the same alarm
	r.once(r.service(h.receiver(t, bulkhead.Warning)))
	if got := h.take(); len(got) != 0 {
		t.Errorf("told twice: %+v", got)
	}
}

// TestRetries: attempts grow apart and end; what was given up is evidence and stays visible until the alarm is taken. A
// redirect is not followed and is no acceptance.
func TestRetries(t *testing.T) {
	r, h := newRoom(t), newHook(t)
	r.raise("a", bulkhead.Critical)
	s := r.service(h.receiver(t, bulkhead.Warning))
	h.answer(http.StatusFound)
	r.once(s)
	r.once(s)
	if n := len(h.take()); n != 1 {
		t.Fatalf("%d attempts at once", n)
	}
	h.answer(http.StatusInternalServerError)
	r.now = r.now.Add(time.Minute)
	r.once(s)
	r.now = r.now.Add(time.Minute)
	r.once(s) // the second pause is two minutes
	if n := len(h.take()); n != 1 {
		t.Fatalf("%d attempts after a minute", n)
	}
	r.now = r.now.Add(time.Minute)
	r.once(r.service(h.receiver(t, bulkhead.Warning))) // another process goes on counting
	failed, err := r.FailedDeliveries(t.Context(), 10)
	if err != nil || len(failed) != 1 || failed[0].Receiver != "pager" || failed[0].Attempts != 3 || !strings.Contains(failed[0].Error, "500") {
		t.Fatalf("%v %+v", err, failed)
	}
	h.take()
	r.now = r.now.Add(24 * time.Hour)
	r.once(s)
	if n := len(h.take()); n != 0 {
		t.Errorf("%d attempts after the end", n)
	}
	rows, err := r.EvidenceAfter(t.Context(), 0, 10)
	if err != nil || len(rows) != 2 {
		t.Fatalf("%v, %d leaves", err, len(rows))
	}
	if err := r.AckAlarm(t.Context(), failed[0].Alarm.ID, r.now, "operator:x", "seen", bulkhead.Evidence{Kind: bulkhead.EvAlarmAcknowledged, At: r.now, Actor: "operator:x"}); err != nil {
		t.Fatal(err)
	}
	if failed, _ := r.FailedDeliveries(t.Context(), 10); len(failed) != 0 {
		t.Errorf("%+v", failed)
	}
}

// slow never answers until it is let go.
type slow struct{ let chan struct{} }

func (s slow) Send(ctx context.Context, _ bulkhead.Alarm) error {
	select {
	case <-s.let:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

type sent chan string

func (s sent) Send(_ context.Context, a bulkhead.Alarm) error { s <- a.Key; return nil }

// TestSlowReceiver: one that does not answer keeps no other waiting, and an end of the process is no attempt.
func TestSlowReceiver(t *testing.T) {
	r := newRoom(t)
	r.raise("a", bulkhead.Critical)
	quick := make(sent, 1)
	s, err := deliver.New(deliver.Config{Store: r, Every: 10 * time.Millisecond, Now: func() time.Time { return r.now },
		Receivers: []deliver.Receiver{{Name: "slow", Least: bulkhead.Notice, Sender: slow{make(chan struct{})}}, {Name: "quick", Least: bulkhead.Notice, Sender: quick}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	select {
	case <-quick:
	case <-time.After(time.Minute):
		t.Error("the quick one waits")
	}
	cancel()
	<-done
	due, err := r.DueDeliveries(t.Context(), "slow", bulkhead.Severities(), r.now, 10)
	if err != nil || len(due) != 1 || due[0].Attempts != 0 {
		t.Errorf("%v %+v", err, due)
	}
}

var grammar = regexp.MustCompile(`^<(\d{1,3})>1 (\S+) (\S+) bulkhead (\d+) (\S+) \[alarm@32473((?: [a-z]+="(?:[^"\\\]]|\\["\\\]])*")+)\] \x{feff}([^\n]+)$`)

// TestSyslog: RFC 5424 over UDP, TCP with octet counting, and both kinds of local sockets.
func TestSyslog(t *testing.T) {
	for _, network := range []string{"udp", "tcp", "unixgram", "unix"} {
		t.Run(network, func(t *testing.T) {
			r := newRoom(t)
			r.raise(`k"]\`, bulkhead.Critical)
			target, read := listen(t, network)
			s, err := deliver.NewSyslog(target, "house-1", func() time.Time { return start })
			if err != nil {
				t.Fatal(err)
			}
			r.once(r.service(deliver.Receiver{Name: "log", Least: bulkhead.Notice, Sender: s}))
			msg := read()
			if network == "tcp" || network == "unix" {
				count, rest, _ := strings.Cut(msg, " ")
				if n, err := strconv.Atoi(count); err != nil || n != len(rest) {
					t.Errorf("octet count %q of %d", count, len(rest))
				}
				msg = rest
			}
			m := grammar.FindStringSubmatch(msg)
			if m == nil || m[1] != "106" || m[2] != "2026-11-26T03:00:00.000Z" || m[5] != "D8" || !strings.Contains(m[6], `key="k\"\]\\"`) || !strings.Contains(m[7], "失効") {
				t.Errorf("%q\n%q", msg, m)
			}
		})
	}
}

func listen(t *testing.T, network string) (target string, read func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	switch network {
	case "udp", "unixgram":
		addr := "127.0.0.1:0"
		if network == "unixgram" {
			addr = path
		}
		c, err := net.ListenPacket(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		target = "udp://" + c.LocalAddr().String()
		if network == "unixgram" {
			target = "unix://" + path
		}
		return target, func() string {
			_ = c.SetReadDeadline(time.Now().Add(time.Minute))
			b := make([]byte, 4096)
			n, _, err := c.ReadFrom(b)
			if err != nil {
				t.Fatal(err)
			}
			return string(b[:n])
		}
	default:
		addr := "127.0.0.1:0"
		if network == "unix" {
			addr = path
		}
		l, err := net.Listen(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		got := make(chan string, 1)
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			b, _ := io.ReadAll(c)
			got <- string(b)
		}()
		target = "tcp://" + l.Addr().String()
		if network == "unix" {
			target = "unix://" + path
		}
		return target, func() string {
			select {
			case m := <-got:
				return m
			case <-time.After(time.Minute):
				t.Fatal("nothing came")
				return ""
			}
		}
	}
}

// TestLongDatagram: a datagram stays within what every receiver takes, and valid UTF-8.
func TestLongDatagram(t *testing.T) {
	target, read := listen(t, "udp")
	s, err := deliver.NewSyslog(target, "h", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), bulkhead.Alarm{Detector: "D1", Severity: "unheard of", Message: strings.Repeat("失", 2000)}); err != nil {
		t.Fatal(err)
	}
	if m := read(); len(m) > 2048 || strings.ContainsRune(m, '\uFFFD') {
		t.Errorf("%d octets", len(m))
	}
}

// TestMail sends through the mail sender of the notices to a relay on loopback.
func TestMail(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	letters := make(chan string, 4)
	go relay(l, letters)
	m, err := notice.NewMail(notice.MailConfig{Server: l.Addr().String(), From: "ca@example.test", Language: "en"})
	if err != nil {
		t.Fatal(err)
	}
	r := newRoom(t)
	r.raise("a", bulkhead.Critical)
	r.once(r.service(deliver.Receiver{Name: "mail", Least: bulkhead.Notice, Sender: deliver.Mail{Mailer: m, To: []string{"ops@example.test"}, House: "house-1"}}))
	select {
	case x := <-letters:
		for _, want := range []string{"RCPT TO:<ops@example.test>", "critical", "bulkhead alarms ack 1 --reason", "d8-revocation-missing.md"} {
			if !strings.Contains(x, want) {
				t.Errorf("no %q in %s", want, x)
			}
		}
	case <-time.After(time.Minute):
		t.Fatal("no mail came")
	}
	if due, _ := r.DueDeliveries(t.Context(), "mail", bulkhead.Severities(), r.now, 10); len(due) != 0 {
		t.Errorf("%+v", due)
	}
}

// relay is as much of SMTP as one letter needs.
func relay(l net.Listener, letters chan<- string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			in, all, data := bufio.NewReader(c), "", false
			fmt.Fprint(c, "220 relay\r\n")
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				all += line
				switch verb := strings.ToUpper(strings.TrimSpace(line)); {
				case data && verb == ".":
					data = false
					letters <- all
					fmt.Fprint(c, "250 ok\r\n")
				case data:
				case strings.HasPrefix(verb, "DATA"):
					data = true
					fmt.Fprint(c, "354 go on\r\n")
				case strings.HasPrefix(verb, "QUIT"):
					fmt.Fprint(c, "221 bye\r\n")
					return
				default:
					fmt.Fprint(c, "250 ok\r\n")
				}
			}
		}()
	}
}

type broken struct{}

func (broken) Send(context.Context, bulkhead.Alarm) error { return errors.New("no") }

// TestRefusals: what means nothing is refused when it is configured, not at night.
func TestRefusals(t *testing.T) {
	r := newRoom(t)
	for name, receivers := range map[string][]deliver.Receiver{
		"none":        nil,
		"no name":     {{Least: bulkhead.Notice, Sender: broken{}}},
		"twice":       {{Name: "a", Least: bulkhead.Notice, Sender: broken{}}, {Name: "a", Least: bulkhead.Notice, Sender: broken{}}},
		"no severity": {{Name: "a", Sender: broken{}}},
		"no sender":   {{Name: "a", Least: bulkhead.Notice}},
	} {
		if _, err := deliver.New(deliver.Config{Store: r, Receivers: receivers}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, target := range []string{"", "ftp://x", "https://", "https://user:pw@x.test/"} {
		if _, err := deliver.NewWebhook(target, "h", key, time.Now); err == nil {
			t.Errorf("webhook %q: accepted", target)
		}
	}
	if _, err := deliver.NewWebhook("https://x.test", "h", []byte("short"), time.Now); err == nil {
		t.Error("a short key was accepted")
	}
	for _, target := range []string{"", "udp://x", "tcp://x:1/path", "unix://host/path", "unix://", "tls://x:1"} {
		if _, err := deliver.NewSyslog(target, "h", time.Now); err == nil {
			t.Errorf("syslog %q: accepted", target)
		}
	}
}

// FuzzEncode: whatever an alarm says, the message keeps the grammar.
func FuzzEncode(f *testing.F) {
	f.Add("D8", `k"]\`, "text\nline", "h o s t")
	f.Add("", "", "", "")
	f.Add("d\x00\xff", "\xff", "\xff\xfe失", "ホスト")
	f.Fuzz(func(t *testing.T, detector, k, message, host string) {
		m := deliver.Encode(bulkhead.Alarm{Detector: detector, Key: k, Severity: bulkhead.Notice, Message: message + "."}, start, host, k)
		if !grammar.Match(m) {
			t.Errorf("%q", m)
		}
	})
}
