package keycheck

import (
	"crypto/ed25519"
	"math/big"
	"slices"
)

// Curve constants of RFC 8032 section 5.1: p = 2^255-19, d = -121665/121666.
var (
	edP = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	edD = func() *big.Int {
		d := new(big.Int).ModInverse(big.NewInt(121666), edP)
		return d.Mul(d, big.NewInt(-121665)).Mod(d, edP)
	}()
)

func checkEd25519(k ed25519.PublicKey, allow Rules) error {
	if !allow.Ed25519 {
		return refuse("Ed25519 keys are not allowed here (BR 6.1.5)")
	}
	if len(k) != ed25519.PublicKeySize {
		return refuse("the Ed25519 key has %d bytes, not %d", len(k), ed25519.PublicKeySize)
	}
	x, y, ok := edPoint(k)
	if !ok {
		return refuse("the Ed25519 key is not the canonical encoding of a point on the curve (RFC 8032 section 5.1.3)")
	}
	for range 3 {
		x, y = edDouble(x, y)
	}
	if x.Sign() == 0 && y.Cmp(big.NewInt(1)) == 0 {
		return refuse("the Ed25519 key is a point of small order, under which anything verifies")
	}
	return listed(allow.Lists, func(l *List) bool { return l.hasNumber(trimZeros(k)) })
}

// edPoint decodes a point (RFC 8032 section 5.1.3). Public data: time need not be constant.
func edPoint(k []byte) (x, y *big.Int, ok bool) {
	le := slices.Clone(k)
	sign := uint(le[31] >> 7)
	le[31] &= 0x7f
	slices.Reverse(le)
	y = new(big.Int).SetBytes(le)
	if y.Cmp(edP) >= 0 {
		return nil, nil, false
	}
	one := big.NewInt(1)
	y2 := new(big.Int).Mul(y, y)
	u := new(big.Int).Sub(y2, one)
	v := new(big.Int).Mul(edD, y2)
	v.Add(v, one).Mod(v, edP).ModInverse(v, edP) // d*y²+1 is never 0: -1/d is no square
	u.Mul(u, v).Mod(u, edP)
	x = new(big.Int).ModSqrt(u, edP)
	if x == nil || x.Sign() == 0 && sign == 1 {
		return nil, nil, false
	}
	if x.Bit(0) != sign {
		x.Sub(edP, x)
	}
	return x, y, true
}

// edDouble adds a point to itself on -x²+y² = 1+dx²y².
func edDouble(x, y *big.Int) (*big.Int, *big.Int) {
	xy := new(big.Int).Mul(x, y)
	x2, y2 := new(big.Int).Mul(x, x), new(big.Int).Mul(y, y)
	t := new(big.Int).Mul(x2, y2)
	t.Mul(t, edD).Mod(t, edP)
	one := big.NewInt(1)
	px := new(big.Int).Add(one, t)
	py := new(big.Int).Sub(one, t)
	px.Mod(px, edP).ModInverse(px, edP)
	py.Mod(py, edP).ModInverse(py, edP)
	x3 := xy.Lsh(xy, 1)
	x3.Mul(x3, px).Mod(x3, edP)
	y3 := y2.Add(y2, x2)
	y3.Mul(y3, py).Mod(y3, edP)
	return x3, y3
}

func trimZeros(p []byte) []byte {
	for len(p) > 0 && p[0] == 0 {
		p = p[1:]
	}
	return p
}
