package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// SQLite moves the pages of its write-ahead log into the database in the commit that finds the log long, while every other
// writer waits for that disk work. The checkpointer does it beside the writer instead, and less often; it changes no promise, since a
// commit is durable by its place in the log.
const (
	// enough is how many frames are worth a checkpoint, four times SQLite's default: of a page that stands in the log again and again
	// only the last is moved, and most are of few pages, where tables and indexes grow. From long on the log is begun anew, for which
	// writers wait a moment: without it, those who write during each checkpoint would let it grow for ever.
	enough = 4000
	long   = 16_384
	// backstop is from when on a commit checkpoints by itself after all.
	backstop = 16 * long
	// restartMillis is how long a new beginning, and with it the writers, waits for readers of the old log; the next one comes soon.
	restartMillis = 100
)

// checkpointer is woken by commits.
type checkpointer struct {
	db     *sql.DB
	turn   func(context.Context, func(*sql.Conn) error) error // with the connection that writes
	index  *walIndex
	enough int64
	long   int64
	woke   chan struct{}
	ctx    context.Context // over when nothing new may begin
	stop   context.CancelFunc
	done   chan struct{} // closed when nothing is under way any more
}

// openCheckpointer begins to checkpoint a database beside the one connection that writes, which turn lends.
func openCheckpointer(turn func(context.Context, func(*sql.Conn) error) error, path string, index *walIndex, enough, long int64) (*checkpointer, error) {
	db, err := sql.Open("sqlite", dsn(path, "deferred"))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	c := &checkpointer{db: db, turn: turn, index: index, enough: enough, long: long, woke: make(chan struct{}, 1), done: make(chan struct{})}
	c.ctx, c.stop = context.WithCancel(context.Background())
	go c.run()
	return c, nil
}

// wake says that something was committed.
func (c *checkpointer) wake() {
	if !c.due() {
		return
	}
	select {
	case c.woke <- struct{}{}:
	default: // it will look anyway
	}
}

// close ends a checkpoint that is under way first.
func (c *checkpointer) close() error {
	c.stop()
	<-c.done
	return c.db.Close()
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
	return c.turn(c.ctx, func(conn *sql.Conn) error {
		ctx := context.Background() // what is begun is ended
		if _, err := conn.ExecContext(ctx, fmt.Sprintf("PRAGMA busy_timeout(%d)", restartMillis)); err != nil {
			return err
		}
		_, err := c.checkpoint(conn, "RESTART")
		_, back := conn.ExecContext(ctx, fmt.Sprintf("PRAGMA busy_timeout(%d)", busyMillis))
		return errors.Join(err, back)
	})
}

// due reports that there are enough frames that are not in the database.
func (c *checkpointer) due() bool { return c.index.unmoved() >= c.enough }

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
	return log, nil
}
