package regress

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/pki/tlog"
	"bulkhead/proof"
	"bulkhead/run"
	"bulkhead/test/foreign"
)

// programs builds programs of the house into a folder.
func programs(t testing.TB, dir string, names ...string) {
	t.Helper()
	args := []string{"build", "-o", dir + "/"}
	for _, n := range names {
		args = append(args, "bulkhead/cmd/"+n)
	}
	build := exec.Command("go", args...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// bounded runs a program to its end, within a minute.
func bounded(t testing.TB, dir, program string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, program, args...)
	c.Dir, c.Env, c.WaitDelay = dir, []string{"PATH=/usr/bin:/bin"}, time.Second
	out, err := c.CombinedOutput()
	return string(out), err
}

// ourWitness runs bulkhead-witness for the house's log until the test ends.
func (h *house) ourWitness(bin, name string) (url, key string) {
	h.t.Helper()
	dir := h.t.TempDir()
	out, err := bounded(h.t, dir, filepath.Join(bin, "bulkhead-witness"), "key", "--dir", dir, "--name", name)
	ok(h.t, err)
	c := exec.Command(filepath.Join(bin, "bulkhead-witness"), "serve", "--dir", dir, "--listen", "127.0.0.1:0", "--log", filepath.Join(h.dir, "evidence.key.pub"), "--json")
	pipe, err := c.StdoutPipe()
	ok(h.t, err)
	ok(h.t, c.Start())
	h.t.Cleanup(func() { _, _ = c.Process.Kill(), c.Wait() })
	said := make(chan string, 1)
	go func() {
		var at struct{ Address string }
		_ = json.NewDecoder(bufio.NewReader(pipe)).Decode(&at)
		said <- at.Address
	}()
	select {
	case url = <-said:
	case <-time.After(time.Minute):
	}
	if url == "" {
		h.t.Fatal("bulkhead-witness says no address")
	}
	return url, strings.TrimSpace(out)
}

// witnessed gives the house two witnesses, bulkhead-witness and litewitness, both of which are asked for, and opens it anew.
// The file is the policy.
func (h *house) witnessed(bin string) string {
	h.t.Helper()
	text, err := os.ReadFile(filepath.Join(h.dir, "evidence.key.pub"))
	ok(h.t, err)
	vkey := strings.TrimSpace(string(text))
	origin, _, _ := strings.Cut(vkey, "+")
	url, key := h.ourWitness(bin, "witness.test/ours")
	lite := foreign.Litewitness(h.t, "witness.test/lite", origin, vkey)
	file := filepath.Join(h.t.TempDir(), "house.policy")
	ok(h.t, os.WriteFile(file, fmt.Appendf(nil, "witness ours %s %s\nwitness lite %s %s\ngroup both all ours lite\nquorum both\n", key, url, lite.Key, lite.URL), 0o600))
	h.stop()
	h.edit("\nlog:\n", "\nwitnesses:\n    policy: "+file+"\n    allow_private: true\n    every: 200ms\nlog:\n")
	h.start()
	return file
}

// TestWitnessedHouse: a house with two witnesses has its checkpoint cosigned, serves it, and proves it; a house that lost its
// newest leaves is found by D5, which stands in the record and says nothing before, and one whose cosigned checkpoint is another's
// by the proof.
func TestWitnessedHouse(t *testing.T) {
	bin := t.TempDir()
	programs(t, bin, "bulkhead-witness", "bulkhead-verify")
	h := newHouse(t)
	policy := h.witnessed(bin)
	h.issue("one.witness.test")
	h.serve()
	h.wantClean()
	var last proof.Report
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		last = proved(t, run.ProveOptions{Dir: h.dir})
		if w := last.Witnessed; w != nil && w.Size > 0 && len(w.By) == 2 && last.OK {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("not cosigned: %s", last.Text())
		}
	}
	if !strings.Contains(last.Text(), "cosigned by 2 of 2 outside witnesses") {
		t.Error(last.Text())
	}
	served := h.fetch("http://" + h.metricsAddress() + "/evidence/checkpoint")
	ok(t, os.WriteFile(filepath.Join(bin, "served"), served, 0o600))
	args := []string{"witness", "--log", filepath.Join(h.dir, "evidence"), "--key", filepath.Join(h.dir, "evidence.key.pub"), "--policy", policy, "--cosigned", filepath.Join(bin, "served")}
	if out, err := bounded(t, bin, "./bulkhead-verify", args...); err != nil || !strings.Contains(out, "witness.test/lite") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := bounded(t, bin, "./bulkhead-verify", append(args[:7:7], "--cosigned", filepath.Join(h.dir, "evidence", "checkpoint"))...); err == nil || !strings.Contains(out, "FINDING witnesses") {
		t.Errorf("a checkpoint without cosignatures: %v: %s", err, out)
	}
	h.stop()

	t.Run("another history", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "copy")
		ok(t, os.CopyFS(dir, os.DirFS(h.dir)))
		other, _ := resign(t, dir, policy)
		ok(t, os.WriteFile(filepath.Join(dir, "witnessed", "checkpoint"), other, 0o600))
		got := proved(t, run.ProveOptions{Dir: dir})
		if len(got.Findings) != 1 || got.Findings[0].Rule != "evidence/witnessed" {
			t.Errorf("%s", got.Text())
		}
	})

	// An older copy of the house goes another way than the one whose checkpoints the witnesses cosigned.
	older := filepath.Join(t.TempDir(), "older")
	ok(t, exec.Command("cp", "-a", h.dir, older).Run()) // with its modes
	h.start()
	h.issue("two.witness.test")
	h.serve()
	head, _, err := h.Store.EvidenceHead(t.Context())
	ok(t, err)
	h.cosigned(t, head-1) // what the copy does not have
	forks := func() (out []string) {
		list, err := h.Store.AlarmsOf(t.Context(), "D5", 10)
		ok(t, err)
		for _, a := range list {
			if a.Severity != bulkhead.Critical || a.Runbook != "d5-witness.md" || !strings.HasPrefix(a.Key, "fork,") || a.Count < 1 {
				t.Errorf("%+v", a)
			}
			out = append(out, a.Key)
		}
		slices.Sort(out)
		return out
	}
	if got := forks(); len(got) != 0 {
		t.Errorf("D5 without a fault: %v", got)
	}
	h.stop()
	ok(t, os.Rename(h.dir, h.dir+".true"))
	ok(t, os.Rename(older, h.dir))
	h.start()
	h.issue("other.witness.test")
	h.serve()
	for end := time.Now().Add(time.Minute); len(forks()) < 2; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("an older copy writes on, and D5 says %v", forks())
		}
	}
	if got := forks(); !slices.Equal(got, []string{"fork,lite", "fork,ours"}) {
		t.Errorf("%v", got)
	}
}

