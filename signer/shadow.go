package signer

import (
	"context"
	"iter"

	"bulkhead"
)

// ShadowAnswers yields what the signer says of certificates now and what it would say with a change laid over the record,
// by the code that SignAnswers runs up to the signature. Nothing is signed and no key is touched, so the change may be in
// any state. With serials it goes through those that exist among them; with nil through all that the authority answers
// for, in the order in which they were issued, those expired included. What is not answered for is not yielded.
func (s *Signer) ShadowAnswers(ctx context.Context, change string, issuer bulkhead.AuthorityID, serials []bulkhead.Serial) iter.Seq2[bulkhead.ShadowAnswer, error] {
	return func(yield func(bulkhead.ShadowAnswer, error) bool) {
		leave, err := s.enter()
		if err != nil {
			yield(bulkhead.ShadowAnswer{}, err)
			return
		}
		defer leave()
		if serials == nil {
			err = s.shadowAll(ctx, change, issuer, yield)
		} else {
			err = s.shadowSome(ctx, change, issuer, serials, yield)
		}
		if err != nil {
			yield(bulkhead.ShadowAnswer{}, err)
		}
	}
}

func (s *Signer) shadowSome(ctx context.Context, change string, issuer bulkhead.AuthorityID, serials []bulkhead.Serial, yield func(bulkhead.ShadowAnswer, error) bool) error {
	if err := checkSerials(serials); err != nil {
		return err
	}
	over, err := s.shadow(ctx, change, issuer)
	if err != nil {
		return err
	}
	rows, err := s.statuses(ctx, issuer, serials) // as they are at this moment
	if err != nil {
		return err
	}
	after := over.laying()
	for _, serial := range serials {
		st, ok := rows[serial]
		if ok && answered(st) && !yield(bulkhead.ShadowAnswer{Before: st, After: after.lay(st)}, nil) {
			return nil
		}
	}
	return nil
}

func (s *Signer) shadowAll(ctx context.Context, change string, issuer bulkhead.AuthorityID, yield func(bulkhead.ShadowAnswer, error) bool) error {
	over, err := s.shadow(ctx, change, issuer)
	if err != nil {
		return err
	}
	laid := over.laying()
	for after := int64(0); ; {
		rows, err := s.cfg.Store.StatusSince(ctx, issuer, after, page)
		if err != nil {
			return err
		}
		for _, st := range rows {
			if answered(st) && !yield(bulkhead.ShadowAnswer{Before: st, After: laid.lay(st)}, nil) {
				return nil
			}
		}
		if len(rows) < page {
			return nil
		}
		after = rows[len(rows)-1].Seq
	}
}

// shadow reads what a change would lay over the record; no change lays nothing.
func (s *Signer) shadow(ctx context.Context, change string, issuer bulkhead.AuthorityID) (*laidOver, error) {
	if change == "" {
		return &laidOver{}, nil
	}
	c, err := s.cfg.Store.Change(ctx, change)
	if err != nil {
		return nil, err
	}
	return s.laidOn(ctx, c, issuer)
}
