package bulkhead

import (
	"slices"
	"time"
)

// StopKind says by what a stop of issuance selects.
type StopKind string

// Stop kinds. StopPartner is a registration partner (registration authority, reseller).
const (
	StopAll     StopKind = "all"
	StopIssuer  StopKind = "issuer"
	StopProfile StopKind = "profile"
	StopPartner StopKind = "partner"
	StopAccount StopKind = "account"
	StopMethod  StopKind = "method"
)

// StopKinds lists every kind.
var StopKinds = []StopKind{StopAll, StopIssuer, StopProfile, StopPartner, StopAccount, StopMethod}

// Stop is a stop of issuance (promise P7): one person makes it, without proof and at once; two agree to end it. It
// concerns subscribers' certificates only: status, revocation, evidence and the house's own certificates go on (P8),
// but a stop of an issuer by name stops also what that issuer signs for the house's listeners.
type Stop struct {
	ID      string
	Kind    StopKind
	Value   string // what the kind selects; "" for StopAll
	Reason  string
	Actor   string
	At      time.Time // whole seconds, UTC
	EndedAt time.Time // zero while in force
	EndedBy string    // the approved request that ended it
	Ending  string    // the reason given for ending it
}

// InForce reports whether the stop still stops.
func (s Stop) InForce() bool { return s.EndedAt.IsZero() }

// Scope is the stop's selection as people write it: "all", "issuer issuing-p256".
func (s Stop) Scope() string {
	if s.Kind == StopAll {
		return string(StopAll)
	}
	return string(s.Kind) + " " + s.Value
}

// Check refuses a stop that selects nothing, or more than one kind of thing. Whether what it names exists is not
// asked: a stop must never fail for a slip that could be mended later by a wider one.
func (s Stop) Check() error {
	const hint = "bulkhead issuance stop --all --reason TEXT, or one of --issuer, --profile, --ra, --account, --method"
	switch {
	case !slices.Contains(StopKinds, s.Kind):
		return Faultf(KindUsage, "a stop has one scope, and %q is none", s.Kind).WithHint(hint)
	case (s.Kind == StopAll) != (s.Value == ""):
		return Faultf(KindUsage, "a stop of kind %s and value %q says not what to stop", s.Kind, s.Value).WithHint(hint)
	case s.Kind == StopMethod && !slices.Contains([]Method{HTTP01, DNS01, TLSALPN01, OperatorApproval}, Method(s.Value)):
		return Faultf(KindUsage, "there is no validation method %q", s.Value).WithHint("use http-01, dns-01, tls-alpn-01 or operator-approval")
	}
	return nil
}

// StopSubject is what a certificate, or a step towards one, would rest on. Empty fields are not known yet and are
// matched by nothing.
type StopSubject struct {
	Issuer  AuthorityID
	Profile string
	Partner string
	Account string
	Methods []Method
}

// Covers reports whether the stop is in force and stops the subject.
func (s Stop) Covers(x StopSubject) bool {
	if !s.InForce() {
		return false
	}
	switch s.Kind {
	case StopAll:
		return true
	case StopIssuer:
		return s.Value == string(x.Issuer)
	case StopProfile:
		return s.Value == x.Profile
	case StopPartner:
		return s.Value == x.Partner
	case StopAccount:
		return s.Value == x.Account
	case StopMethod:
		return slices.Contains(x.Methods, Method(s.Value))
	}
	return true // a kind that this version does not know stops everything rather than nothing
}

// Stops are those in force, oldest first.
type Stops []Stop

// stopRetry is what clients are told: when issuance resumes is for two people to decide, so an hour is an upper bound
// on the noise of asking and not a promise.
const stopRetry = time.Hour

// Refuse returns KindStopped when a stop covers the subject, nil otherwise. The reason stays inside: it is for the
// record, and the asker is told what is stopped and when to ask again.
func (l Stops) Refuse(x StopSubject) error {
	for _, s := range l {
		if s.Covers(x) {
			return s.Fault()
		}
	}
	return nil
}

// Fault is the refusal of a stop.
func (s Stop) Fault() *Fault {
	what := "issuance is stopped"
	switch s.Kind {
	case StopAll:
	case StopAccount:
		what = "issuance is stopped for this account"
	case StopPartner:
		what = "issuance is stopped for this registration partner"
	default:
		what = "issuance is stopped for " + s.Scope()
	}
	return NewFault(KindStopped, what+" since "+s.At.UTC().Format(time.RFC3339)+"; status and revocation go on").
		WithHint("ask again later; operators see: bulkhead issuance status").WithRetry(stopRetry)
}

// Method reports whether a validation method is stopped as such.
func (l Stops) Method(m Method) bool {
	for _, s := range l {
		if s.Kind == StopMethod && s.InForce() && s.Value == string(m) {
			return true
		}
	}
	return false
}

// Of selects those of a kind.
func (l Stops) Of(k StopKind) Stops {
	var out Stops
	for _, s := range l {
		if s.Kind == k {
			out = append(out, s)
		}
	}
	return out
}

// Standing is what the record says of an account at one moment: the row, its partner, and the stops in force.
type Standing struct {
	Account Account // zero ID when there is no such account
	Partner *Partner
	Stops   Stops
}

// Compromise is a key that was reported as compromised, and what became of the certificates that hold it (promise P10,
// BR 4.9.1.1). The block is committed with it; the revocations follow until none is left.
type Compromise struct {
	KeyHash   Hash
	Actor     string
	Reason    string
	At        time.Time
	Revoked   int       // certificates revoked for it so far
	Changes   []string  // the changes of status that carried them, oldest first
	SettledAt time.Time // when no certificate in force held the key any more; zero before
}
