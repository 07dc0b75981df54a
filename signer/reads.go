package signer

import (
	"context"
	"errors"

	"bulkhead"
)

// notBlocked asks the record whether a key may be certified (P10). Who asks at the same time is answered by one query,
// which begins after the last of them has asked.
func (s *Signer) notBlocked(ctx context.Context, key bulkhead.Hash) error {
	_, err := s.blocks.do(ctx.Done(), key)
	if errors.Is(err, errNotTaken) {
		return unavailable("the request was given up", ctx.Err())
	}
	return err
}

// flushBlocks reads the blocks of the keys, and the stops in force, in one go. Nothing is remembered: what was committed
// before a signature is asked for is heeded, by whichever process it was.
func (s *Signer) flushBlocks(keys []bulkhead.Hash) []outcome[bulkhead.Stops] {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	blocked, err := s.cfg.Store.BlockedKeys(ctx, keys...)
	if err != nil {
		return failed[bulkhead.Stops](len(keys), unavailable("the list of blocked keys cannot be read", err))
	}
	stops, err := s.cfg.Store.Stops(ctx)
	if err != nil {
		return failed[bulkhead.Stops](len(keys), unavailable("the stops of issuance cannot be read", err))
	}
	out := make([]outcome[bulkhead.Stops], len(keys))
	for i := range out {
		out[i].value = stops
	}
	for _, b := range blocked {
		for i, k := range keys {
			if k == b.KeyHash {
				out[i].err = blockedKey()
			}
		}
	}
	return out
}

// flushLookups reads each authority that somebody asked for once.
func (s *Signer) flushLookups(ids []bulkhead.AuthorityID) []outcome[*authority] {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	seen := map[bulkhead.AuthorityID]outcome[*authority]{}
	out := make([]outcome[*authority], len(ids))
	for i, id := range ids {
		o, known := seen[id]
		if !known {
			rec, err := s.cfg.Store.Authority(ctx, id)
			if err != nil {
				o.err = hinted(err, "choose one of: bulkhead hierarchy show")
			} else {
				o.value, o.err = s.known(ctx, rec)
			}
			seen[id] = o
		}
		out[i] = o
	}
	return out
}

// asker is who asks for a certificate, and for which order.
type asker struct{ account, order string }

// grounds are what the record says of an asker: who it is, what is stopped, and on what the order rests; no evidence for an
// order that does not exist.
type grounds struct {
	standing bulkhead.Standing
	evidence *bulkhead.OrderEvidence
}

// flushStandings reads the grounds of all who ask in one go, each account once.
func (s *Signer) flushStandings(askers []asker) []outcome[grounds] {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	orders := make([]string, len(askers))
	for i, a := range askers {
		orders[i] = a.order
	}
	evidence, err := s.cfg.Store.OrdersEvidence(ctx, orders...)
	if err != nil {
		return failed[grounds](len(askers), err)
	}
	seen := map[string]outcome[grounds]{}
	out := make([]outcome[grounds], len(askers))
	for i, a := range askers {
		o, known := seen[a.account]
		if !known {
			o.value.standing, o.err = s.cfg.Store.Standing(ctx, a.account)
			seen[a.account] = o
		}
		o.value.evidence = evidence[a.order]
		out[i] = o
	}
	return out
}
