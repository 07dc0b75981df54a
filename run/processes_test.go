package run

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/internal/heldport"
	"bulkhead/pki/tlog"
	"bulkhead/signer/signerrpc"
	"bulkhead/store/storetest/pgtest"
)

// roleOfTest says that this process is a role of a house under test: TestMain runs it instead of tests.
const roleOfTest = "BULKHEAD_TEST_ROLE"

// runRole is a signer in a process of its own, until its parent ends or kills it.
func runRole(dir string) int {
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Minute)
	defer stop()
	if err := RunRoles(ctx, RoleOptions{Dir: dir, Roles: []signerrpc.Role{signerrpc.Signer}, LogTo: os.Stderr}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

const callers = 32

// desks is a house as its callers see it: certificates are ordered here, and signed here or in another process.
type desks struct {
	testing.TB
	h      *House
	orders *orders
	n      atomic.Int64
	dir    string    // of the house whose signer is another process
	apart  *exec.Cmd // that process
}

func (d *desks) ok(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}

func configForTest(store string) Config {
	cfg := DefaultConfig()
	cfg.Resolver, cfg.StatusURL, cfg.Store = "127.0.0.1:1", "http://status.test", store
	cfg.Log.Level = "error"
	return cfg
}

// together is a house in this process, on SQLite with fsync.
func together(t testing.TB) *desks {
	t.Helper()
	d := &desks{TB: t}
	dir := filepath.Join(t.TempDir(), "data")
	cfg := configForTest("sqlite:bulkhead.db")
	_, err := FirstStart(t.Context(), dir, cfg, nil)
	d.ok(err)
	cfg, err = LoadConfig(dir)
	d.ok(err)
	d.open(Options{Dir: dir, Config: cfg})
	return d
}

func (d *desks) open(o Options) {
	d.Helper()
	h, err := OpenWith(d.Context(), o)
	d.ok(err)
	d.Cleanup(func() { _ = h.Close() })
	d.h, d.orders = h, &orders{Service: h.enroll}
}

// processes is a house apart: the console here, the signer in a process of its own behind mutual TLS, both on PostgreSQL that
// syncs each commit.
func processes(t testing.TB) *desks {
	t.Helper()
	d := &desks{TB: t}
	parent := t.TempDir()
	dir, dsn := filepath.Join(parent, "data"), filepath.Join(parent, "dsn")
	d.ok(os.WriteFile(dsn, []byte(pgtest.NewDurable(t)+"\n"), 0o600))
	cfg := configForTest("postgres:" + dsn)
	_, err := FirstStart(t.Context(), dir, cfg, nil)
	d.ok(err)
	cfg, err = LoadConfig(dir)
	d.ok(err)
	h, err := OpenWith(t.Context(), Options{Dir: dir, Config: cfg}) // what the first ceremony made goes into the record
	d.ok(err)
	d.ok(h.Close())
	cfg.Signer.Listen, cfg.MetricsListen = heldport.For(t).String(), "127.0.0.1:0"
	text, err := cfg.Marshal()
	d.ok(err)
	d.ok(os.WriteFile(filepath.Join(dir, ConfigFile), text, 0o644))
	console := filepath.Join(parent, "console")
	d.ok(ExportRole(t.Context(), ExportOptions{Dir: dir, Role: signerrpc.Console, Out: console, DSNFile: dsn, Signer: cfg.Signer.Listen, Objects: "dir:" + filepath.Join(dir, objectsDir)}))
	d.signer(dir)
	cfg, err = LoadConfig(console)
	d.ok(err)
	d.open(Options{Dir: console, Config: cfg, Roles: []signerrpc.Role{signerrpc.Console}})
	return d
}

// signer starts the signer's process and waits until it answers. It is killed at the end.
func (d *desks) signer(dir string) {
	d.Helper()
	ready := filepath.Join(dir, "run", "ready.json")
	_ = os.Remove(ready) // of one that was killed
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), roleOfTest+"="+dir)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	d.ok(cmd.Start())
	d.dir, d.apart = dir, cmd
	d.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(ready); err == nil {
			return
		}
		if time.Now().After(end) {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			d.Fatalf("the signer did not start: %s", said.String())
		}
	}
}

// requests makes certificate requests, each with a key of its own.
func (d *desks) requests(n int) [][]byte {
	d.Helper()
	out := make([][]byte, n)
	for i := range out {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		d.ok(err)
		out[i], err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{fmt.Sprintf("n%d.bench.test", d.n.Add(1))}}, key)
		d.ok(err)
	}
	return out
}

func (d *desks) issue(csr []byte) error {
	_, err := d.orders.IssueForOperator(d.Context(), "bench", bulkhead.CertificateRequest{CSR: csr})
	return err
}

