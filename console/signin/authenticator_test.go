package signin_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math/big"
	"testing"
	"time"

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
	maker  *maker // who vouches for it; nil for nobody
	u2f    *u2f   // it vouches as FIDO U2F keys do; nil for those of FIDO2
}

// u2f are the parts over which a FIDO U2F key's statement is signed (WebAuthn section 8.6), for a test to forge, and what it carries.
type u2f struct {
	forge                            func(*u2f)
	reserved                         byte
	rpIDHash, clientHash, id, public []byte
	certs                            [][]byte
	aaguid                           [16]byte
}

// attestU2F is the statement of a FIDO U2F key.
func (k *securityKey) attestU2F(x *u2f) []byte {
	if x.forge != nil {
		x.forge(x)
	}
	signed := append([]byte{x.reserved}, x.rpIDHash...)
	signed = append(append(append(signed, x.clientHash...), x.id...), x.public...)
	digest := sha256.Sum256(signed)
	sig, err := ecdsa.SignASN1(rand.Reader, k.maker.key, digest[:])
	ok(k.t, err)
	s := append(append([]byte{0xa2}, cborText("sig")...), cborBytes(sig)...)
	s = append(append(s, cborText("x5c")...), 0x80+byte(len(x.certs)))
	for _, c := range x.certs {
		s = append(s, cborBytes(c)...)
	}
	return s
}

// maker vouches for security keys under a root of its own.
type maker struct {
	root, cert []byte
	key        *ecdsa.PrivateKey
}

func newMaker(t testing.TB, name string, change ...func(leaf *x509.Certificate)) *maker {
	t.Helper()
	var keys [2]*ecdsa.PrivateKey
	for i := range keys {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		ok(t, err)
		keys[i] = k
	}
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name + " Root"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, keys[0].Public(), keys[0])
	ok(t, err)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: root.NotBefore, NotAfter: root.NotAfter, BasicConstraintsValid: true, // WebAuthn section 8.2.1
		Subject: pkix.Name{Country: []string{"JP"}, Organization: []string{name}, OrganizationalUnit: []string{"Authenticator Attestation"}, CommonName: name + " Blue"}}
	for _, f := range change {
		f(leaf)
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, root, keys[1].Public(), keys[0])
	ok(t, err)
	return &maker{root: rootDER, cert: der, key: keys[1]}
}

// attest is the statement of a key: "none", by itself, or by its maker.
func (k *securityKey) attest(auth, client []byte, self bool) (format string, statement []byte) {
	signer := k.key
	if k.maker != nil {
		signer = k.maker.key
	} else if !self {
		return "none", []byte{0xa0}
	}
	sum := sha256.Sum256(client)
	digest := sha256.Sum256(append(append([]byte(nil), auth...), sum[:]...))
	sig, err := ecdsa.SignASN1(rand.Reader, signer, digest[:])
	ok(k.t, err)
	s := append([]byte{0xa2}, cborText("alg")...)
	s = append(append(append(s, 0x26), cborText("sig")...), cborBytes(sig)...)
	if k.maker != nil {
		s[0] = 0xa3
		s = append(append(append(s, cborText("x5c")...), 0x81), cborBytes(k.maker.cert)...)
	}
	return "packed", s
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
	self                          bool // vouches for itself
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

// create is the answer to a registration, with the statement of the key's maker, or none, as browsers give it when none was
// asked for.
func (k *securityKey) create(challenge string, spoil ...func(*touch)) json.RawMessage {
	k.t.Helper()
	x := touch{kind: "webauthn.create", challenge: challenge, origin: k.origin, rpID: k.rpID, flags: 0x45, count: k.count}
	for _, f := range spoil {
		f(&x)
	}
	pub, err := k.key.PublicKey.Bytes() // 0x04, X, Y
	ok(k.t, err)
	cose := append([]byte{0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21}, cborBytes(pub[1:33])...)
	cose = append(append(cose, 0x22), cborBytes(pub[33:65])...)
	aaguid := make([]byte, 16)
	if k.u2f != nil && k.u2f.aaguid != [16]byte{} {
		aaguid = k.u2f.aaguid[:]
	}
	auth := append(data(x), aaguid...)
	auth = append(binary.BigEndian.AppendUint16(auth, uint16(len(k.id))), k.id...)
	auth = append(auth, cose...)
	client := k.client(x)
	format, statement := "fido-u2f", []byte(nil)
	if u := k.u2f; u != nil {
		host, sum := sha256.Sum256([]byte(x.rpID)), sha256.Sum256(client)
		u.rpIDHash, u.clientHash, u.id, u.public, u.certs = host[:], sum[:], k.id, pub, [][]byte{k.maker.cert}
		statement = k.attestU2F(u)
	} else {
		format, statement = k.attest(auth, client, x.self)
	}
	object := append([]byte{0xa3}, cborText("fmt")...)
	object = append(object, cborText(format)...)
	object = append(append(object, cborText("attStmt")...), statement...)
	object = append(append(object, cborText("authData")...), cborBytes(auth)...)
	body, err := json.Marshal(map[string]any{"id": b64(k.id), "rawId": b64(k.id), "type": "public-key", "clientExtensionResults": map[string]any{},
		"response": map[string]string{"clientDataJSON": b64(client), "attestationObject": b64(object)}})
	ok(k.t, err)
	return body
}

// assert signs a challenge.
func (k *securityKey) assert(challenge string, spoil ...func(*touch)) approval.Assertion {
	k.t.Helper()
	k.count++
	x := touch{kind: "webauthn.get", challenge: challenge, origin: k.origin, rpID: k.rpID, flags: 0x05, count: k.count}
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
