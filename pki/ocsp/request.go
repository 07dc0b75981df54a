package ocsp

import (
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"bulkhead"
)

// HashAlgorithm is the hash of a CertID.
type HashAlgorithm uint8

// Hash algorithms. UnknownHash is any other: well formed, and nobody's certificate.
const (
	UnknownHash HashAlgorithm = iota
	SHA1
	SHA256
	SHA384
	SHA512
)

// Size is the length of a digest in octets, 0 for UnknownHash.
func (h HashAlgorithm) Size() int {
	switch h {
	case SHA1:
		return 20
	case SHA256:
		return 32
	case SHA384:
		return 48
	case SHA512:
		return 64
	default:
		return 0
	}
}

func (h HashAlgorithm) oid() string {
	switch h {
	case SHA1:
		return oidSHA1
	case SHA256:
		return oidSHA256
	case SHA384:
		return oidSHA384
	case SHA512:
		return oidSHA512
	default:
		return ""
	}
}

// MaxNonce is the longest nonce in octets (RFC 9654 section 2.1).
const MaxNonce = 128

// CertID names a certificate by hashes of its issuer's name and key, and its serial (RFC 6960 section 4.1.1).
type CertID struct {
	Hash              HashAlgorithm
	NameHash, KeyHash []byte
	Serial            bulkhead.Serial
}

// Request is a parsed OCSPRequest. Slices point into the DER that was parsed.
type Request struct {
	CertIDs  []CertID
	Nonce    []byte
	HasNonce bool
	Signed   bool // a signature is there; it is not verified
}

// One is what ParseOne finds. Slices point into the DER that was parsed.
type One struct {
	Hash              HashAlgorithm // SHA1 or SHA256
	NameHash, KeyHash []byte
	Serial            bulkhead.Serial
	Nonce             []byte
	HasNonce          bool
}

// envelope is an OCSPRequest with its requestList still unread.
type envelope struct {
	list     cryptobyte.String
	nonce    []byte
	hasNonce bool
	signed   bool
	critical bool // some extension is critical, though known
}

// ParseRequest reads an OCSPRequest with at most maxCertIDs entries. Whatever is malformed gives a *bulkhead.Fault of
// KindMalformed: anything that is not DER, trailing bytes, another version than v1, an empty list, a serial
// that is not positive or above 20 octets, a hash of the wrong length, duplicate or unknown critical extensions, a nonce
// outside 1..128 octets. A signature and the requestor's name are read over. An explicit v1 is tolerated.
func ParseRequest(der []byte, maxCertIDs int) (*Request, error) {
	var env envelope
	if d := openRequest(der, &env); d != "" {
		return nil, malformedRequest(d)
	}
	r := &Request{Nonce: env.nonce, HasNonce: env.hasNonce, Signed: env.signed}
	for !env.list.Empty() {
		if len(r.CertIDs) >= maxCertIDs {
			return nil, bulkhead.Faultf(bulkhead.KindMalformed, "the OCSP request asks for more than %d certificates", maxCertIDs).
				WithHint("ask for one certificate per request (RFC 9919)")
		}
		var id CertID
		var critical bool
		if d := readRequest(&env.list, &id, &critical); d != "" {
			return nil, malformedRequest(d)
		}
		r.CertIDs = append(r.CertIDs, id)
	}
	return r, nil
}

func malformedRequest(d defect) error {
	return bulkhead.Faultf(bulkhead.KindMalformed, "OCSP request: %s", string(d)).
		WithHint("send a DER OCSPRequest (RFC 6960 section 4.1); openssl ocsp -reqout makes one")
}

// ParseOne is the path of nearly every request: one CertID with SHA-1 or SHA-256, no critical extension, no signature.
// It allocates nothing and agrees with ParseRequest; false means "ask ParseRequest", not "malformed".
func ParseOne(der []byte, out *One) bool {
	if parseBare(der, out) {
		return true
	}
	var env envelope
	if openRequest(der, &env) != "" || env.signed || env.critical {
		return false
	}
	var id CertID
	var critical bool
	if readRequest(&env.list, &id, &critical) != "" || critical || !env.list.Empty() {
		return false
	}
	if id.Hash != SHA1 && id.Hash != SHA256 {
		return false
	}
	*out = One{Hash: id.Hash, NameHash: id.NameHash, KeyHash: id.KeyHash, Serial: id.Serial, Nonce: env.nonce, HasNonce: env.hasNonce}
	return true
}

// What stands between the headers of a bare request and its hashes.
const (
	bareSHA1   = "\x30\x09\x06\x05" + oidSHA1 + "\x05\x00\x04\x14"
	bareSHA256 = "\x30\x0d\x06\x09" + oidSHA256 + "\x05\x00\x04\x20"
)

