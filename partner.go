package bulkhead

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// PartnerState is the life of a registration partner.
type PartnerState string

// Partner states.
const (
	PartnerActive    PartnerState = "active"
	PartnerSuspended PartnerState = "suspended" // its credentials are dead and a stop covers its customers
)

// Partner is a registration partner: an organisation (registration authority, reseller) that brings customers. It never
// vouches for a name: the house validates each itself. What it may do is bounded here, and the signer holds the bounds
// from the record, whoever asks.
type Partner struct {
	ID        string
	Title     string
	State     PartnerState
	Scope     PartnerScope
	CreatedAt time.Time
}

// PartnerScope bounds a partner. The zero value permits nothing but what has no bound: empty Names and Profiles permit
// none.
type PartnerScope struct {
	Names    []string // suffixes: "example.com" is itself and everything below it; "*" is every name
	Profiles []string
	PerHour  int // certificates in one hour of the clock, UTC; 0 permits none
	PerDay   int // certificates in one day of the calendar, UTC
	From, To int // minutes since midnight, UTC, between which it may order; equal means at any time
}

// HeldScope is what the signer holds a registration partner to. Its memory of it outlives the process, so that what one person
// made narrower stays so.
type HeldScope struct {
	Partner string
	Scope   PartnerScope
	Signed  string // the request of two people under which it was believed; "" for none
	At      time.Time
}

// Check refuses a scope that cannot be meant.
func (s PartnerScope) Check() error {
	bad := func(format string, args ...any) error {
		return Faultf(KindUsage, format, args...).WithHint("bulkhead partner add ID --names example.com,example.net --profiles tls-server --per-hour 20 --per-day 100 --hours 08:00-18:00")
	}
	for _, n := range s.Names {
		if n == "*" {
			continue
		}
		id := Identifier{Type: DNS, Value: n}
		if err := id.Check(); err != nil || id.Wildcard() {
			return bad("%q is no suffix of names", n)
		}
	}
	switch {
	case len(s.Names) == 0 || len(s.Profiles) == 0:
		return bad("a partner needs names and profiles that it may order")
	case s.PerHour < 1 || s.PerDay < s.PerHour:
		return bad("%d certificates an hour and %d a day bound nothing: at least one an hour, and no fewer a day", s.PerHour, s.PerDay)
	case s.From < 0 || s.To < 0 || s.From >= 24*60 || s.To >= 24*60:
		return bad("hours are times of the day")
	}
	return nil
}

// Within reports whether s permits nothing that o does not.
func (s PartnerScope) Within(o PartnerScope) bool {
	for _, n := range s.Names {
		if n == "*" && !slices.Contains(o.Names, "*") || n != "*" && !WithinSuffixes(o.Names, Identifier{Type: DNS, Value: n}) {
			return false
		}
	}
	for _, p := range s.Profiles {
		if !slices.Contains(o.Profiles, p) {
			return false
		}
	}
	if s.PerHour > o.PerHour || s.PerDay > o.PerDay {
		return false
	}
	for m := range 24 * 60 {
		if s.open(m) && !o.open(m) {
			return false
		}
	}
	return true
}

// open reports whether the partner may order at a minute of the day.
func (s PartnerScope) open(m int) bool {
	switch {
	case s.From == s.To:
		return true
	case s.From < s.To:
		return m >= s.From && m < s.To
	default: // over midnight
		return m >= s.From || m < s.To
	}
}

// Hours is the part of the day as people write it, "any time" where there is no bound.
func (s PartnerScope) Hours() string {
	if s.From == s.To {
		return "any time"
	}
	return fmt.Sprintf("%02d:%02d-%02d:%02d", s.From/60, s.From%60, s.To/60, s.To%60)
}

// Permits judges one order: KindForbidden for a profile or an hour, KindRejectedIdentifier for names, KindStopped while
// the partner is suspended; nil when all is within bounds. Volume is counted where the certificate is reserved.
func (p Partner) Permits(profile string, names []Identifier, at time.Time) error {
	if p.State != PartnerActive {
		return Faultf(KindStopped, "registration partner %s is suspended", p.ID).WithHint("ask the partner, or the house").WithRetry(stopRetry)
	}
	if !slices.Contains(p.Scope.Profiles, profile) {
		return Faultf(KindForbidden, "registration partner %s does not bring orders of profile %s", p.ID, profile).WithHint("choose another profile, or ask the partner")
	}
	var subs []SubFault
	for _, n := range names {
		if !WithinSuffixes(p.Scope.Names, n) {
			subs = append(subs, SubFault{Identifier: n, Kind: KindRejectedIdentifier, Detail: "outside the names of registration partner " + p.ID})
		}
	}
	if len(subs) > 0 {
		f := Faultf(KindRejectedIdentifier, "%s: %s", subs[0].Identifier.Value, subs[0].Detail).WithHint("order this name elsewhere, or ask the partner to have its scope widened")
		f.Subs = subs
		return f
	}
	if at = at.UTC(); !p.Scope.open(at.Hour()*60 + at.Minute()) {
		return Faultf(KindForbidden, "registration partner %s brings orders between %s UTC only", p.ID, p.Scope.Hours()).WithHint("order again in these hours")
	}
	return nil
}

// WithinSuffixes reports whether a name, for a wildcard the name under it and for a mailbox its host, is one of the
// suffixes or below one. "*" holds every name; an address is held by "*" only.
func WithinSuffixes(suffixes []string, id Identifier) bool {
	name := id.Base().Value
	if id.Type == Email {
		name = name[strings.LastIndexByte(name, '@')+1:]
	}
	name = strings.ToLower(name)
	for _, s := range suffixes {
		if s == "*" || id.Type != IP && (name == s || strings.HasSuffix(name, "."+s)) {
			return true
		}
	}
	return false
}

// PartnerPerson is somebody at a partner, known by a token.
type PartnerPerson struct {
	Partner   string
	Name      string
	TokenHash Hash
	CreatedAt time.Time
	RevokedAt time.Time // zero while the token is good
}

// Actor is how evidence names the person.
func (p PartnerPerson) Actor() string { return "partner:" + p.Partner + "/" + p.Name }

// PartnerUse is what a partner's customers reserved in one hour of the clock.
type PartnerUse struct {
	Hour time.Time
	Used int
}

// Volume asks a reservation to count against a partner, in the transaction that makes it.
type Volume struct {
	Partner         string
	At              time.Time
	PerHour, PerDay int
}

// SecondApproval is the word of a second person for an order of a name on the high-value list.
type SecondApproval struct {
	OrderID   string
	Actor     string // who approved: "request:ID", or "partner:ID/NAME"
	Signature []byte // of a person at a partner; a request has those under it
	At        time.Time
}

// SecondWord reports whether somebody approved an order who is neither the account nor the one who made the account.
func SecondWord(a Account, words []SecondApproval) bool {
	return slices.ContainsFunc(words, func(w SecondApproval) bool {
		return w.Actor != "" && w.Actor != a.Creator && w.Actor != "account:"+a.ID
	})
}
