package crl

import (
	"bytes"
	"crypto/x509"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"bulkhead"
)

// Parsed is a CRL without its entries. Slices point into the DER that was parsed; nothing is verified until Verify.
type Parsed struct {
	IssuerName             []byte // DER Name
	Number                 *big.Int
	ThisUpdate, NextUpdate time.Time
	URL                    string // of the issuingDistributionPoint; "" when there is none, or it has no name
	Scope                  Scope
	AKI                    []byte // key identifier
	Entries                int
	Ascending              bool // serials strictly ascend, so none stands twice
	SignatureAlgorithm     x509.SignatureAlgorithm
	TBS, Signature         []byte
	HasIDP                 bool
}

// defect says what is wrong with an encoding; "" is nothing.
type defect string

// Parse reads a complete, direct v2 CRL as strict DER and calls each (which may be nil) for every entry in order; an
// error of each ends the parse and is returned as it is. Anything malformed or outside that kind is KindMalformed: v1, delta,
// indirect and attribute CRLs, onlySomeReasons, no nextUpdate, cRLNumber or authorityKeyIdentifier, an empty list of entries,
// unknown critical extensions. The order of entries is not required; Ascending tells.
func Parse(der []byte, each func(Entry) error) (*Parsed, error) {
	p := &Parsed{Ascending: true}
	list, d := p.frame(der)
	if d == "" {
		d = p.checkEntries(list)
	}
	if d != "" {
		return nil, bulkhead.Faultf(bulkhead.KindMalformed, "CRL: %s", string(d)).
			WithHint("openssl crl -inform DER -noout -text -in FILE shows what it holds")
	}
	if each == nil {
		return p, nil
	}
	for !list.Empty() {
		var e Entry
		parseEntry(&list, &e)
		if err := each(e); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// frame reads everything but the entries, which it returns unread.
func (p *Parsed) frame(der []byte) (cryptobyte.String, defect) {
	in := cryptobyte.String(der)
	var outer, tbs, alg, bits cryptobyte.String
	if !in.ReadASN1(&outer, asn1.SEQUENCE) || !in.Empty() {
		return nil, "not one DER sequence"
	}
	if !outer.ReadASN1Element(&tbs, asn1.SEQUENCE) || !outer.ReadASN1Element(&alg, asn1.SEQUENCE) ||
		!outer.ReadASN1(&bits, asn1.BIT_STRING) || !outer.Empty() || len(bits) < 2 || bits[0] != 0 {
		return nil, "the signature is malformed"
	}
	p.TBS, p.Signature, p.SignatureAlgorithm = tbs, bits[1:], algorithmOf(alg)
	return p.parseTBS(tbs, alg)
}

// algorithmOf maps a DER AlgorithmIdentifier; UnknownSignatureAlgorithm for all that Verify would refuse.
func algorithmOf(alg []byte) x509.SignatureAlgorithm {
	for _, s := range []scheme{rsaSHA256, p256SHA256, p384SHA384, rsaSHA384, rsaSHA512, p521SHA512} {
		if s.identifier == string(alg) {
			return s.algorithm
		}
	}
	return x509.UnknownSignatureAlgorithm
}

func (p *Parsed) parseTBS(tbs, alg cryptobyte.String) (cryptobyte.String, defect) {
	var c, version, inner, name, list, wrap cryptobyte.String
	if !tbs.ReadASN1(&c, asn1.SEQUENCE) || !c.ReadASN1(&version, asn1.INTEGER) || string(version) != "\x01" {
		return nil, "the version is not v2"
	}
	if !c.ReadASN1Element(&inner, asn1.SEQUENCE) || !bytes.Equal(inner, alg) {
		return nil, "the signature algorithm inside differs from the one outside"
	}
	if !c.ReadASN1Element(&name, asn1.SEQUENCE) {
		return nil, "the issuer is malformed"
	}
	p.IssuerName = name
	if !readTime(&c, &p.ThisUpdate) || !readTime(&c, &p.NextUpdate) {
		return nil, "thisUpdate or nextUpdate is missing or malformed"
	}
	if c.PeekASN1Tag(asn1.SEQUENCE) {
		if !c.ReadASN1(&list, asn1.SEQUENCE) || list.Empty() {
			return nil, "revokedCertificates is empty or malformed: it must be absent when there are none"
		}
	}
	if !c.ReadASN1(&wrap, cons0) || !c.Empty() {
		return nil, "crlExtensions are missing or followed by something"
	}
	return list, p.parseExtensions(wrap)
}

func (p *Parsed) parseExtensions(wrap cryptobyte.String) defect {
	var list cryptobyte.String
	if !wrap.ReadASN1(&list, asn1.SEQUENCE) || !wrap.Empty() || list.Empty() {
		return "crlExtensions are malformed"
	}
	var seen []string
	for !list.Empty() {
		var e extension
		if !readExtension(&list, &e) || len(seen) == maxExtensions {
			return "an extension is malformed, or there are too many"
		}
		for _, s := range seen {
			if s == string(e.oid) {
				return "an extension stands twice"
			}
		}
		seen = append(seen, string(e.oid))
		if d := p.parseExtension(e); d != "" {
			return d
		}
	}
	if p.Number == nil || p.AKI == nil {
		return "cRLNumber or authorityKeyIdentifier is missing (RFC 5280 section 5.2)"
	}
	return ""
}

func (p *Parsed) parseExtension(e extension) defect {
	switch string(e.oid) {
	case oidAKI:
		return p.parseAKI(e.value)
	case oidCRLNumber:
		var n cryptobyte.String
		v := e.value
		if !v.ReadASN1(&n, asn1.INTEGER) || !v.Empty() || !minimalPositive(n) || len(n) > 20 {
			return "cRLNumber is malformed, negative or longer than 20 octets (RFC 5280 section 5.2.3)"
		}
		p.Number = new(big.Int).SetBytes(n)
		return ""
	case oidIDP:
		if !e.critical {
			return "issuingDistributionPoint is not critical"
		}
		return p.parseIDP(e.value)
	default:
		if e.critical {
			return "unknown critical extension (a delta CRL has one)"
		}
		return ""
	}
}

// minimalPositive reports whether INTEGER contents are minimal and not negative.
func minimalPositive(n []byte) bool {
	return len(n) > 0 && n[0]&0x80 == 0 && (len(n) == 1 || n[0] != 0 || n[1]&0x80 != 0)
}

func (p *Parsed) parseAKI(v cryptobyte.String) defect {
	var seq, id cryptobyte.String
	var present bool
	if !v.ReadASN1(&seq, asn1.SEQUENCE) || !v.Empty() || !seq.ReadOptionalASN1(&id, &present, ctx0) || !present || len(id) == 0 {
		return "authorityKeyIdentifier is malformed or has no key identifier"
	}
	var any cryptobyte.String
	for tag := asn1.Tag(0); !seq.Empty(); { // authorityCertIssuer and serial, of no use here
		if !seq.ReadAnyASN1(&any, &tag) {
			return "authorityKeyIdentifier is malformed"
		}
	}
	p.AKI = id
	return ""
}

func (p *Parsed) parseIDP(v cryptobyte.String) defect {
	const bad = defect("issuingDistributionPoint is malformed")
	var seq, point, full, uri cryptobyte.String
	var present bool
	if !v.ReadASN1(&seq, asn1.SEQUENCE) || !v.Empty() || seq.Empty() || !seq.ReadOptionalASN1(&point, &present, cons0) {
		return bad
	}
	if present {
		if !point.ReadASN1(&full, cons0) || !point.Empty() || !full.ReadASN1(&uri, ctx6) || !full.Empty() || len(uri) == 0 {
			return "the distribution point is not exactly one URI"
		}
		for _, ch := range uri {
			if ch <= ' ' || ch > '~' {
				return "the distribution point is not a URI"
			}
		}
		p.URL = string(uri)
	}
	p.HasIDP = true
	var flags [6]bool
	for n := 1; n <= 5; n++ {
		var f cryptobyte.String
		if !seq.ReadOptionalASN1(&f, &present, asn1.Tag(0x80|n)) {
			return bad
		}
		if present && n == 3 {
			return "onlySomeReasons is not supported (BR 7.2.2.1)"
		}
		if present && (len(f) != 1 || f[0] != 0 && f[0] != 0xff) {
			return bad
		}
		flags[n] = present && f[0] == 0xff
	}
	switch {
	case !seq.Empty():
		return bad
	case flags[4] || flags[5]:
		return "indirect and attribute CRLs are not supported (BR 7.2)"
	case flags[1] && flags[2]:
		return "the scope is both user and CA certificates"
	case flags[1]:
		p.Scope = ScopeUserCerts
	case flags[2]:
		p.Scope = ScopeCACerts
	}
	return ""
}

// Verify checks that issuer signed the CRL: name, key identifier, the right to sign CRLs, an allowed algorithm, and the
// signature. KindGate otherwise. Dates and numbers are for the caller to judge.
func (p *Parsed) Verify(issuer *x509.Certificate) error {
	refuse := func(format string, args ...any) error {
		return bulkhead.Faultf(bulkhead.KindGate, "CRL: "+format, args...).WithHint("check which authority the CRL was signed for, and sign it again")
	}
	switch {
	case issuer == nil || !bytes.Equal(p.IssuerName, issuer.RawSubject):
		return refuse("the issuer's name is another")
	case !bytes.Equal(p.AKI, issuer.SubjectKeyId):
		return refuse("the authority key identifier is not the issuer's")
	case !issuer.IsCA || issuer.KeyUsage&x509.KeyUsageCRLSign == 0:
		return refuse("the issuer may not sign CRLs")
	case p.SignatureAlgorithm == x509.UnknownSignatureAlgorithm:
		return refuse("the signature algorithm is not allowed (BR 7.1.3.2)")
	}
	if err := issuer.CheckSignature(p.SignatureAlgorithm, p.TBS, p.Signature); err != nil {
		return refuse("the signature does not verify: %v", err)
	}
	return nil
}
