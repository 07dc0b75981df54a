package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"bulkhead"
)

// maxBody bounds a request body: a CSR with a hundred names has some ten thousand octets.
const maxBody = 1 << 20

// Config wires the API to the compartments. All ports are required.
type Config struct {
	Alarms    Alarms
	Explainer Explainer

	Desk        Desk
	Looks       Looks
	Adviser     Adviser
	Sightings   Sightings
	Reports     Reports
	Notices     Notices
	Inventory   Inventory
	Orders      Orders
	Changes     Changes
	Quorum      Quorum
	Hierarchy   Hierarchy
	Endings     Endings
	Doctor      Doctor
	Replies     Replies
	Profiles    Profiles
	Rehearsal   Rehearsal
	Admission   Admission
	Retention   Retention
	Offline     Offline
	Issuance    Issuance
	Compromises Compromises
	Credentials Credentials
	Partners    Partners
	SignIn      SignIn
	Version     string
	Now         func() time.Time
	Log         *slog.Logger
}

// API serves /api/v1.
type API struct {
	cfg        Config
	mux        *http.ServeMux
	operations []description
	document   []byte // OpenAPI

	mu     sync.Mutex // guards forget
	forget time.Time  // when expired replies were last deleted
}

// New checks the configuration.
func New(cfg Config) (*API, error) {
	if cfg.Inventory == nil || cfg.Orders == nil || cfg.Changes == nil || cfg.Quorum == nil || cfg.Hierarchy == nil || cfg.Endings == nil || cfg.Doctor == nil ||
		cfg.Replies == nil || cfg.Admission == nil || cfg.Retention == nil || cfg.Issuance == nil || cfg.Compromises == nil || cfg.Credentials == nil || cfg.Partners == nil || cfg.Profiles == nil || cfg.Rehearsal.Orders == nil || cfg.Rehearsal.Quorum == nil || cfg.Rehearsal.Hierarchy == nil {
		return nil, fmt.Errorf("console: every port is required")
	}
	if cfg.Desk == nil || cfg.Looks == nil || cfg.Adviser == nil || cfg.Sightings == nil || cfg.Reports == nil || cfg.Notices == nil {
		return nil, fmt.Errorf("console: the desk, looks, advice, sightings, reports and notices are required")
	}
	if cfg.Alarms == nil || cfg.Explainer == nil || cfg.SignIn == nil {
		return nil, fmt.Errorf("console: every port is required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return build(cfg)
}

// build registers every route and describes them.
func build(cfg Config) (*API, error) {
	a := &API{cfg: cfg, mux: http.NewServeMux()}
	a.routes()
	var err error
	if a.document, err = openAPI(a.operations); err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	a.mux.HandleFunc("GET "+openAPIPath, func(rw http.ResponseWriter, _ *http.Request) {
		(&answer{status: http.StatusOK, contentType: jsonType, body: a.document}).write(rw)
	})
	return a, nil
}

// who is the authenticated asker of a request: an operator, or an account.
type who struct {
	operator bulkhead.Operator
	account  bulkhead.Account
	person   bulkhead.PartnerPerson // at a registration partner
}

func (w who) isPartner() bool { return w.person.Partner != "" }

// restrict keeps everybody but operators to their own certificates.
func (w who) restrict(f *bulkhead.CertificateFilter) {
	switch {
	case w.isOperator():
	case w.isPartner():
		f.Partner = w.person.Partner
	default:
		f.AccountID = w.account.ID
	}
}

func (w who) isOperator() bool { return w.operator.Name != "" }

func (w who) actor() string {
	if w.isOperator() {
		return "operator:" + w.operator.Name
	}
	if w.isPartner() {
		return w.person.Actor()
	}
	return "account:" + w.account.ID
}

func (a *API) authenticate(r *http.Request, body []byte) (who, error) {
	header := r.Header.Get("Authorization")
	if token, ok := strings.CutPrefix(header, "Bearer "); ok && strings.HasPrefix(token, personTokenPrefix) {
		person, err := a.cfg.Partners.PersonByToken(r.Context(), token)
		return who{person: person}, err
	} else if ok {
		acct, err := a.cfg.Orders.AccountByToken(r.Context(), token)
		return who{account: acct}, err
	}
	if header == "" && a.cfg.SignIn.Present(r) {
		op, err := a.cfg.SignIn.Authenticate(r)
		return who{operator: op}, err
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
		a.refusal(r, bulkhead.Faultf(bulkhead.KindNotFound, "there is nothing at %s", r.URL.Path)).write(rw)
		return
	}
	rw.Header().Set("Allow", strings.Join(allow, ", "))
	p := problem{Type: "about:blank", Title: "Method Not Allowed", Status: http.StatusMethodNotAllowed, Detail: r.Method + " is not for " + r.URL.Path}
	(&answer{status: p.Status, contentType: problemType, body: encode(p)}).write(rw)
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

// refusal is the answer to a request that failed, and a line in the log when that is our own fault.
func (a *API) refusal(r *http.Request, err error) *answer {
	f := bulkhead.AsFault(err)
	status := HTTPStatus(f.Kind)
	if status == 0 {
		status = http.StatusInternalServerError
	}
	if status >= 500 {
		a.cfg.Log.ErrorContext(r.Context(), "request failed", slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.String("error", err.Error()))
	}
	p := problem{Type: ProblemType(f.Kind), Title: string(f.Kind), Status: status, Detail: f.Detail, Hint: f.Hint}
	var c changeError
	if errors.As(err, &c) {
		p.Change = c.change
	}
	for _, s := range f.Subs {
		p.Subproblems = append(p.Subproblems, subproblem{ProblemType(s.Kind), s.Detail, s.Identifier})
	}
	return &answer{status: status, contentType: problemType, body: encode(p), retryAfter: f.RetryAfter}
}

// changeError carries the id of a change that waits for people.
type changeError struct {
	error
	change string
}

func (e changeError) Unwrap() error { return e.error }

const (
	jsonType    = "application/json"
	problemType = "application/problem+json"
)

// answer is a response before it is written.
type answer struct {
	status      int
	contentType string
	body        []byte
	retryAfter  time.Duration
	replayed    bool // the answer of an earlier request with the same idempotency key
}

func (x *answer) write(rw http.ResponseWriter) {
	h := rw.Header()
	h.Set("Content-Type", x.contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	if x.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(x.retryAfter.Seconds()+0.5)))
	}
	if x.replayed {
		h.Set("Idempotency-Replayed", "true")
	}
	rw.WriteHeader(x.status)
	_, _ = rw.Write(x.body) // the client is gone when this fails
}

// encode writes a document of this package's own types, which always have a JSON form.
func encode(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return []byte("{}\n")
	}
	return b.Bytes()
}
