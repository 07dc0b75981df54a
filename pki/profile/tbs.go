package profile

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// MarshalTBS encodes the TBSCertificate of a template that this package made, for an end-entity certificate (RFC 5280
// section 4.1), octet for octet as x509.CreateCertificate would: that function signs and verifies on the way, which
// costs more than everything else in issuing. spki is the DER SubjectPublicKeyInfo, algorithm the DER
// AlgorithmIdentifier of the issuer's signature. It refuses a template with anything that it does not encode.
func MarshalTBS(t, issuer *x509.Certificate, spki, algorithm []byte) ([]byte, error) {
	if err := encodable(t); err != nil {
		return nil, err
	}
	subject := t.RawSubject
	if len(subject) == 0 {
		var err error
		if subject, err = asn1.Marshal(t.Subject.ToRDNSequence()); err != nil {
			return nil, internal("subject: %w", err)
		}
	}
	extensions, err := leafExtensions(t, issuer, bytes.Equal(subject, emptyName))
	if err != nil {
		return nil, err
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, 1024))
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.Tag(0).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) { b.AddASN1Int64(2) })
		b.AddASN1BigInt(t.SerialNumber)
		b.AddBytes(algorithm)
		b.AddBytes(issuer.RawSubject)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			addTime(b, t.NotBefore)
			addTime(b, t.NotAfter)
		})
		b.AddBytes(subject)
		b.AddBytes(spki)
		b.AddASN1(cbasn1.Tag(3).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, e := range extensions {
					addExtension(b, e)
				}
			})
		})
	})
	tbs, err := b.Bytes()
	if err != nil {
		return nil, internal("TBSCertificate: %w", err)
	}
	return tbs, nil
}

// encodable refuses what leafExtensions would leave out in silence.
func encodable(t *x509.Certificate) error {
	switch {
	case t.SerialNumber == nil || t.SerialNumber.Sign() <= 0:
		return internal("template without a serial")
	case t.IsCA || constrains(t) || len(t.PermittedURIDomains)+len(t.ExcludedURIDomains) > 0:
		return internal("authorities are made by ceremony")
	case len(t.URIs)+len(t.UnknownExtKeyUsage)+len(t.PolicyIdentifiers) > 0:
		return internal("the template has something that is not encoded here")
	case t.NotBefore.Year() < 1950 || t.NotAfter.Year() > 9999:
		return internal("dates cannot be encoded")
	}
	return nil
}

var emptyName = []byte{0x30, 0x00}

func addTime(b *cryptobyte.Builder, at time.Time) {
	if at = at.UTC(); at.Year() < 2050 {
		b.AddASN1UTCTime(at)
	} else {
		b.AddASN1GeneralizedTime(at)
	}
}

func addExtension(b *cryptobyte.Builder, e pkix.Extension) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(e.Id)
		if e.Critical {
			b.AddASN1Boolean(true)
		}
		b.AddASN1OctetString(e.Value)
	})
}

// Extensions of an end-entity certificate, in the order of crypto/x509.
var (
	oidKU    = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidEKU   = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidBC    = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidSKI   = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidAKI   = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidAIA   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 1}
	oidSAN   = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidCP    = asn1.ObjectIdentifier{2, 5, 29, 32}
	oidCRLDP = asn1.ObjectIdentifier{2, 5, 29, 31}

	ekuArc = map[x509.ExtKeyUsage]int{x509.ExtKeyUsageServerAuth: 1, x509.ExtKeyUsageClientAuth: 2, x509.ExtKeyUsageCodeSigning: 3,
		x509.ExtKeyUsageEmailProtection: 4, x509.ExtKeyUsageOCSPSigning: 9}
)

