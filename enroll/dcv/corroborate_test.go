package dcv

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bulkhead"
	"bulkhead/pki/policy"
)

const sharedToken = "0123456789abcdef0123456789abcdef"

// place is a perspective with a DNS view of its own.
type place struct {
	zone   *zone
	remote Remote
	server *httptest.Server
}

// planet is a primary and remotes that all see victim.example at 127.0.0.1, where its holder answers challenges, until
// a test makes some of them see an attacker at 127.0.0.2.
type planet struct {
	t       *testing.T
	primary *zone
	places  []*place
	port    int
	c       *Corroborator
}

const (
	honest   = "victim.example. 1 IN A 127.0.0.1"
	attacker = "victim.example. 1 IN A 127.0.0.2"
)

// newPlanet has one remote for each registry named. The holder answers when holderAnswers, the attacker always does.
func newPlanet(t *testing.T, now time.Time, holderAnswers bool, rirs ...string) *planet {
	t.Helper()
	p := &planet{t: t, primary: newZone(t, honest)}
	ln, evil := samePort(t, func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") },
		func(first net.Addr) (net.Listener, error) {
			return net.Listen("tcp", fmt.Sprintf("127.0.0.2:%d", first.(*net.TCPAddr).Port))
		})
	p.port = ln.Addr().(*net.TCPAddr).Port
	serve := func(ln net.Listener, answers bool) {
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !answers {
				http.NotFound(w, r)
				return
			}
			_, _ = w.Write([]byte("token.thumb"))
		})}
		go func() { _ = srv.Serve(ln) }()
		t.Cleanup(func() { _ = srv.Close() })
	}
	serve(ln, holderAnswers)
	serve(evil, true)
	look := func(z *zone) *Validator {
		return validator(t, func(c *Config) { c.Resolver, c.HTTPPort = z.addr, p.port })
	}
	cfg := CorroboratorConfig{Primary: look(p.primary), Now: func() time.Time { return now }, Timeout: 2 * time.Second}
	for i, rir := range rirs {
		z := newZone(t, honest)
		h, err := NewPerspective(PerspectiveConfig{Validator: look(z), Token: sharedToken})
		if err != nil {
			t.Fatal(err)
		}
		srv := httptest.NewTLSServer(h)
		t.Cleanup(srv.Close)
		pl := &place{zone: z, server: srv, remote: Remote{Name: fmt.Sprintf("p%d", i), URL: srv.URL, RIR: rir, Token: sharedToken, Certificate: srv.Certificate()}}
		p.places = append(p.places, pl)
		cfg.Remotes = append(cfg.Remotes, pl.remote)
	}
	var err error
	if p.c, err = NewCorroborator(cfg); err != nil {
		t.Fatal(err)
	}
	return p
}

// see makes a place resolve the name by the record.
func (z *zone) see(record string) { z.set("victim.example", dns.TypeA, record) }

func (p *planet) validate() (string, error) {
	return p.c.Validate(context.Background(), dnsName("victim.example"), bulkhead.HTTP01, "token", "token.thumb")
}

func day(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 12, 0, 0, 0, time.UTC) }

// TestQuorumByDate walks the dated rows of BR 3.2.2.9: how many remotes may disagree, and where.
func TestQuorumByDate(t *testing.T) {
	for _, tt := range []struct {
		name    string
		now     time.Time
		rirs    string
		differ  int // how many remotes, from the first, see somebody else
		allowed bool
	}{
		{"report only", day(2025, time.April, 1), "ARIN RIPE", 2, true},
		{"two, all agree", day(2025, time.October, 1), "ARIN ARIN", 0, true},
		{"two, one differs", day(2025, time.October, 1), "ARIN RIPE", 1, true},
		{"two, both differ", day(2025, time.October, 1), "ARIN RIPE", 2, false},
		{"three, one differs", day(2026, time.April, 1), "ARIN RIPE APNIC", 1, true},
		{"three, two differ", day(2026, time.April, 1), "ARIN RIPE APNIC", 2, false},
		{"one registry is left", day(2026, time.April, 1), "ARIN RIPE RIPE", 1, false},
		{"four, one differs", day(2026, time.July, 1), "ARIN RIPE APNIC LACNIC", 1, true},
		{"five, two differ", day(2026, time.December, 20), "ARIN RIPE APNIC LACNIC AFRINIC", 2, false},
		{"six, two differ", day(2026, time.December, 20), "ARIN RIPE APNIC LACNIC AFRINIC RIPE", 2, true},
		{"six, three differ", day(2026, time.December, 20), "ARIN RIPE APNIC LACNIC AFRINIC RIPE", 3, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlanet(t, tt.now, true, strings.Fields(tt.rirs)...)
			for i := range tt.differ {
				p.places[i].zone.set("victim.example", dns.TypeA)
			}
			n := len(p.places)
			detail, err := p.validate()
			want := fmt.Sprintf("corroborated %d/%d", n-tt.differ, n)
			if tt.allowed {
				if err != nil || !strings.Contains(detail, want) {
					t.Fatalf("%v: %s", err, detail)
				}
				return
			}
			if k := bulkhead.KindOf(err); err == nil || !strings.Contains(err.Error(), want) || k != bulkhead.KindDNS {
				t.Fatalf("got %v (%s), want a refusal with %s", err, k, want)
			}
		})
	}
}

