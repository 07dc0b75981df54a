package acme

import (
	"sync"
	"sync/atomic"

	"bulkhead/pki/fixedkey"
)

const (
	// tablesMost bounds the tables: 64 of 264 KiB are 17 MiB.
	tablesMost = 64
	// tableAfter is how many signatures of a key crypto/ecdsa has to verify before the key gets a table, and again after it lost
	// it. A table costs as much as some 25 of them, so that keys which come and go cost a fifth more than without tables, and no more.
	tableAfter = 128
)

// keyTables are the keys that have a table. Tables are made one at a time, beside the requests; when all are taken, the one that was not used for
// longest goes. A table belongs to a key and to nothing else: whose key it is, and whether the account may ask for anything, every request
// reads from the record.
type keyTables struct {
	clock   atomic.Int64 // uses of tables
	short   atomic.Int64 // signatures that a table accepted
	library atomic.Int64 // signatures that crypto/ecdsa judged
	making  atomic.Bool
	made    sync.WaitGroup

	mu   sync.Mutex
	held []*accountKey
}

// earn counts a valid signature for a key without a table, and has one made when it has enough and nobody makes one just now.
func (t *keyTables) earn(k *accountKey) {
	if k.earned.Add(1) < tableAfter || !t.making.CompareAndSwap(false, true) {
		return
	}
	t.made.Go(func() {
		defer t.making.Store(false)
		t.give(k)
	})
}

// give makes the table of a key. Callers hold making.
func (t *keyTables) give(k *accountKey) {
	if k.table.Load() != nil {
		return // it was made after the signature was verified
	}
	k.earned.Store(0)
	made := fixedkey.NewKey(k.p256())
	if made == nil {
		return // all its signatures stay crypto/ecdsa's
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	k.used.Store(t.clock.Add(1))
	if len(t.held) < tablesMost {
		t.held = append(t.held, k)
	} else {
		longest := 0
		for n, h := range t.held {
			if h.used.Load() < t.held[longest].used.Load() {
				longest = n
			}
		}
		t.held[longest].table.Store(nil)
		t.held[longest] = k
	}
	k.table.Store(made)
}
