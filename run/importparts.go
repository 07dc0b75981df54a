package run

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/ceremony"
)

// gather holds everything that the bundle brings against the record, and makes the rows of it. Nothing is written.
func (in *importing) gather(ctx context.Context) error {
	for _, step := range []func(context.Context) error{in.checkExisting, in.checkChange, in.gatherAuthorities, in.gatherDelegates, in.gatherCRLs, in.gatherStandbys, in.gatherDestroyed} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// checkExisting: what the plan took for an authority of the house is that authority.
func (in *importing) checkExisting(context.Context) error {
	if in.h.ring == nil && len(in.result.Certificates) > 0 {
		return bulkhead.NewFault(bulkhead.KindUnavailable, "this process holds no keys: certificates and delegates from a ceremony are brought in where the signer is; CRLs alone anywhere").
			WithHint("stop the roles for a moment and use bulkhead up on the signer's machine")
	}
	for _, e := range in.plan.Existing {
		a, ok := in.authorities[e.ID]
		if ok && !bytes.Equal(a.Certificate, e.Certificate) {
			cert, err := x509.ParseCertificate(e.Certificate)
			if err != nil || !bytes.Equal(cert.RawSubjectPublicKeyInfo, a.SPKI) || !bytes.Equal(cert.RawSubject, a.Subject) {
				return bulkhead.Faultf(bulkhead.KindGate, "the ceremony took another certificate for %s than the house has", e.ID).WithHint("make the ceremony file anew")
			}
		}
	}
	for _, c := range in.result.Certificates {
		if _, ok := in.authorities[c.Certificate.Issuer]; !ok && !in.brings(c.Certificate.Issuer) {
			return bulkhead.Faultf(bulkhead.KindGate, "the house has no authority %s, which signed here", c.Certificate.Issuer).WithHint("import the ceremony that made it first")
		}
	}
	return nil
}

func (in *importing) brings(id bulkhead.AuthorityID) bool {
	for _, a := range in.result.Authorities {
		if a.ID == id {
			return true
		}
	}
	return false
}

// checkChange: the change that the ceremony carries still waits for it.
func (in *importing) checkChange(ctx context.Context) error {
	if in.plan.Change == "" {
		return nil
	}
	c, err := in.h.status.Change(ctx, in.plan.Change)
	if err != nil {
		return err
	}
	if !c.State.CanMove(bulkhead.ChangePreviewed) {
		return bulkhead.Faultf(bulkhead.KindConflict, "change %s is %s and waits for no ceremony", c.ID, c.State).WithHint("bulkhead change show " + c.ID)
	}
	return nil
}

func (in *importing) leaf(kind bulkhead.EvidenceKind, id bulkhead.AuthorityID, spki, object []byte, detail string) {
	ev := bulkhead.Evidence{Kind: kind, At: in.now, Actor: in.actor, Authority: id, Ref: "ceremony " + in.record.Digest.String()[:16], Link: in.record.Digest, Detail: detail}
	if len(spki) > 0 {
		ev.KeyHash = bulkhead.Digest(spki)
	}
	if len(object) > 0 {
		ev.Digest = bulkhead.Digest(object)
	}
	in.evidence = append(in.evidence, ev)
}

// gatherAuthorities: a root is new; every other authority waits here for its certificate, and gets it on the terms of
// any certificate from elsewhere.
func (in *importing) gatherAuthorities(context.Context) error {
	for _, a := range in.result.Authorities {
		have, known := in.authorities[a.ID]
		switch {
		case a.Kind == bulkhead.RootAuthority && known:
			return bulkhead.Faultf(bulkhead.KindConflict, "the house has an authority %s already", a.ID).WithHint("give the new root another id in the plan")
		case a.Kind == bulkhead.RootAuthority:
			for _, other := range in.authorities {
				if bytes.Equal(other.Subject, a.Subject) || bytes.Equal(other.SPKI, a.SPKI) {
					return bulkhead.Faultf(bulkhead.KindConflict, "the new root %s has the name or the key of %s", a.ID, other.ID).WithHint("give the new root a name and a key of its own")
				}
			}
			a.KeyURI, a.CreatedAt = "", in.now // the key is offline
			in.parts.Authorities = append(in.parts.Authorities, a)
			in.leaf(bulkhead.EvAuthority, a.ID, a.SPKI, a.Certificate, "root made in a ceremony")
		case !known || have.State != bulkhead.AuthorityPending || !bytes.Equal(have.SPKI, a.SPKI):
			return bulkhead.Faultf(bulkhead.KindConflict, "no authority %s with this key waits for a certificate here", a.ID).WithHint("make its request on this house: bulkhead hierarchy add " + string(a.ID) + " --csr-out FILE")
		default:
			predecessor := have.Parent
			have.Parent = ""
			got, err := ceremony.AcceptCertificate(have, a.Certificate, a.Chain, in.now)
			if err != nil {
				return err
			}
			got.Parent, got.Kind = a.Parent, a.Kind
			if old, ok := in.authorities[predecessor]; ok && old.State == bulkhead.AuthorityActive {
				old.State, old.Successor = bulkhead.AuthorityRetired, a.ID
				in.parts.Authorities = append(in.parts.Authorities, old)
				in.leaf(bulkhead.EvAuthority, old.ID, old.SPKI, nil, "retired: issues no more, answers for what it issued; successor "+string(a.ID))
			}
			in.parts.Authorities = append(in.parts.Authorities, got)
			in.leaf(bulkhead.EvAuthority, a.ID, a.SPKI, a.Certificate, "certificate from a ceremony, authority active")
			a = got
		}
		in.authorities[a.ID] = a
	}
	return nil
}

// gatherDelegates: the key of an OCSP delegate is in this house's ring, or its certificate is of no use.
func (in *importing) gatherDelegates(ctx context.Context) error {
	for _, p := range in.result.Prepared {
		if p.Kind != bulkhead.PreparedDelegate {
			continue
		}
		cert, err := x509.ParseCertificate(p.DER)
		if err != nil {
			return fmt.Errorf("delegate: %w", err)
		}
		key, err := in.h.ring.Open(ctx, p.KeyURI)
		if err != nil {
			return bulkhead.Faultf(bulkhead.KindConflict, "the key of an OCSP delegate of %s is not here: %s", p.Authority, p.KeyURI).WithHint("make delegates' requests on this house").WithCause(err)
		}
		if pub, err := x509.MarshalPKIXPublicKey(key.Public()); err != nil || !bytes.Equal(pub, cert.RawSubjectPublicKeyInfo) {
			return bulkhead.Faultf(bulkhead.KindConflict, "the key %s is not that of the OCSP delegate of %s", p.KeyURI, p.Authority).WithHint("make delegates' requests on this house").WithCause(err)
		}
		p.ImportedAt = in.now
		in.parts.Prepared = append(in.parts.Prepared, p)
		in.parts.Delegates = append(in.parts.Delegates, bulkhead.Delegate{Authority: p.Authority, Certificate: p.DER, KeyURI: p.KeyURI, NotBefore: p.NotBefore, NotAfter: p.NotAfter})
	}
	return nil
}

// gatherCRLs: each is held against the record and the change that it carries.
func (in *importing) gatherCRLs(ctx context.Context) error {
	by := map[bulkhead.AuthorityID][]bulkhead.Prepared{}
	for _, p := range in.result.Prepared {
		if p.Kind != bulkhead.PreparedCRL {
			continue
		}
		p.ImportedAt = in.now
		by[p.Authority] = append(by[p.Authority], p)
		in.parts.Prepared = append(in.parts.Prepared, p)
	}
	for id, crls := range by {
		a, ok := in.authorities[id]
		if !ok || a.KeyURI != "" {
			return bulkhead.Faultf(bulkhead.KindGate, "the ceremony signed CRLs of %s, which signs its own", id).WithHint("a ceremony signs CRLs of authorities whose key is offline")
		}
		if err := in.h.status.CheckPrepared(ctx, a, crls, in.plan.Change); err != nil {
			return err
		}
	}
	return nil
}

func (in *importing) gatherStandbys(context.Context) error {
	for _, s := range in.result.Standbys {
		x, err := in.h.standby(in.authorities, s.Authority, s.Certificate, s.Chain, in.now)
		if err != nil {
			return err
		}
		in.parts.Standbys = append(in.parts.Standbys, x)
		in.leaf(bulkhead.EvStandby, x.Authority, in.authorities[x.Authority].SPKI, x.Certificate, "stand-by under "+string(x.Under)+" laid ready")
	}
	return nil
}

// gatherDestroyed: statements of witnesses who are operators of this house end an authority, when nothing is owed that
// would need its key.
func (in *importing) gatherDestroyed(ctx context.Context) error {
	ops, err := in.h.store.Operators(ctx)
	if err != nil {
		return err
	}
	for _, d := range in.bundle.Destructions {
		a, ok := in.authorities[d.Authority]
		if !ok || bulkhead.Digest(a.SPKI) != d.Key {
			return bulkhead.Faultf(bulkhead.KindGate, "the destroyed key is not that of %s", d.Authority).WithHint("bulkhead hierarchy show")
		}
		if a.State != bulkhead.AuthorityRevoked && (a.Kind != bulkhead.RootAuthority || a.State != bulkhead.AuthorityRetired) {
			return bulkhead.Faultf(bulkhead.KindConflict, "authority %s is %s: it is dead only after its revocation and the destruction of its key", a.ID, a.State).
				WithHint("revoke it first: bulkhead change preview --revoke-ca FILE; a root is retired: bulkhead hierarchy retire " + string(a.ID))
		}
		var names []string
		for _, w := range d.Witnesses {
			for _, o := range ops {
				if bytes.Equal(o.PublicKey, w.PublicKey) {
					names = append(names, o.Name)
				}
			}
		}
		if len(names) < 2 {
			return bulkhead.Faultf(bulkhead.KindGate, "the destruction of the key of %s has %d witnesses who are operators of this house; it takes two", a.ID, len(names)).WithHint("bulkhead operator list")
		}
		if err := in.h.obligations(ctx, a, in.parts.Prepared, in.now); err != nil {
			return err
		}
		text, err := d.Statement()
		if err != nil {
			return err
		}
		in.parts.Destroyed = append(in.parts.Destroyed, a.ID)
		in.leaf(bulkhead.EvKeyDestroyed, a.ID, a.SPKI, text, "key "+d.KeyURI+" destroyed, witnessed by "+strings.Join(names, ", "))
	}
	return nil
}

// obligations fails with KindGate while an authority owes the world a CRL that only its key can sign: for each certificate
// below it that has not ended, CRLs that are signed already must reach beyond that end.
func (h *House) obligations(ctx context.Context, a bulkhead.Authority, more []bulkhead.Prepared, now time.Time) error {
	last, n, err := h.lastEnd(ctx, a.ID, now)
	if err != nil || n == 0 {
		return err
	}
	have, err := h.store.Prepared(ctx, a.ID)
	if err != nil {
		return err
	}
	var covered time.Time
	for _, p := range append(have, more...) {
		if p.Authority == a.ID && p.Kind == bulkhead.PreparedCRL && p.NotAfter.After(covered) {
			covered = p.NotAfter
		}
	}
	if covered.Before(last) {
		return bulkhead.Faultf(bulkhead.KindGate, "%s owes CRLs for %d certificates, the last of which ends at %s; those that are signed end at %s", a.ID, n, last.UTC().Format(time.RFC3339), dateOrNone(covered)).
			WithHint("sign CRLs for that long first, or wait")
	}
	return nil
}

func dateOrNone(t time.Time) string {
	if t.IsZero() {
		return "no date: there are none"
	}
	return t.UTC().Format(time.RFC3339)
}

// lastEnd is the latest end among an authority's certificates that have not ended, and their number.
func (h *House) lastEnd(ctx context.Context, id bulkhead.AuthorityID, now time.Time) (last time.Time, n int, err error) {
	const page = 1000
	var after bulkhead.Serial
	for {
		rows, err := h.store.StatusPage(ctx, id, after, now, page)
		if err != nil {
			return last, n, err
		}
		for _, r := range rows {
			n++
			if r.NotAfter.After(last) {
				last = r.NotAfter
			}
		}
		if len(rows) < page {
			return last, n, nil
		}
		after = rows[len(rows)-1].Serial
	}
}
