package crl

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"fmt"
	"hash"
	"hash/maphash"
	"io"
	"sync"

	"bulkhead"
)

const (
	chunkSize = 32 << 10 // octets handed to the hash and the writer at a time: they stay in the processor's nearest cache
	keepLimit = 64 << 20 // encoded entries up to this size are kept, so that all but the largest lists are read once
)

// Write signs and writes one CRL. DER puts lengths before contents and the signature's length before everything, so
// the entries are needed three times: to measure, to hash, to write. Up to 64 MiB of encoded entries (some 1.5 million) is
// kept and entries is called once; beyond that it is called three times and must yield the same each time: what is
// written is then hashed again, and a difference from what was signed is KindConflict. After an error w holds garbage
// or nothing. A P-384 issuer signs SHA-384 digests and needs WriteWith.
//
// Faults: KindMalformed for info or dates, KindConflict for entries out of order, twice or changed between passes,
// KindBadRevocationReason, KindBadPublicKey, KindGate when the signature does not verify. Errors of entries, sign and w pass through.
func Write(w io.Writer, info Info, entries Entries, sign SignFunc) (Result, error) {
	if sign == nil {
		return Result{}, bulkhead.NewFault(bulkhead.KindMalformed, "CRL: the signing function is missing")
	}
	return WriteWith(w, info, entries, func(t ToSign) ([]byte, error) {
		if t.Hash != crypto.SHA256 {
			return nil, bulkhead.Faultf(bulkhead.KindBadPublicKey, "CRL: the issuer's key signs %v digests, and only SHA-256 ones were offered", t.Hash).
				WithHint("use WriteWith, which hands over the digest of the right hash")
		}
		return sign(t.TBSDigest, t.Size)
	})
}

// WriteWith is Write for every allowed key type: sign gets the digest that belongs to the issuer's key.
func WriteWith(w io.Writer, info Info, entries Entries, sign DigestSigner) (Result, error) {
	return write(w, info, entries, sign, keepLimit)
}

// write is WriteWith; entries of at most keep encoded octets are read once.
func write(w io.Writer, info Info, entries Entries, sign DigestSigner, keep int64) (Result, error) {
	if w == nil || entries == nil || sign == nil {
		return Result{}, bulkhead.NewFault(bulkhead.KindMalformed, "CRL: writer, entries and signing function are needed")
	}
	if err := checkInfo(info); err != nil {
		return Result{}, err
	}
	s, err := schemeFor(info.Issuer)
	if err != nil {
		return Result{}, err
	}
	l := &list{scheme: s, entries: entries, keep: keep, seed: maphash.MakeSeed()}
	if l.head, err = head(info, s); err != nil {
		return Result{}, fmt.Errorf("encode CRL header: %w", err)
	}
	if l.tail, err = tail(info); err != nil {
		return Result{}, fmt.Errorf("encode CRL extensions: %w", err)
	}
	defer l.forget()
	if err = l.measure(); err != nil {
		return Result{}, err
	}
	signature, err := l.sign(info.Issuer, sign)
	if err != nil {
		return Result{}, err
	}
	return l.write(w, signature)
}

// list is a CRL between its passes.
type list struct {
	scheme     scheme
	entries    Entries
	head, tail []byte
	keep       int64
	kept       [][]byte // all encoded entries in chunks, while they have at most keep octets
	overflow   bool     // they did not fit
	seed       maphash.Seed
	sum        uint64 // of the TBSCertList as signed, to compare with what is written
	count      int
	body       int64 // octets of all entries
}

// measure is the first pass: checks every entry, counts, and keeps the encoding while it is small.
func (l *list) measure() error {
	var c encoder
	var buf []byte
	for e, err := range l.entries() {
		if err != nil {
			return fmt.Errorf("read CRL entries: %w", err)
		}
		switch {
		case l.overflow:
			buf = buf[:0]
		case cap(buf)-len(buf) < maxEntry:
			l.kept = append(l.kept, buf)
			buf = (*chunks.Get().(*[chunkSize]byte))[:0]
		}
		before := len(buf)
		if buf, err = c.append(buf, &e); err != nil {
			return err
		}
		l.count++
		l.body += int64(len(buf) - before)
		if !l.overflow && l.body > l.keep {
			l.overflow = true
			l.forget()
			buf = make([]byte, 0, maxEntry)
		}
	}
	if !l.overflow {
		l.kept = append(l.kept, buf)
	}
	return nil
}

// chunks holds what lists were kept in, so that the next list needs no fresh memory.
var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// forget gives the kept chunks back; nothing may read them after that.
func (l *list) forget() {
	for _, c := range l.kept {
		if cap(c) == chunkSize {
			chunks.Put((*[chunkSize]byte)(c[:chunkSize]))
		}
	}
	l.kept = nil
}

// tbsSize is the length of the TBSCertList, header included.
func (l *list) tbsSize() int64 { return elementSize(l.contents()) }

func (l *list) contents() int64 {
	n := int64(len(l.head) + len(l.tail))
	if l.count > 0 {
		n += elementSize(l.body)
	}
	return n
}

// emit sends the TBSCertList to out in chunks.
func (l *list) emit(out io.Writer) error {
	if err := l.before(out); err != nil {
		return err
	}
	if err := l.emitEntries(out, make([]byte, 0, chunkSize+maxEntry)); err != nil {
		return err
	}
	_, err := out.Write(l.tail)
	return err
}

