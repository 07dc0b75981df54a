//go:build pkcs11

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead"
	"bulkhead/ceremony"
	"bulkhead/keys"
	"bulkhead/quorum"
)

const softHSM = "/usr/lib/softhsm/libsofthsm2.so"

// objects lists the private keys of the token by another program.
func objects(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("pkcs11-tool", "--module", softHSM, "--token-label", "root token", "--login", "--pin", "user-secret", "--list-objects", "--type", "privkey").CombinedOutput()
	if err != nil {
		t.Fatalf("pkcs11-tool is needed: install the package opensc: %v\n%s", err, out)
	}
	return string(out)
}

// TestCeremoniesOnToken: a root's whole life on a token, each ceremony in the words of its plan and left in a bundle that
// verifies: the root with its first CRLs, an issuing authority, an OCSP delegate and CRLs, and the end of the key.
func TestCeremoniesOnToken(t *testing.T) {
	r := &room{t: t, dir: t.TempDir(), sys: t.TempDir()}
	r.write(filepath.Join("..", filepath.Base(r.sys), "proc/self/net/dev"), "Inter-|   Receive\n face |bytes\n    lo:       0\n")
	if err := os.Mkdir(r.path("tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.write("softhsm2.conf", "directories.tokendir = "+r.path("tokens")+"\n")
	t.Setenv("SOFTHSM2_CONF", r.path("softhsm2.conf"))
	if out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "root token", "--so-pin", "so-secret", "--pin", "user-secret").CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util is needed: install the package softhsm2: %v\n%s", err, out)
	}
	r.write("pin", "user-secret\n")
	ring := "pkcs11:token=root%20token?module-path=" + softHSM + "&pin-source=" + r.path("pin")
	const uri = "pkcs11:token=root%20token;object=root"
	hold := func(file, previous string, code int, more ...string) string {
		t.Helper()
		args := []string{"run", r.save(file + ".yaml"), "--plan-hash", r.plan.Digest().String(), "--who", "Ada", "--who", "Grace", "--keys", ring, "--out", r.path(file + ".bundle")}
		if previous != "" {
			args = append(args, "--previous", r.path(previous+".bundle"))
		}
		said := r.want(code, append(args, more...)...)
		if strings.Contains(said, "user-secret") {
			t.Errorf("%s printed the PIN", file)
		}
		if code == exitDone && previous != "" {
			r.want(exitDone, "transcript", "verify", r.path(file+".bundle"), "--root", r.path("root.pem"), "--plan", r.path(file+".yaml"), "--previous", r.path(previous+".bundle"))
		}
		return said
	}

	r.plan = ceremony.Plan{Title: "the root", StatusURL: "http://status.example.com", Root: "root", Steps: []ceremony.Step{
		{Root: &ceremony.RootStep{ID: "root", Subject: name("Test Root"), Algorithm: keys.P384, Days: 3650}},
		{CRL: &ceremony.CRLStep{Authority: "root", HorizonDays: 90, TurnoverDays: 30, OverlapDays: 30}}}}
	hold("first", "", exitDone)
	hold("again", "", exitFailed) // the label is taken: no second root under one name
	root := r.open("first.bundle").Root
	r.write("root.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw})))
	if got := objects(t); !strings.Contains(got, "root") || !strings.Contains(got, "never extractable") {
		t.Errorf("on the token: %s", got)
	}

	existing := ceremony.Existing{ID: "root", Kind: bulkhead.RootAuthority, Certificate: root.Raw, KeyURI: uri}
	r.plan = ceremony.Plan{Title: "an issuing authority", StatusURL: "http://status.example.com", Root: "root", Existing: []ceremony.Existing{existing}, Steps: []ceremony.Step{
		{Issuing: &ceremony.IssuingStep{ID: "issuing-a", Kind: bulkhead.IssuingAuthority, Parent: "root", Subject: name("Issuing A"), Request: ceremony.Request{CSR: csr(t), KeyURI: "file:issuing-a.age"}, Days: 1825, Shards: 4}},
		{Delegate: &ceremony.DelegateStep{Authority: "root", Subject: name("Root OCSP"), Requests: []ceremony.Request{{CSR: delegateCSR(t), KeyURI: "file:root-ocsp.age"}}, TurnoverDays: 365, OverlapDays: 30}},
		{CRL: &ceremony.CRLStep{Authority: "root", AfterNumber: 3, HorizonDays: 90, TurnoverDays: 30, OverlapDays: 30}}}}
	hold("second", "first", exitDone)
	b := r.open("second.bundle")
	issuing := b.Objects[b.Transcript.Entries[0].Outputs[0].Digest]
	cert, err := x509.ParseCertificate(issuing)
	if err != nil {
		t.Fatal(err)
	}
	if err := cert.CheckSignatureFrom(root); err != nil {
		t.Errorf("the issuing authority: %v", err)
	}

	r.plan = ceremony.Plan{Title: "the end", StatusURL: "http://status.example.com", Root: "root",
		Existing: []ceremony.Existing{existing, {ID: "issuing-a", Kind: bulkhead.IssuingAuthority, Certificate: issuing}},
		Steps: []ceremony.Step{{CRL: &ceremony.CRLStep{Authority: "root", AfterNumber: 6, HorizonDays: 2000, TurnoverDays: 100, OverlapDays: 100}},
			{Destroy: &ceremony.DestroyStep{Authority: "root", Why: "end of its life"}}}}
	var both []string
	for _, file := range []string{"w1.key", "w2.key"} {
		_, key, err := genKey()
		if err != nil {
			t.Fatal(err)
		}
		text, err := quorum.MarshalKey(key)
		if err != nil {
			t.Fatal(err)
		}
		r.write(file, string(text))
		both = append(both, "--witness-key", r.path(file))
	}
	hold("end", "second", exitRefused, both[:2]...)
	if got := objects(t); !strings.Contains(got, "root") {
		t.Errorf("a refused ceremony left on the token: %s", got)
	}
	said := hold("end", "second", exitDone, both...)
	if !strings.Contains(said, "the token destroys the key") {
		t.Errorf("said %s", said)
	}
	if got := objects(t); strings.Contains(got, "root\n") {
		t.Errorf("the key is still there: %s", got)
	}
	b = r.open("end.bundle")
	if len(b.Destructions) != 1 || b.Destructions[0].KeyURI != uri || b.Destructions[0].Verify() != nil || !strings.Contains(b.Destructions[0].Notice, "token") {
		t.Errorf("statements %+v", b.Destructions)
	}
	r.plan.Steps = r.plan.Steps[:1]
	r.plan.Steps[0].CRL.AfterNumber = 1000
	hold("late", "end", exitFailed) // nothing can sign with it any more
}

// delegateCSR is a request for an OCSP responder.
func delegateCSR(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "ocsp"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