// TestTooFewPerspectives: a house that asks for corroboration with fewer remotes than the day's row does not start.
func TestTooFewPerspectives(t *testing.T) {
	p := newPlanet(t, day(2026, time.April, 1), true, "ARIN", "RIPE", "APNIC")
	if s := p.c.Shortfall(day(2026, time.April, 1)); s != "" {
		t.Error(s)
	}
	if s := p.c.Shortfall(day(2026, time.July, 1)); !strings.Contains(s, "3 remote perspectives") || !strings.Contains(s, "4 in 2") {
		t.Errorf("shortfall %q", s)
	}
	cfg := p.c.cfg
	cfg.Now = func() time.Time { return day(2026, time.July, 1) }
	if _, err := NewCorroborator(cfg); bulkhead.KindOf(err) != bulkhead.KindUsage {
		t.Errorf("got %v", err)
	}
	good := p.places[0].remote
	for i, spoil := range []func(*Remote){
		func(r *Remote) { r.Name = "" }, func(r *Remote) { r.URL = "http://127.0.0.1:1" }, func(r *Remote) { r.RIR = "MARS" },
		func(r *Remote) { r.Token = "short" }, func(r *Remote) { r.Certificate = nil }, func(r *Remote) { r.Name = "p1" },
	} {
		bad := good
		spoil(&bad)
		cfg := p.c.cfg
		cfg.Remotes = append([]Remote{bad}, cfg.Remotes[1:]...)
		if _, err := NewCorroborator(cfg); bulkhead.KindOf(err) != bulkhead.KindUsage {
			t.Errorf("case %d: %v", i, err)
		}
	}
}

