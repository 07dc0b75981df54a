package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkhead/console"
	"bulkhead/internal/heldport"
	"bulkhead/run"
)

// genuineStep is what a genuine step-ca left (importer/stepca/testdata/make.sh).
const genuineStep = "../../importer/stepca/testdata"

// wantStep imports what step-ca left and wants its four certificates, one of them revoked; again, nothing new.
func wantStep(t *testing.T, c *cli, name, ca, db string) {
	t.Helper()
	args := []string{"import", "--name", name, "--ca", ca, "--step-db", db}
	if r := asJSON[run.ImportReport](t, c, append(args, "--dry-run")...); !r.DryRun || r.New != 4 {
		t.Fatalf("%+v", r)
	}
	if r := asJSON[run.ImportReport](t, c, args...); r.New != 4 || r.Revoked != 1 || r.Certificates != 4 || len(r.Problems) != 0 {
		t.Fatalf("%+v", r)
	}
	if r := asJSON[run.ImportReport](t, c, args...); r.New != 0 || r.Known != 4 || r.NewlyRevoked != 0 {
		t.Fatalf("again: %+v", r)
	}
	states := map[string]int{}
	for _, x := range asJSON[console.CertificateList](t, c, "cert", "list", "--issuer", name).Certificates {
		states[fmt.Sprint(x.State, " ", x.Reason)]++
	}
	if len(states) != 2 || states["revoked superseded"] != 1 {
		t.Errorf("%v", states)
	}
}

// TestImportStep: the database of a genuine step-ca beside our own authorities. What is in the repository was made by one;
// BULKHEAD_TORTURE=1 builds the program, which takes minutes, and lets it make another.
func TestImportStep(t *testing.T) {
	c := houseUp(t)
	wantStep(t, c, "step-ca", filepath.Join(genuineStep, "ca.pem"), filepath.Join(genuineStep, "db"))
	if _, errOut := c.run(t, exitUsage, "import", "--name", "step-ca", "--ca", filepath.Join(genuineStep, "ca.pem"), "--step-db", c.work); !strings.Contains(errOut, "next: ") || !strings.Contains(errOut, "dataSource") {
		t.Error(errOut)
	}
	if os.Getenv("BULKHEAD_TORTURE") == "" {
		return
	}
	out := filepath.Join(t.TempDir(), "live")
	live := madeBy(t, "stepca", "github.com/smallstep/certificates/cmd/step-ca", filepath.Join(genuineStep, "make.sh"))
	live(out, "STEP_PORT="+port(t), "STEP_HTTP_PORT="+port(t))
	wantStep(t, c, "step-live", filepath.Join(out, "ca.pem"), filepath.Join(out, "db"))
}

// madeBy builds a program of others, whose version the module tools/MODULE pins, and gives what runs a script with it.
func madeBy(t *testing.T, module, program, script string) func(out string, env ...string) {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "program")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, program)
	build.Dir, build.Env = filepath.Join("..", "..", "tools", module), append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return func(out string, env ...string) {
		t.Helper()
		ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
		defer stop()
		cmd := exec.CommandContext(ctx, "bash", script, bin, out)
		cmd.Env = append(os.Environ(), env...)
		cmd.SysProcAttr, cmd.WaitDelay = &syscall.SysProcAttr{Setpgid: true}, 5*time.Second
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // what it started as well
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
	}
}

func port(t *testing.T) string {
	t.Helper()
	_, p, err := net.SplitHostPort(heldport.For(t).String())
	if err != nil {
		t.Fatal(err)
	}
	return p
}
