// Package status decides what the world is told of each certificate, and when: changes of status, epochs, OCSP packs,
// CRL shards and the signed head that names them.
//
// Invariant: the answer for a certificate depends on its own row (issuer, serial) and nothing else (P1). A change goes
// public in one step, the switch of the head, after its objects were signed, published and verified by reading them
// back (P4). Every head is above all before it; rollback is a new head (P5).
//
// Refuses: a change without a preview, an approval of another preview, an answer for a serial that was never issued,
// a CRL number or thisUpdate that goes backwards, un-revocation of anything published but by a change that takes back,
// with an incident, the rule that it breaks and a quorum.
package status

import (
	"context"
	"io"
	"iter"
	"time"

	"bulkhead"
)

// Store is the durable record as the status service needs it.
type Store interface {
	// MoveAuthority stores state and key URI of an authority if its state is still expect; KindConflict otherwise.
	MoveAuthority(ctx context.Context, a bulkhead.Authority, expect bulkhead.AuthorityState, ev ...bulkhead.Evidence) error
	Authorities(ctx context.Context) ([]bulkhead.Authority, error)
	Certificate(ctx context.Context, ref bulkhead.CertificateRef) (bulkhead.Certificate, []byte, error)
	Statuses(ctx context.Context, issuer bulkhead.AuthorityID, serials []bulkhead.Serial) ([]bulkhead.Status, error)
	// StatusPage returns issued and revoked rows of an issuer whose notAfter is not before from, in serial order.
	StatusPage(ctx context.Context, issuer bulkhead.AuthorityID, after bulkhead.Serial, from time.Time, limit int) ([]bulkhead.Status, error)
	// Owed counts an authority's certificates that have not ended at t, OCSP delegates left out.
	Owed(ctx context.Context, issuer bulkhead.AuthorityID, t time.Time) (bulkhead.Owed, error)
	// StatusSince returns rows whose outcome has an evidence sequence above seq, in that order.
	StatusSince(ctx context.Context, issuer bulkhead.AuthorityID, seq int64, limit int) ([]bulkhead.Status, error)
	// CertificatesByKey returns the certificates (issued or revoked, not expired at t) that hold a key.
	CertificatesByKey(ctx context.Context, key bulkhead.Hash, t time.Time) ([]bulkhead.Certificate, error)

	// AuthorityCertificates returns every certificate of an authority that was issued, those revoked and expired included,
	// with its DER.
	AuthorityCertificates(ctx context.Context) ([]bulkhead.IssuedCertificate, error)
	// CertificatesBySerial returns the rows that exist among the serials, in any state and any order.
	CertificatesBySerial(ctx context.Context, issuer bulkhead.AuthorityID, serials []bulkhead.Serial) ([]bulkhead.Certificate, error)
	// Twins returns issued certificates, not expired at t, that hold one of the keys; at most limit.
	Twins(ctx context.Context, keys []bulkhead.Hash, t time.Time, limit int) ([]bulkhead.Certificate, error)
	// Products returns the profiles under which an authority has certificates in use at t, by name, each with at most samples
	// of them. Its work must not depend on the number of certificates.
	Products(ctx context.Context, issuer bulkhead.AuthorityID, t time.Time, samples int) ([]bulkhead.Product, error)
	// CountProducts counts the certificates that an authority has in use at t, by profile.
	CountProducts(ctx context.Context, issuer bulkhead.AuthorityID, t time.Time) (map[string]int64, error)

	CreateChange(ctx context.Context, c bulkhead.Change, items []bulkhead.ChangeItem, ev ...bulkhead.Evidence) error
	// AddItems inserts items into a change that is planned, and returns how many it has then; those that are in it already
	// with the same reason are left as they are. KindConflict when it is not planned any more, has an item for another
	// reason, or would have more than most.
	AddItems(ctx context.Context, id string, items []bulkhead.ChangeItem, most int) (int, error)
	// HoldChange says until when somebody is at a planned change; KindConflict when it is not planned any more.
	HoldChange(ctx context.Context, id string, until time.Time) error
	// EndPlanned refuses a planned change that is held until exactly c.Held; KindConflict when it has moved, or was held longer.
	EndPlanned(ctx context.Context, c bulkhead.Change, ev ...bulkhead.Evidence) error
	// ScopePage returns certificates that a scope selects and that are in use at t, those of authorities and delegates left
	// out, in the order of issue after a cursor, with the next cursor. ScopeSize counts all of them.
	ScopePage(ctx context.Context, scope bulkhead.Scope, t time.Time, after int64, limit int) ([]bulkhead.Certificate, int64, error)
	ScopeSize(ctx context.Context, scope bulkhead.Scope, t time.Time) (int64, error)
	Change(ctx context.Context, id string) (bulkhead.Change, error)
	// Changes returns changes in any of the states (all when none is given), newest first.
	Changes(ctx context.Context, limit int, states ...bulkhead.ChangeState) ([]bulkhead.Change, error)
	ChangeItems(ctx context.Context, id string, after bulkhead.CertificateRef, limit int) ([]bulkhead.ChangeItem, error)
	// Affected streams the certificates of a change under one issuer in serial order, each as its row is now; an item
	// without a row is left out.
	Affected(ctx context.Context, change string, issuer bulkhead.AuthorityID) iter.Seq2[bulkhead.AffectedStatus, error]
	// BlockedItems counts the certificates of a change whose keys are blocked, and those keys.
	BlockedItems(ctx context.Context, change string) (items, keys int, err error)
	// ChangeEvidence returns the leaves that tell the story of a change, in order.
	ChangeEvidence(ctx context.Context, id string) ([]bulkhead.EvidenceRow, error)
	// MoveChange stores the change if its state is still expect; KindConflict otherwise.
	MoveChange(ctx context.Context, c bulkhead.Change, expect bulkhead.ChangeState, ev ...bulkhead.Evidence) error
	// Locate finds out beforehand what Activate would look for inside its transaction. It changes nothing, and nobody need call it.
	Locate(ctx context.Context, change string) error
	// Activate is the commit point: in one transaction the change goes from Staged to Activated, its items' rows to
	// Revoked (a row already revoked only has its reason upgraded, and its date moved earlier, for keyCompromise) or, of a
	// change that takes back, to what they were, unless a key is blocked by then; the head is stored if its sequence follows the newest one, the CRL records are stored, and the evidence is
	// appended. KindConflict when any of it has moved; then nothing changed.
	Activate(ctx context.Context, c bulkhead.Change, head bulkhead.HeadRecord, crls []bulkhead.CRLRecord, ev ...bulkhead.Evidence) error

	// Head returns the newest head; the zero record when there is none.
	Head(ctx context.Context) (bulkhead.HeadRecord, error)
	// PutHead stores a head whose sequence is one above the newest, with the CRLs it names; KindConflict otherwise.
	PutHead(ctx context.Context, head bulkhead.HeadRecord, crls []bulkhead.CRLRecord) error
	// WithNewestHead calls f with the newest head while no other process is inside it.
	WithNewestHead(ctx context.Context, f func(bulkhead.HeadRecord) error) error
	// NextCRLNumber hands out a number above every number handed out before for the authority and shard.
	NextCRLNumber(ctx context.Context, issuer bulkhead.AuthorityID, shard int) (int64, error)
	// CRLs returns the newest CRL record of every shard.
	CRLs(ctx context.Context) ([]bulkhead.CRLRecord, error)
	// Prepared returns objects that a ceremony signed in advance, by NotBefore.
	Prepared(ctx context.Context, issuer bulkhead.AuthorityID) ([]bulkhead.Prepared, error)

	// PutCompromise blocks the key and opens the compromise, or opens it again, in one transaction.
	PutCompromise(ctx context.Context, c bulkhead.Compromise, ev ...bulkhead.Evidence) error
	UpdateCompromise(ctx context.Context, c bulkhead.Compromise, ev ...bulkhead.Evidence) error
	Compromise(ctx context.Context, key bulkhead.Hash) (bulkhead.Compromise, error)
	Compromises(ctx context.Context, limit int) ([]bulkhead.Compromise, error)
	// UnsettledCompromises returns those that are open, and those that settled at t or later.
	UnsettledCompromises(ctx context.Context, t time.Time) ([]bulkhead.Compromise, error)
	// KeyHolders returns certificates in force at t that hold a key and are not revoked for keyCompromise; authorities and
	// delegates, and those of the issuers that are named, are not among them. CountKeyHolders counts all of them.
	KeyHolders(ctx context.Context, key bulkhead.Hash, t time.Time, limit int, except ...bulkhead.AuthorityID) ([]bulkhead.Certificate, error)
	CountKeyHolders(ctx context.Context, key bulkhead.Hash, t time.Time) (int, error)
	BlockKey(ctx context.Context, k bulkhead.BlockedKey, ev ...bulkhead.Evidence) error
	BlockedKeys(ctx context.Context, hashes ...bulkhead.Hash) ([]bulkhead.BlockedKey, error)
	AppendEvidence(ctx context.Context, ev ...bulkhead.Evidence) ([]int64, error)
}

