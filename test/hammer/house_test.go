package hammer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"bulkhead/internal/heldport"

	"github.com/miekg/dns"
)

// startTimeout bounds a start on a machine that is busy with other tests.
const startTimeout = 90 * time.Second

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// internet is a DNS server for which every name is on 127.0.0.1, and the web server there.
type internet struct {
	resolver string
	httpPort int
	fetched  atomic.Int64
	answers  sync.Map // token → key authorization
}

func newInternet(t testing.TB) *internet {
	t.Helper()
	n := &internet{}
	web, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	n.httpPort = web.Addr().(*net.TCPAddr).Port
	go n.serve(web)
	t.Cleanup(func() { _ = web.Close() })
	udp, tcp := samePort(t)
	n.resolver = udp.LocalAddr().String()
	for _, s := range []*dns.Server{{PacketConn: udp, Handler: n}, {Listener: tcp, Handler: n}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go s.ActivateAndServe() //nolint:errcheck // it ends with the benchmark
		<-started
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return n
}

// samePort listens on one port over UDP and over TCP, which another process may have taken.
func samePort(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	var err error
	for range 20 {
		udp, failed := net.ListenPacket("udp", "127.0.0.1:0")
		ok(t, failed)
		var tcp net.Listener
		if tcp, err = net.Listen("tcp", udp.LocalAddr().String()); err == nil {
			return udp, tcp
		}
		_ = udp.Close()
	}
	t.Fatal(err)
	return nil, nil
}

// ServeDNS implements dns.Handler: addresses, and no record of any other type.
func (n *internet) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	if len(q.Question) == 1 && q.Question[0].Qtype == dns.TypeA {
		m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 5}, A: net.IPv4(127, 0, 0, 1)})
	}
	_ = w.WriteMsg(m)
}

func (n *internet) present(token, answer string) (forget func()) {
	n.answers.Store(token, answer)
	return func() { n.answers.Delete(token) }
}

// server is a program under measurement.
type server struct {
	name      string
	directory string
	roots     *x509.CertPool
	pid       int
	log       string // file
}

// cpu is what the process has used, user and system.
func (s *server) cpu(t testing.TB) time.Duration {
	t.Helper()
	body, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid))
	ok(t, err)
	_, rest, _ := strings.Cut(string(body), ") ") // the name before it may hold anything
	fields := strings.Fields(rest)
	var ticks int64
	for _, i := range []int{11, 12} { // utime and stime of proc(5), which counts from pid as 1
		n, err := strconv.ParseInt(fields[i], 10, 64)
		ok(t, err)
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100 // USER_HZ is 100 on every Linux that Go runs on
}

// tail is the end of the log.
func (s *server) tail() string {
	body, _ := os.ReadFile(s.log)
	return string(body[max(0, len(body)-2000):])
}

// build compiles a program of the module in dir.
func build(t testing.TB, dir, pkg string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), filepath.Base(pkg))
	cmd := exec.Command("go", "build", "-o", bin, pkg)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v: %s", pkg, err, out)
	}
	return bin
}

// launch starts a program in a process group of its own, which dies with the benchmark.
func (s *server) launch(t testing.TB, env []string, bin string, args ...string) {
	t.Helper()
	s.log = filepath.Join(t.TempDir(), "log")
	log, err := os.Create(s.log)
	ok(t, err)
	cmd := exec.Command(bin, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), env...), log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	ok(t, cmd.Start())
	s.pid = cmd.Process.Pid
	t.Cleanup(func() {
		_ = syscall.Kill(-s.pid, syscall.SIGTERM)
		late := time.AfterFunc(30*time.Second, func() { _ = syscall.Kill(-s.pid, syscall.SIGKILL) })
		_ = cmd.Wait() // Pebble ends by the signal
		late.Stop()
		_ = log.Close()
	})
}

// await polls until f is done.
func (s *server) await(t testing.TB, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(startTimeout); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("%s does not start: %v\n%s", s.name, err, s.tail())
}

// trusting are the roots of a server.
func trusting(roots []byte) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(roots)
	return pool
}

// startBulkhead brings up a house as its first user would.
func startBulkhead(t testing.TB, n *internet) *server {
	t.Helper()
	s := &server{name: "bulkhead"}
	dir := filepath.Join(t.TempDir(), "house")
	s.launch(t, nil, build(t, filepath.Join("..", ".."), "./cmd/bulkhead"), "up", "--data", dir,
		"--listen", heldport.For(t).String(), "--status-listen", heldport.For(t).String(), "--metrics-listen", heldport.For(t).String(),
		"--resolver", n.resolver, "--validate-http-port", strconv.Itoa(n.httpPort))
	var ready struct {
		ACMEDirectory string `json:"acme_directory"`
		TrustAnchor   string `json:"trust_anchor"`
	}
	s.await(t, func() error {
		body, err := os.ReadFile(filepath.Join(dir, "run", "ready.json"))
		if err != nil {
			return err
		}
		return json.Unmarshal(body, &ready)
	})
	anchor, err := os.ReadFile(ready.TrustAnchor)
	ok(t, err)
	s.directory, s.roots = ready.ACMEDirectory, trusting(anchor)
	return s
}

// startPebble brings up Pebble without what it does to annoy clients: it neither sleeps nor refuses good nonces, and it
// validates every order anew, because looking for an older authorisation is where it deadlocks.
func startPebble(t testing.TB, n *internet) *server {
	t.Helper()
	dir, at := t.TempDir(), heldport.For(t).String()
	cert, key := selfSigned(t)
	file := func(name string, body []byte) string {
		path := filepath.Join(dir, name)
		ok(t, os.WriteFile(path, body, 0o600))
		return path
	}
	type table = map[string]any
	config, err := json.Marshal(table{"pebble": table{"listenAddress": at, "managementListenAddress": heldport.For(t).String(),
		"certificate": file("cert.pem", cert), "privateKey": file("key.pem", key), "httpPort": n.httpPort, "tlsPort": 5001,
		"keyAlgorithm": "ecdsa", "profiles": table{"default": table{"description": "TLS server", "validityPeriod": 7776000}}}})
	ok(t, err)
	s := &server{name: "Pebble", directory: "https://" + at + "/dir", roots: trusting(cert)}
	s.launch(t, []string{"PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0", "PEBBLE_AUTHZREUSE=0", "PEBBLE_VA_ALWAYS_VALID=0"},
		build(t, filepath.Join("..", "..", "tools"), "github.com/letsencrypt/pebble/v2/cmd/pebble"),
		"-config", file("pebble.json", config), "-dnsserver", n.resolver)
	s.await(t, func() error {
		_, _, err := newWire(s.roots).do("GET", s.directory, nil)
		return err
	})
	return s
}

// selfSigned is a certificate over 127.0.0.1 and its key, in PEM.
func selfSigned(t testing.TB) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	ok(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	ok(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}
