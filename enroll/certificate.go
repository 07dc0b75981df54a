package enroll

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // RFC 5280 section 4.2.1.2 method 1, an identifier and no protection
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"bulkhead"
)

// Certificate returns a durable certificate of the account with its chain.
func (s *Service) Certificate(ctx context.Context, acct bulkhead.Account, ref bulkhead.CertificateRef) (bulkhead.IssuedCertificate, error) {
	c, _, err := s.certificate(ctx, acct, ref)
	return c, err
}

// certificate is Certificate, and returns the authorities that it read for it.
func (s *Service) certificate(ctx context.Context, acct bulkhead.Account, ref bulkhead.CertificateRef) (bulkhead.IssuedCertificate, []bulkhead.Authority, error) {
	var none bulkhead.IssuedCertificate
	c, der, err := s.durable(ctx, ref)
	if err != nil {
		return none, nil, err
	}
	if c.AccountID != acct.ID {
		return none, nil, bulkhead.NewFault(bulkhead.KindForbidden, "the certificate belongs to another account")
	}
	all, err := s.cfg.Store.Authorities(ctx)
	if err != nil {
		return none, nil, err
	}
	for _, a := range all {
		if a.ID == ref.Issuer {
			return bulkhead.IssuedCertificate{Certificate: c, DER: der, Chain: append([][]byte{a.Certificate}, a.Chain...)}, all, nil
		}
	}
	return none, nil, bulkhead.Faultf(bulkhead.KindNotFound, "there is no authority %q", ref.Issuer)
}

// CertificateChains is Certificate with further chains: those through certificates that another authority of the record
// holds for the same name and key as one in the first chain (cross-certificates, RFC 8555 section 7.4.2).
func (s *Service) CertificateChains(ctx context.Context, acct bulkhead.Account, ref bulkhead.CertificateRef) (bulkhead.IssuedCertificate, [][][]byte, error) {
	c, all, err := s.certificate(ctx, acct, ref)
	if err != nil {
		return c, nil, err
	}
	var alternates [][][]byte
	for i, der := range c.Chain {
		var x *x509.Certificate
		for _, a := range all {
			if len(a.Certificate) == 0 || bytes.Equal(a.Certificate, der) || !bytes.Contains(der, a.SPKI) {
				continue // most chains have no other: they need not be parsed
			}
			if x == nil {
				if x, err = x509.ParseCertificate(der); err != nil {
					return c, nil, fmt.Errorf("chain of %s: %w", ref.Issuer, err)
				}
			}
			if bytes.Equal(a.SPKI, x.RawSubjectPublicKeyInfo) && bytes.Equal(a.Subject, x.RawSubject) {
				alternates = append(alternates, slices.Concat(c.Chain[:i:i], [][]byte{a.Certificate}, a.Chain))
			}
		}
	}
	offered, err := s.offered(ctx, ref.Issuer, c.Chain)
	return c, append(alternates, offered...), err
}

// offered are the chains that an authority served before a switch to its stand-by, as long as they are offered.
func (s *Service) offered(ctx context.Context, issuer bulkhead.AuthorityID, served [][]byte) ([][][]byte, error) {
	rows, err := s.cfg.Store.Standbys(ctx)
	if err != nil {
		return nil, err
	}
	var out [][][]byte
	now := s.now()
	for _, x := range rows {
		if x.Authority == issuer && now.Before(x.OfferedUntil) && now.Before(x.NotAfter) && (len(served) == 0 || !bytes.Equal(x.Certificate, served[0])) {
			out = append(out, append([][]byte{x.Certificate}, x.Chain...))
		}
	}
	return out, nil
}

// durable returns a certificate that was finally issued; others do not exist for the world.
func (s *Service) durable(ctx context.Context, ref bulkhead.CertificateRef) (bulkhead.Certificate, []byte, error) {
	c, der, err := s.cfg.Store.Certificate(ctx, ref)
	if err == nil && c.State != bulkhead.Issued && c.State != bulkhead.Revoked {
		err = bulkhead.NewFault(bulkhead.KindNotFound, "there is no such certificate")
	}
	return c, der, err
}

// chain is the issuer's certificate and those above it, the root last.
func (s *Service) chain(ctx context.Context, id bulkhead.AuthorityID) ([][]byte, error) {
	all, err := s.cfg.Store.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	for _, a := range all {
		if a.ID == id {
			return append([][]byte{a.Certificate}, a.Chain...), nil
		}
	}
	return nil, bulkhead.Faultf(bulkhead.KindNotFound, "there is no authority %q", id)
}

