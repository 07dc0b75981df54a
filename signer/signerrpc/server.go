package signerrpc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"time"

	"bulkhead"
)

// Door is what the server opens to other processes; *signer.Signer is one.
type Door interface {
	Issue(ctx context.Context, req bulkhead.CertificateRequest) (bulkhead.IssuedCertificate, error)
	SignAnswers(ctx context.Context, req bulkhead.AnswerRequest) (bulkhead.AnswerBatch, error)
	ShadowAnswers(ctx context.Context, change string, issuer bulkhead.AuthorityID, serials []bulkhead.Serial) iter.Seq2[bulkhead.ShadowAnswer, error]
	SignCRL(ctx context.Context, req bulkhead.CRLRequest, w io.Writer) (bulkhead.CRLRecord, error)
	SignHead(ctx context.Context, body []byte) (signed []byte, err error)
	IssueInfrastructure(ctx context.Context, names []bulkhead.Identifier, csr []byte) (bulkhead.IssuedCertificate, error)
}

// ServerConfig is what a server needs; Door is required.
type ServerConfig struct {
	Door Door
	// ListenerNames are what listeners of the house may be called, beside loopback addresses and "localhost".
	ListenerNames []string
	// AtOnce bounds calls under way; 0 means 64 for each processor. A caller beyond it is told to try again.
	AtOnce int
	Log    *slog.Logger
}

// Server is the signer's side.
type Server struct {
	cfg   ServerConfig
	slots chan struct{}
}

// NewServer checks the configuration.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Door == nil {
		return nil, errors.New("signerrpc: no door")
	}
	if cfg.AtOnce <= 0 {
		cfg.AtOnce = 64 * runtime.GOMAXPROCS(0)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	for _, n := range cfg.ListenerNames {
		if strings.HasSuffix(n, roleSuffix) {
			return nil, bulkhead.Faultf(bulkhead.KindUsage, "a listener cannot be called %s: that is the name of a role", n)
		}
	}
	return &Server{cfg: cfg, slots: make(chan struct{}, cfg.AtOnce)}, nil
}

// TLSConfig is what the listener of a signer has: its own certificate, and callers with one of the infrastructure
// authority. Which caller may do what is decided for each call.
func TLSConfig(own func() *tls.Certificate, infrastructure *x509.CertPool) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: infrastructure, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return own(), nil }}
}

// caller is the role that the connection proved.
func caller(r *http.Request) (Role, error) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return "", bulkhead.NewFault(bulkhead.KindUnauthorized, "the signer answers roles of the house, by their certificates").WithHint("bulkhead role issue ROLE")
	}
	role, ok := RoleOf(r.TLS.VerifiedChains[0][0].DNSNames)
	if !ok {
		return "", bulkhead.NewFault(bulkhead.KindForbidden, "the certificate of the caller is not that of a role").WithHint("bulkhead role issue ROLE")
	}
	return role, nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	role, err := caller(r)
	if err != nil {
		s.refuse(w, r, role, err)
		return
	}
	method := Method(strings.TrimPrefix(r.URL.Path, prefix))
	if _, known := Allowed[method]; !known || r.Method != http.MethodPost || !strings.HasPrefix(r.URL.Path, prefix) {
		s.refuse(w, r, role, bulkhead.Faultf(bulkhead.KindNotFound, "the signer has no method %.40q", method))
		return
	}
	if !method.May(role) {
		s.refuse(w, r, role, bulkhead.Faultf(bulkhead.KindForbidden, "role %s may not call %s", role, method))
		return
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		s.refuse(w, r, role, bulkhead.NewFault(bulkhead.KindUnavailable, "the signer has as many calls as it can use").WithRetry(time.Second))
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
	if err := s.call(w, r, role, method); err != nil {
		s.refuse(w, r, role, err)
	}
}

