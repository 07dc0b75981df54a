package probetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Server is a listening behaviour. Swap changes it while it runs, as a patched binary would.
type Server struct {
	l    net.Listener
	mu   sync.Mutex
	b    Behaviour
	open map[net.Conn]bool
	done bool
	wg   sync.WaitGroup
}

// Listen starts a server on a loopback address such as "127.0.0.1:0" or "[::1]:0".
func Listen(b Behaviour, address string) (*Server, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	if !at.Addr().IsLoopback() {
		return nil, errors.New("probetest: loopback only")
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	s := &Server{l: l, b: b, open: map[net.Conn]bool{}}
	s.wg.Go(s.accept)
	return s, nil
}

// Addr is where it listens.
func (s *Server) Addr() netip.AddrPort { return s.l.Addr().(*net.TCPAddr).AddrPort() }

// Swap makes the server behave otherwise from the next connection on.
func (s *Server) Swap(b Behaviour) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b = b
}

// Close ends the server and its connections and waits for them.
func (s *Server) Close() {
	s.mu.Lock()
	s.done = true
	_ = s.l.Close()
	for c := range s.open {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *Server) accept() {
	for {
		c, err := s.l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		b, done := s.b, s.done
		s.open[c] = true
		s.mu.Unlock()
		if done {
			_ = c.Close()
			return
		}
		s.wg.Go(func() {
			serve(c, b)
			_ = c.Close()
			s.mu.Lock()
			delete(s.open, c)
			s.mu.Unlock()
		})
	}
}

// leaf is the certificate of every server, made once.
var leaf = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(0x0160), Subject: pkix.Name{CommonName: "conformance server"}, DNSNames: []string{"wanted.test"},
		NotBefore: time.Unix(1396828800, 0), NotAfter: time.Unix(4102444800, 0)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

// Leaf is the certificate that every server serves first, in DER.
func Leaf() []byte { return leaf().Certificate[0] }

// talk is one connection as the server sees it.
type talk struct {
	c       net.Conn
	b       Behaviour
	in      []byte // read and not looked at
	held    []byte // written and held back
	version uint16
}

func serve(c net.Conn, b Behaviour) {
	t := &talk{c: c, b: b}
	if b.Quirk == CloseOnAccept {
		return
	}
	if b.STARTTLS != "" {
		if err := t.prelude(); err != nil {
			return
		}
	}
	if b.TLS13 {
		auth := tls.NoClientCert
		if b.ClientCert {
			auth = tls.RequireAnyClientCert
		}
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{leaf()}, MinVersion: tls.VersionTLS13, ClientAuth: auth})
		_ = s.Handshake()
		return
	}
	typ, body, err := t.record()
	if err != nil || typ != 22 {
		return
	}
	h, ok := parseHello(body)
	if !ok || !t.greet(h) {
		return
	}
	if b.Life > 0 {
		_ = c.SetReadDeadline(time.Now().Add(b.Life))
	}
	for {
		typ, body, err := t.record()
		if err != nil || !t.react(typ, body) {
			return
		}
	}
}

// need reads until n bytes are there.
func (t *talk) need(n int) error {
	for len(t.in) < n {
		if err := t.more(); err != nil {
			return err
		}
	}
	return nil
}

func (t *talk) more() error {
	var p [4096]byte
	n, err := t.c.Read(p[:])
	t.in = append(t.in, p[:n]...)
	if n > 0 {
		return nil
	}
	return err
}

// record reads one record. A wrong version is answered as OpenSSL does, once the hello is done.
func (t *talk) record() (typ byte, body []byte, err error) {
	if err := t.need(5); err != nil {
		return 0, nil, err
	}
	n := int(binary.BigEndian.Uint16(t.in[3:]))
	typ, version := t.in[0], binary.BigEndian.Uint16(t.in[1:])
	if n > 1<<14 || typ < 20 || typ > 24 {
		return 0, nil, io.ErrUnexpectedEOF
	}
	if t.version != 0 && t.b.StrictRecord && version != t.version {
		t.alert(2, 70)
		return 0, nil, io.ErrUnexpectedEOF
	}
	if err := t.need(5 + n); err != nil {
		return 0, nil, err
	}
	body = t.in[5 : 5+n : 5+n]
	t.in = t.in[5+n:]
	return typ, body, nil
}

// write sends at once, in pieces where the behaviour says so.
func (t *talk) write(p []byte) {
	step := len(p)
	if t.b.Chop > 0 {
		step = t.b.Chop
	}
	for len(p) > 0 {
		n := min(step, len(p))
		if _, err := t.c.Write(p[:n]); err != nil {
			return
		}
		p = p[n:]
	}
}

// buffer sends through the output buffer of the handshake. What fits is held back; of what does not fit, full buffers go
// out (BIO_f_buffer of OpenSSL).
func (t *talk) buffer(p []byte) {
	size := t.b.Buffer
	if size == 0 {
		t.write(p)
		return
	}
	if len(t.held)+len(p) <= size {
		t.held = append(t.held, p...)
		return
	}
	if len(t.held) > 0 {
		n := size - len(t.held)
		t.write(append(t.held, p[:n]...))
		t.held, p = nil, p[n:]
	}
	if len(p) >= size {
		t.write(p)
		return
	}
	t.held = append(t.held, p...)
}

func (t *talk) alert(level, code byte) {
	v := t.version
	if v == 0 {
		v = TLS10
	}
	t.write([]byte{21, byte(v >> 8), byte(v), 0, 2, level, code})
}

func (t *talk) reset() {
	if c, ok := t.c.(*net.TCPConn); ok {
		_ = c.SetLinger(0)
	}
}
