package run

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	placerChunks = 8
	placerChunk  = 256 << 10 // octets
	placerFlush  = 16 << 20  // octets
)

// placer writes files in a goroutine of its own, one after another in the order in which they come, while the next is opened and held
// against its digest. Memory is placerChunks chunks. Nothing is durable before a sync of the whole. An error is told by the next place or
// by close.
type placer struct {
	parts  chan part
	empty  chan []byte
	done   chan struct{}
	failed atomic.Pointer[error]
	made   map[string]bool // folders
	file   *os.File        // that is written
	mode   os.FileMode
	wrote  int64 // octets of it
	begun  int64 // of which the disk was told
}

// part of a file: the first names it, the last ends it.
type part struct {
	path string // of the first
	mode os.FileMode
	b    []byte
	last bool
	then func() // instead of all that: called when what came before is written
}

func newPlacer() *placer {
	p := &placer{parts: make(chan part, placerChunks), empty: make(chan []byte, placerChunks), done: make(chan struct{}), made: map[string]bool{}}
	for range placerChunks {
		p.empty <- nil
	}
	go func() {
		defer close(p.done)
		for x := range p.parts {
			if p.failed.Load() == nil {
				if err := p.write(x); err != nil {
					p.failed.Store(&err)
				}
			}
			p.empty <- x.b
		}
		if p.file != nil { // a body that ended early
			p.file.Close()
		}
	}()
	return p
}

func (p *placer) err() error {
	if err := p.failed.Load(); err != nil {
		return room(*err)
	}
	return nil
}

// place hands over a file; what it returns of body is the reader's own error.
func (p *placer) place(path string, mode os.FileMode, body io.Reader) error {
	for x := (part{path: path, mode: mode}); !x.last; x.path = "" {
		if err := p.err(); err != nil {
			return err
		}
		if x.b = <-p.empty; x.b == nil {
			x.b = make([]byte, placerChunk)
		}
		n, err := 0, error(nil)
		for n < placerChunk && err == nil {
			var m int
			m, err = body.Read(x.b[n:placerChunk])
			n += m
		}
		if err != nil && err != io.EOF {
			p.empty <- x.b
			return err
		}
		x.b, x.last = x.b[:n], err != nil
		p.parts <- x // never waits: there are as many places as chunks
	}
	return nil
}

// then calls do once everything that was handed over before is written, unless writing has failed.
func (p *placer) then(do func()) {
	p.parts <- part{b: <-p.empty, then: do}
}

func (p *placer) write(x part) (err error) {
	if x.then != nil {
		x.then()
		return nil
	}
	if x.path != "" {
		if dir := filepath.Dir(x.path); !p.made[dir] {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			p.made[dir] = true
		}
		if p.file, err = os.OpenFile(x.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return err
		}
		p.mode, p.wrote, p.begun = x.mode, 0, 0
	}
	n, err := p.file.Write(x.b)
	if err != nil {
		return err
	}
	// The disk begins with a large file while the rest of it is still read; the sync at the end then finds little to wait for. What
	// this call says decides nothing.
	if p.wrote += int64(n); p.wrote-p.begun >= placerFlush {
		_ = unix.SyncFileRange(int(p.file.Fd()), p.begun, p.wrote-p.begun, unix.SYNC_FILE_RANGE_WRITE)
		p.begun = p.wrote
	}
	if !x.last {
		return nil
	}
	err = errors.Join(p.file.Chmod(p.mode), p.file.Close())
	p.file = nil
	return err
}

// close waits until everything is written.
func (p *placer) close() error {
	close(p.parts)
	<-p.done
	return p.err()
}
