package verifiers

import (
	"context"
	"crypto/x509"

	"bulkhead"
	"bulkhead/pki/ocsp"
	"bulkhead/status"
)

// golang judges CRLs by crypto/x509 and answers by pki/ocsp: Go's x/crypto/ocsp believes anybody under the issuer
// (golang/go#43522) and decides nothing here.
type golang struct{}

// Name implements status.Verifier.
func (golang) Name() string { return "go" }

// Look implements status.Verifier.
func (golang) Look(_ context.Context, e status.Exhibit) []status.Opinion {
	issuer, err := x509.ParseCertificate(e.Issuer)
	if err != nil {
		return []status.Opinion{refused("certificate of the authority", "%s", err)}
	}
	var out []status.Opinion
	for i, der := range e.Answers {
		out = append(out, goAnswer(answerNames[i], der, issuer, e))
	}
	if e.Certificate != nil && e.CRL != nil {
		out = append(out, goCRL(issuer, e))
	}
	return out
}

func goAnswer(source string, der []byte, issuer *x509.Certificate, e status.Exhibit) status.Opinion {
	r, err := ocsp.ParseResponse(der)
	if err != nil {
		return refused(source, "%s", bulkhead.AsFault(err).Detail)
	}
	if r.Status != ocsp.Successful {
		return refused(source, "%s", r.Status)
	}
	s, err := ocsp.CheckResponse(r, issuer, e.Ref.Serial, e.At)
	if err != nil {
		return refused(source, "%s", bulkhead.AsFault(err).Detail)
	}
	switch s.State {
	case ocsp.Good:
		return status.Opinion{Source: source, Verdict: status.VerdictGood}
	case ocsp.Revoked:
		return status.Opinion{Source: source, Verdict: status.VerdictRevoked}
	default:
		return refused(source, "it says %s", s.State)
	}
}

func goCRL(issuer *x509.Certificate, e status.Exhibit) status.Opinion {
	cert, err := x509.ParseCertificate(e.Certificate)
	if err != nil {
		return refused(crlName, "%s", err)
	}
	list, err := x509.ParseRevocationList(e.CRL)
	if err != nil {
		return refused(crlName, "%s", err)
	}
	if err := list.CheckSignatureFrom(issuer); err != nil {
		return refused(crlName, "%s", err)
	}
	if e.At.Before(list.ThisUpdate) || !e.At.Before(list.NextUpdate) {
		return refused(crlName, "it is of another time")
	}
	for _, x := range list.RevokedCertificateEntries {
		if x.SerialNumber.Cmp(cert.SerialNumber) == 0 {
			return status.Opinion{Source: crlName, Verdict: status.VerdictRevoked}
		}
	}
	return status.Opinion{Source: crlName, Verdict: status.VerdictGood}
}
