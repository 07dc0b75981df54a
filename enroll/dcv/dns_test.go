package dcv

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bulkhead"
)

func TestDNS01(t *testing.T) {
	digest := sha256.Sum256([]byte(testAuth))
	want := base64.RawURLEncoding.EncodeToString(digest[:])
	z := newZone(t,
		"_acme-challenge.good.test. 60 IN TXT \"unrelated\"", "_acme-challenge.good.test. 60 IN TXT \""+want+"\"",
		fmt.Sprintf("_acme-challenge.split.test. 60 IN TXT %q %q", want[:10], want[10:]),
		"_acme-challenge.wrong.test. 60 IN TXT \"nonsense\"",
		"_acme-challenge.alias.test. 60 IN CNAME elsewhere.test.", "elsewhere.test. 60 IN CNAME further.test.", "further.test. 60 IN TXT \""+want+"\"",
		"_acme-challenge.loop.test. 60 IN CNAME loop2.test.", "loop2.test. 60 IN CNAME _acme-challenge.loop.test.",
		"_acme-challenge.host.test. 60 IN A 127.0.0.1",
	)
	many := []string{"_acme-challenge.many.test. 60 IN TXT \"" + want + "\""}
	for i := range 60 { // does not fit a datagram: TCP has it
		many = append([]string{fmt.Sprintf("_acme-challenge.many.test. 60 IN TXT \"%s%d\"", strings.Repeat("x", 40), i)}, many...)
	}
	z.set("_acme-challenge.many.test", dns.TypeTXT, many...)
	z.fail("_acme-challenge.broken.test", dns.TypeTXT, dns.RcodeServerFailure)
	z.fail("_acme-challenge.gone.test", dns.TypeTXT, dns.RcodeNameError)
	v := validator(t, func(c *Config) { c.Resolver = z.addr })
	for _, tt := range []struct {
		name string
		kind bulkhead.Kind
		part string
	}{
		{"good.test", "", ""}, {"split.test", "", ""}, {"alias.test", "", ""}, {"many.test", "", ""},
		{"wrong.test", bulkhead.KindUnauthorized, "nonsense"},
		{"gone.test", bulkhead.KindUnauthorized, "no TXT record"},
		{"host.test", bulkhead.KindUnauthorized, "no TXT record"},
		{"loop.test", bulkhead.KindDNS, "CNAME"},
		{"broken.test", bulkhead.KindDNS, "SERVFAIL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			detail, err := v.Validate(t.Context(), dnsName(tt.name), bulkhead.DNS01, testToken, testAuth)
			wantFault(t, err, tt.kind, tt.part)
			if tt.name == "alias.test" && !strings.Contains(detail, "elsewhere.test, further.test") {
				t.Errorf("the detail %q does not name the aliases", detail)
			}
		})
	}
}

func TestResolverThatIsAway(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0") // takes questions and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pc.Close() }()
	v := validator(t, func(c *Config) { c.Resolver, c.Timeout = pc.LocalAddr().String(), 100*time.Millisecond })
	_, err = v.Validate(t.Context(), dnsName("site.test"), bulkhead.DNS01, testToken, testAuth)
	wantFault(t, err, bulkhead.KindDNS, "timeout")
	_, err = v.Validate(t.Context(), dnsName("site.test"), bulkhead.HTTP01, testToken, testAuth)
	wantFault(t, err, bulkhead.KindDNS, "timeout")
}

