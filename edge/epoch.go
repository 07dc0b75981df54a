package edge

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/pki/ocsp"
	"bulkhead/pki/pack"
)

// epoch is everything that one head names, loaded and checked. It never changes; switching is one pointer. Whoever
// reads bytes found in it keeps it alive (runtime.KeepAlive) until done: mappings end with their last reader.
type epoch struct {
	head    *pack.Head
	signed  []byte
	issuers map[issuerKey]*issuer
	files   map[string]*file // by URL path
	objects map[bulkhead.Hash]*object
	list    []*issuer // as in the head
	vouched map[voucher]bool
}

// issuerKey is how a CertID names an issuer; hashes are right-padded to 32 octets.
type issuerKey struct {
	hash      ocsp.HashAlgorithm
	name, key [32]byte
}

type issuer struct {
	id    bulkhead.AuthorityID
	head  *pack.IssuerHead
	packs []*pack.Pack // newest first
	early time.Time    // earliest and latest nextUpdate of any answer; zero when there are none
	late  time.Time
}

// file is a CRL or a CA certificate with its headers.
type file struct {
	object     *object
	mediaType  []string
	etag       string
	etagValue  []string
	thisUpdate time.Time     // zero for certificates
	nextUpdate time.Time     // zero for certificates
	age        time.Duration // how long a cache may keep it, when nothing in it says
}

// find looks the newest pack up first: a delta speaks before the base that it corrects. Where a pack is damaged nothing is
// known, and no older one is asked. The error is pack.ErrDamaged.
func (i *issuer) find(serial *[bulkhead.MaxSerialOctets]byte, hash ocsp.HashAlgorithm, out *pack.Found) (bool, error) {
	for _, p := range i.packs {
		if ok, err := p.FindHash(serial, hash, out); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// load opens everything a head names, taking over what the epoch before holds already.
func (e *Edge) load(ctx context.Context, head *pack.Head, signed []byte) (*epoch, error) {
	ep := &epoch{head: head, signed: signed, issuers: map[issuerKey]*issuer{}, files: map[string]*file{}, objects: map[bulkhead.Hash]*object{}, vouched: map[voucher]bool{}}
	prev := e.current.Load()
	for n := range head.Issuers {
		h := &head.Issuers[n]
		i := &issuer{id: h.ID, head: h}
		for _, ref := range h.Packs {
			o, err := e.object(ctx, ep, prev, ref)
			if err != nil {
				return nil, err
			}
			if err := o.asPack(ref); err != nil {
				return nil, refused("object %s is not a sound pack", ref.Name).WithCause(err)
			}
			i.add(o.pack)
		}
		if err := e.checkResponders(ctx, ep, prev, i); err != nil {
			return nil, err
		}
		if err := ep.addIssuer(i); err != nil {
			return nil, err
		}
		if err := e.loadFiles(ctx, ep, prev, h); err != nil {
			return nil, err
		}
	}
	runtime.KeepAlive(prev)
	return ep, nil
}

func (i *issuer) add(p *pack.Pack) {
	i.packs = append(i.packs, p)
	early, late := p.Window()
	if early.IsZero() {
		return
	}
	if i.early.IsZero() || early.Before(i.early) {
		i.early = early
	}
	if late.After(i.late) {
		i.late = late
	}
}

// addIssuer makes the issuer known under both hashes. Its packs must agree on who it is, and nobody else may be it.
func (ep *epoch) addIssuer(i *issuer) error {
	ep.list = append(ep.list, i)
	if len(i.packs) == 0 {
		return nil
	}
	id := i.packs[0].Issuer()
	for _, p := range i.packs {
		if p.Issuer() != id {
			return refused("packs of issuer %s are of different issuers", i.id)
		}
	}
	short := issuerKey{hash: ocsp.SHA1}
	copy(short.name[:], id.NameSHA1[:])
	copy(short.key[:], id.KeySHA1[:])
	for _, k := range []issuerKey{short, {hash: ocsp.SHA256, name: id.NameSHA256, key: id.KeySHA256}} {
		if other := ep.issuers[k]; other != nil {
			return refused("issuers %s and %s have the same name and key", other.id, i.id)
		}
		ep.issuers[k] = i
	}
	return nil
}

var (
	typeCRL         = []string{"application/pkix-crl"}
	typeCertificate = []string{"application/pkix-cert"}
	typeJSON        = []string{"application/json"}
)

func (e *Edge) loadFiles(ctx context.Context, ep, prev *epoch, h *pack.IssuerHead) error {
	add := func(path string, ref pack.ObjectRef, mediaType []string, this, next time.Time) error {
		o, err := e.object(ctx, ep, prev, ref)
		if err != nil {
			return err
		}
		etag := strconv.Quote(ref.Digest.String()[:2*pack.ETagSize])
		ep.files[path] = &file{object: o, mediaType: mediaType, etag: etag, etagValue: []string{etag}, thisUpdate: this, nextUpdate: next, age: certificateAge}
		return nil
	}
	if !h.Certificate.IsZero() {
		if err := add(fmt.Sprintf("/ca/%s.cer", h.ID), h.Certificate, typeCertificate, time.Time{}, time.Time{}); err != nil {
			return err
		}
	}
	for _, c := range h.CRLs {
		if err := add(fmt.Sprintf("/crl/%s/%d.crl", h.ID, c.Shard), c.ObjectRef, typeCRL, c.ThisUpdate, c.NextUpdate); err != nil {
			return err
		}
	}
	if e.cfg.StatusURL != "" {
		ep.addURLs(h, strings.TrimRight(e.cfg.StatusURL, "/"))
	}
	return nil
}

// addURLs makes the list of an issuer's CRLs that root programmes ask for (CCADB, "JSON Array of Partitioned CRLs"): the
// URL of each, byte for byte as in certificates and in the CRL's issuing distribution point.
func (ep *epoch) addURLs(h *pack.IssuerHead, base string) {
	list := []byte("[")
	for n, c := range h.CRLs {
		if n > 0 {
			list = append(list, ',')
		}
		list = append(list, '\n', ' ', ' ')
		list = strconv.AppendQuote(list, fmt.Sprintf("%s/crl/%s/%d.crl", base, h.ID, c.Shard)) // a URL has nothing to escape
	}
	list = append(list, "\n]\n"...)
	etag := strconv.Quote(bulkhead.Digest(list).String()[:2*pack.ETagSize])
	ep.files[fmt.Sprintf("/crl/%s/urls.json", h.ID)] = &file{object: &object{data: list}, mediaType: typeJSON, etag: etag, etagValue: []string{etag}, age: urlsAge}
}

func refused(format string, args ...any) *bulkhead.Fault {
	return bulkhead.Faultf(bulkhead.KindConflict, format, args...).
		WithHint("publish a head above this one whose objects are whole; the edge goes on with the head it has")
}
