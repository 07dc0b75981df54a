package status

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"bulkhead"
	"bulkhead/pki/graph"
)

// Bounds of the emulation of other people's responders.
const (
	maxEmulated = 20_000 // certificates of the change whose twins are looked for
	maxTwins    = 1000   // twins by key that are read
)

// habitWords says what a responder with the habit does.
var habitWords = map[graph.Habit]string{
	graph.BySubjectAndKey: "finds certificates by subject and key",
	graph.ByKey:           "finds certificates by key alone",
	graph.BySerial:        "finds certificates by serial number alone",
	graph.ByNewest:        "lets the newest certificate of a name and key stand for all of them",
}

// hit is a certificate that a responder would call revoked in excess.
type hit struct {
	bulkhead.CertificateRef
	name string
}

// misreadings emulates OCSP responders that find "the" certificate in another way than by issuer and serial number, as one
// did in October 2016. What they would say is a warning: our own answers are held to more by recompute.
func (f *foresight) misreadings(ctx context.Context) error {
	leaves, err := f.leafTwins(ctx)
	if err != nil {
		return err
	}
	for _, h := range graph.Habits {
		m, err := f.misread(ctx, h, leaves)
		if err != nil {
			return err
		}
		if m.Count == 0 && len(m.Products) == 0 {
			continue
		}
		f.p.Misread = append(f.p.Misread, m)
		f.warn("a responder that %s would call revoked what is not: %s", habitWords[h], misreadWords(m))
	}
	return nil
}

func (f *foresight) misread(ctx context.Context, h graph.Habit, leaves *leafTwins) (bulkhead.Misread, error) {
	out := bulkhead.Misread{Habit: string(h), AtLeast: leaves.cut}
	m := f.graph.Misread(f.revoked, h)
	certificates := slices.DeleteFunc(m.Certificates, func(x *graph.Certificate) bool {
		a := f.graph.Issuer(x)
		return f.w.now.Before(x.NotBefore) || f.w.now.After(x.NotAfter) || a != nil && f.dead(a)
	})
	out.Certificates, out.Count = f.named(certificates), int64(len(certificates))
	for _, t := range leaves.by[h] {
		out.Certificates = append(out.Certificates, bulkhead.NamedCertificate{Issuer: t.Issuer, Serial: t.Serial, Name: t.name})
		out.Count++
	}
	sortedNames(out.Certificates)
	out.Certificates = out.Certificates[:min(len(out.Certificates), shownHits)]
	// Below what is called revoked, nothing has a path for those who believe it.
	var ids []bulkhead.AuthorityID
	under := f.graph.Under(certificates)
	for _, a := range f.w.authorities {
		n := f.node[a.ID]
		if n != nil && !f.dead(n) && (slices.Contains(under, n) || slices.Contains(m.Issuers, n)) {
			ids = append(ids, a.ID)
		}
	}
	var err error
	out.Products, _, err = f.productsOf(ctx, ids)
	return out, err
}

// leafTwins is what shares a key, a name and key, or a serial number with certificates of the change, by habit. Those of
// authorities are in the graph and not here.
type leafTwins struct {
	by   map[graph.Habit][]hit
	refs map[bulkhead.AuthorityID][]bulkhead.Serial // all of them
	cut  bool                                       // there are more
}

func (l *leafTwins) add(h graph.Habit, ref bulkhead.CertificateRef, name string) {
	l.by[h] = append(l.by[h], hit{ref, name})
	if !slices.Contains(l.refs[ref.Issuer], ref.Serial) {
		l.refs[ref.Issuer] = append(l.refs[ref.Issuer], ref.Serial)
	}
}

func (f *foresight) leafTwins(ctx context.Context) (*leafTwins, error) {
	l := &leafTwins{by: map[graph.Habit][]hit{}, refs: map[bulkhead.AuthorityID][]bulkhead.Serial{}, cut: f.targets.n > maxEmulated}
	part := f.first
	if err := f.twinsByKey(ctx, part, l); err != nil {
		return nil, err
	}
	f.twins = l
	return l, f.twinsBySerial(ctx, part, l)
}

func (f *foresight) twinsByKey(ctx context.Context, part []direct, l *leafTwins) error {
	byKey := map[bulkhead.Hash][]bulkhead.Certificate{}
	keys := []bulkhead.Hash{}
	for _, d := range part {
		if byKey[d.row.KeyHash] == nil && !d.row.KeyHash.IsZero() {
			keys = append(keys, d.row.KeyHash)
		}
		byKey[d.row.KeyHash] = append(byKey[d.row.KeyHash], d.row)
	}
	// Those of the change are among what is found.
	found, err := f.s.cfg.Store.Twins(ctx, keys, f.w.now, maxTwins+len(part))
	if err != nil {
		return err
	}
	l.cut = l.cut || len(found) == maxTwins+len(part)
	for _, t := range found {
		if f.targets.has(t.CertificateRef) || t.Kind == bulkhead.CACertificate {
			continue
		}
		l.add(graph.ByKey, t.CertificateRef, firstName(t))
		same, newest := false, false
		for _, x := range byKey[t.KeyHash] {
			if x.Subject == t.Subject {
				same, newest = true, newest || x.NotBefore.After(t.NotBefore)
			}
		}
		if same {
			l.add(graph.BySubjectAndKey, t.CertificateRef, firstName(t))
		}
		if newest {
			l.add(graph.ByNewest, t.CertificateRef, firstName(t))
		}
	}
	return nil
}

func (f *foresight) twinsBySerial(ctx context.Context, part []direct, l *leafTwins) error {
	for _, a := range f.w.authorities {
		for chunk := range slices.Chunk(part, batchSize) {
			var serials []bulkhead.Serial
			for _, d := range chunk {
				if d.Issuer != a.ID {
					serials = append(serials, d.Serial)
				}
			}
			if len(serials) == 0 {
				continue
			}
			rows, err := f.s.cfg.Store.CertificatesBySerial(ctx, a.ID, serials)
			if err != nil {
				return err
			}
			for _, t := range rows {
				if t.State == bulkhead.Issued && t.Kind != bulkhead.CACertificate && !t.NotAfter.Before(f.w.now) && !f.targets.has(t.CertificateRef) {
					l.add(graph.BySerial, t.CertificateRef, firstName(t))
				}
			}
		}
	}
	return nil
}

// misreadWords names who is hit: certificates first, then how many hang below them.
func misreadWords(m bulkhead.Misread) string {
	var names []string
	for _, c := range m.Certificates[:min(len(m.Certificates), 5)] {
		names = append(names, c.Name)
	}
	text := strings.Join(names, ", ")
	if more := m.Count - int64(len(names)); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	leaves := int64(0)
	for _, p := range m.Products {
		leaves += p.Certificates
	}
	if leaves > 0 {
		if text != "" {
			text += ", and with them "
		}
		text += fmt.Sprintf("%d certificates in use below", leaves)
	}
	return text
}
