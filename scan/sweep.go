package scan

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"bulkhead"
)

// Config is what a sweep needs. Looker, Names and Now are required; zero values take the defaults.
type Config struct {
	Looker      Looker
	Names       Names
	Now         func() time.Time
	Whole       bool          // whole looks instead of verdicts alone
	Concurrency int           // looks at the same time; 64
	PerHost     int           // of them at one address; 2
	PerNetwork  int           // of them in one /24 or /48; 16
	Retries     int           // further looks at an endpoint that could not be told; negative for none, 0 takes 1
	Backoff     time.Duration // before each; 1 s, doubled
	State       *State        // nil remembers nothing
	Each        func(Result)  // called one at a time, as targets are done; nil for nobody
	Judge       func(ctx context.Context, e *Endpoint)
}

func (c *Config) defaults() {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	def(&c.Concurrency, 64)
	def(&c.PerHost, 2)
	def(&c.PerNetwork, 16)
	def(&c.Retries, 1)
	if c.Backoff <= 0 {
		c.Backoff = time.Second
	}
	if c.Each == nil {
		c.Each = func(Result) {}
	}
}

// window is how many endpoints wait for their turn at once; a longer list waits as targets.
const window = 2048

type group struct {
	result Result
	left   int
}

type job struct {
	g  *group
	at int // which endpoint
}

// Sweep looks at every target once and returns the results in the order of the targets. When ctx ends, looks under way are
// called off, and the results so far are returned with the error of ctx; a State has those that are done.
func Sweep(ctx context.Context, cfg Config, targets []Target) ([]Result, error) {
	cfg.defaults()
	s := &sweep{cfg: cfg, results: map[string]Result{}, hosts: map[netip.Addr]int{}, nets: map[netip.Prefix]int{}, done: make(chan job)}
	todo := make([]Target, 0, len(targets))
	for _, t := range targets {
		if _, again := s.results[t.Text]; again {
			continue
		}
		r, known := cfg.State.result(t.Text)
		if s.results[t.Text] = r; !known {
			todo = append(todo, t)
		} else {
			cfg.Each(r)
		}
	}
	err := s.run(ctx, todo)
	out := make([]Result, 0, len(targets))
	for _, t := range targets {
		if r, ok := s.results[t.Text]; ok && r.Target != "" {
			out = append(out, r)
			delete(s.results, t.Text)
		}
	}
	return out, err
}

type sweep struct {
	cfg     Config
	results map[string]Result
	waiting []job
	active  int
	hosts   map[netip.Addr]int
	nets    map[netip.Prefix]int
	done    chan job
}

// run owns all state; resolvers and looks only send to it.
func (s *sweep) run(ctx context.Context, todo []Target) error {
	found := s.resolve(ctx, todo)
	var failure error
	for found != nil || len(s.waiting) > 0 || s.active > 0 {
		s.start(ctx)
		in := found
		if len(s.waiting) >= window {
			in = nil
		}
		select {
		case g, ok := <-in:
			if !ok {
				found = nil
				continue
			}
			if failure = errors.Join(failure, s.accept(ctx, g)); failure != nil {
				found, s.waiting = nil, nil
			}
		case j := <-s.done:
			s.release(j)
			if j.g.left--; j.g.left == 0 && ctx.Err() == nil {
				failure = errors.Join(failure, s.finish(j.g))
			}
		case <-ctx.Done():
			s.waiting = nil
			for ; s.active > 0; s.active-- {
				<-s.done
			}
			return ctx.Err()
		}
	}
	return failure
}

func (s *sweep) accept(ctx context.Context, g *group) error {
	if g.left == 0 {
		if ctx.Err() != nil {
			return nil
		}
		return s.finish(g)
	}
	for i := range g.result.Endpoints {
		s.waiting = append(s.waiting, job{g, i})
	}
	return nil
}

func (s *sweep) finish(g *group) error {
	judge(&g.result)
	s.results[g.result.Target] = g.result
	s.cfg.Each(g.result)
	return s.cfg.State.add(g.result)
}

// start begins every waiting look that has room.
func (s *sweep) start(ctx context.Context) {
	kept := s.waiting[:0]
	for i, j := range s.waiting {
		if s.active >= s.cfg.Concurrency {
			kept = append(kept, s.waiting[i:]...)
			break
		}
		a := j.g.result.Endpoints[j.at].Endpoint.Address
		if n := networkOf(a); polite(a) && (s.hosts[a] >= s.cfg.PerHost || s.nets[n] >= s.cfg.PerNetwork) {
			kept = append(kept, j)
			continue
		}
		s.hosts[a]++
		s.nets[networkOf(a)]++
		s.active++
		go func() {
			s.look(ctx, &j.g.result.Endpoints[j.at])
			s.done <- j
		}()
	}
	s.waiting = kept
}

