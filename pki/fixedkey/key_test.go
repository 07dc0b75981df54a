package fixedkey

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"math/big"
	"testing"
)

// A key accepts what crypto/ecdsa accepts, and nothing else, of numbers in range and out of it; no other curve has one.
func TestKey(t *testing.T) {
	key := newKey(t, elliptic.P256())
	k := NewKey(&key.PublicKey)
	if k == nil || NewKey(nil) != nil || NewKey(&newKey(t, elliptic.P384()).PublicKey) != nil {
		t.Fatal("a key has no table, or what is none has one")
	}
	top := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1))
	for n := range 20 {
		digest := sha256.Sum256([]byte{byte(n)})
		r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		numbers := []*big.Int{r, s, new(big.Int).Sub(order.big, s), big.NewInt(0), big.NewInt(1), order.big, new(big.Int).Add(order.big, big.NewInt(1)), prime.big, top}
		for _, a := range numbers {
			for _, b := range numbers {
				var signature [64]byte
				a.FillBytes(signature[:32])
				b.FillBytes(signature[32:])
				if got, want := k.Accepts(&digest, &signature), ecdsa.Verify(&key.PublicKey, digest[:], a, b); got != want {
					t.Fatalf("%x over %x: %v, crypto/ecdsa says %v", signature, digest, got, want)
				}
			}
		}
	}
}

// What is no point is none in extended coordinates either: least of all one made of zeros, which every equation without a remainder would let pass.
func TestExtendedOff(t *testing.T) {
	key := newKey(t, elliptic.P256())
	a := NewKey(&key.PublicKey).tables.q.at[0]
	p := extended{a.x, a.y, one, one}
	if !p.on() {
		t.Fatal("a point of the curve is none")
	}
	var zero element
	for what, bad := range map[string]extended{"zeros": {}, "x": {one, a.y, one, one}, "y": {a.x, one, one, one}, "zz": {a.x, a.y, curve, one},
		"zzz": {a.x, a.y, one, curve}, "zz of zero": {a.x, a.y, zero, one}, "zzz of zero": {a.x, a.y, one, zero}} {
		if bad.on() {
			t.Errorf("%s: taken for a point", what)
		}
	}
}
