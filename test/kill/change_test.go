package kill

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"bulkhead"
	"bulkhead/pki/tlog"
	"bulkhead/run"
	"bulkhead/run/client"
	"bulkhead/store/storetest/pgtest"
)

// stepsOfChange are the leaves of a change in the order in which they are made; after each of them the server is killed.
// A change that takes back begins with another leaf.
var stepsOfChange = []bulkhead.EvidenceKind{bulkhead.EvChangePlanned, bulkhead.EvChangePreviewed, bulkhead.EvChangeApproved, bulkhead.EvChangeCanary, bulkhead.EvChangeStaged,
	bulkhead.EvChangeActivated, bulkhead.EvChangePublished, bulkhead.EvChangeVerified, bulkhead.EvCachesPurged, bulkhead.EvCachesVerified, bulkhead.EvChangeSettled}

// sampled are the steps without BULKHEAD_TORTURE, of a change and of a rollback: around the point of no return.
var sampled = map[bool][]bulkhead.EvidenceKind{
	false: {bulkhead.EvChangeApproved, bulkhead.EvChangeStaged, bulkhead.EvChangeActivated, bulkhead.EvChangePublished},
	true:  {bulkhead.EvChangeStaged, bulkhead.EvChangeActivated},
}

// TestKillChangeSQLite kills the server at the steps of a change of several certificates that takes two people, is looked
// at by a foreign program before and after, and goes through a cache; and at those of its rollback. Whatever comes back
// ends wholly before or wholly after, and says which.
func TestKillChangeSQLite(t *testing.T) {
	killChanges(t, slow{"fsync,fdatasync", 40 * time.Millisecond})
}

// TestKillChangePostgreSQL does the same where the record is behind a socket.
func TestKillChangePostgreSQL(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dsn")
	ok(t, os.WriteFile(file, []byte(pgtest.New(t)+"\n"), 0o600))
	killChanges(t, slow{"write", 4 * time.Millisecond}, "--store", "postgres:"+file)
}

// slow delays system calls, so that no step of a change is too short to be met.
type slow struct {
	calls string
	by    time.Duration
}

// changing is a house whose changes are killed.
type changing struct {
	*house
	*driver
	slow   slow
	store  run.Store
	last   string // id of the newest change
	seq    uint64 // of the newest head
	crls   map[string]bulkhead.CRLRecord
	killed map[bulkhead.EvidenceKind]int // by the newest leaf that the kill left
}

func killChanges(t *testing.T, s slow, flags ...string) {
	h := newHouse(t, flags...)
	x := &changing{house: h, driver: &driver{t: t}, slow: s, crls: map[string]bulkhead.CRLRecord{}, killed: map[bulkhead.EvidenceKind]int{}}
	x.furnish()
	began, tried := time.Now(), 0
	for _, back := range []bool{false, true} {
		for _, step := range stepsOfChange {
			if !torture() && !slices.Contains(sampled[back], step) {
				continue
			}
			tried++
			x.try(step, back)
		}
	}
	for _, text := range x.odd {
		t.Error(text)
	}
	x.house.stop()
	x.fsck()
	total := 0
	for _, n := range x.killed {
		total += n
	}
	t.Logf("%d steps tried, killed in %d changes, by the newest leaf that was left %v, in %s", tried, total, x.killed, time.Since(began).Round(time.Millisecond))
	if total < tried/2 || len(x.killed) < 3 {
		t.Error("too few changes were killed, or all at one step: this tested nothing")
	}
}

