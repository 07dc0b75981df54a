package edge

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"bulkhead"
	"bulkhead/pki/pack"
)

// object is the content of one immutable object: mapped, or on the heap when there is no file to map. The mapping ends when
// the object is unreachable, which is after the last epoch and the last reader let go of it. It was verified whole, or it is a
// pack whose pages are verified one by one: see lazy.go.
type object struct {
	data  []byte
	pack  *pack.Pack // set by asPack
	path  string     // of the file that is mapped; "" on the heap
	stamp string     // of that file: see stampOf
	lazy  bool       // a pack of which nothing but the tail was verified when it was opened
}

// asPack opens the object as a pack, once.
func (o *object) asPack(ref pack.ObjectRef) error {
	if o.pack == nil {
		p, err := pack.Open(o.data)
		if err == nil && !o.lazy {
			err = p.Check()
		}
		if err != nil {
			return err
		}
		o.pack = p
	}
	if !ref.Tail.IsZero() && o.pack.Tail() != ref.Tail {
		return errors.New("its tail is not what the head says")
	}
	return nil
}

// locator is a source whose objects are local files.
type locator interface {
	LocalPath(name string) (string, error)
}

// object returns the content of ref: from this epoch or the one before, from a local file, the cache, or the source.
func (e *Edge) object(ctx context.Context, ep, prev *epoch, ref pack.ObjectRef) (*object, error) {
	o := ep.objects[ref.Digest]
	if o == nil && prev != nil {
		if o = prev.objects[ref.Digest]; o.damaged() {
			e.discard(o)
			o = nil
		}
	}
	if o == nil {
		var err error
		if o, err = e.fetch(ctx, ref, prev == nil && !ref.Tail.IsZero()); err != nil {
			return nil, err
		}
		if !o.lazy {
			e.metrics.loaded.Add(float64(len(o.data)))
		}
	}
	if int64(len(o.data)) != ref.Size {
		return nil, refused("object %s has %d octets, the head says %d", ref.Name, len(o.data), ref.Size)
	}
	ep.objects[ref.Digest] = o
	return o, nil
}

// fetch gets an object; lazy says that a pack in a file is verified page by page, as it is used.
func (e *Edge) fetch(ctx context.Context, ref pack.ObjectRef, lazy bool) (*object, error) {
	if l, ok := e.cfg.Source.(locator); ok {
		path, err := l.LocalPath(ref.Name)
		if err != nil {
			return nil, err
		}
		o, err := mapFile(path)
		if err != nil {
			return nil, refused("object %s cannot be read", ref.Name).WithCause(err)
		}
		return o, o.verifyFile(ref, lazy)
	}
	if e.cfg.CacheDir == "" {
		b, err := e.cfg.Source.Get(ctx, ref.Name)
		if err != nil {
			return nil, err
		}
		o := &object{data: b}
		return o, o.verify(ref)
	}
	path := filepath.Join(cachedObjects(e.cfg.CacheDir), ref.Digest.String())
	if o, err := mapFile(path); err == nil {
		if o.verifyFile(ref, lazy) == nil {
			return o, nil
		}
		_ = os.Remove(path) // damaged on our disk: fetched again below
	}
	if err := e.download(ctx, ref, path); err != nil {
		return nil, err
	}
	o, err := mapFile(path)
	if err != nil {
		return nil, refused("object %s cannot be read", ref.Name).WithCause(err)
	}
	return o, o.verify(ref)
}

// download copies an object into the cache. The file appears whole or not at all.
func (e *Edge) download(ctx context.Context, ref pack.ObjectRef, path string) error {
	body, size, err := e.cfg.Source.Open(ctx, ref.Name)
	if err != nil {
		return err
	}
	defer body.Close()
	if size != ref.Size {
		return refused("object %s has %d octets, the head says %d", ref.Name, size, ref.Size)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return cacheTrouble(err)
	}
	return writeFile(path, func(f *os.File) error {
		_, err := io.Copy(f, io.LimitReader(body, ref.Size))
		return err
	})
}

// writeFile writes a file whole or not at all, durably.
func writeFile(path string, write func(*os.File) error) (err error) {
	tmp := path + ".tmp-" + rand.Text()
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return cacheTrouble(err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(tmp)
			err = cacheTrouble(err)
		}
	}()
	if err = write(f); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(tmp, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func cacheTrouble(err error) error {
	return bulkhead.NewFault(bulkhead.KindUnavailable, "edge: the cache directory cannot be written").
		WithHint("check space and permissions of the edge's cache directory").WithCause(err)
}

// verify compares with what the head says of the object.
func (o *object) verify(ref pack.ObjectRef) error {
	if int64(len(o.data)) != ref.Size || bulkhead.Hash(sha256.Sum256(o.data)) != ref.Digest {
		return refused("object %s is not what the head says: its digest or size differs", ref.Name)
	}
	return nil
}

// verifyFile verifies a mapped file, or leaves the pages of a pack to those who use them.
func (o *object) verifyFile(ref pack.ObjectRef, lazy bool) error {
	if !lazy {
		return o.verify(ref)
	}
	if o.lazy = true; int64(len(o.data)) != ref.Size {
		return refused("object %s has %d octets, the head says %d", ref.Name, len(o.data), ref.Size)
	}
	return nil
}

// mapFile maps a file for reading. The file may be deleted afterwards, but must not be written to: objects are
// immutable on both sides.
func mapFile(path string) (*object, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := info.Size()
	if !info.Mode().IsRegular() || size <= 0 || int64(int(size)) != size {
		return nil, &os.PathError{Op: "mmap", Path: path, Err: unix.EINVAL}
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, &os.PathError{Op: "mmap", Path: path, Err: err}
	}
	o := &object{data: data, path: path}
	if o.stamp, err = stampOf(f); err != nil {
		_ = unix.Munmap(data)
		return nil, err
	}
	runtime.AddCleanup(o, func(b []byte) { _ = unix.Munmap(b) }, data)
	return o, nil
}
