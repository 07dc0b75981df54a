package verifiers

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"bulkhead/status"
)

// maxOutput bounds what a program may say; what is beyond is thrown away and makes the run count as not seen.
const maxOutput = 64 << 10

// desk is a folder for one look, which nobody else can read. Its name holds the process, so that what a process leaves
// that was killed can be told from what is in use.
type desk struct{ dir string }

const deskPrefix = "bulkhead-verify-"

// atDesk has a program look at an exhibit whose issuer is in the file that look is handed.
func atDesk(e status.Exhibit, look func(d *desk, issuer string) []status.Opinion) []status.Opinion {
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", deskPrefix, os.Getpid())) // mode 0700
	if err != nil {
		return []status.Opinion{notSeen("exhibit", fmt.Errorf("temporary folder: %w", err))}
	}
	d := &desk{dir}
	defer func() { _ = os.RemoveAll(d.dir) }() // what is left is public and in a folder of ours
	issuer, err := d.putPEM("issuer.pem", "CERTIFICATE", e.Issuer)
	if err != nil {
		return []status.Opinion{notSeen("exhibit", err)}
	}
	return look(d, issuer)
}

// sweep removes the folders of processes that are no more. It is best effort: what it leaves is small and public.
func sweep() {
	left, err := filepath.Glob(filepath.Join(os.TempDir(), deskPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range left {
		number, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), deskPrefix), "-")
		pid, err := strconv.Atoi(number)
		if err != nil || pid <= 1 || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue
		}
		if info, err := os.Lstat(dir); err == nil && info.IsDir() {
			_ = os.RemoveAll(dir) // another user's folder stays, by its mode
		}
	}
}

// put writes a file and returns its path.
func (d *desk) put(name string, body []byte) (string, error) {
	path := filepath.Join(d.dir, name)
	return path, os.WriteFile(path, body, 0o600)
}

// putPEM is put in the text form.
func (d *desk) putPEM(name, kind string, der []byte) (string, error) {
	return d.put(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// limited keeps the first octets of what is written to it.
type limited struct {
	buf  bytes.Buffer
	over bool
}

func (l *limited) Write(p []byte) (int, error) {
	if room := maxOutput - l.buf.Len(); room < len(p) {
		l.over = true
		l.buf.Write(p[:max(room, 0)])
		return len(p), nil
	}
	return l.buf.Write(p)
}

// run starts a program without a shell and waits for it. code is its exit code; err when it did not run to its end.
func (d *desk) run(ctx context.Context, program string, args ...string) (out string, code int, err error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return "", 0, fmt.Errorf("%s is not installed", program)
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	var said limited
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = d.dir, &said, &said
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=" + d.dir, "OPENSSL_CONF=" + os.DevNull}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", 0, fmt.Errorf("%s did not end in time", program)
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		err = nil
	case err != nil:
		return "", 0, fmt.Errorf("%s could not be run: %w", program, err)
	}
	if said.over {
		return "", 0, fmt.Errorf("%s said more than %d octets", program, maxOutput)
	}
	return said.buf.String(), cmd.ProcessState.ExitCode(), nil
}

// tail reads the end of a file that a program wrote.
func tail(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	const most = 512
	b := make([]byte, min(info.Size(), most))
	_, err = f.ReadAt(b, info.Size()-int64(len(b)))
	return string(b), err
}
