package run

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/enroll/acme"
	"bulkhead/enroll/est"
	"bulkhead/signer/signerrpc"
)

// Ready is run/ready.json: where every role answers.
type Ready struct {
	ACMEDirectory string `json:"acme_directory"`
	API           string `json:"api"`
	Console       string `json:"console"` // empty until there is one
	OCSP          string `json:"ocsp"`
	CRLBase       string `json:"crl_base"`
	Metrics       string `json:"metrics"`
	TrustAnchor   string `json:"trust_anchor"` // path
	PID           int    `json:"pid"`
}

// Limits of the listeners: a stranger may hold a connection, not a process.
const (
	headerTimeout   = 10 * time.Second
	readTimeout     = 30 * time.Second
	idleTimeout     = 2 * time.Minute
	maxHeader       = 16 << 10
	shutdownTimeout = 10 * time.Second
)

// front is the listeners; those that no role of this process needs are nil.
type front struct {
	h        *House
	cert     atomic.Pointer[tls.Certificate]
	https    net.Listener
	statusL  net.Listener
	metricsL net.Listener
	signerL  net.Listener // for the other roles, where they are processes of their own
}

// listener is one listener of the configuration, by its key.
type listener struct{ key, address string }

// listeners are HTTPS, status and metrics, in this order.
func (c Config) listeners() []listener {
	return []listener{{"listen", c.Listen}, {"status_listen", c.StatusListen}, {"metrics_listen", c.MetricsListen}}
}

func (l listener) open() (net.Listener, error) {
	opened, err := net.Listen("tcp", l.address)
	if err == nil {
		return opened, nil
	}
	reason := err
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		reason = op.Err
	}
	return nil, bulkhead.Faultf(bulkhead.KindConflict, "%s: cannot listen on %s: %s", l.key, l.address, reason).
		WithHint("stop what is there, or choose another address: --" + strings.ReplaceAll(l.key, "_", "-") + " HOST:PORT").WithCause(err)
}

// listen opens the listeners; their certificate comes from the infrastructure authority.
func (h *House) listen(ctx context.Context) (_ *front, err error) {
	f := &front{h: h}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	to := []*net.Listener{&f.https, &f.statusL, &f.metricsL}
	for i, l := range h.cfg.listeners() {
		if !h.listensOn(l.key) {
			continue
		}
		if *to[i], err = l.open(); err != nil {
			return nil, err
		}
	}
	if f.signerL, err = h.listenForRoles(ctx); err != nil {
		return nil, err
	}
	if f.https == nil {
		return f, nil
	}
	h.address = f.base()
	return f, f.renew(ctx)
}

// listensOn says which listeners the roles of this process need.
func (h *House) listensOn(key string) bool {
	switch key {
	case "listen":
		return h.roles.has(signerrpc.Enroll, signerrpc.Console)
	case "status_listen":
		return h.roles.has(signerrpc.Edge)
	}
	return true
}

// base is the address of the HTTPS listener as clients see it.
func (f *front) base() string {
	if f.h.cfg.ExternalURL != "" {
		return strings.TrimRight(f.h.cfg.ExternalURL, "/")
	}
	return "https://" + dialable(f.https.Addr())
}

func (f *front) close() {
	for _, l := range []net.Listener{f.https, f.statusL, f.metricsL, f.signerL} {
		if l != nil {
			l.Close()
		}
	}
}

// Ready says where everything is.
func (f *front) Ready() Ready {
	r := Ready{Metrics: "http://" + dialable(f.metricsL.Addr()) + "/metrics", PID: os.Getpid()}
	trust, err := filepath.Abs(filepath.Join(f.h.dir, trustFile))
	if err != nil {
		trust = filepath.Join(f.h.dir, trustFile)
	}
	r.TrustAnchor = trust
	if f.h.enroll != nil && f.https != nil {
		r.ACMEDirectory = f.base() + "/acme/directory"
	}
	if f.h.api != nil && f.https != nil {
		r.API = f.base() + "/api/v1"
	}
	if f.statusL != nil {
		r.OCSP, r.CRLBase = f.h.urls().OCSP(), strings.TrimRight(f.h.cfg.StatusURL, "/")+"/crl/"
	}
	return r
}

