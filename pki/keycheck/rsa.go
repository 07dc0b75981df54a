package keycheck

import (
	"crypto/rsa"
	"math/big"
	"slices"
)

const (
	minRSABits      = 2048
	minFermatRounds = 100
	minExponent     = 1<<16 + 1
	smallPrimeLimit = 2000 // BR 6.1.6 asks for 752; the product below stays one word-wise division
)

func checkRSA(k *rsa.PublicKey, allow Rules) error {
	if allow.NoRSA {
		return refuse("RSA keys are not allowed here")
	}
	if k == nil || k.N == nil || k.N.Sign() <= 0 {
		return refuse("the RSA key has no modulus")
	}
	if err := checkRSASize(k.N.BitLen(), allow); err != nil {
		return err
	}
	if err := checkExponent(k.E); err != nil {
		return err
	}
	n := k.N
	if n.Bit(0) == 0 {
		return refuse("the RSA modulus is even (BR 6.1.6)")
	}
	if err := listed(allow.Lists, func(l *List) bool { return l.hasModulus(n) }); err != nil {
		return err
	}
	if p := smallFactor(n); p != 0 {
		return refuse("the RSA modulus is divisible by %d (BR 6.1.6)", p)
	}
	if roca(n) {
		return refuse("the RSA modulus has the ROCA fingerprint: keys of that generator can be factored (CVE-2017-15361, BR 6.1.1.3)")
	}
	rounds := max(allow.FermatRounds, minFermatRounds)
	if fermat(n, rounds) {
		return refuse("the RSA primes are so close that Fermat's method finds them within %d rounds (BR 6.1.1.3)", rounds)
	}
	if perfectPower(n) {
		return refuse("the RSA modulus is a power of one prime (BR 6.1.6)")
	}
	if n.ProbablyPrime(0) {
		return refuse("the RSA modulus is itself a prime")
	}
	return nil
}

func checkRSASize(bits int, allow Rules) error {
	switch {
	case bits < minRSABits:
		return refuse("the RSA modulus has %d bits, at least %d are needed (BR 6.1.5)", bits, minRSABits)
	case bits > MaxRSABits:
		return refuse("the RSA modulus has %d bits, at most %d are looked at", bits, MaxRSABits)
	case bits%8 != 0:
		return refuse("the RSA modulus has %d bits, which is not a multiple of 8 (BR 6.1.5)", bits)
	case allow.RSASizes != nil && !slices.Contains(allow.RSASizes, bits):
		return refuse("the RSA modulus has %d bits; the sizes allowed here are %v", bits, allow.RSASizes)
	case allow.RSASizes == nil && bits < allow.MinRSABits:
		return refuse("the RSA modulus has %d bits, at least %d are needed here", bits, allow.MinRSABits)
	case allow.RSASizes == nil && allow.RSAMaxBits > 0 && bits > allow.RSAMaxBits:
		return refuse("the RSA modulus has %d bits, at most %d are allowed here", bits, allow.RSAMaxBits)
	default:
		return nil
	}
}

// checkExponent asks for an odd exponent of at least 2^16+1. The upper end, 2^256-1, cannot be reached: the standard
// library holds exponents in an int and refuses to parse larger ones.
func checkExponent(e int) error {
	switch {
	case e < 1 || e%2 == 0:
		return refuse("the RSA exponent %d is not an odd positive number (BR 6.1.6)", e)
	case e < minExponent:
		return refuse("the RSA exponent %d is below 65537 (BR 6.1.6)", e)
	default:
		return nil
	}
}

// primes are the odd primes below smallPrimeLimit, and their product.
var primes, primorial = func() ([]uint64, *big.Int) {
	var list []uint64
	product := big.NewInt(1)
	for c := uint64(3); c < smallPrimeLimit; c += 2 {
		if slices.ContainsFunc(list, func(p uint64) bool { return c%p == 0 }) {
			continue
		}
		list = append(list, c)
		product.Mul(product, new(big.Int).SetUint64(c))
	}
	return list, product
}()

