package caches

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"bulkhead"
)

// Verification is what was fetched through every node of every tier.
type Verification struct {
	Head     uint64        `json:"head"` // the published head that nodes were held against
	At       time.Time     `json:"at"`
	Nodes    []NodeVerdict `json:"nodes"`
	Complete bool          `json:"complete"` // every node of every tier served the newest answer to every request
	Stale    bool          `json:"stale"`    // some node served something else
}

// NodeVerdict sums one node up.
type NodeVerdict struct {
	Tier    string `json:"tier"`
	Kind    Kind   `json:"kind"`
	Owner   string `json:"owner"`
	Node    string `json:"node"`
	Verdict string `json:"verdict"` // the worst of its fetches
	Fetched int    `json:"fetched"`
	Good    int    `json:"newest"`
	// Of the fetch that was furthest behind.
	What   string    `json:"what,omitempty"`
	Served time.Time `json:"served_this_update,omitzero"`
	Newest time.Time `json:"newest_this_update,omitzero"`
	Age    string    `json:"age,omitempty"` // now less thisUpdate of what was served
	Header string    `json:"age_header,omitempty"`
	Detail string    `json:"detail,omitempty"`
}

// Verify fetches every target through every node and probe address of every tier, in every form that clients use, and
// holds the answers against the newest published ones. head is for the report. KindUsage when there is nothing to fetch.
func (c *Caches) Verify(ctx context.Context, head uint64, t Targets) (Verification, error) {
	if err := t.check(); err != nil {
		return Verification{}, err
	}
	v := Verification{Head: head, At: c.cfg.Now(), Nodes: []NodeVerdict{}}
	for _, tier := range c.cfg.Tiers {
		if tier.Kind == Client {
			continue
		}
		v.Nodes = append(v.Nodes, c.verifyTier(ctx, tier, t)...)
	}
	v.Complete = len(v.Nodes) > 0
	for _, n := range v.Nodes {
		v.Complete = v.Complete && n.Verdict == Newest
		v.Stale = v.Stale || n.Verdict == Older || n.Verdict == Other
	}
	c.cfg.Log.InfoContext(ctx, "caches verified", slog.Uint64("head", head), slog.Bool("complete", v.Complete))
	return v, ctx.Err()
}

func (t Targets) check() error {
	if len(t.Answers)+len(t.Lists) == 0 {
		return bulkhead.NewFault(bulkhead.KindUsage, "there is no published answer and no CRL to fetch").WithHint("--issuer and --serial of a certificate, --change ID or --all")
	}
	if len(t.Answers) > MaxAnswers {
		return bulkhead.Faultf(bulkhead.KindUsage, "%d certificates are more than %d for one run by URL", len(t.Answers), MaxAnswers).WithHint("--all")
	}
	return nil
}

// verifyTier looks at the nodes of one tier side by side.
func (c *Caches) verifyTier(ctx context.Context, tier Tier, t Targets) []NodeVerdict {
	nodes := tier.addresses()
	if len(nodes) == 0 {
		return []NodeVerdict{{Tier: tier.Name, Kind: tier.Kind, Owner: tier.Owner, Verdict: Unchecked, Detail: "no nodes and no probe address are configured"}}
	}
	out := make([]NodeVerdict, len(nodes))
	var g errgroup.Group
	g.SetLimit(8)
	for i, node := range nodes {
		g.Go(func() error {
			out[i] = c.verifyNode(ctx, tier, node, t)
			return nil
		})
	}
	_ = g.Wait() // nothing there returns an error
	return out
}

// maxUnreachable is after how many fetches without an answer a node is given up.
const maxUnreachable = 3

func (c *Caches) verifyNode(ctx context.Context, tier Tier, node string, t Targets) NodeVerdict {
	n := NodeVerdict{Tier: tier.Name, Kind: tier.Kind, Owner: tier.Owner, Node: node, Verdict: Newest}
	rank := map[string]int{Newest: 0, Unchecked: 1, Other: 2, Older: 3}
	silent := 0
	for _, r := range t.requests(strings.TrimRight(c.base.Path, "/")) {
		j, age := c.fetch(ctx, node, r)
		n.Fetched++
		if j.verdict == Newest {
			n.Good++
			continue
		}
		worse := rank[j.verdict] > rank[n.Verdict] || j.verdict == Older && j.want.Sub(j.this) > n.Newest.Sub(n.Served)
		if worse {
			n.Verdict, n.What, n.Served, n.Newest, n.Header, n.Detail = j.verdict, r.what(), j.this, j.want, age, j.detail
			if n.Age = ""; !j.this.IsZero() {
				n.Age = c.cfg.Now().Sub(j.this).Round(time.Second).String()
			}
		}
		if j.verdict == Unchecked {
			if silent++; silent == maxUnreachable && n.Good == 0 {
				break
			}
		}
	}
	if n.Verdict != Newest {
		c.cfg.Log.WarnContext(ctx, "cache node is behind", slog.String("tier", tier.Name), slog.String("node", node), slog.String("verdict", n.Verdict), slog.String("detail", n.Detail))
	}
	return n
}

// String is words first, then a table.
func (v Verification) String() string {
	var b strings.Builder
	if v.Complete {
		fmt.Fprintf(&b, "Complete: every node of every tier serves the newest answers (head %d).\n", v.Head)
	} else {
		fmt.Fprintf(&b, "Not complete (head %d):\n", v.Head)
		for _, n := range v.Nodes {
			b.WriteString(n.Sentence())
		}
	}
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "\nTIER\tNODE\tVERDICT\tNEWEST/FETCHED\tOWNER")
	for _, n := range v.Nodes {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d/%d\t%s\n", n.Tier, n.Node, n.Verdict, n.Good, n.Fetched, n.Owner)
	}
	_ = w.Flush() // a strings.Builder does not fail
	return strings.TrimRight(b.String(), "\n")
}

// Sentence says what is wrong with a node and whom to call; empty for one that is right.
func (n NodeVerdict) Sentence() string {
	who := "tier " + n.Tier
	if n.Node != "" {
		who = n.Node + " of tier " + n.Tier
	}
	switch n.Verdict {
	case Older:
		return fmt.Sprintf("  %s still serves an older answer: %s, of %s (%s old, the newest is of %s), %s; call %s\n", who, n.What, stamp(n.Served), n.Age, stamp(n.Newest), n.Detail, n.Owner)
	case Other:
		return fmt.Sprintf("  %s serves what the origin did not publish: %s: %s; call %s\n", who, n.What, n.Detail, n.Owner)
	case Unchecked:
		return fmt.Sprintf("  %s could not be verified: %s; call %s\n", who, n.Detail, n.Owner)
	default:
		return ""
	}
}
