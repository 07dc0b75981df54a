package dcv

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
	"golang.org/x/crypto/cryptobyte"
	cryptobyteasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"bulkhead"
)

const acmeTLS1 = "acme-tls/1" // RFC 8737 section 6.2

var (
	oidACMEIdentifier = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31} // RFC 8737 section 6.1
	oidSAN            = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// tlsALPN01 shakes hands under acme-tls/1 and inspects the certificate (RFC 8737 section 3, RFC 8738 section 6).
func (v *Validator) tlsALPN01(ctx context.Context, id bulkhead.Identifier, keyAuthorization string) (string, error) {
	addrs, err := v.addresses(ctx, id.Value)
	if err != nil {
		return "", err
	}
	conn, to, err := v.dial(ctx, addrs, v.cfg.TLSPort)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	sni := id.Value
	if id.Type == bulkhead.IP {
		reverse, err := dns.ReverseAddr(id.Value)
		if err != nil {
			return "", bulkhead.Faultf(bulkhead.KindMalformed, "%q has no reverse name", id.Value)
		}
		sni = strings.TrimSuffix(reverse, ".")
	}
	ctx, cancel := context.WithTimeout(ctx, v.cfg.Timeout)
	defer cancel()
	c := tls.Client(conn, &tls.Config{ServerName: sni, NextProtos: []string{acmeTLS1}, MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}) //nolint:gosec // the certificate is the challenge
	if err := c.HandshakeContext(ctx); err != nil {
		return "", bulkhead.Faultf(bulkhead.KindTLS, "handshake with %s for %s: %s", to, sni, plainNetError(err))
	}
	state := c.ConnectionState()
	if state.NegotiatedProtocol != acmeTLS1 || state.Version < tls.VersionTLS12 {
		return "", bulkhead.Faultf(bulkhead.KindUnauthorized, "%s did not negotiate %s over TLS 1.2 or later", to, acmeTLS1)
	}
	if err := inspect(state.PeerCertificates, id, keyAuthorization); err != nil {
		return "", bulkhead.Faultf(bulkhead.KindUnauthorized, "the certificate shown by %s for %s: %v", to, sni, err)
	}
	return "acme-tls/1 certificate seen at " + to.String() + " for " + sni + " over " + tls.VersionName(state.Version), nil
}

// inspect checks every property that RFC 8737 section 3 asks of the certificate.
func inspect(chain []*x509.Certificate, id bulkhead.Identifier, keyAuthorization string) error {
	if len(chain) == 0 {
		return errors.New("none was shown")
	}
	leaf := chain[0]
	if !bytes.Equal(leaf.RawIssuer, leaf.RawSubject) || leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature) != nil {
		return errors.New("it is not self-signed")
	}
	if err := checkSAN(leaf, id); err != nil {
		return err
	}
	want := sha256.Sum256([]byte(keyAuthorization))
	found := 0
	for _, ext := range leaf.Extensions {
		if !ext.Id.Equal(oidACMEIdentifier) {
			continue
		}
		found++
		if !ext.Critical {
			return errors.New("its acmeIdentifier extension is not critical")
		}
		var got []byte
		if rest, err := asn1.Unmarshal(ext.Value, &got); err != nil || len(rest) > 0 || subtle.ConstantTimeCompare(got, want[:]) != 1 {
			return errors.New("its acmeIdentifier extension does not hold the digest of the key authorization")
		}
	}
	if found != 1 {
		return errors.New("it has not exactly one acmeIdentifier extension")
	}
	return nil
}

// checkSAN wants exactly one subject alternative name, of any type, and that the identifier's.
func checkSAN(leaf *x509.Certificate, id bulkhead.Identifier) error {
	wrong := errors.New("its subject alternative name is not exactly " + id.Value)
	var value []byte
	for _, ext := range leaf.Extensions {
		if ext.Id.Equal(oidSAN) {
			if value != nil {
				return wrong
			}
			value = ext.Value
		}
	}
	var names, content cryptobyte.String
	var tag cryptobyteasn1.Tag
	in := cryptobyte.String(value)
	if !in.ReadASN1(&names, cryptobyteasn1.SEQUENCE) || !in.Empty() || !names.ReadAnyASN1(&content, &tag) || !names.Empty() {
		return wrong
	}
	switch {
	case id.Type == bulkhead.DNS && tag == cryptobyteasn1.Tag(2).ContextSpecific():
		if strings.EqualFold(string(content), id.Value) {
			return nil
		}
	case id.Type == bulkhead.IP && tag == cryptobyteasn1.Tag(7).ContextSpecific():
		if a, ok := netip.AddrFromSlice(content); ok && a.String() == id.Value {
			return nil
		}
	}
	return wrong
}
