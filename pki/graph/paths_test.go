package graph

import (
	"crypto/x509"
	"flag"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write golden files")

// day2016 is the day of October 2016: two roots, and a cross-certificate for R1's name and key by R2, newer than R1's
// own.
type day2016 struct {
	g                    *Graph
	r1, r2, cross, org   *Certificate
	clients              []AnchorSet
	onlyR1, onlyR2, both AnchorSet
}

func makeDay2016(t *testing.T) day2016 {
	m := newMaker(t)
	serial := func(hex string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.SerialNumber, _ = new(big.Int).SetString(hex, 16) }
	}
	years := func(from, to int) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Date(from, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(to, 1, 1, 0, 0, 0, 0, time.UTC)
		}
	}
	var d day2016
	d.r1 = m.cert("Root R1", "Root R1", ca(years(1998, 2028), serial("040000000001154b5ac394")))
	d.r2 = m.cert("Root R2", "Root R2", ca(years(2006, 2028), serial("0400000000010f8626e60d")))
	d.cross = m.cert("Root R1", "Root R2", ca(years(2014, 2027), serial("040000000001444ef0464e")))
	d.org = m.cert("Organization CA", "Root R1", ca(years(2014, 2024), serial("040000000001444ef04247")))
	domain := m.cert("Domain CA", "Root R1", ca(years(2014, 2024), serial("040000000001444ef03e20")))
	extended := m.cert("Extended CA", "Root R2", ca(years(2014, 2024), serial("040000000001444ef04cc4")))
	site := leaf("www.example.test")
	years(2016, 2017)(site)
	serial("1121d6a0")(site)
	d.g = New([]*Certificate{d.r1, d.r2, d.cross, d.org, domain, extended, m.cert("www.example.test", "Organization CA", site)})
	r1, r2 := d.g.Subject(d.r1), d.g.Subject(d.r2)
	d.onlyR1 = AnchorSet{"clients with R1 only", []*Authority{r1}}
	d.onlyR2 = AnchorSet{"clients with R2 only", []*Authority{r2}}
	d.both = AnchorSet{"clients with both roots", []*Authority{r1, r2}}
	d.clients = []AnchorSet{d.onlyR1, d.onlyR2, d.both}
	return d
}

var october2016 = time.Date(2016, 10, 13, 16, 0, 0, 0, time.UTC)

// TestDay2016 says who loses what when the cross-certificate is revoked, as a golden file.
func TestDay2016(t *testing.T) {
	d := makeDay2016(t)
	var b strings.Builder
	for _, set := range d.clients {
		fmt.Fprintf(&b, "chains of %s for %s:\n", d.org.Subject, set.Name)
		paths, more := d.g.Paths(d.org, set, october2016, 10)
		for _, p := range paths {
			fmt.Fprintf(&b, "  %s, anchor %s\n", p, d.g.Issuer(p[len(p)-1]).Name)
		}
		if more {
			t.Error("more paths")
		}
	}
	b.WriteString("\nrevoking the cross-certificate:\n")
	effects := d.g.Effect([]*Certificate{d.cross}, d.clients, october2016)
	for _, e := range effects {
		b.WriteString(e.String())
	}
	const golden = "testdata/day2016.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
	if e := effects[0]; len(e.Lost)+len(e.Kept)+len(e.Revoked) != 0 {
		t.Errorf("clients with R1 are touched: %+v", e)
	}
	if e := effects[1]; len(e.Lost) != 4 || len(e.Kept) != 0 { // two authorities, the site, and R1's own certificate
		t.Errorf("clients with R2 only: %+v", e)
	}
	if e := effects[2]; len(e.Lost) != 0 || len(e.Kept) != 4 {
		t.Errorf("clients with both: %+v", e)
	}
	got := of(Audit(d.g, october2016), RuleTwin)
	if len(got) != 1 || got[0].Certificate != d.cross || got[0].Severity != Warning || !slices.Equal(got[0].Victims, []*Certificate{d.r1}) ||
		!strings.Contains(got[0].Message, "040000000001444ef0464e") {
		t.Errorf("twins: %+v", got)
	}
}

