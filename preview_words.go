package bulkhead

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Words is the preview for a person who is woken by it: what happens and to whom, then the numbers.
func (p Preview) Words() string {
	var b strings.Builder
	for _, why := range p.Blocked {
		fmt.Fprintf(&b, "BLOCKED: %s.\n", strings.TrimSuffix(why, "."))
	}
	fmt.Fprintf(&b, "Revoking %s touches %s.\n", p.what(), plural(int64(p.AnswersChanged), "answer"))
	for _, c := range p.Ceremonies {
		if c.Ready {
			fmt.Fprintf(&b, "The ceremony that signs the CRL of %s was held.\n", c.Authority)
		} else {
			fmt.Fprintf(&b, "It needs a ceremony: the CRL of %s is signed by a key that is offline.\n", c.Authority)
		}
	}
	for _, x := range p.Subtree {
		fmt.Fprintf(&b, "It takes %s out of service, with %s in use.\n", x.Authority, plural(x.Certificates, "certificate"))
	}
	p.lossWords(&b)
	p.sparedWords(&b)
	for _, w := range p.Warnings {
		fmt.Fprintf(&b, "Warning: %s.\n", strings.TrimSuffix(w, "."))
	}
	if p.Shadow.Outside == 0 {
		fmt.Fprintf(&b, "Recomputed with the change: %s of this house; only those of the change differ.\n", plural(p.Shadow.Recomputed, "answer"))
	} else {
		fmt.Fprintf(&b, "Recomputed with the change: %s of this house; %d outside the change would differ.\n", plural(p.Shadow.Recomputed, "answer"), p.Shadow.Outside)
	}
	for _, id := range slices.Sorted(maps.Keys(p.ByIssuer)) {
		fmt.Fprintf(&b, "  of %s: %d\n", id, p.ByIssuer[id])
	}
	return b.String()
}

// what names the certificates of the change: one by name, several by number.
func (p Preview) what() string {
	if len(p.Direct) != 1 || p.Count != 1 {
		return plural(int64(p.Count), "certificate")
	}
	x := p.Direct[0]
	name := x.Subject
	if len(x.Names) > 0 {
		name = x.Names[0]
	}
	return fmt.Sprintf("%s (serial %s of %s)", name, x.Serial, x.Issuer)
}

func (p Preview) lossWords(b *strings.Builder) {
	switch {
	case len(p.PathsLost) == 0 && p.Authorities == 0:
		b.WriteString("Nobody loses a path: no certificate of an authority is in it.\n")
	case len(p.PathsLost) == 0:
		b.WriteString("Nobody loses a path.\n")
	case len(p.PathsLost) == len(p.AnchorSets):
		b.WriteString("Everybody loses the last path to something:\n")
	default:
		b.WriteString("Nobody loses a path, except:\n")
	}
	for _, r := range p.PathsLost {
		r.words(b)
	}
	if len(p.PathsReduced) > 0 {
		b.WriteString("One of several paths goes, which hurts only who lacks the other root:\n")
	}
	for _, r := range p.PathsReduced {
		r.words(b)
	}
}

func (r PathReport) words(b *strings.Builder) {
	var parts []string
	if n := len(r.Authorities); n > 0 {
		parts = append(parts, plural(int64(n), "intermediate"))
	}
	if r.Leaves > 0 {
		parts = append(parts, plural(r.Leaves, "certificate")+" in use")
	}
	fmt.Fprintf(b, "  %s: %s\n", r.Anchors, strings.Join(parts, " and "))
	for _, a := range r.Authorities {
		fmt.Fprintf(b, "    %s (serial %s)\n", a.Name, a.Serial)
	}
	for _, x := range r.Products {
		fmt.Fprintf(b, "    %s of product %s by %s, e.g. %s\n", thousands(x.Certificates), x.Product, x.Issuer, strings.Join(x.Samples, ", "))
	}
}

// sparedWords names products by root, so that one sees which root's trouble spares which product.
func (p Preview) sparedWords(b *strings.Builder) {
	byRoot := map[string][]string{}
	for _, id := range slices.Sorted(maps.Keys(p.Unaffected)) {
		x := p.Unaffected[id]
		what := string(id)
		if len(x.Products) > 0 {
			what += " (" + strings.Join(x.Products, ", ") + ")"
		}
		var roots []string
		for _, r := range x.Roots {
			roots = append(roots, string(r))
		}
		key := "under " + strings.Join(roots, " and ")
		if len(roots) == 0 {
			key = "under no root of ours"
		}
		byRoot[key] = append(byRoot[key], what)
	}
	for _, key := range slices.Sorted(maps.Keys(byRoot)) {
		fmt.Fprintf(b, "Unaffected %s: %s.\n", key, strings.Join(byRoot[key], ", "))
	}
}

func plural(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return thousands(n) + " " + what + "s"
}

// thousands writes 1240 as 1,240.
func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
