package pack

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/bits"
	"slices"
	"sync/atomic"
	"time"

	"bulkhead"
	"bulkhead/pki/ocsp"
)

const keySize = bulkhead.MaxSerialOctets

// Pack reads a pack from bytes that it does not copy: a mapped file as a rule. The bytes must not change, and must
// stay mapped while the pack, or a slice found in it, is in use. Safe for concurrent use.
type Pack struct {
	data       []byte
	size       int    // of what stands before the tail
	entries    []byte // header and entries: the range an entry may lie in
	index      []byte
	indexAt    int
	n          int
	issuer     Identity
	responders [][]byte
	early      int64
	late       int64
	first      [keySize]byte
	last       [keySize]byte
	tail       bulkhead.Hash
	pages      pages
	directory  directory // of version 1: made by Check
}

// Found is what Find sees of one entry. TBS, Signature and Responder point into the pack.
type Found struct {
	TBS, Signature []byte
	Responder      []byte // DER certificate to embed; empty when the issuer signed for itself
	ResponderIndex int
	ThisUpdate     int64 // seconds since 1970
	NextUpdate     int64
	Revoked        bool
	ETag           [ETagSize]byte
}

// Open checks the structure of a pack and its tail, in time that hardly depends on the number of entries. It trusts no offset;
// it does not read the entries, which are verified when they are found, and not the digest of the object: see Tail and Verify.
func Open(b []byte) (*Pack, error) {
	if len(b) >= headerSize+trailerSize1 && string(b[:len(magic1)]) == magic1 {
		return open1(b)
	}
	if len(b) < headerSize+trailerSize || string(b[:len(magic)]) != magic {
		return nil, fmt.Errorf("pack: not a pack of this version")
	}
	t := b[len(b)-trailerSize:]
	if string(t[trailerSize-32-len(magic):trailerSize-32]) != magic {
		return nil, fmt.Errorf("pack: cut short or not finished")
	}
	at := u64(t[16:])
	if at < uint64(headerSize) || at > uint64(len(b)-trailerSize) {
		return nil, fmt.Errorf("pack: offsets do not fit %d octets", len(b))
	}
	p := &Pack{data: b, size: int(at)}
	tail := bytes.Clone(b[p.size:])
	sum := sha256.Sum256(tail[:len(tail)-sha256.Size])
	if !bytes.Equal(sum[:], tail[len(tail)-sha256.Size:]) {
		return nil, fmt.Errorf("pack: digest of the tail does not match")
	}
	p.tail = sum
	digests := (p.size + PageSize - 1) / PageSize * sha256.Size
	if digests > len(tail)-trailerSize {
		return nil, fmt.Errorf("pack: offsets do not fit %d octets", len(b))
	}
	p.pages.digests = tail[:digests]
	p.pages.good = make([]atomic.Uint32, (p.Pages()+31)/32)
	t = tail[len(tail)-trailerSize:]
	if err := p.parts(u64(t), u64(t[8:]), u64(t[24:]), u64(t[32:])); err != nil {
		return nil, err
	}
	p.early, p.late = int64(u64(t[40:])), int64(u64(t[48:]))
	p.first, p.last = [keySize]byte(t[56:]), [keySize]byte(t[56+keySize:])
	p.directory = directoryOf(&p.first, &p.last, p.n)
	return p, p.directory.read(tail[digests:len(tail)-trailerSize], p.n)
}

// open1 is Open for version 1.
func open1(b []byte) (*Pack, error) {
	p := &Pack{data: b, size: len(b) - trailerSize1}
	t := b[p.size:]
	if string(t[48:48+len(magic1)]) != magic1 {
		return nil, fmt.Errorf("pack: cut short or not finished")
	}
	if err := p.parts(u64(t), u64(t[8:]), u64(t[16:]), u64(t[24:])); err != nil {
		return nil, err
	}
	p.early, p.late = int64(u64(t[32:])), int64(u64(t[40:]))
	if p.n > 0 {
		p.first, p.last = *p.key(0), *p.key(p.n - 1)
	}
	p.directory = directoryOf(&p.first, &p.last, 0)
	return p, nil
}

