package run

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
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
	"bulkhead/watch/outside"
)

// publication opens what the house publishes, for those who look at it. Objects that are no local files are copied once, by digest,
// into the folder watch of the data directory.
type publication struct {
	h  *House
	mu *sync.Mutex // guards the copies
}

func newPublication(h *House) publication { return publication{h, &h.outside.mu} }

// Open implements outside.Public.
func (o publication) Open(ctx context.Context) (_ *outside.View, err error) {
	if o.h.published == nil {
		return nil, bulkhead.NewFault(bulkhead.KindUnavailable, "this process has no way to what is published").WithHint("set objects in " + ConfigFile)
	}
	signed, err := o.h.published.Head(ctx)
	if err != nil {
		return nil, err
	}
	head, err := pack.OpenHead(signed, o.h.heads)
	if err != nil {
		return nil, bulkhead.NewFault(bulkhead.KindConflict, "the public head does not verify").WithHint("bulkhead fsck").WithCause(err)
	}
	var mapped [][]byte
	v := &outside.View{Head: head, Issuers: map[bulkhead.AuthorityID]*outside.Issuer{}, ReadCRL: func(ctx context.Context, ref pack.CRLRef) ([]byte, error) { return o.read(ctx, ref.ObjectRef) },
		Closer: func() {
			for _, data := range mapped {
				_ = unix.Munmap(data) // what was read stays read
			}
			mapped = nil
		}}
	defer func() {
		if err != nil {
			v.Close()
		}
	}()
	for i := range head.Issuers {
		ih := &head.Issuers[i]
		if ih.Certificate.IsZero() {
			continue
		}
		is, err := o.issuer(ctx, ih, &mapped)
		if err != nil {
			return nil, err
		}
		v.Issuers[ih.ID] = is
	}
	o.forget(head)
	return v, nil
}

// issuer opens what the head names for one issuer; what it maps is added to mapped.
func (o publication) issuer(ctx context.Context, ih *pack.IssuerHead, mapped *[][]byte) (*outside.Issuer, error) {
	der, err := o.read(ctx, ih.Certificate)
	if err != nil {
		return nil, err
	}
	is := &outside.Issuer{Head: ih}
	if is.Certificate, err = x509.ParseCertificate(der); err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindInternal, "the certificate of %s cannot be read", ih.ID).WithHint("bulkhead fsck").WithCause(err)
	}
	for _, ref := range ih.Packs {
		data, err := o.mapObject(ctx, ref)
		if err != nil {
			return nil, bulkhead.Faultf(bulkhead.KindUnavailable, "pack %s cannot be read", ref.Name).WithHint("bulkhead fsck").WithCause(err)
		}
		*mapped = append(*mapped, data)
		p, err := pack.Open(data)
		if err != nil {
			return nil, bulkhead.Faultf(bulkhead.KindInternal, "pack %s is damaged", ref.Name).WithHint("bulkhead fsck").WithCause(err)
		}
		is.Packs = append(is.Packs, p)
	}
	return is, nil
}

// file is where an object lies on this machine.
func (o publication) file(ctx context.Context, ref pack.ObjectRef) (string, error) {
	if local, ok := o.h.published.(interface {
		LocalPath(name string) (string, error)
	}); ok {
		return local.LocalPath(ref.Name)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	path := filepath.Join(o.copies(), ref.Digest.String())
	if info, err := os.Stat(path); err == nil && info.Size() == ref.Size {
		return path, nil
	}
	return path, o.copy(ctx, ref, path)
}

func (o publication) copies() string { return filepath.Join(o.h.dir, "watch") }

// copy brings an object here, whole and verified or not at all.
func (o publication) copy(ctx context.Context, ref pack.ObjectRef, path string) (err error) {
	body, size, err := o.h.published.Open(ctx, ref.Name)
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

// forget deletes copies that the head does not name any more.
func (o publication) forget(head *pack.Head) {
	o.mu.Lock()
	defer o.mu.Unlock()
	entries, err := os.ReadDir(o.copies())
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	named := map[string]bool{}
	for _, ih := range head.Issuers {
		named[ih.Certificate.Digest.String()] = true
		for _, p := range ih.Packs {
			named[p.Digest.String()] = true
		}
		for _, c := range ih.CRLs {
			named[c.Digest.String()] = true
		}
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && !named[e.Name()] && time.Since(info.ModTime()) > keepCopies {
			_ = os.Remove(filepath.Join(o.copies(), e.Name())) // tried again with the next head; a mapping outlives its file
		}
	}
}

// read reads an object whole and holds it against what the head says of it.
func (o publication) read(ctx context.Context, ref pack.ObjectRef) ([]byte, error) {
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
func (o publication) mapObject(ctx context.Context, ref pack.ObjectRef) ([]byte, error) {
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
