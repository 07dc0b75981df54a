//lint:file-ignore SA1019 keys with impossible coordinates, and of kinds to refuse, are the point

package keycheck

import (
	"bytes"
	"crypto"
	"crypto/dsa"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"bulkhead"
)

var good = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func prime(bits int) *big.Int {
	p, err := rand.Prime(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return p
}

func nextPrime(p *big.Int) *big.Int {
	q := new(big.Int).Add(p, big.NewInt(2))
	for !q.ProbablyPrime(10) {
		q.Add(q, big.NewInt(2))
	}
	return q
}

func pub(n *big.Int) *rsa.PublicKey { return &rsa.PublicKey{N: n, E: 65537} }

func exact(n *big.Int, bits int) *big.Int {
	if n.BitLen() != bits {
		panic(fmt.Sprintf("%d bits, not %d", n.BitLen(), bits))
	}
	return n
}

// times makes a modulus of exactly 2048 bits that p divides.
func times(p *big.Int) *big.Int {
	a := new(big.Int).Mul(prime(900), p)
	for bits := 2049 - a.BitLen(); ; bits = 4097 - bits - 2*a.BitLen() { // one of two lengths fits
		if n := new(big.Int).Mul(a, prime(bits)); n.BitLen() == 2048 {
			return n
		}
	}
}

// refused wants KindBadPublicKey, the word in the detail, and a hint.
func refused(t *testing.T, name string, key crypto.PublicKey, rules Rules, word string) {
	t.Helper()
	err := Check(key, rules)
	f := bulkhead.AsFault(err)
	if f == nil || f.Kind != bulkhead.KindBadPublicKey || !strings.Contains(f.Detail, word) || f.Hint == "" {
		t.Errorf("%s: %v, want a refusal about %q", name, err, word)
	}
}

func accepted(t *testing.T, name string, key crypto.PublicKey, rules Rules) {
	t.Helper()
	if err := Check(key, rules); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

func TestRSA(t *testing.T) {
	k, rules := good(), DefaultRules()
	accepted(t, "good", &k.PublicKey, rules)
	for e, word := range map[int]string{0: "exponent", 1: "exponent", 2: "exponent", 3: "65537", 17: "65537", 65535: "65537", 65536: "odd", 65538: "odd", -3: "odd"} {
		refused(t, fmt.Sprint("exponent ", e), &rsa.PublicKey{N: k.N, E: e}, rules, word)
	}
	accepted(t, "exponent 65539", &rsa.PublicKey{N: k.N, E: 65539}, rules)
	refused(t, "even", pub(new(big.Int).Sub(k.N, big.NewInt(1))), rules, "even")
	for _, p := range []int64{3, 5, 751, 1999} {
		refused(t, fmt.Sprint("factor ", p), pub(times(big.NewInt(p))), rules, fmt.Sprint("divisible by ", p))
	}
	refused(t, "nil", (*rsa.PublicKey)(nil), rules, "no modulus")
	refused(t, "nil modulus", &rsa.PublicKey{E: 65537}, rules, "no modulus")
	refused(t, "negative", pub(new(big.Int).Neg(k.N)), rules, "no modulus")
	refused(t, "zero", pub(new(big.Int)), rules, "no modulus")
	p := new(big.Int).Lsh(big.NewInt(1), 2048)
	refused(t, "prime", pub(p.Sub(p, big.NewInt(1942289))), rules, "itself a prime") // the largest safe prime of this size
	noRSA := rules
	noRSA.NoRSA = true
	refused(t, "no RSA", &k.PublicKey, noRSA, "not allowed")
}

func TestRSASizes(t *testing.T) {
	odd := func(bits uint) *rsa.PublicKey {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		return pub(n.Add(n, big.NewInt(1)))
	}
	for _, bits := range []uint{512, 1024, 2040, 2047} {
		refused(t, fmt.Sprint(bits), odd(bits), DefaultRules(), "at least 2048")
		refused(t, fmt.Sprint(bits), odd(bits), AnyRSASize(), "at least 2048")
	}
	refused(t, "2049", odd(2049), AnyRSASize(), "multiple of 8")
	refused(t, "2056 exact", odd(2056), DefaultRules(), "sizes allowed")
	refused(t, "8200", odd(8200), AnyRSASize(), "at most 8192")
	rules := AnyRSASize()
	rules.MinRSABits, rules.RSAMaxBits = 3072, 4096
	refused(t, "below own minimum", odd(2048), rules, "at least 3072")
	refused(t, "above own maximum", odd(4104), rules, "at most 4096")
	k, err := rsa.GenerateKey(rand.Reader, 2056)
	if err != nil {
		t.Fatal(err)
	}
	accepted(t, "2056", &k.PublicKey, AnyRSASize())
}

// TestHostileSizes: a key is refused by size before any arithmetic.
func TestHostileSizes(t *testing.T) {
	for _, bits := range []uint{16384, 1 << 20, 1 << 24} {
		n := new(big.Int).Lsh(big.NewInt(1), bits)
		key := pub(n.Sub(n, big.NewInt(1)))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		refused(t, fmt.Sprint(bits), key, AnyRSASize(), "at most")
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 64<<10 { // arithmetic would need room for its results
			t.Errorf("%d bits took %d octets", bits, n)
		}
	}
}

func TestFermat(t *testing.T) {
	p := new(big.Int).SetBit(prime(1024), 1022, 1) // the top two bits, so that products have 2048
	for !p.ProbablyPrime(10) {
		p.Add(p, big.NewInt(2))
	}
	refused(t, "neighbours", pub(exact(new(big.Int).Mul(p, nextPrime(p)), 2048)), DefaultRules(), "Fermat")
	refused(t, "square", pub(exact(new(big.Int).Mul(p, p), 2048)), DefaultRules(), "Fermat")

	// q = p + d with d² ≈ 8·r·√n needs about r rounds: one within 100, one beyond 100 and within 5,000.
	far := func(r uint64) *big.Int {
		d := new(big.Int).Mul(new(big.Int).SetUint64(8*r), p)
		q := new(big.Int).Add(p, d.Sqrt(d))
		return new(big.Int).Mul(p, nextPrime(q.SetBit(q, 0, 1)))
	}
	refused(t, "within 100", pub(far(80)), DefaultRules(), "100 rounds")
	accepted(t, "beyond 100", pub(far(1000)), DefaultRules())
	more := DefaultRules()
	more.FermatRounds = 5000
	refused(t, "within 5000", pub(far(1000)), more, "5000 rounds")
	fewer := DefaultRules()
	fewer.FermatRounds = 1
	refused(t, "never fewer than 100", pub(far(80)), fewer, "100 rounds")
}

func TestPerfectPower(t *testing.T) {
	for _, k := range []int{3, 5, 7, 13, 101} {
		if n := new(big.Int).Exp(prime(2048/k), big.NewInt(int64(k)), nil); !perfectPower(n) {
			t.Errorf("a power of %d is not recognised", k)
		}
	}
	cube := new(big.Int).Exp(prime(683), big.NewInt(3), nil)
	for cube.BitLen() != 2048 {
		cube.Exp(prime(683), big.NewInt(3), nil)
	}
	refused(t, "cube", pub(cube), DefaultRules(), "power")
	if perfectPower(good().N) {
		t.Error("a good modulus is taken for a power")
	}
}

// knownROCA is a published test vector: data/mod03.txt of crocs-muni/roca, a key of an Infineon chip.
const knownROCA = "9dcd7420e420c270a68060eb8b5aa7457a9f6648f86fafed2775cc1f79ae962f1e63f1b9e51c55f9ea6fdc7332e9b005" +
	"8c9ff2eb1fc89855029cf6aafe21e689feb38ac9ffb12f1ce371bb5d0e9aae64161abce74b4244bf68f1edb4411f756a" +
	"097c8929c14740245ea355f8332d1aa36bb50c7dcb4505da8de02e4e53d38f8df06097da7524df0df93db48eac8cc4af" +
	"2d3a16257eb2b2adca6ba464e5974fa92550d31b1babf161e7692d00b86e3dd886ecab4abfbe1a8f8cc263ff4af55cdb" +
	"45f4249a5193925f5e983d762f0b6800943eb0267b08f42ed311ce1f5c86eacbc8ce4d3cb7a2fee1ef5641423a1cf411" +
	"4e5ecf50034a60a412523af9e6f4aa11"

func TestROCA(t *testing.T) {
	n, ok := new(big.Int).SetString(knownROCA, 16)
	if !ok {
		t.Fatal("test vector")
	}
	refused(t, "published vector", pub(n), DefaultRules(), "ROCA")

	// A modulus of the same structure, made here: p = k*M + (65537^a mod M).
	m := big.NewInt(2)
	for _, p := range primes[:rocaPrimes] {
		m.Mul(m, new(big.Int).SetUint64(p))
	}
	weak := func() *big.Int {
		for {
			k, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), uint(1024-m.BitLen())))
			if err != nil {
				t.Fatal(err)
			}
			p := k.Mul(k, m)
			p.Add(p, new(big.Int).Exp(big.NewInt(rocaGenerator), prime(60), m))
			if p.ProbablyPrime(10) {
				return p
			}
		}
	}
	if made := new(big.Int).Mul(weak(), weak()); !roca(made) {
		t.Error("a modulus of the ROCA structure is not recognised")
	}

	for range 30 {
		if p := new(big.Int).Mul(prime(256), prime(256)); roca(p) {
			t.Errorf("false alarm: %x", p)
		}
	}
	// Inside every subgroup, but with a logarithm that does not fit the others: checking prime by prime would take it.
	table, unfit := rocaTable[len(rocaTable)-1], 0
	step := new(big.Int).Div(m, new(big.Int).SetUint64(table.p))
	for other := new(big.Int).Add(n, step); unfit == 0; other.Add(other, step) {
		r := new(big.Int).Mod(other, new(big.Int).SetUint64(table.p)).Uint64()
		if table.log[r] < 0 {
			continue
		}
		if r == new(big.Int).Mod(n, new(big.Int).SetUint64(table.p)).Uint64() {
			break // all residues seen
		}
		if !roca(other) {
			unfit++
		}
	}
	if unfit == 0 {
		t.Error("logarithms that contradict each other pass")
	}
}

