package run

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sync/errgroup"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/console/check"
	"bulkhead/console/signin"
	"bulkhead/ct"
	"bulkhead/edge"
	"bulkhead/enroll"
	"bulkhead/enroll/acme"
	"bulkhead/enroll/dcv"
	"bulkhead/evidence"
	"bulkhead/evidence/cosign"
	"bulkhead/incident"
	"bulkhead/keys"
	"bulkhead/notice"
	"bulkhead/pki/csr"
	"bulkhead/pki/keycheck"
	"bulkhead/pki/lint"
	"bulkhead/pki/profile"
	"bulkhead/proof"
	"bulkhead/publish"
	"bulkhead/quorum"
	"bulkhead/retention"
	"bulkhead/scan"
	"bulkhead/signer"
	"bulkhead/signer/signerrpc"
	"bulkhead/status"
	"bulkhead/store/postgres"
	"bulkhead/store/sqlite"
	"bulkhead/watch"
	"bulkhead/watch/outside"
)

// Store is everything that the compartments ask of the record, in one value.
type Store interface {
	watchRecord
	ct.Record
	signer.Store
	enroll.Store
	status.Store
	evidence.Rows
	quorum.Store
	signin.Store
	watch.Store
	watch.PartnerStore
	notice.Store
	retention.Store
	incident.Store
	ReportStore
	proof.Store
	EvidenceScan
	MassPlanStore
	notice.IncidentStore
	console.Inventory
	check.Store
	console.Replies
	scan.HistoryStore
	// Succeed puts an authority and retires its predecessor, both or neither.
	Succeed(ctx context.Context, successor, predecessor bulkhead.Authority, ev ...bulkhead.Evidence) error
	PutPrepared(ctx context.Context, p []bulkhead.Prepared, ev ...bulkhead.Evidence) error
	ceremonyStore
	// Owed counts an authority's certificates that have not ended at t, OCSP delegates left out.
	Owed(ctx context.Context, issuer bulkhead.AuthorityID, t time.Time) (bulkhead.Owed, error)
	Precertificate(ctx context.Context, ref bulkhead.CertificateRef) ([]byte, error)
	Counts(ctx context.Context) (map[bulkhead.AuthorityID]map[bulkhead.CertificateState]int64, error)
	Partner(ctx context.Context, id string) (bulkhead.Partner, error)
	HeldScopes(ctx context.Context) ([]bulkhead.HeldScope, error)
	HoldScope(ctx context.Context, h bulkhead.HeldScope, ev ...bulkhead.Evidence) error
	PartnerAccounts(ctx context.Context, partner string, limit int) ([]bulkhead.Account, error)
	ChangeOutside(ctx context.Context, change, campaign string) (bulkhead.CertificateRef, bool, error)
	PrepareImport(items []bulkhead.Imported) (commit func(ctx context.Context, ev ...bulkhead.Evidence) ([]bulkhead.ImportResult, error), err error)
	HeldCertificates(ctx context.Context, issuer bulkhead.AuthorityID, after bulkhead.Serial, limit int) ([]bulkhead.Status, error)
	Restate(ctx context.Context, items []bulkhead.Restated) (int, error)
	BlockKeys(ctx context.Context, keys []bulkhead.BlockedKey, ev []bulkhead.Evidence) ([]bulkhead.Hash, error)
	// ActionRequests returns the requests for any of the actions, whatever became of them, oldest first.
	ActionRequests(ctx context.Context, actions ...string) ([]bulkhead.ApprovalRequest, error)
	PutProfileVersion(ctx context.Context, v bulkhead.ProfileVersion, ev ...bulkhead.Evidence) error
	ProfileVersions(ctx context.Context, after int64) ([]bulkhead.ProfileVersion, error)
	Ping(ctx context.Context) error
	Close() error
}

