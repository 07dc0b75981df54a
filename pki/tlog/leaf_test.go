package tlog

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"bulkhead"
)

func serial(t testing.TB, text string) bulkhead.Serial {
	t.Helper()
	s, err := bulkhead.ParseSerial(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func full(t testing.TB) bulkhead.Evidence {
	return bulkhead.Evidence{
		Kind: bulkhead.EvCertificateOutcome, At: time.Date(2026, 3, 15, 10, 11, 12, 345e6, time.UTC), Actor: "role:signer",
		Authority: "ecdsa-1", Serial: serial(t, "03ab9c"), Ref: "order-1", KeyHash: bulkhead.Digest([]byte("key")),
		Signer: bulkhead.Digest([]byte("signer")), Digest: bulkhead.Digest([]byte("der")), Link: bulkhead.Digest([]byte("tbs")),
		Count: 7, Detail: "ö",
	}
}

// TestLayout pins the bytes: a change of them is a new version.
func TestLayout(t *testing.T) {
	leaf, err := Marshal(full(t))
	if err != nil {
		t.Fatal(err)
	}
	h := func(s string) string { return "20" + bulkhead.Digest([]byte(s)).String() }
	want := "01" + "0002" + "0000019cf0fa7759" + "0b" + hex.EncodeToString([]byte("role:signer")) +
		"07" + hex.EncodeToString([]byte("ecdsa-1")) + "0303ab9c" + "07" + hex.EncodeToString([]byte("order-1")) +
		h("key") + h("signer") + h("der") + h("tbs") + "0000000000000007" + "0002c3b6"
	if got := hex.EncodeToString(leaf); got != want {
		t.Fatalf("leaf\n got %s\nwant %s", got, want)
	}
	e, err := Parse(leaf)
	if err != nil || e != full(t) {
		t.Fatalf("Parse: %+v, %v", e, err)
	}
}

func TestMarshalRefuses(t *testing.T) {
	for name, change := range map[string]func(*bulkhead.Evidence){
		"no kind":         func(e *bulkhead.Evidence) { e.Kind = 0 },
		"before 1970":     func(e *bulkhead.Evidence) { e.At = time.Unix(0, -1) },
		"zero time":       func(e *bulkhead.Evidence) { e.At = time.Time{} },
		"after 9999":      func(e *bulkhead.Evidence) { e.At = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"long detail":     func(e *bulkhead.Evidence) { e.Detail = strings.Repeat("x", 4097) },
		"long actor":      func(e *bulkhead.Evidence) { e.Actor = strings.Repeat("x", 256) },
		"long ref":        func(e *bulkhead.Evidence) { e.Ref = strings.Repeat("x", 256) },
		"non-UTF-8":       func(e *bulkhead.Evidence) { e.Detail = "\xff" },
		"negative count":  func(e *bulkhead.Evidence) { e.Count = -1 },
		"authority bytes": func(e *bulkhead.Evidence) { e.Authority = "\xc3" },
	} {
		e := full(t)
		change(&e)
		if leaf, err := Marshal(e); err == nil {
			t.Errorf("%s: no error, leaf %x", name, leaf)
		}
	}
	e := full(t)
	e.Detail = strings.Repeat("x", MaxDetail)
	if _, err := Marshal(e); err != nil {
		t.Errorf("a detail of 4,096 bytes: %v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	leaf, err := Marshal(full(t))
	if err != nil {
		t.Fatal(err)
	}
	change := func(i int, b byte) []byte { p := bytes.Clone(leaf); p[i] = b; return p }
	key := bulkhead.Digest([]byte("key"))
	zeroDigest := bytes.Replace(leaf, key[:], make([]byte, 32), 1)
	for name, bad := range map[string][]byte{
		"empty": {}, "version": change(0, 2), "kind 0": change(2, 0), "trailing": append(bytes.Clone(leaf), 0),
		"short": leaf[:len(leaf)-1], "not UTF-8": change(len(leaf)-2, 'x'), "huge time": change(3, 0xff),
		"serial with leading zero": bytes.Replace(leaf, []byte{3, 3, 0xab, 0x9c}, []byte{3, 0, 0xab, 0x9c}, 1),
		"zero digest":              zeroDigest,
	} {
		if e, err := Parse(bad); err == nil {
			t.Errorf("%s: no error, %+v", name, e)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, e := range []bulkhead.Evidence{full(f), {Kind: 1, At: time.UnixMilli(0)}} {
		leaf, err := Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(leaf)
		f.Add(leaf[:len(leaf)/2])
	}
	f.Fuzz(func(t *testing.T, leaf []byte) {
		e, err := Parse(leaf)
		var p Parser
		for range 2 { // the second time with words that it knows
			if got, perr := p.Parse(leaf); got != e || (perr == nil) != (err == nil) {
				t.Fatalf("Parser gives %+v, %v; Parse %+v, %v", got, perr, e, err)
			}
		}
		if err != nil {
			return
		}
		again, err := Marshal(e)
		if err != nil || !bytes.Equal(again, leaf) {
			t.Fatalf("Marshal(Parse(%x)) = %x, %v", leaf, again, err)
		}
	})
}

func FuzzMarshal(f *testing.F) {
	f.Add(uint16(1), int64(1e12), "a", "b", "c", "d", int64(3), []byte{1, 2}, []byte("h"))
	f.Fuzz(func(t *testing.T, kind uint16, milli int64, actor, authority, ref, detail string, count int64, sn, h []byte) {
		e := bulkhead.Evidence{Kind: bulkhead.EvidenceKind(kind), At: time.UnixMilli(milli).UTC(), Actor: actor,
			Authority: bulkhead.AuthorityID(authority), Ref: ref, Detail: detail, Count: count, Digest: bulkhead.Digest(h)}
		e.Serial, _ = bulkhead.SerialFromBytes(sn)
		leaf, err := Marshal(e)
		if err != nil {
			return
		}
		if got, err := Parse(leaf); err != nil || got != e {
			t.Fatalf("Parse(Marshal(%+v)) = %+v, %v", e, got, err)
		}
	})
}
