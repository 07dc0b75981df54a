package bulkhead

import "testing"

// A reference is read back as it was written, and nothing else is one.
func TestCertificateRef(t *testing.T) {
	s, err := ParseSerial("03ab9c")
	if err != nil {
		t.Fatal(err)
	}
	want := CertificateRef{Issuer: "issuing-p256", Serial: s}
	for _, text := range []string{want.String(), " issuing-p256 , 03:AB:9C "} {
		if got, err := ParseCertificateRef(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "issuing-p256", "issuing-p256,", ",03ab9c", "Issuing P256,03ab9c", "issuing-p256,zz", "issuing-p256,03ab9c,1"} {
		if got, err := ParseCertificateRef(text); KindOf(err) != KindMalformed && KindOf(err) != KindUsage {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
