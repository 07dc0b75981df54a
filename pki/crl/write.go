package crl

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"hash"
	"hash/maphash"
	"io"

	"bulkhead"
)

const chunkSize = 64 << 10 // octets handed to the hash and the writer at a time

// Write is WriteFile for entries that are in memory anyway.
func Write(w io.Writer, info Info, entries []Entry, sign SignFunc) (Result, error) {
	var c Encoder
	var file []byte
	var err error
	for i := range entries {
		if file, err = c.Append(file, &entries[i]); err != nil {
			return Result{}, err
		}
	}
	return WriteFile(w, info, bytes.NewReader(file), int64(len(file)), sign)
}

// WriteFile signs and writes one CRL from an entry file of size octets: its entries one after the other, as Encoder writes them. DER puts
// lengths before contents and the signature's length before everything, so the file is read twice, in chunks: once to hold every entry
// against the rules (form, order, reason) and to hash what will be signed, once to write. Memory does not depend on its
// size. After an error w holds garbage or nothing.
//
// Faults: KindMalformed for info, or a file that is no entry file; KindConflict for entries out of order or twice, and for a file that
// changed in between; KindBadRevocationReason, KindBadPublicKey, KindGate when the signature does not verify. Errors of file, sign and w
// pass through.
func WriteFile(w io.Writer, info Info, file io.ReaderAt, size int64, sign SignFunc) (Result, error) {
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
	l := &list{scheme: s, file: file, body: size, seed: maphash.MakeSeed(), buf: make([]byte, chunkSize+maxEntry)}
	if l.head, err = head(info, s); err != nil {
		return Result{}, fmt.Errorf("encode CRL header: %w", err)
	}
	if l.tail, err = tail(info); err != nil {
		return Result{}, fmt.Errorf("encode CRL extensions: %w", err)
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
	head, tail []byte
	file       io.ReaderAt
	body       int64 // octets of all entries
	buf        []byte
	seed       maphash.Seed
	sum        uint64 // of the entries as signed, to compare with what is written
	count      int    // known after the first pass
}

// tbsSize is the length of the TBSCertList, header included.
func (l *list) tbsSize() int64 { return elementSize(l.contents()) }

func (l *list) contents() int64 {
	n := int64(len(l.head) + len(l.tail))
	if l.body > 0 {
		n += elementSize(l.body)
	}
	return n
}

// emit sends the TBSCertList to out, the entries to sum as well, after c has seen them when it is not nil.
func (l *list) emit(out io.Writer, sum *maphash.Hash, c *checker) error {
	before := append(appendHeader(nil, tagSequence, l.contents()), l.head...)
	if l.body > 0 { // absent rather than empty (RFC 5280 section 5.1.2.6)
		before = appendHeader(before, tagSequence, l.body)
	}
	if _, err := out.Write(before); err != nil {
		return err
	}
	keep := 0 // octets of an entry that the last chunk cut off
	for at := int64(0); at < l.body; {
		n := int(min(int64(len(l.buf)-keep), l.body-at))
		if err := readFull(l.file, l.buf[keep:keep+n], at); err != nil {
			return err
		}
		at += int64(n)
		chunk := l.buf[:keep+n]
		if c != nil {
			used, err := c.check(chunk, at == l.body)
			if err != nil {
				return err
			}
			chunk, keep = chunk[:used], len(chunk)-used
		}
		_, _ = sum.Write(chunk) // never fails
		if _, err := out.Write(chunk); err != nil {
			return err
		}
		copy(l.buf, l.buf[len(chunk):len(chunk)+keep])
	}
	_, err := out.Write(l.tail)
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

func errChanged() error {
	return bulkhead.NewFault(bulkhead.KindConflict, "CRL: the entries changed while the CRL was being made").
		WithHint("encode them again, and write the CRL with a new number")
}

// sign is the first pass: it checks every entry and hashes the TBSCertList, has it signed once, and checks the signature.
func (l *list) sign(issuer *x509.Certificate, sign SignFunc) ([]byte, error) {
	named := sha256.New()
	signed, out := hash.Hash(named), io.Writer(named)
	if l.scheme.hash == crypto.SHA384 {
		signed = sha512.New384()
		out = io.MultiWriter(named, signed)
	}
	sum := l.newSum()
	var c checker
	if err := l.emit(out, sum, &c); err != nil {
		return nil, err
	}
	l.sum, l.count = sum.Sum64(), c.count
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

// newSum starts the hash that compares the pass that was signed with the pass that is written. It guards against a file
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

// write is the second pass: the whole CertificateList to w.
func (l *list) write(w io.Writer, signature []byte) (Result, error) {
	after := appendHeader([]byte(l.scheme.identifier), 0x03, int64(len(signature))+1)
	after = append(append(after, 0), signature...)
	whole := &counter{w: w, hash: sha256.New()}
	if _, err := whole.Write(appendHeader(nil, tagSequence, l.tbsSize()+int64(len(after)))); err != nil {
		return Result{}, fmt.Errorf("write CRL: %w", err)
	}
	sum := l.newSum()
	if err := l.emit(whole, sum, nil); err != nil {
		return Result{}, fmt.Errorf("write CRL: %w", err)
	}
	if sum.Sum64() != l.sum {
		return Result{}, errChanged()
	}
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
