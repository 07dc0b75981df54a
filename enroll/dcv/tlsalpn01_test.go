package dcv

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"net/netip"
	"testing"
	"time"

	"bulkhead"
)

func mustAddr(t *testing.T, text string) netip.Addr {
	t.Helper()
	a, err := netip.ParseAddr(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func acmeIdentifier(t testing.TB, keyAuthorization string) pkix.Extension {
	t.Helper()
	digest := sha256.Sum256([]byte(keyAuthorization))
	value, err := asn1.Marshal(digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: oidACMEIdentifier, Critical: true, Value: value}
}

// shownCertificate makes what a server shows under acme-tls/1; issuer and signer are the certificate's own when nil.
func shownCertificate(t testing.TB, tmpl x509.Certificate, issuer *x509.Certificate, signer crypto.Signer) tls.Certificate {
	t.Helper()
	k := newKey(t)
	tmpl.SerialNumber, tmpl.NotBefore, tmpl.NotAfter = big.NewInt(1), testNow, testNow.Add(time.Hour)
	if issuer == nil {
		issuer, signer = &tmpl, k
	}
	der, err := x509.CreateCertificate(rand.Reader, &tmpl, issuer, k.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}
}

func serveTLS(t *testing.T, cfg *tls.Config) (port int) {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = c.(*tls.Conn).HandshakeContext(t.Context())
				_ = c.Close()
			}()
		}
	}()
	return ln.Addr().(*net.TCPAddr).Port
}

func TestTLSALPN01(t *testing.T) {
	right := acmeIdentifier(t, testAuth)
	loose := right
	loose.Critical = false
	authority := &x509.Certificate{Subject: pkix.Name{CommonName: "somebody"}}
	authorityKey := newKey(t)
	name := []string{"www.site.test"}
	alpn := []string{acmeTLS1}
	tests := []struct {
		name   string
		cert   tls.Certificate
		protos []string
		max    uint16
		kind   bulkhead.Kind
		part   string
	}{
		{"right", shownCertificate(t, x509.Certificate{DNSNames: name, ExtraExtensions: []pkix.Extension{right}}, nil, nil), alpn, 0, "", ""},
		{"right over TLS 1.2", shownCertificate(t, x509.Certificate{DNSNames: name, ExtraExtensions: []pkix.Extension{right}}, nil, nil), alpn, tls.VersionTLS12, "", ""},
		{"name in capitals", shownCertificate(t, x509.Certificate{DNSNames: []string{"WWW.site.test"}, ExtraExtensions: []pkix.Extension{right}}, nil, nil), alpn, 0, "", ""},
		{"TLS 1.1", shownCertificate(t, x509.Certificate{DNSNames: name, ExtraExtensions: []pkix.Extension{right}}, nil, nil), alpn, tls.VersionTLS11, bulkhead.KindTLS, "handshake"},
		{"no ALPN", shownCertificate(t, x509.Certificate{DNSNames: name, ExtraExtensions: []pkix.Extension{right}}, nil, nil), nil, 0, bulkhead.KindUnauthorized, "negotiate"},
		{"other ALPN", shownCertificate(t, x509.Certificate{DNSNames: name, ExtraExtensions: []pkix.Extension{right}}, nil, nil), []string{"h2"}, 0, bulkhead.KindTLS, "handshake"},
		{"extension not critical", shownCertificate(t, x509.Certificate{DNSNames: name, ExtraExtensions: []pkix.Extension{loose}}, nil, nil), alpn, 0, bulkhead.KindUnauthorized, "not critical"},
		{"no extension", shownCertificate(t, x509.Certificate{DNSNames: name}, nil, nil), alpn, 0, bulkhead.KindUnauthorized, "exactly one acmeIdentifier"},
		{"another digest", shownCertificate(t, x509.Certificate{DNSNames: name, ExtraExtensions: []pkix.Extension{acmeIdentifier(t, "x")}}, nil, nil), alpn, 0, bulkhead.KindUnauthorized, "digest"},
		{"two names", shownCertificate(t, x509.Certificate{DNSNames: []string{"www.site.test", "b.test"}, ExtraExtensions: []pkix.Extension{right}}, nil, nil), alpn, 0, bulkhead.KindUnauthorized, "not exactly"},
		{"a name and an address", shownCertificate(t, x509.Certificate{DNSNames: name, IPAddresses: []net.IP{{127, 0, 0, 1}}, ExtraExtensions: []pkix.Extension{right}}, nil, nil), alpn, 0, bulkhead.KindUnauthorized, "not exactly"},
		{"a mail address only", shownCertificate(t, x509.Certificate{EmailAddresses: []string{"a@site.test"}, ExtraExtensions: []pkix.Extension{right}}, nil, nil), alpn, 0, bulkhead.KindUnauthorized, "not exactly"},
		{"another name", shownCertificate(t, x509.Certificate{DNSNames: []string{"b.test"}, ExtraExtensions: []pkix.Extension{right}}, nil, nil), alpn, 0, bulkhead.KindUnauthorized, "not exactly"},
		{"no name", shownCertificate(t, x509.Certificate{Subject: pkix.Name{CommonName: "www.site.test"}, ExtraExtensions: []pkix.Extension{right}}, nil, nil), alpn, 0, bulkhead.KindUnauthorized, "not exactly"},
		{"not self-signed", shownCertificate(t, x509.Certificate{DNSNames: name, ExtraExtensions: []pkix.Extension{right}}, authority, authorityKey), alpn, 0, bulkhead.KindUnauthorized, "self-signed"},
		{"self-issued, signed by another key", shownCertificate(t, x509.Certificate{Subject: authority.Subject, DNSNames: name, ExtraExtensions: []pkix.Extension{right}}, authority, authorityKey), alpn, 0, bulkhead.KindUnauthorized, "self-signed"},
	}
	z := newZone(t, "www.site.test. 60 IN A 127.0.0.1")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			port := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{tt.cert}, NextProtos: tt.protos, MaxVersion: tt.max, MinVersion: tls.VersionTLS10})
			v := validator(t, func(c *Config) { c.Resolver, c.TLSPort = z.addr, port })
			_, err := v.Validate(t.Context(), dnsName("www.site.test"), bulkhead.TLSALPN01, testToken, testAuth)
			wantFault(t, err, tt.kind, tt.part)
		})
	}
}

