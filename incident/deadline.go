package incident

import (
	"context"
	"fmt"
	"time"

	"bulkhead"
	"bulkhead/pki/policy"
)

// objectReport marks deadlines of paper.
const objectReport = "report"

// Deadlines are the dates that dated policy sets for an incident: to revoke, by kind of certificate, and to report. They
// are rows of the incident's own, so that a later change of the table does not move them.
func Deadlines(i bulkhead.Incident) []bulkhead.Deadline {
	var out []bulkhead.Deadline
	for _, of := range []policy.ObjectType{policy.Subscriber, policy.ShortLife, policy.CA} {
		d := bulkhead.Deadline{Object: string(of)}
		if r, ok := policy.DeadlineRow(of, policy.Cause(i.Cause), i.AwareAt); ok {
			d.Row, d.Rule, d.Source, d.Due = r.ID, inWords(r), r.Source, r.Value.After(i.AwareAt)
		} else {
			d.Rule = "no duty to revoke: short-lived"
		}
		out = append(out, d)
	}
	reports := []string{policy.IncidentFirst, policy.IncidentFull}
	if i.Source == bulkhead.SourceReport {
		reports = append([]string{policy.ProblemReport}, reports...)
	}
	for _, id := range reports {
		if r, ok := policy.At(id, i.AwareAt); ok {
			out = append(out, bulkhead.Deadline{Object: objectReport, Row: r.ID, Rule: inWords(r), Source: r.Source, Due: r.Value.After(i.AwareAt)})
		}
	}
	return out
}

// inWords is a rule as a document has it: "revoke within 24 h".
func inWords(r policy.Row) string { return r.Rule + " " + r.Value.String() }

// deadlineOf is when a certificate of the incident must be revoked; zero where nobody must.
func deadlineOf(i bulkhead.Incident, c bulkhead.Certificate) time.Time {
	of := policy.TypeOf(c.NotBefore, c.NotAfter)
	if c.Kind == bulkhead.CACertificate {
		of = policy.CA
	}
	for _, d := range i.Deadlines {
		if d.Object == string(of) {
			return d.Due
		}
	}
	return time.Time{}
}

// lead is how long before a deadline a delay is put on record: the report must be out when the deadline is missed.
func lead(i bulkhead.Incident, due time.Time) time.Duration { return due.Sub(i.AwareAt) / 12 }

// Watch looks at the clocks of every open incident: where a deadline will be missed, a record of the delay is opened, once,
// by itself.
func (s *Service) Watch(ctx context.Context) error {
	all, err := s.cfg.Store.Incidents(ctx, 1000, bulkhead.IncidentOpen)
	if err != nil {
		return err
	}
	for _, i := range all {
		if i.Kind != bulkhead.GeneralIncident {
			continue
		}
		if err := s.watchDeadlines(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) watchDeadlines(ctx context.Context, i bulkhead.Incident) error {
	now := s.now()
	var near []bulkhead.Deadline
	for _, d := range i.Deadlines {
		if d.Row != "" && d.Object != objectReport && !now.Before(d.Due.Add(-lead(i, d.Due))) {
			near = append(near, d)
		}
	}
	if len(near) == 0 {
		return nil
	}
	t, err := s.cfg.Store.TallyIncident(ctx, i.ID, now)
	if err != nil || t.Live == 0 {
		return err
	}
	for _, d := range near {
		late, why, err := s.willMiss(ctx, i, d, t)
		if err != nil {
			return err
		}
		if late > 0 {
			_, err := s.openDelay(ctx, i, d, late, why)
			return err
		}
	}
	return nil
}

// willMiss counts what will not be revoked by a deadline that is near. The deadline clock of a running campaign revokes
// everything but what is held; without one, and after the deadline, everything that is live is late.
func (s *Service) willMiss(ctx context.Context, i bulkhead.Incident, d bulkhead.Deadline, t bulkhead.IncidentTally) (late int64, why string, err error) {
	ca := t.LiveByKind[bulkhead.CACertificate]
	if d.Object == string(policy.CA) {
		return ca, "certificates of authorities need a ceremony and are not revoked yet", nil
	}
	if d.Object == string(policy.ShortLife) {
		return 0, "", nil
	}
	live := t.Live - ca
	now := s.now()
	all, err := s.cfg.Store.Campaigns(ctx, 1000, bulkhead.CampaignRunning)
	if err != nil {
		return 0, "", err
	}
	for _, c := range all {
		if c.Incident == i.ID && now.Before(d.Due) && c.ForceAt.Before(d.Due) {
			held, err := s.heldLive(ctx, i.ID)
			return held, "on legal hold", err
		}
	}
	return live, "not revoked, and no campaign that revokes them in time is running", nil
}

// heldLive counts certificates on hold that are not revoked.
func (s *Service) heldLive(ctx context.Context, id string) (n int64, err error) {
	var after int64
	for {
		rows, err := s.cfg.Store.IncidentItems(ctx, id, "", true, after, 1000)
		if err != nil || len(rows) == 0 {
			return n, err
		}
		for _, r := range rows {
			if after = r.Certificate.IntentSeq; r.Certificate.State == bulkhead.Issued && r.Certificate.NotAfter.After(s.now()) {
				n++
			}
		}
	}
}

// openDelay opens the record of a delay; a second one for the same incident is not opened.
func (s *Service) openDelay(ctx context.Context, i bulkhead.Incident, d bulkhead.Deadline, late int64, why string) (bulkhead.Incident, error) {
	id, err := s.newID()
	if err != nil {
		return bulkhead.Incident{}, err
	}
	now := s.now()
	r := bulkhead.Incident{ID: id, Kind: bulkhead.DelayedRevocation, Parent: i.ID, State: bulkhead.IncidentOpen, Source: bulkhead.SourceDeadline, SourceRef: d.Row, Cause: i.Cause, Reason: i.Reason,
		Title:   fmt.Sprintf("delayed revocation: %d certificates of incident %s after %s (%s)", late, i.ID, utc(d.Due), d.Source),
		AwareAt: now, OpenedAt: now, Actor: "role:incident", Duties: i.Duties, Scope: i.Scope}
	for _, row := range []string{policy.DelayUpdateShould, policy.DelayUpdate} {
		if x, ok := policy.At(row, now); ok {
			r.Deadlines = append(r.Deadlines, bulkhead.Deadline{Object: objectReport, Row: x.ID, Rule: inWords(x), Source: x.Source, Due: x.Value.After(now)})
		}
	}
	ev := s.leaf(bulkhead.EvIncidentDelayed, id, "role:incident", fmt.Sprintf("incident %s: %d certificates will not be revoked by %s (%s): %s", i.ID, late, utc(d.Due), d.Row, why))
	ev.Count = late
	err = s.cfg.Store.CreateIncident(ctx, r, ev)
	if bulkhead.KindOf(err) == bulkhead.KindConflict {
		return bulkhead.Incident{}, nil // it is open already
	}
	if err == nil {
		s.cfg.Alarm(ctx, bulkhead.Alarm{Detector: "incident", Key: "delayed/" + i.ID, Severity: bulkhead.Critical, FirstAt: now, LastAt: now, Count: 1, Runbook: "deadline-at-risk.md",
			Message: r.Title + ": " + why + "; a separate report is due, record " + id})
	}
	return r, err
}
