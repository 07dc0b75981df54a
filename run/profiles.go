package run

import (
	"context"
	"sort"
	"strings"

	"gopkg.in/yaml.v3"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/pki/profile"
)

// ProfileDifference is what a change of a profile means, for the command line.
type ProfileDifference = profile.Difference

// DiffProfiles compares two profiles as files hold them; see profile.Diff for what it refuses. An old one that is empty stands
// for none: everything is new then.
func DiffProfiles(before, after []byte) (ProfileDifference, error) {
	if len(before) > 0 {
		return profile.Diff(before, after)
	}
	c, err := profile.NewChange(1, "", string(after))
	return ProfileDifference{New: c.Name, Grants: c.Grants, Withdraws: c.Withdraws, Other: c.Other}, err
}

// ProfileName is the name of the profile in a file, which need not be a good one otherwise.
func ProfileName(text []byte) (string, error) {
	var head struct {
		Name string `yaml:"name"`
	}
	if err := yaml.Unmarshal(text, &head); err != nil || head.Name == "" {
		return "", bulkhead.NewFault(bulkhead.KindMalformed, "the file names no profile").WithHint("bulkhead profile show tls-server prints one").WithCause(err)
	}
	return head.Name, nil
}

// peopleFor says how many of a quorum have to sign an action.
func peopleFor(action string, body []byte, quorum int) int {
	if action != console.ActionChangeProfile {
		return quorum
	}
	c, err := payload[profile.Change](bulkhead.ApprovalRequest{Payload: body})
	if err != nil {
		return quorum
	}
	return c.People(quorum)
}

// Profiles implements console.Profiles.
func (b *profileBook) Profiles(ctx context.Context) ([]console.Profile, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.refresh(ctx); err != nil {
		return nil, err
	}
	out := []console.Profile{}
	for name, p := range b.current {
		v, _ := b.history.InForce(name)
		out = append(out, console.Profile{Name: name, Kind: string(p.Kind), YAML: v.Text, Version: v.Number, SHA256: bulkhead.Digest([]byte(v.Text)), Request: v.Request})
	}
	for name, err := range b.refused {
		f := b.files[name]
		v, _ := b.history.InForce(name)
		out = append(out, console.Profile{Name: name, Kind: string(f.p.Kind), YAML: v.Text, Version: v.Number, SHA256: bulkhead.Digest([]byte(v.Text)), Request: v.Request, Problem: bulkhead.AsFault(err).Detail})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

// ProfileVersions implements console.Profiles.
func (b *profileBook) ProfileVersions(ctx context.Context, name string) ([]console.ProfileVersion, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.refresh(ctx); err != nil {
		return nil, err
	}
	out := []console.ProfileVersion{}
	for _, v := range b.history.Line(name) {
		out = append(out, console.ProfileVersion{Version: v.Number, SHA256: bulkhead.Digest([]byte(v.Text)), Request: v.Request, YAML: v.Text})
	}
	if len(out) == 0 {
		return nil, bulkhead.Faultf(bulkhead.KindNotFound, "there is no profile %q", name).WithHint("bulkhead profile list")
	}
	return out, nil
}

// ProposedProfile implements console.Profiles.
func (b *profileBook) ProposedProfile(ctx context.Context, text string) (console.ProfileChange, error) {
	name, err := ProfileName([]byte(text))
	if err != nil {
		return console.ProfileChange{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.refresh(ctx); err != nil {
		return console.ProfileChange{}, err
	}
	now, _ := b.history.InForce(name)
	c, err := profile.NewChange(now.Number+1, now.Text, text)
	if err != nil {
		return console.ProfileChange{}, err
	}
	all, err := b.h.store.Authorities(ctx)
	if err != nil {
		return console.ProfileChange{}, err
	}
	for _, a := range all {
		if name == string(a.ID) {
			return console.ProfileChange{}, bulkhead.Faultf(bulkhead.KindUsage, "profile %s bears the name of an authority", name).WithHint("rename the profile: both are names of ACME directories")
		}
	}
	return console.ProfileChange{Name: c.Name, Version: c.Version, Grants: c.Grants, Withdraws: c.Withdraws, Other: c.Other, DiffSHA256: c.Diff, Payload: c}, nil
}

// changeProfileApproved puts an approved version into force. It is idempotent.
func (h *House) changeProfileApproved(ctx context.Context, r bulkhead.ApprovalRequest) error {
	c, err := h.signedChange(ctx, r)
	if err != nil {
		return err
	}
	b := h.book
	if b == nil { // the status role takes up what was approved, and has no profiles: the console carries it out
		return bulkhead.NewFault(bulkhead.KindUnavailable, "this process has no profiles").WithHint("bulkhead profile activate " + r.ID)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.look(ctx); err != nil {
		return err
	}
	for _, v := range b.history.Line(c.Name) {
		if v.Request == r.ID {
			return nil // a crash came after it
		}
	}
	if err := b.history.Follows(c); err != nil {
		return err
	}
	now := h.now().UTC()
	text := bulkhead.Digest([]byte(c.After))
	said := "no new power"
	if len(c.Grants) > 0 {
		said = "grants " + strings.Join(c.Grants, "; ")
	}
	ev := bulkhead.Evidence{Kind: bulkhead.EvProfile, At: now, Actor: "role:quorum", Ref: c.Name, Digest: text, Link: bulkhead.Digest([]byte(c.Before)), Count: int64(c.Version),
		Detail: clip("in force by request " + r.ID + ", difference " + c.Diff.String() + ": " + said)}
	if err := h.store.PutProfileVersion(ctx, bulkhead.ProfileVersion{Name: c.Name, Number: c.Version, Request: r.ID, At: now}, ev); err != nil {
		return err
	}
	return b.look(ctx)
}

// diagnoseProfiles says which files are not what people approved.
func (h *House) diagnoseProfiles(ctx context.Context, add addFinding) {
	if h.book == nil {
		return
	}
	h.book.mu.Lock()
	defer h.book.mu.Unlock()
	if err := h.book.refresh(ctx); err != nil {
		return // the store's own finding says so
	}
	for _, err := range h.book.refused {
		add("profiles", levelFailure, bulkhead.AsFault(err).Hint, "%s", bulkhead.AsFault(err).Detail)
	}
	if len(h.book.refused) == 0 {
		add("profiles", levelOK, "", "%d profiles are what came with the program, or what people approved", len(h.book.current))
	}
}