// House is a composed house on one data directory.
type House struct {
	dir     string
	cfg     Config
	log     *slog.Logger
	metrics *prometheus.Registry
	version string
	now     func() time.Time
	address string // base URL of the HTTPS listener; set before any role runs

	delegateValidity time.Duration // see Options
	historic         bool          // opened for a rehearsal of a historic day
	fault            func(change string, a *bulkhead.ShadowAnswer)
	looker           incident.Looker // of a rehearsal's desk; nil otherwise

	roles        roleSet
	store        Store // nil in an edge alone
	ring         keys.Ring
	objects      publish.Store  // nil where an edge reads from an origin
	published    publish.Reader // what the edge reads
	signer       *signer.Signer // nil where the signer is another process
	held         *heldRecord    // of signer
	door         door           // the signer, here or there; nil in roles that ask nothing of it
	identity     *identity      // of this process among the house's; nil where all roles are in one
	status       *status.Service
	evidence     *evidence.Log
	witnesses    *cosign.Feeder // nil without a policy
	monitor      *ct.Monitor    // nil without logs to read
	quorum       *quorum.Quorum
	gate         *quorum.Gatekeeper
	first        []bulkhead.Operator // of the first start, from outside the store: who the operators are is held against them
	signin       *signin.Service
	watch        *watch.Watch
	outside      watcher
	prober       atomic.Pointer[outside.Prober] // nil before Run
	notices      *notice.Service                // nil while nobody is to be told
	retention    *retention.Service
	edge         *edge.Edge
	live         *liveSwitch // nil unless status.live
	enroll       *enroll.Service
	desk         *incident.Service
	tell         *notice.Tell
	history      *scan.History // of looks at endpoints
	enrolment    enroll.Config
	corroborator *dcv.Corroborator // nil without perspectives
	book         *profileBook      // nil in a process that has no profiles
	rules        keycheck.Rules    // of the signer and of enrolment, with the lists of the operator
	requests     csr.Reader        // of the signer and of enrolment: what is in one process is verified once
	heads        note.Verifier     // of the status heads
	api          *console.API
	sightings    sightings // what an edge without a watch beside it has seen

	ending sync.Mutex // one key is destroyed at a time

	rekey chan struct{} // a key was blocked: the listener looks at its own

	closers []func() error // run in reverse order by Close
}

// OpenStore opens the record that the configuration names.
func OpenStore(ctx context.Context, dir string, cfg Config) (Store, error) {
	kind, rest, _ := strings.Cut(cfg.Store, ":")
	if kind == "sqlite" {
		return sqlite.Open(ctx, sqlite.Config{Path: inDir(dir, rest)})
	}
	dsn, err := ReadSecret(inDir(dir, rest))
	if err != nil {
		return nil, err
	}
	return postgres.Open(ctx, postgres.Config{DSN: string(dsn)})
}

func inDir(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// Open composes a house. Close must be called.
func Open(ctx context.Context, dir string, cfg Config, log *slog.Logger, version string) (*House, error) {
	return OpenWith(ctx, Options{Dir: dir, Config: cfg, Log: log, Version: version})
}

// OpenWith is Open with every choice. Close must be called.
func OpenWith(ctx context.Context, o Options) (_ *House, err error) {
	o.defaults()
	dir, cfg := o.Dir, o.Config
	h := &House{dir: dir, cfg: cfg, roles: rolesOf(o.Roles), historic: o.Rehearsal, log: o.Log, version: o.Version, now: o.Now, delegateValidity: o.DelegateValidity, metrics: prometheus.NewRegistry(), rekey: make(chan struct{}, 1)}
	h.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if o.Rehearsal {
		h.fault = o.Planted
		if o.Look != nil {
			h.looker = rehearsedLooker(o.Look)
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Close())
		}
	}()
	var s seed
	if h.roles.has(signerrpc.Signer) {
		if s, err = loadSeed(dir); err != nil {
			return h, err
		}
	}
	for _, step := range []func(context.Context, seed) error{
		h.openRecord,
		h.openObjects,
		h.openKeys,
		h.openQuorum,
		h.plantAll,
		h.syncTranscripts,
		h.openProfiles,
		h.openSigner,
		h.openStatus,
		h.openEvidence,
		h.openWitnesses,
		h.openLive,
		h.openEdge,
		h.openEnroll,
		h.openDesk,
		h.openNotices,
		h.openTell,
		h.openRetention,
		h.openWatch,
		h.openMonitor,
		h.openAPI,
	} {
		if err := step(ctx, s); err != nil {
			return h, err
		}
	}
	h.metrics.MustRegister(&houseMetrics{h: h}, &watchMetrics{h: h})
	if h.witnesses != nil {
		h.metrics.MustRegister(&witnessMetrics{f: h.witnesses})
	}
	return h, nil
}

