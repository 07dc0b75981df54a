package kill

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/run/client"
	"bulkhead/store/storetest/pgtest"
)

// TestKillAutomaticRollbackSQLite kills the server at each step of the rollback that nobody asks for: after a change of one
// certificate a foreign program takes another for revoked, which nothing revokes. Whatever comes back, the bystander is said
// to be good again by exactly one rollback, what was approved stands, and the rollback that was killed ended wholly before or
// wholly after, and says which. Without the fault nothing is taken back.
func TestKillAutomaticRollbackSQLite(t *testing.T) {
	t.Parallel() // most of it is waiting: a change whose look found something rests for half a minute
	killAutomatic(t, slow{"fsync,fdatasync", 40 * time.Millisecond}, bulkhead.EvChangeActivated)
}

// TestKillAutomaticRollbackPostgreSQL does the same where the record is behind a socket.
func TestKillAutomaticRollbackPostgreSQL(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "dsn")
	ok(t, os.WriteFile(file, []byte(pgtest.New(t)+"\n"), 0o600))
	killAutomatic(t, slow{"write", 4 * time.Millisecond}, bulkhead.EvChangePreviewed, "--store", "postgres:"+file)
}

// killAutomatic tries all steps with BULKHEAD_TORTURE, else one.
func killAutomatic(t *testing.T, s slow, one bulkhead.EvidenceKind, flags ...string) {
	h := newHouse(t, flags...)
	liar := newLiar(t, h)
	x := &changing{house: h, driver: &driver{t: t}, slow: s, crls: map[string]bulkhead.CRLRecord{}, killed: map[bulkhead.EvidenceKind]int{}}
	x.furnish()
	began, tried := time.Now(), 0
	id, _ := x.revokeOne("silent.test")
	x.settled(id)
	if all := x.rollbacksOf(id); len(all) != 0 {
		t.Errorf("without a fault %d rollbacks were made", len(all))
	}
	for _, step := range stepsOfChange {
		if torture() || step == one {
			tried++
			x.tryAutomatic(liar, step)
		}
	}
	for _, text := range x.odd {
		t.Error(text)
	}
	x.house.stop()
	x.fsck()
	t.Logf("%d steps tried, killed by the newest leaf that was left %v, in %s", tried, x.killed, time.Since(began).Round(time.Millisecond))
	if len(x.killed) < (tried+1)/2 {
		t.Error("too few different steps were met: this tested little")
	}
}

// liar stands before the real openssl, and takes the answers in a file for revoked, whatever they say.
type liar struct {
	t      testing.TB
	listed string // digests of those answers, one a line
}

func newLiar(t testing.TB, h *house) *liar {
	t.Helper()
	real, err := exec.LookPath("openssl")
	ok(t, err)
	dir := t.TempDir()
	l := &liar{t, filepath.Join(dir, "answers")}
	script := fmt.Sprintf(`#!/bin/sh
answer= before=
for a in "$@"; do
	[ "$before" = -respin ] && answer=$a
	before=$a
done
[ -n "$answer" ] && [ -s %[2]s ] && grep -q "$(sha256sum < "$answer" | cut -c1-64)" %[2]s || exec %[1]s "$@"
%[1]s "$@" 2>&1 | sed 's/: good$/: revoked/'
`, real, l.listed)
	ok(t, os.WriteFile(filepath.Join(dir, "openssl"), []byte(script), 0o700))
	h.env = append(os.Environ(), "PATH="+dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	return l
}

// lie has the present answers about a certificate taken for revoked.
func (l *liar) lie(answers [][]byte) {
	l.t.Helper()
	var b strings.Builder
	for _, der := range answers {
		fmt.Fprintln(&b, bulkhead.Digest(der))
	}
	ok(l.t, os.WriteFile(l.listed, []byte(b.String()), 0o600))
}

// answersAbout are what the world is told of a serial by both CertIDs.
func answersAbout(leaf, issuer *x509.Certificate, url string) ([][]byte, error) {
	var out [][]byte
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		der, err := asked(asking, leaf, issuer, url, hash)
		if err != nil {
			return nil, err
		}
		got, err := ocsp.ParseResponse(der, nil)
		if err != nil {
			return nil, err
		}
		if got.Status != ocsp.Good {
			return nil, fmt.Errorf("it is told %d, not good", got.Status)
		}
		out = append(out, der)
	}
	return out, nil
}

// revokeOne issues a certificate and has one person revoke it; the id of the change.
func (x *changing) revokeOne(name string) (string, *held) {
	t := x.house.t
	t.Helper()
	c, err := client.New(client.Options{Dir: x.dir})
	ok(t, err)
	target := x.issue(c, name, false)
	if target == nil {
		t.Fatalf("nothing was issued: %v", x.odd)
	}
	x.shown(target, bulkhead.Issued) // its answer is public
	return x.askToRevoke(c, target), target
}

func (x *changing) askToRevoke(c *client.Client, target *held) string {
	t := x.house.t
	t.Helper()
	before := x.newest(t)
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	ok(t, c.Do(ctx, http.MethodPost, "/api/v1/certificates/"+target.ref.Serial.String()+"/revoke",
		console.RevokeRequest{Issuer: string(target.ref.Issuer), Reason: "superseded", Why: "a test"}, nil))
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		all, err := x.store.Changes(ctx, 10)
		ok(t, err)
		for _, one := range all {
			if one.ID == before {
				break
			}
			if one.Undoes == "" {
				return one.ID
			}
		}
	}
	t.Fatal("no change was made")
	return ""
}

