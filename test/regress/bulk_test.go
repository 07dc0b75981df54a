package regress

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/publish"
	"bulkhead/run"
	"bulkhead/status"
)

// The test program is also the process that gets killed: with this variable it revokes in bulk and stops for good at one
// of its writes.
const victimVar = "BULKHEAD_REGRESS_VICTIM"

// victim says what that process does.
type victim struct {
	Dir     string
	Serials []bulkhead.Serial
	At      int // before write number At when even, after it when odd, two numbers a write
}

func TestMain(m *testing.M) {
	if text := os.Getenv(victimVar); text != "" {
		fmt.Println("ended: ", suffer(text))
		os.Exit(0)
	}
	if text := os.Getenv(moveVar); text != "" {
		if err := moving(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// suffer opens the house and revokes.
func suffer(text string) error {
	var v victim
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return err
	}
	ctx := context.Background()
	cfg, err := run.LoadConfig(v.Dir)
	if err != nil {
		return err
	}
	h, err := run.OpenWith(ctx, run.Options{Dir: v.Dir, Config: cfg})
	if err != nil {
		return err
	}
	if err := h.Start(ctx); err != nil {
		return err
	}
	r, p := h.Roles(), &pause{at: v.At}
	verifier := (&house{dir: v.Dir, t: quiet{}}).verifier()
	svc, err := status.New(status.Config{Store: pausingStore{r.Store, p}, Signer: r.Signer, Objects: pausingObjects{r.Objects, p}, HeadVerifier: verifier,
		Log: slog.New(slog.DiscardHandler), Policy: status.Policy{OnePerson: cfg.Status.OnePerson}})
	if err != nil {
		return err
	}
	if err := svc.Start(ctx); err != nil {
		return err
	}
	p.armed = true
	_, err = svc.RevokeCertificates(ctx, "operator:test", "in bulk", bulk(v.Serials))
	return err
}

// quiet is for helpers of the test in a process that is none.
type quiet struct{ testing.TB }

func (quiet) Helper() {}

func bulk(serials []bulkhead.Serial) (items []bulkhead.ChangeItem) {
	for _, s := range serials {
		items = append(items, bulkhead.ChangeItem{CertificateRef: bulkhead.CertificateRef{Issuer: issuing, Serial: s}, Reason: bulkhead.CessationOfOperation})
	}
	return items
}

// pause stops the process for good around one write.
type pause struct {
	armed bool
	at, n int
}

func (p *pause) around(what string, write func() error) error {
	if !p.armed {
		return write()
	}
	p.stop("before " + what)
	err := write()
	p.stop("after " + what)
	return err
}

func (p *pause) stop(where string) {
	if p.n == p.at {
		fmt.Println("stopped: " + where)
		time.Sleep(time.Hour) // the kill comes
	}
	p.n++
}

type pausingStore struct {
	run.Store
	p *pause
}

func (s pausingStore) CreateChange(ctx context.Context, c bulkhead.Change, items []bulkhead.ChangeItem, ev ...bulkhead.Evidence) error {
	return s.p.around("planned", func() error { return s.Store.CreateChange(ctx, c, items, ev...) })
}

func (s pausingStore) MoveChange(ctx context.Context, c bulkhead.Change, expect bulkhead.ChangeState, ev ...bulkhead.Evidence) error {
	return s.p.around(string(c.State), func() error { return s.Store.MoveChange(ctx, c, expect, ev...) })
}

func (s pausingStore) Activate(ctx context.Context, c bulkhead.Change, head bulkhead.HeadRecord, crls []bulkhead.CRLRecord, ev ...bulkhead.Evidence) error {
	return s.p.around("activated", func() error { return s.Store.Activate(ctx, c, head, crls, ev...) })
}

type pausingObjects struct {
	publish.Store
	p *pause
}

func (o pausingObjects) Put(ctx context.Context, x publish.Object) error {
	if !strings.HasPrefix(x.Name, "packs/") {
		return o.Store.Put(ctx, x)
	}
	return o.p.around("the delta", func() error { return o.Store.Put(ctx, x) })
}

func (o pausingObjects) SetHead(ctx context.Context, signed []byte) error {
	return o.p.around("the head", func() error { return o.Store.SetHead(ctx, signed) })
}

// kill runs the victim until it stops, and kills it; it says where, "" when it came to its end.
func (v victim) kill(t testing.TB) string {
	t.Helper()
	text, err := json.Marshal(v)
	ok(t, err)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), victimVar+"="+string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	ok(t, err)
	ok(t, cmd.Start())
	defer func() { _ = cmd.Wait() }()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if where, stopped := strings.CutPrefix(lines.Text(), "stopped: "); stopped {
			ok(t, cmd.Process.Signal(syscall.SIGKILL))
			return where
		}
		if rest, ended := strings.CutPrefix(lines.Text(), "ended: "); ended {
			if !strings.Contains(rest, "<nil>") {
				t.Errorf("the victim ended with %s", rest)
			}
			return ""
		}
	}
	t.Fatalf("the victim said nothing: %v", lines.Err())
	return ""
}

