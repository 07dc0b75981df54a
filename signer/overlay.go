package signer

import (
	"context"

	"bulkhead"
)

// page is how many rows are asked for at a time.
const page = 2000

// overlay returns what a change says of the authority's serials from first to last, inclusive; a zero last means no
// end. Only a change that was approved may be signed: one that is planned has been agreed by nobody, and one that is
// published is in the record already.
func (s *Signer) overlay(ctx context.Context, change string, issuer bulkhead.AuthorityID, first, last bulkhead.Serial) (map[bulkhead.Serial]bulkhead.ChangeItem, error) {
	if change == "" {
		return nil, nil
	}
	c, err := s.cfg.Store.Change(ctx, change)
	if err != nil {
		return nil, hinted(err, "plan the change first: bulkhead cert revoke")
	}
	switch c.State {
	case bulkhead.ChangeApproved, bulkhead.ChangeStaged, bulkhead.ChangeActivated:
	default:
		return nil, bulkhead.Faultf(bulkhead.KindConflict, "change %s is %s, not approved", change, c.State).WithHint("approve its preview first: bulkhead approve " + change)
	}
	return s.itemsOf(ctx, change, issuer, first, last)
}

// itemsOf is overlay for a change in any state.
func (s *Signer) itemsOf(ctx context.Context, change string, issuer bulkhead.AuthorityID, first, last bulkhead.Serial) (map[bulkhead.Serial]bulkhead.ChangeItem, error) {
	items := map[bulkhead.Serial]bulkhead.ChangeItem{}
	after := bulkhead.CertificateRef{Issuer: issuer, Serial: before(first)}
	for {
		got, err := s.cfg.Store.ChangeItems(ctx, change, after, page)
		if err != nil {
			return nil, err
		}
		for _, it := range got {
			if it.Issuer != issuer || !last.IsZero() && it.Serial.Compare(last) > 0 {
				return items, nil
			}
			items[it.Serial] = it
		}
		if len(got) < page {
			return items, nil
		}
		after = got[len(got)-1].CertificateRef
	}
}

// before is the serial just below s, the zero serial for 1 and for none.
func before(s bulkhead.Serial) bulkhead.Serial {
	b := s.Fixed()
	for i := len(b) - 1; i >= 0; i-- {
		b[i]--
		if b[i] != 0xff {
			break
		}
	}
	below, err := bulkhead.SerialFromBytes(b[:])
	if err != nil || s.IsZero() {
		return bulkhead.Serial{}
	}
	return below
}

// lay puts an item of a change over a status, exactly as activation will: what is issued becomes revoked; what is
// revoked stays so, except that keyCompromise replaces the reason and may move the date back (BR 7.2.2).
func lay(st bulkhead.Status, it bulkhead.ChangeItem) bulkhead.Status {
	switch st.State {
	case bulkhead.Issued:
		st.State, st.RevokedAt, st.Reason = bulkhead.Revoked, it.RevokedAt, it.Reason
	case bulkhead.Revoked:
		if it.Reason == bulkhead.KeyCompromise {
			st.Reason = it.Reason
			if it.RevokedAt.Before(st.RevokedAt) {
				st.RevokedAt = it.RevokedAt
			}
		}
	}
	return st
}

// statuses reads the rows that exist among serials.
func (s *Signer) statuses(ctx context.Context, issuer bulkhead.AuthorityID, serials []bulkhead.Serial) (map[bulkhead.Serial]bulkhead.Status, error) {
	found := make(map[bulkhead.Serial]bulkhead.Status, len(serials))
	for len(serials) > 0 {
		n := min(len(serials), page)
		rows, err := s.cfg.Store.Statuses(ctx, issuer, serials[:n])
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			if r.Issuer == issuer {
				found[r.Serial] = r
			}
		}
		serials = serials[n:]
	}
	return found, nil
}
