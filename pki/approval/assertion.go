package approval

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"slices"

	"bulkhead"
)

// maxAssertion bounds what is parsed; the largest genuine ones have a few kilobytes.
const maxAssertion = 16 << 10

// Assertion is what a security key gives for a challenge (WebAuthn Level 3, section 6.3.3). Encoded, it stands where the
// signature of a key file would.
type Assertion struct {
	CredentialID      []byte `json:"credential_id"`
	AuthenticatorData []byte `json:"authenticator_data"`
	ClientData        []byte `json:"client_data"`
	Signature         []byte `json:"signature"`
}

// Encode is the assertion as an approval holds it.
func (a Assertion) Encode() []byte {
	body, err := json.Marshal(a)
	if err != nil {
		return nil // octets always have a JSON form
	}
	return body
}

// ParseAssertion reads what Encode wrote; KindUnauthorized when it is nothing of the kind.
func ParseAssertion(p []byte) (Assertion, error) {
	var a Assertion
	dec := json.NewDecoder(bytes.NewReader(p))
	dec.DisallowUnknownFields()
	if len(p) > maxAssertion || dec.Decode(&a) != nil || dec.More() {
		return a, bulkhead.NewFault(bulkhead.KindUnauthorized, "the security key's signature cannot be read").WithHint("send the four parts of the assertion, each base64")
	}
	return a, nil
}

// Flags of authenticator data (WebAuthn section 6.1).
const (
	userPresent  = 0x01
	userVerified = 0x04
	leastData    = 37 // relying party's hash, flags, counter
)

// Counter is the authenticator's signature counter; 0 for one that keeps none.
func (a Assertion) Counter() uint32 {
	if len(a.AuthenticatorData) < leastData {
		return 0
	}
	return binary.BigEndian.Uint32(a.AuthenticatorData[33:37])
}

// clientData is what the browser adds (WebAuthn section 5.8.1).
type clientData struct {
	Type        string `json:"type"`
	Challenge   string `json:"challenge"`
	Origin      string `json:"origin"`
	CrossOrigin bool   `json:"crossOrigin"`
}

// Verify fails with KindUnauthorized unless the key made the assertion over exactly the challenge, at its own relying
// party and origin or one of those given, with the person present and verified (WebAuthn section 7.2, steps 11 to 23).
func (a Assertion) Verify(k SecurityKey, challenge []byte, origins []string) error {
	no := func(why string) error {
		return bulkhead.NewFault(bulkhead.KindUnauthorized, "the security key's signature does not count: "+why).WithHint("use the key that was registered, on the house's own page, for exactly this request")
	}
	var c clientData
	if json.Unmarshal(a.ClientData, &c) != nil {
		return no("what the browser says of it cannot be read")
	}
	got, err := base64.RawURLEncoding.DecodeString(c.Challenge)
	host := sha256.Sum256([]byte(k.RPID))
	switch {
	case len(challenge) == 0 || err != nil || subtle.ConstantTimeCompare(got, challenge) != 1:
		return no("it is over something else")
	case c.Type != "webauthn.get":
		return no("it is no assertion")
	case c.CrossOrigin || c.Origin != k.Origin && !slices.Contains(origins, c.Origin):
		return no("it was made at " + clip(c.Origin))
	case !bytes.Equal(a.CredentialID, k.ID):
		return no("it is of another credential")
	case len(a.AuthenticatorData) < leastData || !bytes.Equal(a.AuthenticatorData[:32], host[:]):
		return no("it is for another relying party")
	case a.AuthenticatorData[32]&userPresent == 0 || a.AuthenticatorData[32]&userVerified == 0:
		return no("the person was not verified by PIN or biometry")
	}
	pub, err := x509.ParsePKIXPublicKey(k.PublicKey)
	if err != nil {
		return no("its public key cannot be read")
	}
	sum := sha256.Sum256(a.ClientData)
	if !verify(pub, append(slices.Clone(a.AuthenticatorData), sum[:]...), a.Signature) {
		return no("it does not verify")
	}
	return nil
}

func verify(pub crypto.PublicKey, signed, signature []byte) bool {
	digest := sha256.Sum256(signed)
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, digest[:], signature)
	case ed25519.PublicKey:
		return ed25519.Verify(k, signed, signature)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, crypto.SHA256, digest[:], signature) == nil
	}
	return false
}

func clip(s string) string {
	if len(s) > 100 {
		s = s[:100]
	}
	return s
}