// smallFactor returns an odd prime factor of n below smallPrimeLimit, or 0.
func smallFactor(n *big.Int) uint64 {
	g := new(big.Int).GCD(nil, nil, n, primorial)
	if g.IsUint64() && g.Uint64() == 1 {
		return 0
	}
	var r big.Int
	for _, p := range primes {
		if r.Mod(g, r.SetUint64(p)).Sign() == 0 {
			return p
		}
	}
	return 0
}

// fermat reports whether n = a² - b² = (a+b)(a-b) for one of the first values of a from ceil(sqrt(n)) on: the factors
// are close, so they were not chosen independently.
func fermat(n *big.Int, rounds int) bool {
	a := new(big.Int).Sqrt(n)
	b2 := new(big.Int).Mul(a, a)
	if b2.Cmp(n) == 0 {
		return true // a square
	}
	a.Add(a, big.NewInt(1))
	b2.Mul(a, a).Sub(b2, n)
	step := new(big.Int).Lsh(a, 1)
	step.Add(step, big.NewInt(1))
	two := big.NewInt(2)
	for range rounds {
		if isSquare(b2) {
			return true
		}
		b2.Add(b2, step) // (a+1)² - n = a² - n + 2a + 1
		step.Add(step, two)
	}
	return false
}

// squareFilter are moduli that fit a word; a square is a quadratic residue of each. The filter spares nearly all roots.
const squareFilter = 64 * 63 * 65 * 11 * 17 * 19 * 23 * 31

var residues = func() map[uint64][]bool {
	m := make(map[uint64][]bool)
	for _, q := range []uint64{64, 63, 65, 11, 17, 19, 23, 31} {
		m[q] = make([]bool, q)
		for x := range q {
			m[q][x*x%q] = true
		}
	}
	return m
}()

func isSquare(x *big.Int) bool {
	if x.Sign() < 0 {
		return false
	}
	r := new(big.Int).Mod(x, big.NewInt(squareFilter)).Uint64()
	for q, square := range residues {
		if !square[r%q] {
			return false
		}
	}
	root := new(big.Int).Sqrt(x)
	return root.Mul(root, root).Cmp(x) == 0
}

// perfectPower reports whether n = r^k for an odd prime k; squares are fermat's first step. Factors below
// smallPrimeLimit are excluded before, so r has at least 11 bits and k is bounded by BitLen/10.
func perfectPower(n *big.Int) bool {
	for _, k := range primes {
		if int(k) > n.BitLen()/10 {
			return false
		}
		if isPower(n, k) {
			return true
		}
	}
	return false
}

// isPower compares n with the k-th power of its approximate root. The residue test comes first: for a prime q = ck+1 a
// k-th power has order dividing c, which few other numbers have.
func isPower(n *big.Int, k uint64) bool {
	var r, q big.Int
	for c := uint64(2); c <= 60; c += 2 {
		p := c*k + 1
		if q.SetUint64(p); !q.ProbablyPrime(0) {
			continue
		}
		if residue := r.Mod(n, &q).Uint64(); residue != 0 && powMod(residue, c, p) != 1 {
			return false
		}
	}
	lo, hi := big.NewInt(1), new(big.Int).Lsh(big.NewInt(1), uint(n.BitLen()/int(k)+1))
	exp, mid, power := new(big.Int).SetUint64(k), new(big.Int), new(big.Int)
	for lo.Cmp(hi) < 0 {
		mid.Add(lo, hi).Rsh(mid, 1)
		switch power.Exp(mid, exp, nil).Cmp(n) {
		case 0:
			return true
		case -1:
			lo.Add(mid, big.NewInt(1))
		default:
			hi.Set(mid)
		}
	}
	return false
}

func powMod(b, e, m uint64) uint64 {
	r := uint64(1)
	for b %= m; e > 0; e >>= 1 {
		if e&1 == 1 {
			r = r * b % m
		}
		b = b * b % m
	}
	return r
}
