package crl

import (
	"bytes"
	"crypto/elliptic"
	"io"
	"runtime"
	"testing"

	"bulkhead"
)

func TestFileRefuses(t *testing.T) {
	p := newParty(t, ecKey(t, elliptic.P256()))
	good := encoded(t, sample(t)...)
	one := encoded(t, sample(t)[1])
	edit := func(b []byte, f func(b []byte) []byte) []byte { return f(bytes.Clone(b)) }
	set := func(at int, v byte) func(b []byte) []byte {
		return func(b []byte) []byte { b[at] = v; return b }
	}
	never := func(ToSign) ([]byte, error) {
		t.Error("it was signed")
		return nil, io.ErrUnexpectedEOF
	}
	for name, c := range map[string]struct {
		in   []byte
		kind bulkhead.Kind
	}{
		"cut short":         {good[:len(good)-1], bulkhead.KindMalformed},
		"header alone":      {append(bytes.Clone(good), 0x30), bulkhead.KindMalformed},
		"zeros":             {append(bytes.Clone(good), 0, 0), bulkhead.KindMalformed},
		"long length":       {edit(one, set(1, 0x81)), bulkhead.KindMalformed},
		"no integer":        {edit(one, set(2, 4)), bulkhead.KindMalformed},
		"negative":          {edit(one, set(4, 0x80)), bulkhead.KindMalformed},
		"twice":             {append(bytes.Clone(one), one...), bulkhead.KindConflict},
		"descending":        {append(bytes.Clone(one), good...), bulkhead.KindConflict},
		"zero":              {edit(one, set(4, 0)), bulkhead.KindConflict},
		"no date":           {edit(one, set(5, 4)), bulkhead.KindMalformed},
		"date of letters":   {edit(one, set(8, 'x')), bulkhead.KindMalformed},
		"date without zone": {edit(one, set(19, '0')), bulkhead.KindMalformed},
		"reason 6":          {edit(one, set(len(one)-1, 6)), bulkhead.KindBadRevocationReason},
		"reason 0":          {edit(one, set(len(one)-1, 0)), bulkhead.KindBadRevocationReason},
		"other extension":   {edit(one, set(len(one)-6, 0x1d)), bulkhead.KindMalformed},
	} {
		var out bytes.Buffer
		if _, err := WriteFile(&out, p.info(), bytes.NewReader(c.in), int64(len(c.in)), never); bulkhead.KindOf(err) != c.kind || out.Len() > 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	// After a good entry of the same day, too.
	two := encoded(t, numbered(2)...)
	for name, x := range map[string]struct {
		offset int
		b      byte
	}{"hour 2x": {6, '9'}, "minute": {8, '6'}, "second": {10, ':'}, "zone": {12, '0'}} {
		in := bytes.Clone(two)
		in[bytes.LastIndex(two, []byte{tagUTCTime, 13})+2+x.offset] = x.b
		if _, err := WriteFile(io.Discard, p.info(), bytes.NewReader(in), int64(len(in)), never); bulkhead.KindOf(err) != bulkhead.KindMalformed {
			t.Errorf("second of a day with a wrong %s: %v", name, err)
		}
	}
	if _, err := WriteFile(io.Discard, p.info(), bytes.NewReader(good), int64(len(good)+1), never); bulkhead.KindOf(err) != bulkhead.KindConflict {
		t.Errorf("shorter than said: %v", err)
	}
	changed := bytes.Clone(one)
	_, err := WriteFile(io.Discard, p.info(), bytes.NewReader(changed), int64(len(changed)), func(x ToSign) ([]byte, error) {
		changed[len(changed)-1] = byte(bulkhead.Superseded)
		return p.sign(x)
	})
	if bulkhead.KindOf(err) != bulkhead.KindConflict {
		t.Errorf("changed after it was signed: %v", err)
	}
}

// TestChecker: a date is read whole once a day, whatever the chunks, and every digit of a clock counts.
func TestChecker(t *testing.T) {
	in := encoded(t, numbered(3*86_400)...) // each a second before the last
	var c checker
	for len(in) > 0 {
		n, err := c.check(in[:min(len(in), chunkSize)], len(in) <= chunkSize)
		if err != nil {
			t.Fatal(err)
		}
		in = in[n:]
	}
	if c.count != 3*86_400 || c.reads != 4 {
		t.Errorf("%d entries, %d dates were read whole", c.count, c.reads)
	}
	p := []byte("7000000Z")
	for i := range 1_000_000 {
		for at, rest := 6, i; at > 0; at, rest = at-1, rest/10 {
			p[at] = byte('0' + rest%10)
		}
		if want := i/10_000 < 24 && i/100%100 < 60 && i%100 < 60; clock(p) != want {
			t.Fatalf("%s: %t", p, !want)
		}
	}
	for i := 1; i < 8; i++ {
		for x := range 256 {
			p := []byte("9000000Z")
			p[i] = byte(x)
			if want := x >= '0' && x <= int("9295959"[min(i, 6)]) && i < 7 || x == 'Z' && i == 7; clock(p) != want {
				t.Fatalf("%q: %t", p, !want)
			}
		}
	}
}

// TestFileMemory: what is allocated does not depend on the number of entries.
func TestFileMemory(t *testing.T) {
	p := newParty(t, ecKey(t, elliptic.P256()))
	measure := func(n int) uint64 {
		in := encoded(t, numbered(n)...)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := WriteFile(io.Discard, p.info(), bytes.NewReader(in), int64(len(in)), p.sign); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	if small, large := measure(10_000), measure(200_000); large > small+8<<10 || large > 256<<10 {
		t.Errorf("allocated %d octets for 10,000 entries, %d for 200,000", small, large)
	}
}

// FuzzEntryFile: whatever is accepted is a CRL that our parser reads, with as many entries.
func FuzzEntryFile(f *testing.F) {
	f.Add([]byte{})
	f.Add(encoded(f, sample(f)...))
	f.Add(encoded(f, numbered(3)...))
	p := newParty(f, ecKey(f, elliptic.P256()))
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		res, err := WriteFile(&out, p.info(), bytes.NewReader(in), int64(len(in)), p.sign)
		if err != nil {
			return
		}
		n := 0
		if _, err := Parse(out.Bytes(), func(Entry) error { n++; return nil }); err != nil || n != res.Entries {
			t.Errorf("%x: %d of %d entries, %v", in, n, res.Entries, err)
		}
	})
}
