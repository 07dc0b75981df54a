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

// TestKeyMemo: each text gives its own key, what is no key is not remembered, the memory is bounded, and who is busy stays in it.
func TestKeyMemo(t *testing.T) {
	var m keyMemo
	a, b := jwkOf(t), jwkOf(t)
	first, err := m.read(a.text)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, k := range []testKey{a, b} {
			got, err := m.read(k.text)
			if err != nil || !k.private.PublicKey.Equal(got.public) || got.tables != &m.tables {
				t.Fatalf("%v, %v", got, err)
			}
		}
		if _, err := m.read([]byte(`{"kty":"EC"}`)); err == nil || len(m.young) != 2 {
			t.Fatalf("%v; %d keys are remembered", err, len(m.young))
		}
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = m.read(a.text) }); n != 0 {
		t.Errorf("a known key costs %v allocations", n)
	}
	for turn := range 3 {
		for i := len(m.young); i < memoMost/2; i++ {
			m.young[fmt.Sprint(turn, i)] = nil
		}
		if _, err := m.read(jwkOf(t).text); err != nil || len(m.young) != 1 || len(m.old) != memoMost/2 {
			t.Errorf("%v; %d and %d keys are remembered", err, len(m.young), len(m.old))
		}
		if again, err := m.read(a.text); err != nil || again != first {
			t.Errorf("%v; a key in use was forgotten", err)
		}
	}
	if m.young[string(b.text)] != nil || m.old[string(b.text)] != nil {
		t.Error("a key that nobody used is remembered")
	}
}

type testKey struct {
	text    []byte
	private *ecdsa.PrivateKey
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
	return testKey{text, k}
}
