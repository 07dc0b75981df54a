package incident

import (
	"context"
	"encoding/json"
	"slices"
	"sort"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/incident/plan"
	"bulkhead/pki/tlog"
)

// Entry is one line of a timeline.
type Entry = bulkhead.TimelineEntry

// The kinds that a timeline is built from. Revocations one by one are not here: the changes and the imports that carried them are.
var (
	deskKinds  = []bulkhead.EvidenceKind{bulkhead.EvIncidentOpened, bulkhead.EvIncidentNote, bulkhead.EvIncidentScope, bulkhead.EvIncidentHold, bulkhead.EvIncidentRelease, bulkhead.EvIncidentDelayed, bulkhead.EvIncidentClosed}
	workKinds  = []bulkhead.EvidenceKind{bulkhead.EvCampaignPlanned, bulkhead.EvCampaignStarted, bulkhead.EvCampaignPaused, bulkhead.EvCampaignResumed, bulkhead.EvCampaignClosed, bulkhead.EvCampaignKeys, bulkhead.EvEstateLook}
	houseKinds = []bulkhead.EvidenceKind{bulkhead.EvKeyBlocked, bulkhead.EvChangeApproved, bulkhead.EvChangePublished, bulkhead.EvChangeRefused, bulkhead.EvAlarm, bulkhead.EvAuthority,
		bulkhead.EvStop, bulkhead.EvResume, bulkhead.EvCompromise, bulkhead.EvPartner, bulkhead.EvImported}
)

// before is how long ahead of awareness the house's own events are shown: a stop often comes before the incident is opened.
const before = 24 * time.Hour

// Timeline builds the story of an incident from the evidence: what the desk and its campaigns did, and what the house did
// meanwhile (stops, blocks, changes, alarms) from a day before anybody was aware until the end.
func (s *Service) Timeline(ctx context.Context, id string) ([]Entry, error) {
	i, err := s.cfg.Store.Incident(ctx, id)
	if err != nil {
		return nil, err
	}
	campaigns, err := s.campaignsOf(ctx, id)
	if err != nil {
		return nil, err
	}
	from := i.AwareAt.Add(-before)
	seq, err := s.firstSeq(ctx, from)
	if err != nil {
		return nil, err
	}
	until := i.ClosedAt
	if until.IsZero() {
		until = s.now().Add(time.Second)
	}
	out := []Entry{{At: i.AwareAt, LogIndex: -1, Element: "aware", What: "the house became aware (" + strings.TrimSpace(string(i.Source)+" "+i.SourceRef) + ")"}}
	kinds := slices.Concat(deskKinds, workKinds, houseKinds)
	for {
		rows, err := s.cfg.Store.EvidenceOfKinds(ctx, seq, kinds, page)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			seq = r.Seq
			ev, err := tlog.Parse(r.Leaf)
			if err != nil {
				return nil, err
			}
			if e, ok := entry(i, campaigns, ev, from, until); ok {
				e.LogIndex = r.Seq - 1
				out = append(out, e)
			}
		}
		if len(rows) < page {
			break
		}
	}
	out[0].LogIndex = openedAt(out)
	sort.SliceStable(out, func(a, b int) bool { return out[a].At.Before(out[b].At) })
	return out, nil
}

// openedAt is the leaf that states when the house became aware: that of the opening.
func openedAt(all []Entry) int64 {
	for _, e := range all {
		if e.Kind == bulkhead.EvIncidentOpened || e.Kind == bulkhead.EvIncidentDelayed {
			return e.LogIndex
		}
	}
	return -1
}

func (s *Service) campaignsOf(ctx context.Context, incident string) (map[string]bool, error) {
	all, err := s.cfg.Store.Campaigns(ctx, 10_000)
	out := map[string]bool{}
	for _, c := range all {
		if c.Incident == incident {
			out[c.ID] = true
		}
	}
	return out, err
}

// entry is the line that a leaf makes, when it belongs to the incident.
func entry(i bulkhead.Incident, campaigns map[string]bool, ev bulkhead.Evidence, from, until time.Time) (Entry, bool) {
	e := Entry{At: ev.At.UTC().Truncate(time.Second), Kind: ev.Kind, Actor: ev.Actor, Ref: ev.Ref, What: tlog.KindName(ev.Kind)}
	if ev.Kind == bulkhead.EvImported {
		e.What += " from " + string(ev.Authority)
	}
	if ev.Detail != "" {
		e.What += ": " + ev.Detail
	}
	switch {
	case slices.Contains(deskKinds, ev.Kind):
		e.Element = element(ev)
		return e, ev.Ref == i.ID || ev.Kind == bulkhead.EvIncidentDelayed && strings.HasPrefix(ev.Detail, "incident "+i.ID+":")
	case slices.Contains(workKinds, ev.Kind):
		if ev.Kind == bulkhead.EvCampaignPlanned {
			e.Element = "revocation-planned"
		}
		return e, campaigns[ev.Ref]
	}
	if ev.At.Before(from) || ev.At.After(until) {
		return e, false
	}
	if ev.Kind == bulkhead.EvStop || ev.Kind == bulkhead.EvResume {
		e.Element = "issuance-stopped-or-resumed"
	}
	if ev.Ref != "" && ev.Kind < bulkhead.EvAuthority {
		e.What += " (change " + ev.Ref + ")"
	}
	return e, true
}

func element(ev bulkhead.Evidence) string {
	switch ev.Kind {
	case bulkhead.EvIncidentScope:
		if ev.Link.IsZero() {
			return "scope-disclosed"
		}
		return "scope-changed"
	case bulkhead.EvIncidentClosed:
		return "end"
	case bulkhead.EvIncidentNote:
		if rest, ok := strings.CutPrefix(ev.Detail, "["); ok {
			name, _, _ := strings.Cut(rest, "]")
			return name
		}
	}
	return ""
}

// firstSeq is a sequence below every leaf of a time and later: leaves are in the order of their commit, and clocks of
// several processes may differ by little, for which a minute is given.
func (s *Service) firstSeq(ctx context.Context, t time.Time) (int64, error) {
	t = t.Add(-time.Minute)
	high, _, err := s.cfg.Store.EvidenceHead(ctx)
	if err != nil {
		return 0, err
	}
	low := int64(0) // every leaf up to low is before t
	for low < high {
		middle := low + (high-low+1)/2
		rows, err := s.cfg.Store.EvidenceAfter(ctx, middle-1, 1)
		if err != nil || len(rows) == 0 {
			return low, err
		}
		ev, err := tlog.Parse(rows[0].Leaf)
		if err != nil {
			return 0, err
		}
		if ev.At.Before(t) {
			low = middle
		} else {
			high = middle - 1
		}
	}
	return low, nil
}

// ReadPlan reads the plan that a campaign keeps, without its assignments.
func ReadPlan(c bulkhead.Campaign) (*plan.Plan, error) {
	var p plan.Plan
	if err := json.Unmarshal(c.Plan, &p); err != nil || bulkhead.Digest(c.Plan) != c.PlanHash {
		return nil, bulkhead.Faultf(bulkhead.KindInternal, "the stored plan of campaign %s does not have its hash", c.ID).WithHint("bulkhead fsck")
	}
	return &p, nil
}
