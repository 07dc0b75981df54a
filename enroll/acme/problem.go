package acme

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"bulkhead"
)

const errorSpace = "urn:ietf:params:acme:error:"

// Faults of the HTTP layer that have a status of their own.
var (
	errContentType = errors.New("the content type of a signed request is application/jose+json")
	errTooLarge    = errors.New("the request body is too large")
)

// meaning is what a kind is to an ACME client.
type meaning struct {
	name   string // RFC 8555 section 6.7, RFC 9773 section 7, profiles draft
	status int
}

// meanings maps every kind once; a test walks bulkhead.Kinds over it.
var meanings = map[bulkhead.Kind]meaning{
	bulkhead.KindMalformed:               {"malformed", http.StatusBadRequest},
	bulkhead.KindUsage:                   {"malformed", http.StatusBadRequest},
	bulkhead.KindUnauthorized:            {"unauthorized", http.StatusUnauthorized},
	bulkhead.KindForbidden:               {"unauthorized", http.StatusForbidden},
	bulkhead.KindNotFound:                {"malformed", http.StatusNotFound},
	bulkhead.KindConflict:                {"malformed", http.StatusConflict},
	bulkhead.KindGate:                    {"unauthorized", http.StatusForbidden},
	bulkhead.KindStopped:                 {"serverInternal", http.StatusServiceUnavailable},
	bulkhead.KindRateLimited:             {"rateLimited", http.StatusTooManyRequests},
	bulkhead.KindUnavailable:             {"serverInternal", http.StatusServiceUnavailable},
	bulkhead.KindInternal:                {"serverInternal", http.StatusInternalServerError},
	bulkhead.KindAccountDoesNotExist:     {"accountDoesNotExist", http.StatusBadRequest},
	bulkhead.KindAlreadyReplaced:         {"alreadyReplaced", http.StatusConflict},
	bulkhead.KindAlreadyRevoked:          {"alreadyRevoked", http.StatusBadRequest},
	bulkhead.KindBadCSR:                  {"badCSR", http.StatusBadRequest},
	bulkhead.KindBadNonce:                {"badNonce", http.StatusBadRequest},
	bulkhead.KindBadPublicKey:            {"badPublicKey", http.StatusBadRequest},
	bulkhead.KindBadRevocationReason:     {"badRevocationReason", http.StatusBadRequest},
	bulkhead.KindBadSignatureAlgorithm:   {"badSignatureAlgorithm", http.StatusBadRequest},
	bulkhead.KindCAA:                     {"caa", http.StatusForbidden},
	bulkhead.KindCompound:                {"compound", http.StatusBadRequest},
	bulkhead.KindConnection:              {"connection", http.StatusBadRequest},
	bulkhead.KindDNS:                     {"dns", http.StatusBadRequest},
	bulkhead.KindExternalAccountRequired: {"externalAccountRequired", http.StatusUnauthorized},
	bulkhead.KindIncorrectResponse:       {"incorrectResponse", http.StatusForbidden},
	bulkhead.KindInvalidContact:          {"invalidContact", http.StatusBadRequest},
	bulkhead.KindInvalidProfile:          {"invalidProfile", http.StatusBadRequest},
	bulkhead.KindOrderNotReady:           {"orderNotReady", http.StatusForbidden},
	bulkhead.KindRejectedIdentifier:      {"rejectedIdentifier", http.StatusBadRequest},
	bulkhead.KindTLS:                     {"tls", http.StatusBadRequest},
	bulkhead.KindUnsupportedContact:      {"unsupportedContact", http.StatusBadRequest},
	bulkhead.KindUnsupportedIdentifier:   {"unsupportedIdentifier", http.StatusBadRequest},
	bulkhead.KindUserActionRequired:      {"userActionRequired", http.StatusForbidden},
}

// document is a problem document (RFC 7807, RFC 8555 section 6.7).
type document struct {
	Type        string               `json:"type"`
	Detail      string               `json:"detail"`
	Status      int                  `json:"status,omitempty"`
	Hint        string               `json:"hint,omitempty"`
	Algorithms  []string             `json:"algorithms,omitempty"`
	Identifier  *bulkhead.Identifier `json:"identifier,omitempty"`
	Subproblems []document           `json:"subproblems,omitempty"`
}

// documentOf renders a fault; status 0 leaves the member out, as inside other objects.
func documentOf(f *bulkhead.Fault, status int) *document {
	d := &document{Type: errorSpace + meanings[f.Kind].name, Detail: f.Detail, Status: status, Hint: f.Hint}
	if f.Kind == bulkhead.KindBadSignatureAlgorithm {
		for _, a := range algorithms {
			d.Algorithms = append(d.Algorithms, string(a))
		}
	}
	for _, sub := range f.Subs {
		d.Subproblems = append(d.Subproblems, document{Type: errorSpace + meanings[sub.Kind].name, Detail: sub.Detail, Identifier: &sub.Identifier})
	}
	return d
}

// problem answers with an error.
func (s *Server) problem(c *call, err error) {
	switch {
	case errors.Is(err, errContentType):
		s.writeProblem(c, malformed("%v", errContentType), http.StatusUnsupportedMediaType)
		return
	case errors.Is(err, errTooLarge):
		s.writeProblem(c, malformed("%v; at most %d bytes are read", errTooLarge, MaxBody), http.StatusRequestEntityTooLarge)
		return
	}
	f := bulkhead.AsFault(err)
	m, ok := meanings[f.Kind]
	if !ok {
		f, m = bulkhead.NewFault(bulkhead.KindInternal, "internal error; the log has the cause"), meanings[bulkhead.KindInternal]
	}
	if m.status >= http.StatusInternalServerError {
		s.log.ErrorContext(c.ctx(), "acme request failed", "path", c.r.URL.Path, "error", err)
	} else {
		s.log.InfoContext(c.ctx(), "acme request refused", "path", c.r.URL.Path, "kind", string(f.Kind), "detail", f.Detail)
	}
	s.writeProblem(c, f, m.status)
}

func (s *Server) writeProblem(c *call, f *bulkhead.Fault, status int) {
	h := c.w.Header()
	h.Set("Content-Type", "application/problem+json")
	if f.RetryAfter > 0 {
		h.Set("Retry-After", seconds(f.RetryAfter))
	}
	if f.Kind == bulkhead.KindRateLimited { // RFC 8555 section 6.6
		c.link(c.url("limits"), "help")
	}
	if f.Kind == bulkhead.KindUserActionRequired && s.cfg.TermsOfService != "" {
		c.link(s.cfg.TermsOfService, "terms-of-service")
	}
	c.w.WriteHeader(status)
	if c.r.Method == http.MethodHead {
		return
	}
	if err := json.NewEncoder(c.w).Encode(documentOf(f, status)); err != nil {
		s.log.DebugContext(c.ctx(), "writing a problem document", "error", err)
	}
}

// seconds renders a duration for Retry-After, rounded up.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}