// unpromised are the places at which nobody has approved anything yet.
var unpromised = []string{"before planned", "after planned", "before previewed", "after previewed", "before approved"}

// TestBulkRevokeKilledHalfWay: no peer has a bulk revocation, and a loop that is killed leaves nobody knowing where it
// was. Ours is killed around every write it makes; each time the next start, and the same request again, revoke every
// certificate exactly once, in one activation.
func TestBulkRevokeKilledHalfWay(t *testing.T) {
	const each = 20
	h := newHouse(t, func(c *run.Config) { c.Status.OnePerson = 1000 })
	p := h.issue(name(1))
	var places []string
	for at := 0; ; at++ {
		var serials []bulkhead.Serial
		for range each {
			serials = append(serials, serialOf(t, randomSerial(t)))
		}
		h.plant(issuing, bulkhead.LeafCertificate, "CN=bulk", bulkhead.Digest([]byte("bulk "+strconv.Itoa(at))), serials...)
		h.look()
		h.stop()
		where := victim{h.dir, serials, at}.kill(t)
		h.start()
		h.look()
		done := h.revokedOf(serials)
		if done != 0 && done != each {
			t.Fatalf("killed %s: %d of %d are revoked", where, done, each)
		}
		if done == 0 { // nobody promised anything: whoever asked asks again
			_, err := h.Status.RevokeCertificates(t.Context(), "operator:test", "in bulk, again", bulk(serials))
			ok(t, err)
			ok(t, h.Edge.Refresh(t.Context()))
		} else if _, err := h.Status.RevokeCertificates(t.Context(), "operator:test", "in bulk, again", bulk(serials)); bulkhead.KindOf(err) != bulkhead.KindAlreadyRevoked {
			t.Errorf("killed %s: the same request again: %v", where, err)
		}
		if done == 0 && !slices.Contains(unpromised, where) {
			t.Errorf("killed %s: an approved change was not carried on", where)
		}
		h.once(where, serials)
		for _, s := range serials[:3] {
			n, _ := new(big.Int).SetString(s.String(), 16)
			if got := h.status(p.at(n)); got != "revoked" {
				t.Errorf("killed %s: %s is %s", where, s, got)
			}
		}
		if where == "" {
			break
		}
		places = append(places, where)
	}
	h.want(p, "good")
	t.Logf("killed %s", strings.Join(places, ", "))
	if len(places) < 14 {
		t.Errorf("only %d places", len(places))
	}
}

func (h *house) revokedOf(serials []bulkhead.Serial) (n int) {
	h.t.Helper()
	rows, err := h.Store.Statuses(h.t.Context(), issuing, serials)
	ok(h.t, err)
	for _, r := range rows {
		if r.State == bulkhead.Revoked {
			n++
		}
	}
	return n
}

// once wants one leaf of revocation for each certificate, all by one change with one activation.
func (h *house) once(where string, serials []bulkhead.Serial) {
	h.t.Helper()
	mine := map[bulkhead.Serial]int{}
	for _, s := range serials {
		mine[s] = 0
	}
	changes, activations := map[string]bool{}, map[string]int{}
	h.each(func(ev bulkhead.Evidence) {
		switch ev.Kind {
		case bulkhead.EvRevocation:
			if _, is := mine[ev.Serial]; is {
				mine[ev.Serial]++
				changes[ev.Ref] = true
			}
		case bulkhead.EvChangeActivated:
			activations[ev.Ref]++
		}
	})
	for s, n := range mine {
		if n != 1 {
			h.t.Errorf("killed %s: %s was revoked %d times", where, s, n)
		}
	}
	for id := range changes {
		if len(changes) != 1 || activations[id] != 1 {
			h.t.Errorf("killed %s: %d changes, %s was activated %d times", where, len(changes), id, activations[id])
		}
	}
}
