package pack

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math"
	"math/bits"
	"runtime"
	"sync"
	"time"

	"bulkhead"
	"bulkhead/pki/ocsp"
)

const keySize = bulkhead.MaxSerialOctets

// Pack reads a pack from bytes that it does not copy: a mapped file as a rule. The bytes must not change, and must
// stay mapped while the pack, or a slice found in it, is in use. Safe for concurrent use.
type Pack struct {
	data       []byte
	entries    []byte // header and entries: the range an entry may lie in
	index      []byte
	n          int
	issuer     Identity
	responders [][]byte
	early      int64
	late       int64
	first      [keySize]byte
	last       [keySize]byte
	window     int // octets that all serials have in common, where interpolation begins to look

	// buckets, made by Check, says for each value of the serial's first bits after the window (less those of the
	// first serial) how many entries lie below: a lookup then touches one or two cache lines of the index.
	buckets []uint32
	shift   int
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

// Open checks the structure of a pack in time that does not depend on the number of entries. It trusts no offset; it
// does not read the entries, nor the digest: see Verify.
func Open(b []byte) (*Pack, error) {
	if len(b) < headerSize+trailerSize || string(b[:len(magic)]) != magic {
		return nil, fmt.Errorf("pack: not a pack of this version")
	}
	t := b[len(b)-trailerSize:]
	if string(t[48:48+len(magic)]) != magic {
		return nil, fmt.Errorf("pack: cut short or not finished")
	}
	responders, index, n, certs := u64(t), u64(t[8:]), u64(t[16:]), u64(t[24:])
	end := uint64(len(b) - trailerSize)
	if responders < uint64(headerSize) || responders > index || index > end || n > (end-index)/indexSize || n*indexSize != end-index || certs > MaxResponders {
		return nil, fmt.Errorf("pack: offsets do not fit %d octets", len(b))
	}
	p := &Pack{data: b, entries: b[:responders], index: b[index:end], n: int(n), issuer: identityAt(b[len(magic):]),
		early: int64(u64(t[32:])), late: int64(u64(t[40:]))}
	table := b[responders:index]
	for range certs {
		if len(table) < 4 || uint64(u32(table)) > uint64(len(table)-4) || u32(table) > MaxResponderSize {
			return nil, fmt.Errorf("pack: responder table is damaged")
		}
		size := 4 + int(u32(table))
		p.responders = append(p.responders, table[4:size:size])
		table = table[size:]
	}
	if len(table) != 0 {
		return nil, fmt.Errorf("pack: responder table is damaged")
	}
	if p.n > 0 {
		p.first, p.last = *p.key(0), *p.key(p.n - 1)
		for p.window < keySize-8 && p.first[p.window] == p.last[p.window] {
			p.window++
		}
	}
	return p, nil
}

// Verify reads the whole pack: the trailing digest, and what Check sees.
func (p *Pack) Verify() error {
	body := p.data[:len(p.data)-sha256.Size]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], p.data[len(body):]) {
		return fmt.Errorf("pack: digest does not match")
	}
	return p.Check()
}

