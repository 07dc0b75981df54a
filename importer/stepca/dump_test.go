package stepca_test

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v2"

	"bulkhead"
)

// rowsOf reads the rows of a table of the genuine database, as step-ca puts them into SQL: the same keys, the same values.
func rowsOf(t *testing.T, table string) (rows [][2]string) {
	t.Helper()
	db, err := badger.Open(badger.DefaultOptions(genuine).WithLogger(nil).WithReadOnly(true))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	prefix := string(rune(len(table))) + "\x00" + table
	err = db.View(func(tx *badger.Txn) error {
		it := tx.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		for it.Seek([]byte(prefix)); it.ValidForPrefix([]byte(prefix)); it.Next() {
			value, err := it.Item().ValueCopy(nil)
			if err != nil {
				return err
			}
			if key := it.Item().Key()[len(prefix):]; len(key) > 2 {
				rows = append(rows, [2]string{hex.EncodeToString(key[2:]), hex.EncodeToString(value)})
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func file(t testing.TB, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dump.sql")
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDumps: both forms of a dump give what the database gives, whatever else is in them.
func TestDumps(t *testing.T) {
	var pg, my strings.Builder
	pg.WriteString("--\n-- PostgreSQL database dump\n--\nSET client_encoding = 'UTF8';\nCOPY public.acme_orders (nkey, nvalue) FROM stdin;\nwhat ever\n\\.\n")
	my.WriteString("-- MySQL dump\nDROP TABLE IF EXISTS `x509_certs`;\nINSERT INTO `acme_orders` VALUES ('what','ever');\n")
	for _, table := range []string{"revoked_x509_certs", "x509_certs"} {
		fmt.Fprintf(&pg, "COPY public.%s (nkey, nvalue) FROM stdin;\n", table)
		fmt.Fprintf(&my, "INSERT INTO `%s` VALUES ", table)
		for i, r := range rowsOf(t, table) {
			fmt.Fprintf(&pg, "\\\\x%s\t\\\\x%s\n", r[0], r[1])
			if i > 0 {
				my.WriteString(",")
			}
			fmt.Fprintf(&my, "(0x%s,0x%s)", strings.ToUpper(r[0]), strings.ToUpper(r[1]))
		}
		pg.WriteString("\\.\n\n")
		my.WriteString(";\n")
	}
	for what, body := range map[string]string{"PostgreSQL": pg.String(), "MySQL": my.String()} {
		t.Run(what, func(t *testing.T) {
			s, err := taken(t, file(t, body), "")
			wantGenuine(t, s, err)
			for _, cut := range []string{body[:len(body)-12], body[:len(body)-len(body)/4], strings.ReplaceAll(body, "x", "z"), ""} {
				if _, err := taken(t, file(t, cut), ""); bulkhead.KindOf(err) != bulkhead.KindMalformed {
					t.Errorf("%d octets of %d: %v", len(cut), len(body), err)
				}
			}
		})
	}
}

// FuzzDump: no bytes make it panic, or give a certificate that the authority did not sign.
func FuzzDump(f *testing.F) {
	f.Add("COPY public.x509_certs (nkey, nvalue) FROM stdin;\n\\\\x3831\t\\\\x30\n\\.\n")
	f.Add("COPY public.revoked_x509_certs (nkey, nvalue) FROM stdin;\n\\\\x3831\t\\\\x7b7d\n\\.\nCOPY x509_certs (")
	f.Add("INSERT INTO `x509_certs` VALUES (0x3831,0x30),(0x3832,0x);\nINSERT INTO `revoked_x509_certs` VALUES (0x3831,0x7B7D);\n")
	f.Fuzz(func(t *testing.T, body string) {
		s, err := taken(t, file(t, body), "")
		if err != nil && bulkhead.KindOf(err) != bulkhead.KindMalformed {
			t.Errorf("%v", err)
		}
		if s.Size() > 0 {
			t.Fatal("a certificate of nobody")
		}
	})
}
