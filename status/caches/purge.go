package caches

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"bulkhead"
)

// Publication is what is public at the origin.
type Publication struct {
	Sequence uint64
	At       time.Time
	Missing  string // why what is to be purged is not public; empty when it is
}

// Purged is what each node said to a purge. Accepted is not clean: Verify says that.
type Purged struct {
	Head     uint64      `json:"head"`
	HeadAt   time.Time   `json:"head_at"`
	Tiers    []TierPurge `json:"tiers"`
	URLs     int         `json:"urls"`
	Accepted bool        `json:"accepted"` // by every node
	Moved    uint64      `json:"head_moved_to,omitempty"`
}

// TierPurge is one tier's turn.
type TierPurge struct {
	Name    string      `json:"name"`
	Kind    Kind        `json:"kind"`
	Owner   string      `json:"owner"`
	Began   time.Time   `json:"began"`
	Ended   time.Time   `json:"ended"`
	Nodes   []NodePurge `json:"nodes"`
	Skipped string      `json:"skipped,omitempty"`
}

// NodePurge is what one node said.
type NodePurge struct {
	Node   string `json:"node"`
	Calls  int    `json:"calls"`
	Failed int    `json:"failed"`
	Detail string `json:"detail,omitempty"` // of the first failure
}

// Purge purges the targets from the origin outwards. It asks published first, and refuses with KindGate while the
// change is not public or an edge does not serve it: a cache that is purged before would fetch the wrong answer again.
// It asks once more afterwards and says when the head has moved meanwhile.
func (c *Caches) Purge(ctx context.Context, t Targets, published func(context.Context) (Publication, error)) (Purged, error) {
	if err := t.check(); err != nil {
		return Purged{}, err
	}
	pub, err := published(ctx)
	if err != nil {
		return Purged{}, err
	}
	if pub.Missing != "" || pub.Sequence == 0 {
		return Purged{}, bulkhead.Faultf(bulkhead.KindGate, "nothing is purged before it is public: %s", pub.Missing).WithHint("bulkhead change list; purge when the change is published")
	}
	c.cfg.Log.InfoContext(ctx, "purge: published", slog.Uint64("head", pub.Sequence), slog.Time("head_at", pub.At))
	if err := c.edgesFollow(ctx, t); err != nil {
		return Purged{}, err
	}
	out := Purged{Head: pub.Sequence, HeadAt: pub.At, Tiers: []TierPurge{}, Accepted: true}
	paths := urls(t.requests(strings.TrimRight(c.base.Path, "/")))
	out.URLs = len(paths)
	for _, tier := range c.cfg.Tiers {
		if !tier.server() {
			continue
		}
		tp := c.purgeTier(ctx, tier, t, paths)
		out.Tiers = append(out.Tiers, tp)
		out.Accepted = out.Accepted && tp.Skipped == ""
		for _, n := range tp.Nodes {
			out.Accepted = out.Accepted && n.Failed == 0
		}
	}
	after, err := published(ctx)
	if err != nil {
		return out, err
	}
	if after.Sequence != pub.Sequence {
		out.Moved = after.Sequence
	}
	return out, ctx.Err()
}

// edgesFollow waits until every edge serves the targets, for as long as an edge may take.
func (c *Caches) edgesFollow(ctx context.Context, t Targets) error {
	for _, tier := range c.cfg.Tiers {
		if tier.Kind != Edge || len(tier.addresses()) == 0 {
			continue
		}
		deadline := time.Now().Add(tier.TTL)
		for {
			behind := NodeVerdict{}
			for _, n := range c.verifyTier(ctx, tier, t) {
				if n.Verdict != Newest {
					behind = n
				}
			}
			if behind.Node == "" {
				break
			}
			if !time.Now().Before(deadline) {
				return bulkhead.Faultf(bulkhead.KindGate, "edge %s does not serve what is published (%s): a purge now would fetch the wrong answer again", behind.Node, behind.Verdict).
					WithHint("look at /readyz of " + behind.Node + ", then purge again")
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(100 * time.Millisecond):
			}
		}
		c.cfg.Log.InfoContext(ctx, "purge: edges follow", slog.String("tier", tier.Name))
	}
	return nil
}

