package run

import (
	"context"
	"crypto/x509"
	"fmt"
	"sort"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"bulkhead"
	"bulkhead/ceremony"
	"bulkhead/console"
	"bulkhead/pki/transcript"
)

// How a ceremony prepares a root's CRLs: for the year to the next one.
const (
	crlHorizonDays  = 365
	crlTurnoverDays = 90
	crlOverlapDays  = 30
	standbyDays     = 5 * 365
)

// CeremonyFile implements console.Offline: the plan of the ceremony that a change needs, that makes a stand-by, or, with
// neither, that renews a root's CRLs for the year to come. Everything in it comes from the record.
func (x offline) CeremonyFile(ctx context.Context, change string, rootID, standby bulkhead.AuthorityID) (console.CeremonyFileView, error) {
	f := &planFile{h: x.h, change: change, standby: standby}
	var err error
	if f.all, err = x.authorities(ctx); err != nil {
		return console.CeremonyFileView{}, err
	}
	if change != "" && standby != "" {
		return console.CeremonyFileView{}, bulkhead.NewFault(bulkhead.KindUsage, "a ceremony file is for a change or for a stand-by").WithHint("make two")
	}
	if f.root, err = f.whose(ctx, rootID); err != nil {
		return console.CeremonyFileView{}, err
	}
	if err := f.history(ctx); err != nil {
		return console.CeremonyFileView{}, err
	}
	plan, err := f.plan(ctx)
	if err != nil {
		return console.CeremonyFileView{}, err
	}
	if err := plan.Check(); err != nil {
		return console.CeremonyFileView{}, err
	}
	text, err := yaml.Marshal(plan)
	if err != nil {
		return console.CeremonyFileView{}, fmt.Errorf("ceremony file: %w", err)
	}
	return console.CeremonyFileView{Root: f.root.ID, YAML: string(text), Hash: plan.Digest().String(), Words: plan.Words(x.h.now()), Previous: string(f.previous)}, nil
}

// planFile gathers what a plan is made of.
type planFile struct {
	h        *House
	change   string
	standby  bulkhead.AuthorityID
	all      map[bulkhead.AuthorityID]bulkhead.Authority
	root     bulkhead.Authority
	keyURI   string // of the root, in the ceremony's ring
	previous []byte // signed transcript
	number   int64  // the highest CRL number ever signed
}

// whose is the root whose key signs: the one that the change concerns, the one named, or the only one.
func (f *planFile) whose(ctx context.Context, named bulkhead.AuthorityID) (bulkhead.Authority, error) {
	candidates := map[bulkhead.AuthorityID]bool{}
	if f.change != "" {
		c, err := f.h.status.Change(ctx, f.change)
		if err != nil {
			return bulkhead.Authority{}, err
		}
		if !c.State.CanMove(bulkhead.ChangePreviewed) {
			return bulkhead.Authority{}, bulkhead.Faultf(bulkhead.KindConflict, "change %s is %s and waits for no ceremony", c.ID, c.State).WithHint("bulkhead change show " + c.ID)
		}
		var after bulkhead.CertificateRef
		for {
			items, err := f.h.store.ChangeItems(ctx, f.change, after, 1000)
			if err != nil {
				return bulkhead.Authority{}, err
			}
			for _, it := range items {
				candidates[it.Issuer] = f.all[it.Issuer].KeyURI == ""
				after = it.CertificateRef
			}
			if len(items) < 1000 {
				break
			}
		}
	} else {
		for id, a := range f.all {
			candidates[id] = a.Kind == bulkhead.RootAuthority && a.State != bulkhead.AuthorityDestroyed && !(f.standby != "" && f.all[f.standby].Parent == id)
		}
	}
	var ids []bulkhead.AuthorityID
	for id, is := range candidates {
		if is && (named == "" || id == named) {
			ids = append(ids, id)
		}
	}
	switch {
	case len(ids) == 0 && f.standby != "":
		return bulkhead.Authority{}, bulkhead.Faultf(bulkhead.KindNotFound, "there is no other root to sign a stand-by for %s", f.standby).WithHint("make a second root at a ceremony: doc/ceremony.md")
	case len(ids) == 0:
		return bulkhead.Authority{}, bulkhead.NewFault(bulkhead.KindConflict, "no authority whose key is offline is concerned: no ceremony is needed").WithHint("bulkhead hierarchy show")
	case len(ids) > 1:
		sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
		return bulkhead.Authority{}, bulkhead.Faultf(bulkhead.KindUsage, "several roots could sign: %s", strings.Trim(fmt.Sprint(ids), "[]")).WithHint("name one: --root " + string(ids[0]))
	}
	return f.all[ids[0]], nil
}

