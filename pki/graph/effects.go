package graph

import (
	"cmp"
	"slices"
	"time"
)

// Standing is what happens to everything that one authority issued, inside the graph or not, for one anchor set.
type Standing uint8

// Standings.
const (
	Without Standing = iota // there was no chain from it to the anchors before
	Untouched
	Reduced // loses a chain and has another: at risk only for those who lack the root of that other one
	Cut     // loses the last one
)

// Of is the standing of an authority of the graph that the effect was made from.
func (e Effect) Of(a *Authority) Standing { return e.standing[a.id] }

// standings judges every authority. before and after are the allowances without and with what is gone.
func (g *Graph) standings(t *toucher, before, after []int) []Standing {
	below := g.under(t.gone)
	out := make([]Standing, len(g.Authorities))
	for i, a := range g.Authorities {
		switch {
		case before[i] < 0:
			out[i] = Without
		case after[i] < 0:
			out[i] = Cut
		case below[i] && t.touched(a):
			out[i] = Reduced
		default:
			out[i] = Untouched
		}
	}
	return out
}

// Effects is all that revoking some certificates does.
type Effects struct {
	// Answers are the certificates whose status answer changes: those revoked, and none else, unless an issuer gave one
	// serial number to two, which share their answer. Self-signed ones have none.
	Answers []*Certificate
	Sets    []Effect // for each anchor set
}

// Effects computes what happens when certificates are revoked, at a time (the zero time: validity does not count). The
// answer for a certificate depends on its issuer's name and key and its serial number alone, whatever shares its subject
// or its key.
func (g *Graph) Effects(revoked []*Certificate, sets []AnchorSet, at time.Time) Effects {
	ids := make(map[certID]bool, len(revoked))
	for _, c := range revoked {
		if !g.SelfSigned(c) {
			ids[g.certID(c)] = true
		}
	}
	out := Effects{Sets: g.Effect(revoked, sets, at)}
	for _, c := range g.Certificates {
		if ids[g.certID(c)] && !g.SelfSigned(c) {
			out.Answers = append(out.Answers, c)
		}
	}
	slices.SortFunc(out.Answers, bySubject)
	return out
}

// certID is what an OCSP request asks for (RFC 6960 section 4.1.1), before hashing. Where the issuer's key is not in the
// graph, the key identifier stands for it.
type certID struct {
	issuer *Authority
	name   string
	key    string
	serial string
}

func (g *Graph) certID(c *Certificate) certID {
	if a := g.Issuer(c); a != nil {
		return certID{issuer: a, serial: c.SerialText()}
	}
	return certID{name: c.issuer, key: c.aki, serial: c.SerialText()}
}

// Reached says of each authority whether some chain leads from what it issued to the anchors of a set at a time.
func (g *Graph) Reached(set AnchorSet, at time.Time) func(*Authority) bool {
	allow := g.allowances(set, at, nil, true)
	return func(a *Authority) bool { return allow[a.id] >= 0 }
}

// Under lists the authorities that certificates name, and all below those, in the order of the graph.
func (g *Graph) Under(certificates []*Certificate) []*Authority {
	from := make(map[*Certificate]bool, len(certificates))
	for _, c := range certificates {
		from[c] = true
	}
	var out []*Authority
	for i, in := range g.under(from) {
		if in {
			out = append(out, g.Authorities[i])
		}
	}
	return out
}

// Named is the authority with the subject and key of c, whether c is in the graph or not; nil when there is none.
func (g *Graph) Named(c *Certificate) *Authority {
	key := c.KeyHash()
	i, ok := slices.BinarySearchFunc(g.Authorities, c, func(a *Authority, c *Certificate) int {
		return cmp.Or(cmp.Compare(a.canonical, c.subject), slices.Compare(a.Key[:], key[:]))
	})
	if !ok {
		return nil
	}
	return g.Authorities[i]
}