func (c *Caches) purgeTier(ctx context.Context, tier Tier, t Targets, paths []string) TierPurge {
	out := TierPurge{Name: tier.Name, Kind: tier.Kind, Owner: tier.Owner, Began: c.cfg.Now(), Nodes: []NodePurge{}}
	if tier.Purge.Adapter == None {
		out.Ended, out.Skipped = out.Began, "no purge adapter is configured"
		return out
	}
	nodes := tier.addresses()
	if len(tier.Nodes) > 0 {
		nodes = tier.Nodes // the probe address leads to one of them
	}
	if tier.Purge.Adapter == HTTP && !strings.Contains(tier.Purge.URL, "{node}") {
		nodes = []string{"api"}
	}
	out.Nodes = make([]NodePurge, len(nodes))
	var g errgroup.Group
	g.SetLimit(8)
	for i, node := range nodes {
		g.Go(func() error {
			out.Nodes[i] = c.purgeNode(ctx, tier.Purge, node, t, paths)
			c.cfg.Log.InfoContext(ctx, "purge: node", slog.String("tier", tier.Name), slog.String("node", node), slog.Int("calls", out.Nodes[i].Calls), slog.Int("failed", out.Nodes[i].Failed))
			return nil
		})
	}
	_ = g.Wait() // nothing there returns an error
	out.Ended = c.cfg.Now()
	return out
}

// act is one call of a purge.
type act func(ctx context.Context) (answer, error)

func (c *Caches) purgeNode(ctx context.Context, p Purge, node string, t Targets, paths []string) NodePurge {
	out := NodePurge{Node: node}
	acts, why := c.acts(p, node, t, paths)
	if why != "" {
		out.Failed, out.Detail = 1, why
		return out
	}
	for _, do := range acts {
		a, err := do(ctx)
		out.Calls++
		detail := ""
		switch {
		case err != nil:
			detail = err.Error()
		case a.code >= 200 && a.code < 300:
		case p.Adapter == Nginx && (a.code == http.StatusNotFound || a.code == http.StatusPreconditionFailed): // it holds no such object
		default:
			detail = fmt.Sprintf("HTTP %d", a.code)
		}
		if detail == "" {
			continue
		}
		if out.Failed++; out.Detail == "" {
			out.Detail = detail
		}
		if out.Failed == maxUnreachable && out.Failed == out.Calls {
			out.Detail += "; given up"
			break
		}
	}
	return out
}

// acts are the calls that purge the targets at one node, or why there are none.
func (c *Caches) acts(p Purge, node string, t Targets, paths []string) ([]act, string) {
	at := func(method, path string, header http.Header) act {
		return func(ctx context.Context) (answer, error) {
			return c.call(ctx, node, method, path, nil, header.Clone(), maxAnswer)
		}
	}
	base := strings.TrimRight(c.base.Path, "/")
	single := "this adapter purges URL by URL, and not all URLs are known: --all takes varnish-ban, varnish-xkey or an http template without {url}"
	switch p.Adapter {
	case VarnishXKey:
		keys := p.Keys
		if len(keys) == 0 {
			keys = []string{"bulkhead"}
		}
		return []act{at("PURGE", base+"/ocsp/", http.Header{"Xkey-Purge": {strings.Join(keys, " ")}})}, ""
	case VarnishBan:
		if t.All {
			return []act{at("BAN", base+"/ocsp/", http.Header{"X-Ban-Url": {"^" + regexp.QuoteMeta(base) + "/(ocsp|crl|ca)/"}})}, ""
		}
		return bans(at, base, paths), ""
	case HTTP:
		if t.All && !t.Whole && strings.Contains(p.URL+p.Body, "{url") {
			return nil, single
		}
		return c.templated(p, node, paths), ""
	default:
		if t.All && !t.Whole {
			return nil, single
		}
		var out []act
		for _, path := range paths {
			out = append(out, at("PURGE", path, nil))
		}
		return out, ""
	}
}

