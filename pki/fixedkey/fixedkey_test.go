package fixedkey

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"testing"

	"filippo.io/nistec"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/sync/errgroup"
)

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// certificate is one with this key: a check of a signature reads nothing else of it.
func certificate(key crypto.Signer) *x509.Certificate {
	return &x509.Certificate{PublicKey: key.Public(), PublicKeyAlgorithm: x509.ECDSA}
}

func issuer(key crypto.Signer) *Issuer { return New(certificate(key)) }

// pairs are narrow and wide tables of a key.
func pairs(t testing.TB, key crypto.Signer) []*pair {
	t.Helper()
	q := pointOf(key)
	out := []*pair{pairOf(q, narrow, narrowBase), pairOf(q, wide, wideBase)}
	for _, p := range out {
		if p == nil {
			t.Fatal("no tables")
		}
	}
	return out
}

func pointOf(key crypto.Signer) *nistec.P256Point {
	public, _ := key.Public().(*ecdsa.PublicKey)
	return point(public)
}

// pledge is a digest with what may be a signature over it.
type pledge struct{ digest, signature []byte }

// alone and together are the ways to verify: the latter all at once.
func alone(p *pair, all []pledge) []bool {
	out := make([]bool, len(all))
	for n, x := range all {
		r, s, ok := parse(x.signature)
		out[n] = ok && p.verify((*[32]byte)(x.digest), r, s)
	}
	return out
}

func together(p *pair, all []pledge) []bool {
	out := make([]bool, len(all))
	var c check
	for n, x := range all {
		c.add(n, (*[32]byte)(x.digest), x.signature)
	}
	c.verify(p, func(n int) { out[n] = true })
	return out
}

func sign(t testing.TB, key *ecdsa.PrivateKey, message []byte) []byte {
	t.Helper()
	digest := sha256.Sum256(message)
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

// encode is the DER of a pair of numbers, whatever they are.
func encode(r, s *big.Int) []byte {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1BigInt(r); b.AddASN1BigInt(s) })
	return b.BytesOrPanic()
}

// wrong are signatures made from a valid one, and one over something else.
func wrong(t testing.TB, key *ecdsa.PrivateKey, signature []byte) map[string][]byte {
	t.Helper()
	rn, sn, ok := parse(signature)
	if !ok {
		t.Fatalf("%x is not read", signature)
	}
	r, s, n, plus := rn.integer(), sn.integer(), order.big, func(x, y *big.Int) *big.Int { return new(big.Int).Add(x, y) }
	return map[string][]byte{
		"swapped": encode(s, r), "r+1": encode(plus(r, big.NewInt(1)), s), "s+1": encode(r, plus(s, big.NewInt(1))), "r+n": encode(plus(r, n), s), "s+n": encode(r, plus(s, n)),
		"r+2^256": encode(plus(r, new(big.Int).Lsh(big.NewInt(1), 256)), s), "-r": encode(new(big.Int).Neg(r), s), "-s": encode(r, new(big.Int).Neg(s)), "r=0": encode(big.NewInt(0), s),
		"s=0": encode(r, big.NewInt(0)), "r=n": encode(n, s), "s=n": encode(r, n), "r=s": encode(s, s), "longer": append(bytes.Clone(signature), 0), "empty": nil,
		"other message": sign(t, key, []byte("other")),
	}
}

// A signature is accepted exactly when the standard library accepts it, and a valid one by tables alone: one by one, and in a
// group, where a wrong one spoils and hides no other.
func TestAgrees(t *testing.T) {
	for range 4 {
		key := newKey(t, elliptic.P256())
		tables := pairs(t, key)
		for n := range 10 {
			digest := sha256.Sum256([]byte{byte(n), 1, 2, 3})
			valid := sign(t, key, []byte{byte(n), 1, 2, 3})
			r, s, _ := parse(valid)
			twin := encode(r.integer(), new(big.Int).Sub(order.big, s.integer())) // ECDSA's malleability: not ours to refuse
			all, names := []pledge{{digest[:], valid}, {digest[:], twin}}, []string{"valid", "twin"}
			for what, bad := range wrong(t, key, valid) {
				all, names = append(all, pledge{digest[:], bad}, pledge{digest[:], valid}), append(names, what, "valid")
			}
			for _, p := range tables {
				for way, got := range map[string][]bool{"alone": alone(p, all), "together": together(p, all)} {
					for k, x := range all {
						want := names[k] == "valid" || names[k] == "twin"
						if std := ecdsa.VerifyASN1(&key.PublicKey, x.digest, x.signature); got[k] != want || std != want {
							t.Fatalf("%s, %s, width %d: %v, the standard library says %v of %x by %x over %x", names[k], way, p.q.width, got[k], std, x.signature, key.PublicKey, x.digest)
						}
					}
				}
			}
		}
	}
}

