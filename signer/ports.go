// Package signer is the only place where an issuing key is used.
//
// Purpose: turn a request into a signature in three steps that cannot be skipped. Prepare checks policy, keys,
// evidence of validation and lint on a twin signed by a throw-away key, and makes the intent durable; it returns a
// single-use token. Only a token can be signed. The signed bytes must equal the linted ones, and the outcome is
// durable before anyone receives it. CRLs, OCSP answers and heads go through the same door in batches.
//
// Invariant: every signature made by a key has one intent leaf committed before it (promises P2 and P3). Statuses and
// CRL entries are read from the record by the signer itself; callers name what to sign, never what to say.
//
// Refuses: a caller's serial, dates or extensions; blocked and weak keys on every path (P10); a name without evidence
// of validation and CAA; an account that is not in office, an order beyond its registration partner's bounds, a
// high-value name on one person's word, anything that a stop covers (P7); a token twice, or by another signer; an authority that is retired, or that would be outlived.
package signer

import (
	"context"
	"io"
	"iter"
	"time"

	"bulkhead"
	"bulkhead/pki/profile"
	"bulkhead/pki/sct"
)

// Store is the durable record as the signer needs it.
type Store interface {
	// Authority returns one authority; KindNotFound when there is none.
	Authority(ctx context.Context, id bulkhead.AuthorityID) (bulkhead.Authority, error)
	// Authorities returns all authorities, by id.
	Authorities(ctx context.Context) ([]bulkhead.Authority, error)
	// PutAuthority inserts or replaces the authority with its evidence.
	PutAuthority(ctx context.Context, a bulkhead.Authority, ev ...bulkhead.Evidence) error
	// OrdersEvidence returns the validations and CAA checks on which each order rests; orders that do not exist are left out.
	OrdersEvidence(ctx context.Context, orders ...string) (map[string]*bulkhead.OrderEvidence, error)
	// Standing returns an account with its partner and the stops in force, read at one moment; no ID for an account
	// that does not exist.
	Standing(ctx context.Context, accountID string) (bulkhead.Standing, error)
	// Stops returns the stops of issuance in force.
	Stops(ctx context.Context) (bulkhead.Stops, error)
	// SecondApprovals returns who approved an order.
	SecondApprovals(ctx context.Context, orderID string) ([]bulkhead.SecondApproval, error)
	// BlockedKeys returns those of the given hashes that are blocked.
	BlockedKeys(ctx context.Context, hashes ...bulkhead.Hash) ([]bulkhead.BlockedKey, error)
	// Reserve commits reservations with their intents in one transaction. Item i fails alone, with errs[i]:
	// KindBadPublicKey when its key hash is blocked at the moment of commit, KindConflict when issuer and serial
	// exist already, KindRateLimited when the volume that it counts against is used up. err is for the transaction as a whole; after it nothing was kept, unless the commit itself was
	// lost or only reported lost, which Recover sorts out.
	Reserve(ctx context.Context, items []bulkhead.Reservation) (seqs []int64, errs []error, err error)
	// Complete commits certificates with their outcomes: Reserved becomes Issued. KindConflict for an item that is
	// not reserved. A second Complete with the same fingerprint succeeds and changes nothing.
	Complete(ctx context.Context, items []bulkhead.Completion) (seqs []int64, errs []error, err error)
	// PrecertificateByOrder returns the newest issued precertificate of an order that no certificate has taken the place
	// of; KindNotFound when there is none.
	PrecertificateByOrder(ctx context.Context, orderID string) (bulkhead.Certificate, []byte, error)
	// Finalize puts the certificate in the place of its precertificate, with evidence; KindConflict when that was revoked
	// meanwhile, or is none. A second Finalize with the same certificate changes nothing.
	Finalize(ctx context.Context, ref bulkhead.CertificateRef, der []byte, ev bulkhead.Evidence) error
	// Abandon moves Reserved to Abandoned with evidence; an item in any other state is left alone.
	Abandon(ctx context.Context, items []bulkhead.CertificateRef, ev []bulkhead.Evidence) error
	// OpenReservations returns rows still Reserved and reserved before t, with the intent's digest in Fingerprint.
	OpenReservations(ctx context.Context, before time.Time, limit int) ([]bulkhead.Certificate, error)
	// Statuses returns the status rows that exist among the serials, in any order.
	Statuses(ctx context.Context, issuer bulkhead.AuthorityID, serials []bulkhead.Serial) ([]bulkhead.Status, error)
	// StatusSince returns rows whose outcome has an evidence sequence above seq, in that order.
	StatusSince(ctx context.Context, issuer bulkhead.AuthorityID, seq int64, limit int) ([]bulkhead.Status, error)
	// Revoked streams the revoked certificates of one shard whose notAfter is not before keepFrom, in serial order and as of one moment.
	Revoked(ctx context.Context, issuer bulkhead.AuthorityID, shard int, keepFrom time.Time) iter.Seq2[bulkhead.Status, error]
	// MovedSince streams the certificates of one shard of which changes speak that were activated by a head above one, as they are now, in
	// serial order and each once; the change except is left out.
	MovedSince(ctx context.Context, issuer bulkhead.AuthorityID, shard int, head uint64, except string) iter.Seq2[bulkhead.Status, error]
	// Change reads a change; KindNotFound when there is none.
	Change(ctx context.Context, id string) (bulkhead.Change, error)
	// Affected streams the certificates of a change under one issuer, in serial order, as they are now.
	Affected(ctx context.Context, change string, issuer bulkhead.AuthorityID) iter.Seq2[bulkhead.AffectedStatus, error]
	// Head returns the newest head; the zero record when there is none.
	Head(ctx context.Context) (bulkhead.HeadRecord, error)
	// Delegates returns the OCSP delegates of an authority, newest first.
	Delegates(ctx context.Context, issuer bulkhead.AuthorityID) ([]bulkhead.Delegate, error)
	// PutDelegate records a delegate.
	PutDelegate(ctx context.Context, d bulkhead.Delegate, ev ...bulkhead.Evidence) error
	// DropDelegate forgets a delegate whose key was destroyed.
	DropDelegate(ctx context.Context, issuer bulkhead.AuthorityID, keyURI string) error
	// AppendEvidence commits leaves of their own.
	AppendEvidence(ctx context.Context, ev ...bulkhead.Evidence) ([]int64, error)
}

