package bulkhead

import "strings"

// Reason is a CRLReason code (RFC 5280 section 5.3.1).
type Reason int

// Reason codes. 7 does not exist.
const (
	Unspecified          Reason = 0
	KeyCompromise        Reason = 1
	CACompromise         Reason = 2
	AffiliationChanged   Reason = 3
	Superseded           Reason = 4
	CessationOfOperation Reason = 5
	CertificateHold      Reason = 6
	RemoveFromCRL        Reason = 8
	PrivilegeWithdrawn   Reason = 9
	AACompromise         Reason = 10
)

var reasonNames = map[Reason]string{
	Unspecified: "unspecified", KeyCompromise: "keyCompromise", CACompromise: "cACompromise",
	AffiliationChanged: "affiliationChanged", Superseded: "superseded", CessationOfOperation: "cessationOfOperation",
	CertificateHold: "certificateHold", RemoveFromCRL: "removeFromCRL", PrivilegeWithdrawn: "privilegeWithdrawn",
	AACompromise: "aACompromise",
}

// String is the RFC 5280 name.
func (r Reason) String() string {
	if n, ok := reasonNames[r]; ok {
		return n
	}
	return "unknown"
}

// AllowedForLeaf reports whether a subscriber certificate may be revoked for this reason (BR 7.2.2).
func (r Reason) AllowedForLeaf() bool {
	switch r {
	case Unspecified, KeyCompromise, AffiliationChanged, Superseded, CessationOfOperation, PrivilegeWithdrawn:
		return true
	default:
		return false
	}
}

// ParseReason reads an RFC 5280 name (any case) or a number. It fails with KindBadRevocationReason.
func ParseReason(text string) (Reason, error) {
	t := strings.ToLower(strings.TrimSpace(text))
	for r, n := range reasonNames {
		if strings.ToLower(n) == t || t == itoa(int(r)) {
			return r, nil
		}
	}
	return 0, Faultf(KindBadRevocationReason, "%q is not a revocation reason", text).
		WithHint("use one of: unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn")
}

func itoa(n int) string {
	if n >= 10 {
		return string(rune('0'+n/10)) + string(rune('0'+n%10))
	}
	return string(rune('0' + n))
}

// InAnswer is the reason that an OCSP answer gives for a revocation with this one: certificateHold, which a foreign authority may say,
// must not stand in one (BR 7.3), so the answer is revoked without a reason.
func (r Reason) InAnswer() Reason {
	if r == CertificateHold {
		return Unspecified
	}
	return r
}
