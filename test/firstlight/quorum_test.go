package firstlight

import (
	"path/filepath"
	"testing"
	"time"
)

// request is what proposing and approving print.
type request struct {
	ID, State string
	Needed    int
	Approvals []string
}

// newOperatorKey makes an operator's key pair with openssl, as the help says.
func newOperatorKey(t testing.TB) (key, pub string) {
	t.Helper()
	dir := t.TempDir()
	key, pub = filepath.Join(dir, "operator.key"), filepath.Join(dir, "operator.pub")
	for _, args := range [][]string{{"genpkey", "-algorithm", "ed25519", "-out", key}, {"pkey", "-in", key, "-pubout", "-out", pub}} {
		if out, err := openssl(t, args...); err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
	}
	return key, pub
}

func (h *house) firstKey() string  { return filepath.Join(h.dir, "operator", "operator-1.key") }
func (h *house) secondKey() string { return filepath.Join(h.dir+"-root", "operator-2.key") }

// TestQuorum: two people add an operator, one is not enough and the same one twice is still one; who left counts no
// more; a quorum cannot vote itself away.
func TestQuorum(t *testing.T) {
	t.Parallel()
	h, _ := shared(t)
	key, pub := newOperatorKey(t)
	propose := func(args ...string) string {
		t.Helper()
		var r request
		h.query(&r, append(args, "--reason", "a test")...)
		if r.ID == "" || r.Needed != 2 || r.State != "open" || len(r.Approvals) != 0 {
			t.Fatalf("the request is %+v", r)
		}
		return r.ID
	}
	approve := func(id, key, state string) {
		t.Helper()
		var r request
		h.query(&r, "approve", id, "--key", key)
		if r.State != state {
			t.Fatalf("the request is %+v, want %s", r, state)
		}
	}
	inOffice := func() (names []string) {
		t.Helper()
		var v struct {
			Operators []struct {
				Name      string
				RemovedAt *string `json:"removed_at"`
			}
		}
		h.query(&v, "operator", "list")
		for _, o := range v.Operators {
			if o.RemovedAt == nil {
				names = append(names, o.Name)
			}
		}
		return names
	}

	h.refused(3, "quorum", "operator", "remove", "operator-2", "--reason", "below two")
	h.refused(2, "reason", "operator", "add", "carol", "--public-key", pub)
	id := propose("operator", "add", "carol", "--public-key", pub)
	h.refused(1, "no operator in office", "approve", id, "--key", key) // she is not in office yet
	approve(id, h.firstKey(), "open")
	if n := inOffice(); len(n) != 2 {
		t.Fatalf("one approval made %v", n)
	}
	h.refused(3, "one person counts once", "approve", id, "--key", h.firstKey())
	if n := inOffice(); len(n) != 2 {
		t.Fatalf("one person twice made %v", n)
	}
	approve(id, h.secondKey(), "executed")
	if n := inOffice(); len(n) != 3 {
		t.Fatalf("two approvals made %v", n)
	}
	h.refused(1, "executed", "approve", id, "--key", key)
	h.must("cert", "list", "--operator-key", key)

	id = propose("operator", "remove", "carol")
	approve(id, key, "open") // she may agree
	approve(id, h.secondKey(), "executed")
	h.refused(1, "next: ", "cert", "list", "--operator-key", key)
	_, another := newOperatorKey(t)
	id = propose("operator", "add", "dave", "--public-key", another)
	h.refused(1, "no operator in office", "approve", id, "--key", key)
	h.refused(1, "no operator in office", "approve", id, "--key", key, "--operator-key", h.firstKey())
}

// TestChangeTakesTwo: a previewed change is public only when two people have approved exactly that preview.
func TestChangeTakesTwo(t *testing.T) {
	t.Parallel()
	h, _ := shared(t)
	got := h.issue("quorum.change.test")
	p := got.paper(t)
	p.awaitGood(t)
	var planned struct {
		Change struct {
			ID, State string
			Count     int
		}
	}
	h.query(&planned, "cert", "revoke", got.Files.Cert, "--dry-run")
	if planned.Change.State != "previewed" || planned.Change.Count != 1 {
		t.Fatalf("%+v", planned)
	}
	var r request
	h.query(&r, "change", "approve", planned.Change.ID)
	h.must("approve", r.ID, "--key", h.secondKey())
	h.refused(3, "one person counts once", "approve", r.ID, "--key", h.secondKey())
	if s := p.status(t); s != "good" || p.onCRL(t) {
		t.Fatalf("one approval made it %s", s)
	}
	h.must("approve", r.ID, "--key", h.firstKey())
	p.awaitRevoked(t)
	var c struct{ State string }
	for end := time.Now().Add(time.Minute); c.State != "settled" && time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		h.query(&c, "change", "show", planned.Change.ID) // settled once foreign verifiers have looked at what is public
	}
	if c.State != "settled" {
		t.Errorf("the change is %s", c.State)
	}
}
