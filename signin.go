package bulkhead

import "time"

// Session is a person who signed in with a browser. What it may do is bounded by the operator's roles and by those that the
// sign-in gave; it approves nothing.
type Session struct {
	TokenHash Hash // SHA-256 of the cookie
	Operator  string
	Method    string   // "security-key" or "oidc"
	Subject   string   // who it is to the identity provider; "" for a security key
	Roles     []string // those of the sign-in, none for the operator's own
	BeganAt   time.Time
	ExpiresAt time.Time
	EndedAt   time.Time // zero unless it was ended before
}

// Invitation lets one person register a security key, once. An operator in office makes it; a quorum decides about the key.
type Invitation struct {
	TokenHash Hash // SHA-256 of what is in the link
	Operator  string
	Roles     []string // of somebody who is no operator yet
	Inviter   string
	CreatedAt time.Time
	ExpiresAt time.Time
	UsedAt    time.Time
}

// SignInStep is what a sign-in that is under way has to remember: it is taken once.
type SignInStep struct {
	ID        Hash
	Kind      string
	Body      []byte
	ExpiresAt time.Time
}
