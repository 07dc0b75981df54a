package ceremony

import (
	"bytes"
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"bulkhead"
	"bulkhead/keys"
	"bulkhead/pki/transcript"
)

func bundled(t testing.TB, p Plan, r *Result) []byte {
	t.Helper()
	text, err := r.Bundle(p, nil, testNow, false)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestBundleReadsBack: everything that the house needs is derived from signed bytes, and is what the ceremony made.
func TestBundleReadsBack(t *testing.T) {
	p := firstPlan(t, keys.P384)
	r := execute(t, config(newRing(t)), p)
	root := parse(t, r.Authorities[0].Certificate)
	b, plan, got, err := OpenBundle(bundled(t, p, r), root)
	if err != nil {
		t.Fatal(err)
	}
	if plan.Digest() != p.Digest() || !bytes.Equal(b.Signed, r.Transcript) {
		t.Error("plan or transcript changed on the way")
	}
	for i := range r.Authorities {
		r.Authorities[i].CreatedAt, got.Authorities[i].CreatedAt = testNow, testNow
	}
	if !reflect.DeepEqual(got.Authorities, r.Authorities) {
		t.Errorf("authorities\n%+v\n%+v", got.Authorities, r.Authorities)
	}
	for i := range r.Certificates {
		r.Certificates[i].Certificate.ReservedAt, got.Certificates[i].Certificate.ReservedAt = testNow, testNow
	}
	if !reflect.DeepEqual(got.Certificates, r.Certificates) || !reflect.DeepEqual(got.Prepared, r.Prepared) {
		t.Error("certificates or prepared objects changed on the way")
	}
	if _, _, _, err := OpenBundle(bundled(t, p, r), nil); err != nil {
		t.Errorf("with its own root: %v", err)
	}
}

// TestBundleTampered plants a fault in each part of a bundle.
func TestBundleTampered(t *testing.T) {
	p := firstPlan(t, keys.P256)
	r := execute(t, config(newRing(t)), p)
	other := execute(t, config(newRing(t)), firstPlan(t, keys.P256))
	root := parse(t, r.Authorities[0].Certificate)
	edit := func(f func(m map[string]any)) []byte {
		var m map[string]any
		if err := json.Unmarshal(bundled(t, p, r), &m); err != nil {
			t.Fatal(err)
		}
		plan, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		m["plan"] = json.RawMessage(plan) // in its own order
		f(m)
		out, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	objects := func(m map[string]any) []any { return m["objects"].([]any) }
	foreign := bulkhead.Digest(other.Prepared[len(other.Prepared)-1].DER)
	for _, x := range []struct {
		what string
		text []byte
		want bulkhead.Kind
	}{
		{"silent without a fault", edit(func(map[string]any) {}), ""},
		{"another title", edit(func(m map[string]any) {
			m["plan"] = json.RawMessage(strings.Replace(string(m["plan"].(json.RawMessage)), "first start", "another", 1))
		}), bulkhead.KindUnauthorized},
		{"an object missing", edit(func(m map[string]any) { m["objects"] = objects(m)[:len(objects(m))-1] }), bulkhead.KindUnauthorized},
		{"an object more", edit(func(m map[string]any) {
			extra := transcriptPEM(t, other.Prepared[len(other.Prepared)-1].DER)
			m["objects"] = append(objects(m), extra)
		}), bulkhead.KindUnauthorized},
		{"marked as a rehearsal", edit(func(m map[string]any) { m["rehearsal"] = true }), bulkhead.KindUnauthorized},
		{"another transcript", edit(func(m map[string]any) { m["transcript"] = string(other.Transcript) }), bulkhead.KindUnauthorized},
		{"another root", edit(func(m map[string]any) { m["root"] = transcriptPEM(t, other.Authorities[0].Certificate) }), bulkhead.KindUnauthorized},
		{"a statement that nobody ordered", edit(func(m map[string]any) {
			m["destructions"] = []transcript.Destruction{{Authority: "root", Key: foreign, Transcript: bulkhead.Digest(r.Transcript)}}
		}), bulkhead.KindUnauthorized},
		{"an unknown field", edit(func(m map[string]any) { m["more"] = 1 }), bulkhead.KindMalformed},
		{"another format", edit(func(m map[string]any) { m["format"] = "bulkhead ceremony bundle 9" }), bulkhead.KindMalformed},
		{"no JSON", []byte("x"), bulkhead.KindMalformed},
	} {
		_, _, _, err := OpenBundle(x.text, root)
		wantKind(t, x.what, err, x.want)
	}
}

func transcriptPEM(t *testing.T, der []byte) string {
	t.Helper()
	label := "CERTIFICATE"
	if bytes.Contains(der[:8], []byte{0x06}) {
		label = "X509 CRL"
	}
	text, err := DER(der).MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	if label == "X509 CRL" {
		return strings.ReplaceAll(string(text), "CERTIFICATE", label)
	}
	return string(text)
}

// TestStandby: same name, key, usage and constraints, path length 0, another root; the same root is refused.
func TestStandby(t *testing.T) {
	ctx := context.Background()
	ring := newRing(t)
	first := firstPlan(t, keys.P256)
	first.Steps[1].Issuing.Names.PermittedDNS = []string{"example.test"}
	c := config(ring)
	r := execute(t, c, first)
	second := Plan{Title: "second root", StatusURL: first.StatusURL, Root: "root2", Existing: []Existing{
		{ID: "issuing-p256", Kind: bulkhead.IssuingAuthority, Certificate: r.Authorities[1].Certificate, Chain: []DER{r.Authorities[0].Certificate}},
		{ID: "root", Kind: bulkhead.RootAuthority, Certificate: r.Authorities[0].Certificate, KeyURI: "file:root.age"}},
		Steps: []Step{{Root: &RootStep{ID: "root2", Subject: name("Test Root 2"), Algorithm: keys.P384, Days: 5478}},
			{Standby: &StandbyStep{Subject: "issuing-p256", Parent: "root2", Days: 1825}}}}
	got := execute(t, c, second)
	if len(got.Standbys) != 1 || len(got.Certificates) != 1 {
		t.Fatalf("%d stand-bys", len(got.Standbys))
	}
	was, is := parse(t, r.Authorities[1].Certificate), parse(t, got.Standbys[0].Certificate)
	if !bytes.Equal(was.RawSubject, is.RawSubject) || !bytes.Equal(was.RawSubjectPublicKeyInfo, is.RawSubjectPublicKeyInfo) || !bytes.Equal(was.SubjectKeyId, is.SubjectKeyId) ||
		!reflect.DeepEqual(was.ExtKeyUsage, is.ExtKeyUsage) || !reflect.DeepEqual(was.PermittedDNSDomains, is.PermittedDNSDomains) || !is.MaxPathLenZero {
		t.Error("the stand-by is not the authority's twin under another root")
	}
	if err := is.CheckSignatureFrom(parse(t, got.Authorities[0].Certificate)); err != nil {
		t.Error(err)
	}
	back, _, read, err := OpenBundle(bundled(t, second, got), nil)
	if err != nil || len(read.Standbys) != 1 || !reflect.DeepEqual(read.Standbys, got.Standbys) || back.Transcript.Root != bulkhead.Digest(got.Authorities[0].Certificate) {
		t.Errorf("read back: %v", err)
	}
	same := clone(t, second)
	same.Steps = []Step{{Standby: &StandbyStep{Subject: "issuing-p256", Parent: "root", Days: 100}}}
	same.Root = "root"
	_, err = Execute(ctx, c, same)
	wantKind(t, "the same root", err, bulkhead.KindGate)
	for what, s := range map[string]StandbyStep{"for a root": {Subject: "root", Parent: "root2", Days: 1}, "under an issuing authority": {Subject: "issuing-p256", Parent: "infrastructure", Days: 1}, "no days": {Subject: "issuing-p256", Parent: "root2"}} {
		bad := clone(t, second)
		bad.Steps[1].Standby = &s
		_, err := Execute(ctx, c, bad)
		wantKind(t, what, err, bulkhead.KindGate)
	}
}

func FuzzOpenBundle(f *testing.F) {
	p := firstPlan(f, keys.P256)
	r := execute(f, config(newRing(f)), p)
	root := parse(f, r.Authorities[0].Certificate)
	f.Add(bundled(f, p, r))
	f.Add([]byte(`{"format":"bulkhead ceremony bundle 1","plan":{},"root":"","transcript":"","objects":[],"finished_at":"2026-11-21T12:00:00Z"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		b, plan, _, err := OpenBundle(text, root)
		if err == nil && (plan.Digest() != p.Digest() || !bytes.Equal(b.Signed, r.Transcript)) {
			t.Fatal("a forged bundle opens")
		}
	})
}
