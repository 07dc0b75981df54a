package outside

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/pki/pack"
)

// chunk is how many serials one question to the record names.
const chunk = 500

// statuses asks for many, by serial.
func statuses(ctx context.Context, rec Record, id bulkhead.AuthorityID, serials []bulkhead.Serial) (map[bulkhead.Serial]bulkhead.Status, error) {
	out := make(map[bulkhead.Serial]bulkhead.Status, len(serials))
	for len(serials) > 0 {
		part := serials[:min(chunk, len(serials))]
		serials = serials[len(part):]
		rows, err := rec.Statuses(ctx, id, part)
		if err != nil {
			return nil, err
		}
		for _, s := range rows {
			out[s.Serial] = s
		}
	}
	return out, nil
}

// outcomes is one half of D4 and D11: what evidence says was issued stands in the record, with what it rests on.
func (r *Reconciler) outcomes(ctx context.Context, id bulkhead.AuthorityID, list []outcome) error {
	var serials []bulkhead.Serial
	for _, o := range list {
		serials = append(serials, o.e.Serial)
	}
	rows, err := statuses(ctx, r.cfg.Record, id, serials)
	if err != nil {
		return err
	}
	young := map[bulkhead.Serial]time.Time{}
	for _, o := range list {
		ref := bulkhead.CertificateRef{Issuer: id, Serial: o.e.Serial}
		st, ok := rows[o.e.Serial]
		if !ok || st.State != bulkhead.Issued && st.State != bulkhead.Revoked {
			r.suspect[ref] = o.seq
			continue
		}
		if r.cfg.Now().Sub(o.e.At) < basisWithin {
			young[o.e.Serial] = o.e.At
		}
	}
	serials = slices.Collect(maps.Keys(young))
	for len(serials) > 0 {
		part := serials[:min(chunk, len(serials))]
		serials = serials[len(part):]
		if err := r.basis(ctx, id, part, young); err != nil {
			return err
		}
	}
	return nil
}

// suspects is D4, evidence without a row: asked once more, for a row may have been pruned between the two looks.
func (r *Reconciler) suspects(ctx context.Context) error {
	for ref, seq := range r.suspect {
		rows, err := r.cfg.Record.Statuses(ctx, ref.Issuer, []bulkhead.Serial{ref.Serial})
		if err != nil {
			return err
		}
		gone, err := r.cfg.Record.Pruned(ctx, ref)
		if err != nil {
			return err
		}
		delete(r.suspect, ref)
		if gone || len(rows) == 1 && (rows[0].State == bulkhead.Issued || rows[0].State == bulkhead.Revoked) {
			continue
		}
		r.raise(ctx, "D4", "row,"+ref.String(), bulkhead.Critical, "d4-record-evidence.md", "evidence has certificate %s (leaf %d), and the record does not: its row was removed or changed", ref, seq-1)
	}
	return nil
}

// basisWithin is how old an issuance may be to be asked for its basis: later, authorisations lawfully end.
const basisWithin = time.Hour

// basis is D11: each name of a subscriber's certificate rests on a validation and, for a domain name, a look at CAA that
// permitted, both good at the time of issue. at says when each of the serials was issued. All are asked for together: the
// record is not to be asked five times for each certificate.
func (r *Reconciler) basis(ctx context.Context, id bulkhead.AuthorityID, serials []bulkhead.Serial, at map[bulkhead.Serial]time.Time) error {
	rows, err := r.cfg.Record.CertificatesBySerial(ctx, id, serials)
	if err != nil {
		return err
	}
	rows = slices.DeleteFunc(rows, func(c bulkhead.Certificate) bool {
		return c.Kind != bulkhead.LeafCertificate && c.Kind != bulkhead.Precertificate
	})
	var orders []string
	for _, c := range rows {
		if c.OrderID != "" {
			orders = append(orders, c.OrderID)
		}
	}
	grounds, err := r.cfg.Record.OrdersEvidence(ctx, orders...)
	if err != nil {
		return err
	}
	for _, c := range rows {
		missing, err := r.unfounded(ctx, c, grounds[c.OrderID], at[c.Serial])
		if err != nil {
			return err
		}
		if missing != "" {
			r.raise(ctx, "D11", c.CertificateRef.String(), bulkhead.Critical, "d11-no-basis.md", "certificate %s was issued %s without its basis in the record: %s", c.CertificateRef, stamp(at[c.Serial]), missing)
		}
	}
	return nil
}

