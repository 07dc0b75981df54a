package run

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"bulkhead"
	"bulkhead/pki/ocsp"
	"bulkhead/pki/pack"
	"bulkhead/status/caches"
)

// CacheSelection says what is purged or verified: one of a change, a certificate, everything.
type CacheSelection struct {
	Change string
	Ref    bulkhead.CertificateRef // Issuer empty when unset
	All    bool
}

// Purge purges the tiers of what is selected, after it was seen to be public.
func (v *CacheView) Purge(ctx context.Context, s CacheSelection, log *slog.Logger) (caches.Purged, error) {
	c, err := v.caches(log)
	if err != nil {
		return caches.Purged{}, err
	}
	look, err := v.look(ctx, s)
	if err != nil {
		return caches.Purged{}, err
	}
	return c.Purge(ctx, look.targets, func(ctx context.Context) (caches.Publication, error) { return v.published(ctx, look) })
}

// Verify fetches what is selected through every tier.
func (v *CacheView) Verify(ctx context.Context, s CacheSelection, log *slog.Logger) (caches.Verification, error) {
	c, err := v.caches(log)
	if err != nil {
		return caches.Verification{}, err
	}
	look, err := v.look(ctx, s)
	if err != nil {
		return caches.Verification{}, err
	}
	if pub, err := v.published(ctx, look); err != nil {
		return caches.Verification{}, err
	} else if pub.Missing != "" {
		return caches.Verification{}, bulkhead.Faultf(bulkhead.KindGate, "the origin itself is not right: %s", pub.Missing).WithHint("bulkhead change list; verify when the change is published")
	}
	got, err := c.Verify(ctx, look.head.Sequence, look.targets)
	if err != nil || !slices.ContainsFunc(got.Nodes, func(n caches.NodeVerdict) bool { return n.Verdict == caches.Other }) {
		return got, err
	}
	// What was published a moment ago may not be at every edge, which looks for it every half second.
	select {
	case <-ctx.Done():
		return got, ctx.Err()
	case <-time.After(secondLook):
	}
	return c.Verify(ctx, look.head.Sequence, look.targets)
}

// secondLook is how long after an answer that nobody published a node is asked again.
const secondLook = 2 * time.Second

// look is what was selected, as the record has it and as it is public.
type look struct {
	head     *pack.Head
	change   string
	statuses map[bulkhead.CertificateRef]bulkhead.Status
	targets  caches.Targets
}

func (v *CacheView) look(ctx context.Context, s CacheSelection) (*look, error) {
	var err error
	if v.store == nil {
		if v.store, err = OpenStore(ctx, v.dir, v.cfg); err != nil {
			return nil, err
		}
		v.closers = append(v.closers, v.store.Close)
	}
	l := &look{change: s.Change, statuses: map[bulkhead.CertificateRef]bulkhead.Status{}, targets: caches.Targets{All: s.All}}
	var refs []bulkhead.CertificateRef
	switch {
	case s.Change != "" && s.Ref.Issuer == "" && !s.All:
		if refs, err = v.changed(ctx, s.Change); err != nil {
			return nil, err
		}
	case s.Change == "" && s.Ref.Issuer != "" && !s.All:
		refs = []bulkhead.CertificateRef{s.Ref}
	case s.Change == "" && s.Ref.Issuer == "" && s.All:
	default:
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "say what: one of a change, a certificate, everything").WithHint("--change ID, or --issuer X --serial S, or --all")
	}
	if err := v.readStatuses(ctx, l, refs); err != nil {
		return nil, err
	}
	if l.head, err = v.head(ctx); err != nil {
		return nil, err
	}
	if s.All {
		return l, v.everything(ctx, l)
	}
	return l, v.some(ctx, l, refs)
}

// changed are the certificates of a change.
func (v *CacheView) changed(ctx context.Context, id string) ([]bulkhead.CertificateRef, error) {
	c, err := v.store.Change(ctx, id)
	if err != nil {
		return nil, err
	}
	if c.Count > caches.MaxAnswers {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "change %s has %d certificates, more than %d for one run by URL", id, c.Count, caches.MaxAnswers).WithHint("--all")
	}
	var out []bulkhead.CertificateRef
	after := bulkhead.CertificateRef{}
	for {
		page, err := v.store.ChangeItems(ctx, id, after, 1000)
		if err != nil {
			return nil, err
		}
		for _, x := range page {
			out, after = append(out, x.CertificateRef), x.CertificateRef
		}
		if len(page) == 0 {
			return out, nil
		}
	}
}

func (v *CacheView) readStatuses(ctx context.Context, l *look, refs []bulkhead.CertificateRef) error {
	serials := map[bulkhead.AuthorityID][]bulkhead.Serial{}
	for _, r := range refs {
		serials[r.Issuer] = append(serials[r.Issuer], r.Serial)
	}
	for issuer, list := range serials {
		rows, err := v.store.Statuses(ctx, issuer, list)
		if err != nil {
			return err
		}
		for _, row := range rows {
			l.statuses[row.CertificateRef] = row
		}
	}
	for _, r := range refs {
		if _, ok := l.statuses[r]; !ok {
			return bulkhead.Faultf(bulkhead.KindNotFound, "there is no certificate %s", r).WithHint("bulkhead cert list")
		}
	}
	return nil
}

