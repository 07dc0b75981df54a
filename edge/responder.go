package edge

import (
	"context"
	"crypto/x509"

	"bulkhead"
	"bulkhead/pki/ocsp"
	"bulkhead/pki/pack"
)

// voucher is a responder that passed under an issuer: digests of the two certificates.
type voucher struct{ responder, issuer bulkhead.Hash }

// checkResponders refuses a head with a pack that was signed by anybody but the issuer itself or a delegate of the profile
// in BR 7.1.2.8: an authority below the issuer that may sign OCSP could forge the status of its neighbours (the
// intermediates of 2020), and what an edge serves must not teach clients to believe such a key. Dates are the matter of
// each answer. A responder that passed in the epoch before is not looked at again.
func (e *Edge) checkResponders(ctx context.Context, ep, prev *epoch, i *issuer) error {
	var cert *x509.Certificate
	var digest bulkhead.Hash
	for _, p := range i.packs {
		for _, der := range p.Responders() {
			if len(der) == 0 {
				continue // the issuer itself
			}
			if cert == nil {
				var err error
				if cert, err = e.issuerCertificate(ctx, ep, prev, i); err != nil {
					return err
				}
				digest = bulkhead.Digest(cert.Raw)
			}
			v := voucher{bulkhead.Digest(der), digest}
			if !ep.vouched[v] && (prev == nil || !prev.vouched[v]) {
				d, err := x509.ParseCertificate(der)
				if err != nil {
					return refused("a pack of issuer %s names a responder whose certificate is malformed", i.id).WithCause(err)
				}
				if err := ocsp.CheckProfile(d, cert); err != nil {
					return refused("a pack of issuer %s is signed by a responder that may not speak for it: %s", i.id, bulkhead.AsFault(err).Detail).WithCause(err)
				}
			}
			ep.vouched[v] = true
		}
	}
	return nil
}

// issuerCertificate is the certificate that the head names for an issuer, held against the issuer of its packs.
func (e *Edge) issuerCertificate(ctx context.Context, ep, prev *epoch, i *issuer) (*x509.Certificate, error) {
	if i.head.Certificate.IsZero() {
		return nil, refused("issuer %s has packs and no certificate: who may sign its answers cannot be said", i.id)
	}
	o, err := e.object(ctx, ep, prev, i.head.Certificate)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(append([]byte(nil), o.data...)) // a copy: what is mapped ends with its epoch
	if err != nil {
		return nil, refused("the certificate of issuer %s is malformed", i.id).WithCause(err)
	}
	id, err := ocsp.NewIssuer(cert.RawSubject, cert.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil, refused("the certificate of issuer %s is malformed", i.id).WithCause(err)
	}
	if len(i.packs) > 0 && i.packs[0].Issuer() != pack.IdentityOf(id) {
		return nil, refused("the packs of issuer %s are not those of its certificate", i.id)
	}
	return cert, nil
}
