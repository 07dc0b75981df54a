package graph

import (
	"errors"
	"slices"
	"strings"
	"time"

	"bulkhead"
)

var zeroTime time.Time

// detail is the sentence of a fault.
func detail(err error) string {
	var f *bulkhead.Fault
	if errors.As(err, &f) {
		return f.Detail
	}
	return err.Error()
}

// maxNameChecks bounds comparisons of a name with a constraint in one audit.
const maxNameChecks = 20_000_000

// nameConstraints finds names that a certificate above forbids (RFC 5280 section 4.2.1.10): for each certificate its
// first such name.
func (a *auditor) nameConstraints() {
	told := map[*Certificate]bool{}
	for _, c := range a.g.Certificates {
		if !c.hasConstraint || !c.mayIssue() {
			continue
		}
		for _, x := range a.g.descendants(a.g.Subject(c)) {
			a.names--
			if x == c || told[x] || x.SelfIssued() && x.mayIssue() { // section 6.1.4 leaves self-issued intermediates out
				continue
			}
			n, why := a.breaks(x, c)
			if a.names < 0 {
				a.report(RuleLimit, Warning, c, nil, "name constraints were checked only up to here: %d comparisons are the limit", maxNameChecks)
				return
			}
			if why != "" {
				told[x] = true
				a.report(RuleNameConstraints, Warning, x, nil, "its name %q is %s of the authority %q above it", printable(n.text), why, printable(c.Subject))
			}
		}
	}
}

// descendants are the certificates below an authority, each once.
func (g *Graph) descendants(top *Authority) []*Certificate {
	var out []*Certificate
	seen := map[*Authority]bool{top: true}
	queue := []*Authority{top}
	for len(queue) > 0 {
		x := queue[0]
		queue = queue[1:]
		out = append(out, x.Issued...)
		for _, c := range g.below[x.id] {
			if s := g.Subject(c); !seen[s] {
				seen[s] = true
				queue = append(queue, s)
			}
		}
	}
	return out
}

// breaks gives the first name of x that c's constraints forbid, and how.
func (a *auditor) breaks(x, c *Certificate) (generalName, string) {
	for _, n := range x.names {
		a.names -= 1 + len(c.permitted) + len(c.excluded)
		if a.names < 0 {
			return n, ""
		}
		if i := slices.IndexFunc(c.excluded, func(s subtree) bool { return s.kind == n.kind && s.holds(n) }); i >= 0 {
			return n, "inside the excluded subtree " + quoted(c.excluded[i])
		}
		same := func(s subtree) bool { return s.kind == n.kind }
		if slices.ContainsFunc(c.permitted, same) && !slices.ContainsFunc(c.permitted, func(s subtree) bool { return same(s) && s.holds(n) }) {
			return n, "outside the permitted subtrees"
		}
	}
	return generalName{}, ""
}

func quoted(s subtree) string { return "\"" + printable(s.text) + "\"" }

// holds says whether a name of the same kind is in the subtree.
func (s subtree) holds(n generalName) bool {
	text := strings.ToLower(n.text)
	switch s.kind {
	case kindDNS:
		return inDomain(text, strings.TrimPrefix(s.text, "."))
	case kindURI:
		if host, ok := strings.CutPrefix(s.text, "."); ok {
			return text != host && inDomain(text, host)
		}
		return text == s.text
	case kindMail:
		_, host, _ := strings.Cut(text, "@")
		switch {
		case strings.Contains(s.text, "@"):
			return text == s.text
		case strings.HasPrefix(s.text, "."):
			return strings.HasSuffix(host, s.text)
		default:
			return s.text == "" || host == s.text
		}
	case kindIP:
		return s.prefix.Contains(n.addr)
	case kindDir:
		return len(s.rdns) <= len(n.rdns) && slices.Equal(s.rdns, n.rdns[:len(s.rdns)])
	}
	return false
}

func inDomain(host, domain string) bool {
	return domain == "" || host == domain || strings.HasSuffix(host, "."+domain)
}
