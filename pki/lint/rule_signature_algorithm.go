package lint

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"slices"
)

var rsaAlgorithms = []x509.SignatureAlgorithm{x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
	x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS}

var ecdsaAlgorithms = []x509.SignatureAlgorithm{x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512}

// signatureAlgorithm: no SHA-1 or MD5, and where the issuer is known the algorithm that belongs to its key (BR
// 7.1.3.2.2 ties each curve to one hash). A twin is signed by a throw-away key of the same kind, so it shows the same.
func signatureAlgorithm() rule {
	return rule{
		name: "bulkhead_signature_algorithm", source: "BR 7.1.3.2", severity: Error, sets: slices.Concat(certSets, crlSets),
		check: func(s *subject, report report) {
			alg := s.algorithm()
			private := s.set == SetTLSClient || s.set == SetInfrastructure
			if !slices.Contains(rsaAlgorithms, alg) && !slices.Contains(ecdsaAlgorithms, alg) && (alg != x509.PureEd25519 || !private) {
				report("the signature algorithm %v is not allowed", alg)
				return
			}
			if s.want.Issuer == nil {
				return
			}
			if fit := fitting(s.want.Issuer); !slices.Contains(fit, alg) {
				report("the signature algorithm %v does not belong to the issuer's key, which takes %v", alg, fit)
			}
		},
	}
}

func (s *subject) algorithm() x509.SignatureAlgorithm {
	if s.crl != nil {
		return s.crl.SignatureAlgorithm
	}
	return s.cert.SignatureAlgorithm
}

func fitting(issuer *x509.Certificate) []x509.SignatureAlgorithm {
	switch k := issuer.PublicKey.(type) {
	case *rsa.PublicKey:
		return rsaAlgorithms
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return ecdsaAlgorithms[:1]
		case elliptic.P384():
			return ecdsaAlgorithms[1:2]
		case elliptic.P521():
			return ecdsaAlgorithms[2:]
		}
	case ed25519.PublicKey:
		return []x509.SignatureAlgorithm{x509.PureEd25519}
	}
	return nil
}
