package ceremony

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"strings"
	"testing"

	"bulkhead"
	"bulkhead/keys"
	"bulkhead/pki/transcript"
)

func TestTranscript(t *testing.T) {
	p := firstPlan(t, keys.P384)
	r := execute(t, config(newRing(t)), p)
	root := parse(t, r.Authorities[0].Certificate)
	got, err := VerifyTranscript(r.Transcript, root)
	if err != nil {
		t.Fatal(err)
	}
	if got.Plan != p.Digest() || got.Root != bulkhead.Digest(root.Raw) || !got.StartedAt.Equal(testNow) || strings.Join(got.Who, " ") != "Ada Grace" {
		t.Errorf("transcript %+v", got)
	}
	named := map[bulkhead.Hash]bool{}
	for i, e := range got.Entries {
		if e.Step != i+1 || e.At.IsZero() || e.Signer != "root" || len(e.Inputs) == 0 || len(e.Outputs) == 0 {
			t.Errorf("entry %+v", e)
		}
		for _, item := range e.Outputs {
			named[item.Digest] = true
		}
	}
	for _, x := range r.Certificates {
		if !named[x.Certificate.Fingerprint] {
			t.Errorf("the transcript does not name the certificate of %s", x.Certificate.Subject)
		}
	}
	for _, x := range r.Prepared {
		if !named[bulkhead.Digest(x.DER)] {
			t.Errorf("the transcript does not name a %s", x.Kind)
		}
	}
	if bytes.Contains(r.Transcript, []byte("PRIVATE")) || bytes.Contains(r.Transcript, []byte("AGE-SECRET")) {
		t.Error("a secret in the transcript")
	}
}

func TestTranscriptTampered(t *testing.T) {
	r := execute(t, config(newRing(t)), firstPlan(t, keys.P256))
	root := parse(t, r.Authorities[0].Certificate)
	other := parse(t, execute(t, config(newRing(t)), firstPlan(t, keys.P256)).Authorities[0].Certificate)
	text := string(r.Transcript)
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, r.Transcript, "", "  "); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		what string
		text string
		want bulkhead.Kind
	}{
		{"unchanged", text, ""},
		{"indented", pretty.String(), ""},
		{"another person", strings.Replace(text, "Grace", "Eve", 1), bulkhead.KindUnauthorized},
		{"another CRL number", strings.Replace(text, `"detail":"13"`, `"detail":"12"`, 1), bulkhead.KindUnauthorized},
		{"another algorithm", strings.Replace(text, "ECDSA-SHA256", "SHA256-RSA", 1), bulkhead.KindUnauthorized},
		{"another signature", strings.Replace(text, `"signature":"`, `"signature":"AAAA`, 1), bulkhead.KindUnauthorized},
		{"no signature", text[:strings.Index(text, `,"algorithm"`)] + "}", bulkhead.KindUnauthorized},
		{"another format", strings.Replace(text, "transcript 1", "transcript 2", 1), bulkhead.KindMalformed},
		{"unknown field", strings.Replace(text, `{"transcript"`, `{"more":1,"transcript"`, 1), bulkhead.KindMalformed},
		{"unknown field inside", strings.Replace(text, `{"format"`, `{"more":1,"format"`, 1), bulkhead.KindMalformed},
		{"text after", text + "{}", bulkhead.KindMalformed},
		{"cut off", text[:len(text)/2], bulkhead.KindMalformed},
		{"empty", "", bulkhead.KindMalformed},
		{"null", "null", bulkhead.KindMalformed},
	} {
		_, err := VerifyTranscript([]byte(x.text), root)
		wantKind(t, x.what, err, x.want)
	}
	_, err := VerifyTranscript(r.Transcript, other)
	wantKind(t, "another root", err, bulkhead.KindUnauthorized)
	_, err = VerifyTranscript(r.Transcript, nil)
	wantKind(t, "no root", err, bulkhead.KindUnauthorized)
}

// TestTranscriptNamesItsCertificate: the signature of a root's key is not enough when the transcript names another
// certificate of that key.
func TestTranscriptNamesItsCertificate(t *testing.T) {
	b := newBench(t)
	record := Transcript{Format: transcript.Format, Root: bulkhead.Digest([]byte("another certificate"))}
	text, err := record.Sign(b.root.signer, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, err = VerifyTranscript(text, b.root.cert)
	wantKind(t, "another certificate of the key", err, bulkhead.KindUnauthorized)
	_, err = record.Sign(nil, rand.Reader)
	wantKind(t, "no key", err, bulkhead.KindConflict)
}

func FuzzVerifyTranscript(f *testing.F) {
	r := execute(f, config(newRing(f)), firstPlan(f, keys.P256))
	root := parse(f, r.Authorities[0].Certificate)
	want, err := VerifyTranscript(r.Transcript, root)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(r.Transcript)
	f.Add([]byte(`{"transcript":null,"algorithm":"ECDSA-SHA256","signature":null}`))
	f.Add([]byte(`{"transcript":{"format":"bulkhead ceremony transcript 1"},"algorithm":"ECDSA-SHA256","signature":"MAA="}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := VerifyTranscript(text, root)
		if err == nil && (got.Plan != want.Plan || len(got.Entries) != len(want.Entries)) {
			t.Fatal("a forged transcript verifies")
		}
		if k := bulkhead.KindOf(err); err != nil && k != bulkhead.KindMalformed && k != bulkhead.KindUnauthorized {
			t.Fatalf("kind %s: %v", k, err)
		}
	})
}
