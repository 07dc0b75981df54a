package incident

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"bulkhead"
)

// Run works on campaigns and looks at clocks every interval (0 means 15 s) until ctx ends.
func (s *Service) Run(ctx context.Context, interval time.Duration) error {
	if interval <= 0 {
		interval = 15 * time.Second
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := s.Tick(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Log.WarnContext(ctx, "the incident desk could not do its round", slog.String("error", err.Error()))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Tick does one round: clocks, what the record and the endpoints show, and every job that is due. It may be killed
// anywhere and run again, by this process or another.
func (s *Service) Tick(ctx context.Context) error {
	if err := s.Watch(ctx); err != nil {
		return err
	}
	running, err := s.cfg.Store.Campaigns(ctx, 1000, bulkhead.CampaignRunning)
	if err != nil {
		return err
	}
	for _, c := range running {
		if err := s.observe(ctx, c); err != nil {
			return fmt.Errorf("campaign %s: %w", c.ID, err)
		}
	}
	if len(running) == 0 {
		return nil
	}
	defer s.moved()
	if err := s.work(ctx); err != nil {
		return err
	}
	for _, c := range running {
		if err := s.risk(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// workers is how many jobs a process does at once: while the steps of one are written, another is read and made ready.
const workers = 2

// work does every job that is due.
func (s *Service) work(ctx context.Context) error {
	var g errgroup.Group // one that fails leaves the other its job, which would be nobody's until its lease ends
	for range workers {
		g.Go(func() error {
			for {
				if more, err := s.workOnce(ctx); err != nil || !more {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// workOnce does one job that is due; false when there is none. Notices go on side by side. What revokes has this process to
// itself: the notice of an item would move it away under its revocation, and a large change takes memory.
func (s *Service) workOnce(ctx context.Context) (more bool, err error) {
	s.jobs.RLock()
	leave := s.jobs.RUnlock
	defer func() { leave() }()
	now := s.now()
	j, found, err := s.cfg.Store.ClaimJob(ctx, s.holder, now, now.Add(s.cfg.Lease))
	if err != nil || !found {
		return false, err
	}
	if j.Kind == bulkhead.JobRevoke {
		leave()
		s.jobs.Lock()
		leave = s.jobs.Unlock
	}
	err = s.do(ctx, j)
	if err == nil || errors.Is(err, errOvertaken) {
		return true, nil
	}
	if ctx.Err() != nil {
		return false, err
	}
	s.cfg.Log.WarnContext(ctx, "campaign work failed; it is tried again", slog.String("campaign", j.Campaign), slog.String("kind", string(j.Kind)), slog.String("error", err.Error()))
	if err := s.postpone(ctx, j, err); err != nil && !errors.Is(err, errOvertaken) {
		return false, err
	}
	return true, nil
}

// postpone gives a failed job back, to be tried again a little later each time.
func (s *Service) postpone(ctx context.Context, j bulkhead.CampaignJob, why error) error {
	now := s.now()
	wait := min(time.Duration(j.Tries)*5*time.Second, 5*time.Minute)
	j.DueAt, j.LeaseUntil, j.Problem = now.Add(wait), now, bulkhead.AsFault(why).Detail
	if stored, err := s.cfg.Store.CampaignJobs(ctx, j.Campaign, 10_000); err == nil { // the change may have been kept after j was read
		for _, x := range stored {
			if x.ID == j.ID {
				j.Change = x.Change
			}
		}
	}
	return overtaken(s.cfg.Store.KeepJob(ctx, j))
}

func (s *Service) do(ctx context.Context, j bulkhead.CampaignJob) error {
	c, err := s.cfg.Store.Campaign(ctx, j.Campaign)
	if err != nil {
		return err
	}
	if j.Kind != bulkhead.JobRevoke {
		items, err := s.toTell(ctx, c, j)
		if err != nil {
			return err
		}
		return s.notify(ctx, c, j, items)
	}
	return s.revoke(ctx, c, j)
}

// recheck is how soon a revocation that waits for its replacement is looked at again.
const recheck = 5 * time.Minute

// revoke revokes what a chunk has ready, or all of it once the deadline clock says so. What this job did before is found
// by the change that it keeps, and by the record of the certificates.
func (s *Service) revoke(ctx context.Context, c bulkhead.Campaign, j bulkhead.CampaignJob) error {
	if err := s.revokeDue(ctx, c, &j); err != nil {
		return err
	}
	return overtaken(s.cfg.Store.KeepJob(ctx, j))
}

// revokeDue is revoke without the job's own end, which j has when it returns.
func (s *Service) revokeDue(ctx context.Context, c bulkhead.Campaign, j *bulkhead.CampaignJob) error {
	defer s.hold(ctx, *j)()
	if j.Change != "" {
		if err := s.settle(ctx, c, j); err != nil {
			return err
		}
	}
	items, err := s.campaignWork(ctx, c, j.First, j.Last)
	if err != nil {
		return err
	}
	sorted := s.sort(c, items)
	if err := s.record(ctx, c, *j, sorted); err != nil {
		return err
	}
	if err := s.revokeReady(ctx, c, j, sorted.ready); err != nil {
		return err
	}
	now := s.now()
	j.LeaseUntil, j.Done, j.Problem, j.Change = now, len(sorted.waiting) == 0, "", ""
	if !j.Done {
		j.DueAt = again(sorted.waiting, now)
		if c.ForceAt.After(now) && c.ForceAt.Before(j.DueAt) {
			j.DueAt = c.ForceAt
		}
	}
	return nil
}

// again is when what waits is looked at next: when the first of it is due, and soon where something is due already.
func again(waiting []bulkhead.CampaignWork, now time.Time) time.Time {
	next := now.Add(12 * recheck) // what others did to an item, its holder for one, is seen within the hour
	for _, it := range waiting {
		switch {
		case it.RevokeAt.IsZero():
		case it.RevokeAt.Before(now.Add(recheck)):
			return now.Add(recheck)
		case it.RevokeAt.Before(next):
			next = it.RevokeAt
		}
	}
	return next
}

// revokeReady revokes items by one change, or, after a try that failed, by as many as keep what is refused from holding up
// the rest: half as many items each with every further try, for each change signs the whole CRLs of its issuers.
func (s *Service) revokeReady(ctx context.Context, c bulkhead.Campaign, j *bulkhead.CampaignJob, ready []bulkhead.CampaignWork) error {
	if len(ready) == 0 {
		return nil
	}
	size := len(ready)
	if j.Problem != "" {
		size = max(size>>min(j.Tries-1, 30), min(size, s.cfg.Chunk))
	}
	var refused error
	for part := range slices.Chunk(ready, size) {
		change, err := s.change(ctx, c, j, part)
		if err != nil {
			return err
		}
		note, err := s.activate(ctx, c, j, change)
		switch {
		case err == nil && note != "": // the record says which of them it revoked
			if part, err = s.reread(ctx, c, *j, part); err == nil {
				err = s.mark(ctx, c, j, change.ID, publicly(part), note)
			}
		case err == nil:
			err = s.mark(ctx, c, j, change.ID, part, "")
		}
		if bulkhead.KindOf(err) == bulkhead.KindGate {
			refused, err = err, nil
		}
		if err != nil {
			return err
		}
	}
	return refused
}

// sorted is a chunk by what is to be done with it.
type sorted struct {
	ready   []bulkhead.CampaignWork
	waiting []bulkhead.CampaignWork
	moves   []bulkhead.ItemMove // what the record shows already
	moved   []bulkhead.CertificateRef
}

// sort holds a chunk against the clock, and what was read with it: the record, and the holds of the incident.
func (s *Service) sort(c bulkhead.Campaign, items []bulkhead.CampaignWork) (out sorted) {
	now := s.now()
	forced := !now.Before(c.ForceAt)
	for _, it := range items {
		switch {
		case it.State.Done():
		case it.Recorded == bulkhead.Revoked:
			out.see(it, bulkhead.ItemRevoked, now, "revoked at "+utc(it.RevokedAt)+" ("+it.Reason.String()+")")
		case it.Recorded == "" || it.NotAfter.Before(now):
			out.see(it, bulkhead.ItemExpired, now, "ended at "+utc(it.NotAfter))
		case it.Held && it.State != bulkhead.ItemHeld:
			out.see(it, bulkhead.ItemHeld, now, "on legal hold")
		case it.State == bulkhead.ItemHeld:
			out.waiting = append(out.waiting, it)
		case c.Needs.CanMove(it.State, bulkhead.ItemRevoked, forced) && (forced || !it.RevokeAt.After(now)):
			out.ready = append(out.ready, it)
		default:
			out.waiting = append(out.waiting, it)
		}
	}
	return out
}

func (x *sorted) see(it bulkhead.CampaignWork, to bulkhead.ItemState, at time.Time, detail string) {
	x.moves = append(x.moves, bulkhead.ItemMove{IntentSeq: it.IntentSeq, From: it.State, To: to, At: at, Detail: detail, Leaf: len(x.moves)})
	x.moved = append(x.moved, it.CertificateRef)
	if to == bulkhead.ItemHeld {
		x.waiting = append(x.waiting, it)
	}
}

// record keeps what the record showed already, item by item: each has its own story.
func (s *Service) record(ctx context.Context, c bulkhead.Campaign, j bulkhead.CampaignJob, x sorted) error {
	if len(x.moves) == 0 {
		return nil
	}
	evs := make([]bulkhead.Evidence, len(x.moves))
	for i, m := range x.moves {
		evs[i] = s.refsLeaf(c, "role:incident", x.moved[i:i+1], string(m.To)+": "+m.Detail)
	}
	return overtaken(s.cfg.Store.MoveItems(ctx, c.ID, x.moves, &j, evs...))
}

// change plans the ordinary change for what is ready, and keeps its id with the job before it is activated: from then on a
// process that is killed is followed by one that finds it.
func (s *Service) change(ctx context.Context, c bulkhead.Campaign, j *bulkhead.CampaignJob, ready []bulkhead.CampaignWork) (bulkhead.Change, error) {
	change, err := s.cfg.Revoker.PlanRead(ctx, "role:incident", fmt.Sprintf("campaign %s of incident %s, plan %s", c.ID, c.Incident, c.PlanHash), func(yield func(bulkhead.ChangeItem, bulkhead.Certificate) bool) {
		for i := range ready {
			it := &ready[i]
			row := bulkhead.Certificate{CertificateRef: it.CertificateRef, Kind: it.Kind, State: it.Recorded, NotBefore: it.NotBefore, RevokedAt: it.RevokedAt, Reason: it.Reason}
			if !yield(bulkhead.ChangeItem{CertificateRef: it.CertificateRef, Reason: c.Reason}, row) {
				return
			}
		}
	})
	if err != nil {
		return change, err
	}
	j.Change, j.Problem, j.LeaseUntil = change.ID, "", s.now().Add(s.cfg.Lease)
	if err := s.cfg.Store.KeepJob(ctx, *j); err != nil {
		if bulkhead.KindOf(err) == bulkhead.KindConflict {
			_ = s.cfg.Revoker.Withdraw(context.WithoutCancel(ctx), "role:incident", change.ID, "the campaign was paused or has another plan") // it stays planned otherwise, which is harmless
		}
		return change, overtaken(err)
	}
	return change, nil
}

// refused forgets a change that can never be activated, so that the next try plans what is left anew.
func (s *Service) refused(ctx context.Context, j *bulkhead.CampaignJob, change bulkhead.Change, why error) error {
	if bulkhead.KindOf(why) != bulkhead.KindGate {
		return why
	}
	j.Change, j.Problem = "", bulkhead.AsFault(why).Detail
	if err := s.cfg.Store.KeepJob(ctx, *j); err != nil {
		return overtaken(err)
	}
	s.cfg.Log.WarnContext(ctx, "a change of the campaign was refused", slog.String("change", change.ID), slog.String("why", j.Problem))
	return why
}

// settle brings the change that this job kept to its end. Its items are then found revoked in the record.
func (s *Service) settle(ctx context.Context, c bulkhead.Campaign, j *bulkhead.CampaignJob) error {
	change, err := s.cfg.Revoker.Change(ctx, j.Change)
	if err != nil && bulkhead.KindOf(err) != bulkhead.KindNotFound {
		return err
	}
	if err == nil && change.State != bulkhead.ChangeRefused {
		note, err := s.activate(ctx, c, j, change)
		if err != nil {
			return err
		}
		items, err := s.campaignWork(ctx, c, j.First, j.Last)
		if err != nil {
			return err
		}
		if err := s.mark(ctx, c, j, change.ID, publicly(items), note); err != nil {
			return err
		}
	}
	j.Change = ""
	return nil
}

// activate carries a change through. One that went public and is not settled, because a verifier disputes what it saw or a
// cache keeps the old answer, has revoked its certificates all the same, and the rest is the status service's to mend: note
// says so, and the record which of them it revoked.
func (s *Service) activate(ctx context.Context, c bulkhead.Campaign, j *bulkhead.CampaignJob, change bulkhead.Change) (note string, err error) {
	if err = s.cfg.Revoker.ActivateForCampaign(ctx, c, change); err == nil {
		return "", nil
	}
	now, lookErr := s.cfg.Revoker.Change(ctx, change.ID)
	if lookErr != nil || now.State != bulkhead.ChangeActivated && now.State != bulkhead.ChangePublished && now.State != bulkhead.ChangeSettled {
		return "", s.refused(ctx, j, change, err)
	}
	return "; it is public and not settled: " + bulkhead.AsFault(err).Detail, nil
}

// publicly is those items that the record shows as revoked and the campaign does not.
func publicly(items []bulkhead.CampaignWork) []bulkhead.CampaignWork {
	return slices.DeleteFunc(items, func(it bulkhead.CampaignWork) bool { return it.State.Done() || it.Recorded != bulkhead.Revoked })
}

// markTries is how often items that somebody else moved meanwhile are read again: a large chunk takes seconds, in which a
// notice or a replacement of another process moves some of it.
const markTries = 5

// mark moves items to revoked by a change that is public.
func (s *Service) mark(ctx context.Context, c bulkhead.Campaign, j *bulkhead.CampaignJob, change string, items []bulkhead.CampaignWork, note string) error {
	detail := "by change " + change + note
	if forcedNow := !s.now().Before(c.ForceAt); forcedNow {
		detail += ", on the deadline clock"
	}
	for try := 1; len(items) > 0; try++ {
		var moves []bulkhead.ItemMove
		leaf, at := newBatchLeaf(), s.now()
		for _, it := range items {
			leaf.add(it.CertificateRef)
			moves = addStep(moves, it.Ordinal, bulkhead.ItemMove{From: it.State, To: bulkhead.ItemRevoked, At: at, Detail: detail, Change: change})
		}
		slices.SortStableFunc(moves, func(a, b bulkhead.ItemMove) int { return cmp.Compare(a.From, b.From) }) // alike ones go together
		err := s.cfg.Store.MoveItems(ctx, c.ID, moves, j, s.batchLeaf(c, "role:incident", "old-revoked: "+detail, leaf))
		if bulkhead.KindOf(err) != bulkhead.KindConflict || try == markTries {
			return overtaken(err)
		}
		if items, err = s.reread(ctx, c, *j, items); err != nil {
			return err
		}
	}
	return nil
}

// reread is items as they stand now, without those that are done.
func (s *Service) reread(ctx context.Context, c bulkhead.Campaign, j bulkhead.CampaignJob, items []bulkhead.CampaignWork) ([]bulkhead.CampaignWork, error) {
	ours := make(map[int64]bool, len(items))
	for _, it := range items {
		ours[it.IntentSeq] = true
	}
	now, err := s.campaignWork(ctx, c, j.First, j.Last)
	return slices.DeleteFunc(now, func(it bulkhead.CampaignWork) bool { return !ours[it.IntentSeq] || it.State.Done() }), err
}
