package enroll

import (
	"cmp"
	"context"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"bulkhead"
	"bulkhead/pki/csr"
	"bulkhead/pki/keycheck"
	"bulkhead/pki/policy"
	"bulkhead/pki/profile"
)

// Policy says for which names and in which ways certificates may be had.
type Policy struct {
	// OwnNames are the names that the house serves on an operator's word, and whose CAA lookup may fail without
	// being a denial. The zero value stands for DefaultOwnNames.
	OwnNames NameSet
	// Refused are names that nobody gets a certificate for.
	Refused NameSet
	// HighValue are suffixes of names (bulkhead.WithinSuffixes) that take a second person's approval of the order.
	HighValue []string
	// Methods that accounts may use; empty means http-01, dns-01 and tls-alpn-01.
	Methods []bulkhead.Method
}

// Limits bound work and time. Zero fields take the defaults.
type Limits struct {
	Names             int           // names in one order, whatever the profile says; 100
	Contacts          int           // contacts of one account; 10
	Workers           int           // validations and issuances at work at once, most of which wait for others; 64
	Backlog           int           // of them waiting for a worker before callers are turned away; 1,000
	OrderLife         time.Duration // from order to finalize; 7 days
	AuthorizationLife time.Duration // from order to validation; 7 days
	ValidationReuse   time.Duration // how long a validation may serve; 10 days. The policy row of the day caps it
	ApprovalReuse     time.Duration // how long an operator's word for an own name carries renewals by the certificate's holder; 398 days. Capped likewise
	ValidationTimeout time.Duration // one challenge; 30 s
	RespondWait       time.Duration // how long Respond waits for the outcome before it answers "processing"; 250 ms
	IssueTimeout      time.Duration // CAA and signing of one order; 60 s
	IssueTries        time.Duration // how long troubles of ours are tried again before the order fails; 1 hour
	FinalizeWait      time.Duration // how long Finalize waits for the result before it answers "processing"; 2 s
}

func (l Limits) withDefaults() Limits {
	setInt := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	setTime := func(p *time.Duration, v time.Duration) {
		if *p <= 0 {
			*p = v
		}
	}
	setInt(&l.Names, 100)
	setInt(&l.Contacts, 10)
	setInt(&l.Workers, 64)
	setInt(&l.Backlog, 1000)
	setTime(&l.OrderLife, 7*24*time.Hour)
	setTime(&l.AuthorizationLife, 7*24*time.Hour)
	setTime(&l.ValidationReuse, 10*24*time.Hour)
	setTime(&l.ApprovalReuse, 398*24*time.Hour)
	setTime(&l.ValidationTimeout, 30*time.Second)
	setTime(&l.RespondWait, 250*time.Millisecond)
	setTime(&l.IssueTimeout, 60*time.Second)
	setTime(&l.IssueTries, time.Hour)
	setTime(&l.FinalizeWait, 2*time.Second)
	return l
}

// Config is what a Service needs. Store, Issuer, Revoker, Validator, Profiles, DefaultProfile, Now and Rand
// are required.
type Config struct {
	Store     Store
	Issuer    Issuer
	Revoker   Revoker
	Validator Validator

	Profiles []*profile.Profile
	// Seconded judges the second approvals of an order as the signer will; nil means that the record's rows are believed.
	Seconded       func(ctx context.Context, o bulkhead.Order, words []bulkhead.SecondApproval) ([]bulkhead.SecondApproval, error)
	Book           Profiles // which of their versions is in force; nil means Profiles as they are
	DefaultProfile string
	// DefaultAuthority names the authority that issues a profile when the order does not ask for one; nil means the
	// one that the profile names.
	DefaultAuthority func(profile string) bulkhead.AuthorityID
	// InOffice reports whether somebody is an operator; nil when nobody asks. Tokens for own names die with their maker's office.
	InOffice func(ctx context.Context, name string) (bool, error)
	// AccountURI is the address of an account as RFC 8657's accounturi has it; nil when accounts have none.
	AccountURI func(accountID string) string
	// ExplanationURL goes into renewal information; optional.
	ExplanationURL string
	// Requests reads certification requests; the signer's where it is in the same process. nil means one of its own.
	Requests *csr.Reader
	// Keys are the rules for subscriber keys; nil means keycheck.DefaultRules. The signer checks again, by profile.
	Keys *keycheck.Rules

	// ExternalSecret, at least 32 octets, is what external account keys are derived from; nil means that there are none.
	// All processes of a house have the same.
	ExternalSecret []byte
	// ExternalRequired refuses new accounts without an external account key (RFC 8555 section 7.3.4).
	ExternalRequired bool

	// Seen hears what the customers of registration partners order and are refused; it must not wait. nil hears nothing.
	Seen func(PartnerSeen)

	// Campaigns are mass replacements; nil when there are none.
	Campaigns Campaigns

	Policy Policy
	Limits Limits
	Rates  RateLimits
	Now    func() time.Time
	Rand   io.Reader
	Log    *slog.Logger // nil discards
}

