package incident

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/pki/policy"
)

// Intake is what is known when an incident is opened.
type Intake = bulkhead.IncidentIntake

// draft checks an intake and fills an incident.
func (s *Service) draft(actor string, in Intake) (bulkhead.Incident, error) {
	now := s.now()
	i := bulkhead.Incident{Kind: bulkhead.GeneralIncident, Parent: in.Corrects, State: bulkhead.IncidentOpen, Title: strings.TrimSpace(in.Title), Source: in.Source, SourceRef: in.SourceRef,
		Playbook: in.Playbook, Cause: in.Cause, AwareAt: in.AwareAt.UTC().Truncate(time.Second), OpenedAt: now, Actor: actor, Scope: in.Scope}
	if i.Title == "" {
		return i, bulkhead.NewFault(bulkhead.KindUsage, "an incident needs a title: one sentence that says what is wrong").WithHint("bulkhead incident open --title TEXT")
	}
	if i.Source == "" {
		i.Source = bulkhead.SourceOperator
	}
	if !slices.Contains([]bulkhead.IncidentSource{bulkhead.SourceOperator, bulkhead.SourceReport, bulkhead.SourceAlarm, bulkhead.SourceDeadline}, i.Source) {
		return i, bulkhead.Faultf(bulkhead.KindUsage, "there is no source %q", i.Source).WithHint("operator, problem-report or alarm")
	}
	if in.AwareAt.IsZero() {
		i.AwareAt = now
	}
	if i.AwareAt.After(now) {
		return i, bulkhead.Faultf(bulkhead.KindUsage, "nobody becomes aware of something in the future (%s)", utc(i.AwareAt)).WithHint("--aware TIME, when the house first knew")
	}
	if in.Playbook != "" {
		b, err := s.Playbook(in.Playbook)
		if err != nil {
			return i, err
		}
		if i.Cause == "" {
			i.Cause = b.Cause
		}
		if i.Reason, err = bulkhead.ParseReason(b.Reason); err != nil {
			return i, err
		}
	}
	if in.Reason != nil {
		i.Reason = *in.Reason
	}
	if i.Cause == "" {
		i.Cause = string(policy.ValidationUnreliable) // of those within 24 hours: better early than wrong
	}
	if !knownCause(i.Cause) {
		return i, bulkhead.Faultf(bulkhead.KindUsage, "there is no cause %q", i.Cause).WithHint("one of: " + strings.Join(Causes(), "; "))
	}
	i.Duties = onCall(s.cfg.Duties, in.Duties)
	i.Deadlines = Deadlines(i)
	return i, checkScope(in.Scope)
}

// Causes lists the causes that set a deadline, in the order of BR 4.9.1.1 and 4.9.1.2.
func Causes() []string {
	var out []string
	for _, list := range [][]policy.Cause{policy.Causes24h(), policy.Causes5d(), policy.CausesCA()} {
		for _, c := range list {
			if !slices.Contains(out, string(c)) {
				out = append(out, string(c))
			}
		}
	}
	return out
}

func knownCause(c string) bool { return slices.Contains(Causes(), c) }

// onCall lays the duties of the day over those of the configuration, role by role.
func onCall(house, day []bulkhead.Duty) []bulkhead.Duty {
	out := slices.Clone(house)
	for _, d := range day {
		if i := slices.IndexFunc(out, func(x bulkhead.Duty) bool { return x.Role == d.Role }); i >= 0 {
			out[i] = d
		} else {
			out = append(out, d)
		}
	}
	return out
}

// Open opens an incident; its clock runs from when the house became aware. Nothing is revoked by it.
func (s *Service) Open(ctx context.Context, actor string, in Intake) (bulkhead.Incident, error) {
	i, err := s.draft(actor, in)
	if err != nil {
		return i, err
	}
	if i.ID, err = s.newID(); err != nil {
		return i, err
	}
	if in.Corrects != "" {
		if _, err := s.cfg.Store.Incident(ctx, in.Corrects); err != nil {
			return i, err
		}
	}
	ev := s.leaf(bulkhead.EvIncidentOpened, i.ID, actor, fmt.Sprintf("%s (%s); aware since %s; cause: %s", i.Title, strings.TrimSpace(string(i.Source)+" "+i.SourceRef), utc(i.AwareAt), i.Cause))
	if err := s.cfg.Store.CreateIncident(ctx, i, ev); err != nil {
		return i, err
	}
	if in.Scope.IsEmpty() {
		return i, nil
	}
	_, err = s.count(ctx, actor, i, "first count")
	return i, err
}

// RehearseOpen says what Open would make, and changes nothing.
func (s *Service) RehearseOpen(_ context.Context, actor string, in Intake) (bulkhead.Incident, error) {
	return s.draft(actor, in)
}

func (s *Service) leaf(k bulkhead.EvidenceKind, ref, actor, detail string) bulkhead.Evidence {
	return bulkhead.Evidence{Kind: k, At: s.cfg.Now().UTC(), Actor: actor, Ref: ref, Detail: clip(detail)}
}

