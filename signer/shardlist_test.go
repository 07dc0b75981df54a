package signer_test

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/pki/crl"
	"bulkhead/signer"
)

// counted counts how the lists of shards are read.
type counted struct {
	signer.Store
	whole, since int
}

func (c *counted) Revoked(ctx context.Context, issuer bulkhead.AuthorityID, shard int, keepFrom time.Time) iter.Seq2[bulkhead.Status, error] {
	c.whole++
	return c.Store.Revoked(ctx, issuer, shard, keepFrom)
}

func (c *counted) MovedSince(ctx context.Context, issuer bulkhead.AuthorityID, shard int, head uint64, except string) iter.Seq2[bulkhead.Status, error] {
	c.since++
	return c.Store.MovedSince(ctx, issuer, shard, head, except)
}

// world is a record in which changes come and go while one signer keeps what its CRLs list.
type world struct {
	*house
	r      *rand.Rand
	reader *signer.Signer // keeps nothing
	store  *counted
	number int64
	rows   []bulkhead.CertificateRef
	shard  map[bulkhead.CertificateRef]int
	done   []bulkhead.Change // activated, with their items
	items  map[string][]bulkhead.ChangeItem
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{house: newHouse(t), r: rand.New(rand.NewPCG(seed, 1)), items: map[string][]bulkhead.ChangeItem{}, shard: map[bulkhead.CertificateRef]int{}}
	w.store = &counted{Store: w.house.store}
	w.signer = w.newSigner(func(c *signer.Config) { c.Store = w.store })
	signer.KeepLists(w.signer, 1)
	w.reader = w.newSigner()
	w.plant(30)
	return w
}

// plant adds issued certificates of two shards, which end within a day to a month.
func (w *world) plant(n int) {
	for range n {
		ref := bulkhead.CertificateRef{Issuer: ecdsaCA, Serial: w.serial()}
		if w.r.IntN(2) == 0 { // a serial with a sign octet, or a short one
			b := make([]byte, 1+w.r.IntN(20))
			for i := range b {
				b[i] = byte(w.r.Uint32())
			}
			b[0] |= 0x80
			b[len(b)-1] ^= byte(len(w.rows))
			serial, err := bulkhead.SerialFromBytes(b)
			ok(w.t, err)
			if ref.Serial = serial; slices.Contains(w.rows, ref) {
				continue
			}
		}
		w.shard[ref] = w.r.IntN(2)
		w.house.plant([]bulkhead.Certificate{{CertificateRef: ref, NotAfter: w.now().Add(time.Duration(1+w.r.IntN(30)) * dayTime), Shard: w.shard[ref]}})
		w.rows = append(w.rows, ref)
	}
}

// plan makes a change over some certificates, or one that takes an earlier one back.
func (w *world) plan() bulkhead.Change {
	c := bulkhead.Change{ID: fmt.Sprintf("change-%d", len(w.items)), State: bulkhead.ChangeStaged, Actor: "operator:a", CreatedAt: w.now()}
	var items []bulkhead.ChangeItem
	if n := len(w.done); n > 0 && w.r.IntN(4) == 0 {
		back := w.done[w.r.IntN(n)]
		c.Undoes = back.ID
		for _, it := range w.items[back.ID] {
			items = append(items, bulkhead.ChangeItem{CertificateRef: it.CertificateRef, Reason: it.Reason, RevokedAt: it.RevokedAt})
		}
	} else {
		reason := []bulkhead.Reason{bulkhead.Superseded, bulkhead.KeyCompromise, bulkhead.CessationOfOperation}[w.r.IntN(3)]
		for _, i := range w.r.Perm(len(w.rows))[:1+w.r.IntN(8)] {
			items = append(items, bulkhead.ChangeItem{CertificateRef: w.rows[i], Reason: reason, RevokedAt: w.now().UTC().Truncate(time.Second).Add(-time.Duration(w.r.IntN(100)) * time.Second)})
		}
	}
	ok(w.t, w.house.store.CreateChange(w.t.Context(), c, items))
	w.items[c.ID] = items
	return c
}

// activate makes a change public; one that takes back what has moved is refused, and nothing happens.
func (w *world) activate(c bulkhead.Change) {
	head, err := w.house.store.Head(w.t.Context())
	ok(w.t, err)
	c.ActivatedAt = w.now()
	err = w.house.store.Activate(w.t.Context(), c, bulkhead.HeadRecord{Sequence: head.Sequence + 1, Body: []byte("head"), At: w.now()}, nil)
	if c.Undoes != "" && bulkhead.KindOf(err) == bulkhead.KindConflict {
		return
	}
	ok(w.t, err)
	if c.Undoes == "" {
		w.done = append(w.done, c)
	}
}

