package graph

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// AnchorSet is what one kind of relying party trusts. An anchor is an authority, a name and a key, not a certificate: a
// client that has R1 needs no certificate of R1 (RFC 5280 section 6.1.1).
type AnchorSet struct {
	Name    string // for people: "clients with R1 only"
	Anchors []*Authority
}

// Path is a chain: the certificate in question, then those above it. The issuer of the last one is the anchor.
type Path []*Certificate

// String lists serial numbers and subjects from the certificate upwards.
func (p Path) String() string {
	out := make([]string, len(p))
	for i, c := range p {
		out[i] = fmt.Sprintf("%s (%s)", c.Subject, c.SerialText())
	}
	return strings.Join(out, " ← ")
}

// Paths lists the chains from c to the anchors that hold at a time, the zero time meaning any: each issuer in it
// certifies, is valid, allows the path length below it (RFC 5280 section 6.1.4) and occurs once. Shorter ones come first.
// At most limit are given; more says that there are others.
func (g *Graph) Paths(c *Certificate, set AnchorSet, at time.Time, limit int) (list []Path, more bool) {
	if !c.validAt(at) {
		return nil, false
	}
	above, more := g.climb(g.Issuer(c), set, at, limit, g.allowances(set, at, nil, true))
	for _, p := range above {
		list = append(list, append(Path{c}, p...))
	}
	return list, more
}

// climber enumerates the paths above one authority.
type climber struct {
	g       *Graph
	anchors map[*Authority]bool
	reach   []int // allowances: from which authorities an anchor can be reached at all, which keeps dead ends out
	at      time.Time
	limit   int
	steps   int
	visited map[*Authority]bool
	path    Path
	found   []Path
	more    bool
}

// maxSteps bounds the search for one authority, however entangled the graph is.
const maxSteps = 20000

func (g *Graph) climb(from *Authority, set AnchorSet, at time.Time, limit int, reach []int) ([]Path, bool) {
	if from == nil {
		return nil, false
	}
	w := &climber{g: g, anchors: anchorMap(set), reach: reach, at: at, limit: limit, visited: map[*Authority]bool{}}
	w.step(from, 0)
	slices.SortStableFunc(w.found, func(a, b Path) int {
		if d := len(a) - len(b); d != 0 {
			return d
		}
		return slices.CompareFunc(a, b, byHash)
	})
	return w.found, w.more
}

func anchorMap(set AnchorSet) map[*Authority]bool {
	m := make(map[*Authority]bool, len(set.Anchors))
	for _, a := range set.Anchors {
		m[a] = true
	}
	return m
}

// step stands at authority a with below intermediates, self-issued ones not counted, under it.
func (w *climber) step(a *Authority, below int) {
	if w.steps++; w.steps > maxSteps || w.more {
		w.more = true
		return
	}
	if w.reach[a.id] < 0 {
		return
	}
	if w.anchors[a] {
		if len(w.found) >= w.limit {
			w.more = true
			return
		}
		w.found = append(w.found, slices.Clone(w.path))
	}
	w.visited[a] = true
	defer delete(w.visited, a)
	for _, c := range a.Certificates {
		up := w.g.Issuer(c)
		if up == nil || w.visited[up] || !c.mayIssue() || !c.validAt(w.at) || c.PathLen >= 0 && below > c.PathLen {
			continue
		}
		n := below
		if !c.SelfIssued() {
			n++
		}
		if n > maxBelow {
			continue
		}
		w.path = append(w.path, c)
		w.step(up, n)
		w.path = w.path[:len(w.path)-1]
	}
}

// allowances says for each authority how many intermediates may stand below it in some chain from the anchors, -1 when
// there is no chain. The highest number is enough: what holds with a small allowance holds with a larger one, and a walk
// that meets an authority twice can be cut short. So this is exact, without listing paths.
func (g *Graph) allowances(set AnchorSet, at time.Time, revoked map[*Certificate]bool, pathLen bool) []int {
	allow := make([]int, len(g.Authorities))
	for i := range allow {
		allow[i] = -1
	}
	var queue []*Authority
	raise := func(a *Authority, n int) {
		if n > allow[a.id] {
			allow[a.id] = n
			queue = append(queue, a)
		}
	}
	for _, a := range set.Anchors {
		raise(a, maxBelow)
	}
	for len(queue) > 0 {
		a := queue[0]
		queue = queue[1:]
		for _, c := range g.below[a.id] {
			if revoked[c] || !c.validAt(at) {
				continue
			}
			n := allow[a.id]
			if !c.SelfIssued() {
				n--
			}
			if pathLen && c.PathLen >= 0 {
				n = min(n, c.PathLen)
			}
			if n >= 0 {
				raise(g.Subject(c), n)
			}
		}
	}
	return allow
}

// bySubject sorts for people.
func bySubject(a, b *Certificate) int {
	return cmp.Or(cmp.Compare(a.Subject, b.Subject), a.Serial.Cmp(b.Serial), byHash(a, b))
}

