package pack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"sort"
	"testing"

	"bulkhead/pki/ocsp"
)

// spread are n entries with serials all over, in order.
func spread(t testing.TB, n int) (entries []Entry) {
	t.Helper()
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range n {
		var k [20]byte
		binary.BigEndian.PutUint64(k[4:], rng.Uint64()|1)
		e := entryFor(serialOf(t, k[:]), i%3)
		if i%7 == 0 {
			e.TBS256, e.Signature256 = []byte("tbs for SHA-256"), []byte("another signature")
		}
		entries = append(entries, e)
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Serial.Compare(entries[j].Serial) < 0 })
	return entries
}

// TestFlippedBitIsFoundBeforeItsAnswer flips a bit here and there in a pack that nobody reads as a whole: with the tail as it was, no
// lookup ever gives what was not written and none says that a serial is not there; the page is named; and without a flip all is found.
func TestFlippedBitIsFoundBeforeItsAnswer(t *testing.T) {
	entries := spread(t, 5000)
	b := buildBytes(t, issuerOf(1), []byte("cert"), entries...)
	clean, err := Open(b)
	if err != nil || clean.Pages() < 20 {
		t.Fatalf("%d pages: %v", clean.Pages(), err)
	}
	ask := func(p *Pack) (damaged int) {
		for _, e := range entries {
			for _, hash := range []ocsp.HashAlgorithm{ocsp.SHA1, ocsp.SHA256} {
				var f Found
				k := e.Serial.Fixed()
				ok, err := p.FindHash(&k, hash, &f)
				tbs, sig := e.TBS, e.Signature
				if hash == ocsp.SHA256 && e.TBS256 != nil {
					tbs, sig = e.TBS256, e.Signature256
				}
				switch {
				case errors.Is(err, ErrDamaged) && !ok:
					damaged++
				case err != nil || !ok:
					t.Fatalf("serial %s: %v %v", e.Serial, ok, err)
				case !bytes.Equal(f.TBS, tbs) || !bytes.Equal(f.Signature, sig) || string(f.Responder) != "cert" || f.NextUpdate != e.NextUpdate.Unix() || f.Revoked != e.Revoked:
					t.Fatalf("serial %s: another answer", e.Serial)
				}
			}
		}
		return damaged
	}
	if n := ask(clean); n != 0 {
		t.Fatalf("%d lookups in a sound pack found damage", n)
	}
	if _, damaged := clean.Damaged(); damaged {
		t.Error("a sound pack is called damaged")
	}
	for i := 0; i < len(b); i += 9973 {
		b[i] ^= 1
		p, err := Open(b)
		if i >= clean.size && err == nil {
			t.Errorf("a flip at %d, in the tail, is not seen when the pack is opened", i)
		}
		if err == nil {
			n := ask(p)
			at, damaged := p.Damaged()
			if n == 0 || !damaged || at/PageSize != int64(i/PageSize) {
				t.Errorf("a flip at %d: %d lookups found it, the pack says %d %v", i, n, at, damaged)
			}
			if p.Verify() == nil || p.CheckPage(i/PageSize, b[i/PageSize*PageSize:min((i/PageSize+1)*PageSize, p.size)]) {
				t.Errorf("a flip at %d goes unseen by Verify or CheckPage", i)
			}
			if err := p.Each(func(Entry) error { return nil }); err == nil {
				t.Errorf("a flip at %d goes unseen by Each", i)
			}
		}
		b[i] ^= 1
	}
}

// TestOpenReadsLittle: what Open hashes and reads does not grow with the answers but by the tail, two octets and a half for each at
// most.
func TestOpenReadsLittle(t *testing.T) {
	const n = 50_000
	b := buildBytes(t, issuerOf(1), []byte("cert"), spread(t, n)...)
	p, err := Open(b)
	if err != nil {
		t.Fatal(err)
	}
	read := len(b) - p.size + p.Verified()*PageSize
	if limit := n*5/2 + 3*PageSize; read > limit {
		t.Errorf("opening %d answers of %d octets reads %d octets, at most %d are allowed", n, len(b), read, limit)
	}
}

// TestVersion1: packs written before pages had digests are read, found in, verified and merged.
func TestVersion1(t *testing.T) {
	b, err := os.ReadFile("testdata/v1.pack")
	if err != nil {
		t.Fatal(err)
	}
	old, err := Open(b)
	if err != nil || old.Verify() != nil || old.Len() != 60 || old.Pages() != 0 || !old.Tail().IsZero() {
		t.Fatalf("version 1: %d entries, %v", old.Len(), err)
	}
	var buf bytes.Buffer
	w, err := NewWriter(&buf, issuerOf(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := Merge(w, nil, old); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	merged, err := Open(buf.Bytes())
	if err != nil || merged.Verify() != nil || merged.Len() != 60 {
		t.Fatal(err)
	}
	if err := old.Each(func(e Entry) error {
		for _, hash := range []ocsp.HashAlgorithm{ocsp.SHA1, ocsp.SHA256} {
			var x, y Found
			k := e.Serial.Fixed()
			if !found(t, old, &k, hash, &x) || !found(t, merged, &k, hash, &y) || x.ETag != y.ETag || !bytes.Equal(x.TBS, y.TBS) {
				t.Errorf("serial %s is not in both", e.Serial)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for i := range b {
		b[i] ^= 1
		if p, err := Open(b); err == nil && p.Verify() == nil {
			t.Fatalf("version 1: a flip at %d goes unseen", i)
		}
		b[i] ^= 1
	}
}
