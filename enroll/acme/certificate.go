package acme

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"strconv"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"bulkhead"
	"bulkhead/pki/keycheck"
)

// alternatesMost bounds how many chains are named beside the first.
const alternatesMost = 8

// certificate serves a certificate with its chain as PEM (RFC 8555 section 7.4.2). The trust anchor is left out:
// whoever needs it must have it already (RFC 8446 section 4.4.2). There is no Link rel="up": it is for formats that
// hold one certificate, and acmez follows it with a signed POST. Chains through cross-certificates are named by Link
// rel="alternate" and numbered from 1.
func (s *Server) certificate(c *call) error {
	if err := c.readOnly(); err != nil {
		return err
	}
	serial, err := bulkhead.ParseSerial(c.args[1])
	if err != nil {
		return err
	}
	cert, alternates, err := s.svc.CertificateChains(c.ctx(), c.account, bulkhead.CertificateRef{Issuer: bulkhead.AuthorityID(c.args[0]), Serial: serial})
	if err != nil {
		return err
	}
	alternates = alternates[:min(len(alternates), alternatesMost)]
	shown := 0
	if len(c.args) == 3 {
		if shown, err = strconv.Atoi(c.args[2]); err != nil || shown < 1 || shown > len(alternates) {
			return bulkhead.NewFault(bulkhead.KindNotFound, "the certificate has no such chain")
		}
		cert.Chain = alternates[shown-1]
	}
	for i := range len(alternates) + 1 {
		path := "certificate/" + c.args[0] + "/" + c.args[1]
		if i > 0 {
			path += "/" + strconv.Itoa(i)
		}
		if i != shown {
			c.link(c.url(path), "alternate")
		}
	}
	var out bytes.Buffer
	for i, der := range append([][]byte{cert.DER}, cert.Chain...) {
		if i > 0 && selfIssued(der) {
			break
		}
		if err := pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			return err
		}
	}
	c.w.Header().Set("Content-Type", "application/pem-certificate-chain")
	_, _ = c.w.Write(out.Bytes()) // a client that went away is no error of ours
	return nil
}

// selfIssued compares issuer and subject without a look at the rest: the certificate comes from the record.
func selfIssued(der []byte) bool {
	var certificate, tbs, issuer, subject cryptobyte.String
	in := cryptobyte.String(der)
	return in.ReadASN1(&certificate, asn1.SEQUENCE) && certificate.ReadASN1(&tbs, asn1.SEQUENCE) &&
		tbs.SkipOptionalASN1(asn1.Tag(0).ContextSpecific().Constructed()) && tbs.SkipASN1(asn1.INTEGER) && tbs.SkipASN1(asn1.SEQUENCE) &&
		tbs.ReadASN1Element(&issuer, asn1.SEQUENCE) && tbs.SkipASN1(asn1.SEQUENCE) && tbs.ReadASN1Element(&subject, asn1.SEQUENCE) &&
		bytes.Equal(issuer, subject)
}

// revokeCert revokes for an account or for whoever holds the certificate's key (RFC 8555 section 7.6).
func (s *Server) revokeCert(c *call) error {
	var p struct {
		Certificate string `json:"certificate"`
		Reason      *int   `json:"reason"`
	}
	if err := c.decode(&p); err != nil {
		return err
	}
	der, err := base64.RawURLEncoding.DecodeString(p.Certificate)
	if err != nil || len(der) == 0 {
		return malformed("certificate is the base64url of a DER certificate, without padding")
	}
	reason := bulkhead.Unspecified
	if p.Reason != nil {
		reason = bulkhead.Reason(*p.Reason)
	}
	if c.jwk == nil {
		_, err = s.svc.RevokeByAccount(c.ctx(), c.account, der, reason)
		return err
	}
	spki, err := keycheck.SPKI(c.jwk.Key)
	if err != nil {
		return bulkhead.NewFault(bulkhead.KindBadPublicKey, "the key of the request cannot be encoded").WithCause(err)
	}
	_, err = s.svc.RevokeByKey(c.ctx(), spki, der, reason)
	return err
}

// renewalInfo advises when to renew (RFC 9773 section 4).
func (s *Server) renewalInfo(c *call) error {
	info, err := s.svc.RenewalInfo(c.ctx(), c.args[0])
	if err != nil {
		return err
	}
	c.retry(info.RetryAfter)
	type window struct {
		Start string `json:"start"`
		End   string `json:"end"`
	}
	return c.json(http.StatusOK, struct {
		Window      window `json:"suggestedWindow"`
		Explanation string `json:"explanationURL,omitempty"`
	}{window{stamp(info.Start), stamp(info.End)}, info.ExplanationURL})
}
