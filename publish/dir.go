package publish

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"bulkhead"
)

// Dir is a Store in a directory, laid out so that any static web server could serve it: objects under their names,
// the head as "head". Type, lifetime and surrogate key are not kept: whoever serves the directory sets them.
//
// Writes go to a temporary file in .tmp, are synced, and are then linked (objects: never over an existing name) or
// renamed (head) into place, and the directory is synced. Files are 0644.
type Dir struct{ root string }

var _ Store = (*Dir)(nil)

// staleTemp is the age at which a temporary file is surely the remains of a crash: no upload takes a day.
const staleTemp = 24 * time.Hour

// NewDir opens a directory and makes it when absent. Remains of crashed writers are cleared away.
func NewDir(root string) (*Dir, error) {
	if root == "" {
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "publish: a directory is required").WithHint("name the directory that holds published objects")
	}
	d := &Dir{root: filepath.Clean(root)}
	if err := os.MkdirAll(d.temp(), 0o755); err != nil {
		return nil, unavailable("make directory", err)
	}
	left, err := os.ReadDir(d.temp())
	if err != nil {
		return nil, unavailable("read directory", err)
	}
	for _, e := range left {
		if strings.HasPrefix(e.Name(), draftPrefix) {
			d.clear(e.Name())
			continue
		}
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > staleTemp {
			_ = os.Remove(filepath.Join(d.temp(), e.Name())) // best effort: it is only space
		}
	}
	return d, nil
}

func (d *Dir) temp() string { return filepath.Join(d.root, ".tmp") }

// LocalPath is where an object's file lies, for readers that map files in place. It does not say that it exists.
func (d *Dir) LocalPath(name string) (string, error) {
	if err := CheckName(name); err != nil {
		return "", err
	}
	return filepath.Join(d.root, filepath.FromSlash(name)), nil
}

// Put implements Store.
func (d *Dir) Put(ctx context.Context, o Object) error {
	path, err := d.LocalPath(o.Name)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return unavailable("put "+o.Name, err)
	}
	if o.Body == nil {
		return bulkhead.Faultf(bulkhead.KindUsage, "object %s has no body", o.Name)
	}
	if _, err := o.Body.Seek(0, io.SeekStart); err != nil {
		return unavailable("read "+o.Name, err)
	}
	tmp, done, err := d.written(o.Body)
	if err != nil {
		return unavailable("write "+o.Name, err)
	}
	defer done()
	if err := makeDirs(d.root, filepath.Dir(path)); err != nil {
		return nameClash(o.Name, err)
	}
	err = os.Link(tmp, path)
	if errors.Is(err, fs.ErrExist) {
		same, cerr := sameContent(tmp, path)
		if cerr != nil {
			return nameClash(o.Name, cerr)
		}
		if !same {
			return bulkhead.Faultf(bulkhead.KindConflict, "object %s exists with other bytes", o.Name).
				WithHint("objects never change: publish under a new name")
		}
		err = nil // the directory is synced below: the writer before may have died in between
	}
	if err != nil {
		return nameClash(o.Name, err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return unavailable("sync "+o.Name, err)
	}
	return nil
}

// draft is a temporary file that is being written.
type draft struct {
	file   *os.File
	dir    *Dir
	sealed atomic.Bool // it was given to Put, and may be an object by now
}

var _ Drafter = (*Dir)(nil)

// draftPrefix begins the names of drafts. Whoever writes one holds its lock, which dies with him: a draft may be as large as the
// answers of a million certificates, and one that nobody writes any more is cleared away at once.
const draftPrefix = "draft-"

// clear removes a draft whose writer died.
func (d *Dir) clear(name string) {
	f, err := os.Open(filepath.Join(d.temp(), name))
	if err != nil {
		return
	}
	defer f.Close()
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		_ = os.Remove(f.Name()) // best effort: it is only space
	}
}

