package forged

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	xocsp "golang.org/x/crypto/ocsp"

	"bulkhead"
)

var update = flag.Bool("update", false, "make the corpus in testdata anew")

const century = 100 * 365 * 24 * time.Hour

// verdicts is the table of the corpus: what we say, what OpenSSL says, what Go's x/crypto/ocsp says, and what to think.
var verdicts = map[string]struct {
	ours, openssl, golang bool
	verdict, why          string
}{
	"A":  {true, true, true, "accepted", ""},
	"B":  {false, true, true, "accepted by OpenSSL: DANGEROUS", "CA certificate"},
	"B2": {false, true, true, "accepted by OpenSSL: DANGEROUS", "CA certificate"},
	"C":  {false, false, true, "rejected", "CA certificate"},
	"D":  {false, false, true, "rejected", "OCSPSigning alone"},
}

// TestCorpus holds the committed cases against all three validators.
func TestCorpus(t *testing.T) {
	if *update {
		s, err := Make(rand.Reader, time.Now(), century)
		if err != nil {
			t.Fatal(err)
		}
		write(t, "testdata", s)
	}
	s := read(t)
	judge(t, s, "testdata")
}

// TestMake: cases made now get the same verdicts.
func TestMake(t *testing.T) {
	s, err := Make(rand.Reader, time.Now(), 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, dir, s)
	judge(t, s, dir)
}

// TestVerdictWords: without another validator nothing is claimed of it, and a belief of ours in a forgery is a defect.
func TestVerdictWords(t *testing.T) {
	forgery, lawful := Case{Name: "B"}, Case{Name: "A", Lawful: true}
	for _, c := range []struct {
		c                 Case
		ours, asked, them bool
		want              string
	}{
		{lawful, true, false, false, "accepted"},
		{lawful, false, true, true, "REFUSED, and it is lawful"},
		{lawful, true, true, false, "REFUSED, and it is lawful"},
		{forgery, true, true, true, "ACCEPTED BY US: a defect"},
		{forgery, false, false, false, "rejected by us; nobody else was asked"},
	} {
		if got := Verdict(c.c, c.ours, c.asked, c.them); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func judge(t *testing.T, s Set, dir string) {
	t.Helper()
	if len(s.Cases) != len(verdicts) {
		t.Fatalf("%d cases", len(s.Cases))
	}
	for _, c := range s.Cases {
		want := verdicts[c.Name]
		err := s.Check(c, time.Now())
		if (err == nil) != want.ours || err != nil && (bulkhead.KindOf(err) != bulkhead.KindGate || !strings.Contains(err.Error(), want.why)) {
			t.Errorf("%s: ours: %v", c.Name, err)
		}
		out, _ := exec.Command("openssl", "ocsp", "-respin", filepath.Join(dir, c.Name+".der"), "-CAfile", filepath.Join(dir, "root.pem"), "-issuer", filepath.Join(dir, "root.pem"),
			"-serial", "0x"+s.Serial.String()).CombinedOutput()
		openssl := strings.Contains(string(out), "Response verify OK")
		if openssl != want.openssl {
			t.Errorf("%s: OpenSSL believes it: %v, want %v\n%s", c.Name, openssl, want.openssl, out)
		}
		if _, err := xocsp.ParseResponseForCert(c.Response, s.Sibling, s.Root); (err == nil) != want.golang {
			t.Errorf("%s: x/crypto/ocsp: %v, want belief %v: doc comments speak of its behaviour", c.Name, err, want.golang)
		}
		if got := Verdict(c, err == nil, true, openssl); got != want.verdict {
			t.Errorf("%s: %s, want %s", c.Name, got, want.verdict)
		}
	}
}

func write(t *testing.T, dir string, s Set) {
	t.Helper()
	files := map[string][]byte{"root.pem": pemOf(s.Root), "sibling-a.pem": pemOf(s.Sibling)}
	for _, c := range s.Cases {
		files[c.Name+".der"] = c.Response
	}
	for name, body := range files {
		if err := os.WriteFile(filepath.Join(dir, name), body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func read(t *testing.T) Set {
	t.Helper()
	load := func(name string) *x509.Certificate {
		body, err := os.ReadFile(filepath.Join("testdata", name))
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
	s := Set{Root: load("root.pem"), Sibling: load("sibling-a.pem")}
	var err error
	if s.Serial, err = bulkhead.SerialFromBig(s.Sibling.SerialNumber); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"A", "B", "B2", "C", "D"} {
		body, err := os.ReadFile(filepath.Join("testdata", name+".der"))
		if err != nil {
			t.Fatal(err)
		}
		s.Cases = append(s.Cases, Case{Name: name, Lawful: name == "A", Response: body})
	}
	return s
}
