package sqlite

import (
	"database/sql"
	"fmt"
	"os"
	"testing"
)

// own is a commit by the store to which the sole belongs, as rel makes it.
type own struct {
	t      *testing.T
	db     *sql.DB
	w      *sole
	others int // commits by others of which it was told
}

func (o *own) commit(n int) {
	o.t.Helper()
	o.w.Hold(func() { o.others++ })
	o.w.Commits()
	pages(o.t, o.db, n)
	o.w.Release(false, func() { o.others++ })
}

func (o *own) quiet(want bool, when string) {
	o.t.Helper()
	if got := o.w.Quiet(); got != want {
		o.t.Errorf("%s: quiet is %t", when, got)
	}
}

func newOwn(t *testing.T) (o *own, foreign *sql.DB) {
	db, _, path := aside(t)
	o = &own{t: t, db: db, w: &sole{log: logFile{path: path + "-wal"}}}
	t.Cleanup(func() { ok(t, o.w.close()) })
	foreign, err := sql.Open("sqlite", dsn(path, "immediate"))
	ok(t, err)
	t.Cleanup(func() { foreign.Close() })
	return o, foreign
}

// TestSole: own commits leave it quiet, also where one begins the log anew; a commit by somebody else ends that until a
// commit of ours was found behind it.
func TestSole(t *testing.T) {
	o, foreign := newOwn(t)
	o.quiet(false, "before anything is known")
	o.commit(1)
	o.quiet(true, "after a commit of ours")
	for range 5 {
		o.commit(3)
		o.quiet(true, "after another")
	}
	told := o.others
	pages(t, foreign, 1)
	o.quiet(false, "after a commit of somebody else")
	o.commit(2)
	o.quiet(true, "after a commit of ours behind it")
	if o.others == told {
		t.Error("nobody was told")
	}
	told = o.others
	if _, err := o.db.Exec("PRAGMA wal_checkpoint(RESTART)"); err != nil {
		t.Fatal(err)
	}
	o.quiet(true, "before the new log")
	o.commit(2)
	o.quiet(true, "in the new log")
	if o.others != told {
		t.Error("our own new beginning is taken for somebody else's")
	}
	if _, err := o.db.Exec("PRAGMA wal_checkpoint(RESTART)"); err != nil {
		t.Fatal(err)
	}
	pages(t, foreign, 1)
	o.quiet(false, "in a new log that somebody else began")
}

// TestSoleUnderWay: while a commit of ours is written it is quiet, and not with a second one behind it.
func TestSoleUnderWay(t *testing.T) {
	o, foreign := newOwn(t)
	o.commit(1)
	o.w.Hold(func() { t.Error("told of nobody") })
	o.w.Commits()
	pages(t, o.db, 2)
	o.quiet(true, "our commit is there and not over")
	pages(t, foreign, 1)
	o.quiet(false, "another one followed at once")
	told := 0
	o.w.Release(false, func() { told++ })
	if told != 1 {
		t.Errorf("told %d times", told)
	}
	o.quiet(false, "two commits and one of ours")
}

// TestSolePhantom: frames that look like a commit and are none stand where the next commits go, so that these cannot be seen by
// looking behind them. Nothing is quiet then.
func TestSolePhantom(t *testing.T) {
	o, foreign := newOwn(t)
	o.commit(1)
	o.commit(1)
	p := o.w.at.Load()
	f, err := os.OpenFile(o.w.log.path, os.O_RDWR, 0)
	ok(t, err)
	defer f.Close()
	for i := range int64(40) { // a copy of the last commit's frame: its checksum is wrong here, and no SQLite reads it
		frame := make([]byte, frameSize)
		_, err := f.ReadAt(frame, logHeader+(p.frames-1)*frameSize)
		ok(t, err)
		_, err = f.WriteAt(frame, logHeader+(p.frames+i)*frameSize)
		ok(t, err)
	}
	o.quiet(false, "behind a phantom")
	for i := range 6 {
		o.commit(1)
		if o.w.Quiet() {
			pages(t, foreign, 1)
			o.quiet(false, fmt.Sprintf("commit %d before the end of the phantom", i))
		}
	}
}

// TestSoleFailed: nobody knows where a log ends to which a commit failed.
func TestSoleFailed(t *testing.T) {
	o, _ := newOwn(t)
	o.commit(1)
	o.w.Hold(func() {})
	o.w.Commits()
	pages(t, o.db, 1)
	o.w.Release(true, func() { o.others++ })
	o.quiet(false, "after a failed commit")
	o.commit(1)
	o.quiet(false, "in the same log")
	if _, err := o.db.Exec("PRAGMA wal_checkpoint(RESTART)"); err != nil {
		t.Fatal(err)
	}
	o.commit(1)
	o.quiet(true, "in the next log")
}
