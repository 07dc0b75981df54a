package acme

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"time"

	"bulkhead"
)

// nonceLife is how long a shared nonce is good.
const nonceLife = time.Hour

// SharedNonces lets several processes behind one address take each other's nonces. All have the same key and record.
type SharedNonces struct {
	Key []byte // 32 octets
	// Take reports whether id was not taken before, for at least life; enroll.Service.TakeOnce.
	Take func(ctx context.Context, id string, life time.Duration) (bool, error)
	Now  func() time.Time
}

// sharedNonces are the time of issue, sealed under the common key with a random IV; that each is used once is up to the
// record.
type sharedNonces struct {
	cfg  SharedNonces
	aead cipher.AEAD
	rand io.Reader
}

func newSharedNonces(cfg SharedNonces, rand io.Reader) (*sharedNonces, error) {
	if len(cfg.Key) != 32 || cfg.Take == nil || cfg.Now == nil {
		return nil, errors.New("acme: shared nonces need a key of 32 octets, Take and Now")
	}
	block, err := aes.NewCipher(cfg.Key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &sharedNonces{cfg: cfg, aead: aead, rand: rand}, nil
}

func (n *sharedNonces) issue() (string, error) {
	iv := make([]byte, n.aead.NonceSize(), 64)
	if _, err := io.ReadFull(n.rand, iv); err != nil {
		return "", err
	}
	at := binary.BigEndian.AppendUint64(nil, uint64(n.cfg.Now().UnixMilli()))
	return base64.RawURLEncoding.EncodeToString(n.aead.Seal(iv, iv, at, nil)), nil
}

func (n *sharedNonces) redeem(ctx context.Context, text string) error {
	p, err := strict.DecodeString(text)
	if err != nil || len(p) != n.aead.NonceSize()+8+n.aead.Overhead() {
		return badNonce()
	}
	plain, err := n.aead.Open(nil, p[:n.aead.NonceSize()], p[n.aead.NonceSize():], nil)
	if err != nil {
		return badNonce()
	}
	age := n.cfg.Now().Sub(time.UnixMilli(int64(binary.BigEndian.Uint64(plain))))
	if age > nonceLife || age < -time.Minute { // clocks of the processes may differ a little
		return badNonce()
	}
	fresh, err := n.cfg.Take(ctx, text, nonceLife+2*time.Minute)
	if err == nil && !fresh {
		return badNonce()
	}
	return err
}

func badNonce() error {
	return bulkhead.NewFault(bulkhead.KindBadNonce, "the nonce is not one of ours, is too old or was used").WithHint("retry with the nonce of this answer")
}
