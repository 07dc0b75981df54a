package firstlight

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// node is a cache between the house and the world: it keeps what it fetched, and drops it on PURGE, unless it is deaf and
// only says so.
type node struct {
	mu     sync.Mutex
	origin string // HOST:PORT of the status listener
	kept   map[string]fetched
	deaf   bool
	client http.Client
}

type fetched struct {
	code   int
	header http.Header
	body   []byte
}

func (n *node) setDeaf(deaf bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.deaf = deaf
}

func (n *node) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	n.mu.Lock()
	defer n.mu.Unlock()
	if r.Method == "PURGE" {
		for key := range n.kept {
			if _, rest, _ := strings.Cut(key, " "); !n.deaf && strings.HasPrefix(rest, r.RequestURI+" ") {
				delete(n.kept, key)
			}
		}
		return
	}
	key := r.Method + " " + r.RequestURI + " " + string(body)
	f, ok := n.kept[key]
	if !ok {
		var err error
		if f, err = n.fetch(r, body); err != nil {
			http.Error(rw, err.Error(), http.StatusBadGateway)
			return
		}
		if !strings.Contains(f.header.Get("Cache-Control"), "no-store") {
			n.kept[key] = f
		}
	}
	for name, values := range f.header {
		rw.Header()[name] = values
	}
	rw.WriteHeader(f.code)
	_, _ = rw.Write(f.body)
}

func (n *node) fetch(r *http.Request, body []byte) (fetched, error) {
	up, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+n.origin+r.RequestURI, bytes.NewReader(body))
	if err != nil {
		return fetched{}, err
	}
	up.Header = r.Header.Clone()
	res, err := n.client.Do(up)
	if err != nil {
		return fetched{}, err
	}
	defer res.Body.Close()
	got, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	return fetched{res.StatusCode, res.Header, got}, err
}

// behindCaches is a house behind a load balancer of two nodes and a CDN in front of the first.
func behindCaches(t *testing.T) (*house, [3]*node, [3]string) {
	var nodes [3]*node
	var urls [3]string
	for i := range nodes { // their ports are taken before the house chooses its own
		nodes[i] = &node{kept: map[string]fetched{}, client: http.Client{Timeout: 10 * time.Second}}
		s := httptest.NewServer(nodes[i])
		t.Cleanup(s.Close)
		urls[i] = s.URL
	}
	h := prepare(t, options{})
	h.up()
	h.stop()
	edge := strings.TrimPrefix(strings.TrimSuffix(h.ready.CRLBase, "/crl/"), "http://")
	nodes[0].origin, nodes[1].origin, nodes[2].origin = edge, edge, strings.TrimPrefix(urls[0], "http://")
	h.edit("caches:\n    timeout: 10s\n", fmt.Sprintf(`caches:
    timeout: 5s
    tiers:
        - {name: lb, kind: load-balancer, ttl: 8h, owner: the network team, nodes: [%q, %q], purge: {adapter: nginx}}
        - {name: cdn, kind: cdn, ttl: 1h, owner: the CDN desk, nodes: [%q], purge: {adapter: nginx}}
        - {name: clients, kind: client, ttl: 4d}
`, urls[0], urls[1], urls[2]))
	h.up()
	return h, nodes, urls
}

// changed is what the commands of a change print.
type changed struct {
	ID, State, Problem string
	DiesAt             *time.Time `json:"last_wrong_answer_dies"`
	Undoes             string
}

func (h *house) changed(id string) (c changed) {
	h.t.Helper()
	h.query(&c, "change", "show", id)
	return c
}

