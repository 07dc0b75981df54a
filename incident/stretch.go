package incident

import (
	"context"
	"crypto/sha256"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"bulkhead"
)

// addStep adds the step of one item to those of a job: neighbours in the plan that take the same step are one stretch.
func addStep(moves []bulkhead.ItemMove, ordinal int64, m bulkhead.ItemMove) []bulkhead.ItemMove {
	if n := len(moves); n > 0 {
		before := &moves[n-1]
		if m.First, m.Last = before.First, before.Last; m == *before && before.Last+1 == ordinal {
			before.Last = ordinal
			return moves
		}
	}
	m.First, m.Last = ordinal, ordinal
	return append(moves, m)
}

// halved is from how many items on a stretch is read in two halves at once.
const halved = 4096

// campaignWork reads a stretch of the plan with what the record says of its certificates, one half of a long one beside the other:
// the plan goes by account, so that the rows of certificates are looked up all over the record.
func (s *Service) campaignWork(ctx context.Context, c bulkhead.Campaign, first, last int64) ([]bulkhead.CampaignWork, error) {
	if last-first < halved {
		return s.cfg.Store.CampaignWork(ctx, c.ID, first, last)
	}
	var parts [readers][]bulkhead.CampaignWork
	g, ctx := errgroup.WithContext(ctx)
	for n := range int64(readers) {
		from, to := first+(last-first+1)*n/readers, first+(last-first+1)*(n+1)/readers-1
		g.Go(func() (err error) {
			parts[n], err = s.cfg.Store.CampaignWork(ctx, c.ID, from, to)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return slices.Concat(parts[:]...), nil
}

// batchLeaf is the evidence of one step of many items, whose names it takes one by one.
type batchLeaf struct {
	count int64
	first bulkhead.CertificateRef
	sum   interface {
		Write(p []byte) (int, error)
		Sum(b []byte) []byte
	}
	line []byte
}

func newBatchLeaf() *batchLeaf { return &batchLeaf{sum: sha256.New()} }

func (b *batchLeaf) add(ref bulkhead.CertificateRef) {
	if b.count == 0 {
		b.first = ref
	}
	b.count++
	b.line = append(append(b.line[:0], ref.String()...), '\n')
	b.sum.Write(b.line)
}

func (s *Service) batchLeaf(c bulkhead.Campaign, actor, detail string, b *batchLeaf) bulkhead.Evidence {
	ev := s.leaf(bulkhead.EvCampaignItems, c.ID, actor, detail)
	ev.Count, ev.Digest = b.count, bulkhead.Hash(b.sum.Sum(nil))
	if b.count == 1 {
		ev.Authority, ev.Serial = b.first.Issuer, b.first.Serial
	}
	return ev
}

// hold keeps the lease of a job while it is worked on, however long that takes: the change of a million certificates takes
// longer than a lease, and whoever took the job over meanwhile would only begin again. The function that it returns ends it, and
// has to be called before the job is given back.
func (s *Service) hold(ctx context.Context, j bulkhead.CampaignJob) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(s.cfg.Lease / 3)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				j.LeaseUntil = s.now().Add(s.cfg.Lease)
				_ = s.cfg.Store.HoldJob(ctx, j) // what keeps it from being held ends the work at its next step
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}
