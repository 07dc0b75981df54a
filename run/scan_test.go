package run

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/scan/probe/probetest"
)

// node serves a certificate at an address until the test ends; swap changes it.
type node struct {
	at   netip.AddrPort
	cert chan tls.Certificate // holds the one that is served
}

func (w *world) node(address string, c tls.Certificate) *node {
	w.Helper()
	n := &node{cert: make(chan tls.Certificate, 1)}
	n.cert <- c
	l, err := tls.Listen("tcp", address, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		now := <-n.cert
		n.cert <- now
		return &now, nil
	}})
	w.ok(err)
	w.Cleanup(func() { l.Close() })
	n.at = l.Addr().(*net.TCPAddr).AddrPort()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.(*tls.Conn).HandshakeContext(context.Background()) // a look ends before it is complete
			}()
		}
	}()
	return n
}

func (w *world) served(ref bulkhead.CertificateRef, key *ecdsa.PrivateKey) tls.Certificate {
	w.Helper()
	_, der, err := w.h.store.Certificate(w.Context(), ref)
	w.ok(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestLooksOfCampaigns: every address of a name is a node of its own, a stale one is told by what it serves (S3-6), and one with
// the fault by its verdict (S4-2).
func TestLooksOfCampaigns(t *testing.T) {
	w := newWorld(t)
	old := w.served(w.live, w.key)
	ref, key := w.issue("here.test")
	fresh := w.served(ref, key)
	first := w.node("127.0.0.1:0", fresh)
	port := first.at.Port()
	second := w.node(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), port).String(), old)
	e := w.h.eyes(true)
	e.names = book{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")}
	look := endpointLooks{e: e, ports: []uint16{port}}
	want := bulkhead.Digest(fresh.Certificate[0])
	stale := func() (names []string) {
		got, err := look.Look(t.Context(), bulkhead.CampaignItem{CertificateRef: w.live}, true)
		w.ok(err)
		if len(got) != 2 {
			t.Fatalf("%+v", got)
		}
		for _, x := range got {
			if x.Verdict != "not_supported" {
				t.Errorf("%+v", x)
			}
			if x.Fingerprint != want {
				names = append(names, x.Address)
			}
		}
		return names
	}
	if got := stale(); len(got) != 1 || got[0] != "here.test "+second.at.String() {
		t.Fatalf("stale nodes: %v", got)
	}
	<-second.cert
	second.cert <- fresh
	if got := stale(); len(got) != 0 {
		t.Fatalf("stale nodes: %v", got)
	}

	var faulty probetest.Behaviour
	for _, b := range probetest.Behaviours() {
		if b.Verdict == bulkhead.Vulnerable && b.STARTTLS == "" && b.SNI == "" {
			faulty = b
		}
	}
	s, err := probetest.Listen(faulty, "127.0.0.1:0")
	w.ok(err)
	t.Cleanup(s.Close)
	look.ports, look.e.names = []uint16{s.Addr().Port(), port}, book{netip.MustParseAddr("127.0.0.1")}
	verdict := func() string {
		got, err := look.Look(t.Context(), bulkhead.CampaignItem{CertificateRef: w.live}, true)
		w.ok(err)
		if len(got) != 2 || got[1].Verdict != "not_supported" {
			t.Fatalf("%+v", got)
		}
		return got[0].Verdict
	}
	if got := verdict(); got != "vulnerable" {
		t.Fatal(got)
	}
	s.Swap(probetest.Behaviour{})
	if got := verdict(); got != "not_supported" {
		t.Fatal(got)
	}
}

// TestWireSightings plants a certificate of ours that the record has otherwise (D2) on a server; one that it knows is silent.
func TestWireSightings(t *testing.T) {
	w := newWorld(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.h.watch.Run(ctx) }()
	defer func() { stop(); <-done }()
	n := w.node("127.0.0.1:0", w.served(w.live, w.key))
	e := w.h.eyes(true)
	e.names = book{n.at.Addr()}
	look := endpointLooks{e: e, ports: []uint16{n.at.Port()}}
	count := func() int {
		all, err := w.h.store.Alarms(t.Context(), 100)
		w.ok(err)
		c := 0
		for _, a := range all {
			if a.Detector == "D2" {
				c++
			}
		}
		return c
	}
	see := func() {
		_, err := look.Look(t.Context(), bulkhead.CampaignItem{CertificateRef: w.live}, false)
		w.ok(err)
	}
	see()
	time.Sleep(200 * time.Millisecond)
	if count() != 0 {
		t.Fatal("D2 for a certificate that the record knows")
	}
	w.plant(`UPDATE certificates SET fingerprint = ? WHERE serial = ? AND issuer = ?`, make32(9), fixed(w.live.Serial), string(w.live.Issuer))
	see()
	for end := time.Now().Add(time.Minute); count() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no D2")
		}
	}
}