// Of a chunk of signatures that an issuer made, none is ever judged by the standard library, and of one with a wrong one only that.
func TestShortWay(t *testing.T) {
	key := newKey(t, elliptic.P256())
	i, slow := issuer(key), 0
	standard := i.standard
	i.standard = func(a x509.SignatureAlgorithm, signed, signature []byte) error {
		slow++
		return standard(a, signed, signature)
	}
	var all []Signed
	for n := range 1000 {
		message := []byte{byte(n), byte(n >> 8)}
		all = append(all, Signed{x509.ECDSAWithSHA256, message, sign(t, key, message)})
	}
	for round := range 6 { // the wide tables come on the way
		for from, size := 0, 1; from < len(all); from, size = from+size, size+7 {
			for n, err := range i.CheckAll(all[from:min(from+size, len(all))]) {
				if err != nil {
					t.Fatalf("%d, %d of %d: %v", round, n, size, err)
				}
			}
		}
	}
	if errs := i.CheckAll(all); len(errs) != len(all) || slow != 0 {
		t.Fatalf("%d answers, %d by the standard library", len(errs), slow)
	}
	if i.wide.Load() == nil {
		t.Fatal("no wide tables")
	}
	for bad := range 64 {
		part := slices.Clone(all[:64])
		part[bad].Signature = all[100].Signature
		slow = 0
		for n, err := range i.CheckAll(part) {
			want := standard(part[n].Algorithm, part[n].Signed, part[n].Signature)
			if (err != nil) != (n == bad) || fmt.Sprint(err) != fmt.Sprint(want) {
				t.Fatalf("%d is wrong: %d is %v, the standard library says %v", bad, n, err, want)
			}
		}
		if slow != 1 {
			t.Fatalf("%d are judged by the standard library", slow)
		}
	}
}

