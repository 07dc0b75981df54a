package regress

import (
	"crypto/x509"
	"encoding/pem"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"bulkhead/run"
)

// copyFile copies a file durably: the reference of a restore.
func copyFile(t testing.TB, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	ok(t, err)
	defer in.Close()
	out, err := os.Create(to)
	ok(t, err)
	defer out.Close()
	_, err = io.Copy(out, struct{ io.Reader }{in}) // octet by octet through the process, as a restore has to
	ok(t, err)
	ok(t, out.Sync())
}

// backupDir keeps a backup for the next run.
var backupDir = flag.String("backup", "", "folder in which the backup of -certificates certificates is kept, or made when it is absent")

// backedUp is a backup of the population, and the identity that opens it.
func backedUp(b *testing.B) (file, identity string) {
	dir := *backupDir
	if dir == "" {
		dir = b.TempDir()
	}
	file, identity = filepath.Join(dir, "backup"), filepath.Join(dir, "identity")
	if _, err := os.Stat(file); err == nil {
		return file, identity
	}
	house := populated(b, *bulkSize)
	id, err := age.GenerateX25519Identity()
	ok(b, err)
	ok(b, os.MkdirAll(dir, 0o700))
	ok(b, os.WriteFile(identity, []byte(id.String()+"\n"), 0o600))
	_, err = run.Backup(b.Context(), run.BackupOptions{Dir: house, Out: file, Recipients: []string{id.Recipient().String()}, WithIdentity: true, Version: "test"})
	ok(b, err)
	return file, identity
}

// BenchmarkRestore restores a house with -certificates certificates and prints the ratio to copying the octets of its backup to
// the same disk (x-copy). The reference is as durable as the restore: it ends with a sync of its one file, the restore with one of
// the file system, which waits for what others wrote as well. On a file system without a journal the thousands of files of a log
// cost more beside a folder that was removed a moment ago.
func BenchmarkRestore(b *testing.B) {
	file, identity := backedUp(b)
	dir := b.TempDir()
	var restored, copied time.Duration
	for b.Loop() {
		copied += timed(func() { copyFile(b, file, filepath.Join(dir, "copy")) })
		ok(b, os.Remove(filepath.Join(dir, "copy")))
		to := filepath.Join(dir, "restored")
		restored += timed(func() {
			_, err := run.Restore(b.Context(), run.RestoreOptions{File: file, Dir: to, IdentityFile: identity})
			ok(b, err)
		})
		ok(b, os.RemoveAll(to))
	}
	b.ReportMetric(float64(restored)/float64(copied), "x-copy")
	b.ReportMetric(restored.Seconds()/float64(b.N), "restore-s")
}

// bare leaves certificates without the extensions that others have: they cost less to parse, and as much to verify and to store.
var bare = flag.Bool("bare", false, "certificates of the import with a name and nothing else")

// BenchmarkImport imports -certificates certificates from PEM files and prints the ratio to parsing them once (x-parse), and to
// parsing them and verifying their signatures, which an import has to (x-verify); and the same of the processors' time, which
// a busy machine does not change (cpu-parse, cpu-verify).
func BenchmarkImport(b *testing.B) {
	ca, certs := foreignCA(b, b.TempDir(), *bulkSize)
	body, err := os.ReadFile(ca)
	ok(b, err)
	parent := parsePEM(b, body)
	each := func(do func(*x509.Certificate)) {
		files, err := filepath.Glob(filepath.Join(certs, "*"))
		ok(b, err)
		for _, f := range files {
			body, err := os.ReadFile(f)
			ok(b, err)
			for block, rest := pem.Decode(body); block != nil; block, rest = pem.Decode(rest) {
				x, err := x509.ParseCertificate(block.Bytes)
				ok(b, err)
				do(x)
			}
		}
	}
	var imported, parsed, verified time.Duration
	var importedCPU, parsedCPU, verifiedCPU time.Duration
	both := func(wall, cpu *time.Duration, do func()) {
		before := processors(b)
		*wall += timed(do)
		*cpu += processors(b) - before
	}
	for b.Loop() {
		h := newHouse(b)
		h.stop()
		both(&parsed, &parsedCPU, func() { each(func(*x509.Certificate) {}) })
		both(&verified, &verifiedCPU, func() { each(func(x *x509.Certificate) { ok(b, x.CheckSignatureFrom(parent)) }) })
		both(&imported, &importedCPU, func() {
			r, err := run.Import(b.Context(), run.ImportOptions{Dir: h.dir, Authority: "old-ca", CA: ca, Paths: []string{certs}})
			ok(b, err)
			if r.New != *bulkSize {
				b.Fatalf("%+v", r)
			}
		})
	}
	b.ReportMetric(float64(imported)/float64(parsed), "x-parse")
	b.ReportMetric(float64(imported)/float64(verified), "x-verify")
	b.ReportMetric(float64(importedCPU)/float64(parsedCPU), "cpu-parse")
	b.ReportMetric(float64(importedCPU)/float64(verifiedCPU), "cpu-verify")
	b.ReportMetric(imported.Seconds()/float64(b.N), "import-s")
	b.ReportMetric(float64(peak(b))/(1<<20), "peak-MiB")
}

// processors is the time that this process has had.
func processors(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	ok(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// peak is the most memory that this process had, in octets.
func peak(t testing.TB) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	ok(t, err)
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	ok(t, err)
	return kib << 10
}
