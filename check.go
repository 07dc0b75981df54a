package bulkhead

import "time"

// CheckResult is what the public analyser saw of one target. Who asked is not in it.
type CheckResult struct {
	Target    string     `json:"target"`
	Host      string     `json:"host"`
	Verdict   Verdict    `json:"verdict"` // the worst of its addresses
	Reason    LookReason `json:"reason"`
	Detail    string     `json:"detail"`
	At        time.Time  `json:"at"`
	ExpiresAt time.Time  `json:"expires_at"` // when the shared page ends
	// Looks has one for each address.
	Looks []CheckedLook `json:"looks"`
}

// CheckedLook is a look with what was found beside its verdict.
type CheckedLook struct {
	Look
	Findings []LookFinding `json:"findings,omitempty"`
	Status   []StatusSeen  `json:"status,omitempty"`
	CAA      *CAASeen      `json:"caa,omitempty"`
}
