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

// Entry is one answer as a pack keeps it.
type Entry struct {
	Serial         bulkhead.Serial
	TBS, Signature []byte // DER ResponseData, DER signature value
	Responder      int    // index from AddResponder
	ThisUpdate     time.Time
	NextUpdate     time.Time // seconds; both as in the TBS
	Revoked        bool
}

// Writer streams one pack. Entries go in by ascending serial; in memory it keeps the index, 28 octets an entry.
type Writer struct {
	issuer  Identity
	out     *bufio.Writer
	inner   hash.Hash // up to the trailing digest
	outer   hash.Hash // of the whole object
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
	p := &Writer{issuer: id, inner: sha256.New(), outer: sha256.New(),
		known: map[string]int{}, early: math.MaxInt64, late: math.MinInt64}
	p.out = bufio.NewWriterSize(w, 64<<10)
	p.write(id.appendTo([]byte(magic)))
	return p, p.err
}

func (w *Writer) write(b []byte) {
	if w.err != nil {
		return
	}
	w.inner.Write(b)
	w.outer.Write(b)
	w.offset += uint64(len(b))
	_, w.err = w.out.Write(b)
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
	w.scratch = ocsp.AppendAssembled(w.scratch[:0], e.TBS, e.Signature, w.certs[e.Responder])
	sum := sha256.Sum256(w.scratch)
	key := e.Serial.Fixed()
	return w.add(&key, &Found{TBS: e.TBS, Signature: e.Signature, ResponderIndex: e.Responder,
		ThisUpdate: e.ThisUpdate.Unix(), NextUpdate: e.NextUpdate.Unix(), Revoked: e.Revoked, ETag: [ETagSize]byte(sum[:ETagSize])})
}

// add writes one entry whose ETag is known.
func (w *Writer) add(key *[bulkhead.MaxSerialOctets]byte, f *Found) error {
	if w.err != nil {
		return w.err
	}
	if *key == ([bulkhead.MaxSerialOctets]byte{}) || len(f.TBS) == 0 || len(f.TBS) > MaxPart || len(f.Signature) == 0 || len(f.Signature) > MaxPart {
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
	status := byte(statusGood)
	if f.Revoked {
		status = statusRevoked
	}
	b = append(b, status, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(f.ResponderIndex))
	b = binary.BigEndian.AppendUint16(b, uint16(len(f.TBS)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(f.Signature)))
	b = append(b, f.TBS...)
	b = append(b, f.Signature...)
	w.scratch = b
	w.early, w.late = min(w.early, f.NextUpdate), max(w.late, f.NextUpdate)
	w.write(b)
	return w.err
}

// Finish writes responders, index and trailer. The reference it returns has digest and size of the object, no name.
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
	if n == 0 {
		w.early, w.late = 0, 0
	}
	var t []byte
	for _, v := range []uint64{responders, index, uint64(n), uint64(len(w.certs)), uint64(w.early), uint64(w.late)} {
		t = binary.BigEndian.AppendUint64(t, v)
	}
	w.write(append(t, magic...))
	w.write(w.inner.Sum(nil))
	if w.err == nil {
		w.err = w.out.Flush()
	}
	if w.err != nil {
		return ObjectRef{}, fmt.Errorf("pack: write: %w", w.err)
	}
	ref := ObjectRef{Digest: bulkhead.Hash(w.outer.Sum(nil)), Size: int64(w.offset)}
	w.err = fmt.Errorf("pack: writer is finished")
	return ref, nil
}
