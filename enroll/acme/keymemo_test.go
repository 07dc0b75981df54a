package acme

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// TestKeyMemo: each text gives its own key, what is no key is not remembered, and the memory is bounded.
func TestKeyMemo(t *testing.T) {
	var m keyMemo
	a, b := jwkOf(t), jwkOf(t)
	for range 2 {
		for _, k := range []testKey{a, b} {
			got, err := m.read(k.text)
			if err != nil || !k.public.Equal(got) {
				t.Fatalf("%v, %v", got, err)
			}
		}
		if _, err := m.read([]byte(`{"kty":"EC"}`)); err == nil || len(m.keys) != 2 {
			t.Fatalf("%v; %d keys are remembered", err, len(m.keys))
		}
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = m.read(a.text) }); n != 0 {
		t.Errorf("a known key costs %v allocations", n)
	}
	for i := range memoMost {
		m.keys[fmt.Sprint(i)] = nil
	}
	if _, err := m.read(jwkOf(t).text); err != nil || len(m.keys) != 1 {
		t.Errorf("%v; %d keys are remembered", err, len(m.keys))
	}
}

type testKey struct {
	text   []byte
	public *ecdsa.PublicKey
}

func jwkOf(t *testing.T) testKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(jose.JSONWebKey{Key: k.Public()})
	if err != nil {
		t.Fatal(err)
	}
	return testKey{text, &k.PublicKey}
}
