package bulkhead

import "time"

// Operator is a person (or a device a person holds) whose signature counts in a quorum.
type Operator struct {
	Name      string
	PublicKey []byte // Ed25519, 32 bytes
	Roles     []string
	AddedAt   time.Time
	RemovedAt time.Time // zero while in office
	// ReviewedAt is when somebody else last confirmed that the person should still be an operator; zero for never.
	ReviewedAt time.Time
}

// KeyHash identifies the operator's key in evidence.
func (o Operator) KeyHash() Hash { return Digest(o.PublicKey) }

// RequestState is the life of a request that needs approvals.
type RequestState string

// Request states.
const (
	RequestOpen     RequestState = "open"
	RequestApproved RequestState = "approved" // the quorum stands; not yet executed
	RequestExecuted RequestState = "executed"
	RequestRefused  RequestState = "refused"
)

// ApprovalRequest is an action that waits for signatures. Digest is over Action and Payload, so an approval is for
// exactly what was shown.
type ApprovalRequest struct {
	ID        string
	Action    string // "operator.add", "change.activate", …
	Payload   []byte // JSON
	Digest    Hash
	Needed    int
	State     RequestState
	Actor     string
	Reason    string
	CreatedAt time.Time
	ExpiresAt time.Time
	Approvals []Approval
}

// Approval is one operator's signature over an approval statement (quorum documents the bytes).
type Approval struct {
	RequestID string
	Operator  string
	KeyHash   Hash
	Signature []byte
	At        time.Time
}

// SecurityKey is a WebAuthn credential that a quorum bound to an operator: its signatures count like those of the key file.
type SecurityKey struct {
	ID        []byte // credential id
	Operator  string
	PublicKey []byte // DER SubjectPublicKeyInfo
	COSE      []byte // the same as the authenticator gave it
	RPID      string // relying party: the host's name
	Origin    string // where it was registered
	Label     string
	AAGUID    []byte // model, as the authenticator says
	SignCount uint32 // the highest counter seen; 0 for a key that keeps none
	AddedAt   time.Time
	RemovedAt time.Time // zero while it counts
	UsedAt    time.Time // zero for never
}

// KeyHash identifies the key in evidence.
func (k SecurityKey) KeyHash() Hash { return Digest(k.PublicKey) }
