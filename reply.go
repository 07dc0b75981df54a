package bulkhead

import "time"

// Reply is what was answered to a request that carried an idempotency key, or the claim of whoever works on it. One
// key belongs to one asker and to one request; it is remembered until ExpiresAt.
type Reply struct {
	KeyHash    Hash   // over the asker and the key; the key itself is not kept
	Owner      string // the asker, as in evidence: "operator:NAME", "account:ID"
	Request    Hash   // over method, path and body: the same key with another request is refused
	Holder     string // who works on it; random for each attempt
	Status     int    // HTTP status; 0 while under way
	Body       []byte // sealed under the key
	LeaseUntil time.Time
	ExpiresAt  time.Time
}
