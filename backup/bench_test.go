package backup_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bulkhead/backup"
)

// BenchmarkRestoreFiles reads a backup onto a disk and prints the ratio to copying the same octets there.
func BenchmarkRestoreFiles(b *testing.B) {
	const size = 64 << 20
	id := identity(b)
	plain := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	var sealed bytes.Buffer
	w, err := backup.NewWriter(&sealed, backup.Header{}, id.Recipient())
	if err != nil {
		b.Fatal(err)
	}
	if err := w.File("store/sqlite.db", 0o600, size, bytes.NewReader(plain)); err != nil {
		b.Fatal(err)
	}
	if _, err := w.Close(0, 0, nil); err != nil {
		b.Fatal(err)
	}
	put := func(name string, r io.Reader) error {
		f, err := os.Create(filepath.Join(b.TempDir(), name))
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := io.Copy(f, r); err != nil {
			return err
		}
		return f.Sync()
	}
	var restored, copied time.Duration
	for b.Loop() {
		t := time.Now()
		if err := put("copy", struct{ io.Reader }{bytes.NewReader(plain)}); err != nil {
			b.Fatal(err)
		}
		copied += time.Since(t)
		t = time.Now()
		if _, _, err := backup.Read(bytes.NewReader(sealed.Bytes()), nil, func(f backup.File) error { return put("restored", f.Body) }, id); err != nil {
			b.Fatal(err)
		}
		restored += time.Since(t)
	}
	b.ReportMetric(float64(restored)/float64(copied), "x-copy")
}
