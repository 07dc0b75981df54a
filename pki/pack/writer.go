package pack

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"math"
	"time"

	"bulkhead"
	"bulkhead/pki/ocsp"
)

// Entry is what a pack says of one serial. One answer may hold a statement for each CertID hash. Readers that take
// only answers with a single statement are served by two: then TBS is for SHA-1 and TBS256 for SHA-256 CertIDs.
type Entry struct {
	Serial         bulkhead.Serial
	TBS, Signature []byte // DER ResponseData, DER signature value
	TBS256         []byte // nil when TBS is for both hashes
	Signature256   []byte
	Responder      int // index from AddResponder
	ThisUpdate     time.Time
	NextUpdate     time.Time // seconds; both as in the TBS
	Revoked        bool
}

// Writer streams one pack. Entries go in by ascending serial; in memory it keeps the index, 28 octets an entry, and 32 octets
// for each page.
type Writer struct {
	issuer  Identity
	out     *bufio.Writer
	outer   hash.Hash // of the whole object
	page    hash.Hash // of the page that is being filled
	pages   []byte    // digests of those that are full
	offset  uint64
	index   []byte
	certs   [][]byte
	known   map[string]int
	early   int64
	late    int64
	scratch []byte
	err     error
}

// NewWriter begins a pack of issuer's answers on w.
func NewWriter(w io.Writer, issuer ocsp.Issuer) (*Writer, error) {
	id := IdentityOf(issuer)
	if w == nil || id == IdentityOf(ocsp.Issuer{}) {
		return nil, fmt.Errorf("pack: a writer and an issuer are required")
	}
	p := &Writer{issuer: id, outer: sha256.New(), page: sha256.New(),
		known: map[string]int{}, early: math.MaxInt64, late: math.MinInt64}
	p.out = bufio.NewWriterSize(w, 64<<10)
	p.write(id.appendTo([]byte(magic)))
	return p, p.err
}

func (w *Writer) write(b []byte) {
	if w.err != nil {
		return
	}
	for rest := b; len(rest) > 0; {
		n := min(len(rest), PageSize-int(w.offset%PageSize))
		w.page.Write(rest[:n])
		rest, w.offset = rest[n:], w.offset+uint64(n)
		if w.offset%PageSize == 0 {
			w.pages = w.page.Sum(w.pages)
			w.page.Reset()
		}
	}
	w.put(b)
}

// put writes what no page holds.
func (w *Writer) put(b []byte) {
	if w.err == nil {
		w.outer.Write(b)
		_, w.err = w.out.Write(b)
	}
}

// AddResponder registers a responder's DER certificate and returns its index; the same certificate gives the same
// index. nil stands for the issuer itself, whose certificate no answer embeds.
func (w *Writer) AddResponder(cert []byte) (int, error) {
	if i, ok := w.known[string(cert)]; ok {
		return i, nil
	}
	if len(w.certs) == MaxResponders || len(cert) > MaxResponderSize {
		return 0, fmt.Errorf("pack: more than %d responders or a certificate over %d octets", MaxResponders, MaxResponderSize)
	}
	w.known[string(cert)] = len(w.certs)
	w.certs = append(w.certs, append([]byte(nil), cert...))
	return len(w.certs) - 1, nil
}

// Len is the number of entries so far.
func (w *Writer) Len() int { return len(w.index) / indexSize }

// Add appends one answer. Serials must ascend strictly.
func (w *Writer) Add(e Entry) error {
	if e.Responder < 0 || e.Responder >= len(w.certs) {
		return fmt.Errorf("pack: entry %s names responder %d, which was not added", e.Serial, e.Responder)
	}
	r := raw{Found: Found{TBS: e.TBS, Signature: e.Signature, ResponderIndex: e.Responder, ThisUpdate: e.ThisUpdate.Unix(),
		NextUpdate: e.NextUpdate.Unix(), Revoked: e.Revoked, ETag: w.etag(e.TBS, e.Signature, e.Responder)}}
	if len(e.TBS256)+len(e.Signature256) > 0 {
		r.extra, r.tbs256, r.sig256, r.etag256 = true, e.TBS256, e.Signature256, w.etag(e.TBS256, e.Signature256, e.Responder)
	}
	key := e.Serial.Fixed()
	return w.add(&key, &r)
}

