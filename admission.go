package bulkhead

import "time"

// ExternalKey lets one new ACME account be made on somebody's word outside ACME (RFC 8555 section 7.3.4). The MAC key
// itself is not here: it is derived from a secret of the house and ID.
type ExternalKey struct {
	ID        string // the kid
	Note      string // for whom, as the operator wrote it
	Actor     string
	AccountID string // the one account bound with it, "" while unused
	Partner   string // whose customer the account becomes; "" for none
	CreatedAt time.Time
	ExpiresAt time.Time // zero: never
	UsedAt    time.Time
	RevokedAt time.Time
}

// AuthorizationFilter selects valid authorisations by the validation under them; zero fields match everything.
type AuthorizationFilter struct {
	Method    Method
	Name      string // exact identifier value without a wildcard label, or a suffix when it begins with "."
	AccountID string
	Since     time.Time // validated at this time or later
	Until     time.Time // validated before this time
	AliveAt   time.Time // not expired at this time
}

// AuthorizationTally says what rests on a selection of authorisations.
type AuthorizationTally struct {
	Authorizations int64
	Accounts       int64
	OpenOrders     int64 // pending, ready or processing
	Certificates   int64 // orders that ended with a certificate
}

// RateCharge asks one limit for one unit of work.
type RateCharge struct {
	Key      string        // what is limited, e.g. "orders/ACCOUNT"
	Interval time.Duration // between two units in the long run; more than 0
	Burst    time.Duration // how much may be used at once: count times Interval
}

// RateRefusal says which limit is used up and when the next unit is free.
type RateRefusal struct {
	Key   string
	Retry time.Duration
}