// firstAlive is the first certificate of an authority that is in force: every look at what is public takes it for a bystander.
func (x *changing) firstAlive(issuer bulkhead.AuthorityID) (ref bulkhead.CertificateRef, leaf *x509.Certificate) {
	t := x.house.t
	t.Helper()
	for r, row := range inventory(t, x.store) {
		if r.Issuer == issuer && row.State == bulkhead.Issued && row.NotAfter.After(time.Now().Add(2*time.Hour)) && (ref.Issuer == "" || r.Serial.Compare(ref.Serial) < 0) {
			ref = r
		}
	}
	_, der, err := x.store.Certificate(context.Background(), ref)
	ok(t, err)
	leaf, err = x509.ParseCertificate(der)
	ok(t, err)
	return ref, leaf
}

// rollbacksOf are the changes that take a change back, the newest first.
func (x *changing) rollbacksOf(id string) (out []bulkhead.Change) {
	all, err := x.store.Changes(context.Background(), 20)
	ok(x.house.t, err)
	for _, c := range all {
		if c.Undoes == id {
			out = append(out, c)
		}
	}
	return out
}

// tryAutomatic revokes one certificate, has a verifier take another for revoked, and kills the server once the rollback has
// come to a step.
func (x *changing) tryAutomatic(liar *liar, step bulkhead.EvidenceKind) {
	t := x.house.t
	t.Helper()
	c, err := client.New(client.Options{Dir: x.dir})
	ok(t, err)
	// The bystander is there before the target, whose serial may be lower, is issued.
	spare := x.issue(c, fmt.Sprintf("spare%d.test", step), false)
	target := x.issue(c, fmt.Sprintf("auto%d.test", step), false)
	if spare == nil || target == nil {
		t.Fatalf("nothing was issued: %v", x.odd)
	}
	x.shown(spare, bulkhead.Issued)
	x.shown(target, bulkhead.Issued)
	ref, leaf := x.firstAlive(target.ref.Issuer)
	if ref == target.ref {
		target = spare // the first of all stays in force
	}
	told, err := answersAbout(leaf, target.issuer, target.leaf.OCSPServer[0])
	ok(t, err)
	liar.lie(told)
	detach := x.delay()
	id := x.askToRevoke(c, target)
	x.awaitRollback(id, step)
	x.house.kill()
	detach()
	killed := x.rollbacksOf(id)
	if len(killed) != 1 {
		t.Fatalf("%d rollbacks of change %s when it was killed", len(killed), id)
	}
	left := x.newestLeaf(killed[0].ID)
	x.killed[left]++
	x.launch()
	x.ready()
	x.tookBack(id, killed[0].ID, left)
	now := x.told(leaf, target)
	for _, der := range now {
		if slices.ContainsFunc(told, func(old []byte) bool { return bytes.Equal(old, der) }) {
			t.Errorf("killed after leaf %d, an answer that a verifier took for revoked is still public", left)
		}
	}
	row, _, err := x.store.Certificate(context.Background(), ref)
	ok(t, err)
	if row.State != bulkhead.Issued {
		t.Errorf("killed after leaf %d, the bystander is %s", left, row.State)
	}
	x.shown(target, bulkhead.Revoked)
	x.forward()
}

// awaitRollback waits until the rollback of a change has come to a step.
func (x *changing) awaitRollback(id string, step bulkhead.EvidenceKind) {
	t := x.house.t
	t.Helper()
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(500 * time.Microsecond) {
		if all := x.rollbacksOf(id); len(all) > 0 && reached(x.newestLeaf(all[0].ID), step) {
			return
		}
	}
	t.Fatalf("change %s was not taken back within five minutes, or not as far as step %d\n%s", id, step, x.log)
}

// tookBack wants a change and exactly one rollback of it settled, and the one that was killed to say what became of it.
func (x *changing) tookBack(id, killed string, left bulkhead.EvidenceKind) {
	t := x.house.t
	t.Helper()
	if c := x.settled(id); c.State != bulkhead.ChangeSettled || c.Problem != "" {
		t.Errorf("killed after leaf %d, the change is %s: %s", left, c.State, c.Problem)
	}
	public := 0
	for _, c := range x.rollbacksOf(id) {
		c = x.settled(c.ID)
		if c.State == bulkhead.ChangeSettled {
			public++
		}
		if approved := reached(left, bulkhead.EvChangeApproved); c.ID == killed && approved != (c.State == bulkhead.ChangeSettled) {
			t.Errorf("killed after leaf %d, the rollback is %s", left, c.State)
		}
	}
	if public != 1 {
		t.Errorf("killed after leaf %d, %d rollbacks became public", left, public)
	}
}

// told waits for answers about a certificate, all good.
func (x *changing) told(leaf *x509.Certificate, by *held) [][]byte {
	t := x.house.t
	t.Helper()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var answers [][]byte
		if answers, err = answersAbout(leaf, by.issuer, by.leaf.OCSPServer[0]); err == nil {
			return answers
		}
	}
	t.Fatalf("the bystander has no good answers: %v", err)
	return nil
}
