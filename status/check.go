package status

import (
	"context"
	"fmt"
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
	KeepExpired  time.Duration // as in Policy; 0 means its default
}

// Disagreement is one thing that is public and not so in the record, or the reverse.
type Disagreement struct {
	Rule    string // "head", "object", "good-never-signed", "answer", "answer-missing", "crl"
	Ref     bulkhead.CertificateRef
	Message string
}

// maxDisagreements bounds a report.
const maxDisagreements = 1000

// Check compares what is published with the record, certificate by certificate: every answer and every CRL entry has
// its row and every row its answer. It looks at the newest head of the store, which is what goes public even when the
// process died before the switch.
func Check(ctx context.Context, cfg CheckConfig) (found []Disagreement, answers int, err error) {
	p := Policy{KeepExpired: cfg.KeepExpired}
	p.defaults()
	s := &Service{cfg: Config{Store: cfg.Store, Objects: cfg.Objects, HeadVerifier: cfg.HeadVerifier, Policy: p, Now: cfg.Now}}
	c := &comparison{s: s}
	rec, err := cfg.Store.Head(ctx)
	if err != nil || rec.Sequence == 0 {
		return nil, 0, err
	}
	h, err := pack.OpenHead(rec.Body, cfg.HeadVerifier)
	if err != nil {
		c.add("head", bulkhead.CertificateRef{}, "the newest head does not verify: %s", err)
		return c.found, 0, nil
	}
	if h.Sequence != rec.Sequence {
		c.add("head", bulkhead.CertificateRef{}, "head %d is stored under sequence %d", h.Sequence, rec.Sequence)
	}
	if err := c.public(ctx, rec); err != nil {
		return nil, 0, err
	}
	authorities, err := cfg.Store.Authorities(ctx)
	if err != nil {
		return nil, 0, err
	}
	for _, a := range authorities {
		if !a.Served() {
			continue
		}
		ih := h.Issuer(a.ID)
		if ih == nil {
			c.add("head", bulkhead.CertificateRef{Issuer: a.ID}, "the head does not name the authority")
			continue
		}
		if err := c.authority(ctx, a, ih); err != nil {
			return c.found, c.answers, err
		}
	}
	return c.found, c.answers, nil
}

// public holds the public head against the record's: it may be behind for a moment, never ahead or another.
func (c *comparison) public(ctx context.Context, rec bulkhead.HeadRecord) error {
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

type comparison struct {
	s       *Service
	found   []Disagreement
	answers int
}

func (c *comparison) add(rule string, ref bulkhead.CertificateRef, format string, args ...any) {
	if len(c.found) < maxDisagreements {
		c.found = append(c.found, Disagreement{rule, ref, fmt.Sprintf(format, args...)})
	}
}

func (c *comparison) authority(ctx context.Context, a bulkhead.Authority, ih *pack.IssuerHead) error {
	said := map[bulkhead.Serial]bool{} // serial → revoked, by the newest answer
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
	listed := map[bulkhead.Serial]bulkhead.Reason{}
	for _, ref := range ih.CRLs {
		crl, err := c.s.readCRL(ctx, a, ref.Name)
		if err != nil {
			c.add("object", bulkhead.CertificateRef{Issuer: a.ID}, "CRL %s: %s", ref.Name, err)
			continue
		}
		for serial, e := range crl.serials {
			listed[serial] = e.Reason
		}
	}
	return c.rows(ctx, a, ih, said, listed)
}

// rows walks the record and strikes out what has been accounted for; what is left over is public without a row.
func (c *comparison) rows(ctx context.Context, a bulkhead.Authority, ih *pack.IssuerHead, said map[bulkhead.Serial]bool, listed map[bulkhead.Serial]bulkhead.Reason) error {
	now := c.s.now()
	var after bulkhead.Serial
	for {
		page, err := c.s.cfg.Store.StatusPage(ctx, a.ID, after, time.Time{}, batchSize)
		if err != nil {
			return err
		}
		for _, r := range page {
			c.row(r, now, ih, said, listed)
			delete(said, r.Serial)
			delete(listed, r.Serial)
		}
		if len(page) < batchSize {
			break
		}
		after = page[len(page)-1].Serial
	}
	for serial, revoked := range said {
		c.add("good-never-signed", bulkhead.CertificateRef{Issuer: a.ID, Serial: serial}, "an answer (revoked: %v) is public for a serial that was never issued", revoked)
	}
	for serial := range listed {
		c.add("crl", bulkhead.CertificateRef{Issuer: a.ID, Serial: serial}, "the CRL lists a serial that was never issued")
	}
	return nil
}

func (c *comparison) row(r bulkhead.Status, now time.Time, ih *pack.IssuerHead, said map[bulkhead.Serial]bool, listed map[bulkhead.Serial]bulkhead.Reason) {
	revoked, answered := said[r.Serial]
	isRevoked := r.State == bulkhead.Revoked
	expired := r.NotAfter.Before(now)
	switch {
	case answered && revoked != isRevoked:
		c.add("answer", r.CertificateRef, "the answer says revoked: %v, the record says %s", revoked, r.State)
	case !answered && !expired && r.Seq <= ih.ThroughSeq:
		c.add("answer-missing", r.CertificateRef, "no answer is public")
	}
	reason, onCRL := listed[r.Serial]
	switch {
	case isRevoked && !onCRL && !expired:
		c.add("crl", r.CertificateRef, "revoked in the record and on no CRL")
	case !isRevoked && onCRL:
		c.add("crl", r.CertificateRef, "on a CRL and %s in the record", r.State)
	case onCRL && reason != r.Reason:
		c.add("crl", r.CertificateRef, "the CRL says %s, the record %s", reason, r.Reason)
	}
}
