package keys

import (
	"context"
	"crypto"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead"
	"bulkhead/keys/internal/pkcs11"
)

// fakeToken is a ring in memory with the URIs of a token, and may be away.
type fakeToken struct {
	*MemoryRing
	away bool
}

func (f *fakeToken) gone() error {
	if f.away {
		return bulkhead.NewFault(bulkhead.KindUnavailable, "the token does not answer").WithHint("plug it in")
	}
	return nil
}

func (f *fakeToken) uri(memory string) string {
	return pkcs11.URI{Token: "fake"}.Key(strings.TrimPrefix(memory, memoryScheme))
}

func (f *fakeToken) memory(uri string) string {
	u, err := pkcs11.ParseURI(uri)
	if err != nil {
		return uri
	}
	return memoryScheme + u.Object
}

func (f *fakeToken) Open(ctx context.Context, uri string) (crypto.Signer, error) {
	if err := f.gone(); err != nil {
		return nil, err
	}
	return f.MemoryRing.Open(ctx, f.memory(uri))
}

func (f *fakeToken) Generate(ctx context.Context, name string, alg Algorithm) (string, crypto.Signer, error) {
	if err := f.gone(); err != nil {
		return "", nil, err
	}
	uri, s, err := f.MemoryRing.Generate(ctx, name, alg)
	return f.uri(uri), s, err
}

func (f *fakeToken) Destroy(ctx context.Context, uri string) error {
	return f.MemoryRing.Destroy(ctx, f.memory(uri))
}

func (f *fakeToken) List(ctx context.Context) ([]string, error) {
	if err := f.gone(); err != nil {
		return nil, err
	}
	all, err := f.MemoryRing.List(ctx)
	for i := range all {
		all[i] = f.uri(all[i])
	}
	return all, err
}

func besideFake(t *testing.T, prefix string) (*BesideRing, *fakeToken) {
	t.Helper()
	dir := t.TempDir()
	identity := filepath.Join(dir, "identity")
	if _, err := NewIdentity(identity); err != nil {
		t.Fatal(err)
	}
	files, err := OpenFileRing(Config{Dir: filepath.Join(dir, "keys"), IdentityFile: identity})
	if err != nil {
		t.Fatal(err)
	}
	token := &fakeToken{MemoryRing: NewMemoryRing()}
	return Beside(token, files, prefix), token
}

// TestBeside: each key is made where it belongs, and found where its URI says, before and after the token came.
func TestBeside(t *testing.T) {
	ctx := context.Background()
	r, token := besideFake(t, "house1-")
	old, _, err := r.files.Generate(ctx, "issuing", P256)
	if err != nil {
		t.Fatal(err)
	}
	uri, s, err := r.Generate(ctx, "issuing", P256)
	if err != nil || uri != "pkcs11:token=fake;object=house1-issuing" {
		t.Fatalf("%s, %v", uri, err)
	}
	head, _, err := r.Generate(ctx, "head", Ed25519)
	if err != nil || head != "file:head.age" {
		t.Fatalf("%s, %v", head, err)
	}
	for _, u := range []string{old, uri, head} {
		if _, err := r.Open(ctx, u); err != nil {
			t.Errorf("%s: %v", u, err)
		}
	}
	if all, err := r.List(ctx); err != nil || strings.Join(all, " ") != "file:head.age file:issuing.age "+uri {
		t.Errorf("%v, %v", all, err)
	}
	if again, err := r.Open(ctx, uri); err != nil || again.Public() != s.Public() {
		t.Errorf("%v", err)
	}
	token.away = true
	if _, err := r.Open(ctx, uri); bulkhead.KindOf(err) != bulkhead.KindUnavailable {
		t.Errorf("a token that is away: %v", err)
	}
	if _, err := r.Open(ctx, head); err != nil {
		t.Errorf("a file while the token is away: %v", err)
	}
	if _, err := r.List(ctx); bulkhead.KindOf(err) != bulkhead.KindUnavailable {
		t.Errorf("half a list: %v", err)
	}
	token.away = false
	if err := r.Destroy(ctx, uri); err != nil {
		t.Error(err)
	}
	if _, err := r.Open(ctx, uri); bulkhead.KindOf(err) != bulkhead.KindNotFound {
		t.Errorf("a destroyed key: %v", err)
	}
}

// TestBesideLabels: a label is a name, whatever the length of what it is made of, and no two names share one.
func TestBesideLabels(t *testing.T) {
	r := Beside(nil, nil, "0123abcd-")
	seen := map[string]bool{}
	for _, name := range []string{"a", strings.Repeat("x", 54), strings.Repeat("x", 64), strings.Repeat("x", 63) + "y", "ocsp-" + strings.Repeat("y", 40) + "-0123456789ab"} {
		l := r.label(name)
		if err := CheckName(l); err != nil || seen[l] || !strings.HasPrefix(l, "0123abcd-") {
			t.Errorf("%s: %q, %v", name, l, err)
		}
		seen[l] = true
	}
}

// TestLater: a token that is away at the start is used once it is back; what else is wrong is said at once.
func TestLater(t *testing.T) {
	ctx := context.Background()
	token := &fakeToken{MemoryRing: NewMemoryRing()}
	away, opened := true, 0
	r := &LaterRing{open: func() (Ring, error) {
		if away {
			return nil, bulkhead.NewFault(bulkhead.KindUnavailable, "away").WithHint("plug it in")
		}
		opened++
		return token, nil
	}}
	for range 2 {
		_, _, err := r.Generate(ctx, "k", P256)
		_, err2 := r.List(ctx)
		_, err3 := r.Open(ctx, "pkcs11:token=fake;object=k")
		for _, err := range []error{err, err2, err3, r.Destroy(ctx, "pkcs11:token=fake;object=k")} {
			if bulkhead.KindOf(err) != bulkhead.KindUnavailable {
				t.Errorf("away: %v", err)
			}
		}
	}
	away = false
	uri, _, err := r.Generate(ctx, "k", P256)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Open(ctx, uri); err != nil || opened != 1 {
		t.Errorf("%v, opened %d times", err, opened)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := r.List(cancelled); err == nil {
		t.Error("a call that was given up went on")
	}
}

// TestTokenFiles: a configuration names a token fully, or is refused without its text.
func TestTokenFiles(t *testing.T) {
	library, pin, err := TokenFiles("pkcs11:token=a%20b?module-path=/lib/x.so&pin-source=file:/etc/pin")
	if err != nil || library != "/lib/x.so" || pin != "/etc/pin" {
		t.Errorf("%s, %s, %v", library, pin, err)
	}
	for _, bad := range []string{"", "file:x", "pkcs11:token=x", "pkcs11:token=x?module-path=x.so&pin-source=/p", "pkcs11:token=x?module-path=/x.so&pin-source=p",
		"pkcs11:token=x;object=y?module-path=/x.so&pin-source=/p", "pkcs11:token=x?module-path=/x.so&pin-value=1234"} {
		_, _, err := TokenFiles(bad)
		if err == nil || strings.Contains(err.Error(), "1234") || bulkhead.AsFault(err).Hint == "" {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := OpenToken("pkcs11:token=x?module-path=/absent.so&pin-source=" + filepath.Join(t.TempDir(), "absent")); bulkhead.KindOf(err) != bulkhead.KindUsage {
		t.Errorf("no PIN: %v", err)
	}
	open := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(open, []byte("1234\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenToken("pkcs11:token=x?module-path=/absent.so&pin-source=" + open); err == nil {
		t.Error("a PIN that everybody reads")
	}
}
