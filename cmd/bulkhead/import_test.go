package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/console"
	"bulkhead/proof"
	"bulkhead/run"
	"bulkhead/store/storetest/pgtest"
)

const opensslConf = `[ca]
default_ca = d
[d]
dir = %[1]s
database = %[1]s/index.txt
new_certs_dir = %[1]s/newcerts
certificate = %[1]s/ca.pem
private_key = %[1]s/ca.key
serial = %[1]s/serial
crlnumber = %[1]s/crlnumber
default_md = sha256
default_days = 90
default_crl_days = 7
policy = p
copy_extensions = copy
unique_subject = no
crl_extensions = v3_crl
[p]
commonName = supplied
[req]
distinguished_name = dn
[dn]
[v3_ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[v3_crl]
authorityKeyIdentifier = keyid
[v3_ocsp]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = OCSPSigning
noCheck = ignored
authorityKeyIdentifier = keyid
`

// oldCA makes a certificate authority with openssl ca: four certificates, two of them revoked.
func oldCA(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, body := range map[string]string{"openssl.cnf": fmt.Sprintf(opensslConf, dir), "index.txt": "", "serial": "1000\n", "crlnumber": "01\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "newcerts"), 0o700); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "openssl.cnf")
	in := func(name string) string { return filepath.Join(dir, name) }
	openssl(t, "req", "-x509", "-config", conf, "-extensions", "v3_ca", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", in("ca.key"), "-out", in("ca.pem"), "-subj", "/CN=Old CA", "-days", "365")
	for i := range 4 {
		name := fmt.Sprintf("old%d.example.test", i)
		openssl(t, "req", "-new", "-config", conf, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", in("k"), "-out", in("r"), "-subj", "/CN="+name, "-addext", "subjectAltName=DNS:"+name)
		openssl(t, "ca", "-batch", "-config", conf, "-in", in("r"), "-notext", "-out", in(name+".pem"))
	}
	openssl(t, "ca", "-config", conf, "-revoke", in("old1.example.test.pem"), "-crl_reason", "superseded")
	openssl(t, "ca", "-config", conf, "-revoke", in("old2.example.test.pem"), "-crl_compromise", "20260101000000Z")
	openssl(t, "ca", "-config", conf, "-gencrl", "-out", in("crl.pem"))
	return dir
}

// TestImport and TestImportPostgreSQL: a CA made by openssl beside our own: listed, previewed, not published for, imported
// again without a change, and every piece that was not taken is named; as a user types it, on both stores.
func TestImport(t *testing.T) { testImport(t, houseUp(t)) }

func TestImportPostgreSQL(t *testing.T) {
	dsn := filepath.Join(t.TempDir(), "dsn")
	if err := os.WriteFile(dsn, []byte(pgtest.New(t)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	testImport(t, houseAt(t, "127.0.0.1:0", "http://127.0.0.1:9", "--store", "postgres:"+dsn))
}

func testImport(t *testing.T, c *cli) {
	old := oldCA(t)
	in := func(name string) string { return filepath.Join(old, name) }
	args := []string{"import", "--name", "old-ca", "--ca", in("ca.pem"), "--index", in("index.txt"), in("newcerts"), in("crl.pem")}
	if r := asJSON[run.ImportReport](t, c, append(args, "--dry-run")...); !r.DryRun || r.New != 4 || r.Revoked != 2 {
		t.Fatalf("%+v", r)
	}
	if out, _ := c.run(t, exitDone, "hierarchy", "show"); strings.Contains(out, "old-ca") {
		t.Fatal("a dry run changed something")
	}
	if r := asJSON[run.ImportReport](t, c, args...); r.New != 4 || r.Revoked != 2 || r.Certificates != 4 || len(r.Problems) != 0 {
		t.Fatalf("%+v", r)
	}
	if r := asJSON[run.ImportReport](t, c, args...); r.New != 0 || r.Known != 4 || r.NewlyRevoked != 0 {
		t.Fatalf("again: %+v", r)
	}
	if out, _ := c.run(t, exitDone, "hierarchy", "show"); !strings.Contains(out, "old-ca") || !strings.Contains(out, "key elsewhere") {
		t.Error(out)
	}
	list := asJSON[console.CertificateList](t, c, "cert", "list", "--issuer", "old-ca")
	states := map[string]string{}
	for _, x := range list.Certificates {
		states[x.Subject] = fmt.Sprint(x.State, " ", x.Reason)
	}
	if len(states) != 4 || !strings.Contains(states["CN=old1.example.test"], "superseded") || !strings.Contains(states["CN=old2.example.test"], "keyCompromise") || !strings.HasPrefix(states["CN=old0.example.test"], "issued") {
		t.Errorf("%v", states)
	}
	// Our status stays ours: a revocation of a foreign certificate is planned and never published.
	if _, errOut := c.run(t, exitRefused, "cert", "revoke", in("old0.example.test.pem"), "--reason", "superseded"); !strings.Contains(errOut, "its key is elsewhere") || !strings.Contains(errOut, "bulkhead import") {
		t.Error(errOut)
	}

	// A later CRL brings a revocation; what cannot be taken is named, line by line.
	openssl(t, "ca", "-config", in("openssl.cnf"), "-revoke", in("old3.example.test.pem"))
	openssl(t, "ca", "-config", in("openssl.cnf"), "-gencrl", "-out", in("crl.pem"))
	bad := c.file(t, "index.txt", "V\t270101000000Z\t\t1000\tunknown\t/CN=a\nnonsense\nR\t270101000000Z\tyesterday\t1001\tunknown\t/CN=b\nV\t270101000000Z\t\tBEEF\tunknown\t/CN=c\n", 0o600)
	out, _ := c.run(t, exitPartly, "import", "--name", "old-ca", "--ca", in("ca.pem"), "--index", bad, in("newcerts"), in("crl.pem"), in("openssl.cnf"), "--json")
	var r run.ImportReport
	if err := json.Unmarshal([]byte(out), &r); err != nil || r.NewlyRevoked != 1 || r.New != 0 || len(r.Problems) != 4 {
		t.Errorf("%v: %+v", err, r)
	}
	// The proof knows what was imported, and does not take it for what this house signed.
	if r := asJSON[proof.Report](t, c, "audit", "prove", "--issuer", "old-ca"); !r.OK || !strings.Contains(r.Text(), "4  imported from other houses") {
		t.Error(r.Text())
	}
	found, _ := c.run(t, exitDone, "fsck")
	if strings.Contains(found, "failure") {
		t.Error(found)
	}
	for what, args := range map[string][]string{
		"a name that is taken": {"import", "--name", "issuing-p256", "--ca", in("ca.pem"), in("newcerts")},
		"two names":            {"import", "--name", "older-ca", "--ca", in("ca.pem"), in("newcerts")},
	} {
		if _, errOut := c.run(t, exitFailed, args...); !strings.Contains(errOut, "next: ") {
			t.Errorf("%s: %s", what, errOut)
		}
	}
	c.run(t, exitUsage, "import", "--name", "x", "--ca", in("ca.pem"))
	c.run(t, exitUsage, "import", "--name", "x", "--ca", in("serial"), in("newcerts"))
}
