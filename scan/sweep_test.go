package scan

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead"
)

// book is a resolver of fixed names.
type book map[string][]netip.Addr

func (b book) Addresses(_ context.Context, name string) ([]netip.Addr, error) {
	if a, ok := b[name]; ok {
		return a, nil
	}
	return nil, errors.New("no such name")
}

// eye gives verdicts by address, and watches how many looks are under way.
type eye struct {
	mu       sync.Mutex
	reasons  map[netip.Addr][]bulkhead.LookReason // one a look; the last stays
	tries    map[netip.Addr]int
	now, top map[netip.Addr]int
	network  map[netip.Prefix]int
	netTop   int
	wait     time.Duration
	before   func()
}

func (e *eye) Look(ctx context.Context, ep bulkhead.Endpoint) bulkhead.Look {
	return e.Verdict(ctx, ep)
}

func (e *eye) Verdict(ctx context.Context, ep bulkhead.Endpoint) bulkhead.Look {
	e.mu.Lock()
	if e.tries == nil {
		e.tries, e.now, e.top, e.network = map[netip.Addr]int{}, map[netip.Addr]int{}, map[netip.Addr]int{}, map[netip.Prefix]int{}
	}
	a := ep.Address
	r := bulkhead.ReasonNotNegotiated
	if list := e.reasons[a]; len(list) > 0 {
		r = list[min(e.tries[a], len(list)-1)]
	}
	e.tries[a]++
	e.now[a]++
	e.top[a] = max(e.top[a], e.now[a])
	e.network[networkOf(a)]++
	e.netTop = max(e.netTop, e.network[networkOf(a)])
	e.mu.Unlock()
	if e.before != nil {
		e.before()
	}
	select {
	case <-time.After(e.wait):
	case <-ctx.Done():
		r = bulkhead.ReasonCancelled
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now[a]--
	e.network[networkOf(a)]--
	return bulkhead.Look{Endpoint: ep, At: time.Unix(1, 0).UTC(), Reason: r, Verdict: bulkhead.LookReasons[r], Detail: string(r)}
}

func targets(t *testing.T, texts ...string) []Target {
	t.Helper()
	var out []Target
	for _, x := range texts {
		one, err := ParseTarget(x, 443)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, one)
	}
	return out
}

var (
	a1, a2, a3 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::3")
)

// TestWorstOfAllAddresses: each address of a name is looked at, and one bad node is the verdict.
func TestWorstOfAllAddresses(t *testing.T) {
	for _, c := range []struct {
		reasons map[netip.Addr]bulkhead.LookReason
		want    bulkhead.LookReason
	}{
		{map[netip.Addr]bulkhead.LookReason{a1: bulkhead.ReasonDiscarded, a2: bulkhead.ReasonOverread, a3: bulkhead.ReasonNoHello}, bulkhead.ReasonOverread},
		{map[netip.Addr]bulkhead.LookReason{a1: bulkhead.ReasonDiscarded, a2: bulkhead.ReasonNotNegotiated, a3: bulkhead.ReasonNoHello}, bulkhead.ReasonNoHello},
		{map[netip.Addr]bulkhead.LookReason{a1: bulkhead.ReasonDiscarded, a2: bulkhead.ReasonConnectTimeout, a3: bulkhead.ReasonNotNegotiated}, bulkhead.ReasonConnectTimeout},
		{map[netip.Addr]bulkhead.LookReason{a1: bulkhead.ReasonDiscarded, a2: bulkhead.ReasonDialDenied, a3: bulkhead.ReasonNotNegotiated}, bulkhead.ReasonDialDenied},
		{map[netip.Addr]bulkhead.LookReason{a1: bulkhead.ReasonDiscarded, a2: bulkhead.ReasonNotNegotiated, a3: bulkhead.ReasonNoRoute}, bulkhead.ReasonDiscarded},
		{map[netip.Addr]bulkhead.LookReason{a1: bulkhead.ReasonRefused, a2: bulkhead.ReasonRefused, a3: bulkhead.ReasonNoRoute}, bulkhead.ReasonRefused},
	} {
		e := &eye{reasons: map[netip.Addr][]bulkhead.LookReason{}}
		for a, r := range c.reasons {
			e.reasons[a] = []bulkhead.LookReason{r}
		}
		got, err := Sweep(t.Context(), Config{Looker: e, Names: book{"x.test": {a1, a2, a3}}, Now: time.Now, Retries: -1}, targets(t, "x.test"))
		if err != nil || len(got) != 1 || len(got[0].Endpoints) != 3 || got[0].Reason != c.want || got[0].Verdict != bulkhead.LookReasons[c.want] {
			t.Errorf("%v: %+v, %v", c.reasons, got, err)
		}
	}
	got, err := Sweep(t.Context(), Config{Looker: &eye{}, Names: book{}, Now: time.Now}, targets(t, "gone.test"))
	if err != nil || len(got) != 1 || got[0].Reason != bulkhead.ReasonNameUnresolved || got[0].Verdict.Seen() {
		t.Errorf("a name without address: %+v, %v", got, err)
	}
}

