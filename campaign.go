package bulkhead

import "time"

// CampaignState is the life of a mass replacement.
type CampaignState string

// Campaign states.
const (
	CampaignPlanned CampaignState = "planned" // has a plan that waits for approval; nothing is done meanwhile
	CampaignRunning CampaignState = "running" // its plan was approved
	CampaignPaused  CampaignState = "paused"  // by one person; clocks go on
	CampaignClosed  CampaignState = "closed"
)

var campaignMoves = map[CampaignState][]CampaignState{
	CampaignPlanned: {CampaignPlanned, CampaignRunning, CampaignClosed},
	CampaignRunning: {CampaignPaused, CampaignClosed, CampaignPlanned}, // planned again: a new plan waits for its approvals
	CampaignPaused:  {CampaignRunning, CampaignClosed, CampaignPlanned},
	CampaignClosed:  {},
}

// CanMove reports whether a campaign may go from state s to t.
func (s CampaignState) CanMove(t CampaignState) bool {
	for _, x := range campaignMoves[s] {
		if x == t {
			return true
		}
	}
	return false
}

// ItemState is how far one certificate of a campaign has come.
type ItemState string

// Item states, in order. Each step has its evidence.
const (
	ItemPlanned   ItemState = "planned"
	ItemNotified  ItemState = "notified"    // its holder was told, or its renewal information says so
	ItemPatched   ItemState = "patched"     // every endpoint was seen without the fault
	ItemRekeyed   ItemState = "rekeyed"     // a request with a key that no certificate of the campaign has
	ItemReissued  ItemState = "reissued"    // the replacement is durable
	ItemInstalled ItemState = "installed"   // every endpoint was seen with the replacement
	ItemRevoked   ItemState = "old-revoked" // the old certificate is revoked
	ItemExpired   ItemState = "expired"     // the old certificate ended before it was revoked
	ItemHeld      ItemState = "held"        // frozen by a legal hold; reported as delayed
	ItemReopened  ItemState = "reopened"    // a replacement with a known key, or made while the fault was there: a new key is needed
)

// ItemStates lists every state in order; what a status sums over.
var ItemStates = []ItemState{ItemPlanned, ItemNotified, ItemPatched, ItemRekeyed, ItemReissued, ItemInstalled, ItemRevoked, ItemExpired, ItemHeld, ItemReopened}

// itemMoves is the table of legal steps. Steps that a campaign does not ask for are passed over by CampaignNeeds.
var itemMoves = map[ItemState][]ItemState{
	ItemPlanned:   {ItemNotified, ItemHeld},
	ItemNotified:  {ItemPatched, ItemHeld, ItemReopened},
	ItemPatched:   {ItemRekeyed, ItemHeld, ItemReopened},
	ItemRekeyed:   {ItemReissued, ItemHeld, ItemReopened},
	ItemReissued:  {ItemInstalled, ItemHeld, ItemReopened},
	ItemInstalled: {ItemRevoked, ItemHeld, ItemReopened},
	ItemHeld:      {ItemPlanned}, // released: what happened meanwhile is looked at again
	ItemReopened:  {ItemNotified, ItemHeld},
	ItemRevoked:   {},
	ItemExpired:   {},
}

// Done reports whether an item moves no more.
func (s ItemState) Done() bool { return s == ItemRevoked || s == ItemExpired }

// CampaignNeeds says which steps a campaign asks for. The others are passed over.
type CampaignNeeds struct {
	Patch     bool `json:"patch"`     // a passing look at every endpoint first
	NewKey    bool `json:"new_key"`   // the keys of the campaign are refused for ever
	Installed bool `json:"installed"` // the replacement is seen at every endpoint before the old one is revoked
}

// asks reports whether the step is one that the campaign wants to see for itself.
func (n CampaignNeeds) asks(s ItemState) bool {
	switch s {
	case ItemPatched:
		return n.Patch
	case ItemRekeyed:
		return n.NewKey
	case ItemInstalled:
		return n.Installed
	default:
		return true
	}
}

// CanMove reports whether an item may go from one state to another in a campaign with these needs. forced is the deadline
// clock: it revokes whatever has not come far enough, but nothing that a court has frozen.
func (n CampaignNeeds) CanMove(from, to ItemState, forced bool) bool {
	if from.Done() {
		return false
	}
	if to == ItemExpired {
		return true
	}
	if to == ItemRevoked && forced {
		return from != ItemHeld
	}
	for range ItemStates { // pass over steps that are not asked for
		for _, x := range itemMoves[from] {
			if x == to {
				return true
			}
		}
		next, ok := map[ItemState]ItemState{ItemNotified: ItemPatched, ItemPatched: ItemRekeyed, ItemRekeyed: ItemReissued, ItemReissued: ItemInstalled}[from]
		if !ok || n.asks(next) {
			return false
		}
		from = next
	}
	return false
}

// Campaign replaces the certificates of an incident.
type Campaign struct {
	ID         string
	Incident   string
	State      CampaignState
	Generation int64 // of the plan in force; work of an older one is void
	PlanHash   Hash
	ParentHash Hash   // of the plan before; zero for the first
	Plan       []byte // JSON of the plan, without the assignments
	Needs      CampaignNeeds
	Tickets    bool // free reissue by ticket code
	Reason     Reason
	Items      int64
	Deadline   time.Time // earliest of its items; zero where no duty exists
	ForceAt    time.Time // from here on the deadline clock revokes what has not come far enough
	Approval   string    // request that approved the plan
	Actor      string
	CreatedAt  time.Time
	StartedAt  time.Time
	ClosedAt   time.Time
	Cursor     int64 // outcome up to which new certificates were looked at for replacements
}

