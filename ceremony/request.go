package ceremony

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"slices"
	"time"

	"bulkhead"
	"bulkhead/keys"
	"bulkhead/pki/keycheck"
	"bulkhead/pki/profile"
)

// NewCSR makes a key in the ring of the host that will use it, and a PKCS#10 request for an authority or delegate: to
// put into a plan, or to hand to an existing root elsewhere. A foreign root is asked for cA, path length 0 and
// keyCertSign and cRLSign by policy, not by the request: many ignore requested extensions, and AcceptCertificate looks.
func NewCSR(ctx context.Context, ring keys.Ring, keyName string, subject Name, alg keys.Algorithm) (Request, error) {
	return newCSR(ctx, ring, keyName, subject, alg, nil)
}

// NewAuthorityCSR is NewCSR for an authority of one usage: the request asks for its extended key usages, and
// AcceptCertificate holds the certificate to them.
func NewAuthorityCSR(ctx context.Context, ring keys.Ring, keyName string, subject Name, alg keys.Algorithm, usage profile.Usage) (Request, error) {
	ekus, err := ekuExtension(usage)
	if err != nil {
		return Request{}, err
	}
	return newCSR(ctx, ring, keyName, subject, alg, []pkix.Extension{ekus})
}

func newCSR(ctx context.Context, ring keys.Ring, keyName string, subject Name, alg keys.Algorithm, extensions []pkix.Extension) (Request, error) {
	if err := subject.check(make(map[Name]bool)); err != nil {
		return Request{}, err
	}
	uri, signer, err := ring.Generate(ctx, keyName, alg)
	if err != nil {
		return Request{}, err
	}
	sigAlg, err := signatureAlgorithm(signer.Public())
	if err == nil {
		var der []byte
		der, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject.PKIX(), SignatureAlgorithm: sigAlg, ExtraExtensions: extensions}, signer)
		if err == nil {
			return Request{CSR: der, KeyURI: uri}, nil
		}
	}
	if destroyed := ring.Destroy(context.WithoutCancel(ctx), uri); destroyed != nil {
		return Request{}, fmt.Errorf("%w (and the key %s stays: %w)", err, uri, destroyed)
	}
	return Request{}, err
}

// checkCSR reads a request and verifies its proof of possession and key.
func checkCSR(der []byte) (*x509.CertificateRequest, error) {
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, bulkhead.NewFault(bulkhead.KindBadCSR, "request is not PKCS#10").WithHint("make it with: bulkhead hierarchy add").WithCause(err)
	}
	if !slices.Contains(signatureAlgorithms, csr.SignatureAlgorithm) {
		return nil, bulkhead.Faultf(bulkhead.KindBadCSR, "request is signed with %s, which is weak or not allowed", csr.SignatureAlgorithm).WithHint("sign the request with SHA-256")
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, bulkhead.NewFault(bulkhead.KindBadCSR, "request does not prove possession of its key").WithHint("make the request anew on the host that has the key").WithCause(err)
	}
	if err := keycheck.Check(csr.PublicKey, keycheck.DefaultRules()); err != nil {
		return nil, err
	}
	return csr, nil
}

// Pending is the authority of a request that went out to a foreign root.
func Pending(id bulkhead.AuthorityID, r Request, shards int, now time.Time) (bulkhead.Authority, error) {
	if err := id.Check(); err != nil {
		return bulkhead.Authority{}, err
	}
	csr, err := checkCSR(r.CSR)
	if err != nil {
		return bulkhead.Authority{}, err
	}
	return bulkhead.Authority{
		ID: id, Kind: bulkhead.IssuingAuthority, State: bulkhead.AuthorityPending, Subject: csr.RawSubject,
		SPKI: csr.RawSubjectPublicKeyInfo, CSR: r.CSR, KeyURI: r.KeyURI, Shards: shards, CreatedAt: now.UTC().Truncate(time.Second),
	}, nil
}

// AcceptCertificate makes a pending authority active with the certificate that a foreign root gave. chain holds the
// certificates above it, nearest first, the root last. It refuses (KindGate) a certificate that is not for the pending
// key or name, is no authority, may sign neither certificates nor CRLs, has OCSPSigning or anyExtendedKeyUsage, has no
// path length 0, outlives anything above it, or does not verify up to the root.
func AcceptCertificate(pending bulkhead.Authority, certificate []byte, chain [][]byte, now time.Time) (bulkhead.Authority, error) {
	if pending.State != bulkhead.AuthorityPending {
		return bulkhead.Authority{}, bulkhead.Faultf(bulkhead.KindConflict, "authority %s is not waiting for a certificate", pending.ID).WithHint("see: bulkhead hierarchy show")
	}
	cert, err := x509.ParseCertificate(certificate)
	if err != nil {
		return bulkhead.Authority{}, malformedCertificate(err)
	}
	if err := acceptable(pending, cert, now); err != nil {
		return bulkhead.Authority{}, err
	}
	if err := acceptUsage(pending, cert); err != nil {
		return bulkhead.Authority{}, err
	}
	if err := acceptChain(cert, chain, now); err != nil {
		return bulkhead.Authority{}, err
	}
	out := pending
	out.State, out.Certificate, out.CSR, out.Chain = bulkhead.AuthorityActive, cert.Raw, nil, nil
	out.Subject = cert.RawSubject
	for _, der := range chain {
		out.Chain = append(out.Chain, bytes.Clone(der))
	}
	return out, nil
}

