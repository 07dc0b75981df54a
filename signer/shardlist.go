package signer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"iter"
	"slices"
	"time"

	"bulkhead"
	"bulkhead/internal/spool"
	"bulkhead/pki/crl"
)

// shardList is what a CRL lists: the entry file of a shard, encoded and sorted, and beside it when each certificate ends. A large one
// is in files, so memory does not depend on how many there are.
type shardList struct {
	entries, ends spool.Spool // ends: eight octets each, seconds since 1970
	count         int
	latest        time.Time // no entry was revoked later
	earliest      int64     // no certificate on it ends earlier
	head          uint64    // the record up to this head is in it
	laid          string    // and this change, as if it were in the record
}

// listWriter adds entries to a list, a chunk at a time.
type listWriter struct {
	*shardList
	encoder   crl.Encoder
	buf, ends []byte
}

const listChunk = 64 << 10

func newList(dir string) *listWriter {
	return &listWriter{shardList: &shardList{entries: spool.Spool{Dir: dir}, ends: spool.Spool{Dir: dir}, earliest: 1<<63 - 1}, buf: make([]byte, 0, listChunk+128), ends: make([]byte, 0, listChunk/4)}
}

// end notes that an encoded entry was added to buf.
func (w *listWriter) end(end int64) error {
	w.ends = binary.LittleEndian.AppendUint64(w.ends, uint64(end))
	w.count++
	w.earliest = min(w.earliest, end)
	if len(w.buf) < listChunk {
		return nil
	}
	return w.flush()
}

func (w *listWriter) flush() error {
	_, err := w.shardList.entries.Write(w.buf)
	if err == nil {
		_, err = w.shardList.ends.Write(w.ends)
	}
	w.buf, w.ends = w.buf[:0], w.ends[:0]
	return err
}

// say adds the entry of a certificate that is revoked and not over.
func (w *listWriter) say(st bulkhead.Status, keepFrom int64) (err error) {
	if st.State != bulkhead.Revoked || st.NotAfter.Unix() < keepFrom {
		return nil
	}
	if w.buf, err = w.encoder.Append(w.buf, &crl.Entry{Serial: st.Serial, RevokedAt: st.RevokedAt, Reason: st.Reason}); err != nil {
		return err
	}
	w.latest = later(w.latest, st.RevokedAt)
	return w.end(st.NotAfter.Unix())
}

// listOf makes the list of the rows of a shard; its files are in a folder.
func listOf(dir string, rows iter.Seq2[bulkhead.Status, error], keepFrom time.Time) (*shardList, error) {
	w := newList(dir)
	from := keepFrom.Unix()
	for st, err := range rows {
		if err == nil {
			err = w.say(st, from)
		}
		if err != nil {
			w.close()
			return nil, err
		}
	}
	return w.done(w.flush())
}

func (w *listWriter) done(err error) (*shardList, error) {
	if err != nil {
		w.close()
		return nil, err
	}
	return w.shardList, nil
}

// with is the list with what is said of some certificates, in serial order, in place of what it says of them, and without
// certificates that ended before keepFrom. nil says nothing. l is given up.
func (l *shardList) with(said iter.Seq2[bulkhead.Status, error], keepFrom time.Time) (*shardList, error) {
	defer l.close()
	w, from := newList(l.entries.Dir), keepFrom.Unix()
	w.latest, w.head, w.laid = l.latest, l.head, l.laid
	r := listReader{list: l}
	if said != nil {
		for st, err := range said {
			if err == nil {
				err = w.copy(&r, st.Serial, from)
			}
			if err == nil {
				err = w.say(st, from)
			}
			if err != nil {
				return w.done(err)
			}
		}
	}
	err := w.copy(&r, bulkhead.Serial{}, from)
	if err == nil {
		err = w.flush()
	}
	return w.done(err)
}

