package status

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"sort"
	"time"

	"bulkhead"
	"bulkhead/pki/crl"
	"bulkhead/pki/pack"
	"bulkhead/publish"
)

// This file is about authorities whose key is offline, or destroyed: what was signed in advance is published in its time. A
// change of status under an authority whose key is offline waits for the ceremony that signs its CRL; where the key is
// destroyed there is none.

// public reports whether what a prepared object waits for has happened.
func (s *Service) public(ctx context.Context, p bulkhead.Prepared) (bool, error) {
	if p.Change == "" {
		return true, nil
	}
	c, err := s.cfg.Store.Change(ctx, p.Change)
	if bulkhead.KindOf(err) == bulkhead.KindNotFound {
		return false, nil
	}
	return c.State == bulkhead.ChangeActivated || c.State == bulkhead.ChangePublished || c.State == bulkhead.ChangeSettled, err
}

// due is the prepared CRL with the highest number that has begun: of the change, when one is named, else of all that may
// be public. nil when there is none.
func (s *Service) due(ctx context.Context, a bulkhead.AuthorityID, change string) (*bulkhead.Prepared, error) {
	all, err := s.cfg.Store.Prepared(ctx, a)
	if err != nil {
		return nil, err
	}
	return s.dueOf(ctx, all, 0, change)
}

// dueOf is due among the prepared objects of an authority, for one shard.
func (s *Service) dueOf(ctx context.Context, all []bulkhead.Prepared, shard int, change string) (*bulkhead.Prepared, error) {
	sort.SliceStable(all, func(i, j int) bool { return all[i].CRLNumber > all[j].CRLNumber })
	for i, p := range all {
		if p.Kind != bulkhead.PreparedCRL || p.Shard != shard || p.NotBefore.After(s.now()) || change != "" && p.Change != change {
			continue
		}
		may := change != ""
		if !may {
			var err error
			if may, err = s.public(ctx, p); err != nil {
				return nil, err
			}
		}
		if may {
			return &all[i], nil
		}
	}
	return nil, nil
}

// turnedAt is a CRL's age before which no other one that was signed in advance of a key's destruction is due.
const turnedAt = 24 * time.Hour

// preparedCRL turns over the CRLs that were signed in advance for an authority whose key is offline or gone.
func (s *Service) preparedCRL(ctx context.Context, a bulkhead.Authority, ih *pack.IssuerHead) ([]bulkhead.CRLRecord, error) {
	if a.Dead() && s.turned(a, ih) {
		return nil, nil // hundreds lie ready, and nothing else can make one due
	}
	all, err := s.cfg.Store.Prepared(ctx, a.ID)
	if err != nil {
		return nil, err
	}
	var recs []bulkhead.CRLRecord
	for shard := range max(a.Shards, 1) {
		due, err := s.dueOf(ctx, all, shard, "")
		if err != nil {
			return nil, err
		}
		if old := crlOf(ih, shard); due == nil || old != nil && old.Number >= due.CRLNumber {
			continue
		}
		rec, err := s.nameCRL(ctx, a, ih, *due, nil)
		if err != nil {
			return nil, err
		}
		recs = append(recs, rec)
	}
	return recs, nil
}

// turned reports that every shard's CRL was signed in advance, and is young.
func (s *Service) turned(a bulkhead.Authority, ih *pack.IssuerHead) bool {
	for shard := range max(a.Shards, 1) {
		if old := crlOf(ih, shard); old == nil || s.now().Sub(old.ThisUpdate) > turnedAt {
			return false
		}
	}
	return true
}

// carriedCRL names the CRL that a ceremony signed for a change. It is held against the record and the approved items as
// one that the signer made would be.
func (s *Service) carriedCRL(ctx context.Context, a bulkhead.Authority, ih *pack.IssuerHead, st *staging) (bulkhead.CRLRecord, error) {
	change := st.id()
	due, err := s.due(ctx, a.ID, change)
	if err != nil {
		return bulkhead.CRLRecord{}, err
	}
	if why := unusable(due, crlOf(ih, 0), s.now()); why != "" {
		return bulkhead.CRLRecord{}, bulkhead.Faultf(bulkhead.KindGate, "change %s cannot go public: %s", change, why).WithHint("bulkhead change ceremony-file " + change)
	}
	return s.nameCRL(ctx, a, ih, *due, st)
}

