package backup_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"bulkhead"
	"bulkhead/backup"
)

func identity(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func whole(t testing.TB, id *age.X25519Identity) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := backup.NewWriter(&out, backup.Header{House: "h", At: time.Unix(1, 0).UTC(), Engine: "sqlite"}, id.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.File("data/a", 0o600, 5, strings.NewReader("hello")); err != nil {
		t.Fatal(err)
	}
	s := w.Stream("store/rows")
	if _, err := s.Write(bytes.Repeat([]byte("row"), 700_000)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(7, 9, []string{"x: left"}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// little is a container with one short file.
func little(t testing.TB, id *age.X25519Identity) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := backup.NewWriter(&out, backup.Header{}, id.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.File("a", 0o600, 1, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(0, 0, nil); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestContainer: what was written is read; a wrong key, any cut and a flipped octet anywhere are refused with a next step.
func TestContainer(t *testing.T) {
	id := identity(t)
	body := whole(t, id)
	got := map[string]int64{}
	h, m, err := backup.Read(bytes.NewReader(body), nil, func(f backup.File) error { got[f.Name] = f.Size; return nil }, id)
	if err != nil || h.House != "h" || m.Head != 7 || m.Evidence != 9 || len(m.Entries) != 4 || got["data/a"] != 5 || got["store/rows/000003"] != 2_100_000-2<<20 {
		t.Fatalf("%v %+v %+v %v", err, h, m, got)
	}
	refused := func(what string, body []byte, want bulkhead.Kind, ids ...age.Identity) {
		t.Helper()
		for name, read := range map[string]func(io.Reader, func(backup.Header) error, func(backup.File) error, ...age.Identity) (backup.Header, backup.Manifest, error){"": backup.Read, " by the seal": backup.ReadSealed} {
			_, _, err := read(bytes.NewReader(body), nil, nil, ids...)
			if f := bulkhead.AsFault(err); err == nil || f.Kind != want || f.Hint == "" {
				t.Errorf("%s%s: %v", what, name, err)
			}
		}
	}
	if _, m, err := backup.ReadSealed(bytes.NewReader(body), nil, nil, id); err != nil || len(m.Entries) != 4 {
		t.Errorf("by the seal: %v %+v", err, m)
	}
	refused("another identity", body, bulkhead.KindUnauthorized, identity(t))
	for _, n := range []int{0, 10, 150, 300, len(body) / 2, len(body) - 70000, len(body) - 1} {
		refused(fmt.Sprintf("cut at %d", n), body[:n], bulkhead.KindMalformed, id)
	}
	for _, n := range []int{230, 300, len(body) / 2, len(body) - 1} {
		bad := bytes.Clone(body)
		bad[n] ^= 1
		refused(fmt.Sprintf("flipped at %d", n), bad, bulkhead.KindMalformed, id)
	}
	refused("something after the end", append(bytes.Clone(body), 'x'), bulkhead.KindMalformed, id)
	w, err := backup.NewWriter(io.Discard, backup.Header{}, id.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../x", "/x", "a//b", "a\\b", "", "manifest.json"} {
		if err := w.File(name, 0o600, 0, strings.NewReader("")); bulkhead.KindOf(err) != bulkhead.KindMalformed {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// sealed is a container of raw entries, as only another program would make it.
func sealed(t testing.TB, id *age.X25519Identity, entries ...tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	seal, err := age.Encrypt(&out, id.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(seal)
	for _, e := range entries {
		body := e.PAXRecords["BULKHEAD.body"]
		e.PAXRecords, e.Size, e.Mode = nil, int64(len(body)), 0o600
		if e.Typeflag != 0 && e.Typeflag != tar.TypeReg {
			body, e.Size = "", 0
		}
		if err := w.WriteHeader(&e); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, body); err != nil {
			t.Fatal(err)
		}
	}
	if w.Close() != nil || seal.Close() != nil {
		t.Fatal("close")
	}
	return out.Bytes()
}

func entry(name string, v any) tar.Header {
	body, ok := v.(string)
	if !ok {
		b, _ := json.Marshal(v)
		body = string(b)
	}
	return tar.Header{Name: name, PAXRecords: map[string]string{"BULKHEAD.body": body}}
}

// TestRefusals: a newer format, names that leave the target, links, and a manifest that says something else.
func TestRefusals(t *testing.T) {
	id := identity(t)
	head, none := entry("bulkhead-backup.json", backup.Header{Format: 1}), entry("manifest.json", backup.Manifest{})
	for what, x := range map[string]struct {
		entries []tar.Header
		want    bulkhead.Kind
	}{
		"newer format":     {[]tar.Header{entry("bulkhead-backup.json", backup.Header{Format: 2}), none}, bulkhead.KindConflict},
		"no header":        {[]tar.Header{none}, bulkhead.KindMalformed},
		"no manifest":      {[]tar.Header{head, entry("data/a", "x")}, bulkhead.KindMalformed},
		"leaves the place": {[]tar.Header{head, entry("../a", "x"), none}, bulkhead.KindMalformed},
		"absolute":         {[]tar.Header{head, entry("/a", "x"), none}, bulkhead.KindMalformed},
		"a link":           {[]tar.Header{head, {Name: "data/a", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, none}, bulkhead.KindMalformed},
		"not in manifest":  {[]tar.Header{head, entry("data/a", "x"), none}, bulkhead.KindMalformed},
		"twice":            {[]tar.Header{head, entry("data/a", "x"), entry("data/a", "x"), none}, bulkhead.KindMalformed},
		"another digest":   {[]tar.Header{head, entry("data/a", "x"), entry("manifest.json", backup.Manifest{Bytes: 1, Entries: []backup.Entry{{Name: "data/a", Size: 1, SHA256: "00"}}})}, bulkhead.KindMalformed},
	} {
		_, _, err := backup.Read(bytes.NewReader(sealed(t, id, x.entries...)), nil, nil, id)
		if f := bulkhead.AsFault(err); err == nil || f.Kind != x.want {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// FuzzRead: whatever stands inside a well sealed stream, reading ends with a fault or with what the manifest says.
func FuzzRead(f *testing.F) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		f.Fatal(err)
	}
	// Short seeds: the fuzzer shortens what is interesting octet by octet, and does nothing else meanwhile.
	for _, seed := range [][]byte{little(f, id), sealed(f, id, entry("bulkhead-backup.json", backup.Header{Format: 1}), entry("manifest.json", backup.Manifest{}))} {
		r, err := age.Decrypt(bytes.NewReader(seed), id)
		if err != nil {
			f.Fatal(err)
		}
		plain, err := io.ReadAll(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.TrimRight(plain, "\x00"))
	}
	f.Fuzz(func(t *testing.T, plain []byte) {
		n := 0
		_, m, err := backup.ReadPlain(bytes.NewReader(plain), true, nil, func(backup.File) error { n++; return nil })
		if err == nil && n != len(m.Entries) {
			t.Fatalf("%d files, the manifest has %d", n, len(m.Entries))
		}
	})
}
