package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/internal/heldport"
)

// TestExplainOCSP follows one certificate: good, revoked, served by a cache, answered by a stranger.
func TestExplainOCSP(t *testing.T) {
	status := heldport.For(t).String()
	c := houseAt(t, status, "http://"+status)
	got := asJSON[issued](t, c, "issue", "a.example.test", "--out", c.work)
	der := filepath.Join(c.work, "r.der")
	ca := filepath.Join(c.work, "ca.pem")
	chain, err := os.ReadFile(got.Files.Chain)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ca, chain, 0o644); err != nil {
		t.Fatal(err)
	}
	fetch := func(want string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
			out, _ := exec.Command("openssl", "ocsp", "-issuer", ca, "-cert", got.Files.Cert, "-url", "http://"+status+"/ocsp/", "-no_nonce", "-noverify", "-respout", der).CombinedOutput()
			if strings.Contains(string(out), ": "+want) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("not %s: %s", want, out)
			}
		}
	}
	fetch("good")
	var v bulkhead.OCSPExplanation
	for end := time.Now().Add(time.Minute); v.Signer.Logged == ""; time.Sleep(200 * time.Millisecond) {
		v = asJSON[bulkhead.OCSPExplanation](t, c, "explain", "ocsp", "--der", der)
		if time.Now().After(end) {
			t.Fatalf("the evidence of the signature is not found: %+v", v)
		}
	}
	if v.Status != "good" || v.Issuer != string(got.Certificate.Issuer) || v.Serial != got.Certificate.Serial.String() || !v.Signer.Ours || v.Signer.Evidence == 0 || v.Signer.Batch == "" ||
		v.Record == nil || v.Record.State != "issued" || !v.Record.Agrees || v.Record.Evidence == 0 || v.Published == nil || !v.Published.Same || v.Published.Head == 0 || v.Published.Pack == "" ||
		!v.Believed || !strings.Contains(v.Verdict, "published now") {
		t.Errorf("%+v %+v %+v", v, v.Record, v.Published)
	}

	older, err := os.ReadFile(der)
	if err != nil {
		t.Fatal(err)
	}
	c.run(t, exitDone, "cert", "revoke", got.Certificate.Serial.String(), "--reason", "superseded")
	fetch("revoked")
	v = asJSON[bulkhead.OCSPExplanation](t, c, "explain", "ocsp", "--der", der, "--cert", got.Files.Cert)
	if v.Status != "revoked" || v.Reason != "superseded" || v.Record.Change == "" || v.Record.ChangedBy != "operator:operator-1" || v.Record.ChangeHead == 0 || !strings.Contains(v.Verdict, v.Record.Change) {
		t.Errorf("%+v %+v", v, v.Record)
	}
	out, _ := c.run(t, exitDone, "explain", "ocsp", "--der", der)
	for _, want := range []string{"revoked since", "ours", "set by change " + v.Record.Change, "evidence", "public now"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}

	date := time.Now().UTC().Truncate(time.Second)
	headers := c.file(t, "headers", "HTTP/1.1 200 OK\r\nDate: "+date.Format(http.TimeFormat)+"\r\nAge: 120\r\nCache-Control: public, max-age=3600, must-revalidate\r\nVia: 1.1 cdn\r\n\r\n", 0o644)
	stale := c.file(t, "old.der", string(older), 0o644)
	v = asJSON[bulkhead.OCSPExplanation](t, c, "explain", "ocsp", "--der", stale, "--headers", headers)
	if v.Cache == nil || v.Cache.Age != "2m0s" || !v.Cache.KeepUntil.Equal(date.Add(58*time.Minute)) || v.Cache.Via != "1.1 cdn" || !v.Published.Older || v.Record.Agrees || !strings.Contains(v.Verdict, "a cache keeps it; it says good, the record says revoked") {
		t.Errorf("%q %+v %+v", v.Verdict, v.Cache, v.Published)
	}

	dir := filepath.Join(c.work, "forged")
	c.run(t, exitDone, "demo", "forged-ocsp", "--out", dir)
	out, _ = c.run(t, exitRefused, "explain", "ocsp", "--der", filepath.Join(dir, "B.der"), "--json")
	if err := json.Unmarshal([]byte(out), &v); err != nil || v.Signer.Ours || !strings.Contains(v.Verdict, "no key of ours signed this answer; its signer is CN=Demo B") || v.Signer.KeySHA256.IsZero() {
		t.Errorf("%v %s", err, out)
	}
	c.run(t, exitUsage, "explain", "ocsp")
	c.run(t, exitUsage, "explain", "ocsp", "--der", filepath.Join(c.work, "nothing"))
	c.run(t, exitUsage, "explain", "ocsp", "--der", headers)
	var o, e bytes.Buffer
	if code := execute(t.Context(), []string{"--data", t.TempDir(), "explain", "ocsp", "--der", der}, nil, &o, &e); code == exitDone || !strings.Contains(e.String(), "next:") {
		t.Errorf("without a house: exit %d: %s", code, e.String())
	}
}

// TestAlarmsAck: an alarm that the house raised is listed, taken with a reason, once.
func TestAlarmsAck(t *testing.T) {
	status := heldport.For(t).String()
	c := houseAt(t, status, "http://"+status)
	got := asJSON[issued](t, c, "issue", "a.example.test", "--out", c.work)
	var list []console.AlarmView
	for end := time.Now().Add(time.Minute); len(list) == 0; time.Sleep(200 * time.Millisecond) {
		_ = exec.Command("openssl", "ocsp", "-issuer", got.Files.Chain, "-serial", "0x4711471147114711", "-url", "http://"+status+"/ocsp/", "-noverify").Run()
		list = asJSON[map[string][]console.AlarmView](t, c, "alarms")["alarms"]
		if time.Now().After(end) {
			t.Fatal("no alarm")
		}
	}
	if len(list) != 1 || list[0].Detector != "D1" || list[0].ID == 0 || list[0].AckedAt != nil {
		t.Fatalf("%+v", list)
	}
	id := "1"
	c.run(t, exitUsage, "alarms", "ack", "x", "--reason", "y")
	c.run(t, exitUsage, "alarms", "ack", id)
	c.run(t, exitFailed, "alarms", "ack", "99", "--reason", "y")
	c.run(t, exitDone, "alarms", "ack", id, "--reason", "a drill", "--dry-run")
	if v := asJSON[console.AlarmView](t, c, "alarms", "ack", id, "--reason", "a drill"); v.AckedBy != "operator:operator-1" || v.AckReason != "a drill" || v.AckedAt == nil {
		t.Errorf("%+v", v)
	}
	c.run(t, exitFailed, "alarms", "ack", id, "--reason", "again")
	if out, _ := c.run(t, exitDone, "alarms"); !strings.Contains(out, "no alarms") || !strings.Contains(out, "1 more were acknowledged") {
		t.Errorf("%s", out)
	}
	if out, _ := c.run(t, exitDone, "alarms", "--all"); !strings.Contains(out, "taken by operator:operator-1: a drill") {
		t.Errorf("%s", out)
	}
}
