package acme

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"
)

// accountOf is a key of ours with the key under which its signatures are verified.
func accountOf(t testing.TB, tables *keyTables) (*ecdsa.PrivateKey, *accountKey) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k, &accountKey{public: &k.PublicKey, tables: tables}
}

// raw is a signature as RFC 7518 section 3.4 has it, of numbers that fit.
func raw(r, s *big.Int) (out [64]byte) {
	r.FillBytes(out[:32])
	s.FillBytes(out[32:])
	return out
}

func pledged(t testing.TB, key *ecdsa.PrivateKey, digest [32]byte) (r, s *big.Int) {
	t.Helper()
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return r, s
}

// earnAll lets a key have as many valid signatures as a table costs, without the signatures, and waits until nobody makes one.
func (k *accountKey) earnAll() {
	for range tableAfter {
		k.tables.earn(k)
	}
	k.tables.made.Wait()
}

// TestSigned: with a table and without one a signature is accepted exactly when crypto/ecdsa accepts it. A valid one is accepted by the table alone;
// every other is crypto/ecdsa's to refuse.
func TestSigned(t *testing.T) {
	var tables keyTables
	key, with := accountOf(t, &tables)
	other, _ := accountOf(t, &tables)
	with.earnAll()
	if with.table.Load() == nil {
		t.Fatal("no table")
	}
	without := &accountKey{public: with.public}
	digest := sha256.Sum256([]byte("request"))
	r, s := pledged(t, key, digest)
	n, top := elliptic.P256().Params().N, new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1))
	plus := func(a, b *big.Int) *big.Int { return new(big.Int).Add(a, b) }
	zero, one := new(big.Int), big.NewInt(1)
	foreign, foreignS := pledged(t, other, digest)
	elsewhere, elsewhereS := pledged(t, key, sha256.Sum256([]byte("another")))
	cases := map[string][64]byte{"valid": raw(r, s), "twin": raw(r, new(big.Int).Sub(n, s)), "swapped": raw(s, r), "another key's": raw(foreign, foreignS),
		"another request's": raw(elsewhere, elsewhereS), "zeros": {}, "ones": raw(top, top)}
	for what, x := range map[string]*big.Int{"0": zero, "1": one, "n-1": new(big.Int).Sub(n, one), "n": n, "n+1": plus(n, one), "2^256-1": top} {
		cases["r="+what], cases["s="+what] = raw(x, s), raw(r, x)
	}
	for bit := range 512 {
		x := cases["valid"]
		x[bit/8] ^= 1 << (bit % 8)
		cases[fmt.Sprint("bit ", bit)] = x
	}
	for what, signature := range cases {
		want := ecdsa.Verify(&key.PublicKey, digest[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
		if want != (what == "valid" || what == "twin") {
			t.Fatalf("%s: crypto/ecdsa says %v", what, want)
		}
		before := tables.library.Load()
		if got := with.signed(with.p256(), &digest, &signature); got != want {
			t.Errorf("%s: %v with a table", what, got)
		}
		if got := tables.library.Load() == before; got != want {
			t.Errorf("%s: judged by the table alone: %v", what, got)
		}
		if without.signed(without.p256(), &digest, &signature) != want {
			t.Errorf("%s: not what crypto/ecdsa says, without a table", what)
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		x := cases["valid"]
		with.signed(with.p256(), &digest, &x)
	}); n > 12 {
		t.Errorf("%v allocations to verify by a table", n)
	}
}

// TestKeyTables: a key has its table after so many valid signatures and not one before; beyond the most, the table that was not used for longest goes, and its
// key earns anew.
func TestKeyTables(t *testing.T) {
	var tables keyTables
	digest := sha256.Sum256([]byte("request"))
	signing, first := accountOf(t, &tables)
	r, s := pledged(t, signing, digest)
	good, bad := raw(r, s), raw(s, r)
	for range tableAfter - 1 {
		if !first.signed(first.p256(), &digest, &good) || first.signed(first.p256(), &digest, &bad) { // a refusal earns nothing
			t.Fatal("not what crypto/ecdsa says")
		}
	}
	tables.made.Wait()
	if first.table.Load() != nil {
		t.Fatal("a table before it is paid for")
	}
	first.signed(first.p256(), &digest, &good)
	tables.made.Wait()
	if first.table.Load() == nil || first.earned.Load() != 0 {
		t.Fatal("no table")
	}
	keys := []*accountKey{first}
	for range tablesMost + 3 {
		_, k := accountOf(t, &tables)
		k.earnAll()
		keys = append(keys, k)
		if !first.accepts(&digest, &good) { // who is busy keeps his
			t.Fatal("a table in use has gone")
		}
	}
	if len(tables.held) != tablesMost {
		t.Errorf("%d tables, at most %d", len(tables.held), tablesMost)
	}
	for n, k := range keys {
		want := n == 0 || n > 4
		if (k.table.Load() != nil) != want || slices.Contains(tables.held, k) != want || k.earned.Load() != 0 {
			t.Errorf("key %d: table %v, %d earned", n, k.table.Load() != nil, k.earned.Load())
		}
	}
	keys[1].tables.earn(keys[1])
	tables.made.Wait()
	if keys[1].table.Load() != nil {
		t.Error("a table that went comes back at once")
	}
	// One is made at a time, and only for a key on P-256.
	tables.making.Store(true)
	keys[1].earnAll()
	if keys[1].table.Load() != nil {
		t.Error("two are made at once")
	}
	tables.making.Store(false)
	tables.earn(keys[1])
	tables.made.Wait()
	if keys[1].table.Load() == nil {
		t.Error("who had to wait has none")
	}
	k384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other := &accountKey{public: &k384.PublicKey, tables: &tables}
	other.earnAll()
	if other.table.Load() != nil {
		t.Error("a table of a key on another curve")
	}
}

// TestKeyTablesAtOnce: verdicts stay right while tables are made, used and taken away by many.
func TestKeyTablesAtOnce(t *testing.T) {
	var m keyMemo
	var texts [][]byte
	var signatures [][64]byte
	digest := sha256.Sum256([]byte("request"))
	for range 4 {
		k := jwkOf(t)
		r, s := pledged(t, k.private, digest)
		texts, signatures = append(texts, k.text), append(signatures, raw(r, s))
	}
	var g errgroup.Group
	for n := range 8 {
		g.Go(func() error {
			for round := range 200 {
				at := (n + round) % len(texts)
				k, err := m.read(texts[at])
				if err != nil {
					return err
				}
				if !k.signed(k.p256(), &digest, &signatures[at]) || k.signed(k.p256(), &digest, &signatures[(at+1)%len(texts)]) {
					return fmt.Errorf("key %d, round %d: not what crypto/ecdsa says", at, round)
				}
				if round%20 == 0 { // somebody else's came
					m.tables.mu.Lock()
					if len(m.tables.held) > 0 {
						m.tables.held[0].table.Store(nil)
						m.tables.held = m.tables.held[1:]
					}
					m.tables.mu.Unlock()
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	m.tables.made.Wait()
	if m.tables.short.Load() == 0 {
		t.Error("no table was ever used")
	}
}

// FuzzSigned holds a table against crypto/ecdsa for signatures and digests that nobody made, and for valid ones.
func FuzzSigned(f *testing.F) {
	var tables keyTables
	key, with := accountOf(f, &tables)
	with.earnAll()
	digest := sha256.Sum256([]byte("request"))
	r, s := pledged(f, key, digest)
	good := raw(r, s)
	f.Add(digest[:], good[:])
	f.Add(make([]byte, 32), make([]byte, 64))
	f.Fuzz(func(t *testing.T, octets, signature []byte) {
		var d [32]byte
		var x [64]byte
		copy(d[:], octets)
		copy(x[:], signature)
		want := ecdsa.Verify(&key.PublicKey, d[:], new(big.Int).SetBytes(x[:32]), new(big.Int).SetBytes(x[32:]))
		if got := with.signed(with.p256(), &d, &x); got != want || with.accepts(&d, &x) && !want {
			t.Fatalf("%x over %x: %v, crypto/ecdsa says %v", x, d, got, want)
		}
		r, s := pledged(t, key, d)
		if valid := raw(r, s); !with.accepts(&d, &valid) {
			t.Fatalf("%x over %x is not accepted by the table", valid, d)
		}
	})
}
