package fixedkey

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"math/big"
	"testing"

	"filippo.io/nistec"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issuer is an Issuer of this key: a check of a signature reads nothing else of its certificate.
func issuer(key crypto.Signer) *Issuer {
	return New(&x509.Certificate{PublicKey: key.Public(), PublicKeyAlgorithm: x509.ECDSA})
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

// A signature is accepted exactly when the standard library accepts it, and a valid one by the table alone.
func TestAgrees(t *testing.T) {
	for range 8 {
		key := newKey(t, elliptic.P256())
		i := issuer(key)
		for n := range 50 {
			message := []byte{byte(n), 1, 2, 3}
			signature := sign(t, key, message)
			digest := sha256.Sum256(message)
			if !i.table().verify(digest[:], signature) {
				t.Fatalf("a valid signature %x by %x over %x is not accepted", signature, key.PublicKey, message)
			}
			if err := i.CheckSignature(x509.ECDSAWithSHA256, message, signature); err != nil {
				t.Fatal(err)
			}
			r, s, ok := parse(signature)
			if !ok {
				t.Fatalf("%x is not read", signature)
			}
			for what, bad := range map[string][]byte{
				"swapped": encode(s, r), "r+1": encode(new(big.Int).Add(r, big.NewInt(1)), s), "s+1": encode(r, new(big.Int).Add(s, big.NewInt(1))),
				"r+n": encode(new(big.Int).Add(r, order), s), "s+n": encode(r, new(big.Int).Add(s, order)), "-r": encode(new(big.Int).Neg(r), s),
				"-s": encode(r, new(big.Int).Neg(s)), "r=0": encode(big.NewInt(0), s), "s=0": encode(r, big.NewInt(0)), "r=n": encode(order, s),
				"s=n": encode(r, order), "longer": append(append([]byte(nil), signature...), 0), "empty": nil, "other message": sign(t, key, []byte("other")),
			} {
				if i.table().verify(digest[:], bad) {
					t.Fatalf("%s: accepted", what)
				}
				if i.CheckSignature(x509.ECDSAWithSHA256, message, bad) == nil {
					t.Fatalf("%s: accepted", what)
				}
			}
			if twin := encode(r, new(big.Int).Sub(order, s)); !i.table().verify(digest[:], twin) || !ecdsa.VerifyASN1(&key.PublicKey, digest[:], twin) {
				t.Fatal("the twin (r, n-s) of a signature is as valid") // ECDSA's malleability: not ours to refuse
			}
		}
	}
}

// The corners of the calculation: scalars of zero, sums at infinity, doublings, x beyond the order.
func TestCorners(t *testing.T) {
	key := newKey(t, elliptic.P256())
	tab := issuer(key).table()
	g, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), nistec.NewP256Point().SetGenerator().Bytes())
	if err != nil {
		t.Fatal(err)
	}
	one := New(&x509.Certificate{PublicKey: g}).table()
	both := func(what string, tab *table, pub *ecdsa.PublicKey, digest *big.Int, r, s *big.Int) {
		t.Helper()
		var d [32]byte
		digest.FillBytes(d[:])
		signature := encode(r, s)
		if got, want := tab.verify(d[:], signature), ecdsa.VerifyASN1(pub, d[:], signature); got != want {
			t.Errorf("%s: %v, the standard library says %v", what, got, want)
		}
	}
	x := func(p *nistec.P256Point, _ error) *big.Int {
		octets, err := p.BytesX()
		if err != nil {
			t.Fatal(err)
		}
		return new(big.Int).Mod(new(big.Int).SetBytes(octets), order)
	}
	scalar := func(n *big.Int) []byte { return n.FillBytes(make([]byte, 32)) }
	n1 := new(big.Int).Sub(order, big.NewInt(1))
	both("a digest of zero", tab, &key.PublicKey, new(big.Int), big.NewInt(5), big.NewInt(7))
	both("a digest of the order", tab, &key.PublicKey, order, big.NewInt(5), big.NewInt(7))
	both("a digest of ones", tab, &key.PublicKey, new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1)), big.NewInt(5), big.NewInt(7))
	both("the largest numbers", tab, &key.PublicKey, big.NewInt(1), n1, n1)
	// Q = G: u1*G + u2*Q with u1 = u2 is a doubling, with u1 = -u2 infinity.
	double := x(nistec.NewP256Point().ScalarBaseMult(scalar(big.NewInt(2))))
	both("a doubling", one, g, double, double, double)
	both("infinity", one, g, new(big.Int).Sub(order, big.NewInt(9)), big.NewInt(9), big.NewInt(1))
	// A digest of zero under Q = G: the sum is u2*Q alone, and r must be its x.
	alone := x(nistec.NewP256Point().ScalarBaseMult(scalar(big.NewInt(1))))
	both("Q alone", one, g, new(big.Int), alone, alone)
	if !one.verify(make([]byte, 32), encode(alone, alone)) {
		t.Error("Q alone is not accepted")
	}
	if !one.verify(scalar(double), encode(double, double)) {
		t.Error("a doubling is not accepted")
	}
}

