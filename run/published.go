package run

import (
	"context"
	"crypto/x509"
	"path/filepath"

	"golang.org/x/sys/unix"

	"bulkhead"
	"bulkhead/pki/pack"
	"bulkhead/publish"
	"bulkhead/watch/outside"
)

// publication opens what the house publishes, for those who look at it. Objects that are no local files are copied once, by digest,
// into the folder watch of the data directory.
type publication struct {
	h *House
	copies
}

func newPublication(h *House) publication { return publication{h, h.copiesOf(h.published)} }

// copiesOf are the objects of a source as files of this house.
func (h *House) copiesOf(source publish.Reader) copies {
	return copies{source: source, dir: filepath.Join(h.dir, "watch"), mu: &h.outside.mu}
}

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
