// Package pgtest runs a private PostgreSQL for tests: one cluster for each test process, on a unix socket in a
// temporary folder, and one database for each test.
//
// Invariant: nothing stays behind. A shell that waits for the end of the test process, however that ends, stops the
// server and removes the folder. Refuses: to skip; a machine without PostgreSQL fails the test with the reason.
package pgtest

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"bulkhead/store/postgres"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// role owns the cluster's databases.
const role = "bulkhead"

// template is the migrated database that New copies.
const template = "bulkhead_template"

// startTimeout bounds the wait for the server's first answer, on a machine that is busy with other tests.
const startTimeout = 60 * time.Second

// New makes an empty database with the current schema, removed at the end of the test, and returns its URL. The server
// does not wait for the disk: what it keeps outlives a killed client, and not a lost machine.
func New(t testing.TB) string { t.Helper(); return fast.database(t, template) }

// NewDurable is New on a server that waits for the disk, for measurements.
func NewDurable(t testing.TB) string { t.Helper(); return durable.database(t, template) }

// NewBare makes a database without any schema.
func NewBare(t testing.TB) string { t.Helper(); return fast.database(t, "template0") }

// The clusters of this process. Each is started once, by the first test that needs it.
var (
	fast    = &cluster{settings: []string{"fsync=off", "full_page_writes=off"}}
	durable = &cluster{settings: []string{"fsync=on", "wal_compression=off"}}
)

type cluster struct {
	settings []string
	once     sync.Once
	err      error
	dir      string
	admin    *sql.DB
	hold     *os.File // while this is open the server runs
	names    atomic.Int64
}

func (c *cluster) database(t testing.TB, from string) string {
	t.Helper()
	c.once.Do(func() { c.err = c.start() })
	if c.err != nil {
		t.Fatalf("this test needs PostgreSQL 15 or later (Debian: apt-get install postgresql): %v", c.err)
	}
	name := fmt.Sprintf("t%d", c.names.Add(1))
	if _, err := c.admin.ExecContext(context.Background(), "CREATE DATABASE "+name+" TEMPLATE "+from+" STRATEGY FILE_COPY"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := c.admin.ExecContext(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	return c.url(name)
}

func (c *cluster) url(database string) string {
	q := url.Values{"host": {c.dir}, "sslmode": {"disable"}}
	return (&url.URL{Scheme: "postgres", User: url.User(role), Path: "/" + database, RawQuery: q.Encode()}).String()
}

func (c *cluster) start() error {
	bin, err := bindir()
	if err != nil {
		return err
	}
	owner, err := unprivileged()
	if err != nil {
		return err
	}
	// Not os.TempDir: the path of a unix socket has at most 107 octets.
	if c.dir, err = os.MkdirTemp("/tmp", "pgtest"); err != nil {
		return err
	}
	if owner != nil {
		if err := os.Chown(c.dir, int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	data := filepath.Join(c.dir, "data")
	// A linguistic order of texts, so that SQL that leans on byte order without asking for it fails here.
	initdb := command(owner, c.dir, filepath.Join(bin, "initdb"), "-D", data, "-U", role, "-A", "trust", "-E", "UTF8",
		"--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US", "--no-sync", "--no-instructions")
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	if err := c.serve(bin, data, owner); err != nil {
		return err
	}
	return c.prepare()
}

// serve starts the server under a shell that stops it, and removes the folder, when the pipe to this process closes.
func (c *cluster) serve(bin, data string, owner *syscall.Credential) error {
	args := []string{"-D", data, "-k", c.dir, "-h", "", "-c", "max_connections=200", "-c", "shared_buffers=64MB",
		"-c", "max_wal_size=1GB", "-c", "autovacuum_naptime=10s"}
	for _, s := range c.settings {
		args = append(args, "-c", s)
	}
	const script = `trap '' INT TERM HUP; dir=$1; shift
"$@" >"$dir/log" 2>&1 </dev/null & pid=$!
cat >/dev/null
kill -QUIT $pid; wait $pid; cd /; rm -rf "$dir"`
	read, hold, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	c.hold = hold
	cmd := command(owner, c.dir, "/bin/sh", append([]string{"-c", script, "sh", c.dir, filepath.Join(bin, "postgres")}, args...)...)
	cmd.Stdin = read
	cmd.SysProcAttr.Setpgid = true
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	go cmd.Wait() //nolint:errcheck // its end is this process's end
	return nil
}

// prepare waits for the server and makes the template.
func (c *cluster) prepare() error {
	var err error
	if c.admin, err = sql.Open("pgx", c.url("postgres")); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for c.admin.PingContext(ctx) != nil {
		select {
		case <-ctx.Done():
			log, _ := os.ReadFile(filepath.Join(c.dir, "log"))
			return fmt.Errorf("postgres does not answer: %s", log)
		case <-time.After(20 * time.Millisecond):
		}
	}
	if _, err := c.admin.ExecContext(ctx, "CREATE DATABASE "+template); err != nil {
		return err
	}
	db, err := sql.Open("pgx", c.url(template))
	if err != nil {
		return err
	}
	defer db.Close() // a template must have no connections
	return postgres.Migrate(ctx, db)
}

// command is a process of owner with a plain environment.
func command(owner *syscall.Credential, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "TZ=UTC", "HOME=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: owner}
	return cmd
}

// bindir finds the folder of the server's programs.
func bindir() (string, error) {
	var dirs []string
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	debian, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.Reverse(debian) // the newest first
	dirs = append(dirs, debian...)
	if path, err := exec.LookPath("initdb"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	for _, dir := range dirs {
		_, a := os.Stat(filepath.Join(dir, "initdb"))
		_, b := os.Stat(filepath.Join(dir, "postgres"))
		if a == nil && b == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("no initdb and postgres in %v", dirs)
}

// unprivileged is who runs the server: nil for this process's own user, another one for root, as which it refuses.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, fmt.Errorf("root cannot run postgres, and there is neither a user postgres nor nobody")
}