// same holds the CRL of a signer that keeps lists against that of one that reads the record.
func (w *world) same(shard int, change, step string) {
	w.t.Helper()
	keeping := w.signer
	defer func() { w.signer = keeping }()
	var lists [2][]crl.Entry
	for i := range lists {
		if i == 1 {
			w.signer = w.reader
		}
		w.number++
		rec, der, err := w.crl(ecdsaCA, shard, w.number, change)
		ok(w.t, err)
		_, err = crl.Parse(der, func(e crl.Entry) error { lists[i] = append(lists[i], e); return nil })
		ok(w.t, err)
		if rec.Entries != len(lists[i]) || rec.Digest != bulkhead.Digest(der) {
			w.t.Fatalf("%s: the record says %d entries of %d", step, rec.Entries, len(lists[i]))
		}
	}
	if !slices.Equal(lists[0], lists[1]) {
		w.t.Fatalf("%s: shard %d, change %q: the kept list says\n%v, the record\n%v", step, shard, change, lists[0], lists[1])
	}
}

// TestKeptLists: whatever happens to a shard between its CRLs, what a signer keeps of the last one and brings up to date is what
// the record says.
func TestKeptLists(t *testing.T) {
	seeds := uint64(4)
	if s := os.Getenv("BULKHEAD_TORTURE"); s != "" {
		seeds = 500
	}
	whole, since := 0, 0
	for seed := range seeds {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			w := newWorld(t, seed)
			var open []bulkhead.Change // signed for, and neither activated nor refused
			for n := range 40 {
				step := fmt.Sprintf("seed %d, step %d", seed, n)
				switch w.r.IntN(8) {
				case 0:
					w.move(time.Duration(w.r.IntN(4*24)) * time.Hour)
				case 1:
					w.plant(3)
				case 2:
					w.same(w.r.IntN(2), "", step)
				case 3:
					w.activate(w.plan()) // somebody else's
				case 4:
					if len(open) > 0 { // given up, or for later
						open = open[1:]
					}
				default:
					c := w.plan()
					if len(open) > 0 && w.r.IntN(2) == 0 {
						c, open = open[0], open[1:]
					}
					for range 1 + w.r.IntN(2) {
						w.same(w.r.IntN(2), c.ID, step)
					}
					if w.r.IntN(4) == 0 {
						open = append(open, c)
						continue
					}
					w.activate(c)
				}
			}
			whole, since = whole+w.store.whole, since+w.store.since
		})
	}
	if since < whole/2 {
		t.Errorf("lists were read %d times and brought up to date %d times: the check does not see what it is for", whole, since)
	}
}

// TestListReads: for a change, a list that is kept is brought up to date; without one, it is read from the record.
func TestListReads(t *testing.T) {
	w := newWorld(t, 7)
	reads := func(change string, whole, since int) {
		t.Helper()
		before := *w.store
		w.same(0, change, change)
		if got := (counted{nil, w.store.whole - before.whole, w.store.since - before.since}); got.whole != whole || got.since != since {
			t.Errorf("change %q: %d readings of the record and %d of what moved, want %d and %d", change, got.whole, got.since, whole, since)
		}
	}
	every := func(id string, shards ...int) bulkhead.Change {
		c := bulkhead.Change{ID: id, State: bulkhead.ChangeStaged, Actor: "operator:a", CreatedAt: w.now()}
		var items []bulkhead.ChangeItem
		for _, ref := range w.rows {
			if len(shards) > 0 && !slices.Contains(shards, w.shard[ref]) {
				continue
			}
			items = append(items, bulkhead.ChangeItem{CertificateRef: ref, Reason: bulkhead.Superseded, RevokedAt: w.now().UTC().Truncate(time.Second)})
		}
		ok(t, w.house.store.CreateChange(t.Context(), c, items))
		return c
	}
	one := every("one")
	reads("one", 1, 0) // the first
	reads("one", 0, 0) // again, and nothing moved
	w.activate(one)
	two := every("two")
	reads("two", 0, 1) // the first became the record
	reads("", 1, 0)    // the turn of every shard
	reads("two", 0, 0) // on what the turn read
	reads(every("three").ID, 1, 0)
	w.activate(two)
	reads("three", 0, 1)
	w.move(10 * dayTime)
	reads(every("elsewhere", 1).ID, 1, 0) // the third was given up
	w.move(20 * dayTime)
	reads("elsewhere", 0, 1) // some are over
	reads("elsewhere", 0, 0)
	signer.KeepLists(w.signer, 1000)
	reads("elsewhere", 0, 0)
	reads("elsewhere", 1, 0) // a small list is not kept
}
