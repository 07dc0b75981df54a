package console

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"bulkhead"
)

// Reports writes incident reports from the record and keeps what only people know.
type Reports interface {
	// CheckField says what SetField would keep, or why it would refuse.
	CheckField(ctx context.Context, id, field, text string, confirm bool) (string, error)
	// SetField keeps a text of a person's own, or, with confirm, that a person stands behind what the record says.
	SetField(ctx context.Context, actor, id, field, text string, confirm bool) (bulkhead.IncidentField, error)
	Fields(ctx context.Context, id string) ([]bulkhead.IncidentField, error)
	Report(ctx context.Context, id string, q bulkhead.ReportRequest) (bulkhead.IncidentReport, error)
	// MassPlan writes the plan for mass revocation (BR 5.7.1.2).
	MassPlan(ctx context.Context, language string) (bulkhead.IncidentReport, error)
	Appendix(ctx context.Context, id string, after int64, limit int) (bulkhead.AppendixPage, error)
}

func (a *API) reportRoutes() {
	route(a, "GET /api/v1/incidents/{id}/fields", operation[none, FieldList]{id: "incidentFields", summary: "what people wrote for the reports of an incident", do: a.fields})
	route(a, "POST /api/v1/incidents/{id}/fields", operation[FieldRequest, FieldView]{id: "setIncidentField", summary: "set a field of the reports, or confirm what was computed for it", do: a.setField, plan: a.planField})
	route(a, "GET /api/v1/incidents/{id}/report", operation[none, bulkhead.IncidentReport]{id: "incidentReport", summary: "a report by the CCADB's template, with every gap and the command that closes it", do: a.report,
		query: []parameter{{name: "kind", about: "which report", values: []string{"preliminary", "full", "delay", "closure"}}, {name: "language", about: "of the labels", values: []string{"en", "ja"}},
			{name: "proof_path", about: "where the document of audit prove lies"}, {name: "proof", about: "SHA-256 of that document"}}})
	route(a, "GET /api/v1/reports/mass-revocation-plan", operation[none, bulkhead.IncidentReport]{id: "massRevocationPlan", summary: "the plan for mass revocation (BR 5.7.1.2), with what is missing in it", do: a.massPlan,
		query: []parameter{{name: "language", about: "of the plan", values: []string{"en", "ja"}}}})
	route(a, "GET /api/v1/incidents/{id}/appendix", operation[none, bulkhead.AppendixPage]{id: "incidentAppendix", summary: "the certificates of an incident in the columns of the appendix", do: a.appendix,
		query: []parameter{{name: "after", about: "next of the page before", kind: reflect.TypeFor[int]()}, {name: "limit", about: "rows of a page, 1 to 1000; default 100", kind: reflect.TypeFor[int]()}}})
}

func (a *API) massPlan(ctx context.Context, _ who, r *http.Request, _ none) (bulkhead.IncidentReport, error) {
	return a.cfg.Reports.MassPlan(ctx, r.URL.Query().Get("language"))
}

// FieldList is what people wrote.
type FieldList struct {
	Fields []FieldView `json:"fields"`
}

// FieldView is the newest text of one field; leaf has its digest.
type FieldView struct {
	Field  string    `json:"field"`
	Number int       `json:"number"` // how often it was set
	Text   string    `json:"text"`
	Actor  string    `json:"actor"`
	At     time.Time `json:"at"`
	Leaf   int64     `json:"leaf"`
}

func fieldView(f bulkhead.IncidentField) FieldView {
	return FieldView{Field: f.Field, Number: f.Number, Text: f.Text, Actor: f.Actor, At: f.At, Leaf: f.LogIndex}
}

func (a *API) fields(ctx context.Context, _ who, r *http.Request, _ none) (FieldList, error) {
	all, err := a.cfg.Reports.Fields(ctx, r.PathValue("id"))
	out := FieldList{Fields: []FieldView{}}
	for _, f := range all {
		out.Fields = append(out.Fields, fieldView(f))
	}
	return out, err
}

// FieldRequest sets a field.
type FieldRequest struct {
	Field   string `json:"field"`
	Text    string `json:"text,omitempty"`
	Confirm bool   `json:"confirm,omitempty"` // in place of a text: what the record says is right
}

func (a *API) setField(ctx context.Context, w who, r *http.Request, in FieldRequest) (FieldView, error) {
	f, err := a.cfg.Reports.SetField(ctx, w.actor(), r.PathValue("id"), in.Field, in.Text, in.Confirm)
	return fieldView(f), err
}

func (a *API) planField(ctx context.Context, _ who, r *http.Request, in FieldRequest) (Plan, error) {
	text, err := a.cfg.Reports.CheckField(ctx, r.PathValue("id"), in.Field, in.Text, in.Confirm)
	if err != nil {
		return Plan{}, err
	}
	return planOf(fmt.Sprintf("keep as %s of incident %s: %s", in.Field, r.PathValue("id"), text)), nil
}

func (a *API) report(ctx context.Context, _ who, r *http.Request, _ none) (bulkhead.IncidentReport, error) {
	q := r.URL.Query()
	req := bulkhead.ReportRequest{Kind: q.Get("kind"), Language: q.Get("language"), ProofPath: q.Get("proof_path")}
	if req.ProofPath != "" {
		var err error
		if req.Proof, err = bulkhead.ParseHash(q.Get("proof")); err != nil {
			return bulkhead.IncidentReport{}, err
		}
	}
	return a.cfg.Reports.Report(ctx, r.PathValue("id"), req)
}

func (a *API) appendix(ctx context.Context, _ who, r *http.Request, _ none) (bulkhead.AppendixPage, error) {
	limit, err := limitOf(r, 1000)
	if err != nil {
		return bulkhead.AppendixPage{}, err
	}
	var after int64
	if text := r.URL.Query().Get("after"); text != "" {
		if after, err = strconv.ParseInt(text, 10, 64); err != nil || after < 0 {
			return bulkhead.AppendixPage{}, bulkhead.Faultf(bulkhead.KindMalformed, "after is %q, not a number", text)
		}
	}
	return a.cfg.Reports.Appendix(ctx, r.PathValue("id"), after, limit)
}
