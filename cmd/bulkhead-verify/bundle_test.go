package main

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"bulkhead/pki/tlog"
)

// FuzzBundle: no file is verified whose checkpoint another key signed, and none does harm.
func FuzzBundle(f *testing.F) {
	_, vkey, err := note.GenerateKey(rand.Reader, "ca.test/evidence")
	if err != nil {
		f.Fatal(err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		f.Fatal(err)
	}
	var seed bytes.Buffer
	w := tar.NewWriter(&seed)
	for name, body := range map[string]string{"checkpoint": "ca.test/evidence\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n— x y\n", "proof.json": "{}", "certificates.txt": "a,1,0,x,-\n"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(body)), Format: tar.FormatUSTAR}); err != nil {
			f.Fatal(err)
		}
		if _, err := w.Write([]byte(body)); err != nil {
			f.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(seed.Bytes())
	f.Add([]byte("no archive"))
	f.Fuzz(func(t *testing.T, body []byte) {
		path := filepath.Join(t.TempDir(), "b")
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := openArchive(path)
		if err != nil {
			return
		}
		defer a.file.Close()
		c := &bundleCheck{a: a, ledger: tlog.NewLedger()}
		if err := c.run(v); err == nil && len(c.found) == 0 {
			t.Error("verified under a key that signed nothing")
		}
	})
}
