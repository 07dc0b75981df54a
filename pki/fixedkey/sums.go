package fixedkey

// sums are sums of points, many at once: each addition in affine coordinates costs a division, and one inversion serves all
// additions of a level (Montgomery's trick), so an addition costs five multiplications and a square where one without a division costs
// eleven or more. The additions of a sum stand like a tree.
//
// A sum in which two points with one x met - the same point or its negative, for which the formula does not hold - is not
// given, and disturbs no other.
type sums struct {
	lanes    []lane
	points   []affine  // of all lanes, one after the other
	products []element // of the differences of x up to one addition
}

// lane is one sum.
type lane struct {
	from, n int // its points
	failed  bool
}

func (s *sums) reset() { s.lanes, s.points = s.lanes[:0], s.points[:0] }

// open begins a sum: points that are appended from now on are its.
func (s *sums) open() { s.lanes = append(s.lanes, lane{from: len(s.points)}) }

// add adds up.
func (s *sums) add() {
	end := len(s.points)
	for n := len(s.lanes) - 1; n >= 0; n-- {
		l := &s.lanes[n]
		l.n, end = end-l.from, l.from
	}
	for s.level() {
	}
}

// sum is the n-th; false when it has none: it is infinite, or has no point, or could not be added up.
func (s *sums) sum(n int) (affine, bool) {
	l := s.lanes[n]
	if l.failed || l.n != 1 {
		return affine{}, false
	}
	return s.points[l.from], true
}

// level adds the points of each sum two by two, and is false when no sum has two.
func (s *sums) level() bool {
	product, products := one, s.products[:0]
	var d element
	for n := len(s.lanes) - 1; n >= 0; n-- { // from the end: results are written from the beginning, over points that were used
		l := &s.lanes[n]
		points := s.points[l.from:][:l.n]
		for k := l.n/2*2 - 2; k >= 0; k -= 2 {
			if sub(&d, &points[k+1].x, &points[k].x); d.zero() {
				l.failed, d = true, one
			}
			products = append(products, product)
			mul(&product, &product, &d)
		}
	}
	s.products = products
	if len(products) == 0 {
		return false
	}
	prime.invert(&product, &product) // of all; from here on of those that are left
	last := len(products) - 1
	for n := range s.lanes {
		l := &s.lanes[n]
		points := s.points[l.from:][:l.n]
		for k := 0; k+1 < l.n; k += 2 {
			a, b := &points[k], &points[k+1]
			if sub(&d, &b.x, &a.x); d.zero() {
				d = one
			}
			var inverse element
			mul(&inverse, &product, &products[last])
			mul(&product, &product, &d)
			last--
			chord(&points[k/2], a, b, &inverse)
		}
		if l.n%2 == 1 {
			points[l.n/2] = points[l.n-1]
		}
		l.n = (l.n + 1) / 2
	}
	return true
}

// double doubles each point. None has a y of zero: the order of the group is odd.
func (s *sums) double() {
	product := one
	s.products = s.products[:0]
	for k := range s.points {
		y := &s.points[k].y
		s.products = append(s.products, product)
		mul(&product, &product, y)
	}
	prime.invert(&product, &product)
	for k := len(s.points) - 1; k >= 0; k-- {
		a := &s.points[k]
		var inverse element
		mul(&inverse, &product, &s.products[k])
		mul(&product, &product, &a.y)
		tangent(a, &inverse)
	}
}

// tangent is a = 2a, given 1/a.y: the slope is (3x^2-3)/2y.
func tangent(a *affine, inverse *element) {
	var slope element
	mul(&slope, &a.x, &a.x)
	sub(&slope, &slope, &one)
	mul(&slope, &slope, inverse)
	mul(&slope, &slope, &threeHalves)
	third(a, a, a, &slope)
}

// chord is z = a + b, given 1/(b.x-a.x). z may be one of them.
func chord(z, a, b *affine, inverse *element) {
	var slope element
	sub(&slope, &b.y, &a.y)
	mul(&slope, &slope, inverse)
	third(z, a, b, &slope)
}

// third is z = a + b, given the slope of the line through both. z may be one of them.
func third(z, a, b *affine, slope *element) {
	var x, y element
	mul(&x, slope, slope)
	sub(&x, &x, &a.x)
	sub(&x, &x, &b.x)
	sub(&y, &a.x, &x)
	mul(&y, &y, slope)
	sub(&z.y, &y, &a.y)
	z.x = x
}
