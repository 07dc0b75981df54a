package bulkhead

import (
	"regexp"
	"time"
)

// AuthorityID names an authority in URLs, files and commands: a slug of a-z, 0-9 and "-", at most 40 characters.
type AuthorityID string

var slug = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)

// Check verifies the slug.
func (id AuthorityID) Check() error {
	if !slug.MatchString(string(id)) {
		return Faultf(KindMalformed, "%q is not an authority name", string(id)).WithHint("use lower-case letters, digits and '-', for example issuing-p256")
	}
	return nil
}

// AuthorityKind says what an authority is for.
type AuthorityKind string

// Authority kinds. An infrastructure authority signs only the product's own listeners and roles.
const (
	RootAuthority           AuthorityKind = "root"
	IssuingAuthority        AuthorityKind = "issuing"
	InfrastructureAuthority AuthorityKind = "infrastructure"
)

// AuthorityState is the life of an authority.
type AuthorityState string

// Authority states. A retired authority issues nothing new and goes on answering for what it issued: rotation never
// orphans a CRL or an OCSP answer.
const (
	AuthorityPending AuthorityState = "pending" // key made, CSR out, certificate not yet in
	AuthorityActive  AuthorityState = "active"
	AuthorityRetired AuthorityState = "retired"
	AuthorityRevoked AuthorityState = "revoked"
)

// Authority is a name and a key (RFC 5280: the pair that a certificate's issuer is). Certificates are edges towards
// it: the primary one is here, cross-certificates are ordinary rows under the authority that issued them.
type Authority struct {
	ID          AuthorityID
	Kind        AuthorityKind
	State       AuthorityState
	Parent      AuthorityID // "" for a root, and for an authority under a foreign root
	Subject     []byte      // raw DER Name
	SPKI        []byte      // raw DER SubjectPublicKeyInfo
	Certificate []byte      // DER; nil while pending
	Chain       [][]byte    // DER certificates above it, nearest first, the root last
	CSR         []byte      // DER; only while pending
	KeyURI      string      // how the signer finds the key; "" when the key is offline
	Shards      int         // number of CRL shards for new certificates; may grow
	Successor   AuthorityID // set when rotated
	CreatedAt   time.Time
}

// CanIssue reports whether new certificates may be signed.
func (a Authority) CanIssue() bool { return a.State == AuthorityActive && a.KeyURI != "" }

// Answers reports whether the authority owes the world CRLs and OCSP answers.
func (a Authority) Answers() bool { return a.State == AuthorityActive || a.State == AuthorityRetired }

// Prepared is an object that a ceremony signed in advance for an authority whose key is offline: its CRLs and the
// OCSP delegates for its children. Published in order as each becomes due.
type Prepared struct {
	Authority  AuthorityID
	Kind       PreparedKind
	NotBefore  time.Time // thisUpdate of a CRL, notBefore of a delegate
	NotAfter   time.Time
	DER        []byte
	KeyURI     string // delegates only
	CRLNumber  int64  // CRLs only
	Change     string // CRLs only: the change that they carry; they go public with it and not before
	ImportedAt time.Time
}

// PreparedKind is what a prepared object is.
type PreparedKind string

// Prepared kinds.
const (
	PreparedCRL      PreparedKind = "crl"
	PreparedDelegate PreparedKind = "ocsp-delegate"
)