// Close ends what Open began, last things first.
func (h *House) Close() error {
	var errs []error
	for i := len(h.closers) - 1; i >= 0; i-- {
		errs = append(errs, h.closers[i]())
	}
	h.closers = nil
	return errors.Join(errs...)
}

// openRecord opens the store for every role but the edge, which has none.
func (h *House) openRecord(ctx context.Context, _ seed) error {
	if !h.roles.needStore() {
		return nil
	}
	open := OpenStore
	if !h.roles.all() {
		open = openStoreOfRole
	}
	var err error
	if h.store, err = open(ctx, h.dir, h.cfg); err != nil {
		return err
	}
	h.closers = append(h.closers, h.store.Close)
	h.history = scan.NewHistory(h.store, h.now, time.Duration(h.cfg.Analyser.Keep), historyFor)
	return nil
}

// historyFor is how long looks of the house are kept after they were last seen so.
const historyFor = 400 * 24 * time.Hour

// keyRules are the default rules with the operator's lists of weak keys.
func keyRules(dir string, lists []string) (keycheck.Rules, error) {
	rules := keycheck.DefaultRules()
	for _, name := range lists {
		f, err := os.Open(inDir(dir, name))
		if err != nil {
			return rules, bulkhead.Faultf(bulkhead.KindUsage, "weak_key_lists: %s cannot be read", name).WithHint("correct weak_key_lists in " + ConfigFile).WithCause(err)
		}
		parse := keycheck.ParseList
		if filepath.Ext(name) == ".dat" {
			parse = keycheck.ParseBadkeys
		}
		l, err := parse(filepath.Base(name), f)
		f.Close()
		if err != nil {
			return rules, bulkhead.Faultf(bulkhead.KindUsage, "weak_key_lists: %s: %s", name, bulkhead.AsFault(err).Detail).WithHint("correct weak_key_lists in " + ConfigFile).WithCause(err)
		}
		rules.Lists = append(rules.Lists, l)
	}
	return rules, nil
}

// openProfiles reads the profiles and the rules for keys, which the signer and those who speak with subscribers share.
func (h *House) openProfiles(ctx context.Context, _ seed) error {
	if !h.roles.has(signerrpc.Signer, signerrpc.Enroll, signerrpc.Console) {
		return nil
	}
	var err error
	if h.book, err = h.openBook(ctx); err != nil {
		return err
	}
	authorities, err := h.store.Authorities(ctx)
	if err != nil {
		return err
	}
	for name := range h.book.files {
		for _, a := range authorities {
			if name == string(a.ID) {
				return bulkhead.Faultf(bulkhead.KindUsage, "profile %s bears the name of an authority", name).WithHint("rename the profile: both are names of ACME directories")
			}
		}
	}
	h.rules, err = keyRules(h.dir, h.cfg.WeakKeyLists)
	return err
}

func (h *House) openSigner(ctx context.Context, s seed) error {
	if !h.roles.has(signerrpc.Signer) {
		return h.openDoor(ctx)
	}
	linter, err := lint.New(lint.Config{PrivateNames: true})
	if err != nil {
		return err
	}
	logs, trusted, err := h.transparency()
	if err != nil {
		return err
	}
	held, err := h.holdStops(ctx)
	if err != nil {
		return err
	}
	h.held = held
	h.signer, err = signer.New(signer.Config{Spool: h.dir, Shared: !strings.HasPrefix(h.cfg.Store, "sqlite:"), Transparency: logs, Logs: trusted, Store: held, Keys: h.ring, Profiles: h.book.known(), Book: h.book, Words: held, URLs: profile.URLs{Base: h.cfg.StatusURL}, Linter: linter, KeyRules: &h.rules, Requests: &h.requests,
		HighValue: h.cfg.HighValueNames, HeadKeyURI: s.HeadKeyURI, HeadName: h.cfg.headOrigin(), DelegateValidity: h.delegateValidity, Now: h.now, Rand: rand.Reader, Log: h.log.With(slog.String("role", "signer"))})
	if err != nil {
		return err
	}
	h.door = h.signer
	h.closers = append(h.closers, h.signer.Close)
	n, err := h.signer.Recover(ctx)
	if n > 0 {
		h.log.WarnContext(ctx, "reservations of an earlier process were abandoned; nobody received them", slog.Int("count", n))
	}
	return err
}

