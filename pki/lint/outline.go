package lint

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"maps"
	"math/big"
	"slices"

	zasn1 "github.com/zmap/zcrypto/encoding/asn1"
	zrsa "github.com/zmap/zcrypto/rsa"
	zx509 "github.com/zmap/zcrypto/x509"
	zpkix "github.com/zmap/zcrypto/x509/pkix"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// outline is where the parts of a certificate are in its octets.
type outline struct {
	outer, version, algorithm, issuer []byte // outer is the second AlgorithmIdentifier
	dates, keyAlgorithm, keyBits      []byte
	unique                            []byte
	extensions                        []outlinedExtension
	names                             []outlinedName // of the subject alternative name
	names17, key14                    int            // which extensions these are; -1 for none
	odd                               bool           // there are names besides DNS names, mail and IP addresses
}

type outlinedExtension struct {
	whole, head, value []byte // head is OID and criticality as they stand
}

type outlinedName struct {
	whole, value []byte
	tag          asn1.Tag
}

// Tags of the names by which leaves of one frame differ (RFC 5280 section 4.2.1.6).
var (
	tagMail = asn1.Tag(1).ContextSpecific()
	tagDNS  = asn1.Tag(2).ContextSpecific()
	tagIP   = asn1.Tag(7).ContextSpecific()

	derSAN = []byte{0x06, 0x03, 0x55, 0x1d, 0x11}
	derSKI = []byte{0x06, 0x03, 0x55, 0x1d, 0x0e}
)

// outlined takes a certificate apart. It says no to what has no frame: one that names itself as its issuer, where whether it
// signed itself counts; one with two subject alternative names or identifiers of its key; and one that is not in the form that
// every certificate of ours has, which is for the library's parser to judge.
func outlined(cert *x509.Certificate) (*outline, bool) {
	o := &outline{names17: -1, key14: -1, extensions: make([]outlinedExtension, 0, 12)}
	in, body, tbs := cryptobyte.String(cert.Raw), cryptobyte.String(nil), cryptobyte.String(nil)
	if !in.ReadASN1(&body, asn1.SEQUENCE) || !in.Empty() || !body.ReadASN1(&tbs, asn1.SEQUENCE) ||
		!body.ReadASN1Element((*cryptobyte.String)(&o.outer), asn1.SEQUENCE) || !body.SkipASN1(asn1.BIT_STRING) || !body.Empty() {
		return nil, false
	}
	var extensions cryptobyte.String
	version, explicit := asn1.Tag(0).Constructed().ContextSpecific(), asn1.Tag(3).Constructed().ContextSpecific()
	ok := tbs.ReadASN1Element((*cryptobyte.String)(&o.version), version) && tbs.SkipASN1(asn1.INTEGER) &&
		tbs.ReadASN1Element((*cryptobyte.String)(&o.algorithm), asn1.SEQUENCE) && tbs.ReadASN1Element((*cryptobyte.String)(&o.issuer), asn1.SEQUENCE) &&
		tbs.ReadASN1Element((*cryptobyte.String)(&o.dates), asn1.SEQUENCE) && plainDates(o.dates) && tbs.SkipASN1(asn1.SEQUENCE) && o.readKey(&tbs)
	if !ok || bytes.Equal(cert.RawSubject, cert.RawIssuer) {
		return nil, false
	}
	o.unique = tbs
	for _, tag := range []asn1.Tag{asn1.Tag(1).ContextSpecific(), asn1.Tag(2).ContextSpecific()} {
		if !tbs.SkipOptionalASN1(tag) {
			return nil, false
		}
	}
	o.unique = o.unique[:len(o.unique)-len(tbs)]
	if !tbs.ReadASN1(&extensions, explicit) || !tbs.Empty() || !extensions.ReadASN1(&body, asn1.SEQUENCE) || !extensions.Empty() {
		return nil, false
	}
	for !body.Empty() {
		if !o.readExtension(&body) {
			return nil, false
		}
	}
	return o, true
}

// plainDates admits times that end with Z and have seconds: of others it would not be sure what they mean to two parsers.
func plainDates(whole cryptobyte.String) bool {
	var dates, at cryptobyte.String
	if !whole.ReadASN1(&dates, asn1.SEQUENCE) {
		return false
	}
	for range 2 {
		var tag asn1.Tag
		if !dates.ReadAnyASN1(&at, &tag) || tag == asn1.UTCTime && len(at) != 13 || tag == asn1.GeneralizedTime && len(at) != 15 ||
			tag != asn1.UTCTime && tag != asn1.GeneralizedTime || at[len(at)-1] != 'Z' {
			return false
		}
	}
	return dates.Empty()
}

func (o *outline) readKey(tbs *cryptobyte.String) bool {
	var spki cryptobyte.String
	return tbs.ReadASN1(&spki, asn1.SEQUENCE) && spki.ReadASN1Element((*cryptobyte.String)(&o.keyAlgorithm), asn1.SEQUENCE) &&
		spki.ReadASN1BitStringAsBytes(&o.keyBits) && spki.Empty()
}