// A table with one wrong multiple is never used.
func TestDisagrees(t *testing.T) {
	key := newKey(t, elliptic.P256())
	octets, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	q, err := nistec.NewP256Point().SetBytes(octets)
	if err != nil {
		t.Fatal(err)
	}
	tab := issuer(key).table()
	if !tab.agrees(q) {
		t.Fatal("a table as made does not agree")
	}
	scalar := sha256.Sum256(q.BytesCompressed())
	for w := range tab {
		v := scalar[windows-1-w]
		if v == 0 {
			continue
		}
		kept := tab[w][v]
		tab[w][v].Add(&tab[w][v], q)
		if tab.agrees(q) {
			t.Fatalf("a wrong multiple in row %d is not noticed", w)
		}
		tab[w][v] = kept
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
		if _, p256 := key.Public().(*ecdsa.PublicKey); (i.table() != nil) != (p256 && what == "P-256") {
			t.Errorf("%s: table %v", what, i.table() != nil)
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
				got, want := i.CheckSignature(algorithm, message, signature), cert.CheckSignature(algorithm, message, signature)
				if (got == nil) != (want == nil) || got != nil && got.Error() != want.Error() {
					t.Errorf("%s, signed as %v, checked as %v: %v, the standard library says %v", what, signedBy, algorithm, got, want)
				}
			}
		}
	}
}

// FuzzCheckSignature holds the table against the standard library for numbers and digests that nobody signed.
func FuzzCheckSignature(f *testing.F) {
	key := newKey(f, elliptic.P256())
	tab := issuer(key).table()
	digest := sha256.Sum256([]byte("message"))
	f.Add(digest[:], sign(f, key, []byte("message")))
	f.Add(make([]byte, 32), encode(big.NewInt(1), big.NewInt(1)))
	f.Add(digest[:], []byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, digest, signature []byte) {
		var d [32]byte
		copy(d[:], digest)
		if got, want := tab.verify(d[:], signature), ecdsa.VerifyASN1(&key.PublicKey, d[:], signature); got != want {
			t.Fatalf("%x over %x: %v, the standard library says %v", signature, d, got, want)
		}
		// Octets by chance are hardly ever a signature: hold one that is, over the same digest, beside them.
		valid, err := ecdsa.SignASN1(rand.Reader, key, d[:])
		if err != nil {
			t.Fatal(err)
		}
		if !tab.verify(d[:], valid) {
			t.Fatalf("valid %x over %x is not accepted", valid, d)
		}
	})
}

// BenchmarkCheck beside the standard library, in one run.
func BenchmarkCheck(b *testing.B) {
	key := newKey(b, elliptic.P256())
	message := []byte("message")
	signature := sign(b, key, message)
	i := issuer(key)
	if i.table() == nil {
		b.Fatal("no table")
	}
	for what, check := range map[string]func(x509.SignatureAlgorithm, []byte, []byte) error{"fixed": i.CheckSignature, "x509": i.cert.CheckSignature} {
		b.Run(what, func(b *testing.B) {
			for b.Loop() {
				if err := check(x509.ECDSAWithSHA256, message, signature); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
