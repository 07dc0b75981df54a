package graph

import (
	"cmp"
	"slices"

	"bulkhead"
)

// Authority is a name and a key: what relying parties mean by "the issuer", and what a trust anchor is (RFC 5280
// section 6.1.1). Several certificates may speak of one authority.
type Authority struct {
	Name         string         // for people
	Key          bulkhead.Hash  // SHA-256 of the SubjectPublicKeyInfo
	Certificates []*Certificate // that name it as subject, oldest first: more than one are twins
	Issued       []*Certificate // signed by it, by subject and hash

	id        int
	canonical string
	certifies bool // at least one of its certificates may issue
}

// link says how the issuer of a certificate was found.
type link int

const (
	noIssuer    link = iota // the issuer is not in the graph
	verified                // the signature is the issuer's
	presumed                // names and key identifiers fit; the signature could not be checked
	badSigned               // the issuer is in the graph by name and key identifier, and the signature is not its own
	tooManyKeys             // the name has more keys than are tried
)

// Graph is a set of certificates. It does not change after New.
type Graph struct {
	Certificates []*Certificate // distinct, by hash
	Authorities  []*Authority   // by name, then key

	subject []*Authority // of each certificate
	issuer  []*Authority // nil when not in the graph
	link    []link
	below   [][]*Certificate // of each authority: the certificates it issued to other authorities
}

// New builds the graph and checks every signature it can. The same certificate given twice counts once, with the first
// source; certificates that are in another graph must not be given.
func New(certificates []*Certificate) *Graph {
	g := &Graph{Certificates: distinct(certificates)}
	n := len(g.Certificates)
	g.subject, g.issuer, g.link = make([]*Authority, n), make([]*Authority, n), make([]link, n)
	byName := g.makeAuthorities()
	index := keyIndex(byName)
	for i, c := range g.Certificates {
		g.issuer[i], g.link[i] = findIssuer(c, byName[c.issuer], index)
		if a := g.issuer[i]; a != nil {
			a.Issued = append(a.Issued, c)
		}
	}
	ranked := slices.SortedFunc(slices.Values(g.Certificates), func(a, b *Certificate) int {
		return cmp.Or(cmp.Compare(a.Subject, b.Subject), byHash(a, b))
	})
	for i, c := range ranked {
		c.rank = i
	}
	g.below = make([][]*Certificate, len(g.Authorities))
	for i, a := range g.Authorities {
		slices.SortFunc(a.Issued, byRank)
		for _, c := range a.Issued {
			if c.mayIssue() && g.Subject(c) != a {
				g.below[i] = append(g.below[i], c)
			}
		}
	}
	return g
}

func distinct(in []*Certificate) []*Certificate {
	seen := make(map[bulkhead.Hash]bool, len(in))
	var out []*Certificate
	for _, c := range in {
		if !seen[c.Hash] {
			seen[c.Hash] = true
			out = append(out, c)
		}
	}
	slices.SortFunc(out, byHash)
	for i, c := range out {
		c.id = i
	}
	return out
}

func byHash(a, b *Certificate) int { return slices.Compare(a.Hash[:], b.Hash[:]) }

// byRank sorts by subject and hash.
func byRank(a, b *Certificate) int { return a.rank - b.rank }

// byAge sorts oldest first.
func byAge(a, b *Certificate) int {
	return cmp.Or(a.NotBefore.Compare(b.NotBefore), a.NotAfter.Compare(b.NotAfter), byHash(a, b))
}

func (g *Graph) makeAuthorities() map[string][]*Authority {
	type key struct {
		name string
		key  bulkhead.Hash
	}
	all := map[key]*Authority{}
	for i, c := range g.Certificates {
		k := key{c.subject, c.KeyHash()}
		a := all[k]
		if a == nil {
			a = &Authority{Name: c.Subject, Key: k.key, canonical: c.subject}
			all[k] = a
			g.Authorities = append(g.Authorities, a)
		}
		a.Certificates = append(a.Certificates, c)
		a.certifies = a.certifies || c.mayIssue()
		g.subject[i] = a
	}
	slices.SortFunc(g.Authorities, func(a, b *Authority) int {
		return cmp.Or(cmp.Compare(a.canonical, b.canonical), slices.Compare(a.Key[:], b.Key[:]))
	})
	byName := map[string][]*Authority{}
	for i, a := range g.Authorities {
		a.id = i
		slices.SortFunc(a.Certificates, byAge)
		byName[a.canonical] = append(byName[a.canonical], a)
	}
	return byName
}

