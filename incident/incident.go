// Package incident is the desk for the bad day: intake, scope, deadlines, timeline, and the campaign that replaces what is
// touched.
//
// Purpose: know within minutes which certificates are concerned, until when what must have happened, and how far it has
// come; then carry it out in an order that hurts nobody first. A scope is a stored query; a plan is immutable
// (incident/plan); every step of every item has its evidence.
//
// Invariant: an incident only adds requests. It revokes through the ordinary change of status, reissues through the
// ordinary order, and signs nothing. An item is revoked before its replacement is installed only by the deadline clock,
// and an item on legal hold never. What a process did before it was killed is found in the record and not done again.
//
// Refuses: a scope that selects nothing or everything by a slip; two campaigns for one incident; work of a plan that was
// overtaken; a replacement with a key that any certificate of a key-compromise campaign has.
package incident

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bulkhead"
	"bulkhead/incident/plan"
)

// Store is the durable record as the desk needs it.
type Store interface {
	CreateIncident(ctx context.Context, i bulkhead.Incident, ev ...bulkhead.Evidence) error
	Incident(ctx context.Context, id string) (bulkhead.Incident, error)
	Incidents(ctx context.Context, limit int, states ...bulkhead.IncidentState) ([]bulkhead.Incident, error)
	MoveIncident(ctx context.Context, i bulkhead.Incident, expect bulkhead.IncidentState, ev ...bulkhead.Evidence) error
	// CountScope materialises a scope; the same certificates as before make no new count.
	CountScope(ctx context.Context, id string, scope bulkhead.Scope, c bulkhead.ScopeCount, leaf func(before, now bulkhead.ScopeCount) bulkhead.Evidence) (bulkhead.ScopeCount, error)
	ScopeCounts(ctx context.Context, id string) ([]bulkhead.ScopeCount, error)
	IncidentItems(ctx context.Context, id, account string, heldOnly bool, after int64, limit int) ([]bulkhead.IncidentItem, error)
	// ItemsToPlan goes through those that are issued and have not ended at now, by IntentSeq after one and up to another, with what
	// a plan asks of them: each is good until the next. PlanSpan is between which numbers they lie, both included.
	ItemsToPlan(ctx context.Context, id string, now time.Time, after, through int64) iter.Seq2[*bulkhead.IncidentItem, error]
	PlanSpan(ctx context.Context, id string) (first, last int64, err error)
	AccountIncidents(ctx context.Context, account string) ([]bulkhead.Incident, error)
	TallyIncident(ctx context.Context, id string, now time.Time) (bulkhead.IncidentTally, error)
	HoldItem(ctx context.Context, id string, ref bulkhead.CertificateRef, why, by string, at time.Time, ev ...bulkhead.Evidence) error
	ReleaseItem(ctx context.Context, id string, ref bulkhead.CertificateRef, ev ...bulkhead.Evidence) error

	PlanCampaign(ctx context.Context, c bulkhead.Campaign, expect int64, items iter.Seq[bulkhead.CampaignItem], jobs []bulkhead.CampaignJob, ev ...bulkhead.Evidence) error
	Campaign(ctx context.Context, id string) (bulkhead.Campaign, error)
	Campaigns(ctx context.Context, limit int, states ...bulkhead.CampaignState) ([]bulkhead.Campaign, error)
	MoveCampaign(ctx context.Context, c bulkhead.Campaign, expect bulkhead.CampaignState, ev ...bulkhead.Evidence) error
	// StartCampaign moves the campaign and blocks its keys in the same transaction.
	StartCampaign(ctx context.Context, c bulkhead.Campaign, expect bulkhead.CampaignState, leaf func(fresh int64, keys bulkhead.Hash) bulkhead.Evidence, ev ...bulkhead.Evidence) error
	CampaignItems(ctx context.Context, id string, f bulkhead.CampaignItemFilter) ([]bulkhead.CampaignItem, error)
	// CampaignWork returns a chunk of items by ordinals, both included, with what the record says of their certificates now.
	CampaignWork(ctx context.Context, id string, first, last int64) ([]bulkhead.CampaignWork, error)
	// ItemsToTell is CampaignItems for a chunk, with as much as telling asks of its items.
	ItemsToTell(ctx context.Context, id string, first, last int64) ([]bulkhead.CampaignItem, error)
	// HeldNoMore returns items on hold whose hold ended; AfterHold lets one go on, with its dates and its work; ToldAlone names,
	// by ordinal, those that are told of by themselves.
	HeldNoMore(ctx context.Context, id string) ([]bulkhead.CampaignItem, error)
	AfterHold(ctx context.Context, c bulkhead.Campaign, m bulkhead.ItemMove, it bulkhead.CampaignItem, jobs []bulkhead.CampaignJob, ev bulkhead.Evidence) error
	ToldAlone(ctx context.Context, id string) (map[int64]bool, error)
	MembershipOf(ctx context.Context, ref bulkhead.CertificateRef) (bulkhead.Campaign, bulkhead.CampaignItem, error)
	// WindowOf is MembershipOf with as much as renewal information asks for.
	WindowOf(ctx context.Context, ref bulkhead.CertificateRef) (c bulkhead.Campaign, it bulkhead.CampaignItem, revoked, found bool, err error)
	// OpenItemsOf returns the items of a started campaign by account and name that are neither revoked nor expired.
	OpenItemsOf(ctx context.Context, campaign, account, name string) ([]bulkhead.CampaignItem, error)
	ItemSteps(ctx context.Context, id string, intentSeq int64) ([]bulkhead.ItemStep, error)
	// MoveItems moves all items, or none with KindConflict when one is elsewhere or the job is not the caller's any more.
	MoveItems(ctx context.Context, id string, moves []bulkhead.ItemMove, job *bulkhead.CampaignJob, ev ...bulkhead.Evidence) error
	NoteItem(ctx context.Context, id string, n bulkhead.ItemMove) error
	NoteAccount(ctx context.Context, id, account, detail string, ev ...bulkhead.Evidence) error
	OpenItemCounts(ctx context.Context, id string, accounts []string) (map[string]int64, error)
	// ClaimJob gives out one due job of a running campaign's plan in force; one claim stands until its lease ends.
	ClaimJob(ctx context.Context, holder string, now, lease time.Time) (bulkhead.CampaignJob, bool, error)
	KeepJob(ctx context.Context, j bulkhead.CampaignJob) error
	// HoldJob makes the lease of a job that is still its holder's longer.
	HoldJob(ctx context.Context, j bulkhead.CampaignJob) error
	CampaignJobs(ctx context.Context, id string, limit int) ([]bulkhead.CampaignJob, error)
	TallyCampaign(ctx context.Context, id string, now time.Time) (bulkhead.CampaignTally, error)
	CampaignsOfKey(ctx context.Context, key bulkhead.Hash) ([]bulkhead.Campaign, error)
	KnownKeys(ctx context.Context, id string, keys ...bulkhead.Hash) ([]bulkhead.Hash, error)
	AddAttempt(ctx context.Context, a bulkhead.CampaignAttempt, ev ...bulkhead.Evidence) error
	// IssuedAfter returns certificates by the sequence of their outcome, with what a replacement is known by.
	IssuedAfter(ctx context.Context, seq int64, limit int) ([]bulkhead.Certificate, error)
	// Replacing picks, of new certificates, those that may replace an item by account and name.
	Replacing(ctx context.Context, id string, certs []bulkhead.Certificate) (map[int64]bool, error)
	EarlyItems(ctx context.Context, id string, after int64, limit int) ([]bulkhead.CampaignItem, error)
	OwnProgress(ctx context.Context, id string) (total, replaced int64, err error)
	SameKeyReissues(ctx context.Context, id string, limit int) ([]bulkhead.CampaignItem, error)

	KeepEstate(ctx context.Context, campaign string, e bulkhead.EstateLook, ev ...bulkhead.Evidence) error
	// Estate returns the last look of a campaign at the own estate; the zero value when there was none.
	Estate(ctx context.Context, campaign string) (bulkhead.EstateLook, error)

	CreateTickets(ctx context.Context, tickets []bulkhead.Ticket, ev ...bulkhead.Evidence) (fresh int64, err error)
	TicketByCode(ctx context.Context, code bulkhead.Hash) (bulkhead.Ticket, error)
	Tickets(ctx context.Context, account, campaign string, limit int) ([]bulkhead.Ticket, error)
	ClaimTicket(ctx context.Context, id string, request bulkhead.Hash, at time.Time) error
	ReleaseTicket(ctx context.Context, id string, request bulkhead.Hash) error
	RedeemTicket(ctx context.Context, id string, request bulkhead.Hash, used bulkhead.CertificateRef, at time.Time, ev ...bulkhead.Evidence) error

	Account(ctx context.Context, id string) (bulkhead.Account, error)
	Authorities(ctx context.Context) ([]bulkhead.Authority, error)
	Certificate(ctx context.Context, ref bulkhead.CertificateRef) (bulkhead.Certificate, []byte, error)
	CertificateByOrder(ctx context.Context, orderID string) (bulkhead.Certificate, []byte, error)
	AppendEvidence(ctx context.Context, ev ...bulkhead.Evidence) ([]int64, error)
	EvidenceAfter(ctx context.Context, seq int64, limit int) ([]bulkhead.EvidenceRow, error)
	EvidenceOfKinds(ctx context.Context, seq int64, kinds []bulkhead.EvidenceKind, limit int) ([]bulkhead.EvidenceRow, error)
	EvidenceHead(ctx context.Context) (seq int64, chain bulkhead.Hash, err error)
}

