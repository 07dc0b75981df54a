package regress

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkhead/run"
)

// TestColdReader follows doc/auditor.md to the letter in an empty folder that holds the bundle, the key and the verifier
// and nothing else; and each thing that is changed in the bundle is found.
func TestColdReader(t *testing.T) {
	h := newHouse(t)
	dir := t.TempDir()
	programs(t, dir, "bulkhead-verify", "bulkhead-witness")
	policy, err := os.ReadFile(h.witnessed(dir))
	ok(t, err)
	ok(t, os.Remove(filepath.Join(dir, "bulkhead-witness")))
	for _, name := range []string{"one.bundle.test", "two.bundle.test"} {
		h.issue(name)
	}
	h.serve()
	h.wantClean()
	bundle := filepath.Join(dir, "house.bundle")
	r, err := run.Bundle(t.Context(), run.ProveOptions{Dir: h.dir, Now: time.Now()}, bundle)
	ok(t, err)
	if !r.Proof.OK || r.Uncovered != 0 || r.Transcripts == 0 || r.Certificates < 2 || r.Witnessed < r.Leaves {
		t.Fatalf("%+v", r)
	}
	key, err := os.ReadFile(filepath.Join(h.dir, "evidence.key.pub"))
	ok(t, err)
	ok(t, os.WriteFile(filepath.Join(dir, "house.key"), key, 0o600))
	ok(t, os.WriteFile(filepath.Join(dir, "house.policy"), policy, 0o600))
	page, err := os.ReadFile("../../doc/auditor.md")
	ok(t, err)
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) < 4 {
		t.Fatalf("the page has %d commands", len(blocks))
	}
	for i, b := range blocks {
		out, err := bounded(t, dir, "/bin/sh", "-e", "-c", b[1])
		if err != nil || i == 0 && !strings.HasSuffix(out, "verified\n") {
			t.Fatalf("%s: %v: %s", b[1], err, out)
		}
	}
	// The same on a machine that has nothing else: its root holds the files, and no network is there.
	out, err := shutIn(t, dir, "/bulkhead-verify", "bundle", "/house.bundle", "--key", "/house.key", "--policy", "/house.policy")
	if err != nil || !strings.HasSuffix(out, "verified\n") {
		t.Errorf("shut in: %v: %s", err, out)
	}
	if out, err := shutIn(t, dir, "/bulkhead-verify", "bundle", "/house.bundle", "--key", filepath.Join(h.dir, "evidence.key.pub")); err == nil {
		t.Errorf("it reaches what is not in the folder: %s", out)
	}
	whole, err := os.ReadFile(bundle)
	ok(t, err)
	for what, c := range map[string]struct {
		change func(name string, body []byte) []byte // nil leaves it out
		says   string
	}{
		"nothing":        {func(_ string, b []byte) []byte { return b }, "verified"},
		"a leaf":         {in("tile/entries/", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }), "FINDING leaf"},
		"a tile":         {in("tile/0/", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }), "FINDING tile"},
		"the checkpoint": {in("checkpoint", func(b []byte) []byte { return bytes.Replace(b, []byte("\n"), []byte("0\n"), 1) }), "FINDING checkpoint"},
		"a count":        {in("proof.json", func(b []byte) []byte { return regexp.MustCompile(`"made": \d+`).ReplaceAll(b, []byte(`"made": 1000`)) }), "FINDING count"},
		"a key unnamed": {in("proof.json", func(b []byte) []byte {
			return regexp.MustCompile(`(?s)"keys": \[.*?\],\n  "negatives"`).ReplaceAll(b, []byte("\"keys\": [],\n  \"negatives\""))
		}), "does not name key"},
		"a certificate gone": {in("certificates.txt", func(b []byte) []byte { _, rest, _ := bytes.Cut(b, []byte("\n")); return rest }), "FINDING certificate-not-listed"},
		"a certificate added": {in("certificates.txt", func(b []byte) []byte {
			return append(b, strings.Replace(string(b[:bytes.IndexByte(b, '\n')+1]), ",", ",1", 1)...)
		}), "FINDING certificate-not-in-log"},
		"cosignatures gone":     {in("checkpoint", func(b []byte) []byte { return b[:bytes.Index(b, []byte("\n— witness"))+1] }), "FINDING witnesses"},
		"a cosignature changed": {in("checkpoint", func(b []byte) []byte { return append(b[:len(b)-10], "AAAAAAAA=\n"...) }), "FINDING"},
		"a transcript gone":     {in("transcripts/", func([]byte) []byte { return nil }), "FINDING transcript"},
		"cut short":             {nil, "is no bundle"},
	} {
		t.Run(what, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "changed")
			body := whole[:700]
			if c.change != nil {
				body = rewrite(t, whole, c.change)
			}
			ok(t, os.WriteFile(path, body, 0o600))
			out, err := bounded(t, dir, "./bulkhead-verify", "bundle", path, "--key", "house.key", "--policy", "house.policy")
			if !strings.Contains(out, c.says) || (err == nil) != (c.says == "verified") {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// shutIn runs a program in name spaces of its own, where a folder is the root and no network is there.
func shutIn(t testing.TB, root, program string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, program, args...)
	c.Dir, c.Env, c.WaitDelay = "/", []string{}, time.Second
	c.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}}
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatalf("this test needs name spaces of its own (user and network): %v", err)
	}
	err := c.Wait()
	return out.String(), err
}

// in changes the objects below a name.
func in(prefix string, change func([]byte) []byte) func(string, []byte) []byte {
	return func(name string, body []byte) []byte {
		if strings.HasPrefix(name, prefix) {
			return change(body)
		}
		return body
	}
}

func rewrite(t testing.TB, whole []byte, change func(string, []byte) []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	r, w := tar.NewReader(bytes.NewReader(whole)), tar.NewWriter(&out)
	for {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			ok(t, w.Close())
			return out.Bytes()
		}
		ok(t, err)
		body, err := io.ReadAll(r)
		ok(t, err)
		if body = change(head.Name, body); body == nil {
			continue
		}
		head.Size = int64(len(body))
		ok(t, w.WriteHeader(head))
		_, err = w.Write(body)
		ok(t, err)
	}
}
