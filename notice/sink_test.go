package notice_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// sink is an SMTP server (RFC 5321, RFC 3207, RFC 4954) that keeps what it accepts.
type sink struct {
	addr  string
	roots *x509.CertPool // nil without STARTTLS
	conf  *tls.Config

	mu     sync.Mutex
	mails  []letter
	refuse map[string]int  // recipients, and how often each is still refused; -1 for ever
	reject map[string]bool // refused for good
	hangUp map[string]int  // how often the connection ends after the data, without an answer
	logins []string
}

type letter struct {
	to        string
	data      string
	encrypted bool
}

func newSink(t testing.TB, startTLS bool) *sink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s := &sink{addr: l.Addr().String(), refuse: map[string]int{}, reject: map[string]bool{}, hangUp: map[string]int{}}
	if startTLS {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sink"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		s.roots = x509.NewCertPool()
		s.roots.AddCert(cert)
		s.conf = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
	return s
}

func (s *sink) serve(c net.Conn) {
	defer func() { c.Close() }()
	r, encrypted, to := bufio.NewReader(c), false, ""
	say := func(line string) { c.Write([]byte(line + "\r\n")) }
	say("220 sink")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
		switch verb {
		case "EHLO":
			switch {
			case s.conf != nil && !encrypted:
				say("250-sink\r\n250 STARTTLS")
			case encrypted:
				say("250-sink\r\n250 AUTH PLAIN")
			default:
				say("250 sink")
			}
		case "STARTTLS":
			say("220 go ahead")
			x := tls.Server(c, s.conf)
			c, r, encrypted = x, bufio.NewReader(x), true
		case "AUTH":
			p, _ := base64.StdEncoding.DecodeString(line[strings.LastIndexByte(line, ' ')+1:])
			s.mu.Lock()
			s.logins = append(s.logins, strings.ReplaceAll(string(p), "\x00", "|"))
			s.mu.Unlock()
			say("235 ok")
		case "RCPT":
			to = line[strings.IndexByte(line, '<')+1 : strings.IndexByte(line, '>')]
			if s.refused(to) {
				say("450 not now")
				continue
			}
			if s.rejected(to) {
				say("550 no such user")
				continue
			}
			say("250 ok")
		case "DATA":
			say("354 go on")
			var b strings.Builder
			for line, err = r.ReadString('\n'); err == nil && line != ".\r\n"; line, err = r.ReadString('\n') {
				b.WriteString(line)
			}
			s.mu.Lock()
			s.mails = append(s.mails, letter{to, b.String(), encrypted})
			s.mu.Unlock()
			if s.hangsUp(to) {
				return
			}
			say("250 kept")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func (s *sink) refused(to string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.refuse[to]
	if n > 0 {
		s.refuse[to]--
	}
	return n != 0
}

// take returns the mails accepted since the last call.
func (s *sink) take() []letter {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.mails
	s.mails = nil
	return out
}

// seen returns who logged in.
func (s *sink) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.logins...)
}

func (s *sink) rejected(to string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reject[to]
}

func (s *sink) hangsUp(to string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.hangUp[to]
	if n > 0 {
		s.hangUp[to]--
	}
	return n > 0
}