// Service holds the rules of enrolment behind every surface. It is safe for concurrent use.
type Service struct {
	cfg      Config
	limits   Limits
	own      NameSet
	methods  []bulkhead.Method
	profiles map[string]*profile.Profile
	log      *slog.Logger
	pool     *pool
	seed     maphash.Seed
	locks    [64]sync.Mutex // read-modify-write of one authorisation or account within this process
	randMu   sync.Mutex     // guards cfg.Rand
	lost     sync.Map       // challenge id → authorisation id: outcomes that could not be stored
	begun    sync.Map       // ids of orders whose issuance this process began, until they are at their end
	renewals renewals
}

// New checks the configuration and returns a Service that accepts work until Close.
func New(cfg Config) (*Service, error) {
	switch {
	case cfg.Store == nil, cfg.Issuer == nil, cfg.Revoker == nil, cfg.Validator == nil:
		return nil, errors.New("enroll: Store, Issuer, Revoker and Validator are required")
	case cfg.Now == nil, cfg.Rand == nil:
		return nil, errors.New("enroll: Now and Rand are required")
	case len(cfg.ExternalSecret) != 0 && len(cfg.ExternalSecret) < 32, cfg.ExternalRequired && len(cfg.ExternalSecret) == 0:
		return nil, errors.New("enroll: ExternalSecret has at least 32 octets")
	case len(cfg.Profiles) == 0:
		return nil, errors.New("enroll: at least one profile is required")
	}
	if err := cfg.Rates.Check(); err != nil {
		return nil, err
	}
	s := &Service{cfg: cfg, limits: cfg.Limits.withDefaults(), own: cfg.Policy.OwnNames, methods: cfg.Policy.Methods,
		profiles: map[string]*profile.Profile{}, log: cfg.Log, seed: maphash.MakeSeed()}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.own.IsEmpty() {
		s.own = DefaultOwnNames()
	}
	if len(s.methods) == 0 {
		s.methods = []bulkhead.Method{bulkhead.HTTP01, bulkhead.DNS01, bulkhead.TLSALPN01}
	}
	if slices.Contains(s.methods, bulkhead.OperatorApproval) {
		return nil, errors.New("enroll: operator-approval is not a method that accounts may use")
	}
	for _, p := range cfg.Profiles {
		if p == nil || p.Name == "" {
			return nil, errors.New("enroll: a profile has no name")
		}
		s.profiles[p.Name] = p
	}
	if s.cfg.Book == nil {
		s.cfg.Book = fixedProfiles(s.profiles)
	}
	if _, ok := s.profiles[cfg.DefaultProfile]; !ok {
		return nil, fmt.Errorf("enroll: the default profile %q is not among the profiles", cfg.DefaultProfile)
	}
	if s.cfg.Requests == nil {
		s.cfg.Requests = new(csr.Reader)
	}
	if s.cfg.Keys == nil {
		rules := keycheck.DefaultRules()
		s.cfg.Keys = &rules
	}
	s.pool = newPool(s.limits.Workers, s.limits.Backlog)
	return s, nil
}

// Close turns new work away and waits for the work under way until ctx ends; what is left then is cancelled and
// taken up again by Resume at the next start.
func (s *Service) Close(ctx context.Context) error { return s.pool.close(ctx) }

// retryEvery is how often work that could not be brought to an end is taken up again.
const retryEvery = 15 * time.Second

