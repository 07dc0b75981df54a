package status

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"time"

	"bulkhead"
	"bulkhead/pki/crl"
	"bulkhead/pki/pack"
	"bulkhead/pki/policy"
	"bulkhead/publish"
)

// dueCRLs brings every shard's CRL up to date: the first one, and a new one at half-life.
func (s *Service) dueCRLs(ctx context.Context, a bulkhead.Authority, ih *pack.IssuerHead) ([]bulkhead.CRLRecord, error) {
	if a.KeyURI == "" {
		return s.preparedCRL(ctx, a, ih)
	}
	var recs []bulkhead.CRLRecord
	for shard := 0; shard < max(a.Shards, len(ih.CRLs)); shard++ {
		if old := crlOf(ih, shard); old != nil && s.now().Sub(old.ThisUpdate) < turnAge(old.NextUpdate.Sub(old.ThisUpdate), old.ThisUpdate) {
			continue
		}
		rec, err := s.newCRL(ctx, a, ih, shard, nil)
		if err != nil {
			return nil, err
		}
		recs = append(recs, rec)
	}
	return recs, nil
}

// turnAge is how old a list gets before the next one: half of its validity, and leeway less than BR 4.9.7 allows for
// lists of certificates that need not point to OCSP.
func turnAge(validity time.Duration, at time.Time) time.Duration {
	return min(validity/2, policy.CRLMaxInterval(policy.Subscriber, false, at).Sub(at)-leeway)
}

func crlOf(ih *pack.IssuerHead, shard int) *pack.CRLRef {
	for i := range ih.CRLs {
		if ih.CRLs[i].Shard == shard {
			return &ih.CRLs[i]
		}
	}
	return nil
}

func setCRL(ih *pack.IssuerHead, ref pack.CRLRef) {
	if old := crlOf(ih, ref.Shard); old != nil {
		*old = ref
		return
	}
	ih.CRLs = append(ih.CRLs, ref)
	sort.Slice(ih.CRLs, func(i, j int) bool { return ih.CRLs[i].Shard < ih.CRLs[j].Shard })
}

// newCRL signs the CRL of one shard, puts it into the object store, reads it back and names it in the head. Number and
// thisUpdate move forward only.
func (s *Service) newCRL(ctx context.Context, a bulkhead.Authority, ih *pack.IssuerHead, shard int, st *staging) (bulkhead.CRLRecord, error) {
	number, err := s.cfg.Store.NextCRLNumber(ctx, a.ID, shard)
	if err != nil {
		return bulkhead.CRLRecord{}, err
	}
	from, err := s.from()
	if err != nil {
		return bulkhead.CRLRecord{}, err
	}
	old := crlOf(ih, shard)
	if old != nil && from.Before(old.ThisUpdate) {
		from = old.ThisUpdate
	}
	name := fmt.Sprintf("crls/%s/%d/%d.crl", a.ID, shard, number)
	buf := &spool{ctx: ctx, objects: s.cfg.Objects}
	defer buf.close()
	rec, err := s.cfg.Signer.SignCRL(ctx, bulkhead.CRLRequest{Authority: a.ID, Shard: shard, Number: number, Change: st.id(),
		ThisUpdate: from, NextUpdate: from.Add(s.cfg.Policy.CRLValidity).Add(-time.Second), Object: name}, buf)
	if err != nil {
		return rec, err
	}
	if err := s.cfg.Objects.Put(ctx, publish.Object{Name: name, Type: "application/pkix-crl", Body: buf.body()}); err != nil {
		return rec, err
	}
	if err := s.checkCRL(ctx, a, old, rec, st); err != nil {
		return rec, err
	}
	setCRL(ih, pack.CRLRef{Shard: shard, Number: number, ThisUpdate: rec.ThisUpdate, NextUpdate: rec.NextUpdate,
		ObjectRef: pack.ObjectRef{Name: name, Digest: rec.Digest, Size: buf.size}})
	return rec, nil
}

type readBack struct {
	*crl.Parsed
	serials listed
}

// readCRL reads a published CRL back and verifies its signature as a stranger would.
func (s *Service) readCRL(ctx context.Context, a bulkhead.Authority, name string) (*readBack, error) {
	der, err := s.cfg.Objects.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	out := &readBack{}
	if out.Parsed, out.serials, err = listedOf(der); err != nil {
		return nil, fmt.Errorf("CRL %s read back: %w", name, err)
	}
	issuer, err := parseAuthority(a)
	if err != nil {
		return nil, err
	}
	return out, out.Verify(issuer)
}

