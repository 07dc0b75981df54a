package bulkhead

import (
	"strings"
	"testing"
)

// TestAuthorityIDCheck walks every octet at the beginning, in between and at the end of a name, and the lengths.
func TestAuthorityIDCheck(t *testing.T) {
	const inner = "abcdefghijklmnopqrstuvwxyz0123456789-"
	for b := range 256 {
		octet := string([]byte{byte(b)})
		for _, name := range []string{octet, octet + "a", "a" + octet + "a", "a" + octet} {
			want := strings.Contains(inner, octet) && (octet != "-" || name == "a-a")
			if (AuthorityID(name).Check() == nil) != want {
				t.Errorf("%q: want a name: %v", name, want)
			}
		}
	}
	for name, want := range map[string]bool{"": false, "issuing-p256": true, "a--b": true, "é": false, "a\u0000": false, strings.Repeat("a", 40): true, strings.Repeat("a", 41): false, "a\n": false} {
		if err := AuthorityID(name).Check(); (err == nil) != want || err != nil && KindOf(err) != KindMalformed {
			t.Errorf("%q: %v", name, err)
		}
	}
	if n := testing.AllocsPerRun(100, func() { _ = AuthorityID("issuing-p256").Check() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
