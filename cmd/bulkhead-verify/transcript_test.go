package main

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/ceremony"
	"bulkhead/keys"
	"bulkhead/pki/lint"
	"bulkhead/pki/transcript"
)

// held holds a ceremony that makes a root and its CRLs, and returns the bundle with the root's certificate in a file.
func held(t *testing.T, cn string, rehearsal bool) (bundle []byte, root string) {
	t.Helper()
	linter, err := lint.New(lint.Config{})
	if err != nil {
		t.Fatal(err)
	}
	plan := ceremony.Plan{Title: "the root of " + cn, StatusURL: "http://status.example.com", Root: "root", Steps: []ceremony.Step{
		{Root: &ceremony.RootStep{ID: "root", Subject: ceremony.Name{CommonName: cn, Organization: "Test", Country: "CH"}, Algorithm: keys.P256, Days: 3650}},
		{CRL: &ceremony.CRLStep{Authority: "root", HorizonDays: 90, TurnoverDays: 30, OverlapDays: 30}}}}
	res, err := ceremony.Execute(t.Context(), ceremony.Config{Ring: keys.NewMemoryRing(), Now: time.Now, Rand: rand.Reader, Who: []string{"Ada", "Grace"}, Lint: linter, Rehearsal: rehearsal}, plan)
	if err != nil {
		t.Fatal(err)
	}
	if bundle, err = res.Bundle(plan, nil, time.Now(), rehearsal); err != nil {
		t.Fatal(err)
	}
	opened, err := transcript.Open(bundle, nil)
	if err != nil {
		t.Fatal(err)
	}
	return bundle, file(t, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: opened.Root.Raw}))
}

func file(t *testing.T, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// judge runs bulkhead-verify transcript --json and returns the exit code and the document.
func judge(t *testing.T, args ...string) (int, transcriptDoc, string) {
	t.Helper()
	var out, errOut bytes.Buffer
	code := run(append([]string{"transcript", "--json"}, args...), strings.NewReader(""), &out, &errOut)
	var doc transcriptDoc
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), &doc); err != nil {
			t.Fatalf("not one document: %v: %s", err, out.String())
		}
	}
	return code, doc, errOut.String()
}

// TestTranscript: what a ceremony left verifies under the root that one has from elsewhere, as a bundle and as the bare
// transcript; anything altered, cut short, or of another root does not.
func TestTranscript(t *testing.T) {
	bundle, root := held(t, "Test Root", false)
	opened, err := transcript.Open(bundle, nil)
	if err != nil {
		t.Fatal(err)
	}
	code, doc, said := judge(t, file(t, bundle), "--root", root)
	if code != 0 || !doc.OK || doc.Objects != len(opened.Objects) || len(doc.Steps) != 2 || strings.Join(doc.Who, " ") != "Ada Grace" || doc.Rehearsal {
		t.Errorf("the bundle: exit %d, %+v, %s", code, doc, said)
	}
	if code, bare, said := judge(t, file(t, opened.Signed), "--root", root); code != 0 || !bare.OK || bare.Objects != 0 || bare.Transcript != doc.Transcript {
		t.Errorf("the transcript alone: exit %d, %+v, %s", code, bare, said)
	}
	_, other := held(t, "Other Root", false)
	if code, doc, said := judge(t, file(t, bundle), "--root", other); code != 3 || doc.OK || len(doc.Findings) == 0 {
		t.Errorf("under another root: exit %d, %+v, %s", code, doc, said)
	}
	for what, change := range map[string]func([]byte) []byte{
		"another person":      func(b []byte) []byte { return bytes.Replace(b, []byte("Grace"), []byte("Clara"), 1) },
		"half a transcript":   func(b []byte) []byte { return b[:len(b)/2] },
		"no transcript":       func([]byte) []byte { return []byte("{}") },
		"no file of anything": func([]byte) []byte { return nil },
	} {
		if code, doc, _ := judge(t, file(t, change(bytes.Clone(opened.Signed))), "--root", root); code == 0 || doc.OK {
			t.Errorf("%s: exit %d, %+v", what, code, doc)
		}
	}
	// Each object of the bundle counts: one byte of any of them, and the bundle does not verify.
	var b map[string]json.RawMessage
	if err := json.Unmarshal(bundle, &b); err != nil {
		t.Fatal(err)
	}
	var objects []string
	if err := json.Unmarshal(b["objects"], &objects); err != nil {
		t.Fatal(err)
	}
	for i := range objects {
		missing, err := json.Marshal(append(append([]string{}, objects[:i]...), objects[i+1:]...))
		if err != nil {
			t.Fatal(err)
		}
		b["objects"] = missing
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		if code, doc, _ := judge(t, file(t, text), "--root", root); code == 0 || doc.OK {
			t.Errorf("without object %d: exit %d, %+v", i, code, doc)
		}
	}
	for what, args := range map[string][]string{"no root": {file(t, bundle)}, "no file": {"--root", root}} {
		if code, _, said := judge(t, args...); code != 2 || !strings.Contains(said, "--root") {
			t.Errorf("%s: exit %d, %s", what, code, said)
		}
	}
	if code, _, said := judge(t, filepath.Join(t.TempDir(), "absent"), "--root", root); code == 0 || said == "" {
		t.Errorf("an absent file: exit %d, %s", code, said)
	}
	if code, _, said := judge(t, file(t, bundle), "--root", file(t, []byte("no PEM"))); code == 0 || said == "" {
		t.Errorf("a root that is none: exit %d, %s", code, said)
	}
}

// TestTranscriptOfRehearsal: a rehearsal verifies under its own throw-away root only, and says what it is.
func TestTranscriptOfRehearsal(t *testing.T) {
	bundle, root := held(t, "Test Root", true)
	if code, doc, said := judge(t, file(t, bundle), "--root", root); code != 0 || !doc.Rehearsal {
		t.Errorf("exit %d, %+v, %s", code, doc, said)
	}
	text, err := os.ReadFile(root)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil || !strings.HasPrefix(cert.Subject.CommonName, ceremony.Mark) {
		t.Errorf("the root of a rehearsal is %v, %v", cert.Subject, err)
	}
}
