package crl

import (
	"bytes"
	"encoding/binary"

	"bulkhead"
)

// Cut returns how many octets the first entry of p has and the contents of its serial's INTEGER: 0 when p ends before the entry
// does, or does not begin with one. It is for whoever keeps an entry file and changes it; WriteFile holds the result against the rules.
func Cut(p []byte) (size int, serial []byte) {
	if len(p) < 4 || p[0] != tagSequence || p[1] >= 0x80 || p[2] != tagInteger {
		return 0, nil
	}
	if size = 2 + int(p[1]); size > len(p) || 4+int(p[3]) > size {
		return 0, nil
	}
	return size, p[4 : 4+int(p[3])]
}

// checker holds encoded entries against what encoder writes.
type checker struct {
	last  []byte // the last serial, in the chunk or in kept; before the first entry it has no octets, which no serial has
	kept  [bulkhead.MaxSerialOctets]byte
	count int
	day   [8]byte // tag, length and YYMMDD of the last date of two-digit years; zero before the first, which no date is
	reads int     // dates that were read whole: of a mass revocation most entries have one day
}

// follows reports whether a minimal serial is above the last. Random serials differ in their first octets.
func (c *checker) follows(serial []byte) bool {
	if len(serial) != len(c.last) {
		return len(serial) > len(c.last) && (len(serial) > 1 || serial[0] != 0)
	}
	last := c.last
	for len(serial) >= 8 && len(last) >= 8 {
		if x, y := binary.BigEndian.Uint64(serial), binary.BigEndian.Uint64(last); x != y {
			return x > y
		}
		serial, last = serial[8:], last[8:]
	}
	return bytes.Compare(serial, last) > 0
}

// check reads whole entries from p and returns how many octets they have; at the end of the file nothing may be left.
func (c *checker) check(p []byte, end bool) (used int, err error) {
	defer func() { c.last = c.kept[:copy(c.kept[:], c.last)] }() // p is the caller's again
	for used < len(p) {
		e := p[used:]
		if len(e) < 2 || len(e) < 2+int(e[1]) {
			if end || len(e) >= maxEntry {
				return 0, notEntries("an entry is cut short")
			}
			return used, nil
		}
		if e[0] != tagSequence || e[1] >= 0x80 {
			return 0, notEntries("an entry is no short sequence")
		}
		n := 2 + int(e[1])
		if err := c.entry(e[2:n]); err != nil {
			return 0, err
		}
		used += n
	}
	return used, nil
}

func (c *checker) entry(e []byte) error {
	if len(e) < 3 || e[0] != tagInteger || int(e[1]) > len(e)-2 || e[1] == 0 {
		return notEntries("a serial is missing")
	}
	n := int(e[1])
	serial, rest := e[2:2+n], e[2+n:]
	if serial[0] == 0 && n > 1 {
		if serial[1]&0x80 == 0 {
			return notEntries("a serial is not minimal")
		}
		serial = serial[1:]
	} else if serial[0]&0x80 != 0 {
		return notEntries("a serial is negative")
	}
	if len(serial) > bulkhead.MaxSerialOctets {
		return notEntries("a serial is longer than 20 octets")
	}
	if !c.follows(serial) {
		return bulkhead.Faultf(bulkhead.KindConflict, "CRL: serial %x does not follow %x: entries must ascend, each once", serial, c.last).
			WithHint("encode the entries again, sorted")
	}
	c.last = serial
	c.count++
	return c.afterSerial(rest)
}

// afterSerial checks revocationDate and extensions.
func (c *checker) afterSerial(p []byte) error {
	var size int
	switch {
	case len(p) >= 15 && string(p[:8]) == string(c.day[:]) && clock(p[7:15]):
		size = 15
	case len(p) >= 15 && p[0] == tagUTCTime && p[1] == 13 && date(p[2:15]):
		size = 15
		copy(c.day[:], p)
		c.reads++
	case len(p) >= 17 && p[0] == tagGeneralizedTime && p[1] == 15 && string(p[2:6]) >= "2050" && date(p[2:17]): // RFC 5280 section 5.1.2.4
		size = 17
		c.reads++
	default:
		return notEntries("a revocation date is malformed")
	}
	if p = p[size:]; len(p) == 0 {
		return nil
	}
	if len(p) < 2 || p[0] != tagSequence || int(p[1]) != len(p)-2 || len(p) == 2 {
		return notEntries("extensions of an entry are malformed")
	}
	p = p[2:]
	if len(p) > len(reasonPiece) && string(p[:len(reasonPiece)]) == reasonPiece {
		if r := bulkhead.Reason(p[len(reasonPiece)]); r == bulkhead.Unspecified || !reasonAllowed(r) {
			return bulkhead.Faultf(bulkhead.KindBadRevocationReason, "CRL: reason %d may not stand in a CRL (BR 7.2.2)", int(r))
		}
		p = p[len(reasonPiece)+1:]
	}
	if len(p) > 0 && (len(p) != len(invalidityPiece)+15 || string(p[:len(invalidityPiece)]) != invalidityPiece || !date(p[len(invalidityPiece):])) {
		return notEntries("extensions of an entry are malformed")
	}
	return nil
}

// clock checks the end of a date whose day is known: a digit of that day, HHMMSS and Z. The first digits are at most 2, 5 and 5, the
// others 9: only above that does the sum carry, into the half of an octet that must say that it is a digit.
func clock(p []byte) bool {
	v := binary.BigEndian.Uint64(p)
	const digits, high = 0x3030303030303000, 0xf0f0f0f0f0f0f000
	return v&high == digits && (v+0x060d060a060a0600)&high == digits && v&0xff == 'Z' && v>>40&0xffff < '2'<<8|'4'
}

// date checks YYMMDDHHMMSSZ, which stands for 1950 to 2049, and YYYYMMDDHHMMSSZ.
func date(p []byte) bool {
	var v [7]int
	n := len(p) / 2
	for i := range n {
		hi, lo := p[2*i]-'0', p[2*i+1]-'0'
		if hi > 9 || lo > 9 {
			return false
		}
		v[i] = int(hi)*10 + int(lo)
	}
	year, rest := v[0], v[1:]
	switch {
	case n == 7:
		year, rest = 100*v[0]+v[1], v[2:]
		if year < 1950 {
			return false
		}
	case year < 50:
		year += 2000
	default:
		year += 1900
	}
	month, day, hour, minute, second := rest[0], rest[1], rest[2], rest[3], rest[4]
	if p[len(p)-1] != 'Z' || month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59 || second > 59 {
		return false
	}
	days := int(monthDays[month-1])
	if month == 2 && year%4 == 0 && (year%100 != 0 || year%400 == 0) {
		days++
	}
	return day <= days
}

var monthDays = [12]uint8{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}

func notEntries(what string) error {
	return bulkhead.NewFault(bulkhead.KindMalformed, "CRL: this is no entry file: "+what).WithHint("encode the entries of the shard again")
}
