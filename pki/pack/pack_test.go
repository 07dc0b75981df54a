package pack

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"sort"
	"testing"
	"time"

	"pgregory.net/rapid"

	"bulkhead"
	"bulkhead/pki/ocsp"
)

func issuerOf(n byte) ocsp.Issuer {
	i, err := ocsp.NewIssuer([]byte{0x30, 0x03, 0x13, 0x01, n}, []byte("\x30\x10\x30\x08\x06\x06\x2b\x81\x04\x00\x01\x01\x03\x04\x00key"))
	if err != nil {
		panic(err)
	}
	return i
}

var start = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func serialOf(t testing.TB, p []byte) bulkhead.Serial {
	t.Helper()
	s, err := bulkhead.SerialFromBytes(p)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func entryFor(s bulkhead.Serial, round int) Entry {
	return Entry{Serial: s, TBS: fmt.Appendf(nil, "tbs %s %d", s, round), Signature: fmt.Appendf(nil, "sig %d", round),
		ThisUpdate: start.Add(time.Duration(round) * time.Hour), NextUpdate: start.Add(time.Duration(round+24) * time.Hour), Revoked: round%2 == 1}
}

// found looks up where nothing is damaged.
func found(t testing.TB, p *Pack, serial *[20]byte, hash ocsp.HashAlgorithm, f *Found) bool {
	t.Helper()
	ok, err := p.FindHash(serial, hash, f)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func build(t testing.TB, issuer ocsp.Issuer, responder []byte, entries ...Entry) *Pack {
	t.Helper()
	p, err := Open(buildBytes(t, issuer, responder, entries...))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func buildBytes(t testing.TB, issuer ocsp.Issuer, responder []byte, entries ...Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, issuer)
	if err != nil {
		t.Fatal(err)
	}
	r, err := w.AddResponder(responder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		e.Responder = r
		if err := w.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	ref, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if ref.Digest != bulkhead.Digest(b.Bytes()) || ref.Size != int64(b.Len()) {
		t.Fatalf("Finish says %v, the object is %d octets with digest %v", ref, b.Len(), bulkhead.Digest(b.Bytes()))
	}
	return b.Bytes()
}

// TestFindEverything draws serials of several shapes (random, clustered, sequential, of mixed lengths) and looks up
// each, and as many that are not there.
func TestFindEverything(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		shape := rapid.IntRange(0, 3).Draw(rt, "shape")
		n := rapid.IntRange(0, 300).Draw(rt, "n")
		seed := rapid.Uint64().Draw(rt, "seed")
		rng := rand.New(rand.NewPCG(seed, 1))
		draw := func() [20]byte {
			var k [20]byte
			for i := range k {
				k[i] = byte(rng.Uint32())
			}
			switch shape {
			case 1: // common prefix, few values
				copy(k[:17], "\x00\x00\x00\x00prefix-in-common")
			case 2: // sequential
				k = [20]byte{}
				binary.BigEndian.PutUint64(k[12:], 1+rng.Uint64N(1000))
			case 3: // mixed lengths
				clear(k[:rng.IntN(19)])
				k[19] |= 1
			}
			return k
		}
		set := map[[20]byte]bool{}
		for range n {
			set[draw()] = true
		}
		delete(set, [20]byte{})
		var entries []Entry
		for k := range set {
			entries = append(entries, entryFor(serialOf(t, k[:]), 0))
		}
		sort.Slice(entries, func(i, j int) bool { return entries[i].Serial.Compare(entries[j].Serial) < 0 })
		p := build(t, issuerOf(1), []byte("certificate"), entries...)
		if err := p.Verify(); err != nil {
			rt.Fatal(err)
		}
		var f Found
		for _, e := range entries {
			k := e.Serial.Fixed()
			if !found(t, p, &k, ocsp.SHA1, &f) || !bytes.Equal(f.TBS, e.TBS) || !bytes.Equal(f.Signature, e.Signature) || string(f.Responder) != "certificate" {
				rt.Fatalf("serial %s not found, or another answer", e.Serial)
			}
		}
		for range 300 {
			if k := draw(); found(t, p, &k, ocsp.SHA1, &f) != set[k] {
				rt.Fatalf("serial %x: found %v", k, !set[k])
			}
		}
	})
}

// TestFindInLargePack: lookups with the directory of Check and without it agree, for spread and for crowded serials.
func TestFindInLargePack(t *testing.T) {
	const n = 20_000
	for name, draw := range map[string]func(*rand.Rand, int) [20]byte{
		"spread":     func(r *rand.Rand, _ int) (k [20]byte) { binary.BigEndian.PutUint64(k[2:], r.Uint64()); return k },
		"sequential": func(_ *rand.Rand, i int) (k [20]byte) { binary.BigEndian.PutUint64(k[12:], uint64(2*i)+2); return k },
		"crowded": func(r *rand.Rand, i int) (k [20]byte) {
			binary.BigEndian.PutUint32(k[16:], r.Uint32()|1)
			if i%1000 == 0 {
				k[0] = byte(i / 1000)
			}
			return k
		},
		"top of the range": func(r *rand.Rand, _ int) (k [20]byte) {
			for i := range k {
				k[i] = 0xff
			}
			binary.BigEndian.PutUint32(k[8:], r.Uint32())
			return k
		},
	} {
		rng := rand.New(rand.NewPCG(5, 6))
		set := map[[20]byte]bool{}
		for i := range n {
			set[draw(rng, i)] = true
		}
		var entries []Entry
		for k := range set {
			if k != ([20]byte{}) {
				entries = append(entries, entryFor(serialOf(t, k[:]), 0))
			}
		}
		sort.Slice(entries, func(i, j int) bool { return entries[i].Serial.Compare(entries[j].Serial) < 0 })
		p := build(t, issuerOf(1), nil, entries...)
		for range 2 {
			for i, e := range entries {
				var f Found
				k := e.Serial.Fixed()
				if !found(t, p, &k, ocsp.SHA1, &f) || !bytes.Equal(f.TBS, e.TBS) {
					t.Fatalf("%s: serial %s (%d) not found, directory %d", name, e.Serial, i, len(p.directory.ends))
				}
				k[19]++
				if found(t, p, &k, ocsp.SHA1, &f) != set[k] {
					t.Fatalf("%s: serial %x: found %v, directory %d", name, k, !set[k], len(p.directory.ends))
				}
			}
			if err := p.Check(); err != nil { // the second round has the directory
				t.Fatal(err)
			}
		}
		if len(p.directory.ends) == 0 || len(p.directory.ends) > n/8+2 {
			t.Errorf("%s: directory of %d", name, len(p.directory.ends))
		}
	}
}

func TestEntryKeepsItsParts(t *testing.T) {
	e := entryFor(serialOf(t, []byte{7}), 1)
	p := build(t, issuerOf(1), []byte("cert"), e)
	var f Found
	k := e.Serial.Fixed()
	if !found(t, p, &k, ocsp.SHA1, &f) {
		t.Fatal("not found")
	}
	sum := sha256.Sum256(ocsp.Assemble(e.TBS, e.Signature, []byte("cert")))
	if f.ETag != [16]byte(sum[:16]) {
		t.Error("ETag is not the digest of the assembled answer")
	}
	if f.ThisUpdate != e.ThisUpdate.Unix() || f.NextUpdate != e.NextUpdate.Unix() || !f.Revoked {
		t.Errorf("found %+v", f)
	}
	early, late := p.Window()
	if !early.Equal(e.NextUpdate) || !late.Equal(e.NextUpdate) || p.Issuer() != IdentityOf(issuerOf(1)) || p.Len() != 1 {
		t.Error("pack does not describe itself")
	}
	if n := testing.AllocsPerRun(100, func() { p.Find(&k, &f) }); n != 0 {
		t.Errorf("Find allocates %v times", n)
	}
}

func TestWriterRefuses(t *testing.T) {
	s1, s2 := serialOf(t, []byte{1}), serialOf(t, []byte{2})
	plain := entryFor(s1, 0)
	edit := func(f func(*Entry)) Entry { e := plain; f(&e); return e }
	for name, entries := range map[string][]Entry{
		"twice":             {plain, plain},
		"descending":        {entryFor(s2, 0), plain},
		"no serial":         {edit(func(e *Entry) { e.Serial = bulkhead.Serial{} })},
		"unknown responder": {edit(func(e *Entry) { e.Responder = 1 })},
		"empty answer":      {edit(func(e *Entry) { e.TBS = nil })},
		"no signature":      {edit(func(e *Entry) { e.Signature = nil })},
		"oversized":         {edit(func(e *Entry) { e.TBS = make([]byte, MaxPart+1) })},
		"half an extra":     {edit(func(e *Entry) { e.TBS256 = []byte("x") })},
		"window":            {edit(func(e *Entry) { e.NextUpdate = e.ThisUpdate })},
	} {
		var b bytes.Buffer
		w, err := NewWriter(&b, issuerOf(1))
		if err != nil {
			t.Fatal(err)
		}
		w.AddResponder(nil)
		for i, e := range entries {
			if err = w.Add(e); err != nil && i < len(entries)-1 {
				t.Fatalf("%s: refused too early: %v", name, err)
			}
		}
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := NewWriter(&bytes.Buffer{}, ocsp.Issuer{}); err == nil {
		t.Error("a writer without an issuer was made")
	}
}

// TestMerge: the newest pack that knows a serial speaks for it, skipped serials go, other answers and ETags are as
// they were.
func TestMerge(t *testing.T) {
	serial := func(n byte) bulkhead.Serial { return serialOf(t, []byte{n}) }
	base := build(t, issuerOf(1), []byte("old delegate"), entryFor(serial(1), 0), entryFor(serial(2), 0), entryFor(serial(3), 0), entryFor(serial(9), 0))
	mid := build(t, issuerOf(1), []byte("new delegate"), entryFor(serial(2), 1), entryFor(serial(4), 2))
	top := build(t, issuerOf(1), []byte("new delegate"), entryFor(serial(2), 3))

	var b bytes.Buffer
	w, err := NewWriter(&b, issuerOf(1))
	if err != nil {
		t.Fatal(err)
	}
	skip := func(k *[20]byte) bool { return k[19] == 9 }
	if err := Merge(w, skip, top, mid, base); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	m, err := Open(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Verify(); err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := m.Each(func(e Entry) error {
		got = append(got, string(e.TBS)+" by "+string(m.Responders()[e.Responder]))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	want := []string{"tbs 1 0 by old delegate", "tbs 2 3 by new delegate", "tbs 3 0 by old delegate", "tbs 4 2 by new delegate"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("merged %q, want %q", got, want)
	}
	var before, after Found
	for _, x := range []struct {
		p *Pack
		n byte
	}{{base, 1}, {top, 2}, {mid, 4}} {
		k := serial(x.n).Fixed()
		if !found(t, x.p, &k, ocsp.SHA1, &before) || !found(t, m, &k, ocsp.SHA1, &after) || before.ETag != after.ETag {
			t.Errorf("serial %d: ETag changed in the merge", x.n)
		}
	}
	if err := Merge(w, nil, build(t, issuerOf(2), nil)); err == nil {
		t.Error("packs of two issuers were merged")
	}
}

func TestVerifySeesEveryFlippedBit(t *testing.T) {
	b := buildBytes(t, issuerOf(1), []byte("cert"), entryFor(serialOf(t, []byte{1}), 0), entryFor(serialOf(t, []byte{2}), 1))
	for i := range b {
		b[i] ^= 1
		if p, err := Open(b); err == nil && p.Verify() == nil {
			t.Fatalf("a flip at %d goes unseen", i)
		}
		b[i] ^= 1
	}
	if p, err := Open(b); err != nil || p.Verify() != nil {
		t.Fatal("the pack without a flip is refused")
	}
}

// TestTwoAnswers: a SHA-256 CertID gets the second answer where there is one, and keeps it through a merge.
func TestTwoAnswers(t *testing.T) {
	two := entryFor(serialOf(t, []byte{1}), 0)
	two.TBS256, two.Signature256 = []byte("tbs for SHA-256"), []byte("another signature")
	one := entryFor(serialOf(t, []byte{2}), 1)
	p := build(t, issuerOf(1), []byte("cert"), two, one)
	var b bytes.Buffer
	w, err := NewWriter(&b, issuerOf(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := Merge(w, nil, p); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	merged, err := Open(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*Pack{p, merged} {
		if err := p.Verify(); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			e    Entry
			hash ocsp.HashAlgorithm
			tbs  []byte
			sig  []byte
		}{{two, ocsp.SHA1, two.TBS, two.Signature}, {two, ocsp.SHA256, two.TBS256, two.Signature256}, {one, ocsp.SHA1, one.TBS, one.Signature}, {one, ocsp.SHA256, one.TBS, one.Signature}} {
			var f Found
			k := c.e.Serial.Fixed()
			sum := sha256.Sum256(ocsp.Assemble(c.tbs, c.sig, []byte("cert")))
			if !found(t, p, &k, c.hash, &f) || !bytes.Equal(f.TBS, c.tbs) || !bytes.Equal(f.Signature, c.sig) || f.ETag != [16]byte(sum[:16]) {
				t.Errorf("serial %s hash %d: %s", c.e.Serial, c.hash, f.TBS)
			}
		}
	}
}

func TestEmptyPack(t *testing.T) {
	p := build(t, issuerOf(1), nil)
	var f Found
	k := [20]byte{19: 1}
	if p.Verify() != nil || p.Len() != 0 || found(t, p, &k, ocsp.SHA1, &f) {
		t.Error("an empty pack is not empty")
	}
	if early, late := p.Window(); !early.IsZero() || !late.IsZero() {
		t.Error("an empty pack has a window")
	}
}

func FuzzOpen(f *testing.F) {
	good := buildBytes(f, issuerOf(1), []byte("cert"), entryFor(serialOf(f, []byte{1}), 0), entryFor(serialOf(f, []byte{2, 3}), 1))
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(buildBytes(f, issuerOf(1), nil))
	two := entryFor(serialOf(f, []byte{1}), 0)
	two.TBS256, two.Signature256 = []byte("tbs for SHA-256"), []byte("another signature")
	f.Add(buildBytes(f, issuerOf(1), nil, two))
	f.Add([]byte(magic))
	if old, err := os.ReadFile("testdata/v1.pack"); err == nil {
		f.Add(old)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzzPack(t, b)
		if reseal(b) {
			fuzzPack(t, b)
		}
	})
}

// reseal gives a damaged pack the digests of what it holds now, as somebody would who may sign heads.
func reseal(b []byte) bool {
	if len(b) < headerSize+trailerSize || string(b[:len(magic)]) != magic {
		return false
	}
	at := u64(b[len(b)-trailerSize+16:])
	if at > uint64(len(b)-trailerSize) || (at+PageSize-1)/PageSize*sha256.Size > uint64(len(b)-trailerSize)-at {
		return false
	}
	for n := 0; n*PageSize < int(at); n++ {
		sum := sha256.Sum256(b[n*PageSize : min((n+1)*PageSize, int(at))])
		copy(b[int(at)+n*sha256.Size:], sum[:])
	}
	sum := sha256.Sum256(b[at : len(b)-sha256.Size])
	copy(b[len(b)-sha256.Size:], sum[:])
	return true
}

func fuzzPack(t *testing.T, b []byte) {
	p, err := Open(b)
	if err != nil {
		return
	}
	var x Found
	_, _ = p.Find(&p.first, &x)
	_, _ = p.FindHash(&[20]byte{19: 1}, ocsp.SHA256, &x)
	valid := p.Verify() == nil
	n := 0
	err = p.Each(func(e Entry) error { n++; return nil })
	if valid && (err != nil || n != p.Len()) && p.first != ([20]byte{}) {
		t.Fatalf("a verified pack of %d entries gave %d: %v", p.Len(), n, err)
	}
}

func BenchmarkFind(b *testing.B) {
	const n = 1 << 20
	rng := rand.New(rand.NewPCG(1, 2))
	keys := make([][20]byte, n)
	for i := range keys {
		binary.BigEndian.PutUint64(keys[i][4:], rng.Uint64()>>1)
		binary.BigEndian.PutUint64(keys[i][12:], rng.Uint64())
	}
	sorted := append([][20]byte(nil), keys...)
	sort.Slice(sorted, func(i, j int) bool { return bytes.Compare(sorted[i][:], sorted[j][:]) < 0 })
	var buf bytes.Buffer
	w, err := NewWriter(&buf, issuerOf(1))
	if err != nil {
		b.Fatal(err)
	}
	w.AddResponder(nil)
	tbs, sig := make([]byte, 200), make([]byte, 71)
	for _, k := range sorted {
		if err := w.add(&k, &raw{Found: Found{TBS: tbs, Signature: sig, ThisUpdate: 1, NextUpdate: 2}}); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := w.Finish(); err != nil {
		b.Fatal(err)
	}
	p, err := Open(buf.Bytes())
	if err != nil {
		b.Fatal(err)
	}
	find := func(b *testing.B) {
		var f Found
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if ok, _ := p.Find(&keys[i&(n-1)], &f); !ok {
				b.Fatal("not found")
			}
		}
	}
	b.Run("opened", find)
	if err := p.Check(); err != nil {
		b.Fatal(err)
	}
	b.Run("checked", find)
}
