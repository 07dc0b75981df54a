package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"bulkhead"
)

// maxBody bounds a request body: a CSR with a hundred names has some ten thousand octets.
const maxBody = 1 << 20

// Config wires the API to the compartments. All ports are required.
type Config struct {
	Inventory Inventory
	Orders    Orders
	Changes   Changes
	Quorum    Quorum
	Hierarchy Hierarchy
	Doctor    Doctor
	Version   string
	Now       func() time.Time
	Log       *slog.Logger
}

// API serves /api/v1.
type API struct {
	cfg Config
	mux *http.ServeMux
}

// New checks the configuration.
func New(cfg Config) (*API, error) {
	if cfg.Inventory == nil || cfg.Orders == nil || cfg.Changes == nil || cfg.Quorum == nil || cfg.Hierarchy == nil || cfg.Doctor == nil {
		return nil, fmt.Errorf("console: every port is required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	a := &API{cfg: cfg, mux: http.NewServeMux()}
	a.routes()
	return a, nil
}

// who is the authenticated asker of a request: an operator, or an account.
type who struct {
	operator bulkhead.Operator
	account  bulkhead.Account
}

func (w who) isOperator() bool { return w.operator.Name != "" }

func (w who) actor() string {
	if w.isOperator() {
		return "operator:" + w.operator.Name
	}
	return "account:" + w.account.ID
}

// access says who may call a route.
type access int

const (
	operators access = iota
	anybodyKnown
)

// route registers one operation. In is the request body ({} for none), Out the response.
func route[In, Out any](a *API, pattern string, need access, f func(ctx context.Context, w who, r *http.Request, in In) (Out, error)) {
	a.mux.HandleFunc(pattern, func(rw http.ResponseWriter, r *http.Request) {
		out, err := serve(a, r, need, f)
		if err != nil {
			a.problem(rw, r, err)
			return
		}
		writeJSON(rw, http.StatusOK, "application/json", out)
	})
}

func serve[In, Out any](a *API, r *http.Request, need access, f func(ctx context.Context, w who, r *http.Request, in In) (Out, error)) (Out, error) {
	var out Out
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return out, bulkhead.NewFault(bulkhead.KindMalformed, "the request body could not be read").WithCause(err)
	}
	if len(body) > maxBody {
		return out, bulkhead.Faultf(bulkhead.KindMalformed, "the request body has more than %d octets", maxBody)
	}
	w, err := a.authenticate(r, body)
	if err != nil {
		return out, err
	}
	if need == operators && !w.isOperator() {
		return out, bulkhead.NewFault(bulkhead.KindForbidden, "this takes an operator").WithHint("sign the request with an operator key: --operator-key FILE")
	}
	var in In
	if len(body) > 0 {
		dec := json.NewDecoder(bytes.NewReader(body))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&in); err != nil {
			return out, bulkhead.NewFault(bulkhead.KindMalformed, "the request body is not what this call takes: "+err.Error()).WithCause(err)
		}
		if dec.More() {
			return out, bulkhead.NewFault(bulkhead.KindMalformed, "the request body has more than one JSON document")
		}
	}
	return f(r.Context(), w, r, in)
}

func (a *API) authenticate(r *http.Request, body []byte) (who, error) {
	header := r.Header.Get("Authorization")
	if token, ok := strings.CutPrefix(header, "Bearer "); ok {
		acct, err := a.cfg.Orders.AccountByToken(r.Context(), token)
		return who{account: acct}, err
	}
	op, err := a.cfg.Quorum.Authenticate(r.Context(), header, r.Method, r.URL.RequestURI(), body)
	return who{operator: op}, err
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	rw.Header().Set("Cache-Control", "no-store")
	if _, pattern := a.mux.Handler(r); pattern == "" {
		a.unknown(rw, r)
		return
	}
	a.mux.ServeHTTP(rw, r)
}

// unknown tells a wrong method from a wrong path.
func (a *API) unknown(rw http.ResponseWriter, r *http.Request) {
	var allow []string
	for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		probe := r.Clone(r.Context())
		probe.Method = m
		if _, pattern := a.mux.Handler(probe); pattern != "" {
			allow = append(allow, m)
		}
	}
	if len(allow) == 0 {
		a.problem(rw, r, bulkhead.Faultf(bulkhead.KindNotFound, "there is nothing at %s", r.URL.Path))
		return
	}
	rw.Header().Set("Allow", strings.Join(allow, ", "))
	writeJSON(rw, http.StatusMethodNotAllowed, "application/problem+json", problem{Type: "about:blank", Title: "Method Not Allowed",
		Status: http.StatusMethodNotAllowed, Detail: r.Method + " is not for " + r.URL.Path})
}

