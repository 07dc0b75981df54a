package firstlight

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bulkhead/internal/heldport"
)

// startTimeout bounds a start on a machine that is busy with other tests.
const startTimeout = 90 * time.Second

// waiters is how many tests run side by side unless -parallel says another number: most of their time they wait.
const waiters = 4

// scratch is what all tests of the package share: the programs and the shared house.
var scratch string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	var err error
	if scratch, err = os.MkdirTemp("", "firstlight"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(scratch)
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		_ = f.Value.Set(strconv.Itoa(waiters)) // a count is a valid value
	}
	code := m.Run()
	if w := common.world; w != nil {
		if text := w.end(); text != "" {
			fmt.Fprintln(os.Stderr, "the shared house: "+text)
			return 1
		}
	}
	return code
}

// built compiles the programs once.
var built = sync.OnceValues(func() (string, error) {
	bin := filepath.Join(scratch, "bin")
	cmd := exec.Command("go", "build", "-o", bin+string(filepath.Separator), "bulkhead/cmd/...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return bin, nil
})

// program is the path of a built program.
func program(t testing.TB, name string) string {
	t.Helper()
	bin, err := built()
	ok(t, err)
	return filepath.Join(bin, name)
}

// options change a start. The zero value is a house on free loopback ports.
type options struct {
	dir   string   // data directory; default in a temporary folder
	flags []string // of up, besides the listeners
	env   []string // NAME=VALUE for every command
}

// ready is run/ready.json as the contract has it.
type ready struct {
	ACMEDirectory string `json:"acme_directory"`
	API           string `json:"api"`
	OCSP          string `json:"ocsp"`
	CRLBase       string `json:"crl_base"`
	Metrics       string `json:"metrics"`
	TrustAnchor   string `json:"trust_anchor"`
	PID           int    `json:"pid"`
}

// world is one data directory and the process on it.
type world struct {
	bin, dir string
	flags    []string
	env      []string
	ready    ready
	process  *process
	roots    *x509.CertPool
	client   *http.Client
}

// house is a world in the hands of one test.
type house struct {
	*world
	t testing.TB
}

// start brings up a house that ends with the test. At its end everything in it must agree.
func start(t testing.TB, o options) *house {
	t.Helper()
	h := prepare(t, o)
	h.up()
	return h
}

// prepare is start without the start.
func prepare(t testing.TB, o options) *house {
	t.Helper()
	if o.dir == "" {
		o.dir = filepath.Join(t.TempDir(), "house")
	}
	listeners := []string{"--listen", heldport.For(t).String(), "--status-listen", heldport.For(t).String(), "--metrics-listen", heldport.For(t).String()}
	h := &house{t: t, world: &world{bin: program(t, "bulkhead"), dir: o.dir, flags: append(listeners, o.flags...), env: o.env}}
	t.Cleanup(func() {
		if text := h.end(); text != "" {
			t.Error(text)
		}
	})
	return h
}

// up starts the process and waits until it is ready.
func (h *house) up(more ...string) {
	h.t.Helper()
	p, err := launch(h.bin, h.environment(), append(append([]string{"up", "--data", h.dir}, h.flags...), more...)...)
	ok(h.t, err)
	h.process = p
	if err := h.await(p); err != nil {
		h.t.Fatalf("up: %v\n%s%s", err, p.out.String(), p.log.String())
	}
}

func (w *world) environment() []string { return append(os.Environ(), w.env...) }

// await waits for the ready file of exactly this process.
func (w *world) await(p *process) error {
	for end := time.Now().Add(startTimeout); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		select {
		case <-p.ended:
			return fmt.Errorf("it ended with code %d", p.code())
		default:
		}
		body, err := os.ReadFile(filepath.Join(w.dir, "run", "ready.json"))
		var r ready
		if err != nil || json.Unmarshal(body, &r) != nil || r.PID != p.pid() {
			continue
		}
		w.ready, w.roots = r, x509.NewCertPool()
		anchor, err := os.ReadFile(r.TrustAnchor)
		if err != nil {
			return err
		}
		w.roots.AppendCertsFromPEM(anchor)
		w.client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.roots}}}
		return nil
	}
	return errors.New("no ready.json")
}

// stop ends the process in an orderly way.
func (h *house) stop() {
	h.t.Helper()
	if code, err := h.process.stop(syscall.SIGTERM); err != nil || code != 0 {
		h.t.Fatalf("stopping: code %d, %v\n%s", code, err, h.process.log.String())
	}
}

// kill ends the process as a power cut would.
func (h *house) kill() { _, _ = h.process.stop(syscall.SIGKILL) }

