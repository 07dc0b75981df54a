//go:build pkcs11

package pkcs11

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"bulkhead"
)

// TestTokenLost: the library loses every session, then the token itself. Signing fails as unavailable while it is away, and
// the same signer goes on once it is back.
func TestTokenLost(t *testing.T) {
	dir := t.TempDir()
	tokens := filepath.Join(dir, "tokens")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+tokens+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	if out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "lost", "--so-pin", "so-secret", "--pin", "user-secret").CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util is needed: install the package softhsm2: %v\n%s", err, out)
	}
	tok, err := Open(URI{Token: "lost", ModulePath: "/usr/lib/softhsm/libsofthsm2.so"}, []byte("user-secret"))
	if err != nil {
		t.Fatal(err)
	}
	_, s, err := tok.Generate("root", "p256")
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("x"))
	sign := func() error {
		sig, err := s.Sign(nil, digest[:], crypto.SHA256)
		if err == nil && !ecdsa.VerifyASN1(s.Public().(*ecdsa.PublicKey), digest[:], sig) {
			t.Error("the signature does not verify")
		}
		return err
	}
	if err := sign(); err != nil {
		t.Fatal(err)
	}
	if err := tok.ctx.Finalize(); err != nil { // every session is gone
		t.Fatal(err)
	}
	if err := sign(); err != nil {
		t.Fatalf("after the sessions were lost: %v", err)
	}
	if err := os.Rename(tokens, tokens+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := tok.ctx.Finalize(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := sign(); bulkhead.KindOf(err) != bulkhead.KindUnavailable {
			t.Fatalf("while the token is away: %v", err)
		}
	}
	if err := os.Remove(tokens); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tokens+".away", tokens); err != nil {
		t.Fatal(err)
	}
	if err := sign(); err != nil {
		t.Fatalf("after the token came back: %v", err)
	}
}
