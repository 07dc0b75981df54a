package console

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"bulkhead"
)

// Told is one line of the story of a change.
type Told struct {
	At   time.Time `json:"at"`
	By   string    `json:"by"`
	What string    `json:"what"`
}

// storyOf is the story of a change in words, from its evidence.
func (a *API) storyOf(ctx context.Context, c bulkhead.Change) ([]Told, error) {
	story, err := a.cfg.Changes.Story(ctx, c.ID)
	if err != nil {
		return nil, err
	}
	out := make([]Told, 0, len(story))
	for _, e := range story {
		out = append(out, Told{e.At.UTC(), e.Actor, words(e)})
	}
	return out, nil
}

// words says what a leaf of a change's story means.
func words(e bulkhead.Evidence) string {
	switch e.Kind {
	case bulkhead.EvChangePlanned:
		return fmt.Sprintf("asked for, %d certificates: %s", e.Count, e.Detail)
	case bulkhead.EvRollback:
		return fmt.Sprintf("asked for, %d certificates: %s", e.Count, e.Detail)
	case bulkhead.EvChangePreviewed:
		return "previewed; the preview has the hash " + e.Digest.String()
	case bulkhead.EvChangeApproved:
		return "approved, exactly that preview"
	case bulkhead.EvChangeCanary:
		return "the staged copy was looked at before anything was public: " + e.Detail
	case bulkhead.EvChangeStaged:
		return "answers and CRLs are signed and verified; nothing of them is public"
	case bulkhead.EvChangeActivated:
		return fmt.Sprintf("activated in head %d: from here on the record says so", e.Count)
	case bulkhead.EvChangePublished:
		return "published: " + e.Detail
	case bulkhead.EvChangeVerified:
		return "looked at as the world sees it: " + e.Detail
	case bulkhead.EvCachesPurged:
		return "caches purged, from the origin outwards: " + e.Detail
	case bulkhead.EvCachesVerified:
		return "fetched through every cache: " + e.Detail
	case bulkhead.EvChangeSettled:
		return "settled: " + e.Detail
	case bulkhead.EvChangeRefused:
		return "refused, nothing of it is public: " + e.Detail
	case bulkhead.EvTakenBack:
		return "TAKEN BACK: " + e.Detail
	case bulkhead.EvChangeProblem:
		return "PROBLEM: " + e.Detail
	default:
		return e.Detail
	}
}

// RollbackRequest says why a change is taken back, and, once it is public, on what ground.
type RollbackRequest struct {
	Why          string `json:"why"`
	Incident     string `json:"incident,omitempty"`      // the record that explains it
	OverrideRule string `json:"override_rule,omitempty"` // the rule that is broken: "BR 4.9.13" or "BR 4.10.1"
}

// RollbackResponse is the change that was ended, or the one that takes back, with the request for its approvals.
type RollbackResponse struct {
	Change   ChangeView    `json:"change"`
	Approval *ApprovalView `json:"approval,omitempty"`
}

func (a *API) rollbackChange(ctx context.Context, w who, r *http.Request, in RollbackRequest) (RollbackResponse, error) {
	c, err := a.cfg.Changes.Rollback(ctx, w.actor(), r.PathValue("id"), in.Why, in.Incident, in.OverrideRule)
	if err != nil {
		return RollbackResponse{}, err
	}
	out := RollbackResponse{Change: changeView(c)}
	if c.State == bulkhead.ChangeRefused {
		return out, nil
	}
	q, err := a.cfg.Quorum.ProposeActivation(ctx, w.actor(), c.Why, c)
	if err != nil {
		return out, err
	}
	v := approvalView(q)
	out.Approval = &v
	return out, nil
}

func (a *API) rehearseRollback(ctx context.Context, _ who, r *http.Request, in RollbackRequest) (Plan, error) {
	c, err := a.cfg.Changes.Change(ctx, r.PathValue("id"))
	if err != nil {
		return Plan{}, err
	}
	switch c.State {
	case bulkhead.ChangePlanned, bulkhead.ChangePreviewed, bulkhead.ChangeApproved, bulkhead.ChangeStaged:
		return planOf(fmt.Sprintf("end change %s, which is %s; nothing of it is public", c.ID, c.State)), nil
	case bulkhead.ChangeRefused:
		return Plan{}, bulkhead.Faultf(bulkhead.KindConflict, "change %s is refused: nothing of it is public", c.ID).WithHint("bulkhead change show " + c.ID)
	}
	if in.Incident == "" || in.OverrideRule == "" {
		return Plan{}, bulkhead.Faultf(bulkhead.KindGate, "change %s is public: taking it back breaks BR 4.9.13 and 4.10.1", c.ID).
			WithHint("bulkhead change rollback " + c.ID + " --incident REF --override-rule \"BR 4.9.13\" --why TEXT")
	}
	return planOf(fmt.Sprintf("plan a change that makes the %d certificates of change %s say again what they said before", c.Count, c.ID),
		"ask for the approval of two operators, who see incident "+in.Incident+" and that "+in.OverrideRule+" is broken").butNot("whether keys were blocked, and whether the certificates say something else by now"), nil
}
