// Package keystest is the conformance suite of key rings: every adapter runs it.
//
// Invariant: the suite knows nothing of an adapter but keys.Ring. It refuses an adapter that loses, overwrites,
// confuses or exports keys.
package keystest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
	"testing"

	"bulkhead"
	"bulkhead/keys"
)

// Open gives a ring over the same keys each time it is called within one test: a second call is a restart.
type Open func() keys.Ring

// Exercise runs the suite. start gives a fresh, empty place for keys; algorithms are those that the adapter offers.
func Exercise(t *testing.T, start func(t *testing.T) Open, algorithms ...keys.Algorithm) {
	t.Run("GenerateAndSign", func(t *testing.T) {
		open := start(t)
		for _, alg := range algorithms {
			generateAndSign(t, open, alg)
		}
	})
	tests := map[string]func(*testing.T, Open, keys.Algorithm){
		"NameIsNeverReused": nameIsNeverReused, "List": list, "Destroy": destroy, "Faults": faults,
		"SignerShowsNoKey": signerShowsNoKey, "Concurrent": concurrent, "Cancelled": cancelled,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { test(t, start(t), algorithms[0]) })
	}
}

func generateAndSign(t *testing.T, open Open, alg keys.Algorithm) {
	ctx := context.Background()
	uri, s, err := open().Generate(ctx, "key-"+string(alg), alg)
	if err != nil {
		t.Fatalf("%s: %v", alg, err)
	}
	checkAlgorithm(t, alg, s.Public())
	verify(t, s.Public(), s)
	again, err := open().Open(ctx, uri)
	if err != nil {
		t.Fatalf("%s: open after restart: %v", alg, err)
	}
	verify(t, s.Public(), again)
}

func checkAlgorithm(t *testing.T, alg keys.Algorithm, pub crypto.PublicKey) {
	t.Helper()
	var got keys.Algorithm
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		got = map[int]keys.Algorithm{256: keys.P256, 384: keys.P384}[k.Params().BitSize]
	case *rsa.PublicKey:
		got = map[int]keys.Algorithm{2048: keys.RSA2048, 3072: keys.RSA3072, 4096: keys.RSA4096}[k.N.BitLen()]
	case ed25519.PublicKey:
		got = keys.Ed25519
	}
	if got != alg {
		t.Errorf("asked for %s, got %q (%T)", alg, got, pub)
	}
}

// verify signs with s and checks against pub.
func verify(t *testing.T, pub crypto.PublicKey, s crypto.Signer) {
	t.Helper()
	message := []byte("message")
	digest := sha256.Sum256(message)
	input, opts := digest[:], crypto.SignerOpts(crypto.SHA256)
	if _, ok := pub.(ed25519.PublicKey); ok {
		input, opts = message, crypto.Hash(0)
	}
	sig, err := s.Sign(rand.Reader, input, opts)
	if err != nil {
		t.Fatalf("sign: %v", err)
	}
	ok := false
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(k, digest[:], sig)
	case *rsa.PublicKey:
		ok = rsa.VerifyPKCS1v15(k, crypto.SHA256, digest[:], sig) == nil
	case ed25519.PublicKey:
		ok = ed25519.Verify(k, message, sig)
	}
	if !ok {
		t.Error("signature does not verify")
	}
}

func nameIsNeverReused(t *testing.T, open Open, alg keys.Algorithm) {
	ctx := context.Background()
	uri, first, err := open().Generate(ctx, "one", alg)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = open().Generate(ctx, "one", alg)
	wantKind(t, "second key of one name", err, bulkhead.KindConflict)
	s, err := open().Open(ctx, uri)
	if err != nil {
		t.Fatal(err)
	}
	verify(t, first.Public(), s)
}

func list(t *testing.T, open Open, alg keys.Algorithm) {
	ctx := context.Background()
	if uris, err := open().List(ctx); err != nil || len(uris) != 0 {
		t.Fatalf("empty ring lists %v, %v", uris, err)
	}
	var want []string
	for _, name := range []string{"b", "a", "c-2"} {
		uri, _, err := open().Generate(ctx, name, alg)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, uri)
	}
	slices.Sort(want)
	if got, err := open().List(ctx); err != nil || !slices.Equal(got, want) {
		t.Errorf("List = %v, %v; want %v", got, err, want)
	}
}

