package policy

import "time"

// Cause is why a certificate must be revoked, in the order of BR 4.9.1.1 and 4.9.1.2.
type Cause string

// Causes for subscriber certificates within 24 hours (BR 4.9.1.1, items 1 to 5).
const (
	SubscriberAsks       Cause = "subscriber asks"
	RequestNotAuthorised Cause = "request not authorised"
	KeyCompromised       Cause = "key compromised"
	KeyWeak              Cause = "key weak or easily computed"
	ValidationUnreliable Cause = "validation should not be relied on" // CAA done wrong or not permitted included
)

// Causes for subscriber certificates within 5 days (BR 4.9.1.1, items 6 to 16).
const (
	KeyNotAllowed      Cause = "key size or parameters not allowed"
	Misused            Cause = "misused"
	AgreementBreached  Cause = "agreement breached"
	NameNotLawful      Cause = "name no longer lawful"
	WildcardMisleading Cause = "wildcard misleading"
	MaterialChange     Cause = "material change"
	NotAsPolicySays    Cause = "not issued as BR or CPS say"
	Inaccurate         Cause = "information inaccurate"
	RightToIssueEnds   Cause = "right to issue ends"
	CPSDemands         Cause = "CPS demands it"
	MethodExposesKeys  Cause = "a method exposes keys"
)

// Causes for subordinate CA certificates (BR 4.9.1.2). KeyCompromised, KeyNotAllowed, Misused, NotAsPolicySays,
// Inaccurate, RightToIssueEnds, CPSDemands, SubscriberAsks and RequestNotAuthorised apply to them too.
const CeasesOperation Cause = "CA ceases operation"

// Causes24h and Causes5d list the causes for subscriber certificates by deadline; CausesCA those for CA certificates.
func Causes24h() []Cause {
	return []Cause{SubscriberAsks, RequestNotAuthorised, KeyCompromised, KeyWeak, ValidationUnreliable}
}

// Causes5d lists the causes of BR 4.9.1.1 (6-16).
func Causes5d() []Cause {
	return []Cause{KeyNotAllowed, Misused, AgreementBreached, NameNotLawful, WildcardMisleading, MaterialChange,
		NotAsPolicySays, Inaccurate, RightToIssueEnds, CPSDemands, MethodExposesKeys}
}

// CausesCA lists the causes of BR 4.9.1.2.
func CausesCA() []Cause {
	return []Cause{SubscriberAsks, RequestNotAuthorised, KeyCompromised, KeyNotAllowed, Misused, NotAsPolicySays,
		Inaccurate, CeasesOperation, RightToIssueEnds, CPSDemands}
}

// DeadlineRow is the row that sets the deadline for a certificate of this type and cause, known at t. It is false for
// a short-lived certificate, which nobody has a duty to revoke (BR 4.9.1.1). A cause that is not listed for a
// subscriber certificate falls under the 24 hours: better early than wrong.
func DeadlineRow(of ObjectType, cause Cause, t time.Time) (Row, bool) {
	switch of {
	case ShortLife:
		return Row{}, false
	case CA:
		return At(RevokeCA, t)
	}
	for _, c := range Causes5d() {
		if c == cause {
			return At(Revoke5d, t)
		}
	}
	return At(Revoke24h, t)
}
