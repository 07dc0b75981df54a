package acme

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"bulkhead"
)

// names are the error types that a client may meet (RFC 8555 section 6.7, RFC 9773 section 7.4, profiles draft).
var names = strings.Fields(`accountDoesNotExist alreadyReplaced alreadyRevoked badCSR badNonce badPublicKey badRevocationReason
	badSignatureAlgorithm caa compound connection dns externalAccountRequired incorrectResponse invalidContact invalidProfile malformed
	orderNotReady rateLimited rejectedIdentifier serverInternal tls unauthorized unsupportedContact unsupportedIdentifier userActionRequired`)

// TestEveryKindHasAMeaning walks the kinds over the table, and the error types back.
func TestEveryKindHasAMeaning(t *testing.T) {
	reached := map[string]bool{}
	for _, k := range bulkhead.Kinds {
		m, ok := meanings[k]
		if !ok || m.status < 400 || http.StatusText(m.status) == "" {
			t.Errorf("kind %s means %+v", k, m)
		}
		reached[m.name] = true
	}
	if len(meanings) != len(bulkhead.Kinds) {
		t.Errorf("%d meanings for %d kinds", len(meanings), len(bulkhead.Kinds))
	}
	for _, n := range names {
		if !reached[n] {
			t.Errorf("no kind leads to %s", n)
		}
		delete(reached, n)
	}
	for n := range reached {
		t.Errorf("%q is no ACME error type", n)
	}
}

func TestProblemDocument(t *testing.T) {
	f := bulkhead.NewFault(bulkhead.KindBadSignatureAlgorithm, "no").WithHint("do this")
	f.Subs = []bulkhead.SubFault{{Identifier: bulkhead.Identifier{Type: bulkhead.DNS, Value: "a.test"}, Kind: bulkhead.KindCAA, Detail: "denied"}}
	text, err := json.Marshal(documentOf(f, 400))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"type":"urn:ietf:params:acme:error:badSignatureAlgorithm","detail":"no","status":400,"hint":"do this",` +
		`"algorithms":["RS256","ES256","ES384","ES512","EdDSA"],"subproblems":[{"type":"urn:ietf:params:acme:error:caa","detail":"denied",` +
		`"identifier":{"type":"dns","value":"a.test"}}]}`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	if s := seconds(1500 * time.Millisecond); s != "2" {
		t.Errorf("1.5 s is shown as %s", s)
	}
}

func TestNonces(t *testing.T) {
	n, err := newNonces(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := newNonces(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issue := func() string {
		s, err := n.issue()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := issue()
	foreign, err := other.issue()
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "x", foreign, first + "A", first[:len(first)-1], strings.Repeat("A", len(first))} {
		if bulkhead.KindOf(n.redeem(t.Context(), bad)) != bulkhead.KindBadNonce {
			t.Errorf("%q was taken", bad)
		}
	}
	if err := n.redeem(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if bulkhead.KindOf(n.redeem(t.Context(), first)) != bulkhead.KindBadNonce {
		t.Error("a nonce was taken twice")
	}
	// The window moves on: a nonce just inside is good, one just outside is bad, a reused slot starts clean.
	outside, inside := issue(), issue()
	for range nonceWindow - 1 {
		n.mu.Lock()
		n.last++
		n.used[n.last%nonceWindow/64] &^= 1 << (n.last % 64)
		n.mu.Unlock()
	}
	if bulkhead.KindOf(n.redeem(t.Context(), outside)) != bulkhead.KindBadNonce {
		t.Error("a nonce outside the window was taken")
	}
	if err := n.redeem(t.Context(), inside); err != nil {
		t.Error("a nonce inside the window was refused")
	}
}

// TestNonceIsTakenOnce races many users of one nonce.
func TestNonceIsTakenOnce(t *testing.T) {
	n, err := newNonces(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		s, err := n.issue()
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		taken := 0
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if n.redeem(t.Context(), s) == nil {
					mu.Lock()
					taken++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if taken != 1 {
			t.Fatalf("taken %d times", taken)
		}
	}
}

func TestRoutes(t *testing.T) {
	s := &Server{}
	s.routes = s.table()
	for path, want := range map[string]string{
		"/acme/directory": "directory", "/acme/x/directory": "*/directory", "/acme/account/directory": "account/*",
		"/acme/order/a/finalize": "order/*/finalize", "/acme/challenge/a/b": "challenge/*/*", "/acme/tls-server/new-order": "*/new-order",
		"/acme": "", "/acme/": "", "/acme//directory": "", "/acme/order/": "", "/acme/directory/": "", "/other/directory": "",
	} {
		rt, _, _ := s.match(path)
		if got := strings.Join(rt.parts, "/"); got != want {
			t.Errorf("%s goes to %q, want %q", path, got, want)
		}
	}
}

func FuzzEnvelope(f *testing.F) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	for _, opts := range []*jose.SignerOptions{{EmbedJWK: true}, (&jose.SignerOptions{}).WithHeader("kid", "https://ca.test/acme/account/a").WithHeader("url", "https://ca.test/x").WithHeader("nonce", "n")} {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: k}, opts)
		if err != nil {
			f.Fatal(err)
		}
		jws, err := signer.Sign([]byte(`{}`))
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(jws.FullSerialize()))
	}
	f.Add([]byte(`{"protected":"e30","payload":"","signature":"AA"}`))
	f.Add([]byte(`{"payload":"","signatures":[]}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		tk, err := parseEnvelope(body)
		if err != nil {
			if k := bulkhead.KindOf(err); k != bulkhead.KindMalformed && k != bulkhead.KindBadSignatureAlgorithm {
				t.Errorf("refused as %s: %v", k, err)
			}
			return
		}
		if (tk.header.JSONWebKey == nil) == (tk.header.KeyID == "") || len(tk.jws.Signatures) != 1 {
			t.Errorf("accepted %q", body)
		}
	})
}
