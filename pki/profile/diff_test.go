package profile

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"bulkhead"
)

// TestDiff plants one change after the other in tls-server and wants it said.
func TestDiff(t *testing.T) {
	base := string(Files()["tls-server.yaml"])
	for _, c := range []struct {
		what, key, line string
		grants, takes   string // words of the one line; both empty for a change that is neither
	}{
		{"longer life", "validity", "validity: 100d", "longer life: 100 days, before 47 days", ""},
		{"shorter life", "validity", "validity: 90h", "", "shorter life: 90h0m0s, before 47 days"},
		{"earlier beginning", "backdate", "backdate: 24h", "earlier beginning", ""},
		{"later beginning", "backdate", "backdate: 5m", "", "later beginning"},
		{"more names", "max_names", "max_names: 500", "more names in one certificate: 500", ""},
		{"fewer names", "max_names", "max_names: 1", "", "fewer names"},
		{"new usage", "extended_key_usages", "extended_key_usages: [server-auth, client-auth]", "extended key usage client-auth", ""},
		{"fewer identifiers", "identifiers", "identifiers: [dns]", "", "identifiers of type ip"},
		{"a policy", "policies", "policies: [2.23.140.1.2.1, 1.3.6.1.4.1.99999.1]", "policy 1.3.6.1.4.1.99999.1", ""},
		{"renewal", "renew_at", "renew_at: 0.5", "", ""},
		{"description", "description", "description: another", "", ""},
		{"authority", "default_authority", "default_authority: another", "", ""},
	} {
		d, err := Diff([]byte(base), edit(t, c.key, c.line))
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		want := func(list []string, words string) bool {
			return words == "" && len(list) == 0 || len(list) == 1 && words != "" && strings.Contains(list[0], words)
		}
		if !want(d.Grants, c.grants) || !want(d.Withdraws, c.takes) || c.grants+c.takes == "" && len(d.Other) != 1 || d.GrantsPower() != (c.grants != "") {
			t.Errorf("%s: %+v", c.what, d)
		}
		// The way back takes what the way there gave.
		back, err := Diff(edit(t, c.key, c.line), []byte(base))
		if err != nil || len(back.Grants) != len(d.Withdraws) || len(back.Withdraws) != len(d.Grants) {
			t.Errorf("%s, back: %+v %v", c.what, back, err)
		}
	}
	if d, err := Diff([]byte(base), []byte(base)); err != nil || len(d.Grants)+len(d.Withdraws)+len(d.Other) != 0 {
		t.Errorf("no change: %+v %v", d, err)
	}
}

// TestDiffPairs compares profiles that are made for it.
func TestDiffPairs(t *testing.T) {
	with := func(key, line string) []byte { return edit(t, key, line) }
	for what, c := range map[string]struct {
		old, new []byte
		grant    string
	}{
		"weaker keys":       {with("keys", "keys: [p256, p384]"), with("keys", "keys: [p256, p384, rsa2048]"), "weaker keys: rsa2048 with 112 bits"},
		"as strong keys":    {with("keys", "keys: [p256]"), with("keys", "keys: [p256, rsa3072]"), ""},
		"stronger only":     {with("keys", "keys: [rsa2048]"), with("keys", "keys: [p384]"), ""},
		"wildcard":          {with("wildcard", "wildcard: false"), with("wildcard", "wildcard: true"), "wildcard names"},
		"ACME":              {with("acme", "acme: false"), with("acme", "acme: true"), "ACME directory"},
		"addresses":         {with("identifiers", "identifiers: [dns]"), with("identifiers", "identifiers: [dns, ip]"), "identifiers of type ip"},
		"key encipherment":  {with("key_encipherment", "key_encipherment: false"), with("key_encipherment", "key_encipherment: true"), "key encipherment"},
		"less transparency": {with("ct", "ct: {logs: 3}"), with("ct", "ct: {logs: 2}"), "less transparency: 2 CT timestamps, before 3"},
		"another kind":      {Files()["tls-client.yaml"], Files()["tls-server.yaml"], "another kind: tls-server, before tls-client"},
	} {
		d, err := Diff(c.old, c.new)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if c.grant == "" && d.GrantsPower() || c.grant != "" && !slices.ContainsFunc(d.Grants, func(g string) bool { return strings.Contains(g, c.grant) }) {
			t.Errorf("%s: %+v", what, d)
		}
	}
}

// TestDiffRefuses plants the powers that no profile has.
func TestDiffRefuses(t *testing.T) {
	base := Files()["tls-server.yaml"]
	for what, text := range map[string][]byte{
		"OCSP signing": edit(t, "extended_key_usages", "extended_key_usages: [server-auth, ocsp-signing]"), "by OID": edit(t, "extended_key_usages", "extended_key_usages: [1.3.6.1.5.5.7.3.9]"),
		"any": edit(t, "extended_key_usages", "extended_key_usages: [any]"), "an authority": edit(t, "kind", "kind: ca"), "a responder": edit(t, "kind", "kind: ocsp-delegate"),
		"cA": edit(t, "ca", "ca: true"), "certificates": edit(t, "key_usages", "key_usages: [keyCertSign]"), "path length": edit(t, "path_len", "path_len: 0"),
	} {
		_, err := Diff(base, text)
		wantKind(t, what, err, bulkhead.KindGate)
		if err != nil && bulkhead.AsFault(err).Hint == "" {
			t.Errorf("%s: no hint", what)
		}
	}
	_, err := Diff(base, edit(t, "colour", "colour: red"))
	wantKind(t, "a fault of the file", err, bulkhead.KindMalformed)
	_, err = Diff([]byte("{"), base)
	wantKind(t, "an old file that is none", err, bulkhead.KindMalformed)
}

// TestDiffKnowsEveryField fails when a profile learns something that Diff does not compare.
func TestDiffKnowsEveryField(t *testing.T) {
	known := []string{"Name", "Kind", "Description", "Validity", "Backdate", "RenewAt", "Keys", "IdentifierTypes", "MaxNames", "Wildcard", "CommonName",
		"SubjectKeyIdentifier", "KeyEncipherment", "Subject", "EKUs", "Policies", "DefaultAuthority", "ACME", "Logs"}
	for i, typ := 0, reflect.TypeFor[Profile](); i < typ.NumField(); i++ {
		if name := typ.Field(i).Name; !slices.Contains(known, name) {
			t.Errorf("Diff says nothing of %s: compare it, then name it here", name)
		}
	}
}

func FuzzDiff(f *testing.F) {
	base := Files()["tls-server.yaml"]
	for _, text := range Files() {
		f.Add(text)
	}
	f.Add([]byte("kind: ca"))
	f.Add([]byte("basic_constraints: &a [*a]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := Diff(base, text)
		switch k := bulkhead.KindOf(err); {
		case err == nil && d.Old != "tls-server":
			t.Fatalf("%+v", d)
		case err != nil && k != bulkhead.KindMalformed && k != bulkhead.KindInvalidProfile && k != bulkhead.KindGate:
			t.Fatalf("kind %s: %v", k, err)
		}
	})
}
