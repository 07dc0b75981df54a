package bulkhead

import "time"

// AccountState is the life of an account (RFC 8555 section 7.1.6).
type AccountState string

// Account states.
const (
	AccountValid       AccountState = "valid"
	AccountDeactivated AccountState = "deactivated" // by its owner
	AccountRevoked     AccountState = "revoked"     // by us
	AccountSuspended   AccountState = "suspended"   // by us, until two people lift it
)

// Account is whoever may order: an ACME key holder, or an API client with a token.
type Account struct {
	ID         string
	State      AccountState
	Thumbprint string // RFC 7638, base64url; "" for API accounts
	JWK        []byte // JSON public key; nil for API accounts
	TokenHash  Hash   // SHA-256 of the API token; zero for ACME accounts
	Contacts   []string
	TermsAt    time.Time // when terms of service were agreed; zero if never
	Operator   bool      // orders as the house itself
	Partner    string    // the registration partner that brought it; "" for none
	Creator    string    // who made it, as in evidence; "" when it made itself
	RollDue    time.Time // since when its ACME key must be changed before it orders; zero: need not
	CreatedAt  time.Time
}

// MayOrder refuses an account whose key has to be changed first (RFC 8555 section 7.3.5): KindUserActionRequired.
func (a Account) MayOrder() error {
	if a.RollDue.IsZero() {
		return nil
	}
	return NewFault(KindUserActionRequired, "the account's key must be changed before it orders, since "+a.RollDue.UTC().Format(time.RFC3339)).
		WithHint("change the key of the ACME account (RFC 8555 section 7.3.5), then order again")
}

// OrderState is the life of an order (RFC 8555 section 7.1.6).
type OrderState string

// Order states.
const (
	OrderPending    OrderState = "pending"
	OrderReady      OrderState = "ready"
	OrderProcessing OrderState = "processing"
	OrderValid      OrderState = "valid"
	OrderInvalid    OrderState = "invalid"
)

// Order asks for one certificate.
type Order struct {
	ID              string
	AccountID       string
	State           OrderState
	Identifiers     []Identifier
	Profile         string
	Authority       AuthorityID
	Authorizations  []string
	CSR             []byte // DER, from finalize on
	Certificate     CertificateRef
	Replaces        CertificateRef
	Problem         *Fault
	ExpiresAt       time.Time
	CreatedAt       time.Time
	ProcessingSince time.Time
}

// AuthorizationState is the life of an authorisation (RFC 8555 section 7.1.6).
type AuthorizationState string

// Authorisation states.
const (
	AuthorizationPending     AuthorizationState = "pending"
	AuthorizationValid       AuthorizationState = "valid"
	AuthorizationInvalid     AuthorizationState = "invalid"
	AuthorizationDeactivated AuthorizationState = "deactivated"
	AuthorizationExpired     AuthorizationState = "expired"
	AuthorizationRevoked     AuthorizationState = "revoked"
)

// Method is how control over a name was shown.
type Method string

// Validation methods. OperatorApproval is a person's word for a private name and stands as such in evidence.
const (
	HTTP01           Method = "http-01"
	DNS01            Method = "dns-01"
	TLSALPN01        Method = "tls-alpn-01"
	OperatorApproval Method = "operator-approval"
)

// Authorization is an account's claim to one identifier, with its challenges.
type Authorization struct {
	ID         string
	AccountID  string
	Identifier Identifier // without the wildcard label
	Wildcard   bool
	State      AuthorizationState
	Challenges []Challenge
	ExpiresAt  time.Time
	CreatedAt  time.Time
}

// ChallengeState is the life of a challenge (RFC 8555 section 7.1.6).
type ChallengeState string

// Challenge states.
const (
	ChallengePending    ChallengeState = "pending"
	ChallengeProcessing ChallengeState = "processing"
	ChallengeValid      ChallengeState = "valid"
	ChallengeInvalid    ChallengeState = "invalid"
)

// Challenge is one way to show control.
type Challenge struct {
	ID          string
	Method      Method
	Token       string
	State       ChallengeState
	ValidatedAt time.Time
	Problem     *Fault
}

// Validation is the evidence that an account controlled a name at a time. Kept as a row for ever: "who was checked
// when, and how" must be a query.
type Validation struct {
	ID              string
	AuthorizationID string
	AccountID       string
	Identifier      Identifier
	Wildcard        bool
	Method          Method
	At              time.Time
	ReuseUntil      time.Time
	Detail          string // what was seen: address dialled, redirects, record; never a secret
}

// CAAResult is what a CAA check allows.
type CAAResult string

// CAA results (RFC 8659 section 3).
const (
	CAAPermitted CAAResult = "permitted"
	CAADenied    CAAResult = "denied"
	CAAExempt    CAAResult = "exempt" // a private name of our own whose zone could not be asked; the detail says why
)

// CAACheck is one look at CAA for one name of one order.
type CAACheck struct {
	OrderID    string
	Identifier Identifier
	At         time.Time
	ValidUntil time.Time // within max(TTL, 8 h) of At (RFC 8659, BR 4.2.2.1)
	Result     CAAResult
	Detail     string // domain at which records were found and the records, as text
}

// OrderEvidence is on what an order rests, oldest first: every validation of those of its authorisations that are valid (one
// that was revoked or given up vouches for nothing), and every CAA check made for it.
type OrderEvidence struct {
	Validations []Validation
	Checks      []CAACheck
}

// RenewalInfo is the answer of RFC 9773 for one certificate.
type RenewalInfo struct {
	Start, End     time.Time
	ExplanationURL string
	RetryAfter     time.Duration
}
