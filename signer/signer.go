package signer

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"bulkhead"
	"bulkhead/keys"
	"bulkhead/pki/csr"
	"bulkhead/pki/keycheck"
	"bulkhead/pki/lint"
	"bulkhead/pki/profile"
	"bulkhead/pki/sct"
)

const (
	// tokenLife bounds the time between Prepare and Sign: notBefore, evidence and block list were looked at then.
	tokenLife = 2 * time.Minute
	// staleAfter is when a reservation can be nobody's any more: longer than a token's life and every commit's.
	staleAfter = 10 * time.Minute
	// commitTimeout bounds one transaction of the group commit.
	commitTimeout = 15 * time.Second
	// reserveTries bounds new serials after a conflict. One conflict of 127-bit random serials is already a sign of a
	// broken random source.
	reserveTries = 3

	// readDelay lets certificates that are on their way join a read of the record, and commitDelay a commit. Nobody waits
	// once all of them wait; who is alone never does.
	readDelay   = time.Millisecond
	commitDelay = 8 * time.Millisecond

	defaultGroupSize        = 64
	defaultDelegateValidity = 14 * 24 * time.Hour
	defaultInfraValidity    = 30 * 24 * time.Hour
)

// Config of a Signer. Store, Keys, Profiles, URLs.Base, Linter and Now are required; HeadKeyURI and HeadName are
// required for SignHead only.
type Config struct {
	Store    Store
	Keys     keys.Ring
	Profiles []*profile.Profile
	Book     Profiles     // which of their versions is in force; nil means Profiles as they are
	URLs     profile.URLs // baked into certificates
	Linter   *lint.Linter
	Requests *csr.Reader       // reads certification requests; nil means one of its own
	KeyRules *keycheck.Rules   // nil means keycheck.DefaultRules()
	Methods  []bulkhead.Method // methods of validation that count; nil means all
	// Words judges second approvals; nil means that the record's rows are believed.
	Words Words
	// HighValue are suffixes of names (bulkhead.WithinSuffixes) that take a second person's approval of the order.
	HighValue []string

	Transparency Transparency // submits precertificates; needed by profiles that want timestamps
	Logs         []sct.Log    // whose timestamps count

	HeadKeyURI string // Ed25519 key of the status head
	HeadName   string // its name in the signed note: the head's origin

	Now  func() time.Time
	Rand io.Reader    // serials and signatures; nil means crypto/rand
	Log  *slog.Logger // nil means discard

	Spool            string        // folder for large lists in the making, in files without a name; "" is the system's for temporary files
	Actor            string        // for evidence of what nobody asked for; "" means "role:signer"
	GroupSize        int           // most certificates in one commit; 0 means 64
	GroupDelay       time.Duration // a commit waits so long for certificates under way; 0 means 8 ms, below 0 not at all
	Shared           bool          // other processes use the record, and each call is a round trip: a commit waits for all of them and not for a third, and reads share one
	DelegateValidity time.Duration // of OCSP delegates, renewed at half; 0 means 14 days
	InfraValidity    time.Duration // of the house's own listeners; 0 means 30 days
}

// Signer implements Door. Make one with New, call Recover before the first request, and Close it.
type Signer struct {
	cfg      Config
	start    time.Time
	rules    keycheck.Rules
	profiles map[string]*profile.Profile
	twins    twinKeys

	authorities sync.Map // bulkhead.AuthorityID → *authority as parsed last

	crowd     crowd
	reserves  *group[bulkhead.Reservation, int64]
	completes *group[completion, int64]
	blocks    *group[bulkhead.Hash, bulkhead.Stops]
	lookups   *group[bulkhead.AuthorityID, *authority]
	standings *group[asker, grounds]

	laying sync.Mutex // guards laid
	laid   *laidOver  // the change that was read last; nil when that is long ago

	mu     sync.Mutex // guards what follows
	closed bool
	active sync.WaitGroup                       // operations under way; only grows while closed is false
	live   map[bulkhead.CertificateRef]struct{} // reserved by this process and still in somebody's hands
	crls   map[shardKey]int64                   // highest CRL number signed by this process
	locks  map[bulkhead.AuthorityID]*sync.Mutex // one maker of delegates per authority
	lists  lists                                // what the last CRLs of large shards listed
	heads  sync.Mutex                           // one head at a time
}

type shardKey struct {
	authority bulkhead.AuthorityID
	shard     int
}

var _ Door = (*Signer)(nil)

