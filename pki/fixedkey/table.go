package fixedkey

import (
	"math/big"
	"math/bits"
	"slices"
	"sync"

	"filippo.io/nistec"
)

// Widths of the windows, in bits. A narrow table (264 KiB) serves who checks one signature at a time and is made within some
// milliseconds. A wide one (2.8 MiB) takes a third of the additions from a batch and ten times as long to make.
const (
	narrow = 8
	wide   = 12
)

// table holds, for each window of a scalar and each of its values, that multiple of a point. Digits are signed, so half of the
// values do: the other half are their negatives.
type table struct {
	width int
	rows  int
	half  int      // entries of a row, and the largest digit
	at    []affine // row w, value v: v * 2^(w*width) * Q at [w*half + v-1]
}

// Multiples of the generator are the same for every issuer.
var (
	narrowBase = sync.OnceValue(func() *table { return tableOf(nistec.NewP256Point().SetGenerator(), narrow) })
	wideBase   = sync.OnceValue(func() *table { return tableOf(nistec.NewP256Point().SetGenerator(), wide) })
)

// tableOf is nil when the multiples are not what they must be.
func tableOf(q *nistec.P256Point, width int) *table {
	t := &table{width: width, rows: (256 + width) / width, half: 1 << (width - 1)} // of 257 bits: the highest digit may carry
	t.at = make([]affine, t.rows*t.half)
	base := nistec.NewP256Point().Set(q)
	for w := range t.rows {
		var ok bool
		if t.row(w)[0], ok = affineOf(base); !ok {
			return nil
		}
		t.shift(base)
	}
	s := &sums{lanes: make([]lane, 0, len(t.at)/2), points: make([]affine, 0, len(t.at)), products: make([]element, 0, len(t.at)/2)}
	for k := 1; k < t.half; k *= 2 {
		if !s.fill(t, k) {
			return nil
		}
	}
	if !t.agrees(s, q) {
		return nil
	}
	return t
}

// shift brings a point from a row to the next.
func (t *table) shift(p *nistec.P256Point) {
	for range t.width {
		p.Double(p)
	}
}

// row is that of a window.
func (t *table) row(w int) []affine { return t.at[w*t.half:][:t.half] }

// fill makes the entries above k up to 2k of all rows, of those up to k: the double of k, and its sums with the others.
func (s *sums) fill(t *table, k int) bool {
	s.points = s.points[:0]
	for w := range t.rows {
		s.points = append(s.points, t.row(w)[k-1])
	}
	s.double()
	for w := range t.rows {
		t.row(w)[2*k-1] = s.points[w]
	}
	s.reset()
	for w := range t.rows {
		row := t.row(w)
		for v := 1; v < k; v++ {
			s.open()
			s.points = append(s.points, row[k-1], row[v-1])
		}
	}
	s.add()
	n := 0
	for w := range t.rows {
		row := t.row(w)
		for v := 1; v < k; v++ {
			var ok bool
			if row[k+v-1], ok = s.sum(n); !ok {
				return false
			}
			n++
		}
	}
	return true
}

// affineOf is false for infinity.
func affineOf(p *nistec.P256Point) (a affine, ok bool) {
	octets := p.Bytes()
	if len(octets) != 65 {
		return a, false
	}
	a.x, a.y = prime.inside(fromOctets(octets[1:33])), prime.inside(fromOctets(octets[33:]))
	return a, true
}

// agrees compares the table with a multiplication and doublings that do not use it: the sum of each row, in which every entry counts.
func (t *table) agrees(s *sums, q *nistec.P256Point) bool {
	s.reset()
	for w := range t.rows {
		s.open()
		s.points = append(s.points, t.row(w)...)
	}
	s.add()
	scalar := big.NewInt(int64(t.half) * int64(t.half+1) / 2)
	product, err := nistec.NewP256Point().ScalarMult(q, scalar.FillBytes(make([]byte, 32)))
	if err != nil {
		return false
	}
	for w := range t.rows {
		got, ok := s.sum(w)
		want, finite := affineOf(product)
		if !ok || !finite || got != want {
			return false
		}
		t.shift(product)
	}
	return true
}

// multiple appends points whose sum is u*Q; none for zero. First the digits, then the entries, which come from all over the memory: a
// processor that has nothing else to do, and nothing to guess, asks for the next ones before the last is there. The sign of a
// digit is as good as thrown, so nothing branches on it.
func (t *table) multiple(to []affine, u *number) []affine {
	var places [(256 + narrow) / narrow]int32 // of entries, from 1 on; negative ones are taken negatively
	n, carry := 0, 0
	for w := range t.rows {
		digit := u.bits(w*t.width, t.width) + carry
		carry = int(uint(t.half-digit) >> (bits.UintSize - 1)) // of a digit above half, which becomes a negative one
		digit -= carry << t.width
		if digit == 0 {
			continue
		}
		sign := digit >> (bits.UintSize - 1) // all ones for a negative one
		places[n] = int32(digit + (w*t.half ^ sign) - sign)
		n++
	}
	to = slices.Grow(to, n)
	points := to[len(to) : len(to)+n]
	for k, p := range places[:n] {
		points[k] = t.at[max(p, -p)-1]
	}
	for k, p := range places[:n] {
		negate(&points[k].y, uint64(int64(p>>31)))
	}
	return to[:len(to)+n]
}

// bits are n of x, from bit at on; those beyond its 256 are zero.
func (x *number) bits(at, n int) int {
	word, shift := at/64, at%64
	if word >= len(x) {
		return 0
	}
	v := x[word] >> shift
	if word+1 < len(x) {
		v |= x[word+1] << (64 - shift) // nothing for a shift of 64
	}
	return int(v & (1<<n - 1))
}