// before sends what stands before the entries.
func (l *list) before(out io.Writer) error {
	buf := appendHeader(nil, tagSequence, l.contents())
	buf = append(buf, l.head...)
	if l.count > 0 { // absent rather than empty (RFC 5280 section 5.1.2.6)
		buf = appendHeader(buf, tagSequence, l.body)
	}
	_, err := out.Write(buf)
	return err
}

func (l *list) emitEntries(out io.Writer, buf []byte) error {
	if !l.overflow {
		for _, chunk := range l.kept {
			if _, err := out.Write(chunk); err != nil {
				return err
			}
		}
		return nil
	}
	var c encoder
	var sent int64
	for e, err := range l.entries() {
		if err != nil {
			return fmt.Errorf("read CRL entries: %w", err)
		}
		if buf, err = c.append(buf, &e); err != nil {
			return err
		}
		if len(buf) < chunkSize {
			continue
		}
		if sent += int64(len(buf)); sent > l.body {
			return errChanged()
		}
		if _, err := out.Write(buf); err != nil {
			return err
		}
		buf = buf[:0]
	}
	if sent+int64(len(buf)) != l.body {
		return errChanged()
	}
	_, err := out.Write(buf)
	return err
}

func errChanged() error {
	return bulkhead.NewFault(bulkhead.KindConflict, "CRL: the entries changed while the CRL was being made").
		WithHint("read them from one snapshot and write the CRL again with a new number")
}

// sign is the second pass: hashes the TBSCertList, has it signed once, and checks the signature.
func (l *list) sign(issuer *x509.Certificate, sign DigestSigner) ([]byte, error) {
	named := sha256.New()
	signed := hash.Hash(named)
	outs := []io.Writer{named}
	if l.scheme.hash == crypto.SHA384 {
		signed = sha512.New384()
		outs = append(outs, signed)
	}
	sum := l.newSum()
	if l.overflow {
		outs = append(outs, sum)
	}
	if err := l.emit(io.MultiWriter(outs...)); err != nil {
		return nil, err
	}
	l.sum = sum.Sum64()
	return l.signed(issuer, named, signed, sign)
}

// signed has the key sign what was hashed, and checks the signature.
func (l *list) signed(issuer *x509.Certificate, named, signed hash.Hash, sign DigestSigner) ([]byte, error) {
	t := ToSign{
		TBSDigest: bulkhead.Hash(named.Sum(nil)), Size: l.tbsSize(),
		Algorithm: l.scheme.algorithm, Hash: l.scheme.hash, Digest: signed.Sum(nil),
	}
	signature, err := sign(t)
	if err != nil {
		return nil, fmt.Errorf("sign CRL: %w", err)
	}
	if !verifies(issuer, t, signature) {
		return nil, bulkhead.NewFault(bulkhead.KindGate, "CRL: the signature does not verify under the issuer's key; nothing was written").
			WithHint("check that the signer uses the key of the issuer named in the CRL")
	}
	return signature, nil
}

// newSum starts the hash that compares the pass that was signed with the pass that is written. It guards against a store
// that moves, not against a forger, so 64 keyed bits do.
func (l *list) newSum() *maphash.Hash {
	h := new(maphash.Hash)
	h.SetSeed(l.seed)
	return h
}

// verifies checks a signature over a digest, so that a wrong key is noticed before the first octet leaves.
func verifies(issuer *x509.Certificate, t ToSign, signature []byte) bool {
	switch k := issuer.PublicKey.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, t.Hash, t.Digest, signature) == nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, t.Digest, signature)
	default:
		return false
	}
}

// write is the last pass: the whole CertificateList to w.
func (l *list) write(w io.Writer, signature []byte) (Result, error) {
	whole, after := l.frame(w, signature)
	if _, err := whole.Write(appendHeader(nil, tagSequence, l.tbsSize()+int64(len(after)))); err != nil {
		return Result{}, fmt.Errorf("write CRL: %w", err)
	}
	out, sum := io.Writer(whole), l.newSum()
	if l.overflow {
		out = io.MultiWriter(sum, whole)
	}
	if err := l.emit(out); err != nil {
		return Result{}, fmt.Errorf("write CRL: %w", err)
	}
	if sum.Sum64() != l.sum {
		return Result{}, errChanged()
	}
	return l.finish(whole, after)
}

// frame is what counts the CertificateList on its way to w, and what stands after its TBSCertList.
func (l *list) frame(w io.Writer, signature []byte) (whole *counter, after []byte) {
	after = []byte(l.scheme.identifier)
	after = appendHeader(after, 0x03, int64(len(signature))+1)
	return &counter{w: w, hash: sha256.New()}, append(append(after, 0), signature...)
}

func (l *list) finish(whole *counter, after []byte) (Result, error) {
	if _, err := whole.Write(after); err != nil {
		return Result{}, fmt.Errorf("write CRL: %w", err)
	}
	return Result{Entries: l.count, Size: whole.size, Digest: bulkhead.Hash(whole.hash.Sum(nil))}, nil
}

// counter passes on what it counts and hashes.
type counter struct {
	w    io.Writer
	hash hash.Hash
	size int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.hash.Write(p[:n])
	c.size += int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return n, err
}
