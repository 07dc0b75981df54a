package pack

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"bulkhead"
)

func ref(name string, n byte) ObjectRef {
	return ObjectRef{Name: name, Digest: bulkhead.Hash{n}, Size: 10 + int64(n)}
}

func sampleHead() *Head {
	return &Head{Origin: "status.example/head", Sequence: 7, At: start, Issuers: []IssuerHead{
		{ID: "a", Epoch: 2, Generation: 5, Certificate: ref("ca/a.cer", 1), Packs: []ObjectRef{ref("packs/a/2", 2), ref("packs/a/1", 3)},
			CRLs: []CRLRef{
				{Shard: 0, Number: 4, ThisUpdate: start, NextUpdate: start.Add(time.Hour), ObjectRef: ref("crl/a/0-4", 4)},
				{Shard: 1, Number: 9, ThisUpdate: start, NextUpdate: start.Add(time.Hour), ObjectRef: ref("crl/a/1-9", 5)},
			}, ThroughSeq: 99, Change: "chg-1"},
		{ID: "b", Epoch: 1, Generation: 1, Packs: []ObjectRef{}, CRLs: []CRLRef{}},
	}}
}

func bodyOf(t testing.TB, h *Head) []byte {
	t.Helper()
	b, err := h.Body()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestHeadRoundTrip(t *testing.T) {
	h := sampleHead()
	h.At = h.At.Add(123 * time.Millisecond).In(time.FixedZone("x", 3600))
	body := bodyOf(t, h)
	got, err := ParseHeadBody(body)
	if err != nil {
		t.Fatal(err)
	}
	if !got.At.Equal(start) || !bytes.Equal(bodyOf(t, got), body) {
		t.Errorf("head changed on the way: %+v", got)
	}
	const want = "bulkhead-head/v1 status.example/head\n" + `{"sequence":7,"at":"2026-11-20T12:00:00Z","issuers":[{"id":"a","epoch":2,"generation":5,"certificate":{"name":"ca/a.cer","sha256":"01`
	if !strings.HasPrefix(string(body), want) || !strings.HasSuffix(string(body), "}]}\n") {
		t.Errorf("body is %s", body)
	}
}

func TestHeadSignature(t *testing.T) {
	newKey := func(name string) (note.Signer, note.Verifier) {
		skey, vkey, err := note.GenerateKey(rand.Reader, name)
		if err != nil {
			t.Fatal(err)
		}
		s, err := note.NewSigner(skey)
		if err != nil {
			t.Fatal(err)
		}
		v, err := note.NewVerifier(vkey)
		if err != nil {
			t.Fatal(err)
		}
		return s, v
	}
	s, v := newKey("status.example/head")
	body := bodyOf(t, sampleHead())
	signed, err := SignHead(body, s)
	if err != nil {
		t.Fatal(err)
	}
	if h, err := OpenHead(signed, v); err != nil || h.Sequence != 7 {
		t.Fatalf("OpenHead: %v %v", h, err)
	}
	other, otherV := newKey("status.example/head")
	if _, err := OpenHead(signed, otherV); err == nil {
		t.Error("a head by another key was opened")
	}
	if forged, err := SignHead(body, other); err != nil {
		t.Fatal(err)
	} else if _, err := OpenHead(forged, v); err == nil {
		t.Error("a head signed by another key of the same name was opened")
	}
	if _, err := OpenHead(bytes.Replace(signed, []byte(`"sequence":7`), []byte(`"sequence":8`), 1), v); err == nil {
		t.Error("an altered head was opened")
	}
	wrong, wrongV := newKey("elsewhere.example")
	if _, err := SignHead(body, wrong); err == nil {
		t.Error("a head was signed by a key that is not its origin")
	}
	smuggled, err := note.Sign(&note.Note{Text: string(body)}, wrong)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenHead(smuggled, wrongV); err == nil {
		t.Error("a head of another origin was opened")
	}
	if _, err := SignHead([]byte("anything\n"), s); err == nil {
		t.Error("something that is no head was signed")
	}
}

func TestParseHeadBodyRefuses(t *testing.T) {
	good := string(bodyOf(t, sampleHead()))
	swap := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("sample has no %q", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	for name, text := range map[string]string{
		"empty":             "",
		"no format":         swap("bulkhead-head/v1 ", ""),
		"no origin":         swap("status.example/head", ""),
		"unknown field":     swap(`{"sequence"`, `{"x":1,"sequence"`),
		"spaces":            swap(`"sequence":7`, `"sequence": 7`),
		"case":              swap(`"sequence"`, `"Sequence"`),
		"twice":             swap(`"sequence":7`, `"sequence":6,"sequence":7`),
		"sequence zero":     swap(`"sequence":7`, `"sequence":0`),
		"trailing document": good + "{}\n",
		"no newline":        strings.TrimSuffix(good, "\n"),
		"order":             swap(`"id":"a"`, `"id":"c"`),
		"authority name":    swap(`"id":"a"`, `"id":"A"`),
		"no digest":         swap(`"sha256":"02`+strings.Repeat("00", 31), `"sha256":"`),
		"no size":           swap(`"size":12`, `"size":0`),
		"two digests":       swap(`"name":"packs/a/2"`, `"name":"packs/a/1"`),
		"shard order":       swap(`"shard":0`, `"shard":1`),
		"CRL number":        swap(`"number":4`, `"number":0`),
		"CRL window":        swap(`"next_update":"2026-11-20T13`, `"next_update":"2026-11-20T12`),
		"null packs":        swap(`"packs":[]`, `"packs":null`),
		"fraction":          swap(`12:00:00Z`, `12:00:00.5Z`),
		"zone":              swap(`12:00:00Z`, `12:00:00+00:00`),
		"huge":              good + strings.Repeat(" ", MaxHead),
	} {
		if _, err := ParseHeadBody([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := ParseHeadBody([]byte(good)); err != nil {
		t.Error(err)
	}
}

// TestFollows plants one step back at a time; the same head with a higher sequence follows.
func TestFollows(t *testing.T) {
	prev := sampleHead()
	next := func(edit func(*Head)) *Head {
		h, err := ParseHeadBody(bodyOf(t, prev))
		if err != nil {
			t.Fatal(err)
		}
		h.Sequence = 8
		edit(h)
		return h
	}
	for name, edit := range map[string]func(*Head){
		"same sequence":     func(h *Head) { h.Sequence = 7 },
		"lower sequence":    func(h *Head) { h.Sequence = 1 },
		"epoch":             func(h *Head) { h.Issuers[0].Epoch = 1; h.Issuers[0].Generation = 100 },
		"generation":        func(h *Head) { h.Issuers[0].Generation = 4 },
		"issuer gone":       func(h *Head) { h.Issuers = h.Issuers[:1] },
		"shard gone":        func(h *Head) { h.Issuers[0].CRLs = h.Issuers[0].CRLs[:1] },
		"CRL number":        func(h *Head) { h.Issuers[0].CRLs[1].Number = 8 },
		"CRL number reused": func(h *Head) { h.Issuers[0].CRLs[1].ObjectRef = ref("crl/a/1-9b", 77) },
		"CRL time":          func(h *Head) { h.Issuers[0].CRLs[1].Number = 10; h.Issuers[0].CRLs[1].ThisUpdate = start.Add(-1) },
		"origin":            func(h *Head) { h.Origin = "other" },
	} {
		if err := next(edit).Follows(prev); bulkhead.KindOf(err) != bulkhead.KindConflict {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, edit := range map[string]func(*Head){
		"nothing":             func(h *Head) {},
		"epoch up, gen reset": func(h *Head) { h.Issuers[0].Epoch, h.Issuers[0].Generation = 3, 0 },
		"new shard and CRL": func(h *Head) {
			h.Issuers[0].CRLs[1].Number = 10
			h.Issuers[0].CRLs = append(h.Issuers[0].CRLs, CRLRef{Shard: 2, Number: 1, ThisUpdate: start, NextUpdate: start.Add(1), ObjectRef: ref("x", 9)})
		},
		"new issuer": func(h *Head) { h.Issuers = append(h.Issuers, IssuerHead{ID: "c"}) },
	} {
		if err := next(edit).Follows(prev); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := prev.Follows(nil); err != nil {
		t.Error(err)
	}
}

func FuzzParseHeadBody(f *testing.F) {
	f.Add(bodyOf(f, sampleHead()))
	f.Add(bodyOf(f, &Head{Origin: "o", Sequence: 1, At: start}))
	f.Add([]byte("bulkhead-head/v1 o\n{}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeadBody(b)
		if err != nil {
			return
		}
		if again := bodyOf(t, h); !bytes.Equal(again, b) {
			t.Fatalf("accepted %q, which encodes as %q", b, again)
		}
		if _, err := json.Marshal(h); err != nil {
			t.Fatal(err)
		}
		if h.Follows(h) == nil {
			t.Fatal("a head follows itself")
		}
	})
}
