package dcv

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bulkhead"
)

const (
	testToken = "dG9rZW4tb2YtdGhlLXRlc3Q"
	testAuth  = testToken + ".thumbprint"
)

func serve(t *testing.T, h http.HandlerFunc) (port int) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().(*net.TCPAddr).Port
}

func TestHTTP01(t *testing.T) {
	hop := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
	}
	tests := []struct {
		name   string
		handle http.HandlerFunc
		kind   bulkhead.Kind
		part   string
	}{
		{"right", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/.well-known/acme-challenge/"+testToken || !strings.HasPrefix(r.Host, "www.site.test") {
				t.Errorf("asked for %s at %s", r.URL, r.Host)
			}
			fmt.Fprint(w, testAuth)
		}, "", ""},
		{"right with trailing whitespace", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, testAuth+" \r\n") }, "", ""},
		{"wrong", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "something else") }, bulkhead.KindUnauthorized, "instead of the key authorization"},
		{"leading whitespace", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, " "+testAuth) }, bulkhead.KindUnauthorized, "instead"},
		{"not found", http.NotFound, bulkhead.KindUnauthorized, "status 404"},
		{"error status with the right body", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprint(w, testAuth)
		}, bulkhead.KindUnauthorized, "status 500"},
		{"oversized body", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, testAuth+strings.Repeat(" ", 10_000))
		}, bulkhead.KindUnauthorized, "more than 512 bytes"},
		{"endless body", func(w http.ResponseWriter, _ *http.Request) {
			for range 1000 {
				if _, err := fmt.Fprint(w, strings.Repeat("x", 4096)); err != nil {
					return
				}
			}
		}, bulkhead.KindUnauthorized, "more than 512 bytes"},
		{"oversized header", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Big", strings.Repeat("x", 100_000))
			fmt.Fprint(w, testAuth)
		}, bulkhead.KindConnection, "header"},
		{"slow header", func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-time.After(2 * time.Second):
			}
		}, bulkhead.KindConnection, "timeout"},
		{"redirect to itself", hop("/.well-known/acme-challenge/" + testToken), bulkhead.KindConnection, "circles"},
		{"endless redirects", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path+"x", http.StatusMovedPermanently)
		}, bulkhead.KindConnection, "more than 10 redirects"},
		{"redirect to metadata", hop("http://169.254.169.254/latest/meta-data/"), bulkhead.KindConnection, "never dialled"},
		{"redirect to mapped metadata", hop("http://[::ffff:169.254.169.254]/"), bulkhead.KindConnection, "never dialled"},
		{"redirect to a name of a metadata address", hop("http://metadata.site.test/"), bulkhead.KindConnection, "never dialled"},
		{"redirect to another port", hop("http://www.site.test:22/"), bulkhead.KindConnection, "port 22"},
		{"redirect to another scheme", hop("gopher://www.site.test/"), bulkhead.KindConnection, "scheme"},
		{"redirect with a password", hop("http://user:pw@www.site.test/"), bulkhead.KindConnection, "usable host"},
		{"redirect to a strange host", hop("http://0x7f000001_/"), bulkhead.KindConnection, "neither a DNS name nor an address"},
		{"redirect by 303", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/other", http.StatusSeeOther) }, bulkhead.KindUnauthorized, "status 303"},
		{"redirect without a location", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusFound) }, bulkhead.KindUnauthorized, "without a location"},
		{"redirect that serves", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/else" {
				fmt.Fprint(w, testAuth)
				return
			}
			http.Redirect(w, r, "http://www.site.test:80/else", http.StatusPermanentRedirect)
		}, "", ""},
	}
	z := newZone(t, "www.site.test. 60 IN A 127.0.0.1", "metadata.site.test. 60 IN A 169.254.169.254")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			port := serve(t, tt.handle)
			v := validator(t, func(c *Config) {
				c.Resolver, c.HTTPPort = z.addr, port
				if tt.part == "timeout" {
					c.Timeout = 400 * time.Millisecond
				}
			})
			detail, err := v.Validate(t.Context(), dnsName("www.site.test"), bulkhead.HTTP01, testToken, testAuth)
			wantFault(t, err, tt.kind, tt.part)
			if err == nil && !strings.Contains(detail, "127.0.0.1") {
				t.Errorf("the detail %q does not name the address", detail)
			}
		})
	}
}

func TestHTTP01FollowsToHTTPS(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, testAuth) }))
	t.Cleanup(s.Close)
	port := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://www.site.test"+r.URL.Path, http.StatusMovedPermanently)
	})
	z := newZone(t, "www.site.test. 60 IN A 127.0.0.1")
	v := validator(t, func(c *Config) {
		c.Resolver, c.HTTPPort, c.TLSPort = z.addr, port, s.Listener.Addr().(*net.TCPAddr).Port
	})
	if _, err := v.Validate(t.Context(), dnsName("www.site.test"), bulkhead.HTTP01, testToken, testAuth); err != nil {
		t.Fatal(err)
	}
}

