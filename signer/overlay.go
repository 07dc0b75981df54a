package signer

import (
	"context"
	"time"

	"bulkhead"
)

// page is how many rows are asked for at a time.
const page = 2000

// laidOver is a change laid over the record: its certificates under one issuer, in serial order, as they are and as they
// will be.
type laidOver struct {
	change bulkhead.Change
	issuer bulkhead.AuthorityID
	rows   bulkhead.AffectedList
	head   uint64    // newest before the rows were read
	until  time.Time // it is read anew after this
}

// keepLaid is how long what was read of a change is used again, at least: the answers and CRLs of one staging are asked
// for in many calls. A row that moves meanwhile keeps the activation out, whatever was signed.
const keepLaid = 2 * time.Second

// overlay reads a change. Only one that was approved may be signed: one that is planned has been agreed by nobody, and
// one that is published is in the record already. No change is the empty overlay.
func (s *Signer) overlay(ctx context.Context, change string, issuer bulkhead.AuthorityID) (*laidOver, error) {
	if change == "" {
		return &laidOver{}, nil
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
	return s.laidOn(ctx, c, issuer)
}

// overlayNow is overlay with the rows as they are under a head, or later.
func (s *Signer) overlayNow(ctx context.Context, change string, issuer bulkhead.AuthorityID, head uint64) (*laidOver, error) {
	o, err := s.overlay(ctx, change, issuer)
	if err != nil || change == "" || o.head >= head {
		return o, err
	}
	s.forgetLaid(o)
	return s.overlay(ctx, change, issuer)
}

// laidOn is overlay for a change in any state.
func (s *Signer) laidOn(ctx context.Context, c bulkhead.Change, issuer bulkhead.AuthorityID) (*laidOver, error) {
	s.laying.Lock()
	defer s.laying.Unlock()
	if o := s.laid; o != nil && o.change.ID == c.ID && o.change.State == c.State && o.issuer == issuer && time.Now().Before(o.until) {
		return o, nil
	}
	began := time.Now()
	head, err := s.cfg.Store.Head(ctx)
	if err != nil {
		return nil, err
	}
	o := &laidOver{change: c, issuer: issuer, rows: bulkhead.AffectedList{Issuer: issuer}, head: head.Sequence}
	for a, err := range s.cfg.Store.Affected(ctx, c.ID, issuer) {
		if err != nil {
			return nil, err
		}
		o.rows.Append(a)
	}
	took := time.Since(began)
	o.until = time.Now().Add(max(keepLaid, 20*took)) // reading a large change is dear, and so is all that is signed of it
	s.laid = o
	time.AfterFunc(time.Until(o.until), func() { s.forgetLaid(o) })
	return o, nil
}

// forgetLaid gives the memory of a large change back.
func (s *Signer) forgetLaid(o *laidOver) {
	s.laying.Lock()
	defer s.laying.Unlock()
	if s.laid == o {
		s.laid = nil
	}
}

// laying lays a change over statuses, fastest over those that come in serial order. It is for one goroutine.
type laying struct {
	change bulkhead.Change
	at     *bulkhead.AffectedCursor
}

func (o *laidOver) laying() laying { return laying{o.change, o.rows.Cursor()} }

// lay puts the change over a status as it is now, exactly as activation will.
func (l laying) lay(st bulkhead.Status) bulkhead.Status {
	a, ok := l.at.Find(st.Serial)
	if !ok {
		return st
	}
	a.Status = st
	return a.After(l.change)
}

// said are the statuses of serials, in their order, as they are with the change laid over them; the zero Status for what
// the record does not have. Rows of the change are known already, the others are read.
func (s *Signer) said(ctx context.Context, issuer bulkhead.AuthorityID, serials []bulkhead.Serial, o *laidOver) ([]bulkhead.Status, error) {
	out := make([]bulkhead.Status, len(serials))
	var rest []bulkhead.Serial
	var places []int
	at := o.rows.Cursor()
	for i, serial := range serials {
		if a, ok := at.Find(serial); ok {
			if answered(a.Status) {
				out[i] = a.After(o.change)
			}
		} else {
			rest, places = append(rest, serial), append(places, i)
		}
	}
	if len(rest) == 0 {
		return out, nil
	}
	rows, err := s.statuses(ctx, issuer, rest)
	for i, serial := range rest {
		out[places[i]] = rows[serial]
	}
	return out, err
}

// statuses reads the rows that exist among serials.
func (s *Signer) statuses(ctx context.Context, issuer bulkhead.AuthorityID, rest []bulkhead.Serial) (map[bulkhead.Serial]bulkhead.Status, error) {
	found := make(map[bulkhead.Serial]bulkhead.Status, len(rest))
	for len(rest) > 0 {
		n := min(len(rest), page)
		rows, err := s.cfg.Store.Statuses(ctx, issuer, rest[:n])
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			if r.Issuer == issuer {
				found[r.Serial] = r
			}
		}
		rest = rest[n:]
	}
	return found, nil
}
