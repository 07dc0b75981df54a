package profile

import (
	"bytes"
	"strings"
	"testing"

	"bulkhead"
)

func TestBuiltin(t *testing.T) {
	files := Files()
	list := Builtin()
	if len(list) != 5 || len(files) != 5 {
		t.Fatalf("%d profiles, %d files", len(list), len(files))
	}
	days := map[string]float64{"tls-server": 47, "tls-server-short": 6, "tls-client": 47, "smime": 365, "code-signing": 365}
	for _, p := range list {
		if got := p.Validity.Hours() / 24; got != days[p.Name] {
			t.Errorf("%s: validity of %v days", p.Name, got)
		}
		again, err := Parse(files[p.Name+".yaml"])
		if err != nil || again.Name != p.Name {
			t.Errorf("%s: its file gives %v, %v", p.Name, again, err)
		}
	}
	list[0].Keys[0] = "changed"
	if Builtin()[0].Keys[0] == "changed" {
		t.Error("a caller can change the built-in profiles")
	}
}

// edit replaces one line of the built-in tls-server profile; an empty new text removes it.
func edit(t testing.TB, key, line string) []byte {
	t.Helper()
	var out []string
	found := false
	for _, l := range strings.Split(string(Files()["tls-server.yaml"]), "\n") {
		if strings.HasPrefix(l, key+":") {
			found, l = true, line
		}
		out = append(out, l)
	}
	if !found {
		out = append(out, line)
	}
	return []byte(strings.Join(out, "\n"))
}

