package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"bulkhead"
	"bulkhead/ceremony"
	"bulkhead/keys"
	"bulkhead/pki/transcript"
	"bulkhead/quorum"
)

// room is a folder with a root that exists, its transcript, and the plan of a second ceremony.
type room struct {
	t    *testing.T
	dir  string
	sys  string // a machine without interfaces
	plan ceremony.Plan
}

func name(cn string) ceremony.Name {
	return ceremony.Name{CommonName: cn, Organization: "Test House", Country: "CH"}
}

func newRoom(t *testing.T) *room {
	t.Helper()
	r := &room{t: t, dir: t.TempDir(), sys: t.TempDir()}
	r.write(filepath.Join("..", filepath.Base(r.sys), "proc/self/net/dev"), "Inter-|   Receive\n face |bytes\n    lo:       0\n")
	keysDir := filepath.Join(r.dir, "keys")
	if err := os.Mkdir(keysDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.NewIdentity(filepath.Join(keysDir, "root.identity")); err != nil {
		t.Fatal(err)
	}
	r.plan = ceremony.Plan{Title: "the first", StatusURL: "http://status.example.com", Root: "root", Steps: []ceremony.Step{
		{Root: &ceremony.RootStep{ID: "root", Subject: name("Test Root"), Algorithm: keys.P256, Days: 3650}},
		{CRL: &ceremony.CRLStep{Authority: "root", HorizonDays: 90, TurnoverDays: 30, OverlapDays: 30}}}}
	r.want(exitDone, "run", r.save("first.yaml"), "--plan-hash", r.plan.Digest().String(), "--who", "Ada", "--keys", keysDir, "--out", r.path("first.bundle"))
	b := r.open("first.bundle")
	r.write("root.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.Root.Raw})))
	r.plan = ceremony.Plan{Title: "the second", StatusURL: "http://status.example.com", Root: "root",
		Existing: []ceremony.Existing{{ID: "root", Kind: bulkhead.RootAuthority, Certificate: b.Root.Raw, KeyURI: "file:root.age"}},
		Steps: []ceremony.Step{
			{Issuing: &ceremony.IssuingStep{ID: "issuing-a", Kind: bulkhead.IssuingAuthority, Parent: "root", Subject: name("Issuing A"), Request: ceremony.Request{CSR: csr(t), KeyURI: "file:issuing-a.age"}, Days: 1825, Shards: 4}},
			{CRL: &ceremony.CRLStep{Authority: "root", AfterNumber: 3, HorizonDays: 90, TurnoverDays: 30, OverlapDays: 30}}}}
	return r
}

func csr(t *testing.T, extra ...pkix.Extension) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}, ExtraExtensions: extra}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (r *room) path(file string) string { return filepath.Join(r.dir, file) }

func (r *room) write(file, text string) {
	r.t.Helper()
	path := r.path(file)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *room) save(file string) string {
	r.t.Helper()
	text, err := yaml.Marshal(r.plan)
	if err != nil {
		r.t.Fatal(err)
	}
	r.write(file, string(text))
	return r.path(file)
}

