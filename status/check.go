package status

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/pki/pack"
	"bulkhead/publish"
)

// CheckConfig says what to compare. It may run beside a writer.
type CheckConfig struct {
	Store        Store
	Objects      publish.Store
	HeadVerifier note.Verifier
	Now          func() time.Time
	KeepExpired  time.Duration          // as in Policy; 0 means its default
	Issuers      []bulkhead.AuthorityID // these alone; nil for all that answer
}

// Disagreement is one thing that is public and not so in the record, or the reverse.
type Disagreement struct {
	Rule    string // "head", "object", "good-never-signed", "answer", "answer-missing", "crl"
	Ref     bulkhead.CertificateRef
	Message string
}

// MaxDisagreements bounds a report.
const MaxDisagreements = 1000

// Check compares what is published with the record, certificate by certificate: every answer and every CRL entry has
// its row and every row its answer. It looks at the newest head of the store, which is what goes public even when the
// process died before the switch. Rows are read after the head, and a writer goes on meanwhile: what a second look does not
// find again is none.
func Check(ctx context.Context, cfg CheckConfig) (found []Disagreement, answers int, err error) {
	found, answers, err = look(ctx, cfg)
	if err != nil || len(found) == 0 {
		return found, answers, err
	}
	again, answers, err := look(ctx, cfg)
	return Standing(found, again), answers, err
}

// Standing are the disagreements of a later look that an earlier one had found as well.
func Standing(earlier, later []Disagreement) []Disagreement {
	if len(earlier) >= MaxDisagreements {
		return later
	}
	type key struct {
		rule string
		ref  bulkhead.CertificateRef
	}
	known := map[key]bool{}
	for _, d := range earlier {
		known[key{d.Rule, d.Ref}] = true
	}
	return slices.DeleteFunc(later, func(d Disagreement) bool { return !known[key{d.Rule, d.Ref}] })
}

func look(ctx context.Context, cfg CheckConfig) (found []Disagreement, answers int, err error) {
	c, err := Compare(ctx, cfg)
	if err != nil {
		return nil, 0, err
	}
	for i := range c.parts {
		if err := c.walk(ctx, c.parts[i].authority.ID); err != nil {
			return c.found, c.answers, err
		}
	}
	found, answers = c.Finish()
	return found, answers, nil
}

// Comparison is a comparison of which the rows come from the caller, who reads them anyway. It belongs to one goroutine.
type Comparison struct {
	s       *Service
	now     time.Time
	found   []Disagreement
	answers int
	parts   []part
}

// part is what is public of one authority, from which rows are struck out.
type part struct {
	authority bulkhead.Authority
	head      *pack.IssuerHead
	said      map[bulkhead.Serial]bool // serial → revoked, by the newest answer
	listed    map[bulkhead.Serial]bulkhead.Reason
	coming    bool // a foreign authority's newer CRL is in the record and not yet in the head: what is listed is not compared
}