// Incident returns one incident.
func (s *Service) Incident(ctx context.Context, id string) (bulkhead.Incident, error) {
	return s.cfg.Store.Incident(ctx, id)
}

// Incidents returns incidents, newest first.
func (s *Service) Incidents(ctx context.Context, limit int, states ...bulkhead.IncidentState) ([]bulkhead.Incident, error) {
	return s.cfg.Store.Incidents(ctx, limit, states...)
}

// Tally counts the certificates of an incident as the record has them now.
func (s *Service) Tally(ctx context.Context, id string) (bulkhead.IncidentTally, error) {
	if _, err := s.cfg.Store.Incident(ctx, id); err != nil {
		return bulkhead.IncidentTally{}, err
	}
	return s.cfg.Store.TallyIncident(ctx, id, s.now())
}

// open returns an incident that is still open.
func (s *Service) open(ctx context.Context, id string) (bulkhead.Incident, error) {
	i, err := s.cfg.Store.Incident(ctx, id)
	if err == nil && i.State != bulkhead.IncidentOpen {
		err = bulkhead.Faultf(bulkhead.KindConflict, "incident %s is closed since %s", id, utc(i.ClosedAt)).WithHint("bulkhead incident open --corrects " + id)
	}
	return i, err
}

// Elements are the twelve things that a timeline is expected to show (CCADB incident reporting guidelines). A note may be
// about one of them.
var Elements = []string{"change-that-led-in", "start", "aware", "problem-report", "preliminary-report", "subscribers-told", "scope-disclosed", "scope-changed", "revocation-planned",
	"revocation-done", "end", "issuance-stopped-or-resumed"}

// Note adds to the timeline what only people know. element is "" or one of Elements.
func (s *Service) Note(ctx context.Context, actor, id, element, text string) error {
	if _, err := s.cfg.Store.Incident(ctx, id); err != nil {
		return err
	}
	if strings.TrimSpace(text) == "" {
		return bulkhead.NewFault(bulkhead.KindUsage, "a note needs a text").WithHint("bulkhead incident note " + id + " TEXT")
	}
	if element != "" {
		if !slices.Contains(Elements, element) {
			return bulkhead.Faultf(bulkhead.KindUsage, "there is no element %q of a timeline", element).WithHint("one of: " + strings.Join(Elements, ", "))
		}
		text = "[" + element + "] " + text
	}
	_, err := s.cfg.Store.AppendEvidence(ctx, s.leaf(bulkhead.EvIncidentNote, id, actor, text))
	return err
}

// Close ends an incident. It refuses while a campaign goes on, or certificates that must be revoked are not.
func (s *Service) Close(ctx context.Context, actor, id, why string) (bulkhead.Incident, error) {
	i, err := s.mayClose(ctx, id, why)
	if err != nil {
		return i, err
	}
	i.State, i.ClosedAt, i.Closing = bulkhead.IncidentClosed, s.now(), why
	return i, s.cfg.Store.MoveIncident(ctx, i, bulkhead.IncidentOpen, s.leaf(bulkhead.EvIncidentClosed, id, actor, why))
}

// MayClose says whether Close would be refused.
func (s *Service) MayClose(ctx context.Context, id, why string) error {
	_, err := s.mayClose(ctx, id, why)
	return err
}

func (s *Service) mayClose(ctx context.Context, id, why string) (bulkhead.Incident, error) {
	i, err := s.open(ctx, id)
	if err != nil {
		return i, err
	}
	if strings.TrimSpace(why) == "" {
		return i, bulkhead.NewFault(bulkhead.KindUsage, "closing needs a reason for the record").WithHint("bulkhead incident close " + id + " --why TEXT")
	}
	all, err := s.cfg.Store.Campaigns(ctx, 1000, bulkhead.CampaignPlanned, bulkhead.CampaignRunning, bulkhead.CampaignPaused)
	if err != nil {
		return i, err
	}
	for _, c := range all {
		if c.Incident == id {
			return i, bulkhead.Faultf(bulkhead.KindGate, "campaign %s of incident %s is %s", c.ID, id, c.State).WithHint("bulkhead campaign status " + c.ID)
		}
	}
	subject := id
	if i.Kind == bulkhead.DelayedRevocation {
		subject = i.Parent
	}
	t, err := s.cfg.Store.TallyIncident(ctx, subject, s.now())
	if err != nil {
		return i, err
	}
	if t.Live > 0 && dueSubscriber(i) {
		return i, bulkhead.Faultf(bulkhead.KindGate, "%d certificates of incident %s are neither revoked nor expired", t.Live, subject).
			WithHint("bulkhead campaign plan --incident " + subject)
	}
	return i, nil
}

// dueSubscriber reports whether the incident puts a duty to revoke on anything.
func dueSubscriber(i bulkhead.Incident) bool {
	return slices.ContainsFunc(i.Deadlines, func(d bulkhead.Deadline) bool { return d.Row != "" && d.Object != objectReport })
}
