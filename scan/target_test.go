package scan

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"bulkhead"
)

func TestParseTarget(t *testing.T) {
	for text, want := range map[string]Target{
		"www.Example.com":          {Text: "www.example.com:443", Host: "www.example.com", Port: 443, SNI: "www.example.com"},
		"www.example.com.:8443":    {Text: "www.example.com:8443", Host: "www.example.com", Port: 8443, SNI: "www.example.com"},
		"例え.jp":                    {Text: "xn--r8jz45g.jp:443", Host: "xn--r8jz45g.jp", Port: 443, SNI: "xn--r8jz45g.jp"},
		"192.0.2.1":                {Text: "192.0.2.1:443", Host: "192.0.2.1", Port: 443},
		"192.0.2.1:25":             {Text: "192.0.2.1:25", Host: "192.0.2.1", Port: 25},
		"2001:db8::1":              {Text: "[2001:db8::1]:443", Host: "2001:db8::1", Port: 443},
		"[2001:db8::1]:993":        {Text: "[2001:db8::1]:993", Host: "2001:db8::1", Port: 993},
		"::ffff:192.0.2.1":         {Text: "192.0.2.1:443", Host: "192.0.2.1", Port: 443},
		"https://www.example.com/": {Text: "https://www.example.com/", Host: "www.example.com", Port: 443, SNI: "www.example.com"},
		"SMTP://mx.example.com":    {Text: "SMTP://mx.example.com", Host: "mx.example.com", Port: 25, SNI: "mx.example.com", STARTTLS: bulkhead.STARTTLSSMTP},
		"smtp://[2001:db8::1]:26":  {Text: "smtp://[2001:db8::1]:26", Host: "2001:db8::1", Port: 26, STARTTLS: bulkhead.STARTTLSSMTP},
		"postgres://db.test:15432": {Text: "postgres://db.test:15432", Host: "db.test", Port: 15432, SNI: "db.test", STARTTLS: bulkhead.STARTTLSPostgres},
		"192.0.2.7/30":             {Text: "192.0.2.4/30 port 443", Port: 443, Block: netip.MustParsePrefix("192.0.2.4/30")},
	} {
		got, err := ParseTarget(text, 443)
		if got.Address.IsValid() {
			want.Address = netip.MustParseAddr(got.Host)
		}
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", " ", "a b", "gopher://x", "https://", "https://user:secret@x.test", "x.test:0", "x.test:65536", "x.test:http", "*.example.com",
		"fe80::1%eth0", "2130706433", "0x7f000001", "127.1", "0177.0.0.1", "10.0.0.0/8/9", "x.test/path", strings.Repeat("a", 300) + ".test", "-", "[::1", "https://[::1"} {
		if got, err := ParseTarget(text, 443); bulkhead.KindOf(err) != bulkhead.KindUsage {
			t.Errorf("%q was taken for %+v (%v)", text, got, err)
		}
	}
}

func TestReadTargets(t *testing.T) {
	got, err := ReadTargets(strings.NewReader("# hosts\n\na.test # ours\n192.0.2.1:25\n"), "hosts", []uint16{443, 8443})
	if err != nil || len(got) != 3 || got[1].Text != "a.test:8443" || got[2].Text != "192.0.2.1:25" {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := ReadTargets(strings.NewReader("a.test\nb c\n"), "hosts", []uint16{443}); err == nil || !strings.Contains(err.Error(), "hosts line 2") {
		t.Errorf("a line that is no target: %v", err)
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"a.test", "[::1]:5", "smtp://a", "10.0.0.0/8", "1.2.3.4:5", "例え.jp", "https://x:1/y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseTarget(text, 443)
		if err != nil {
			return
		}
		if got.Block.IsValid() == (got.Host != "") || got.Port == 0 || got.SNI != "" && got.Address.IsValid() {
			t.Errorf("%q: %+v", text, got)
		}
	})
}

// TestAuthorisation: no block is looked at on nobody's word, on an old one, or beyond what was allowed.
func TestAuthorisation(t *testing.T) {
	now := time.Date(2026, 6, 30, 23, 59, 0, 0, time.UTC)
	all, err := ReadAuthorisations(strings.NewReader("- {block: 192.0.2.0/24, by: \"A. Owner, ISP\", until: 2026-06-30}\n- {block: 198.51.100.0/25, by: somebody, until: 2026-06-29}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for block, ok := range map[string]bool{"192.0.2.0/24": true, "192.0.2.128/25": true, "192.0.2.0/23": false, "198.51.100.0/25": false, "203.0.113.0/24": false} {
		by, err := Authorise(netip.MustParsePrefix(block), all, now)
		if (err == nil) != ok || ok && by != "A. Owner, ISP" || !ok && bulkhead.KindOf(err) != bulkhead.KindGate {
			t.Errorf("%s: %q, %v", block, by, err)
		}
	}
	for _, text := range []string{"- {block: 10.0.0.0/8, by: me myself, until: 2026-01-01}", "- {block: x, by: me too, until: 2026-01-01}", "- {block: 192.0.2.0/24, until: 2026-01-01}",
		"- {block: 192.0.2.0/24, by: somebody, until: soon}", "- {block: 192.0.2.0/24, by: somebody, until: 2026-01-01, note: x}", "x"} {
		if _, err := ReadAuthorisations(strings.NewReader(text)); bulkhead.KindOf(err) != bulkhead.KindUsage {
			t.Errorf("%s: %v", text, err)
		}
	}
	b, err := ParseTarget("192.0.2.0/29", 443)
	if err != nil || len(b.Expand()) != 6 || b.Expand()[0].Text != "192.0.2.1:443" {
		t.Errorf("%+v, %v", b.Expand(), err)
	}
}
