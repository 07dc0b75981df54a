package status

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"bulkhead"
)

const (
	alarmSigned   = "quorum"
	runbookSigned = "quorum-missing.md"
)

// Approvals judges what a change was approved by.
type Approvals interface {
	// Approved fails with KindGate unless a quorum signed exactly this change as its preview showed it, or the plan of a
	// campaign that has all its certificates.
	Approved(ctx context.Context, c bulkhead.Change) error
}

// signed fails with KindGate, and raises an alarm, when a change takes two people and they did not sign it. That a row says
// approved, staged or one person is enough decides nothing: how much the change touches is counted from what it touches.
func (s *Service) signed(ctx context.Context, st *staging) error {
	c := st.change
	if s.cfg.Approvals == nil {
		return nil
	}
	err := s.asShown(st)
	if err == nil && c.TakesBack() && c.Rule == "" {
		err = s.nothingRevokes(ctx, st)
	} else if err == nil {
		var two bool
		if two, err = s.takesTwo(ctx, st); err == nil && two {
			err = s.cfg.Approvals.Approved(ctx, c)
		}
	}
	if bulkhead.KindOf(err) != bulkhead.KindGate || err == nil {
		return err
	}
	detail := bulkhead.AsFault(err).Detail
	ev := s.leaf(bulkhead.EvUnsigned, c, "role:status", clip(detail))
	if _, aerr := s.cfg.Store.AppendEvidence(ctx, ev); aerr != nil {
		return aerr
	}
	s.alarm(ctx, bulkhead.Alarm{Detector: alarmSigned, Key: "change," + c.ID, Severity: bulkhead.Critical, Runbook: runbookSigned,
		Message: fmt.Sprintf("change %s says %s and was not approved as it stands: nothing of it went public; %s", c.ID, c.State, detail)})
	return err
}

// takesTwo counts what a change touches as the record has it.
func (s *Service) takesTwo(ctx context.Context, st *staging) (bool, error) {
	if st.change.TakesBack() {
		return true, nil
	}
	n, compromised := 0, true
	for _, u := range st.issuers {
		n += u.rows.Len()
		for row := range u.rows.All() {
			compromised = compromised && row.Item.Reason == bulkhead.KeyCompromise
		}
	}
	if n > s.cfg.Policy.OnePerson { // see onePersonMay
		if !compromised {
			return true, nil
		}
		if follows, err := s.followsFromBlocks(ctx, st.change.ID, n); err != nil || !follows {
			return true, err
		}
	}
	return s.touchesAuthority(ctx, st)
}

// touchesAuthority reports that a certificate of an authority is among the items.
func (s *Service) touchesAuthority(ctx context.Context, st *staging) (bool, error) {
	all, err := s.cfg.Store.AuthorityCertificates(ctx)
	if err != nil {
		return false, err
	}
	of := map[bulkhead.CertificateRef]bool{}
	for _, x := range all {
		of[x.Certificate.CertificateRef] = true
	}
	for _, u := range st.issuers {
		for row := range u.rows.All() {
			if of[row.Item.CertificateRef] {
				return true, nil
			}
		}
	}
	return false, nil
}

// asShown fails with KindGate when the items are not those of the preview that was approved. Previews from before they had
// a digest of their items pass.
func (s *Service) asShown(st *staging) error {
	var p Preview
	if json.Unmarshal(st.change.Preview, &p) != nil || bulkhead.Digest(st.change.Preview) != st.change.PreviewHash {
		return bulkhead.Faultf(bulkhead.KindGate, "the stored preview of change %s does not have the hash that was approved", st.change.ID).WithHint("plan the change again: bulkhead cert revoke")
	}
	if p.Items.IsZero() {
		return nil
	}
	var lists []*bulkhead.AffectedList
	for _, u := range st.issuers {
		lists = append(lists, u.rows)
	}
	if itemsDigest(itemsOf(lists)) != p.Items {
		return bulkhead.Faultf(bulkhead.KindGate, "the certificates, reasons or dates of change %s are not those of its preview", st.change.ID).WithHint("plan the change again: bulkhead cert revoke")
	}
	return nil
}

// nothingRevokes holds an automatic rollback to its one reason: nothing revokes what it says is good. A row cannot make a
// rollback automatic that people have to sign.
func (s *Service) nothingRevokes(ctx context.Context, st *staging) error {
	for _, u := range st.issuers {
		for row := range u.rows.All() {
			by, err := s.revokedBy(ctx, row.Item.CertificateRef)
			if err != nil {
				return err
			}
			if by != "" {
				return bulkhead.Faultf(bulkhead.KindGate, "change %s would take back the revocation of %s, which change %s made: that takes two people", st.change.ID, row.Item.CertificateRef, by).
					WithHint("bulkhead change rollback " + by)
			}
		}
	}
	return nil
}

// Basis finds what a change says it was approved by: the request, and the campaign when it was its plan's. The newest leaf
// that says so counts; what it says is for a judge to verify.
func Basis(story []bulkhead.Evidence) (request, campaign string) {
	for _, e := range story {
		if e.Kind != bulkhead.EvChangeApproved {
			continue
		}
		rest, ok := strings.CutPrefix(e.Actor, "request:")
		if !ok {
			request, campaign = "", ""
			continue
		}
		request, campaign, _ = strings.Cut(rest, " of campaign ")
	}
	return request, campaign
}
