package sqlite

import (
	"encoding/binary"
	"errors"
	"io"
	"sync/atomic"
)

// sole implements rel.Sole by the write-ahead log: every commit, by whichever process, is there as frames that bear the salt
// of the log's header, the last of them marked, before anybody can read it. Two short reads tell that none has come.
//
// Frames that look like a commit may be none: what a process left behind that died, or whose disk failed. They are written over by
// the next commits, which then stand before the place that was taken for the end. So a place is proved by a commit of
// ours that was found right behind it, alone, and only a proved one is ever quiet; one that was disproved is given up until the log
// is begun anew.
type sole struct {
	log logFile
	at  atomic.Pointer[place]
}

// place is what is known of the log.
type place struct {
	salt   [8]byte       // of its header; zero for a log without one
	frames int64         // up to the last commit that was seen
	proved bool          // it was ours and is where it should be
	ours   bool          // the next commit is ours: nobody else can have the right to write
	lost   bool          // where the last commit ends cannot be known in this log
	seen   *atomic.Int64 // frames of our commit, once Quiet has come to its mark: they need not be followed again
}

// farthest is how many frames Quiet follows behind the last commit; a transaction that writes more is not waited for.
const farthest = 64

// Quiet implements rel.Sole.
func (w *sole) Quiet() bool {
	p := w.at.Load()
	if p == nil || !p.proved {
		return false
	}
	salt, ok := w.header()
	if !ok || salt != p.salt {
		return false
	}
	if !p.ours {
		commits, _, whole := w.follow(salt, p.frames, farthest)
		return whole && commits == 0
	}
	seen := p.seen.Load()
	commits, end, whole := w.follow(salt, p.frames+seen, farthest)
	switch {
	case !whole || commits > 1 || seen > 0 && commits > 0:
		return false
	case commits == 1:
		p.seen.Store(end - p.frames)
	}
	return true
}

// Hold implements rel.Sole.
func (w *sole) Hold(foreign func()) (alone bool) {
	p := w.at.Load()
	salt, ok := w.header()
	known := ok && p != nil && p.salt == salt
	if known && p.lost {
		return false
	}
	var from int64
	if known {
		from = p.frames
	}
	commits, end, whole := w.follow(salt, from, -1)
	if known && whole && commits == 0 {
		return p.proved
	}
	foreign()
	if !ok || !whole {
		w.at.Store(nil)
		return false
	}
	w.at.Store(&place{salt: salt, frames: end})
	return false
}

// Commits implements rel.Sole.
func (w *sole) Commits() {
	if p := w.at.Load(); p != nil {
		next := *p
		next.ours, next.seen = true, new(atomic.Int64)
		w.at.Store(&next)
	}
}

// Release implements rel.Sole.
func (w *sole) Release(failed bool, foreign func()) {
	p := w.at.Load()
	if p == nil || !p.ours {
		return
	}
	salt, ok := w.header()
	next := place{salt: salt, frames: p.frames}
	if salt != p.salt {
		next.frames = 0 // our commit began the log anew
	} else if p.lost {
		next.lost = true
		w.at.Store(&next)
		return
	}
	commits, end, whole := w.follow(salt, next.frames, -1)
	switch {
	case !ok || !whole:
		foreign()
		w.at.Store(nil)
		return
	case failed || commits == 0:
		next.lost = true
	default:
		next.frames, next.proved = end, commits == 1
	}
	if !next.proved {
		foreign()
	}
	w.at.Store(&next)
}

// follow counts the commits behind so many frames, and returns where the last one ends; whole is false when there are more
// than most frames (-1 for any number), or they cannot be read.
func (w *sole) follow(salt [8]byte, from, most int64) (commits, end int64, whole bool) {
	end = from
	if salt == ([8]byte{}) {
		return 0, end, true
	}
	for i := from; most < 0 || i-from <= most; i++ {
		var head [16]byte // page, size of the database after a commit, salt
		if n, err := w.log.ReadAt(head[:], logHeader+i*frameSize); n < len(head) || [8]byte(head[8:]) != salt {
			return commits, end, n == len(head) || ended(err)
		}
		if binary.BigEndian.Uint32(head[4:8]) != 0 {
			commits, end = commits+1, i+1
		}
	}
	return commits, end, false
}

// ended reports that a file has no more to read, which is no trouble.
func ended(err error) bool { return errors.Is(err, io.EOF) }

// header returns the salt of the log, zero for one without a header.
func (w *sole) header() (salt [8]byte, ok bool) {
	n, err := w.log.ReadAt(salt[:], 16)
	if n < len(salt) {
		return [8]byte{}, ended(err)
	}
	return salt, true
}

func (w *sole) close() error { return w.log.close() }
