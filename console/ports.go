// Package console is the HTTP face of the house for its operators and their programs: /api/v1 as JSON.
//
// Purpose: read everything, ask for changes. Every action goes through a port to the compartment that owns it; the
// answer says what was done and, when something was refused, which step comes next (RFC 9457 problem documents).
//
// Invariant: who asks is known before anything is read (an operator's signed request or session, or an account's token), except
// for the pages that are public by design; an account sees its own certificates only.
//
// Refuses: to sign, to hold keys, to change a status by itself, bodies above a limit, unknown members in a request.
package console

import (
	"context"
	"time"

	"bulkhead"
)

// Inventory reads the record.
type Inventory interface {
	Certificates(ctx context.Context, f bulkhead.CertificateFilter) (rows []bulkhead.Certificate, next string, err error)
	Certificate(ctx context.Context, ref bulkhead.CertificateRef) (bulkhead.Certificate, []byte, error)
	Authorities(ctx context.Context) ([]bulkhead.Authority, error)
	Alarms(ctx context.Context, limit int) ([]bulkhead.Alarm, error)
	// BlockedKeys returns those of the given hashes that are blocked.
	BlockedKeys(ctx context.Context, hashes ...bulkhead.Hash) ([]bulkhead.BlockedKey, error)
	CertificatesByKey(ctx context.Context, key bulkhead.Hash, t time.Time) ([]bulkhead.Certificate, error)
}

// Replies remembers the answers to requests with an idempotency key. Right under concurrency: one claim stands.
type Replies interface {
	// ClaimReply makes r the holder of its key when nobody holds it at now: it is new, it has expired, or the lease of
	// whoever held it for the same request has run out. It returns what the record then holds.
	ClaimReply(ctx context.Context, r bulkhead.Reply, now time.Time) (bulkhead.Reply, error)
	// FinishReply keeps the answer; KindConflict when holder does not hold the key any more.
	FinishReply(ctx context.Context, keyHash bulkhead.Hash, holder string, status int, body []byte) error
	// ReleaseReply gives a claim up; nothing happens when holder does not hold it.
	ReleaseReply(ctx context.Context, keyHash bulkhead.Hash, holder string) error
	// ForgetReplies deletes what expired by now.
	ForgetReplies(ctx context.Context, now time.Time) error
}

// Rehearsal goes through what the real ports would do, with the same checks and refusals, and changes nothing.
type Rehearsal struct {
	Orders    RehearsedOrders
	Quorum    Quorum
	Hierarchy Hierarchy
}

// RehearsedOrders says what an order would come to.
type RehearsedOrders interface {
	PlanForOperator(ctx context.Context, operator string, req bulkhead.CertificateRequest) (IssuePlan, error)
	PlanForAccount(ctx context.Context, acct bulkhead.Account, req bulkhead.CertificateRequest) (IssuePlan, error)
}

// IssuePlan is a certificate that would be issued.
type IssuePlan struct {
	Authority           bulkhead.AuthorityID
	Profile             string
	Names               []bulkhead.Identifier
	NotBefore, NotAfter time.Time
	NotChecked          []string
	Again               bulkhead.CertificateRef // set, and nothing else: the request was answered before, and gets this certificate again
}

// Profile is a certificate profile as the running house has it.
type Profile struct {
	Name    string        `json:"name"`
	Kind    string        `json:"kind"`
	YAML    string        `json:"yaml"`    // the version in force
	Version int           `json:"version"` // 0 is what the house began with
	SHA256  bulkhead.Hash `json:"sha256"`
	Request string        `json:"request,omitempty"` // by which the version came into force
	Problem string        `json:"problem,omitempty"` // why nothing is issued under it
}

// Profiles has the certificate profiles, each with the versions that people approved.
type Profiles interface {
	Profiles(ctx context.Context) ([]Profile, error)
	// ProfileVersions returns the versions of one, oldest first; KindNotFound when there is none.
	ProfileVersions(ctx context.Context, name string) ([]ProfileVersion, error)
	// ProposedProfile compares a new text with what is in force; KindConflict when both mean the same.
	ProposedProfile(ctx context.Context, text string) (ProfileChange, error)
}

// Orders turns requests for certificates into certificates.
type Orders interface {
	// IssueForOperator serves the house's own names on an operator's word.
	IssueForOperator(ctx context.Context, operator string, req bulkhead.CertificateRequest) (bulkhead.IssuedCertificate, error)
	// IssueForAccount serves names for which the account holds authorisations.
	IssueForAccount(ctx context.Context, acct bulkhead.Account, req bulkhead.CertificateRequest) (bulkhead.IssuedCertificate, error)
	AccountByToken(ctx context.Context, token string) (bulkhead.Account, error)
	// NewTokenAccount makes an account for the API, with the mail addresses of its holder; the token is shown once.
	NewTokenAccount(ctx context.Context, actor string, operator bool, addresses ...string) (bulkhead.Account, string, error)
}

