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
	db, c, path := aside(t)
	o = &own{t: t, db: db, w: &sole{index: c.index}}
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

// TestSolePhantom: frames that look like a commit and are none, left where the next commits go, hide nothing.
func TestSolePhantom(t *testing.T) {
	o, foreign := newOwn(t)
	o.commit(1)
	var path string
	ok(t, o.db.QueryRow("SELECT file FROM pragma_database_list WHERE name = 'main'").Scan(&path))
	f, err := os.OpenFile(path+"-wal", os.O_RDWR, 0)
	ok(t, err)
	defer f.Close()
	h, _ := o.w.index.header()
	for i := range int64(40) { // a copy of the last commit's frame: its checksum is wrong here, and no SQLite reads it
		frame := make([]byte, frameSize)
		_, err := f.ReadAt(frame, logHeader+(int64(h.frames())-1)*frameSize)
		ok(t, err)
		_, err = f.WriteAt(frame, logHeader+(int64(h.frames())+i)*frameSize)
		ok(t, err)
	}
	for i := range 6 {
		o.quiet(true, "before a phantom")
		pages(t, foreign, 1)
		o.quiet(false, fmt.Sprintf("after commit %d in a phantom", i))
		o.commit(1)
	}
}

// TestSoleFailed: what became of a commit that failed nobody knows before the next one.
func TestSoleFailed(t *testing.T) {
	o, foreign := newOwn(t)
	o.commit(1)
	for _, done := range []bool{true, false} {
		told := o.others
		o.w.Hold(func() { t.Error("told of nobody") })
		o.w.Commits()
		if done {
			pages(t, o.db, 1)
		}
		o.w.Release(true, func() { o.others++ })
		o.quiet(false, "after a failed commit")
		if o.others != told+1 {
			t.Error("nobody was told of the failed commit")
		}
		o.commit(1)
		o.quiet(true, "after the next one")
	}
	o.w.Hold(func() {})
	o.w.Commits()
	o.w.Release(false, func() { o.others++ })
	o.quiet(false, "after a commit that moved nothing: this may be the index of another file")
	pages(t, foreign, 1)
	o.quiet(false, "after somebody else's")
	o.commit(1)
	o.quiet(true, "after one of ours behind it")
}
