package fixedkey

import (
	"crypto/elliptic"
	"encoding/binary"
	"math/big"
	"math/bits"
)

// number is a number below 2^256, its lowest word first.
type number [4]uint64

// element is one of the field of P-256, in Montgomery's form: a times 2^256, below the prime.
type element = number

// modulus is a prime of 256 bits whose highest bit is set, with what Montgomery's multiplication needs.
type modulus struct {
	n      number
	big    *big.Int
	factor uint64 // -1/n mod 2^64
	square number // 2^512 mod n: brings a number into Montgomery's form
	cube   number // 2^768 mod n: brings the inverse of such a form into the form of the inverse
}

func modulusOf(n *big.Int) *modulus {
	power := func(bits uint) number {
		p := new(big.Int).Lsh(big.NewInt(1), bits)
		return numberOf(p.Mod(p, n))
	}
	m := &modulus{n: numberOf(n), big: n, square: power(512), cube: power(768)}
	m.factor = 1
	for range 6 { // Newton: each step doubles the bits that are right
		m.factor *= 2 - m.n[0]*m.factor
	}
	m.factor = -m.factor
	return m
}

// SP 800-186 section 3.2.1.3: the field, the order of the group, the coefficient b of the curve.
var (
	prime = modulusOf(elliptic.P256().Params().P)
	order = modulusOf(elliptic.P256().Params().N)
	one   = prime.inside(number{1})
	curve = prime.inside(numberOf(elliptic.P256().Params().B))

	threeHalves = func() element { // 3/2, for the slope of a doubling
		three, half := prime.inside(number{3}), prime.inside(number{2})
		prime.invert(&half, &half)
		mul(&half, &half, &three)
		return half
	}()
)

// numberOf takes one that fits.
func numberOf(n *big.Int) number {
	var octets [32]byte
	return fromOctets(n.FillBytes(octets[:]))
}

// fromOctets reads 32, the highest first.
func fromOctets(p []byte) number {
	_ = p[31]
	return number{binary.BigEndian.Uint64(p[24:]), binary.BigEndian.Uint64(p[16:]), binary.BigEndian.Uint64(p[8:]), binary.BigEndian.Uint64(p)}
}

func (x *number) octets() (p [32]byte) {
	for i := range x {
		binary.BigEndian.PutUint64(p[24-8*i:], x[i])
	}
	return p
}

func (x *number) zero() bool { return x[0]|x[1]|x[2]|x[3] == 0 }

// below reports whether x < y.
func (x *number) below(y *number) bool {
	_, c := bits.Sub64(x[0], y[0], 0)
	_, c = bits.Sub64(x[1], y[1], c)
	_, c = bits.Sub64(x[2], y[2], c)
	_, c = bits.Sub64(x[3], y[3], c)
	return c != 0
}

// inside is x in Montgomery's form, outside the way back.
func (m *modulus) inside(x number) number {
	m.mul(&x, &m.square, &x)
	return x
}

func (m *modulus) outside(x number) number {
	m.mul(&x, &x, &number{1})
	return x
}

// reduce takes the modulus off a number below twice the modulus once, if it can be; above is the number's 257th bit.
func (m *modulus) reduce(z *number, above uint64) {
	var s number
	var c uint64
	s[0], c = bits.Sub64(z[0], m.n[0], 0)
	s[1], c = bits.Sub64(z[1], m.n[1], c)
	s[2], c = bits.Sub64(z[2], m.n[2], c)
	s[3], c = bits.Sub64(z[3], m.n[3], c)
	if _, c = bits.Sub64(above, 0, c); c == 0 {
		*z = s
	}
}

// mul is Montgomery's multiplication (Handbook of Applied Cryptography, 14.36): z = x*y/2^256. x is below the modulus, y any number:
// from row to row t stays below x+n, which five words hold, and at the end one subtraction is enough.
func (m *modulus) mul(z, x, y *number) {
	var t0, t1, t2, t3, t4 uint64
	for _, w := range y {
		s0, s1, s2, s3, s4, s5 := addRow(t0, t1, t2, t3, t4, w, x)
		_, u1, u2, u3, u4, u5 := addRow(s0, s1, s2, s3, s4, s0*m.factor, &m.n) // the lowest word becomes zero
		t0, t1, t2, t3, t4 = u1, u2, u3, u4, s5+u5
	}
	*z = number{t0, t1, t2, t3}
	m.reduce(z, t4)
}