// FindCertificate identifies a certificate by its bytes: KindMalformed when they are no certificate, KindNotFound when
// we did not issue exactly these bytes.
func (s *Service) FindCertificate(ctx context.Context, der []byte) (bulkhead.Certificate, error) {
	x, err := x509.ParseCertificate(der)
	if err != nil {
		return bulkhead.Certificate{}, bulkhead.NewFault(bulkhead.KindMalformed, "the certificate is not DER of an X.509 certificate").WithCause(err)
	}
	unknown := bulkhead.NewFault(bulkhead.KindNotFound, "this certificate was not issued here")
	serial, err := bulkhead.SerialFromBig(x.SerialNumber)
	if err != nil {
		return bulkhead.Certificate{}, unknown
	}
	all, err := s.cfg.Store.Authorities(ctx)
	if err != nil {
		return bulkhead.Certificate{}, err
	}
	for _, a := range all {
		if !bytes.Equal(a.Subject, x.RawIssuer) {
			continue
		}
		c, own, err := s.durable(ctx, bulkhead.CertificateRef{Issuer: a.ID, Serial: serial})
		if bulkhead.KindOf(err) == bulkhead.KindNotFound {
			continue
		}
		if err != nil {
			return bulkhead.Certificate{}, err
		}
		if bytes.Equal(own, der) {
			return c, nil
		}
	}
	return bulkhead.Certificate{}, unknown
}

// CertID names a certificate in renewal information (RFC 9773 section 4.1): key identifier of the issuer and serial
// with its sign octet, both base64url, joined by a dot.
func CertID(keyIdentifier []byte, serial bulkhead.Serial) string {
	n := serial.Bytes()
	if len(n) > 0 && n[0]&0x80 != 0 {
		n = append([]byte{0}, n...)
	}
	return base64.RawURLEncoding.EncodeToString(keyIdentifier) + "." + base64.RawURLEncoding.EncodeToString(n)
}

// CertIDOf is the CertID of a certificate by its reference.
func (s *Service) CertIDOf(ctx context.Context, ref bulkhead.CertificateRef) (string, error) {
	all, err := s.cfg.Store.Authorities(ctx)
	if err != nil {
		return "", err
	}
	for _, a := range all {
		if a.ID == ref.Issuer {
			return CertID(keyIdentifier(a), ref.Serial), nil
		}
	}
	return "", bulkhead.Faultf(bulkhead.KindNotFound, "there is no authority %q", ref.Issuer)
}

// ResolveCertID finds the certificate that a CertID names: KindMalformed for a wrong form, KindNotFound otherwise.
func (s *Service) ResolveCertID(ctx context.Context, text string) (bulkhead.CertificateRef, error) {
	var none bulkhead.CertificateRef
	aki, rest, ok := strings.Cut(text, ".")
	strict := base64.RawURLEncoding.Strict()
	keyID, err1 := strict.DecodeString(aki)
	n, err2 := strict.DecodeString(rest)
	if !ok || err1 != nil || err2 != nil || len(keyID) == 0 || len(n) == 0 || len(text) > 256 {
		return none, bulkhead.NewFault(bulkhead.KindMalformed, "a certificate identifier is two base64url parts joined by a dot (RFC 9773 section 4.1)")
	}
	serial, err := bulkhead.SerialFromBytes(n)
	if err != nil || CertID(keyID, serial) != text {
		return none, bulkhead.NewFault(bulkhead.KindMalformed, "the serial number in the certificate identifier is not the content of a DER INTEGER")
	}
	issuers, err := s.renewals.issuersOf(ctx, s.cfg.Store, string(keyID), s.now())
	if err != nil {
		return none, err
	}
	var found []bulkhead.CertificateRef
	for _, id := range issuers {
		found = append(found, bulkhead.CertificateRef{Issuer: id, Serial: serial})
	}
	for i, ref := range found { // several have one key when there are cross-certificates
		if i == len(found)-1 {
			return ref, nil
		}
		if _, _, err := s.cfg.Store.Certificate(ctx, ref); bulkhead.KindOf(err) != bulkhead.KindNotFound {
			return ref, err
		}
	}
	return none, bulkhead.NewFault(bulkhead.KindNotFound, "the certificate identifier names no authority here")
}

// keyIdentifier is the subject key identifier of an authority: from its certificate, or by RFC 5280's first method.
func keyIdentifier(a bulkhead.Authority) []byte {
	if x, err := x509.ParseCertificate(a.Certificate); err == nil && len(x.SubjectKeyId) > 0 {
		return x.SubjectKeyId
	}
	var info struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(a.SPKI, &info); err != nil {
		return nil
	}
	sum := sha1.Sum(info.Key.Bytes) //nolint:gosec // see the import
	return sum[:]
}

// renewalRetry is how soon a client should ask again; six hours is the field's habit.
const renewalRetry = 6 * time.Hour