// TestCachesCommands: what an operator types on the day of 2016, against a house behind caches: plan, lint, verify, purge and
// drain, with the node that says it purged and did not.
func TestCachesCommands(t *testing.T) {
	t.Parallel()
	h, nodes, urls := behindCaches(t)

	// The figures of the source document.
	for validity, dies := range map[string]string{"4d": `"dies": "2016-10-17T20:20:00+09:00"`, "8h": `"dies": "2016-10-14T04:20:00+09:00"`} {
		if out := h.must("caches", "plan", "--at", "2016-10-13T20:20:00+09:00", "--validity", validity, "--json"); !strings.Contains(out, dies) {
			t.Errorf("with a validity of %s the last wrong answer does not die as the source says, %s:\n%s", validity, dies, out)
		}
	}
	if out := h.must("caches", "plan"); !strings.Contains(out, "lb") {
		t.Errorf("the plan from what is public: %s", out)
	}
	h.refused(2, "not a time with its offset", "caches", "plan", "--at", "yesterday")
	if r := h.run("caches", "lint"); r.code != 3 || !strings.Contains(r.stdout, "lb") {
		t.Errorf("a load balancer of 8 h behind a CDN of 1 h: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if r := h.run("caches", "drain", "--to", "8h", "--before", time.Now().Add(2*time.Hour).Format(time.RFC3339)); r.code != 3 {
		t.Errorf("a change before the answers of a day have ended: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	h.must("caches", "drain", "--to", "8h", "--before", time.Now().Add(48*time.Hour).Format(time.RFC3339))
	h.refused(2, "--change ID", "caches", "purge")
	h.refused(2, "go together", "caches", "verify", "--serial", "01")

	serial, issuer := h.newCertificate("cached.test")
	verify := func(want int) string {
		t.Helper()
		r := h.run("caches", "verify", "--issuer", issuer, "--serial", serial)
		if r.code != want {
			t.Fatalf("verify: exit %d, want %d\n%s%s", r.code, want, r.stdout, r.stderr)
		}
		return r.stdout
	}
	eventually(t, time.Minute, func() string {
		if r := h.run("caches", "verify", "--issuer", issuer, "--serial", serial); r.code != 0 {
			return r.stdout + r.stderr
		}
		return ""
	})
	nodes[1].setDeaf(true)
	var planned struct{ Change string }
	h.query(&planned, "change", "preview", "--revoke-serials", h.serialsFile(issuer, serial), "--reason", "superseded")
	h.refused(3, "", "caches", "purge", "--change", planned.Change) // nothing of it is public
	h.must("change", "activate", planned.Change)
	eventually(t, time.Minute, func() string {
		if c := h.changed(planned.Change); !strings.Contains(c.Problem, urls[1]) || c.DiesAt == nil {
			return fmt.Sprintf("the change is %+v", c)
		}
		return ""
	})
	if out := verify(3); !strings.Contains(out, urls[1]) || !strings.Contains(out, "the network team") || strings.Contains(out, urls[0]+" of tier lb still") {
		t.Errorf("the node that kept its answer is not named alone:\n%s", out)
	}
	nodes[1].setDeaf(false)
	h.must("caches", "purge", "--change", planned.Change)
	verify(0)
	h.must("caches", "verify", "--all")
}

// newCertificate issues a certificate and returns what names it.
func (h *house) newCertificate(name string) (serial, issuer string) {
	h.t.Helper()
	var v struct {
		Certificate struct{ Serial, Issuer string }
	}
	h.query(&v, "issue", name, "--out", filepath.Join(h.t.TempDir(), "out"))
	return v.Certificate.Serial, v.Certificate.Issuer
}

func (h *house) serialsFile(issuer, serial string) string {
	h.t.Helper()
	return write(h.t, h.t.TempDir(), "serials", []byte(issuer+","+serial+"\n"))
}

// TestRollbackCommand: a change is taken back at once, by one person, while nothing of it is public; after that it takes an
// incident on record, the rule that is broken, and two people, and what comes is a change of its own.
func TestRollbackCommand(t *testing.T) {
	t.Parallel()
	h, _ := shared(t)
	serial, issuer := h.newCertificate("rolled.test")
	file := h.serialsFile(issuer, serial)
	plan := func() string {
		t.Helper()
		var v struct{ Change string }
		h.query(&v, "change", "preview", "--revoke-serials", file, "--reason", "superseded")
		return v.Change
	}
	state := func() string {
		t.Helper()
		var v struct{ State string }
		h.query(&v, "cert", "show", serial, "--issuer", issuer)
		return v.State
	}
	early := plan()
	h.refused(2, "why", "change", "rollback", early)
	var done struct {
		Change   changed
		Approval *request
	}
	h.query(&done, "change", "rollback", early, "--why", "typed the wrong one")
	if done.Change.State != "refused" || done.Approval != nil || state() != "issued" {
		t.Fatalf("taken back before anything was public: %+v, the certificate is %s", done, state())
	}
	h.refused(1, "", "change", "rollback", early, "--why", "twice")

	id := plan()
	h.must("change", "activate", id)
	if state() != "revoked" {
		t.Fatal("the certificate is not revoked")
	}
	h.refused(3, "BR 4.10.1", "change", "rollback", id, "--why", "it was the wrong one")
	h.refused(3, "not a rule", "change", "rollback", id, "--why", "it was the wrong one", "--incident", "x", "--override-rule", "house rule 7")
	h.refused(1, "no incident", "change", "rollback", id, "--why", "it was the wrong one", "--incident", "nowhere", "--override-rule", "BR 4.9.13")
	var incident struct{ ID string }
	h.query(&incident, "incident", "open", "--title", "the wrong certificate was revoked", "--serials", file)
	h.query(&done, "change", "rollback", id, "--why", "it was the wrong one", "--incident", incident.ID, "--override-rule", "br 4.9.13")
	if done.Approval == nil || done.Approval.Needed != 2 || done.Change.Undoes != id || state() != "revoked" {
		t.Fatalf("nothing is taken back before two people agree: %+v", done)
	}
	h.refused(3, "two people", "change", "activate", done.Change.ID)
	for _, key := range []string{h.firstKey(), h.secondKey()} {
		h.must("approve", done.Approval.ID, "--key", key)
	}
	eventually(t, 60*time.Second, func() string {
		if c := h.changed(done.Change.ID); c.State != "settled" || state() != "issued" {
			return fmt.Sprintf("the change that takes back is %+v, the certificate is %s", c, state())
		}
		return ""
	})
}
