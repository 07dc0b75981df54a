package regress

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	mrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"

	"bulkhead"
	"bulkhead/proof"
	"bulkhead/run"
)

// The test program is also the process that restores or imports and gets killed.
const moveVar = "BULKHEAD_REGRESS_MOVE"

// move says what that process does.
type move struct {
	Restore *run.RestoreOptions
	Dir, CA string // of an import
	Certs   string
}

// moving does it, and says when it begins.
func moving(text string) error {
	var m move
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return err
	}
	fmt.Println("begins")
	var err error
	if m.Restore != nil {
		_, err = run.Restore(context.Background(), *m.Restore)
	} else {
		_, err = run.Import(context.Background(), run.ImportOptions{Dir: m.Dir, Authority: "old-ca", CA: m.CA, Paths: []string{m.Certs}})
	}
	return err
}

// moveSeed makes the moments of death repeatable, as far as a scheduler lets them be.
const moveSeed = 17

// killedAfter runs the process and kills it after a while; false when it had ended by itself.
func killedAfter(t testing.TB, m move, d time.Duration) bool {
	t.Helper()
	return killedWhen(t, m, func() { time.Sleep(d) })
}

// killedWhen kills it once wait returns.
func killedWhen(t testing.TB, m move, wait func()) bool {
	t.Helper()
	text, err := json.Marshal(m)
	ok(t, err)
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), moveVar+"="+string(text))
	c.Stderr = os.Stderr
	pipe, err := c.StdoutPipe()
	ok(t, err)
	ok(t, c.Start())
	guard := time.AfterFunc(time.Minute, func() { _ = c.Process.Kill() }) // whatever happens
	defer guard.Stop()
	_, _ = bufio.NewReader(pipe).ReadString('\n') // it begins, or it failed
	wait()
	_ = c.Process.Kill()
	err = c.Wait()
	var ended *exec.ExitError
	return errors.As(err, &ended) && !ended.Exited()
}

func moves() int {
	if os.Getenv("BULKHEAD_TORTURE") == "1" {
		return 100
	}
	return 8
}

// TestKilledRestore: a restore that is killed leaves no data directory, or a whole one; the next one takes no notice of it.
func TestKilledRestore(t *testing.T) {
	h := newHouse(t)
	h.fill(600)
	h.look()
	h.stop()
	cover(t, h.dir)
	id, err := age.GenerateX25519Identity()
	ok(t, err)
	dir := t.TempDir()
	file, identity := filepath.Join(dir, "backup"), filepath.Join(dir, "identity")
	ok(t, os.WriteFile(identity, []byte(id.String()+"\n"), 0o600))
	_, err = run.Backup(t.Context(), run.BackupOptions{Dir: h.dir, Out: file, Recipients: []string{id.Recipient().String()}, WithIdentity: true, Version: "test"})
	ok(t, err)
	o := run.RestoreOptions{File: file, Dir: filepath.Join(dir, "restored"), IdentityFile: identity}
	random, killed := mrand.New(mrand.NewPCG(moveSeed, 0)), 0
	for i := range moves() {
		if killedAfter(t, move{Restore: &o}, time.Duration(random.IntN(250))*time.Millisecond) {
			killed++
		}
		if _, err := os.Stat(o.Dir); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if got := proved(t, run.ProveOptions{Dir: o.Dir}); !got.OK {
			t.Fatalf("kill %d left half a house: %s", i, got.Text())
		}
		ok(t, os.RemoveAll(o.Dir))
	}
	if killed == 0 {
		t.Error("it was never killed: this tested nothing")
	}
	report, err := run.Restore(t.Context(), o)
	ok(t, err)
	was, now := proved(t, run.ProveOptions{Dir: h.dir}), proved(t, run.ProveOptions{Dir: o.Dir})
	if !now.OK || now.Checkpoint != was.Checkpoint || now.Rows != was.Rows {
		t.Errorf("%+v: %s", report.Findings, now.Text())
	}
	if _, err := os.Stat(o.Dir + ".restore"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the staging folder stays: %v", err)
	}
	t.Logf("killed %d of %d times", killed, moves())
}

