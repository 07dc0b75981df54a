package keycheck

//lint:file-ignore SA1019 a key to be judged may have impossible coordinates: they are read, never used

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/binary"
	"math/big"
	"slices"
	"sync"
)

// maxSmallScalar is the largest private number that anybody finds by counting. Eight intermediate authorities had P-384
// keys below 256 (bugzilla.mozilla.org 2083449).
const maxSmallScalar = 1 << 16

// smallScalars holds, for each curve, 64 bits of the X coordinate of j·G for j = 1 … maxSmallScalar, sorted. -j·G has the
// same X. A stranger's key meets one of them by accident with a chance of 2^-48.
var smallScalars = map[elliptic.Curve]func() []uint64{
	elliptic.P256(): sync.OnceValue(func() []uint64 { return multiplesOfG(elliptic.P256(), maxSmallScalar) }),
	elliptic.P384(): sync.OnceValue(func() []uint64 { return multiplesOfG(elliptic.P384(), maxSmallScalar) }),
	elliptic.P521(): sync.OnceValue(func() []uint64 { return multiplesOfG(elliptic.P521(), maxSmallScalar) }),
}

// smallPrivate says whether the private half is a number up to maxSmallScalar, or the negative of one. The table of a
// curve is made at its first key, in about a tenth of a second.
func smallPrivate(k *ecdsa.PublicKey) bool {
	table, ok := smallScalars[k.Curve]
	if !ok {
		return false
	}
	_, found := slices.BinarySearch(table(), low64(k.X))
	return found
}

func low64(x *big.Int) uint64 {
	var b [66]byte // P-521
	return binary.BigEndian.Uint64(x.FillBytes(b[:])[58:])
}

// affine is a point that is not the neutral one.
type affine struct{ x, y *big.Int }

// multiplesOfG makes 1·G … n·G, n a power of two, by doubling the list: i·G + k·G for all i up to k at once, with one
// inversion for all of them (Montgomery's trick). Public data: time need not be constant.
func multiplesOfG(c elliptic.Curve, n int) []uint64 {
	params := c.Params()
	p := params.P
	points := make([]affine, 1, n)
	points[0] = affine{params.Gx, params.Gy}
	for len(points) < n {
		step := points[len(points)-1] // k·G
		num, den := make([]*big.Int, len(points)), make([]*big.Int, len(points))
		for i, q := range points {
			num[i], den[i] = sub(step.y, q.y, p), sub(step.x, q.x, p)
		}
		last := len(points) - 1 // k·G + k·G is a doubling: (3x²-3) / 2y
		num[last] = mod(new(big.Int).Mul(big.NewInt(3), sub(mul(step.x, step.x, p), big.NewInt(1), p)), p)
		den[last] = mod(new(big.Int).Lsh(step.y, 1), p)
		for i, inv := range inverses(den, p) {
			m := mul(num[i], inv, p)
			x := sub(sub(mul(m, m, p), step.x, p), points[i].x, p)
			points = append(points, affine{x, sub(mul(m, sub(step.x, x, p), p), step.y, p)})
		}
	}
	table := make([]uint64, n)
	for i, q := range points {
		table[i] = low64(q.x)
	}
	slices.Sort(table)
	return table
}

// inverses of all, with one modular inversion.
func inverses(all []*big.Int, p *big.Int) []*big.Int {
	products, acc := make([]*big.Int, len(all)), big.NewInt(1)
	for i, a := range all {
		products[i] = acc
		acc = mul(acc, a, p)
	}
	inv, out := new(big.Int).ModInverse(acc, p), make([]*big.Int, len(all))
	for i := len(all) - 1; i >= 0; i-- {
		out[i] = mul(inv, products[i], p)
		inv = mul(inv, all[i], p)
	}
	return out
}

func mod(a, p *big.Int) *big.Int    { return a.Mod(a, p) }
func mul(a, b, p *big.Int) *big.Int { return mod(new(big.Int).Mul(a, b), p) }
func sub(a, b, p *big.Int) *big.Int { return mod(new(big.Int).Sub(a, b), p) }