// dialable turns a wildcard listener address into one that can be dialled on this machine.
func dialable(a net.Addr) string {
	t, ok := a.(*net.TCPAddr)
	if !ok || !t.IP.IsUnspecified() {
		return a.String()
	}
	return net.JoinHostPort("127.0.0.1", fmt.Sprint(t.Port))
}

// Run serves until ctx ends, then lets requests under way finish.
func (f *front) Run(ctx context.Context) error {
	metrics := http.NewServeMux()
	metrics.Handle("GET /metrics", promhttp.HandlerFor(f.h.metrics, promhttp.HandlerOpts{}))
	metrics.HandleFunc("GET /livez", live)
	metrics.HandleFunc("GET /readyz", f.h.readyz)
	metrics.HandleFunc("GET /sightings", f.h.sightings.serve)
	if f.h.evidence != nil {
		metrics.HandleFunc("GET "+checkpointPath, f.h.serveCheckpoint)
	}
	g, ctx := errgroup.WithContext(ctx)
	f.serve(ctx, g, f.metricsL, metrics, nil)
	if f.https != nil {
		web, err := f.web()
		if err != nil {
			return err
		}
		f.serve(ctx, g, f.https, counted(f.h.metrics, "https", web), f.tlsConfig())
		g.Go(func() error { return f.keepRenewing(ctx) })
	}
	if f.statusL != nil {
		f.serve(ctx, g, f.statusL, f.h.edge.Handler(), nil)
	}
	if f.signerL != nil {
		if err := f.serveRoles(ctx, g); err != nil {
			return err
		}
	}
	return g.Wait()
}

// web is what the HTTPS listener serves.
func (f *front) web() (http.Handler, error) {
	web := http.NewServeMux()
	web.HandleFunc("GET /livez", live)
	web.HandleFunc("GET /readyz", f.h.readyz)
	if f.h.evidence != nil {
		web.HandleFunc("GET "+checkpointPath, f.h.serveCheckpoint)
	}
	if f.h.roles.has(signerrpc.Enroll) {
		nonces, err := f.h.sharedNonces()
		if err != nil {
			return nil, err
		}
		acmeServer, err := acme.New(acme.Config{Service: f.h.enroll, Nonces: nonces, BaseURL: f.h.baseURL(), TermsOfService: f.h.cfg.ACME.TermsOfService,
			Website: f.h.cfg.ACME.Website, CAAIdentities: f.h.cfg.ACME.CAAIdentities, Log: f.h.log.With(slog.String("role", "acme"))})
		if err != nil {
			return nil, err
		}
		estServer, err := est.New(est.Config{Service: f.h.enroll, DefaultProfile: f.h.cfg.DefaultProfile, Log: f.h.log.With(slog.String("role", "est"))})
		if err != nil {
			return nil, err
		}
		web.Handle("/acme/", acmeServer)
		web.Handle(est.Prefix, estServer)
	}
	if f.h.api != nil && !f.h.cfg.Analyser.Off {
		analyser, err := f.h.analyser()
		if err != nil {
			return nil, err
		}
		web.Handle("/check/", analyser)
		web.Handle("/api/v1/check", analyser)
	}
	if f.h.api != nil {
		web.Handle("/api/v1/", f.h.api)
		web.Handle("/signin/", f.h.signin.Handler(console.HTTPStatus))
		web.Handle("GET "+statusPrefix, &publicPage{h: f.h})
	}
	return web, nil
}

// clientAuthoritiesFor is how long the list of authorities whose client certificates are asked for may be old.
const clientAuthoritiesFor = 10 * time.Second

// tlsConfig asks for a client certificate and takes none on trust: TLS checks only that its key is in use, and est looks
// it up in the record for each request. Naming our authorities keeps browsers from offering other certificates.
func (f *front) tlsConfig() *tls.Config {
	base := &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.cert.Load(), nil }}
	var mu sync.Mutex // guards current and at
	var current *tls.Config
	var at time.Time
	c := base.Clone()
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		mu.Lock()
		defer mu.Unlock()
		if current != nil && time.Since(at) < clientAuthoritiesFor {
			return current, nil
		}
		all, err := f.h.store.Authorities(hello.Context())
		if err != nil {
			return current, nil // nil stands for c, which asks for anybody's
		}
		next := base.Clone()
		next.ClientCAs = x509.NewCertPool()
		for _, a := range all {
			if cert, err := x509.ParseCertificate(a.Certificate); err == nil && a.Kind == bulkhead.IssuingAuthority && a.Answers() {
				next.ClientCAs.AddCert(cert)
			}
		}
		current, at = next, time.Now()
		return current, nil
	}
	return c
}

