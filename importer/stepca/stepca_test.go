package stepca_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v2"

	"bulkhead"
	"bulkhead/importer"
	"bulkhead/importer/stepca"
)

// What a genuine step-ca left is in testdata, made by testdata/make.sh: four certificates by ACME, one of them revoked.
const (
	genuine = "testdata/db"
	ca      = "testdata/ca.pem"
)

func authority(t testing.TB, file string) *x509.Certificate {
	t.Helper()
	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(body)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// taken reads a source of the authority in ca into a set as an import does.
func taken(t testing.TB, path, scratch string) (*importer.Set, error) {
	t.Helper()
	return takenOf(t, ca, path, scratch)
}

func takenOf(t testing.TB, ca, path, scratch string) (*importer.Set, error) {
	t.Helper()
	s := importer.New(authority(t, ca))
	source, err := stepca.Open(path, scratch)
	if err != nil {
		return s, err
	}
	if err := source.Lists(t.Context(), func(p importer.Piece) {
		j := s.Judge(p)
		s.TakeList(j)
		s.Take(j)
	}); err != nil {
		return s, err
	}
	err = source.Certificates(t.Context(), func(p importer.Piece) { s.Take(s.Judge(p)) })
	s.Finish(nil)
	return s, err
}

// wantGenuine wants the four certificates and the revocation.
func wantGenuine(t *testing.T, s *importer.Set, err error) {
	t.Helper()
	if err != nil || s.Size() != 4 || len(s.Revoked) != 1 || len(s.Problems) != 0 {
		t.Fatalf("%v: %d certificates, %v, %v", err, s.Size(), s.Revoked, s.Problems)
	}
	for _, r := range s.Revoked {
		if r.Reason != bulkhead.Superseded || r.At.Year() != 2026 {
			t.Errorf("%+v", r)
		}
	}
}

// sum is over the names and octets of a folder.
func sum(t *testing.T, dir string) string {
	t.Helper()
	h := sha256.New()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		body, err := os.ReadFile(path)
		fmt.Fprintf(h, "%s %d %x\n", path, len(body), body)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// TestGenuine: what step-ca left is read, and not a bit of it changed.
func TestGenuine(t *testing.T) {
	before, scratch := sum(t, genuine), t.TempDir()
	s, err := taken(t, genuine, scratch)
	wantGenuine(t, s, err)
	if sum(t, genuine) != before {
		t.Error("the database was changed")
	}
	if left, _ := os.ReadDir(scratch); len(left) != 0 {
		t.Errorf("%v was left", left)
	}
}

func copyDB(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "db")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func open(t *testing.T, dir string) *badger.DB {
	t.Helper()
	db, err := badger.Open(badger.DefaultOptions(dir).WithLogger(nil).WithValueLogFileSize(1 << 20))
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func put(t *testing.T, db *badger.DB, table, key, value string) {
	t.Helper()
	err := db.Update(func(tx *badger.Txn) error {
		k := fmt.Sprintf("%c\x00%s%c\x00%s", len(table), table, len(key), key)
		return tx.Set([]byte(k), []byte(value))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestDamagedRows: a row that cannot be used is named, and the others are taken.
func TestDamagedRows(t *testing.T) {
	dir := copyDB(t, genuine)
	db := open(t, dir)
	put(t, db, "x509_certs", "77", "nonsense")
	put(t, db, "x509_certs", "78", "")
	put(t, db, "x509_certs_data", "78", "not looked at")
	for key, value := range map[string]string{
		"80": `{`, "81": `{"Serial":"82","RevokedAt":"2026-01-01T00:00:00Z"}`, "83": `{"Serial":"83"}`,
		"84": `{"Serial":"84","RevokedAt":"2026-01-01T00:00:00Z","ReasonCode":7}`, "x": `{"Serial":"x","RevokedAt":"2026-01-01T00:00:00Z"}`,
		"85": `{"Serial":"85","RevokedAt":"2026-01-01T00:00:00Z"}`, // good, of a certificate that is not there
	} {
		put(t, db, "revoked_x509_certs", key, value)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := taken(t, dir, t.TempDir())
	if err != nil || s.Size() != 4 || len(s.Revoked) != 2 || len(s.Problems) != 8 {
		t.Fatalf("%v: %d certificates, %v, %v", err, s.Size(), s.Revoked, s.Problems)
	}
}

// TestInUse: a database that step-ca has open is refused with what to do; one that was not closed is mended in a copy, of
// which nothing is left.
func TestInUse(t *testing.T) {
	dir := copyDB(t, genuine)
	db := open(t, dir)
	put(t, db, "revoked_x509_certs", "85", `{"Serial":"85","RevokedAt":"2026-01-01T00:00:00Z"}`)
	if _, err := taken(t, dir, ""); bulkhead.KindOf(err) != bulkhead.KindUnavailable || !strings.Contains(bulkhead.AsFault(err).Hint, "stop step-ca") {
		t.Errorf("in use: %v", err)
	}
	killed := copyDB(t, dir) // as a kill leaves it
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	before, scratch := sum(t, killed), t.TempDir()
	s, err := taken(t, killed, scratch)
	if err != nil || s.Size() != 4 || len(s.Revoked) != 2 {
		t.Fatalf("%v: %d certificates, %v, %v", err, s.Size(), s.Revoked, s.Problems)
	}
	if sum(t, killed) != before {
		t.Error("the database was changed")
	}
	if left, _ := os.ReadDir(scratch); len(left) != 0 {
		t.Errorf("%v was left", left)
	}
}

// TestNoDatabase: what is none is refused with what to give, and nothing is made there.
func TestNoDatabase(t *testing.T) {
	empty := t.TempDir()
	if _, err := taken(t, empty, ""); bulkhead.KindOf(err) != bulkhead.KindUsage {
		t.Errorf("an empty folder: %v", err)
	}
	if made, _ := os.ReadDir(empty); len(made) != 0 {
		t.Errorf("%v was made", made)
	}
	if _, err := taken(t, filepath.Join(empty, "none"), ""); bulkhead.KindOf(err) != bulkhead.KindUsage {
		t.Errorf("nothing: %v", err)
	}
	for what, body := range map[string]string{"badger 1": "Bdgr\x00\x00\x00\x04", "nonsense": "nonsense and more"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "MANIFEST"), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := taken(t, dir, ""); bulkhead.KindOf(err) != bulkhead.KindMalformed || bulkhead.AsFault(err).Hint == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
}
