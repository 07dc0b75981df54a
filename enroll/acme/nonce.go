package acme

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

// nonceSource hands out nonces and takes each once.
type nonceSource interface {
	issue() (string, error)
	redeem(ctx context.Context, text string) error
}

// nonceWindow is how many nonces are good at once. Older ones fail as badNonce, which clients answer by retrying.
const nonceWindow = 1 << 20

// nonces hands out sequence numbers, encrypted so that they cannot be guessed, and remembers in a ring of bits which
// of the last nonceWindow were used: single use in constant memory. A restart makes all earlier nonces bad.
type nonces struct {
	aead cipher.AEAD
	rand io.Reader

	mu   sync.Mutex
	last uint64 // newest number handed out
	used []uint64
}

func newNonces(rand io.Reader) (*nonces, error) {
	key := make([]byte, 32)
	if _, err := io.ReadFull(rand, key); err != nil {
		return nil, fmt.Errorf("acme: nonce key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &nonces{aead: aead, rand: rand, used: make([]uint64, nonceWindow/64)}, nil
}

func (n *nonces) issue() (string, error) {
	n.mu.Lock()
	n.last++
	number := n.last
	n.used[number%nonceWindow/64] &^= 1 << (number % 64)
	n.mu.Unlock()
	iv := make([]byte, n.aead.NonceSize(), 64)
	// The number is unique under the process's key, so it makes a safe IV.
	binary.BigEndian.PutUint64(iv[4:], number)
	sealed := n.aead.Seal(nil, iv, nil, nil)
	return base64.RawURLEncoding.EncodeToString(append(iv[4:], sealed...)), nil
}

// redeem uses a nonce up, or fails with KindBadNonce.
func (n *nonces) redeem(_ context.Context, text string) error {
	p, err := strict.DecodeString(text)
	if err != nil || len(p) != 8+n.aead.Overhead() {
		return badNonce()
	}
	iv := make([]byte, n.aead.NonceSize())
	copy(iv[4:], p[:8])
	if _, err := n.aead.Open(nil, iv, p[8:], nil); err != nil {
		return badNonce()
	}
	number := binary.BigEndian.Uint64(p[:8])
	n.mu.Lock()
	defer n.mu.Unlock()
	word, bit := number%nonceWindow/64, uint64(1)<<(number%64)
	if number > n.last || number+nonceWindow <= n.last || n.used[word]&bit != 0 {
		return badNonce()
	}
	n.used[word] |= bit
	return nil
}
