package day

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/miekg/dns"

	"bulkhead"
	"bulkhead/enroll"
	"bulkhead/run"
)

// The day is made short of what policy allows, so that everything turns several times.
const (
	answerValidity   = 8 * time.Hour  // BR 4.9.9: the least
	crlValidity      = 6 * time.Hour  // a turn every three hours
	delegateValidity = 16 * time.Hour // a new delegate every eight
	leafValidity     = 8 * time.Hour
)

// profileText is a profile whose certificates live for a part of the day.
const profileText = `name: tls-day
kind: tls-server
description: TLS servers, for a working day
validity: 8h
backdate: 5m
renew_at: 0.5
keys: [p256]
identifiers: [dns, ip]
max_names: 10
wildcard: true
common_name: omit
extended_key_usages: [server-auth]
policies: [2.23.140.1.2.1]
default_authority: issuing-p256
acme: true
`

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// clock moves when it is told to.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

// house is a data directory, and the process on it, so to say.
type house struct {
	t     testing.TB
	dir   string
	clock *clock
	log   *slog.Logger

	open     *run.House
	roles    run.Roles
	evidence chan error // of the evidence role, which runs in real time
	cancel   context.CancelFunc

	operator bulkhead.Account
	client   bulkhead.Account // holds a key, as ACME clients do
	names    atomic.Int64
}

func newHouse(t testing.TB) *house {
	t.Helper()
	h := &house{t: t, dir: filepath.Join(folder(t), "house"), clock: &clock{}, log: slog.New(slog.NewTextHandler(&warnings{t: t}, &slog.HandlerOptions{Level: slog.LevelError}))}
	h.clock.at.Store(time.Now().Truncate(time.Second).UnixNano())
	cfg := run.DefaultConfig()
	cfg.Status.AnswerValidity, cfg.Status.CRLValidity = run.Duration(answerValidity), run.Duration(crlValidity)
	cfg.DefaultProfile = "tls-day"
	cfg.Status.Verifiers = []string{"none"} // foreign programs look at the machine's clock, and this day has its own
	cfg.Resolver, cfg.ValidateHTTPPort = h.internet()
	_, err := run.FirstStart(t.Context(), h.dir, cfg, nil)
	ok(t, err)
	ok(t, os.WriteFile(filepath.Join(h.dir, "profiles", "tls-day.yaml"), []byte(profileText), 0o600))
	h.start()
	t.Cleanup(h.stop)
	h.operator, _, err = h.roles.Enroll.NewTokenAccount(t.Context(), "operator:day", true)
	ok(t, err)
	h.client = h.subscriber()
	return h
}

// folder is in memory where there is such a place: a day in a minute writes what a disk takes a day for, and it is not
// the disk that is judged. The full count does not fit there.
func folder(t testing.TB) string {
	t.Helper()
	if torture() {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp("/dev/shm", "day")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func torture() bool { return os.Getenv("BULKHEAD_TORTURE") != "" }

func (h *house) start() {
	h.t.Helper()
	cfg, err := run.LoadConfig(h.dir)
	ok(h.t, err)
	h.open, err = run.OpenWith(h.t.Context(), run.Options{Dir: h.dir, Config: cfg, Log: h.log, Version: "day", Now: h.clock.now, DelegateValidity: delegateValidity})
	ok(h.t, err)
	h.roles = h.open.Roles()
	ok(h.t, h.open.Start(h.t.Context()))
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel, h.evidence = cancel, make(chan error, 1)
	go func() { h.evidence <- h.roles.Evidence.Run(ctx) }()
}

// stop ends the process. Its evidence is covered by then.
func (h *house) stop() {
	if h.open == nil {
		return
	}
	h.cancel()
	if err := <-h.evidence; err != nil {
		h.t.Errorf("evidence: %v", err)
	}
	if err := h.open.Close(); err != nil {
		h.t.Errorf("close: %v", err)
	}
	h.open = nil
}

// step lets time pass and every role look once.
func (h *house) step(d time.Duration) {
	h.t.Helper()
	h.clock.advance(d)
	h.look()
}

func (h *house) look() {
	h.t.Helper()
	ctx := h.t.Context()
	ok(h.t, h.roles.Status.Tick(ctx))
	h.roles.Status.Wait()
	_, err := h.roles.Signer.Recover(ctx)
	ok(h.t, err)
	ok(h.t, h.roles.Edge.Refresh(ctx))
}

// warnings shows what the house logs as an error: on an ordinary day there is none.
type warnings struct{ t testing.TB }

func (w *warnings) Write(p []byte) (int, error) {
	w.t.Errorf("logged: %s", strings.TrimSpace(string(p)))
	return len(p), nil
}

// internet is a resolver for which every name is this machine, and a web server that knows every key authorisation.
func (h *house) internet() (resolver string, port int) {
	h.t.Helper()
	web, err := net.Listen("tcp", "127.0.0.1:0")
	ok(h.t, err)
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		fmt.Fprint(w, enroll.KeyAuthorization(h.client, token))
	})}
	go srv.Serve(web) //nolint:errcheck // it ends with the test
	h.t.Cleanup(func() { srv.Close() })
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	ok(h.t, err)
	names := &dns.Server{PacketConn: udp, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		if len(q.Question) == 1 && q.Question[0].Qtype == dns.TypeA {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.IPv4(127, 0, 0, 1)})
		}
		_ = w.WriteMsg(m)
	})}
	go names.ActivateAndServe() //nolint:errcheck // it ends with the test
	h.t.Cleanup(func() { _ = names.Shutdown() })
	return udp.LocalAddr().String(), web.Addr().(*net.TCPAddr).Port
}

