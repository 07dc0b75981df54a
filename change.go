package bulkhead

import "time"

// ChangeState is the life of a change of status (promise P4).
type ChangeState string

// Change states, in order. Staged objects are signed and verified but named by no head; activated is the commit
// point; published means the head that names them is out.
const (
	ChangePlanned   ChangeState = "planned"
	ChangePreviewed ChangeState = "previewed"
	ChangeApproved  ChangeState = "approved"
	ChangeStaged    ChangeState = "staged"
	ChangeActivated ChangeState = "activated"
	ChangePublished ChangeState = "published"
	ChangeSettled   ChangeState = "settled"
	ChangeRefused   ChangeState = "refused" // blocked by its preview, withdrawn, or out of date; nothing went public
)

var changeMoves = map[ChangeState][]ChangeState{
	ChangePlanned:   {ChangePreviewed, ChangeRefused},
	ChangePreviewed: {ChangeApproved, ChangePreviewed, ChangeRefused},
	ChangeApproved:  {ChangeStaged, ChangePreviewed, ChangeRefused},
	ChangeStaged:    {ChangeActivated, ChangeStaged, ChangeRefused},
	ChangeActivated: {ChangePublished},
	ChangePublished: {ChangeSettled},
	ChangeSettled:   {},
	ChangeRefused:   {},
}

// CanMove reports whether a change may go from state s to t.
func (s ChangeState) CanMove(t ChangeState) bool {
	for _, x := range changeMoves[s] {
		if x == t {
			return true
		}
	}
	return false
}

// Done reports whether the change will move no more by itself.
func (s ChangeState) Done() bool { return len(changeMoves[s]) == 0 }

// Change is a set of status changes that go public together.
type Change struct {
	ID          string
	State       ChangeState
	Actor       string // who asked: operator, account, "certificate key"
	Why         string // free text for the record
	Count       int    // number of items
	PreviewHash Hash
	Preview     []byte // JSON of the preview as approved
	Epoch       uint64 // head sequence that carried it; 0 before activation
	CreatedAt   time.Time
	ActivatedAt time.Time
}

// ChangeItem is one certificate of a change.
type ChangeItem struct {
	CertificateRef
	Reason    Reason
	RevokedAt time.Time // may be earlier than activation only for keyCompromise (BR 7.2.2)
}

// HeadRecord is one published (or about to be published) top head of the status service.
type HeadRecord struct {
	Sequence uint64 // strictly increasing
	Body     []byte // signed head, as served
	At       time.Time
}

// CRLRecord is the newest CRL of one scope, as signed.
type CRLRecord struct {
	Authority  AuthorityID
	Shard      int
	Number     int64
	ThisUpdate time.Time
	NextUpdate time.Time
	Object     string // name in the object store
	Digest     Hash
	Entries    int
}
