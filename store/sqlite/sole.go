package sqlite

import "sync/atomic"

// sole implements rel.Sole by the index of the write-ahead log: its header is moved by every commit, by whichever process, before anybody
// can read what was committed. As long as it is the one that was there after our last commit, nobody else has committed.
//
// A header is trusted only once a commit of ours has moved it by one: so it is the right file, and nobody came between.
type sole struct {
	index *walIndex
	at    atomic.Pointer[place]
}

// place is what is known of the log.
type place struct {
	header walHeader // at the last Hold or Release
	proved bool      // our last commit made it so, alone
	ours   bool      // the next commit is ours: nobody else can have the right to write
}

// Quiet implements rel.Sole.
func (w *sole) Quiet() bool {
	p := w.at.Load()
	if p == nil || !p.proved {
		return false
	}
	h, ok := w.index.header()
	return ok && (h == p.header || p.ours && h.change() == p.header.change()+1)
}

// Hold implements rel.Sole.
func (w *sole) Hold(foreign func()) (alone bool) {
	p := w.at.Load()
	h, ok := w.index.header()
	if ok && p != nil && h == p.header {
		return p.proved
	}
	foreign()
	w.moved(h, ok, false)
	return false
}

// Commits implements rel.Sole.
func (w *sole) Commits() {
	if p := w.at.Load(); p != nil {
		w.at.Store(&place{p.header, p.proved, true})
	}
}

// Release implements rel.Sole.
func (w *sole) Release(failed bool, foreign func()) {
	p := w.at.Load()
	if p == nil || !p.ours {
		return
	}
	h, ok := w.index.header()
	alone := ok && !failed && h.change() == p.header.change()+1
	if !alone {
		foreign()
	}
	w.moved(h, ok, alone)
}

// moved keeps what the index says now, if it can be read.
func (w *sole) moved(h walHeader, ok, proved bool) {
	if !ok {
		w.at.Store(nil)
		return
	}
	w.at.Store(&place{header: h, proved: proved})
}