// Signer is the signer's door seen from here.
type Signer interface {
	SignAnswers(ctx context.Context, req bulkhead.AnswerRequest) (bulkhead.AnswerBatch, error)
	// ShadowAnswers yields what the signer says of certificates and what it would say with a change laid over the record, by
	// the code that signs; nothing is signed. nil serials stand for all that the authority answers for.
	ShadowAnswers(ctx context.Context, change string, issuer bulkhead.AuthorityID, serials []bulkhead.Serial) iter.Seq2[bulkhead.ShadowAnswer, error]
	SignCRL(ctx context.Context, req bulkhead.CRLRequest, w io.Writer) (bulkhead.CRLRecord, error)
	SignHead(ctx context.Context, body []byte) (signed []byte, err error)
}

// Answerer answers OCSP requests from one head; both are DER.
type Answerer interface {
	Answer(ctx context.Context, request []byte) ([]byte, error)
}

// Edges lets what is staged, and what is public, be asked as clients ask: through the code that serves the world.
type Edges interface {
	// Staged serves a signed head that is not public, to nobody but the caller; done lets go of it.
	Staged(ctx context.Context, head []byte) (a Answerer, done func(), err error)
	// Public is an edge that serves the world; KindUnavailable while it serves no head of this sequence or a later one.
	Public(ctx context.Context, sequence uint64) (Answerer, error)
}

// Tiers are the caches between the edges and the clients.
type Tiers interface {
	// Purge purges what the change is about from the origin outwards. KindGate while the origin or an edge does not serve
	// what is published: nothing is purged before.
	Purge(ctx context.Context, change string) (TierReport, error)
	// Verify fetches what the change is about through every node of every tier.
	Verify(ctx context.Context, change string) (TierReport, error)
}

// TierReport is what became of a purge or a verification.
type TierReport struct {
	Head   uint64    // that was public
	HeadAt time.Time // when it was made
	Began  time.Time // of the first call to a tier
	Clean  bool      // every node accepted, or served the newest
	Behind []string  // a sentence for each node that did not: who, what, whom to call
	Detail string    // each tier in order, for the record
	Dies   time.Time // when the last answer that a node behind may serve is believed by nobody any more; zero when Clean
}