// all issues every request over 32 callers and says how long that took.
func (d *desks) all(csrs [][]byte) time.Duration {
	d.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now()
	for range callers {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(csrs)); i = next.Add(1) - 1 {
				if err := d.issue(csrs[i]); err != nil {
					d.Errorf("issue: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(begin)
}

// BenchmarkIssueApart issues from 32 callers across processes (order, mutual TLS, signer, PostgreSQL) and, in the same run, in
// one process on SQLite; both sync each commit, rounds alternate. "ratio" is the rate across over the rate within; 0.6 is wanted.
func BenchmarkIssueApart(b *testing.B) {
	within, across := together(b), processes(b)
	const round = 256
	within.all(within.requests(callers)) // connections and throw-away keys are made
	across.all(across.requests(callers))
	var w, a time.Duration
	n := 0
	for b.Loop() {
		csrs, others := within.requests(round), across.requests(round)
		w += within.all(csrs)
		a += across.all(others)
		n += round
	}
	b.ReportMetric(float64(n)/w.Seconds(), "within/s")
	b.ReportMetric(float64(n)/a.Seconds(), "across/s")
	b.ReportMetric(w.Seconds()/a.Seconds(), "ratio")
}

// halt has 32 callers issue, stops all issuance in the middle, and says how long it took from the command to the end of the last
// certificate, beside the mean time of one under the same load. It fails where a certificate was begun after the stop.
func (d *desks) halt() (command, latency time.Duration) {
	d.Helper()
	var stopped atomic.Bool
	var mu sync.Mutex
	var last time.Time
	var spent time.Duration
	var done atomic.Int64
	late := 0
	csrs := d.requests(64 * callers)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(len(csrs)) {
					d.Error("the callers ran out of requests before the stop")
					return
				}
				after, begin := stopped.Load(), time.Now()
				err := d.issue(csrs[i])
				end := time.Now()
				switch {
				case err == nil && after:
					d.Error("a certificate was begun after the stop and issued")
					return
				case bulkhead.KindOf(err) == bulkhead.KindStopped && bulkhead.AsFault(err).Hint != "":
					return
				case err != nil:
					d.Errorf("issue: %v", err)
					return
				}
				done.Add(1)
				mu.Lock()
				spent += end.Sub(begin)
				if end.After(last) {
					last = end
				}
				if stopped.Load() {
					late++
				}
				mu.Unlock()
			}
		})
	}
	for end := time.Now().Add(time.Minute); done.Load() < 4*callers; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			d.Error("the callers do not get going")
			break
		}
	}
	begin := time.Now()
	x, err := d.h.enroll.Stop(d.Context(), "operator:test", bulkhead.Stop{Kind: bulkhead.StopAll, Reason: "the test"})
	d.ok(err)
	stopped.Store(true)
	wg.Wait()
	if late > callers {
		d.Errorf("%d certificates came after the stop, of %d callers", late, callers)
	}
	d.silent(x.ID)
	return last.Sub(begin), spent / time.Duration(max(done.Load(), 1))
}

// silent asserts on the evidence, whose order is total: after the leaf of the stop there are outcomes of those that were under
// way, at most one of each caller, none of them dated more than a minute later (BenchmarkStopUnderLoad measures), and nothing else is signed for a subscriber.
func (d *desks) silent(stop string) {
	d.Helper()
	var after int64
	var at time.Time
	outcomes := 0
	for {
		rows, err := d.h.store.EvidenceAfter(d.Context(), after, 1000)
		d.ok(err)
		for _, r := range rows {
			ev, err := tlog.Parse(r.Leaf)
			d.ok(err)
			after = r.Seq
			switch {
			case ev.Kind == bulkhead.EvStop && ev.Ref == stop:
				at = ev.At
			case ev.Kind == bulkhead.EvCertificateOutcome && !at.IsZero() && ev.Ref != "":
				if outcomes++; ev.At.Sub(at) > time.Minute {
					d.Errorf("a certificate was signed %s after the stop", ev.At.Sub(at))
				}
			}
		}
		if len(rows) < 1000 {
			break
		}
	}
	if at.IsZero() || outcomes > callers {
		d.Errorf("stop at %s, %d certificates after it", at, outcomes)
	}
}

// TestStopUnderLoad: with 32 callers in the middle of it, nothing is begun after a stop, and what was under way ends, each
// caller's one certificate at most: in one process on SQLite, and with the signer in another on PostgreSQL.
func TestStopUnderLoad(t *testing.T) {
	t.Run("one process", func(t *testing.T) { together(t).halt() })
	t.Run("the signer in another", func(t *testing.T) { processes(t).halt() })
}

// lone is the mean time of one certificate while nobody else asks.
func (d *desks) lone() time.Duration {
	d.Helper()
	csrs := d.requests(9)
	d.ok(d.issue(csrs[0])) // connections and throw-away keys are made
	begin := time.Now()
	for _, csr := range csrs[1:] {
		d.ok(d.issue(csr))
	}
	return time.Since(begin) / time.Duration(len(csrs)-1)
}

// BenchmarkStopUnderLoad prints how long it took from the command to the last certificate: in milliseconds, in times of issuing
// one under the same load ("latencies"), and in times of issuing one alone ("lone"); within 5 s and 10 is wanted.
func BenchmarkStopUnderLoad(b *testing.B) {
	for name, open := range map[string]func(testing.TB) *desks{"within": together, "across": processes} {
		b.Run(name, func(b *testing.B) {
			var command, latency, lone time.Duration
			n := 0
			for b.Loop() {
				b.StopTimer()
				d := open(b)
				one := d.lone()
				b.StartTimer()
				c, l := d.halt()
				command, latency, lone, n = max(command, c), latency+l, lone+one, n+1
			}
			b.ReportMetric(float64(command.Milliseconds()), "stop-ms")
			b.ReportMetric(float64(command)/float64(latency/time.Duration(n)), "latencies")
			b.ReportMetric(float64(command)/float64(lone/time.Duration(n)), "lone")
		})
	}
}