func (r *room) open(file string) *transcript.Bundle {
	r.t.Helper()
	text, err := os.ReadFile(r.path(file))
	if err != nil {
		r.t.Fatal(err)
	}
	b, err := transcript.Open(text, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

// want runs the tool and expects an exit code; it returns what was printed on both.
func (r *room) want(code int, args ...string) string {
	r.t.Helper()
	var out, errOut bytes.Buffer
	got := (&tool{out: &out, err: &errOut, sys: r.sys}).execute(context.Background(), args)
	if got != code {
		r.t.Fatalf("%s: exit %d, want %d\n%s%s", strings.Join(args, " "), got, code, out.String(), errOut.String())
	}
	return out.String() + errOut.String()
}

func (r *room) run(file string, more ...string) []string {
	return append([]string{"run", r.save(file + ".yaml"), "--plan-hash", r.plan.Digest().String(), "--who", "Ada", "--who", "Grace",
		"--keys", r.path("keys"), "--previous", r.path("first.bundle"), "--out", r.path(file + ".bundle")}, more...)
}

// TestOffline runs a whole ceremony in a network namespace without interfaces, traced: no socket of the internet is
// opened, and the artefacts verify.
func TestOffline(t *testing.T) {
	r := newRoom(t)
	binary := r.path("bulkhead-root")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, need := range []string{"unshare", "strace"} {
		if _, err := exec.LookPath(need); err != nil {
			t.Fatalf("%s is needed to prove that the tool opens no socket: install util-linux and strace", need)
		}
	}
	trace := r.path("trace")
	traced := func(args ...string) {
		t.Helper()
		cmd := exec.Command("unshare", append([]string{"--user", "--map-root-user", "--net", "strace", "-f", "-qq", "-e", "trace=%network", "-o", trace, binary}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
		seen, err := os.ReadFile(trace)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(seen, []byte("socket(")) || bytes.Contains(seen, []byte("AF_INET")) {
			t.Errorf("%s opened a socket:\n%s", args[0], seen)
		}
	}
	traced("plan", r.save("second.yaml"))
	traced(r.run("second")...)
	traced("transcript", "verify", r.path("second.bundle"), "--root", r.path("root.pem"), "--plan", r.path("second.yaml"), "--previous", r.path("first.bundle"))
	if b := r.open("second.bundle"); len(b.Transcript.Entries) != 2 || b.Transcript.CRLNumbers["root"] != 6 {
		t.Errorf("transcript %+v", b.Transcript)
	}
}

// TestTraceWouldSee shows that the trace is not blind.
func TestTraceWouldSee(t *testing.T) {
	trace := filepath.Join(t.TempDir(), "trace")
	// bash opens a socket for /dev/tcp; port 1 of loopback answers nothing, which does not matter.
	_ = exec.Command("strace", "-f", "-qq", "-e", "trace=%network", "-o", trace, "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/1").Run()
	seen, err := os.ReadFile(trace)
	if err != nil || !bytes.Contains(seen, []byte("AF_INET")) {
		t.Fatalf("a program that dials shows no AF_INET in the trace: %v\n%s", err, seen)
	}
}

// TestImports: nothing of the house in the tool speaks HTTP, dials, or reaches the store or a role. The lint library links
// net/http for its list of public suffixes; TestOffline shows that nothing uses it.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-json=ImportPath,Imports", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(out))
	seen := 0
	for dec.More() {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		path, ours := strings.CutPrefix(p.ImportPath, "bulkhead/")
		if !ours && p.ImportPath != "bulkhead" {
			continue
		}
		seen++
		for _, banned := range []string{"store", "run", "signer", "status", "enroll", "console", "edge", "publish", "live", "ct", "watch", "notice"} {
			if path == banned || strings.HasPrefix(path, banned+"/") {
				t.Errorf("the tool reaches %s", p.ImportPath)
			}
		}
		for _, imp := range p.Imports {
			if imp == "net/http" || imp == "crypto/tls" || imp == "net" && path != "pki/profile" { // pki/profile has address ranges
				t.Errorf("%s imports %s", p.ImportPath, imp)
			}
		}
	}
	if seen < 8 {
		t.Fatalf("only %d packages of the house were looked at", seen)
	}
}

// TestPlanIsQuoted: another hash, none, or a plan edited after it was read aloud signs nothing.
func TestPlanIsQuoted(t *testing.T) {
	r := newRoom(t)
	said := r.want(exitDone, "plan", r.save("second.yaml"))
	for _, words := range []string{"Step 1 of 2", "numbers 4 to 6", "nothing is revoked", "Nothing else is signed", r.plan.Grouped()} {
		if !strings.Contains(said, words) {
			t.Errorf("the plan's words lack %q:\n%s", words, said)
		}
	}
	args := r.run("second")
	args[3] = strings.Repeat("0", 64)
	r.want(exitRefused, args...)
	args[3] = ""
	r.want(exitUsage, args...)
	args = r.run("second")
	hash := r.plan.Digest().String()
	r.plan.Steps[0].Issuing.Days = 3000
	r.save("second.yaml")
	r.want(exitRefused, args...)
	if _, err := os.Stat(r.path("second.bundle")); err == nil {
		t.Error("a refused ceremony left a bundle")
	}
	r.plan.Steps[0].Issuing.Days = 1825
	r.save("second.yaml")
	args[3] = hash[:32] + " " + strings.ToUpper(hash[32:])
	r.want(exitDone, args...)
	r.want(exitFailed, args...) // the bundle is not overwritten
}

// TestNetworkedHost: an interface that is up refuses everything but a rehearsal, and one that is down does not.
func TestNetworkedHost(t *testing.T) {
	r := newRoom(t)
	dev := filepath.Join("..", filepath.Base(r.sys), "proc/self/net/dev")
	flags := filepath.Join("..", filepath.Base(r.sys), "sys/class/net/eth0/flags")
	r.write(dev, "Inter-|\n face |\n    lo: 0\n  eth0: 1 2\n")
	if said := r.want(exitRefused, r.run("second")...); !strings.Contains(said, "eth0 is up") {
		t.Errorf("said %s", said)
	}
	r.write(flags, "0x1003\n")
	r.want(exitRefused, r.run("second")...)
	r.want(exitRefused, "custody", "split", "--keys", r.path("keys"), "--out", r.path("x"))
	r.want(exitDone, r.run("rehearsed", "--rehearsal")...)
	r.write(flags, "0x1002\n")
	r.want(exitDone, r.run("second")...)
	if err := os.Remove(r.path(dev)); err != nil {
		t.Fatal(err)
	}
	r.want(exitRefused, r.run("third")...)
}

// TestRehearsal: no key of the safe is touched, and everything made bears the mark.
func TestRehearsal(t *testing.T) {
	r := newRoom(t)
	if err := os.RemoveAll(r.path("keys")); err != nil {
		t.Fatal(err)
	}
	r.want(exitDone, r.run("rehearsed", "--rehearsal", "--began", time.Now().Add(-20*time.Minute).Format(time.RFC3339))...)
	b := r.open("rehearsed.bundle")
	if !b.Transcript.Rehearsal || b.Transcript.Plan != r.plan.Digest() || b.FinishedAt.Sub(b.Transcript.BeganAt) < 20*time.Minute {
		t.Errorf("transcript %+v", b.Transcript)
	}
	for _, der := range b.Objects {
		if c, err := x509.ParseCertificate(der); err == nil && (!strings.HasPrefix(c.Subject.CommonName, ceremony.Mark) || !strings.HasPrefix(c.Issuer.CommonName, ceremony.Mark)) {
			t.Errorf("%s by %s is not marked", c.Subject, c.Issuer)
		} else if l, lerr := x509.ParseRevocationList(der); err != nil && (lerr != nil || !strings.HasPrefix(l.Issuer.CommonName, ceremony.Mark)) {
			t.Errorf("a CRL is not marked: %v", lerr)
		}
	}
	r.want(exitFailed, "transcript", "verify", r.path("rehearsed.bundle"), "--root", r.path("root.pem"))
}

// TestRefusals: what a root never signs is refused before its key is used (the gates have tests of their own).
func TestRefusals(t *testing.T) {
	ocsp, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 9}})
	if err != nil {
		t.Fatal(err)
	}
	r := newRoom(t)
	old := r.save("old.yaml")
	good := r.plan.Steps[0].Issuing.Request.CSR
	r.plan.Steps[0].Issuing.Request.CSR = csr(t, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: ocsp})
	if said := r.want(exitRefused, r.run("second")...); !strings.Contains(said, "extended key usage") {
		t.Errorf("said %s", said)
	}
	if said := r.want(exitRefused, "plan", r.path("second.yaml"), "--against", old); !strings.Contains(said, "could sign OCSP for 1 siblings") {
		t.Errorf("the new power is not named: %s", said)
	}
	r.plan.Steps[0].Issuing.Request.CSR = good
	r.plan.Steps[1].CRL.AfterNumber = 1
	r.want(exitRefused, r.run("second")...)
	r.plan.Steps[1].CRL.AfterNumber = 3
	args := r.run("second")
	for i, a := range args {
		if a == "--previous" {
			args = append(args[:i:i], args[i+2:]...)
			break
		}
	}
	r.want(exitUsage, args...)
}