// An issuer serves many at once, while its tables are made as well.
func TestAtOnce(t *testing.T) {
	key := newKey(t, elliptic.P256())
	i := issuer(key)
	i.grouped.Store(wideAfter - 100)
	all := make([]Signed, 64)
	for n := range all {
		all[n] = Signed{x509.ECDSAWithSHA256, []byte{byte(n)}, sign(t, key, []byte{byte(n)})}
	}
	all[33].Signature = all[34].Signature
	var g errgroup.Group
	for range 8 {
		g.Go(func() error {
			for range 4 {
				for n, err := range i.CheckAll(all) {
					if (err != nil) != (n == 33) {
						return fmt.Errorf("%d: %v", n, err)
					}
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil || i.wide.Load() == nil {
		t.Fatal(err, i.wide.Load() != nil)
	}
}

// The corners of the calculation: scalars of zero, sums at infinity, doublings, x beyond the order. What the short way leaves to the
// standard library is no wrong no; a yes must be its yes.
func TestCorners(t *testing.T) {
	key := newKey(t, elliptic.P256())
	g, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), nistec.NewP256Point().SetGenerator().Bytes())
	if err != nil {
		t.Fatal(err)
	}
	filler := pledge{make([]byte, 32), nil}
	both := func(what string, tables []*pair, pub *ecdsa.PublicKey, digest *big.Int, r, s *big.Int, wantYes bool) {
		t.Helper()
		x := pledge{digest.FillBytes(make([]byte, 32)), encode(r, s)}
		want := ecdsa.VerifyASN1(pub, x.digest, x.signature)
		for _, p := range tables {
			for way, got := range map[string]bool{"alone": alone(p, []pledge{x})[0], "together": together(p, []pledge{filler, x, filler})[1]} {
				if got && !want || wantYes && !got {
					t.Errorf("%s, %s, width %d: %v, the standard library says %v", what, way, p.q.width, got, want)
				}
			}
		}
		if wantYes && !want {
			t.Errorf("%s: the standard library says no", what)
		}
	}
	x := func(k int64) *big.Int {
		p, err := nistec.NewP256Point().ScalarBaseMult(big.NewInt(k).FillBytes(make([]byte, 32)))
		if err != nil {
			t.Fatal(err)
		}
		octets, err := p.BytesX()
		if err != nil {
			t.Fatal(err)
		}
		return new(big.Int).Mod(new(big.Int).SetBytes(octets), order.big)
	}
	random, ones := pairs(t, key), pairs(t, gKey{g})
	n := order.big
	n1 := new(big.Int).Sub(n, big.NewInt(1))
	five, seven := big.NewInt(5), big.NewInt(7)
	both("a digest of zero", random, &key.PublicKey, new(big.Int), five, seven, false)
	both("a digest of the order", random, &key.PublicKey, n, five, seven, false)
	both("a digest of ones", random, &key.PublicKey, new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1)), five, seven, false)
	both("the largest numbers", random, &key.PublicKey, big.NewInt(1), n1, n1, false)
	// Q = G: u1*G + u2*Q with u1 = u2 is a doubling, with u1 = -u2 infinity.
	both("a doubling", ones, g, x(2), x(2), x(2), false)
	both("infinity", ones, g, new(big.Int).Sub(n, big.NewInt(9)), big.NewInt(9), big.NewInt(1), false)
	// A digest of zero under Q = G: the sum is u2*Q alone, and r must be its x; one of the order is the same.
	both("Q alone", ones, g, new(big.Int), x(1), x(1), true)
	both("Q alone, a digest of the order", ones, g, n, x(1), x(1), true)
	// r = x*s/k and u1 = 0 give k*Q for each k: carries in each digit, and many a digit that is absent.
	for _, k := range []int64{1, 2, 127, 128, 129, 255, 256, 257, 2047, 2048, 2049, 4095, 4096, 4097, 1 << 40, 1<<62 - 1} {
		r := x(k)
		s := new(big.Int).ModInverse(big.NewInt(k), n)
		s.Mul(s, r).Mod(s, n)
		both("a multiple of Q", ones, g, new(big.Int), r, s, true)
	}
}

// gKey is a key of which only the public half is known.
type gKey struct{ public *ecdsa.PublicKey }

func (k gKey) Public() crypto.PublicKey { return k.public }

func (k gKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("no key")
}

// A sum whose x is the order or more: the point is made first, and then the key for which a signature leads to it.
func TestBeyondTheOrder(t *testing.T) {
	p := prime.big
	found := 0
	for x := new(big.Int).Add(order.big, big.NewInt(1)); found < 3; x.Add(x, big.NewInt(1)) {
		octets := append([]byte{2}, x.FillBytes(make([]byte, 32))...)
		sum, err := nistec.NewP256Point().SetBytes(octets)
		if err != nil {
			continue // no point has this x
		}
		found++
		r := new(big.Int).Sub(x, order.big)
		if x.Cmp(p) >= 0 {
			t.Fatal("beyond the prime")
		}
		// s = 1: u1 = e and u2 = r, so Q = (sum - e*G)/r.
		digest := sha256.Sum256(octets)
		q, err := nistec.NewP256Point().ScalarBaseMult(new(big.Int).Sub(order.big, new(big.Int).Mod(new(big.Int).SetBytes(digest[:]), order.big)).FillBytes(make([]byte, 32)))
		if err != nil {
			t.Fatal(err)
		}
		q.Add(q, sum)
		if _, err := q.ScalarMult(q, new(big.Int).ModInverse(r, order.big).FillBytes(make([]byte, 32))); err != nil {
			t.Fatal(err)
		}
		key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), q.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		all := []pledge{{digest[:], encode(r, big.NewInt(1))}, {digest[:], encode(new(big.Int).Add(r, big.NewInt(1)), big.NewInt(1))}}
		if !ecdsa.VerifyASN1(key, all[0].digest, all[0].signature) {
			t.Fatal("the standard library does not accept it")
		}
		for _, p := range pairs(t, gKey{key}) {
			if got := together(p, all); !got[0] || got[1] {
				t.Errorf("width %d: %v", p.q.width, got)
			}
			if got := alone(p, all); got[1] {
				t.Errorf("width %d: %v", p.q.width, got)
			}
		}
		i := issuer(gKey{key})
		for _, err := range append(i.CheckAll(slices.Repeat([]Signed{{x509.ECDSAWithSHA256, octets, all[0].signature}}, fewest)), i.CheckSignature(x509.ECDSAWithSHA256, octets, all[0].signature)) {
			if err != nil {
				t.Error(err)
			}
		}
	}
}