// TestRetriesEnd: silence is asked again, an answer never, and it ends.
func TestRetriesEnd(t *testing.T) {
	e := &eye{reasons: map[netip.Addr][]bulkhead.LookReason{
		a1: {bulkhead.ReasonNoHello, bulkhead.ReasonDiscarded}, a2: {bulkhead.ReasonConnectTimeout}, a3: {bulkhead.ReasonOverread, bulkhead.ReasonDiscarded}}}
	got, err := Sweep(t.Context(), Config{Looker: e, Names: book{}, Now: time.Now, Retries: 2, Backoff: time.Millisecond}, targets(t, "192.0.2.1", "192.0.2.2", "2001:db8::3"))
	if err != nil || len(got) != 3 {
		t.Fatal(got, err)
	}
	for i, want := range []struct {
		v bulkhead.Verdict
		n int
	}{{bulkhead.Patched, 2}, {bulkhead.Unreachable, 3}, {bulkhead.Vulnerable, 1}} {
		if got[i].Verdict != want.v || got[i].Endpoints[0].Tries != want.n {
			t.Errorf("%s: %s after %d", got[i].Target, got[i].Verdict, got[i].Endpoints[0].Tries)
		}
	}
}

// TestPace: no more than so many looks at one address and in one network, whatever the order of the list.
func TestPace(t *testing.T) {
	var texts []string
	for _, port := range []string{"1", "2", "3", "4", "5", "6"} {
		for _, host := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "[2001:db8::1]", "[2001:db8::2]"} {
			texts = append(texts, host+":"+port)
		}
	}
	e := &eye{wait: 3 * time.Millisecond}
	got, err := Sweep(t.Context(), Config{Looker: e, Names: book{}, Now: time.Now, PerHost: 2, PerNetwork: 3}, targets(t, texts...))
	if err != nil || len(got) != len(texts) {
		t.Fatal(len(got), err)
	}
	for a, n := range e.top {
		if n > 2 {
			t.Errorf("%d looks at %s at once", n, a)
		}
	}
	if e.netTop > 3 || e.netTop < 2 {
		t.Errorf("%d looks in one network at once", e.netTop)
	}
}

// TestResume: a run is stopped in the middle, its file torn as by a kill; the next one looks at the rest alone and reports what
// an undisturbed one does.
func TestResume(t *testing.T) {
	var texts []string
	for i := range 60 {
		texts = append(texts, netip.AddrPortFrom(a1, uint16(i+1)).String())
	}
	all := targets(t, texts...)
	whole, err := Sweep(t.Context(), Config{Looker: &eye{}, Names: book{}, Now: time.Now}, all)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "state")
	s, err := OpenState(path, false)
	if err != nil {
		t.Fatal(err)
	}
	ctx, kill := context.WithCancel(t.Context())
	var looks atomic.Int32
	first := &eye{wait: time.Millisecond, before: func() {
		if looks.Add(1) == 30 {
			kill()
		}
	}}
	half, err := Sweep(ctx, Config{Looker: first, Names: book{}, Now: time.Now, State: s}, all)
	if !errors.Is(err, context.Canceled) || len(half) == 0 || len(half) >= 30 {
		t.Fatalf("%d results, %v", len(half), err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.WriteString(`{"target":"192.0.2.1:60","verd`)
	f.Close()

	if s, err = OpenState(path, false); err != nil || s.Done() != len(half) {
		t.Fatalf("%d known of %d, %v", s.Done(), len(half), err)
	}
	second := &eye{}
	got, err := Sweep(t.Context(), Config{Looker: second, Names: book{}, Now: time.Now, State: s}, all)
	if err != nil || !reflect.DeepEqual(got, whole) || second.tries[a1] != len(all)-len(half) {
		t.Errorf("%d results, %d looked at again of %d, %v", len(got), second.tries[a1], len(all), err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = OpenState(path, false); err != nil || s.Done() != len(all) {
		t.Errorf("%d known, %v", s.Done(), err)
	}
	s.Close()
	if _, err := OpenState(path, true); bulkhead.KindOf(err) != bulkhead.KindUsage {
		t.Errorf("a run with other looks took the file: %v", err)
	}
	if err := os.WriteFile(path, []byte("hosts\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenState(path, false); bulkhead.KindOf(err) != bulkhead.KindUsage {
		t.Errorf("a list of hosts was taken for a state: %v", err)
	}
}