// CampaignItem is one certificate on its way. A campaign holds each certificate once.
type CampaignItem struct {
	CertificateRef
	IntentSeq   int64 // row of the certificate
	Ordinal     int64 // position in the plan, from 1
	Wave        int
	State       ItemState
	Product     string // "tls", "smime", "code-signing", "ca"
	AccountID   string
	OrderID     string
	Name        string // first name of the certificate
	KeyHash     Hash
	Own         bool
	Critical    bool
	NotifyAt    time.Time
	WindowStart time.Time // of renewal information
	WindowEnd   time.Time
	RevokeAt    time.Time // the visible date
	Deadline    time.Time // zero where no duty exists
	NotAfter    time.Time
	Replacement CertificateRef
	Vulnerable  time.Time // when an endpoint was last seen with the fault
	Change      string    // that revoked it
	Detail      string    // what the last step or look said
	MovedAt     time.Time
}

// CampaignWork is an item as far as revoking it asks, with what the record says of its certificate.
type CampaignWork struct {
	CertificateRef
	IntentSeq int64
	Ordinal   int64
	State     ItemState
	RevokeAt  time.Time
	NotAfter  time.Time
	Recorded  CertificateState // "" when the record has it no more
	Kind      CertificateKind
	NotBefore time.Time // of the certificate in the record
	RevokedAt time.Time
	Reason    Reason
	Held      bool // on legal hold
}

// ItemMove is one step of one item, or, in the work of a job, of every item of a stretch of the plan; its evidence is the leaf
// of the batch that it belongs to.
type ItemMove struct {
	IntentSeq   int64
	First, Last int64 // ordinals of a stretch of which every item takes the step, both included, instead of IntentSeq; 0: none
	From, To    ItemState
	At          time.Time
	Detail      string
	Replacement CertificateRef // set when the step names one; cleared by reopening
	Change      string
	Vulnerable  time.Time
	Leaf        int // which piece of the evidence that comes with the moves speaks of this one
}

// CampaignItemFilter selects items of a campaign; zero fields match everything.
type CampaignItemFilter struct {
	States      []ItemState
	AccountID   string
	Product     string
	OwnOnly     bool
	First, Last int64 // ordinals, both included; Last 0 is no end
	Limit       int   // 0 means 100
}

// ItemStep is one entry in the history of an item.
type ItemStep struct {
	State    ItemState
	At       time.Time
	LogIndex int64
	Detail   string
}

// CampaignTally is the progress of a campaign; the states sum to Total.
type CampaignTally struct {
	Total           int64
	ByState         map[ItemState]int64
	ByProduct       map[string]int64
	Overdue         int64 // not done, past their deadline
	SameKeyAttempts int64 // requests with a key of the campaign
	OwnTotal        int64 // the house's own estate
	OwnReplaced     int64 // of it reissued or further
	Tickets         int64
	TicketsUsed     int64
	ToldDue         int64 // items to be replaced whose notice was due by now
	Told            int64 // items to be replaced whose holders were told
	DoneDue         int64 // items whose window has ended by now
}

// JobKind is what a piece of campaign work does.
type JobKind string

// Job kinds.
const (
	JobNotify JobKind = "notify"
	JobRevoke JobKind = "revoke"
	// JobAfterHold tells the holder of one certificate whose legal hold ended, by a letter of its own.
	JobAfterHold JobKind = "after-hold"
)

// CampaignJob is a chunk of consecutive items of one plan. Whoever holds its lease works on it; what it does may be done
// again after the lease ran out, and comes to the same.
type CampaignJob struct {
	ID         int64
	Campaign   string
	Generation int64
	Kind       JobKind
	First      int64 // ordinals, both included
	Last       int64
	DueAt      time.Time
	Done       bool
	Holder     string
	LeaseUntil time.Time
	Change     string // change that this job made, once it is known
	Tries      int64
	Problem    string
}

// CampaignAttempt is a request for a certificate with a key that a campaign refuses.
type CampaignAttempt struct {
	Campaign  string
	KeyHash   Hash
	AccountID string
	OrderID   string
	At        time.Time
}

// Ticket lets one certificate be replaced free of charge, once. The code itself is not here.
type Ticket struct {
	ID         string
	Campaign   string
	Replaces   CertificateRef
	OrderID    string // the order of the certificate to replace
	Name       string
	AccountID  string
	CodeHash   Hash
	Actor      string
	CreatedAt  time.Time
	ExpiresAt  time.Time
	ClaimedAt  time.Time // a request holds it; Request says which
	Request    Hash      // over order, name and CSR
	RedeemedAt time.Time
	Used       CertificateRef // what was issued
}

// CampaignRequest says how an incident's certificates are to be replaced.
type CampaignRequest struct {
	Incident string
	FinishBy time.Time // zero: the deadline. Later opens a record of the delay
	Needs    *CampaignNeeds
	Tickets  *bool
	Capacity *CampaignCapacity
}

// CampaignCapacity is what the house can do in an hour; 0 is no limit.
type CampaignCapacity struct {
	Signatures  int `json:"signatures"` // replacements
	Validations int `json:"validations"`
	Notices     int `json:"notices"` // to accounts
}

// TicketRequest names the certificate that a ticket is to replace, as a customer does: by order number and name.
type TicketRequest struct {
	OrderID string
	Name    string
	Life    time.Duration // 0: that of the configuration
}

// Redemption is one request for a reissue: one order, one name, one new request.
type Redemption struct {
	Code    string
	OrderID string
	Name    string
	CSR     []byte // DER
	Method  Method // "": as before
}
