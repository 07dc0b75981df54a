package firstlight

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// cluster is a private PostgreSQL that a test can stop and start.
type cluster struct {
	t         testing.TB
	bin, dir  string
	owner     *syscall.Credential
	process   *exec.Cmd
	exited    chan struct{}
	dsn       string // file with the connection string
	stoppable bool
}

// newCluster makes a cluster and an empty database on it.
func newCluster(t testing.TB) *cluster {
	t.Helper()
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(dirs) == 0 {
		t.Fatal("PostgreSQL is needed for this test: apt-get install postgresql")
	}
	slices.Sort(dirs)
	dir, err := os.MkdirTemp("/tmp", "firstlightpg") // the path of a unix socket has at most 107 octets
	ok(t, err)
	c := &cluster{t: t, bin: dirs[len(dirs)-1], dir: dir, owner: unprivileged(t), dsn: filepath.Join(t.TempDir(), "dsn")}
	t.Cleanup(func() {
		if c.stoppable {
			c.stop()
		}
		_ = os.RemoveAll(dir)
	})
	if c.owner != nil {
		ok(t, os.Chown(dir, int(c.owner.Uid), int(c.owner.Gid)))
	}
	if out, err := c.command("initdb", "-D", c.data(), "-U", "bulkhead", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v: %s", err, out)
	}
	c.start()
	if out, err := c.command("createdb", "-h", dir, "-U", "bulkhead", "house").CombinedOutput(); err != nil {
		t.Fatalf("createdb: %v: %s", err, out)
	}
	ok(t, os.WriteFile(c.dsn, []byte("postgres://bulkhead@/house?host="+dir+"&sslmode=disable\n"), 0o600))
	return c
}

// unprivileged is who runs the server: nil for this process's own user, postgres for root, as which it refuses.
func unprivileged(t testing.TB) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	ok(t, err)
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	ok(t, err)
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	ok(t, err)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func (c *cluster) data() string { return filepath.Join(c.dir, "data") }

func (c *cluster) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(c.bin, name), args...)
	cmd.Dir, cmd.Env = c.dir, []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "TZ=UTC", "HOME=" + c.dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.owner, Setpgid: true, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

// start starts the server and waits until it answers.
func (c *cluster) start() {
	c.t.Helper()
	c.process, c.exited = c.command("postgres", "-D", c.data(), "-k", c.dir, "-h", "", "-c", "fsync=off", "-c", "shared_buffers=32MB"), make(chan struct{})
	ok(c.t, c.process.Start())
	c.stoppable = true
	go func() { _ = c.process.Wait(); close(c.exited) }()
	eventually(c.t, startTimeout, func() string {
		out, err := c.command("pg_isready", "-h", c.dir).CombinedOutput()
		if err != nil {
			return "postgres does not answer: " + string(out)
		}
		return ""
	})
}

// stop stops the server; connections are cut.
func (c *cluster) stop() {
	c.t.Helper()
	c.stoppable = false
	ok(c.t, c.process.Process.Signal(syscall.SIGINT))
	select {
	case <-c.exited:
	case <-time.After(2 * time.Minute):
		c.t.Fatal("postgres does not stop")
	}
}

// TestPostgreSQL: the same day on PostgreSQL. Without the database status goes on and says so, issuance fails in plain
// words, and both mend by themselves.
func TestPostgreSQL(t *testing.T) {
	t.Parallel()
	db := newCluster(t)
	h := start(t, options{flags: []string{"--store", "postgres:" + db.dsn}})
	gone := coreOfFirstLight(t, h, "postgres.test")
	p := h.issue("stays.postgres.test").paper(t)
	p.awaitGood(t)

	db.stop()
	if s := p.status(t); s != "good" || p.onCRL(t) {
		t.Errorf("without the database the certificate is %s", s)
	}
	if s := h.opensslOCSP(gone, "sha1"); s != "revoked" || !gone.onCRL(t) {
		t.Errorf("without the database the revoked certificate is %s", s)
	}
	var r struct{ Status, Issuance string }
	h.readyz(&r)
	if r.Status != "ok" || !strings.Contains(r.Issuance, "store") {
		t.Errorf("/readyz says %+v", r)
	}
	begun := time.Now()
	refused := h.run("issue", "away.postgres.test", "--out", t.TempDir(), "--json")
	var v struct{ Error struct{ Kind, Hint string } }
	decode(t, refused.stdout, &v)
	if refused.code != 5 || v.Error.Kind != "unavailable" || !strings.Contains(refused.stderr, "next: ") {
		t.Errorf("issue without the database ends with %d: %s%s", refused.code, refused.stdout, refused.stderr)
	}
	if d := time.Since(begun); d > 2*time.Minute {
		t.Errorf("the refusal takes %s", d)
	}
	h.refused(5, "next: ", "cert", "revoke", p.leafFile)
	if s := p.status(t); s != "good" {
		t.Errorf("a revocation that failed made the certificate %s", s)
	}
	select {
	case <-h.process.ended:
		t.Fatalf("the house ended with its database:\n%s", h.process.log.String())
	default:
	}

	db.start()
	dir := t.TempDir()
	eventually(t, time.Minute, func() string {
		if r := h.run("issue", "back.postgres.test", "--out", dir, "--force"); r.code != 0 {
			return "the database is back: " + r.stderr
		}
		return ""
	})
	h.readyz(&r)
	if r.Issuance != "ok" {
		t.Errorf("/readyz says %+v", r)
	}
	h.must("cert", "revoke", p.leafFile)
	p.awaitRevoked(t)
	h.kill()
	h.up()
	p.awaitRevoked(t)
	coreOfFirstLight(t, h, "again.postgres.test")
}

// readyz wants 200 from the metrics listener.
func (h *house) readyz(v any) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.Replace(h.ready.Metrics, "/metrics", "/readyz", 1), nil)
	ok(h.t, err)
	res, err := http.DefaultClient.Do(req)
	ok(h.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	ok(h.t, err)
	if res.StatusCode != http.StatusOK || json.Unmarshal(body, v) != nil {
		h.t.Errorf("/readyz: %s %s", res.Status, body)
	}
}