func (s *sweep) release(j job) {
	a := j.g.result.Endpoints[j.at].Endpoint.Address
	s.active--
	if s.hosts[a]--; s.hosts[a] == 0 {
		delete(s.hosts, a)
	}
	n := networkOf(a)
	if s.nets[n]--; s.nets[n] == 0 {
		delete(s.nets, n)
	}
}

// polite reports whether an address is somebody else's.
func polite(a netip.Addr) bool { return !a.IsLoopback() }

// networkOf is the /24 or /48 around an address.
func networkOf(a netip.Addr) netip.Prefix {
	bits := 48
	if a.Is4() {
		bits = 24
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// again are the reasons that another look may better: silence and breaks, never an answer.
var again = map[bulkhead.LookReason]bool{
	bulkhead.ReasonConnectTimeout: true, bulkhead.ReasonNoHello: true, bulkhead.ReasonTruncated: true, bulkhead.ReasonStalled: true,
	bulkhead.ReasonHeartbeatSilence: true, bulkhead.ReasonHeartbeatLate: true, bulkhead.ReasonAnswerTruncated: true,
	bulkhead.ReasonVersionsUnseen: true, bulkhead.ReasonSTARTTLSFailed: true,
}

func (s *sweep) look(ctx context.Context, e *Endpoint) {
	ep := e.Endpoint
	pause := s.cfg.Backoff
	for {
		e.Tries++
		if s.cfg.Whole {
			e.Look = s.cfg.Looker.Look(ctx, ep)
		} else {
			e.Look = s.cfg.Looker.Verdict(ctx, ep)
		}
		if e.Tries > s.cfg.Retries || !again[e.Reason] {
			break
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
			pause *= 2
		}
	}
	if s.cfg.Judge != nil {
		s.cfg.Judge(ctx, e)
	}
}

// resolve finds the endpoints of targets, in their order as far as names answer.
func (s *sweep) resolve(ctx context.Context, todo []Target) <-chan *group {
	in, out := make(chan Target), make(chan *group)
	var wg sync.WaitGroup
	for range min(16, max(1, len(todo))) {
		wg.Go(func() {
			for t := range in {
				select {
				case out <- s.endpoints(ctx, t):
				case <-ctx.Done():
					return
				}
			}
		})
	}
	go func() {
		defer close(out)
		defer wg.Wait()
		defer close(in)
		for _, t := range todo {
			select {
			case in <- t:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

func (s *sweep) endpoints(ctx context.Context, t Target) *group {
	g := &group{result: Result{Target: t.Text, Host: t.Host, Port: t.Port, STARTTLS: t.STARTTLS, Endpoints: []Endpoint{}}}
	addrs := []netip.Addr{t.Address}
	if !t.Address.IsValid() {
		var err error
		if addrs, err = s.cfg.Names.Addresses(ctx, t.Host); err != nil || len(addrs) == 0 {
			g.result.At, g.result.Verdict, g.result.Reason = s.cfg.Now(), bulkhead.Unreachable, bulkhead.ReasonNameUnresolved
			g.result.Detail = fmt.Sprintf("%s has no address: %s", t.Host, whyUnresolved(err))
			return g
		}
	}
	for _, a := range addrs {
		ep := bulkhead.Endpoint{Host: t.Host, Address: a, Port: t.Port, SNI: t.SNI, STARTTLS: t.STARTTLS}
		g.result.Endpoints = append(g.result.Endpoints, Endpoint{Look: bulkhead.Look{Endpoint: ep}})
	}
	g.left = len(addrs)
	return g
}

// What a resolver says of a name that leads nowhere.
const (
	noAddress = "neither A nor AAAA"
	noName    = "the name does not exist"
)

// LeadsNowhere reports whether a resolver said of the target's name that it has no address: nobody can be served there. A
// resolver that does not answer says nothing.
func LeadsNowhere(r Result) bool {
	return r.Reason == bulkhead.ReasonNameUnresolved && (strings.HasSuffix(r.Detail, noAddress) || strings.HasSuffix(r.Detail, noName))
}

func whyUnresolved(err error) string {
	var d *net.DNSError
	switch {
	case err == nil:
		return noAddress
	case errors.As(err, &d) && d.IsNotFound:
		return noName
	case errors.As(err, &d) && d.IsTimeout:
		return "the resolver did not answer"
	case errors.As(err, &d):
		return d.Err
	}
	return err.Error()
}
