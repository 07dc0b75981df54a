package console

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/store/sqlite"
)

// remembering is an API with nothing behind it but the record of replies, and a clock that is set by hand.
type remembering struct {
	*API
	now  time.Time
	done int // how often the action ran
}

func openReplies(t *testing.T) *remembering {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "x.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	x := &remembering{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	a, err := build(Config{Replies: s, Now: func() time.Time { return x.now }})
	if err != nil {
		t.Fatal(err)
	}
	a.cfg.Log = discard()
	x.API = a
	return x
}

// ask sends one request whose action answers x.
func (x *remembering) ask(t *testing.T, ctx context.Context, key string, answers answer) (*answer, error) {
	t.Helper()
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/api/v1/accounts", nil)
	w := who{account: bulkhead.Account{ID: "a"}}
	return x.once(r, w, []string{key}, nil, func(ctx context.Context) *answer {
		if ctx.Err() != nil {
			t.Error("the action was cancelled with the client")
		}
		if _, ok := ctx.Deadline(); !ok {
			t.Error("the action has no end")
		}
		x.done++
		return &answers
	})
}

func (x *remembering) want(t *testing.T, what string, got *answer, err error, status, done int, replayed bool) {
	t.Helper()
	if err != nil || got.status != status || x.done != done || got.replayed != replayed {
		t.Fatalf("%s: %+v %v, the action ran %d times, want %d", what, got, err, x.done, done)
	}
}

// TestOnceForgetsPassingFaults tries again after an answer that will not stand, and not after one that will.
func TestOnceForgetsPassingFaults(t *testing.T) {
	x := openReplies(t)
	for i, passing := range []answer{{status: 503}, {status: 500}, {status: 429}, {status: 409, retryAfter: time.Second}} {
		got, err := x.ask(t, t.Context(), "key", passing)
		x.want(t, "a passing fault", got, err, passing.status, i+1, false)
	}
	got, err := x.ask(t, t.Context(), "key", answer{status: 409, contentType: problemType, body: []byte("no")})
	x.want(t, "a definite refusal", got, err, 409, 5, false)
	got, err = x.ask(t, t.Context(), "key", answer{status: 200})
	x.want(t, "again", got, err, 409, 5, true)
	if string(got.body) != "no" || got.contentType != problemType {
		t.Fatalf("%+v", got)
	}
}

// TestOnceEnds lets the 24 hours pass.
func TestOnceEnds(t *testing.T) {
	x := openReplies(t)
	got, err := x.ask(t, t.Context(), "key", answer{status: 200})
	x.want(t, "first", got, err, 200, 1, false)
	x.now = x.now.Add(replyLife - time.Second)
	got, err = x.ask(t, t.Context(), "key", answer{status: 200})
	x.want(t, "a second before the end", got, err, 200, 1, true)
	x.now = x.now.Add(time.Second)
	got, err = x.ask(t, t.Context(), "key", answer{status: 200})
	x.want(t, "after the end", got, err, 200, 2, false)
}

// TestOnceGoesOnWithoutTheClient hangs up before the action begins: it is carried out and remembered.
func TestOnceGoesOnWithoutTheClient(t *testing.T) {
	x := openReplies(t)
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	got, err := x.ask(t, gone, "key", answer{status: 200, body: []byte("done")})
	x.want(t, "hung up", got, err, 200, 1, false)
	got, err = x.ask(t, t.Context(), "key", answer{status: 200})
	x.want(t, "asked again", got, err, 200, 1, true)
	if string(got.body) != "done" {
		t.Fatalf("%s", got.body)
	}
}

// TestOnceKeepsNoGiant carries out a request whose answer is above the limit, once.
func TestOnceKeepsNoGiant(t *testing.T) {
	x := openReplies(t)
	got, err := x.ask(t, t.Context(), "key", answer{status: 200, body: make([]byte, maxReply+1)})
	x.want(t, "first", got, err, 200, 1, false)
	got, err = x.ask(t, t.Context(), "key", answer{status: 200})
	x.want(t, "again", got, err, 409, 1, true)
	if !strings.Contains(string(got.body), "carried out") {
		t.Fatalf("%s", got.body)
	}
}

// TestSealIsTheKeys shows that an answer opens with its own asker and key only.
func TestSealIsTheKeys(t *testing.T) {
	nonce := make([]byte, 12)
	seal := func(owner, key string) []byte {
		a, err := sealing(owner, key)
		if err != nil {
			t.Fatal(err)
		}
		return a.Seal(nil, nonce, []byte("body"), nil)
	}
	seen := map[string]bool{}
	for _, x := range [][2]string{{"a", "bc"}, {"ab", "c"}, {"a", "bd"}, {"", "abc"}} {
		seen[string(seal(x[0], x[1]))] = true
	}
	if len(seen) != 4 {
		t.Errorf("%d different seals of 4", len(seen))
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
