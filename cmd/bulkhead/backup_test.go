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
	"bulkhead/internal/heldport"
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
	return []string{"--listen", "127.0.0.1:0", "--status-listen", heldport.For(t).String(), "--metrics-listen", "127.0.0.1:0",
		"--resolver", heldport.For(t).String(), "--log-level", "error", "--store", store}
}

// questions are OCSP requests for every certificate of a record, with both hashes that a CertID may have, and the addresses of all its
// CRLs, by what they are about.
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
		for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
			if out[c.CertificateRef.String()+" "+hash.String()], err = ocsp.CreateRequest(cert, issuer, &ocsp.RequestOptions{Hash: hash}); err != nil {
				t.Fatal(err)
			}
		}
		for shard := range max(a.Shards, 1) {
			out[fmt.Sprintf("%s/%d.crl", a.ID, shard)] = nil
		}
	}
	return out
}

// ask is the answer of a house to each question, and whatever it says instead.
func ask(t *testing.T, r run.Ready, qs map[string][]byte) map[string]string {
	t.Helper()
	out := map[string]string{}
	client := http.Client{Timeout: 30 * time.Second}
	for ref, q := range qs {
		var resp *http.Response
		var err error
		if q == nil {
			resp, err = client.Get(r.CRLBase + ref)
		} else {
			resp, err = client.Post(r.OCSP, "application/ocsp-request", bytes.NewReader(q))
		}
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
	lists := 0
	for ref, a := range before {
		if strings.HasSuffix(ref, ".crl") {
			lists++
		}
		if after[ref] != a {
			t.Errorf("%s is answered with other octets", ref)
		}
	}
	if lists < 9 || len(before)-lists < 10 {
		t.Errorf("only %d questions, %d of them for CRLs", len(before), lists)
	}
	b.run(t, exitDone, "issue", "after.example.test", "--out", b.work)
	if out, _ := b.run(t, exitDone, "fsck"); strings.Contains(out, "failure") {
		t.Error(out)
	}
}

// TestRestoreRefusals: what must not be restored leaves nothing behind, and says what to do; what was left by a restore that
// was killed does not hinder the next.
func TestRestoreRefusals(t *testing.T) {
	c := houseUp(t)
	c.run(t, exitDone, "issue", "a.example.test", "--out", c.work)
	secret, wrong := c.file(t, "pass", "correct horse\n", 0o600), c.file(t, "wrong", "battery staple\n", 0o600)
	file := filepath.Join(c.work, "house.backup")
	c.run(t, exitUsage, "backup", "--out", file)
	c.run(t, exitUsage, "backup", "--out", file, "--recipient", "age1nonsense")
	made := asJSON[run.BackupReport](t, c, "backup", "--out", file, "--passphrase-file", secret)
	if made.Identity || !strings.Contains(fmt.Sprint(made.Left), "keys.identity") {
		t.Errorf("%+v", made)
	}
	c.run(t, exitUsage, "backup", "--out", file, "--passphrase-file", secret) // never over a file
	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b := &cli{dir: filepath.Join(t.TempDir(), "blank"), work: c.work}
	refuse := func(what string, code int, file string, more ...string) {
		t.Helper()
		_, errOut := b.run(t, code, append([]string{"restore", file}, more...)...)
		if !strings.Contains(errOut, "next: ") {
			t.Errorf("%s: %s", what, errOut)
		}
		for _, left := range []string{b.dir, b.dir + ".restore"} {
			if _, err := os.Stat(left); err == nil {
				t.Errorf("%s: %s is there", what, left)
			}
		}
	}
	refuse("wrong passphrase", exitFailed, file, "--passphrase-file", wrong)
	refuse("cut off", exitUsage, c.file(t, "cut", string(body[:len(body)/2]), 0o600), "--passphrase-file", secret)
	flipped := bytes.Clone(body)
	flipped[len(body)/2] ^= 1
	refuse("flipped", exitUsage, c.file(t, "flipped", string(flipped), 0o600), "--passphrase-file", secret)

	// The world goes on: an edge has seen a newer head, and the old copy is refused.
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		c.run(t, exitDone, "issue", "b.example.test", "--out", t.TempDir())
		if now, err := os.ReadFile(filepath.Join(c.dir, "edge", "head")); err == nil && !bytes.Contains(now, []byte(fmt.Sprintf(`"sequence":%d,`, made.Head))) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no new head")
		}
	}
	refuse("older than an edge", exitRefused, file, "--passphrase-file", secret, "--seen-head", filepath.Join(c.dir, "edge", "head"))

	if err := os.MkdirAll(filepath.Join(b.dir+".restore", "keys"), 0o700); err != nil { // as a kill leaves it
		t.Fatal(err)
	}
	got := asJSON[run.RestoreReport](t, b, "restore", file, "--passphrase-file", secret)
	if !strings.Contains(fmt.Sprint(got.Next), "keys.identity") {
		t.Errorf("%+v", got.Next)
	}
	if _, err := os.Stat(filepath.Join(b.dir, "keys.identity")); err == nil {
		t.Error("the identity travelled")
	}
	if _, errOut := b.run(t, exitUsage, "restore", file, "--passphrase-file", secret); !strings.Contains(errOut, "not empty") {
		t.Error(errOut)
	}
}
