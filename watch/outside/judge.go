package outside

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"bulkhead"
	"bulkhead/pki/crl"
	"bulkhead/pki/ocsp"
)

// judgeAnswer holds an OCSP response against the record and the newest published answer: who signed it (D6), is it old
// beyond what the point may keep or another than the origin's (D7), does it hide a revocation (D8), or invent one (D9).
func (p *Prober) judgeAnswer(ctx context.Context, at Point, t task, body []byte, now time.Time) []finding {
	hash := ocsp.SHA1
	if t.body != nil {
		hash = ocsp.SHA256
	}
	same := bytes.Equal(body, t.newest.der[hash])
	r, err := ocsp.ParseResponse(body)
	if err == nil && r.Status != ocsp.Successful {
		err = fmt.Errorf("OCSP %s where an answer is published", r.Status)
	}
	if err != nil {
		return one(p.differs(at, t, now, bulkhead.Critical, bulkhead.AsFault(err).Detail+plainly(err)))
	}
	if !same {
		if f := p.judgeSigner(ctx, at, t, r, now); f != nil {
			return f
		}
	}
	said, err := ocsp.CheckResponse(r, t.issuer.Certificate, t.status.Serial, now)
	if err != nil {
		return one(p.differs(at, t, now, bulkhead.Critical, "a strict client refuses it: "+bulkhead.AsFault(err).Detail))
	}
	var out []finding
	allowed := p.stale(at, t.newest.this)
	if !same && now.After(allowed) {
		switch {
		case said.ThisUpdate.Before(t.newest.this):
			out = append(out, p.differs(at, t, now, bulkhead.Warning, fmt.Sprintf("it is of %s, the origin's of %s is out longer than this point may keep an older one (%s)", stamp(said.ThisUpdate), stamp(t.newest.this), at.TTL)))
		case said.ThisUpdate.Equal(t.newest.this) && (said.State == ocsp.Revoked) != t.newest.revoked:
			out = append(out, p.differs(at, t, now, bulkhead.Critical, fmt.Sprintf("it says %s, the origin another thing of the same moment", said.State)))
		}
	}
	return append(out, p.judgeState(ctx, at, t.status, said.State == ocsp.Revoked, t.what(), allowed, now)...)
}

// stale is until when a point may serve what came before an answer of that thisUpdate.
func (p *Prober) stale(at Point, this time.Time) time.Time {
	return this.Add(backdated + at.TTL + settle)
}

// backdated is how much before its signing an answer begins, at most.
const backdated = time.Minute

// plainly keeps the text of errors that are no faults.
func plainly(err error) string {
	if bulkhead.KindOf(err) == bulkhead.KindInternal {
		return " (" + err.Error() + ")"
	}
	return ""
}

func one(f finding) []finding { return []finding{f} }

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func (p *Prober) differs(at Point, t task, now time.Time, severity bulkhead.Severity, why string) finding {
	return finding{alarm: alarm(now, "D7", fmt.Sprintf("%s,%s,%s", at.Base, t.authority.ID, t.kind()), severity, "d7-edge-differs.md",
		fmt.Sprintf("%s (%s) serves another answer than the origin: %s: %s%s", at.Name, at.Base, t.what(), why, call(at)))}
}

func (t task) kind() string {
	if t.list != nil {
		return "crl"
	}
	return "ocsp " + t.method
}

// judgeSigner is D6: a key that is not in our responder set, or a key of ours at a time at which evidence has no signature
// of it.
func (p *Prober) judgeSigner(ctx context.Context, at Point, t task, r *ocsp.Response, now time.Time) []finding {
	who := responder(r, t.issuer.Certificate)
	mine, err := ours(ctx, p.cfg.Record, t.authority.ID, who, now)
	if err != nil {
		return one(finding{blind: true, alarm: alarm(now, "D6", "blind", bulkhead.Warning, "watch.md", "the detector could not look: "+bulkhead.AsFault(err).Detail)})
	}
	key := fmt.Sprintf("%s,%s,%.16s", at.Base, t.authority.ID, who.KeyHash)
	if !mine {
		why, err := p.notOurs(ctx, who, t.authority.ID)
		if err != nil {
			return one(finding{blind: true, alarm: alarm(now, "D6", "blind", bulkhead.Warning, "watch.md", "the detector could not look: "+bulkhead.AsFault(err).Detail)})
		}
		return one(finding{alarm: alarm(now, "D6", key, bulkhead.Critical, "d6-foreign-responder.md",
			fmt.Sprintf("%s (%s) serves an OCSP answer that %s: %s, signed by %s, produced %s", at.Name, at.Base, why, t.what(), who, stamp(r.ProducedAt)))})
	}
	if p.cfg.Ledger == nil || who.Issuer {
		return nil
	}
	if _, ok, known, err := p.cfg.Ledger.signed(ctx, who.KeyHash, r.ProducedAt, now); err != nil {
		return one(finding{blind: true, alarm: alarm(now, "D6", "blind", bulkhead.Warning, "watch.md", "the detector could not look: "+bulkhead.AsFault(err).Detail)})
	} else if known && !ok {
		return one(finding{alarm: alarm(now, "D6", key+",unlogged", bulkhead.Critical, "d6-foreign-responder.md",
			fmt.Sprintf("%s (%s) serves an OCSP answer under a key of ours that evidence does not know: %s, produced %s by %s; the key is used outside the signer", at.Name, at.Base, t.what(), stamp(r.ProducedAt), who))})
	}
	return nil
}