func (o *outline) readExtension(all *cryptobyte.String) bool {
	var e outlinedExtension
	var inside cryptobyte.String
	if !all.ReadASN1Element((*cryptobyte.String)(&e.whole), asn1.SEQUENCE) {
		return false
	}
	whole := cryptobyte.String(e.whole)
	if !whole.ReadASN1(&inside, asn1.SEQUENCE) {
		return false
	}
	start := inside
	if !inside.SkipASN1(asn1.OBJECT_IDENTIFIER) || !inside.SkipOptionalASN1(asn1.BOOLEAN) {
		return false
	}
	e.head = start[:len(start)-len(inside)]
	if !inside.ReadASN1((*cryptobyte.String)(&e.value), asn1.OCTET_STRING) || !inside.Empty() {
		return false
	}
	n := len(o.extensions)
	o.extensions = append(o.extensions, e)
	switch {
	case bytes.HasPrefix(e.head, derSAN):
		if o.names17 >= 0 {
			return false
		}
		o.names17 = n
		return o.readNames(e.value)
	case bytes.HasPrefix(e.head, derSKI):
		if o.key14 >= 0 {
			return false
		}
		o.key14 = n
	}
	return true
}

func (o *outline) readNames(value cryptobyte.String) bool {
	var all cryptobyte.String
	if !value.ReadASN1(&all, asn1.SEQUENCE) || !value.Empty() {
		return false
	}
	for !all.Empty() {
		var n outlinedName
		if !all.ReadAnyASN1Element((*cryptobyte.String)(&n.whole), &n.tag) {
			return false
		}
		whole := cryptobyte.String(n.whole)
		if !whole.ReadAnyASN1((*cryptobyte.String)(&n.value), &n.tag) {
			return false
		}
		switch n.tag {
		case tagMail, tagDNS:
		case tagIP:
			if len(n.value) != 4 && len(n.value) != 16 {
				return false
			}
		default:
			o.odd = true
		}
		o.names = append(o.names, n)
	}
	return true
}

// key is the frame as octets, no two frames alike, with the era and whether the subject is blank. Names and the identifier of the
// key are there with their place and criticality and without their value, but for names of odd kinds.
func (o *outline) key(era int, blank bool) []byte {
	b := binary.AppendUvarint(make([]byte, 0, 1024), uint64(era))
	part := func(p []byte) { b = append(binary.AppendUvarint(b, uint64(len(p))), p...) }
	if blank {
		part([]byte{1})
	} else {
		part(nil)
	}
	for _, p := range [][]byte{o.outer, o.version, o.algorithm, o.issuer, o.keyAlgorithm, o.unique} {
		part(p)
	}
	for i, e := range o.extensions {
		switch i {
		case o.names17:
			part(e.head)
			for _, n := range o.names {
				if n.tag != tagMail && n.tag != tagDNS && n.tag != tagIP {
					part(n.whole)
				}
			}
			part(nil)
		case o.key14:
			part(e.head)
		default:
			part(e.whole)
		}
	}
	return b
}

// unset are the fields of the library's Certificate that likeness leaves out. No rule reads them (TestLikenessReads).
var unset = []string{"FingerprintMD5", "FingerprintSHA1", "FingerprintSHA256", "FingerprintNoCT", "SPKIFingerprint", "SPKISubjectFingerprint",
	"TBSCertificateFingerprint", "ValidationLevel"}

// likeness is what the library's parser would make of a certificate of the plan's frame, with what is in the frame taken from
// the one that it did parse; nil when it has to parse this one too.
func (p *plan) likeness(cert *x509.Certificate, o *outline) *zx509.Certificate {
	if o.odd {
		return nil
	}
	c := p.like
	switch k := cert.PublicKey.(type) {
	case *ecdsa.PublicKey:
		c.PublicKey = &zx509.AugmentedECDSA{Pub: k, Raw: zasn1.BitString{Bytes: o.keyBits, BitLength: 8 * len(o.keyBits)}}
	case *rsa.PublicKey:
		c.PublicKey = &zrsa.PublicKey{N: k.N, E: big.NewInt(int64(k.E))}
	default:
		return nil
	}
	var subject zpkix.RDNSequence
	if rest, err := zasn1.Unmarshal(cert.RawSubject, &subject); err != nil || len(rest) > 0 {
		return nil
	}
	c.Subject = zpkix.Name{}
	c.Subject.FillFromRDNSequence(&subject)
	c.Raw, c.RawTBSCertificate, c.RawSubjectPublicKeyInfo, c.RawSubject = cert.Raw, cert.RawTBSCertificate, cert.RawSubjectPublicKeyInfo, cert.RawSubject
	c.Signature, c.SerialNumber = cert.Signature, cert.SerialNumber
	c.NotBefore, c.NotAfter = cert.NotBefore, cert.NotAfter
	c.ValidityPeriod = int(c.NotAfter.Sub(c.NotBefore).Seconds())
	if o.names17 >= 0 || o.key14 >= 0 {
		c.Extensions, c.ExtensionsMap = slices.Clone(c.Extensions), maps.Clone(c.ExtensionsMap)
	}
	value := func(i int, oid string) {
		if i >= 0 {
			c.Extensions[i].Value = o.extensions[i].value
			c.ExtensionsMap[oid] = c.Extensions[i]
		}
	}
	value(o.names17, "2.5.29.17")
	value(o.key14, "2.5.29.14")
	if o.key14 >= 0 {
		c.SubjectKeyId = cert.SubjectKeyId
	}
	c.DNSNames, c.EmailAddresses, c.IPAddresses = nil, nil, nil
	for _, n := range o.names {
		switch n.tag {
		case tagDNS:
			c.DNSNames = append(c.DNSNames, string(n.value))
		case tagMail:
			c.EmailAddresses = append(c.EmailAddresses, string(n.value))
		case tagIP:
			c.IPAddresses = append(c.IPAddresses, n.value)
		}
	}
	return &c
}