// history reads the transcripts of the root: which is the newest, where the key is, which CRL numbers were signed.
func (f *planFile) history(ctx context.Context) error {
	root, err := x509.ParseCertificate(f.root.Certificate)
	if err != nil {
		return fmt.Errorf("certificate of root %s: %w", f.root.ID, err)
	}
	rows, err := f.h.store.Ceremonies(ctx)
	if err != nil {
		return err
	}
	followed := map[bulkhead.Hash]bool{}
	for _, c := range rows {
		if !c.Rehearsal && c.Root == bulkhead.Digest(root.Raw) {
			followed[c.Previous] = true
		}
	}
	f.keyURI = "file:" + string(f.root.ID) + ".age"
	for _, c := range rows {
		if c.Rehearsal || c.Root != bulkhead.Digest(root.Raw) {
			continue
		}
		t, err := transcript.Verify(c.Signed, root)
		if err != nil {
			return fmt.Errorf("stored transcript %s: %w", c.Digest, err)
		}
		if !followed[c.Digest] {
			f.previous = c.Signed
		}
		f.number = max(f.number, t.CRLNumbers[f.root.ID])
		for _, e := range t.Entries {
			if e.Kind == "root" && e.Authority == f.root.ID && len(e.Inputs) > 0 {
				f.keyURI = e.Inputs[0].Detail
			}
		}
	}
	prepared, err := f.h.store.Prepared(ctx, f.root.ID)
	for _, p := range prepared {
		f.number = max(f.number, p.CRLNumber)
	}
	return err
}

func existingOf(a bulkhead.Authority) ceremony.Existing {
	x := ceremony.Existing{ID: a.ID, Kind: a.Kind, Certificate: a.Certificate}
	for _, der := range a.Chain {
		x.Chain = append(x.Chain, der)
	}
	return x
}

func (f *planFile) plan(ctx context.Context) (ceremony.Plan, error) {
	p := ceremony.Plan{StatusURL: f.h.cfg.StatusURL, Root: f.root.ID, Change: f.change}
	root := existingOf(f.root)
	root.KeyURI = f.keyURI
	p.Existing = []ceremony.Existing{root}
	day := f.h.now().UTC().Format(time.DateOnly)
	if f.standby != "" {
		a, ok := f.all[f.standby]
		if !ok || a.Kind != bulkhead.IssuingAuthority || len(a.Certificate) == 0 {
			return p, bulkhead.Faultf(bulkhead.KindNotFound, "there is no issuing authority %s with a certificate", f.standby).WithHint("bulkhead hierarchy show")
		}
		p.Title = fmt.Sprintf("stand-by of %s under %s, %s", a.ID, f.root.ID, day)
		p.Existing = append(p.Existing, existingOf(a))
		p.Steps = []ceremony.Step{{Standby: &ceremony.StandbyStep{Subject: a.ID, Parent: f.root.ID, Days: standbyDays}}}
		return p, nil
	}
	rows, err := f.h.status.RevokedAfter(ctx, f.root.ID, f.change)
	if err != nil {
		return p, err
	}
	step := &ceremony.CRLStep{Authority: f.root.ID, AfterNumber: f.number, HorizonDays: crlHorizonDays, TurnoverDays: crlTurnoverDays, OverlapDays: crlOverlapDays}
	for _, r := range rows {
		reason := r.Reason
		if reason == bulkhead.Unspecified {
			return p, bulkhead.Faultf(bulkhead.KindBadRevocationReason, "the revocation of %s has no reason, and every entry of an authority's CRL has one (BR 7.2.2)", r.Serial).
				WithHint("withdraw the change and plan it again with --reason")
		}
		step.Revoked = append(step.Revoked, ceremony.RevokedChild{Serial: r.Serial, At: r.RevokedAt.UTC(), Reason: reason.String()})
	}
	// Every authority below the root stands in the plan, so that its words can name what is revoked and what is not.
	var ids []string
	for id, a := range f.all {
		if a.Parent == f.root.ID && len(a.Certificate) > 0 && a.State != bulkhead.AuthorityPending {
			ids = append(ids, string(id))
		}
	}
	sort.Strings(ids)
	for _, id := range ids {
		p.Existing = append(p.Existing, existingOf(f.all[bulkhead.AuthorityID(id)]))
	}
	p.Title = fmt.Sprintf("CRLs of %s for the year from %s", f.root.ID, day)
	if f.change != "" {
		p.Title = fmt.Sprintf("revocation under %s, change %s, %s", f.root.ID, f.change, day)
	}
	p.Steps = []ceremony.Step{{CRL: step}}
	return p, nil
}