func TestCAA(t *testing.T) {
	z := newZone(t,
		`us.org. 60 IN CAA 0 issue "ca.bulkhead.test"`,
		`capitals.org. 60 IN CAA 0 ISSUE "CA.Bulkhead.Test"`,
		`other.org. 60 IN CAA 0 issue "someone.example"`,
		`both.org. 60 IN CAA 0 issue "someone.example"`, `both.org. 60 IN CAA 0 issue " ca.bulkhead.test ; "`,
		`nobody.org. 60 IN CAA 0 issue ";"`,
		`empty.org. 60 IN CAA 0 issue ""`,
		`iodef.org. 60 IN CAA 0 iodef "mailto:a@iodef.org"`,
		`unknown.org. 60 IN CAA 0 tbs "x"`,
		`critical.org. 60 IN CAA 128 tbs "x"`, `critical.org. 60 IN CAA 0 issue "ca.bulkhead.test"`,
		`criticalknown.org. 60 IN CAA 128 issue "ca.bulkhead.test"`,
		`reserved.org. 60 IN CAA 1 tbs "x"`,
		`wildno.org. 60 IN CAA 0 issue "ca.bulkhead.test"`, `wildno.org. 60 IN CAA 0 issuewild ";"`,
		`wildonly.org. 60 IN CAA 0 issue ";"`, `wildonly.org. 60 IN CAA 0 issuewild "ca.bulkhead.test"`,
		`wildfirst.org. 60 IN CAA 0 issuewild "someone.example"`,
		`alias.org. 60 IN CNAME other.org.`,
		`child.alias2.org. 60 IN CNAME target.deep.com.`, `deep.com. 60 IN CAA 0 issue ";"`, `alias2.org. 60 IN CAA 0 issue "ca.bulkhead.test"`,
		`account.org. 60 IN CAA 0 issue "ca.bulkhead.test; accounturi=https://ca.test/acme/account/me"`,
		`stranger.org. 60 IN CAA 0 issue "ca.bulkhead.test; accounturi=https://ca.test/acme/account/them"`,
		`twice.org. 60 IN CAA 0 issue "ca.bulkhead.test; accounturi=https://ca.test/acme/account/me; accounturi=https://ca.test/acme/account/me"`,
		`method.org. 60 IN CAA 0 issue "ca.bulkhead.test; validationmethods=dns-01,http-01"`,
		`nomethod.org. 60 IN CAA 0 issue "ca.bulkhead.test; validationmethods=dns-01"`,
		`param.org. 60 IN CAA 0 issue "ca.bulkhead.test; policy=ev"`,
		`malformed.org. 60 IN CAA 0 issue "ca.bulkhead.test; %%%%%"`,
		`malformed2.org. 60 IN CAA 0 issue "ca bulkhead test"`,
		`tld. 60 IN CAA 0 issue ";"`,
		`own.corp. 60 IN CAA 0 issue "someone.example"`,
	)
	z.fail("servfail.org", dns.TypeCAA, dns.RcodeServerFailure)
	z.fail("down.corp", dns.TypeCAA, dns.RcodeServerFailure)
	z.fail("refused.org", dns.TypeCAA, dns.RcodeRefused)
	z.fail("nx.org", dns.TypeCAA, dns.RcodeNameError)
	own := mustSet(t, "*.corp")
	v := validator(t, func(c *Config) { c.Resolver, c.OwnNames = z.addr, own })
	const yes, no, exempt = bulkhead.CAAPermitted, bulkhead.CAADenied, bulkhead.CAAExempt
	for _, tt := range []struct {
		name string
		want bulkhead.CAAResult
		part string
	}{
		{"us.org", yes, "named by issue; at us.org"}, {"www.deep.us.org", yes, "at us.org"}, {"capitals.org", yes, "named"},
		{"other.org", no, "no record names us"}, {"www.other.org", no, "no record names us"}, {"both.org", yes, "named"},
		{"nobody.org", no, ""}, {"empty.org", no, ""}, {"iodef.org", yes, "no property restricts"}, {"unknown.org", yes, "no property restricts"},
		{"critical.org", no, `critical property "tbs"`}, {"criticalknown.org", yes, "named"}, {"reserved.org", yes, "no property"},
		{"wildno.org", yes, "named"}, {"*.wildno.org", no, ""}, {"wildonly.org", no, ""}, {"*.wildonly.org", yes, "named by issuewild"},
		{"wildfirst.org", yes, "no property"}, {"*.wildfirst.org", no, ""}, {"*.us.org", yes, "named by issue"},
		{"alias.org", no, "someone.example"}, {"child.alias2.org", yes, "at alias2.org"},
		{"account.org", yes, ""}, {"stranger.org", no, "accounturi"}, {"twice.org", no, "twice"},
		{"method.org", yes, ""}, {"nomethod.org", no, "validationmethods does not have http-01"}, {"param.org", yes, ""},
		{"malformed.org", no, ""}, {"malformed2.org", no, ""}, {"www.tld", no, "at tld"}, {"none.org", yes, "no CAA records"},
		{"servfail.org", no, "SERVFAIL"}, {"www.servfail.org", no, "SERVFAIL"}, {"refused.org", no, "REFUSED"}, {"nx.org", yes, "no CAA records"},
		{"down.corp", exempt, "SERVFAIL"}, {"own.corp", no, "someone.example"}, {"fine.corp", yes, "no CAA records"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := v.CheckCAA(t.Context(), dnsName(tt.name), strings.HasPrefix(tt.name, "*."), "https://ca.test/acme/account/me", bulkhead.HTTP01)
			if err != nil {
				t.Fatal(err)
			}
			if c.Result != tt.want || !strings.Contains(c.Detail, tt.part) {
				t.Errorf("%s: %s", c.Result, c.Detail)
			}
			if !c.At.Equal(testNow) || !c.ValidUntil.Equal(testNow.Add(8*time.Hour)) || c.Identifier != dnsName(tt.name) {
				t.Errorf("the row is %+v", c)
			}
		})
	}
}