// foreignCA writes n certificates of another authority as PEM, 50 a file, and its certificate.
func foreignCA(t testing.TB, dir string, n int) (ca, certs string) {
	t.Helper()
	key := newKey(t)
	now := time.Now().Truncate(time.Second)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Old CA"}, NotBefore: now, NotAfter: now.Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	ok(t, err)
	parent, err := x509.ParseCertificate(der)
	ok(t, err)
	ca, certs = filepath.Join(dir, "ca.pem"), filepath.Join(dir, "certs")
	ok(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	ok(t, os.Mkdir(certs, 0o700))
	leaf := newKey(t)
	public, err := x509.MarshalPKIXPublicKey(leaf.Public())
	ok(t, err)
	spki := sha256.Sum256(public)
	var body []byte
	for i := range n {
		name := fmt.Sprintf("h%d.old.test", i)
		leafOf := &x509.Certificate{SerialNumber: big.NewInt(int64(i) + 1000), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: now, NotAfter: now.Add(time.Hour)}
		if !*bare { // what the programs put in from which an import comes
			leafOf.KeyUsage, leafOf.ExtKeyUsage, leafOf.BasicConstraintsValid = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, true
			leafOf.SubjectKeyId, leafOf.OCSPServer, leafOf.CRLDistributionPoints = spki[:20], []string{"http://ocsp.old.test/"}, []string{"http://ca.old.test/ca.crl"}
			leafOf.IssuingCertificateURL = []string{"http://ca.old.test/ca.cer"}
		}
		der, err := x509.CreateCertificate(rand.Reader, leafOf, parent, leaf.Public(), key)
		ok(t, err)
		if body = append(body, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...); i%50 == 49 || i == n-1 {
			ok(t, os.WriteFile(filepath.Join(certs, fmt.Sprintf("%06d.pem", i)), body, 0o600))
			body = nil
		}
	}
	return ca, certs
}

// TestKilledImport: an import that is killed has taken whole batches; given again it takes the rest, each certificate once,
// and the record reconciles after every kill.
func TestKilledImport(t *testing.T) {
	h := newHouse(t)
	h.stop()
	const n = 3000
	ca, certs := foreignCA(t, t.TempDir(), n)
	o := run.ImportOptions{Dir: h.dir, Authority: "old-ca", CA: ca, Paths: []string{certs}}
	random, killed := mrand.New(mrand.NewPCG(moveSeed, 1)), 0
	for i := range moves() {
		grown := int64(1+random.IntN(40)) << 14 // octets that it has written: it reads for a long time first
		if killedWhen(t, move{Dir: h.dir, CA: ca, Certs: certs}, func() {
			for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
				if info, err := os.Stat(filepath.Join(h.dir, "bulkhead.db-wal")); err == nil && info.Size() >= grown {
					return
				}
			}
		}) {
			killed++
		}
		cover(t, h.dir)
		if got := proved(t, run.ProveOptions{Dir: h.dir}); slicesOf(got, proof.RuleRowWithoutLeaf, proof.RuleRowRemoved, proof.RuleRowDiffers, proof.RuleOtherBytes) > 0 || !got.OK {
			t.Fatalf("after kill %d: %s", i, got.Text())
		}
	}
	r, err := run.Import(t.Context(), o)
	ok(t, err)
	if r.Certificates != n || r.New+r.Known != n || len(r.Problems) != 0 {
		t.Errorf("%+v", r)
	}
	again, err := run.Import(t.Context(), o)
	ok(t, err)
	if again.Known != n || again.New != 0 {
		t.Errorf("%+v", again)
	}
	cover(t, h.dir)
	got := proved(t, run.ProveOptions{Dir: h.dir, Issuer: bulkhead.AuthorityID("old-ca")})
	if !got.OK {
		t.Error(got.Text())
	}
	if killed == 0 {
		t.Error("it was never killed: this tested nothing")
	}
	t.Logf("killed %d of %d times, %d certificates were there before the last", killed, moves(), r.Known)
}

func slicesOf(r proof.Report, rules ...string) (n int) {
	for _, f := range r.Findings {
		for _, rule := range rules {
			if f.Rule == rule {
				n++
			}
		}
	}
	return n
}
