package keys_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead"
	"bulkhead/keys"
	"bulkhead/keys/keystest"
)

// quick is a scrypt cost for tests only.
const quick = 10

func must(t *testing.T, c keys.Config) *keys.FileRing {
	t.Helper()
	r, err := keys.OpenFileRing(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func identity(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "identity.txt")
	recipient, err := keys.NewIdentity(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(recipient, "age1") {
		t.Errorf("recipient %q", recipient)
	}
	return path
}

func TestIdentityRing(t *testing.T) {
	keystest.Exercise(t, func(t *testing.T) keystest.Open {
		c := keys.Config{Dir: filepath.Join(t.TempDir(), "keys"), IdentityFile: identity(t)}
		return func() keys.Ring { return must(t, c) }
	}, keys.P256, keys.P384, keys.RSA2048, keys.RSA3072, keys.Ed25519)
}

func TestPassphraseRing(t *testing.T) {
	keystest.Exercise(t, func(t *testing.T) keystest.Open {
		c := keys.Config{Dir: t.TempDir(), Passphrase: []byte("correct horse"), WorkFactor: quick}
		return func() keys.Ring { return must(t, c) }
	}, keys.P256)
}

func TestWrongIdentityAndDamage(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	right := must(t, keys.Config{Dir: dir, IdentityFile: identity(t)})
	uri, _, err := right.Generate(ctx, "root", keys.P256)
	if err != nil {
		t.Fatal(err)
	}
	const secret = "a wrong passphrase"
	for what, c := range map[string]keys.Config{
		"other identity":            {Dir: dir, IdentityFile: identity(t)},
		"passphrase on an identity": {Dir: dir, Passphrase: []byte(secret), WorkFactor: quick},
	} {
		_, err := must(t, c).Open(ctx, uri)
		check(t, what, err, bulkhead.KindUnauthorized, secret)
	}
	sealed := must(t, keys.Config{Dir: dir, Passphrase: []byte("right"), WorkFactor: quick})
	uri2, _, err := sealed.Generate(ctx, "sealed", keys.P256)
	if err != nil {
		t.Fatal(err)
	}
	_, err = must(t, keys.Config{Dir: dir, Passphrase: []byte(secret), WorkFactor: quick}).Open(ctx, uri2)
	check(t, "wrong passphrase", err, bulkhead.KindUnauthorized, secret)

	id := identity(t)
	damaged := must(t, keys.Config{Dir: t.TempDir(), IdentityFile: id})
	if err := os.WriteFile(filepath.Join(dir, "garbage.age"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = must(t, keys.Config{Dir: dir, IdentityFile: id}).Open(ctx, "file:garbage.age")
	check(t, "garbage", err, bulkhead.KindMalformed, secret)
	_, err = damaged.Open(ctx, "file:root.age")
	check(t, "absent", err, bulkhead.KindNotFound, secret)
}

func TestDamagedByOneBit(t *testing.T) {
	ctx := context.Background()
	c := keys.Config{Dir: t.TempDir(), IdentityFile: identity(t)}
	uri, _, err := must(t, c).Generate(ctx, "root", keys.P256)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.Dir, "root.age")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)-1] ^= 1
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = must(t, c).Open(ctx, uri)
	check(t, "one bit", err, bulkhead.KindMalformed, "")
}

func TestIdentityFile(t *testing.T) {
	dir := t.TempDir()
	path := identity(t)
	if _, err := keys.NewIdentity(path); bulkhead.KindOf(err) != bulkhead.KindConflict {
		t.Errorf("identity overwritten: %v", err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	mode(t, path)
	secret := strings.TrimSpace(strings.Split(string(text), "\n")[1])
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	_, err = keys.OpenFileRing(keys.Config{Dir: dir, IdentityFile: path})
	check(t, "exposed", err, bulkhead.KindUnauthorized, secret)
	_, err = keys.OpenFileRing(keys.Config{Dir: dir, IdentityFile: path + "-absent"})
	check(t, "absent", err, bulkhead.KindNotFound, secret)
	bad := filepath.Join(dir, "bad")
	if err := os.WriteFile(bad, []byte(secret[:40]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = keys.OpenFileRing(keys.Config{Dir: dir, IdentityFile: bad})
	check(t, "cut off", err, bulkhead.KindMalformed, secret[:30])
}

func TestConfigIsChecked(t *testing.T) {
	for what, c := range map[string]keys.Config{
		"no folder": {Passphrase: []byte("x")},
		"no secret": {Dir: t.TempDir()},
		"two":       {Dir: t.TempDir(), IdentityFile: "x", Passphrase: []byte("x")},
	} {
		_, err := keys.OpenFileRing(c)
		check(t, what, err, bulkhead.KindUsage, "")
	}
}

func TestFilesAreSealedAndPrivate(t *testing.T) {
	ctx := context.Background()
	c := keys.Config{Dir: filepath.Join(t.TempDir(), "new"), IdentityFile: identity(t)}
	ring := must(t, c)
	uri, s, err := ring.Generate(ctx, "root", keys.P256)
	if err != nil {
		t.Fatal(err)
	}
	if uri != "file:root.age" {
		t.Errorf("URI %q", uri)
	}
	path := filepath.Join(c.Dir, "root.age")
	mode(t, path)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(text, []byte("age-encryption.org/v1")) {
		t.Error("not an age file")
	}
	entries, err := os.ReadDir(c.Dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("folder holds %v, %v", entries, err)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(format, s); text != "signer" {
			t.Errorf("%s prints %q", format, text)
		}
	}
}

// A crash leaves at most a temporary file, which is no key and stands in nobody's way.
func TestLeftoverOfACrash(t *testing.T) {
	ctx := context.Background()
	c := keys.Config{Dir: t.TempDir(), IdentityFile: identity(t)}
	if err := os.WriteFile(filepath.Join(c.Dir, ".new-123"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.Dir, "Strange.age"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	ring := must(t, c)
	if uris, err := ring.List(ctx); err != nil || len(uris) != 0 {
		t.Errorf("List = %v, %v", uris, err)
	}
	if _, _, err := ring.Generate(ctx, "root", keys.P256); err != nil {
		t.Error(err)
	}
}

func mode(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("%s has mode %v", filepath.Base(path), info.Mode())
	}
}

func check(t *testing.T, what string, err error, want bulkhead.Kind, secret string) {
	t.Helper()
	if bulkhead.KindOf(err) != want {
		t.Errorf("%s: %v, want kind %s", what, err, want)
		return
	}
	f := bulkhead.AsFault(err)
	if f.Hint == "" {
		t.Errorf("%s: no hint", what)
	}
	if secret != "" && strings.Contains(err.Error()+f.Hint, secret) {
		t.Errorf("%s: the error holds the secret", what)
	}
}