func TestHTTP01ForAddresses(t *testing.T) {
	port := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, testAuth) })
	v := validator(t, func(c *Config) { c.HTTPPort = port })
	ip := bulkhead.Identifier{Type: bulkhead.IP, Value: "127.0.0.1"}
	if _, err := v.Validate(t.Context(), ip, bulkhead.HTTP01, testToken, testAuth); err != nil {
		t.Fatal(err)
	}
	_, err := v.Validate(t.Context(), ip, bulkhead.DNS01, testToken, testAuth)
	wantFault(t, err, bulkhead.KindUnsupportedIdentifier, "dns-01")
	if _, err := v.Validate(t.Context(), dnsName("localhost"), bulkhead.HTTP01, testToken, testAuth); err != nil {
		t.Fatalf("localhost without a resolver: %v", err)
	}
}

// TestRebinding shows that one resolution decides: a name server that answers loopback at first and metadata later, or
// the other way round, never moves a connection.
func TestRebinding(t *testing.T) {
	var hits atomic.Int32
	port := serve(t, func(w http.ResponseWriter, _ *http.Request) { hits.Add(1); fmt.Fprint(w, testAuth) })
	z := newZone(t)
	good, bad := "flip.site.test. 0 IN A 127.0.0.1", "flip.site.test. 0 IN A 169.254.169.254"
	v := validator(t, func(c *Config) { c.Resolver, c.HTTPPort = z.addr, port })

	z.turns("flip.site.test", dns.TypeA, good, bad)
	if _, err := v.Validate(t.Context(), dnsName("flip.site.test"), bulkhead.HTTP01, testToken, testAuth); err != nil {
		t.Fatal(err)
	}
	if n := z.count("flip.site.test", dns.TypeA); n != 1 || hits.Load() != 1 {
		t.Fatalf("resolved %d times and dialled %d times", n, hits.Load())
	}
	_, err := v.Validate(t.Context(), dnsName("flip.site.test"), bulkhead.HTTP01, testToken, testAuth)
	wantFault(t, err, bulkhead.KindConnection, "never dialled")
	if n := z.count("flip.site.test", dns.TypeA); n != 2 || hits.Load() != 1 {
		t.Fatalf("resolved %d times and dialled %d times", n, hits.Load())
	}
}

// TestPrivateTargets plants a reachable private target: silent without permission, reached with it.
func TestPrivateTargets(t *testing.T) {
	var hits atomic.Int32
	port := serve(t, func(w http.ResponseWriter, _ *http.Request) { hits.Add(1); fmt.Fprint(w, testAuth) })
	z := newZone(t, "inside.site.test. 60 IN A 127.0.0.1")
	for _, m := range []bulkhead.Method{bulkhead.HTTP01, bulkhead.TLSALPN01} {
		v := validator(t, func(c *Config) { c.Resolver, c.HTTPPort, c.TLSPort, c.AllowPrivate = z.addr, port, port, false })
		_, err := v.Validate(t.Context(), dnsName("inside.site.test"), m, testToken, testAuth)
		wantFault(t, err, bulkhead.KindConnection, "private")
		_, err = v.Validate(t.Context(), bulkhead.Identifier{Type: bulkhead.IP, Value: "127.0.0.1"}, m, testToken, testAuth)
		wantFault(t, err, bulkhead.KindConnection, "private")
		if err := v.control("tcp", "127.0.0.1:80", nil); err == nil {
			t.Error("the socket's own check let loopback pass")
		}
	}
	if hits.Load() != 0 {
		t.Fatalf("%d connections were made to a forbidden target", hits.Load())
	}
}

func TestCheckAddress(t *testing.T) {
	open := validator(t, nil)
	closed := validator(t, func(c *Config) { c.AllowPrivate = false })
	for _, tt := range []struct {
		addr         string
		open, closed bool
	}{
		{"8.8.8.8", true, true}, {"2606:4700::1111", true, true},
		{"127.0.0.1", true, false}, {"::1", true, false}, {"10.1.2.3", true, false}, {"192.168.0.1", true, false},
		{"172.31.255.255", true, false}, {"172.32.0.1", true, true}, {"100.64.0.1", true, false}, {"fd00::1", true, false},
		{"::ffff:10.0.0.1", true, false}, {"::ffff:8.8.8.8", true, true},
		{"169.254.169.254", false, false}, {"::ffff:169.254.169.254", false, false}, {"fe80::1", false, false},
		{"fd00:ec2::254", false, false}, {"100.100.100.200", false, false}, {"168.63.129.16", false, false},
		{"0.0.0.0", false, false}, {"::", false, false}, {"224.0.0.1", false, false}, {"ff02::1", false, false},
		{"255.255.255.255", false, false}, {"240.0.0.1", false, false}, {"64:ff9b::a9fe:a9fe", false, false},
		{"2002:a9fe:a9fe::1", false, false}, {"2001::1", false, false},
	} {
		addr := mustAddr(t, tt.addr)
		if got := open.checkAddress(addr) == nil; got != tt.open {
			t.Errorf("%s with private targets allowed: %v", tt.addr, got)
		}
		if got := closed.checkAddress(addr) == nil; got != tt.closed {
			t.Errorf("%s without: %v", tt.addr, got)
		}
	}
}
