package ocsp

import (
	"time"

	"bulkhead"
)

// Statement is one SingleResponse to be made: the CertID as it was asked for, and what is said of it. The serials of
// both must be the same.
type Statement struct {
	ID CertID
	Single
}

// BuildTBSFor encodes the ResponseData of a pre-signed answer: responder by key hash, and one statement for the CertID
// under the given hash. With one statement it is the response that every client reads, provided it asked with that hash
// (RFC 9919 section 3.2.1). It fails with KindMalformed when s contradicts itself: no serial or state, nextUpdate not
// after thisUpdate, producedAt before thisUpdate, a revocation without a time, or a reason that may not stand here.
func BuildTBSFor(issuer Issuer, responderKeyHash [20]byte, producedAt time.Time, s Single, hash HashAlgorithm) ([]byte, error) {
	if !issuer.set {
		return nil, bulkhead.NewFault(bulkhead.KindMalformed, "OCSP answer for serial "+s.Serial.String()+": the issuer is missing")
	}
	if hash.Size() == 0 {
		return nil, bulkhead.Faultf(bulkhead.KindMalformed, "CertID hash %d does not exist", hash)
	}
	if err := checkSingle(producedAt, &s); err != nil {
		return nil, err
	}
	e := encoded{hash: hash, name: issuer.name.of(hash), key: issuer.key.of(hash), serial: s.Serial.Fixed(), single: &s}
	e.measure()
	d := dataFrame(e.size(), 0)
	out := d.begin(make([]byte, 0, elementSize(d.contents)), &responderKeyHash, producedAt)
	return e.append(out), nil
}

// BuildLiveTBS encodes the ResponseData of an answer to one request: a statement for each CertID that was asked, in
// order, and its nonce exactly as it came (RFC 9654 section 2.1); a nil nonce leaves the extension out. Unlike in BuildTBSFor the
// state may be Unknown. KindMalformed as there, and for a nonce outside 1 to 128 octets or a CertID that does not fit.
func BuildLiveTBS(responderKeyHash [20]byte, producedAt time.Time, statements []Statement, nonce []byte) ([]byte, error) {
	if len(statements) == 0 || len(statements) > maxSingles {
		return nil, bulkhead.Faultf(bulkhead.KindMalformed, "an OCSP answer makes 1 to %d statements, not %d", maxSingles, len(statements))
	}
	if nonce != nil && (len(nonce) == 0 || len(nonce) > MaxNonce) {
		return nil, bulkhead.Faultf(bulkhead.KindMalformed, "a nonce has 1 to %d octets, not %d (RFC 9654 section 2.1)", MaxNonce, len(nonce))
	}
	parts, body := make([]encoded, len(statements)), 0
	for i := range statements {
		s := &statements[i]
		if n := s.ID.Hash.Size(); n == 0 || len(s.ID.NameHash) != n || len(s.ID.KeyHash) != n || s.ID.Serial != s.Serial {
			return nil, bulkhead.NewFault(bulkhead.KindMalformed, "a CertID has hashes that do not fit its algorithm, or another serial than its statement")
		}
		if err := checkSingle(producedAt, &s.Single); err != nil {
			return nil, err
		}
		parts[i] = encoded{hash: s.ID.Hash, name: s.ID.NameHash, key: s.ID.KeyHash, serial: s.Serial.Fixed(), single: &s.Single}
		parts[i].measure()
		body += parts[i].size()
	}
	d := dataFrame(body, len(nonce))
	out := d.begin(make([]byte, 0, elementSize(d.contents)), &responderKeyHash, producedAt)
	for i := range parts {
		out = parts[i].append(out)
	}
	return d.end(out, nonce), nil
}

// dates and keyed responder ids have fixed sizes.
const (
	timeSize      = 2 + 15                // GeneralizedTime YYYYMMDDHHMMSSZ
	responderSize = 2 + 2 + 20            // [2] OCTET STRING
	nonceOID      = "\x06\x09" + oidNonce // extnID
)

// frameOfData holds the contents lengths of a ResponseData and of its nonce extension, inside out.
type frameOfData struct{ body, value, extension, list, exts, contents int }

func dataFrame(body, nonce int) frameOfData {
	d := frameOfData{body: body, contents: responderSize + timeSize + elementSize(body)}
	if nonce > 0 {
		d.value = elementSize(nonce)
		d.extension = len(nonceOID) + elementSize(d.value)
		d.list = elementSize(d.extension)
		d.exts = elementSize(d.list)
		d.contents += elementSize(d.exts)
	}
	return d
}