// TestPathsInTime leaves out what has expired.
func TestPathsInTime(t *testing.T) {
	d := makeDay2016(t)
	if p, _ := d.g.Paths(d.org, d.onlyR2, time.Date(2013, 1, 1, 0, 0, 0, 0, time.UTC), 10); len(p) != 0 {
		t.Errorf("before the cross-certificate: %v", p)
	}
	if p, more := d.g.Paths(d.org, d.both, october2016, 1); len(p) != 1 || !more {
		t.Errorf("limit 1: %v, %v", p, more)
	}
}

// fake is a certificate of a random hierarchy, without signatures.
func fake(n int, subject, issuer string, isCA bool, pathLen int) *Certificate {
	c := &Certificate{id: n, subject: subject, issuer: issuer, Subject: subject, Issuer: issuer, CA: isCA, PathLen: pathLen, Version: 3, Serial: big.NewInt(int64(n + 1)), serialLen: 9}
	c.Hash[0], c.Hash[1] = byte(n>>8), byte(n)
	return c
}

// randomGraph builds the tables of New directly. Authorities share names now and then, which makes self-issued ones.
func randomGraph(t *rapid.T) *Graph {
	nodes := rapid.IntRange(1, 6).Draw(t, "authorities")
	g := &Graph{below: make([][]*Certificate, nodes)}
	for i := range nodes {
		name := fmt.Sprintf("N%d", rapid.IntRange(0, i).Draw(t, "name"))
		g.Authorities = append(g.Authorities, &Authority{id: i, Name: name, canonical: name})
	}
	for n := range rapid.IntRange(1, 14).Draw(t, "certificates") {
		up := g.Authorities[rapid.IntRange(0, nodes-1).Draw(t, "issuer")]
		of := g.Authorities[rapid.IntRange(0, nodes-1).Draw(t, "subject")]
		c := fake(n, of.canonical, up.canonical, rapid.IntRange(0, 5).Draw(t, "ca") > 0, rapid.IntRange(-2, 2).Draw(t, "pathlen"))
		c.PathLen = max(c.PathLen, -1)
		g.Certificates = append(g.Certificates, c)
		g.subject, g.issuer, g.link = append(g.subject, of), append(g.issuer, up), append(g.link, verified)
		of.Certificates, up.Issued = append(of.Certificates, c), append(up.Issued, c)
		of.certifies = of.certifies || c.CA
		if c.CA && of != up {
			g.below[up.id] = append(g.below[up.id], c)
		}
	}
	return g
}

// naivePaths tries every sequence of certificates of every length and checks each by the definition.
func naivePaths(g *Graph, c *Certificate, anchors []*Authority, gone map[*Certificate]bool) []string {
	var out []string
	var try func(p []*Certificate)
	try = func(p []*Certificate) {
		last := p[len(p)-1]
		if slices.Contains(anchors, g.Issuer(last)) {
			out = append(out, Path(p).String()+fmt.Sprint(ids(p)))
		}
		for _, x := range g.Certificates {
			if g.Subject(x) == g.Issuer(last) && allowed(g, append(slices.Clone(p), x), gone) {
				try(append(slices.Clone(p), x))
			}
		}
	}
	if !gone[c] {
		try([]*Certificate{c})
	}
	slices.Sort(out)
	return out
}

// allowed judges a whole chain: issuers distinct, each an authority, none revoked, each path length kept.
func allowed(g *Graph, p []*Certificate, gone map[*Certificate]bool) bool {
	seen := map[*Authority]bool{}
	for i, c := range p {
		if seen[g.Issuer(c)] || gone[c] {
			return false
		}
		seen[g.Issuer(c)] = true
		if i == 0 {
			continue
		}
		below := 0
		for _, x := range p[1:i] {
			if x.subject != x.issuer {
				below++
			}
		}
		if !c.CA || c.PathLen >= 0 && below > c.PathLen {
			return false
		}
	}
	return true
}

