package status

import (
	"context"
	"maps"
	"slices"
	"time"

	"bulkhead"
)

// recompute has the house's own answer function say, without and with the change, what is said of every certificate of
// the change, and of all whose answer a mistake could move with it: what shares a key, a name or a serial number; the
// certificates of all authorities; everything that an authority of the change issued, or one with its name or its key;
// and some of every product of every authority. What differs and is not of the change blocks it: in October 2016 a
// responder found certificates by name and key, and nobody had looked.
func (f *foresight) recompute(ctx context.Context) error {
	if err := f.recomputeDirect(ctx); err != nil {
		return err
	}
	whole, err := f.recomputeWhole(ctx)
	if err != nil {
		return err
	}
	others := map[bulkhead.AuthorityID]map[bulkhead.Serial]bool{}
	add := func(ref bulkhead.CertificateRef) {
		if f.targets.has(ref) || whole[ref.Issuer] {
			return
		}
		if others[ref.Issuer] == nil {
			others[ref.Issuer] = map[bulkhead.Serial]bool{}
		}
		others[ref.Issuer][ref.Serial] = true
	}
	for _, r := range f.w.rows {
		add(r.Certificate.CertificateRef)
	}
	for issuer, serials := range f.twins.refs {
		for _, serial := range serials {
			add(bulkhead.CertificateRef{Issuer: issuer, Serial: serial})
		}
	}
	for _, a := range f.w.authorities {
		c, err := f.inUse(ctx, a.ID, false)
		if err != nil {
			return err
		}
		for _, p := range c.products {
			for _, x := range p.Samples {
				add(x.CertificateRef)
			}
		}
	}
	for _, issuer := range slices.Sorted(maps.Keys(others)) {
		if err := f.compare(ctx, issuer, sortedSerials(others[issuer]), nil); err != nil {
			return err
		}
	}
	f.judge()
	return nil
}

func sortedSerials(set map[bulkhead.Serial]bool) []bulkhead.Serial {
	return slices.SortedFunc(maps.Keys(set), bulkhead.Serial.Compare)
}

// recomputeDirect wants each answer of the change to become what the change says.
func (f *foresight) recomputeDirect(ctx context.Context) error {
	wrong := 0
	for _, l := range f.targets.sorted() {
		right := make([]bool, l.Len())
		for from := 0; from < l.Len(); from += batchSize {
			var serials []bulkhead.Serial
			for i := from; i < min(from+batchSize, l.Len()); i++ {
				if answered(l.At(i).State) {
					serials = append(serials, l.Serial(i))
				}
			}
			if len(serials) == 0 {
				continue
			}
			at := l.Cursor()
			err := f.compare(ctx, l.Issuer, serials, func(after bulkhead.Status) {
				if want, is := at.Find(after.Serial); is && same(after, want.After(bulkhead.Change{})) { // of a change that revokes
					right[at.Index()] = true
				}
			})
			if err != nil {
				return err
			}
		}
		for i, said := range right {
			if !said && answered(l.At(i).State) {
				if wrong++; wrong <= shownHits {
					f.block("the answer for %s would not become what the change says", l.At(i).CertificateRef)
				}
			}
		}
	}
	if wrong > shownHits {
		f.block("and %d more", wrong-shownHits)
	}
	return nil
}

func answered(s bulkhead.CertificateState) bool {
	return s == bulkhead.Issued || s == bulkhead.Revoked
}

// recomputeWhole goes through everything issued by an authority of the change, or one with its name or its key.
func (f *foresight) recomputeWhole(ctx context.Context) (map[bulkhead.AuthorityID]bool, error) {
	whole := map[bulkhead.AuthorityID]bool{}
	for _, x := range f.revoked {
		of := f.graph.Subject(x)
		for _, a := range f.w.authorities {
			if n := f.node[a.ID]; n != nil && (n.Key == of.Key || n.Name == of.Name) {
				whole[a.ID] = true
			}
		}
	}
	for _, a := range f.w.authorities {
		if !whole[a.ID] {
			continue
		}
		if err := f.compare(ctx, a.ID, nil, nil); err != nil {
			return nil, err
		}
	}
	return whole, nil
}

// compare asks for answers of one issuer, all when serials is nil. Those of the change are given to said, or passed over
// when that is nil.
func (f *foresight) compare(ctx context.Context, issuer bulkhead.AuthorityID, serials []bulkhead.Serial, said func(after bulkhead.Status)) error {
	parts := [][]bulkhead.Serial{nil}
	if serials != nil {
		parts = slices.Collect(slices.Chunk(serials, batchSize))
	}
	for _, part := range parts {
		for a, err := range f.s.cfg.Signer.ShadowAnswers(ctx, f.change, issuer, part) {
			if err != nil {
				return err
			}
			ref := a.After.CertificateRef
			inside := f.targets.has(ref)
			if inside && said == nil || expiredLong(a.After, f.w.now, f.s.cfg.Policy.KeepExpired) && !inside {
				continue
			}
			f.p.Shadow.Recomputed++
			moved := !same(a.Before, a.After)
			switch {
			case !inside && moved:
				f.outside(ctx, ref)
			case inside:
				if moved {
					f.p.AnswersChanged++
				}
				said(a.After)
			}
		}
	}
	return nil
}

func same(a, b bulkhead.Status) bool {
	return a.State == b.State && a.Reason == b.Reason && a.RevokedAt.Equal(b.RevokedAt)
}

// expiredLong reports that nothing is said of a certificate any more.
func expiredLong(st bulkhead.Status, now time.Time, keep time.Duration) bool {
	return st.NotAfter.Before(now.Add(-keep))
}

func (f *foresight) outside(ctx context.Context, ref bulkhead.CertificateRef) {
	f.p.Shadow.Outside++
	if len(f.p.Shadow.Samples) >= shownHits {
		return
	}
	n := bulkhead.NamedCertificate{Issuer: ref.Issuer, Serial: ref.Serial, Name: ref.String()}
	if c, _, err := f.s.cfg.Store.Certificate(ctx, ref); err == nil {
		n.Name = firstName(c)
	}
	f.p.Shadow.Samples = append(f.p.Shadow.Samples, n)
}

// judge blocks the change when an answer outside it would move.
func (f *foresight) judge() {
	sh := &f.p.Shadow
	sortedNames(sh.Samples)
	if sh.Outside == 0 {
		return
	}
	m := bulkhead.Misread{Certificates: sh.Samples, Count: sh.Outside}
	f.block("the answer function of this house is wrong: with this change it would also change the answers for %s. Nothing went public; see doc/preview.md", misreadWords(m))
}
