package quorum

import (
	"context"
	"errors"

	"bulkhead"
)

// ResumeAction executes the approved requests of one action, for the process whose work it is and for an action that waited
// for a part that was away. It returns what keeps them from being executed.
func (q *Quorum) ResumeAction(ctx context.Context, action string) error {
	rs, err := q.cfg.Store.Requests(ctx, 1000, bulkhead.RequestApproved)
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range rs {
		if r.Action == action {
			_, err := q.execute(ctx, r)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