// Compare reads what is public: the newest head of the store with its packs and CRLs. The caller then hands over every
// issued and revoked row of the authorities that Wants names, and calls Finish.
func Compare(ctx context.Context, cfg CheckConfig) (*Comparison, error) {
	p := Policy{KeepExpired: cfg.KeepExpired}
	p.defaults()
	s := &Service{cfg: Config{Store: cfg.Store, Objects: cfg.Objects, HeadVerifier: cfg.HeadVerifier, Policy: p, Now: cfg.Now}}
	c := &Comparison{s: s, now: s.now()}
	rec, err := cfg.Store.Head(ctx)
	if err != nil || rec.Sequence == 0 {
		return c, err
	}
	h, err := pack.OpenHead(rec.Body, cfg.HeadVerifier)
	if err != nil {
		c.add("head", bulkhead.CertificateRef{}, "the newest head does not verify: %s", err)
		return c, nil
	}
	if h.Sequence != rec.Sequence {
		c.add("head", bulkhead.CertificateRef{}, "head %d is stored under sequence %d", h.Sequence, rec.Sequence)
	}
	if err := c.public(ctx, rec); err != nil {
		return nil, err
	}
	authorities, err := cfg.Store.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	for _, a := range authorities {
		if !a.Served() || len(cfg.Issuers) > 0 && !slices.Contains(cfg.Issuers, a.ID) {
			continue
		}
		if ih := h.Issuer(a.ID); ih == nil {
			c.add("head", bulkhead.CertificateRef{Issuer: a.ID}, "the head does not name the authority")
		} else if err := c.authority(ctx, a, ih); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Wants reports whether rows of the authority are compared.
func (c *Comparison) Wants(id bulkhead.AuthorityID) bool { return c.part(id) != nil }

func (c *Comparison) part(id bulkhead.AuthorityID) *part {
	for i := range c.parts {
		if c.parts[i].authority.ID == id {
			return &c.parts[i]
		}
	}
	return nil
}

// public holds the public head against the record's: it may be behind for a moment, never ahead or another.
func (c *Comparison) public(ctx context.Context, rec bulkhead.HeadRecord) error {
	signed, err := c.s.cfg.Objects.Head(ctx)
	if bulkhead.KindOf(err) == bulkhead.KindNotFound || err == nil && string(signed) == string(rec.Body) {
		return nil
	}
	if err != nil {
		return err
	}
	switch h, err := pack.OpenHead(signed, c.s.cfg.HeadVerifier); {
	case err != nil:
		c.add("head", bulkhead.CertificateRef{}, "the public head does not verify: %s", err)
	case h.Sequence >= rec.Sequence:
		if now, err := c.s.cfg.Store.Head(ctx); err != nil || h.Sequence < now.Sequence || string(now.Body) == string(signed) {
			return err // a writer went on while we looked
		}
		c.add("head", bulkhead.CertificateRef{}, "head %d is public and not the newest of the record, which is %d", h.Sequence, rec.Sequence)
	}
	return nil
}

func (c *Comparison) add(rule string, ref bulkhead.CertificateRef, format string, args ...any) {
	if len(c.found) < MaxDisagreements {
		c.found = append(c.found, Disagreement{rule, ref, fmt.Sprintf(format, args...)})
	}
}

func (c *Comparison) authority(ctx context.Context, a bulkhead.Authority, ih *pack.IssuerHead) error {
	said := map[bulkhead.Serial]bool{}
	for _, ref := range ih.Packs {
		p, err := c.s.openPack(ctx, ref)
		if err != nil {
			c.add("object", bulkhead.CertificateRef{Issuer: a.ID}, "pack %s: %s", ref.Name, err)
			continue
		}
		err = p.Each(func(e pack.Entry) error {
			if _, newer := said[e.Serial]; !newer {
				said[e.Serial] = e.Revoked
			}
			return nil
		})
		if err != nil {
			c.add("object", bulkhead.CertificateRef{Issuer: a.ID}, "pack %s: %s", ref.Name, err)
		}
	}
	c.answers += len(said)
	pt := part{authority: a, head: ih, said: said, listed: map[bulkhead.Serial]bulkhead.Reason{}}
	for _, ref := range ih.CRLs {
		crl, err := c.s.readCRL(ctx, a, ref.Name)
		if err != nil {
			c.add("object", bulkhead.CertificateRef{Issuer: a.ID}, "CRL %s: %s", ref.Name, err)
			continue
		}
		for _, e := range crl.serials {
			pt.listed[e.serial] = bulkhead.Reason(e.reason)
		}
	}
	if a.Foreign() {
		due, err := c.s.due(ctx, a.ID, "")
		if err != nil {
			return err
		}
		old := crlOf(ih, 0)
		if pt.coming = due != nil && (old == nil || old.Number < due.CRLNumber); pt.coming {
			clear(pt.listed)
		}
	}
	c.parts = append(c.parts, pt)
	return nil
}

// walk hands over the rows of an authority.
func (c *Comparison) walk(ctx context.Context, id bulkhead.AuthorityID) error {
	var after bulkhead.Serial
	for {
		page, err := c.s.cfg.Store.StatusPage(ctx, id, after, time.Time{}, batchSize)
		if err != nil {
			return err
		}
		for _, r := range page {
			c.Row(r)
		}
		if len(page) < batchSize {
			return nil
		}
		after = page[len(page)-1].Serial
	}
}

// Row compares one issued or revoked row and strikes out what has been accounted for.
func (c *Comparison) Row(r bulkhead.Status) {
	p := c.part(r.Issuer)
	if p == nil {
		return
	}
	c.row(r, c.now, p)
	delete(p.said, r.Serial)
	delete(p.listed, r.Serial)
}

// Finish returns what was found, with what is public without a row, and the number of answers that are public.
func (c *Comparison) Finish() (found []Disagreement, answers int) {
	for _, p := range c.parts {
		for serial, revoked := range p.said {
			c.add("good-never-signed", bulkhead.CertificateRef{Issuer: p.authority.ID, Serial: serial}, "an answer that says %s is public for a serial of which the record has no certificate", map[bool]string{true: "revoked", false: "good"}[revoked])
		}
		for serial := range p.listed {
			c.add("crl", bulkhead.CertificateRef{Issuer: p.authority.ID, Serial: serial}, "the CRL lists a serial that was never issued")
		}
	}
	return c.found, c.answers
}

func (c *Comparison) row(r bulkhead.Status, now time.Time, p *part) {
	revoked, answered := p.said[r.Serial]
	isRevoked := r.State == bulkhead.Revoked
	expired := r.NotAfter.Before(now)
	taken := r.Seq <= p.head.ThroughSeq // an import moves a row before its answer: until a head has taken it, it is on its way
	switch {
	case answered && revoked != isRevoked && (taken || !p.authority.Foreign()):
		c.add("answer", r.CertificateRef, "the answer says revoked: %v, the record says %s", revoked, r.State)
	case !answered && !expired && taken:
		c.add("answer-missing", r.CertificateRef, "no answer is public")
	}
	if p.coming {
		return
	}
	reason, onCRL := p.listed[r.Serial]
	switch {
	case isRevoked && !onCRL && !expired:
		c.add("crl", r.CertificateRef, "revoked in the record and on no CRL")
	case !isRevoked && onCRL:
		c.add("crl", r.CertificateRef, "on a CRL and %s in the record", r.State)
	case onCRL && reason != r.Reason:
		c.add("crl", r.CertificateRef, "the CRL says %s, the record %s", reason, r.Reason)
	}
}
