//go:build pkcs11

package pkcs11

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead"
)

// soft makes a SoftHSM token of its own and returns the folder of its objects.
func soft(t testing.TB, label string) (tok *Token, folder string) {
	t.Helper()
	dir := t.TempDir()
	folder = filepath.Join(dir, "tokens")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+folder+"\nlog.level = ERROR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	if out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", "so-secret", "--pin", "user-secret").CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util is needed: install the package softhsm2: %v\n%s", err, out)
	}
	modules.Lock() // the library reads where its tokens are once
	if m := modules.byPath[library]; m != nil {
		if err := m.Finalize(); err == nil {
			m.generation++
			err = m.Initialize()
		}
	}
	modules.Unlock()
	tok, err := Open(URI{Token: label, ModulePath: library}, []byte("user-secret"))
	if err != nil {
		t.Fatal(err)
	}
	return tok, folder
}

const (
	library = "/usr/lib/softhsm/libsofthsm2.so"
	bound   = 30 * time.Second
)

// TestTokenAwayUnderLoad: the token's objects are gone while many sign, and come back. What fails fails as unavailable with
// the next step, every signature that was given verifies, and the same signers go on.
func TestTokenAwayUnderLoad(t *testing.T) {
	tok, folder := soft(t, "pulled")
	type key struct {
		s    crypto.Signer
		name string
	}
	var all []key
	for i, alg := range []string{"p256", "p384", "rsa2048"} {
		_, s, err := tok.Generate(fmt.Sprintf("key-%d", i), alg)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, key{s, alg})
	}
	var good, bad atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 12 {
		k := all[i%len(all)]
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				digest := sha256.Sum256(fmt.Append(nil, i, n))
				sig, err := k.s.Sign(nil, digest[:], crypto.SHA256)
				switch pub, ec := k.s.Public().(*ecdsa.PublicKey); {
				case err == nil && ec && !ecdsa.VerifyASN1(pub, digest[:], sig):
					t.Errorf("%s: a signature over something else", k.name)
				case err == nil:
					good.Add(1)
				case bulkhead.KindOf(err) != bulkhead.KindUnavailable || bulkhead.AsFault(err).Hint == "":
					t.Errorf("%s: %v", k.name, err)
				default:
					bad.Add(1)
				}
			}
		})
	}
	defer wg.Wait()
	defer close(stop)
	wait := func(what string, c *atomic.Int64) {
		t.Helper()
		from := c.Load()
		for end := time.Now().Add(bound); c.Load() < from+20; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("waited in vain for %s: %d good, %d bad", what, good.Load(), bad.Load())
			}
		}
	}
	wait("signatures", &good)
	for range 3 {
		if err := os.Rename(folder, folder+".away"); err != nil {
			t.Fatal(err)
		}
		wait("faults", &bad)
		if err := os.Rename(folder+".away", folder); err != nil {
			t.Fatal(err)
		}
		wait("signatures again", &good)
	}
}
