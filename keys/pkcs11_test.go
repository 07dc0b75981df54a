//go:build pkcs11

package keys_test

import (
	"context"
	"crypto"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"bulkhead"
	"bulkhead/keys"
	"bulkhead/keys/keystest"
)

const softHSM = "/usr/lib/softhsm/libsofthsm2.so"

var tokens atomic.Int64

// TestMain gives SoftHSM a place of its own before its library is loaded.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "softhsm")
	if err == nil {
		err = os.Mkdir(filepath.Join(dir, "tokens"), 0o700)
	}
	conf := filepath.Join(dir, "softhsm2.conf")
	if err == nil {
		err = os.WriteFile(conf, []byte("directories.tokendir = "+filepath.Join(dir, "tokens")+"\n"), 0o600)
	}
	if err == nil {
		err = os.Setenv("SOFTHSM2_CONF", conf)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// token makes a token and returns the URI of its ring.
func token(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("token %d", tokens.Add(1))
	out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", name, "--so-pin", "so-secret", "--pin", "user-secret").CombinedOutput()
	if err != nil {
		t.Fatalf("softhsm2-util is needed: install the package softhsm2: %v\n%s", err, out)
	}
	pin := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(pin, []byte("user-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return "pkcs11:token=" + strings.ReplaceAll(name, " ", "%20") + "?module-path=" + softHSM + "&pin-source=" + pin
}

func openToken(t testing.TB, uri string) keys.Ring {
	t.Helper()
	r, err := keys.OpenURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTokenRing(t *testing.T) {
	keystest.Exercise(t, func(t *testing.T) keystest.Open {
		uri := token(t)
		return func() keys.Ring { return openToken(t, uri) }
	}, keys.P256, keys.P384, keys.RSA2048)
}

// TestTokenBesideFiles: the ring of a house with a token, over a real one.
func TestTokenBesideFiles(t *testing.T) {
	keystest.Exercise(t, func(t *testing.T) keystest.Open {
		uri, dir := token(t), t.TempDir()
		identity := filepath.Join(dir, "identity")
		if _, err := keys.NewIdentity(identity); err != nil {
			t.Fatal(err)
		}
		return func() keys.Ring {
			files, err := keys.OpenFileRing(keys.Config{Dir: filepath.Join(dir, "keys"), IdentityFile: identity})
			if err != nil {
				t.Fatal(err)
			}
			later, err := keys.OpenToken(uri)
			if err != nil {
				t.Fatal(err)
			}
			return keys.Beside(later, files, "house-")
		}
	}, keys.P256, keys.RSA2048, keys.Ed25519)
}

// TestWrongPIN: the PIN is named in no error.
func TestWrongPIN(t *testing.T) {
	uri := token(t)
	wrong := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(wrong, []byte("wrong-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	before, _, _ := strings.Cut(uri, "&pin-source=")
	_, err := keys.OpenURI(before + "&pin-source=" + wrong)
	check(t, "wrong PIN", err, bulkhead.KindUnauthorized, "wrong-secret")
	_, err = keys.OpenURI(strings.Replace(uri, "token%20", "absent%20", 1))
	check(t, "no such token", err, bulkhead.KindUnavailable, "user-secret")
}

// BenchmarkTokenSign signs with as many goroutines as there are processors.
func BenchmarkTokenSign(b *testing.B) {
	_, s, err := openToken(b, token(b)).Generate(context.Background(), "bench", keys.P256)
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256([]byte("x"))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Sign(nil, digest[:], crypto.SHA256); err != nil {
				b.Error(err)
			}
		}
	})
}