// TestHijackIsRefused: whoever bends the routes or the DNS of one place gets nothing, be that place the primary.
func TestHijackIsRefused(t *testing.T) {
	now := day(2026, time.November, 20)
	four := []string{"ARIN", "RIPE", "APNIC", "LACNIC"}
	t.Run("near the primary", func(t *testing.T) {
		p := newPlanet(t, now, false, four...)
		p.primary.see(attacker)
		if _, err := p.validate(); err == nil || !strings.Contains(err.Error(), "corroborated 0/4") {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("near the primary and one remote", func(t *testing.T) {
		p := newPlanet(t, now, false, four...)
		p.primary.see(attacker)
		p.places[2].zone.see(attacker)
		if _, err := p.validate(); err == nil || !strings.Contains(err.Error(), "corroborated 1/4") {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("near the remotes only", func(t *testing.T) {
		p := newPlanet(t, now, false, four...)
		for _, pl := range p.places {
			pl.zone.see(attacker)
		}
		_, err := p.validate()
		wantFault(t, err, bulkhead.KindUnauthorized, "status 404")
	})
	t.Run("nowhere", func(t *testing.T) {
		p := newPlanet(t, now, true, four...)
		detail, err := p.validate()
		if err != nil || !strings.Contains(detail, "corroborated 4/4 in 4 registries") || !strings.Contains(detail, "p3 (LACNIC) saw it") {
			t.Fatalf("%v: %s", err, detail)
		}
	})
}

// TestRemoteDown: one that is away, shows another certificate or refuses our token is one that does not corroborate.
func TestRemoteDown(t *testing.T) {
	now := day(2026, time.November, 20)
	for name, spoil := range map[string]func(*planet, int){
		"away":        func(p *planet, i int) { p.places[i].server.Close() },
		"other token": func(p *planet, i int) { p.c.cfg.Remotes[i].Token = strings.Repeat("x", 32) },
		"other certificate": func(p *planet, i int) {
			r := p.c.cfg.Remotes[i]
			r.Certificate = otherCertificate(t)
			p.c.clients[i] = r.client()
		},
		"says nothing": func(p *planet, i int) {
			p.places[i].server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("no JSON")) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlanet(t, now, true, "ARIN", "RIPE", "APNIC", "LACNIC")
			spoil(p, 1)
			detail, err := p.validate()
			if err != nil || !strings.Contains(detail, "corroborated 3/4") || !strings.Contains(detail, "p1 (RIPE) could not be asked") {
				t.Fatalf("one: %v: %s", err, detail)
			}
			spoil(p, 2)
			_, err = p.validate()
			wantFault(t, err, bulkhead.KindUnavailable, "corroborated 2/4")
			if strings.Contains(err.Error(), "https://") {
				t.Errorf("the address of a perspective is shown: %v", err)
			}
		})
	}
}

// TestEmptyAnswerCorroboratesNothing: only an answer that says that control was seen counts.
func TestEmptyAnswerCorroboratesNothing(t *testing.T) {
	for _, text := range []string{`{}`, `null`, `{"detail":"seen"}`, `{"seen":true,"caa":"permitted"}`, `{"seen":true,"kind":"dns"}`} {
		p := newPlanet(t, day(2026, time.November, 20), true, "ARIN", "RIPE", "APNIC", "LACNIC")
		for i := range 2 {
			p.places[i].server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) })
		}
		if _, err := p.validate(); err == nil || !strings.Contains(err.Error(), "corroborated 2/4") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestCAAFromEveryPlace: CAA is corroborated too, a record that only some see counts, and nothing is cached.
func TestCAAFromEveryPlace(t *testing.T) {
	p := newPlanet(t, day(2026, time.November, 20), true, "ARIN", "RIPE", "APNIC", "LACNIC")
	check := func() bulkhead.CAACheck {
		t.Helper()
		c, err := p.c.CheckCAA(context.Background(), dnsName("victim.example"), false, "", bulkhead.HTTP01)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := check(); c.Result != bulkhead.CAAPermitted || !strings.Contains(c.Detail, "corroborated 4/4") {
		t.Fatalf("%+v", c)
	}
	asked := p.places[0].zone.count("victim.example", dns.TypeCAA)
	for i, pl := range p.places[:2] {
		pl.zone.set("victim.example", dns.TypeCAA, `victim.example. 1 IN CAA 0 issue "elsewhere.test"`)
		c := check()
		if want := []bulkhead.CAAResult{bulkhead.CAAPermitted, bulkhead.CAADenied}[i]; c.Result != want {
			t.Fatalf("%d deny: %+v", i+1, c)
		}
	}
	if p.places[0].zone.count("victim.example", dns.TypeCAA) != asked+2 {
		t.Error("a remote answered from a cache")
	}
	p.primary.set("victim.example", dns.TypeCAA, `victim.example. 1 IN CAA 0 issue "elsewhere.test"`)
	for _, pl := range p.places {
		pl.zone.set("victim.example", dns.TypeCAA)
	}
	if c := check(); c.Result != bulkhead.CAADenied {
		t.Fatalf("the primary's denial was outvoted: %+v", c)
	}
	// An address has no CAA: nobody is asked.
	if c, err := p.c.CheckCAA(context.Background(), bulkhead.Identifier{Type: bulkhead.IP, Value: "192.0.2.1"}, false, "", bulkhead.HTTP01); err != nil || c.Result != bulkhead.CAAExempt {
		t.Fatalf("%v %+v", err, c)
	}
}

// TestOwnNamesAreNotCorroborated: nobody outside can see them, and the detail says so.
func TestOwnNamesAreNotCorroborated(t *testing.T) {
	p := newPlanet(t, day(2026, time.November, 20), true, "ARIN", "RIPE", "APNIC", "LACNIC")
	p.c.cfg.Own = mustSet(t, "victim.example")
	for _, pl := range p.places {
		pl.server.Close()
	}
	detail, err := p.validate()
	if err != nil || !strings.Contains(detail, "not corroborated") {
		t.Fatalf("%v: %s", err, detail)
	}
}

// TestPerspectiveRefusals: no token, a wrong one, a request that is no look.
func TestPerspectiveRefusals(t *testing.T) {
	if _, err := NewPerspective(PerspectiveConfig{Validator: validator(t, nil), Token: "short"}); bulkhead.KindOf(err) != bulkhead.KindUsage {
		t.Errorf("got %v", err)
	}
	h, err := NewPerspective(PerspectiveConfig{Validator: validator(t, nil), Token: sharedToken})
	if err != nil {
		t.Fatal(err)
	}
	good, err := json.Marshal(lookRequest{Identifier: dnsName("victim.invalid"), Method: bulkhead.HTTP01, Token: "t", KeyAuthorization: "t.k"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		method, path, token string
		body                []byte
		status              int
	}{
		{"POST", LookPath, "", good, 401}, {"POST", LookPath, "Bearer " + strings.Repeat("x", 32), good, 401}, {"POST", LookPath, sharedToken[1:], good, 401},
		{"POST", LookPath, "Bearer " + sharedToken, []byte("x"), 400}, {"POST", LookPath, "Bearer " + sharedToken, []byte(`{"x":1}`), 400},
		{"POST", LookPath, "Bearer " + sharedToken, bytes.Repeat([]byte(" "), maxLook+1), 400},
		{"GET", LookPath, "Bearer " + sharedToken, nil, 405}, {"POST", "/", "Bearer " + sharedToken, good, 404},
	} {
		r := httptest.NewRequest(tt.method, tt.path, bytes.NewReader(tt.body))
		r.Header.Set("Authorization", tt.token)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tt.status {
			t.Errorf("%s %s %.20q: %d, want %d", tt.method, tt.path, tt.body, w.Code, tt.status)
		}
	}
}

// TestRowsOfToday: the day's row is the one that the planet above is built for.
func TestRowsOfToday(t *testing.T) {
	if got := policy.MPIC(testNow); got.Remote != 4 || got.RIRs != 2 || !got.Enforced {
		t.Errorf("%+v", got)
	}
}

func otherCertificate(t *testing.T) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
