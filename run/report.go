package run

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/incident/report"
)

// ReportStore is the durable record as reports need it, beside what the desk has.
type ReportStore interface {
	PutIncidentField(ctx context.Context, f bulkhead.IncidentField, ev bulkhead.Evidence) (bulkhead.IncidentField, error)
	IncidentFields(ctx context.Context, incident string) ([]bulkhead.IncidentField, error)
}

var ccadbID = regexp.MustCompile(`^A[0-9]{6,}$`)

// reports writes reports from the record. It implements console.Reports.
type reports struct{ h *House }

const (
	reportPage = 1000
	curveSteps = 200 // points of a curve at most: more than a drawing can show
)

// Columns is the header of the appendix.
func (reports) Columns() []string { return report.Columns }

// CheckField says whether SetField would refuse, and which text it would keep.
func (r reports) CheckField(ctx context.Context, id, field, text string, confirm bool) (string, error) {
	i, err := r.h.store.Incident(ctx, id)
	if err != nil {
		return "", err
	}
	if !confirm {
		return text, report.CheckField(field, text)
	}
	if text != "" {
		return "", bulkhead.NewFault(bulkhead.KindUsage, "to confirm and to write a text of one's own exclude one another").WithHint("bulkhead incident set " + id + " " + field + " --confirm")
	}
	d, err := r.document(ctx, i, bulkhead.ReportRequest{})
	if err != nil {
		return "", err
	}
	value, ok := d.Computed(field)
	if !ok || value == "" {
		return "", bulkhead.Faultf(bulkhead.KindUsage, "the record has no value of %q to confirm", field).WithHint("bulkhead incident set " + id + " " + field + " TEXT")
	}
	return report.Confirm(value), nil
}

// SetField keeps what a person wrote for a field, or confirmed of what the record says, with its leaf.
func (r reports) SetField(ctx context.Context, actor, id, field, text string, confirm bool) (bulkhead.IncidentField, error) {
	text, err := r.CheckField(ctx, id, field, text, confirm)
	if err != nil {
		return bulkhead.IncidentField{}, err
	}
	now := r.h.now().UTC().Truncate(time.Second)
	return r.h.store.PutIncidentField(ctx, bulkhead.IncidentField{Incident: id, Field: field, Text: text, Actor: actor, At: now},
		bulkhead.Evidence{Kind: bulkhead.EvIncidentField, At: r.h.now().UTC(), Actor: actor, Ref: id, Digest: bulkhead.Digest([]byte(text)), Detail: field})
}

// Fields returns what people wrote.
func (r reports) Fields(ctx context.Context, id string) ([]bulkhead.IncidentField, error) {
	if _, err := r.h.store.Incident(ctx, id); err != nil {
		return nil, err
	}
	return r.h.store.IncidentFields(ctx, id)
}

// Report writes one report as the record has it now. Nothing is changed by it.
func (r reports) Report(ctx context.Context, id string, q bulkhead.ReportRequest) (bulkhead.IncidentReport, error) {
	i, err := r.h.store.Incident(ctx, id)
	if err != nil {
		return bulkhead.IncidentReport{}, err
	}
	d, err := r.document(ctx, i, q)
	if err != nil {
		return bulkhead.IncidentReport{}, err
	}
	out := bulkhead.IncidentReport{Incident: id, Kind: string(d.Kind), Language: d.Language, At: d.At, Markdown: report.Markdown(d), HTML: report.HTML(d), Pictures: report.Pictures(d), Rows: d.Rows,
		Missing: []bulkhead.ReportGap{}}
	for _, m := range report.Check(d) {
		out.Missing = append(out.Missing, bulkhead.ReportGap(m))
	}
	return out, nil
}

// subject is the incident whose certificates a report is about: a record of a delay speaks of those of its parent.
func subject(i bulkhead.Incident) string {
	if i.Kind == bulkhead.DelayedRevocation && i.Parent != "" {
		return i.Parent
	}
	return i.ID
}