// copy copies what stands before a serial, and leaves out what stands at it; the zero serial is the end.
func (w *listWriter) copy(r *listReader, until bulkhead.Serial, keepFrom int64) error {
	stop := derOf(until)
	for {
		entry, serial, end, err := r.next()
		if err != nil || entry == nil {
			return err
		}
		n := -1
		if !until.IsZero() {
			n = compareDER(serial, stop)
		}
		if n > 0 {
			return nil
		}
		r.take(len(entry))
		if n == 0 || end < keepFrom {
			continue
		}
		w.buf = append(w.buf, entry...)
		if err := w.end(end); err != nil {
			return err
		}
	}
}

// derOf is the contents of a serial's INTEGER.
func derOf(s bulkhead.Serial) []byte {
	b := s.Bytes()
	if len(b) > 0 && b[0]&0x80 != 0 {
		b = append([]byte{0}, b...)
	}
	return b
}

// compareDER compares two positive integers in their shortest form.
func compareDER(a, b []byte) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return bytes.Compare(a, b)
}

// listReader goes through a list.
type listReader struct {
	list      *shardList
	at        int64 // octets of entries that were read into buf
	buf, rest []byte
	ends      []byte
	endAt     int64
	endRest   []byte
}

// next is the entry that comes next; nil at the end of the list.
func (r *listReader) next() (entry, serial []byte, end int64, err error) {
	size, serial := crl.Cut(r.rest)
	if size == 0 {
		if err := r.fill(); err != nil {
			return nil, nil, 0, err
		}
		if len(r.rest) == 0 {
			return nil, nil, 0, nil
		}
		if size, serial = crl.Cut(r.rest); size == 0 {
			return nil, nil, 0, errors.New("the entries of a CRL are damaged in the folder for temporary files")
		}
	}
	return r.rest[:size], serial, int64(binary.LittleEndian.Uint64(r.endRest)), nil
}

// take goes past the entry.
func (r *listReader) take(size int) { r.rest, r.endRest = r.rest[size:], r.endRest[8:] }

func (r *listReader) fill() (err error) {
	if r.rest, r.buf, err = refill(&r.list.entries, r.rest, r.buf, &r.at); err == nil {
		r.endRest, r.ends, err = refill(&r.list.ends, r.endRest, r.ends, &r.endAt)
	}
	return err
}

// refill puts what follows behind rest, in a buffer; both files have fewer octets of ends than of entries for each.
func refill(from *spool.Spool, rest, buf []byte, at *int64) ([]byte, []byte, error) {
	if buf == nil {
		buf = make([]byte, listChunk)
	}
	n := copy(buf, rest)
	more, err := from.ReadAt(buf[n:], *at)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, buf, err
	}
	*at += int64(more)
	return buf[:n+more], buf, nil
}

// sample is the DER of the first entries.
func (l *shardList) sample(most int) ([]byte, error) {
	r := listReader{list: l}
	var out []byte
	for range most {
		entry, _, _, err := r.next()
		if err != nil || entry == nil {
			return out, err
		}
		out = append(out, entry...)
		r.take(len(entry))
	}
	return out, nil
}

// write writes the CRL of the list.
func (l *shardList) write(w io.Writer, info crl.Info, sign crl.SignFunc) (crl.Result, error) {
	return crl.WriteFile(w, info, &l.entries, l.entries.Size(), sign)
}

// close gives a list up, if there is one.
func (l *shardList) close() {
	if l == nil {
		return
	}
	_ = l.entries.Close() // what was in it is not needed
	_ = l.ends.Close()
}

// lists keeps the lists of large shards between their CRLs, the one used last at the end.
type lists struct {
	least int // entries from which on a list is kept: fewer are read as fast
	kept  []keptList
}

type keptList struct {
	key  shardKey
	list *shardList
}

const (
	leastKept = 4096
	mostKept  = 512 << 20 // octets of lists that are kept
)

