package crl

import (
	"bytes"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"bulkhead"
)

// Object identifiers as DER contents.
const (
	oidReason         = "\x55\x1d\x15" // 2.5.29.21
	oidInvalidityDate = "\x55\x1d\x18" // 2.5.29.24
	oidCRLNumber      = "\x55\x1d\x14" // 2.5.29.20
	oidIDP            = "\x55\x1d\x1c" // 2.5.29.28
	oidAKI            = "\x55\x1d\x23" // 2.5.29.35
)

// Tags used on both sides.
const (
	tagSequence        = 0x30
	tagInteger         = 0x02
	tagUTCTime         = 0x17
	tagGeneralizedTime = 0x18
	ctx0               = asn1.Tag(0x80)
	ctx1               = asn1.Tag(0x81)
	ctx2               = asn1.Tag(0x82)
	ctx6               = asn1.Tag(0x86)
	cons0              = asn1.Tag(0xa0)
)

// Pieces of an entry that never change but for one octet or a date.
const (
	reasonPiece     = "\x30\x0a\x06\x03" + oidReason + "\x04\x03\x0a\x01"         // and the code
	invalidityPiece = "\x30\x18\x06\x03" + oidInvalidityDate + "\x04\x11\x18\x0f" // and the date
)

// maxEntry is more than the longest entry: two headers, a serial, two dates, two extensions.
const maxEntry = 128

// Encoder turns entries into DER, as they stand in an entry file. It checks that serials ascend and remembers the last day it wrote, because
// converting a date is the most costly part of an entry.
type Encoder struct {
	last    [bulkhead.MaxSerialOctets]byte // right-aligned; no serial is zero
	day     int64                          // days since 1970
	date    [8]byte
	year    int
	haveDay bool
}

// Append adds the DER of e to dst. KindConflict for a serial that does not follow the one before, KindBadRevocationReason, KindMalformed for
// a date that cannot be written.
func (c *Encoder) Append(dst []byte, e *Entry) ([]byte, error) {
	serial := e.Serial.Fixed()
	if bytes.Compare(serial[:], c.last[:]) <= 0 { // the zero serial is refused by this too
		return dst, bulkhead.Faultf(bulkhead.KindConflict, "CRL: serial %q does not follow %x: entries must ascend, each once", e.Serial, c.last[:])
	}
	c.last = serial
	if !reasonAllowed(e.Reason) {
		return dst, bulkhead.Faultf(bulkhead.KindBadRevocationReason, "CRL: serial %s: reason %d may not stand in a CRL (BR 7.2.2)", e.Serial, int(e.Reason))
	}
	start := len(dst)
	dst = append(dst, tagSequence, 0) // an entry is shorter than 128 octets
	dst = appendSerial(dst, &serial)
	var ok bool
	if dst, ok = c.appendTime(dst, e.RevokedAt); !ok {
		return dst, bulkhead.Faultf(bulkhead.KindMalformed, "CRL: serial %s: the revocation date lies outside 1950 to 9999", e.Serial)
	}
	if e.Reason == bulkhead.Unspecified && e.InvalidityDate.IsZero() {
		dst[start+1] = byte(len(dst) - start - 2)
		return dst, nil
	}
	exts := len(dst)
	dst = append(dst, tagSequence, 0)
	if e.Reason != bulkhead.Unspecified {
		dst = append(append(dst, reasonPiece...), byte(e.Reason))
	}
	if !e.InvalidityDate.IsZero() {
		if !yearAllowed(e.InvalidityDate) {
			return dst, bulkhead.Faultf(bulkhead.KindMalformed, "CRL: serial %s: the invalidity date lies outside 1950 to 9999", e.Serial)
		}
		dst = e.InvalidityDate.UTC().AppendFormat(append(dst, invalidityPiece...), "20060102150405Z")
	}
	dst[exts+1] = byte(len(dst) - exts - 2)
	dst[start+1] = byte(len(dst) - start - 2)
	return dst, nil
}

// appendSerial adds an INTEGER, with a sign octet where the first bit is set.
func appendSerial(dst []byte, fixed *[bulkhead.MaxSerialOctets]byte) []byte {
	i := 0
	for i < len(fixed)-1 && fixed[i] == 0 {
		i++
	}
	n := len(fixed) - i
	if fixed[i]&0x80 != 0 {
		return append(append(dst, tagInteger, byte(n+1), 0), fixed[i:]...)
	}
	return append(append(dst, tagInteger, byte(n)), fixed[i:]...)
}