// named is an authority under one of its key identifiers.
type named struct{ name, ski string }

func keyIndex(byName map[string][]*Authority) map[named][]*Authority {
	index := map[named][]*Authority{}
	for name, list := range byName {
		for _, a := range list {
			seen := map[string]bool{}
			for _, c := range a.Certificates {
				if c.ski != "" && !seen[c.ski] {
					seen[c.ski] = true
					index[named{name, c.ski}] = append(index[named{name, c.ski}], a)
				}
			}
		}
	}
	return index
}

// findIssuer tries the keys that the authority key identifier points at, then the others of the issuer's name: the
// identifier is a hint and may be wrong (RFC 5280 section 4.2.1.1).
func findIssuer(c *Certificate, sameName []*Authority, index map[named][]*Authority) (*Authority, link) {
	pointed := index[named{c.issuer, c.aki}]
	if c.aki == "" {
		pointed = nil
	}
	tries := 0
	var maybe *Authority
	for _, list := range [][]*Authority{pointed, sameName} {
		for _, a := range list {
			if tries++; tries > maxCandidates {
				return nil, tooManyKeys
			}
			switch c.verify(a.Certificates[0].key) {
			case right:
				return a, verified
			case unknown:
				if maybe == nil && fits(c, a) {
					maybe = a
				}
			}
		}
	}
	switch {
	case maybe != nil:
		return maybe, presumed
	case len(pointed) > 0, c.aki == "" && len(sameName) > 0:
		return nil, badSigned
	default:
		return nil, noIssuer
	}
}

// fits says whether a could be the issuer by its key identifiers: equal, or one side has none.
func fits(c *Certificate, a *Authority) bool {
	if c.aki == "" {
		return true
	}
	for _, x := range a.Certificates {
		if x.ski == "" || x.ski == c.aki {
			return true
		}
	}
	return false
}

// Subject is the authority that c certifies.
func (g *Graph) Subject(c *Certificate) *Authority { return g.subject[c.id] }

// Issuer is the authority that signed c; nil when it is not in the graph.
func (g *Graph) Issuer(c *Certificate) *Authority { return g.issuer[c.id] }

// SelfSigned reports that c's own key signed it, or is presumed to have.
func (g *Graph) SelfSigned(c *Certificate) bool { return g.issuer[c.id] == g.subject[c.id] }

// ByHash finds a certificate; nil when it is not in the graph.
func (g *Graph) ByHash(h bulkhead.Hash) *Certificate {
	i, ok := slices.BinarySearchFunc(g.Certificates, h, func(c *Certificate, h bulkhead.Hash) int { return slices.Compare(c.Hash[:], h[:]) })
	if !ok {
		return nil
	}
	return g.Certificates[i]
}

// Siblings are all other certificates of c's issuer: those whose status c's issuer answers for. The issuer's
// self-signed certificate is none: nobody asks for the status of a trust anchor. Where the issuer is not in the graph, they are those with the same issuer name and, as far as both have one, the same authority key
// identifier; sure is false then.
func (g *Graph) Siblings(c *Certificate) (list []*Certificate, sure bool) {
	if a := g.Issuer(c); a != nil {
		list = slices.DeleteFunc(without(a.Issued, c), g.SelfSigned)
		return list, g.link[c.id] == verified
	}
	var out []*Certificate
	for _, x := range g.Certificates {
		if x != c && x.issuer == c.issuer && g.issuer[x.id] == nil && (x.aki == "" || c.aki == "" || x.aki == c.aki) {
			out = append(out, x)
		}
	}
	return out, false
}

func without(list []*Certificate, c *Certificate) []*Certificate {
	out := make([]*Certificate, 0, len(list))
	for _, x := range list {
		if x != c {
			out = append(out, x)
		}
	}
	return out
}