func (h *House) openStatus(context.Context, seed) error {
	var err error
	if !h.roles.has(signerrpc.Status, signerrpc.Edge, signerrpc.Enroll, signerrpc.Console) {
		return nil
	}
	if h.heads, err = readVerifier(filepath.Join(h.dir, headPub)); err != nil {
		return err
	}
	if h.store == nil {
		return nil
	}
	sets, err := h.cfg.Trust.read(h.dir)
	if err != nil {
		return err
	}
	c := status.Config{Store: h.store, Signer: h.door, Objects: h.objects, Elsewhere: !h.roles.has(signerrpc.Status), HeadVerifier: h.heads, AnchorSets: sets,
		Policy: status.Policy{AnswerValidity: time.Duration(h.cfg.Status.AnswerValidity), CRLValidity: time.Duration(h.cfg.Status.CRLValidity), OnePerson: h.cfg.Status.OnePerson},
		Now:    h.now, Rand: rand.Reader, Log: h.log.With(slog.String("role", "status"))}
	if h.fault != nil {
		c.Signer = planted{h.door, h.fault}
	}
	h.lifecycle(&c)
	h.status, err = status.New(c)
	return err
}

func (h *House) openQuorum(_ context.Context, s seed) error {
	if h.store == nil {
		return nil
	}
	var err error
	if h.first, err = firstOperators(h.dir, s); err != nil {
		return err
	}
	h.quorum, err = quorum.New(quorum.Config{Store: h.store, First: h.first, Origins: h.cfg.SignIn.Origins, Alarm: h.raise, Now: h.now, Rand: rand.Reader, Log: h.log.With(slog.String("role", "quorum")),
		People: peopleFor, Execute: h.executors()})
	if err != nil {
		return err
	}
	h.gate = quorum.NewGatekeeper(h.quorum)
	h.watch, err = watch.New(watch.Config{Store: h.store, Detectors: []watch.Detector{watch.UnassignedSerial{Store: h.store}, watch.PartnerBehaviour{Store: h.store}}, Now: h.now, Log: h.log.With(slog.String("role", "watch"))})
	return err
}

func (h *House) openEvidence(context.Context, seed) error {
	if !h.roles.has(signerrpc.Evidence) {
		return nil
	}
	var err error
	h.evidence, err = evidence.New(evidence.Config{Rows: h.store, Dir: filepath.Join(h.dir, evidenceDir), Origin: h.cfg.evidenceOrigin(),
		KeyFile: filepath.Join(h.dir, evidenceKey), Now: h.now, Log: h.log.With(slog.String("role", "evidence")), Alarm: h.watch.Raise})
	if err != nil {
		return err
	}
	h.closers = append(h.closers, h.evidence.Close)
	return nil
}

func (h *House) openEdge(context.Context, seed) error {
	if !h.roles.has(signerrpc.Edge) {
		return nil
	}
	var err error
	h.edge, err = edge.New(h.edgeConfig(edge.Config{Source: h.published, HeadVerifier: h.heads, Log: h.log.With(slog.String("role", "edge")), Now: h.now,
		CacheDir: filepath.Join(h.dir, "edge"), Metrics: h.metrics,
		Observe: func(u edge.Unassigned) {
			h.see(watch.Sighting{Kind: watch.UnassignedAsked, Issuer: u.Issuer, Serial: u.Serial, At: u.At})
		}}))
	return err
}