// TestCAAWithoutResolver: names that have no public zone are exempt and say so; nothing is asked.
func TestCAAWithoutResolver(t *testing.T) {
	v := validator(t, nil)
	for _, name := range []string{"localhost", "a.localhost", "app.test", "*.app.test", "db.internal", "nas.local", "box.home.arpa", "x.invalid", "www.example"} {
		c, err := v.CheckCAA(t.Context(), dnsName(name), false, "", bulkhead.HTTP01)
		if err != nil || c.Result != bulkhead.CAAExempt || !strings.Contains(c.Detail, "special-use name") {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	c, err := v.CheckCAA(t.Context(), bulkhead.Identifier{Type: bulkhead.IP, Value: "10.0.0.1"}, false, "", bulkhead.HTTP01)
	if err != nil || c.Result != bulkhead.CAAExempt {
		t.Errorf("an address: %+v, %v", c, err)
	}
}

func TestCAACancelled(t *testing.T) {
	v := validator(t, func(c *Config) { c.Resolver = "127.0.0.1:1" })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if c, err := v.CheckCAA(ctx, dnsName("us.org"), false, "", bulkhead.HTTP01); err == nil {
		t.Errorf("a look that did not happen became a result: %+v", c)
	}
}

func TestConfigIsChecked(t *testing.T) {
	now := func() time.Time { return testNow }
	for name, cfg := range map[string]Config{
		"no clock":     {CAAIdentities: []string{"ca.test"}},
		"no identity":  {Now: now},
		"bad resolver": {Now: now, CAAIdentities: []string{"ca.test"}, Resolver: "127.0.0.1"},
		"bad port":     {Now: now, CAAIdentities: []string{"ca.test"}, HTTPPort: 70000},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func FuzzIssueValue(f *testing.F) {
	for _, s := range []string{"", ";", "ca.test", "ca.test; a=b", "ca.test;a=b;c=d", " ca.test ; accounturi=https://x/ ; validationmethods=http-01,dns-01", "ca.test; =", "ca.test;;", "%%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		domain, params, valid := parseIssueValue(value)
		if !valid && (domain != "" || params != nil) {
			t.Errorf("%q is not valid and gives %q %v", value, domain, params)
		}
		if valid && domain != "" && dnsName(domain).Check() != nil {
			t.Errorf("%q gives the domain %q", value, domain)
		}
	})
}
