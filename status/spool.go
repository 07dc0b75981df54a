package status

import (
	"bytes"
	"context"
	"io"

	tmp "bulkhead/internal/spool"
	"bulkhead/publish"
)

// spooled is how much of an object in the making is held in memory; the rest of a larger one is in a file.
const spooled = 32 << 20

// spool takes an object while it is written: in memory while it is small, and then where the object store wants to have it,
// or in a file that has lost its name already, so that nothing is left of it whatever happens. Where no file can be made it
// stays in memory.
type spool struct {
	ctx     context.Context
	objects publish.Store
	buf     bytes.Buffer
	file    publish.Draft
	full    bool  // no file can be made
	size    int64 // octets written
}

// Write implements io.Writer.
func (s *spool) Write(p []byte) (int, error) {
	n, err := s.write(p)
	s.size += int64(n)
	return n, err
}

func (s *spool) write(p []byte) (int, error) {
	if s.file != nil {
		return s.file.Write(p)
	}
	if s.full || s.buf.Len()+len(p) <= spooled {
		return s.buf.Write(p)
	}
	f, err := s.begin()
	if err != nil {
		s.full = true
		return s.buf.Write(p)
	}
	s.file = f
	if _, err := s.buf.WriteTo(f); err != nil {
		return 0, err
	}
	s.buf = bytes.Buffer{}
	return f.Write(p)
}

// begin makes the file.
func (s *spool) begin() (publish.Draft, error) {
	if d, is := s.objects.(publish.Drafter); is {
		if f, err := d.Draft(s.ctx); err == nil {
			return f, nil
		}
	}
	return tmp.File("")
}

// body is what was written.
func (s *spool) body() io.ReadSeeker {
	if s.file != nil {
		return s.file
	}
	return bytes.NewReader(s.buf.Bytes())
}

// close gives it up.
func (s *spool) close() {
	if s.file != nil {
		_ = s.file.Close() // it was read, or is not needed
	}
}