// Changes changes what the world is told of certificates.
type Changes interface {
	RevokeCertificates(ctx context.Context, actor, why string, items []bulkhead.ChangeItem) (string, error)
	// PlanRevocation makes a change and previews it without carrying it through.
	PlanRevocation(ctx context.Context, actor, why string, items []bulkhead.ChangeItem) (bulkhead.Change, error)
	// PlanSoon is PlanRevocation that returns after wait at the latest: with the change planned, and its preview going on.
	PlanSoon(ctx context.Context, actor, why string, items []bulkhead.ChangeItem, wait time.Duration) (bulkhead.Change, error)
	// Open begins a change whose certificates come in parts, Add takes one in, and PreviewSoon closes it and is PlanSoon from
	// there on.
	Open(ctx context.Context, actor, why string) (bulkhead.Change, error)
	Add(ctx context.Context, actor, id string, items []bulkhead.ChangeItem) (bulkhead.Change, error)
	PreviewSoon(ctx context.Context, actor, id string, wait time.Duration) (bulkhead.Change, error)
	// PlanScope is PlanSoon for every certificate in use that a query selects, and ScopeSize counts them.
	PlanScope(ctx context.Context, actor, why string, scope bulkhead.Scope, reason bulkhead.Reason, wait time.Duration) (bulkhead.Change, error)
	ScopeSize(ctx context.Context, scope bulkhead.Scope) (int64, error)
	// ActivateByOne carries a previewed change through where one person may; KindGate otherwise.
	ActivateByOne(ctx context.Context, actor, id string, preview bulkhead.Hash) error
	// Rollback takes a change back. Before anything of it is public it is ended, and returned refused; after that a new
	// change is returned, previewed, which takes an incident, the rule that is broken and the approval of two people.
	Rollback(ctx context.Context, actor, id, why, incident, rule string) (bulkhead.Change, error)
	// Story is what evidence tells of a change, in order.
	Story(ctx context.Context, id string) ([]bulkhead.Evidence, error)
	// Withdraw ends a change that nobody approved yet.
	Withdraw(ctx context.Context, actor, id, why string) error
	BlockKey(ctx context.Context, k bulkhead.BlockedKey) error
	Change(ctx context.Context, id string) (bulkhead.Change, error)
	Changes(ctx context.Context, limit int, states ...bulkhead.ChangeState) ([]bulkhead.Change, error)
}

// Quorum keeps operators and approvals.
type Quorum interface {
	Authenticate(ctx context.Context, header, method, path string, body []byte) (bulkhead.Operator, error)
	Operators(ctx context.Context) ([]bulkhead.Operator, error)
	// Review records that an operator confirmed another one.
	Review(ctx context.Context, by, name string) error
	ProposeAddOperator(ctx context.Context, actor, reason, name string, publicKey []byte, roles ...string) (bulkhead.ApprovalRequest, error)
	ProposeRemoveOperator(ctx context.Context, actor, reason, name string) (bulkhead.ApprovalRequest, error)
	// Propose opens a request for an action of its own; the payload is what people approve.
	Propose(ctx context.Context, action string, payload any, actor, reason string) (bulkhead.ApprovalRequest, error)
	ProposeActivation(ctx context.Context, actor, reason string, c bulkhead.Change) (bulkhead.ApprovalRequest, error)
	Requests(ctx context.Context, limit int, states ...bulkhead.RequestState) ([]bulkhead.ApprovalRequest, error)
	Request(ctx context.Context, id string) (bulkhead.ApprovalRequest, error)
	Approve(ctx context.Context, id string, keyHash bulkhead.Hash, signature []byte) (bulkhead.ApprovalRequest, error)
	// Finish carries out what enough people signed, when that is left to do; KindGate while signatures are missing.
	Finish(ctx context.Context, id string) (bulkhead.ApprovalRequest, error)
	// SecurityKeys returns every security key, those taken away included.
	SecurityKeys(ctx context.Context) ([]bulkhead.SecurityKey, error)
	// DropKey takes a security key away; KindGate when too few people could sign afterwards.
	DropKey(ctx context.Context, actor string, key bulkhead.Hash, reason string) error
}

// Hierarchy grows the tree of authorities. Certificates of authorities come from a ceremony or from a foreign root.
type Hierarchy interface {
	// AddAuthority makes a key and a pending authority with its CSR, for a usage: tls (or ""), smime or code-signing.
	// predecessor is set for a rotation, which keeps the usage.
	AddAuthority(ctx context.Context, actor string, id bulkhead.AuthorityID, algorithm, commonName, usage string, predecessor bulkhead.AuthorityID) (bulkhead.Authority, error)
	// AcceptAuthority takes the certificate of a pending authority, with the chain above it, nearest first.
	AcceptAuthority(ctx context.Context, actor string, id bulkhead.AuthorityID, certificate []byte, chain [][]byte) (bulkhead.Authority, error)
}

// Finding is one line of a self-diagnosis.
type Finding struct {
	Check  string `json:"check"`
	Level  string `json:"level"` // ok, finding, failure
	Detail string `json:"detail"`
	Next   string `json:"next,omitempty"` // what to type or do
}

// Doctor looks at the running house.
type Doctor interface {
	Diagnose(ctx context.Context) []Finding
}
