// Package fixedkey checks many signatures by one issuer. A general ECDSA verifier computes u1*G + u2*Q with nothing known
// of Q; whoever checks thousands of signatures by the same Q may keep multiples of it, and then a P-256 signature costs
// less than half (BenchmarkCheck). Doc/decisions/0059 says why this one calculation is our own.
//
// The invariant: Issuer.CheckSignature says what x509.Certificate.CheckSignature says, for every input. Only ECDSA with
// SHA-256 on P-256 takes the short way, and only its yes counts: what it does not accept is judged by the standard
// library, and so is everything while the table does not agree with an independent multiplication.
//
// It refuses secrets: everything here is public, and its time depends on what it is given. It never signs.
package fixedkey

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"math/big"
	"sync"

	"filippo.io/nistec"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

const (
	windows = 32  // octets of a scalar
	entries = 256 // values of an octet
)

// order is the order of P-256's group (FIPS 186-5, SP 800-186 section 3.2.1.3).
var order = elliptic.P256().Params().N

// Issuer is a certificate whose signatures are checked often. It may be used by many at once.
type Issuer struct {
	cert  *x509.Certificate
	table func() *table
}

// New prepares nothing yet: the table (768 KiB, some milliseconds) is made when the first P-256 signature is checked.
func New(cert *x509.Certificate) *Issuer {
	return &Issuer{cert: cert, table: sync.OnceValue(func() *table { return tableOf(cert) })}
}

// CheckSignature says whether signature is the issuer's over signed, as x509.Certificate.CheckSignature does, errors
// included.
func (i *Issuer) CheckSignature(algorithm x509.SignatureAlgorithm, signed, signature []byte) error {
	if algorithm == x509.ECDSAWithSHA256 {
		if t := i.table(); t != nil {
			digest := sha256.Sum256(signed)
			if t.verify(digest[:], signature) {
				return nil
			}
		}
	}
	return i.cert.CheckSignature(algorithm, signed, signature)
}

// table holds, for each octet of a scalar and each of its values, that multiple of the public key.
type table [windows][entries]nistec.P256Point

// tableOf is nil when the key is none on P-256, or when its multiples are not what they must be.
func tableOf(cert *x509.Certificate) *table {
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
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
	t := new(table)
	base := nistec.NewP256Point().Set(q)
	for w := range t {
		row := &t[w]
		row[0].Set(nistec.NewP256Point())
		for v := 1; v < entries; v++ {
			row[v].Add(&row[v-1], base)
		}
		base.Add(&row[entries-1], base)
	}
	if !t.agrees(q) {
		return nil
	}
	return t
}

// agrees compares the table with a multiplication that does not use it, by a scalar of which every octet counts.
func (t *table) agrees(q *nistec.P256Point) bool {
	scalar := sha256.Sum256(q.BytesCompressed())
	want, err := nistec.NewP256Point().ScalarMult(q, scalar[:])
	if err != nil {
		return false
	}
	got := nistec.NewP256Point()
	t.addMultiple(got, &scalar)
	return string(got.Bytes()) == string(want.Bytes())
}

// addMultiple adds scalar times the public key to sum.
func (t *table) addMultiple(sum *nistec.P256Point, scalar *[windows]byte) {
	for w := range t {
		if v := scalar[windows-1-w]; v != 0 {
			sum.Add(sum, &t[w][v])
		}
	}
}

// verify is FIPS 186-5 section 6.4.2 for a digest as long as the order.
func (t *table) verify(digest, signature []byte) bool {
	r, s, ok := parse(signature)
	if !ok {
		return false
	}
	w := new(big.Int).ModInverse(s, order)
	if w == nil {
		return false
	}
	var u1, u2 [windows]byte
	product := new(big.Int).SetBytes(digest)
	product.Mul(product, w).Mod(product, order).FillBytes(u1[:])
	product.Mul(r, w).Mod(product, order).FillBytes(u2[:])
	sum, err := nistec.NewP256Point().ScalarBaseMult(u1[:])
	if err != nil {
		return false
	}
	t.addMultiple(sum, &u2)
	x, err := sum.BytesX() // fails for the point at infinity
	if err != nil {
		return false
	}
	return product.SetBytes(x).Mod(product, order).Cmp(r) == 0
}

// parse reads an Ecdsa-Sig-Value (RFC 3279 section 2.2.3) in DER whose two numbers are in [1, order-1].
func parse(signature []byte) (r, s *big.Int, ok bool) {
	r, s = new(big.Int), new(big.Int)
	in, pair := cryptobyte.String(signature), cryptobyte.String(nil)
	if !in.ReadASN1(&pair, asn1.SEQUENCE) || !in.Empty() || !pair.ReadASN1Integer(r) || !pair.ReadASN1Integer(s) || !pair.Empty() {
		return nil, nil, false
	}
	return r, s, r.Sign() > 0 && s.Sign() > 0 && r.Cmp(order) < 0 && s.Cmp(order) < 0
}