// document gathers what the record knows.
func (r reports) document(ctx context.Context, i bulkhead.Incident, q bulkhead.ReportRequest) (d report.Document, err error) {
	if d.Kind, err = report.ParseKind(q.Kind); err != nil {
		return d, err
	}
	switch q.Language {
	case "", "en":
		d.Language = "en"
	case "ja":
		d.Language = "ja"
	default:
		return d, bulkhead.Faultf(bulkhead.KindUsage, "there is no language %q", q.Language).WithHint("--lang en or ja")
	}
	now := r.h.now().UTC().Truncate(time.Second)
	d.At, d.Incident = now, i
	d.House = report.House{Name: r.h.cfg.Organization, CCADB: r.h.cfg.Incident.CCADB, Origin: r.h.cfg.evidenceOrigin()}
	if q.ProofPath != "" {
		d.Proof = &report.Proof{Path: q.ProofPath, Digest: q.Proof}
	}
	if d.Tally, err = r.h.store.TallyIncident(ctx, subject(i), now); err != nil {
		return d, err
	}
	if d.Counts, err = r.h.store.ScopeCounts(ctx, subject(i)); err != nil {
		return d, err
	}
	fields, err := r.h.store.IncidentFields(ctx, i.ID)
	if err != nil {
		return d, err
	}
	d.Fields = map[string]report.Text{}
	for _, f := range fields {
		d.Fields[f.Field] = report.Text{Text: f.Text, Actor: f.Actor, At: f.At, LogIndex: f.LogIndex}
	}
	keys, err := offline(r).Keys(ctx)
	if err != nil {
		return d, err
	}
	for _, k := range keys {
		if strings.HasPrefix(k.Use, "authority ") {
			d.Keys = append(d.Keys, report.Key{Use: k.Use, Where: k.Where, Custodian: k.Custodian, Online: k.Online})
		}
	}
	if err := r.story(ctx, &d); err != nil {
		return d, err
	}
	if err := r.campaigns(ctx, &d); err != nil {
		return d, err
	}
	return d, r.certificates(ctx, &d)
}

// story takes the timeline, and out of it whether issuance stopped.
func (r reports) story(ctx context.Context, d *report.Document) error {
	entries, err := r.h.desk.Timeline(ctx, d.Incident.ID)
	for _, e := range entries {
		d.Timeline = append(d.Timeline, report.Moment{At: e.At, LogIndex: e.LogIndex, Element: e.Element, What: e.What})
		switch e.Kind {
		case bulkhead.EvStop:
			if d.Stop == nil {
				d.Stop = &report.Stop{StoppedAt: e.At, LogIndex: e.LogIndex, What: strings.TrimPrefix(e.What, "stop: ")}
			}
		case bulkhead.EvResume:
			if d.Stop != nil {
				d.Stop.ResumedAt = e.At
			}
		}
	}
	return err
}

func (r reports) campaigns(ctx context.Context, d *report.Document) error {
	all, err := r.h.store.Campaigns(ctx, 10_000)
	for _, c := range all {
		if c.Incident != subject(d.Incident) {
			continue
		}
		t, err := r.h.store.TallyCampaign(ctx, c.ID, d.At)
		if err != nil {
			return err
		}
		d.Campaigns = append(d.Campaigns, report.Campaign{ID: c.ID, State: c.State, Plan: c.PlanHash, Tally: t, Deadline: c.Deadline, ForceAt: c.ForceAt})
	}
	return err
}

// certificates goes through the set once: types by profile, first and last issue, last revocation, and the curve.
func (r reports) certificates(ctx context.Context, d *report.Document) error {
	types := map[string]string{} // by profile: it decides the policy OIDs
	d.Types = map[string]int64{}
	var replaced, revoked []time.Time
	err := r.each(ctx, subject(d.Incident), func(it bulkhead.IncidentItem) error {
		c := it.Certificate
		if _, seen := types[c.Profile]; !seen {
			_, der, err := r.h.store.Certificate(ctx, c.CertificateRef)
			if err != nil {
				return err
			}
			types[c.Profile] = report.Type(der)
		}
		d.Rows++
		d.Types[types[c.Profile]]++
		if d.FirstBad.IsZero() || c.ReservedAt.Before(d.FirstBad) {
			d.FirstBad = c.ReservedAt
		}
		if c.ReservedAt.After(d.LastBad) {
			d.LastBad = c.ReservedAt
		}
		if c.State == bulkhead.Revoked {
			revoked = append(revoked, c.RevokedAt)
			if c.RevokedAt.After(d.LastGone) {
				d.LastGone = c.RevokedAt
			}
		}
		if c.ReplacedBy != (bulkhead.CertificateRef{}) {
			n, _, err := r.h.store.Certificate(ctx, c.ReplacedBy)
			if err != nil && bulkhead.KindOf(err) != bulkhead.KindNotFound { // pruned by now: it counts as replaced, without a time
				return err
			}
			replaced = append(replaced, n.ReservedAt)
		}
		return nil
	})
	d.Curve = curve(replaced, revoked)
	return err
}

