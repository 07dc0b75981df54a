package signin_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"testing"

	"bulkhead/pki/approval"
)

// securityKey is a WebAuthn authenticator in software, ES256, with a counter. A browser's own is in browser_test.go.
type securityKey struct {
	t      testing.TB
	id     []byte
	key    *ecdsa.PrivateKey
	origin string
	rpID   string
	count  uint32
	handle string
}

func newSecurityKey(t testing.TB, origin string) *securityKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	return &securityKey{t: t, id: []byte(rand.Text()), key: k, origin: origin, rpID: "localhost"}
}

// touch is one use of the key, before it is signed.
type touch struct {
	kind, challenge, origin, rpID string
	flags                         byte
	count                         uint32
}

func (k *securityKey) client(x touch) []byte {
	body, err := json.Marshal(map[string]any{"type": x.kind, "challenge": x.challenge, "origin": x.origin, "crossOrigin": false})
	ok(k.t, err)
	return body
}

func b64(p []byte) string { return base64.RawURLEncoding.EncodeToString(p) }

// data is authenticator data without attested credential data or extensions.
func data(x touch) []byte {
	host := sha256.Sum256([]byte(x.rpID))
	return binary.BigEndian.AppendUint32(append(host[:], x.flags), x.count)
}

// cborBytes is a byte string of 256 to 65535 octets or fewer (RFC 8949 section 3.1).
func cborBytes(p []byte) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{0x59}, uint16(len(p))), p...)
}

func cborText(s string) []byte { return append([]byte{0x60 + byte(len(s))}, s...) }

// create is the answer to a registration: attestation "none", as browsers give it when none was asked for.
func (k *securityKey) create(challenge string, spoil ...func(*touch)) json.RawMessage {
	k.t.Helper()
	x := touch{"webauthn.create", challenge, k.origin, k.rpID, 0x45, k.count}
	for _, f := range spoil {
		f(&x)
	}
	pub, err := k.key.PublicKey.Bytes() // 0x04, X, Y
	ok(k.t, err)
	cose := append([]byte{0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21}, cborBytes(pub[1:33])...)
	cose = append(append(cose, 0x22), cborBytes(pub[33:65])...)
	auth := append(data(x), make([]byte, 16)...) // AAGUID
	auth = append(binary.BigEndian.AppendUint16(auth, uint16(len(k.id))), k.id...)
	auth = append(auth, cose...)
	object := append([]byte{0xa3}, cborText("fmt")...)
	object = append(object, cborText("none")...)
	object = append(append(object, cborText("attStmt")...), 0xa0)
	object = append(append(object, cborText("authData")...), cborBytes(auth)...)
	body, err := json.Marshal(map[string]any{"id": b64(k.id), "rawId": b64(k.id), "type": "public-key", "clientExtensionResults": map[string]any{},
		"response": map[string]string{"clientDataJSON": b64(k.client(x)), "attestationObject": b64(object)}})
	ok(k.t, err)
	return body
}

// assert signs a challenge.
func (k *securityKey) assert(challenge string, spoil ...func(*touch)) approval.Assertion {
	k.t.Helper()
	k.count++
	x := touch{"webauthn.get", challenge, k.origin, k.rpID, 0x05, k.count}
	for _, f := range spoil {
		f(&x)
	}
	client := k.client(x)
	sum := sha256.Sum256(client)
	auth := data(x)
	digest := sha256.Sum256(append(append([]byte(nil), auth...), sum[:]...))
	sig, err := ecdsa.SignASN1(rand.Reader, k.key, digest[:])
	ok(k.t, err)
	return approval.Assertion{CredentialID: k.id, AuthenticatorData: auth, ClientData: client, Signature: sig}
}

// get is the answer to a sign-in.
func (k *securityKey) get(challenge string, spoil ...func(*touch)) json.RawMessage {
	k.t.Helper()
	a := k.assert(challenge, spoil...)
	response := map[string]string{"clientDataJSON": b64(a.ClientData), "authenticatorData": b64(a.AuthenticatorData), "signature": b64(a.Signature)}
	response["userHandle"] = k.handle
	body, err := json.Marshal(map[string]any{"id": b64(k.id), "rawId": b64(k.id), "type": "public-key", "clientExtensionResults": map[string]any{}, "response": response})
	ok(k.t, err)
	return body
}

// handleOf is the user handle of an operator, which a key keeps.
func handleOf(name string) string {
	h := sha256.Sum256([]byte("operator:" + name))
	return b64(h[:])
}
