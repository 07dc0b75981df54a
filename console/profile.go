package console

import (
	"context"
	"net/http"

	"bulkhead"
)

// ActionChangeProfile is the quorum action that puts a version of a profile into force. It takes everybody of a quorum when
// the version grants new power, and one person when it does not.
const ActionChangeProfile = "profile.change"

func (a *API) profileRoutes() {
	route(a, "GET /api/v1/profiles", operation[none, ProfileList]{id: "listProfiles", summary: "the certificate profiles of the running house", access: partnersToo, do: a.profiles})
	route(a, "GET /api/v1/profiles/{name}/versions", operation[none, ProfileVersions]{id: "profileVersions", summary: "every version of a profile that was in force, oldest first", do: a.profileVersions})
	route(a, "POST /api/v1/profiles", operation[ProfileRequest, ProposedProfile]{id: "proposeProfile", do: a.proposeProfile, plan: a.planProposeProfile,
		summary: "propose a version of a profile; what new power it grants decides how many approvals it takes"})
	route(a, "POST /api/v1/profiles/activation", operation[ProfileActivation, ApprovalView]{id: "activateProfile", do: a.activateProfile, plan: a.planActivateProfile,
		summary: "put an approved version of a profile into force, or say that it is"})
}

// ProfileList is the profiles of the running house.
type ProfileList struct {
	Profiles []Profile `json:"profiles"`
}

func (a *API) profiles(ctx context.Context, _ who, _ *http.Request, _ none) (ProfileList, error) {
	rows, err := a.cfg.Profiles.Profiles(ctx)
	return ProfileList{rows}, err
}

// ProfileVersion is a text of a profile that is or was in force.
type ProfileVersion struct {
	Version int           `json:"version"` // 0 is what the house began with
	SHA256  bulkhead.Hash `json:"sha256"`
	Request string        `json:"request,omitempty"` // whose signatures put it into force
	YAML    string        `json:"yaml"`
}

// ProfileVersions is all versions of one profile.
type ProfileVersions struct {
	Versions []ProfileVersion `json:"versions"`
}

func (a *API) profileVersions(ctx context.Context, _ who, r *http.Request, _ none) (ProfileVersions, error) {
	rows, err := a.cfg.Profiles.ProfileVersions(ctx, r.PathValue("name"))
	return ProfileVersions{rows}, err
}

// ProfileRequest proposes a version of a profile.
type ProfileRequest struct {
	YAML   string `json:"yaml"`
	Reason string `json:"reason"`
}

// ProfileChange says what a proposed version changes.
type ProfileChange struct {
	Name       string        `json:"name"`
	Version    int           `json:"version"`
	Grants     []string      `json:"grants"`    // new power
	Withdraws  []string      `json:"withdraws"` // power that is taken away
	Other      []string      `json:"other"`
	DiffSHA256 bulkhead.Hash `json:"diff_sha256"` // quoted by what people sign
	Payload    any           `json:"-"`           // what people sign
}

// ProposedProfile is a proposed version and the request that waits for approvals.
type ProposedProfile struct {
	Change   ProfileChange `json:"change"`
	Approval ApprovalView  `json:"approval"`
}

func (a *API) proposeProfile(ctx context.Context, w who, _ *http.Request, in ProfileRequest) (ProposedProfile, error) {
	c, err := a.cfg.Profiles.ProposedProfile(ctx, in.YAML)
	if err != nil {
		return ProposedProfile{}, err
	}
	q, err := a.cfg.Quorum.Propose(ctx, ActionChangeProfile, c.Payload, w.actor(), in.Reason)
	return ProposedProfile{c, approvalView(q)}, err
}

func (a *API) planProposeProfile(ctx context.Context, w who, _ *http.Request, in ProfileRequest) (Plan, error) {
	c, err := a.cfg.Profiles.ProposedProfile(ctx, in.YAML)
	if err != nil {
		return Plan{}, err
	}
	plan, err := proposal(a.cfg.Rehearsal.Quorum.Propose(ctx, ActionChangeProfile, c.Payload, w.actor(), in.Reason))
	for _, g := range c.Grants {
		plan.Would = append(plan.Would, "then grant "+g)
	}
	return plan, err
}

// ProfileActivation names the approved request.
type ProfileActivation struct {
	Request string `json:"request"`
}

func (a *API) activateProfile(ctx context.Context, _ who, _ *http.Request, in ProfileActivation) (ApprovalView, error) {
	if _, err := a.profileRequest(ctx, in); err != nil {
		return ApprovalView{}, err
	}
	q, err := a.cfg.Quorum.Finish(ctx, in.Request)
	return approvalView(q), err
}

func (a *API) profileRequest(ctx context.Context, in ProfileActivation) (bulkhead.ApprovalRequest, error) {
	q, err := a.cfg.Quorum.Request(ctx, in.Request)
	if err == nil && q.Action != ActionChangeProfile {
		err = bulkhead.Faultf(bulkhead.KindConflict, "request %s is for %s", q.ID, q.Action).WithHint("bulkhead approve --list")
	}
	return q, err
}

func (a *API) planActivateProfile(ctx context.Context, _ who, _ *http.Request, in ProfileActivation) (Plan, error) {
	q, err := a.profileRequest(ctx, in)
	if err != nil {
		return Plan{}, err
	}
	return planOf("put the version of request " + q.ID + " into force").butNot("whether enough people signed it"), nil
}
