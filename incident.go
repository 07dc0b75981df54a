package bulkhead

import "time"

// IncidentState is the life of an incident record.
type IncidentState string

// Incident states. A closed incident stays as it was; what is learnt later is a new one that names it.
const (
	IncidentOpen   IncidentState = "open"
	IncidentClosed IncidentState = "closed"
)

// IncidentKind separates what happened from the record that a revocation will be late: the latter stands for itself
// (CCADB incident reporting guidelines).
type IncidentKind string

// Incident kinds.
const (
	GeneralIncident   IncidentKind = "incident"
	DelayedRevocation IncidentKind = "delayed-revocation"
)

// IncidentSource is how the house learnt of it.
type IncidentSource string

// Incident sources.
const (
	SourceReport   IncidentSource = "problem-report" // BR 4.9.3; starts the 24 hours of BR 4.9.5
	SourceAlarm    IncidentSource = "alarm"          // a detector of ours
	SourceOperator IncidentSource = "operator"       // a person of the house, or an audit
	SourceDeadline IncidentSource = "deadline"       // opened by the clock: a deadline will be missed
)

// Incident is one bad day: what is wrong, since when it is known, which certificates it touches, what is due when.
type Incident struct {
	ID        string
	Kind      IncidentKind
	Parent    string // the incident whose deadline a delayed revocation misses; or the one that this one corrects
	State     IncidentState
	Title     string
	Source    IncidentSource
	SourceRef string // detector and key of the alarm, or who reported
	Playbook  string
	Cause     string // as pki/policy calls it; decides the deadlines
	Reason    Reason // with which its certificates are revoked
	AwareAt   time.Time
	OpenedAt  time.Time
	ClosedAt  time.Time
	Actor     string // who opened it
	Duties    []Duty
	Scope     Scope
	Deadlines []Deadline
	Closing   string // why it could be closed
}

// Duty is a role on the day and who has it.
type Duty struct {
	Role   string `json:"role" yaml:"role"`
	Person string `json:"person" yaml:"person"`
	Deputy string `json:"deputy,omitempty" yaml:"deputy,omitempty"`
}

// Deadline is a date that a policy row sets for one kind of object.
type Deadline struct {
	Object string    `json:"object"` // "subscriber", "ca", "short-lived", "report"
	Row    string    `json:"row"`    // id of the policy row, "" where no duty exists
	Rule   string    `json:"rule"`
	Source string    `json:"source"`
	Due    time.Time `json:"due,omitzero"` // zero where no duty exists
}

// Scope is a stored query for the certificates that an incident touches. Fields that are set must all hold; the values of
// one field are alternatives. The zero scope selects nothing: a slip of the pen must not put everything into a campaign.
type Scope struct {
	All          bool             `json:"all,omitempty"` // every certificate, when nothing else selects
	Issuers      []AuthorityID    `json:"issuers,omitempty"`
	Profiles     []string         `json:"profiles,omitempty"`
	Keys         []Hash           `json:"keys,omitempty"`
	Accounts     []string         `json:"accounts,omitempty"`
	Partners     []string         `json:"partners,omitempty"` // registration partners; resolved to accounts when counted
	Names        []string         `json:"names,omitempty"`    // exact, or a suffix when it begins with "."
	Certificates []CertificateRef `json:"certificates,omitempty"`
	Validation   *ValidationScope `json:"validation,omitempty"`
	IssuedFrom   time.Time        `json:"issued_from,omitzero"`
	IssuedBefore time.Time        `json:"issued_before,omitzero"`
}

// ValidationScope selects certificates by the validations on which their orders rest, whatever became of the
// authorisations since.
type ValidationScope struct {
	Method Method    `json:"method,omitempty"`
	Name   string    `json:"name,omitempty"` // exact without a wildcard label, or a suffix when it begins with "."
	Since  time.Time `json:"since,omitzero"`
	Until  time.Time `json:"until,omitzero"`
}

// IsEmpty reports whether the scope selects nothing at all.
func (s Scope) IsEmpty() bool {
	return !s.All && len(s.Issuers)+len(s.Profiles)+len(s.Keys)+len(s.Accounts)+len(s.Partners)+len(s.Names)+len(s.Certificates) == 0 &&
		s.Validation == nil && s.IssuedFrom.IsZero() && s.IssuedBefore.IsZero()
}

// ScopeCount is one materialisation of a scope: which certificates it selected at a time, by digest. A later one that
// differs is an impact correction: old, new, when and why are kept.
type ScopeCount struct {
	Incident string
	Number   int // from 1
	At       time.Time
	Items    int64 // all, expired and revoked ones included
	Live     int64 // of them issued, neither revoked nor expired at At
	Digest   Hash  // SHA-256 over "ISSUER,SERIAL\n" of the items in the order of issue
	Why      string
	Actor    string
	LogIndex int64 // of the evidence leaf
}

// IncidentItem is one certificate of an incident.
type IncidentItem struct {
	Certificate Certificate
	HeldWhy     string // legal hold: the item is frozen and reported as delayed; "" without one
	HeldBy      string
	HeldAt      time.Time
}

// IncidentTally counts the certificates of an incident as the record has them.
type IncidentTally struct {
	Total, Live, Revoked, Expired, Replaced, Held int64
	LiveByProfile                                 map[string]int64
	LiveByKind                                    map[CertificateKind]int64
}

// IncidentIntake is what is known when an incident is opened.
type IncidentIntake struct {
	Title     string
	Source    IncidentSource // "" means operator
	SourceRef string         // detector/key of an alarm, or who reported
	Playbook  string         // "" for none; it gives cause and reason where they are not named
	Cause     string         // as pki/policy calls it
	Reason    *Reason        // with which certificates are revoked; nil: the playbook's, else unspecified
	AwareAt   time.Time      // the clock starts here; zero means now
	Corrects  string         // a closed incident that this one takes up again
	Duties    []Duty         // instead of those of the configuration, role by role
	Scope     Scope          // may be empty at first
}

// TimelineEntry is one line of a timeline: UTC to the second, with the index of the leaf that proves it.
type TimelineEntry struct {
	At       time.Time
	LogIndex int64
	Kind     EvidenceKind
	Actor    string
	Ref      string
	Element  string // one of the twelve that a report expects, "" for none
	What     string
}

// Exposure is one certificate of an account in an open incident, as its holder may see it.
type Exposure struct {
	Incident    Incident
	Certificate Certificate
	Deadline    time.Time // zero where nobody must revoke it
	Held        bool
	Item        *CampaignItem // in a campaign that was started
	Advice      []string
}

// Playbook is what to do on one kind of day, as data: the commands in their order, and what the campaign asks for.
type Playbook struct {
	Name    string         `yaml:"name" json:"name"`
	Day     string         `yaml:"day" json:"day"` // the day that taught it
	When    string         `yaml:"when" json:"when"`
	Cause   string         `yaml:"cause" json:"cause"`
	Reason  string         `yaml:"reason" json:"reason"`
	Needs   CampaignNeeds  `yaml:"-" json:"needs"`
	Tickets bool           `yaml:"tickets" json:"tickets"`
	Steps   []PlaybookStep `yaml:"steps" json:"steps"`

	Asks []string `yaml:"asks" json:"-"` // patch, new_key, installed
}

// PlaybookStep is one thing to do.
type PlaybookStep struct {
	Who     string `yaml:"who" json:"who"`
	Do      string `yaml:"do" json:"do"`
	Type    string `yaml:"type,omitempty" json:"type,omitempty"` // the command
	Element string `yaml:"element,omitempty" json:"element,omitempty"`
}
