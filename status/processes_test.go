package status_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/pki/pack"
	"bulkhead/pki/profile"
	"bulkhead/publish"
	"bulkhead/signer"
	"bulkhead/status"
	"bulkhead/store/postgres"
	"bulkhead/store/storetest/pgtest"
)

// watched is an object store that keeps every head that becomes public, in order, and that is slow to switch it now and
// then, as a process that is paused would be.
type watched struct {
	publish.Store
	mu    sync.Mutex
	heads [][]byte
	calls int
}

func (w *watched) SetHead(ctx context.Context, signed []byte) error {
	w.mu.Lock()
	w.calls++
	slow := w.calls%3 == 0
	w.mu.Unlock()
	if slow {
		time.Sleep(20 * time.Millisecond)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.Store.SetHead(ctx, signed); err != nil {
		return err
	}
	w.heads = append(w.heads, slices.Clone(signed))
	return nil
}

// TestTwoProcesses runs two status services, each with a store and a signer of its own, on one PostgreSQL database and one
// object store. They are fenced by the sequence of heads: one commits, the other fails and tries again. Nothing public
// ever goes back, and every revocation is there in the end.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	open := func() *postgres.Store {
		s, err := postgres.Open(t.Context(), postgres.Config{DSN: dsn})
		ok(t, err)
		return s
	}
	h := &house{t: t}
	h.furnish(open(), func(p *status.Policy) { p.Interval = 5 * time.Millisecond })
	h.addRoot()
	h.addIssuing(rootCA, caA, h.csr("a", name("Issuing A")), name("Issuing A"), 2)
	h.addIssuing(rootCA, caB, h.csr("b", name("Issuing B")), name("Issuing B"), 2)
	objects := &watched{Store: h.dir}
	second := open()
	t.Cleanup(func() { second.Close() })
	other, err := signer.New(signer.Config{Store: second, Keys: h.ring, Profiles: profile.Builtin(), URLs: profile.URLs{Base: statusURL}, Linter: h.linter, HeadKeyURI: h.headURI, HeadName: headName, Now: h.now})
	ok(t, err)
	t.Cleanup(func() { other.Close() })
	h.rewire(func(c *status.Config) { c.Objects = objects })
	one := h.status
	two, err := status.New(status.Config{Store: second, Signer: other, Objects: objects, HeadVerifier: h.verifier, Policy: h.policy, Now: h.now})
	ok(t, err)
	ok(t, one.Start(t.Context()))
	refs := append(h.issue(caA, 6), h.issue(caB, 6)...)

	ctx, cancel := context.WithCancel(t.Context())
	var running, asking sync.WaitGroup
	lost := 0
	var mu sync.Mutex
	for i, s := range []*status.Service{one, two} {
		running.Go(func() { _ = s.Run(ctx) }) // what fails is tried again
		asking.Go(func() {
			for n := i; n < len(refs); n += 2 {
				for attempt := 0; ; attempt++ {
					_, err := s.RevokeCertificates(ctx, fmt.Sprint("process ", i), "together", items(bulkhead.Superseded, refs[n]))
					k := bulkhead.KindOf(err)
					if err == nil || k == bulkhead.KindAlreadyRevoked {
						break
					}
					if k != bulkhead.KindConflict && k != bulkhead.KindGate || attempt == 200 {
						t.Errorf("%s, attempt %d: %v", refs[n], attempt, err)
						break
					}
					mu.Lock()
					lost++
					mu.Unlock()
				}
			}
		})
	}
	asking.Wait()
	cancel()
	running.Wait()
	h.move(retry)
	for range 3 {
		_ = two.Tick(t.Context()) // may lose once more
		_ = one.Tick(t.Context())
	}
	t.Logf("%d heads, %d times a process was too late", len(objects.heads), lost)
	for _, ref := range refs {
		e, _ := h.answer(ref)
		if _, listed := h.listed(ref.Issuer)[ref.Serial]; h.state(ref) != bulkhead.Revoked || !e.Revoked || !listed {
			t.Errorf("%s: %s in the record, answer revoked %v, on the CRL %v", ref, h.state(ref), e.Revoked, listed)
		}
	}
	var last *pack.Head
	for _, signed := range objects.heads {
		head, err := pack.OpenHead(signed, h.verifier)
		ok(t, err)
		if last != nil && head.Sequence != last.Sequence {
			if err := head.Follows(last); err != nil {
				t.Fatalf("head %d became public after head %d: %v", head.Sequence, last.Sequence, err)
			}
		}
		last = head
	}
	h.agree()
}
