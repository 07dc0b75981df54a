package est

import (
	"bytes"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"bulkhead"
	"bulkhead/pki/profile"
)

// pkcs7 answers with certificates (RFC 7030 sections 4.1.3 and 4.2.3).
func (c *call) pkcs7(certificates ...[]byte) error {
	der, err := certsOnly(certificates)
	if err != nil {
		return err
	}
	c.base64("application/pkcs7-mime; smime-type=certs-only", der)
	return nil
}

// base64 answers with DER as RFC 7030 clients expect it: in lines. RFC 8951 section 3 has receivers accept both.
func (c *call) base64(contentType string, der []byte) {
	const line = 64
	text := base64.StdEncoding.EncodeToString(der)
	var b bytes.Buffer
	for part := range slices.Chunk([]byte(text), line) {
		b.Write(part)
		b.WriteByte('\n')
	}
	h := c.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Transfer-Encoding", "base64")
	h.Set("Content-Length", fmt.Sprint(b.Len()))
	_, _ = c.w.Write(b.Bytes()) // a client that went away is no error of ours
}

var (
	oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidData       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
)

// certsOnly is a degenerate SignedData: certificates and nobody's signature (RFC 5652 sections 3 and 5.1, RFC 5272
// section 4.1). In DER the members of a SET OF are sorted.
func certsOnly(certificates [][]byte) ([]byte, error) {
	sorted := slices.SortedFunc(slices.Values(certificates), bytes.Compare)
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // ContentInfo
		b.AddASN1ObjectIdentifier(oidSignedData)
		b.AddASN1(explicit0, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // SignedData
				b.AddASN1Int64(1)
				b.AddASN1(cbasn1.SET, func(*cryptobyte.Builder) {})      // digestAlgorithms
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // encapContentInfo
					b.AddASN1ObjectIdentifier(oidData)
				})
				b.AddASN1(explicit0, func(b *cryptobyte.Builder) { // certificates
					for _, der := range sorted {
						b.AddBytes(der)
					}
				})
				b.AddASN1(cbasn1.SET, func(*cryptobyte.Builder) {}) // signerInfos
			})
		})
	})
	return b.Bytes()
}

// explicit0 is [0], constructed: an explicit tag, or the implicit one of a SET OF.
var explicit0 = cbasn1.Tag(0).ContextSpecific().Constructed()

var (
	oidECPublicKey      = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidRSAEncryption    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidEd25519          = asn1.ObjectIdentifier{1, 3, 101, 112}
	oidP256             = asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}
	oidP384             = asn1.ObjectIdentifier{1, 3, 132, 0, 34}
	oidExtensionRequest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}
	oidSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// attributes is the CsrAttrs of a profile (RFC 7030 section 4.5.2, RFC 9908): the kind of key that it lists first, and
// that the names belong into the subject alternative name, whose value the client fills in. nil when there is nothing
// to say.
func attributes(p *profile.Profile) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		if len(p.Keys) > 0 {
			keyAttribute(b, p.Keys[0])
		}
		if len(p.IdentifierTypes) > 0 {
			attribute(b, oidExtensionRequest, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { // Extensions
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1ObjectIdentifier(oidSubjectAltName)
						b.AddASN1OctetString(nil)
					})
				})
			})
		}
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, bulkhead.NewFault(bulkhead.KindInternal, "the attributes could not be encoded").WithCause(err)
	}
	if len(der) == 2 {
		return nil, nil
	}
	return der, nil
}

func keyAttribute(b *cryptobyte.Builder, k profile.KeyType) {
	curve := func(oid asn1.ObjectIdentifier) {
		attribute(b, oidECPublicKey, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oid) })
	}
	bits := func(n int64) {
		attribute(b, oidRSAEncryption, func(b *cryptobyte.Builder) { b.AddASN1Int64(n) })
	}
	switch k {
	case profile.P256:
		curve(oidP256)
	case profile.P384:
		curve(oidP384)
	case profile.RSA2048:
		bits(2048)
	case profile.RSA3072:
		bits(3072)
	case profile.RSA4096:
		bits(4096)
	case profile.Ed25519:
		b.AddASN1ObjectIdentifier(oidEd25519)
	}
}

// attribute adds an Attribute with one value.
func attribute(b *cryptobyte.Builder, oid asn1.ObjectIdentifier, value func(*cryptobyte.Builder)) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		b.AddASN1(cbasn1.SET, value)
	})
}

// statusOf maps every kind to a status (RFC 7030 section 4.2.3); a test walks bulkhead.Kinds over it. Who somebody is,
// is settled before the service is asked: its "unauthorized" is about names, so 403.
func statusOf(k bulkhead.Kind) int {
	switch k {
	case bulkhead.KindUnauthorized, bulkhead.KindForbidden, bulkhead.KindCAA, bulkhead.KindGate, bulkhead.KindOrderNotReady,
		bulkhead.KindExternalAccountRequired, bulkhead.KindUserActionRequired, bulkhead.KindIncorrectResponse, bulkhead.KindAccountDoesNotExist:
		return http.StatusForbidden
	case bulkhead.KindNotFound:
		return http.StatusNotFound
	case bulkhead.KindConflict, bulkhead.KindAlreadyReplaced, bulkhead.KindAlreadyRevoked:
		return http.StatusConflict
	case bulkhead.KindRateLimited:
		return http.StatusTooManyRequests
	case bulkhead.KindStopped, bulkhead.KindUnavailable:
		return http.StatusServiceUnavailable
	case bulkhead.KindInternal:
		return http.StatusInternalServerError
	case bulkhead.KindMalformed, bulkhead.KindUsage, bulkhead.KindBadCSR, bulkhead.KindBadNonce, bulkhead.KindBadPublicKey,
		bulkhead.KindBadRevocationReason, bulkhead.KindBadSignatureAlgorithm, bulkhead.KindCompound, bulkhead.KindConnection, bulkhead.KindDNS,
		bulkhead.KindInvalidContact, bulkhead.KindInvalidProfile, bulkhead.KindRejectedIdentifier, bulkhead.KindTLS,
		bulkhead.KindUnsupportedContact, bulkhead.KindUnsupportedIdentifier:
		return http.StatusBadRequest
	}
	return 0
}
