package ocsp

import (
	"time"

	"bulkhead"
)

// State is a CertStatus. The zero value is no state, so that a forgotten field is never "good".
type State uint8

// States (RFC 6960 section 4.2.1).
const (
	Good State = iota + 1
	Revoked
	Unknown
)

// String is the word of RFC 6960.
func (s State) String() string {
	switch s {
	case Good:
		return "good"
	case Revoked:
		return "revoked"
	case Unknown:
		return "unknown"
	default:
		return "none"
	}
}

// Single is what a response says of one certificate. Times have a resolution of one second, UTC.
type Single struct {
	Serial                 bulkhead.Serial
	State                  State
	RevokedAt              time.Time       // Revoked only
	Reason                 bulkhead.Reason // with HasReason; Unspecified is never encoded (BR 7.2.2)
	HasReason              bool
	ThisUpdate, NextUpdate time.Time
}

// ResponseStatus is an OCSPResponseStatus.
type ResponseStatus uint8

// Response statuses (RFC 6960 section 4.2.1).
const (
	Successful       ResponseStatus = 0
	MalformedRequest ResponseStatus = 1
	InternalError    ResponseStatus = 2
	TryLater         ResponseStatus = 3
	SigRequired      ResponseStatus = 5
	Unauthorized     ResponseStatus = 6
)

// String is the name of RFC 6960.
func (s ResponseStatus) String() string {
	switch s {
	case Successful:
		return "successful"
	case MalformedRequest:
		return "malformedRequest"
	case InternalError:
		return "internalError"
	case TryLater:
		return "tryLater"
	case SigRequired:
		return "sigRequired"
	case Unauthorized:
		return "unauthorized"
	default:
		return "undefined"
	}
}

// checkSingle refuses a statement that contradicts itself.
func checkSingle(producedAt time.Time, s *Single) error {
	refuse := func(format string, args ...any) error {
		return bulkhead.Faultf(bulkhead.KindMalformed, "OCSP answer for serial "+s.Serial.String()+": "+format, args...)
	}
	this, next := s.ThisUpdate.Truncate(time.Second), s.NextUpdate.Truncate(time.Second)
	switch {
	case s.Serial.IsZero():
		return refuse("the serial number is missing")
	case s.ThisUpdate.IsZero() || !next.After(this):
		return refuse("nextUpdate must be after thisUpdate (RFC 6960 section 4.2.2.1)")
	case !yearFits(producedAt) || !yearFits(this) || !yearFits(next) || s.State == Revoked && !yearFits(s.RevokedAt):
		return refuse("a date lies outside the years 0 to 9999")
	case producedAt.Truncate(time.Second).Before(this):
		return refuse("producedAt must not be before thisUpdate")
	case s.State == Revoked && s.RevokedAt.IsZero():
		return refuse("a revoked certificate needs its revocation time")
	case s.State == Revoked && s.HasReason && !reasonAllowed(s.Reason):
		return refuse("reason %d may not stand in a response (BR 7.3)", int(s.Reason))
	case s.State == Revoked:
		return nil
	case s.State != Good && s.State != Unknown:
		return refuse("the state is missing")
	case s.HasReason || !s.RevokedAt.IsZero():
		return refuse("only a revoked certificate has a time and a reason")
	}
	return nil
}

// reasonAllowed refuses certificateHold (no suspension, BR 4.9.13), 7 (does not exist) and removeFromCRL (delta CRLs only).
func reasonAllowed(r bulkhead.Reason) bool {
	return r >= bulkhead.Unspecified && r <= bulkhead.AACompromise &&
		r != bulkhead.CertificateHold && r != 7 && r != bulkhead.RemoveFromCRL
}

// Fixed pieces of a successful response.
const (
	assembledStatus    = "\x0a\x01\x00"                  // ENUMERATED successful
	assembledType      = "\x06\x09" + oidBasic           // responseType
	assembledAlgorithm = "\x30\x0a\x06\x08" + oidP256Sig // ecdsa-with-SHA256, no parameters
)

// frame holds the contents lengths of an assembled response, inside out.
type frame struct{ certs, bits, basic, octets, bytes, body, outer int }

func newFrame(tbs, signature, responderCert []byte) frame {
	var f frame
	f.bits = 1 + len(signature)
	f.basic = len(tbs) + len(assembledAlgorithm) + elementSize(f.bits)
	if len(responderCert) > 0 {
		f.certs = elementSize(len(responderCert))
		f.basic += elementSize(f.certs)
	}
	f.octets = elementSize(f.basic)
	f.bytes = len(assembledType) + elementSize(f.octets)
	f.body = elementSize(f.bytes)
	f.outer = len(assembledStatus) + elementSize(f.body)
	return f
}

// elementSize is the size of a DER element with n octets of contents.
func elementSize(n int) int {
	switch {
	case n < 0x80:
		return 2 + n
	case n <= 0xff:
		return 3 + n
	case n <= 0xffff:
		return 4 + n
	default:
		return 5 + n
	}
}

func appendHeader(dst []byte, tag byte, n int) []byte {
	switch {
	case n < 0x80:
		return append(dst, tag, byte(n))
	case n <= 0xff:
		return append(dst, tag, 0x81, byte(n))
	case n <= 0xffff:
		return append(dst, tag, 0x82, byte(n>>8), byte(n))
	default:
		return append(dst, tag, 0x83, byte(n>>16), byte(n>>8), byte(n))
	}
}

// AssembledSize is the length of what Assemble returns.
func AssembledSize(tbs, signature, responderCert []byte) int {
	return elementSize(newFrame(tbs, signature, responderCert).outer)
}

// Assemble joins a ResponseData, its ecdsa-with-SHA256 signature and the delegate's certificate (nil for none) to a full
// OCSPResponse. Parts are taken as they are and must stay below 16 MiB together.
func Assemble(tbs, signature, responderCert []byte) []byte {
	return AppendAssembled(make([]byte, 0, AssembledSize(tbs, signature, responderCert)), tbs, signature, responderCert)
}

// AppendAssembled is Assemble into dst; it does not allocate when dst has AssembledSize octets of room.
func AppendAssembled(dst, tbs, signature, responderCert []byte) []byte {
	f := newFrame(tbs, signature, responderCert)
	dst = appendHeader(dst, 0x30, f.outer)
	dst = append(dst, assembledStatus...)
	dst = appendHeader(dst, 0xa0, f.body)
	dst = appendHeader(dst, 0x30, f.bytes)
	dst = append(dst, assembledType...)
	dst = appendHeader(dst, 0x04, f.octets)
	dst = appendHeader(dst, 0x30, f.basic)
	dst = append(dst, tbs...)
	dst = append(dst, assembledAlgorithm...)
	dst = appendHeader(dst, 0x03, f.bits)
	dst = append(dst, 0)
	dst = append(dst, signature...)
	if f.certs > 0 {
		dst = appendHeader(dst, 0xa0, f.certs)
		dst = appendHeader(dst, 0x30, len(responderCert))
		dst = append(dst, responderCert...)
	}
	return dst
}

// ErrorResponse is the unsigned response with an error status; a status that is not an error gives internalError.
func ErrorResponse(status ResponseStatus) []byte {
	switch status {
	case MalformedRequest, InternalError, TryLater, SigRequired, Unauthorized:
	default:
		status = InternalError
	}
	return []byte{0x30, 0x03, 0x0a, 0x01, byte(status)}
}
