// Package enroll decides who gets a certificate for which names: accounts, orders, authorisations, challenges,
// revocation requests and renewal advice. Its children speak the protocols: acme (RFC 8555, RFC 9773), dcv (domain
// validation and CAA).
//
// Invariant: an order reaches the signer only when each of its names has a validation by its account that is still
// within policy and a CAA check of its own that permits it; both are rows before the signer is asked.
//
// Refuses: to hold keys that sign, to choose serials or dates, to say "valid" for an order whose certificate is not durable.
package enroll

import (
	"context"
	"time"

	"bulkhead"
	"bulkhead/pki/profile"
)

// Store is the durable record as enrolment needs it. Every Update compares the state it expects and fails with
// KindConflict when the row has moved; evidence commits with the row it speaks of.
type Store interface {
	Reads
	Writes
}

// Reads change nothing.
type Reads interface {
	Account(ctx context.Context, id string) (bulkhead.Account, error)
	AccountByThumbprint(ctx context.Context, thumbprint string) (bulkhead.Account, error)
	AccountByToken(ctx context.Context, tokenHash bulkhead.Hash) (bulkhead.Account, error)

	ExternalKey(ctx context.Context, id string) (bulkhead.ExternalKey, error)
	ExternalKeys(ctx context.Context, limit int) ([]bulkhead.ExternalKey, error)

	PeekRate(ctx context.Context, now time.Time, charges []bulkhead.RateCharge) (*bulkhead.RateRefusal, error)

	Order(ctx context.Context, id string) (bulkhead.Order, error)
	// OrdersByAccount returns ids, newest first, after the cursor id.
	OrdersByAccount(ctx context.Context, accountID, after string, limit int) ([]string, error)
	// OrdersInState serves resumption after a crash: orders in the state, oldest first.
	OrdersInState(ctx context.Context, s bulkhead.OrderState, limit int) ([]bulkhead.Order, error)
	// OpenOrdersByAccount returns pending and ready orders, oldest first.
	OpenOrdersByAccount(ctx context.Context, accountID string, limit int) ([]bulkhead.Order, error)
	// OrdersByAuthorization returns the pending and ready orders that rest on an authorisation.
	OrdersByAuthorization(ctx context.Context, authorizationID string) ([]bulkhead.Order, error)

	Authorization(ctx context.Context, id string) (bulkhead.Authorization, error)
	// Authorizations returns several in the order of their ids, KindNotFound when one is missing.
	Authorizations(ctx context.Context, ids ...string) ([]bulkhead.Authorization, error)
	// ReusableAuthorizations returns valid authorisations of the account for the identifiers that do not expire
	// before t, at most one per (identifier, wildcard).
	ReusableAuthorizations(ctx context.Context, accountID string, ids []bulkhead.Identifier, t time.Time) ([]bulkhead.Authorization, error)
	// HoldsAuthorizations reports whether the account has a valid authorisation for every identifier.
	HoldsAuthorizations(ctx context.Context, accountID string, ids []bulkhead.Identifier, t time.Time) (bool, error)
	// SelectAuthorizations returns valid ones; RevokeAuthorizations revokes those still valid, each with its evidence,
	// and returns how many.
	SelectAuthorizations(ctx context.Context, f bulkhead.AuthorizationFilter, limit int) ([]bulkhead.Authorization, error)
	TallyAuthorizations(ctx context.Context, f bulkhead.AuthorizationFilter) (bulkhead.AuthorizationTally, error)

	Certificate(ctx context.Context, ref bulkhead.CertificateRef) (bulkhead.Certificate, []byte, error)
	// CertificatesBySerial returns the rows that exist among the serials, without their DER.
	CertificatesBySerial(ctx context.Context, issuer bulkhead.AuthorityID, serials []bulkhead.Serial) ([]bulkhead.Certificate, error)
	// CertificateByOrder returns the durable certificate of an order; KindNotFound when there is none.
	CertificateByOrder(ctx context.Context, orderID string) (bulkhead.Certificate, []byte, error)
	// Certificates lists rows of the inventory, newest first; next is the cursor of the page after.
	Certificates(ctx context.Context, f bulkhead.CertificateFilter) (rows []bulkhead.Certificate, next string, err error)
	Authorities(ctx context.Context) ([]bulkhead.Authority, error)
	// Standbys returns all stand-by certificates, those that were served before among them.
	Standbys(ctx context.Context) ([]bulkhead.Standby, error)
	BlockedKeys(ctx context.Context, hashes ...bulkhead.Hash) ([]bulkhead.BlockedKey, error)

	Partner(ctx context.Context, id string) (bulkhead.Partner, error)
	Partners(ctx context.Context) ([]bulkhead.Partner, error)
	People(ctx context.Context, partner string) ([]bulkhead.PartnerPerson, error)
	// PersonByToken returns who holds a token that is good, with the partner in whatever state; KindNotFound for nobody.
	PersonByToken(ctx context.Context, tokenHash bulkhead.Hash) (bulkhead.PartnerPerson, bulkhead.Partner, error)
	PartnerAccounts(ctx context.Context, partner string, limit int) ([]bulkhead.Account, error)
	PartnerOrders(ctx context.Context, partner string, before int64, limit int) ([]bulkhead.Order, int64, error)
	PartnerUse(ctx context.Context, partner string, since time.Time) ([]bulkhead.PartnerUse, error)

	// Standing returns an account with its partner and the stops in force; no ID for an account that does not exist.
	Standing(ctx context.Context, accountID string) (bulkhead.Standing, error)
	Stop(ctx context.Context, id string) (bulkhead.Stop, error)
	// Stops returns those in force, StopHistory all, newest first, StopsEndedSince those that ended at t or later.
	Stops(ctx context.Context) (bulkhead.Stops, error)
	StopHistory(ctx context.Context, limit int) ([]bulkhead.Stop, error)
	StopsEndedSince(ctx context.Context, t time.Time) ([]bulkhead.Stop, error)
	SecondApprovals(ctx context.Context, orderID string) ([]bulkhead.SecondApproval, error)
}