// Revoker is the ordinary change of status, seen from here.
type Revoker interface {
	// PlanRead makes a change of items, each beside the row of its certificate as it was just read, and previews it.
	PlanRead(ctx context.Context, actor, why string, items iter.Seq2[bulkhead.ChangeItem, bulkhead.Certificate]) (bulkhead.Change, error)
	// ActivateForCampaign carries a previewed change through on the approvals that the plan of the campaign has. It
	// refuses (KindGate) when the campaign's plan is not the one that was approved. A change that is public is left alone.
	ActivateForCampaign(ctx context.Context, c bulkhead.Campaign, change bulkhead.Change) error
	Withdraw(ctx context.Context, actor, id, why string) error
	Change(ctx context.Context, id string) (bulkhead.Change, error)
}

// Reached is how far telling one account has come.
type Reached struct {
	Settled bool   // nothing more is tried
	How     string // in words for the record, without addresses
}

// Notifier tells people.
type Notifier interface {
	// Notify has each account told of its certificates in the campaign, once for each plan however often it is asked, and
	// says how far each has come. accounts is how many certificates each has. With the row of a certificate, alone, the account is
	// told of that one by itself, once. An error means that it is to be asked again.
	Notify(ctx context.Context, i bulkhead.Incident, c bulkhead.Campaign, accounts map[string]int64, alone int64) (map[string]Reached, error)
}

