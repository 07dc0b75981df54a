package enroll

import (
	"context"
	"errors"
	"sync"
	"time"

	"bulkhead"
)

// Finalize gives a ready order its certification request and starts issuance. It waits a moment for the result; the
// order that it returns is valid, invalid or still processing. One finalize wins; others get KindOrderNotReady. A
// refused request (KindBadCSR, KindBadPublicKey, KindRateLimited, KindStopped, KindUserActionRequired for a name of the
// high-value list without a second approval) leaves the order ready.
func (s *Service) Finalize(ctx context.Context, acct bulkhead.Account, orderID string, csr []byte) (bulkhead.Order, error) {
	o, authzs, err := s.orderOf(ctx, acct, orderID)
	if err != nil {
		return o, err
	}
	if o.State != bulkhead.OrderReady {
		return o, notReady(o)
	}
	if err := s.finalGate(ctx, acct, o, authzs); err != nil {
		return o, err // the order stays ready
	}
	r, err := parseCSR(s.cfg.Requests, csr)
	if err != nil {
		return o, err
	}
	if err := matchCSR(r, acct, o.Identifiers); err != nil {
		return o, err
	}
	if err := s.admitKey(ctx, r); err != nil {
		s.blockedKeySeen(ctx, acct.ID, o.ID, r, err)
		if bulkhead.KindOf(err) == bulkhead.KindBadPublicKey {
			s.record(ctx, s.refusal(acct.ID, o.ID, err))
		}
		return o, err
	}
	if err := s.admitCertificate(ctx, acct, o); err != nil {
		return o, err
	}
	look := s.lookAtOnce(ctx, o, authzs)
	o.State, o.CSR, o.ProcessingSince = bulkhead.OrderProcessing, r.DER, s.now()
	var end ended
	if look.kept {
		end, err = s.processAndIssue(ctx, o, look)
	} else if err = s.cfg.Store.ProcessOrder(ctx, o, nil, nil); err == nil {
		end, err = s.awaitIssue(ctx, o, look)
	}
	if bulkhead.KindOf(err) == bulkhead.KindConflict {
		if o, err := s.cfg.Store.Order(ctx, o.ID); err == nil {
			return o, notReady(o)
		}
		return o, notReady(o)
	}
	return end.order, err
}

func notReady(o bulkhead.Order) error {
	f := bulkhead.Faultf(bulkhead.KindOrderNotReady, "the order is %s, not ready", o.State)
	if o.State == bulkhead.OrderPending {
		return f.WithHint("complete the authorizations first")
	}
	return f
}

// processAndIssue moves a ready order to processing together with what was seen of CAA, and starts its issuance beside that. KindConflict
// when the order is not ready, or another request is at it.
func (s *Service) processAndIssue(ctx context.Context, o bulkhead.Order, look caaLook) (ended, error) {
	p := newPassage()
	t, joined, full := s.beginIssue(o, look, p)
	if joined {
		return ended{order: o}, bulkhead.NewFault(bulkhead.KindConflict, "the order is being processed")
	}
	until := p.awaited
	if full != nil {
		until = nil // nobody follows
	}
	err := s.cfg.Store.ProcessOrder(ctx, o, look.checks, until, look.evidence...)
	p.end(err)
	if err != nil {
		s.begun.Delete(o.ID)
		return ended{order: o}, err
	}
	return s.await(ctx, o, t, full)
}

// awaitIssue starts the issuance of a processing order and waits for it.
func (s *Service) awaitIssue(ctx context.Context, o bulkhead.Order, look caaLook) (ended, error) {
	t, _, full := s.beginIssue(o, look, nil)
	return s.await(ctx, o, t, full)
}

// beginIssue starts the issuance of an order that is in processing, or will be at the end of p.
func (s *Service) beginIssue(o bulkhead.Order, look caaLook, p *passage) (t *task, joined bool, err error) {
	began := time.Now()
	s.begun.Store(o.ID, true)
	return s.pool.start("issue/"+o.ID, s.issuing(o.ID, func(ctx context.Context, t *task) error {
		if time.Since(began) < firstWithin {
			return s.sign(ctx, o, look, p, t)
		}
		if p.wait(ctx) != nil {
			return nil
		}
		return s.issue(ctx, o.ID, look, t)
	}))
}

