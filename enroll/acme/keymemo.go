package acme

import (
	"crypto"
	"encoding/json"
	"sync"

	"github.com/go-jose/go-jose/v4"
)

// keyMemo remembers what JSON web keys say, by their very text: reading one costs a check that its point is on the curve.
// It holds no decision and cannot be stale: which text is an account's key is read from the record by every request.
type keyMemo struct {
	mu   sync.RWMutex
	keys map[string]crypto.PublicKey
}

// memoMost bounds the keys remembered; beyond it all are forgotten.
const memoMost = 4096

// read is the public key of a text.
func (m *keyMemo) read(text []byte) (crypto.PublicKey, error) {
	m.mu.RLock()
	key, known := m.keys[string(text)]
	m.mu.RUnlock()
	if known {
		return key, nil
	}
	var k jose.JSONWebKey
	if err := json.Unmarshal(text, &k); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keys == nil || len(m.keys) >= memoMost {
		m.keys = map[string]crypto.PublicKey{}
	}
	m.keys[string(text)] = k.Key
	return k.Key, nil
}
