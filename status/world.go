package status

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"slices"
	"time"

	"bulkhead"
	"bulkhead/pki/graph"
)

// AnchorSet is what one kind of relying party trusts, for previews.
type AnchorSet struct {
	Name         string   // for people: "phones of 2014"
	Certificates [][]byte // DER
}

// world is what paths hang on: the authorities, all certificates that name them, and the anchor sets, at one moment.
type world struct {
	now         time.Time
	authorities []bulkhead.Authority
	rows        []bulkhead.IssuedCertificate // of authorities, as issued by us
	live        []*graph.Certificate         // those that are not revoked, and what hangs above authorities of ours
	anchors     []anchors
	unread      []string // what could not be read as a certificate
	digest      bulkhead.Hash
}

// anchors is a configured anchor set, read.
type anchors struct {
	name         string
	certificates []*graph.Certificate
}

// look reads the world. Pending authorities have no certificate and no part in it.
func (s *Service) look(ctx context.Context) (*world, error) {
	w := &world{now: s.now()}
	authorities, err := s.cfg.Store.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	w.authorities = slices.DeleteFunc(authorities, func(a bulkhead.Authority) bool { return len(a.Certificate) == 0 })
	if w.rows, err = s.cfg.Store.AuthorityCertificates(ctx); err != nil {
		return nil, err
	}
	h := sha256.New()
	for _, r := range w.rows {
		ref := r.Certificate.CertificateRef
		line(h, "certificate", ref, bulkhead.Digest(r.DER), r.Certificate.State)
		if c := w.read(ref.String(), r.DER); c != nil && r.Certificate.State == bulkhead.Issued {
			w.live = append(w.live, c)
			w.validity(h, c)
		}
	}
	for _, a := range w.authorities {
		line(h, "authority", a.ID, a.Kind, a.State, a.Parent, bulkhead.Digest(a.Certificate), a.KeyURI == "")
		for _, der := range append([][]byte{a.Certificate}, a.Chain...) {
			if c := w.read("authority "+string(a.ID), der); c != nil && !w.revoked(c) {
				w.live = append(w.live, c)
				w.validity(h, c)
			}
		}
	}
	for _, set := range s.cfg.AnchorSets {
		x := anchors{name: set.Name}
		line(h, "anchors", set.Name)
		for _, der := range set.Certificates {
			if c := w.read("anchor set "+set.Name, der); c != nil {
				x.certificates = append(x.certificates, c)
				w.validity(h, c)
			}
		}
		w.anchors = append(w.anchors, x)
	}
	h.Sum(w.digest[:0])
	return w, nil
}

// line puts one line into a digest.
func line(h hash.Hash, what ...any) { fmt.Fprintln(h, what...) }

// validity notes whether a certificate counts now: what expires moves the world too.
func (w *world) validity(h hash.Hash, c *graph.Certificate) {
	line(h, c.Hash, w.now.Before(c.NotBefore), w.now.After(c.NotAfter))
}

func (w *world) read(what string, der []byte) *graph.Certificate {
	c, err := graph.Parse(der)
	if err != nil {
		w.unread = append(w.unread, fmt.Sprintf("%s cannot be read as a certificate: %s", what, err))
		return nil
	}
	return c
}

// revoked reports whether one of our rows says so of this certificate.
func (w *world) revoked(c *graph.Certificate) bool {
	return slices.ContainsFunc(w.rows, func(r bulkhead.IssuedCertificate) bool {
		return r.Certificate.State == bulkhead.Revoked && r.Certificate.Fingerprint == c.Hash
	})
}

// chart is the graph of a world with our names on it. It holds as long as the world's digest does.
type chart struct {
	digest bulkhead.Hash
	graph  *graph.Graph
	sets   []graph.AnchorSet
	node   map[bulkhead.AuthorityID]*graph.Authority
	ids    map[*graph.Authority][]bulkhead.AuthorityID
	ref    map[*graph.Certificate]bulkhead.CertificateRef // of our rows
	roots  []bulkhead.AuthorityID                         // ours
}