func (w *Writer) etag(tbs, signature []byte, responder int) [ETagSize]byte {
	w.scratch = ocsp.AppendAssembled(w.scratch[:0], tbs, signature, w.certs[responder])
	sum := sha256.Sum256(w.scratch)
	return [ETagSize]byte(sum[:ETagSize])
}

func fits(part []byte) bool { return len(part) > 0 && len(part) <= MaxPart }

// add writes one entry whose ETags are known.
func (w *Writer) add(key *[bulkhead.MaxSerialOctets]byte, f *raw) error {
	if w.err != nil {
		return w.err
	}
	if *key == ([bulkhead.MaxSerialOctets]byte{}) || !fits(f.TBS) || !fits(f.Signature) || f.extra && !(fits(f.tbs256) && fits(f.sig256)) {
		return fmt.Errorf("pack: entry without serial, or an answer of %d and %d octets", len(f.TBS), len(f.Signature))
	}
	if f.NextUpdate <= f.ThisUpdate {
		return fmt.Errorf("pack: entry %x: nextUpdate is not after thisUpdate", key[:])
	}
	if n := len(w.index); n > 0 && string(w.index[n-indexSize:n-8]) >= string(key[:]) {
		return fmt.Errorf("pack: entry %x is not above the one before it", key[:])
	}
	w.index = append(w.index, key[:]...)
	w.index = binary.BigEndian.AppendUint64(w.index, w.offset)

	b := append(w.scratch[:0], f.ETag[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(f.ThisUpdate))
	b = binary.BigEndian.AppendUint64(b, uint64(f.NextUpdate))
	b = append(b, flag(f.Revoked), flag(f.extra))
	b = binary.BigEndian.AppendUint16(b, uint16(f.ResponderIndex))
	b = binary.BigEndian.AppendUint16(b, uint16(len(f.TBS)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(f.Signature)))
	b = append(b, f.TBS...)
	b = append(b, f.Signature...)
	if f.extra {
		b = append(b, f.etag256[:]...)
		b = binary.BigEndian.AppendUint16(b, uint16(len(f.tbs256)))
		b = binary.BigEndian.AppendUint16(b, uint16(len(f.sig256)))
		b = append(b, f.tbs256...)
		b = append(b, f.sig256...)
	}
	w.scratch = b
	w.early, w.late = min(w.early, f.NextUpdate), max(w.late, f.NextUpdate)
	w.write(b)
	return w.err
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// Finish writes responders, index and tail. The reference it returns has digests and size of the object, no name.
// The writer is of no use afterwards.
func (w *Writer) Finish() (ObjectRef, error) {
	responders := w.offset
	for _, c := range w.certs {
		w.write(binary.BigEndian.AppendUint32(nil, uint32(len(c))))
		w.write(c)
	}
	index := w.offset
	w.write(w.index)
	n := w.Len()
	var first, last [bulkhead.MaxSerialOctets]byte
	if n == 0 {
		w.early, w.late = 0, 0
	} else {
		first, last = *keyAt(w.index, 0), *keyAt(w.index, n-1)
	}
	tail := w.offset
	if tail%PageSize > 0 {
		w.pages = w.page.Sum(w.pages)
	}
	sum := sha256.New()
	d := directoryOf(&first, &last, n)
	if err := d.fill(w.index, n); err != nil && w.err == nil {
		w.err = err
	}
	t := w.pages
	for _, end := range d.ends {
		t = binary.BigEndian.AppendUint32(t, end)
	}
	for _, v := range []uint64{responders, index, tail, uint64(n), uint64(len(w.certs)), uint64(w.early), uint64(w.late)} {
		t = binary.BigEndian.AppendUint64(t, v)
	}
	t = append(append(append(t, first[:]...), last[:]...), magic...)
	sum.Write(t)
	ref := ObjectRef{Tail: bulkhead.Hash(sum.Sum(nil))}
	w.put(append(t, ref.Tail[:]...))
	if w.err == nil {
		w.err = w.out.Flush()
	}
	if w.err != nil {
		return ObjectRef{}, fmt.Errorf("pack: write: %w", w.err)
	}
	ref.Digest, ref.Size = bulkhead.Hash(w.outer.Sum(nil)), int64(w.offset)+int64(len(t)+len(ref.Tail))
	w.err = fmt.Errorf("pack: writer is finished")
	return ref, nil
}