// some are the answers of refs and the CRLs of their shards.
func (v *CacheView) some(ctx context.Context, l *look, refs []bulkhead.CertificateRef) error {
	type shard struct {
		issuer bulkhead.AuthorityID
		n      int
	}
	seen := map[shard]bool{}
	open := map[bulkhead.AuthorityID]*opened{}
	for _, ref := range refs {
		o := open[ref.Issuer]
		if o == nil {
			var err error
			if o, err = v.open(ctx, l.head, ref.Issuer); err != nil {
				return err
			}
			open[ref.Issuer] = o
		}
		a, ok, err := caches.Find(ref.Issuer, o.certificate, o.packs, ref.Serial)
		if err != nil {
			return err
		}
		if !ok {
			return bulkhead.Faultf(bulkhead.KindGate, "no answer for %s is published", ref).WithHint("bulkhead change list; try again when it is published")
		}
		l.targets.Answers = append(l.targets.Answers, a)
		at := shard{ref.Issuer, l.statuses[ref].Shard}
		i := slices.IndexFunc(o.head.CRLs, func(c pack.CRLRef) bool { return c.Shard == at.n })
		if i >= 0 && !seen[at] {
			seen[at] = true
			l.targets.Lists = append(l.targets.Lists, caches.List{Ref: o.head.CRLs[i], ID: ref.Issuer, Issuer: o.certificate})
		}
	}
	return nil
}

// opened is an issuer's published state.
type opened struct {
	head        *pack.IssuerHead
	certificate *x509.Certificate
	packs       []*pack.Pack
}

func (v *CacheView) open(ctx context.Context, head *pack.Head, id bulkhead.AuthorityID) (*opened, error) {
	ih := head.Issuer(id)
	if ih == nil || ih.Certificate.IsZero() {
		return nil, bulkhead.Faultf(bulkhead.KindNotFound, "nothing is published for an authority %s", id).WithHint("bulkhead hierarchy show")
	}
	cert, err := v.issuerCertificate(ctx, ih)
	if err != nil {
		return nil, err
	}
	packs, err := v.packs(ctx, ih)
	return &opened{head: ih, certificate: cert, packs: packs}, err
}

// perIssuer is how many answers of an issuer are a sample.
const perIssuer = 8

var errEnough = errors.New("enough")

// everything is every CRL, and every answer while there are few, else a sample from the newest pack of each issuer:
// that is where the latest changes are.
func (v *CacheView) everything(ctx context.Context, l *look) error {
	total := 0
	var all []*opened
	for i := range l.head.Issuers {
		if l.head.Issuers[i].Certificate.IsZero() {
			continue
		}
		o, err := v.open(ctx, l.head, l.head.Issuers[i].ID)
		if err != nil {
			return err
		}
		all = append(all, o)
		for _, p := range o.packs {
			total += p.Len()
		}
	}
	l.targets.Whole = total <= caches.MaxAnswers
	for _, o := range all {
		for _, c := range o.head.CRLs {
			l.targets.Lists = append(l.targets.Lists, caches.List{Ref: c, ID: o.head.ID, Issuer: o.certificate})
		}
		packs, limit := o.packs, total
		if !l.targets.Whole {
			packs, limit = packs[:min(1, len(packs))], perIssuer
		}
		if err := v.answers(l, o, packs, limit); err != nil {
			return err
		}
	}
	return nil
}

// answers takes up to limit answers of an issuer.
func (v *CacheView) answers(l *look, o *opened, packs []*pack.Pack, limit int) error {
	seen := map[bulkhead.Serial]bool{}
	for _, p := range packs {
		err := p.Each(func(e pack.Entry) error {
			if seen[e.Serial] {
				return nil
			}
			if len(seen) == limit {
				return errEnough
			}
			seen[e.Serial] = true
			a, ok, err := caches.Find(o.head.ID, o.certificate, o.packs, e.Serial)
			if ok && err == nil {
				l.targets.Answers = append(l.targets.Answers, a)
			}
			return err
		})
		if err != nil && !errors.Is(err, errEnough) {
			return err
		}
	}
	return nil
}

// published reads the public head anew and says what is missing in it.
func (v *CacheView) published(ctx context.Context, l *look) (caches.Publication, error) {
	head, err := v.head(ctx)
	if err != nil {
		return caches.Publication{}, err
	}
	pub := caches.Publication{Sequence: head.Sequence, At: head.At}
	record, err := v.store.Head(ctx)
	if err != nil {
		return pub, err
	}
	if l.targets.All && record.Sequence > head.Sequence {
		pub.Missing = fmt.Sprintf("head %d is in the record, head %d is public", record.Sequence, head.Sequence)
	}
	if l.change != "" {
		c, err := v.store.Change(ctx, l.change)
		if err != nil {
			return pub, err
		}
		if c.Epoch == 0 || c.Epoch > head.Sequence || c.State == bulkhead.ChangeRefused {
			pub.Missing = fmt.Sprintf("change %s is %s", c.ID, c.State)
		}
	}
	for _, a := range l.targets.Answers {
		row, ok := l.statuses[a.Ref]
		if ok && (row.State == bulkhead.Revoked) != (a.State == ocsp.Revoked) {
			pub.Missing = fmt.Sprintf("%s is %s in the record, and the published answer says %s", a.Ref, row.State, a.State)
		}
	}
	return pub, nil
}
