package run

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sys/unix"

	"bulkhead"
	"bulkhead/pki/pack"
	"bulkhead/status/caches"
)

// Caches are the tiers of caches between the edges and the clients.
type Caches struct {
	// Timeout of one call to a cache.
	Timeout Duration `yaml:"timeout"`
	// Tiers, in order from the origin outwards: name, kind (edge, load-balancer, cdn, client), ttl, owner, nodes, probe and
	// purge of each; doc/caches.md shows them.
	Tiers []CacheTier `yaml:"tiers,omitempty"`
}

// CacheTier is one cache, or one row of equal ones; see caches.Tier.
type CacheTier struct {
	Name  string     `yaml:"name"`
	Kind  string     `yaml:"kind"`
	TTL   Duration   `yaml:"ttl"`
	Owner string     `yaml:"owner,omitempty"`
	Nodes []string   `yaml:"nodes,omitempty"` // base URL of each node
	Probe string     `yaml:"probe,omitempty"` // base URL of the tier as a whole
	Purge CachePurge `yaml:"purge,omitempty"`
}

// CachePurge is how a tier is purged; see caches.Purge.
type CachePurge struct {
	Adapter string            `yaml:"adapter,omitempty"`
	Method  string            `yaml:"method,omitempty"`
	URL     string            `yaml:"url,omitempty"`
	Headers map[string]string `yaml:"headers,omitempty"`
	Body    string            `yaml:"body,omitempty"`
	Batch   int               `yaml:"batch,omitempty"`
	Secrets map[string]string `yaml:"secrets,omitempty"` // file of each, relative to the data directory
	Keys    []string          `yaml:"keys,omitempty"`
}

// tiers converts; read opens a secret's file.
func (c Caches) tiers(read func(path string) (string, error)) ([]caches.Tier, error) {
	var out []caches.Tier
	for _, t := range c.Tiers {
		x := caches.Tier{Name: t.Name, Kind: caches.Kind(t.Kind), TTL: time.Duration(t.TTL), Owner: t.Owner, Nodes: t.Nodes, Probe: t.Probe,
			Purge: caches.Purge{Adapter: caches.Adapter(t.Purge.Adapter), Method: t.Purge.Method, URL: t.Purge.URL, Headers: t.Purge.Headers, Body: t.Purge.Body,
				Batch: t.Purge.Batch, Keys: t.Purge.Keys, Secrets: map[string]string{}}}
		for name, path := range t.Purge.Secrets {
			value, err := read(path)
			if err != nil {
				return nil, err
			}
			x.Purge.Secrets[name] = value
		}
		out = append(out, x)
	}
	return out, nil
}

// unread stands for secrets where only their names matter.
func unread(string) (string, error) { return "", nil }

func (c Caches) check() error {
	if t := time.Duration(c.Timeout); t <= 0 || t > 5*time.Minute {
		return wrong("caches.timeout", "%s is not within 1ms and 5m", t)
	}
	tiers, err := c.tiers(unread)
	if err != nil {
		return err
	}
	if err := caches.Check(tiers); err != nil {
		return wrong("caches.tiers", "%s", bulkhead.AsFault(err).Detail)
	}
	return nil
}

// CacheView is the published state of a data directory and its cache tiers. It opens no key and may be used beside the
// house. Close must be called.
type CacheView struct {
	dir      string
	cfg      Config
	tiers    []caches.Tier // without secrets
	objects  copies        // without a source until something is read
	verifier note.Verifier
	store    Store
	now      func() time.Time // nil means time.Now
	closers  []func() error
}

// OpenCaches reads the configuration of a data directory.
func OpenCaches(dir string) (*CacheView, error) {
	cfg, err := LoadConfig(dir)
	if err != nil {
		return nil, err
	}
	v := &CacheView{dir: dir, cfg: cfg}
	v.tiers, err = cfg.Caches.tiers(unread)
	return v, err
}

// Close lets go of everything.
func (v *CacheView) Close() {
	for _, f := range v.closers {
		_ = f() // what was read stays read
	}
	v.closers = nil
}

// Lint looks at the tiers under the validity of answers that is configured.
func (v *CacheView) Lint() []caches.Finding {
	return caches.Lint(v.tiers, time.Duration(v.cfg.Status.AnswerValidity))
}

// Plan computes when the last wrong answer dies: from a, or, when a has no signature, from the answers that are out.
func (v *CacheView) Plan(ctx context.Context, a caches.Assumption) (caches.Plan, error) {
	if a.Signed.IsZero() {
		head, err := v.head(ctx)
		if err != nil {
			return caches.Plan{}, err
		}
		longest, err := v.longest(ctx, head)
		if err != nil {
			return caches.Plan{}, err
		}
		if a.Dies, a.Source = longest.answers, longest.String(); a.Corrected.IsZero() {
			a.Corrected = head.At
		}
	}
	return caches.Make(v.tiers, a)
}

