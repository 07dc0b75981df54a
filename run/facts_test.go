package run

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/scan"
)

// TestFactsOfTheHouse looks whole at a server with a certificate of the house: status by OCSP and CRL from the edge and from the
// configured tier, then revoked, with a tier that goes on serving the answer of before; its key blocked; an answer of a tier
// without an owner counted as none.
func TestFactsOfTheHouse(t *testing.T) {
	w := newWorld(t)
	n := w.node("127.0.0.1:0", w.served(w.live, w.key))
	edge, err := url.Parse(w.server.URL)
	w.ok(err)
	var stale []byte // what the tier answers to OCSP once it has it
	keep := false
	tier := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && keep && stale != nil {
			_, _ = rw.Write(stale)
			return
		}
		r.Host, r.RequestURI, r.URL.Scheme, r.URL.Host = edge.Host, "", "http", edge.Host
		res, err := (&http.Client{Timeout: time.Minute}).Do(r.WithContext(r.Context()))
		if err != nil {
			http.Error(rw, err.Error(), http.StatusBadGateway)
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		if r.Method == http.MethodPost {
			stale = body
		}
		rw.WriteHeader(res.StatusCode)
		_, _ = rw.Write(body)
	}))
	t.Cleanup(tier.Close)
	w.h.cfg.Caches.Tiers = []CacheTier{{Name: "cdn", Kind: "cdn", TTL: Duration(time.Minute), Nodes: []string{tier.URL}}}
	e := w.h.eyes(true)
	e.names = book{n.at.Addr()}
	look := func() scan.Endpoint {
		t.Helper()
		target, err := scan.ParseTarget("here.test", n.at.Port())
		w.ok(err)
		rs, err := e.sweep(t.Context(), bulkhead.HouseLooks, scan.NewGuard(true), e.names, []scan.Target{target})
		w.ok(err)
		return rs[0].Endpoints[0]
	}
	states := func(x scan.Endpoint, tier string) (out []string) {
		for _, s := range x.Status {
			if strings.HasPrefix(s.Tier, tier) && s.Tier != "" && s.Ours {
				out = append(out, s.Via+" "+string(s.State))
			}
		}
		return out
	}
	rules := func(x scan.Endpoint) (out []string) {
		for _, f := range x.Findings {
			out = append(out, f.Rule)
		}
		return out
	}
	good := look()
	for _, tier := range []string{"the edge", "cdn"} {
		if got := states(good, tier); !slices.Equal(got, []string{"ocsp good", "crl good"}) {
			t.Errorf("%s: %v\n%+v", tier, got, good.Status)
		}
	}
	// Nobody answers at the address that the certificate names, which is told; the resolver of this world does not answer, either.
	if got := rules(good); !slices.Equal(got, []string{"chain-incomplete", "status-missing"}) || good.CAA == nil || good.CAA.Allows != "unknown" {
		t.Errorf("%v, %+v", got, good.CAA)
	}
	keep = true
	w.revoke(w.live)
	w.publish()
	w.ok(w.h.store.BlockKey(t.Context(), bulkhead.BlockedKey{KeyHash: good.Chain.Key.SPKI, BlockedAt: w.now(), Reason: "stolen", Actor: "test"},
		bulkhead.Evidence{Kind: bulkhead.EvKeyBlocked, At: w.now(), Actor: "test", KeyHash: good.Chain.Key.SPKI}))
	bad := look()
	if got := states(bad, "the edge"); !slices.Equal(got, []string{"ocsp revoked", "crl revoked"}) {
		t.Errorf("%v", got)
	}
	if got := states(bad, "cdn"); !slices.Equal(got, []string{"ocsp good", "crl revoked"}) {
		t.Errorf("%v", got)
	}
	if got := rules(bad); !slices.Equal(got, []string{"chain-incomplete", "revoked", "status-disagrees", "status-missing", "key-blocked", "key-unchanged"}) {
		t.Errorf("%v", got)
	}
}

// TestFetcherStaysOutside: the address that a stranger's certificate names is dialled only where a scan may dial, redirects lead
// nowhere, and what is too long is refused.
func TestFetcherStaysOutside(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked++
		if r.URL.Path == "/away" {
			http.Redirect(rw, r, "/", http.StatusFound)
			return
		}
		_, _ = rw.Write(make([]byte, 100))
	}))
	t.Cleanup(s.Close)
	at := s.Listener.Addr().(*net.TCPAddr).AddrPort()
	get := func(private bool, url string, most int64) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := asNamed(scan.NewGuard(private), book{netip.MustParseAddr("127.0.0.1")}).Fetch(ctx, url, "", nil, most)
		return err
	}
	named := "http://status.example:" + url.PathEscape(strings.Split(at.String(), ":")[1]) + "/x"
	for _, u := range []string{s.URL + "/x", named, "https://127.0.0.1/", "file:///etc/passwd", "http://169.254.169.254/", "http://user@127.0.0.1/", "::"} {
		if get(false, u, 1000) == nil {
			t.Errorf("%s was fetched for a stranger", u)
		}
	}
	if asked != 0 {
		t.Fatalf("%d requests came through", asked)
	}
	if err := get(true, named, 1000); err != nil {
		t.Error(err)
	}
	if get(true, named, 99) == nil || get(true, s.URL+"/away", 1000) == nil || asked != 3 {
		t.Errorf("too long, or led away; %d requests", asked)
	}
}
