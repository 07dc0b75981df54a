package tlog

import (
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"bulkhead"
)

func digests(n int) []bulkhead.Hash {
	out := make([]bulkhead.Hash, n)
	for i := range out {
		out[i] = bulkhead.Digest([]byte{byte(i), byte(i >> 8)})
	}
	return out
}

func TestChain(t *testing.T) {
	leaf := []byte("leaf")
	sum := sha256.Sum256(leaf)
	first := Chain(bulkhead.Hash{}, leaf)
	if want := sha256.Sum256(append(make([]byte, 32), sum[:]...)); first != want {
		t.Errorf("first link %s, want %x", first, want)
	}
	if want := sha256.Sum256(append(first[:], sum[:]...)); Chain(first, leaf) != want {
		t.Errorf("second link %s, want %x", Chain(first, leaf), want)
	}
}

func TestBatchRootAgreesWithAnotherLibrary(t *testing.T) {
	if BatchRoot(nil) != bulkhead.Hash(rfc6962.DefaultHasher.EmptyRoot()) {
		t.Error("root of nothing")
	}
	factory := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	for n := 1; n < 70; n++ {
		r := factory.NewEmptyRange(0)
		for _, d := range digests(n) {
			if err := r.Append(rfc6962.DefaultHasher.HashLeaf(d[:]), nil); err != nil {
				t.Fatal(err)
			}
		}
		want, err := r.GetRootHash(nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := BatchRoot(digests(n)); got != bulkhead.Hash(want) {
			t.Errorf("%d digests: %s, want %x", n, got, want)
		}
	}
}

func TestBatchPath(t *testing.T) {
	for n := 1; n < 40; n++ {
		all := digests(n)
		root := BatchRoot(all)
		for i := range all {
			path, err := BatchPath(all, i)
			if err != nil {
				t.Fatal(err)
			}
			if err := VerifyBatchPath(root, all[i], i, n, path); err != nil {
				t.Errorf("%d of %d: %v", i, n, err)
			}
			if err := VerifyBatchPath(root, all[i], (i+1)%n, n, path); n > 1 && !errors.Is(err, ErrProof) {
				t.Errorf("%d of %d at another place: %v", i, n, err)
			}
			if err := VerifyBatchPath(root, bulkhead.Digest([]byte("other")), i, n, path); !errors.Is(err, ErrProof) {
				t.Errorf("another digest at %d of %d: %v", i, n, err)
			}
		}
	}
	for _, i := range []int{-1, 3} {
		if _, err := BatchPath(digests(3), i); err == nil {
			t.Errorf("path of %d in 3", i)
		}
		if err := VerifyBatchPath(BatchRoot(digests(3)), digests(1)[0], i, 3, nil); !errors.Is(err, ErrProof) {
			t.Errorf("member %d of 3: %v", i, err)
		}
	}
}

func BenchmarkBatchRoot10000(b *testing.B) {
	all := digests(10000)
	for b.Loop() {
		BatchRoot(all)
	}
}