// maxBan keeps a ban's header below Varnish's default limit of 8 KiB.
const maxBan = 4 << 10

// bans puts as many URLs into one expression as a header holds: every ban in force costs each lookup.
func bans(at func(method, path string, header http.Header) act, base string, paths []string) []act {
	var out []act
	text := ""
	flush := func() {
		if text != "" {
			out = append(out, at("BAN", base+"/ocsp/", http.Header{"X-Ban-Url": {"^(" + text + ")$"}}))
		}
		text = ""
	}
	for _, path := range paths {
		q := regexp.QuoteMeta(path)
		if len(text)+len(q) > maxBan {
			flush()
		}
		if text != "" {
			text += "|"
		}
		text += q
	}
	flush()
	return out
}

// templated fills a CDN's call in: once for each URL, for each batch of URLs, or once for all.
func (c *Caches) templated(p Purge, node string, paths []string) []act {
	const defaultBatch = 30
	origin := c.base.Scheme + "://" + c.base.Host
	var groups [][]string
	size := p.Batch
	if size == 0 {
		size = defaultBatch
	}
	all := p.URL + p.Body
	for _, v := range p.Headers {
		all += v
	}
	switch {
	case strings.Contains(all, "{url}") || strings.Contains(all, "{url_escaped}"):
		size = 1
		fallthrough
	case strings.Contains(all, "{urls}"):
		for from := 0; from < len(paths); from += size {
			var g []string
			for _, path := range paths[from:min(from+size, len(paths))] {
				g = append(g, origin+path)
			}
			groups = append(groups, g)
		}
	default:
		groups = [][]string{nil}
	}
	var out []act
	for _, g := range groups {
		out = append(out, func(ctx context.Context) (answer, error) { return c.template(ctx, p, node, g) })
	}
	return out
}

func (c *Caches) template(ctx context.Context, p Purge, node string, group []string) (answer, error) {
	list, err := json.Marshal(group)
	if err != nil {
		return answer{}, fmt.Errorf("list of URLs: %w", err)
	}
	one := ""
	if len(group) > 0 {
		one = group[0]
	}
	pairs := []string{"{url}", one, "{url_escaped}", url.QueryEscape(one), "{urls}", string(list), "{node}", node}
	target := strings.NewReplacer(pairs...).Replace(p.URL)
	for name, value := range p.Secrets {
		pairs = append(pairs, "{secret:"+name+"}", value)
	}
	fill := strings.NewReplacer(pairs...)
	method := p.Method
	if method == "" {
		method = http.MethodPost
	}
	var body io.Reader
	if p.Body != "" {
		body = strings.NewReader(fill.Replace(p.Body))
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return answer{}, fmt.Errorf("the template gives no request")
	}
	for k, v := range p.Headers {
		req.Header.Set(k, fill.Replace(v))
	}
	return c.send(req, maxAnswer)
}

// String is words first, then a table.
func (p Purged) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Head %d was public since %s before the first purge.\n", p.Head, stamp(p.HeadAt))
	if p.Accepted {
		b.WriteString("Every node accepted the purge. That is no proof: bulkhead caches verify\n")
	} else {
		b.WriteString("Purged in part:\n")
		for _, t := range p.Tiers {
			if t.Skipped != "" {
				fmt.Fprintf(&b, "  tier %s: %s; call %s\n", t.Name, t.Skipped, t.Owner)
			}
			for _, n := range t.Nodes {
				if n.Failed > 0 {
					fmt.Fprintf(&b, "  %s of tier %s: %s; call %s\n", n.Node, t.Name, n.Detail, t.Owner)
				}
			}
		}
	}
	if p.Moved != 0 {
		fmt.Fprintf(&b, "The head moved to %d meanwhile: purge again.\n", p.Moved)
	}
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "\nTIER\tNODE\tCALLS\tFAILED\tBEGAN")
	for _, t := range p.Tiers {
		for _, n := range t.Nodes {
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\n", t.Name, n.Node, n.Calls, n.Failed, stamp(t.Began))
		}
	}
	_ = w.Flush() // a strings.Builder does not fail
	return strings.TrimRight(b.String(), "\n")
}
