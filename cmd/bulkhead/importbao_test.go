package main

import (
	"fmt"
	"path/filepath"
	"testing"

	"bulkhead/console"
	"bulkhead/run"
)

// genuineBao is what a genuine OpenBao printed (importer/testdata/openbao/make.sh).
const genuineBao = "../../importer/testdata/openbao"

// TestImportBao: what `bao read` and `bao list` print of a genuine OpenBao's certificates, and its CRL, which says the same.
func TestImportBao(t *testing.T) {
	c := houseUp(t)
	in := func(name string) string { return filepath.Join(genuineBao, name) }
	args := []string{"import", "--name", "bao", "--ca", in("ca.pem")}
	for i := range 4 {
		args = append(args, in(fmt.Sprintf("cert%d.json", i)))
	}
	if r := asJSON[run.ImportReport](t, c, append(args, in("list.json"), in("crl.pem"))...); r.New != 4 || r.Revoked != 1 || r.Certificates != 4 || len(r.Problems) != 0 {
		t.Fatalf("%+v", r)
	}
	if r := asJSON[run.ImportReport](t, c, append(args, in("list.json"))...); r.New != 0 || r.Known != 4 || r.NewlyRevoked != 0 {
		t.Fatalf("again, without the CRL: %+v", r)
	}
	revoked := 0
	for _, x := range asJSON[console.CertificateList](t, c, "cert", "list", "--issuer", "bao").Certificates {
		if x.State == "revoked" {
			revoked++
			if x.Subject != "CN=bao1.example.test" || x.Reason != "unspecified" {
				t.Errorf("%+v", x)
			}
		}
	}
	if revoked != 1 {
		t.Errorf("%d are revoked", revoked)
	}
}