func (r *Reconciler) unfounded(ctx context.Context, c bulkhead.Certificate, grounds *bulkhead.OrderEvidence, at time.Time) (string, error) {
	if c.OrderID == "" {
		return "it belongs to no order", nil
	}
	if grounds == nil {
		return "its order " + c.OrderID + " does not exist", nil
	}
	// A validation counts when the certificate is announced, and a look at CAA when it is signed (decision 0067). The row's word for
	// the former goes no further back than a token lives.
	announced := c.ReservedAt
	if early := at.Add(-announcedWithin); announced.Before(early) {
		announced = early
	} else if announced.After(at) {
		announced = at
	}
	var ended map[bulkhead.Identifier]bool
	for _, n := range c.Names {
		if !validated(grounds.Validations, n, announced) {
			if ended == nil {
				var err error
				if ended, err = r.ended(ctx, c.OrderID); err != nil {
					return "", err
				}
			}
			if !ended[n.Base()] {
				return fmt.Sprintf("no validation of %s that counted then", n.Value), nil
			}
		}
		if n.Type == bulkhead.DNS && !permitted(grounds.Checks, n, at) {
			return fmt.Sprintf("no look at CAA for %s that permitted it then", n.Value), nil
		}
	}
	return "", nil
}

// ended are the names of an order whose authorisation has ended since: what was validated then is no longer told.
func (r *Reconciler) ended(ctx context.Context, order string) (map[bulkhead.Identifier]bool, error) {
	out := map[bulkhead.Identifier]bool{}
	o, err := r.cfg.Record.Order(ctx, order)
	if err != nil {
		return nil, err
	}
	for _, id := range o.Authorizations {
		z, err := r.cfg.Record.Authorization(ctx, id)
		if err != nil {
			return nil, err
		}
		switch z.State {
		case bulkhead.AuthorizationDeactivated, bulkhead.AuthorizationExpired, bulkhead.AuthorizationRevoked:
			out[z.Identifier.Base()] = true
		}
	}
	return out, nil
}

// announcedWithin is how long before its outcome a certificate may have been announced: the signer's tokens live two minutes.
const announcedWithin = 2 * time.Minute

// skew is by how much times that are kept to the second may be apart.
const skew = 2 * time.Second

func validated(all []bulkhead.Validation, n bulkhead.Identifier, at time.Time) bool {
	for _, v := range all {
		if v.Identifier == n.Base() && (!n.Wildcard() || v.Wildcard) && !v.At.After(at.Add(skew)) && at.Before(v.ReuseUntil.Add(skew)) {
			return true
		}
	}
	return false
}

func permitted(all []bulkhead.CAACheck, n bulkhead.Identifier, at time.Time) bool {
	for _, c := range all {
		if c.Identifier == n && (c.Result == bulkhead.CAAPermitted || c.Result == bulkhead.CAAExempt) && !c.At.After(at.Add(skew)) && at.Before(c.ValidUntil.Add(skew)) {
			return true
		}
	}
	return false
}

// settle looks whether revocations in evidence stand everywhere, and names the laggard of those that are overdue (D8).
func (r *Reconciler) settle(ctx context.Context, view *View, lists *lists, now time.Time) error {
	byIssuer := map[bulkhead.AuthorityID][]bulkhead.Serial{}
	for ref := range r.pending {
		byIssuer[ref.Issuer] = append(byIssuer[ref.Issuer], ref.Serial)
	}
	for id, serials := range byIssuer {
		rows, err := statuses(ctx, r.cfg.Record, id, serials)
		if err != nil {
			return err
		}
		if err := lists.want(ctx, id, rows); err != nil {
			return err
		}
		for _, serial := range serials {
			ref := bulkhead.CertificateRef{Issuer: id, Serial: serial}
			x, st := r.pending[ref], rows[serial]
			if !st.NotAfter.IsZero() && st.NotAfter.Before(now) {
				delete(r.pending, ref)
				continue
			}
			var lag []string
			if st.State != bulkhead.Revoked {
				if gone, err := r.cfg.Record.Pruned(ctx, ref); err != nil {
					return err
				} else if gone {
					delete(r.pending, ref)
					continue
				}
				lag = append(lag, "the record: its row does not say revoked")
			} else {
				lag = laggards(view.Issuers[id], lists, st)
			}
			switch {
			case len(lag) == 0:
				delete(r.pending, ref)
			case now.Sub(x.at) > r.cfg.Agree:
				r.raise(ctx, "D8", ref.String(), bulkhead.Critical, "d8-revocation-missing.md", "%s was revoked %s ago by change %s and is not revoked everywhere: the laggard is %s", ref, now.Sub(x.at).Round(time.Second), x.change, strings.Join(lag, "; and "))
			}
		}
	}
	return nil
}

