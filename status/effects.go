package status

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"bulkhead"
	"bulkhead/pki/graph"
)

// census is what an authority has in use.
type census struct {
	products []bulkhead.Product
	counts   map[string]int64 // nil until somebody needs them
}

// inUse reads the products of an authority once; counted says whether numbers are needed, which takes longer.
func (f *foresight) inUse(ctx context.Context, id bulkhead.AuthorityID, counted bool) (*census, error) {
	c := f.census[id]
	if c == nil {
		products, err := f.s.cfg.Store.Products(ctx, id, f.w.now, sampleNames)
		if err != nil {
			return nil, err
		}
		c = &census{products: products}
		f.census[id] = c
	}
	if counted && c.counts == nil {
		counts, err := f.s.cfg.Store.CountProducts(ctx, id, f.w.now)
		if err != nil {
			return nil, err
		}
		c.counts = counts
	}
	return c, nil
}

// productsOf counts what authorities have in use.
func (f *foresight) productsOf(ctx context.Context, ids []bulkhead.AuthorityID) ([]bulkhead.ProductCount, int64, error) {
	out, total := []bulkhead.ProductCount{}, int64(0)
	for _, id := range ids {
		c, err := f.inUse(ctx, id, true)
		if err != nil {
			return nil, 0, err
		}
		for _, p := range c.products {
			n := bulkhead.ProductCount{Issuer: id, Product: p.Profile, Certificates: c.counts[p.Profile], Samples: []string{}}
			for _, x := range p.Samples {
				n.Samples = append(n.Samples, firstName(x))
			}
			out, total = append(out, n), total+n.Certificates
		}
	}
	return out, total, nil
}

// paths says for each anchor set who loses the last path and who one of several. A leaf is on nobody's path.
func (f *foresight) paths(ctx context.Context) error {
	for _, d := range f.cas {
		if d.row.State != bulkhead.Issued {
			continue
		}
		if x := f.graph.ByHash(d.row.Fingerprint); x != nil {
			f.revoked = append(f.revoked, x)
		} else {
			f.warn("certificate %s of an authority cannot be read: what hangs on it is not in this preview", d.CertificateRef)
		}
	}
	if f.p.Authorities > 0 && len(f.sets) == 0 {
		f.warn("no root is known, so nobody's paths were looked at: name roots in trust.anchor_sets")
	}
	if len(f.revoked) == 0 {
		return nil
	}
	all := f.graph.Effects(f.revoked, f.sets, f.w.now)
	f.effects = all.Sets
	for _, x := range all.Answers {
		if ref, ours := f.ref[x]; ours && !f.targets.has(ref) {
			f.block("certificate %s shares issuer and serial number with one of the change, and with them its answer", ref)
		}
	}
	for _, e := range f.effects {
		for _, part := range []struct {
			to       *[]bulkhead.PathReport
			list     []*graph.Certificate
			standing graph.Standing
		}{{&f.p.PathsLost, e.Lost, graph.Cut}, {&f.p.PathsReduced, e.Kept, graph.Reduced}} {
			r := bulkhead.PathReport{Anchors: e.Anchors, Authorities: f.named(slices.DeleteFunc(slices.Clone(part.list), f.graph.SelfSigned))}
			var err error
			if r.Products, r.Leaves, err = f.productsOf(ctx, f.standing(e, part.standing)); err != nil {
				return err
			}
			if len(r.Authorities) > 0 || r.Leaves > 0 {
				*part.to = append(*part.to, r)
			}
		}
		if e.Truncated {
			f.warn("%s: there are more paths than were looked at; paths_reduced may name too many", e.Anchors)
		}
	}
	f.stillAlive()
	return nil
}

// standing lists the authorities of ours that stand so, by id.
func (f *foresight) standing(e graph.Effect, want graph.Standing) []bulkhead.AuthorityID {
	var out []bulkhead.AuthorityID
	for _, a := range f.w.authorities {
		if n := f.node[a.ID]; n != nil && e.Of(n) == want {
			out = append(out, a.ID)
		}
	}
	return out
}

// stillAlive warns where an authority loses a certificate and goes on by another: whoever meant to end it must name all.
func (f *foresight) stillAlive() {
	for _, a := range f.w.authorities {
		n := f.node[a.ID]
		if n == nil || f.isRoot(n) {
			continue
		}
		var left []string
		hit := false
		for _, x := range n.Certificates {
			if slices.Contains(f.revoked, x) {
				hit = true
			} else if !f.w.now.Before(x.NotBefore) && !f.w.now.After(x.NotAfter) {
				left = append(left, fmt.Sprintf("%s by %s", x.SerialText(), x.Issuer))
			}
		}
		if hit && len(left) > 0 {
			f.warn("authority %s keeps other certificates and goes on for those who find them: %s", a.ID, strings.Join(left, ", "))
		}
	}
}

// spared names the authorities to which nothing happens, with their roots and products.
func (f *foresight) spared(ctx context.Context) error {
	reached := map[bulkhead.AuthorityID]func(*graph.Authority) bool{}
	for _, id := range f.roots {
		reached[id] = f.graph.Reached(graph.AnchorSet{Anchors: []*graph.Authority{f.node[id]}}, f.w.now)
	}
	for _, a := range f.w.authorities {
		if !f.isSpared(a.ID) {
			continue
		}
		x := bulkhead.Spared{Roots: []bulkhead.AuthorityID{}, Products: []string{}}
		for _, id := range f.roots {
			if n := f.node[a.ID]; n != nil && reached[id](n) {
				x.Roots = append(x.Roots, id)
			}
		}
		c, err := f.inUse(ctx, a.ID, false)
		if err != nil {
			return err
		}
		for _, p := range c.products {
			x.Products = append(x.Products, p.Profile)
		}
		f.p.Unaffected[a.ID] = x
	}
	return nil
}

func (f *foresight) isSpared(id bulkhead.AuthorityID) bool {
	n := f.node[id]
	if f.p.ByIssuer[id] > 0 || n != nil && slices.ContainsFunc(f.revoked, func(x *graph.Certificate) bool { return f.graph.Subject(x) == n }) {
		return false
	}
	return n == nil || !slices.ContainsFunc(f.effects, func(e graph.Effect) bool { s := e.Of(n); return s == graph.Cut || s == graph.Reduced })
}

// dead reports that what an authority issued has no path any more, whoever looks: that it is called revoked as well hurts
// nobody.
func (f *foresight) dead(n *graph.Authority) bool {
	return len(f.effects) > 0 && !slices.ContainsFunc(f.effects, func(e graph.Effect) bool { s := e.Of(n); return s == graph.Reduced || s == graph.Untouched })
}
