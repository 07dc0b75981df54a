package status

import (
	"bytes"
	"context"
	"fmt"
	"sort"
	"time"

	"bulkhead"
	"bulkhead/pki/crl"
	"bulkhead/pki/pack"
	"bulkhead/publish"
)

// dueCRLs brings every shard's CRL up to date: the first one, and a new one at half-life.
func (s *Service) dueCRLs(ctx context.Context, a bulkhead.Authority, ih *pack.IssuerHead) ([]bulkhead.CRLRecord, error) {
	if a.KeyURI == "" {
		return s.preparedCRL(ctx, a, ih)
	}
	var recs []bulkhead.CRLRecord
	for shard := 0; shard < max(a.Shards, len(ih.CRLs)); shard++ {
		if old := crlOf(ih, shard); old != nil && s.now().Sub(old.ThisUpdate) < old.NextUpdate.Sub(old.ThisUpdate)/2 {
			continue
		}
		rec, err := s.newCRL(ctx, a, ih, shard, "")
		if err != nil {
			return nil, err
		}
		recs = append(recs, rec)
	}
	return recs, nil
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
func (s *Service) newCRL(ctx context.Context, a bulkhead.Authority, ih *pack.IssuerHead, shard int, change string) (bulkhead.CRLRecord, error) {
	number, err := s.cfg.Store.NextCRLNumber(ctx, a.ID, shard)
	if err != nil {
		return bulkhead.CRLRecord{}, err
	}
	now := s.now()
	from := now.Add(-s.cfg.Policy.Backdate)
	old := crlOf(ih, shard)
	if old != nil && from.Before(old.ThisUpdate) {
		from = old.ThisUpdate
	}
	name := fmt.Sprintf("crls/%s/%d/%d.crl", a.ID, shard, number)
	var buf bytes.Buffer
	rec, err := s.cfg.Signer.SignCRL(ctx, bulkhead.CRLRequest{Authority: a.ID, Shard: shard, Number: number, Change: change,
		ThisUpdate: from, NextUpdate: from.Add(s.cfg.Policy.CRLValidity).Add(-time.Second), Object: name}, &buf)
	if err != nil {
		return rec, err
	}
	if err := s.cfg.Objects.Put(ctx, publish.Object{Name: name, Type: "application/pkix-crl", Body: bytes.NewReader(buf.Bytes())}); err != nil {
		return rec, err
	}
	if err := s.checkCRL(ctx, a, old, rec, change); err != nil {
		return rec, err
	}
	setCRL(ih, pack.CRLRef{Shard: shard, Number: number, ThisUpdate: rec.ThisUpdate, NextUpdate: rec.NextUpdate,
		ObjectRef: pack.ObjectRef{Name: name, Digest: rec.Digest, Size: int64(buf.Len())}})
	return rec, nil
}

// preparedCRL turns over the CRLs that a ceremony signed in advance for an authority whose key is offline.
func (s *Service) preparedCRL(ctx context.Context, a bulkhead.Authority, ih *pack.IssuerHead) ([]bulkhead.CRLRecord, error) {
	all, err := s.cfg.Store.Prepared(ctx, a.ID)
	if err != nil {
		return nil, err
	}
	var due *bulkhead.Prepared
	for i, p := range all {
		if p.Kind == bulkhead.PreparedCRL && !p.NotBefore.After(s.now()) && (due == nil || p.CRLNumber > due.CRLNumber) {
			due = &all[i]
		}
	}
	if due == nil {
		return nil, nil
	}
	if old := crlOf(ih, 0); old != nil && old.Number >= due.CRLNumber {
		return nil, nil
	}
	name := fmt.Sprintf("crls/%s/0/%d.crl", a.ID, due.CRLNumber)
	if err := s.cfg.Objects.Put(ctx, publish.Object{Name: name, Type: "application/pkix-crl", Body: bytes.NewReader(due.DER)}); err != nil {
		return nil, err
	}
	parsed, err := s.readCRL(ctx, a, name)
	if err != nil {
		return nil, err
	}
	rec := bulkhead.CRLRecord{Authority: a.ID, Number: due.CRLNumber, ThisUpdate: parsed.ThisUpdate, NextUpdate: parsed.NextUpdate,
		Object: name, Digest: bulkhead.Digest(due.DER), Entries: len(parsed.serials)}
	setCRL(ih, pack.CRLRef{Number: rec.Number, ThisUpdate: rec.ThisUpdate, NextUpdate: rec.NextUpdate,
		ObjectRef: pack.ObjectRef{Name: name, Digest: rec.Digest, Size: int64(len(due.DER))}})
	return []bulkhead.CRLRecord{rec}, nil
}

type readBack struct {
	*crl.Parsed
	serials map[bulkhead.Serial]crl.Entry
}

// readCRL reads a published CRL back and verifies its signature as a stranger would.
func (s *Service) readCRL(ctx context.Context, a bulkhead.Authority, name string) (*readBack, error) {
	der, err := s.cfg.Objects.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	out := &readBack{serials: map[bulkhead.Serial]crl.Entry{}}
	if out.Parsed, err = crl.Parse(der, func(e crl.Entry) error { out.serials[e.Serial] = e; return nil }); err != nil {
		return nil, fmt.Errorf("CRL %s read back: %w", name, err)
	}
	issuer, err := parseAuthority(a)
	if err != nil {
		return nil, err
	}
	return out, out.Verify(issuer)
}

// checkCRL compares a new CRL with the one before it. What appears must be an item of the change, or revoked in the
// record; what disappears must have expired. Anything else would be a surprise in public.
func (s *Service) checkCRL(ctx context.Context, a bulkhead.Authority, old *pack.CRLRef, rec bulkhead.CRLRecord, change string) error {
	got, err := s.readCRL(ctx, a, rec.Object)
	if err != nil {
		return err
	}
	if len(got.serials) != rec.Entries {
		return fmt.Errorf("CRL %s has %d entries, the signer wrote %d", rec.Object, len(got.serials), rec.Entries)
	}
	before := map[bulkhead.Serial]crl.Entry{}
	if old != nil {
		prev, err := s.readCRL(ctx, a, old.Name)
		if err != nil {
			return err
		}
		before = prev.serials
	}
	approved, err := s.itemsOf(ctx, change, a.ID)
	if err != nil {
		return err
	}
	var moved []bulkhead.Serial
	for serial := range got.serials {
		if _, was := before[serial]; !was && !approved[serial] {
			moved = append(moved, serial)
		}
	}
	appeared := len(moved)
	for serial := range before {
		if _, is := got.serials[serial]; !is {
			moved = append(moved, serial)
		}
	}
	if len(moved) == 0 {
		return nil
	}
	rows, err := s.cfg.Store.Statuses(ctx, a.ID, moved)
	if err != nil {
		return err
	}
	state := map[bulkhead.Serial]bulkhead.Status{}
	for _, r := range rows {
		state[r.Serial] = r
	}
	for i, serial := range moved {
		r := state[serial]
		if i < appeared && r.State != bulkhead.Revoked {
			return bulkhead.Faultf(bulkhead.KindGate, "CRL %s lists %s, which no approved change revokes", rec.Object, serial)
		}
		if i >= appeared && !r.NotAfter.Before(rec.ThisUpdate) {
			return bulkhead.Faultf(bulkhead.KindGate, "CRL %s drops %s, which has not expired (BR 4.10.1)", rec.Object, serial)
		}
	}
	return nil
}

// itemsOf is the set of serials of a change under one issuer.
func (s *Service) itemsOf(ctx context.Context, change string, issuer bulkhead.AuthorityID) (map[bulkhead.Serial]bool, error) {
	set := map[bulkhead.Serial]bool{}
	if change == "" {
		return set, nil
	}
	err := s.eachItem(ctx, change, func(it bulkhead.ChangeItem) error {
		if it.Issuer == issuer {
			set[it.Serial] = true
		}
		return nil
	})
	return set, err
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
