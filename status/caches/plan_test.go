package caches

import (
	"strings"
	"testing"
	"time"

	"bulkhead"
)

// day2016 is the row of caches of 13 October 2016.
func day2016() []Tier {
	return []Tier{
		{Name: "edge", Kind: Edge, Owner: "status", Nodes: []string{"http://127.0.0.1:1"}},
		{Name: "lb", Kind: LoadBalancer, TTL: 8 * time.Hour, Owner: "hosting", Nodes: []string{"http://127.0.0.1:2"}, Probe: "http://127.0.0.1:3", Purge: Purge{Adapter: VarnishPurge}},
		{Name: "cdn", Kind: CDN, TTL: time.Hour, Owner: "cdn desk", Probe: "http://127.0.0.1:4", Purge: Purge{Adapter: HTTP, URL: "https://api.cdn.test/purge"}},
		{Name: "clients", Kind: Client, TTL: 96 * time.Hour, Owner: "nobody"},
	}
}

func jst(text string) time.Time {
	t, err := time.Parse("2006-01-02 15:04 -0700", text+" +0900")
	if err != nil {
		panic(err)
	}
	return t
}

const golden2016 = `The last wrong answer dies at 2016-10-17 20:20:00 +09:00:
it was signed at 2016-10-13 20:20:00 +09:00 and is valid for 4 d.
A client that has it believes it until then, and no purge reaches a client.
Without a purge the server tiers are clean at 2016-10-14 05:20:00 +09:00; purged, at 2016-10-13 20:20:00 +09:00.

TIER     KIND           OWNER     TTL  WRONG UNTIL, NO PURGE       WRONG UNTIL, PURGED
edge     edge           status    0s   2016-10-13 20:20:00 +09:00  2016-10-13 20:20:00 +09:00 (no purge)
lb       load-balancer  hosting   8 h  2016-10-14 04:20:00 +09:00  2016-10-13 20:20:00 +09:00
cdn      cdn            cdn desk  1 h  2016-10-14 05:20:00 +09:00  2016-10-13 20:20:00 +09:00
clients  client         nobody    4 d  2016-10-17 20:20:00 +09:00  2016-10-17 20:20:00 +09:00 (no purge)`