// Draft implements Drafter.
func (d *Dir) Draft(ctx context.Context) (Draft, error) {
	if err := ctx.Err(); err != nil {
		return nil, unavailable("begin an object", err)
	}
	f, err := d.newTemp(draftPrefix)
	if err != nil {
		return nil, unavailable("begin an object", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
	if err == nil {
		_, err = os.Stat(f.Name()) // somebody who started just now may have cleared it away before it was locked
	}
	if err != nil {
		_, _ = os.Remove(f.Name()), f.Close()
		return nil, unavailable("begin an object", err)
	}
	return &draft{file: f, dir: d}, nil
}

// Write implements io.Writer.
func (x *draft) Write(p []byte) (int, error) {
	if x.sealed.Load() {
		return 0, fs.ErrPermission
	}
	return x.file.Write(p)
}

// Read implements io.Reader, Seek io.Seeker.
func (x *draft) Read(p []byte) (int, error)                   { return x.file.Read(p) }
func (x *draft) Seek(offset int64, whence int) (int64, error) { return x.file.Seek(offset, whence) }

// Close gives the temporary name up; an object that was made of it stays.
func (x *draft) Close() error {
	err := os.Remove(x.file.Name())
	return errors.Join(err, x.file.Close())
}

// written is a synced temporary file with the bytes of a body, which a draft of this directory is already.
func (d *Dir) written(body io.Reader) (path string, done func(), err error) {
	if x, is := body.(*draft); is && x.dir == d {
		x.sealed.Store(true)
		return x.file.Name(), func() {}, x.file.Sync()
	}
	path, err = d.writeTemp(body)
	return path, func() { _ = os.Remove(path) }, err
}

// SetHead implements Store.
func (d *Dir) SetHead(ctx context.Context, signed []byte) error {
	if err := ctx.Err(); err != nil {
		return unavailable("set head", err)
	}
	tmp, err := d.writeTemp(bytes.NewReader(signed))
	if err != nil {
		return unavailable("write head", err)
	}
	if err := os.Rename(tmp, filepath.Join(d.root, headName)); err != nil {
		_ = os.Remove(tmp)
		return unavailable("rename head", err)
	}
	if err := syncDir(d.root); err != nil {
		return unavailable("sync head", err)
	}
	return nil
}

// Get implements Reader.
func (d *Dir) Get(ctx context.Context, name string) ([]byte, error) {
	body, size, err := d.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	b := make([]byte, size) // objects never change, and the largest are many megabytes
	if _, err := io.ReadFull(body, b); err != nil {
		return nil, unavailable("read "+name, err)
	}
	return b, nil
}

// Open implements Reader.
func (d *Dir) Open(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	path, err := d.LocalPath(name)
	if err != nil {
		return nil, 0, err
	}
	if err := ctx.Err(); err != nil {
		return nil, 0, unavailable("open "+name, err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, notFound("object "+name, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		_ = f.Close()
		return nil, 0, notFound("object "+name, err)
	}
	return f, info.Size(), nil
}

// Head implements Reader.
func (d *Dir) Head(ctx context.Context) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, unavailable("read head", err)
	}
	b, err := os.ReadFile(filepath.Join(d.root, headName))
	if err != nil {
		return nil, notFound("head", err)
	}
	return b, nil
}

// List implements Store.
func (d *Dir) List(ctx context.Context, prefix string) ([]Info, error) {
	var out []Info
	err := filepath.WalkDir(d.root, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // deleted while we looked
		}
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		rel, err := filepath.Rel(d.root, path)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		if e.IsDir() {
			if strings.HasPrefix(e.Name(), ".") && path != d.root {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasPrefix(name, prefix) || CheckName(name) != nil || !e.Type().IsRegular() {
			return nil
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		out = append(out, Info{Name: name, Size: info.Size(), At: info.ModTime().UTC()})
		return nil
	})
	if err != nil {
		return nil, unavailable("list", err)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

// Delete implements Store. Directories left empty stay.
func (d *Dir) Delete(ctx context.Context, name string) error {
	path, err := d.LocalPath(name)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return unavailable("delete "+name, err)
	}
	err = os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return unavailable("delete "+name, err)
	}
	return nil
}

// writeTemp writes a synced temporary file with mode 0644 and returns its path.
func (d *Dir) writeTemp(body io.Reader) (path string, err error) {
	f, err := d.newTemp("")
	if err != nil {
		return "", err
	}
	path = f.Name()
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(path)
		}
	}()
	if _, err = io.Copy(f, body); err != nil {
		return "", err
	}
	if err = f.Sync(); err != nil {
		return "", err
	}
	return path, f.Close()
}

// newTemp makes an empty temporary file with mode 0644.
func (d *Dir) newTemp(prefix string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(d.temp(), prefix+rand.Text()), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(0o644); err != nil { // whatever the umask says: other users' web servers read it
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return f, nil
}

// makeDirs makes dir below root, syncing the parent of each directory it made.
func makeDirs(root, dir string) error {
	if dir == root {
		return nil
	}
	if err := makeDirs(root, filepath.Dir(dir)); err != nil {
		return err
	}
	err := os.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func sameContent(a, b string) (bool, error) {
	fa, err := os.Open(a)
	if err != nil {
		return false, err
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return false, err
	}
	defer fb.Close()
	if info, err := fb.Stat(); err != nil || !info.Mode().IsRegular() {
		return false, err
	}
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, erra := io.ReadFull(fa, x)
		m, errb := io.ReadFull(fb, y)
		if !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		if short(erra) && short(errb) {
			return true, nil
		}
		if erra != nil || errb != nil {
			return false, errors.Join(erra, errb)
		}
	}
}

func short(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

func unavailable(what string, err error) error {
	return bulkhead.Faultf(bulkhead.KindUnavailable, "published objects: %s", what).
		WithHint("check space and permissions of the object directory").WithCause(err)
}

func notFound(what string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return bulkhead.Faultf(bulkhead.KindNotFound, "%s is not published", what).WithCause(err)
	}
	return unavailable("open "+what, err)
}

// nameClash tells a name that runs through another object ("a" and "a/b") from real trouble.
func nameClash(name string, err error) error {
	if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EISDIR) {
		return bulkhead.Faultf(bulkhead.KindConflict, "object %s runs through the name of another object", name).
			WithHint("publish under another name").WithCause(fmt.Errorf("link: %w", err))
	}
	return unavailable("put "+name, err)
}