// Writes are apart so that a rehearsal has to say of each what becomes of it.
type Writes interface {
	// CreateAccount inserts; KindConflict when the thumbprint or token hash exists.
	CreateAccount(ctx context.Context, a bulkhead.Account, ev ...bulkhead.Evidence) error
	UpdateAccount(ctx context.Context, a bulkhead.Account, expect bulkhead.AccountState, ev ...bulkhead.Evidence) error

	CreateExternalKey(ctx context.Context, k bulkhead.ExternalKey, ev ...bulkhead.Evidence) error
	// RevokeExternalKey fails with KindConflict when it is revoked already.
	RevokeExternalKey(ctx context.Context, id string, now time.Time, ev ...bulkhead.Evidence) error
	// CreateBoundAccount is CreateAccount with the use of an external key in the same transaction; KindUnauthorized when
	// the key cannot be used any more.
	CreateBoundAccount(ctx context.Context, a bulkhead.Account, keyID string, ev ...bulkhead.Evidence) error

	// TakeRate takes one unit from every limit, or nothing and says which is used up. PeekRate only looks.
	TakeRate(ctx context.Context, now time.Time, charges []bulkhead.RateCharge) (*bulkhead.RateRefusal, error)
	ForgetRates(ctx context.Context, now time.Time) error

	// CreateOrder inserts the order and those of its authorisations that are new, in one transaction. When
	// o.Replaces is set it fails with KindAlreadyReplaced if that certificate is claimed by another order that is
	// not invalid.
	CreateOrder(ctx context.Context, o bulkhead.Order, fresh []bulkhead.Authorization) error
	UpdateOrder(ctx context.Context, o bulkhead.Order, expect bulkhead.OrderState, ev ...bulkhead.Evidence) error
	// EndOrder is UpdateOrder of one in processing that has its certificate, for which nobody waits: it may take a moment for the sake
	// of other writes.
	EndOrder(ctx context.Context, o bulkhead.Order) error
	// ProcessOrder moves a ready order to processing, together with what was seen of CAA for it. Unless until is nil it may go with
	// another write that follows soon; that somebody waits for it by itself is said by closing until.
	ProcessOrder(ctx context.Context, o bulkhead.Order, checks []bulkhead.CAACheck, until <-chan struct{}, ev ...bulkhead.Evidence) error

	// UpdateAuthorization stores state and challenges; v, when not nil, is inserted as evidence of validation.
	UpdateAuthorization(ctx context.Context, a bulkhead.Authorization, expect bulkhead.AuthorizationState, v *bulkhead.Validation, ev ...bulkhead.Evidence) error
	// ConcludeAuthorization moves a pending authorisation on with its validation, as long as its account is in office with the
	// thumbprint, and in the same transaction to ready those pending orders on it of which every authorisation is valid.
	ConcludeAuthorization(ctx context.Context, a bulkhead.Authorization, v bulkhead.Validation, thumbprint string, ev ...bulkhead.Evidence) error
	// PlaceOrder is CreateOrder with new authorisations that are valid already, and in the same transaction the validations and
	// looks at CAA on which they rest.
	PlaceOrder(ctx context.Context, o bulkhead.Order, fresh []bulkhead.Authorization, validations []bulkhead.Validation, checks []bulkhead.CAACheck, ev ...bulkhead.Evidence) error
	RevokeAuthorizations(ctx context.Context, ids []string, ev []bulkhead.Evidence) (int, error)
	PutCAAChecks(ctx context.Context, checks []bulkhead.CAACheck, ev ...bulkhead.Evidence) error

	// MarkReplaced records that old was replaced by new; the first mark stays.
	MarkReplaced(ctx context.Context, old, new bulkhead.CertificateRef) error
	AppendEvidence(ctx context.Context, ev ...bulkhead.Evidence) ([]int64, error)

	// KillTokens, KillExternalKeys and KillPeople kill up to limit credentials, each with its evidence, and return how many;
	// the latter two those of one registration partner when partner is not "". RollAccounts demands a key change.
	KillTokens(ctx context.Context, limit int, leaf func(bulkhead.Account) bulkhead.Evidence) (int, error)
	KillExternalKeys(ctx context.Context, partner string, now time.Time, limit int, leaf func(bulkhead.ExternalKey) bulkhead.Evidence) (int, error)
	KillPeople(ctx context.Context, partner string, now time.Time, limit int, leaf func(bulkhead.PartnerPerson) bulkhead.Evidence) (int, error)
	RollAccounts(ctx context.Context, now time.Time, limit int, leaf func(bulkhead.Account) bulkhead.Evidence) (int, error)

	CreatePartner(ctx context.Context, p bulkhead.Partner, ev ...bulkhead.Evidence) error
	// UpdatePartner stores a partner, and the stops that come with it, if its state is still expect.
	UpdatePartner(ctx context.Context, p bulkhead.Partner, expect bulkhead.PartnerState, stops []bulkhead.Stop, ev ...bulkhead.Evidence) error
	PutPerson(ctx context.Context, p bulkhead.PartnerPerson, ev ...bulkhead.Evidence) error

	// PutStop inserts a stop. EndStop fails with KindConflict when it was ended before.
	PutStop(ctx context.Context, x bulkhead.Stop, ev ...bulkhead.Evidence) error
	EndStop(ctx context.Context, x bulkhead.Stop, ev ...bulkhead.Evidence) error
	// PutSecondApproval fails with KindConflict when the same person approved the order before.
	PutSecondApproval(ctx context.Context, a bulkhead.SecondApproval, ev ...bulkhead.Evidence) error
}

