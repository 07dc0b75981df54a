package est

import (
	"bytes"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"bulkhead"
	"bulkhead/pki/profile"
)

func TestEveryKindHasAStatus(t *testing.T) {
	for _, k := range bulkhead.Kinds {
		if code := statusOf(k); code < 400 || code == http.StatusUnauthorized {
			t.Errorf("%s is %d", k, code)
		}
	}
}

// TestInsideStaysInside: what is not a fault says nothing of its cause.
func TestInsideStaysInside(t *testing.T) {
	w := httptest.NewRecorder()
	s := &Server{log: slog.New(slog.DiscardHandler)}
	s.refuse(&call{w: w, r: httptest.NewRequest(http.MethodGet, Prefix, nil)}, errors.New("disk /secret is full"))
	if w.Code != http.StatusInternalServerError || bytes.Contains(w.Body.Bytes(), []byte("secret")) {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
}

// TestCertsOnly reads the structure back with another decoder.
func TestCertsOnly(t *testing.T) {
	a, b := []byte{0x30, 0x03, 0x02, 0x01, 0x02}, []byte{0x30, 0x03, 0x02, 0x01, 0x01}
	der, err := certsOnly([][]byte{a, b})
	if err != nil {
		t.Fatal(err)
	}
	var info struct {
		Type    asn1.ObjectIdentifier
		Content struct {
			Version      int
			Digests      []asn1.RawValue `asn1:"set"`
			Content      struct{ Type asn1.ObjectIdentifier }
			Certificates asn1.RawValue   `asn1:"tag:0"`
			Signers      []asn1.RawValue `asn1:"set"`
		} `asn1:"explicit,tag:0"`
	}
	rest, err := asn1.Unmarshal(der, &info)
	if err != nil || len(rest) != 0 {
		t.Fatalf("%v, %d bytes more", err, len(rest))
	}
	c := info.Content
	if !info.Type.Equal(oidSignedData) || c.Version != 1 || !c.Content.Type.Equal(oidData) || len(c.Digests)+len(c.Signers) != 0 || !bytes.Equal(c.Certificates.Bytes, append(b, a...)) {
		t.Errorf("%+v", info)
	}
}

func TestAttributesOfEveryKeyType(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range []profile.KeyType{profile.P256, profile.P384, profile.RSA2048, profile.RSA3072, profile.RSA4096, profile.Ed25519} {
		der, err := attributes(&profile.Profile{Keys: []profile.KeyType{k}})
		if err != nil || len(der) < 4 || seen[string(der)] {
			t.Errorf("%s: %x, %v", k, der, err)
		}
		seen[string(der)] = true
	}
	if der, err := attributes(&profile.Profile{}); der != nil || err != nil {
		t.Errorf("nothing to say is %x, %v", der, err)
	}
}

// FuzzESTBody: what is accepted is one DER element, the same whether sent bare or as base64 with white space in it.
func FuzzESTBody(f *testing.F) {
	element := []byte{0x30, 0x03, 0x02, 0x01, 0x05}
	f.Add(element)
	f.Add([]byte(base64.StdEncoding.EncodeToString(element)))
	f.Add([]byte("MAMC\r\n AQU=\t\n"))
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\nMAMCAQU=\n-----END CERTIFICATE REQUEST-----\n"))
	f.Add([]byte("0"))
	f.Add([]byte{})
	f.Add(withAttribute)
	f.Fuzz(func(t *testing.T, body []byte) {
		der, err := decodeBody(body)
		if err != nil {
			if k := bulkhead.KindOf(err); k != bulkhead.KindBadCSR {
				t.Fatalf("%v is a %s", err, k)
			}
			return
		}
		changesName(der)
		if again, err := decodeBody(der); err != nil || !bytes.Equal(again, der) {
			t.Fatalf("%x sent bare is %x, %v", der, again, err)
		}
		text := []byte(base64.StdEncoding.EncodeToString(der))
		text = append(text[:1:1], append([]byte(" \r\n\t"), text[1:]...)...)
		if again, err := decodeBody(text); err != nil || !bytes.Equal(again, der) {
			t.Fatalf("%x sent as %q is %x, %v", der, text, again, err)
		}
	})
}

// withAttribute is the skeleton of a request with ChangeSubjectName.
var withAttribute = []byte{0x30, 0x1b, 0x30, 0x19, 0x02, 0x01, 0x00, 0x30, 0x00, 0x30, 0x00,
	0xa0, 0x10, 0x30, 0x0e, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x07, 0x24, 0x31, 0x02, 0x30, 0x00}

func TestChangesName(t *testing.T) {
	if !changesName(withAttribute) {
		t.Error("ChangeSubjectName is not seen")
	}
	other := bytes.Clone(withAttribute)
	other[24] = 0x23
	if changesName(other) || changesName(other[:12]) || changesName(nil) {
		t.Error("ChangeSubjectName is seen where it is not")
	}
}
