package proof

import (
	"iter"
	"math"

	"bulkhead"
	"bulkhead/pki/tlog"
)

// Book is what the leaves say, filled leaf by leaf in order. It keeps about 200 bytes per certificate and belongs to one
// goroutine.
type Book struct {
	head    int64                                              // newest leaf seen
	index   map[bulkhead.AuthorityID]map[bulkhead.Serial]int32 // number in entries
	entries []entry                                            // holds no pointer, so that nobody walks a million of them
	finalOf map[bulkhead.CertificateRef]final
	checks  map[id]int64 // order → its first CAA leaf
	basis   basis
	uses    map[bulkhead.Hash]*keyUse
	last    *keyUse // of the leaf before: most leaves name its key
	cutoff  int64   // counters stand for leaves up to here
	since   map[bulkhead.Hash]int64
	given   []bulkhead.SignatureCounter
	kinds   []kind // by kind
}

// kind is how many leaves there are of one, and the newest.
type kind struct{ n, last int64 }

// keyUse is what the leaves say of a key.
type keyUse struct {
	KeyReport
	counted bulkhead.SignatureCounter // those that the counter stands for
	since   int64                     // the first of them, -1 when there is no counter
}

// entry is what the leaves say of one certificate.
type entry struct {
	intentSeq, outcomeSeq int64
	at                    int64 // of the intent, in milliseconds since 1970
	tbs, digest           bulkhead.Hash
	subject, signer       bulkhead.Hash
	abandoned, rowSeen    bool
	imported              bool // of a foreign authority: one leaf, which names the certificate
}

// final is the certificate that took the place of a precertificate.
type final struct {
	seq int64
	tbs bulkhead.Hash
}

// NewBook starts a book for a record whose counters were read with counters at row head.
func NewBook(head int64, counters []bulkhead.SignatureCounter) *Book {
	b := &Book{index: map[bulkhead.AuthorityID]map[bulkhead.Serial]int32{}, finalOf: map[bulkhead.CertificateRef]final{}, checks: map[id]int64{},
		basis: newBasis(), uses: map[bulkhead.Hash]*keyUse{}, cutoff: head, since: map[bulkhead.Hash]int64{}}
	b.given = counters
	for _, c := range counters {
		b.since[c.Key] = c.Since
	}
	return b
}

// NewEarlyBook starts a book whose record is read later: Stand gives it the counters.
func NewEarlyBook() *Book { return NewBook(math.MaxInt64, nil) }

// Stand gives an early book the counters, read at row head. It is false, and the book must not be used, when a counter stands for
// some leaves of its key and not for others that were taken: those have to be told apart leaf by leaf.
func (b *Book) Stand(head int64, counters []bulkhead.SignatureCounter) bool {
	if b.head > head {
		return false
	}
	for _, c := range counters {
		k := b.uses[c.Key]
		if k != nil && c.Since > k.FirstLeaf+1 {
			return false
		}
		if b.since[c.Key] = c.Since; k != nil {
			k.since = c.Since
		}
	}
	b.cutoff, b.given = head, counters
	return true
}

// Add takes the leaf of row seq.
func (b *Book) Add(seq int64, e bulkhead.Evidence) {
	b.head = seq
	for int(e.Kind) >= len(b.kinds) {
		b.kinds = append(b.kinds, kind{})
	}
	b.kinds[e.Kind].n++
	b.kinds[e.Kind].last = seq
	b.count(seq, e)
	ref := bulkhead.CertificateRef{Issuer: e.Authority, Serial: e.Serial}
	switch e.Kind {
	case bulkhead.EvCertificateIntent:
		if b.entry(ref) == nil { // a second intent is a finding of the ledger
			b.enter(ref, entry{intentSeq: seq, at: e.At.UnixMilli(), tbs: e.Digest, subject: e.KeyHash, signer: e.Signer})
		}
	case bulkhead.EvImportedCertificate:
		if b.entry(ref) == nil {
			b.enter(ref, entry{intentSeq: seq, outcomeSeq: seq, digest: e.Digest, subject: e.KeyHash, imported: true})
		}
	case bulkhead.EvCertificateOutcome:
		if x := b.entry(ref); x != nil && x.outcomeSeq == 0 {
			x.outcomeSeq, x.digest = seq, e.Digest
		}
	case bulkhead.EvCertificateAbandon:
		if x := b.entry(ref); x != nil && x.outcomeSeq == 0 {
			x.abandoned = true
		}
	case bulkhead.EvBatchOutcome:
		if !e.Serial.IsZero() { // its intent was over this one TBSCertificate, so the root is that leaf's hash
			b.finalOf[ref] = final{seq: seq, tbs: e.Link}
		}
	case bulkhead.EvCAA:
		if k := idOf(e.Ref); b.checks[k] == 0 {
			b.checks[k] = seq
		}
	case bulkhead.EvValidation, bulkhead.EvAccount:
		b.basis.add(seq, e)
	}
}

// entry is what the leaves say of a certificate, nil when they say nothing; good until the next Add.
func (b *Book) entry(ref bulkhead.CertificateRef) *entry {
	n, ok := b.index[ref.Issuer][ref.Serial]
	if !ok {
		return nil
	}
	return &b.entries[n]
}

func (b *Book) enter(ref bulkhead.CertificateRef, x entry) {
	of := b.index[ref.Issuer]
	if of == nil {
		of = map[bulkhead.Serial]int32{}
		b.index[ref.Issuer] = of
	}
	of[ref.Serial] = int32(len(b.entries))
	b.entries = append(b.entries, x)
}

// of goes over what the leaves say of an authority's certificates, in no order.
func (b *Book) of(issuer bulkhead.AuthorityID) iter.Seq2[bulkhead.CertificateRef, *entry] {
	return func(yield func(bulkhead.CertificateRef, *entry) bool) {
		for serial, n := range b.index[issuer] {
			if !yield(bulkhead.CertificateRef{Issuer: issuer, Serial: serial}, &b.entries[n]) {
				return
			}
		}
	}
}

// count keeps the numbers of each key, and once more those that the counters stand for.
func (b *Book) count(seq int64, e bulkhead.Evidence) {
	announced, made := tlog.Uses(e)
	if announced+made == 0 || e.Signer.IsZero() {
		return
	}
	k := b.last
	if k == nil || k.Key != e.Signer {
		k = b.use(seq, e)
	}
	k.LastLeaf = seq - 1
	k.Announced, k.Made = k.Announced+announced, k.Made+made
	if e.Kind == bulkhead.EvCertificateOutcome {
		k.Certificates++
	}
	if seq <= b.cutoff && seq >= k.since {
		k.counted.Announced, k.counted.Made = k.counted.Announced+announced, k.counted.Made+made
	}
}

// use finds what is known of the key of a leaf.
func (b *Book) use(seq int64, e bulkhead.Evidence) *keyUse {
	k := b.uses[e.Signer]
	if k == nil {
		k = &keyUse{KeyReport: KeyReport{Key: e.Signer, Authority: e.Authority, FirstLeaf: seq - 1}, since: -1}
		if since, ok := b.since[e.Signer]; ok {
			k.since = since
		}
		b.uses[e.Signer] = k
	}
	b.last = k
	return k
}
