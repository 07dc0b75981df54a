package edge

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"bulkhead"
	"bulkhead/pki/pack"
)

// A restart with packs of millions must not read all of them before it answers: what an earlier life verified whole, and
// nobody has touched since, is served at once and verified again in the background. The cache directory holds, by digest, a
// stamp of each such file. A change of its content changes the stamp: the time of the last change of an inode is the
// kernel's alone to set. What a damaged file could say is bounded anyhow, for each answer has a signature.

func stamps(dir string) string { return filepath.Join(dir, "verified") }

// stampOf says which file this is, and when it was last changed in any way.
func stampOf(f *os.File) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", &os.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	return fmt.Sprintf("%d %d %d %d.%09d %d.%09d\n", st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec), nil
}

// verifyFile verifies a mapped file, unless an earlier life did and it is as it was.
func (e *Edge) verifyFile(o *object, ref pack.ObjectRef) error {
	if int64(len(o.data)) == ref.Size && e.stamped(o, ref) {
		o.early = true
		return nil
	}
	return o.verify(ref)
}

func (e *Edge) stamped(o *object, ref pack.ObjectRef) bool {
	if e.cfg.CacheDir == "" {
		return false
	}
	body, err := os.ReadFile(filepath.Join(stamps(e.cfg.CacheDir), ref.Digest.String()))
	return err == nil && string(body) == o.stamp
}

// keepStamp remembers that a file was verified whole. Without it the next life verifies again.
func (e *Edge) keepStamp(ctx context.Context, o *object, ref pack.ObjectRef) {
	if e.cfg.CacheDir == "" || o.path == "" || o.early || e.stamped(o, ref) {
		return
	}
	path := filepath.Join(stamps(e.cfg.CacheDir), ref.Digest.String())
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = writeFile(path, func(f *os.File) error {
			_, err := f.WriteString(o.stamp)
			return err
		})
	}
	if err != nil {
		e.cfg.Log.WarnContext(ctx, "a verified object is not remembered as such", "error", err.Error())
	}
}

// verifyEarly verifies what is served on an earlier life's word. When something is not what the head says, nothing of this
// epoch is served any more, and the next look verifies all of it.
func (e *Edge) verifyEarly(ctx context.Context) {
	ep := e.current.Load()
	if ep == nil {
		return
	}
	for digest, o := range ep.objects {
		if !o.early || ctx.Err() != nil {
			continue
		}
		err := o.reread(ctx, digest)
		if ctx.Err() != nil {
			return
		}
		e.mu.Lock()
		if o.early = err != nil; err != nil && e.current.Load() == ep {
			_ = os.Remove(filepath.Join(stamps(e.cfg.CacheDir), digest.String())) // it is not believed in any case: see below
			e.current.Store(nil)
			e.cfg.Log.ErrorContext(ctx, "an object changed on this machine's disk: nothing of it is served", "object", o.path, "error", err.Error())
		}
		e.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// reread reads the file that is mapped once more and compares its digest; page by page, and not through the mapping, so
// that the pages that are in use stay in memory.
func (o *object) reread(ctx context.Context, digest bulkhead.Hash) error {
	f, err := os.Open(o.path)
	if err != nil {
		return err
	}
	defer f.Close()
	if stamp, err := stampOf(f); err != nil || stamp != o.stamp {
		return fmt.Errorf("the file was changed after it was verified (%v)", err)
	}
	sum, buf := sha256.New(), make([]byte, 1<<20)
	for {
		n, err := f.Read(buf)
		sum.Write(buf[:n])
		if err == io.EOF {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
	if !bytes.Equal(sum.Sum(nil), digest[:]) {
		return fmt.Errorf("its digest differs")
	}
	return nil
}