// checkCRL compares a new CRL with the one before it. What appears or changes must be an item of the change as it was
// approved, or, for a CRL without a change, revoked in the record; what disappears must have expired; and every item of
// the change that belongs here must be there. Anything else would be a surprise in public.
func (s *Service) checkCRL(ctx context.Context, a bulkhead.Authority, old *pack.CRLRef, rec bulkhead.CRLRecord, st *staging) error {
	got, err := s.readCRL(ctx, a, rec.Object)
	if err != nil {
		return err
	}
	if len(got.serials) != rec.Entries {
		return bulkhead.Faultf(bulkhead.KindGate, "CRL %s has %d entries, the signer wrote %d", rec.Object, len(got.serials), rec.Entries)
	}
	var before listed
	if old != nil {
		prev, err := s.readCRL(ctx, a, old.Name)
		if err != nil {
			return err
		}
		before = prev.serials
	}
	// What the change names is held against the change; the rest that moved, against the record.
	find := got.serials.finder()
	for row := range st.under(a.ID).All() {
		e, listed := find(row.Serial)
		if !listed && row.Shard != rec.Shard {
			continue
		}
		if err := checkEntry(rec, row.Serial, e, listed, true, st.after(row)); err != nil {
			return err
		}
	}
	named := st.under(a.ID).Cursor()
	others := slices.DeleteFunc(moved(before, got.serials), func(serial bulkhead.Serial) bool {
		_, is := named.Find(serial)
		return is
	})
	rows, err := s.rows(ctx, a.ID, others)
	if err != nil {
		return err
	}
	for _, serial := range others {
		e, listed := got.serials.find(serial)
		if !listed && a.Foreign() && rows[serial].State == bulkhead.Issued {
			continue // it ended its hold: the record takes that from its own CRL, and nothing else moves a row of it back (Restate)
		}
		if err := checkEntry(rec, serial, e, listed, false, rows[serial]); err != nil {
			return err
		}
	}
	return nil
}

// checkEntry judges one entry of a CRL that is new, gone, different, or ought to be there; asked says that row is what
// the change will make of it.
func checkEntry(rec bulkhead.CRLRecord, serial bulkhead.Serial, e crl.Entry, listed, asked bool, row bulkhead.Status) error {
	expired := row.NotAfter.Before(rec.ThisUpdate)
	switch {
	case listed && (row.State != bulkhead.Revoked || row.Shard != rec.Shard):
		return bulkhead.Faultf(bulkhead.KindGate, "CRL %s lists %s, which no approved change revokes", rec.Object, serial)
	case listed && (e.Reason != row.Reason || !e.RevokedAt.Equal(row.RevokedAt)):
		return bulkhead.Faultf(bulkhead.KindGate, "CRL %s says of %s: %s at %s, the record and the approved change say %s at %s", rec.Object, serial,
			e.Reason, e.RevokedAt.UTC().Format(time.RFC3339), row.Reason, row.RevokedAt.UTC().Format(time.RFC3339))
	case !listed && asked && row.State == bulkhead.Revoked && row.Shard == rec.Shard && !expired:
		return bulkhead.Faultf(bulkhead.KindGate, "CRL %s does not list %s, which the change revokes", rec.Object, serial)
	case !listed && !asked && !expired:
		return bulkhead.Faultf(bulkhead.KindGate, "CRL %s drops %s, which has not expired (BR 4.10.1)", rec.Object, serial)
	}
	return nil
}

// rows reads the rows of serials; one that does not exist is the zero Status.
func (s *Service) rows(ctx context.Context, issuer bulkhead.AuthorityID, serials []bulkhead.Serial) (map[bulkhead.Serial]bulkhead.Status, error) {
	out := map[bulkhead.Serial]bulkhead.Status{}
	for part := range slices.Chunk(serials, batchSize) {
		rows, err := s.cfg.Store.Statuses(ctx, issuer, part)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			out[r.Serial] = r
		}
	}
	return out, nil
}

func (s *Service) eachItem(ctx context.Context, change string, f func(bulkhead.ChangeItem) error) error {
	var after bulkhead.CertificateRef
	for {
		items, err := s.cfg.Store.ChangeItems(ctx, change, after, batchSize)
		if err != nil {
			return err
		}
		for _, it := range items {
			if err := f(it); err != nil {
				return err
			}
		}
		if len(items) < batchSize {
			return nil
		}
		after = items[len(items)-1].CertificateRef
	}
}