// await waits for an issuance up to FinalizeWait. A full pool is no error: the order is durable in processing and Resume takes it up.
func (s *Service) await(ctx context.Context, o bulkhead.Order, t *task, full error) (ended, error) {
	if full != nil {
		s.log.WarnContext(ctx, "issuance waits for resumption", "order", o.ID, "error", full)
		return ended{order: o}, nil
	}
	late := time.NewTimer(s.limits.FinalizeWait)
	defer late.Stop()
	select {
	case <-t.done:
	case <-late.C:
		return ended{order: o}, nil
	case <-ctx.Done():
		return ended{order: o}, nil
	}
	if end, ok := t.left.(ended); ok {
		return end, nil
	}
	o, err := s.present(ctx, o.ID)
	return ended{order: o}, err
}

// passage is the move of an order to processing, as the issuance beside it sees it; nil is one that is over.
type passage struct {
	awaited, over chan struct{} // closed when the issuance has nothing else to do, and at the end
	once          sync.Once
	err           error // of the end
}

func newPassage() *passage { return &passage{awaited: make(chan struct{}), over: make(chan struct{})} }

func (p *passage) end(err error) {
	p.err = err
	close(p.over)
}

// wait waits for the end. Any error says that this issuance has no order.
func (p *passage) wait(ctx context.Context) error {
	if p == nil {
		return nil
	}
	p.once.Do(func() { close(p.awaited) })
	select {
	case <-p.over:
		return p.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// firstWithin is how soon after an order became processing its first issuance goes by what Finalize has just read and
// written. Later, another process may have taken the order up.
const firstWithin = time.Second

// startIssue takes an order up that is in processing.
func (s *Service) startIssue(orderID string) (*task, error) {
	s.begun.Store(orderID, true)
	t, _, err := s.pool.start("issue/"+orderID, s.issuing(orderID, func(ctx context.Context, t *task) error { return s.issue(ctx, orderID, caaLook{}, t) }))
	return t, err
}

// issuing is the task that runs f, which tells the order that it brought to its end, if it did.
func (s *Service) issuing(orderID string, f func(context.Context, *task) error) func(context.Context, *task) {
	return func(ctx context.Context, t *task) {
		ctx, cancel := context.WithTimeout(ctx, s.limits.IssueTimeout)
		defer cancel()
		if err := f(ctx, t); err != nil {
			s.log.ErrorContext(ctx, "issuing; the order stays in processing", "order", orderID, "error", err)
		}
	}
}

// issue brings an order in processing to its end that may have been tried before, here or in another process. An error
// means that the order stays in processing and is taken up again.
func (s *Service) issue(ctx context.Context, orderID string, look caaLook, t *task) error {
	o, err := s.cfg.Store.Order(ctx, orderID)
	if err != nil {
		return err
	}
	if o.State != bulkhead.OrderProcessing {
		s.begun.Delete(orderID)
		return nil
	}
	c, _, err := s.cfg.Store.CertificateByOrder(ctx, o.ID)
	switch bulkhead.KindOf(err) {
	case "":
		return s.fulfil(ctx, o, c.CertificateRef, nil, t)
	case bulkhead.KindNotFound:
	default:
		return err
	}
	if over, err := s.outOfTime(ctx, o); err != nil || over {
		if over {
			err = s.fail(ctx, o, bulkhead.NewFault(bulkhead.KindUnavailable, "the certificate could not be issued in time").WithHint("order again"))
		}
		return err
	}
	if held, err := s.waits(ctx, o); err != nil || held {
		return err
	}
	if _, err := s.Account(ctx, o.AccountID); err != nil {
		return s.failUnlessPassing(ctx, o, err)
	}
	return s.sign(ctx, o, look, nil, t)
}

// sign has an order signed that is in processing, at the end of p at the latest, and was not signed before. Whether its account is in office and nothing is
// stopped the signer reads from the record itself, together with the validations, after this call; KindUnauthorized and
// KindStopped say that it was not so.
func (s *Service) sign(ctx context.Context, o bulkhead.Order, look caaLook, p *passage, t *task) error {
	if err := s.checkCAA(ctx, o, look); err != nil {
		return s.failUnlessPassing(ctx, o, err)
	}
	r := bulkhead.CertificateRequest{Authority: o.Authority, Profile: o.Profile, CSR: o.CSR,
		Names: o.Identifiers, AccountID: o.AccountID, OrderID: o.ID, Replaces: o.Replaces}
	var stored func(context.Context) error
	if p != nil {
		stored = p.wait
	}
	cert, err := s.cfg.Issuer.IssueAfter(ctx, r, stored)
	if p.wait(ctx) != nil {
		return nil // whoever moves the order was told
	}
	if err != nil {
		return s.failUnlessPassing(ctx, o, err)
	}
	return s.fulfil(ctx, o, cert.Certificate.CertificateRef, &cert, t)
}

// ended is what an issuance came to, for those who wait for it.
type ended struct {
	order  bulkhead.Order
	issued *bulkhead.IssuedCertificate // nil when the certificate is to be read from the record
}

// outOfTime reports whether an order has had its time: its own, and that of trying while nothing was stopped.
func (s *Service) outOfTime(ctx context.Context, o bulkhead.Order) (bool, error) {
	now := s.now()
	if now.After(o.ExpiresAt) {
		return true, nil
	}
	if !now.After(o.ProcessingSince.Add(s.limits.IssueTries)) {
		return false, nil
	}
	if held, err := s.waits(ctx, o); err != nil || held {
		return false, err
	}
	from, err := s.triesFrom(ctx, o)
	return err == nil && now.After(from.Add(s.limits.IssueTries)), err
}

// fulfil marks the predecessor and makes the order valid; the certificate is durable already. Its client is told before
// the row is written: that an order in processing has a durable certificate makes it valid to every reader (settle), and
// whoever finds the row unwritten after a crash writes it. issued is what the signer handed out, nil when it was found in the record.
func (s *Service) fulfil(ctx context.Context, o bulkhead.Order, ref bulkhead.CertificateRef, issued *bulkhead.IssuedCertificate, t *task) error {
	if o.Replaces != (bulkhead.CertificateRef{}) {
		if err := s.cfg.Store.MarkReplaced(ctx, o.Replaces, ref); err != nil {
			return err
		}
	}
	o.State, o.Certificate, o.Problem = bulkhead.OrderValid, ref, nil
	t.tell(ended{o, issued})
	err := ignoreConflict(s.cfg.Store.EndOrder(ctx, o))
	if err == nil {
		s.begun.Delete(o.ID)
	}
	return err
}

// failUnlessPassing ends the order for a refusal; troubles of ours that may pass leave it in processing.
func (s *Service) failUnlessPassing(ctx context.Context, o bulkhead.Order, err error) error {
	if ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	switch f := bulkhead.AsFault(err); f.Kind {
	case bulkhead.KindStopped:
		return nil // the stop came between our look and the signer's: the order waits for its end
	case bulkhead.KindInternal, bulkhead.KindUnavailable, bulkhead.KindConflict, bulkhead.KindRateLimited:
		return err
	default:
		return s.fail(ctx, o, f)
	}
}

func (s *Service) fail(ctx context.Context, o bulkhead.Order, f *bulkhead.Fault) error {
	_, err := s.refuse(ctx, o, f)
	if err == nil {
		s.begun.Delete(o.ID)
	}
	return err
}

func ignoreConflict(err error) error {
	if bulkhead.KindOf(err) == bulkhead.KindConflict {
		return nil
	}
	return err
}

// caaLook is what a look at CAA for every name of an order gave.
type caaLook struct {
	checks   []bulkhead.CAACheck
	evidence []bulkhead.Evidence
	subs     []bulkhead.SubFault // why the order is refused
	kept     bool                // it is in the record
}

// caaWait bounds the look at CAA that Finalize makes before the order is durable in processing.
const caaWait = 300 * time.Millisecond

// lookAtOnce looks at CAA so that what was seen is stored with the move to processing. When that takes too long, we could
// not look, or something does not permit, which a short wait may look like, the look is the zero one and is made again by
// the issuance, with more time.
func (s *Service) lookAtOnce(ctx context.Context, o bulkhead.Order, authzs []bulkhead.Authorization) caaLook {
	ctx, cancel := context.WithTimeout(ctx, caaWait)
	defer cancel()
	l, err := s.lookAll(ctx, o, authzs)
	if err != nil || ctx.Err() != nil || len(l.subs) > 0 {
		return caaLook{}
	}
	l.kept = true
	return l
}

// checkCAA looks at CAA for each name of the order, by the method with which it was validated, and stores what was
// seen before anybody is asked to sign. Any denial fails the whole order with KindCAA.
func (s *Service) checkCAA(ctx context.Context, o bulkhead.Order, l caaLook) error {
	if !l.kept {
		authzs, err := s.authorizations(ctx, o)
		if err != nil {
			return err
		}
		if l, err = s.lookAll(ctx, o, authzs); err != nil {
			return err
		}
		if err := s.cfg.Store.PutCAAChecks(ctx, l.checks, l.evidence...); err != nil {
			return err
		}
	}
	if len(l.subs) > 0 {
		return joinSubs(l.subs)
	}
	return nil
}

func (s *Service) lookAll(ctx context.Context, o bulkhead.Order, authzs []bulkhead.Authorization) (l caaLook, err error) {
	uri := ""
	if s.cfg.AccountURI != nil {
		uri = s.cfg.AccountURI(o.AccountID)
	}
	for _, a := range authzs {
		id := ordered(a)
		if a.State != bulkhead.AuthorizationValid {
			l.subs = append(l.subs, authorizationFault(a))
			continue
		}
		c, sub, err := s.lookCAA(ctx, o, a, uri)
		if err != nil {
			return l, err
		}
		l.checks = append(l.checks, c)
		l.evidence = append(l.evidence, bulkhead.Evidence{Kind: bulkhead.EvCAA, At: s.now(), Actor: accountActor(o.AccountID), Ref: o.ID,
			Detail: clip(string(c.Result) + ": " + id.Value + ": " + c.Detail)})
		if sub != nil {
			l.subs = append(l.subs, *sub)
		}
	}
	return l, nil
}

// lookCAA checks one name; sub is set when it is denied, err when we could not look at all.
func (s *Service) lookCAA(ctx context.Context, o bulkhead.Order, a bulkhead.Authorization, uri string) (c bulkhead.CAACheck, sub *bulkhead.SubFault, err error) {
	id := ordered(a)
	c, err = s.cfg.Validator.CheckCAA(ctx, id, a.Wildcard, uri, methodOf(a))
	if err != nil {
		if ctx.Err() != nil || bulkhead.KindOf(err) != bulkhead.KindCAA {
			return c, nil, err
		}
		c.Result = bulkhead.CAADenied
		if c.Detail == "" {
			c.Detail = bulkhead.AsFault(err).Detail
		}
	}
	c.OrderID, c.Identifier = o.ID, id
	if c.At.IsZero() {
		c.At = s.now()
	}
	if c.Result != bulkhead.CAAPermitted && c.Result != bulkhead.CAAExempt {
		sub = &bulkhead.SubFault{Identifier: id, Kind: bulkhead.KindCAA, Detail: c.Detail}
	}
	return c, sub, nil
}

// resumeBatch bounds what one look for unfinished work loads.
const resumeBatch = 100_000

// Resume takes up what an earlier process left behind: orders in processing, and challenges whose validation had not
// ended. It runs them by the ordinary path and returns when they are started.
func (s *Service) Resume(ctx context.Context) error {
	if err := s.takeUp(ctx, 0); err != nil {
		return err
	}
	pending, err := s.cfg.Store.OrdersInState(ctx, bulkhead.OrderPending, resumeBatch)
	if err != nil {
		return err
	}
	for _, o := range pending {
		if err := s.resumePending(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// retry takes up what this process could not bring to an end, and orders that no other process can still be at: two that sign for one
// order would make two certificates.
func (s *Service) retry(ctx context.Context) error {
	return s.takeUp(ctx, firstWithin+s.limits.IssueTimeout)
}

// retryOwn takes up orders that this process began, unless all issuance is stopped.
func (s *Service) retryOwn(ctx context.Context) (stopped bool, err error) {
	stops, err := s.cfg.Store.Stops(ctx)
	if err != nil || len(stops.Of(bulkhead.StopAll)) > 0 {
		return true, err
	}
	s.begun.Range(func(order, _ any) bool {
		_, err = s.startIssue(order.(string))
		return err == nil
	})
	return false, err
}

// takeUp takes up orders in processing, those that this process did not begin when they have been so for an age, and validations of
// this process whose outcome could not be stored. While all issuance is stopped orders are left alone.
func (s *Service) takeUp(ctx context.Context, age time.Duration) error {
	stopped, err := s.retryOwn(ctx)
	if err != nil {
		return err
	}
	if !stopped {
		processing, err := s.cfg.Store.OrdersInState(ctx, bulkhead.OrderProcessing, resumeBatch)
		if err != nil {
			return err
		}
		now := s.now()
		for _, o := range processing {
			if _, ours := s.begun.Load(o.ID); ours || now.Before(o.ProcessingSince.Add(age)) {
				continue
			}
			if _, err := s.startIssue(o.ID); err != nil {
				return err
			}
		}
	}
	s.lost.Range(func(challenge, authorization any) bool {
		_, err = s.startValidation(authorization.(string), challenge.(string), nil)
		return err == nil
	})
	return err
}

func (s *Service) resumePending(ctx context.Context, o bulkhead.Order) error {
	o, err := s.settle(ctx, o)
	if err != nil || o.State != bulkhead.OrderPending {
		return err
	}
	authzs, err := s.authorizations(ctx, o)
	if err != nil {
		return err
	}
	for _, a := range authzs {
		for _, c := range a.Challenges {
			if a.State != bulkhead.AuthorizationPending || c.State != bulkhead.ChallengeProcessing {
				continue
			}
			if _, err := s.startValidation(a.ID, c.ID, nil); err != nil {
				return err
			}
		}
	}
	return nil
}