func TestPlanOf2016(t *testing.T) {
	p, err := Make(day2016(), Assumption{Signed: jst("2016-10-13 20:20"), Validity: 96 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if got := p.String(); got != golden2016 {
		t.Errorf("got:\n%s\nwant:\n%s", got, golden2016)
	}
	p, err = Make(day2016(), Assumption{Signed: jst("2016-10-13 20:20"), Validity: 8 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if !p.Dies.Equal(jst("2016-10-14 04:20")) || !strings.Contains(p.String(), "dies at 2016-10-14 04:20:00 +09:00") {
		t.Errorf("with a validity of 8 h it dies at %s", p.Dies)
	}
}

func TestPlanTiers(t *testing.T) {
	at := jst("2016-10-13 20:20")
	noLB, slowEdge := day2016(), day2016()
	noLB[1].Purge = Purge{}
	slowEdge[0].TTL = 10 * time.Minute
	for _, c := range []struct {
		name          string
		tiers         []Tier
		a             Assumption
		without, with []time.Duration // after at, by tier
	}{
		{"purged later", day2016(), Assumption{Signed: at, Validity: 96 * time.Hour, Purged: at.Add(2 * time.Hour)},
			[]time.Duration{0, 8, 9, 96}, []time.Duration{0, 2, 2, 96}},
		{"purged before the correction counts from the correction", day2016(), Assumption{Signed: at, Validity: 96 * time.Hour, Corrected: at.Add(time.Hour), Purged: at},
			[]time.Duration{1, 9, 10, 96}, []time.Duration{1, 1, 1, 96}},
		{"a tier without a purge fills the one in front again", noLB, Assumption{Signed: at, Validity: 96 * time.Hour},
			[]time.Duration{0, 8, 9, 96}, []time.Duration{0, 8, 9, 96}},
		{"validity ends the tiers, too", day2016(), Assumption{Signed: at, Validity: 8 * time.Hour},
			[]time.Duration{0, 8, 8, 8}, []time.Duration{0, 0, 0, 8}},
		{"a client has it until the end whatever its ttl", append(day2016()[:3], Tier{Name: "clients", Kind: Client}), Assumption{Signed: at, Validity: 96 * time.Hour},
			[]time.Duration{0, 8, 9, 96}, []time.Duration{0, 0, 0, 96}},
		{"from answers", day2016(), Assumption{Dies: at.Add(5 * time.Hour), Corrected: at},
			[]time.Duration{0, 5, 5, 5}, []time.Duration{0, 0, 0, 5}},
	} {
		p, err := Make(c.tiers, c.a)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		for i, tp := range p.Tiers {
			if got := tp.WithoutPurge.Sub(at) / time.Hour; got != c.without[i] {
				t.Errorf("%s: %s without a purge until +%d h, want %d", c.name, tp.Name, got, c.without[i])
			}
			if got := tp.WithPurge.Sub(at) / time.Hour; got != c.with[i] {
				t.Errorf("%s: %s purged until +%d h, want %d", c.name, tp.Name, got, c.with[i])
			}
		}
	}
	p, err := Make(slowEdge, Assumption{Signed: at, Validity: 96 * time.Hour})
	if err != nil || p.Tiers[2].WithPurge.Sub(at) != 10*time.Minute {
		t.Errorf("a purge does not wait for the edges: %+v, %v", p.Tiers, err)
	}
	for _, a := range []Assumption{{}, {Signed: at}, {Dies: at}} {
		if _, err := Make(day2016(), a); bulkhead.KindOf(err) != bulkhead.KindUsage {
			t.Errorf("%+v: %v", a, err)
		}
	}
}

func TestLint(t *testing.T) {
	edit := func(f func([]Tier) []Tier) []Tier {
		x := day2016()
		x[1].TTL = 30 * time.Minute // the day's own fault is its own row
		return f(x)
	}
	for _, c := range []struct {
		name     string
		tiers    []Tier
		validity time.Duration
		want     string // level rule tier
	}{
		{"nothing wrong", edit(func(x []Tier) []Tier { return x }), 96 * time.Hour, ""},
		{"the load balancer of 2016", day2016(), 96 * time.Hour, "error longer-than-front lb"},
		{"client beyond validity", edit(func(x []Tier) []Tier { return x }), 24 * time.Hour, "error longer-than-validity clients"},
		{"server beyond validity", edit(func(x []Tier) []Tier { x[2].TTL = 97 * time.Hour; return x }), 96 * time.Hour, "error longer-than-validity cdn"},
		{"no client", edit(func(x []Tier) []Tier { return x[:3] }), 96 * time.Hour, "error no-client "},
		{"no purge", edit(func(x []Tier) []Tier { x[1].Purge = Purge{}; return x }), 96 * time.Hour, "warning no-purge lb"},
		{"no probe", edit(func(x []Tier) []Tier { x[2].Probe = ""; return x }), 96 * time.Hour, "warning no-probe cdn"},
		{"nodes only", edit(func(x []Tier) []Tier { x[1].Probe = ""; return x }), 96 * time.Hour, "warning no-probe lb"},
		{"no edge", edit(func(x []Tier) []Tier { return x[1:] }), 96 * time.Hour, "warning no-edge "},
	} {
		if err := Check(c.tiers); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		got := []string{}
		for _, f := range Lint(c.tiers, c.validity) {
			got = append(got, f.Level+" "+f.Rule+" "+f.Tier)
			if f.Detail == "" || f.Next == "" {
				t.Errorf("%s: %+v says nothing", c.name, f)
			}
		}
		if strings.Join(got, "; ") != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestCheck(t *testing.T) {
	for name, edit := range map[string]func(x []Tier) []Tier{
		"no name":               func(x []Tier) []Tier { x[0].Name = ""; return x },
		"double name":           func(x []Tier) []Tier { x[1].Name = "edge"; return x },
		"kind":                  func(x []Tier) []Tier { x[1].Kind = "proxy"; return x },
		"client in the middle":  func(x []Tier) []Tier { x[1], x[3] = x[3], x[1]; return x },
		"edge outside":          func(x []Tier) []Tier { x[0], x[1] = x[1], x[0]; return x },
		"negative ttl":          func(x []Tier) []Tier { x[1].TTL = -1; return x },
		"address with a path":   func(x []Tier) []Tier { x[1].Probe = "http://127.0.0.1/x"; return x },
		"address with a user":   func(x []Tier) []Tier { x[1].Probe = "http://u@127.0.0.1"; return x },
		"adapter":               func(x []Tier) []Tier { x[1].Purge.Adapter = "squid"; return x },
		"purge of a client":     func(x []Tier) []Tier { x[3].Purge.Adapter = Nginx; return x },
		"purge without nodes":   func(x []Tier) []Tier { x[1].Nodes, x[1].Probe = nil, ""; return x },
		"template with varnish": func(x []Tier) []Tier { x[1].Purge.URL = "http://x.test/"; return x },
		"no template":           func(x []Tier) []Tier { x[2].Purge.URL = ""; return x },
		"template of any host":  func(x []Tier) []Tier { x[2].Purge.URL = "{url}"; return x },
		"host from a template":  func(x []Tier) []Tier { x[2].Purge.URL = "http://{urls}/"; return x },
		"secret in the URL":     func(x []Tier) []Tier { x[2].Purge.URL = "https://x.test/?k={secret:k}"; return x },
		"unknown secret":        func(x []Tier) []Tier { x[2].Purge.Body = "{secret:k}"; return x },
	} {
		if err := Check(edit(day2016())); bulkhead.KindOf(err) != bulkhead.KindUsage {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDrain(t *testing.T) {
	now, longest := jst("2016-10-09 20:00"), jst("2016-10-13 12:00")
	for _, c := range []struct {
		before time.Time
		safe   bool
		want   string
	}{
		{time.Time{}, true, "earliest safe time for the change is 2016-10-13 12:00:00 +09:00"},
		{jst("2016-10-13 16:00"), true, "That is in time for 2016-10-13 16:00:00 +09:00."},
		{jst("2016-10-13 11:00"), false, "That is too late for 2016-10-13 11:00:00 +09:00, by 1 h: move the change."},
	} {
		d, err := Shorten(day2016(), now, longest, 96*time.Hour, 8*time.Hour, c.before)
		if err != nil || d.Safe != c.safe || !strings.Contains(d.String(), c.want) {
			t.Errorf("%v %v\n%s", err, d.Safe, d)
		}
		if len(d.Set) != 2 || !strings.HasPrefix(d.Set[0], "status.answer_validity: 8h") || !strings.Contains(d.Set[1], "clients") {
			t.Errorf("%q", d.Set)
		}
	}
	d, err := Shorten(day2016(), now, now.Add(-time.Hour), 96*time.Hour, 8*time.Hour, time.Time{})
	if err != nil || !d.Earliest.Equal(now) {
		t.Errorf("with nothing alive it is safe at once: %v %v", d.Earliest, err)
	}
	if _, err := Shorten(nil, now, longest, 8*time.Hour, 96*time.Hour, now); bulkhead.KindOf(err) != bulkhead.KindUsage {
		t.Errorf("longer: %v", err)
	}
}