// furnish makes the first start, and then a house in which one person may change one certificate, behind a cache.
func (x *changing) furnish() {
	t := x.house.t
	t.Helper()
	x.launch()
	x.ready()
	x.house.stop()
	cfg, err := run.LoadConfig(x.dir)
	ok(t, err)
	pass := &http.Client{Timeout: 10 * time.Second}
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "PURGE" {
			return
		}
		body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20)) // what broke off is answered as such
		up, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+cfg.StatusListen+r.RequestURI, bytes.NewReader(body))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		up.Header = r.Header.Clone()
		res, err := pass.Do(up)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer res.Body.Close()
		for name, values := range res.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(res.StatusCode)
		_, _ = io.Copy(w, res.Body)
	}))
	t.Cleanup(node.Close)
	path := filepath.Join(x.dir, run.ConfigFile)
	body, err := os.ReadFile(path)
	ok(t, err)
	text := strings.Replace(string(body), "    one_person: 10\n", "    one_person: 1\n    verifiers: [openssl]\n", 1)
	text = strings.Replace(text, "caches:\n    timeout: 10s\n", fmt.Sprintf("caches:\n    timeout: 5s\n    tiers:\n        - {name: lb, kind: load-balancer, ttl: 1h, owner: x, nodes: [%q], purge: {adapter: nginx}}\n", node.URL), 1)
	ok(t, os.WriteFile(path, []byte(text), 0o600))
	x.launch()
	x.ready()
	x.store, err = run.OpenStore(context.Background(), x.dir, cfg)
	ok(t, err)
	t.Cleanup(func() { _ = x.store.Close() })
}

// try makes a change, kills the server once the change has come to a step, and looks at what comes back.
func (x *changing) try(step bulkhead.EvidenceKind, back bool) {
	t := x.house.t
	t.Helper()
	c, err := client.New(client.Options{Dir: x.dir})
	ok(t, err)
	var refs []*held
	for i := range 3 {
		if one := x.issue(c, fmt.Sprintf("c%d-%d-%v.test", step, i, back), i == 0); one != nil {
			refs = append(refs, one)
		}
	}
	if len(refs) != 3 {
		t.Fatalf("%d of 3 certificates were issued: %v", len(refs), x.odd)
	}
	was := bulkhead.Issued
	var undo string
	if back {
		x.revokeAll(context.Background(), refs)
		undo = x.newest(t)
		x.settled(undo)
		was = bulkhead.Revoked
	}
	x.last = x.newest(t)
	detach := x.delay()
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if back {
			x.takeBack(ctx, undo, refs)
		} else {
			x.revokeAll(ctx, refs)
		}
	}()
	id := x.await(ctx, step)
	x.house.kill()
	detach()
	stop()
	<-done
	left := x.newestLeaf(id)
	x.killed[left]++
	x.launch()
	x.ready()
	x.wholly(id, left, refs, was)
}

// await returns the id of the change that is new once it has come to a step, or could not any more within the time.
func (x *changing) await(ctx context.Context, step bulkhead.EvidenceKind) (id string) {
	for ctx.Err() == nil {
		if id == "" {
			if now := x.newest(x.house.t); now != x.last {
				id = now
			}
		}
		if id != "" && reached(x.newestLeaf(id), step) {
			return id
		}
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Microsecond):
		}
	}
	return id
}

// reached reports whether a leaf is of a step, or of one after it.
func reached(leaf, step bulkhead.EvidenceKind) bool {
	i := slices.Index(stepsOfChange, leaf)
	return i >= 0 && i >= slices.Index(stepsOfChange, step)
}

func (x *changing) newest(t testing.TB) string {
	t.Helper()
	all, err := x.store.Changes(context.Background(), 1)
	ok(t, err)
	if len(all) == 0 {
		return ""
	}
	return all[0].ID
}

// newestLeaf is the kind of the newest leaf of a change; a rollback's first stands for "planned", and problems, which are
// said in passing, for none.
func (x *changing) newestLeaf(id string) bulkhead.EvidenceKind {
	rows, err := x.store.ChangeEvidence(context.Background(), id)
	ok(x.house.t, err)
	for i := len(rows) - 1; i >= 0; i-- {
		switch k := tlog.KindOf(rows[i].Leaf); k {
		case bulkhead.EvChangeProblem, bulkhead.EvTakenBack:
		case bulkhead.EvRollback:
			return bulkhead.EvChangePlanned
		default:
			return k
		}
	}
	return 0
}