// changedCRL is the CRL of one shard with a change in it: signed now, or at the ceremony that the change waited for.
func (s *Service) changedCRL(ctx context.Context, a bulkhead.Authority, ih *pack.IssuerHead, shard int, st *staging) (bulkhead.CRLRecord, error) {
	if a.KeyURI == "" {
		return s.carriedCRL(ctx, a, ih, st)
	}
	return s.newCRL(ctx, a, ih, shard, st)
}

// unusable says why a prepared CRL cannot follow the one that is public; "" when it can.
func unusable(due *bulkhead.Prepared, old *pack.CRLRef, now time.Time) string {
	switch {
	case due == nil:
		return "no ceremony has signed its CRL"
	case !now.Before(due.NotAfter):
		return fmt.Sprintf("the CRL that a ceremony signed for it ended at %s", due.NotAfter.UTC().Format(time.RFC3339))
	case old != nil && old.Number >= due.CRLNumber:
		return fmt.Sprintf("CRL %d is public, the one that a ceremony signed for it has number %d", old.Number, due.CRLNumber)
	}
	return ""
}

// nameCRL puts a prepared CRL into the object store, reads it back, judges it and names it in the head.
func (s *Service) nameCRL(ctx context.Context, a bulkhead.Authority, ih *pack.IssuerHead, due bulkhead.Prepared, st *staging) (bulkhead.CRLRecord, error) {
	none := bulkhead.CRLRecord{}
	name := fmt.Sprintf("crls/%s/%d/%d.crl", a.ID, due.Shard, due.CRLNumber)
	if err := s.cfg.Objects.Put(ctx, publish.Object{Name: name, Type: "application/pkix-crl", Body: bytes.NewReader(due.DER)}); err != nil {
		return none, err
	}
	parsed, err := s.readCRL(ctx, a, name)
	if err != nil {
		return none, err
	}
	old := crlOf(ih, due.Shard)
	if old != nil && parsed.ThisUpdate.Before(old.ThisUpdate) {
		return none, bulkhead.Faultf(bulkhead.KindGate, "prepared CRL %d of %s is dated before CRL %d, which is public", due.CRLNumber, a.ID, old.Number).WithHint("sign its CRLs again at a ceremony")
	}
	rec := bulkhead.CRLRecord{Authority: a.ID, Shard: due.Shard, Number: due.CRLNumber, ThisUpdate: parsed.ThisUpdate, NextUpdate: parsed.NextUpdate,
		Object: name, Digest: bulkhead.Digest(due.DER), Entries: len(parsed.serials)}
	if err := s.checkCRL(ctx, a, old, rec, st); err != nil {
		return none, err
	}
	setCRL(ih, pack.CRLRef{Shard: due.Shard, Number: rec.Number, ThisUpdate: rec.ThisUpdate, NextUpdate: rec.NextUpdate,
		ObjectRef: pack.ObjectRef{Name: name, Digest: rec.Digest, Size: int64(len(due.DER))}})
	return rec, nil
}

// CheckPrepared judges CRLs that a ceremony brings, before anything of them is kept: each is the authority's, has a number
// above every other, and lists exactly what the record says is revoked and, for a change, its items. KindGate otherwise.
func (s *Service) CheckPrepared(ctx context.Context, a bulkhead.Authority, crls []bulkhead.Prepared, change string) error {
	want, err := s.revokedAfter(ctx, a.ID, change)
	if err != nil {
		return err
	}
	have, err := s.cfg.Store.Prepared(ctx, a.ID)
	if err != nil {
		return err
	}
	var last int64
	for _, p := range have {
		last = max(last, p.CRLNumber)
	}
	issuer, err := parseAuthority(a)
	if err != nil {
		return err
	}
	for _, p := range crls {
		if p.CRLNumber <= last {
			return bulkhead.Faultf(bulkhead.KindGate, "CRL %d of %s is not above number %d, which the house has", p.CRLNumber, a.ID, last).
				WithHint("hold the ceremony again with after_number: " + fmt.Sprint(last))
		}
		last = p.CRLNumber
		if err := checkPrepared(issuer, a.ID, p, want); err != nil {
			return err
		}
	}
	return nil
}

