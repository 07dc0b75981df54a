package bulkhead

// SightedReason is what a certificate that was found elsewhere is to the house.
type SightedReason string

// Sighted reasons.
const (
	SightedKnown      SightedReason = "known"      // the record has it
	SightedUnknown    SightedReason = "unknown"    // our key signed it, and the record does not have it: D2
	SightedForeign    SightedReason = "foreign"    // not signed by a key of ours
	SightedUnreadable SightedReason = "unreadable" // no certificate
)