// laggards names what does not say that a certificate is revoked.
func laggards(is *Issuer, lists *lists, st bulkhead.Status) []string {
	if is == nil {
		return []string{"the head: it does not name " + string(st.Issuer)}
	}
	var out []string
	if a, ok := is.find(st.Serial); !ok {
		out = append(out, "the OCSP packs: they hold no answer")
	} else if !a.revoked {
		out = append(out, "the OCSP packs: the answer in "+a.pack.Name+" says good")
	}
	if ref, ok := is.crl(st.Shard); !ok {
		out = append(out, fmt.Sprintf("the CRLs: there is none for shard %d", st.Shard))
	} else if !lists.holds(st.CertificateRef) {
		out = append(out, fmt.Sprintf("CRL %d of shard %d: it has no entry", ref.Number, st.Shard))
	}
	return out
}

// inventory compares the next rows of every authority with what is published and with their evidence: D14, D8, D9 and the
// other half of D4.
func (r *Reconciler) inventory(ctx context.Context, view *View, lists *lists, authorities []bulkhead.Authority, now time.Time) error {
	for _, a := range authorities {
		is := view.Issuers[a.ID]
		if is == nil || !served(ctx, r.cfg.Record, a, now) {
			continue
		}
		page, err := r.cfg.Record.StatusPage(ctx, a.ID, r.sweep[a.ID], now, max(1, r.cfg.Rows/len(authorities)))
		if err != nil {
			return err
		}
		if len(page) == 0 {
			r.sweep[a.ID] = bulkhead.Serial{}
			r.state.Rounds++
			continue
		}
		compare := r.page
		if a.Foreign() {
			compare = r.importedPage
		}
		if err := compare(ctx, is, lists, page, now); err != nil {
			return err
		}
		r.sweep[a.ID] = page[len(page)-1].Serial
		r.state.Rows += int64(len(page))
	}
	return nil
}

func (r *Reconciler) page(ctx context.Context, is *Issuer, lists *lists, page []bulkhead.Status, now time.Time) error {
	rows := map[bulkhead.Serial]bulkhead.Status{}
	var revoked []bulkhead.Serial
	for _, st := range page {
		rows[st.Serial] = st
		if st.State == bulkhead.Revoked {
			revoked = append(revoked, st.Serial)
		}
	}
	if err := lists.want(ctx, is.Head.ID, rows); err != nil {
		return err
	}
	changes, err := changesOf(ctx, r.cfg.Record, is.Head.ID, revoked)
	if err != nil {
		return err
	}
	for _, st := range page {
		issued, err := r.evident(ctx, st)
		if err != nil {
			return err
		}
		if st.State == bulkhead.Revoked {
			r.revokedRow(ctx, is, lists, st, changes[st.Serial], now)
		} else if now.Sub(issued) > AvailableWithin {
			r.issuedRow(ctx, is, lists, st)
		}
	}
	return nil
}

// evident is D4, a row without evidence: its leaf is the outcome of exactly this certificate. It returns when that was.
func (r *Reconciler) evident(ctx context.Context, st bulkhead.Status) (time.Time, error) {
	e, err := leafAt(ctx, r.cfg.Record, st.Seq)
	if err != nil && bulkhead.KindOf(err) != bulkhead.KindNotFound {
		return time.Time{}, err
	}
	if err != nil || e.Kind != bulkhead.EvCertificateOutcome || e.Authority != st.Issuer || e.Serial != st.Serial {
		r.raise(ctx, "D4", "evidence,"+st.CertificateRef.String(), bulkhead.Critical, "d4-record-evidence.md", "the record has certificate %s, and evidence does not have its issue: the row was put there past the signer", st.CertificateRef)
		return r.cfg.Now(), nil
	}
	return e.At, nil
}

// revokedRow holds a revoked row against its change (D9) and against what is public (D8).
func (r *Reconciler) revokedRow(ctx context.Context, is *Issuer, lists *lists, st bulkhead.Status, c bulkhead.CertificateChange, now time.Time) {
	if c.Change == "" {
		r.raise(ctx, "D9", st.CertificateRef.String(), bulkhead.Critical, "d9-flipped.md", "%s is revoked in the record, and no change that went public named it", st.CertificateRef)
	}
	since := st.RevokedAt
	if !c.ActivatedAt.IsZero() {
		since = c.ActivatedAt
	}
	if now.Sub(since) <= r.cfg.Agree {
		return
	}
	if lag := laggards(is, lists, st); len(lag) > 0 {
		r.lagging(ctx, st, now.Sub(since), lag)
	}
}