// end stops the process and checks what it leaves behind; it returns what is wrong.
func (w *world) end() string {
	if w.process != nil {
		if _, err := w.process.stop(syscall.SIGTERM); err != nil {
			_, _ = w.process.stop(syscall.SIGKILL)
			return err.Error()
		}
	}
	if _, err := os.Stat(filepath.Join(w.dir, "bulkhead.yaml")); err != nil {
		return ""
	}
	if r := w.exec("fsck"); r.code != 0 {
		return fmt.Sprintf("fsck ends with %d:\n%s%s", r.code, r.stdout, r.stderr)
	}
	return ""
}

// result is what a command left.
type result struct {
	stdout, stderr string
	code           int
}

// run calls the program on the house's data directory.
func (h *house) run(args ...string) result { h.t.Helper(); return h.exec(args...) }

func (w *world) exec(args ...string) result {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.bin, append(args, "--data", w.dir)...)
	cmd.Env = w.environment()
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	err := cmd.Run()
	code := cmd.ProcessState.ExitCode()
	if err != nil && code < 0 {
		log.WriteString(err.Error())
	}
	return result{out.String(), log.String(), code}
}

// must is run that has to end with 0.
func (h *house) must(args ...string) string {
	h.t.Helper()
	r := h.run(args...)
	if r.code != 0 {
		h.t.Fatalf("bulkhead %s ends with %d:\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// refused is run that has to end with a code, and to say so in a way that helps.
func (h *house) refused(code int, says string, args ...string) result {
	h.t.Helper()
	r := h.run(args...)
	if r.code != code || !strings.Contains(r.stderr, says) {
		h.t.Fatalf("bulkhead %s ends with %d, want %d and %q:\n%s%s", strings.Join(args, " "), r.code, code, says, r.stdout, r.stderr)
	}
	return r
}

// query is must with --json, read into v.
func (h *house) query(v any, args ...string) {
	h.t.Helper()
	out := h.must(append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		h.t.Fatalf("bulkhead %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// edit changes bulkhead.yaml between two starts.
func (h *house) edit(old, text string) {
	h.t.Helper()
	path := filepath.Join(h.dir, "bulkhead.yaml")
	body, err := os.ReadFile(path)
	ok(h.t, err)
	if !strings.Contains(string(body), old) {
		h.t.Fatalf("%q is not in %s", old, body)
	}
	ok(h.t, os.WriteFile(path, []byte(strings.Replace(string(body), old, text, 1)), 0o644))
}

// process is a program in a process group of its own, which dies with the test.
type process struct {
	cmd      *exec.Cmd
	out, log buffer
	ended    chan struct{}
}

func launch(name string, env []string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(name, args...), ended: make(chan struct{})}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = env, &p.out, &p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// code is the exit code of a process that has ended, -1 for one that was killed.
func (p *process) code() int { <-p.ended; return p.cmd.ProcessState.ExitCode() }

// stop signals the group and waits; a process that has ended already is no error.
func (p *process) stop(s syscall.Signal) (int, error) {
	select {
	case <-p.ended:
	default:
		_ = syscall.Kill(-p.pid(), s)
	}
	select {
	case <-p.ended:
		return p.code(), nil
	case <-time.After(2 * time.Minute):
		return -1, fmt.Errorf("process %d does not end on %s", p.pid(), s)
	}
}

// buffer may be read while a process is still writing to it.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (x *buffer) Write(p []byte) (int, error) { x.mu.Lock(); defer x.mu.Unlock(); return x.b.Write(p) }
func (x *buffer) String() string              { x.mu.Lock(); defer x.mu.Unlock(); return x.b.String() }

// tool runs a foreign program that has to be installed and returns all that it prints.
func tool(t testing.TB, pkg, name string, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is needed for this test: apt-get install %s", name, pkg)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	return string(out), err
}

func openssl(t testing.TB, args ...string) (string, error) {
	t.Helper()
	return tool(t, "openssl", "openssl", args...)
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually polls until f says "" and fails with its last word.
func eventually(t testing.TB, within time.Duration, f func() string) {
	t.Helper()
	last := "never asked"
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if last = f(); last == "" {
			return
		}
	}
	t.Fatalf("after %s: %s", within, last)
}

func certificates(t testing.TB, path string) []*x509.Certificate {
	t.Helper()
	body, err := os.ReadFile(path)
	ok(t, err)
	return parse(t, body)
}

func parse(t testing.TB, body []byte) []*x509.Certificate {
	t.Helper()
	var out []*x509.Certificate
	for block, rest := pem.Decode(body); block != nil; block, rest = pem.Decode(rest) {
		x, err := x509.ParseCertificate(block.Bytes)
		ok(t, err)
		out = append(out, x)
	}
	if len(out) == 0 {
		t.Fatalf("no certificate in %q", body)
	}
	return out
}

// decode reads exactly one JSON document.
func decode(t testing.TB, text string, v any) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	if err := dec.Decode(v); err != nil || dec.More() {
		t.Fatalf("not one JSON document (%v): %s", err, text)
	}
}
