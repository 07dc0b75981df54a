// Package spool takes octets on their way to somewhere else: in memory while they are few, then in a file that has lost its name, so
// that nothing is left of it whatever happens.
//
// Invariant: what was written can be read at any offset until Close, and is gone after it. Refuses: nothing; where no file can be
// made the octets stay in memory.
package spool

import (
	"io"
	"os"
)

// Spool is for one goroutine. The zero value is empty and keeps Memory octets before it makes a file.
type Spool struct {
	Dir   string // folder for the file; "" is the system's for temporary ones
	Limit int    // most octets in memory; 0 means Memory

	buf  []byte
	file *os.File
	size int64
	full bool // no file can be made
}

// Memory is how many octets a Spool keeps without a file.
const Memory = 1 << 20

// File makes a file without a name in a folder; "" is the system's for temporary ones.
func File(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "bulkhead-spool-")
	if err != nil {
		return nil, err
	}
	_ = os.Remove(f.Name()) // at worst it stays in the folder
	return f, nil
}

// Write implements io.Writer.
func (s *Spool) Write(p []byte) (int, error) {
	if s.file == nil && !s.full && len(s.buf)+len(p) > s.limit() {
		f, err := File(s.Dir)
		if s.full = err != nil; !s.full {
			if _, err := f.Write(s.buf); err != nil {
				_ = f.Close()
				return 0, err
			}
			s.file, s.buf = f, nil
		}
	}
	if s.file == nil {
		s.buf = append(s.buf, p...)
		s.size += int64(len(p))
		return len(p), nil
	}
	n, err := s.file.Write(p)
	s.size += int64(n)
	return n, err
}

func (s *Spool) limit() int {
	if s.Limit > 0 {
		return s.Limit
	}
	return Memory
}

// ReadAt implements io.ReaderAt.
func (s *Spool) ReadAt(p []byte, at int64) (int, error) {
	if s.file != nil {
		return s.file.ReadAt(p, at)
	}
	if at < 0 || at >= s.size {
		return 0, io.EOF
	}
	n := copy(p, s.buf[at:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Size is how many octets were written.
func (s *Spool) Size() int64 { return s.size }

// Close gives the octets up.
func (s *Spool) Close() error {
	s.buf, s.size = nil, 0
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
