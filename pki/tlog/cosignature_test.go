package tlog

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	fnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/tessera"
	"golang.org/x/mod/sumdb/note"

	"bulkhead"
)

// signer is a log's key with its verifier.
func signer(t testing.TB, name string) (_ note.Signer, _ note.Verifier, private, public string) {
	t.Helper()
	private, public, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	s, err1 := note.NewSigner(private)
	v, err2 := note.NewVerifier(public)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return s, v, private, public
}

func sign(t testing.TB, cp Checkpoint, s ...note.Signer) []byte {
	t.Helper()
	signed, err := note.Sign(&note.Note{Text: cp.Body()}, s...)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// TestCosignature: what we sign another library verifies, and the reverse; a time that was changed, a body that was changed and
// another's key do not verify.
func TestCosignature(t *testing.T) {
	_, cp := build(t, 7)
	s, v, _, _ := signer(t, cp.Origin)
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := NewCosigner("w.test/1", private)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_700_000_000, 0).UTC()
	line, err := ours.Cosign(cp.Body(), at)
	if err != nil {
		t.Fatal(err)
	}
	signed := append(sign(t, cp, s), line...)
	theirs, err := fnote.NewVerifierForCosignatureV1(ours.String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(signed, note.VerifierList(theirs))
	if err != nil {
		t.Fatalf("another library: %v", err)
	}
	if got, err := fnote.CoSigV1Timestamp(n.Sigs[0]); err != nil || !got.Equal(at) {
		t.Errorf("%v %v", got, err)
	}
	got, sigs, err := Cosignatures(signed, cp.Origin, v, []*Witness{ours.Witness})
	if err != nil || got != cp || len(sigs) != 1 || !sigs[0].At.Equal(at) || sigs[0].Line != line || sigs[0].Witness != "w.test/1" {
		t.Errorf("%+v %+v %v", got, sigs, err)
	}

	_, _, text, public := signer(t, "w.test/2")
	another, err := fnote.NewSignerForCosignatureV1(text)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseWitness(public)
	if err != nil {
		t.Fatal(err)
	}
	if _, sigs, err := Cosignatures(sign(t, cp, s, another), cp.Origin, v, []*Witness{ours.Witness, key}); err != nil || len(sigs) != 1 || sigs[0].Witness != "w.test/2" {
		t.Errorf("theirs: %+v %v", sigs, err)
	}

	changed := []byte(strings.Replace(string(signed), line, strings.Replace(line, line[len(line)-20:len(line)-10], "AAAAAAAAAA", 1), 1))
	if _, _, err := Cosignatures(changed, cp.Origin, v, []*Witness{ours.Witness}); !errors.Is(err, ErrCosignature) {
		t.Errorf("a changed signature: %v", err)
	}
	other := cp
	other.Size++
	if _, _, err := Cosignatures(append(sign(t, other, s), line...), cp.Origin, v, []*Witness{ours.Witness}); !errors.Is(err, ErrCosignature) {
		t.Errorf("another body: %v", err)
	}
	if _, _, err := Cosignatures(append(sign(t, cp, s), line...), "other.test", v, []*Witness{ours.Witness}); !errors.Is(err, ErrCheckpoint) {
		t.Errorf("another origin: %v", err)
	}
	if ours.Verify([]byte(cp.Body()), make([]byte, 72)) || ours.Verify(nil, nil) || !pub.Equal(ours.Witness.key) {
		t.Error("zeros verify")
	}
}

// witnessText is the verifier key of a new witness.
func witnessText(t testing.TB, name string) string {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCosigner(name, private)
	if err != nil {
		t.Fatal(err)
	}
	return c.String()
}

// TestPolicy: groups within groups, held against the parser of Tessera; and each way in which a policy is wrong.
func TestPolicy(t *testing.T) {
	a, b, c := witnessText(t, "a.test"), witnessText(t, "b.test"), witnessText(t, "c.test")
	text := fmt.Sprintf("# ours\nlog x\nwitness a %s https://a.test/w/\nwitness b %s https://b.test\nwitness c %s https://c.test\ngroup far any b c\ngroup both all a far # two\nquorum both\n", a, b, c)
	p, err := ParsePolicy(text)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := tessera.NewWitnessGroupFromPolicy([]byte(text))
	if err != nil {
		t.Fatalf("Tessera: %v", err)
	}
	for _, w := range p.Witnesses {
		// Tessera keeps the address to which it posts.
		u, err := url.JoinPath(w.URL, "add-checkpoint")
		if v := theirs.Endpoints()[u]; err != nil || v == nil || v.KeyHash() != w.Key.KeyHash() {
			t.Errorf("%s: %v", u, theirs.Endpoints())
		}
	}
	for names, want := range map[string]bool{"": false, "a.test": false, "a.test b.test": true, "a.test c.test": true, "b.test c.test": false, "a.test b.test c.test": true, "both": false} {
		if p.Satisfied(strings.Fields(names)) != want {
			t.Errorf("%q: %v", names, !want)
		}
	}
	if !p.Asks() || p.Words() != "2 of 2" || len(p.Keys()) != 3 || p.Witnesses[0].URL != "https://a.test/w" {
		t.Errorf("%s %+v", p.Words(), p.Witnesses)
	}
	if p, err := ParsePolicy("quorum none\n"); err != nil || p.Asks() || !p.Satisfied(nil) {
		t.Errorf("none: %v", err)
	}
	for _, bad := range []string{"", "witness a " + a, "quorum a", "witness a " + a + " ftp://a\nquorum a", "witness a " + a + "\nwitness a " + b + "\nquorum a", "witness a " + a + "\nwitness b " + a + "\nquorum a",
		"witness a nonsense\nquorum a", "witness none " + a + "\nquorum none", "witness a " + a + "\ngroup g 2 a\nquorum g", "witness a " + a + "\ngroup g 0 a\nquorum g", "witness a " + a + "\ngroup g 01 a\nquorum g",
		"witness a " + a + "\ngroup g all a a\nquorum g", "group g any g\nquorum g", "witness a " + a + "\nquorum a\nquorum a", "witness a " + a + " https://u@a.test\nquorum a", "sing a\nquorum none",
		"witness a " + strings.Replace(a, "+", "+0", 1) + "\nquorum a", "witness a " + a + "\ngroup g some a\nquorum g", "group g any\nquorum none"} {
		if _, err := ParsePolicy(bad); err == nil {
			t.Errorf("taken: %q", bad)
		}
	}
}

// TestProveConsistency: what is made for a witness is what it verifies; for equal sizes and from nothing it is empty.
func TestProveConsistency(t *testing.T) {
	objects, cp := build(t, 700)
	for _, size := range []int{0, 1, 2, 255, 256, 257, 511, 512, 699, 700} {
		_, older := build(t, size)
		proof, err := ProveConsistency(objects.read, int64(size), cp)
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckConsistency(proof, older, cp); err != nil {
			t.Errorf("%d: %v", size, err)
		}
		if size == 0 || size == 700 {
			if err := CheckConsistency([]bulkhead.Hash{{1}}, older, cp); !errors.Is(err, ErrProof) {
				t.Errorf("%d with a needless proof: %v", size, err)
			}
			continue
		}
		older.Root[0] ^= 1
		if err := CheckConsistency(proof, older, cp); !errors.Is(err, ErrProof) {
			t.Errorf("%d with another root: %v", size, err)
		}
	}
	if _, err := ProveConsistency(objects.read, 701, cp); !errors.Is(err, ErrFork) {
		t.Error(err)
	}
	other := cp
	other.Root[0] ^= 1
	if err := CheckConsistency(nil, other, cp); !errors.Is(err, ErrFork) {
		t.Error(err)
	}
	if err := CheckConsistency(nil, cp, Checkpoint{Origin: cp.Origin, Size: 699}); !errors.Is(err, ErrFork) {
		t.Error(err)
	}
}

// FuzzAddCheckpoint: what is taken is written back as it came.
func FuzzAddCheckpoint(f *testing.F) {
	f.Add([]byte("old 0\n\nx"))
	f.Add(AddCheckpoint{Old: 7, Proof: []bulkhead.Hash{{1}, {2}}, Note: []byte("a\n1\nb\n\n— x AAAA\n")}.Marshal())
	f.Add([]byte("old 01\n\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := ParseAddCheckpoint(body)
		if err == nil && string(a.Marshal()) != string(body) {
			t.Fatalf("%q became %q", body, a.Marshal())
		}
	})
}

// FuzzPolicy: no text makes it panic, and no quorum is satisfied by nobody unless it says so.
func FuzzPolicy(f *testing.F) {
	f.Add("witness a x https://a\ngroup g any a\nquorum g\n")
	f.Add("quorum none")
	f.Add("witness a " + witnessText(f, "a.test") + "\ngroup g 1 a\nquorum g")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePolicy(text)
		if err != nil {
			return
		}
		if p.Asks() && p.Satisfied(nil) {
			t.Fatal("satisfied by nobody")
		}
		var all []string
		for _, w := range p.Witnesses {
			all = append(all, w.Key.Name())
		}
		if !p.Satisfied(all) {
			t.Fatal("not satisfied by everybody")
		}
	})
}

// FuzzCosignatures: no bytes make it panic or give a cosignature that the log did not sign.
func FuzzCosignatures(f *testing.F) {
	_, cp := build(f, 3)
	s, v, _, _ := signer(f, cp.Origin)
	w, err := ParseWitness(witnessText(f, "w.test"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sign(f, cp, s))
	f.Add(append(sign(f, cp, s), []byte("— w.test AAAA\n")...))
	f.Fuzz(func(t *testing.T, signed []byte) {
		if _, sigs, err := Cosignatures(signed, cp.Origin, v, []*Witness{w}); err == nil && len(sigs) > 0 {
			t.Fatal("a cosignature of nobody")
		}
		_, _ = ParseWitness(string(signed))
	})
}
