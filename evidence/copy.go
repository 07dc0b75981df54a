package evidence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"bulkhead"
	"bulkhead/evidence/internal/tiles"
)

// copyTries bounds how often Copy looks again while the log moves; it moves about once a second.
const copyTries = 100

// Copy hands out every file of a log directory, as a state that the log had, while its writer goes on. Names are relative,
// with slashes. It must run before the rows are copied: a copy of rows that is younger than the log's covers it. The partial
// tiles, which the writer removes when they are full, are read at once; full tiles never change.
func Copy(ctx context.Context, dir string, put func(name string, size int64, r io.Reader) error) error {
	var names []string
	var held map[string][]byte
	for try := 0; ; try++ {
		before, err := state(dir)
		if err != nil {
			return err
		}
		if names, held, err = listLog(ctx, dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("copying the evidence log: %w", err)
		}
		after, serr := state(dir)
		if err == nil && serr == nil && bytes.Equal(before[0], after[0]) && bytes.Equal(before[1], after[1]) {
			break
		}
		if try == copyTries {
			return bulkhead.NewFault(bulkhead.KindUnavailable, "the evidence log moves too fast to be copied").WithHint("try again in a quieter minute")
		}
	}
	for _, name := range names {
		if err := copyOne(dir, name, held, put); err != nil {
			return fmt.Errorf("copying the evidence log: %w", err)
		}
	}
	return ctx.Err()
}

// state is what moves with every batch: the library's tree and the checkpoint.
func state(dir string) (s [2][]byte, err error) {
	for i, name := range []string{path.Join(tiles.StateDir, "treeState"), tiles.CheckpointPath} {
		if s[i], err = os.ReadFile(filepath.Join(dir, filepath.FromSlash(name))); err != nil {
			return s, fmt.Errorf("copying the evidence log: %w", err)
		}
	}
	return s, nil
}

func listLog(ctx context.Context, dir string) (names []string, held map[string][]byte, err error) {
	held = map[string][]byte{}
	err = filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return errors.Join(err, ctx.Err())
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		if base := path.Base(name); base == ".lock" || strings.HasSuffix(base, ".lock") || strings.Contains(base, ".tmp") || strings.Contains(base, ".temp") {
			return nil
		}
		names = append(names, name)
		if strings.Contains(name, ".p/") || name == tiles.CheckpointPath || strings.HasPrefix(name, tiles.StateDir+"/") {
			held[name], err = os.ReadFile(p)
		}
		return err
	})
	return names, held, err
}

func copyOne(dir, name string, held map[string][]byte, put func(name string, size int64, r io.Reader) error) error {
	if body, ok := held[name]; ok {
		return put(name, int64(len(body)), bytes.NewReader(body))
	}
	f, err := os.Open(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return put(name, info.Size(), f)
}