func (s *Server) call(w http.ResponseWriter, r *http.Request, role Role, method Method) error {
	ctx := r.Context()
	switch method {
	case Issue:
		return answer(w, r, func(q bulkhead.CertificateRequest) (bulkhead.IssuedCertificate, error) {
			return s.cfg.Door.Issue(ctx, q)
		})
	case Answers:
		return answer(w, r, func(q bulkhead.AnswerRequest) (bulkhead.AnswerBatch, error) { return s.cfg.Door.SignAnswers(ctx, q) })
	case Head:
		return answer(w, r, func(q headRequest) (headAnswer, error) {
			signed, err := s.cfg.Door.SignHead(ctx, q.Body)
			return headAnswer{signed}, err
		})
	case CRL:
		return s.crl(w, r)
	case Shadow:
		return s.shadow(w, r)
	case Listener:
		return answer(w, r, func(q certifyRequest) (bulkhead.IssuedCertificate, error) {
			if err := s.listenerNames(q.Names); err != nil {
				return bulkhead.IssuedCertificate{}, err
			}
			return s.cfg.Door.IssueInfrastructure(ctx, q.Names, q.CSR)
		})
	default: // Identity: the name is the caller's own, whatever the request says
		return answer(w, r, func(q certifyRequest) (bulkhead.IssuedCertificate, error) {
			return s.cfg.Door.IssueInfrastructure(ctx, []bulkhead.Identifier{{Type: bulkhead.DNS, Value: role.Name()}}, q.CSR)
		})
	}
}

// listenerNames holds the names of a listener against the list.
func (s *Server) listenerNames(names []bulkhead.Identifier) error {
	for _, n := range names {
		switch {
		case n.Value == "localhost", n.Value == "127.0.0.1", n.Value == "::1":
		case slices.Contains(s.cfg.ListenerNames, n.Value) && !strings.HasSuffix(n.Value, roleSuffix):
		default:
			return bulkhead.Faultf(bulkhead.KindForbidden, "the signer certifies no listener called %.80q", n.Value).WithHint("add it to signer.listener_names of the signer's configuration")
		}
	}
	return nil
}

func decode[Q any](r *http.Request) (Q, error) {
	var q Q
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&q); err != nil {
		return q, bulkhead.NewFault(bulkhead.KindMalformed, "the request cannot be read").WithCause(err)
	}
	return q, nil
}

func answer[Q, A any](w http.ResponseWriter, r *http.Request, do func(Q) (A, error)) error {
	q, err := decode[Q](r)
	if err != nil {
		return err
	}
	a, err := do(q)
	if err != nil {
		return err
	}
	body, err := json.Marshal(a)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", mediaType)
	_, _ = w.Write(body) // the caller may be gone; what was done is in the record
	return nil
}

// crl streams the octets as the signer makes them; the record, or what went wrong, follows in a trailer.
func (s *Server) crl(w http.ResponseWriter, r *http.Request) error {
	q, err := decode[bulkhead.CRLRequest](r)
	if err != nil {
		return err
	}
	w.Header().Set("Trailer", crlRecord+", "+crlFault)
	w.Header().Set("Content-Type", "application/pkix-crl")
	counted := &begun{w: w}
	rec, err := s.cfg.Door.SignCRL(r.Context(), q, counted)
	if err != nil && !counted.any {
		w.Header().Del("Trailer")
		return err
	}
	name, value := crlRecord, any(rec)
	if err != nil {
		name, value = crlFault, wire(err)
		s.cfg.Log.ErrorContext(r.Context(), "a CRL broke off", slog.String("error", err.Error()))
	}
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	w.Header().Set(name, string(text))
	return nil
}

// begun notes whether anything was written.
type begun struct {
	w   io.Writer
	any bool
}

func (b *begun) Write(p []byte) (int, error) {
	b.any = true
	return b.w.Write(p)
}

func wire(err error) problem {
	f := bulkhead.AsFault(err)
	return problem{Kind: f.Kind, Detail: f.Detail, Hint: f.Hint, Retry: f.RetryAfter, Subs: f.Subs}
}

// refuse answers with a fault. Refusals that no honest role meets are logged as warnings.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, role Role, err error) {
	p := wire(err)
	level := slog.LevelDebug
	switch p.Kind {
	case bulkhead.KindUnauthorized, bulkhead.KindForbidden:
		level = slog.LevelWarn
	case bulkhead.KindInternal:
		level = slog.LevelError
	}
	s.cfg.Log.Log(r.Context(), level, "call refused", slog.String("role", string(role)), slog.String("path", r.URL.Path), slog.String("error", err.Error()))
	body, merr := json.Marshal(p)
	if merr != nil {
		body = []byte(`{"kind":"internal"}`)
	}
	w.Header().Set("Content-Type", mediaType)
	w.WriteHeader(statusOf(p.Kind))
	_, _ = w.Write(body)
}