func destroy(t *testing.T, open Open, alg keys.Algorithm) {
	ctx := context.Background()
	ring := open()
	uri, s, err := ring.Generate(ctx, "gone", alg)
	if err != nil {
		t.Fatal(err)
	}
	kept, other, err := ring.Generate(ctx, "kept", alg)
	if err != nil {
		t.Fatal(err)
	}
	if err := ring.Destroy(ctx, uri); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(nil)
	_, err = s.Sign(rand.Reader, digest[:], crypto.SHA256)
	wantKind(t, "signer of a destroyed key", err, bulkhead.KindNotFound)
	for what, r := range map[string]keys.Ring{"same ring": ring, "restarted ring": open()} {
		_, err = r.Open(ctx, uri)
		wantKind(t, what+": open after destroy", err, bulkhead.KindNotFound)
		wantKind(t, what+": destroy twice", r.Destroy(ctx, uri), bulkhead.KindNotFound)
	}
	again, err := open().Open(ctx, kept)
	if err != nil {
		t.Fatal(err)
	}
	verify(t, other.Public(), again)
}

func faults(t *testing.T, open Open, alg keys.Algorithm) {
	ctx := context.Background()
	ring := open()
	uri, _, err := ring.Generate(ctx, "present", alg)
	if err != nil {
		t.Fatal(err)
	}
	if err := ring.Destroy(ctx, uri); err != nil { // a well-formed URI of a key that is not there
		t.Fatal(err)
	}
	_, err = ring.Open(ctx, uri)
	wantKind(t, "open absent", err, bulkhead.KindNotFound)
	for _, bad := range []string{"", "present", "other:present", "file:../present.age", "file:/etc/passwd", "file:a/b.age", "file:.age"} {
		_, err := ring.Open(ctx, bad)
		wantKind(t, "open "+bad, err, bulkhead.KindMalformed)
		wantKind(t, "destroy "+bad, ring.Destroy(ctx, bad), bulkhead.KindMalformed)
	}
	for _, bad := range []string{"", "..", "a/b", "Upper", "-a", "a-", "a b", "a.key", "ü", string(make([]byte, 65))} {
		_, _, err := ring.Generate(ctx, bad, alg)
		wantKind(t, "generate "+bad, err, bulkhead.KindMalformed)
	}
	_, _, err = ring.Generate(ctx, "strange", "rsa1024")
	wantKind(t, "generate rsa1024", err, bulkhead.KindMalformed)
	if uris, err := ring.List(ctx); err != nil || len(uris) != 0 {
		t.Errorf("refused requests left %v, %v", uris, err)
	}
}

func signerShowsNoKey(t *testing.T, open Open, alg keys.Algorithm) {
	_, s, err := open().Generate(context.Background(), "hidden", alg)
	if err != nil {
		t.Fatal(err)
	}
	switch s.(type) {
	case *ecdsa.PrivateKey, *rsa.PrivateKey, ed25519.PrivateKey:
		t.Errorf("the ring hands out a %T", s)
	}
}

func concurrent(t *testing.T, open Open, alg keys.Algorithm) {
	ctx := context.Background()
	ring := open()
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for range 4 {
		wg.Go(func() {
			uri, s, err := ring.Generate(ctx, "raced", alg)
			if err != nil {
				if bulkhead.KindOf(err) != bulkhead.KindConflict {
					t.Errorf("raced: %v", err)
				}
				return
			}
			mu.Lock()
			made++
			mu.Unlock()
			again, err := ring.Open(ctx, uri)
			if err != nil {
				t.Error(err)
				return
			}
			verify(t, s.Public(), again)
		})
	}
	wg.Wait()
	if made != 1 {
		t.Errorf("%d keys were made under one name", made)
	}
}

func cancelled(t *testing.T, open Open, alg keys.Algorithm) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	ring := open()
	if _, _, err := ring.Generate(ctx, "late", alg); !errors.Is(err, context.Canceled) {
		t.Errorf("generate with a cancelled context: %v", err)
	}
	if uris, err := ring.List(context.Background()); err != nil || len(uris) != 0 {
		t.Errorf("a cancelled request left %v, %v", uris, err)
	}
}

func wantKind(t *testing.T, what string, err error, want bulkhead.Kind) {
	t.Helper()
	if got := bulkhead.KindOf(err); got != want {
		t.Errorf("%s: kind %q (%v), want %q", what, got, err, want)
		return
	}
	if bulkhead.AsFault(err).Hint == "" {
		t.Errorf("%s: no hint in %v", what, err)
	}
}