// cli runs the program as an operator does; what comes of it is seen in the record.
func (x *changing) cli(ctx context.Context, v any, args ...string) bool {
	cmd := exec.CommandContext(ctx, x.bin, append(args, "--data", x.dir, "--json")...)
	cmd.WaitDelay = 5 * time.Second
	out, _ := cmd.Output() // exit 3 is an answer too
	return v == nil || json.Unmarshal(out, v) == nil
}

func (x *changing) serials(refs []*held) string {
	var b strings.Builder
	for _, r := range refs {
		fmt.Fprintf(&b, "%s,%s\n", r.ref.Issuer, r.ref.Serial)
	}
	path := filepath.Join(x.house.t.TempDir(), "serials")
	ok(x.house.t, os.WriteFile(path, []byte(b.String()), 0o600))
	return path
}

// approve has both operators approve a request.
func (x *changing) approve(ctx context.Context, id string) {
	for _, key := range []string{filepath.Join(x.dir, "operator", "operator-1.key"), filepath.Join(x.dir+"-root", "operator-2.key")} {
		x.cli(ctx, nil, "approve", id, "--key", key)
	}
}

// revokeAll is a change from its preview to the second approval.
func (x *changing) revokeAll(ctx context.Context, refs []*held) {
	var p struct{ Change string }
	var request struct{ ID string }
	if x.cli(ctx, &p, "change", "preview", "--revoke-serials", x.serials(refs), "--reason", "superseded") && p.Change != "" &&
		x.cli(ctx, &request, "change", "approve", p.Change) && request.ID != "" {
		x.approve(ctx, request.ID)
	}
}

// takeBack is a rollback from its incident to the second approval.
func (x *changing) takeBack(ctx context.Context, id string, refs []*held) {
	var incident struct{ ID string }
	var v struct{ Approval struct{ ID string } }
	if x.cli(ctx, &incident, "incident", "open", "--title", "a test of the rollback", "--serials", x.serials(refs)) && incident.ID != "" &&
		x.cli(ctx, &v, "change", "rollback", id, "--why", "a test", "--incident", incident.ID, "--override-rule", "BR 4.9.13") && v.Approval.ID != "" {
		x.approve(ctx, v.Approval.ID)
	}
}

// settled waits until a change is at its end.
func (x *changing) settled(id string) bulkhead.Change {
	t := x.house.t
	t.Helper()
	var c bulkhead.Change
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		var err error
		c, err = x.store.Change(context.Background(), id)
		ok(t, err)
		switch c.State {
		case bulkhead.ChangeSettled, bulkhead.ChangeRefused, bulkhead.ChangePreviewed:
			return c
		}
		if time.Now().After(end) {
			t.Fatalf("change %s is %s and comes to no end: %s", id, c.State, c.Problem)
		}
	}
}

// wholly wants a change to have happened, or not, and everything to say the same of it: its own state, the rows, the
// answers and the CRLs.
func (x *changing) wholly(id string, left bulkhead.EvidenceKind, refs []*held, was bulkhead.CertificateState) {
	t := x.house.t
	t.Helper()
	want, c := was, bulkhead.Change{}
	if id != "" {
		c = x.settled(id)
		if c.State == bulkhead.ChangeSettled {
			want = map[bulkhead.CertificateState]bulkhead.CertificateState{bulkhead.Issued: bulkhead.Revoked, bulkhead.Revoked: bulkhead.Issued}[was]
		}
		if approved := reached(left, bulkhead.EvChangeApproved); approved != (c.State == bulkhead.ChangeSettled) {
			t.Errorf("killed after leaf %d, change %s is %s", left, id, c.State)
		}
	}
	for _, r := range refs {
		row, _, err := x.store.Certificate(context.Background(), r.ref)
		ok(t, err)
		if row.State != want {
			t.Errorf("killed after leaf %d, change %s is %s, and %s is %s", left, id, c.State, r.ref, row.State)
		}
		x.shown(r, want)
	}
	x.forward()
}