// Run resumes what an earlier process left behind, and then every interval (0 means retryEvery) takes up again what could
// not be brought to an end, until ctx ends.
func (s *Service) Run(ctx context.Context, interval time.Duration) error {
	tick := time.NewTicker(cmp.Or(interval, retryEvery))
	defer tick.Stop()
	step := s.Resume
	forgotten := s.now()
	for {
		if t := s.now(); t.Sub(forgotten) > time.Hour {
			forgotten = t
			if err := s.cfg.Store.ForgetRates(ctx, t); err != nil {
				s.log.WarnContext(ctx, "forgetting idle rate limits", "error", err)
			}
		}
		if err := step(ctx); err == nil {
			step = s.retry
		} else if ctx.Err() == nil {
			s.log.WarnContext(ctx, "resuming orders", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// RunOwn is Run for a process beside which another one runs: every interval it takes up again what this process itself began and
// could not bring to an end, until ctx ends.
func (s *Service) RunOwn(ctx context.Context, interval time.Duration) error {
	tick := time.NewTicker(cmp.Or(interval, retryEvery))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if _, err := s.retryOwn(ctx); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "resuming orders", "error", err)
		}
	}
}

// Profiles lists the profiles that are offered, by name.
func (s *Service) Profiles(ctx context.Context) []*profile.Profile { return s.cfg.Book.Offered(ctx) }

// fixedProfiles are profiles that never change.
type fixedProfiles map[string]*profile.Profile

// Profile implements Profiles.
func (f fixedProfiles) Profile(_ context.Context, name string) (*profile.Profile, error) {
	if p, ok := f[name]; ok {
		return p, nil
	}
	return nil, bulkhead.Faultf(bulkhead.KindInvalidProfile, "there is no profile %q", name).WithHint("the directory lists the profiles")
}

// Offered implements Profiles.
func (f fixedProfiles) Offered(context.Context) []*profile.Profile {
	out := make([]*profile.Profile, 0, len(f))
	for _, p := range f {
		out = append(out, p)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// ExternalRequired reports whether new accounts need an external account key.
func (s *Service) ExternalRequired() bool { return s.cfg.ExternalRequired }

// OwnNames is the set of names that the house serves on an operator's word.
func (s *Service) OwnNames() NameSet { return s.own }

// Entrance is what a named directory (a profile's or an issuer's) presets for the orders placed there.
type Entrance struct {
	Profile   string // "" leaves the choice to the order
	Authority bulkhead.AuthorityID
}

// Entrance resolves the name of a directory: a profile, or an authority that can issue. One that was rotated leads to whoever
// succeeded it: its clients have the URL in their configuration, and must get certificates on the day of a new authority without
// anybody's hand. KindNotFound otherwise.
func (s *Service) Entrance(ctx context.Context, name string) (Entrance, error) {
	switch p, err := s.cfg.Book.Profile(ctx, name); bulkhead.KindOf(err) {
	case "":
		return Entrance{Profile: p.Name}, nil
	case bulkhead.KindInvalidProfile:
	default:
		return Entrance{}, err
	}
	all, err := s.cfg.Store.Authorities(ctx)
	if err != nil {
		return Entrance{}, err
	}
	if id := issuerOrSuccessor(all, bulkhead.AuthorityID(name)); id != "" {
		return Entrance{Authority: id}, nil
	}
	return Entrance{}, bulkhead.Faultf(bulkhead.KindNotFound, "there is no profile and no issuing authority named %q", name).
		WithHint("see: bulkhead hierarchy show")
}

// issuerOrSuccessor is the issuing authority of that name, or the first of those who succeeded it that can issue; "" for none.
func issuerOrSuccessor(all []bulkhead.Authority, id bulkhead.AuthorityID) bulkhead.AuthorityID {
	for range all { // a chain of successors is no longer than the list
		i := slices.IndexFunc(all, func(a bulkhead.Authority) bool { return a.ID == id })
		if i < 0 || all[i].Kind != bulkhead.IssuingAuthority {
			return ""
		}
		if all[i].CanIssue() {
			return id
		}
		id = all[i].Successor
	}
	return ""
}

// reuse is how long a validation made at t may serve (BR 4.2.1).
func (s *Service) reuse(t time.Time) time.Duration {
	return min(s.limits.ValidationReuse, policy.DCVReuse(t))
}

func (s *Service) now() time.Time { return s.cfg.Now().UTC().Truncate(time.Millisecond) }

var idText = base32.StdEncoding.WithPadding(base32.NoPadding)

// newID returns 128 random bits as 26 lower-case base32 characters.
func (s *Service) newID() (string, error) {
	p, err := s.random(16)
	if err != nil {
		return "", err
	}
	return strings.ToLower(idText.EncodeToString(p)), nil
}

var placedText = base32.HexEncoding.WithPadding(base32.NoPadding)

// placedID is an id of a row of which every order writes one: 48 bits of milliseconds since 1970 and 80 random ones, in an alphabet whose order is
// that of the bits. Rows of one time stand beside each other in every index that has the id, which so grows at its end: where ids are random, each new one
// needs a page of its own, and in a large record one that no cache holds. It names and is no secret, as every id.
func (s *Service) placedID() (string, error) {
	p, err := s.random(16)
	if err != nil {
		return "", err
	}
	at := uint64(s.now().UnixMilli())<<16 | uint64(p[6])<<8 | uint64(p[7])
	binary.BigEndian.PutUint64(p, at)
	return strings.ToLower(placedText.EncodeToString(p)), nil
}

func (s *Service) random(n int) ([]byte, error) {
	p := make([]byte, n)
	s.randMu.Lock()
	defer s.randMu.Unlock()
	if _, err := io.ReadFull(s.cfg.Rand, p); err != nil {
		return nil, fmt.Errorf("enroll: random source: %w", err)
	}
	return p, nil
}

func (s *Service) lock(id string) func() {
	m := &s.locks[maphash.String(s.seed, id)%uint64(len(s.locks))]
	m.Lock()
	return m.Unlock
}

// accountActor is how evidence names an account.
func accountActor(id string) string { return "account:" + id }

// clip keeps free text within what an evidence leaf holds.
func clip(text string) string {
	const most = 4000
	if len(text) > most {
		text = text[:most]
	}
	return strings.ToValidUTF8(text, "?")
}
