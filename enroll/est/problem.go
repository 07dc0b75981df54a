package est

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/enroll"
)

// withStatus is a fault that has a status of its own on this surface.
type withStatus struct {
	error
	code int
}

func (e withStatus) Unwrap() error { return e.error }

func status(code int, err error) error { return withStatus{err, code} }

// unauthenticated refuses for want of credentials.
func unauthenticated(detail, hint string) error {
	return status(http.StatusUnauthorized, bulkhead.NewFault(bulkhead.KindUnauthorized, detail).WithHint(hint))
}

// pendingRetry is how soon a client should repeat a request whose order is still being worked on.
const pendingRetry = time.Minute

// refuse answers with an error: a status, and text for a person (RFC 7030 section 4.2.3).
func (s *Server) refuse(c *call, err error) {
	f := bulkhead.AsFault(err)
	code := statusOf(f.Kind)
	var own withStatus
	switch {
	case errors.Is(err, enroll.ErrPending):
		code = http.StatusAccepted
		f = bulkhead.NewFault(f.Kind, "the certificate is not ready yet").WithHint("repeat the same request after the time in Retry-After").WithRetry(pendingRetry)
	case errors.As(err, &own):
		code = own.code
	case code == 0:
		code = http.StatusInternalServerError
	}
	if code >= http.StatusInternalServerError && code != http.StatusNotImplemented {
		s.log.ErrorContext(c.r.Context(), "est request failed", "path", c.r.URL.Path, "error", err)
	} else {
		s.log.InfoContext(c.r.Context(), "est request refused", "path", c.r.URL.Path, "status", code, "kind", string(f.Kind), "detail", f.Detail)
	}
	h := c.w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	if code == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Basic realm="EST", charset="UTF-8"`)
	}
	if f.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((f.RetryAfter+time.Second-1)/time.Second), 10))
	}
	c.w.WriteHeader(code)
	var b strings.Builder
	fmt.Fprintln(&b, f.Detail)
	if len(f.Subs) > 1 {
		for _, x := range f.Subs {
			fmt.Fprintf(&b, "  %s: %s\n", x.Identifier.Value, x.Detail)
		}
	}
	if f.Hint != "" {
		fmt.Fprintln(&b, "next:", f.Hint)
	}
	_, _ = c.w.Write([]byte(b.String())) // a client that went away is no error of ours
}
