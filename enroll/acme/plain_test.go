package acme

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// request is a flattened JWS by an account.
func request(t testing.TB, key any, alg jose.SignatureAlgorithm, payload string) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: "https://ca.test/acme/account/1"}},
		(&jose.SignerOptions{}).WithHeader("url", "https://ca.test/acme/new-order").WithHeader("nonce", "n1"))
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return jws.FullSerialize()
}

// alike fails when the short way reads a body otherwise than the library does, and returns whether it reads it.
func alike(t *testing.T, body []byte) bool {
	t.Helper()
	p, ok := parsePlain(body)
	if !ok {
		return false
	}
	long, err := parseEnvelope(body)
	if err != nil {
		t.Fatalf("%q is plain, and the library says %v", body, err)
	}
	var e envelope
	err = json.Unmarshal(body, &e)
	if err != nil || long.header.KeyID != p.kid || long.header.Nonce != p.nonce || long.url != p.url || long.header.Algorithm != "ES256" ||
		!bytes.Equal(long.jws.UnsafePayloadWithoutVerification(), p.payload) || !bytes.Equal(long.jws.Signatures[0].Signature, p.signature[:]) ||
		e.Protected+"."+e.Payload != string(p.input) {
		t.Fatalf("%q: %+v, and by the library %+v, %v", body, p, long, err)
	}
	return true
}

// TestPlain: what clients send is plain, what is otherwise goes the library's way, and both verify alike.
func TestPlain(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	wide, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, payload := range []string{"", "{}", `{"a":"\u00e9"}`} {
		body := []byte(request(t, key, jose.ES256, payload))
		if !alike(t, body) {
			t.Fatalf("%s is not plain", body)
		}
		tok, err := parse(body)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tok.verify(body, &accountKey{public: &key.PublicKey}); err != nil || string(got) != payload {
			t.Errorf("%q %v", got, err)
		}
		for _, k := range []any{&other.PublicKey, &wide.PublicKey, []byte("secret"), nil} {
			if _, err := tok.verify(body, &accountKey{public: k}); err == nil {
				t.Errorf("a signature by another key verifies with %T", k)
			}
		}
		for i := range tok.plain.signature {
			bad := *tok.plain
			bad.signature[i] ^= 1
			if good, _ := bad.verify(&accountKey{public: &key.PublicKey}); good {
				t.Errorf("octet %d of the signature does not matter", i)
			}
		}
	}
	body := []byte(request(t, key, jose.ES256, "{}"))
	n := testing.AllocsPerRun(100, func() {
		if tok, err := parse(body); err != nil || tok.plain == nil {
			t.Error(err)
		}
	})
	long := testing.AllocsPerRun(100, func() { _, _ = parseEnvelope(body) })
	if n > 8 || n > long/4 {
		t.Errorf("%v allocations to read a plain request, and %v by the library", n, long)
	}
	t.Logf("%v allocations to read a plain request, and %v by the library", n, long)
	if body := []byte(request(t, wide, jose.ES384, "{}")); alike(t, body) {
		t.Error("ES384 is plain")
	} else if tok, err := parse(body); err != nil {
		t.Error(err)
	} else if _, err := tok.verify(body, &accountKey{public: &wide.PublicKey}); err != nil {
		t.Error(err)
	}
	good := request(t, key, jose.ES256, "{}")
	for what, body := range map[string]string{
		"a member more":    strings.Replace(good, "{", `{"header":"x",`, 1),
		"a member twice":   strings.Replace(good, "{", `{"payload":"x",`, 1),
		"another spelling": strings.Replace(good, `"payload"`, `"Payload"`, 1),
		"an escape":        strings.Replace(good, `"payload"`, `"p\u0061yload"`, 1),
		"a second value":   good + "{}",
		"padding":          strings.Replace(good, `"payload":"e30"`, `"payload":"e30="`, 1),
		"no end":           good[:len(good)-1],
		"a list":           "[" + good + "]",
		"no payload":       strings.Replace(good, `"payload":"e30",`, "", 1),
	} {
		if body == good || alike(t, []byte(body)) {
			t.Errorf("%s is plain: %s", what, body)
		}
	}
	header := func(text string) string {
		return fmt.Sprintf(`{"protected":%q,"payload":"e30","signature":%q}`, base64.RawURLEncoding.EncodeToString([]byte(text)), strings.Repeat("A", 86))
	}
	for text, want := range map[string]bool{
		`{"alg":"ES256","kid":"k","nonce":"n","url":"u"}`:               true,
		` { "url" : "u" , "alg" : "ES256","nonce":"n","kid":"k" } `:     true,
		`{"alg":"ES256","kid":"k","nonce":"n","url":"u","crit":["x"]}`:  false,
		`{"alg":"none","kid":"k","nonce":"n","url":"u"}`:                false,
		`{"alg":"ES256","kid":"k","nonce":"n","url":"u","kid":"other"}`: false,
		`{"alg":"ES256","kid":"","nonce":"n","url":"u"}`:                false,
	} {
		if alike(t, []byte(header(text))) != want {
			t.Errorf("%s: plain is not %t", text, want)
		}
	}
}

// FuzzPlain: nothing is plain that the library reads otherwise.
func FuzzPlain(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(request(f, key, jose.ES256, "{}")), []byte(""))
	for _, text := range []string{`{"alg":"ES256","kid":"k","nonce":"n","url":"u"}`, `{"alg":"ES256","kid":"k","nonce":"n","url":"u" ,}`} {
		f.Add([]byte(`{"payload":"","signature":"A"}`), []byte(text))
	}
	f.Fuzz(func(t *testing.T, body, header []byte) {
		alike(t, body)
		alike(t, fmt.Appendf(nil, `{"protected":%q,"payload":"e30","signature":%q}`, base64.RawURLEncoding.EncodeToString(header), strings.Repeat("A", 86)))
	})
}
