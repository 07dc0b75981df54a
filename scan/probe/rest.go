package probe

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"

	"bulkhead"
)

// maxWeak bounds the connections that are spent on weak suites.
const maxWeak = 16

// rest is what a whole look sees beyond the verdict.
func (l *look) rest() {
	if l.at(tls13).Outcome == "" {
		_ = l.modern(tls.VersionTLS10)
	}
	for _, v := range legacy {
		if l.at(v).Outcome == "" {
			l.extra(v)
		}
	}
	l.weak()
	if len(l.chain) > 0 {
		l.out.Chain = describe(l.chain, l.cfg.Known, l.out.At, func(c *x509.Certificate, spki bulkhead.Hash) string {
			return l.keys.weakness(c, spki, *l.cfg.Keys)
		})
	}
}

// extra asks for a version that the verdict did not need.
func (l *look) extra(v uint16) {
	a := l.ask(l.hello(v))
	defer l.close(a)
	switch {
	case a.hello && a.version <= v && a.version >= ssl30:
		l.spoken(v, a)
	case a.refused():
		l.refused(v, a.err)
	default:
		l.note(v, bulkhead.VersionUnanswered, "")
	}
}

// errSeen ends a handshake once the certificates are there: nothing is to be said to this server.
var errSeen = errors.New("seen")

// modern shakes hands with the standard library as far as the server's certificates, from version lowest to TLS 1.3. It
// fails when the server does not come that far.
func (l *look) modern(lowest uint16) error {
	a := l.connect()
	defer l.close(a)
	if a.err != nil {
		l.note(tls13, bulkhead.VersionUnanswered, "")
		return a.err
	}
	c := tls.Client(counted{a.w.c, a.w}, &tls.Config{
		ServerName: l.way.name, MinVersion: lowest, MaxVersion: tls.VersionTLS13, CipherSuites: everySuite,
		InsecureSkipVerify: true, //nolint:gosec // the look judges the certificates; nothing is said to the server
		VerifyConnection: func(s tls.ConnectionState) error {
			l.shown(s)
			return errSeen
		},
	})
	err := c.HandshakeContext(l.ctx)
	if errors.Is(err, errSeen) {
		return nil
	}
	var alert tls.AlertError
	switch {
	case errors.As(err, &alert):
		l.note(tls13, bulkhead.VersionRefused, alertName(byte(alert)))
	case errors.Is(plain(err), errSilence):
		l.note(tls13, bulkhead.VersionUnanswered, "")
	default:
		l.note(tls13, bulkhead.VersionRefused, "closed")
	}
	return err
}

// shown keeps what a handshake showed.
func (l *look) shown(s tls.ConnectionState) {
	if s.Version == tls13 {
		l.note(tls13, bulkhead.VersionSpoken, "")
		l.at(tls13).Suite = s.CipherSuite
	} else {
		l.note(tls13, bulkhead.VersionRefused, "")
	}
	if !l.whole || len(s.PeerCertificates) == 0 {
		return
	}
	l.chain = l.chain[:0]
	for _, c := range s.PeerCertificates {
		l.chain = append(l.chain, c.Raw)
	}
	if len(s.OCSPResponse) > 0 {
		l.out.Staple = s.OCSPResponse
	}
}

var everySuite = func() (ids []uint16) {
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		ids = append(ids, s.ID)
	}
	return ids
}()

// weak asks which weak suites the server accepts, at the newest version of the record-level look: each answer takes one
// suite off the list until the server refuses.
func (l *look) weak() {
	var version uint16
	for _, v := range legacy {
		if l.at(v).Outcome == bulkhead.VersionSpoken {
			version = v
			break
		}
	}
	if version == 0 {
		return
	}
	left := append(make([]uint16, 0, len(weakSuites)+1), weakSuites...)
	for range maxWeak {
		a := l.ask(hello{version: version, suites: append(left, renegotiationSCSV), compact: l.way.compact})
		l.close(a)
		at := -1
		for i, s := range left {
			if a.hello && s == a.suite {
				at = i
			}
		}
		if at < 0 {
			return
		}
		l.out.Suites = append(l.out.Suites, a.suite)
		left = append(left[:at], left[at+1:]...)
	}
}

// counted lets the standard library read what a wire counts.
type counted struct {
	net.Conn
	w *wire
}

// Read implements net.Conn.
func (c counted) Read(p []byte) (int, error) {
	if c.w.r == c.w.w {
		if c.w.received >= c.w.limit {
			return 0, errTooMuch
		}
		n, err := c.Conn.Read(p)
		c.w.received += int64(n)
		return n, err
	}
	n := copy(p, c.w.buf[c.w.r:c.w.w])
	c.w.r += n
	return n, nil
}

// Write implements net.Conn.
func (c counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.w.sent += int64(n)
	return n, err
}