// issuedRow is D14 and D9: a good certificate has an answer and a CRL for its shard, and neither says revoked.
func (r *Reconciler) issuedRow(ctx context.Context, is *Issuer, lists *lists, st bulkhead.Status) {
	a, ok := is.find(st.Serial)
	if !ok {
		r.unanswered(ctx, st)
	}
	if _, ok := is.crl(st.Shard); !ok {
		r.raise(ctx, "D14", fmt.Sprintf("shard,%s,%d", st.Issuer, st.Shard), bulkhead.Critical, "d14-coverage.md", "certificates of %s name CRL shard %d, and no CRL of it is published", st.Issuer, st.Shard)
	}
	if ok && a.revoked || lists.holds(st.CertificateRef) {
		r.flipped(ctx, st.CertificateRef)
	}
}

// flipped raises D9 after a second look at the record. A hold that a foreign authority ended just now is on its way, as a
// revocation is.
func (r *Reconciler) flipped(ctx context.Context, ref bulkhead.CertificateRef) {
	rows, err := r.cfg.Record.Statuses(ctx, ref.Issuer, []bulkhead.Serial{ref.Serial})
	if err != nil {
		r.raise(ctx, "D9", "blind", bulkhead.Warning, "watch.md", "the detector could not look: %s", bulkhead.AsFault(err).Detail)
		return
	}
	if len(rows) == 1 {
		if rows[0].State == bulkhead.Revoked {
			return
		}
		if e, err := leafAt(ctx, r.cfg.Record, rows[0].Seq); err == nil && e.Kind == bulkhead.EvImportedRelease && r.cfg.Now().Sub(e.At) <= r.cfg.Agree {
			return
		}
	}
	r.raise(ctx, "D9", ref.String(), bulkhead.Critical, "d9-flipped.md", "%s is revoked in what is published, and nothing in the record revoked it", ref)
}

// changesOf finds the change that went public for each of the serials.
func changesOf(ctx context.Context, rec Record, id bulkhead.AuthorityID, serials []bulkhead.Serial) (map[bulkhead.Serial]bulkhead.CertificateChange, error) {
	out := map[bulkhead.Serial]bulkhead.CertificateChange{}
	for len(serials) > 0 {
		part := serials[:min(chunk, len(serials))]
		serials = serials[len(part):]
		all, err := rec.CertificateChanges(ctx, id, part)
		if err != nil {
			return nil, err
		}
		for _, c := range all {
			if !c.ActivatedAt.IsZero() {
				out[c.Serial] = c // the oldest wins: it is the one that revoked
			}
		}
	}
	return out, nil
}

// maxWalked bounds what is remembered of packs; a pack that was forgotten is walked again.
const maxWalked = 10_000

// packs is D9 from the other side: each entry that says revoked, in packs not seen before, has its row.
func (r *Reconciler) packs(ctx context.Context, view *View) error {
	if len(r.walked) > maxWalked {
		clear(r.walked)
	}
	for id, is := range view.Issuers {
		for n, p := range is.Packs {
			digest := is.Head.Packs[n].Digest
			if r.walked[digest] {
				continue
			}
			if err := r.walk(ctx, id, is, p); err != nil {
				return err
			}
			r.walked[digest] = true
		}
	}
	return nil
}

// walk leaves out what a newer pack says otherwise: after a revocation was taken back, the pack that said so lies below for a while.
func (r *Reconciler) walk(ctx context.Context, id bulkhead.AuthorityID, is *Issuer, p *pack.Pack) error {
	var part []bulkhead.Serial
	flush := func() error {
		rows, err := statuses(ctx, r.cfg.Record, id, part)
		if err != nil {
			return err
		}
		for _, serial := range part {
			if rows[serial].State == bulkhead.Revoked {
				continue
			}
			if a, ok := is.find(serial); ok && !a.revoked {
				continue
			}
			ref := bulkhead.CertificateRef{Issuer: id, Serial: serial}
			gone, err := r.cfg.Record.Pruned(ctx, ref)
			if err != nil {
				return err
			}
			if !gone {
				r.flipped(ctx, ref)
			}
		}
		part = part[:0]
		return nil
	}
	err := p.Each(func(e pack.Entry) error {
		if !e.Revoked {
			return nil
		}
		if part = append(part, e.Serial); len(part) < chunk {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}