// acceptable judges the certificate itself.
func acceptable(pending bulkhead.Authority, cert *x509.Certificate, now time.Time) error {
	switch {
	case !bytes.Equal(cert.RawSubjectPublicKeyInfo, pending.SPKI):
		return refused("the certificate is for another key than that of %s", pending.ID).WithHint("send the CSR that this authority made")
	case len(cert.SubjectKeyId) == 0:
		return refused("the certificate has no subject key identifier (RFC 5280 section 4.2.1.2)").WithHint("have it issued from a profile for subordinate authorities")
	case !cert.BasicConstraintsValid || !cert.IsCA:
		return refused("the certificate is no authority (cA is not set)").WithHint("have it issued from a profile for subordinate authorities")
	case cert.KeyUsage&authorityUsage != authorityUsage || cert.KeyUsage&^(authorityUsage|x509.KeyUsageDigitalSignature) != 0:
		return refused("key usage must be keyCertSign and cRLSign").WithHint("have it issued from a profile for subordinate authorities")
	case now.Before(cert.NotBefore) || !now.Before(cert.NotAfter):
		return refused("the certificate is not valid now").WithHint("check the clock of this machine and the dates of the certificate")
	case len(cert.UnhandledCriticalExtensions) != 0:
		return refused("the certificate has the critical extension %s, which we do not know", cert.UnhandledCriticalExtensions[0]).WithHint("have it issued without")
	}
	if limit, limited := pathLen(cert); !limited || limit != 0 {
		return refused("the certificate lacks path length 0: an issuing authority signs no authorities").WithHint("have it issued with pathlen:0")
	}
	if err := gateAuthorityEKUs(cert); err != nil {
		return err
	}
	return gateKey(cert)
}

// acceptChain verifies every link to a self-signed root: names, signatures, powers, path lengths, dates.
func acceptChain(cert *x509.Certificate, chain [][]byte, now time.Time) error {
	if len(chain) == 0 {
		return refused("the chain up to the root is missing").WithHint("give the certificates above, nearest first, the root last")
	}
	below, depth := cert, 0 // depth: authorities below the one called below
	for _, der := range chain {
		above, err := x509.ParseCertificate(der)
		if err != nil {
			return malformedCertificate(err)
		}
		if err := acceptLink(below, above, depth+1, now); err != nil {
			return err
		}
		below, depth = above, depth+1
	}
	if !bytes.Equal(below.RawIssuer, below.RawSubject) || below.CheckSignatureFrom(below) != nil {
		return refused("the chain does not end in a self-signed root, but in %q", below.Subject.CommonName).WithHint("add the root at the end of the chain")
	}
	return nil
}

// acceptLink verifies one link; authorities is the number of authorities below above.
func acceptLink(below, above *x509.Certificate, authorities int, now time.Time) error {
	name := above.Subject.CommonName
	if !bytes.Equal(below.RawIssuer, above.RawSubject) {
		return refused("%q did not issue %q", name, below.Subject.CommonName).WithHint("order the chain nearest first, the root last")
	}
	if !slices.Contains(signatureAlgorithms, below.SignatureAlgorithm) {
		return refused("%q is signed with %s, which is weak or not allowed", below.Subject.CommonName, below.SignatureAlgorithm).WithHint("have it signed with SHA-256 or better")
	}
	if len(above.UnhandledCriticalExtensions) != 0 {
		return refused("%q has the critical extension %s, which we do not know", name, above.UnhandledCriticalExtensions[0]).WithHint("verifiers would refuse the chain: have it issued from another authority")
	}
	if err := nestedUsages(below, above); err != nil {
		return err
	}
	rules := keycheck.AnyRSASize()
	rules.P521 = true
	if err := keycheck.Check(above.PublicKey, rules); err != nil {
		return refused("the key of %q is weak: %s", name, bulkhead.AsFault(err).Detail).WithHint("have it issued from another authority")
	}
	if err := below.CheckSignatureFrom(above); err != nil {
		return bulkhead.Faultf(bulkhead.KindGate, "the signature of %q over %q does not verify", name, below.Subject.CommonName).
			WithHint("give the chain that belongs to this certificate").WithCause(err)
	}
	if below.NotAfter.After(above.NotAfter) {
		return refused("%q would outlive its issuer %q, which ends at %s", below.Subject.CommonName, name, above.NotAfter.UTC().Format(time.RFC3339)).
			WithHint("have it issued with an earlier end, or from a younger root")
	}
	if now.Before(above.NotBefore) || !now.Before(above.NotAfter) {
		return refused("%q is not valid now", name).WithHint("check the clock of this machine and the chain")
	}
	if limit, limited := pathLen(above); limited && authorities > limit {
		return refused("%q allows %d authorities below it, the chain has %d", name, limit, authorities).WithHint("have it issued from an authority higher up")
	}
	return nil
}