// addRow adds w times x.
func addRow(t0, t1, t2, t3, t4, w uint64, x *number) (s0, s1, s2, s3, s4, s5 uint64) {
	h0, l0 := bits.Mul64(w, x[0])
	h1, l1 := bits.Mul64(w, x[1])
	h2, l2 := bits.Mul64(w, x[2])
	h3, l3 := bits.Mul64(w, x[3])
	var c uint64
	t0, c = bits.Add64(t0, l0, 0)
	t1, c = bits.Add64(t1, l1, c)
	t2, c = bits.Add64(t2, l2, c)
	t3, c = bits.Add64(t3, l3, c)
	t4, s5 = bits.Add64(t4, 0, c)
	t1, c = bits.Add64(t1, h0, 0)
	t2, c = bits.Add64(t2, h1, c)
	t3, c = bits.Add64(t3, h2, c)
	t4, c = bits.Add64(t4, h3, c)
	return t0, t1, t2, t3, t4, s5 + c
}

// invert is the form of 1/x for the form of x, which is not zero.
func (m *modulus) invert(z, x *number) {
	octets := x.octets()
	n := new(big.Int).SetBytes(octets[:])
	*z = numberOf(n.ModInverse(n, m.big))
	m.mul(z, z, &m.cube)
}

// mul is what prime.mul is, and faster: p = 2^256 - 2^224 + 2^192 + 2^96 - 1, so the factor of a row is its lowest word f, and
// f*p is f*2^96 and f times the highest word of p, with f taken off. Its first half is addRow, written out: called, it made a verification
// cost a tenth more.
func mul(z, x, y *element) {
	const top = 0xffffffff00000001
	var t0, t1, t2, t3, t4 uint64
	for _, w := range y {
		h0, l0 := bits.Mul64(w, x[0])
		h1, l1 := bits.Mul64(w, x[1])
		h2, l2 := bits.Mul64(w, x[2])
		h3, l3 := bits.Mul64(w, x[3])
		var c, t5 uint64
		t0, c = bits.Add64(t0, l0, 0)
		t1, c = bits.Add64(t1, l1, c)
		t2, c = bits.Add64(t2, l2, c)
		t3, c = bits.Add64(t3, l3, c)
		t4, t5 = bits.Add64(t4, 0, c)
		t1, c = bits.Add64(t1, h0, 0)
		t2, c = bits.Add64(t2, h1, c)
		t3, c = bits.Add64(t3, h2, c)
		t4, c = bits.Add64(t4, h3, c)
		t5 += c
		h3, l3 = bits.Mul64(t0, top)
		l1, l2 = t0<<32, t0>>32
		t0, c = bits.Add64(t1, l1, 0)
		t1, c = bits.Add64(t2, l2, c)
		t2, c = bits.Add64(t3, l3, c)
		t3, c = bits.Add64(t4, h3, c)
		t4 = t5 + c
	}
	s0, c := bits.Sub64(t0, 0xffffffffffffffff, 0)
	s1, c := bits.Sub64(t1, 0xffffffff, c)
	s2, c := bits.Sub64(t2, 0, c)
	s3, c := bits.Sub64(t3, top, c)
	_, c = bits.Sub64(t4, 0, c)
	keep := -c // all ones when t was below p
	z[0], z[1], z[2], z[3] = s0^(s0^t0)&keep, s1^(s1^t1)&keep, s2^(s2^t2)&keep, s3^(s3^t3)&keep
}

// sub is z = x - y.
func sub(z, x, y *element) {
	s0, c := bits.Sub64(x[0], y[0], 0)
	s1, c := bits.Sub64(x[1], y[1], c)
	s2, c := bits.Sub64(x[2], y[2], c)
	s3, c := bits.Sub64(x[3], y[3], c)
	p := -c // all ones when p has to be added
	z[0], c = bits.Add64(s0, p, 0)
	z[1], c = bits.Add64(s1, p&0xffffffff, c)
	z[2], c = bits.Add64(s2, 0, c)
	z[3], _ = bits.Add64(s3, p&0xffffffff00000001, c)
}

// negate is z = -z, which is not zero, when all bits of yes are set, and nothing when none is.
func negate(z *element, yes uint64) { // p - z = p + ^z + 1
	var c uint64
	z[0], c = bits.Add64(z[0]^yes, yes, yes&1)
	z[1], c = bits.Add64(z[1]^yes, yes&0xffffffff, c)
	z[2], c = bits.Add64(z[2]^yes, 0, c)
	z[3], _ = bits.Add64(z[3]^yes, yes&0xffffffff00000001, c)
}

// affine is a point of the curve other than infinity.
type affine struct{ x, y element }

// on reports whether it is one: y^2 = x^3 - 3x + b.
func (a *affine) on() bool {
	var l, r element
	mul(&l, &a.y, &a.y)
	mul(&r, &a.x, &a.x)
	sub(&r, &r, &one)
	sub(&r, &r, &one)
	sub(&r, &r, &one)
	mul(&r, &r, &a.x)
	sub(&l, &l, &r)
	return l == curve
}