func (h *House) openEnroll(context.Context, seed) error {
	if !h.roles.has(signerrpc.Enroll, signerrpc.Console) {
		return nil
	}
	own, err := enroll.ParseNameSet(h.cfg.OwnNames...)
	if err != nil {
		return err
	}
	look, err := dcv.New(dcv.Config{Resolver: h.cfg.Resolver, HTTPPort: h.cfg.ValidateHTTPPort, TLSPort: h.cfg.ValidateTLSPort, AllowPrivate: h.cfg.PrivateTargets,
		OwnNames: own, CAAIdentities: h.cfg.ACME.CAAIdentities, Now: h.now, Log: h.log.With(slog.String("role", "dcv"))})
	if err != nil {
		return err
	}
	validator, err := h.perspectives(look, own)
	if err != nil {
		return err
	}
	secret, err := secretForExternalKeys(h.dir)
	if err != nil {
		return err
	}
	h.enrolment = enroll.Config{Store: shownKeys{h.store, h}, Issuer: h.door, Revoker: h.status, Validator: validator, Profiles: h.book.known(), Book: h.book, Seconded: h.seconded, Keys: &h.rules, Requests: &h.requests,
		DefaultProfile: h.cfg.DefaultProfile, DefaultAuthority: h.authorityFor,
		AccountURI:     func(id string) string { return acme.AccountURL(h.address, id) },
		ExternalSecret: secret, ExternalRequired: h.cfg.ACME.ExternalAccountRequired, Rates: h.cfg.RateLimits.limits(),
		Policy: enroll.Policy{OwnNames: own, HighValue: h.cfg.HighValueNames}, Seen: h.partnerSeen, Now: h.now, Rand: rand.Reader, Log: h.log.With(slog.String("role", "enroll"))}
	h.enrolment.Campaigns, h.enrolment.InOffice = campaigns{h}, h.inOffice
	if h.enroll, err = enroll.New(h.enrolment); err != nil {
		return err
	}
	h.closers = append(h.closers, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return h.enroll.Close(ctx)
	})
	return nil
}

// authorityFor is the authority of a profile's certificates: the profile's own where it names one, as those for mail and
// code must, else the default of the configuration.
func (h *House) authorityFor(name string) bulkhead.AuthorityID {
	if p := h.profile(name); p != nil && p.DefaultAuthority != "" {
		return h.currentAuthority(p.DefaultAuthority)
	}
	return h.currentAuthority(h.cfg.DefaultAuthority)
}

// currentAuthority follows rotations: the default of the configuration stands for its newest successor.
func (h *House) currentAuthority(id bulkhead.AuthorityID) bulkhead.AuthorityID {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for range 100 {
		a, err := h.store.Authority(ctx, id)
		if err != nil || a.State == bulkhead.AuthorityActive || a.Successor == "" {
			return id
		}
		id = a.Successor
	}
	return id
}

// Start takes up what an earlier process left behind, in order. Run does it by itself.
func (h *House) Start(ctx context.Context) error {
	if err := h.status.Start(ctx); err != nil {
		return fmt.Errorf("status: %w", err)
	}
	if err := h.quorum.Resume(ctx); err != nil {
		return fmt.Errorf("quorum: %w", err)
	}
	if h.edge != nil {
		if err := h.edge.Refresh(ctx); err != nil {
			return fmt.Errorf("edge: %w", err)
		}
	}
	if err := h.startLive(ctx); err != nil {
		return fmt.Errorf("live: %w", err)
	}
	return nil
}

