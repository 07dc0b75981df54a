package rel

import (
	"context"
	"time"

	"bulkhead"
)

const ticketFields = `id, campaign, replaces_issuer, replaces_serial, order_id, name, account_id, code_hash, actor, created_at, expires_at, claimed_at, request, redeemed_at, used_issuer, used_serial`

func scanTicket(r scanner) (bulkhead.Ticket, error) {
	var t bulkhead.Ticket
	err := r.Scan(&t.ID, &t.Campaign, &t.Replaces.Issuer, serialCol{&t.Replaces.Serial}, &t.OrderID, &t.Name, &t.AccountID, hashCol{&t.CodeHash}, &t.Actor, timeCol{&t.CreatedAt},
		timeCol{&t.ExpiresAt}, timeCol{&t.ClaimedAt}, hashCol{&t.Request}, timeCol{&t.RedeemedAt}, &t.Used.Issuer, serialCol{&t.Used.Serial})
	return t, err
}

// CreateTickets inserts tickets; one that is there already, by id or for the same item, stays as it is. It returns how many
// are new; without any, nothing is appended.
func (s *Store) CreateTickets(ctx context.Context, tickets []bulkhead.Ticket, ev ...bulkhead.Evidence) (fresh int64, err error) {
	leaves, err := marshal(ev)
	if err != nil {
		return 0, s.fault("CreateTickets", err)
	}
	err = s.write(ctx, "CreateTickets", nil, func(t *tx) error {
		if err := t.lockEvidence(ctx); err != nil {
			return err
		}
		fresh = 0
		for _, k := range tickets {
			n, err := exec(ctx, t, `INSERT INTO tickets (`+ticketFields+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0, $12, 0, '', $12) ON CONFLICT DO NOTHING`,
				k.ID, k.Campaign, string(k.Replaces.Issuer), serialArg(k.Replaces.Serial), k.OrderID, text(k.Name), k.AccountID, hashArg(k.CodeHash), text(k.Actor), unix(k.CreatedAt), unix(k.ExpiresAt), []byte{})
			if err != nil {
				return err
			}
			fresh += n
		}
		if fresh == 0 {
			return nil
		}
		_, err := t.append(ctx, leaves)
		return err
	})
	return fresh, err
}

// TicketByCode returns a ticket by the hash of its code; KindNotFound when there is none.
func (s *Store) TicketByCode(ctx context.Context, code bulkhead.Hash) (bulkhead.Ticket, error) {
	t, err := one(ctx, s.reader, scanTicket, `SELECT `+ticketFields+` FROM tickets WHERE code_hash = $1`, hashArg(code))
	return t, s.fault("TicketByCode", absent(err, "ticket", "with this code"))
}

// Tickets returns tickets of an account (every account when ""), of a campaign (any when ""), newest first.
func (s *Store) Tickets(ctx context.Context, account, campaign string, limit int) ([]bulkhead.Ticket, error) {
	rows, err := list(ctx, s.reader, scanTicket, `SELECT `+ticketFields+` FROM tickets WHERE ($1 = '' OR account_id = $1) AND ($2 = '' OR campaign = $2) ORDER BY seq DESC LIMIT $3`,
		account, campaign, atMost(limit))
	return rows, s.fault("Tickets", err)
}

// ClaimTicket binds an unused ticket to one request; the same request may claim again. KindConflict when it is used, or
// another request holds it.
func (s *Store) ClaimTicket(ctx context.Context, id string, request bulkhead.Hash, at time.Time) error {
	return s.write(ctx, "ClaimTicket", nil, func(t *tx) error {
		n, err := exec(ctx, t, `UPDATE tickets SET claimed_at = $3, request = $2 WHERE id = $1 AND redeemed_at = 0 AND (claimed_at = 0 OR request = $2)`, id, hashArg(request), unix(at))
		if err == nil && n == 0 {
			return conflict("ticket %s is used, or another request holds it", id)
		}
		return err
	})
}

// ReleaseTicket gives up the claim of a request that came to nothing.
func (s *Store) ReleaseTicket(ctx context.Context, id string, request bulkhead.Hash) error {
	return s.write(ctx, "ReleaseTicket", nil, func(t *tx) error {
		_, err := exec(ctx, t, `UPDATE tickets SET claimed_at = 0, request = $3 WHERE id = $1 AND redeemed_at = 0 AND request = $2`, id, hashArg(request), []byte{})
		return err
	})
}

// RedeemTicket ends a claimed ticket with what was issued. Repeating it with the same certificate changes nothing;
// KindConflict when the request does not hold it.
func (s *Store) RedeemTicket(ctx context.Context, id string, request bulkhead.Hash, used bulkhead.CertificateRef, at time.Time, ev ...bulkhead.Evidence) error {
	leaves, err := marshal(ev)
	if err != nil {
		return s.fault("RedeemTicket", err)
	}
	return s.write(ctx, "RedeemTicket", nil, func(t *tx) error {
		if err := t.lockEvidence(ctx); err != nil {
			return err
		}
		n, err := exec(ctx, t, `UPDATE tickets SET redeemed_at = $3, used_issuer = $4, used_serial = $5 WHERE id = $1 AND request = $2 AND redeemed_at = 0 AND claimed_at > 0`,
			id, hashArg(request), unix(at), string(used.Issuer), serialArg(used.Serial))
		if err != nil {
			return err
		}
		if n == 0 {
			k, err := one(ctx, t, scanTicket, `SELECT `+ticketFields+` FROM tickets WHERE id = $1`, id)
			if err = absent(err, "ticket", id); err != nil {
				return err
			}
			if k.Request == request && k.Used == used {
				return nil
			}
			return conflict("ticket %s is used, or another request holds it", id)
		}
		_, err = t.append(ctx, leaves)
		return err
	})
}
