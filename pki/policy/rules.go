package policy

import (
	"time"

	"bulkhead"
)

// ObjectType is the kind of certificate that a deadline or an interval concerns.
type ObjectType string

// Object types.
const (
	Subscriber ObjectType = "subscriber"
	ShortLife  ObjectType = "short-lived" // a subscriber certificate within ShortLived
	CA         ObjectType = "ca"          // subordinate and cross-certificates
)

// MaxValidity is the longest validity of a TLS server certificate issued at t; 0 before the first row. Validity counts
// both its ends (RFC 5280 section 4.1.2.5): use Validity, or notAfter - notBefore + 1 s.
func MaxValidity(t time.Time) time.Duration { return value(ValidityMax, t).Duration }

// MailValidity is the longest validity of a strict S/MIME certificate issued at t; 0 before the first row.
func MailValidity(t time.Time) time.Duration { return value(MailValidityMax, t).Duration }

// Validity is the length of a validity period that includes both its ends (RFC 5280 section 4.1.2.5).
func Validity(notBefore, notAfter time.Time) time.Duration {
	return notAfter.Sub(notBefore) + time.Second
}

// DCVReuse is how long a validation of a name or address may be reused for a certificate issued at t.
func DCVReuse(t time.Time) time.Duration { return value(DCVReuseMax, t).Duration }

// CAAReuse is how long a CAA answer with this TTL may be relied on at t: the TTL or the row's hours, whichever is
// greater (BR 3.2.2.8).
func CAAReuse(ttl time.Duration, t time.Time) time.Duration {
	return max(ttl, value(CAAReuseMin, t).Duration)
}

// ShortLived is the longest validity, both ends included, that makes a certificate issued at t short-lived; 0 while
// there was no such thing.
func ShortLived(t time.Time) time.Duration { return value(ShortLivedMax, t).Duration }

// TypeOf tells whether a subscriber certificate with these dates is short-lived.
func TypeOf(notBefore, notAfter time.Time) ObjectType {
	if Validity(notBefore, notAfter) <= ShortLived(notBefore) {
		return ShortLife
	}
	return Subscriber
}

// OCSPWindow is the shortest and longest validity of an OCSP answer for a subscriber certificate at t, both ends
// included (BR 4.9.9).
func OCSPWindow(t time.Time) (shortest, longest time.Duration) {
	return value(OCSPMin, t).Duration, value(OCSPMax, t).Duration
}

// RefreshBefore says how long after thisUpdate the next OCSP answer must be available at the latest, for answers of
// this interval (nextUpdate - thisUpdate) at t (BR 4.9.9, UPD-S and UPD-L). It is not positive for an interval that no
// answer may have.
func RefreshBefore(interval time.Duration, t time.Time) time.Duration {
	if interval < value(OCSPShort, t).Duration {
		if by := value(OCSPShortDivisor, t).Count; by > 0 {
			return interval - interval/time.Duration(by)
		}
		return 0
	}
	return min(interval-value(OCSPLongBefore, t).Duration, value(OCSPLongAfter, t).Duration)
}

// CRLMaxInterval says when the next CRL must be published at the latest, after one published at t. allHaveOCSP says
// that every unexpired certificate in its scope points to OCSP (BR 4.9.7). A revocation shortens it (CRL-REV).
func CRLMaxInterval(of ObjectType, allHaveOCSP bool, t time.Time) time.Time {
	switch {
	case of == CA:
		return value(CRLCA, t).After(t)
	case allHaveOCSP:
		return value(CRLLeafOCSP, t).After(t)
	default:
		if r, ok := At(CRLLeaf, t); ok {
			return r.Value.After(t)
		}
		return value(CRLLeafOCSP, t).After(t)
	}
}

// CRLMaxNextUpdate is the last nextUpdate that a CRL with this thisUpdate may have. Both ends count, so it lies one
// second inside the row's span (BR 7.2).
func CRLMaxNextUpdate(of ObjectType, thisUpdate time.Time) time.Time {
	id := CRLNext
	if of == CA {
		id = CRLCA
	}
	return value(id, thisUpdate).After(thisUpdate).Add(-time.Second)
}

// Perspectives is what multi-perspective corroboration asks for at one time (BR 3.2.2.9).
type Perspectives struct {
	Remote   int  // remote perspectives that take part, at least; 0 when none are asked for
	RIRs     int  // regional registries of the corroborating ones, at least; 0 when not asked for
	Enforced bool // false: record failures and go on
}

// MPIC returns what is asked for at t.
func MPIC(t time.Time) Perspectives {
	return Perspectives{
		Remote:   value(MPICPerspectives, t).Count,
		RIRs:     value(MPICRIRs, t).Count,
		Enforced: value(MPICEnforced, t).Count == 1,
	}
}

// MayDiffer is how many of n remote perspectives may fail to corroborate (BR 3.2.2.9, table "quorum"): none below 2,
// one for 2 to 5, two from 6 on.
func (p Perspectives) MayDiffer(n int) int {
	switch {
	case n < 2:
		return 0
	case n < 6:
		return 1
	default:
		return 2
	}
}

// Enough reports whether issuance may go on after ok of n remote perspectives, lying in rirs registries, corroborated.
func (p Perspectives) Enough(ok, n, rirs int) bool {
	if !p.Enforced {
		return true
	}
	return n >= p.Remote && rirs >= p.RIRs && ok >= n-p.MayDiffer(n)
}

// CRLReasonAllowed reports whether a certificate of this type may be revoked with this reason at t (BR 7.2.2,
// 4.9.13). Unspecified is allowed for subscribers, and is then left out of the entry; a CA certificate must state one.
func CRLReasonAllowed(of ObjectType, r bulkhead.Reason, t time.Time) bool {
	if r == bulkhead.CertificateHold && value(Suspension, t).Count == 0 {
		return false
	}
	if of != CA {
		return r.AllowedForLeaf()
	}
	switch r {
	case bulkhead.KeyCompromise, bulkhead.CACompromise, bulkhead.AffiliationChanged, bulkhead.Superseded,
		bulkhead.CessationOfOperation, bulkhead.PrivilegeWithdrawn:
		return true
	default:
		return false
	}
}