// take hands out the list of a shard and forgets it; nil when there is none.
func (s *lists) take(key shardKey) *shardList {
	i := slices.IndexFunc(s.kept, func(k keptList) bool { return k.key == key })
	if i < 0 {
		return nil
	}
	l := s.kept[i].list
	s.kept = slices.Delete(s.kept, i, i+1)
	return l
}

// put keeps a list for the next CRL of its shard, and gives up those that were not used for longest when there are too many.
func (s *lists) put(key shardKey, l *shardList) {
	s.take(key).close()
	if l.count < s.least {
		l.close()
		return
	}
	s.kept = append(s.kept, keptList{key, l})
	var size int64
	for i := len(s.kept) - 1; i >= 0; i-- {
		if size += s.kept[i].list.entries.Size() + s.kept[i].list.ends.Size(); size > mostKept {
			s.kept[i].list.close()
			s.kept = slices.Delete(s.kept, i, i+1)
		}
	}
}

func (s *lists) close() {
	for _, k := range s.kept {
		k.list.close()
	}
	s.kept = nil
}

// shardList is what the next CRL of a shard lists: the record, and the change of over laid over it. A CRL without a change is read
// from the record whole. For a change, the list of the CRL before it is taken, and what changes have moved since is read.
func (s *Signer) shardList(ctx context.Context, key shardKey, keepFrom time.Time, over *laidOver, head uint64) (*shardList, error) {
	l, err := s.keptList(ctx, key, keepFrom, over, head)
	if err != nil {
		return nil, err
	}
	said, any := over.of(key.shard)
	if !any {
		return l, nil
	}
	if l, err = l.with(said, keepFrom); err == nil {
		l.laid = over.change.ID
	}
	return l, err
}

// keepList keeps a list for the next CRL of its shard.
func (s *Signer) keepList(key shardKey, l *shardList) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		l.close()
		return
	}
	s.lists.put(key, l)
}

// keptList is the list as the record has it under a head, but for the change of over.
func (s *Signer) keptList(ctx context.Context, key shardKey, keepFrom time.Time, over *laidOver, head uint64) (*shardList, error) {
	s.mu.Lock()
	l := s.lists.take(key)
	s.mu.Unlock()
	if l != nil {
		good, err := s.stillSo(ctx, l, over)
		if err != nil || !good {
			l.close()
			l = nil
		}
		if err != nil {
			return nil, err
		}
	}
	if l == nil {
		l, err := listOf(s.cfg.Spool, s.cfg.Store.Revoked(ctx, key.authority, key.shard, keepFrom), keepFrom)
		if err == nil {
			l.head = head
		}
		return l, err
	}
	if head == l.head && l.earliest >= keepFrom.Unix() {
		return l, nil
	}
	moved, any := peek(s.cfg.Store.MovedSince(ctx, key.authority, key.shard, l.head, l.laid))
	if any || l.earliest < keepFrom.Unix() {
		var err error
		if l, err = l.with(moved, keepFrom); err != nil {
			return nil, err
		}
	}
	l.head, l.laid = head, ""
	return l, nil
}

// peek reports whether anything comes, and gives it all.
func peek[K, V any](all iter.Seq2[K, V]) (same iter.Seq2[K, V], any bool) {
	next, stop := iter.Pull2(all)
	k, v, any := next()
	return func(yield func(K, V) bool) {
		defer stop()
		for ok := any; ok && yield(k, v); k, v, ok = next() {
		}
	}, any
}

// stillSo reports whether a kept list can be brought up to date: a change is on its way, and the one that was laid over the list
// became the record, or is the same.
func (s *Signer) stillSo(ctx context.Context, l *shardList, over *laidOver) (bool, error) {
	if over.change.ID == "" {
		return false, nil
	}
	if l.laid == "" || l.laid == over.change.ID {
		return true, nil
	}
	c, err := s.cfg.Store.Change(ctx, l.laid)
	return err == nil && c.Epoch > 0, err
}
