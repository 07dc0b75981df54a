package main

import (
	"bytes"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write doc/reference/man")

const manDir = "../../doc/reference/man"

// bare is a command line without anything from the environment, whose defaults the pages show.
func bare(t *testing.T) *app {
	t.Helper()
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "BULKHEAD_") {
			t.Setenv(name, "")
		}
	}
	return &app{in: strings.NewReader(""), out: io.Discard, err: io.Discard}
}

// TestManPages holds the committed pages against the commands, and has every command say what it does.
func TestManPages(t *testing.T) {
	want := map[string]string{}
	for _, c := range documented(bare(t).root()) {
		if c.Short == "" {
			t.Errorf("%s says nothing of itself", c.CommandPath())
		}
		want[pageName(c)+".1"] = manPage(c)
	}
	if *update {
		if err := os.RemoveAll(manDir); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(manDir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, page := range want {
			if err := os.WriteFile(filepath.Join(manDir, name), []byte(page), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	kept, err := os.ReadDir(manDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range kept {
		body, err := os.ReadFile(filepath.Join(manDir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if string(body) != want[f.Name()] {
			t.Errorf("%s is not what the command says: go generate ./cmd/bulkhead", f.Name())
		}
		delete(want, f.Name())
	}
	for name := range want {
		t.Errorf("there is no page %s: go generate ./cmd/bulkhead", name)
	}
}

func TestRoff(t *testing.T) {
	for in, want := range map[string]string{"--a": `\-\-a`, ".example.test": `\&.example.test`, "'x": `\&'x`, `a\b`: `a\eb`, "x\n.y": "x\n\\&.y", "a\n.PP\nb": "a\n.PP\nb"} {
		if got := roff(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

// TestCompletion has bash read its script and complete with it.
func TestCompletion(t *testing.T) {
	a := bare(t)
	run := func(code int, args ...string) string {
		t.Helper()
		var out, errOut bytes.Buffer
		if got := execute(t.Context(), args, a.in, &out, &errOut); got != code {
			t.Fatalf("%v: exit %d: %s", args, got, errOut.String())
		}
		return out.String()
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if script := run(exitDone, "completion", shell); !strings.Contains(script, "__complete") {
			t.Errorf("%s: %s", shell, script)
		}
	}
	script := filepath.Join(t.TempDir(), "bulkhead.bash")
	if err := os.WriteFile(script, []byte(run(exitDone, "completion", "bash")), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("bash", "-n", script).CombinedOutput(); err != nil {
		t.Errorf("bash: %v: %s", err, out)
	}
	for _, c := range [][]string{{"ce", "cert"}, {"cert", "ex", "export"}, {"cert", "list", "--exp", "--expires-before"}, {"completion", "", "powershell"}} {
		last := len(c) - 1
		if out := run(exitDone, append([]string{"__complete"}, c[:last]...)...); !strings.Contains(out, c[last]) {
			t.Errorf("%v completes to %s", c, out)
		}
	}
	run(exitUsage, "completion", "csh")
	run(exitUsage, "completion")
	run(exitUsage, "man", "nothing")
	if page := run(exitDone, "man", "cert", "list"); !strings.HasPrefix(page, ".TH BULKHEAD\\-CERT\\-LIST 1") {
		t.Error(page)
	}
}
