package profile

import (
	"strings"
	"testing"

	"bulkhead"
)

func change(t *testing.T, version int, before, after string) Change {
	t.Helper()
	c, err := NewChange(version, before, after)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestChangePeople: new power takes the whole quorum, none takes one, and what the change says of itself decides nothing.
func TestChangePeople(t *testing.T) {
	base := string(Files()["tls-server.yaml"])
	longer, shorter := strings.Replace(base, "validity: 47d", "validity: 90d", 1), strings.Replace(base, "validity: 47d", "validity: 30d", 1)
	if c := change(t, 1, base, longer); c.People(2) != 2 || len(c.Grants) != 1 || !strings.Contains(c.Grants[0], "longer life") {
		t.Errorf("a longer life takes %d people: %q", c.People(2), c.Grants)
	}
	if c := change(t, 1, base, shorter); c.People(2) != 1 || len(c.Grants) != 0 {
		t.Errorf("a shorter life takes %d people: %q", c.People(2), c.Grants)
	}
	lie := change(t, 1, base, longer)
	lie.Grants, lie.Diff = []string{}, Difference{}.Hash()
	if lie.People(2) != 2 {
		t.Error("a change that hides what it grants takes one person")
	}
	fresh := strings.Replace(base, "name: tls-server", "name: tls-new", 1)
	if c := change(t, 1, "", fresh); c.People(2) != 2 || c.Name != "tls-new" || len(c.Grants) < 4 {
		t.Errorf("a new profile takes %d people and grants %q", c.People(2), c.Grants)
	}
	if c := (Change{Before: base, After: "name: ["}); c.People(2) != 2 {
		t.Error("what cannot be read takes one person")
	}
	for what, x := range map[string]struct {
		after string
		kind  bulkhead.Kind
	}{
		"the same in other words": {"# a remark\n" + base, bulkhead.KindConflict},
		"another name":            {fresh, bulkhead.KindConflict},
		"an authority's power":    {base + "ca: true\n", bulkhead.KindGate},
		"no profile":              {"name: [", bulkhead.KindMalformed},
	} {
		if _, err := NewChange(1, base, x.after); bulkhead.KindOf(err) != x.kind {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := NewChange(1, "", fresh+"extended_key_usages: [ocsp-signing]\n"); err == nil {
		t.Error("a new profile with the power to sign status")
	}
}

// TestHistory: a version grows out of the one in force and out of no other, so that no change comes twice, in another order,
// or on top of a text that nobody approved.
func TestHistory(t *testing.T) {
	base := string(Files()["tls-server.yaml"])
	days := func(d string) string { return strings.Replace(base, "validity: 47d", "validity: "+d, 1) }
	h, err := NewHistory()
	if err != nil {
		t.Fatal(err)
	}
	narrow, wide := change(t, 1, base, days("30d")), change(t, 1, base, days("90d"))
	if err := h.Append(narrow, "r-1"); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]Change{
		"a second time":           narrow,
		"a second version 1":      wide,
		"from what was before":    change(t, 2, base, days("90d")),
		"from what never was":     change(t, 2, days("89d"), days("90d")),
		"one left out":            change(t, 3, days("30d"), days("20d")),
		"new, where there is one": change(t, 1, "", base),
	} {
		if err := h.Append(c, "r-x"); bulkhead.KindOf(err) != bulkhead.KindConflict {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := h.Append(change(t, 2, days("30d"), days("90d")), "r-2"); err != nil {
		t.Fatal(err)
	}
	now, _ := h.InForce("tls-server")
	if now.Number != 2 || now.Request != "r-2" || len(h.Line("tls-server")) != 3 || len(h.Changed()) != 1 {
		t.Errorf("in force is %+v", now)
	}
	for text, known := range map[string]bool{base: true, days("30d") + "# remark\n": true, days("90d"): true, days("89d"): false} {
		p, err := Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if h.Knows(p) != known {
			t.Errorf("known is %v: %s", !known, p.Validity)
		}
	}
	own, err := NewHistory(days("10d"))
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := own.InForce("tls-server"); v.Text != days("10d") || v.Number != 0 {
		t.Error("what the house began with does not win over what comes with the program")
	}
}
