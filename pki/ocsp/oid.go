package ocsp

import (
	"crypto/x509"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Object identifiers as DER contents: compared as bytes, so that reading a request allocates nothing.
const (
	oidSHA1    = "\x2b\x0e\x03\x02\x1a"                 // 1.3.14.3.2.26
	oidSHA256  = "\x60\x86\x48\x01\x65\x03\x04\x02\x01" // 2.16.840.1.101.3.4.2.1
	oidSHA384  = "\x60\x86\x48\x01\x65\x03\x04\x02\x02" // 2.16.840.1.101.3.4.2.2
	oidSHA512  = "\x60\x86\x48\x01\x65\x03\x04\x02\x03" // 2.16.840.1.101.3.4.2.3
	oidBasic   = "\x2b\x06\x01\x05\x05\x07\x30\x01\x01" // 1.3.6.1.5.5.7.48.1.1
	oidNonce   = "\x2b\x06\x01\x05\x05\x07\x30\x01\x02" // 1.3.6.1.5.5.7.48.1.2
	oidReason  = "\x55\x1d\x15"                         // 2.5.29.21
	oidP256Sig = "\x2a\x86\x48\xce\x3d\x04\x03\x02"     // 1.2.840.10045.4.3.2 ecdsa-with-SHA256
	oidP384Sig = "\x2a\x86\x48\xce\x3d\x04\x03\x03"     // 1.2.840.10045.4.3.3
	oidP521Sig = "\x2a\x86\x48\xce\x3d\x04\x03\x04"     // 1.2.840.10045.4.3.4
	oidRSA256  = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b" // 1.2.840.113549.1.1.11
	oidRSA384  = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c" // 1.2.840.113549.1.1.12
	oidRSA512  = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d" // 1.2.840.113549.1.1.13
	oidRSASHA1 = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05" // 1.2.840.113549.1.1.5, known only to be named in a refusal
	oidECSHA1  = "\x2a\x86\x48\xce\x3d\x04\x01"         // 1.2.840.10045.4.1, likewise
)

// Context-specific tags.
const (
	ctx0  = asn1.Tag(0x80)
	ctx2  = asn1.Tag(0x82)
	cons0 = asn1.Tag(0xa0)
	cons1 = asn1.Tag(0xa1)
	cons2 = asn1.Tag(0xa2)
)

// maxExtensions bounds a list of extensions: finding duplicates is quadratic.
const maxExtensions = 16

// defect says in a few words what is wrong with an encoding; "" is nothing. Constants only, so it costs nothing.
type defect string

// readOID reads an OBJECT IDENTIFIER and returns its contents: at least one arc, each in minimal base 128.
func readOID(s *cryptobyte.String, out *cryptobyte.String) bool {
	if !s.ReadASN1(out, asn1.OBJECT_IDENTIFIER) || len(*out) == 0 || (*out)[len(*out)-1]&0x80 != 0 {
		return false
	}
	start := true
	for _, c := range *out {
		if start && c == 0x80 {
			return false
		}
		start = c&0x80 == 0
	}
	return true
}

// readAlgorithm reads an AlgorithmIdentifier: identifier and raw parameters, which may be empty.
func readAlgorithm(s *cryptobyte.String, oid, params *cryptobyte.String) bool {
	var alg cryptobyte.String
	if !s.ReadASN1(&alg, asn1.SEQUENCE) || !readOID(&alg, oid) {
		return false
	}
	*params = alg
	if alg.Empty() {
		return true
	}
	var any cryptobyte.String
	var tag asn1.Tag
	return alg.ReadAnyASN1Element(&any, &tag) && alg.Empty()
}

// nullOrAbsent reports whether parameters are NULL or missing; both forms are met for hashes (RFC 5754 section 2).
func nullOrAbsent(params cryptobyte.String) bool {
	return len(params) == 0 || string(params) == "\x05\x00"
}

// extension is one Extension, in place.
type extension struct {
	oid, value cryptobyte.String
	critical   bool
}

// readExtension reads one Extension. An encoded DEFAULT (critical FALSE) is tolerated: it is unambiguous and met.
func readExtension(list *cryptobyte.String, out *extension) bool {
	var seq cryptobyte.String
	if !list.ReadASN1(&seq, asn1.SEQUENCE) || !readOID(&seq, &out.oid) {
		return false
	}
	out.critical = false
	if seq.PeekASN1Tag(asn1.BOOLEAN) && !seq.ReadASN1Boolean(&out.critical) {
		return false
	}
	return seq.ReadASN1(&out.value, asn1.OCTET_STRING) && seq.Empty()
}

// readExtensions opens an Extensions list that fills the whole of outer, and checks it for emptiness, length and duplicates.
func readExtensions(outer cryptobyte.String, out *cryptobyte.String) defect {
	if !outer.ReadASN1(out, asn1.SEQUENCE) || !outer.Empty() {
		return "extensions are not a sequence"
	}
	if out.Empty() {
		return "the list of extensions is empty"
	}
	n := 0
	for rest := *out; !rest.Empty(); n++ {
		var e, earlier extension
		if n == maxExtensions {
			return "too many extensions"
		}
		if !readExtension(&rest, &e) {
			return "an extension is malformed"
		}
		before := *out
		for range n {
			if !readExtension(&before, &earlier) {
				return "an extension is malformed"
			}
			if string(earlier.oid) == string(e.oid) {
				return "an extension stands twice"
			}
		}
	}
	return ""
}

// readNonce reads the value of a nonce extension: an OCTET STRING of 1 to 128 octets (RFC 9654 section 2.1).
func readNonce(value cryptobyte.String, out *[]byte) defect {
	var n cryptobyte.String
	if !value.ReadASN1(&n, asn1.OCTET_STRING) || !value.Empty() {
		return "the nonce is not an octet string"
	}
	if len(n) == 0 || len(n) > MaxNonce {
		return "the nonce must have 1 to 128 octets (RFC 9654 section 2.1)"
	}
	*out = n
	return ""
}

// signatureAlgorithm maps an AlgorithmIdentifier to its name; UnknownSignatureAlgorithm for what we do not know.
func signatureAlgorithm(oid, params cryptobyte.String) x509.SignatureAlgorithm {
	rsa, ec := nullOrAbsent(params), len(params) == 0
	switch {
	case rsa && string(oid) == oidRSA256:
		return x509.SHA256WithRSA
	case rsa && string(oid) == oidRSA384:
		return x509.SHA384WithRSA
	case rsa && string(oid) == oidRSA512:
		return x509.SHA512WithRSA
	case rsa && string(oid) == oidRSASHA1:
		return x509.SHA1WithRSA
	case ec && string(oid) == oidP256Sig:
		return x509.ECDSAWithSHA256
	case ec && string(oid) == oidP384Sig:
		return x509.ECDSAWithSHA384
	case ec && string(oid) == oidP521Sig:
		return x509.ECDSAWithSHA512
	case ec && string(oid) == oidECSHA1:
		return x509.ECDSAWithSHA1
	default:
		return x509.UnknownSignatureAlgorithm
	}
}

// readTime reads a GeneralizedTime in the one form that DER and RFC 5280 allow: YYYYMMDDHHMMSSZ.
func readTime(s *cryptobyte.String, out *time.Time) bool {
	const size = 17
	b := []byte(*s)
	if len(b) < size || asn1.Tag(b[0]) != asn1.GeneralizedTime || b[1] != size-2 || b[size-1] != 'Z' {
		return false
	}
	var n [14]int
	for i := range n {
		d := b[2+i]
		if d < '0' || d > '9' {
			return false
		}
		n[i] = int(d - '0')
	}
	two := func(i int) int { return 10*n[i] + n[i+1] }
	month, day, hour, minute, second := time.Month(two(4)), two(6), two(8), two(10), two(12)
	t := time.Date(100*two(0)+two(2), month, day, hour, minute, second, 0, time.UTC)
	// What is beyond its range (a 31st of April, a minute 60) would have been carried over.
	if t.Month() != month || t.Day() != day || t.Hour() != hour || t.Minute() != minute || t.Second() != second {
		return false
	}
	*out = t
	return s.Skip(size)
}
