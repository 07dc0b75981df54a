package keycheck

import "math/big"

// rocaGenerator generates the subgroup in which the primes of the broken Infineon library lie: p = k*M + (65537^a mod
// M), M a product of the first primes (Nemec et al., "The Return of Coppersmith's Attack", CCS 2017). A modulus is then
// 65537^(a+b) mod M, so its residues modulo all small primes have one common discrete logarithm.
const rocaGenerator = 65537

// rocaPrimes is how many odd primes M has at the smallest key size (3 … 167); larger sizes only add to them.
const rocaPrimes = 38

type rocaPrime struct {
	p     uint64
	order int   // of the generator modulo p
	log   []int // by residue; -1 outside the subgroup
}

var rocaTable = func() []rocaPrime {
	var table []rocaPrime
	for _, p := range primes[:rocaPrimes] {
		e := rocaPrime{p: p, log: make([]int, p)}
		for i := range e.log {
			e.log[i] = -1
		}
		for x := uint64(1); e.log[x] < 0; x = x * rocaGenerator % p {
			e.log[x] = e.order
			e.order++
		}
		table = append(table, e)
	}
	return table
}()

// roca reports whether n has the fingerprint. The logarithms modulo the orders must agree pairwise where the orders
// share a factor (the generalised Chinese remainder theorem), which makes a false alarm a matter of 2^-150.
func roca(n *big.Int) bool {
	var m, r big.Int
	logs := make([]int, len(rocaTable))
	for i, e := range rocaTable {
		logs[i] = e.log[r.Mod(n, m.SetUint64(e.p)).Uint64()]
		if logs[i] < 0 {
			return false
		}
		for j := range i {
			if g := gcd(e.order, rocaTable[j].order); (logs[i]-logs[j])%g != 0 {
				return false
			}
		}
	}
	return true
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