func (h *house) subscriber() bulkhead.Account {
	h.t.Helper()
	key := newKey(h.t)
	jwk := jose.JSONWebKey{Key: key.Public()}
	body, err := jwk.MarshalJSON()
	ok(h.t, err)
	acct, _, err := h.roles.Enroll.NewAccount(h.t.Context(), enroll.AccountRequest{JWK: body, Thumbprint: thumbprint(h.t, jwk), Key: key.Public(), TermsAgreed: true})
	ok(h.t, err)
	return acct
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	return k
}

// order asks for a certificate: by ACME's walk, or on the operator's word.
func (h *house) order(ctx context.Context, byACME bool, name string, key *ecdsa.PrivateKey, replaces bulkhead.CertificateRef) (*held, error) {
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{}, DNSNames: []string{name}}, key)
	if err != nil {
		return nil, err
	}
	var got bulkhead.IssuedCertificate
	if byACME {
		got, err = h.orderACME(ctx, name, csr, replaces)
	} else {
		got, err = h.roles.Enroll.OperatorOrder(ctx, "operator:day", h.operator, enroll.Upload{CSR: csr, Replaces: replaces})
	}
	if err != nil {
		return nil, err
	}
	return newHeld(got, key, name, byACME, h.clock.now())
}

func (h *house) orderACME(ctx context.Context, name string, csr []byte, replaces bulkhead.CertificateRef) (none bulkhead.IssuedCertificate, err error) {
	s := h.roles.Enroll
	o, err := s.NewOrder(ctx, h.client, enroll.OrderRequest{Identifiers: []bulkhead.Identifier{{Type: bulkhead.DNS, Value: name}}, Replaces: replaces})
	if err != nil {
		return none, err
	}
	if o.State == bulkhead.OrderPending {
		a, err := s.Authorization(ctx, h.client, o.Authorizations[0])
		if err != nil {
			return none, err
		}
		for _, c := range a.Challenges {
			if c.Method == bulkhead.HTTP01 {
				if _, err := s.Respond(ctx, h.client, a.ID, c.ID); err != nil {
					return none, err
				}
			}
		}
	}
	for end := time.Now().Add(time.Minute); o.State == bulkhead.OrderPending && time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if o, err = s.Order(ctx, h.client, o.ID); err != nil {
			return none, err
		}
	}
	if o.State == bulkhead.OrderReady {
		if o, err = s.Finalize(ctx, h.client, o.ID, csr); err != nil {
			return none, err
		}
	}
	for end := time.Now().Add(time.Minute); o.State == bulkhead.OrderProcessing && time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if o, err = s.Order(ctx, h.client, o.ID); err != nil {
			return none, err
		}
	}
	if o.State != bulkhead.OrderValid {
		if o.Problem != nil {
			return none, o.Problem
		}
		return none, fmt.Errorf("the order is %s", o.State)
	}
	return s.Certificate(ctx, h.client, o.Certificate)
}

// rotate replaces an issuing authority by a successor with a key of its own, signed by the root's folder.
func (h *house) rotate(old, successor bulkhead.AuthorityID) {
	h.t.Helper()
	ctx := h.t.Context()
	a, err := h.roles.Hierarchy.AddAuthority(ctx, "operator:day", successor, "p256", "", "", old)
	ok(h.t, err)
	cert, chain, err := run.SignSubordinate(ctx, run.SubordinateRequest{DataDir: h.dir, RootDir: run.RootDir(h.dir), Name: successor,
		CSR: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: a.CSR}), Shards: a.Shards, Days: 1000})
	ok(h.t, err)
	block, _ := pem.Decode([]byte(cert))
	above := make([][]byte, len(chain))
	for i, c := range chain {
		b, _ := pem.Decode([]byte(c))
		above[i] = b.Bytes
	}
	_, err = h.roles.Hierarchy.AcceptAuthority(ctx, "operator:day", successor, block.Bytes, above)
	ok(h.t, err)
}

// objects counts packs and CRLs in the object store.
func (h *house) objects() (n int) {
	h.t.Helper()
	for _, prefix := range []string{"packs/", "crls/"} {
		all, err := h.roles.Objects.List(h.t.Context(), prefix)
		ok(h.t, err)
		n += len(all)
	}
	return n
}

// each runs f n times, a few at once, as clients do.
func each(t testing.TB, n int, f func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	slots := make(chan struct{}, 16)
	errs := make([]error, n)
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[i] = f(i)
		})
	}
	wg.Wait()
	for _, err := range errs {
		ok(t, err)
	}
}
