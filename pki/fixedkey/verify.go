package fixedkey

import (
	"sync"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// claim is a signature over a digest as long as the order (FIPS 186-5 section 6.4.2).
type claim struct {
	n    int // whose
	e    number
	r, s number // in [1, order-1]
}

// parse reads an Ecdsa-Sig-Value (RFC 3279 section 2.2.3) in DER whose two numbers are in [1, order-1].
func parse(signature []byte) (r, s number, ok bool) {
	var first, second []byte
	in, pair := cryptobyte.String(signature), cryptobyte.String(nil)
	if !in.ReadASN1(&pair, asn1.SEQUENCE) || !in.Empty() || !pair.ReadASN1Integer(&first) || !pair.ReadASN1Integer(&second) || !pair.Empty() {
		return r, s, false
	}
	var octets [2][32]byte
	for k, p := range [][]byte{first, second} { // not negative, without zeros before them
		if len(p) > 32 {
			return r, s, false
		}
		copy(octets[k][32-len(p):], p)
	}
	return numbers(octets[0][:], octets[1][:])
}

// numbers reads a signature's from 32 octets each; false for one that is not in [1, order-1].
func numbers(first, second []byte) (r, s number, ok bool) {
	r, s = fromOctets(first), fromOctets(second)
	return r, s, !r.zero() && !s.zero() && r.below(&order.n) && s.below(&order.n)
}

// multipliers are u1 and u2, given 1/s in Montgomery's form.
func (c *claim) multipliers(inverse *number) (u1, u2 number) {
	order.mul(&u1, inverse, &c.e)
	order.mul(&u2, inverse, &c.r)
	return u1, u2
}

// meets reports whether u1*G + u2*Q is what the claim says. That it is a point of the curve was proved before: a sum that was added up
// wrongly is hardly ever one.
func (c *claim) meets(sum *affine) bool {
	if !sum.on() {
		return false
	}
	x := prime.outside(sum.x)
	order.reduce(&x, 0)
	return x == c.r
}

// check verifies a group of claims with one inversion modulo the order and one for each level of their sums.
type check struct {
	claims   []claim
	products []number // of the s up to a claim
	sums     sums
}

var checks = sync.Pool{New: func() any { return new(check) }}

func (c *check) reset() {
	c.claims = c.claims[:0]
	c.sums.reset()
}

// add adds a claim, if the signature is one.
func (c *check) add(n int, digest *[32]byte, signature []byte) {
	if r, s, ok := parse(signature); ok {
		c.claims = append(c.claims, claim{n: n, e: fromOctets(digest[:]), r: r, s: s})
	}
}

// verify calls accept for each claim that holds.
func (c *check) verify(t *pair, accept func(n int)) {
	product := order.inside(number{1})
	c.products = c.products[:0]
	for k := range c.claims {
		s := order.inside(c.claims[k].s)
		c.products = append(c.products, product)
		order.mul(&product, &product, &s)
	}
	order.invert(&product, &product)
	for k := len(c.claims) - 1; k >= 0; k-- { // of all up to k
		s := order.inside(c.claims[k].s)
		order.mul(&c.products[k], &c.products[k], &product)
		order.mul(&product, &product, &s)
	}
	for k := range c.claims {
		u1, u2 := c.claims[k].multipliers(&c.products[k])
		c.sums.open()
		c.sums.points = t.q.multiple(t.g.multiple(c.sums.points, &u1), &u2)
	}
	c.sums.add()
	for k := range c.claims {
		if sum, ok := c.sums.sum(k); ok && c.claims[k].meets(&sum) {
			accept(c.claims[k].n)
		}
	}
}

// verify verifies one claim: without others to share an inversion with, it adds without divisions. The few signatures with
// r = x - order are left to the standard library.
func (t *pair) verify(digest *[32]byte, r, s number) bool {
	c := claim{e: fromOctets(digest[:]), r: r}
	s = order.inside(s)
	order.invert(&s, &s)
	u1, u2 := c.multipliers(&s)
	var room [2 * (256 + narrow) / narrow]affine
	points := t.q.multiple(t.g.multiple(room[:0], &u1), &u2)
	if len(points) == 0 {
		return false
	}
	sum := extended{points[0].x, points[0].y, one, one}
	for k := range points[1:] {
		if !sum.add(&points[k+1]) {
			return false
		}
	}
	return sum.on() && sum.hasX(r)
}

// extended is the point (x/zz, y/zzz), where zz^3 = zzz^2: one multiplication less for an addition than with Jacobian coordinates.
type extended struct{ x, y, zz, zzz element }

// add is false, and j nothing, when the points have one x.
func (j *extended) add(a *affine) bool {
	var h, r, hh, hhh, v, rr element
	mul(&h, &a.x, &j.zz)
	mul(&r, &a.y, &j.zzz)
	sub(&h, &h, &j.x)
	sub(&r, &r, &j.y)
	if h.zero() {
		return false
	}
	mul(&hh, &h, &h)
	mul(&rr, &r, &r)
	mul(&hhh, &hh, &h)
	mul(&v, &hh, &j.x)
	mul(&j.zz, &j.zz, &hh)
	sub(&rr, &rr, &hhh)
	sub(&rr, &rr, &v)
	sub(&j.x, &rr, &v)
	sub(&v, &v, &j.x)
	mul(&j.y, &j.y, &hhh)
	mul(&v, &v, &r)
	mul(&j.zzz, &j.zzz, &hhh)
	sub(&j.y, &v, &j.y)
	return true
}

// on reports whether it is a point of the curve other than infinity: y^2 = x^3 - 3x*zz^2 + b*zz^3, and zz^3 = zzz^2 is not zero.
func (j *extended) on() bool {
	var l, r, zz2, zz3 element
	mul(&zz2, &j.zz, &j.zz)
	mul(&zz3, &zz2, &j.zz)
	mul(&l, &j.zzz, &j.zzz)
	if l != zz3 || l.zero() {
		return false
	}
	mul(&zz3, &zz3, &curve)
	mul(&l, &j.y, &j.y)
	mul(&r, &j.x, &j.x)
	sub(&r, &r, &zz2)
	sub(&r, &r, &zz2)
	sub(&r, &r, &zz2)
	mul(&r, &r, &j.x)
	sub(&l, &l, &r)
	return l == zz3
}

// hasX reports whether x is that of the point.
func (j *extended) hasX(x number) bool {
	x = prime.inside(x)
	mul(&x, &x, &j.zz)
	return x == j.x
}