// maxRoots bounds the anchor sets that are made of roots alone.
const maxRoots = 32

// draw makes the chart of a world, or gives the last one when nothing moved.
func (s *Service) draw(w *world) *chart {
	if c := s.charted.Load(); c != nil && c.digest == w.digest {
		return c
	}
	all := slices.Clone(w.live)
	for _, a := range w.anchors {
		for _, x := range a.certificates {
			if !w.revoked(x) { // an anchor is a name and a key; a revoked certificate of it is on nobody's path
				all = append(all, x)
			}
		}
	}
	c := &chart{digest: w.digest, graph: graph.New(all), node: map[bulkhead.AuthorityID]*graph.Authority{},
		ids: map[*graph.Authority][]bulkhead.AuthorityID{}, ref: map[*graph.Certificate]bulkhead.CertificateRef{}}
	for _, r := range w.rows {
		if x := c.graph.ByHash(bulkhead.Digest(r.DER)); x != nil {
			c.ref[x] = r.Certificate.CertificateRef
		}
	}
	for _, a := range w.authorities {
		x, err := graph.Parse(a.Certificate)
		if err != nil {
			continue // among the unread
		}
		n := c.graph.Named(x)
		if n == nil {
			continue // every certificate that names it is revoked
		}
		c.node[a.ID], c.ids[n] = n, append(c.ids[n], a.ID)
		if c.isRoot(n) {
			c.roots = append(c.roots, a.ID)
		}
	}
	c.anchorSets(w)
	s.charted.Store(c)
	return c
}

// anchorSets are those configured, or the roots, each alone and all together: ours, and foreign ones above our
// authorities.
func (c *chart) anchorSets(w *world) {
	for _, set := range w.anchors {
		x := graph.AnchorSet{Name: fmt.Sprintf("clients of %q", set.name)}
		for _, cert := range set.certificates {
			if n := c.graph.Named(cert); n != nil { // else nothing hangs below it that is not revoked
				x.Anchors = append(x.Anchors, n)
			}
		}
		c.sets = append(c.sets, x)
	}
	if len(w.anchors) > 0 {
		return
	}
	var roots []*graph.Authority
	var names []string
	for _, a := range c.graph.Authorities {
		if c.isRoot(a) && len(roots) < maxRoots {
			roots, names = append(roots, a), append(names, c.nameOf(a))
		}
	}
	for i, a := range roots {
		name := "clients that trust only " + names[i]
		if len(roots) == 1 {
			name = "clients that trust " + names[i]
		}
		c.sets = append(c.sets, graph.AnchorSet{Name: name, Anchors: []*graph.Authority{a}})
	}
	if len(roots) > 1 {
		c.sets = append(c.sets, graph.AnchorSet{Name: "clients that trust all roots", Anchors: roots})
	}
}

// isRoot says whether an authority came with a self-signed certificate, which we did not issue as a certificate.
func (c *chart) isRoot(a *graph.Authority) bool {
	return slices.ContainsFunc(a.Certificates, func(x *graph.Certificate) bool { return c.graph.SelfSigned(x) && c.ref[x].Issuer == "" })
}

// nameOf is an authority for people: our id, else its subject.
func (c *chart) nameOf(a *graph.Authority) string {
	if ids := c.ids[a]; len(ids) > 0 {
		return string(ids[0])
	}
	return a.Name
}

func (c *chart) named(list []*graph.Certificate) []bulkhead.NamedCertificate {
	out := []bulkhead.NamedCertificate{}
	for _, x := range list {
		n := bulkhead.NamedCertificate{Name: x.Subject, Issuer: c.ref[x].Issuer}
		if serial, err := bulkhead.SerialFromBig(x.Serial); err == nil {
			n.Serial = serial
		}
		out = append(out, n)
	}
	return out
}
