package pkcs11

import (
	"strings"
	"testing"

	"bulkhead"
)

func TestParseURI(t *testing.T) {
	u, err := ParseURI("pkcs11:token=My%20Token;object=root;type=private?module-path=/lib/x.so&pin-source=file:/etc/pin")
	if err != nil || u != (URI{Token: "My Token", Object: "root", ModulePath: "/lib/x.so", PINSource: "/etc/pin"}) {
		t.Fatalf("%+v, %v", u, err)
	}
	if again, err := ParseURI(u.Key("a b")); err != nil || again != (URI{Token: "My Token", Object: "a b"}) {
		t.Errorf("%+v, %v", again, err)
	}
	for _, bad := range []string{"", "file:x", "pkcs11:", "pkcs11:object=x", "pkcs11:token=x;token=y", "pkcs11:token=x?token=y", "pkcs11:token=%zz", "pkcs11:token=x?pin-value=1234", "pkcs11:token=x;unknown=1", "pkcs11:token=x%00"} {
		_, err := ParseURI(bad)
		if bulkhead.KindOf(err) != bulkhead.KindMalformed || strings.Contains(err.Error(), "1234") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzParseURI(f *testing.F) {
	f.Add("pkcs11:token=My%20Token;object=root?module-path=/lib/x.so&pin-source=/etc/pin")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := ParseURI(text)
		if err != nil {
			return
		}
		if again, err := ParseURI(u.Key(u.Object)); err != nil || again.Token != u.Token || again.Object != u.Object {
			t.Fatalf("%q: %+v, %v", text, again, err)
		}
	})
}
