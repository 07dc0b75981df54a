// Package mailtest is the relay of tests: a small SMTP server on loopback (RFC 5321, with STARTTLS of RFC 3207 and AUTH PLAIN of
// RFC 4954) that keeps what arrives and misbehaves when it is told to.
//
// Invariant: what it keeps is what a mailbox would: the message as its author wrote it, without the dots that the transfer adds,
// once for each recipient that was accepted, and only after the end of the data came. What it answered is what it did.
//
// Refuses: commands out of order, lines and messages without end, and an address that is not loopback. Tests only.
package mailtest

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"io"
	"math/big"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Bounds of one session: a test that hangs must end.
const (
	maxLine    = 4096 // octets; RFC 5321 asks for 1000
	maxMessage = 8 << 20
	session    = 30 * time.Second
)

// Mail is one message for one recipient.
type Mail struct {
	From, To  string
	Data      string // header and body, lines ended by CRLF
	Encrypted bool   // it came by TLS
}

// Subject is the decoded subject; "" when the message cannot be read.
func (m Mail) Subject() string {
	x, err := mail.ReadMessage(strings.NewReader(m.Data))
	if err != nil {
		return ""
	}
	s, _ := new(mime.WordDecoder).DecodeHeader(x.Header.Get("Subject"))
	return s
}

// Text is the body of a message of one part, decoded where it is quoted-printable; "" when the message cannot be read.
func (m Mail) Text() string {
	x, err := mail.ReadMessage(strings.NewReader(m.Data))
	if err != nil {
		return ""
	}
	body := x.Body
	if strings.EqualFold(x.Header.Get("Content-Transfer-Encoding"), "quoted-printable") {
		body = quotedprintable.NewReader(body)
	}
	text, _ := io.ReadAll(body)
	return string(text)
}

// Relay is a running server. Safe for concurrent use.
type Relay struct {
	Addr  string         // host and port
	Roots *x509.CertPool // who vouches for it; nil without STARTTLS

	conf   *tls.Config
	mu     sync.Mutex
	mails  []Mail
	taken  int
	refuse map[string]int // recipients, and how often each is still refused for now; -1 for ever
	reject map[string]bool
	hangUp map[string]int
	logins []string
}

// New starts a relay that ends with the test; with startTLS it offers STARTTLS, and AUTH after it.
func New(t testing.TB, startTLS bool) *Relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	r := &Relay{Addr: l.Addr().String(), refuse: map[string]int{}, reject: map[string]bool{}, hangUp: map[string]int{}}
	if startTLS {
		if err := r.identify(); err != nil {
			t.Fatal(err)
		}
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go r.serve(c)
		}
	}()
	return r
}

// identify makes the certificate that STARTTLS shows.
func (r *Relay) identify() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "relay"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	r.Roots = x509.NewCertPool()
	r.Roots.AddCert(cert)
	r.conf = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	return nil
}

// Refuse answers a recipient "not now" (450) so many times; a negative number is for ever, 0 no more.
func (r *Relay) Refuse(to string, times int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuse[to] = times
}

// Reject answers a recipient "no such user" (550).
func (r *Relay) Reject(to string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reject[to] = true
}

// HangUp keeps what comes for a recipient, so many times, and ends the connection without an answer: nobody knows that it arrived.
func (r *Relay) HangUp(to string, times int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hangUp[to] = times
}

// Take returns what arrived since the last call.
func (r *Relay) Take() []Mail {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := slices.Clone(r.mails[r.taken:])
	r.taken = len(r.mails)
	return out
}

// All returns everything that ever arrived, in order.
func (r *Relay) All() []Mail {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.mails)
}

// To returns everything that ever arrived for an address, in order.
func (r *Relay) To(address string) []Mail {
	return slices.DeleteFunc(r.All(), func(m Mail) bool { return m.To != address })
}

// Logins returns the credentials that were given, with "|" for NUL.
func (r *Relay) Logins() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.logins)
}

// answer says what becomes of a recipient; "" accepts.
func (r *Relay) answer(to string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch n := r.refuse[to]; {
	case n > 0:
		r.refuse[to]--
		return "450 not now"
	case n < 0:
		return "450 not now"
	case r.reject[to]:
		return "550 no such user"
	}
	return ""
}

