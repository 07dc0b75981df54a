package crl

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"bulkhead"
)

// Schemes that are read but never written.
var (
	rsaSHA384  = scheme{x509.SHA384WithRSA, crypto.SHA384, "\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c\x05\x00"}
	rsaSHA512  = scheme{x509.SHA512WithRSA, crypto.SHA512, "\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d\x05\x00"}
	p521SHA512 = scheme{x509.ECDSAWithSHA512, crypto.SHA512, "\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x04"}
)

// maxExtensions bounds a list of extensions: finding duplicates is quadratic.
const maxExtensions = 16

// extension is one Extension, in place.
type extension struct {
	oid, value cryptobyte.String
	critical   bool
}

// readExtension reads one Extension; an encoded DEFAULT (critical FALSE) is tolerated, being unambiguous.
func readExtension(list *cryptobyte.String, out *extension) bool {
	var seq cryptobyte.String
	if !list.ReadASN1(&seq, asn1.SEQUENCE) || !seq.ReadASN1(&out.oid, asn1.OBJECT_IDENTIFIER) || !validOID(out.oid) {
		return false
	}
	out.critical = false
	if seq.PeekASN1Tag(asn1.BOOLEAN) && !seq.ReadASN1Boolean(&out.critical) {
		return false
	}
	return seq.ReadASN1(&out.value, asn1.OCTET_STRING) && seq.Empty()
}

// validOID checks for at least one arc, each in minimal base 128.
func validOID(p []byte) bool {
	if len(p) == 0 || p[len(p)-1]&0x80 != 0 {
		return false
	}
	start := true
	for _, c := range p {
		if start && c == 0x80 {
			return false
		}
		start = c&0x80 == 0
	}
	return true
}

// checkEntries reads all entries once, so that each only ever sees entries of a well-formed list.
func (p *Parsed) checkEntries(list cryptobyte.String) defect {
	var last [bulkhead.MaxSerialOctets]byte
	for !list.Empty() {
		var e Entry
		if d := parseEntry(&list, &e); d != "" {
			return d
		}
		serial := e.Serial.Fixed()
		if bytes.Compare(serial[:], last[:]) <= 0 {
			p.Ascending = false
		}
		last = serial
		p.Entries++
	}
	return ""
}

func parseEntry(list *cryptobyte.String, e *Entry) defect {
	var seq, serial, exts cryptobyte.String
	if !list.ReadASN1(&seq, asn1.SEQUENCE) || !seq.ReadASN1(&serial, asn1.INTEGER) {
		return "an entry is malformed"
	}
	if !minimalPositive(serial) {
		return "a serial number is negative or not minimal"
	}
	var err error
	if e.Serial, err = bulkhead.SerialFromBytes(serial); err != nil {
		return "a serial number is zero or longer than 20 octets"
	}
	if !readTime(&seq, &e.RevokedAt) {
		return "a revocation date is malformed"
	}
	if seq.Empty() {
		return ""
	}
	if !seq.ReadASN1(&exts, asn1.SEQUENCE) || !seq.Empty() || exts.Empty() {
		return "the extensions of an entry are malformed"
	}
	return parseEntryExtensions(exts, e)
}

func parseEntryExtensions(list cryptobyte.String, e *Entry) defect {
	whole := list
	for n := 0; !list.Empty(); n++ {
		var x, earlier extension
		if n == maxExtensions || !readExtension(&list, &x) {
			return "an extension of an entry is malformed, or there are too many"
		}
		before := whole
		for range n {
			if readExtension(&before, &earlier); string(earlier.oid) == string(x.oid) {
				return "an extension of an entry stands twice"
			}
		}
		if d := parseEntryExtension(x, e); d != "" {
			return d
		}
	}
	return ""
}

func parseEntryExtension(x extension, e *Entry) defect {
	switch string(x.oid) {
	case oidReason:
		var code cryptobyte.String
		v := x.value
		if !v.ReadASN1(&code, asn1.ENUM) || !v.Empty() || len(code) != 1 || code[0] > byte(bulkhead.AACompromise) || code[0] == 7 {
			return "a reason code is malformed"
		}
		e.Reason = bulkhead.Reason(code[0])
	case oidInvalidityDate:
		v := x.value
		if !v.PeekASN1Tag(asn1.GeneralizedTime) || !readDate(&v, &e.InvalidityDate) || !v.Empty() {
			return "an invalidity date is malformed"
		}
	default: // certificateIssuer is critical, so indirect entries end here
		if x.critical {
			return "an entry has an unknown critical extension"
		}
	}
	return ""
}

// readTime reads a Time in the forms of RFC 5280 section 4.1.2.5: UTCTime, or GeneralizedTime from 2050.
func readTime(s *cryptobyte.String, out *time.Time) bool {
	general := s.PeekASN1Tag(asn1.GeneralizedTime)
	return readDate(s, out) && (!general || out.Year() >= 2050)
}

// readDate reads YYMMDDHHMMSSZ as UTCTime or YYYYMMDDHHMMSSZ as GeneralizedTime, and nothing looser. It is done by
// hand because time.Parse would be most of the cost of reading a list.
func readDate(s *cryptobyte.String, out *time.Time) bool {
	var v cryptobyte.String
	var tag asn1.Tag
	if !s.ReadAnyASN1(&v, &tag) {
		return false
	}
	var year int
	var ok bool
	switch {
	case tag == asn1.UTCTime && len(v) == 13:
		if year, ok = twoDigits(v); year < 50 {
			year += 100
		}
		year += 1900
		v = v[2:]
	case tag == asn1.GeneralizedTime && len(v) == 15:
		century, okc := twoDigits(v)
		year, ok = twoDigits(v[2:])
		year, ok = year+100*century, ok && okc
		v = v[4:]
	}
	var f [5]int
	for i := range f {
		if !ok {
			return false
		}
		f[i], ok = twoDigits(v[2*i:])
	}
	if !ok || v[10] != 'Z' || f[2] > 23 || f[3] > 59 || f[4] > 59 {
		return false
	}
	t := time.Date(year, time.Month(f[0]), f[1], f[2], f[3], f[4], 0, time.UTC)
	if t.Month() != time.Month(f[0]) || t.Day() != f[1] { // time.Date carries over what no calendar has
		return false
	}
	*out = t
	return true
}

func twoDigits(p []byte) (int, bool) {
	a, b := p[0]-'0', p[1]-'0'
	return int(a)*10 + int(b), a <= 9 && b <= 9
}
