package run

import (
	"bytes"
	"context"
	"crypto/x509"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/pki/keycheck"
	"bulkhead/watch"
)

// sighted judges certificates that were found elsewhere, by the detectors of the watch.
type sighted struct{ h *House }

// Sight implements console.Sightings.
func (x sighted) Sight(ctx context.Context, source string, ders [][]byte) ([]console.SightedCertificate, error) {
	ours, err := x.h.ourAuthorities(ctx)
	if err != nil {
		return nil, err
	}
	var out []console.SightedCertificate
	for _, der := range ders {
		v, err := x.one(ctx, ours, source, der)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func (x sighted) one(ctx context.Context, ours map[bulkhead.AuthorityID]*x509.Certificate, source string, der []byte) (v console.SightedCertificate, err error) {
	v = console.SightedCertificate{SHA256: bulkhead.Digest(der), Verdict: bulkhead.SightedForeign, Detail: "not signed by a key of this house"}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		v.Verdict, v.Detail = bulkhead.SightedUnreadable, "no certificate that can be read: "+err.Error()
		return v, nil
	}
	at := x.h.now().UTC()
	raise := func(d watch.Detector, s watch.Sighting) (string, error) {
		a, err := d.Judge(ctx, s)
		if a == nil || err != nil {
			return "", err
		}
		x.h.watch.Raise(ctx, *a)
		return a.Message, nil
	}
	key := watch.Sighting{Kind: watch.KeyOnWire, At: at, Key: keycheck.SPKIHash(c.RawSubjectPublicKeyInfo), Since: c.NotBefore, Fingerprint: v.SHA256, Detail: source}
	if err := x.issued(ctx, ours, source, c, &v, raise); err != nil {
		return v, err
	}
	key.Issuer, key.Serial = v.Issuer, v.Serial
	said, err := raise(watch.KeyReappears{Store: x.h.store}, key)
	v.Blocked = said != ""
	return v, err
}

// issued judges one that bears the name and the signature of an authority of ours.
func (x sighted) issued(ctx context.Context, ours map[bulkhead.AuthorityID]*x509.Certificate, source string, c *x509.Certificate, v *console.SightedCertificate, raise func(watch.Detector, watch.Sighting) (string, error)) (err error) {
	for id, a := range ours {
		if !bytes.Equal(a.RawSubject, c.RawIssuer) || c.CheckSignatureFrom(a) != nil {
			continue
		}
		v.Issuer = id
		if own, err := x.infrastructure(ctx, id, c.Raw); own || err != nil {
			v.Verdict, v.Detail = bulkhead.SightedKnown, "an authority or a delegate of the house"
			return err
		}
		if v.Serial, err = bulkhead.SerialFromBig(c.SerialNumber); err != nil {
			v.Serial = bulkhead.Serial{} // we sign no such serial, so the record cannot have it
		}
		v.Verdict, v.Detail = bulkhead.SightedKnown, "the record has it"
		said, err := raise(watch.UnknownCertificate{Store: x.h.store}, watch.Sighting{Kind: watch.CertificateOnWire, Issuer: id, Serial: v.Serial, At: x.h.now().UTC(), Fingerprint: v.SHA256, Detail: source})
		if said != "" {
			v.Verdict, v.Detail = bulkhead.SightedUnknown, said
		}
		return err
	}
	return nil
}

// infrastructure reports whether a certificate is that of an authority, a stand-by or an OCSP delegate below one of ours: what a
// ceremony made has no order behind it.
func (x sighted) infrastructure(ctx context.Context, issuer bulkhead.AuthorityID, der []byte) (bool, error) {
	all, err := x.h.store.Authorities(ctx)
	if err != nil {
		return false, err
	}
	for _, a := range all {
		if bytes.Equal(a.Certificate, der) {
			return true, nil
		}
	}
	standbys, err := x.h.store.Standbys(ctx)
	if err != nil {
		return false, err
	}
	for _, s := range standbys {
		if bytes.Equal(s.Certificate, der) {
			return true, nil
		}
	}
	delegates, err := x.h.store.Delegates(ctx, issuer)
	if err != nil {
		return false, err
	}
	for _, d := range delegates {
		if bytes.Equal(d.Certificate, der) {
			return true, nil
		}
	}
	prepared, err := x.h.store.Prepared(ctx, issuer)
	for _, p := range prepared {
		if bytes.Equal(p.DER, der) {
			return true, nil
		}
	}
	return false, err
}
