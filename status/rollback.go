package status

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/pki/tlog"
)

// override is what taking back a published revocation needs.
type override struct {
	Incident string // the record that explains it
	Rule     string // the rule that is broken, by name: see rulesOfRevocation
}

// rulesOfRevocation are the rules that forbid to take a revocation back.
var rulesOfRevocation = []string{"BR 4.9.13", "BR 4.10.1"}

var incidentRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$`)

// Rollback takes a change back. Before anything of it is public it is refused, on one person's word, and returned so.
// After that a new change is returned, previewed, that restores what the first one changed: it takes an incident, the
// rule that is broken, and the approval of two people. KindGate without them; KindConflict when there is nothing to take
// back; KindGate for keys that are blocked, which stay revoked (promise P10).
func (s *Service) Rollback(ctx context.Context, actor, id, why, incident, rule string) (bulkhead.Change, error) {
	if strings.TrimSpace(why) == "" {
		return bulkhead.Change{}, bulkhead.NewFault(bulkhead.KindMalformed, "a rollback needs a reason for the record").WithHint("--why \"why this is taken back\"")
	}
	s.mu.Lock() // no activation is under way meanwhile
	defer s.mu.Unlock()
	c, err := s.cfg.Store.Change(ctx, id)
	if err != nil {
		return c, err
	}
	switch c.State {
	case bulkhead.ChangePlanned, bulkhead.ChangePreviewed, bulkhead.ChangeApproved, bulkhead.ChangeStaged:
		was := c.State
		c.State, c.Problem = bulkhead.ChangeRefused, ""
		return c, s.cfg.Store.MoveChange(ctx, c, was, s.leaf(bulkhead.EvChangeRefused, c, actor, fmt.Sprintf("taken back while %s; nothing of it was public: %s", was, why)))
	case bulkhead.ChangeRefused:
		return c, bulkhead.Faultf(bulkhead.KindConflict, "change %s is refused: nothing of it is public", id).WithHint("bulkhead change show " + id)
	}
	if c.TakesBack() {
		return c, bulkhead.Faultf(bulkhead.KindConflict, "change %s takes back change %s and is public", id, c.Undoes).WithHint("revoke again: bulkhead cert revoke")
	}
	o, err := s.checkOverride(ctx, c, override{incident, rule})
	if err != nil {
		return c, err
	}
	if by, err := s.takenBack(ctx, id); err != nil {
		return c, err
	} else if by != "" {
		return c, bulkhead.Faultf(bulkhead.KindConflict, "change %s was taken back already, by change %s", id, by).WithHint("bulkhead change show " + by)
	}
	items, left, err := s.takeable(ctx, c)
	if err != nil {
		return c, err
	}
	if left > 0 {
		why += fmt.Sprintf(" (%d certificates say something else by now and stay as they are)", left)
	}
	return s.planBack(ctx, bulkhead.Change{Actor: actor, Why: why, Undoes: c.ID, Incident: o.Incident, Rule: o.Rule}, items)
}

// takenBack finds the public change that took another back on people's word; "" when there is none.
func (s *Service) takenBack(ctx context.Context, id string) (string, error) {
	done, err := s.cfg.Store.Changes(ctx, batchSize, bulkhead.ChangeActivated, bulkhead.ChangePublished, bulkhead.ChangeSettled)
	for _, c := range done {
		if c.Undoes == id && c.Rule != "" {
			return c.ID, err
		}
	}
	return "", err
}

// checkOverride wants an incident and a rule.
func (s *Service) checkOverride(ctx context.Context, c bulkhead.Change, o override) (override, error) {
	if o.Incident == "" || o.Rule == "" {
		return o, bulkhead.Faultf(bulkhead.KindGate, "change %s is public since %s: a revocation that the world has seen is not taken back (BR 4.10.1: an entry stays until the certificate has ended; BR 4.9.13: no suspension)",
			c.ID, c.ActivatedAt.UTC().Format(time.RFC3339)).
			WithHint(fmt.Sprintf("issue new certificates instead; to break the rule on record, with two people: bulkhead change rollback %s --incident REF --override-rule %q --why TEXT", c.ID, rulesOfRevocation[0]))
	}
	i := slices.IndexFunc(rulesOfRevocation, func(r string) bool { return strings.EqualFold(r, strings.TrimSpace(o.Rule)) })
	if i < 0 {
		return o, bulkhead.Faultf(bulkhead.KindGate, "%q is not a rule that forbids this", o.Rule).WithHint("name the rule that is broken: " + strings.Join(rulesOfRevocation, " or "))
	}
	o.Rule = rulesOfRevocation[i]
	if !incidentRule.MatchString(o.Incident) {
		return o, bulkhead.Faultf(bulkhead.KindMalformed, "%.140q is not the name of an incident record", o.Incident).WithHint("--incident REF, for example 2026-03-A or bug-1234567")
	}
	if s.cfg.Incident != nil {
		return o, s.cfg.Incident(ctx, o.Incident)
	}
	return o, nil
}

// takeable are the items that take a change back; left counts certificates that say something else by now than the
// change made them say.
func (s *Service) takeable(ctx context.Context, c bulkhead.Change) (items []bulkhead.ChangeItem, left int, err error) {
	if n, _, err := s.cfg.Store.BlockedItems(ctx, c.ID); err != nil {
		return nil, 0, err
	} else if n > 0 {
		return nil, 0, bulkhead.Faultf(bulkhead.KindGate, "the keys of %d certificates of change %s are blocked for ever: they stay revoked", n, c.ID).WithHint("bulkhead change show " + c.ID)
	}
	authorities, err := s.cfg.Store.Authorities(ctx)
	if err != nil {
		return nil, 0, err
	}
	for _, a := range authorities {
		for row, err := range s.cfg.Store.Affected(ctx, c.ID, a.ID) {
			if err != nil {
				return nil, 0, err
			}
			made := s.madeBy(c, row.Item)
			if row.State != bulkhead.Revoked || row.Reason != made.Reason || !row.RevokedAt.Equal(made.RevokedAt) || !c.WasKept && row.Item.Reason == bulkhead.KeyCompromise {
				left++
				continue
			}
			it := row.Item
			it.Reason, it.RevokedAt = row.Reason, row.RevokedAt
			items = append(items, it)
		}
	}
	if len(items) == 0 {
		return nil, left, bulkhead.Faultf(bulkhead.KindConflict, "nothing of change %s can be taken back: its certificates say something else by now", c.ID).WithHint("bulkhead change show " + c.ID)
	}
	return items, left, nil
}

// madeBy is what an activated item made of its row.
func (s *Service) madeBy(c bulkhead.Change, it bulkhead.ChangeItem) bulkhead.Status {
	a := bulkhead.AffectedStatus{Status: bulkhead.Status{State: bulkhead.Issued}, Item: it}
	if !it.WasRevokedAt.IsZero() {
		a.State, a.Reason, a.RevokedAt = bulkhead.Revoked, it.WasReason, it.WasRevokedAt
	}
	return a.After(c)
}

// planBack records and previews a change that takes another back. Callers hold mu.
func (s *Service) planBack(ctx context.Context, c bulkhead.Change, items []bulkhead.ChangeItem) (bulkhead.Change, error) {
	id, err := s.newID()
	if err != nil {
		return c, err
	}
	c.ID, c.State, c.Count, c.CreatedAt = id, bulkhead.ChangePlanned, len(items), s.now()
	c.Held = c.CreatedAt.Add(heldFor)
	ev := s.leaf(bulkhead.EvRollback, c, c.Actor, s.rollbackDetail(c))
	if err := s.cfg.Store.CreateChange(ctx, c, items, ev); err != nil {
		return c, err
	}
	p, err := s.previewBack(ctx, c, items)
	if err != nil {
		return c, err
	}
	body, err := json.Marshal(p)
	if err != nil {
		return c, err
	}
	c.State, c.Preview, c.PreviewHash = bulkhead.ChangePreviewed, body, bulkhead.Digest(body)
	return c, s.cfg.Store.MoveChange(ctx, c, bulkhead.ChangePlanned, s.leaf(bulkhead.EvChangePreviewed, c, "role:status", "preview made"))
}

func (s *Service) rollbackDetail(c bulkhead.Change) string {
	text := "takes back change " + c.Undoes + ": " + c.Why
	if c.Rule != "" {
		text += "; incident " + c.Incident + "; breaks " + c.Rule
	}
	return clip(text)
}

// previewBack says what taking back does to the answers.
func (s *Service) previewBack(ctx context.Context, c bulkhead.Change, items []bulkhead.ChangeItem) (Preview, error) {
	p := Preview{Change: c.ID, Why: s.rollbackDetail(c), Count: c.Count, AnswersChanged: c.Count, ByIssuer: map[bulkhead.AuthorityID]int{}, ByProfile: map[string]int{}, Direct: []PreviewItem{},
		AnchorSets: []string{}, PathsLost: []bulkhead.PathReport{}, PathsReduced: []bulkhead.PathReport{}, Unaffected: map[bulkhead.AuthorityID]bulkhead.Spared{},
		Misread: []bulkhead.Misread{}, Shadow: bulkhead.Shadow{Samples: []bulkhead.NamedCertificate{}}, Warnings: []string{}, Blocked: []string{}, Items: itemsDigest(inOrderOfItems(items))}
	for _, it := range items {
		p.ByIssuer[it.Issuer]++
		if len(p.Direct) == shown {
			continue
		}
		cert, _, err := s.cfg.Store.Certificate(ctx, it.CertificateRef)
		if err != nil {
			return p, err
		}
		row := PreviewItem{Issuer: it.Issuer, Serial: it.Serial, Names: []string{}, Subject: cert.Subject, Kind: cert.Kind, Before: cert.State, After: bulkhead.Issued, Reason: it.Reason.String()}
		if !it.WasRevokedAt.IsZero() {
			row.After = bulkhead.Revoked
		}
		for _, n := range cert.Names {
			row.Names = append(row.Names, n.Value)
		}
		p.Direct = append(p.Direct, row)
	}
	authorities, err := s.cfg.Store.Authorities(ctx)
	if err != nil {
		return p, err
	}
	for _, a := range authorities {
		if p.ByIssuer[a.ID] == 0 {
			p.Unaffected[a.ID] = bulkhead.Spared{Roots: []bulkhead.AuthorityID{}, Products: []string{}}
		} else if a.KeyURI == "" {
			p.Blocked = append(p.Blocked, a.WhyNotHere())
		}
	}
	return p, nil
}

// stillSo is stillTrue for a change that takes back: every row says what the item takes back, or what it restores.
func (s *Service) stillSo(st *staging) error {
	c := st.change
	if bulkhead.Digest(c.Preview) != c.PreviewHash {
		return bulkhead.Faultf(bulkhead.KindGate, "the stored preview of change %s does not have the hash that was approved", c.ID).WithHint("take the first change back again: bulkhead change rollback " + c.Undoes)
	}
	for _, u := range st.issuers {
		for row := range u.rows.All() {
			after, it := st.after(row), row.Item
			right := after.State == bulkhead.Issued && it.WasRevokedAt.IsZero() ||
				after.State == bulkhead.Revoked && after.Reason == it.WasReason && after.RevokedAt.Equal(it.WasRevokedAt)
			if !right || row.State == bulkhead.Revoked && !row.State.CanRestore(after.State) {
				return bulkhead.Faultf(bulkhead.KindGate, "the world moved since change %s was planned: %s is %s (%s)", c.ID, row.Serial, row.State, said(row.Reason, row.RevokedAt)).
					WithHint("take the first change back again: bulkhead change rollback " + c.Undoes)
			}
		}
	}
	return nil
}

// Story is what evidence tells of a change, in order: every move, look, purge and problem.
func (s *Service) Story(ctx context.Context, id string) ([]bulkhead.Evidence, error) {
	rows, err := s.cfg.Store.ChangeEvidence(ctx, id)
	if err != nil {
		return nil, err
	}
	out := make([]bulkhead.Evidence, 0, len(rows))
	for _, r := range rows {
		e, err := tlog.Parse(r.Leaf)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}
