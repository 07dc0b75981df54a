package proof

import (
	"iter"

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
	checks  map[string]int64 // order → its first CAA leaf
	uses    map[bulkhead.Hash]*KeyReport
	cutoff  int64 // counters stand for leaves up to here
	since   map[bulkhead.Hash]int64
	counted map[bulkhead.Hash]*bulkhead.SignatureCounter // the same count, from the leaves
	given   []bulkhead.SignatureCounter
	kinds   map[bulkhead.EvidenceKind]int64
	lastOf  map[bulkhead.EvidenceKind]int64 // newest leaf of a kind
}

// entry is what the leaves say of one certificate.
type entry struct {
	intentSeq, outcomeSeq int64
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
	b := &Book{index: map[bulkhead.AuthorityID]map[bulkhead.Serial]int32{}, finalOf: map[bulkhead.CertificateRef]final{}, checks: map[string]int64{},
		uses: map[bulkhead.Hash]*KeyReport{}, cutoff: head, since: map[bulkhead.Hash]int64{}, counted: map[bulkhead.Hash]*bulkhead.SignatureCounter{},
		kinds: map[bulkhead.EvidenceKind]int64{}, lastOf: map[bulkhead.EvidenceKind]int64{}}
	b.given = counters
	for _, c := range counters {
		b.since[c.Key] = c.Since
	}
	return b
}

// Add takes the leaf of row seq.
func (b *Book) Add(seq int64, e bulkhead.Evidence) {
	b.head = seq
	b.kinds[e.Kind]++
	b.lastOf[e.Kind] = seq
	b.count(seq, e)
	ref := bulkhead.CertificateRef{Issuer: e.Authority, Serial: e.Serial}
	switch e.Kind {
	case bulkhead.EvCertificateIntent:
		if b.entry(ref) == nil { // a second intent is a finding of the ledger
			b.enter(ref, entry{intentSeq: seq, tbs: e.Digest, subject: e.KeyHash, signer: e.Signer})
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
		if _, ok := b.checks[e.Ref]; !ok {
			b.checks[e.Ref] = seq
		}
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
	k := b.uses[e.Signer]
	if k == nil {
		k = &KeyReport{Key: e.Signer, Authority: e.Authority, FirstLeaf: seq - 1}
		b.uses[e.Signer] = k
	}
	k.LastLeaf = seq - 1
	k.Announced, k.Made = k.Announced+announced, k.Made+made
	if e.Kind == bulkhead.EvCertificateOutcome {
		k.Certificates++
	}
	if since, ok := b.since[e.Signer]; ok && (seq < since || seq > b.cutoff) || seq > b.cutoff {
		return
	}
	c := b.counted[e.Signer]
	if c == nil {
		c = &bulkhead.SignatureCounter{Key: e.Signer}
		b.counted[e.Signer] = c
	}
	c.Announced, c.Made = c.Announced+announced, c.Made+made
}