// parts finds what stands before the tail.
func (p *Pack) parts(responders, index, n, certs uint64) error {
	end := uint64(p.size)
	if responders < uint64(headerSize) || responders > index || index > end || n > (end-index)/indexSize || n*indexSize != end-index || certs > MaxResponders {
		return fmt.Errorf("pack: offsets do not fit %d octets", len(p.data))
	}
	if !p.sound(0, headerSize) || !p.sound(int(responders), int(index)) {
		return ErrDamaged
	}
	p.entries, p.index, p.indexAt, p.n = p.data[:responders], p.data[index:end], int(index), int(n)
	p.issuer = identityAt(p.data[len(magic):])
	table := bytes.Clone(p.data[responders:index])
	for range certs {
		if len(table) < 4 || uint64(u32(table)) > uint64(len(table)-4) || u32(table) > MaxResponderSize {
			return fmt.Errorf("pack: responder table is damaged")
		}
		size := 4 + int(u32(table))
		p.responders = append(p.responders, table[4:size:size])
		table = table[size:]
	}
	if len(table) != 0 {
		return fmt.Errorf("pack: responder table is damaged")
	}
	return nil
}

// Verify reads the whole pack: its digests, and what Check sees.
func (p *Pack) Verify() error {
	if p.pages.good == nil {
		body := p.data[:len(p.data)-sha256.Size]
		if sum := sha256.Sum256(body); !bytes.Equal(sum[:], p.data[len(body):]) {
			return fmt.Errorf("pack: digest does not match")
		}
		return p.check()
	}
	for n := range p.Pages() {
		if !p.CheckPage(n, p.data[n*PageSize:min((n+1)*PageSize, p.size)]) {
			return ErrDamaged
		}
	}
	return p.check()
}

// Check reads the whole pack but its digests, for those who have just verified the object's digest: order of the index, every
// entry's bounds, the earliest and latest nextUpdate. Of version 1 it also makes the directory that speeds lookups up; call it
// before such a pack is shared.
func (p *Pack) Check() error {
	p.vouch()
	return p.check()
}

func (p *Pack) check() error {
	var f raw
	var early, late int64
	for i := range p.n {
		if p.whole(i, &f) != nil {
			return fmt.Errorf("pack: entry %d is damaged", i)
		}
		if i == 0 {
			early, late = f.NextUpdate, f.NextUpdate
		}
		early, late = min(early, f.NextUpdate), max(late, f.NextUpdate)
	}
	if early != p.early || late != p.late {
		return fmt.Errorf("pack: trailer and entries disagree on nextUpdate")
	}
	d := directoryOf(&p.first, &p.last, p.n)
	if err := d.fill(p.index, p.n); err != nil {
		return err
	}
	if p.pages.good == nil {
		p.directory = d
		return nil
	}
	if p.n > 0 && (*p.key(0) != p.first || *p.key(p.n - 1) != p.last) || !slices.Equal(d.ends, p.directory.ends) {
		return fmt.Errorf("pack: index and directory disagree")
	}
	return nil
}

// Issuer is whose answers the pack holds.
func (p *Pack) Issuer() Identity { return p.issuer }

// Len is the number of answers.
func (p *Pack) Len() int { return p.n }

// Window is the earliest and the latest nextUpdate among the answers; zero times when there are none.
func (p *Pack) Window() (early, late time.Time) {
	if p.n == 0 {
		return time.Time{}, time.Time{}
	}
	return time.Unix(p.early, 0).UTC(), time.Unix(p.late, 0).UTC()
}

// Responders are the certificates by index; empty where the issuer signs for itself.
func (p *Pack) Responders() [][]byte { return p.responders }

func keyAt(index []byte, i int) *[keySize]byte { return (*[keySize]byte)(index[i*indexSize:]) }

func (p *Pack) key(i int) *[keySize]byte { return keyAt(p.index, i) }

