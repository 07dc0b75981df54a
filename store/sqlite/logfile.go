package sqlite

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
)

// logFile reads the write-ahead log beside SQLite, which has no locks on this file that closing it could drop. The file stays the same one
// as long as the database is open.
type logFile struct {
	path string
	file atomic.Pointer[os.File]

	mu     sync.Mutex // opening and closing
	closed bool
}

// ReadAt implements io.ReaderAt; fs.ErrNotExist while there is no log yet.
func (l *logFile) ReadAt(p []byte, at int64) (int, error) {
	f := l.file.Load()
	if f == nil {
		var err error
		if f, err = l.open(); err != nil {
			return 0, err
		}
	}
	return f.ReadAt(p, at)
}

func (l *logFile) open() (*os.File, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.file.Load(); f != nil {
		return f, nil
	}
	if l.closed {
		return nil, fs.ErrClosed
	}
	f, err := os.Open(l.path)
	if err == nil {
		l.file.Store(f)
	}
	return f, err
}

// close makes whoever reads fail.
func (l *logFile) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if f := l.file.Load(); f != nil {
		if err := f.Close(); !errors.Is(err, fs.ErrClosed) {
			return err
		}
	}
	return nil
}
