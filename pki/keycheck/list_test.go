package keycheck

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"math/big"
	"strings"
	"testing"

	"bulkhead"
)

func list(t testing.TB, text string) *List {
	t.Helper()
	l, err := ParseList("test list", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestListHitAndMiss(t *testing.T) {
	weak := good()
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	entry := opensslEntry(t, &weak.PublicKey)
	sum := sha256.Sum256(weak.N.Bytes())
	for name, text := range map[string]string{
		"openssl-blacklist": "# comment\n\n00000000000000000000\n" + entry + "\nffffffffffffffffffff\n",
		"upper case":        strings.ToUpper(entry),
		"full SHA-1":        strings.Repeat("0", 20) + entry,
		"badkeys hash":      hex.EncodeToString(sum[:15]) + " # why",
		"full SHA-256":      hex.EncodeToString(sum[:]),
		"JSON":              `["00112233445566778899","` + entry + `"]`,
	} {
		rules := DefaultRules()
		rules.Lists = []*List{list(t, "ffffffffffffffffffff"), list(t, text)}
		refused(t, name, &weak.PublicKey, rules, `"test list"`)
		accepted(t, name, &other.PublicKey, rules)
	}
}

func TestListOfCurves(t *testing.T) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	e, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x, y := sha256.Sum256(k.X.Bytes()), sha256.Sum256(new(big.Int).SetBytes(e).Bytes())
	rules := DefaultRules()
	rules.Ed25519 = true
	rules.Lists = []*List{list(t, "")}
	accepted(t, "EC, empty list", &k.PublicKey, rules)
	accepted(t, "Ed25519, empty list", e, rules)
	records := append(append(x[:15:15], 9), append(y[:15:15], 3)...)
	l, err := ParseBadkeys("badkeys", bytes.NewReader(records))
	if err != nil || l.Len() != 2 {
		t.Fatalf("%v, %d entries", err, l.Len())
	}
	rules.Lists = []*List{l}
	refused(t, "EC", &k.PublicKey, rules, `"badkeys"`)
	refused(t, "Ed25519", e, rules, `"badkeys"`)
}

// TestKnownVector is the pair that another implementation of the openssl-blacklist format uses in its tests.
func TestKnownVector(t *testing.T) {
	const modulus = "D673252AF6723C3F72529403EAB7C30DEF3C52F97E799825F4A70191C616ADCF1ECE1113F1625971074C492C592025FDEADBDB146A081826BDF0D77C3C913DCF1B6F0B3B78F5108D2E493AD0EEE8CA5C021711ADC13D358E61133870FCD19C8E5C22403959782AA82E72AEE53A3D491E3912CE27B27E1A85EA69C19A527D28F7934C9823B7E56FDD657DAC83FDC65BB22A98D843DF73238919781B714C81A5E2AFEC71F5C54AA2A27C590AD94C03C1062D50EFCFFAC743E3C8A3AE056846A1D756EB862BF4224169D467C35215ADE0AFCC11E85FE629AFB802C4786FF2E9C929BCCF502B3D3B8876C6A11785CC398B389F1D86BDD9CB0BD4EC13956EC3FA270D"
	n, ok := new(big.Int).SetString(modulus, 16)
	if !ok {
		t.Fatal("test vector")
	}
	rules := DefaultRules()
	accepted(t, "without list", pub(n), rules)
	rules.Lists = []*List{list(t, "8df20e6961a16398b85a")}
	refused(t, "with list", pub(n), rules, "list")
}

func TestListMalformed(t *testing.T) {
	for _, text := range []string{"xyz", "00", "0000000000000000000g", "# fine\n123", strings.Repeat("0", 22)} {
		_, err := ParseList("l", strings.NewReader(text))
		f := bulkhead.AsFault(err)
		if f == nil || f.Kind != bulkhead.KindMalformed || !strings.Contains(f.Detail, "line") || f.Hint == "" {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := ParseBadkeys("l", strings.NewReader("12345")); bulkhead.KindOf(err) != bulkhead.KindMalformed {
		t.Errorf("a torn badkeys file: %v", err)
	}
	if l := list(t, "00000000000000000000\n00000000000000000000"); l.Len() != 1 {
		t.Errorf("%d entries, want one", l.Len())
	}
}

func FuzzParseList(f *testing.F) {
	f.Add("# c\n00112233445566778899\n" + strings.Repeat("ab", 15) + "\n")
	f.Add(`["00112233445566778899", "` + strings.Repeat("AB", 32) + `"]`)
	f.Add("zz")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := ParseList("fuzz", strings.NewReader(text))
		if err != nil {
			if bulkhead.KindOf(err) != bulkhead.KindMalformed {
				t.Fatal(err)
			}
			return
		}
		l.hasModulus(big.NewInt(12345))
	})
}

func FuzzCheck(f *testing.F) {
	f.Add(good().N.Bytes(), 65537)
	f.Add(good().N.Bytes()[:128], 3)
	f.Add([]byte{}, 0)
	rules := AnyRSASize()
	f.Fuzz(func(t *testing.T, n []byte, e int) {
		err := Check(&rsa.PublicKey{N: new(big.Int).SetBytes(n), E: e}, rules)
		if err != nil && bulkhead.KindOf(err) != bulkhead.KindBadPublicKey {
			t.Fatal(err)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	big4096, err := rsa.GenerateKey(rand.Reader, 4096)
	if err != nil {
		b.Fatal(err)
	}
	for name, k := range map[string]any{"p256": &ec.PublicKey, "rsa2048": &good().PublicKey, "rsa4096": &big4096.PublicKey} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := Check(k, DefaultRules()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