// Every other key and algorithm is the standard library's, errors included.
func TestOthers(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("message")
	hashed := map[x509.SignatureAlgorithm][]byte{}
	d256, d384 := sha256.Sum256(message), sha512.Sum384(message)
	hashed[x509.ECDSAWithSHA256], hashed[x509.SHA256WithRSA], hashed[x509.ECDSAWithSHA384], hashed[x509.PureEd25519] = d256[:], d256[:], d384[:], message
	for what, key := range map[string]crypto.Signer{"P-256": newKey(t, elliptic.P256()), "P-384": newKey(t, elliptic.P384()), "RSA": rsaKey, "Ed25519": edKey} {
		cert := &x509.Certificate{PublicKey: key.Public()}
		i := New(cert)
		if (i.narrow() != nil) != (what == "P-256") {
			t.Errorf("%s: table %v", what, i.narrow() != nil)
		}
		for signedBy, digest := range hashed {
			hash := map[x509.SignatureAlgorithm]crypto.Hash{x509.ECDSAWithSHA384: crypto.SHA384, x509.PureEd25519: 0}
			h, set := hash[signedBy]
			if !set {
				h = crypto.SHA256
			}
			signature, err := key.Sign(rand.Reader, digest, h)
			if err != nil {
				continue // an Ed25519 key signs no digests
			}
			for _, algorithm := range []x509.SignatureAlgorithm{x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.SHA256WithRSA, x509.PureEd25519, x509.MD5WithRSA, 0, 99} {
				want := cert.CheckSignature(algorithm, message, signature)
				for _, got := range append(i.CheckAll(slices.Repeat([]Signed{{algorithm, message, signature}}, fewest)), i.CheckSignature(algorithm, message, signature)) {
					if (got == nil) != (want == nil) || got != nil && got.Error() != want.Error() {
						t.Errorf("%s, signed as %v, checked as %v: %v, the standard library says %v", what, signedBy, algorithm, got, want)
					}
				}
			}
		}
	}
}

// FuzzCheckSignature holds the short ways against the standard library for numbers and digests that nobody signed, beside valid
// signatures, which must be accepted.
func FuzzCheckSignature(f *testing.F) {
	key := newKey(f, elliptic.P256())
	tables := pairs(f, key)
	digest := sha256.Sum256([]byte("message"))
	f.Add(digest[:], sign(f, key, []byte("message")), uint8(3))
	f.Add(make([]byte, 32), encode(big.NewInt(1), big.NewInt(1)), uint8(0))
	f.Add(digest[:], []byte{0x30, 0x80}, uint8(7))
	f.Fuzz(func(t *testing.T, digest, signature []byte, at uint8) {
		var d [32]byte
		copy(d[:], digest)
		// Octets by chance are hardly ever a signature: hold one that is, over the same digest, beside them.
		valid, err := ecdsa.SignASN1(rand.Reader, key, d[:])
		if err != nil {
			t.Fatal(err)
		}
		all := slices.Repeat([]pledge{{d[:], valid}}, 8)
		all[at%8].signature = signature
		want := ecdsa.VerifyASN1(&key.PublicKey, d[:], signature)
		for _, p := range tables {
			for _, got := range [][]bool{alone(p, all), together(p, all)} {
				for n := range all {
					if w := want || n != int(at%8); got[n] != w {
						t.Fatalf("%x over %x: %v, the standard library says %v", all[n].signature, d, got[n], w)
					}
				}
			}
		}
	})
}