// parseBare is ParseOne for the one form that nearly all clients send: five sequences in one another, each to the end,
// a hash with NULL parameters, no extension. It compares where the parser would read.
func parseBare(der []byte, out *One) bool {
	const headers = 10
	if len(der) < headers+len(bareSHA1) || len(der) > 0x81 {
		return false
	}
	for i := 0; i < headers; i += 2 {
		if der[i] != 0x30 || int(der[i+1]) != len(der)-i-2 {
			return false
		}
	}
	id, hash, size := der[headers:], SHA1, 20
	switch {
	case string(id[:len(bareSHA1)]) == bareSHA1:
		id = id[len(bareSHA1):]
	case len(id) > len(bareSHA256) && string(id[:len(bareSHA256)]) == bareSHA256:
		id, hash, size = id[len(bareSHA256):], SHA256, 32
	default:
		return false
	}
	if len(id) < 2*size+5 || id[size] != 0x04 || int(id[size+1]) != size {
		return false
	}
	serial := id[2*size+2:]
	if serial[0] != 0x02 || int(serial[1]) != len(serial)-2 {
		return false
	}
	*out = One{Hash: hash, NameHash: id[:size:size], KeyHash: id[size+2 : 2*size+2 : 2*size+2]}
	return readSerial(serial[2:], &out.Serial) == ""
}

// openRequest reads all of an OCSPRequest but the entries of requestList.
func openRequest(der []byte, env *envelope) defect {
	in := cryptobyte.String(der)
	var outer, tbs, version, name, exts cryptobyte.String
	var present bool
	if !in.ReadASN1(&outer, asn1.SEQUENCE) {
		return "not a DER sequence"
	}
	if !in.Empty() {
		return "trailing bytes"
	}
	if !outer.ReadASN1(&tbs, asn1.SEQUENCE) {
		return "tbsRequest is not a sequence"
	}
	if d := readSignature(outer, &env.signed); d != "" {
		return d
	}
	if !tbs.ReadOptionalASN1(&version, &present, cons0) || present && string(version) != "\x02\x01\x00" {
		return "the version is not v1"
	}
	if !tbs.ReadOptionalASN1(&name, &present, cons1) || present && !oneElement(name) {
		return "requestorName is malformed"
	}
	if !tbs.ReadASN1(&env.list, asn1.SEQUENCE) {
		return "requestList is not a sequence"
	}
	if env.list.Empty() {
		return "requestList is empty"
	}
	if !tbs.ReadOptionalASN1(&exts, &present, cons2) || !tbs.Empty() {
		return "unexpected element after requestList"
	}
	if present {
		return readRequestExtensions(exts, env)
	}
	return ""
}

func oneElement(s cryptobyte.String) bool {
	var any cryptobyte.String
	var tag asn1.Tag
	return s.ReadAnyASN1(&any, &tag) && s.Empty()
}

// readSignature checks the shape of optionalSignature, which ends the request.
func readSignature(outer cryptobyte.String, signed *bool) defect {
	var wrap, sig, oid, params, bits, certs cryptobyte.String
	if outer.Empty() {
		return ""
	}
	var present bool
	ok := outer.ReadASN1(&wrap, cons0) && outer.Empty() && wrap.ReadASN1(&sig, asn1.SEQUENCE) && wrap.Empty() &&
		readAlgorithm(&sig, &oid, &params) && sig.ReadASN1(&bits, asn1.BIT_STRING) && len(bits) > 0 && bits[0] == 0 &&
		sig.ReadOptionalASN1(&certs, &present, cons0) && sig.Empty()
	if ok && present {
		var list cryptobyte.String
		ok = certs.ReadASN1(&list, asn1.SEQUENCE) && certs.Empty()
		for ok && !list.Empty() {
			ok = list.SkipASN1(asn1.SEQUENCE)
		}
	}
	if !ok {
		return "optionalSignature is malformed"
	}
	*signed = true
	return ""
}

func readRequestExtensions(outer cryptobyte.String, env *envelope) defect {
	var list cryptobyte.String
	if d := readExtensions(outer, &list); d != "" {
		return d
	}
	for !list.Empty() {
		var e extension
		if !readExtension(&list, &e) {
			return "an extension is malformed"
		}
		if string(e.oid) == oidNonce {
			if d := readNonce(e.value, &env.nonce); d != "" {
				return d
			}
			env.hasNonce = true
			env.critical = env.critical || e.critical
			continue
		}
		if e.critical {
			return "unknown critical extension"
		}
	}
	return ""
}

