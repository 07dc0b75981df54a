package acme

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/json"
	"math/big"
	"sync"
	"sync/atomic"

	"github.com/go-jose/go-jose/v4"

	"bulkhead/pki/fixedkey"
)

// keyMemo remembers what JSON web keys say, by their very text: reading one costs a check that its point is on the curve.
// It holds no decision and cannot be stale: which text is an account's key is read from the record by every request.
type keyMemo struct {
	tables keyTables

	mu         sync.RWMutex
	young, old map[string]*accountKey
}

// memoMost bounds the keys remembered; those that nobody used while half as many others were go first.
const memoMost = 4096

// read is the public key of a text.
func (m *keyMemo) read(text []byte) (*accountKey, error) {
	m.mu.RLock()
	key, young := m.young[string(text)]
	if !young {
		key = m.old[string(text)]
	}
	m.mu.RUnlock()
	if young {
		return key, nil
	}
	if key == nil {
		var k jose.JSONWebKey
		if err := json.Unmarshal(text, &k); err != nil {
			return nil, err
		}
		key = &accountKey{public: k.Key, tables: &m.tables}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if faster, young := m.young[string(text)]; young {
		return faster, nil
	}
	if m.young == nil || len(m.young) >= memoMost/2 {
		m.young, m.old = map[string]*accountKey{}, m.young
	}
	m.young[string(text)] = key
	return key, nil
}

// accountKey is a key with what was found out about it. One that has signed much has a table (decision 0062).
type accountKey struct {
	public crypto.PublicKey
	tables *keyTables // nil for a key that was never seen before
	table  atomic.Pointer[fixedkey.Key]
	earned atomic.Int32 // signatures that crypto/ecdsa has verified since the key had no table
	used   atomic.Int64 // its table, by the clock of the tables
}

// p256 is nil for another kind of key.
func (k *accountKey) p256() *ecdsa.PublicKey {
	if p, ok := k.public.(*ecdsa.PublicKey); ok && p.Curve == elliptic.P256() {
		return p
	}
	return nil
}

// signed reports whether signature, r and s of 32 octets each, is the P-256 key's over the digest. It says what crypto/ecdsa says: of a
// table only the yes counts.
func (k *accountKey) signed(public *ecdsa.PublicKey, digest *[32]byte, signature *[64]byte) bool {
	if k.accepts(digest, signature) {
		return true
	}
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	good := ecdsa.Verify(public, digest[:], r, s)
	if k.tables != nil {
		k.tables.library.Add(1)
		if good {
			k.tables.earn(k)
		}
	}
	return good
}

// accepts asks the table, if there is one.
func (k *accountKey) accepts(digest *[32]byte, signature *[64]byte) bool {
	t := k.table.Load()
	if t == nil {
		return false
	}
	k.used.Store(k.tables.clock.Add(1))
	if !t.Accepts(digest, signature) {
		return false
	}
	k.tables.short.Add(1)
	return true
}
