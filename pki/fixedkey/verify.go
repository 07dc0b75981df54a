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
	r, s = fromOctets(octets[0][:]), fromOctets(octets[1][:])
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

// verify verifies one claim: without others to share an inversion with, it adds in Jacobian coordinates. The few signatures with
// r = x - order are left to the standard library.
func (t *pair) verify(digest *[32]byte, signature []byte) bool {
	r, s, ok := parse(signature)
	if !ok {
		return false
	}
	c := claim{e: fromOctets(digest[:]), r: r}
	s = order.inside(s)
	order.invert(&s, &s)
	u1, u2 := c.multipliers(&s)
	var room [2 * (256 + narrow) / narrow]affine
	points := t.q.multiple(t.g.multiple(room[:0], &u1), &u2)
	if len(points) == 0 {
		return false
	}
	sum := jacobian{points[0].x, points[0].y, one}
	for k := range points[1:] {
		if !sum.add(&points[k+1]) {
			return false
		}
	}
	return sum.on() && sum.hasX(r)
}

// jacobian is the point (x/z^2, y/z^3).
type jacobian struct{ x, y, z element }

// add is false, and j nothing, when the points have one x.
func (j *jacobian) add(a *affine) bool {
	var zz, h, r, hh, hhh, v element
	mul(&zz, &j.z, &j.z)
	mul(&h, &a.x, &zz)
	sub(&h, &h, &j.x)
	if h.zero() {
		return false
	}
	mul(&r, &a.y, &zz)
	mul(&r, &r, &j.z)
	sub(&r, &r, &j.y)
	mul(&hh, &h, &h)
	mul(&hhh, &hh, &h)
	mul(&v, &j.x, &hh)
	mul(&j.x, &r, &r)
	sub(&j.x, &j.x, &hhh)
	sub(&j.x, &j.x, &v)
	sub(&j.x, &j.x, &v)
	sub(&v, &v, &j.x)
	mul(&v, &v, &r)
	mul(&j.y, &j.y, &hhh)
	sub(&j.y, &v, &j.y)
	mul(&j.z, &j.z, &h)
	return true
}

// on reports whether it is a point of the curve: y^2 = x^3 - 3xz^4 + bz^6.
func (j *jacobian) on() bool {
	var l, r, z4, z6 element
	mul(&z6, &j.z, &j.z)
	mul(&z4, &z6, &z6)
	mul(&z6, &z6, &z4)
	mul(&z6, &z6, &curve)
	mul(&l, &j.y, &j.y)
	mul(&r, &j.x, &j.x)
	sub(&r, &r, &z4)
	sub(&r, &r, &z4)
	sub(&r, &r, &z4)
	mul(&r, &r, &j.x)
	sub(&l, &l, &r)
	return l == z6
}

// hasX reports whether x is that of the point.
func (j *jacobian) hasX(x number) bool {
	x = prime.inside(x)
	mul(&x, &x, &j.z)
	mul(&x, &x, &j.z)
	return x == j.x
}
