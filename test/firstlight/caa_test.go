package firstlight

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// TestCAA: the zone decides. A lookup that fails is no permission.
func TestCAA(t *testing.T) {
	t.Parallel()
	h, n := shared(t)
	s := h.subscriber(n, "http-01", ecKey(t))
	for _, c := range []struct {
		what, name string
		records    []string
		breaks     bool
		problem    string
	}{
		{what: "no record", name: "none.caa.example.com"},
		{what: "we are named", name: "named.caa.example.com", records: []string{`named.caa.example.com. CAA 0 issue "bulkhead.internal"`}},
		{what: "another is named", name: "other.caa.example.com", records: []string{`other.caa.example.com. CAA 0 issue "ca.example.net"`}, problem: "caa"},
		{what: "nobody may", name: "nobody.caa.example.com", records: []string{`nobody.caa.example.com. CAA 0 issue ";"`}, problem: "caa"},
		{what: "the parent decides", name: "a.b.parent.caa.example.com", records: []string{`parent.caa.example.com. CAA 0 issue ";"`}, problem: "caa"},
		{what: "critical and unknown", name: "critical.caa.example.com", records: []string{`critical.caa.example.com. CAA 128 future "x"`}, problem: "caa"},
		{what: "another method", name: "method.caa.example.com", records: []string{`method.caa.example.com. CAA 0 issue "bulkhead.internal; validationmethods=dns-01"`}, problem: "caa"},
		{what: "this method", name: "thismethod.caa.example.com", records: []string{`thismethod.caa.example.com. CAA 0 issue "bulkhead.internal; validationmethods=dns-01,http-01"`}},
		{what: "another account", name: "account.caa.example.com", records: []string{`account.caa.example.com. CAA 0 issue "bulkhead.internal; accounturi=https://elsewhere.example.com/1"`}, problem: "caa"},
		{what: "this account", name: "thisaccount.caa.example.com", records: []string{`thisaccount.caa.example.com. CAA 0 issue "bulkhead.internal; accounturi=` + s.account.Location + `"`}},
		{what: "SERVFAIL", name: "broken.caa.example.com", breaks: true, problem: "caa"},
	} {
		t.Run(c.what, func(t *testing.T) {
			n.host(t, "127.0.0.1", c.name)
			n.add(t, c.records...)
			if c.breaks {
				n.fail(c.name, dns.TypeCAA)
			}
			p, err := s.obtain(ecKey(t), nil, c.name)
			if c.problem == "" {
				ok(t, err)
				return
			}
			if p.leaf != nil {
				t.Fatal("a certificate was issued")
			}
			wantProblem(t, err, c.problem)
		})
	}
}

// TestCAAByOperator: the operator's word for an own name does not overrule what its zone says.
func TestCAAByOperator(t *testing.T) {
	t.Parallel()
	h, n := shared(t)
	n.add(t, `caa-forbids.test. CAA 0 issue "ca.example.net"`)
	h.refused(3, "caa-forbids.test", "issue", "caa-forbids.test", "--out", t.TempDir())
	n.fail("caa-broken.test", dns.TypeCAA)
	h.must("issue", "caa-broken.test", "--out", t.TempDir()) // an own name whose zone cannot be asked: recorded as such
}

// TestPrivateTargets: with private_targets: false nothing is validated at loopback, private or metadata addresses,
// whatever the zone says; with the embedded default metadata addresses are refused all the same.
func TestPrivateTargets(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	h := prepare(t, options{flags: n.flags()})
	h.up()
	targets := map[string]string{"loop": "127.0.0.1", "ten": "10.1.2.3", "meta": "169.254.169.254", "zero": "0.0.0.0"}
	for label, ip := range targets {
		n.host(t, ip, label+".target.example.com")
	}
	s := h.subscriber(n, "http-01", ecKey(t))
	if _, err := s.obtain(ecKey(t), nil, "loop.target.example.com"); err != nil {
		t.Fatalf("the embedded default refuses loopback: %v", err)
	}
	_, err := s.obtain(ecKey(t), nil, "meta.target.example.com")
	wantNever(t, err)
	h.stop()
	h.edit("private_targets: true", "private_targets: false")
	h.up()
	s = h.subscriber(n, "http-01", ecKey(t)) // the account of before holds an authorization
	for label := range targets {
		_, err := s.obtain(ecKey(t), nil, label+".target.example.com")
		wantNever(t, err)
	}
	for _, f := range h.doctor() {
		if f.Check == "validation" && f.Level != "ok" {
			t.Errorf("doctor still says %+v", f)
		}
	}
}

func wantNever(t testing.TB, err error) {
	t.Helper()
	wantProblem(t, err, "connection")
	if err != nil && !strings.Contains(err.Error(), "never dialled") && !strings.Contains(err.Error(), "is private") {
		t.Errorf("the refusal does not say why: %v", err)
	}
}

// finding is what doctor and fsck print.
type finding struct{ Check, Level, Detail, Next string }

// doctor returns the findings; the exit code must agree with them.
func (h *house) doctor() []finding {
	h.t.Helper()
	var v struct{ Findings []finding }
	r := h.run("doctor", "--json")
	decode(h.t, r.stdout, &v)
	want := 0
	for _, f := range v.Findings {
		if f.Level != "ok" {
			want = 3
			if f.Next == "" {
				h.t.Errorf("doctor gives no next step for %+v", f)
			}
		}
	}
	if r.code != want || len(v.Findings) == 0 {
		h.t.Errorf("doctor ends with %d, want %d: %s%s", r.code, want, r.stdout, r.stderr)
	}
	return v.Findings
}