// forward wants heads and CRLs to have gone forward only.
func (x *changing) forward() {
	t := x.house.t
	t.Helper()
	head, err := x.store.Head(context.Background())
	ok(t, err)
	if head.Sequence < x.seq {
		t.Errorf("head %d after head %d", head.Sequence, x.seq)
	}
	x.seq = head.Sequence
	all, err := x.store.CRLs(context.Background())
	ok(t, err)
	for _, c := range all {
		key := fmt.Sprintf("%s/%d", c.Authority, c.Shard)
		if old := x.crls[key]; c.Number < old.Number || c.ThisUpdate.Before(old.ThisUpdate) {
			t.Errorf("CRL %s: number %d of %s after number %d of %s", key, c.Number, c.ThisUpdate, old.Number, old.ThisUpdate)
		}
		x.crls[key] = c
	}
}

// asking is the client of the world outside.
var asking = &http.Client{Timeout: 10 * time.Second}

// shown waits until OCSP and CRL, as a certificate names them, say what is wanted: the edge looks every half second.
func (x *changing) shown(r *held, want bulkhead.CertificateState) {
	x.house.t.Helper()
	last := ""
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		answer, listed, err := publicly(r)
		switch revoked := want == bulkhead.Revoked; {
		case err != nil:
			last = err.Error()
		case (answer == ocsp.Revoked) == revoked && listed == revoked && (revoked || answer == ocsp.Good):
			return
		default:
			last = fmt.Sprintf("OCSP says %d, it is on the CRL: %v", answer, listed)
		}
	}
	x.house.t.Errorf("%s is %s in the record: %s", r.ref, want, last)
}

// asked is the OCSP response that a client gets about a certificate, by a CertID of one hash.
func asked(client *http.Client, leaf, issuer *x509.Certificate, url string, hash crypto.Hash) ([]byte, error) {
	req, err := ocsp.CreateRequest(leaf, issuer, &ocsp.RequestOptions{Hash: hash})
	if err != nil {
		return nil, err
	}
	return body(client.Post(url, "application/ocsp-request", bytes.NewReader(req))) //nolint:noctx // bounded by the client
}

// publicly is what OCSP and CRL say.
func publicly(r *held) (answer int, listed bool, err error) {
	der, err := asked(asking, r.leaf, r.issuer, r.leaf.OCSPServer[0], crypto.SHA1)
	if err != nil {
		return 0, false, err
	}
	got, err := ocsp.ParseResponseForCert(der, r.leaf, r.issuer)
	if err != nil {
		return 0, false, err
	}
	if der, err = body(asking.Get(r.leaf.CRLDistributionPoints[0])); err != nil { //nolint:noctx // bounded by the client
		return 0, false, err
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return 0, false, err
	}
	if err := list.CheckSignatureFrom(r.issuer); err != nil {
		return 0, false, err
	}
	return got.Status, slices.ContainsFunc(list.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool { return e.SerialNumber.Cmp(r.leaf.SerialNumber) == 0 }), nil
}

func body(res *http.Response, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return io.ReadAll(io.LimitReader(res.Body, 1<<24))
}

// delay attaches strace to the server, which delays system calls until detach.
func (x *changing) delay() (detach func()) {
	t := x.house.t
	t.Helper()
	path, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal("this test needs strace (Debian: apt-get install strace)")
	}
	pid := x.house.cmd.Process.Pid
	cmd := exec.Command(path, "-f", "-q", "-o", os.DevNull, "-e", "trace="+x.slow.calls, "-e", fmt.Sprintf("inject=%s:delay_enter=%d", x.slow.calls, x.slow.by.Microseconds()), "-p", fmt.Sprint(pid))
	ok(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it ends with the server
		close(ended)
	}()
	for end := time.Now().Add(time.Minute); !traced(pid) && time.Now().Before(end); {
		select {
		case <-ended:
			t.Fatal("strace cannot attach, which takes the right to trace (ptrace)")
		case <-time.After(5 * time.Millisecond):
		}
	}
	return func() {
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
	}
}
