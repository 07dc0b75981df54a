package status_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"bulkhead"
	"bulkhead/status"
	"bulkhead/status/verifiers"
)

// movingEdges is an edge under which another change becomes public at the first answer that is asked for.
type movingEdges struct {
	w    *world
	once sync.Once
	then func()
}

func (m *movingEdges) Staged(context.Context, []byte) (status.Answerer, func(), error) {
	return m, func() {}, nil
}
func (m *movingEdges) Public(context.Context, uint64) (status.Answerer, error) { return m, nil }

func (m *movingEdges) Answer(_ context.Context, request []byte) ([]byte, error) {
	m.once.Do(m.then)
	m.w.refresh()
	rec := httptest.NewRecorder()
	m.w.edge.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/ocsp", bytes.NewReader(request)))
	return io.ReadAll(rec.Body)
}

// TestOvertaken: while verifiers look at one change, another revokes the very certificate that the first one takes for a
// bystander. That is no fault of the first change: nothing is rolled back, nobody is alarmed, and both changes settle.
func TestOvertaken(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	target, bystander := h.realCertificate(caA), h.realCertificate(caA)
	h.tick()
	m := &movingEdges{w: h.world()}
	var second string
	m.then = func() { second = h.revoke(bystander) }
	var alarms []string
	h.rewire(func(c *status.Config) {
		c.Edges, c.Verifiers = m, verifiers.New([]string{verifiers.None})
		c.Alarm = func(_ context.Context, a bulkhead.Alarm) { alarms = append(alarms, a.Message) }
	})
	first := h.revoke(target)
	h.tick()
	h.status.Wait()
	h.later()
	if second == "" {
		t.Fatal("the second change is not planted")
	}
	for _, id := range []string{first, second} {
		if c := h.change(id); c.State != bulkhead.ChangeSettled {
			t.Errorf("change %s is %s: %s", id, c.State, c.Problem)
		}
		if got := h.story(id); slices.Contains(got, bulkhead.EvTakenBack) {
			t.Errorf("the story of change %s is %v", id, got)
		}
	}
	if h.state(target) != bulkhead.Revoked || h.state(bystander) != bulkhead.Revoked {
		t.Errorf("the record says %s and %s", h.state(target), h.state(bystander))
	}
	if len(alarms) > 0 {
		t.Errorf("alarms: %q", alarms)
	}
	h.agree()
}