func TestParseRefuses(t *testing.T) {
	tests := []struct {
		what, key, line string
		want            bulkhead.Kind
	}{
		{"silent without a fault", "validity", "validity: 1128h", ""},
		{"unknown key", "colour", "colour: red", bulkhead.KindMalformed},
		{"repeated key", "colour", "name: twice", bulkhead.KindMalformed},
		{"wrong type", "max_names", "max_names: many", bulkhead.KindMalformed},
		{"no name", "name", "", bulkhead.KindInvalidProfile},
		{"name with a path", "name", "name: ../up", bulkhead.KindInvalidProfile},
		{"no kind", "kind", "", bulkhead.KindInvalidProfile},
		{"a kind of authority", "kind", "kind: ca", bulkhead.KindInvalidProfile},
		{"no validity", "validity", "", bulkhead.KindInvalidProfile},
		{"negative validity", "validity", "validity: -47d", bulkhead.KindInvalidProfile},
		{"endless validity", "validity", "validity: 99999999999d", bulkhead.KindInvalidProfile},
		{"overflowing validity", "validity", "validity: 4294967295d", bulkhead.KindInvalidProfile},
		{"validity of an hour", "validity", "validity: 1h", bulkhead.KindInvalidProfile},
		{"validity in fractions", "validity", "validity: 47h0.5s", bulkhead.KindInvalidProfile},
		{"backdate of three days", "backdate", "backdate: 72h", bulkhead.KindInvalidProfile},
		{"backdate into the future", "backdate", "backdate: -1h", bulkhead.KindInvalidProfile},
		{"renewal after the end", "renew_at", "renew_at: 1", bulkhead.KindInvalidProfile},
		{"renewal not a number", "renew_at", "renew_at: .nan", bulkhead.KindInvalidProfile},
		{"no keys", "keys", "keys: []", bulkhead.KindInvalidProfile},
		{"weak keys", "keys", "keys: [rsa1024]", bulkhead.KindInvalidProfile},
		{"ed25519 for servers", "keys", "keys: [ed25519]", bulkhead.KindInvalidProfile},
		{"a key type twice", "keys", "keys: [p256, p256]", bulkhead.KindInvalidProfile},
		{"no identifiers", "identifiers", "identifiers: []", bulkhead.KindInvalidProfile},
		{"logs from one operator", "ct", "ct: {logs: 1}", bulkhead.KindInvalidProfile},
		{"two logs", "ct", "ct: {logs: 2}", ""},
		{"code signing in a server", "extended_key_usages", "extended_key_usages: [server-auth, code-signing]", bulkhead.KindInvalidProfile},
		{"policy of another kind", "policies", "policies: [2.23.140.1.2.1, 2.23.140.1.5.1.3]", bulkhead.KindInvalidProfile},
		{"server with an organization", "subject", "subject: {organization: X, locality: Y, country: CH}", bulkhead.KindInvalidProfile},
		{"mail for servers", "identifiers", "identifiers: [email]", bulkhead.KindInvalidProfile},
		{"wildcard without dns", "identifiers", "identifiers: [ip]", bulkhead.KindInvalidProfile},
		{"no names", "max_names", "max_names: 0", bulkhead.KindInvalidProfile},
		{"too many names", "max_names", "max_names: 1001", bulkhead.KindInvalidProfile},
		{"unknown common name", "common_name", "common_name: mine", bulkhead.KindInvalidProfile},
		{"no usage", "extended_key_usages", "extended_key_usages: []", bulkhead.KindInvalidProfile},
		{"the other kind's usage", "extended_key_usages", "extended_key_usages: [client-auth]", bulkhead.KindInvalidProfile},
		{"OCSPSigning", "extended_key_usages", "extended_key_usages: [server-auth, ocsp-signing]", bulkhead.KindInvalidProfile},
		{"any usage", "extended_key_usages", "extended_key_usages: [any]", bulkhead.KindInvalidProfile},
		{"a usage twice", "extended_key_usages", "extended_key_usages: [server-auth, server-auth]", bulkhead.KindInvalidProfile},
		{"no policy", "policies", "policies: []", bulkhead.KindInvalidProfile},
		{"a policy twice", "policies", "policies: [2.23.140.1.2.1, 2.23.140.1.2.1]", bulkhead.KindInvalidProfile},
		{"a policy that is none", "policies", "policies: [bronze]", bulkhead.KindInvalidProfile},
		{"encipherment without RSA", "keys", "keys: [p256]\nkey_encipherment: true", bulkhead.KindInvalidProfile},
		{"authority with a path", "default_authority", "default_authority: a/b", bulkhead.KindInvalidProfile},
		{"two documents", "acme", "acme: true\n---\nname: second", bulkhead.KindMalformed},
	}
	for _, x := range tests {
		_, err := Parse(edit(t, x.key, x.line))
		wantKind(t, x.what, err, x.want)
	}
	_, err := Parse(nil)
	wantKind(t, "empty file", err, bulkhead.KindMalformed)
	_, err = Parse(bytes.Repeat([]byte("#\n"), maxFile))
	wantKind(t, "huge file", err, bulkhead.KindMalformed)
	client := strings.Replace(string(Files()["tls-client.yaml"]), "[client-auth]", "[client-auth, server-auth]", 1)
	_, err = Parse([]byte(client))
	wantKind(t, "server usage in a client profile", err, bulkhead.KindInvalidProfile)
}

func wantKind(t *testing.T, what string, err error, want bulkhead.Kind) {
	t.Helper()
	if got := bulkhead.KindOf(err); got != want {
		t.Errorf("%s: kind %q (%v), want %q", what, got, err, want)
		return
	}
	if want != "" && want != bulkhead.KindInternal && bulkhead.AsFault(err).Hint == "" {
		t.Errorf("%s: no hint in %v", what, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range Files() {
		f.Add(text)
	}
	f.Add(edit(f, "validity", "validity: 106751d"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse(text)
		if err != nil {
			if k := bulkhead.KindOf(err); k != bulkhead.KindMalformed && k != bulkhead.KindInvalidProfile {
				t.Fatalf("kind %s: %v", k, err)
			}
			return
		}
		if p.Validity <= 0 || p.Backdate < 0 || p.Backdate >= p.Validity || len(p.Keys) == 0 || len(p.EKUs) == 0 {
			t.Fatalf("accepted %+v", p)
		}
	})
}