// EndpointLook is what one node of an endpoint showed.
type EndpointLook struct {
	Address     string        // host, address and port
	Fingerprint bulkhead.Hash // of the certificate that it served; zero when none was seen
	Key         bulkhead.Hash // of that certificate
	Verdict     string        // vulnerable, not_supported, patched, unreachable, inconclusive; "" when not asked for
}

// Looker looks at every node that serves a name, from outside.
type Looker interface {
	Look(ctx context.Context, item bulkhead.CampaignItem, fault bool) ([]EndpointLook, error)
}

// Estate looks at every endpoint of the house's own, the items of the campaign that are its own among them.
type Estate interface {
	LookAtEstate(ctx context.Context, own []bulkhead.CampaignItem) (bulkhead.EstateLook, error)
}

// Adviser says of one certificate what its holder has to do, by language, with what was seen at its names filled in.
type Adviser interface {
	// Words is nil where nothing was seen.
	Words(ctx context.Context, ref bulkhead.CertificateRef) (map[string]string, error)
}

// Partners resolves a registration partner to the accounts that it brought.
type Partners interface {
	PartnerAccounts(ctx context.Context, partner string) ([]string, error)
}

// Reissuer places the order of a replacement by the ordinary path.
type Reissuer interface {
	// Reissue replaces a certificate of the account with one for the CSR. With a method that differs from how a name was
	// shown, the validation there is is not used: KindUserActionRequired names the order whose challenge waits.
	Reissue(ctx context.Context, account string, old bulkhead.Certificate, csr []byte, method bulkhead.Method) (bulkhead.IssuedCertificate, error)
}

