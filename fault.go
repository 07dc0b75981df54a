package bulkhead

import (
	"errors"
	"fmt"
	"time"
)

// Kind is the closed set of reasons for which the product says no. Each surface (ACME problem, problem+json, OCSP
// error, exit code, metric label) maps every kind exactly once; a test walks Kinds to prove it.
type Kind string

// The kinds. The ACME names follow RFC 8555 section 6.7, RFC 9773 section 7 and the profiles draft.
const (
	KindMalformed               Kind = "malformed"
	KindUsage                   Kind = "usage"
	KindUnauthorized            Kind = "unauthorized" // who are you
	KindForbidden               Kind = "forbidden"    // we know you, and no
	KindNotFound                Kind = "notFound"
	KindConflict                Kind = "conflict" // the world moved: expected state differs
	KindGate                    Kind = "gate"     // refused by a safety gate
	KindStopped                 Kind = "stopped"  // issuance is stopped
	KindRateLimited             Kind = "rateLimited"
	KindUnavailable             Kind = "unavailable" // a part we need is away; try again
	KindInternal                Kind = "internal"
	KindAccountDoesNotExist     Kind = "accountDoesNotExist"
	KindAlreadyReplaced         Kind = "alreadyReplaced"
	KindAlreadyRevoked          Kind = "alreadyRevoked"
	KindBadCSR                  Kind = "badCSR"
	KindBadNonce                Kind = "badNonce"
	KindBadPublicKey            Kind = "badPublicKey"
	KindBadRevocationReason     Kind = "badRevocationReason"
	KindBadSignatureAlgorithm   Kind = "badSignatureAlgorithm"
	KindCAA                     Kind = "caa"
	KindCompound                Kind = "compound"
	KindConnection              Kind = "connection"
	KindDNS                     Kind = "dns"
	KindExternalAccountRequired Kind = "externalAccountRequired"
	KindIncorrectResponse       Kind = "incorrectResponse"
	KindInvalidContact          Kind = "invalidContact"
	KindInvalidProfile          Kind = "invalidProfile"
	KindOrderNotReady           Kind = "orderNotReady"
	KindRejectedIdentifier      Kind = "rejectedIdentifier"
	KindTLS                     Kind = "tls"
	KindUnsupportedContact      Kind = "unsupportedContact"
	KindUnsupportedIdentifier   Kind = "unsupportedIdentifier"
	KindUserActionRequired      Kind = "userActionRequired"
)

// Kinds lists every kind, so that a surface's mapping can be proved complete.
var Kinds = []Kind{
	KindMalformed, KindUsage, KindUnauthorized, KindForbidden, KindNotFound, KindConflict, KindGate, KindStopped,
	KindRateLimited, KindUnavailable, KindInternal, KindAccountDoesNotExist, KindAlreadyReplaced, KindAlreadyRevoked,
	KindBadCSR, KindBadNonce, KindBadPublicKey, KindBadRevocationReason, KindBadSignatureAlgorithm, KindCAA,
	KindCompound, KindConnection, KindDNS, KindExternalAccountRequired, KindIncorrectResponse, KindInvalidContact,
	KindInvalidProfile, KindOrderNotReady, KindRejectedIdentifier, KindTLS, KindUnsupportedContact,
	KindUnsupportedIdentifier, KindUserActionRequired,
}

// Fault is the one error type at a boundary. Detail is safe to show to the person who asked; Hint is the next
// command or step; the wrapped cause is for the log only.
type Fault struct {
	Kind       Kind
	Detail     string
	Hint       string        // the next thing to type or do, empty when there is none
	Subs       []SubFault    // per identifier (RFC 8555 section 6.7.1)
	RetryAfter time.Duration // 0 when retrying will not help
	cause      error
}

// SubFault is the part of a fault that concerns one identifier.
type SubFault struct {
	Identifier Identifier
	Kind       Kind
	Detail     string
}

// NewFault makes a fault with a detail that the asker may read.
func NewFault(k Kind, detail string) *Fault { return &Fault{Kind: k, Detail: detail} }

// Faultf is NewFault with formatting.
func Faultf(k Kind, format string, args ...any) *Fault {
	return &Fault{Kind: k, Detail: fmt.Sprintf(format, args...)}
}

// WithHint adds the next step and returns f.
func (f *Fault) WithHint(hint string) *Fault { f.Hint = hint; return f }

// WithCause adds the underlying error, for the log, and returns f.
func (f *Fault) WithCause(err error) *Fault { f.cause = err; return f }

// WithRetry says when trying again makes sense and returns f.
func (f *Fault) WithRetry(d time.Duration) *Fault { f.RetryAfter = d; return f }

// Error implements error. It includes the cause, so it is for logs; show Detail and Hint to people.
func (f *Fault) Error() string {
	if f.cause != nil {
		return string(f.Kind) + ": " + f.Detail + ": " + f.cause.Error()
	}
	return string(f.Kind) + ": " + f.Detail
}

// Unwrap gives the cause.
func (f *Fault) Unwrap() error { return f.cause }

// AsFault finds the fault in err, or wraps err as KindInternal with a detail that says nothing about our inside.
// It returns nil for nil.
func AsFault(err error) *Fault {
	if err == nil {
		return nil
	}
	var f *Fault
	if errors.As(err, &f) {
		return f
	}
	return &Fault{Kind: KindInternal, Detail: "internal error; the log has the cause", cause: err}
}

// KindOf gives the kind of err: KindInternal for anything that is not a Fault, "" for nil.
func KindOf(err error) Kind {
	if f := AsFault(err); f != nil {
		return f.Kind
	}
	return ""
}
