package run

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead"
	"bulkhead/pki/pack"
	"bulkhead/publish"
)

// copies gives published objects as files of this machine: as they lie, where the source is a folder, else copied once, by
// digest, into dir.
type copies struct {
	source publish.Reader
	dir    string
	mu     *sync.Mutex // guards dir
}

// file is where an object lies on this machine.
func (o copies) file(ctx context.Context, ref pack.ObjectRef) (string, error) {
	if local, ok := o.source.(interface {
		LocalPath(name string) (string, error)
	}); ok {
		return local.LocalPath(ref.Name)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	path := filepath.Join(o.dir, ref.Digest.String())
	if info, err := os.Stat(path); err == nil && info.Size() == ref.Size {
		return path, nil
	}
	return path, o.copy(ctx, ref, path)
}

// copy brings an object here, whole and verified or not at all.
func (o copies) copy(ctx context.Context, ref pack.ObjectRef, path string) (err error) {
	body, size, err := o.source.Open(ctx, ref.Name)
	if err != nil {
		return err
	}
	defer body.Close()
	if size != ref.Size {
		return fmt.Errorf("object %s has %d octets, the head says %d", ref.Name, size, ref.Size)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(f, sum), io.LimitReader(body, ref.Size))
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if bulkhead.Hash(sum.Sum(nil)) != ref.Digest {
		return bulkhead.Faultf(bulkhead.KindInternal, "object %s is not the one that the head names", ref.Name).WithHint("bulkhead fsck")
	}
	return os.Rename(f.Name(), path)
}

// keepCopies is how long a copy stays at least: somebody may be about to open it.
const keepCopies = time.Hour

// named are the objects that a head names, by name.
func named(head *pack.Head) map[string]pack.ObjectRef {
	out := map[string]pack.ObjectRef{}
	for _, ih := range head.Issuers {
		if !ih.Certificate.IsZero() {
			out[ih.Certificate.Name] = ih.Certificate
		}
		for _, p := range ih.Packs {
			out[p.Name] = p
		}
		for _, c := range ih.CRLs {
			out[c.Name] = c.ObjectRef
		}
	}
	return out
}

// forget deletes copies that the head does not name any more.
func (o copies) forget(head *pack.Head) {
	o.mu.Lock()
	defer o.mu.Unlock()
	entries, err := os.ReadDir(o.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	digests := map[string]bool{}
	for _, ref := range named(head) {
		digests[ref.Digest.String()] = true
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && !digests[e.Name()] && time.Since(info.ModTime()) > keepCopies {
			_ = os.Remove(filepath.Join(o.dir, e.Name())) // tried again with the next head; a mapping outlives its file
		}
	}
}

// read reads an object whole and holds it against what the head says of it.
func (o copies) read(ctx context.Context, ref pack.ObjectRef) ([]byte, error) {
	path, err := o.file(ctx, ref)
	if err != nil {
		return nil, err
	}
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindUnavailable, "object %s cannot be read", ref.Name).WithHint("bulkhead fsck").WithCause(err)
	}
	if bulkhead.Digest(body) != ref.Digest {
		return nil, bulkhead.Faultf(bulkhead.KindInternal, "object %s is not the one that the head names", ref.Name).WithHint("bulkhead fsck")
	}
	return body, nil
}

// mapObject maps a pack. Its digest is fsck's and the edge's matter: packs of millions are opened in no time.
func (o copies) mapObject(ctx context.Context, ref pack.ObjectRef) ([]byte, error) {
	path, err := o.file(ctx, ref)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() != ref.Size || ref.Size <= 0 {
		return nil, fmt.Errorf("the file does not have the %d octets that the head says", ref.Size)
	}
	return unix.Mmap(int(f.Fd()), 0, int(ref.Size), unix.PROT_READ, unix.MAP_SHARED)
}
