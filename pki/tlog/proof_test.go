package tlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"

	"bulkhead"
)

// objects is a log in memory, by path.
type objects map[string][]byte

func (o objects) read(path string) ([]byte, error) {
	if p, ok := o[path]; ok {
		return p, nil
	}
	return nil, fmt.Errorf("object: %w", fs.ErrNotExist)
}

func leafN(t testing.TB, i int) []byte {
	leaf, err := Marshal(bulkhead.Evidence{Kind: bulkhead.EvAccount, At: time.UnixMilli(int64(i)), Count: int64(i)})
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

// build writes the tiles of n leaves the slow way: every level from the one below, with the hasher of another library.
func build(t testing.TB, n int) (objects, Checkpoint) {
	o := objects{}
	factory := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	root := func(hashes [][]byte) []byte {
		r := factory.NewEmptyRange(0)
		for _, h := range hashes {
			if err := r.Append(h, nil); err != nil {
				t.Fatal(err)
			}
		}
		h, err := r.GetRootHash(nil)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	var hashes [][]byte
	for first := 0; first < n; first += 256 {
		var bundle []byte
		for i := first; i < min(n, first+256); i++ {
			leaf := leafN(t, i)
			bundle = append(binary.BigEndian.AppendUint16(bundle, uint16(len(leaf))), leaf...)
			hashes = append(hashes, rfc6962.DefaultHasher.HashLeaf(leaf))
		}
		o[Path(-1, int64(first/256), min(256, n-first))] = bundle
	}
	cp := Checkpoint{Origin: "test.example/log", Size: int64(n), Root: bulkhead.Digest(nil)}
	if n > 0 {
		cp.Root = bulkhead.Hash(root(hashes))
	}
	for level := 0; len(hashes) > 0; level++ {
		var above [][]byte
		for first := 0; first < len(hashes); first += 256 {
			part := hashes[first:min(len(hashes), first+256)]
			o[Path(level, int64(first/256), len(part))] = bytes.Join(part, nil)
			if len(part) == 256 {
				above = append(above, root(part))
			}
		}
		hashes = above
	}
	return o, cp
}

func TestPath(t *testing.T) {
	for want, got := range map[string]string{
		"tile/0/000": Path(0, 0, 256), "tile/1/x001/x234/067": Path(1, 1234067, 256),
		"tile/entries/x001/000.p/12": Path(-1, 1000, 12), "tile/2/255.p/255": Path(2, 255, 255),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestProofsFromTiles(t *testing.T) {
	for _, n := range []int{1, 2, 3, 255, 256, 257, 700, 65536 + 300} {
		o, cp := build(t, n)
		for _, i := range []int{0, n / 3, n / 2, n - 1} {
			if err := VerifyInclusion(o.read, cp, int64(i), leafN(t, i)); err != nil {
				t.Errorf("inclusion of %d in %d: %v", i, n, err)
			}
			if err := VerifyInclusion(o.read, cp, int64(i), leafN(t, i+1)); !errors.Is(err, ErrLeaf) {
				t.Errorf("inclusion of another leaf at %d in %d: %v", i, n, err)
			}
			if leaf, err := ReadLeaf(o.read, cp, int64(i)); err != nil || !bytes.Equal(leaf, leafN(t, i)) {
				t.Errorf("leaf %d of %d: %v", i, n, err)
			}
		}
		if _, err := ReadLeaf(o.read, cp, int64(n)); !errors.Is(err, ErrLeaf) {
			t.Errorf("leaf %d of %d: %v", n, n, err)
		}
		frontier := &Frontier{}
		if err := Walk(o.read, cp, 0, func(i int64, leaf []byte) error {
			if !bytes.Equal(leaf, leafN(t, int(i))) || i != frontier.Size() {
				return fmt.Errorf("leaf %d is wrong", i)
			}
			frontier.Append(leaf)
			return nil
		}); err != nil || frontier.Size() != int64(n) || frontier.Root() != cp.Root {
			t.Errorf("walk over %d: %d leaves, root %s, %v", n, frontier.Size(), frontier.Root(), err)
		}
		if root, err := TreeRoot(o.read, int64(n)); err != nil || root != cp.Root {
			t.Errorf("root of %d: %s, %v", n, root, err)
		}
		if f, err := ReadFrontier(o.read, cp); err != nil || f.Root() != cp.Root || f.Size() != cp.Size {
			t.Errorf("frontier of %d: %v", n, err)
		}
	}
}

func TestFrontierGoesOn(t *testing.T) {
	for _, n := range []int{0, 1, 3, 255, 256, 600} {
		o, cp := build(t, n)
		f, err := ReadFrontier(o.read, cp)
		if err != nil {
			t.Fatal(err)
		}
		for i := n; i < 700; i++ {
			f.Append(leafN(t, i))
		}
		if _, want := build(t, 700); f.Root() != want.Root {
			t.Errorf("from %d to 700: root %s, want %s", n, f.Root(), want.Root)
		}
	}
}

func TestConsistency(t *testing.T) {
	o, newer := build(t, 700)
	for _, n := range []int{0, 1, 255, 256, 257, 699, 700} {
		_, older := build(t, n)
		if err := VerifyConsistency(o.read, older, newer); err != nil {
			t.Errorf("%d to 700: %v", n, err)
		}
		forked := older
		forked.Root[3] ^= 1
		if err := VerifyConsistency(o.read, forked, newer); !errors.Is(err, ErrFork) {
			t.Errorf("forked %d to 700: %v", n, err)
		}
	}
	_, older := build(t, 701)
	if err := VerifyConsistency(o.read, older, newer); !errors.Is(err, ErrFork) {
		t.Errorf("a log that shrank: %v", err)
	}
	older = newer
	older.Origin = "other"
	if err := VerifyConsistency(o.read, older, newer); !errors.Is(err, ErrFork) {
		t.Errorf("another log: %v", err)
	}
}

// TestDamage flips one bit of every object in turn, and takes each away: a walk must say so.
func TestDamage(t *testing.T) {
	whole, cp := build(t, 700)
	walk := func(o objects) error {
		return Walk(o.read, cp, 0, func(int64, []byte) error { return nil })
	}
	if err := walk(whole); err != nil {
		t.Fatal(err)
	}
	for path, data := range whole {
		for _, at := range []int{0, 1, len(data) / 2, len(data) - 1} {
			o := maps.Clone(whole)
			o[path] = bytes.Clone(data)
			o[path][at] ^= 0x10
			want := ErrTile
			if strings.Contains(path, "entries") {
				want = ErrLeaf
			}
			if err := walk(o); !errors.Is(err, want) {
				t.Errorf("%s, byte %d flipped: %v", path, at, err)
			}
		}
		o := maps.Clone(whole)
		delete(o, path)
		if err := walk(o); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s missing: %v", path, err)
		}
		o[path] = data[:len(data)-1]
		if err := walk(o); !errors.Is(err, ErrTile) && !errors.Is(err, ErrLeaf) {
			t.Errorf("%s cut: %v", path, err)
		}
	}
	bad := cp
	bad.Root[0] ^= 1
	if err := Walk(whole.read, bad, 0, func(int64, []byte) error { return nil }); !errors.Is(err, ErrTile) {
		t.Errorf("another root: %v", err)
	}
	if err := Walk(whole.read, Checkpoint{Root: bulkhead.Digest([]byte("x"))}, 0, nil); !errors.Is(err, ErrTile) {
		t.Errorf("a wrong empty log: %v", err)
	}
}

// TestGrownLog reads an older checkpoint from a log whose partial tiles were replaced by full ones.
func TestGrownLog(t *testing.T) {
	o, _ := build(t, 512)
	before, older := build(t, 300)
	o["tile/1/000.p/1"] = before["tile/1/000.p/1"] // its full tile comes with 65,536 leaves
	n := 0
	if err := Walk(o.read, older, 0, func(i int64, leaf []byte) error { n++; return nil }); err != nil || n != 300 {
		t.Fatalf("%d leaves, %v", n, err)
	}
}

func TestWalkFrom(t *testing.T) {
	o, cp := build(t, 700)
	want := int64(500)
	if err := Walk(o.read, cp, want, func(i int64, _ []byte) error {
		if i != want {
			t.Fatalf("leaf %d, want %d", i, want)
		}
		want++
		return nil
	}); err != nil || want != 700 {
		t.Fatalf("ended at %d: %v", want, err)
	}
}

func TestOpenCheckpoint(t *testing.T) {
	private, public, err := note.GenerateKey(fixedBytes{}, "test.example/log")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(public)
	if err != nil {
		t.Fatal(err)
	}
	_, cp := build(t, 3)
	sign := func(text string) []byte {
		signed, err := note.Sign(&note.Note{Text: text}, signer)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	good := sign(cp.Body())
	if got, err := OpenCheckpoint(good, cp.Origin, verifier); err != nil || got != cp {
		t.Fatalf("%+v, %v", got, err)
	}
	for name, bad := range map[string][]byte{
		"flipped": bytes.Replace(good, []byte("\n3\n"), []byte("\n4\n"), 1), "empty": nil, "cut": good[:len(good)-10],
		"extension": sign(cp.Body() + "more\n"), "size": sign(strings.Replace(cp.Body(), "\n3\n", "\n03\n", 1)),
		"negative": sign(strings.Replace(cp.Body(), "\n3\n", "\n-3\n", 1)), "huge": sign(strings.Replace(cp.Body(), "\n3\n", "\n1152921504606846977\n", 1)),
		"root": sign("test.example/log\n3\nAAAA\n"),
	} {
		if _, err := OpenCheckpoint(bad, cp.Origin, verifier); !errors.Is(err, ErrCheckpoint) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := OpenCheckpoint(good, "other", verifier); !errors.Is(err, ErrCheckpoint) {
		t.Errorf("another origin: %v", err)
	}
}

// fixedBytes is a source of fixed bytes: the key of a test need not be secret.
type fixedBytes struct{}

func (fixedBytes) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(i)
	}
	return len(p), nil
}

func FuzzParseCheckpoint(f *testing.F) {
	f.Add("test.example/log\n3\n" + "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n")
	f.Add("a\n0\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		if cp, err := ParseCheckpoint(text); err == nil && cp.Body() != text {
			t.Fatalf("%q read as %+v", text, cp)
		}
	})
}

// FuzzBundle walks logs whose entry bundle is arbitrary: only the true bytes may pass.
func FuzzBundle(f *testing.F) {
	o, cp := build(f, 3)
	path := Path(-1, 0, 3)
	whole := o[path]
	f.Add(whole)
	f.Add([]byte{0, 1})
	f.Fuzz(func(t *testing.T, bundle []byte) {
		damaged := maps.Clone(o)
		damaged[path] = bundle
		err := Walk(damaged.read, cp, 0, func(int64, []byte) error { return nil })
		if err == nil && !bytes.HasPrefix(bundle, whole) {
			t.Fatalf("%x passed", bundle)
		}
	})
}
