package fixedkey

import (
	"encoding/binary"
	"math/big"
	"math/rand/v2"
	"testing"
)

func (x *number) integer() *big.Int {
	octets := x.octets()
	return new(big.Int).SetBytes(octets[:])
}

// edges are words at which carries begin and end.
var edges = []uint64{0, 1, 0xffffffff, 0x100000000, 0xffffffff00000000, 0xffffffff00000001, 1 << 63, 1<<64 - 2, 1<<64 - 1}

// holds holds each operation against math/big, for numbers below a modulus.
func holds(t testing.TB, m *modulus, x, y number) {
	t.Helper()
	radix := new(big.Int).Lsh(big.NewInt(1), 256)
	inverse := new(big.Int).ModInverse(radix, m.big)
	want := func(what string, got number, n *big.Int) {
		t.Helper()
		if got.integer().Cmp(n.Mod(n, m.big)) != 0 {
			t.Fatalf("%s of %x and %x mod %x: %x, want %x", what, x.integer(), y.integer(), m.big, got.integer(), n)
		}
	}
	product := new(big.Int).Mul(x.integer(), y.integer())
	product.Mul(product, inverse)
	var z number
	m.mul(&z, &x, &y)
	want("product", z, new(big.Int).Set(product))
	if m != prime {
		return
	}
	mul(&z, &x, &y)
	want("fast product", z, product)
	if z = x; !z.zero() {
		negate(&z, 0)
		want("same", z, x.integer())
		negate(&z, 1<<64-1)
		want("negative", z, new(big.Int).Neg(x.integer()))
	}
	if y.below(&m.n) {
		sub(&z, &x, &y)
		want("difference", z, new(big.Int).Sub(x.integer(), y.integer()))
		z = x
		mul(&z, &z, &y) // over its own operand
		m.mul(&x, &x, &y)
		if z != x {
			t.Fatalf("%x, in place %x", x.integer(), z.integer())
		}
	}
}

// Every pair of numbers that are made of edges, the modulus and its neighbours among them.
func TestField(t *testing.T) {
	for _, m := range []*modulus{prime, order} {
		var all []number
		for _, a := range edges {
			for _, b := range edges {
				all = append(all, number{a, b, a, b}, number{b, a, a, b}, number{a, a, b, m.n[3]}, number{m.n[0], b, a, m.n[3]}, number{a, m.n[1], m.n[2], b})
			}
		}
		for k := range uint64(3) {
			all = append(all, number{m.n[0] - k, m.n[1], m.n[2], m.n[3]}, number{m.n[0] + k, m.n[1], m.n[2], m.n[3]}, number{k}, m.square, m.cube)
		}
		for _, x := range all {
			if !x.below(&m.n) {
				continue
			}
			if x.integer().Cmp(m.big) >= 0 {
				t.Fatal("not below")
			}
			if m.outside(m.inside(x)) != x {
				t.Fatalf("%x does not come back", x.integer())
			}
			if !x.zero() {
				form := m.inside(x)
				inverse := form
				m.invert(&inverse, &inverse)
				if m.mul(&inverse, &inverse, &form); m.outside(inverse) != (number{1}) {
					t.Fatalf("the inverse of %x is none", x.integer())
				}
			}
			for _, y := range all {
				holds(t, m, x, y)
			}
		}
	}
}

// Numbers by chance, from a fixed seed.
func TestFieldAtRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		x, y := number{r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64()}, number{r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64()}
		for _, m := range []*modulus{prime, order} {
			x := x
			m.reduce(&x, 0)
			holds(t, m, x, y)
		}
	}
}

// FuzzField is for carries that no table of edges thinks of.
func FuzzField(f *testing.F) {
	f.Add(make([]byte, 64))
	for _, e := range edges {
		f.Add(binary.BigEndian.AppendUint64(nil, e))
	}
	f.Fuzz(func(t *testing.T, octets []byte) {
		var p [64]byte
		copy(p[:], octets)
		for _, m := range []*modulus{prime, order} {
			x, y := fromOctets(p[:32]), fromOctets(p[32:])
			m.reduce(&x, 0)
			holds(t, m, x, y)
		}
	})
}
