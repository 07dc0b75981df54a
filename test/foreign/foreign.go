// Package foreign builds and runs genuine programs of others for tests: the witness litewitness (filippo.io/torchwood) and the
// certificate transparency log TesseraCT on files (static-ct-api). The module tools/logs pins their versions.
//
// Invariant: a program that was started is dead when its test ends; every wait is bounded.
//
// Refuses: addresses other than loopback.
package foreign

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead/internal/heldport"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

const ready = 2 * time.Minute // within which a program must answer

// build makes the programs once a process.
func build(packages ...string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		_, here, _, ok := runtime.Caller(0)
		if !ok {
			return "", errors.New("the source of this package is not here")
		}
		dir, err := os.MkdirTemp("", "foreign-")
		if err != nil {
			return "", err
		}
		cmd := exec.Command("go", append([]string{"build", "-o", dir + "/"}, packages...)...)
		cmd.Dir = filepath.Join(filepath.Dir(here), "..", "..", "tools", "logs")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			return "", errors.New(string(text))
		}
		return dir, nil
	})
}

var (
	witnessPrograms = build("filippo.io/torchwood/cmd/litewitness", "filippo.io/torchwood/cmd/witnessctl")
	logPrograms     = build("github.com/transparency-dev/tesseract/cmd/tesseract/posix")
)

// start runs a program until the test ends, and waits until it answers at address.
func start(t testing.TB, address, program string, args ...string) {
	t.Helper()
	var said strings.Builder
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
	})
	client := http.Client{Timeout: time.Second}
	for end := time.Now().Add(ready); ; time.Sleep(20 * time.Millisecond) {
		if res, err := client.Get("http://" + address + "/"); err == nil {
			res.Body.Close()
			return
		}
		select {
		case <-ended:
			t.Fatalf("%s ended: %s", filepath.Base(program), &said)
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not answer", filepath.Base(program))
		}
	}
}

// Witness is a running litewitness.
type Witness struct {
	URL string
	Key string // its verifier key
}

// Litewitness starts one that knows the log of a verifier key.
func Litewitness(t testing.TB, name, origin, logKey string) Witness {
	t.Helper()
	bin, err := witnessPrograms()
	if err != nil {
		t.Fatalf("litewitness could not be built: %v", err)
	}
	dir := t.TempDir()
	db := filepath.Join(dir, "witness.db")
	for _, args := range [][]string{{"add-log", "-db", db, "-origin", origin}, {"add-key", "-db", db, "-origin", origin, "-key", logKey}} {
		if text, err := exec.Command(filepath.Join(bin, "witnessctl"), args...).CombinedOutput(); err != nil {
			t.Fatalf("witnessctl: %v: %s", err, text)
		}
	}
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sock, fingerprint := keyAgent(t, dir, private)
	address := heldport.For(t).String()
	start(t, address, filepath.Join(bin, "litewitness"), "-name", name, "-db", db, "-ssh-agent", sock, "-listen", address, "-key", fingerprint)
	return Witness{URL: "http://" + address, Key: PlainKey(name, pub)}
}

// keyAgent serves the ssh-agent protocol with one key, for litewitness takes its key from there only.
func keyAgent(t testing.TB, dir string, private ed25519.PrivateKey) (sock, fingerprint string) {
	t.Helper()
	ring := agent.NewKeyring()
	signer, err := ssh.NewSignerFromKey(private)
	if err == nil {
		err = ring.Add(agent.AddedKey{PrivateKey: private})
	}
	if err != nil {
		t.Fatal(err)
	}
	sock = filepath.Join(dir, "agent")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = agent.ServeAgent(ring, c) // until the program ends
			}()
		}
	}()
	return sock, ssh.FingerprintSHA256(signer.PublicKey())
}

// Log is a running TesseraCT.
type Log struct {
	URL    string // submission prefix
	Dir    string // its tiles, which it leaves to a web server
	Origin string
	Key    []byte // DER SubjectPublicKeyInfo
}

// TesseraCT starts a log that takes chains to the roots (PEM). Its tiles lie in Dir; serve them with http.FileServer. With a
// policy, it asks witnesses to cosign.
func TesseraCT(t testing.TB, roots []byte, policy string) Log {
	t.Helper()
	bin, err := logPrograms()
	if err != nil {
		t.Fatalf("TesseraCT could not be built: %v", err)
	}
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err1 := x509.MarshalECPrivateKey(key)
	public, err2 := x509.MarshalPKIXPublicKey(key.Public())
	err3 := os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}), 0o600)
	err4 := os.WriteFile(filepath.Join(dir, "roots.pem"), roots, 0o600)
	err5 := os.Mkdir(filepath.Join(dir, "log"), 0o700)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		t.Fatal(err)
	}
	address := heldport.For(t).String()
	l := Log{URL: "http://" + address, Dir: filepath.Join(dir, "log"), Origin: "ct.test/tiled", Key: public}
	args := []string{"-http_endpoint", address, "-origin", l.Origin, "-roots_pem_file", filepath.Join(dir, "roots.pem"), "-private_key", filepath.Join(dir, "key.pem"),
		"-storage_dir", l.Dir, "-checkpoint_interval", "200ms", "-batch_max_age", "50ms"}
	if policy != "" {
		file := filepath.Join(dir, "policy")
		if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-witness_policy_file", file)
	}
	start(t, address, filepath.Join(bin, "posix"), args...)
	return l
}

// PlainKey is the verifier key of an Ed25519 note key, type 0x01.
func PlainKey(name string, pub ed25519.PublicKey) string {
	return noteKey(name, append([]byte{1}, pub...))
}