// Profiles vouches for the profiles under which certificates are issued.
type Profiles interface {
	// Profile returns the version in force that enough people signed, or that the house began with. KindGate when what is
	// to be had was approved by nobody, KindInvalidProfile when there is no such profile.
	Profile(ctx context.Context, name string) (*profile.Profile, error)
}

// Words judges who gave a second approval.
type Words interface {
	// Seconded returns the approvals of an order that were signed, for all of the names.
	Seconded(ctx context.Context, orderID string, names []bulkhead.Identifier) ([]bulkhead.SecondApproval, error)
}

// Transparency submits a precertificate to logs (RFC 6962 section 4.2). What comes back is not trusted: the signer
// verifies each timestamp under the log's key, which it has from its own configuration.
type Transparency interface {
	// AddPreChain gives timestamps as received, at least one from each of enough logs for certificates with this end, or
	// KindUnavailable. chain begins with the precertificate and goes up to the root.
	AddPreChain(ctx context.Context, chain [][]byte, notAfter time.Time, logs int) ([]sct.SCT, error)
}

// Door is what the rest of the house may ask of a signer; *Signer implements it in process.
type Door interface {
	// Issue prepares and signs one certificate and returns it durable.
	Issue(ctx context.Context, req bulkhead.CertificateRequest) (bulkhead.IssuedCertificate, error)
	// SignAnswers signs OCSP answers for certificates that we issued.
	SignAnswers(ctx context.Context, req bulkhead.AnswerRequest) (bulkhead.AnswerBatch, error)
	// ShadowAnswers says what would be signed without and with a change, and signs nothing.
	ShadowAnswers(ctx context.Context, change string, issuer bulkhead.AuthorityID, serials []bulkhead.Serial) iter.Seq2[bulkhead.ShadowAnswer, error]
	// SignCRL signs the CRL of one shard and writes its DER to w.
	SignCRL(ctx context.Context, req bulkhead.CRLRequest, w io.Writer) (bulkhead.CRLRecord, error)
	// SignHead signs a head body (pki/pack) whose sequence must be above that of every head signed before.
	SignHead(ctx context.Context, body []byte) (signed []byte, err error)
}