// TestCustody: the key folder goes into the hands of two of three, and a ceremony is held with two of them.
func TestCustody(t *testing.T) {
	r := newRoom(t)
	split := []string{"custody", "split", "--keys", r.path("keys"), "--out", r.path("custody"), "--needed", "2"}
	for _, who := range []string{"ada", "grace", "edith"} {
		recipient, err := keys.NewIdentity(r.path(who))
		if err != nil {
			t.Fatal(err)
		}
		split = append(split, "--custodian", who+"="+recipient)
	}
	r.want(exitDone, split...)
	r.want(exitDone, "custody", "check", r.path("custody/share-ada.age"), "--custody", r.path("custody/custody.json"), "--identity", r.path("ada"))
	r.want(exitFailed, "custody", "check", r.path("custody/share-ada.age"), "--custody", r.path("custody/custody.json"), "--identity", r.path("grace"))
	two := []string{"--custody", r.path("custody/custody.json"), "--share", r.path("custody/share-ada.age"), "--share-identity", r.path("ada"), "--share", r.path("custody/share-edith.age"), "--share-identity", r.path("edith")}
	if said := r.want(exitDone, append([]string{"custody", "combine", "--keys", r.path("custody/keys")}, two...)...); !strings.Contains(said, "file:root.age opens") {
		t.Errorf("said %s", said)
	}
	if err := os.RemoveAll(r.path("keys")); err != nil {
		t.Fatal(err)
	}
	args := r.run("second", two...)
	for i, a := range args {
		if a == r.path("keys") {
			args[i] = r.path("custody/keys")
		}
	}
	r.want(exitRefused, args[:len(args)-4]...) // one share
	r.want(exitDone, args...)
}

