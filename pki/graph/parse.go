package graph

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"bulkhead"
)

// Parse reads one DER certificate. It fails only when names, key, serial, validity or signature cannot be found; all
// else that is wrong becomes a Problem. The octets are kept, not copied.
func Parse(der []byte) (*Certificate, error) {
	if len(der) > MaxCertificate {
		return nil, fmt.Errorf("%d octets are more than a certificate may have here (%d)", len(der), MaxCertificate)
	}
	in := cryptobyte.String(der)
	var outer cryptobyte.String
	if !in.ReadASN1(&outer, cbasn1.SEQUENCE) {
		return nil, errors.New("not a DER SEQUENCE")
	}
	c := &Certificate{Raw: der[:len(der)-len(in)], PathLen: -1}
	c.Hash = bulkhead.Digest(c.Raw)
	if len(in) > 0 {
		c.problem("%d octets follow the certificate", len(in))
	}
	var tbs, algorithm cryptobyte.String
	if !outer.ReadASN1Element(&tbs, cbasn1.SEQUENCE) {
		return nil, errors.New("no tbsCertificate")
	}
	c.tbs = tbs
	if !outer.ReadASN1Element(&algorithm, cbasn1.SEQUENCE) || !c.readAlgorithm(algorithm) {
		return nil, errors.New("no signature algorithm")
	}
	if !outer.ReadASN1BitStringAsBytes(&c.signature) {
		return nil, errors.New("no signature")
	}
	if !outer.Empty() {
		c.problem("something follows the signature")
	}
	if err := c.readTBS(tbs, algorithm); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Certificate) problem(format string, args ...any) {
	if len(c.Problems) < 20 {
		c.Problems = append(c.Problems, fmt.Sprintf(format, args...))
	}
}

func (c *Certificate) readAlgorithm(element cryptobyte.String) bool {
	var body cryptobyte.String
	var ok bool
	if !element.ReadASN1(&body, cbasn1.SEQUENCE) {
		return false
	}
	if c.algorithm, ok = readOID(&body); !ok {
		return false
	}
	c.parameters = body
	return true
}

func (c *Certificate) readTBS(element, algorithm cryptobyte.String) error {
	var tbs, inner, issuer, validity, subject, spki cryptobyte.String
	if !element.ReadASN1(&tbs, cbasn1.SEQUENCE) {
		return errors.New("no tbsCertificate")
	}
	c.readVersion(&tbs)
	if err := c.readSerial(&tbs); err != nil {
		return err
	}
	if !tbs.ReadASN1Element(&inner, cbasn1.SEQUENCE) {
		return errors.New("no signature algorithm inside")
	}
	if !bytes.Equal(inner, algorithm) {
		c.problem("the signature algorithm inside differs from the one outside")
	}
	if !tbs.ReadASN1Element(&issuer, cbasn1.SEQUENCE) {
		return errors.New("no issuer")
	}
	if !tbs.ReadASN1(&validity, cbasn1.SEQUENCE) {
		return errors.New("no validity")
	}
	c.NotBefore = c.readTime(&validity, "notBefore")
	c.NotAfter = c.readTime(&validity, "notAfter")
	if !tbs.ReadASN1Element(&subject, cbasn1.SEQUENCE) {
		return errors.New("no subject")
	}
	if !tbs.ReadASN1Element(&spki, cbasn1.SEQUENCE) {
		return errors.New("no public key")
	}
	c.spki = spki
	c.readKey()
	c.readNames(issuer, subject)
	c.readExtensions(tbs)
	return nil
}

func (c *Certificate) readVersion(tbs *cryptobyte.String) {
	c.Version = 1
	var v cryptobyte.String
	var present bool
	if !tbs.ReadOptionalASN1(&v, &present, cbasn1.Tag(0).Constructed().ContextSpecific()) || !present {
		return
	}
	var n int
	if !v.ReadASN1Integer(&n) || n < 0 || n > 2 {
		c.problem("the version is not 1, 2 or 3")
		n = 2
	}
	c.Version = n + 1
}

// readSerial takes negative, zero, long and non-minimal serials: they exist.
func (c *Certificate) readSerial(tbs *cryptobyte.String) error {
	var p cryptobyte.String
	if !tbs.ReadASN1(&p, cbasn1.INTEGER) || len(p) == 0 {
		return errors.New("no serial number")
	}
	c.serialLen = len(p)
	if len(p) > 1 && (p[0] == 0 && p[1] < 0x80 || p[0] == 0xff && p[1] >= 0x80) {
		c.problem("the serial number is not minimal DER")
	}
	c.Serial = new(big.Int).SetBytes(p)
	if p[0] >= 0x80 {
		c.Serial.Sub(c.Serial, new(big.Int).Lsh(big.NewInt(1), uint(len(p)*8)))
	}
	return nil
}

// timeForms are DER's form first, then what old software wrote.
var timeForms = map[cbasn1.Tag][]string{
	cbasn1.UTCTime:         {"060102150405Z", "0601021504Z", "060102150405Z0700", "060102150405"},
	cbasn1.GeneralizedTime: {"20060102150405Z", "20060102150405.999999999Z", "200601021504Z", "20060102150405Z0700", "20060102150405"},
}

func (c *Certificate) readTime(in *cryptobyte.String, what string) time.Time {
	var p cryptobyte.String
	var tag cbasn1.Tag
	if !in.ReadAnyASN1(&p, &tag) {
		c.problem("%s is missing", what)
		return time.Time{}
	}
	for i, form := range timeForms[tag] {
		t, err := time.Parse(form, string(p))
		if err != nil {
			continue
		}
		if i > 0 {
			c.problem("%s is not written as DER wants", what)
		}
		if tag == cbasn1.UTCTime && t.Year() >= 2050 { // RFC 5280 section 4.1.2.5.1
			t = t.AddDate(-100, 0, 0)
		}
		return t.UTC()
	}
	c.problem("%s cannot be read", what)
	return time.Time{}
}

func (c *Certificate) readKey() {
	key, err := x509.ParsePKIXPublicKey(c.spki)
	if err != nil {
		c.keyProblem = err.Error()
		return
	}
	c.key = key
}

// readOID gives the dotted form. It takes components of any size up to 10 octets.
func readOID(in *cryptobyte.String) (string, bool) {
	var p cryptobyte.String
	if !in.ReadASN1(&p, cbasn1.OBJECT_IDENTIFIER) || len(p) == 0 || len(p) > 64 || p[len(p)-1] >= 0x80 {
		return "", false
	}
	var out []byte
	var v uint64
	first := true
	for i, n := 0, 0; i < len(p); i++ {
		if n++; n > 9 {
			return "", false
		}
		v = v<<7 | uint64(p[i]&0x7f)
		if p[i] >= 0x80 {
			continue
		}
		if first {
			top := min(v/40, 2)
			out = fmt.Appendf(out, "%d.%d", top, v-40*top)
			first = false
		} else {
			out = fmt.Appendf(out, ".%d", v)
		}
		v, n = 0, 0
	}
	return string(out), true
}
