// Package fixedkey checks many signatures by one key: an issuer's, or an ACME account's (Key). A general ECDSA verifier computes u1*G + u2*Q with nothing known
// of Q; whoever checks thousands of signatures by the same Q may keep multiples of it, and whoever has many signatures at hand may
// divide once for all of them. Then a P-256 signature costs a small part (BenchmarkCheckAll). Each signature is verified by
// itself: there is no sum over several. Doc/decisions/0059, 0060 and 0062 say why this one calculation is our own.
//
// The invariant: Issuer.CheckSignature says what x509.Certificate.CheckSignature says, for every input, and so does
// CheckAll; who uses a Key asks crypto/ecdsa himself. Only ECDSA with SHA-256 on P-256 takes the short way, and only its yes counts: what it does not accept, for whatever
// reason, is judged by the standard library, and so is everything while the tables do not agree with an independent
// multiplication.
//
// It refuses secrets: everything here is public, and its time depends on what it is given. It never signs.
package fixedkey

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"sync"
	"sync/atomic"

	"filippo.io/nistec"
)

const (
	// group is how many signatures are added up together. More save little of the inversions, and leave the processor's cache.
	group = 128
	// fewest are worth the inversions of a group.
	fewest = 8
	// wideAfter is how many signatures were checked in groups before wide tables are worth making.
	wideAfter = 4096
)

// Issuer is a certificate whose signatures are checked often. It may be used by many at once.
type Issuer struct {
	standard func(x509.SignatureAlgorithm, []byte, []byte) error // of the certificate
	key      *nistec.P256Point                                   // nil for every other
	narrow   func() *pair
	wide     atomic.Pointer[pair]
	grouped  atomic.Int64 // signatures that were checked in groups
	widening atomic.Bool  // somebody makes, or made, the wide tables
}

// New prepares nothing yet: tables (264 KiB, some milliseconds) are made when the first P-256 signature is checked, and wide
// ones (2.8 MiB) when thousands were checked by CheckAll. The generator's, of the same size, serve all issuers.
func New(cert *x509.Certificate) *Issuer {
	key, _ := cert.PublicKey.(*ecdsa.PublicKey)
	i := &Issuer{standard: cert.CheckSignature, key: point(key)}
	i.narrow = sync.OnceValue(func() *pair { return pairOf(i.key, narrow, narrowBase) })
	return i
}

// point is nil when the key is none on P-256.
func point(key *ecdsa.PublicKey) *nistec.P256Point {
	if key == nil || key.Curve != elliptic.P256() {
		return nil
	}
	octets, err := key.Bytes()
	if err != nil {
		return nil
	}
	q, err := nistec.NewP256Point().SetBytes(octets)
	if err != nil {
		return nil
	}
	return q
}

// pair is the tables of the generator and of the public key.
type pair struct{ g, q *table }

// pairOf is nil without a key, or when one of the tables is not what it must be.
func pairOf(q *nistec.P256Point, width int, base func() *table) *pair {
	if q == nil {
		return nil
	}
	p := &pair{g: base(), q: tableOf(q, width)}
	if p.g == nil || p.q == nil {
		return nil
	}
	return p
}

// CheckSignature says whether signature is the issuer's over signed, as x509.Certificate.CheckSignature does, errors
// included.
func (i *Issuer) CheckSignature(algorithm x509.SignatureAlgorithm, signed, signature []byte) error {
	if algorithm == x509.ECDSAWithSHA256 {
		if t := i.narrow(); t != nil {
			digest := sha256.Sum256(signed)
			if r, s, ok := parse(signature); ok && t.verify(&digest, r, s) {
				return nil
			}
		}
	}
	return i.standard(algorithm, signed, signature)
}

// Signed is something with a signature.
type Signed struct {
	Algorithm x509.SignatureAlgorithm
	Signed    []byte
	Signature []byte
}

// CheckAll says of each what CheckSignature says of it, in their order. It is the faster way for eight and more.
func (i *Issuer) CheckAll(all []Signed) []error {
	out := make([]error, len(all))
	for from := 0; from < len(all); from += group {
		part := all[from:min(from+group, len(all))]
		if len(part) < fewest {
			for n, s := range part {
				out[from+n] = i.CheckSignature(s.Algorithm, s.Signed, s.Signature)
			}
			continue
		}
		accepted := i.accepted(part)
		for n, s := range part {
			if !accepted[n] {
				out[from+n] = i.standard(s.Algorithm, s.Signed, s.Signature)
			}
		}
	}
	return out
}

// accepted are those of a group that the short way accepts.
func (i *Issuer) accepted(part []Signed) (yes [group]bool) {
	t := i.tables()
	if t == nil {
		return yes
	}
	c := checks.Get().(*check)
	defer checks.Put(c)
	c.reset()
	for n, s := range part {
		if s.Algorithm == x509.ECDSAWithSHA256 {
			digest := sha256.Sum256(s.Signed)
			c.add(n, &digest, s.Signature)
		}
	}
	i.grouped.Add(int64(len(c.claims)))
	c.verify(t, func(n int) { yes[n] = true })
	return yes
}

// tables are those for a group: the narrow ones until the wide ones pay. One caller makes these; who comes meanwhile has the
// narrow ones.
func (i *Issuer) tables() *pair {
	if t := i.wide.Load(); t != nil {
		return t
	}
	t := i.narrow()
	if t == nil {
		return nil
	}
	if i.grouped.Load() >= wideAfter && i.widening.CompareAndSwap(false, true) {
		if w := pairOf(i.key, wide, wideBase); w != nil {
			i.wide.Store(w)
			return w
		}
	}
	return t
}