// appendTime adds a Time: UTCTime through 2049, GeneralizedTime from 2050 (RFC 5280 section 5.1.2.4).
func (c *Encoder) appendTime(dst []byte, t time.Time) ([]byte, bool) {
	const secondsPerDay = 86400
	unix := t.Unix()
	day := unix / secondsPerDay
	if unix%secondsPerDay < 0 {
		day--
	}
	if !c.haveDay || day != c.day {
		if !yearAllowed(t) {
			return dst, false
		}
		u := t.UTC()
		u.AppendFormat(c.date[:0], "20060102")
		c.day, c.year, c.haveDay = day, u.Year(), true
	}
	second := int(unix - day*secondsPerDay)
	if c.year < 2050 {
		dst = append(append(dst, tagUTCTime, 13), c.date[2:]...)
	} else {
		dst = append(append(dst, tagGeneralizedTime, 15), c.date[:]...)
	}
	h, m, sec := 2*(second/3600), 2*(second/60%60), 2*(second%60)
	return append(dst, pairs[h], pairs[h+1], pairs[m], pairs[m+1], pairs[sec], pairs[sec+1], 'Z'), true
}

// pairs is 00 to 59: hours, minutes and seconds without a division by ten.
const pairs = "000102030405060708091011121314151617181920212223242526272829" +
	"303132333435363738394041424344454647484950515253545556575859"

// elementSize is the size of a DER element with n octets of contents.
func elementSize(n int64) int64 { return n + int64(len(appendHeader(nil, tagSequence, n))) }

// appendHeader adds a tag and a minimal length.
func appendHeader(dst []byte, tag byte, n int64) []byte {
	if n < 0x80 {
		return append(dst, tag, byte(n))
	}
	size := 1
	for x := n >> 8; x > 0; x >>= 8 {
		size++
	}
	dst = append(dst, tag, 0x80|byte(size))
	for i := size - 1; i >= 0; i-- {
		dst = append(dst, byte(n>>(8*i)))
	}
	return dst
}

// head is the part of the TBSCertList before the entries, without the outer header.
func head(info Info, s scheme) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1Int64(1) // v2
	b.AddBytes([]byte(s.identifier))
	b.AddBytes(info.Issuer.RawSubject)
	out, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	var c Encoder
	out, _ = c.appendTime(out, info.ThisUpdate)
	out, _ = c.appendTime(out, info.NextUpdate)
	return out, nil
}

// tail is the crlExtensions: authorityKeyIdentifier, cRLNumber and, for a shard, the critical issuingDistributionPoint.
func tail(info Info) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cons0, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			addExtension(b, oidAKI, false, func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(ctx0, func(b *cryptobyte.Builder) { b.AddBytes(info.Issuer.SubjectKeyId) })
				})
			})
			addExtension(b, oidCRLNumber, false, func(b *cryptobyte.Builder) { b.AddASN1Int64(info.Number) })
			if info.URL != "" {
				addExtension(b, oidIDP, true, func(b *cryptobyte.Builder) { addIDP(b, info) })
			}
		})
	})
	return b.Bytes()
}

func addExtension(b *cryptobyte.Builder, oid string, critical bool, value cryptobyte.BuilderContinuation) {
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes([]byte(oid)) })
		if critical {
			b.AddASN1Boolean(true)
		}
		b.AddASN1(asn1.OCTET_STRING, value)
	})
}

func addIDP(b *cryptobyte.Builder, info Info) {
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cons0, func(b *cryptobyte.Builder) { // distributionPoint
			b.AddASN1(cons0, func(b *cryptobyte.Builder) { // fullName
				b.AddASN1(ctx6, func(b *cryptobyte.Builder) { b.AddBytes([]byte(info.URL)) })
			})
		})
		switch info.Scope {
		case ScopeUserCerts:
			b.AddASN1(ctx1, func(b *cryptobyte.Builder) { b.AddUint8(0xff) })
		case ScopeCACerts:
			b.AddASN1(ctx2, func(b *cryptobyte.Builder) { b.AddUint8(0xff) })
		}
	})
}