func checkPrepared(issuer *x509.Certificate, id bulkhead.AuthorityID, p bulkhead.Prepared, want map[bulkhead.Serial]bulkhead.Status) error {
	seen := map[bulkhead.Serial]crl.Entry{}
	parsed, err := crl.Parse(p.DER, func(e crl.Entry) error { seen[e.Serial] = e; return nil })
	if err == nil {
		err = parsed.Verify(issuer)
	}
	if err != nil {
		return bulkhead.Faultf(bulkhead.KindGate, "CRL %d is not one of %s", p.CRLNumber, id).WithHint("import the bundle that the ceremony wrote").WithCause(err)
	}
	for serial, st := range want {
		e, listed := seen[serial]
		switch {
		case !listed && st.NotAfter.Before(parsed.ThisUpdate):
		case !listed:
			return bulkhead.Faultf(bulkhead.KindGate, "CRL %d of %s does not list %s, which is revoked", p.CRLNumber, id, serial).WithHint("the plan is out of date: make the ceremony file anew")
		case e.Reason != st.Reason || !e.RevokedAt.Equal(st.RevokedAt):
			return bulkhead.Faultf(bulkhead.KindGate, "CRL %d of %s says of %s: %s at %s, the record says %s at %s", p.CRLNumber, id, serial, e.Reason, e.RevokedAt.UTC().Format(time.RFC3339),
				st.Reason, st.RevokedAt.UTC().Format(time.RFC3339)).WithHint("the plan is out of date: make the ceremony file anew")
		}
	}
	for serial := range seen {
		if _, known := want[serial]; !known {
			return bulkhead.Faultf(bulkhead.KindGate, "CRL %d of %s lists %s, which nobody asked to revoke", p.CRLNumber, id, serial).WithHint("plan the revocation first: bulkhead change preview --revoke-ca FILE")
		}
	}
	return nil
}

// revokedAfter is what the authority's CRL has to say once the change is activated: the revoked rows of the record, and
// the items of the change.
func (s *Service) revokedAfter(ctx context.Context, issuer bulkhead.AuthorityID, change string) (map[bulkhead.Serial]bulkhead.Status, error) {
	out := map[bulkhead.Serial]bulkhead.Status{}
	err := s.eachStatus(ctx, issuer, func(st bulkhead.Status) {
		if st.State == bulkhead.Revoked {
			out[st.Serial] = st
		}
	})
	if err != nil || change == "" {
		return out, err
	}
	c, err := s.cfg.Store.Change(ctx, change)
	if err != nil {
		return nil, err
	}
	for row, err := range s.cfg.Store.Affected(ctx, change, issuer) {
		if err != nil {
			return nil, err
		}
		if st := row.After(c); st.State == bulkhead.Revoked {
			out[st.Serial] = st
		} else {
			delete(out, st.Serial)
		}
	}
	return out, nil
}

// RevokedAfter is the content of the CRL that a ceremony has to sign for a change ("" for none), in serial order.
func (s *Service) RevokedAfter(ctx context.Context, issuer bulkhead.AuthorityID, change string) ([]bulkhead.Status, error) {
	set, err := s.revokedAfter(ctx, issuer, change)
	if err != nil {
		return nil, err
	}
	var out []bulkhead.Status
	for _, st := range set {
		if !st.NotAfter.Before(s.now()) {
			out = append(out, st)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Serial.Compare(out[j].Serial) < 0 })
	return out, nil
}

// eachStatus walks all rows of an issuer.
func (s *Service) eachStatus(ctx context.Context, issuer bulkhead.AuthorityID, f func(bulkhead.Status)) error {
	var after bulkhead.Serial
	for {
		page, err := s.cfg.Store.StatusPage(ctx, issuer, after, time.Time{}, batchSize)
		if err != nil {
			return err
		}
		for _, st := range page {
			f(st)
		}
		if len(page) < batchSize {
			return nil
		}
		after = page[len(page)-1].Serial
	}
}

