package edge

import (
	"context"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"bulkhead/pki/pack"
)

// A start with packs of millions must not read all of them before it answers. The head names of each pack the digest of
// its tail, and the tail has the digests of its pages: an edge that serves nothing yet opens packs by their tails and leaves
// each page to the first answer from it, and to verifyPages. Once it serves, a new head's objects are verified whole before
// the switch: what is served meanwhile is sound, and must not be given up for what is not.

// retryMend spaces out attempts at damaged objects.
const retryMend = retryRefused

// damaged reports whether a page of a pack was found damaged.
func (o *object) damaged() bool {
	if o == nil || o.pack == nil {
		return false
	}
	_, damaged := o.pack.Damaged()
	return damaged
}

// mendable reports whether to load the head once more because something in it is damaged and may be whole by now: a copy of ours, or
// a file that was changed since.
func (e *Edge) mendable(ep *epoch) bool {
	for _, o := range ep.objects {
		if !o.damaged() || e.cfg.Now().Before(e.mendAt) {
			continue
		}
		e.mendAt = e.cfg.Now().Add(retryMend)
		if _, local := e.cfg.Source.(locator); !local {
			return true
		}
		if f, err := os.Open(o.path); err == nil {
			stamp, err := stampOf(f)
			_ = f.Close() // it was only looked at
			return err == nil && stamp != o.stamp
		}
	}
	return false
}

// discard deletes a damaged copy, so that it is fetched again.
func (e *Edge) discard(o *object) {
	if _, local := e.cfg.Source.(locator); !local && o.path != "" {
		_ = os.Remove(o.path) // a copy that stays is verified whole, and refused
	}
}

// stampOf says which file this is, and when it was last changed in any way.
func stampOf(f *os.File) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", &os.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	return fmt.Sprintf("%d %d %d %d.%09d %d.%09d", st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec), nil
}

// verifyPages verifies what a start left to its use, so that damage is found before somebody asks.
func (e *Edge) verifyPages(ctx context.Context, ep *epoch) {
	for _, o := range ep.objects {
		if !o.lazy {
			continue
		}
		if err := o.verifyPages(ctx); err != nil && ctx.Err() == nil {
			e.cfg.Log.ErrorContext(ctx, "an object is damaged on this machine's disk: nothing of the damaged part is served", "object", o.path, "error", err.Error())
		}
	}
}

// verifyPages reads the file that is mapped, and not through the mapping, so that the pages that are in use stay in memory. Both
// see the same pages of the kernel's cache.
func (o *object) verifyPages(ctx context.Context) error {
	f, err := os.Open(o.path)
	if err != nil {
		return err
	}
	defer f.Close()
	if stamp, err := stampOf(f); err != nil || stamp != o.stamp {
		return fmt.Errorf("the file was replaced (%v)", err)
	}
	const pieces = 64
	buf := make([]byte, pieces*pack.PageSize)
	var wrong error
	for n := 0; n < o.pack.Pages(); n += pieces {
		if err := ctx.Err(); err != nil {
			return err
		}
		read, err := f.ReadAt(buf, int64(n)*pack.PageSize)
		if err != nil && err != io.EOF {
			return err
		}
		for i := range min(pieces, o.pack.Pages()-n) {
			page := buf[min(read, i*pack.PageSize):min(read, (i+1)*pack.PageSize, o.pack.Paged()-n*pack.PageSize)]
			if !o.pack.CheckPage(n+i, page) {
				wrong = fmt.Errorf("damaged at octet %d", (n+i)*pack.PageSize)
			}
		}
	}
	return wrong
}
