package incident

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

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

// work does every job that is due.
func (s *Service) work(ctx context.Context) error {
	for {
		now := s.now()
		j, found, err := s.cfg.Store.ClaimJob(ctx, s.holder, now, now.Add(s.cfg.Lease))
		if err != nil || !found {
			return err
		}
		err = s.do(ctx, j)
		if err == nil || errors.Is(err, errOvertaken) {
			continue
		}
		if ctx.Err() != nil {
			return err
		}
		s.cfg.Log.WarnContext(ctx, "campaign work failed; it is tried again", slog.String("campaign", j.Campaign), slog.String("kind", string(j.Kind)), slog.String("error", err.Error()))
		if err := s.postpone(ctx, j, err); err != nil && !errors.Is(err, errOvertaken) {
			return err
		}
	}
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
	items, err := s.chunk(ctx, c, j)
	if err != nil {
		return err
	}
	if j.Kind == bulkhead.JobNotify {
		return s.notify(ctx, c, j, items)
	}
	return s.revoke(ctx, c, j, items)
}

// recheck is how soon a revocation that waits for its replacement is looked at again.
const recheck = 5 * time.Minute

// revoke revokes what a chunk has ready, or all of it once the deadline clock says so. What this job did before is found
// by the change that it keeps, and by the record of the certificates.
func (s *Service) revoke(ctx context.Context, c bulkhead.Campaign, j bulkhead.CampaignJob, items []bulkhead.CampaignItem) error {
	if j.Change != "" {
		done, err := s.settle(ctx, c, &j)
		if err != nil || !done {
			return err
		}
	}
	sorted, err := s.sort(ctx, c, items)
	if err != nil {
		return err
	}
	if err := s.record(ctx, c, j, sorted); err != nil {
		return err
	}
	if err := s.revokeReady(ctx, c, &j, sorted.ready); err != nil {
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
	return overtaken(s.cfg.Store.KeepJob(ctx, j))
}

// again is when what waits is looked at next: when the first of it is due, and soon where something is due already.
func again(waiting []bulkhead.CampaignItem, now time.Time) time.Time {
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
// the rest.
func (s *Service) revokeReady(ctx context.Context, c bulkhead.Campaign, j *bulkhead.CampaignJob, ready []bulkhead.CampaignItem) error {
	if len(ready) == 0 {
		return nil
	}
	size := len(ready)
	if j.Problem != "" {
		size = s.cfg.Chunk
	}
	var refused error
	for part := range slices.Chunk(ready, size) {
		change, err := s.change(ctx, c, j, part)
		if err != nil {
			return err
		}
		note, err := s.activate(ctx, c, j, change)
		switch {
		case err == nil && note == "":
			err = s.mark(ctx, c, j, change.ID, part, "")
		case err == nil:
			err = s.markRevoked(ctx, c, j, change.ID, part, note)
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
	ready   []bulkhead.CampaignItem
	waiting []bulkhead.CampaignItem
	moves   []bulkhead.ItemMove // what the record shows already
	moved   []bulkhead.CampaignItem
}

// sort holds a chunk against the record, the holds of the incident, and the clock.
func (s *Service) sort(ctx context.Context, c bulkhead.Campaign, items []bulkhead.CampaignItem) (out sorted, err error) {
	now := s.now()
	states, err := s.statuses(ctx, items)
	if err != nil {
		return out, err
	}
	held, err := s.held(ctx, c.Incident)
	if err != nil {
		return out, err
	}
	forced := !now.Before(c.ForceAt)
	for _, it := range items {
		st, known := states[it.CertificateRef]
		switch {
		case it.State.Done():
		case st.State == bulkhead.Revoked:
			out.see(it, bulkhead.ItemRevoked, now, "revoked at "+utc(st.RevokedAt)+" ("+st.Reason.String()+")")
		case !known || it.NotAfter.Before(now):
			out.see(it, bulkhead.ItemExpired, now, "ended at "+utc(it.NotAfter))
		case held[it.IntentSeq] && it.State != bulkhead.ItemHeld:
			out.see(it, bulkhead.ItemHeld, now, "on legal hold")
		case it.State == bulkhead.ItemHeld:
			out.waiting = append(out.waiting, it)
		case c.Needs.CanMove(it.State, bulkhead.ItemRevoked, forced) && (forced || !it.RevokeAt.After(now)):
			out.ready = append(out.ready, it)
		default:
			out.waiting = append(out.waiting, it)
		}
	}
	return out, nil
}

func (x *sorted) see(it bulkhead.CampaignItem, to bulkhead.ItemState, at time.Time, detail string) {
	x.moves = append(x.moves, bulkhead.ItemMove{IntentSeq: it.IntentSeq, From: it.State, To: to, At: at, Detail: detail, Leaf: len(x.moves)})
	x.moved = append(x.moved, it)
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
		evs[i] = s.itemsLeaf(c, "role:incident", x.moved[i:i+1], string(m.To)+": "+m.Detail)
	}
	return overtaken(s.cfg.Store.MoveItems(ctx, c.ID, x.moves, &j, evs...))
}

func (s *Service) statuses(ctx context.Context, items []bulkhead.CampaignItem) (map[bulkhead.CertificateRef]bulkhead.Status, error) {
	byIssuer := map[bulkhead.AuthorityID][]bulkhead.Serial{}
	for _, it := range items {
		byIssuer[it.Issuer] = append(byIssuer[it.Issuer], it.Serial)
	}
	out := make(map[bulkhead.CertificateRef]bulkhead.Status, len(items))
	for issuer, serials := range byIssuer {
		rows, err := s.cfg.Store.Statuses(ctx, issuer, serials)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			out[r.CertificateRef] = r
		}
	}
	return out, nil
}

// held is the certificates of an incident on legal hold, by IntentSeq. The record is asked each time: a hold placed a
// second ago counts.
func (s *Service) held(ctx context.Context, incident string) (map[int64]bool, error) {
	out := map[int64]bool{}
	var after int64
	for {
		rows, err := s.cfg.Store.IncidentItems(ctx, incident, "", true, after, page)
		if err != nil || len(rows) == 0 {
			return out, err
		}
		for _, r := range rows {
			after = r.Certificate.IntentSeq
			out[after] = true
		}
	}
}

// change plans the ordinary change for what is ready, and keeps its id with the job before it is activated: from then on a
// process that is killed is followed by one that finds it.
func (s *Service) change(ctx context.Context, c bulkhead.Campaign, j *bulkhead.CampaignJob, ready []bulkhead.CampaignItem) (bulkhead.Change, error) {
	items := make([]bulkhead.ChangeItem, len(ready))
	for i, it := range ready {
		items[i] = bulkhead.ChangeItem{CertificateRef: it.CertificateRef, Reason: c.Reason}
	}
	change, err := s.cfg.Revoker.PlanRevocation(ctx, "role:incident", fmt.Sprintf("campaign %s of incident %s, plan %s", c.ID, c.Incident, c.PlanHash), items)
	if err != nil {
		return change, err
	}
	j.Change, j.Problem = change.ID, ""
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

// settle brings the change that this job kept to its end; done is false when the job was given back. Its items are then
// found revoked in the record.
func (s *Service) settle(ctx context.Context, c bulkhead.Campaign, j *bulkhead.CampaignJob) (done bool, err error) {
	change, err := s.cfg.Revoker.Change(ctx, j.Change)
	if err != nil && bulkhead.KindOf(err) != bulkhead.KindNotFound {
		return false, err
	}
	if err == nil && change.State != bulkhead.ChangeRefused {
		items, err := s.chunk(ctx, c, *j)
		if err != nil {
			return false, err
		}
		note, err := s.activate(ctx, c, j, change)
		if err == nil {
			err = s.markRevoked(ctx, c, j, change.ID, items, note)
		}
		if err != nil {
			return false, err
		}
	}
	j.Change = ""
	items, err := s.chunk(ctx, c, *j)
	if err != nil {
		return false, err
	}
	return false, s.revoke(ctx, c, *j, items)
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

func (s *Service) chunk(ctx context.Context, c bulkhead.Campaign, j bulkhead.CampaignJob) ([]bulkhead.CampaignItem, error) {
	return s.cfg.Store.CampaignItems(ctx, c.ID, bulkhead.CampaignItemFilter{First: j.First, Last: j.Last, Limit: int(j.Last - j.First + 1)})
}

// markRevoked marks those items that the record shows as revoked.
func (s *Service) markRevoked(ctx context.Context, c bulkhead.Campaign, j *bulkhead.CampaignJob, change string, items []bulkhead.CampaignItem, note string) error {
	states, err := s.statuses(ctx, items)
	if err != nil {
		return err
	}
	var revoked []bulkhead.CampaignItem
	for _, it := range items {
		if !it.State.Done() && states[it.CertificateRef].State == bulkhead.Revoked {
			revoked = append(revoked, it)
		}
	}
	return s.mark(ctx, c, j, change, revoked, note)
}

// markTries is how often items that somebody else moved meanwhile are read again: a large chunk takes seconds, in which a
// notice or a replacement of another process moves some of it.
const markTries = 5

// mark moves items to revoked by a change that is public.
func (s *Service) mark(ctx context.Context, c bulkhead.Campaign, j *bulkhead.CampaignJob, change string, items []bulkhead.CampaignItem, note string) error {
	detail := "by change " + change + note
	if forcedNow := !s.now().Before(c.ForceAt); forcedNow {
		detail += ", on the deadline clock"
	}
	for try := 1; len(items) > 0; try++ {
		moves := make([]bulkhead.ItemMove, len(items))
		at := s.now()
		for i, it := range items {
			moves[i] = bulkhead.ItemMove{IntentSeq: it.IntentSeq, From: it.State, To: bulkhead.ItemRevoked, At: at, Detail: detail, Change: change}
		}
		slices.SortStableFunc(moves, func(a, b bulkhead.ItemMove) int { return cmp.Compare(a.From, b.From) }) // alike ones go together
		err := s.cfg.Store.MoveItems(ctx, c.ID, moves, j, s.itemsLeaf(c, "role:incident", items, "old-revoked: "+detail))
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
func (s *Service) reread(ctx context.Context, c bulkhead.Campaign, j bulkhead.CampaignJob, items []bulkhead.CampaignItem) ([]bulkhead.CampaignItem, error) {
	ours := make(map[int64]bool, len(items))
	for _, it := range items {
		ours[it.IntentSeq] = true
	}
	now, err := s.chunk(ctx, c, j)
	return slices.DeleteFunc(now, func(it bulkhead.CampaignItem) bool { return !ours[it.IntentSeq] || it.State.Done() }), err
}