// problem is RFC 9457 with the next step beside it.
type problem struct {
	Type        string       `json:"type"`
	Title       string       `json:"title"`
	Status      int          `json:"status"`
	Detail      string       `json:"detail"`
	Hint        string       `json:"hint,omitempty"`
	Change      string       `json:"change,omitempty"`
	Subproblems []subproblem `json:"subproblems,omitempty"`
}

type subproblem struct {
	Type       string              `json:"type"`
	Detail     string              `json:"detail"`
	Identifier bulkhead.Identifier `json:"identifier"`
}

// ProblemType is the URI of a kind in problem documents.
func ProblemType(k bulkhead.Kind) string { return "urn:bulkhead:problem:" + string(k) }

// HTTPStatus maps every kind to a status code; 0 never happens for a kind in bulkhead.Kinds.
func HTTPStatus(k bulkhead.Kind) int {
	switch k {
	case bulkhead.KindMalformed, bulkhead.KindUsage, bulkhead.KindBadCSR, bulkhead.KindBadNonce, bulkhead.KindBadPublicKey,
		bulkhead.KindBadRevocationReason, bulkhead.KindBadSignatureAlgorithm, bulkhead.KindCompound, bulkhead.KindInvalidContact,
		bulkhead.KindInvalidProfile, bulkhead.KindRejectedIdentifier, bulkhead.KindUnsupportedContact, bulkhead.KindUnsupportedIdentifier,
		bulkhead.KindConnection, bulkhead.KindDNS, bulkhead.KindTLS, bulkhead.KindIncorrectResponse, bulkhead.KindAccountDoesNotExist:
		return http.StatusBadRequest
	case bulkhead.KindUnauthorized, bulkhead.KindExternalAccountRequired:
		return http.StatusUnauthorized
	case bulkhead.KindForbidden, bulkhead.KindCAA, bulkhead.KindOrderNotReady, bulkhead.KindUserActionRequired:
		return http.StatusForbidden
	case bulkhead.KindNotFound:
		return http.StatusNotFound
	case bulkhead.KindConflict, bulkhead.KindAlreadyReplaced, bulkhead.KindAlreadyRevoked, bulkhead.KindGate:
		return http.StatusConflict
	case bulkhead.KindRateLimited:
		return http.StatusTooManyRequests
	case bulkhead.KindStopped, bulkhead.KindUnavailable:
		return http.StatusServiceUnavailable
	case bulkhead.KindInternal:
		return http.StatusInternalServerError
	default:
		return 0
	}
}

func (a *API) problem(rw http.ResponseWriter, r *http.Request, err error) {
	f := bulkhead.AsFault(err)
	status := HTTPStatus(f.Kind)
	if status == 0 {
		status = http.StatusInternalServerError
	}
	if status >= 500 {
		a.cfg.Log.ErrorContext(r.Context(), "request failed", slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.String("error", err.Error()))
	}
	if f.RetryAfter > 0 {
		rw.Header().Set("Retry-After", strconv.Itoa(int(f.RetryAfter.Seconds()+0.5)))
	}
	p := problem{Type: ProblemType(f.Kind), Title: string(f.Kind), Status: status, Detail: f.Detail, Hint: f.Hint}
	var c changeError
	if errors.As(err, &c) {
		p.Change = c.change
	}
	for _, s := range f.Subs {
		p.Subproblems = append(p.Subproblems, subproblem{ProblemType(s.Kind), s.Detail, s.Identifier})
	}
	writeJSON(rw, status, "application/problem+json", p)
}

// changeError carries the id of a change that waits for people.
type changeError struct {
	error
	change string
}

func (e changeError) Unwrap() error { return e.error }

func writeJSON(rw http.ResponseWriter, status int, contentType string, v any) {
	rw.Header().Set("Content-Type", contentType)
	rw.Header().Set("X-Content-Type-Options", "nosniff")
	rw.WriteHeader(status)
	enc := json.NewEncoder(rw)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v) // the client is gone when this fails
}
