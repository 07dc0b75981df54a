package apart

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkhead/internal/heldport"
)

// users are the numeric users of the roles; no account needs to exist for them.
var users = map[string]uint32{"signer": 41001, "enroll": 41002, "console": 41003, "status": 41004, "edge": 41005, "evidence": 41006, "watch": 41007}

// roles in the order of their start; edges do not wait for anybody.
var roles = []string{"signer", "status", "evidence", "watch", "enroll", "console", "edge"}

// offline are the roles that get no network at all: they meet the others at unix sockets.
var offline = map[string]bool{"signer": true, "evidence": true}

const startTimeout = 90 * time.Second

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// house is the whole of it.
type house struct {
	t                  testing.TB
	bin, dir, pg       string
	https, admin, http string // listeners of enroll, console and edge
	dsn                map[string]string
	metrics            map[string]string // listeners for metrics, by role
	receiver           receiver          // of alarms
	process            map[string]*exec.Cmd
	logs               map[string]*bytes.Buffer
}

// start builds the programs, makes a house in one process as its owner, takes it apart and starts the roles.
func start(t testing.TB) *house {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("this test gives each role its own user and network namespace: run it as root")
	}
	dir, err := os.MkdirTemp("/tmp", "apart") // the path of a unix socket has at most 107 octets
	ok(t, err)
	h := &house{t: t, dir: dir, bin: filepath.Join(dir, "bin"), pg: filepath.Join(dir, "pg"), https: heldport.For(t).String(), admin: heldport.For(t).String(), http: heldport.For(t).String(),
		dsn: map[string]string{}, metrics: map[string]string{}, process: map[string]*exec.Cmd{}, logs: map[string]*bytes.Buffer{}}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ok(t, os.Chmod(dir, 0o755))
	ok(t, os.Mkdir(filepath.Join(dir, "roles"), 0o755))
	h.build()
	h.token()
	h.database()
	h.bucket()
	h.make()
	h.takeApart()
	h.tellWatch()
	t.Cleanup(h.stopAll)
	for _, r := range roles {
		h.up(r)
	}
	return h
}

func (h *house) build() {
	h.t.Helper()
	cmd := exec.Command("go", "build", "-tags", "pkcs11", "-o", h.bin+"/", "bulkhead/cmd/bulkhead", "bulkhead/cmd/bulkhead-signer")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		h.t.Fatalf("go build: %v: %s", err, out)
	}
	gateway := exec.Command("go", "build", "-o", filepath.Join(h.bin, "versitygw"), "github.com/versity/versitygw/cmd/versitygw")
	gateway.Dir, gateway.Env = filepath.Join("..", "..", "tools"), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := gateway.CombinedOutput(); err != nil {
		h.t.Fatalf("go build of the S3 server: %v: %s", err, out)
	}
}

// as makes a command of another user; without network, it sees no interface but loopback.
func as(uid uint32, network bool, name string, args ...string) *exec.Cmd {
	all := append([]string{"--reuid", fmt.Sprint(uid), "--regid", fmt.Sprint(uid), "--clear-groups", "--no-new-privs", "--", name}, args...)
	cmd := exec.Command("setpriv", all...)
	if !network {
		cmd = exec.Command("unshare", append([]string{"--net", "--", "setpriv"}, all...)...)
	}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "SOFTHSM2_CONF=" + os.Getenv("SOFTHSM2_CONF")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (h *house) must(cmd *exec.Cmd) string {
	h.t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Fatalf("%s: %v: %s", strings.Join(cmd.Args, " "), err, out)
	}
	return string(out)
}

// background starts a process that ends with the test.
func (h *house) background(cmd *exec.Cmd) {
	h.t.Helper()
	ok(h.t, cmd.Start())
	h.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// wait polls until the condition holds.
func (h *house) wait(what string, holds func() bool) {
	h.t.Helper()
	for end := time.Now().Add(startTimeout); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			var b strings.Builder
			for r, l := range h.logs {
				fmt.Fprintf(&b, "== %s\n%s", r, tail(l.String()))
			}
			h.t.Fatalf("waited in vain for %s\n%s", what, b.String())
		}
	}
}

