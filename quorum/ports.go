// Package quorum keeps the operators and their signed approvals: one person can stop, two must agree to start.
//
// Invariant: an approval is a signature by a key file or a security key of an operator in office over the digest of exactly
// what was shown; one operator counts once; nothing is executed before the quorum stands, and nothing twice. Before it
// executes it judges the signatures again: a row that says approved is worth nothing.
//
// Refuses: an approval of anything but an open request, by a removed operator, by the same key twice; a request that says
// approved and is not signed, with an alarm; to remove operators below the number that a quorum needs.
package quorum

import (
	"context"
	"time"

	"bulkhead"
)

// Store is the durable record as the quorum needs it.
type Store interface {
	Reads
	Writes
}

// Reads change nothing.
type Reads interface {
	Operators(ctx context.Context) ([]bulkhead.Operator, error)
	// OperatorRequests returns the requests that changed operators and are approved or executed, oldest first, all of them.
	OperatorRequests(ctx context.Context) ([]bulkhead.ApprovalRequest, error)
	// SecurityKeys returns every security key, those taken away included.
	SecurityKeys(ctx context.Context) ([]bulkhead.SecurityKey, error)
	// Request returns a request with its approvals; KindNotFound when there is none.
	Request(ctx context.Context, id string) (bulkhead.ApprovalRequest, error)
	Requests(ctx context.Context, limit int, states ...bulkhead.RequestState) ([]bulkhead.ApprovalRequest, error)
}

// Writes are apart so that a rehearsal has to say of each what becomes of it.
type Writes interface {
	// PutOperator inserts or replaces by name.
	PutOperator(ctx context.Context, o bulkhead.Operator, ev ...bulkhead.Evidence) error
	// PutSecurityKey inserts or replaces by id.
	PutSecurityKey(ctx context.Context, k bulkhead.SecurityKey, ev ...bulkhead.Evidence) error
	// UseSecurityKey moves the counter of a key that counts; KindConflict when it does not go forward (a copy of the key was
	// used), unless both are 0, and KindNotFound for a key that is not there or was taken away.
	UseSecurityKey(ctx context.Context, id []byte, count uint32, at time.Time) error
	// ReviewOperator records that somebody confirmed an operator.
	ReviewOperator(ctx context.Context, name string, at time.Time, ev ...bulkhead.Evidence) error
	CreateRequest(ctx context.Context, r bulkhead.ApprovalRequest, ev ...bulkhead.Evidence) error
	// AddApproval inserts; KindConflict when the operator approved this request before.
	AddApproval(ctx context.Context, a bulkhead.Approval, ev ...bulkhead.Evidence) error
	// MoveRequest changes the state if it is still expect; KindConflict otherwise.
	MoveRequest(ctx context.Context, id string, expect, to bulkhead.RequestState, ev ...bulkhead.Evidence) error
}