// offline says for each authority of the change whose key is offline which ceremony is needed, and blocks the change until
// it was held; and it lists what stands at or below a revoked authority.
func (f *foresight) offline(ctx context.Context) error {
	rec, err := f.s.cfg.Store.Head(ctx)
	if err != nil {
		return err
	}
	head := &pack.Head{}
	if rec.Sequence > 0 {
		if head, err = pack.OpenHead(rec.Body, f.s.cfg.HeadVerifier); err != nil {
			return fmt.Errorf("newest head of the store: %w", err)
		}
	}
	for _, a := range f.w.authorities {
		if f.p.ByIssuer[a.ID] == 0 || a.KeyURI != "" {
			continue
		}
		if a.Foreign() {
			f.block("%s", a.WhyNotHere())
			continue
		}
		if a.Dead() {
			f.block("the key of %s is destroyed: its CRLs were signed before and can name nothing more", a.ID)
			continue
		}
		due, err := f.s.due(ctx, a.ID, f.change)
		if err != nil {
			return err
		}
		var old *pack.CRLRef
		if ih := head.Issuer(a.ID); ih != nil {
			old = crlOf(ih, 0)
		}
		need := bulkhead.NeededCeremony{Authority: a.ID, Ready: true}
		if why := unusable(due, old, f.s.now()); why != "" {
			need = bulkhead.NeededCeremony{Authority: a.ID, Why: why, Next: "bulkhead change ceremony-file " + f.change}
			f.block("the key of %s is offline: its CRL needs a ceremony first (%s)", a.ID, why)
		}
		f.p.Ceremonies = append(f.p.Ceremonies, need)
	}
	return f.subtree(ctx)
}

func (f *foresight) subtree(ctx context.Context) error {
	revoked, err := f.s.revokedAuthorities(ctx, f.change, f.w.authorities)
	if err != nil || len(revoked) == 0 {
		return err
	}
	for _, a := range f.w.authorities {
		if topRevoked(a, f.w.authorities, revoked) == "" {
			continue
		}
		c, err := f.inUse(ctx, a.ID, true)
		if err != nil {
			return err
		}
		entry := bulkhead.SubtreeAuthority{Authority: a.ID, State: a.State}
		for _, n := range c.counts {
			entry.Certificates += n
		}
		f.p.Subtree = append(f.p.Subtree, entry)
	}
	return nil
}

// revokedAuthorities are the authorities whose own certificate the change revokes. The change is asked about the few
// certificates of authorities, never the other way round: it may name millions.
func (s *Service) revokedAuthorities(ctx context.Context, change string, authorities []bulkhead.Authority) (map[bulkhead.AuthorityID]bool, error) {
	own := map[bulkhead.Hash][]bulkhead.AuthorityID{}
	for _, a := range authorities {
		if len(a.Certificate) > 0 {
			digest := bulkhead.Digest(a.Certificate)
			own[digest] = append(own[digest], a.ID)
		}
	}
	certs, err := s.cfg.Store.AuthorityCertificates(ctx)
	if err != nil {
		return nil, err
	}
	out := map[bulkhead.AuthorityID]bool{}
	for _, cert := range certs {
		ids := own[cert.Certificate.Fingerprint]
		if len(ids) == 0 {
			continue
		}
		named, err := s.isItem(ctx, change, cert.Certificate.CertificateRef)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			out[id] = out[id] || named
		}
	}
	return out, nil
}

// topRevoked is the revoked authority at or above a; "" when there is none.
func topRevoked(a bulkhead.Authority, all []bulkhead.Authority, revoked map[bulkhead.AuthorityID]bool) bulkhead.AuthorityID {
	for range all { // a record with a circle ends
		if revoked[a.ID] {
			return a.ID
		}
		found := false
		for _, p := range all {
			if p.ID == a.Parent && a.State != bulkhead.AuthorityPending {
				a, found = p, true
				break
			}
		}
		if !found {
			return ""
		}
	}
	return ""
}

// endAuthorities takes revoked authorities out of service. It follows the activation and is repeated by whoever carries a
// change on: the signer looks at the state before each certificate, and answers go on.
func (s *Service) endAuthorities(ctx context.Context, c bulkhead.Change) error {
	if c.TakesBack() {
		return nil // an authority that was out of service stays so until people put it back
	}
	authorities, err := s.cfg.Store.Authorities(ctx)
	if err != nil {
		return err
	}
	revoked, err := s.revokedAuthorities(ctx, c.ID, authorities)
	if err != nil {
		return err
	}
	for _, a := range authorities {
		was := a.State
		if !revoked[a.ID] || !was.CanMove(bulkhead.AuthorityRevoked) {
			continue
		}
		a.State = bulkhead.AuthorityRevoked
		err := s.cfg.Store.MoveAuthority(ctx, a, was, bulkhead.Evidence{Kind: bulkhead.EvAuthority, At: s.cfg.Now().UTC(), Actor: c.Actor, Authority: a.ID, Ref: c.ID,
			KeyHash: bulkhead.Digest(a.SPKI), Digest: bulkhead.Digest(a.Certificate), Detail: "revoked: issues no more, answers for what it issued"})
		if err != nil {
			return err
		}
	}
	return nil
}