// indexed reports whether record i of the index may be read.
func (p *Pack) indexed(i int) bool {
	at := p.indexAt + i*indexSize
	return p.sound(at, at+indexSize)
}

// raw is an entry with both of its answers.
type raw struct {
	Found
	extra          bool
	tbs256, sig256 []byte
	etag256        [ETagSize]byte
}

// entry decodes entry i, whose record of the index may be read, and leaves its second answer undecoded from octet rest on.
func (p *Pack) entry(i int, out *Found) (rest int, extra bool, err error) {
	off := u64(p.index[i*indexSize+keySize:])
	if off < uint64(headerSize) || off > uint64(len(p.entries)) || uint64(len(p.entries))-off < entrySize {
		return 0, false, ErrDamaged
	}
	at := int(off)
	if !p.sound(at, at+entrySize) {
		return 0, false, ErrDamaged
	}
	e := p.entries[at:]
	responder, tbs, sig := u16(e[34:]), u16(e[36:]), u16(e[38:])
	if responder >= len(p.responders) || tbs == 0 || sig == 0 || tbs+sig > len(e)-entrySize || e[32] > 1 || e[33] > 1 {
		return 0, false, ErrDamaged
	}
	out.ETag = [ETagSize]byte(e)
	out.ThisUpdate, out.NextUpdate = int64(u64(e[16:])), int64(u64(e[24:]))
	out.Revoked, extra = e[32] == 1, e[33] == 1
	out.ResponderIndex, out.Responder = responder, p.responders[responder]
	e = e[entrySize:]
	out.TBS, out.Signature = e[:tbs:tbs], e[tbs:tbs+sig:tbs+sig]
	rest = at + entrySize + tbs + sig
	if !p.sound(at, rest) || out.NextUpdate <= out.ThisUpdate {
		return 0, false, ErrDamaged
	}
	return rest, extra, nil
}

// second decodes what entry left.
func (p *Pack) second(at int) (etag [ETagSize]byte, tbs, sig []byte, err error) {
	rest := p.entries[at:]
	if len(rest) < extraSize || !p.sound(at, at+extraSize) {
		return etag, nil, nil, ErrDamaged
	}
	n, m := u16(rest[16:]), u16(rest[18:])
	if n == 0 || m == 0 || n+m > len(rest)-extraSize || !p.sound(at, at+extraSize+n+m) {
		return etag, nil, nil, ErrDamaged
	}
	etag = [ETagSize]byte(rest)
	rest = rest[extraSize:]
	return etag, rest[:n:n], rest[n : n+m : n+m], nil
}

// whole decodes all of entry i.
func (p *Pack) whole(i int, out *raw) error {
	out.extra, out.tbs256, out.sig256 = false, nil, nil
	if !p.indexed(i) {
		return ErrDamaged
	}
	rest, extra, err := p.entry(i, &out.Found)
	if err != nil || !extra {
		return err
	}
	out.extra = true
	out.etag256, out.tbs256, out.sig256, err = p.second(rest)
	return err
}

// Find looks a serial up (left-padded, as bulkhead.Serial.Fixed gives it) and fills out with the answer for SHA-1
// CertIDs. It does not allocate. The error is ErrDamaged.
func (p *Pack) Find(serial *[keySize]byte, out *Found) (bool, error) {
	return p.FindHash(serial, ocsp.SHA1, out)
}

// FindHash is Find for a CertID of the given hash: ocsp.SHA256 takes the second answer where there is one.
func (p *Pack) FindHash(serial *[keySize]byte, hash ocsp.HashAlgorithm, out *Found) (bool, error) {
	i, err := p.search(serial)
	if i < 0 || err != nil {
		return false, err
	}
	rest, extra, err := p.entry(i, out)
	if err == nil && extra && hash == ocsp.SHA256 {
		out.ETag, out.TBS, out.Signature, err = p.second(rest)
	}
	return err == nil, err
}