func TestECDSA(t *testing.T) {
	rules := DefaultRules()
	all := rules
	all.P521 = true
	for _, c := range []struct {
		curve elliptic.Curve
		deflt bool
	}{{elliptic.P256(), true}, {elliptic.P384(), true}, {elliptic.P521(), false}} {
		k, err := ecdsa.GenerateKey(c.curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		name := c.curve.Params().Name
		accepted(t, name, &k.PublicKey, all)
		if c.deflt {
			accepted(t, name, &k.PublicKey, rules)
		} else {
			refused(t, name, &k.PublicKey, rules, "not allowed")
		}
		off := func(x, y *big.Int) *ecdsa.PublicKey { return &ecdsa.PublicKey{Curve: c.curve, X: x, Y: y} }
		one := big.NewInt(1)
		refused(t, name+" off curve", off(k.X, new(big.Int).Xor(k.Y, one)), all, "not on")
		refused(t, name+" infinity", off(new(big.Int), new(big.Int)), all, "not on")
		refused(t, name+" too large", off(new(big.Int).Add(k.X, c.curve.Params().P), k.Y), all, "outside the field")
		refused(t, name+" negative", off(k.X, new(big.Int).Neg(k.Y)), all, "outside the field")
		refused(t, name+" nil", off(k.X, nil), all, "no point")
	}
	k, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	refused(t, "P-224", &k.PublicKey, all, "not one of")
	refused(t, "nil", (*ecdsa.PublicKey)(nil), all, "no curve")
	refused(t, "no curve", &ecdsa.PublicKey{}, all, "no curve")
}

func TestEd25519(t *testing.T) {
	rules := DefaultRules()
	rules.Ed25519 = true
	for range 50 {
		k, _, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		accepted(t, "good", k, rules)
		refused(t, "not allowed", k, DefaultRules(), "not allowed")
		refused(t, "short", k[:31], rules, "31 bytes")
	}
	for name, h := range map[string]string{
		"identity":         "0100000000000000000000000000000000000000000000000000000000000000",
		"order 2":          "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"order 4":          "0000000000000000000000000000000000000000000000000000000000000000",
		"order 4, other x": "0000000000000000000000000000000000000000000000000000000000000080",
		"order 8":          "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"order 8, other":   "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
	} {
		p, err := hex.DecodeString(h)
		if err != nil {
			t.Fatal(err)
		}
		refused(t, name, ed25519.PublicKey(p), rules, "small order")
	}
	for name, h := range map[string]string{
		"y = p":           "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"x = 0, negative": "0100000000000000000000000000000000000000000000000000000000000080",
		"no point":        "0200000000000000000000000000000000000000000000000000000000000000",
	} {
		p, err := hex.DecodeString(h)
		if err != nil {
			t.Fatal(err)
		}
		refused(t, name, ed25519.PublicKey(p), rules, "canonical")
	}
}

func TestOtherTypes(t *testing.T) {
	refused(t, "nil", nil, DefaultRules(), "no public key")
	refused(t, "DSA", &dsa.PublicKey{}, DefaultRules(), "not supported")
	refused(t, "by value", good().PublicKey, DefaultRules(), "not supported")
}

func TestSPKI(t *testing.T) {
	der, err := SPKI(&good().PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	want, err := x509.MarshalPKIXPublicKey(&good().PublicKey)
	if err != nil || !bytes.Equal(der, want) || SPKIHash(der) != bulkhead.Digest(want) {
		t.Errorf("SPKI differs: %v", err)
	}
	for _, c := range []elliptic.Curve{elliptic.P224(), elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		for range 20 { // some coordinates begin with zeros
			k, err := ecdsa.GenerateKey(c, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			got, err := SPKI(&k.PublicKey)
			if want, _ := x509.MarshalPKIXPublicKey(&k.PublicKey); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s: %x, not %x: %v", c.Params().Name, got, want, err)
			}
		}
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(20, func() { _, _ = SPKI(&k.PublicKey) }); n > 10 {
		t.Errorf("%.0f allocations to encode a key", n)
	}
	off := k.PublicKey
	off.Y = new(big.Int).Add(off.Y, big.NewInt(1))
	for _, k := range []crypto.PublicKey{nil, "x", &rsa.PublicKey{}, &ecdsa.PublicKey{Curve: elliptic.P256()}, &off} {
		if _, err := SPKI(k); bulkhead.KindOf(err) != bulkhead.KindBadPublicKey {
			t.Errorf("%T: %v", k, err)
		}
	}
}

// opensslEntry is what the shell pipeline of openssl-blacklist prints for a key.
func opensslEntry(t *testing.T, k *rsa.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", "openssl rsa -pubin -noout -modulus | sha1sum | cut -c 21-40")
	cmd.Stdin = bytes.NewReader(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	out, err := cmd.Output()
	if err != nil || len(out) != 21 {
		t.Fatalf("openssl is needed for this test: %v, %q", err, out)
	}
	return strings.TrimSpace(string(out))
}