func TestTLSALPN01ForAddresses(t *testing.T) {
	cert := shownCertificate(t, x509.Certificate{IPAddresses: []net.IP{{127, 0, 0, 1}}, ExtraExtensions: []pkix.Extension{acmeIdentifier(t, testAuth)}}, nil, nil)
	sni := make(chan string, 1)
	port := serveTLS(t, &tls.Config{NextProtos: []string{acmeTLS1}, GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		sni <- h.ServerName
		return &cert, nil
	}})
	v := validator(t, func(c *Config) { c.TLSPort = port })
	if _, err := v.Validate(t.Context(), bulkhead.Identifier{Type: bulkhead.IP, Value: "127.0.0.1"}, bulkhead.TLSALPN01, testToken, testAuth); err != nil {
		t.Fatal(err)
	}
	if got := <-sni; got != "1.0.0.127.in-addr.arpa" {
		t.Errorf("SNI %q (RFC 8738 section 6)", got)
	}
}

func FuzzInspect(f *testing.F) {
	good := shownCertificate(f, x509.Certificate{DNSNames: []string{"www.site.test"}, ExtraExtensions: []pkix.Extension{acmeIdentifier(f, testAuth)}}, nil, nil)
	f.Add(good.Certificate[0])
	f.Fuzz(func(t *testing.T, der []byte) {
		x, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		if inspect([]*x509.Certificate{x}, dnsName("www.site.test"), testAuth) == nil && len(x.DNSNames) != 1 {
			t.Errorf("accepted %d names", len(x.DNSNames))
		}
	})
}