// Drain says when a change is safe if validity is lowered now.
func (v *CacheView) Drain(ctx context.Context, now time.Time, to time.Duration, before time.Time) (caches.Drain, error) {
	lower := v.cfg
	lower.Status.AnswerValidity = Duration(to)
	if err := lower.checkStatus(); err != nil {
		return caches.Drain{}, bulkhead.Faultf(bulkhead.KindUsage, "--to: %s", bulkhead.AsFault(err).Detail).WithHint("--to 8h")
	}
	head, err := v.head(ctx)
	if err != nil {
		return caches.Drain{}, err
	}
	longest, err := v.longest(ctx, head)
	if err != nil {
		return caches.Drain{}, err
	}
	return caches.Shorten(v.tiers, now, longest.answers, time.Duration(v.cfg.Status.AnswerValidity), to, before)
}

// head reads and verifies the public head.
func (v *CacheView) head(ctx context.Context) (*pack.Head, error) {
	if v.objects.source == nil {
		if err := v.openObjects(ctx); err != nil {
			return nil, err
		}
	}
	signed, err := v.objects.source.Head(ctx)
	if err != nil {
		return nil, err
	}
	return pack.OpenHead(signed, v.verifier)
}

// openObjects opens what is published. Copies of what lies elsewhere are in a folder of this view's own: the house's
// belong to the house.
func (v *CacheView) openObjects(ctx context.Context) error {
	var err error
	if v.verifier, err = readVerifier(filepath.Join(v.dir, headPub)); err != nil {
		return err
	}
	_, source, err := openPublished(ctx, v.dir, v.cfg)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bulkhead-caches-")
	if err != nil {
		return bulkhead.NewFault(bulkhead.KindUnavailable, "there is no room for copies of what is published").WithHint("set TMPDIR to a folder with space").WithCause(err)
	}
	v.closers = append(v.closers, func() error { return os.RemoveAll(dir) })
	v.objects = copies{source: source, dir: dir, mu: &sync.Mutex{}}
	return nil
}

// window is the longest life among what is public.
type window struct {
	answers, lists time.Time
	issuer         bulkhead.AuthorityID
}

func (w window) String() string {
	text := "the longest nextUpdate among them is of " + string(w.issuer)
	if !w.lists.IsZero() {
		text += "; CRLs that are out are valid until " + w.lists.UTC().Format(time.RFC3339) + " at the latest"
	}
	return text
}

func (v *CacheView) longest(ctx context.Context, head *pack.Head) (window, error) {
	var w window
	for i := range head.Issuers {
		ih := &head.Issuers[i]
		packs, err := v.packs(ctx, ih)
		if err != nil {
			return w, err
		}
		for _, p := range packs {
			if _, late := p.Window(); late.After(w.answers) {
				w.answers, w.issuer = late, ih.ID
			}
		}
		for _, c := range ih.CRLs {
			if c.NextUpdate.After(w.lists) {
				w.lists = c.NextUpdate
			}
		}
	}
	if w.answers.IsZero() {
		return w, bulkhead.NewFault(bulkhead.KindNotFound, "no answer is published").WithHint("bulkhead doctor")
	}
	return w, nil
}

// packs maps an issuer's packs, newest first. Their digests are fsck's matter: packs of millions are opened in no time.
func (v *CacheView) packs(ctx context.Context, ih *pack.IssuerHead) ([]*pack.Pack, error) {
	var out []*pack.Pack
	for _, ref := range ih.Packs {
		data, err := v.objects.mapObject(ctx, ref)
		if err != nil {
			return nil, fmt.Errorf("pack %s: %w", ref.Name, err)
		}
		v.closers = append(v.closers, func() error { return unix.Munmap(data) })
		p, err := pack.Open(data)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// caches opens what purges and verifies, with secrets.
func (v *CacheView) caches(log *slog.Logger) (*caches.Caches, error) {
	tiers, err := v.cfg.Caches.tiers(func(path string) (string, error) {
		p, err := ReadSecret(inDir(v.dir, path))
		return string(p), err
	})
	if err != nil {
		return nil, err
	}
	now := v.now
	if now == nil {
		now = time.Now
	}
	c, err := caches.New(caches.Config{Tiers: tiers, Base: v.cfg.StatusURL, Timeout: time.Duration(v.cfg.Caches.Timeout), Now: now, Log: log})
	if err == nil {
		v.closers = append(v.closers, func() error { c.Close(); return nil })
	}
	return c, err
}

// issuerCertificate reads the certificate that the head names for an issuer.
func (v *CacheView) issuerCertificate(ctx context.Context, ih *pack.IssuerHead) (*x509.Certificate, error) {
	der, err := v.objects.read(ctx, ih.Certificate)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Assume reads what a plan is computed from as flags give it; moment reads a time. Without a validity the configured one
// is meant.
func (v *CacheView) Assume(at, validity, corrected, purged string, moment func(flag, text string) (time.Time, error)) (a caches.Assumption, err error) {
	for _, f := range []struct {
		name, text string
		to         *time.Time
	}{{"at", at, &a.Signed}, {"corrected", corrected, &a.Corrected}, {"purged", purged, &a.Purged}} {
		if *f.to, err = moment(f.name, f.text); err != nil {
			return a, err
		}
	}
	if validity == "" {
		a.Validity = time.Duration(v.cfg.Status.AnswerValidity)
		return a, nil
	}
	if at == "" {
		return a, bulkhead.NewFault(bulkhead.KindUsage, "--validity goes with --at").WithHint("--at TIME --validity 4d")
	}
	a.Validity, err = ParseDuration(validity)
	return a, err
}
