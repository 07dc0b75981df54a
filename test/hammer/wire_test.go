package hammer

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// A client of net/http costs more than the protocol does: three goroutines and their timers for every request. What the
// clients use up on the same processors the servers do not get, so each account has one connection and speaks on it by itself.

const (
	answerWithin = 30 * time.Second
	// idleMost is from when on a connection that was not used is made anew: a server may have closed it.
	idleMost = 5 * time.Second
)

// wire is the connection of one account.
type wire struct {
	config *tls.Config
	host   string
	conn   *tls.Conn
	in     *bufio.Reader
	out    bytes.Buffer
	used   time.Time
}

func newWire(roots *x509.CertPool) *wire {
	return &wire{config: &tls.Config{RootCAs: roots}}
}

// do sends a request and reads the whole answer.
func (w *wire) do(method, address string, body []byte) (*http.Response, []byte, error) {
	rest, ok := strings.CutPrefix(address, "https://")
	host, path, _ := strings.Cut(rest, "/")
	if !ok {
		return nil, nil, fmt.Errorf("%q is not an address to ask", address)
	}
	if err := w.connect(host); err != nil {
		return nil, nil, err
	}
	w.used = time.Now()
	if err := w.conn.SetDeadline(w.used.Add(answerWithin)); err != nil {
		return nil, nil, err
	}
	w.out.Reset()
	fmt.Fprintf(&w.out, "%s /%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: hammer\r\n", method, path, host)
	if body != nil {
		fmt.Fprintf(&w.out, "Content-Type: application/jose+json\r\nContent-Length: %d\r\n", len(body))
	}
	w.out.WriteString("\r\n")
	w.out.Write(body)
	if _, err := w.conn.Write(w.out.Bytes()); err != nil {
		return nil, nil, err
	}
	resp, err := http.ReadResponse(w.in, &http.Request{Method: method})
	if err != nil {
		return nil, nil, err
	}
	answer, err := io.ReadAll(resp.Body)
	if resp.Close {
		w.used = time.Time{}
	}
	return resp, answer, err
}

// connect makes the connection where there is none that is good.
func (w *wire) connect(host string) error {
	if w.conn != nil && w.host == host && time.Since(w.used) < idleMost {
		return nil
	}
	if w.conn != nil {
		_ = w.conn.Close()
	}
	var err error
	w.conn, err = tls.DialWithDialer(&net.Dialer{Timeout: answerWithin}, "tcp", host, w.config)
	if err != nil {
		w.conn = nil
		return err
	}
	w.host, w.in = host, bufio.NewReader(w.conn)
	return nil
}

var (
	oidSAN       = []byte{0x06, 0x03, 0x55, 0x1d, 0x11}
	oidExtension = []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e}
	ecdsaSHA256  = []byte{0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02}
)

// request is a certification request over one name (RFC 2986), as x509.CreateCertificateRequest makes it, which verifies the
// signature that it just made and so costs the client more than four.
func request(key *ecdsa.PrivateKey, spki []byte, name string) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		b.AddASN1(asn1.SEQUENCE, func(*cryptobyte.Builder) {}) // no subject
		b.AddBytes(spki)
		b.AddASN1(asn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddBytes(oidExtension)
				b.AddASN1(asn1.SET, func(b *cryptobyte.Builder) {
					b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1(asn1.SEQUENCE, names(name)) })
				})
			})
		})
	})
	info, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(info)
	sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		return nil, err
	}
	b = *cryptobyte.NewBuilder(nil)
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(info)
		b.AddBytes(ecdsaSHA256)
		b.AddASN1BitString(sig)
	})
	return b.Bytes()
}

// names is the subject alternative name extension of one DNS name.
func names(name string) func(*cryptobyte.Builder) {
	return func(b *cryptobyte.Builder) {
		b.AddBytes(oidSAN)
		b.AddASN1(asn1.OCTET_STRING, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.Tag(2).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(name)) })
			})
		})
	}
}

// serve is the web server of the internet, as cheap as the clients are.
func (n *internet) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return // closed
		}
		go n.answer(c)
	}
}

// answer answers the one request of a connection, and counts the answers to http-01.
func (n *internet) answer(c net.Conn) {
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(answerWithin)); err != nil {
		return
	}
	buf := make([]byte, 0, 2048)
	for !bytes.Contains(buf, []byte("\r\n\r\n")) {
		if len(buf) == cap(buf) {
			return
		}
		k, err := c.Read(buf[len(buf):cap(buf)])
		if err != nil {
			return
		}
		buf = buf[:len(buf)+k]
	}
	_, target, _ := strings.Cut(string(buf), " ")
	target, _, _ = strings.Cut(target, " ")
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return
	}
	token, _ := strings.CutPrefix(u.Path, "/.well-known/acme-challenge/")
	body, found := n.answers.Load(token)
	if !found {
		_, _ = io.WriteString(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		return
	}
	n.fetched.Add(1)
	_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body.(string)), body)
}
