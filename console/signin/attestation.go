package signin

import (
	"bytes"
	"crypto/x509"
	"errors"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
)

// Attestation says whose security keys may become operators' keys: those whose maker vouches for them with a certificate
// under one of the roots, or with one of the certificates themselves. Nothing is fetched: the roots are files of the house.
type Attestation struct {
	Trust []*x509.Certificate
}

// Formats of statements that are judged (WebAuthn Level 3, sections 8.2 and 8.6). Others are refused where a policy asks.
var attestedFormats = map[protocol.AttestationFormat]bool{protocol.AttestationFormatPacked: true, protocol.AttestationFormatFIDOUniversalSecondFactor: true}

var (
	errNotAttested  = errors.New("its maker does not vouch for it, and the house takes only keys for which one does")
	errSelfAttested = errors.New("it vouches for itself alone, and the house takes only keys for which their maker does")
	errUnknownMaker = errors.New("its maker is none whom the house trusts")
	errModel        = errors.New("it names a model, which a statement of its format does not sign")
)

// judge says who vouches for a key whose statement the library verified: that the signature is by the certificate in it, over
// exactly this registration (section 7.1, steps 21 and 22). Here that certificate is held against the roots (steps 23 and 24).
func (a *Attestation) judge(o protocol.AttestationObject, now time.Time) (string, error) {
	if a == nil {
		return "", nil
	}
	if !attestedFormats[protocol.AttestationFormat(o.Format)] {
		return "", errNotAttested
	}
	if o.Format == string(protocol.AttestationFormatFIDOUniversalSecondFactor) && bytes.ContainsFunc(o.AuthData.AttData.AAGUID, func(r rune) bool { return r != 0 }) {
		return "", errModel
	}
	chain, err := chainOf(o.AttStatement["x5c"])
	if err != nil {
		return "", err
	}
	if len(chain) == 0 {
		return "", errSelfAttested
	}
	opts := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, c := range a.Trust {
		if bytes.Equal(c.Raw, chain[0].Raw) {
			return chain[0].Subject.String(), nil
		}
		opts.Roots.AddCert(c)
	}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	paths, err := chain[0].Verify(opts)
	if err != nil {
		return "", errors.Join(errUnknownMaker, err)
	}
	top := paths[0][len(paths[0])-1]
	return strings.Join([]string{chain[0].Subject.String(), "under", top.Subject.String()}, " "), nil
}

// maxChain bounds what a key may send.
const maxChain = 8

func chainOf(x5c any) ([]*x509.Certificate, error) {
	raw, _ := x5c.([]any)
	if len(raw) > maxChain {
		return nil, errUnknownMaker
	}
	var out []*x509.Certificate
	for _, r := range raw {
		der, _ := r.([]byte)
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, errors.Join(errUnknownMaker, err)
		}
		out = append(out, c)
	}
	return out, nil
}