// readRequest reads one Request of the list. No single-request extension is known, so a critical one is an error.
func readRequest(list *cryptobyte.String, id *CertID, critical *bool) defect {
	var req, exts, single cryptobyte.String
	var present bool
	if !list.ReadASN1(&req, asn1.SEQUENCE) {
		return "an entry of requestList is not a sequence"
	}
	if d := readCertID(&req, id); d != "" {
		return d
	}
	if !req.ReadOptionalASN1(&exts, &present, cons0) || !req.Empty() {
		return "unexpected element after a CertID"
	}
	if !present {
		return ""
	}
	if d := readExtensions(exts, &single); d != "" {
		return d
	}
	for !single.Empty() {
		var e extension
		if !readExtension(&single, &e) {
			return "an extension is malformed"
		}
		if e.critical {
			*critical = true
			return "unknown critical extension"
		}
	}
	return ""
}

func readCertID(s *cryptobyte.String, id *CertID) defect {
	var seq, oid, params, nameHash, keyHash, serial cryptobyte.String
	if !s.ReadASN1(&seq, asn1.SEQUENCE) || !readAlgorithm(&seq, &oid, &params) {
		return "the CertID or its hash algorithm is malformed"
	}
	if !seq.ReadASN1(&nameHash, asn1.OCTET_STRING) || !seq.ReadASN1(&keyHash, asn1.OCTET_STRING) {
		return "a hash of the CertID is missing"
	}
	switch string(oid) {
	case oidSHA1:
		id.Hash = SHA1
	case oidSHA256:
		id.Hash = SHA256
	case oidSHA384:
		id.Hash = SHA384
	case oidSHA512:
		id.Hash = SHA512
	default:
		id.Hash = UnknownHash
	}
	if n := id.Hash.Size(); n > 0 && (len(nameHash) != n || len(keyHash) != n || !nullOrAbsent(params)) {
		return "a hash of the CertID has the wrong length or parameters"
	}
	id.NameHash, id.KeyHash = nameHash, keyHash
	if !seq.ReadASN1(&serial, asn1.INTEGER) || !seq.Empty() {
		return "the serial number is missing or followed by something"
	}
	return readSerial(serial, &id.Serial)
}

// readSerial reads the contents of an INTEGER: minimal, positive, at most 20 octets without the sign octet.
func readSerial(p []byte, out *bulkhead.Serial) defect {
	if len(p) == 0 {
		return "the serial number is empty"
	}
	if p[0]&0x80 != 0 {
		return "the serial number is negative"
	}
	if p[0] == 0 {
		if len(p) == 1 {
			return "the serial number is zero"
		}
		if p[1]&0x80 == 0 {
			return "the serial number is not minimal"
		}
		p = p[1:]
	}
	if len(p) > bulkhead.MaxSerialOctets {
		return "the serial number is longer than 20 octets"
	}
	var err error
	if *out, err = bulkhead.SerialFromBytes(p); err != nil {
		return "the serial number is malformed"
	}
	return ""
}

// EncodeRequest makes an unsigned OCSPRequest; a nil nonce leaves the extension out.
func EncodeRequest(ids []CertID, nonce []byte) ([]byte, error) {
	if len(ids) == 0 {
		return nil, bulkhead.NewFault(bulkhead.KindMalformed, "an OCSP request needs at least one certificate")
	}
	if nonce != nil && (len(nonce) == 0 || len(nonce) > MaxNonce) {
		return nil, bulkhead.Faultf(bulkhead.KindMalformed, "a nonce has 1 to %d octets, not %d (RFC 9654 section 2.1)", MaxNonce, len(nonce))
	}
	for _, id := range ids {
		if n := id.Hash.Size(); n == 0 || len(id.NameHash) != n || len(id.KeyHash) != n || id.Serial.IsZero() {
			return nil, bulkhead.NewFault(bulkhead.KindMalformed, "a CertID lacks its serial, or its hashes do not fit its algorithm")
		}
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, id := range ids {
					b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { addCertID(b, id) })
				}
			})
			if nonce != nil {
				addNonceExtension(b, nonce)
			}
		})
	})
	return b.Bytes()
}

func addNonceExtension(b *cryptobyte.Builder, nonce []byte) {
	b.AddASN1(cons2, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				addOID(b, oidNonce)
				b.AddASN1(asn1.OCTET_STRING, func(b *cryptobyte.Builder) { b.AddASN1OctetString(nonce) })
			})
		})
	})
}

func addOID(b *cryptobyte.Builder, oid string) {
	b.AddASN1(asn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes([]byte(oid)) })
}

// addCertID writes the parameters of the hash as NULL: OpenSSL and Windows compare and hash that form.
func addCertID(b *cryptobyte.Builder, id CertID) {
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			addOID(b, id.Hash.oid())
			b.AddASN1NULL()
		})
		b.AddASN1OctetString(id.NameHash)
		b.AddASN1OctetString(id.KeyHash)
		b.AddASN1BigInt(id.Serial.Big())
	})
}