func leafExtensions(t, issuer *x509.Certificate, noSubject bool) (out []pkix.Extension, err error) {
	add := func(id asn1.ObjectIdentifier, critical bool, build func(*cryptobyte.Builder)) {
		for _, e := range t.ExtraExtensions {
			if e.Id.Equal(id) {
				return // crypto/x509 gives way to an extra extension, too
			}
		}
		b := cryptobyte.NewBuilder(make([]byte, 0, 64))
		b.AddASN1(cbasn1.SEQUENCE, build)
		value, failed := b.Bytes()
		if failed != nil && err == nil {
			err = internal("extension %s: %w", id, failed)
		}
		out = append(out, pkix.Extension{Id: id, Critical: critical, Value: value})
	}
	if t.KeyUsage != 0 {
		out = append(out, keyUsage(t.KeyUsage))
	}
	if len(t.ExtKeyUsage) > 0 {
		add(oidEKU, false, func(b *cryptobyte.Builder) {
			for _, u := range t.ExtKeyUsage {
				arc, known := ekuArc[u]
				if !known {
					b.SetError(internal("extended key usage %v", u))
				}
				b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, arc})
			}
		})
	}
	if t.BasicConstraintsValid {
		add(oidBC, true, func(*cryptobyte.Builder) {})
	}
	if len(t.SubjectKeyId) > 0 {
		b := cryptobyte.NewBuilder(nil)
		b.AddASN1OctetString(t.SubjectKeyId)
		out = append(out, pkix.Extension{Id: oidSKI, Value: b.BytesOrPanic()})
	}
	if len(issuer.SubjectKeyId) > 0 {
		add(oidAKI, false, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(issuer.SubjectKeyId) })
		})
	}
	if len(t.OCSPServer)+len(t.IssuingCertificateURL) > 0 {
		add(oidAIA, false, func(b *cryptobyte.Builder) { addAIA(b, t) })
	}
	if len(t.DNSNames)+len(t.EmailAddresses)+len(t.IPAddresses) > 0 {
		add(oidSAN, noSubject, func(b *cryptobyte.Builder) { addNames(b, t) })
	}
	if len(t.Policies) > 0 {
		add(oidCP, false, func(b *cryptobyte.Builder) { addPolicies(b, t.Policies) })
	}
	if len(t.CRLDistributionPoints) > 0 {
		add(oidCRLDP, false, func(b *cryptobyte.Builder) {
			for _, u := range t.CRLDistributionPoints {
				addPoint(b, u)
			}
		})
	}
	return append(out, t.ExtraExtensions...), err
}

// keyUsage is a BIT STRING, most significant bit first, without trailing zero bits (X.690 section 11.2.2).
func keyUsage(u x509.KeyUsage) pkix.Extension {
	var bits [2]byte
	last := 0
	for i := range 9 {
		if u&(1<<i) != 0 {
			bits[i/8] |= 0x80 >> (i % 8)
			last = i
		}
	}
	n := last/8 + 1
	return pkix.Extension{Id: oidKU, Critical: true, Value: append([]byte{0x03, byte(n + 1), byte(7 - last%8)}, bits[:n]...)}
}

func addAIA(b *cryptobyte.Builder, t *x509.Certificate) {
	for arc, urls := range [][]string{1: t.OCSPServer, 2: t.IssuingCertificateURL} {
		for _, u := range urls {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, arc})
				addString(b, 6, u)
			})
		}
	}
}

func addNames(b *cryptobyte.Builder, t *x509.Certificate) {
	for _, n := range t.DNSNames {
		addString(b, 2, n)
	}
	for _, m := range t.EmailAddresses {
		addString(b, 1, m)
	}
	for _, raw := range t.IPAddresses {
		ip := raw.To4()
		if ip == nil {
			ip = raw
		}
		b.AddASN1(cbasn1.Tag(7).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(ip) })
	}
}

// addString is one IA5String of a GeneralName.
func addString(b *cryptobyte.Builder, tag cbasn1.Tag, text string) {
	for i := range len(text) {
		if text[i] > 0x7f {
			b.SetError(internal("%q is not an IA5String", text))
			return
		}
	}
	b.AddASN1(tag.ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(text)) })
}

func addPolicies(b *cryptobyte.Builder, policies []x509.OID) {
	for _, p := range policies {
		der, err := p.MarshalBinary()
		if err != nil {
			b.SetError(err)
			return
		}
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes(der) })
		})
	}
}

func addPoint(b *cryptobyte.Builder, url string) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.Tag(0).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.Tag(0).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) { addString(b, 6, url) })
		})
	})
}