// each goes through the certificates of an incident in the order of issue.
func (r reports) each(ctx context.Context, id string, fn func(bulkhead.IncidentItem) error) error {
	var after int64
	for {
		rows, err := r.h.store.IncidentItems(ctx, id, "", false, after, reportPage)
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, it := range rows {
			after = it.Certificate.IntentSeq
			if err := fn(it); err != nil {
				return err
			}
		}
	}
}

// curve counts what had happened by each of the times, thinned to what a drawing can show. The last point is always there.
func curve(replaced, revoked []time.Time) []report.Progress {
	at := slices.Concat(replaced, revoked)
	for _, list := range [][]time.Time{at, replaced, revoked} {
		slices.SortFunc(list, time.Time.Compare)
	}
	step := max(1, (len(at)+curveSteps-1)/curveSteps)
	count := func(list []time.Time, t time.Time) int64 {
		n, _ := slices.BinarySearchFunc(list, t.Add(1), time.Time.Compare)
		return int64(n)
	}
	var out []report.Progress
	for i := step - 1; i < len(at)+step-1; i += step {
		t := at[min(i, len(at)-1)]
		if n := len(out); n > 0 && out[n-1].At.Equal(t) || t.IsZero() {
			continue
		}
		out = append(out, report.Progress{At: t, Replaced: count(replaced, t), Revoked: count(revoked, t)})
	}
	return out
}

// Appendix returns rows of the appendix after a certificate of the record.
func (r reports) Appendix(ctx context.Context, id string, after int64, limit int) (bulkhead.AppendixPage, error) {
	out := bulkhead.AppendixPage{Columns: report.Columns, Rows: [][]string{}}
	i, err := r.h.store.Incident(ctx, id)
	if err != nil {
		return out, err
	}
	items, err := r.h.store.IncidentItems(ctx, subject(i), "", false, after, limit)
	for _, it := range items {
		ref := it.Certificate.CertificateRef
		_, der, err := r.h.store.Certificate(ctx, ref)
		if err != nil {
			return out, err
		}
		pre, err := r.h.store.Precertificate(ctx, ref)
		if err != nil && bulkhead.KindOf(err) != bulkhead.KindNotFound {
			return out, err
		}
		v, err := r.revocation(ctx, i, it)
		if err != nil {
			return out, err
		}
		row, err := report.Row(pre, der, v)
		if err != nil {
			return out, err
		}
		out.Rows = append(out.Rows, report.Safe(row))
		out.Next = it.Certificate.IntentSeq
	}
	if len(items) < limit {
		out.Next = 0
	}
	return out, err
}

// revocation is what the appendix says: revoked, planned for a date, delayed by a hold or past its deadline, or nothing.
func (r reports) revocation(ctx context.Context, i bulkhead.Incident, it bulkhead.IncidentItem) (report.Revocation, error) {
	c, now := it.Certificate, r.h.now()
	if c.State == bulkhead.Revoked {
		return report.Revocation{State: "Yes", At: c.RevokedAt, Reason: c.Reason}, nil
	}
	none := report.Revocation{State: "N/A"}
	if c.NotAfter.Before(now) {
		return none, nil
	}
	if it.HeldWhy != "" {
		return report.Revocation{State: "Delayed", Reason: i.Reason}, nil
	}
	_, item, err := r.h.store.MembershipOf(ctx, c.CertificateRef)
	if bulkhead.KindOf(err) == bulkhead.KindNotFound {
		return none, nil
	}
	if err != nil {
		return none, err
	}
	state := "Planned"
	if !item.Deadline.IsZero() && item.RevokeAt.After(item.Deadline) {
		state = "Delayed"
	}
	return report.Revocation{State: state, At: item.RevokeAt, Reason: i.Reason}, nil
}
