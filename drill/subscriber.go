package drill

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"bulkhead"
)

// web is where the subscribers of a rehearsal answer challenges, on loopback: http-01 and tls-alpn-01 for names below
// .localhost, which every machine resolves to itself.
type web struct {
	HTTPPort, TLSPort int

	mu     sync.Mutex
	tokens map[string]string          // token → key authorization
	certs  map[string]tls.Certificate // name → what tls-alpn-01 looks at
}

func (s *Stage) newWeb() (*web, error) {
	w := &web{tokens: map[string]string{}, certs: map[string]tls.Certificate{}}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("web of subscribers: %w", err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(w.token), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = srv.Serve(plain) }()
	s.end(srv.Close)
	secure, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"acme-tls/1"}, GetCertificate: w.shown})
	if err != nil {
		return nil, fmt.Errorf("web of subscribers: %w", err)
	}
	go serveALPN(secure)
	s.end(secure.Close)
	w.HTTPPort, w.TLSPort = plain.Addr().(*net.TCPAddr).Port, secure.Addr().(*net.TCPAddr).Port
	return w, nil
}

func serveALPN(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			_ = c.(*tls.Conn).Handshake()
			_ = c.Close()
		}()
	}
}

func (w *web) token(rw http.ResponseWriter, r *http.Request) {
	token, ok := strings.CutPrefix(r.URL.Path, "/.well-known/acme-challenge/")
	w.mu.Lock()
	defer w.mu.Unlock()
	auth, known := w.tokens[token]
	if !ok || !known {
		http.NotFound(rw, r)
		return
	}
	_, _ = rw.Write([]byte(auth))
}

func (w *web) shown(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, ok := w.certs[h.ServerName]
	if !ok {
		return nil, errors.New("nobody answers for this name")
	}
	return &c, nil
}

// show answers a challenge (run.Shown).
func (w *web) show(name string, m bulkhead.Method, token, keyAuthorization string) error {
	if m != bulkhead.TLSALPN01 {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.tokens[token] = keyAuthorization
		return nil
	}
	c, err := alpnCertificate(name, keyAuthorization)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.certs[name] = c
	return nil
}

// alpnCertificate is what RFC 8737 section 3 wants to see.
func alpnCertificate(name, keyAuthorization string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("key: %w", err)
	}
	sum := sha256.Sum256([]byte(keyAuthorization))
	value, err := asn1.Marshal(sum[:])
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("acmeIdentifier: %w", err)
	}
	now := time.Now()
	t := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), DNSNames: []string{name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}, Critical: true, Value: value}}}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate for tls-alpn-01: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// newKey is a key of a subscriber.
func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	return key, nil
}

// requestWith is a certification request for a name with a key.
func requestWith(key *ecdsa.PrivateKey, name string) ([]byte, error) {
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{name}}, key)
	if err != nil {
		return nil, fmt.Errorf("certification request: %w", err)
	}
	return csr, nil
}
