package fixedkey

import (
	"crypto/elliptic"
	"crypto/sha256"
	"math/big"
	"slices"
	"testing"

	"filippo.io/nistec"
)

// Sums of every length stand beside those that the formula does not give, and are what nistec says.
func TestSums(t *testing.T) {
	multiple := func(k int64) (affine, *nistec.P256Point) {
		p, err := nistec.NewP256Point().ScalarBaseMult(big.NewInt(k).FillBytes(make([]byte, 32)))
		if err != nil {
			t.Fatal(err)
		}
		a, _ := affineOf(p)
		return a, p
	}
	var s sums
	var want []*nistec.P256Point // nil for none
	for round := range 3 {       // the second and the third find what the one before left
		s.reset()
		want = want[:0]
		none := func(points ...affine) {
			s.open()
			s.points, want = append(s.points, points...), append(want, nil)
		}
		for n := range 40 - 10*round {
			s.open()
			sum := nistec.NewP256Point()
			for k := range n {
				a, p := multiple(int64(1) << k << round)
				s.points = append(s.points, a)
				sum.Add(sum, p)
			}
			if want = append(want, sum); n == 0 {
				want[len(want)-1] = nil
			}
			a, _ := multiple(5)
			b, _ := multiple(10)
			opposite := a
			negate(&opposite.y, 1<<64-1)
			none()
			none(a, a)
			none(a, opposite)
			none(a, b, a, b) // the same sums meet
		}
		s.add()
		for n, w := range want {
			got, ok := s.sum(n)
			if ok != (w != nil) {
				t.Fatalf("sum %d: %v, want one: %v", n, ok, w != nil)
			}
			if ok {
				if a, _ := affineOf(w); got != a || !got.on() {
					t.Fatalf("sum %d is wrong", n)
				}
			}
		}
	}
}

// With multiples that are wrong, were they used, no signature would be accepted: the right x alone is not enough.
func TestOffTheCurve(t *testing.T) {
	key := newKey(t, elliptic.P256())
	digest := sha256.Sum256([]byte("message"))
	all := slices.Repeat([]pledge{{digest[:], sign(t, key, []byte("message"))}}, 9)
	for _, p := range pairs(t, key) {
		p := &pair{g: p.g, q: &table{width: p.q.width, rows: p.q.rows, half: p.q.half, at: slices.Clone(p.q.at)}}
		for n := range p.q.at {
			sub(&p.q.at[n].y, &p.q.at[n].y, &one)
		}
		if slices.Contains(together(p, all), true) || slices.Contains(alone(p, all), true) {
			t.Error("accepted")
		}
	}
	r, s, _ := parse(all[0].signature)
	c := claim{r: r, s: s}
	sum := affine{x: prime.inside(r), y: prime.inside(s)}
	if bare := (&extended{sum.x, sum.y, one, one}); !bare.hasX(r) || bare.on() || c.meets(&sum) {
		t.Error("a point off the curve is taken for a sum")
	}
}

// Tables with one wrong multiple, whichever, are never used.
func TestDisagrees(t *testing.T) {
	q := pointOf(newKey(t, elliptic.P256()))
	tab := tableOf(q, narrow)
	if !tab.agrees(&sums{}, q) {
		t.Fatal("a table as made does not agree")
	}
	for row := range tab.rows {
		for _, v := range []int{0, row % tab.half, tab.half - 1} {
			at := &tab.at[row*tab.half+v]
			kept := *at
			sub(&at.y, &number{}, &at.y) // its negative: a point of the curve
			if tab.agrees(&sums{}, q) {
				t.Fatalf("a wrong multiple %d in row %d is not noticed", v+1, row)
			}
			*at = tab.at[(row*tab.half+v+1)%len(tab.at)]
			if tab.agrees(&sums{}, q) {
				t.Fatalf("a multiple %d of row %d at the wrong place is not noticed", v+1, row)
			}
			*at = kept
		}
	}
	big := tableOf(q, wide)
	at := &big.at[len(big.at)/2]
	sub(&at.y, &number{}, &at.y)
	if big.agrees(&sums{}, q) {
		t.Fatal("a wrong multiple in a wide table is not noticed")
	}
	other := nistec.NewP256Point().Double(q)
	if tab.agrees(&sums{}, other) || pairOf(q, narrow, func() *table { return nil }) != nil {
		t.Fatal("tables of another point are used")
	}
}