func live(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintln(w, `{"status":"ok"}`)
}

func (f *front) serve(ctx context.Context, g *errgroup.Group, l net.Listener, h http.Handler, t *tls.Config) {
	srv := &http.Server{Handler: h, TLSConfig: t, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(f.h.log.Handler(), slog.LevelDebug)}
	g.Go(func() error {
		var err error
		if t != nil {
			err = srv.ServeTLS(l, "", "")
		} else {
			err = srv.Serve(l)
		}
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return err
	})
	g.Go(func() error {
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		if err := srv.Shutdown(end); err != nil {
			return srv.Close()
		}
		return nil
	})
}

// baseURL is fixed when the configuration names it; else ACME addresses follow the request.
func (h *House) baseURL() func(*http.Request) string {
	if h.cfg.ExternalURL == "" {
		return nil
	}
	base := strings.TrimRight(h.cfg.ExternalURL, "/")
	return func(*http.Request) string { return base }
}

// listenerNames are what clients on this machine and beyond call the HTTPS listener.
func (f *front) listenerNames() []bulkhead.Identifier {
	names := []bulkhead.Identifier{{Type: bulkhead.DNS, Value: "localhost"}, {Type: bulkhead.IP, Value: "127.0.0.1"}, {Type: bulkhead.IP, Value: "::1"}}
	add := func(host string) {
		id, err := bulkhead.ParseIdentifier(host)
		if err != nil {
			return
		}
		for _, n := range names {
			if n == id {
				return
			}
		}
		names = append(names, id)
	}
	if t, ok := f.https.Addr().(*net.TCPAddr); ok && !t.IP.IsUnspecified() {
		add(t.IP.String())
	}
	if rest, ok := strings.CutPrefix(f.h.cfg.ExternalURL, "https://"); ok {
		host, _, _ := strings.Cut(rest, "/")
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		add(host)
	}
	return names
}

// renew loads the listener's certificate and replaces it when it is absent, for other names, or past two thirds.
func (f *front) renew(ctx context.Context) error {
	certFile, keyFile := filepath.Join(f.h.dir, "run", "listener.pem"), filepath.Join(f.h.dir, "run", "listener.key")
	if c, err := tls.LoadX509KeyPair(certFile, keyFile); err == nil && f.serves(c.Leaf) && !f.keyBlocked(ctx, c.Leaf) {
		f.cert.Store(&c)
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("listener key: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return fmt.Errorf("listener certificate: %w", err)
	}
	got, err := f.h.door.IssueInfrastructure(ctx, f.listenerNames(), csr)
	if err != nil {
		return fmt.Errorf("listener certificate: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("listener key: %w", err)
	}
	var chain []byte
	for _, c := range append([][]byte{got.DER}, got.Chain[:max(0, len(got.Chain)-1)]...) {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := errors.Join(writeFile(keyFile, keyPEM, 0o600), writeFile(certFile, chain, 0o644)); err != nil {
		return err
	}
	c, err := tls.X509KeyPair(chain, keyPEM)
	if err != nil {
		return fmt.Errorf("listener certificate: %w", err)
	}
	f.cert.Store(&c)
	return nil
}

func (f *front) serves(c *x509.Certificate) bool {
	if c == nil || c.NotAfter.Sub(f.h.now()) < c.NotAfter.Sub(c.NotBefore)/3 {
		return false
	}
	for _, n := range f.listenerNames() {
		if c.VerifyHostname(n.Value) != nil {
			return false
		}
	}
	return true
}

func (f *front) keepRenewing(ctx context.Context) error {
	t, look := time.NewTicker(time.Hour), time.NewTicker(lookAtOwnKey)
	defer t.Stop()
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.h.rekey:
		case <-look.C:
			if c := f.cert.Load(); c == nil || !f.keyBlocked(ctx, c.Leaf) {
				continue
			}
		case <-t.C:
		}
		if err := f.renew(ctx); err != nil {
			f.h.log.ErrorContext(ctx, "the listener's certificate could not be renewed", slog.String("error", err.Error()))
		}
	}
}