// Config is what a desk needs. Store and Revoker are required.
type Config struct {
	Store    Store
	Revoker  Revoker
	Notifier Notifier // nil: renewal information, the account's list and tickets say it all
	Looker   Looker   // nil: steps that are seen from outside are imported by hand
	Estate   Estate   // nil: the own estate is known by what was replaced alone
	Adviser  Adviser  // nil: letters have no more than the steps that are the same for everybody
	Partners Partners // nil: there are none
	Reissuer Reissuer // nil: tickets cannot be redeemed here

	Capacity  plan.Capacity
	Own       func(bulkhead.Certificate) bool // of the house's own estate
	Critical  func(bulkhead.Certificate) bool // critical infrastructure, tagged before the day
	Product   func(profile string) string     // tls, smime, code-signing
	Duties    []bulkhead.Duty                 // who is on call
	Playbooks []Playbook                      // nil: those of the house
	Advice    []ChainAdvice                   // nil: those of the house

	ValidationReuse time.Duration // validations older than this cost a new one; 0 means 10 days
	OnePerson       int           // campaigns up to this size one person may start
	TicketSecret    []byte        // 32 octets or more; nil: no tickets
	TicketLife      time.Duration // 0 means 30 days
	Explanation     string        // URL that renewal information gives
	Chunk           int           // items of one job; 0 means 500
	Together        int           // chunks that one job revokes by one change; 0 means 2000
	Lease           time.Duration // of a job; 0 means 5 minutes
	Looks           int           // items looked at in one round; 0 means 100
	Alarm           func(ctx context.Context, a bulkhead.Alarm)

	Now  func() time.Time
	Rand io.Reader
	Log  *slog.Logger
}

// Service is the desk. Safe for concurrent use; several processes may work on one record.
type Service struct {
	cfg    Config
	holder string // of jobs; random for each process
	epoch  atomic.Int64
	lull   atomic.Pointer[lull]

	jobs     sync.RWMutex // of jobs: those that revoke are done alone
	estateMu sync.Mutex   // held while the own estate is looked at: who waits reads what was seen

	mu    sync.Mutex
	looks map[string]int64 // campaign → ordinal up to which this process looked in this round
	apart map[string]int64 // the same of items that others revoke
}

// New checks the configuration.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Revoker == nil {
		return nil, errors.New("incident: Store and Revoker are required")
	}
	if len(cfg.TicketSecret) != 0 && len(cfg.TicketSecret) < 32 {
		return nil, errors.New("incident: TicketSecret has at least 32 octets")
	}
	no := func(bulkhead.Certificate) bool { return false }
	if cfg.Own == nil {
		cfg.Own = no
	}
	if cfg.Critical == nil {
		cfg.Critical = no
	}
	if cfg.Product == nil {
		cfg.Product = func(string) string { return "tls" }
	}
	if cfg.Alarm == nil {
		cfg.Alarm = func(context.Context, bulkhead.Alarm) {}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	setDefault(&cfg.ValidationReuse, 10*24*time.Hour)
	setDefault(&cfg.TicketLife, 30*24*time.Hour)
	setDefault(&cfg.Lease, 5*time.Minute)
	setDefault(&cfg.Chunk, 500)
	setDefault(&cfg.Looks, 100)
	if cfg.Playbooks == nil {
		var err error
		if cfg.Playbooks, err = HousePlaybooks(); err != nil {
			return nil, err
		}
	}
	if cfg.Advice == nil {
		var err error
		if cfg.Advice, err = HouseAdvice(); err != nil {
			return nil, err
		}
	}
	s := &Service{cfg: cfg, looks: map[string]int64{}, apart: map[string]int64{}}
	var err error
	s.holder, err = s.newID()
	return s, err
}

// Epoch changes whenever this process may have changed the window or the state of an item.
func (s *Service) Epoch() int64 { return s.epoch.Load() }

func (s *Service) moved() { s.epoch.Add(1) }

func setDefault[T int | time.Duration](p *T, v T) {
	if *p <= 0 {
		*p = v
	}
}

// now is UTC to the second, as certificates know it.
func (s *Service) now() time.Time { return s.cfg.Now().UTC().Truncate(time.Second) }

func (s *Service) newID() (string, error) {
	b := make([]byte, 10)
	if _, err := io.ReadFull(s.cfg.Rand, b); err != nil {
		return "", fmt.Errorf("random id: %w", err)
	}
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b)), nil
}

// clip keeps free text within what a leaf can hold.
func clip(text string) string {
	const most = 4000
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// utc prints a time as the timeline does.
func utc(t time.Time) string { return t.UTC().Format(time.RFC3339) }