// cosigned waits until the witnesses cosigned more than size leaves.
func (h *house) cosigned(t *testing.T, size int64) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if w := proved(t, run.ProveOptions{Dir: h.dir}).Witnessed; w != nil && w.Size > size && len(w.By) == 2 {
			return
		}
		if time.Now().After(end) {
			t.Fatal("nothing new is cosigned")
		}
	}
}

// resign makes what the log's key would sign for as many leaves with another root, with the witnesses' lines of the true one.
func resign(t testing.TB, dir, policy string) ([]byte, tlog.Checkpoint) {
	t.Helper()
	signed, err := os.ReadFile(filepath.Join(dir, "witnessed", "checkpoint"))
	ok(t, err)
	private, err := os.ReadFile(filepath.Join(dir, "evidence.key"))
	ok(t, err)
	s, err := note.NewSigner(strings.TrimSpace(string(private)))
	ok(t, err)
	body, lines, _ := strings.Cut(string(signed), "\n\n")
	cp, err := tlog.ParseCheckpoint(body + "\n")
	ok(t, err)
	cp.Root[0] ^= 1
	forged, err := note.Sign(&note.Note{Text: cp.Body()}, s)
	ok(t, err)
	_, witnesses, _ := strings.Cut(lines, "\n")
	return append(forged, witnesses...), cp
}

// fetch is the body of an answer on loopback.
func (h *house) fetch(url string) []byte {
	h.t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	res, err := client.Get(url)
	ok(h.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	ok(h.t, err)
	if res.StatusCode != http.StatusOK {
		h.t.Fatalf("%s: %d %s", url, res.StatusCode, body)
	}
	return body
}

func (h *house) metricsAddress() string {
	h.t.Helper()
	cfg, err := run.LoadConfig(h.dir)
	ok(h.t, err)
	return cfg.MetricsListen
}