func ids(p []*Certificate) (out []int) {
	for _, c := range p {
		out = append(out, c.id)
	}
	return out
}

func drawSet(t *rapid.T, g *Graph) AnchorSet {
	set := AnchorSet{Name: "some"}
	for _, a := range g.Authorities {
		if rapid.Bool().Draw(t, "anchor") {
			set.Anchors = append(set.Anchors, a)
		}
	}
	return set
}

// TestPathsAgree compares Paths and Effect with the naive enumeration over random hierarchies.
func TestPathsAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := randomGraph(t)
		set := drawSet(t, g)
		gone, list := map[*Certificate]bool{}, []*Certificate(nil)
		for _, c := range g.Certificates {
			if rapid.IntRange(0, 3).Draw(t, "revoked") == 0 {
				gone[c], list = true, append(list, c)
			}
		}
		e := g.Effect(list, []AnchorSet{set}, time.Time{})[0]
		untouched, without := 0, 0
		for _, c := range g.Certificates {
			before, after := naivePaths(g, c, set.Anchors, nil), naivePaths(g, c, set.Anchors, gone)
			paths, more := g.Paths(c, set, time.Time{}, 10000)
			var got []string
			for _, p := range paths {
				got = append(got, p.String()+fmt.Sprint(ids(p)))
			}
			slices.Sort(got)
			if more || !slices.Equal(got, before) {
				t.Fatalf("certificate %d: paths %v, want %v", c.id, got, before)
			}
			var want string
			switch {
			case len(before) == 0:
				without++
			case gone[c]:
				want = "revoked"
			case len(after) == 0:
				want = "lost"
			case len(after) < len(before):
				want = "kept"
			default:
				untouched++
			}
			for name, in := range map[string][]*Certificate{"revoked": e.Revoked, "lost": e.Lost, "kept": e.Kept} {
				if slices.Contains(in, c) != (name == want) {
					t.Fatalf("certificate %d in %s: %v, want it in %q", c.id, name, slices.Contains(in, c), want)
				}
			}
		}
		if e.Untouched != untouched || e.Without != without || e.Truncated {
			t.Fatalf("%+v: want %d untouched, %d without", e, untouched, without)
		}
	})
}

// TestTangle has 40 authorities that all certify each other: there are more chains than atoms, and the answer comes.
func TestTangle(t *testing.T) {
	g := &Graph{below: make([][]*Certificate, 40)}
	for i := range 40 {
		name := fmt.Sprintf("N%d", i)
		g.Authorities = append(g.Authorities, &Authority{id: i, Name: name, canonical: name, certifies: true})
	}
	for i, up := range g.Authorities {
		for j, of := range g.Authorities {
			c := fake(i*40+j, of.canonical, up.canonical, true, -1)
			g.Certificates = append(g.Certificates, c)
			g.subject, g.issuer, g.link = append(g.subject, of), append(g.issuer, up), append(g.link, verified)
			of.Certificates, up.Issued = append(of.Certificates, c), append(up.Issued, c)
			if of != up {
				g.below[i] = append(g.below[i], c)
			}
		}
	}
	set := AnchorSet{"N0", g.Authorities[:1]}
	start := time.Now()
	paths, more := g.Paths(g.Certificates[len(g.Certificates)-1], set, time.Time{}, 50)
	e := g.Effect(g.Certificates[1:40], []AnchorSet{set}, time.Time{})[0]
	if len(paths) == 0 || !more || !e.Truncated {
		t.Errorf("%d paths, more %v, truncated %v", len(paths), more, e.Truncated)
	}
	if d := time.Since(start); d > time.Minute {
		t.Errorf("took %s", d)
	}
}