// TestDestroyKey: two witnesses, nothing owed, and a statement that a stranger verifies.
func TestDestroyKey(t *testing.T) {
	r := newRoom(t)
	r.plan.Title = "the end"
	r.plan.Existing = append(r.plan.Existing, ceremony.Existing{ID: "issuing-a", Kind: bulkhead.IssuingAuthority, Certificate: r.issue()})
	r.plan.Steps = []ceremony.Step{{Destroy: &ceremony.DestroyStep{Authority: "root", Why: "end of its life"}}}
	witness := func(file string) string {
		_, key, err := genKey()
		if err != nil {
			t.Fatal(err)
		}
		text, err := quorum.MarshalKey(key)
		if err != nil {
			t.Fatal(err)
		}
		r.write(file, string(text))
		return r.path(file)
	}
	w1, w2 := witness("w1.key"), witness("w2.key")
	r.want(exitRefused, r.run("end", "--witness-key", w1)...)
	r.want(exitRefused, r.run("end", "--witness-key", w1, "--witness-key", w1)...)
	both := []string{"--witness-key", w1, "--witness-key", w2}
	if said := r.want(exitRefused, r.run("end", both...)...); !strings.Contains(said, "would owe CRLs until") {
		t.Errorf("said %s", said)
	}
	r.plan.Steps = append([]ceremony.Step{{CRL: &ceremony.CRLStep{Authority: "root", AfterNumber: 3, HorizonDays: 2000, TurnoverDays: 100, OverlapDays: 100}}}, r.plan.Steps...)
	r.want(exitDone, r.run("end", both...)...)
	if _, err := os.Stat(r.path("keys/root.age")); err == nil {
		t.Error("the key is still there")
	}
	b := r.open("end.bundle")
	if len(b.Destructions) != 1 || len(b.Destructions[0].Witnesses) != 2 || b.Destructions[0].Verify() != nil {
		t.Errorf("statements %+v", b.Destructions)
	}
	forged := b.Destructions[0]
	forged.KeyURI = "file:other.age"
	if forged.Verify() == nil {
		t.Error("an edited statement verifies")
	}
}

// issue holds the second ceremony and returns the certificate of issuing-a.
func (r *room) issue() []byte {
	r.t.Helper()
	plan := r.plan
	r.plan.Steps = r.plan.Steps[:1]
	r.want(exitDone, r.run("issue")...)
	b := r.open("issue.bundle")
	r.plan = plan
	return b.Objects[b.Transcript.Entries[0].Outputs[0].Digest]
}

func genKey() (ed25519.PublicKey, ed25519.PrivateKey, error) { return ed25519.GenerateKey(rand.Reader) }
