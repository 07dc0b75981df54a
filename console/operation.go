package console

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"strings"

	"bulkhead"
)

// access says who may call an operation.
type access int

const (
	operators    access = iota
	anybodyKnown        // operators and accounts
	partnersToo         // and people at registration partners
	partnersOnly
	anybody // without a login; served beside the API
)

// operation is one call of the API: who may call it, what it takes, what it does and, when it changes something, what
// it would do. In is the request body (none for none), Out the response.
type operation[In, Out any] struct {
	id      string // operationId of the OpenAPI document
	summary string
	access  access
	query   []parameter
	do      func(ctx context.Context, w who, r *http.Request, in In) (Out, error)
	// plan answers a dry run: the same checks and refusals as do, and no change. Every operation that is not a GET
	// has one.
	plan func(ctx context.Context, w who, r *http.Request, in In) (Plan, error)
}

// parameter is a query parameter.
type parameter struct {
	name, about string
	kind        reflect.Type // nil for text
	values      []string     // those allowed; empty for any
}

// description is an operation without its code.
type description struct {
	method, path, id, summary string
	access                    access
	query                     []parameter
	in, out                   reflect.Type
	changes                   bool
}

// Plan says what a call would do. Nothing was changed.
type Plan struct {
	DryRun     bool        `json:"dry_run"`     // always true
	Would      []string    `json:"would"`       // in the order in which it would happen
	NotChecked []string    `json:"not_checked"` // what only the call itself can tell
	Change     *ChangeView `json:"change,omitempty"`
}

// plan makes a Plan of what would happen.
func planOf(would ...string) Plan { return Plan{DryRun: true, Would: would, NotChecked: []string{}} }

func (p Plan) butNot(unchecked ...string) Plan {
	p.NotChecked = append(p.NotChecked, unchecked...)
	return p
}

// route registers one operation.
func route[In, Out any](a *API, pattern string, op operation[In, Out]) {
	method, path, _ := strings.Cut(pattern, " ")
	a.operations = append(a.operations, description{method: method, path: path, id: op.id, summary: op.summary, access: op.access, query: op.query,
		in: reflect.TypeFor[In](), out: reflect.TypeFor[Out](), changes: op.plan != nil})
	a.mux.HandleFunc(pattern, func(rw http.ResponseWriter, r *http.Request) {
		x, err := serve(a, r, op)
		if err != nil {
			x = a.refusal(r, err)
		}
		x.write(rw)
	})
}

func serve[In, Out any](a *API, r *http.Request, op operation[In, Out]) (*answer, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, bulkhead.NewFault(bulkhead.KindMalformed, "the request body could not be read").WithCause(err)
	}
	if len(body) > maxBody {
		return nil, bulkhead.Faultf(bulkhead.KindMalformed, "the request body has more than %d octets", maxBody)
	}
	w, err := a.authenticate(r, body)
	if err != nil {
		return nil, err
	}
	switch {
	case op.access == partnersOnly && !w.isPartner(), op.access != partnersOnly && op.access != partnersToo && w.isPartner():
		return nil, bulkhead.NewFault(bulkhead.KindForbidden, "this is not for whoever asks: people at registration partners have calls of their own").WithHint("see /api/v1/openapi.json")
	case op.access == operators && !w.isOperator():
		return nil, bulkhead.NewFault(bulkhead.KindForbidden, "this takes an operator").WithHint("sign the request with an operator key: --operator-key FILE")
	}
	if op.plan != nil {
		if err := mayCall(w, op.id); err != nil {
			return nil, err
		}
	}
	asked, dry := body, false
	if op.plan != nil {
		if dry, body, err = takeDryRun(r, body); err != nil {
			return nil, err
		}
	}
	var in In
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	if dry {
		return given(op.plan(r.Context(), w, r, in))
	}
	if key := r.Header.Values(idempotencyHeader); len(key) > 0 && op.plan != nil {
		return a.once(r, w, key, asked, func(ctx context.Context) *answer {
			x, err := given(op.do(ctx, w, r.WithContext(ctx), in))
			if err != nil {
				x = a.refusal(r, err)
			}
			return x
		})
	}
	return given(op.do(r.Context(), w, r, in))
}

// given makes the answer of what an operation returned.
func given[T any](v T, err error) (*answer, error) {
	if err != nil {
		return nil, err
	}
	return &answer{status: http.StatusOK, contentType: jsonType, body: encode(v)}, nil
}

// decode reads one JSON document strictly; no body is the zero value.
func decode(body []byte, in any) error {
	if len(body) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(in); err != nil {
		return bulkhead.NewFault(bulkhead.KindMalformed, "the request body is not what this call takes: "+err.Error()).WithHint("see /api/v1/openapi.json").WithCause(err)
	}
	if dec.More() {
		return bulkhead.NewFault(bulkhead.KindMalformed, "the request body has more than one JSON document")
	}
	return nil
}

// takeDryRun finds dry_run in the query or in the body, and takes it out of the body. Either of them makes a dry run.
func takeDryRun(r *http.Request, body []byte) (dry bool, rest []byte, err error) {
	wrong := bulkhead.NewFault(bulkhead.KindMalformed, "dry_run is true or false")
	switch r.URL.Query().Get("dry_run") {
	case "":
	case "true", "1":
		dry = true
	case "false", "0":
	default:
		return false, nil, wrong
	}
	var members map[string]json.RawMessage
	if len(body) == 0 || json.Unmarshal(body, &members) != nil {
		return dry, body, nil // what is wrong with it is said where it is decoded
	}
	raw, ok := members["dry_run"]
	if !ok {
		return dry, body, nil
	}
	var inBody bool
	if json.Unmarshal(raw, &inBody) != nil || string(raw) == "null" {
		return false, nil, wrong
	}
	delete(members, "dry_run")
	rest, err = json.Marshal(members)
	return dry || inBody, rest, err
}