// notOurs says in words whose key signed an answer that no responder of the authority signed: a stranger's, or that of another
// authority of the house, which has no say here. The latter is the day of 2020, and a key that was used past the signer.
func (p *Prober) notOurs(ctx context.Context, who Responder, id bulkhead.AuthorityID) (string, error) {
	all, err := p.cfg.Record.Authorities(ctx)
	if err != nil {
		return "", err
	}
	for _, a := range all {
		if who.Certificate != nil && bulkhead.Digest(a.SPKI) == who.KeyHash {
			return fmt.Sprintf("the key of our authority %s signed, which may not answer for %s: somebody used that key past the signer", a.ID, id), nil
		}
	}
	return "no key of ours signed", nil
}

// judgeState holds what is said against the record. allowed is until when an older truth may be told.
func (p *Prober) judgeState(ctx context.Context, at Point, st bulkhead.Status, revoked bool, what string, allowed, now time.Time) []finding {
	switch {
	case revoked && st.State != bulkhead.Revoked:
		return one(finding{alarm: alarm(now, "D9", st.CertificateRef.String(), bulkhead.Critical, "d9-flipped.md",
			fmt.Sprintf("%s (%s) says that %s is revoked, and nothing in the record revoked it: %s", at.Name, at.Base, st.CertificateRef, what))})
	case !revoked && st.State == bulkhead.Revoked:
		since, err := revokedSince(ctx, p.cfg.Record, st)
		if err != nil {
			return one(finding{blind: true, alarm: alarm(now, "D8", "blind", bulkhead.Warning, "watch.md", "the detector could not look: "+bulkhead.AsFault(err).Detail)})
		}
		if now.After(allowed) && now.Sub(since) > p.cfg.Agree {
			return one(finding{alarm: alarm(now, "D8", fmt.Sprintf("%s,%s", st.CertificateRef, at.Base), bulkhead.Critical, "d8-revocation-missing.md",
				fmt.Sprintf("%s was revoked %s ago and is not revoked at %s (%s): the laggard is %s%s", st.CertificateRef, now.Sub(since).Round(time.Second), at.Name, at.Base, what, call(at)))})
		}
	}
	return nil
}

// revokedSince is when the revocation became the record's truth: the activation of its change, its import, else its own date.
func revokedSince(ctx context.Context, rec Record, st bulkhead.Status) (time.Time, error) {
	changes, err := rec.CertificateChanges(ctx, st.Issuer, []bulkhead.Serial{st.Serial})
	if err != nil {
		return time.Time{}, err
	}
	at := time.Time{}
	for _, c := range changes {
		if !c.ActivatedAt.IsZero() && (at.IsZero() || c.ActivatedAt.Before(at)) {
			at = c.ActivatedAt
		}
	}
	if at.IsZero() {
		at = st.RevokedAt
		e, err := leafAt(ctx, rec, st.Seq)
		if err != nil && bulkhead.KindOf(err) != bulkhead.KindNotFound {
			return at, err
		}
		if err == nil && (e.Kind == bulkhead.EvImportedRevocation || e.Kind == bulkhead.EvImportedCertificate) {
			at = e.At
		}
	}
	return at, nil
}

// judgeList holds a CRL against the record and the published one.
func (p *Prober) judgeList(ctx context.Context, at Point, t task, body []byte, now time.Time) []finding {
	holds := map[bulkhead.Serial]bool{}
	for _, st := range t.about {
		holds[st.Serial] = false
	}
	l, err := crl.Parse(body, func(e crl.Entry) error {
		if _, asked := holds[e.Serial]; asked {
			holds[e.Serial] = true
		}
		return nil
	})
	if err == nil {
		err = l.Verify(t.issuer.Certificate)
	}
	if err != nil {
		return one(p.differs(at, t, now, bulkhead.Critical, "a strict client refuses it: "+bulkhead.AsFault(err).Detail))
	}
	var out []finding
	allowed := p.stale(at, t.list.ThisUpdate)
	if !now.Before(l.NextUpdate) {
		out = append(out, p.differs(at, t, now, bulkhead.Critical, "it ended at "+stamp(l.NextUpdate)))
	} else if l.Number.IsInt64() && l.Number.Int64() < t.list.Number && now.After(allowed) {
		out = append(out, p.differs(at, t, now, bulkhead.Warning, fmt.Sprintf("it is number %s of %s, number %d of %s is out longer than this point may keep an older one (%s)", l.Number, stamp(l.ThisUpdate), t.list.Number, stamp(t.list.ThisUpdate), at.TTL)))
	}
	for _, st := range t.about {
		out = append(out, p.judgeState(ctx, at, st, holds[st.Serial], t.what(), allowed, now)...)
	}
	return out
}