// search interpolates a few times, which lands within a handful of records because serials are random, and halves
// what remains, so that any distribution costs at most log2(n) more.
func (p *Pack) search(serial *[keySize]byte) (int, error) {
	if p.n == 0 || bytes.Compare(serial[:], p.first[:]) < 0 || bytes.Compare(serial[:], p.last[:]) > 0 {
		return -1, nil
	}
	const rounds, near = 5, 4
	window, shift := p.directory.window, p.directory.shift
	lo, hi := 0, p.n-1 // inclusive
	want := u64(serial[window:])
	from, to := u64(p.first[window:]), u64(p.last[window:])
	if p.directory.ends != nil {
		b := (want - from) >> shift
		lo, hi = int(p.directory.ends[b]), int(p.directory.ends[b+1])-1
		from, to = from+b<<shift, from+(b+1)<<shift-1
	}
	for round := 0; lo <= hi; round++ {
		mid := int(uint(lo+hi) >> 1)
		if round < rounds && hi-lo > near && from < to && from <= want && want <= to {
			h, l := bits.Mul64(want-from, uint64(hi-lo))
			q, _ := bits.Div64(h, l, to-from) // h < to-from, because want-from <= to-from and hi-lo < 2^63
			mid = lo + int(q)
		}
		if !p.indexed(mid) {
			return -1, ErrDamaged
		}
		k := p.key(mid)
		switch c := bytes.Compare(serial[:], k[:]); {
		case c == 0:
			return mid, nil
		case c > 0:
			lo, from = mid+1, u64(k[window:])
		default:
			hi, to = mid-1, u64(k[window:])
		}
	}
	return -1, nil
}

// Each calls f for every answer in serial order and stops at its first error. The slices point into the pack.
func (p *Pack) Each(f func(Entry) error) error {
	if !p.sound(p.indexAt, p.size) {
		return ErrDamaged
	}
	var x raw
	for i := range p.n {
		serial, err := bulkhead.SerialFromBytes(p.key(i)[:])
		if p.whole(i, &x) != nil || err != nil {
			return fmt.Errorf("pack: entry %d is damaged", i)
		}
		e := Entry{Serial: serial, TBS: x.TBS, Signature: x.Signature, TBS256: x.tbs256, Signature256: x.sig256, Responder: x.ResponderIndex, Revoked: x.Revoked,
			ThisUpdate: time.Unix(x.ThisUpdate, 0).UTC(), NextUpdate: time.Unix(x.NextUpdate, 0).UTC()}
		if err := f(e); err != nil {
			return err
		}
	}
	return nil
}

// Merge writes into w the answers of packs, newest pack first: of a serial the first pack that knows it is heard and
// the others are not. skip, when not nil, drops serials (those long expired). No signature is made and none changes.
// All packs must be of w's issuer.
func Merge(w *Writer, skip func(serial *[bulkhead.MaxSerialOctets]byte) bool, packs ...*Pack) error {
	for _, p := range packs {
		if p.issuer != w.issuer {
			return fmt.Errorf("pack: merge of packs of different issuers")
		}
		if !p.sound(p.indexAt, p.size) {
			return ErrDamaged
		}
	}
	at := make([]int, len(packs))
	var f raw
	for {
		best := -1
		for i, p := range packs {
			if at[i] < p.n && (best < 0 || bytes.Compare(p.key(at[i])[:], packs[best].key(at[best])[:]) < 0) {
				best = i
			}
		}
		if best < 0 {
			return nil
		}
		key := *packs[best].key(at[best])
		if packs[best].whole(at[best], &f) != nil {
			return fmt.Errorf("pack: entry %x is damaged", key[:])
		}
		for i, p := range packs {
			if at[i] < p.n && *p.key(at[i]) == key {
				at[i]++
			}
		}
		if skip != nil && skip(&key) {
			continue
		}
		var err error
		if f.ResponderIndex, err = w.AddResponder(f.Responder); err != nil {
			return err
		}
		if err := w.add(&key, &f); err != nil {
			return err
		}
	}
}
