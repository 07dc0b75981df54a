package run

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"bulkhead"
	"bulkhead/importer"
)

// maxExposed bounds the keys that a report names.
const maxExposed = 100

// ExposedKey is a key that the foreign authority revoked for keyCompromise and that a certificate of this house holds as well.
type ExposedKey struct {
	Key          bulkhead.Hash `json:"key"`
	Certificates int           `json:"certificates"` // in force, of authorities of this house
}

// restate takes what the authority says now of certificates that it held: a hold is the one revocation that may end (RFC 5280
// section 5.3.1). It ends by a complete CRL that is younger than the hold and does not list the certificate, or one that lists it
// for removal, and by nothing else; a hold that became another revocation, or began again, is taken as well.
func (im *intake) restate(ctx context.Context) error {
	var after bulkhead.Serial
	for {
		held, err := im.store.HeldCertificates(ctx, im.o.Authority, after, importBatch)
		if err != nil {
			return err
		}
		var items []bulkhead.Restated
		for _, st := range held {
			if x, ok := im.restated(st); ok {
				items = append(items, x)
			}
			after = st.Serial
		}
		if len(items) > 0 && !im.o.DryRun {
			if _, err := im.store.Restate(ctx, items); err != nil {
				return err
			}
		}
		for _, x := range items {
			if x.State == bulkhead.Issued {
				im.r.Released++
			} else {
				im.r.Restated++
			}
		}
		if len(held) < importBatch {
			return nil
		}
	}
}

// restated is what the input says of one certificate that is held here; ok is false when it says nothing new.
func (im *intake) restated(st bulkhead.Status) (x bulkhead.Restated, ok bool) {
	x = bulkhead.Restated{CertificateRef: st.CertificateRef, Leaf: bulkhead.Evidence{Kind: bulkhead.EvImportedRevocation, At: im.o.Now().UTC(), Actor: "role:import", Authority: im.o.Authority, Serial: st.Serial, Ref: im.id}}
	over := im.over[st.Serial]
	if r, listed := im.set.Revoked[st.Serial]; listed && over == nil {
		if r.Reason == bulkhead.CertificateHold && !r.At.After(st.RevokedAt) {
			return x, false
		}
		x.State, x.RevokedAt, x.Reason = bulkhead.Revoked, r.At, r.Reason
		x.Leaf.Detail = brief(fmt.Sprintf("it was held; now %s at %s, says %s", r.Reason, r.At.UTC().Format(time.RFC3339), r.Source))
		return x, true
	}
	list := im.set.Removed[st.Serial]
	if list == nil {
		list = over
	}
	if list == nil && im.set.Newest != nil && im.set.Newest.Complete() {
		list = im.set.Newest
	}
	if list == nil || !list.ThisUpdate.After(st.RevokedAt) || list.ThisUpdate.After(im.o.Now()) {
		return x, false
	}
	x.State = bulkhead.Issued
	x.Leaf.Kind, x.Leaf.Digest, x.Leaf.Count = bulkhead.EvImportedRelease, bulkhead.Digest(list.Raw), 1
	if list.Number != nil && list.Number.IsInt64() {
		x.Leaf.Count = list.Number.Int64()
	}
	x.Leaf.Detail = brief(fmt.Sprintf("held since %s; the CRL of %s in %s holds it no more", st.RevokedAt.UTC().Format(time.RFC3339), list.ThisUpdate.UTC().Format(time.RFC3339), list.File))
	return x, true
}

// note keeps the keys of what the authority revoked for keyCompromise.
func (im *intake) note(items []bulkhead.Imported) {
	for i := range items {
		if c := &items[i].Certificate; c.State == bulkhead.Revoked && c.Reason == bulkhead.KeyCompromise {
			im.compromised[c.KeyHash] = c.Serial
		}
	}
}

// block blocks those keys for ever, as `bulkhead compromise key` does: none of them is certified here again. What holds one here is
// named and not revoked: the word of another authority starts nothing by itself.
func (im *intake) block(ctx context.Context) error {
	if len(im.compromised) == 0 {
		return nil
	}
	all, err := im.store.Authorities(ctx)
	if err != nil {
		return err
	}
	ours := map[bulkhead.AuthorityID]bool{}
	for _, a := range all {
		ours[a.ID] = !a.Foreign()
		key := bulkhead.Digest(a.SPKI)
		if serial, told := im.compromised[key]; told {
			im.r.Problems = append(im.r.Problems, importer.Problem{File: im.o.CA, Line: 1, Reason: fmt.Sprintf("serial %s was revoked for keyCompromise and has the key of authority %s: it is not blocked by this; see doc/runbooks/stop.md", serial, a.ID)})
			delete(im.compromised, key)
		}
	}
	now := im.o.Now().UTC()
	keys := slices.SortedFunc(maps.Keys(im.compromised), func(a, b bulkhead.Hash) int { return slices.Compare(a[:], b[:]) })
	for part := range slices.Chunk(keys, importBatch) {
		fresh, err := im.blockPart(ctx, part, now)
		if err != nil {
			return err
		}
		im.r.Blocked += len(fresh)
		for _, key := range fresh {
			if len(im.r.Exposed) == maxExposed {
				break
			}
			holders, err := im.store.KeyHolders(ctx, key, now, importBatch)
			if err != nil {
				return err
			}
			x := ExposedKey{Key: key}
			for _, c := range holders {
				if ours[c.Issuer] {
					x.Certificates++
				}
			}
			if x.Certificates > 0 {
				im.r.Exposed = append(im.r.Exposed, x)
			}
		}
	}
	return nil
}

func (im *intake) blockPart(ctx context.Context, keys []bulkhead.Hash, now time.Time) ([]bulkhead.Hash, error) {
	if im.o.DryRun {
		have, err := im.store.BlockedKeys(ctx, keys...)
		known := map[bulkhead.Hash]bool{}
		for _, k := range have {
			known[k.KeyHash] = true
		}
		return slices.DeleteFunc(slices.Clone(keys), func(k bulkhead.Hash) bool { return known[k] }), err
	}
	blocks, ev := make([]bulkhead.BlockedKey, len(keys)), make([]bulkhead.Evidence, len(keys))
	for i, key := range keys {
		why := fmt.Sprintf("%s revoked serial %s for keyCompromise", im.o.Authority, im.compromised[key])
		blocks[i] = bulkhead.BlockedKey{KeyHash: key, BlockedAt: now, Reason: why, Actor: "role:import"}
		ev[i] = bulkhead.Evidence{Kind: bulkhead.EvKeyBlocked, At: now, Actor: "role:import", KeyHash: key, Ref: im.id, Detail: why}
	}
	return im.store.BlockKeys(ctx, blocks, ev)
}
