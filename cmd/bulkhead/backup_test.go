package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"golang.org/x/crypto/ocsp"

	"bulkhead"
	"bulkhead/run"
	"bulkhead/store/storetest/pgtest"
)

// upAt runs a house on a folder until stop.
func upAt(t *testing.T, dir string, more ...string) (stop func(), r run.Ready) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var out, errOut syncBuffer
	done := make(chan int, 1)
	go func() { done <- execute(ctx, append([]string{"up", "--data", dir}, more...), nil, &out, &errOut) }()
	ended := false
	stop = func() {
		cancel()
		if code := <-done; code != exitDone && !ended {
			t.Errorf("up ended with %d: %s", code, errOut.String())
		}
		ended = true
		done <- exitDone
	}
	t.Cleanup(stop)
	for end := time.Now().Add(90 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if body, err := os.ReadFile(filepath.Join(dir, "run", "ready.json")); err == nil && json.Unmarshal(body, &r) == nil {
			return stop, r
		}
		select {
		case code := <-done:
			done <- code
			t.Fatalf("up ended with %d: %s", code, errOut.String())
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("not ready: %s", errOut.String())
		}
	}
}

func quiet(t *testing.T, store string) []string {
	return []string{"--listen", "127.0.0.1:0", "--status-listen", free(t), "--metrics-listen", "127.0.0.1:0",
		"--resolver", free(t), "--log-level", "error", "--store", store}
}

// questions are OCSP requests for every certificate of a record, by issuer and serial.
func questions(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	cfg, err := run.LoadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := run.OpenStore(t.Context(), dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out := map[string][]byte{}
	all, _, err := s.Certificates(t.Context(), bulkhead.CertificateFilter{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		a, err := s.Authority(t.Context(), c.Issuer)
		if err != nil {
			t.Fatal(err)
		}
		_, der, err := s.Certificate(t.Context(), c.CertificateRef)
		if err != nil {
			t.Fatal(err)
		}
		cert, err1 := x509.ParseCertificate(der)
		issuer, err2 := x509.ParseCertificate(a.Certificate)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if out[c.CertificateRef.String()], err = ocsp.CreateRequest(cert, issuer, &ocsp.RequestOptions{Hash: crypto.SHA1}); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// ask is the answer of a house to each question, and whatever it says instead.
func ask(t *testing.T, r run.Ready, qs map[string][]byte) map[string]string {
	t.Helper()
	out := map[string]string{}
	for ref, q := range qs {
		resp, err := http.Post(r.OCSP, "application/ocsp-request", bytes.NewReader(q))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %d octets, %v", ref, resp.Status, len(body), err)
		}
		out[ref] = string(body)
	}
	return out
}

// settled waits until every question has an answer that does not move.
func settled(t *testing.T, r run.Ready, qs map[string][]byte) map[string]string {
	t.Helper()
	for range 100 {
		a := ask(t, r, qs)
		time.Sleep(700 * time.Millisecond)
		b, moving := ask(t, r, qs), false
		for ref := range b {
			moving = moving || len(b[ref]) < 100 || a[ref] != b[ref] // short: not answered for yet
		}
		if !moving {
			return b
		}
	}
	t.Fatal("the answers do not settle")
	return nil
}

// TestBackupRestore: a backup of a house at work, of either engine, restored into either, gives the same answer to every
// question octet for octet, and an evidence log that contains the checkpoint of the backup.
func TestBackupRestore(t *testing.T) {
	for _, x := range []struct{ from, to string }{{"sqlite", "sqlite"}, {"postgres", "postgres"}, {"sqlite", "postgres"}, {"postgres", "sqlite"}} {
		t.Run(x.from+" to "+x.to, func(t *testing.T) { backupRestore(t, x.from, x.to) })
	}
}

func storeOf(t *testing.T, engine string, fresh func(testing.TB) string) string {
	if engine == "sqlite" {
		return "sqlite:bulkhead.db"
	}
	path := filepath.Join(t.TempDir(), "dsn")
	if err := os.WriteFile(path, []byte(fresh(t)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return "postgres:" + path
}

func backupRestore(t *testing.T, from, to string) {
	c := &cli{dir: filepath.Join(t.TempDir(), "data"), work: t.TempDir()}
	stop, ready := upAt(t, c.dir, quiet(t, storeOf(t, from, pgtest.New))...)
	for i := range 3 {
		c.run(t, exitDone, "issue", fmt.Sprintf("n%d.example.test", i), "--out", c.work)
	}
	c.run(t, exitDone, "cert", "revoke", filepath.Join(c.work, "n1.example.test.crt"), "--reason", "superseded")
	qs := questions(t, c.dir)
	before := settled(t, ready, qs)

	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	key, file := c.file(t, "restore.key", id.String()+"\n", 0o600), filepath.Join(c.work, "house.backup")
	made := asJSON[run.BackupReport](t, c, "backup", "--out", file, "--recipient", id.Recipient().String(), "--with-identity")
	checkpoint, err := os.ReadFile(filepath.Join(c.dir, "evidence", "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	whole := asJSON[run.BackupReport](t, c, "backup", "verify", file, "--identity", key)
	if whole.Head == 0 || whole.Head != made.Head || whole.Evidence != made.Evidence || whole.Bytes != made.Bytes || whole.Engine != from {
		t.Fatalf("%+v\n%+v", made, whole)
	}
	stop()

	b := &cli{dir: filepath.Join(t.TempDir(), "blank"), work: c.work}
	got := asJSON[run.RestoreReport](t, b, "restore", file, "--identity", key, "--store", storeOf(t, to, pgtest.NewBare))
	if got.Seconds > got.Documented || !strings.HasPrefix(got.Store, to) {
		t.Errorf("%+v", got)
	}
	restored, err := os.ReadFile(filepath.Join(b.dir, "evidence", "checkpoint"))
	if err != nil || !bytes.Equal(restored, checkpoint) {
		t.Errorf("the checkpoint is another one: %v\n%s\n%s", err, checkpoint, restored)
	}
	_, again := upAt(t, b.dir)
	after := ask(t, again, qs)
	if len(before) < 5 {
		t.Errorf("only %d questions", len(before))
	}
	for ref, a := range before {
		if after[ref] != a {
			t.Errorf("%s is answered with other octets", ref)
		}
	}
	b.run(t, exitDone, "issue", "after.example.test", "--out", b.work)
	if out, _ := b.run(t, exitDone, "fsck"); strings.Contains(out, "failure") {
		t.Error(out)
	}
}