// Run does the work of the roles until ctx ends. It calls ready once every one of them answers.
func (h *House) Run(ctx context.Context, ready func(Ready) error) error {
	published := h.serveAgain(ctx)
	front, err := h.listen(ctx)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	started := make(chan struct{})
	for name, role := range h.work(front, published, started) {
		g.Go(func() error {
			if err := role(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-started:
		}
		if err := ready(front.Ready()); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	})
	return g.Wait()
}

// serveAgain brings back at once what was published before, whatever keeps the other roles from starting (promise P8).
func (h *House) serveAgain(ctx context.Context) (published bool) {
	if h.edge == nil {
		return false
	}
	_, missing := h.published.Head(ctx)
	if bulkhead.KindOf(missing) == bulkhead.KindNotFound {
		return false
	}
	_ = h.edge.Refresh(ctx) // kept as the problem that readyz shows
	return true
}

// work is what this process does, by name. started is closed once its roles answer.
func (h *House) work(front *front, published bool, started chan struct{}) map[string]func(context.Context) error {
	w := map[string]func(context.Context) error{"front": front.Run}
	if h.roles.has(signerrpc.Status) {
		w["status"] = func(ctx context.Context) error { return h.runStatus(ctx, started) }
		w["compromise"] = func(ctx context.Context) error { return h.runCompromises(ctx, started) }
		w["desk"] = func(ctx context.Context) error { return h.runDesk(ctx, started) }
	} else {
		close(started)
	}
	if h.edge != nil {
		w["edge"] = func(ctx context.Context) error {
			if !published { // a first start: there is nothing to poll for before the status service has started
				select {
				case <-ctx.Done():
					return nil
				case <-started:
				}
			}
			return h.edge.Run(ctx)
		}
	}
	if h.evidence != nil {
		w["evidence"] = h.evidence.Run
	}
	if h.witnesses != nil {
		w["witnesses"] = h.witnesses.Run
	}
	if h.monitor != nil {
		w["ct"] = h.monitor.Run
	}
	if h.roles.has(signerrpc.Watch) {
		w["watch"], w["notice"] = h.watch.Run, h.runNotices
		w["outside"] = func(ctx context.Context) error { return h.runOutside(ctx, started, front.statusL) }
		if len(h.cfg.Watch.Sightings) > 0 {
			w["pull"] = h.runPull
		}
	}
	if h.roles.has(signerrpc.Console) {
		w["letters"] = h.runLetters
	}
	if h.roles.has(signerrpc.Signer) {
		w["signer"], w["live"], w["endings"], w["held"] = h.sweep, h.runLive, h.runEndings, h.held.watch
	}
	if h.roles.has(signerrpc.Enroll) && !h.roles.has(signerrpc.Watch) {
		w["sightings"] = h.watch.Run // what this process saw is judged here
	}
	switch {
	case h.roles.has(signerrpc.Enroll):
		w["enroll"] = func(ctx context.Context) error { return h.enroll.Run(ctx, 0) }
	case h.enroll != nil:
		w["orders"] = func(ctx context.Context) error { return h.enroll.RunOwn(ctx, 0) }
	}
	if h.identity != nil {
		w["identity"] = func(ctx context.Context) error { return h.identity.keep(ctx, h.door) }
	}
	return w
}

// restartStatus is how long the status service rests when it could not start.
const restartStatus = 5 * time.Second

// runStatus starts the status service, as often as it takes, and runs it. started is closed once every authority has its
// CRLs and answers in public.
func (h *House) runStatus(ctx context.Context, started chan<- struct{}) error {
	for {
		err := h.Start(ctx)
		if err == nil {
			break
		}
		h.log.ErrorContext(ctx, "status could not start; what is published is served, nothing new is", slog.String("error", err.Error()))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(restartStatus):
		}
	}
	close(started)
	return h.status.Run(ctx)
}

// sweepEvery is how often reservations that nobody holds any more are looked for.
const sweepEvery = time.Minute

// sweep abandons reservations whose commit was only reported lost, or whose token was never signed.
func (h *House) sweep(ctx context.Context) error {
	return every(ctx, sweepEvery, func() {
		n, err := h.signer.Recover(ctx)
		if err != nil && ctx.Err() == nil {
			h.log.WarnContext(ctx, "stale reservations could not be swept", slog.String("error", err.Error()))
		}
		if n > 0 {
			h.log.WarnContext(ctx, "stale reservations were abandoned; nobody received them", slog.Int("count", n))
		}
	})
}

// headVerifierKey is the public half of the head key as a signed-note verifier key.
func headVerifierKey(pub crypto.PublicKey, name string) (string, error) {
	ed, ok := pub.(ed25519.PublicKey)
	if !ok {
		return "", fmt.Errorf("the head key is not Ed25519")
	}
	return note.NewEd25519VerifierKey(name, ed)
}

// readVerifier reads a verifier key of the data directory.
func readVerifier(path string) (note.Verifier, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("verifier key: %w", err)
	}
	v, err := note.NewVerifier(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("verifier key %s: %w", filepath.Base(path), err)
	}
	return v, nil
}

// NewLogger writes the diagnostic log.
func NewLogger(w io.Writer, c Log) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo
	}
	opts := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}