// Effect is what revoking some certificates does to the relying parties of one anchor set.
type Effect struct {
	Anchors   string
	Revoked   []*Certificate // of the revoked ones, those that had a chain
	Lost      []*Certificate // others, that had a chain and have none now
	Kept      []*Certificate // others, that lose a chain and have another
	Untouched int            // certificates with a chain, none of whose chains changes
	Without   int            // certificates that had no chain before
	Truncated bool           // some authority has more chains than were listed: Kept may name certificates that lose none

	standing []Standing // of each authority
}

// maxEffectPaths is how many chains are looked at for each authority to tell Kept from Untouched.
const maxEffectPaths = 256

// Effect says for each anchor set which certificates lose their last chain when some are revoked, and which keep one
// (at the zero time validity does not count). What happens to status answers is another matter: those change for the
// revoked certificates and for nothing else.
func (g *Graph) Effect(revoked []*Certificate, sets []AnchorSet, at time.Time) []Effect {
	gone := make(map[*Certificate]bool, len(revoked))
	for _, c := range revoked {
		gone[c] = true
	}
	out := make([]Effect, 0, len(sets))
	for _, set := range sets {
		out = append(out, g.effect(gone, set, at))
	}
	return out
}

func (g *Graph) effect(gone map[*Certificate]bool, set AnchorSet, at time.Time) Effect {
	e := Effect{Anchors: set.Name}
	before, after := g.allowances(set, at, nil, true), g.allowances(set, at, gone, true)
	t := toucher{g: g, gone: gone, set: set, at: at, before: before, known: map[*Authority]bool{}}
	e.standing = g.standings(&t, before, after)
	for _, c := range g.Certificates {
		a := g.Issuer(c)
		switch {
		case a == nil || e.Of(a) == Without || !c.validAt(at):
			e.Without++
		case gone[c]:
			e.Revoked = append(e.Revoked, c)
		case e.Of(a) == Cut:
			e.Lost = append(e.Lost, c)
		case e.Of(a) == Reduced:
			e.Kept = append(e.Kept, c)
		default:
			e.Untouched++
		}
	}
	e.Truncated = t.truncated
	for _, list := range [][]*Certificate{e.Revoked, e.Lost, e.Kept} {
		slices.SortFunc(list, bySubject)
	}
	return e
}

// under marks the authorities that have a revoked certificate of an authority somewhere above them.
func (g *Graph) under(gone map[*Certificate]bool) []bool {
	mark := make([]bool, len(g.Authorities))
	var queue []*Authority
	add := func(a *Authority) {
		if !mark[a.id] {
			mark[a.id] = true
			queue = append(queue, a)
		}
	}
	for _, c := range g.Certificates {
		if gone[c] && c.mayIssue() {
			add(g.Subject(c))
		}
	}
	for len(queue) > 0 {
		a := queue[0]
		queue = queue[1:]
		for _, c := range g.below[a.id] {
			add(g.Subject(c))
		}
	}
	return mark
}

// toucher says whether a chain above an authority holds a revoked certificate. All certificates of an authority share
// the answer.
type toucher struct {
	g         *Graph
	gone      map[*Certificate]bool
	set       AnchorSet
	at        time.Time
	before    []int
	known     map[*Authority]bool
	truncated bool
}

func (t *toucher) touched(a *Authority) bool {
	if yes, ok := t.known[a]; ok {
		return yes
	}
	paths, more := t.g.climb(a, t.set, t.at, maxEffectPaths, t.before)
	yes := more
	for _, p := range paths {
		yes = yes || slices.ContainsFunc(p, func(c *Certificate) bool { return t.gone[c] })
	}
	t.truncated = t.truncated || more
	t.known[a] = yes
	return yes
}

// String is the effect in words: first who is cut off, then who is not.
func (e Effect) String() string {
	var b strings.Builder
	if len(e.Lost) == 0 {
		fmt.Fprintf(&b, "%s: nothing else loses its last chain\n", e.Anchors)
	} else {
		fmt.Fprintf(&b, "%s: %s\n", e.Anchors, count(len(e.Lost), "certificate loses its last chain", "certificates lose their last chain"))
	}
	for _, part := range []struct {
		what string
		list []*Certificate
	}{{"revoked", e.Revoked}, {"lost", e.Lost}, {"keeps another chain", e.Kept}} {
		for _, c := range part.list {
			fmt.Fprintf(&b, "  %s: %s, serial %s\n", part.what, c.Subject, c.SerialText())
		}
	}
	fmt.Fprintf(&b, "  untouched: %d, without a chain before: %d\n", e.Untouched, e.Without)
	if e.Truncated {
		b.WriteString("  there are more chains than were listed: \"keeps another chain\" may name too many\n")
	}
	return b.String()
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// SerialText is the serial as it stands in logs and CRLs: hex in whole octets.
func (c *Certificate) SerialText() string {
	s := c.Serial.Text(16)
	sign := ""
	if c.Serial.Sign() < 0 {
		sign, s = "-", s[1:]
	}
	if len(s)%2 == 1 {
		s = "0" + s
	}
	return sign + s
}
