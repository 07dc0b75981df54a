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
	ChangeApproved:  {ChangeStaged, ChangeApproved, ChangePreviewed, ChangeRefused},
	ChangeStaged:    {ChangeActivated, ChangeStaged, ChangeRefused},
	ChangeActivated: {ChangePublished},
	ChangePublished: {ChangePublished, ChangeSettled}, // itself: with another problem
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

	Undoes   string    // id of the change that this one takes back; "" for a change that revokes
	Incident string    // of one that takes back: the incident record that explains it
	Rule     string    // of one that takes back: the rule that is broken; "" when the record never said revoked
	WasKept  bool      // the items tell what their rows said before the activation
	Held     time.Time // of one that is planned: until then whoever makes it is at work; zero in those of earlier versions
	Problem  string    // why it is public and not settled, in words; "" when nothing is known to be wrong
	Dies     time.Time // when the last wrong answer that is still about dies; zero when there is none
}

// TakesBack reports whether the change restores what another one changed.
func (c Change) TakesBack() bool { return c.Undoes != "" }

// ChangeItem is one certificate of a change.
type ChangeItem struct {
	CertificateRef
	Reason    Reason
	RevokedAt time.Time // may be earlier than activation only for keyCompromise (BR 7.2.2)

	// What the row said before the change, known after activation when Change.WasKept: zero for one that was issued. Of
	// a change that takes back, this is what the row will say, and Reason and RevokedAt are what it says now.
	WasReason    Reason
	WasRevokedAt time.Time
}

// Restored is what a status becomes when an item of a change that takes back is activated. A row that says something
// else than the item by then is left as it is, for the store to refuse.
func (it ChangeItem) Restored(st Status) Status {
	if st.State != Revoked || st.Reason != it.Reason || !st.RevokedAt.Equal(it.RevokedAt) {
		return st
	}
	if st.Reason, st.RevokedAt = it.WasReason, it.WasRevokedAt; it.WasRevokedAt.IsZero() {
		st.State = Issued
	}
	return st
}

// CertificateChange is a change that named a certificate.
type CertificateChange struct {
	ChangeItem
	Change      string
	State       ChangeState
	Actor       string
	Why         string
	Epoch       uint64
	ActivatedAt time.Time // zero before activation
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

// CRLSeen is the highest number that the watch saw public of one shard's CRL, and when it first did.
type CRLSeen struct {
	Authority AuthorityID
	Shard     int
	Number    int64
	At        time.Time
}

// AffectedStatus is a certificate of a change: what its row says, and the item that will change it.
type AffectedStatus struct {
	Status
	Item ChangeItem
}

// After is what the row says once the change is activated; c is the change of the item. What is issued becomes revoked;
// what is revoked stays so, except that keyCompromise replaces the reason and may move the date back (BR 7.2.2). A change
// that takes back restores.
func (a AffectedStatus) After(c Change) Status {
	st, it := a.Status, a.Item
	switch {
	case c.TakesBack():
		return it.Restored(st)
	case st.State == Issued:
		st.State, st.RevokedAt, st.Reason = Revoked, it.RevokedAt, it.Reason
	case st.State == Revoked && it.Reason == KeyCompromise:
		st.Reason = it.Reason
		if it.RevokedAt.Before(st.RevokedAt) {
			st.RevokedAt = it.RevokedAt
		}
	}
	return st
}
