package caches

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead"
)

// Kind says what a tier is.
type Kind string

// Kinds of tiers, from the origin outwards.
const (
	Edge         Kind = "edge" // our own: takes heads by polling, is never purged
	LoadBalancer Kind = "load-balancer"
	CDN          Kind = "cdn"
	Client       Kind = "client" // out of anybody's reach
)

var kinds = []Kind{Edge, LoadBalancer, CDN, Client}

// Adapter says how a tier is purged.
type Adapter string

// Adapters. None leaves a tier to its TTL.
const (
	None         Adapter = ""
	VarnishPurge Adapter = "varnish-purge" // PURGE of every URL
	VarnishBan   Adapter = "varnish-ban"   // BAN with header X-Ban-Url, a regular expression of URLs
	VarnishXKey  Adapter = "varnish-xkey"  // PURGE with header xkey-purge
	Nginx        Adapter = "nginx"         // PURGE of every URL, as cache_purge takes it
	HTTP         Adapter = "http"          // a templated call of a CDN's API
)

var adapters = []Adapter{None, VarnishPurge, VarnishBan, VarnishXKey, Nginx, HTTP}

// Purge is how a tier is purged. Method, URL, Headers, Body, Batch and Secrets belong to HTTP, Keys to VarnishXKey.
//
// Placeholders: {url} one absolute URL (a call for each), {url_escaped} the same for a query, {urls} a JSON array of up
// to Batch URLs, {node} the node's base address (a call for each node), {secret:NAME} in headers and body. A template
// with neither {url} nor {urls} purges everything with one call.
type Purge struct {
	Adapter Adapter
	Method  string
	URL     string
	Headers map[string]string
	Body    string
	Batch   int               // URLs in one call; 0 means 30
	Secrets map[string]string // values by name, read from files by the caller
	Keys    []string          // surrogate keys that cover every status object; empty means "bulkhead"
}

// Tier is one cache, or one row of equal ones, on the way from an edge to a client.
type Tier struct {
	Name  string
	Kind  Kind
	TTL   time.Duration // longest time for which it serves what it has; of an edge, how long it takes to follow a head
	Owner string        // who is called when it does not purge
	Purge Purge
	Nodes []string // base URL of each node, purged and verified on its own
	Probe string   // base URL under which the tier as a whole answers
}

// server says whether the tier can be purged at all.
func (t Tier) server() bool { return t.Kind == LoadBalancer || t.Kind == CDN }

// addresses are where the tier is fetched through: its nodes, then its probe address.
func (t Tier) addresses() []string {
	out := slices.Clone(t.Nodes)
	if t.Probe != "" && !slices.Contains(out, t.Probe) {
		out = append(out, t.Probe)
	}
	return out
}

func wrong(t Tier, format string, args ...any) error {
	return bulkhead.Faultf(bulkhead.KindUsage, "tier "+strconv.Quote(t.Name)+": "+format, args...).
		WithHint("correct caches.tiers in the configuration, then: bulkhead caches lint")
}

// Check refuses tiers that mean nothing: no or double names, unknown kinds and adapters, an order that is not from the
// origin outwards, addresses that are no base URLs. What means something and is unwise is Lint's.
func Check(tiers []Tier) error {
	names, last := map[string]bool{}, 0
	for _, t := range tiers {
		if t.Name == "" || names[t.Name] || strings.ContainsFunc(t.Name, func(c rune) bool { return c <= ' ' || c > '~' }) {
			return wrong(t, "the name is empty, not plain text, or there twice")
		}
		names[t.Name] = true
		place := slices.Index(kinds, t.Kind)
		if place < 0 {
			return wrong(t, "kind %q is not edge, load-balancer, cdn or client", t.Kind)
		}
		if (t.Kind == Edge || t.Kind == Client) && place < last || t.server() && last == len(kinds)-1 {
			return wrong(t, "tiers go from the origin outwards: edge, load-balancer and cdn, client")
		}
		last = place
		if t.TTL < 0 {
			return wrong(t, "the ttl is negative")
		}
		for _, a := range t.addresses() {
			if err := checkBase(a); err != nil {
				return wrong(t, "%s", err)
			}
		}
		if err := t.checkPurge(); err != nil {
			return err
		}
	}
	return nil
}

type badAddress string

func (b badAddress) Error() string {
	return strconv.Quote(string(b)) + " is not http://HOST:PORT or https://HOST"
}

func checkBase(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return badAddress(text)
	}
	return nil
}

func (t Tier) checkPurge() error {
	p := t.Purge
	switch {
	case !slices.Contains(adapters, p.Adapter):
		return wrong(t, "purge adapter %q is not varnish-purge, varnish-ban, varnish-xkey, nginx or http", p.Adapter)
	case p.Adapter != None && !t.server():
		return wrong(t, "a tier of kind %s cannot be purged", t.Kind)
	case p.Adapter != HTTP && (p.URL != "" || p.Method != "" || p.Body != "" || len(p.Headers)+len(p.Secrets) > 0 || p.Batch != 0):
		return wrong(t, "method, url, headers, body, batch and secrets belong to the adapter http")
	case p.Adapter != None && p.Adapter != HTTP && len(t.addresses()) == 0:
		return wrong(t, "adapter %s takes nodes to purge", p.Adapter)
	case p.Adapter == HTTP:
		return t.checkTemplate()
	}
	return nil
}

func (t Tier) checkTemplate() error {
	p := t.Purge
	u, err := url.Parse(strings.NewReplacer("{node}", "http://node.invalid", "{url}", "x", "{url_escaped}", "x").Replace(p.URL))
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return wrong(t, "%q is not an http or https URL", p.URL)
	case u.User != nil || strings.Contains(p.URL, "{secret:"):
		return wrong(t, "a secret has no place in a URL: put it into a header or the body")
	case strings.Contains(u.Host, "{"):
		return wrong(t, "the host of %q is not fixed", p.URL)
	case p.Batch < 0 || p.Batch > 10_000:
		return wrong(t, "a batch of %d is not within 1 and 10000", p.Batch)
	}
	if strings.HasPrefix(p.URL, "{url}") {
		return wrong(t, "the host of %q is not fixed", p.URL)
	}
	if strings.Contains(p.URL, "{node}") && len(t.addresses()) == 0 {
		return wrong(t, "{node} takes nodes to purge")
	}
	texts := []string{p.Body}
	for _, v := range p.Headers {
		texts = append(texts, v)
	}
	for _, text := range texts {
		for _, part := range strings.Split(text, "{secret:")[1:] {
			name, _, ok := strings.Cut(part, "}")
			if _, known := p.Secrets[name]; !ok || !known {
				return wrong(t, "secret %q is not among its secrets", name)
			}
		}
	}
	return nil
}
