// Package tiles keeps the log library (transparency-dev/tessera on a POSIX directory) behind the words of evidence.
//
// Purpose: append leaves in a given order and publish signed checkpoints over them.
//
// Invariant: the leaf handed in as number i becomes leaf i, or Append fails. The library promises order within one
// flush of its queue only: a flush by timer and a flush by size can overtake each other. So each batch gets an
// appender of its own whose queue flushes exactly when the batch is complete, in the caller's goroutine, and one
// appender beside it, which never adds, publishes checkpoints and removes partial tiles. Nothing is deduplicated.
//
// Refuses: nothing by itself; the signer that the caller hands in decides which tree may be signed.
package tiles

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
	"k8s.io/klog/v2"
)

// never is an interval that does not come round: the appender of a batch neither publishes nor flushes by time.
const never = 100 * 365 * 24 * time.Hour

// collect is how often partial tiles that full ones replaced are removed.
const collect = time.Minute

// quiet sends what the library logs through klog, which would write to stderr, to the logger of the first writer. klog
// is one per process and its logger must not change while others use it.
var quiet sync.Once

// Names in a log directory.
const (
	CheckpointPath = "checkpoint"
	StateDir       = ".state" // the library's own; it exists since the first Open
)

// Config says where the log is and who signs.
type Config struct {
	Dir      string
	Signer   note.Signer   // signs checkpoints; its name is the origin
	Interval time.Duration // between checkpoints, at least 100 ms
	Log      *slog.Logger
}

// Writer appends to one log directory. It belongs to one goroutine.
type Writer struct {
	cfg    Config
	driver tessera.Driver
	reader tessera.LogReader
	cancel context.CancelFunc
}

// Open opens the log in cfg.Dir, or starts an empty one with a checkpoint over no leaves, and begins to publish.
func Open(ctx context.Context, cfg Config) (*Writer, error) {
	quiet.Do(func() { klog.SetSlogLogger(cfg.Log) })
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w := &Writer{cfg: cfg, cancel: cancel}
	var err error
	if w.driver, err = posix.New(ctx, posix.Config{Path: cfg.Dir}); err != nil {
		cancel()
		return nil, fmt.Errorf("log %s: %w", cfg.Dir, err)
	}
	opts := tessera.NewAppendOptions().WithCheckpointSigner(cfg.Signer).WithCheckpointInterval(cfg.Interval).
		WithCheckpointRepublishInterval(0).WithGarbageCollectionInterval(collect)
	if _, _, w.reader, err = tessera.NewAppender(ctx, w.driver, opts); err != nil {
		cancel()
		return nil, fmt.Errorf("log %s: %w", cfg.Dir, err)
	}
	return w, nil
}

// Close stops publishing. What was appended and is not yet covered is covered after the next Open.
func (w *Writer) Close() { w.cancel() }

// Size is the number of leaves that are durable in the tiles, covered by a checkpoint or not.
func (w *Writer) Size(ctx context.Context) (int64, error) {
	n, err := w.reader.IntegratedSize(ctx)
	if err != nil {
		return 0, fmt.Errorf("log size: %w", err)
	}
	return int64(n), nil
}

// HasCheckpoint reports whether any checkpoint was published yet. Append must wait for the first: a batch's appender
// would publish it too, beside the one whose task it is.
func (w *Writer) HasCheckpoint() bool {
	_, err := os.Stat(filepath.Join(w.cfg.Dir, CheckpointPath))
	return err == nil
}

// Append makes leaves durable as numbers first, first+1 and so on. After an error any prefix of whole batches may
// have become durable: ask Size again.
func (w *Writer) Append(ctx context.Context, first int64, leaves [][]byte) error {
	if len(leaves) == 0 {
		return nil
	}
	if size, err := w.Size(ctx); err != nil {
		return err
	} else if size != first {
		return fmt.Errorf("the log has %d leaves, the next one is not number %d", size, first)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	opts := tessera.NewAppendOptions().WithCheckpointSigner(w.cfg.Signer).WithCheckpointInterval(never).
		WithCheckpointRepublishInterval(0).WithGarbageCollectionInterval(0).WithBatching(uint(len(leaves)), never)
	appender, _, _, err := tessera.NewAppender(ctx, w.driver, opts)
	if err != nil {
		return fmt.Errorf("batch at %d: %w", first, err)
	}
	futures := make([]tessera.IndexFuture, len(leaves))
	for i, leaf := range leaves {
		futures[i] = appender.Add(ctx, tessera.NewEntry(leaf))
	}
	for i, future := range futures {
		index, err := future()
		if err != nil {
			return fmt.Errorf("leaf %d: %w", first+int64(i), err)
		}
		if int64(index.Index) != first+int64(i) {
			return fmt.Errorf("leaf %d became leaf %d", first+int64(i), index.Index)
		}
	}
	return nil
}

// Read returns an object of the log directory by its path; the error is fs.ErrNotExist when there is none.
func Read(dir, path string) ([]byte, error) {
	if !filepath.IsLocal(path) {
		return nil, fmt.Errorf("%s leaves the log: %w", path, errors.ErrUnsupported)
	}
	p, err := os.ReadFile(filepath.Join(dir, path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	return p, err
}