// keep keeps a message for its recipients and reports whether it may be said.
func (r *Relay) keep(from, data string, to []string, encrypted bool) (say bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	say = true
	for _, x := range to {
		r.mails = append(r.mails, Mail{from, x, data, encrypted})
		if r.hangUp[x] > 0 {
			r.hangUp[x]--
			say = false
		}
	}
	return say
}

// talk is one connection.
type talk struct {
	*Relay
	conn      net.Conn
	in        *bufio.Reader
	encrypted bool
	from      string
	to        []string
}

func (r *Relay) serve(c net.Conn) {
	t := &talk{Relay: r, conn: c, in: bufio.NewReaderSize(c, maxLine)}
	defer func() { t.conn.Close() }()
	_ = c.SetDeadline(time.Now().Add(session))
	t.say("220 relay")
	for {
		line, err := t.line()
		if err != nil || !t.command(line) {
			return
		}
	}
}

func (t *talk) say(line string) { _, _ = io.WriteString(t.conn, line+"\r\n") }

var errLine = errors.New("mailtest: a line without end")

// line reads a line without its end.
func (t *talk) line() (string, error) {
	b, err := t.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		t.say("500 line too long")
		return "", errLine
	}
	return strings.TrimRight(string(b), "\r\n"), err
}

// path is the address between angle brackets.
func path(line string) (string, bool) {
	_, rest, open := strings.Cut(line, "<")
	address, _, shut := strings.Cut(rest, ">")
	return address, open && shut
}

// command answers one command; false ends the connection.
func (t *talk) command(line string) bool {
	verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
	switch verb {
	case "EHLO", "HELO":
		switch {
		case t.conf != nil && !t.encrypted:
			t.say("250-relay\r\n250 STARTTLS")
		case t.encrypted:
			t.say("250-relay\r\n250 AUTH PLAIN")
		default:
			t.say("250 relay")
		}
	case "STARTTLS":
		if t.conf == nil || t.encrypted {
			t.say("503 no TLS here")
			return true
		}
		t.say("220 go ahead")
		t.conn = tls.Server(t.conn, t.conf)
		t.in, t.encrypted, t.from, t.to = bufio.NewReaderSize(t.conn, maxLine), true, "", nil // RFC 3207, section 4.2: what was said before is forgotten
	case "AUTH":
		p, err := base64.StdEncoding.DecodeString(line[strings.LastIndexByte(line, ' ')+1:])
		if !t.encrypted || err != nil {
			t.say("504 not so")
			return true
		}
		t.mu.Lock()
		t.logins = append(t.logins, strings.ReplaceAll(string(p), "\x00", "|"))
		t.mu.Unlock()
		t.say("235 ok")
	case "MAIL":
		t.from, _ = path(line)
		t.to = nil
		t.say("250 ok")
	case "RCPT":
		t.recipient(line)
	case "DATA":
		return t.data()
	case "RSET":
		t.from, t.to = "", nil
		t.say("250 ok")
	case "NOOP":
		t.say("250 ok")
	case "QUIT":
		t.say("221 bye")
		return false
	default:
		t.say("502 not known")
	}
	return true
}

func (t *talk) recipient(line string) {
	to, ok := path(line)
	if !ok {
		t.say("501 no address")
		return
	}
	if no := t.answer(to); no != "" {
		t.say(no)
		return
	}
	t.to = append(t.to, to)
	t.say("250 ok")
}

// data reads a message and keeps it.
func (t *talk) data() bool {
	if len(t.to) == 0 {
		t.say("503 no recipient")
		return true
	}
	t.say("354 go on")
	var b strings.Builder
	for {
		line, err := t.line()
		if err != nil {
			return false // what was not ended is not kept
		}
		if line == "." {
			break
		}
		b.WriteString(strings.TrimPrefix(line, ".") + "\r\n") // RFC 5321, section 4.5.2
		if b.Len() > maxMessage {
			t.say("552 too long")
			return false
		}
	}
	if !t.keep(t.from, b.String(), t.to, t.encrypted) {
		return false
	}
	t.from, t.to = "", nil
	t.say("250 kept")
	return true
}