func make32(b byte) []byte { return []byte(strings.Repeat(string(b), 32)) }

// TestAnalyserReachesNothingPrivate holds every way inside that is known against the public page (S4-3); then, where a
// closed network allows it, the three verdicts.
func TestAnalyserReachesNothingPrivate(t *testing.T) {
	w := newWorld(t)
	w.h.cfg.Analyser.PerSource, w.h.cfg.Analyser.PerTarget = 1_000_000, 1_000_000
	ask := func(s *httptest.Server, target string) (int, bulkhead.CheckResult) {
		w.pass(time.Minute) // for the limits
		body, err := json.Marshal(map[string]string{"target": target})
		w.ok(err)
		res, err := http.Post(s.URL+"/api/v1/check", "application/json", strings.NewReader(string(body)))
		w.ok(err)
		defer res.Body.Close()
		var r bulkhead.CheckResult
		w.ok(json.NewDecoder(res.Body).Decode(&r))
		return res.StatusCode, r
	}
	site := func() *httptest.Server {
		h, err := w.h.analyser()
		w.ok(err)
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s
	}
	public := site()
	for target, want := range map[string]int{
		"127.0.0.1": 403, "localhost": 403, "x.localhost": 403, "[::1]": 403, "10.0.0.1": 403, "192.168.1.1:8443": 403, "172.16.0.1": 403, "169.254.169.254": 403,
		"[::ffff:127.0.0.1]": 403, "[::ffff:a9fe:a9fe]": 403, "[64:ff9b::7f00:1]": 403, "[2002:7f00:1::1]": 403, "[fd00:ec2::254]": 403, "[fe80::1]": 403, "100.100.100.200": 403,
		"0.0.0.0": 403, "[::]": 403, "smtp://127.0.0.1": 403, "8.8.8.8:22": 403, "8.8.8.8:6379": 403, "2130706433": 400, "0x7f000001": 400, "127.1": 400, "10.0.0.0/8": 400,
		"http://127.0.0.1": 400, "file:///etc/passwd": 400, "": 400,
	} {
		if got, r := ask(public, target); got != want || r.Verdict != "" {
			t.Errorf("%q: %d %+v, want %d", target, got, r, want)
		}
	}
	w.h.cfg.Analyser.AllowPrivate = true
	closed := site()
	seen := map[bulkhead.Verdict]bool{}
	for _, b := range probetest.Behaviours() {
		if seen[b.Verdict] || b.TimesOut || b.STARTTLS != "" || b.SNI != "" {
			continue
		}
		seen[b.Verdict] = true
		s, err := probetest.Listen(b, "127.0.0.1:0")
		w.ok(err)
		t.Cleanup(s.Close)
		if code, r := ask(closed, s.Addr().String()); code != 200 || r.Verdict != b.Verdict || r.Reason != b.Reason {
			t.Errorf("%s: %d %s %s", b.Name, code, r.Verdict, r.Reason)
		}
	}
	if code, _ := ask(closed, "169.254.169.254"); code != 403 || len(seen) < 4 {
		t.Errorf("metadata: %d; %d verdicts", code, len(seen))
	}
}
