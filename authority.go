package bulkhead

import (
	"strings"
	"time"
)

// AuthorityID names an authority in URLs, files and commands: a slug of a-z, 0-9 and "-", at most 40 characters.
type AuthorityID string

// Check verifies the slug: it begins and ends with a letter or digit.
func (id AuthorityID) Check() error {
	foreign := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }
	if s := string(id); s == "" || len(s) > 40 || s != strings.Trim(s, "-") || strings.ContainsFunc(s, foreign) {
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
// orphans a CRL or an OCSP answer. So does a revoked one, because some verifiers do not look at authorities' status. It is
// dead only when its key is destroyed, which waits until nothing is owed that needs the key.
const (
	AuthorityPending AuthorityState = "pending" // key made, CSR out, certificate not yet in
	AuthorityActive  AuthorityState = "active"
	AuthorityRetired AuthorityState = "retired"
	AuthorityRevoked AuthorityState = "revoked"
	// AuthorityDestroyed: the key is gone; CRLs that were signed before go on being published.
	AuthorityDestroyed AuthorityState = "destroyed"
)

var authorityMoves = map[AuthorityState][]AuthorityState{
	AuthorityPending:   {AuthorityActive},
	AuthorityActive:    {AuthorityRetired, AuthorityRevoked},
	AuthorityRetired:   {AuthorityRevoked, AuthorityDestroyed}, // to destroyed for a root only: nobody can revoke it
	AuthorityRevoked:   {AuthorityDestroyed},
	AuthorityDestroyed: {},
	AuthorityForeign:   {AuthorityForeignServed},
}

// CanMove reports whether an authority may go from state s to t.
func (s AuthorityState) CanMove(t AuthorityState) bool {
	for _, x := range authorityMoves[s] {
		if x == t {
			return true
		}
	}
	return false
}

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

// Answers reports whether the authority owes the world CRLs and OCSP answers and has a key to sign them.
func (a Authority) Answers() bool {
	return a.State == AuthorityActive || a.State == AuthorityRetired || a.State == AuthorityRevoked
}

// Served reports whether status is published in the authority's name: signed as it becomes due, or, once the key is gone,
// from what was signed before; for a foreign one, by the delegate that it gave.
func (a Authority) Served() bool {
	return a.Answers() || a.Dead() || a.State == AuthorityForeignServed
}

// Dead reports whether nobody can sign in the authority's name any more: after a revocation, or for a root its end, and the
// destruction of the key.
func (a Authority) Dead() bool { return a.State == AuthorityDestroyed }

// Owed is what an authority owes a status: its certificates that have not ended. OCSP delegates are not among them, no
// client asks about one.
type Owed struct {
	Good, Revoked int64
	Last          time.Time // end of the last one; zero when there is none
}

// AfterTheEnd is how long the status of a certificate is still published after its end: an entry stands on at least one CRL
// that is issued after it (RFC 5280 section 3.3, BR 4.10.1), and those are made at least every 7 days (BR 4.9.7).
const AfterTheEnd = 7 * 24 * time.Hour

// Prepared is an object that was signed in advance for an authority whose key is offline, at a ceremony, or gone, before its
// destruction: its CRLs and the OCSP delegates for its children. Published in order as each becomes due.
type Prepared struct {
	Authority  AuthorityID
	Kind       PreparedKind
	NotBefore  time.Time // thisUpdate of a CRL, notBefore of a delegate
	NotAfter   time.Time
	DER        []byte
	KeyURI     string // delegates only
	CRLNumber  int64  // CRLs only
	Shard      int    // CRLs only
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
