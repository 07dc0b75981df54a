package crl

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/maphash"
	"io"

	"bulkhead"
)

// EncodeEntries writes the DER of entries one after the other: the entry file of a shard, which WriteFile makes a CRL of.
// Whoever keeps such files between CRLs encodes each entry once. Faults as of Write.
func EncodeEntries(w io.Writer, entries Entries) (count int, size int64, err error) {
	var c encoder
	buf := make([]byte, 0, chunkSize+maxEntry)
	for e, err := range entries() {
		if err != nil {
			return 0, 0, fmt.Errorf("read CRL entries: %w", err)
		}
		if buf, err = c.append(buf, &e); err != nil {
			return 0, 0, err
		}
		count++
		if len(buf) < chunkSize {
			continue
		}
		if _, err := w.Write(buf); err != nil {
			return 0, 0, fmt.Errorf("write CRL entries: %w", err)
		}
		size += int64(len(buf))
		buf = buf[:0]
	}
	if _, err := w.Write(buf); err != nil {
		return 0, 0, fmt.Errorf("write CRL entries: %w", err)
	}
	return count, size + int64(len(buf)), nil
}

// WriteFile is WriteWith from an entry file of size octets. The file is read twice, in chunks: once to hold every entry
// against the rules (form, order, reason) and to hash what will be signed, once to write. Memory does not depend on its
// size. A file that changed in between is KindConflict, one that is no entry file KindMalformed.
func WriteFile(w io.Writer, info Info, file io.ReaderAt, size int64, sign DigestSigner) (Result, error) {
	if w == nil || file == nil || size < 0 || sign == nil {
		return Result{}, bulkhead.NewFault(bulkhead.KindMalformed, "CRL: writer, entry file and signing function are needed")
	}
	if err := checkInfo(info); err != nil {
		return Result{}, err
	}
	s, err := schemeFor(info.Issuer)
	if err != nil {
		return Result{}, err
	}
	l := &list{scheme: s, seed: maphash.MakeSeed(), body: size}
	if size > 0 {
		l.count = 1 // known after the first pass; that there are any is known now
	}
	if l.head, err = head(info, s); err != nil {
		return Result{}, fmt.Errorf("encode CRL header: %w", err)
	}
	if l.tail, err = tail(info); err != nil {
		return Result{}, fmt.Errorf("encode CRL extensions: %w", err)
	}
	f := &entryFile{list: l, file: file, buf: make([]byte, chunkSize+maxEntry)}
	signature, err := f.sign(info, sign)
	if err != nil {
		return Result{}, err
	}
	return f.write(w, signature)
}

// entryFile is a list whose entries stand encoded in a file.
type entryFile struct {
	*list
	file io.ReaderAt
	buf  []byte
}

// sign is the first pass.
func (f *entryFile) sign(info Info, sign DigestSigner) ([]byte, error) {
	named := sha256.New()
	signed, out := hash.Hash(named), io.Writer(named)
	if f.scheme.hash == crypto.SHA384 {
		signed = sha512.New384()
		out = io.MultiWriter(named, signed)
	}
	sum := f.newSum()
	var c checker
	if err := f.emit(out, sum, &c); err != nil {
		return nil, err
	}
	f.sum, f.count = sum.Sum64(), c.count
	return f.signed(info.Issuer, named, signed, sign)
}

// write is the second pass.
func (f *entryFile) write(w io.Writer, signature []byte) (Result, error) {
	whole, after := f.frame(w, signature)
	if _, err := whole.Write(appendHeader(nil, tagSequence, f.tbsSize()+int64(len(after)))); err != nil {
		return Result{}, fmt.Errorf("write CRL: %w", err)
	}
	sum := f.newSum()
	if err := f.emit(whole, sum, nil); err != nil {
		return Result{}, fmt.Errorf("write CRL: %w", err)
	}
	if sum.Sum64() != f.sum {
		return Result{}, errChanged()
	}
	return f.finish(whole, after)
}

// emit sends the TBSCertList to out, the entries to sum as well, after c has seen them when it is not nil.
func (f *entryFile) emit(out io.Writer, sum *maphash.Hash, c *checker) error {
	if err := f.before(out); err != nil {
		return err
	}
	keep := 0 // octets of an entry that the last chunk cut off
	for at := int64(0); at < f.body; {
		n := int(min(int64(len(f.buf)-keep), f.body-at))
		if err := readFull(f.file, f.buf[keep:keep+n], at); err != nil {
			return err
		}
		at += int64(n)
		chunk := f.buf[:keep+n]
		if c != nil {
			used, err := c.check(chunk, at == f.body)
			if err != nil {
				return err
			}
			chunk, keep = chunk[:used], len(chunk)-used
		}
		_, _ = sum.Write(chunk) // never fails
		if _, err := out.Write(chunk); err != nil {
			return err
		}
		copy(f.buf, f.buf[len(chunk):len(chunk)+keep])
	}
	_, err := out.Write(f.tail)
	return err
}

func readFull(r io.ReaderAt, p []byte, at int64) error {
	n, err := r.ReadAt(p, at)
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return errChanged()
	default:
		return fmt.Errorf("read CRL entries: %w", err)
	}
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
