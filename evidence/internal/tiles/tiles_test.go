package tiles

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"

	"bulkhead/pki/tlog"
)

const origin = "test.example/tiles"

func keys(t *testing.T) (note.Signer, note.Verifier) {
	t.Helper()
	private, public, err := note.GenerateKey(rand.Reader, origin)
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
	return signer, verifier
}

// TestOrder appends batches of awkward sizes, with leaves that are equal, over several openings of one log, and wants
// each leaf where it was put. The library's own fsck must agree with the result.
func TestOrder(t *testing.T) {
	dir, ctx := t.TempDir(), context.Background()
	signer, verifier := keys(t)
	leaf := func(i int64) []byte { return fmt.Appendf(nil, "leaf %d", i/2) }
	size := int64(0)
	for _, batches := range [][]int{{1, 1, 254}, {256, 257, 255, 1}, {1000, 3, 2}} {
		w, err := Open(ctx, Config{Dir: dir, Signer: signer, Interval: 100 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range batches {
			var leaves [][]byte
			for i := range int64(n) {
				leaves = append(leaves, leaf(size+i))
			}
			if err := w.Append(ctx, size, leaves); err != nil {
				t.Fatal(err)
			}
			size += int64(n)
			if got, err := w.Size(ctx); err != nil || got != size {
				t.Fatalf("size %d, want %d: %v", got, size, err)
			}
		}
		w.Close()
	}
	if w, err := Open(ctx, Config{Dir: dir, Signer: signer, Interval: 100 * time.Millisecond, Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	} else {
		defer w.Close()
		if err := w.Append(ctx, size-1, [][]byte{leaf(0)}); err == nil {
			t.Error("a leaf at a place that is taken is no error")
		}
	}
	read := func(path string) ([]byte, error) { return Read(dir, path) }
	cp := covered(t, dir, size, verifier)
	if cp.Size != size {
		t.Errorf("%d leaves, want %d", cp.Size, size)
	}
	if err := tlog.Walk(read, cp, 0, func(i int64, got []byte) error {
		if !bytes.Equal(got, leaf(i)) {
			return fmt.Errorf("leaf %d is %q", i, got)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	hasher := func(bundle []byte) ([][]byte, error) {
		var b api.EntryBundle
		err := b.UnmarshalText(bundle)
		var out [][]byte
		for _, e := range b.Entries {
			out = append(out, rfc6962.DefaultHasher.HashLeaf(e))
		}
		return out, err
	}
	if err := fsck.New(origin, verifier, client.FileFetcher{Root: dir}, hasher, fsck.Opts{}).Check(ctx); err != nil {
		t.Errorf("the library's fsck: %v", err)
	}
}

// covered waits for a checkpoint over size leaves.
func covered(t *testing.T, dir string, size int64, v note.Verifier) tlog.Checkpoint {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		signed, err := os.ReadFile(dir + "/" + CheckpointPath)
		if err != nil {
			t.Fatal(err)
		}
		cp, err := tlog.OpenCheckpoint(signed, origin, v)
		if err != nil {
			t.Fatal(err)
		}
		if cp.Size >= size {
			return cp
		}
		if time.Now().After(deadline) {
			t.Fatalf("checkpoint of %d leaves, want %d", cp.Size, size)
		}
	}
}

func TestReadStaysInside(t *testing.T) {
	if _, err := Read(t.TempDir(), "../x"); err == nil {
		t.Error("a path left the log")
	}
	if _, err := Read(t.TempDir(), "tile/0/000"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
