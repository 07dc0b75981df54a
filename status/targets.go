package status

import (
	"crypto/sha256"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"

	"bulkhead"
)

// targets are the certificates of a change, as the record has them and with what the change does to each, by issuer. They come
// in the order of issuers and serials.
type targets struct {
	lists map[bulkhead.AuthorityID]*bulkhead.AffectedList
	n     int
}

func (t *targets) add(row bulkhead.Certificate, it bulkhead.ChangeItem) {
	if t.lists == nil {
		t.lists = map[bulkhead.AuthorityID]*bulkhead.AffectedList{}
	}
	l := t.lists[it.Issuer]
	if l == nil {
		l = &bulkhead.AffectedList{Issuer: it.Issuer}
		t.lists[it.Issuer] = l
	}
	l.Append(bulkhead.AffectedStatus{Status: bulkhead.Status{CertificateRef: it.CertificateRef, State: row.State, RevokedAt: row.RevokedAt, Reason: row.Reason}, Item: it})
	t.n++
}

func (t *targets) has(ref bulkhead.CertificateRef) bool {
	l := t.lists[ref.Issuer]
	if l == nil {
		return false
	}
	_, is := l.Find(ref.Serial)
	return is
}

// sorted are the lists in the order of issuers.
func (t *targets) sorted() []*bulkhead.AffectedList {
	out := make([]*bulkhead.AffectedList, 0, len(t.lists))
	for _, id := range slices.Sorted(maps.Keys(t.lists)) {
		out = append(out, t.lists[id])
	}
	return out
}

// itemsOf goes through what lists do, in the order of issuers and serials.
func itemsOf(lists []*bulkhead.AffectedList) iter.Seq[bulkhead.ChangeItem] {
	lists = slices.SortedFunc(slices.Values(lists), func(a, b *bulkhead.AffectedList) int { return strings.Compare(string(a.Issuer), string(b.Issuer)) })
	return func(yield func(bulkhead.ChangeItem) bool) {
		for _, l := range lists {
			for a := range l.All() {
				if !yield(a.Item) {
					return
				}
			}
		}
	}
}

// itemsDigest is over what a change does to each certificate, in the order of issuers and serials, in which they have to come.
func itemsDigest(items iter.Seq[bulkhead.ChangeItem]) bulkhead.Hash {
	h := sha256.New()
	var line []byte
	for it := range items {
		at := int64(0)
		if !it.RevokedAt.IsZero() {
			at = it.RevokedAt.Unix()
		}
		line = append(append(line[:0], it.Issuer...), ' ')
		line = append(append(line, it.Serial.String()...), ' ')
		line = append(append(line, it.Reason.String()...), ' ')
		h.Write(append(strconv.AppendInt(line, at, 10), '\n'))
	}
	return bulkhead.Hash(h.Sum(nil))
}

// inOrderOfItems are items in the order of issuers and serials.
func inOrderOfItems(items []bulkhead.ChangeItem) iter.Seq[bulkhead.ChangeItem] {
	return slices.Values(slices.SortedFunc(slices.Values(items), func(a, b bulkhead.ChangeItem) int {
		if a.Issuer != b.Issuer {
			return strings.Compare(string(a.Issuer), string(b.Issuer))
		}
		return a.Serial.Compare(b.Serial)
	}))
}