// Issuer signs; it is the signer's door seen from here.
type Issuer interface {
	// IssueAfter issues for an order in processing. For one that is on its way there it asks stored once, always, which waits until that is
	// done, and signs only when there is no error, and by what the record says then; stored is nil for one that is there.
	IssueAfter(ctx context.Context, req bulkhead.CertificateRequest, stored func(context.Context) error) (bulkhead.IssuedCertificate, error)
}

// Revoker turns an accepted revocation request into a change of status. RevokeCertificates returns when the change
// is activated, or with KindGate and the id of the change that waits for approval.
type Revoker interface {
	RevokeCertificates(ctx context.Context, actor, why string, items []bulkhead.ChangeItem) (changeID string, err error)
	// BlockKey blocks a key for ever, before anything else happens (P10). Blocking twice is no error.
	BlockKey(ctx context.Context, key bulkhead.BlockedKey) error
}

// Validator performs one challenge and CAA checks; dcv implements it.
type Validator interface {
	// Validate looks once, from the outside. keyAuthorization is RFC 8555 section 8.1. It returns what was seen, or
	// a Fault of kind connection, dns, tls, unauthorized or incorrectResponse.
	Validate(ctx context.Context, id bulkhead.Identifier, m bulkhead.Method, token, keyAuthorization string) (detail string, err error)
	// CheckCAA looks up CAA for one name (RFC 8659, RFC 8657). A lookup that fails is a denial with KindCAA unless
	// the name is one of our own private names.
	CheckCAA(ctx context.Context, id bulkhead.Identifier, wildcard bool, accountURI string, m bulkhead.Method) (bulkhead.CAACheck, error)
}

// Profiles says which version of each profile is in force.
type Profiles interface {
	// Profile fails with KindInvalidProfile for one that is not there, and with KindGate for one that nobody approved.
	Profile(ctx context.Context, name string) (*profile.Profile, error)
	// Offered returns those in force, by name.
	Offered(ctx context.Context) []*profile.Profile
}