func (d *frameOfData) begin(dst []byte, responder *[20]byte, producedAt time.Time) []byte {
	dst = appendHeader(dst, 0x30, d.contents)
	dst = append(dst, 0xa2, 22, 0x04, 20)
	dst = append(dst, responder[:]...)
	dst = appendTime(dst, producedAt)
	return appendHeader(dst, 0x30, d.body)
}

func (d *frameOfData) end(dst, nonce []byte) []byte {
	if d.exts == 0 {
		return dst
	}
	dst = appendHeader(dst, 0xa1, d.exts)
	dst = appendHeader(dst, 0x30, d.list)
	dst = appendHeader(dst, 0x30, d.extension)
	dst = append(dst, nonceOID...)
	dst = appendHeader(dst, 0x04, d.value)
	dst = appendHeader(dst, 0x04, len(nonce))
	return append(dst, nonce...)
}

// encoded is a SingleResponse with the lengths of its parts.
type encoded struct {
	hash      HashAlgorithm
	name, key []byte
	serial    [bulkhead.MaxSerialOctets]byte
	single    *Single

	skip, number, algorithm, id, status, contents int // number: octets of the serial, sign octet included
}

func (e *encoded) measure() {
	for e.skip < len(e.serial)-1 && e.serial[e.skip] == 0 {
		e.skip++
	}
	e.number = len(e.serial) - e.skip
	if e.serial[e.skip]&0x80 != 0 {
		e.number++
	}
	e.algorithm = 2 + len(e.hash.oid()) + 2
	e.id = elementSize(e.algorithm) + elementSize(len(e.name)) + elementSize(len(e.key)) + elementSize(e.number)
	if e.single.State == Revoked {
		e.status = timeSize
		if e.reasoned() {
			e.status += 5
		}
	}
	e.contents = elementSize(e.id) + elementSize(e.status) + timeSize + elementSize(timeSize)
}

func (e *encoded) size() int { return elementSize(e.contents) }

func (e *encoded) reasoned() bool {
	return e.single.HasReason && e.single.Reason != bulkhead.Unspecified // BR 7.2.2: unspecified is left out
}

// append writes the statement. The parameters of the hash are NULL: OpenSSL and Windows compare and hash that form.
func (e *encoded) append(dst []byte) []byte {
	oid := e.hash.oid()
	dst = appendHeader(dst, 0x30, e.contents)
	dst = appendHeader(dst, 0x30, e.id)
	dst = append(dst, 0x30, byte(e.algorithm), 0x06, byte(len(oid)))
	dst = append(dst, oid...)
	dst = append(dst, 0x05, 0x00, 0x04, byte(len(e.name)))
	dst = append(dst, e.name...)
	dst = append(dst, 0x04, byte(len(e.key)))
	dst = append(dst, e.key...)
	dst = append(dst, 0x02, byte(e.number))
	if e.serial[e.skip]&0x80 != 0 {
		dst = append(dst, 0)
	}
	dst = append(dst, e.serial[e.skip:]...)
	switch s := e.single; s.State {
	case Good:
		dst = append(dst, 0x80, 0)
	case Revoked:
		dst = append(dst, 0xa1, byte(e.status))
		dst = appendTime(dst, s.RevokedAt)
		if e.reasoned() {
			dst = append(dst, 0xa0, 3, 0x0a, 1, byte(s.Reason))
		}
	default:
		dst = append(dst, 0x82, 0)
	}
	dst = appendTime(dst, e.single.ThisUpdate)
	dst = append(dst, 0xa0, timeSize)
	return appendTime(dst, e.single.NextUpdate)
}

// yearFits bounds what a GeneralizedTime can hold.
func yearFits(t time.Time) bool {
	y := t.UTC().Year()
	return y >= 0 && y <= 9999
}

// appendTime writes a GeneralizedTime in the one form of RFC 5280: UTC, whole seconds.
func appendTime(dst []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	dst = append(dst, 0x18, 15)
	for _, v := range [...]int{year / 100, year % 100, int(month), day, hour, minute, second} {
		dst = append(dst, '0'+byte(v/10), '0'+byte(v%10))
	}
	return append(dst, 'Z')
}