// Check reads the whole pack but its digest, for those who know the object's digest already: order of the index,
// every entry's bounds, the earliest and latest nextUpdate. It also makes a directory that speeds lookups up, at
// most half an octet of memory for each entry; call it before the pack is shared.
func (p *Pack) Check() error {
	var f raw
	var early, late int64
	for i := range p.n {
		if !p.whole(i, &f) {
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
	return p.makeBuckets(nil)
}

// CheckIndex is Check for a pack that was checked whole before, by whoever can say that nobody has touched it since: it reads
// the index and nothing else. ahead, when not nil, is told before octets from from up to to of the pack are read, from many
// goroutines: whoever can has them brought into memory at once. Find stays within bounds whatever an entry holds.
func (p *Pack) CheckIndex(ahead func(from, to int)) error { return p.makeBuckets(ahead) }

// indexPart is how many entries of the index are read in one piece.
const indexPart = 1 << 17

// Of the buckets of a pack: how many entries fall into one, and from how many entries on they are worth their memory.
// Packs small enough to stay in the processor's cache go without.
const perBucket, worthwhile = 16, 4096

// makeBuckets reads the index once, on all processors: its order, and where in it each bucket ends.
func (p *Pack) makeBuckets(ahead func(from, to int)) error {
	start := len(p.data) - trailerSize - len(p.index)
	bucketed := p.n >= worthwhile && p.n <= math.MaxUint32
	var buckets []uint32
	var from uint64
	if bucketed {
		from = p.at(0)
		to := p.at(p.n - 1)
		if bucketed = to > from; bucketed {
			p.shift = max(0, bits.Len64(to-from)-bits.Len(uint(p.n/perBucket)))
			buckets = make([]uint32, (to-from)>>p.shift+2)
		}
	}
	workers := 1
	if bucketed {
		workers = runtime.GOMAXPROCS(0)
	}
	type end struct{ bucket, next uint64 } // of a worker's part: its last bucket, which the next one may go on with
	ends, wrong := make([]end, workers), make([]int, workers)
	var g sync.WaitGroup
	for w := range workers {
		g.Go(func() {
			first, last := w*p.n/workers, (w+1)*p.n/workers
			wrong[w] = -1
			at, before := uint64(0), uint64(0)
			if first > 0 {
				before = u64(p.key(first - 1)[:])
			}
			for i := first; i < last; i++ {
				if ahead != nil && (i-first)%indexPart == 0 {
					ahead(start+i*indexSize, start+min(i+indexPart, last)*indexSize)
				}
				// Nearly always the first octets say it.
				head := u64(p.key(i)[:])
				if i > 0 && (head < before || head == before && bytes.Compare(p.key(i - 1)[:], p.key(i)[:]) >= 0) {
					wrong[w] = i
					return
				}
				before = head
				if !bucketed {
					continue
				}
				b := (p.at(i)-from)>>p.shift + 1
				if b >= uint64(len(buckets)) {
					wrong[w] = i
					return
				}
				if b != at && i > first {
					buckets[at] = uint32(i)
				}
				at = b
			}
			ends[w] = end{at, uint64(last)}
		})
	}
	g.Wait()
	for _, i := range wrong {
		if i >= 0 {
			return fmt.Errorf("pack: index is not sorted at %d", i)
		}
	}
	if !bucketed {
		return nil
	}
	for _, e := range ends {
		buckets[e.bucket] = max(buckets[e.bucket], uint32(e.next))
	}
	for i := 1; i < len(buckets); i++ {
		buckets[i] = max(buckets[i], buckets[i-1]) // those that nothing fell into
	}
	p.buckets = buckets
	return nil
}

// at is where interpolation sees entry i.
func (p *Pack) at(i int) uint64 {
	return u64(p.key(i)[p.window:])
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

func (p *Pack) key(i int) *[keySize]byte {
	return (*[keySize]byte)(p.index[i*indexSize:])
}

// raw is an entry with both of its answers.
type raw struct {
	Found
	extra          bool
	tbs256, sig256 []byte
	etag256        [ETagSize]byte
}

// bytesOf are the bytes from the beginning of entry i to the end of entries; nil when it does not lie there.
func (p *Pack) bytesOf(i int) []byte {
	at := u64(p.index[i*indexSize+keySize:])
	if at < uint64(headerSize) || at > uint64(len(p.entries)) || uint64(len(p.entries))-at < entrySize {
		return nil
	}
	return p.entries[at:]
}

// entry decodes entry i and leaves its second answer undecoded in rest; false when it is damaged.
func (p *Pack) entry(i int, out *Found) (rest []byte, extra, ok bool) {
	e := p.bytesOf(i)
	if e == nil {
		return nil, false, false
	}
	responder, tbs, sig := u16(e[34:]), u16(e[36:]), u16(e[38:])
	if responder >= len(p.responders) || tbs == 0 || sig == 0 || tbs+sig > len(e)-entrySize || e[32] > 1 || e[33] > 1 {
		return nil, false, false
	}
	out.ETag = [ETagSize]byte(e)
	out.ThisUpdate, out.NextUpdate = int64(u64(e[16:])), int64(u64(e[24:]))
	out.Revoked, extra = e[32] == 1, e[33] == 1
	out.ResponderIndex, out.Responder = responder, p.responders[responder]
	e = e[entrySize:]
	out.TBS, out.Signature = e[:tbs:tbs], e[tbs:tbs+sig:tbs+sig]
	return e[tbs+sig:], extra, out.NextUpdate > out.ThisUpdate
}

// second decodes what entry left.
func second(rest []byte) (etag [ETagSize]byte, tbs, sig []byte, ok bool) {
	if len(rest) < extraSize {
		return etag, nil, nil, false
	}
	n, m := u16(rest[16:]), u16(rest[18:])
	if n == 0 || m == 0 || n+m > len(rest)-extraSize {
		return etag, nil, nil, false
	}
	etag = [ETagSize]byte(rest)
	rest = rest[extraSize:]
	return etag, rest[:n:n], rest[n : n+m : n+m], true
}

// whole decodes all of entry i.
func (p *Pack) whole(i int, out *raw) bool {
	rest, extra, ok := p.entry(i, &out.Found)
	out.extra, out.tbs256, out.sig256 = extra, nil, nil
	if ok && extra {
		out.etag256, out.tbs256, out.sig256, ok = second(rest)
	}
	return ok
}

// Find looks a serial up (left-padded, as bulkhead.Serial.Fixed gives it) and fills out with the answer for SHA-1
// CertIDs. It does not allocate.
func (p *Pack) Find(serial *[keySize]byte, out *Found) bool {
	return p.FindHash(serial, ocsp.SHA1, out)
}

// FindHash is Find for a CertID of the given hash: ocsp.SHA256 takes the second answer where there is one.
func (p *Pack) FindHash(serial *[keySize]byte, hash ocsp.HashAlgorithm, out *Found) bool {
	i := p.search(serial)
	if i < 0 {
		return false
	}
	rest, extra, ok := p.entry(i, out)
	if ok && extra && hash == ocsp.SHA256 {
		out.ETag, out.TBS, out.Signature, ok = second(rest)
	}
	return ok
}

// search interpolates a few times, which lands within a handful of records because serials are random, and halves
// what remains, so that any distribution costs at most log2(n) more.
func (p *Pack) search(serial *[keySize]byte) int {
	if p.n == 0 || bytes.Compare(serial[:], p.first[:]) < 0 || bytes.Compare(serial[:], p.last[:]) > 0 {
		return -1
	}
	const rounds, near = 5, 4
	lo, hi := 0, p.n-1 // inclusive
	want := u64(serial[p.window:])
	from, to := u64(p.first[p.window:]), u64(p.last[p.window:])
	if p.buckets != nil {
		b := (want - from) >> p.shift
		lo, hi = int(p.buckets[b]), int(p.buckets[b+1])-1
		from, to = from+b<<p.shift, from+(b+1)<<p.shift-1
	}
	for round := 0; lo <= hi; round++ {
		mid := int(uint(lo+hi) >> 1)
		if round < rounds && hi-lo > near && from < to && from <= want && want <= to {
			h, l := bits.Mul64(want-from, uint64(hi-lo))
			q, _ := bits.Div64(h, l, to-from) // h < to-from, because want-from <= to-from and hi-lo < 2^63
			mid = lo + int(q)
		}
		k := p.key(mid)
		switch c := bytes.Compare(serial[:], k[:]); {
		case c == 0:
			return mid
		case c > 0:
			lo, from = mid+1, u64(k[p.window:])
		default:
			hi, to = mid-1, u64(k[p.window:])
		}
	}
	return -1
}

// Each calls f for every answer in serial order and stops at its first error. The slices point into the pack.
func (p *Pack) Each(f func(Entry) error) error {
	var x raw
	for i := range p.n {
		serial, err := bulkhead.SerialFromBytes(p.key(i)[:])
		if err != nil || !p.whole(i, &x) {
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
		if !packs[best].whole(at[best], &f) {
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