// New checks the configuration and starts the commit goroutines. KindUsage names what is missing.
func New(c Config) (*Signer, error) {
	missing := ""
	switch {
	case c.Store == nil:
		missing = "Store"
	case c.Keys == nil:
		missing = "Keys"
	case len(c.Profiles) == 0:
		missing = "Profiles"
	case c.URLs.Base == "":
		missing = "URLs.Base"
	case c.Linter == nil:
		missing = "Linter"
	case c.Now == nil:
		missing = "Now"
	case (c.HeadKeyURI == "") != (c.HeadName == ""):
		missing = "HeadKeyURI or HeadName"
	}
	if missing != "" {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "signer: %s is not set", missing).WithHint("set it in the signer's configuration")
	}
	c.defaults()
	s := &Signer{cfg: c, start: c.Now(), rules: keycheck.DefaultRules(), profiles: map[string]*profile.Profile{},
		live: map[bulkhead.CertificateRef]struct{}{}, crls: map[shardKey]int64{}, locks: map[bulkhead.AuthorityID]*sync.Mutex{}, lists: lists{least: leastKept}}
	if c.KeyRules != nil {
		s.rules = *c.KeyRules
	}
	for _, p := range c.Profiles {
		if _, twice := s.profiles[p.Name]; twice {
			return nil, bulkhead.Faultf(bulkhead.KindUsage, "profile %q is defined twice", p.Name).WithHint("give one of them another name")
		}
		s.profiles[p.Name] = p
	}
	if s.cfg.Book == nil {
		s.cfg.Book = fixedProfiles(s.profiles)
	}
	s.crowd.all = c.Shared
	s.reserves = newGroup(c.GroupSize, c.GroupDelay, &s.crowd, s.flushReservations)
	s.completes = newGroup(c.GroupSize, c.GroupDelay, &s.crowd, s.flushCompletions)
	s.blocks = newGroup(c.GroupSize, readDelay, &s.crowd, s.flushBlocks)
	s.lookups = newGroup(c.GroupSize, readDelay, &s.crowd, s.flushLookups)
	s.standings = newGroup(c.GroupSize, readDelay, &s.crowd, s.flushStandings)
	s.blocks.alone, s.lookups.alone, s.standings.alone = !c.Shared, !c.Shared, !c.Shared
	return s, nil
}

func (c *Config) defaults() {
	if c.Requests == nil {
		c.Requests = new(csr.Reader)
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Methods == nil {
		c.Methods = []bulkhead.Method{bulkhead.HTTP01, bulkhead.DNS01, bulkhead.TLSALPN01, bulkhead.OperatorApproval}
	}
	c.Methods = slices.Clone(c.Methods)
	if c.Actor == "" {
		c.Actor = "role:signer"
	}
	if c.GroupSize <= 0 {
		c.GroupSize = defaultGroupSize
	}
	if c.GroupDelay == 0 {
		c.GroupDelay = commitDelay
	}
	if c.DelegateValidity <= 0 {
		c.DelegateValidity = defaultDelegateValidity
	}
	if c.InfraValidity <= 0 {
		c.InfraValidity = defaultInfraValidity
	}
}

// Close refuses new work, waits for what is under way, and stops the commit goroutines. It may be called twice.
func (s *Signer) Close() error {
	s.mu.Lock()
	was := s.closed
	s.closed = true
	s.mu.Unlock()
	s.active.Wait()
	if !was {
		s.reserves.close()
		s.completes.close()
		s.blocks.close()
		s.lookups.close()
		s.standings.close()
		s.lists.close()
	}
	return nil
}

// enter counts an operation that Close must wait for; call the result when it is over.
func (s *Signer) enter() (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed()
	}
	s.active.Add(1)
	return s.active.Done, nil
}

func errClosed() error {
	return bulkhead.NewFault(bulkhead.KindUnavailable, "the signer is shutting down").WithHint("try again when it is back").WithRetry(5 * time.Second)
}

// now is the signer's time: UTC, milliseconds, as evidence keeps it.
func (s *Signer) now() time.Time { return s.cfg.Now().UTC().Truncate(time.Millisecond) }

// Issue implements Door: Prepare and Sign, and with timestamps the certificate after the precertificate. The certificate is durable in store and evidence when it returns.
func (s *Signer) Issue(ctx context.Context, req bulkhead.CertificateRequest) (bulkhead.IssuedCertificate, error) {
	defer s.crowd.begin()()
	p, err := s.prepare(ctx, req, false)
	if err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	return s.perfect(ctx, p)
}

// IssueAfter is Issue for an order whose looks at CAA are on their way into the record: what needs none of them is done beside that,
// the intent included. stored is asked once, always; it waits until they are durable. Only when it gave nil they are read from the record,
// and only when they permit something is signed. Else the intent is abandoned. A nil stored makes it Issue.
func (s *Signer) IssueAfter(ctx context.Context, req bulkhead.CertificateRequest, stored func(context.Context) error) (bulkhead.IssuedCertificate, error) {
	if stored == nil {
		return s.Issue(ctx, req)
	}
	defer s.crowd.begin()()
	p, err := s.prepare(ctx, req, true)
	s.crowd.waiting.Add(1) // nobody need wait for it
	missing := stored(ctx)
	s.crowd.waiting.Add(-1)
	if err == nil {
		if err = missing; err == nil {
			err = s.permitted(ctx, p.t)
		}
		if err != nil && p.pre == nil {
			s.forgo(ctx, p.Token, err)
		}
	}
	if err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	return s.perfect(ctx, p)
}

// perfect signs what was prepared.
func (s *Signer) perfect(ctx context.Context, p *prepared) (bulkhead.IssuedCertificate, error) {
	if p.t.plan != nil {
		return s.transparent(ctx, p)
	}
	return s.Sign(ctx, p.Token)
}

// randomSerial draws 16 octets: positive, never zero in the first octet, so 127 bits less a little (BR 7.1 asks for 64).
func (s *Signer) randomSerial() (bulkhead.Serial, error) {
	var b [16]byte
	for {
		if _, err := io.ReadFull(s.cfg.Rand, b[:]); err != nil {
			return bulkhead.Serial{}, fmt.Errorf("random source: %w", err)
		}
		if b[0] &= 0x7f; b[0] != 0 {
			return bulkhead.SerialFromBytes(b[:])
		}
	}
}

// detached is for steps that must not stop half-way because the caller went away.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
}
