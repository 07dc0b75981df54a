//lint:file-ignore SA1019 keys with tiny private numbers can be made in no other way

package keycheck

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"math/big"
	"testing"

	"bulkhead"
)

// TestSmallPrivate: keys with a private number that anybody can count to, and their negatives, are refused on every
// curve; the next number and a real key are not.
func TestSmallPrivate(t *testing.T) {
	all := Rules{P256: true, P384: true, P521: true}
	for _, c := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		n := c.Params().N
		for d, small := range map[int64]bool{1: true, 2: true, 3: true, 255: true, 4096: true, 40961: true, maxSmallScalar - 1: true, maxSmallScalar: true, maxSmallScalar + 1: false, 1 << 20: false} {
			for _, k := range []*big.Int{big.NewInt(d), new(big.Int).Sub(n, big.NewInt(d))} {
				x, y := c.ScalarBaseMult(k.Bytes())
				err := Check(&ecdsa.PublicKey{Curve: c, X: x, Y: y}, all)
				if small != (bulkhead.KindOf(err) == bulkhead.KindBadPublicKey) || !small && err != nil {
					t.Errorf("%s, private key %v: %v", c.Params().Name, k, err)
				}
			}
		}
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := Check(&k.PublicKey, all); err != nil {
			t.Errorf("%s: %v", c.Params().Name, err)
		}
	}
}