func tail(text string) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "")
}

// database starts PostgreSQL on a unix socket; every user has a password.
func (h *house) database() {
	h.t.Helper()
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(dirs) == 0 {
		h.t.Fatal("PostgreSQL is needed for this test: apt-get install postgresql")
	}
	slices.Sort(dirs)
	bin := dirs[len(dirs)-1]
	account, err := user.Lookup("postgres") // initdb wants a user with an account
	ok(h.t, err)
	id, err := strconv.Atoi(account.Uid)
	ok(h.t, err)
	owner := uint32(id)
	ok(h.t, os.Mkdir(h.pg, 0o755))
	ok(h.t, os.Chown(h.pg, id, id))
	secret := h.secretFile("owner", id)
	data := filepath.Join(h.pg, "data")
	h.must(as(owner, true, filepath.Join(bin, "initdb"), "-D", data, "-U", "owner", "-A", "scram-sha-256", "--pwfile", secret, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"))
	h.background(as(owner, true, filepath.Join(bin, "postgres"), "-D", data, "-k", h.pg, "-c", "listen_addresses=", "-c", "fsync=off"))
	h.dsn["owner"] = h.dsnFile("owner", secret, 0)
	h.wait("PostgreSQL", func() bool { return h.sql("owner", "SELECT 1", "postgres") == nil })
	ok(h.t, h.sql("owner", "CREATE DATABASE house", "postgres"))
}

// secretFile writes a fresh password for a user.
func (h *house) secretFile(name string, owner int) string {
	h.t.Helper()
	path := filepath.Join(h.dir, name+".password")
	ok(h.t, os.WriteFile(path, []byte(rand.Text()+"\n"), 0o600))
	ok(h.t, os.Chown(path, owner, owner))
	return path
}

func (h *house) dsnFile(who, secret string, owner int) string {
	h.t.Helper()
	password, err := os.ReadFile(secret)
	ok(h.t, err)
	path := filepath.Join(h.dir, who+".dsn")
	ok(h.t, os.WriteFile(path, []byte(fmt.Sprintf("postgres://%s:%s@/house?host=%s&sslmode=disable\n", who, strings.TrimSpace(string(password)), h.pg)), 0o600))
	ok(h.t, os.Chown(path, owner, owner))
	return path
}

// sql runs statements as a database user.
func (h *house) sql(who, statements string, database ...string) error {
	dsn, err := os.ReadFile(h.dsn[who])
	if err != nil {
		return err
	}
	text := strings.TrimSpace(string(dsn))
	if len(database) > 0 {
		text = strings.Replace(text, "/house?", "/"+database[0]+"?", 1)
	}
	cmd := exec.Command("psql", "-q", "-v", "ON_ERROR_STOP=1", "-d", text, "-c", statements)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// query asks the database one thing as its owner.
func (h *house) query(statement string) string {
	h.t.Helper()
	dsn, err := os.ReadFile(h.dsn["owner"])
	ok(h.t, err)
	return strings.TrimSpace(h.must(exec.Command("psql", "-qAt", "-v", "ON_ERROR_STOP=1", "-d", strings.TrimSpace(string(dsn)), "-c", statement)))
}

// bucket starts an S3-compatible server with one bucket.
func (h *house) bucket() {
	h.t.Helper()
	at, secret := heldport.For(h.t).String(), rand.Text()
	for _, d := range []string{"s3/buckets/objects", "s3/metadata"} {
		ok(h.t, os.MkdirAll(filepath.Join(h.dir, d), 0o700))
	}
	cmd := exec.Command(filepath.Join(h.bin, "versitygw"), "--port", at, "--quiet", "posix", "--sidecar", filepath.Join(h.dir, "s3/metadata"), filepath.Join(h.dir, "s3/buckets"))
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY=house", "ROOT_SECRET_KEY="+secret)
	h.background(cmd)
	h.wait("the S3 server", func() bool {
		c, err := net.Dial("tcp", at)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	ok(h.t, os.WriteFile(filepath.Join(h.dir, "bucket.yaml"), []byte("endpoint: "+at+"\nbucket: objects\naccess_key: house\nsecret_key_file: bucket.secret\ninsecure: true\n"), 0o644))
	ok(h.t, os.WriteFile(filepath.Join(h.dir, "bucket.secret"), []byte(secret+"\n"), 0o600))
}

// make is the first start, by the owner of the database, in one process.
func (h *house) make() {
	h.t.Helper()
	cmd := exec.Command(h.program(), "up", "--data", h.data("signer"), "--store", "postgres:"+h.dsn["owner"], "--objects", "s3:"+filepath.Join(h.dir, "bucket.yaml"), "--key-ring", h.ring(), "--listen", h.https, "--status-listen", h.http, "--metrics-listen", heldport.For(h.t).String())
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	ok(h.t, cmd.Start())
	h.wait("the first start", func() bool {
		_, err := os.Stat(filepath.Join(h.data("signer"), "run", "ready.json"))
		return err == nil
	})
	ok(h.t, cmd.Process.Signal(syscall.SIGTERM))
	if err := cmd.Wait(); err != nil {
		h.t.Fatalf("%v: %s", err, log.String())
	}
}

func (h *house) program() string         { return filepath.Join(h.bin, "bulkhead") }
func (h *house) data(role string) string { return filepath.Join(h.dir, "roles", role) }
func (h *house) socket() string          { return "unix:" + filepath.Join(h.dir, "door", "signer.sock") }

// takeApart gives each role its database user, its directory and its files, and nobody another's.
func (h *house) takeApart() {
	h.t.Helper()
	h.must(exec.Command(h.program(), "role", "database", "--data", h.data("signer"), "--apply"))
	for _, r := range roles {
		if r == "edge" {
			continue
		}
		secret := h.secretFile("u_"+r, 0)
		password, err := os.ReadFile(secret)
		ok(h.t, err)
		ok(h.t, h.sql("owner", fmt.Sprintf("CREATE USER u_%s PASSWORD '%s' IN ROLE bulkhead_%s", r, strings.TrimSpace(string(password)), r)))
		h.dsn[r] = h.dsnFile("u_"+r, secret, 0)
	}
	h.edit("signer", func(text string) string {
		return set(set(text, "metrics_listen", heldport.For(h.t).String()), "objects", "s3:bucket.yaml") // each role has its own copy
	})
	for _, r := range roles {
		if r == "signer" {
			continue
		}
		args := []string{"role", "export", r, "--data", h.data("signer"), "--out", h.data(r)}
		if r != "edge" {
			args = append(args, "--dsn-file", h.dsn[r], "--signer", h.socket())
		}
		h.must(exec.Command(h.program(), args...))
		h.metrics[r] = heldport.For(h.t).String()
		h.edit(r, func(text string) string { return set(text, "metrics_listen", h.metrics[r]) })
		if slices.Contains([]string{"status", "edge", "enroll", "console", "watch"}, r) {
			h.must(exec.Command("cp", filepath.Join(h.dir, "bucket.yaml"), filepath.Join(h.dir, "bucket.secret"), h.data(r)+"/"))
		}
	}
	h.edit("console", func(text string) string { return set(text, "listen", h.admin) })
	for _, r := range []string{"signer", "enroll", "console"} {
		h.edit(r, func(text string) string { return text + "high_value_names: [bank.example.test]\n" })
	}
	h.edit("signer", func(text string) string {
		return set(text, "store", "postgres:store.dsn") + "signer:\n  listen: " + h.socket() + "\n"
	})
	h.must(exec.Command("cp", h.dsn["signer"], filepath.Join(h.data("signer"), "store.dsn")))
	ok(h.t, os.Mkdir(filepath.Join(h.dir, "door"), 0o755))
	ok(h.t, os.Chown(filepath.Join(h.dir, "door"), int(users["signer"]), int(users["signer"])))
	// The first operator's key is the operator's, not the signer's.
	ok(h.t, os.Rename(filepath.Join(h.data("signer"), "operator", "operator-1.key"), filepath.Join(h.dir, "operator.key")))
	h.must(exec.Command("chown", "-R", fmt.Sprintf("%d:%d", users["signer"], users["signer"]), h.hsm()))
	for r, u := range users {
		h.must(exec.Command("chown", "-R", fmt.Sprintf("%d:%d", u, u), h.data(r)))
	}
}

// set changes one top-level key of a configuration.
func set(text, key, value string) string {
	line := regexp.MustCompile(`(?m)^` + key + `:.*$`)
	return line.ReplaceAllString(text, key+": "+value)
}

func (h *house) edit(role string, change func(string) string) {
	h.t.Helper()
	path := filepath.Join(h.data(role), "bulkhead.yaml")
	text, err := os.ReadFile(path)
	ok(h.t, err)
	ok(h.t, os.WriteFile(path, []byte(change(string(text))), 0o644))
}

// up starts one role as its user and waits until it answers.
func (h *house) up(role string) {
	h.t.Helper()
	name, args := h.program(), []string{"run", role, "--data", h.data(role)}
	if role == "signer" {
		name, args = filepath.Join(h.bin, "bulkhead-signer"), h.signerArgs()
	}
	cmd := as(users[role], !offline[role], name, args...)
	log := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = log, log
	_ = os.Remove(filepath.Join(h.data(role), "run", "ready.json"))
	ok(h.t, cmd.Start())
	h.process[role], h.logs[role] = cmd, log
	h.wait("the role "+role, func() bool { _, err := os.Stat(filepath.Join(h.data(role), "run", "ready.json")); return err == nil })
}

// kill ends a role without warning.
func (h *house) kill(role string) {
	h.t.Helper()
	ok(h.t, h.process[role].Process.Kill())
	_ = h.process[role].Wait()
	delete(h.process, role)
}

func (h *house) stopAll() {
	for _, p := range h.process {
		_ = p.Process.Signal(syscall.SIGTERM)
	}
	for _, p := range h.process {
		_ = p.Wait()
	}
}

// bulkhead runs the command line as the operator, against the console.
func (h *house) bulkhead(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, h.program(), append(args, "--addr", "https://"+h.admin, "--cacert", filepath.Join(h.data("signer"), "trust", "root.pem"), "--operator-key", filepath.Join(h.dir, "operator.key"))...)
	cmd.Dir = h.dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// issue gets a certificate by the operator's word and returns its files' stem.
func (h *house) issue(name string) string {
	h.t.Helper()
	if out, err := h.bulkhead("issue", name, "--out", h.dir); err != nil {
		h.t.Fatalf("issue %s: %v: %s", name, err, out)
	}
	return filepath.Join(h.dir, name)
}

// ocsp asks openssl about a certificate at the edge.
func (h *house) ocsp(stem string) string {
	chain, err := os.ReadFile(stem + ".fullchain.crt")
	if err != nil {
		return err.Error()
	}
	const end = "-----END CERTIFICATE-----\n"
	_, issuer, _ := strings.Cut(string(chain), end)
	path := stem + ".issuer.crt"
	if err := os.WriteFile(path, []byte(issuer), 0o644); err != nil {
		return err.Error()
	}
	out, _ := exec.Command("openssl", "ocsp", "-issuer", path, "-cert", stem+".crt", "-url", "http://"+h.http+"/ocsp/", "-CAfile", filepath.Join(h.data("signer"), "trust", "root.pem")).CombinedOutput()
	return string(out)
}

// serial reads the serial of a certificate from the command line's own output.
func (h *house) serial(stem string) string {
	h.t.Helper()
	out, err := h.bulkhead("cert", "list", "--q", filepath.Base(stem), "--json")
	ok(h.t, err)
	var v struct {
		Certificates []struct {
			Serial string `json:"serial"`
		} `json:"certificates"`
	}
	ok(h.t, json.Unmarshal([]byte(out), &v))
	if len(v.Certificates) != 1 {
		h.t.Fatalf("%d certificates for %s", len(v.Certificates), stem)
	}
	return v.Certificates[0].Serial
}
