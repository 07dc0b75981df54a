package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// SQLite moves the pages of its write-ahead log into the database in the commit that finds the log long, while every other
// writer waits for that disk work. The checkpointer does it beside the writer instead, as often; it changes no promise, since a
// commit is durable by its place in the log.
const (
	// frameSize and logHeader are the layout of the log (https://sqlite.org/fileformat2.html, section 4) with pages of 4 KiB.
	frameSize = 24 + 4096
	logHeader = 32
	// enough is how many frames are worth a checkpoint, as by SQLite's default; from long on the log is begun anew, for which
	// writers wait a moment: without it, those who write during each checkpoint would let it grow for ever.
	enough = 1000
	long   = 16_384
	// backstop is from when on a commit checkpoints by itself after all.
	backstop = 16 * long
	// restartMillis is how long a new beginning, and with it the writers, waits for readers of the old log; the next one comes soon.
	restartMillis = 100
)

// checkpointer is woken by commits.
type checkpointer struct {
	db     *sql.DB
	writer *sql.DB // of one connection
	log    logFile
	long   int64
	woke   chan struct{}
	ctx    context.Context // over when nothing new may begin
	stop   context.CancelFunc
	done   chan struct{} // closed when nothing is under way any more
	salt   [8]byte       // of the log when moved was counted
	// moved are the frames of this log that are in the database.
	moved int64
}

// openCheckpointer begins to checkpoint a database beside the one connection of writer.
func openCheckpointer(writer *sql.DB, path string, long int64) (*checkpointer, error) {
	db, err := sql.Open("sqlite", dsn(path, "deferred"))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	c := &checkpointer{db: db, writer: writer, log: logFile{path: path + "-wal"}, long: long, woke: make(chan struct{}, 1), done: make(chan struct{})}
	c.ctx, c.stop = context.WithCancel(context.Background())
	go c.run()
	return c, nil
}

// wake says that something was committed.
func (c *checkpointer) wake() {
	select {
	case c.woke <- struct{}{}:
	default: // it will look anyway
	}
}

// close ends a checkpoint that is under way first.
func (c *checkpointer) close() error {
	c.stop()
	<-c.done
	return errors.Join(c.log.close(), c.db.Close())
}

func (c *checkpointer) run() {
	defer close(c.done)
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.woke:
		}
		if !c.due() {
			continue
		}
		// An error changes nothing: a commit meets the same disk and tells its caller; the next one wakes this again.
		if log, err := c.checkpoint(c.db, "PASSIVE"); err == nil && log >= c.long {
			c.restart()
		}
	}
}

// restart begins the log anew. It takes its turn as a writer: against writers without a pause it would seldom get the lock.
func (c *checkpointer) restart() error {
	conn, err := c.writer.Conn(c.ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx := context.Background() // what is begun is ended
	if _, err := conn.ExecContext(ctx, fmt.Sprintf("PRAGMA busy_timeout(%d)", restartMillis)); err != nil {
		return err
	}
	_, err = c.checkpoint(conn, "RESTART")
	_, back := conn.ExecContext(ctx, fmt.Sprintf("PRAGMA busy_timeout(%d)", busyMillis))
	return errors.Join(err, back)
}

// due reads in the log whether there are enough frames that are not in the database: a frame belongs to the log when it
// bears the salt of its header, which changes with each new beginning.
func (c *checkpointer) due() bool {
	salt, ok := c.read(16)
	if !ok {
		return false // there is no log yet
	}
	if salt != c.salt {
		c.salt, c.moved = salt, 0
	}
	frame, ok := c.read(logHeader + (c.moved+enough-1)*frameSize + 8)
	return ok && frame == salt
}

// read reads a salt at a place of the log.
func (c *checkpointer) read(at int64) (salt [8]byte, ok bool) {
	_, err := c.log.ReadAt(salt[:], at)
	return salt, err == nil
}

// checkpoint returns how many frames the log has.
func (c *checkpointer) checkpoint(on interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}, mode string) (int64, error) {
	var busy, log, moved int64
	if err := on.QueryRowContext(context.Background(), "PRAGMA wal_checkpoint("+mode+")").Scan(&busy, &log, &moved); err != nil {
		return 0, err
	}
	if log < 0 {
		return 0, errors.New("the database keeps no write-ahead log")
	}
	c.moved = moved
	return log, nil
}
