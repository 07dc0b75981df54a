package ceremony

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"strings"
	"time"

	"bulkhead/keys"
	"bulkhead/pki/profile"
)

// Mark begins every name that a rehearsal makes; a common name holds 64 characters.
const Mark = "REHEARSAL "

func marked(cn string) string {
	if strings.HasPrefix(cn, Mark) {
		return cn
	}
	cn = Mark + cn
	for len(cn) > 64 {
		r := []rune(cn)
		cn = string(r[:len(r)-1])
	}
	return cn
}

// rehearsed marks the names of everything that the steps would make. The plan, and so its digest, stays as it was read
// aloud.
func rehearsed(steps []Step) []Step {
	out := make([]Step, len(steps))
	for i, s := range steps {
		switch {
		case s.Root != nil:
			x := *s.Root
			x.Subject.CommonName = marked(x.Subject.CommonName)
			s.Root = &x
		case s.Issuing != nil:
			x := *s.Issuing
			x.Subject.CommonName = marked(x.Subject.CommonName)
			s.Issuing = &x
		case s.Delegate != nil:
			x := *s.Delegate
			x.Subject.CommonName = marked(x.Subject.CommonName)
			s.Delegate = &x
		}
		out[i] = s
	}
	return out
}

// standIn takes the place of an authority whose key stays in the safe: a self-signed certificate with a marked name and
// a throw-away key of the same kind.
func (e *execution) standIn(h *house) (*house, error) {
	alg, err := algorithmOf(h.cert.PublicKey)
	if err != nil {
		return nil, err
	}
	uri, signer, err := e.Ring.Generate(e.ctx, string(h.ID), alg)
	if err != nil {
		return nil, err
	}
	serial, err := e.serial()
	if err != nil {
		return nil, err
	}
	subject := pkix.Name{CommonName: marked(h.cert.Subject.CommonName), Organization: h.cert.Subject.Organization, Country: h.cert.Subject.Country}
	tmpl, err := profile.Root(profile.House{Subject: subject, PublicKey: signer.Public(), Serial: serial, Now: e.start, Validity: 365 * day, Backdate: backdate})
	if err != nil {
		return nil, err
	}
	if left := h.cert.NotAfter.Sub(e.start); left > 365*day {
		tmpl.NotAfter = h.cert.NotAfter // so that the plan's validities fit below it as they would below the real one
	}
	if tmpl.SignatureAlgorithm, err = signatureAlgorithm(signer.Public()); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(e.Rand, tmpl, tmpl, signer.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("stand-in of %s: %w", h.ID, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("stand-in of %s: %w", h.ID, err)
	}
	out := &house{cert: cert, signer: signer, Authority: authorityOf(h.ID, h.Kind, cert)}
	out.KeyURI, out.CreatedAt = uri, e.start.Truncate(time.Second)
	return out, nil
}

// algorithmOf is the ring's word for the kind of a key.
func algorithmOf(pub crypto.PublicKey) (keys.Algorithm, error) {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return keys.P256, nil
		case elliptic.P384():
			return keys.P384, nil
		}
	case *rsa.PublicKey:
		switch {
		case k.N.BitLen() >= 4096:
			return keys.RSA4096, nil
		case k.N.BitLen() >= 3072:
			return keys.RSA3072, nil
		default:
			return keys.RSA2048, nil
		}
	}
	_, err := signatureAlgorithm(pub)
	return "", err
}
