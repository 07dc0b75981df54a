package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"bulkhead"
)

// writeFile writes a file whole or not at all, and durably.
func writeFile(path string, body []byte, mode os.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", filepath.Base(path), err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(body)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", filepath.Base(path), err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("syncing %s: %w", filepath.Base(dir), err)
	}
	defer d.Close()
	return d.Sync()
}

// syncTree makes every file and folder below root durable.
func syncTree(root string) error {
	return filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return f.Sync()
	})
}

// ReadSecret reads a passphrase file: its first line, without the newline. Others must not be able to read it.
func ReadSecret(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "the secret file %s cannot be read", path).WithCause(err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "the secret file %s can be read by others", path).WithHint("chmod 600 " + path)
	}
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "the secret file %s cannot be read", path).WithCause(err)
	}
	line, _, _ := bytes.Cut(body, []byte("\n"))
	if len(line) == 0 {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "the secret file %s is empty", path)
	}
	return line, nil
}

// lockDir takes the data directory for this process. The lock is the kernel's and dies with the process.
func lockDir(dir string) (release func(), err error) {
	path := filepath.Join(dir, "run", "lock")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("locking the data directory: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		pid := make([]byte, 16)
		n, _ := f.ReadAt(pid, 0) // empty when the other is just starting
		f.Close()
		return nil, bulkhead.Faultf(bulkhead.KindConflict, "another process (pid %s) runs on %s", strings.TrimSpace(string(pid[:n])), dir).WithHint("stop it, or use another --data")
	}
	err = errors.Join(f.Truncate(0), func() error { _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); return err }())
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("locking the data directory: %w", err)
	}
	return func() { f.Close() }, nil
}

// lockPlace takes the folder in which a house is about to be made, and waits for another first start there: two that
// share one staging folder would make a house of both. Like that of lockDir the lock dies with the process.
func lockPlace(ctx context.Context, dir string) (release func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("locking the place of the first start: %w", err)
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("locking the place of the first start: %w", err)
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return func() { f.Close() }, nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			f.Close()
			return nil, fmt.Errorf("locking the place of the first start: %w", err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
