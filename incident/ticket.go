package incident

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"fmt"
	"slices"
	"strings"

	"bulkhead"
)

// A code is 130 random-looking bits in five groups. It is derived from a secret of the house and the ticket's id, so that
// a process that is killed while giving it out gives out the same one again; the record has its hash only.
const codeGroup, codeGroups = 6, 5 // 26 characters of 5 bits, the last group shorter

var codeAlphabet = base32.NewEncoding("ABCDEFGHJKMNPQRSTVWXYZ0123456789").WithPadding(base32.NoPadding) // Crockford's letters: no I, L, O, U

// code is the code of a ticket.
func (s *Service) code(id string) string {
	h := hmac.New(sha256.New, s.cfg.TicketSecret)
	h.Write([]byte("bulkhead ticket v1\n" + id))
	text := codeAlphabet.EncodeToString(h.Sum(nil))[:26]
	var groups []string
	for len(text) > 0 {
		n := min(codeGroup, len(text))
		groups, text = append(groups, text[:n]), text[n:]
	}
	return strings.Join(groups[:min(codeGroups, len(groups))], "-")
}

// codeHash is what the record keeps of a code. People type it in any case, with or without the dashes.
func codeHash(code string) bulkhead.Hash {
	plain := strings.Map(func(r rune) rune {
		switch {
		case r == '-' || r == ' ' || r == '\t' || r == '\n' || r == '\r':
			return -1
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		default:
			return r
		}
	}, code)
	return bulkhead.Digest([]byte("bulkhead ticket code v1\n" + plain))
}

// ticketID is that of the one ticket of an item: the same each time.
func ticketID(campaign string, ref bulkhead.CertificateRef) string {
	d := bulkhead.Digest([]byte("bulkhead ticket id v1\n" + campaign + "\n" + ref.String()))
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(d[:10]))
}

// ticketsFor gives the items of a campaign their tickets and returns the codes. Doing it again gives the same ones.
func (s *Service) ticketsFor(ctx context.Context, c bulkhead.Campaign, items []bulkhead.CampaignItem) (map[bulkhead.CertificateRef]string, error) {
	codes := map[bulkhead.CertificateRef]string{}
	if !c.Tickets || len(s.cfg.TicketSecret) == 0 {
		return codes, nil
	}
	now := s.now()
	var tickets []bulkhead.Ticket
	h := sha256.New()
	for _, it := range items {
		if it.Own || it.AccountID == "" || it.OrderID == "" || it.Replacement != (bulkhead.CertificateRef{}) {
			continue
		}
		t := bulkhead.Ticket{ID: ticketID(c.ID, it.CertificateRef), Campaign: c.ID, Replaces: it.CertificateRef, OrderID: it.OrderID, Name: it.Name, AccountID: it.AccountID, Actor: "role:incident",
			CreatedAt: now, ExpiresAt: now.Add(s.cfg.TicketLife)}
		code := s.code(t.ID)
		t.CodeHash, codes[it.CertificateRef] = codeHash(code), code
		h.Write(t.CodeHash[:])
		tickets = append(tickets, t)
	}
	if len(tickets) == 0 {
		return codes, nil
	}
	ev := s.leaf(bulkhead.EvTicketIssued, c.ID, "role:incident", "free reissue by code")
	ev.Count, ev.Digest = int64(len(tickets)), bulkhead.Hash(h.Sum(nil))
	_, err := s.cfg.Store.CreateTickets(ctx, tickets, ev)
	return codes, err
}

// TicketRequest names the certificate that a ticket is to replace.
type TicketRequest = bulkhead.TicketRequest

// IssueTicket gives one free reissue, outside a campaign or for a certificate that is in one. The code is in this answer;
// asking again for a certificate of a campaign gives the same one.
func (s *Service) IssueTicket(ctx context.Context, actor string, req TicketRequest) (bulkhead.Ticket, string, error) {
	t, err := s.draftTicket(ctx, actor, req)
	if err != nil {
		return t, "", err
	}
	code := s.code(t.ID)
	t.CodeHash = codeHash(code)
	ev := s.leaf(bulkhead.EvTicketIssued, t.ID, actor, "order "+t.OrderID+", "+t.Name)
	ev.Count, ev.Digest = 1, bulkhead.Digest(t.CodeHash[:])
	_, err = s.cfg.Store.CreateTickets(ctx, []bulkhead.Ticket{t}, ev)
	return t, code, err
}

// MayIssueTicket says whether IssueTicket would be refused.
func (s *Service) MayIssueTicket(ctx context.Context, actor string, req TicketRequest) (bulkhead.Ticket, error) {
	return s.draftTicket(ctx, actor, req)
}

func (s *Service) draftTicket(ctx context.Context, actor string, req TicketRequest) (bulkhead.Ticket, error) {
	if len(s.cfg.TicketSecret) == 0 {
		return bulkhead.Ticket{}, bulkhead.NewFault(bulkhead.KindUnavailable, "this house has no secret for tickets")
	}
	old, err := s.ordered(ctx, req.OrderID, req.Name)
	if err != nil {
		return bulkhead.Ticket{}, err
	}
	if old.State != bulkhead.Issued {
		return bulkhead.Ticket{}, bulkhead.Faultf(bulkhead.KindConflict, "certificate %s is %s", old.CertificateRef, old.State).WithHint("order a new one")
	}
	now := s.now()
	t := bulkhead.Ticket{Replaces: old.CertificateRef, OrderID: req.OrderID, Name: req.Name, AccountID: old.AccountID, Actor: actor, CreatedAt: now, ExpiresAt: now.Add(s.cfg.TicketLife)}
	if req.Life > 0 {
		t.ExpiresAt = now.Add(req.Life)
	}
	c, _, err := s.cfg.Store.MembershipOf(ctx, old.CertificateRef)
	switch bulkhead.KindOf(err) {
	case "":
		t.Campaign, t.ID = c.ID, ticketID(c.ID, old.CertificateRef)
		return t, nil
	case bulkhead.KindNotFound:
		t.ID, err = s.newID()
	}
	return t, err
}

// ordered is the certificate of an order that has the name.
func (s *Service) ordered(ctx context.Context, order, name string) (bulkhead.Certificate, error) {
	c, _, err := s.cfg.Store.CertificateByOrder(ctx, order)
	if err != nil {
		return c, err
	}
	if !slices.ContainsFunc(c.Names, func(n bulkhead.Identifier) bool { return n.Value == strings.ToLower(name) }) {
		return c, bulkhead.Faultf(bulkhead.KindNotFound, "the certificate of order %s is not for %q", order, name).WithHint("one name of the certificate, as it is in it")
	}
	return c, nil
}

// Tickets lists tickets, newest first; account "" is every account.
func (s *Service) Tickets(ctx context.Context, account, campaign string, limit int) ([]bulkhead.Ticket, error) {
	return s.cfg.Store.Tickets(ctx, account, campaign, limit)
}

// Codes gives the codes of tickets again, for whoever sends them out; only those that are not used.
func (s *Service) Codes(tickets []bulkhead.Ticket) map[string]string {
	out := map[string]string{}
	for _, t := range tickets {
		if code := s.code(t.ID); len(s.cfg.TicketSecret) > 0 && t.RedeemedAt.IsZero() && codeHash(code) == t.CodeHash {
			out[t.ID] = code
		}
	}
	return out
}

// Redemption is one request for a reissue.
type Redemption = bulkhead.Redemption

// check holds a code against the request; the answer to a wrong one says nothing about whose it is.
func (s *Service) check(ctx context.Context, account string, r Redemption) (bulkhead.Ticket, error) {
	no := bulkhead.NewFault(bulkhead.KindForbidden, "this code is not for this order, this name and this account").WithHint("use the code, the order number and the name of one notice together")
	want := codeHash(r.Code)
	t, err := s.cfg.Store.TicketByCode(ctx, want)
	if bulkhead.KindOf(err) == bulkhead.KindNotFound {
		return t, no
	}
	if err != nil {
		return t, err
	}
	same := subtle.ConstantTimeCompare(want[:], t.CodeHash[:])
	for _, x := range [][2]string{{t.AccountID, account}, {t.OrderID, r.OrderID}, {t.Name, strings.ToLower(r.Name)}} {
		same &= subtle.ConstantTimeCompare([]byte(x[0]), []byte(x[1]))
	}
	switch {
	case same != 1:
		return t, no
	case !t.RedeemedAt.IsZero() && t.Request != request(r):
		return t, bulkhead.Faultf(bulkhead.KindConflict, "this code was used at %s", utc(t.RedeemedAt)).WithHint("ask for another: it is free")
	case !t.RedeemedAt.IsZero():
		return t, nil
	case s.now().After(t.ExpiresAt):
		return t, bulkhead.Faultf(bulkhead.KindConflict, "this code expired at %s", utc(t.ExpiresAt)).WithHint("ask for another: it is free")
	}
	return t, nil
}

// request identifies what a code is used for; the same request may be repeated until it has its certificate.
func request(r Redemption) bulkhead.Hash {
	return bulkhead.Digest(fmt.Appendf(nil, "bulkhead redemption v1\n%s\n%s\n%s", r.OrderID, strings.ToLower(r.Name), bulkhead.Digest(r.CSR)))
}

// MayRedeem says whether Redeem would be refused for its code.
func (s *Service) MayRedeem(ctx context.Context, account string, r Redemption) (bulkhead.Ticket, error) {
	return s.check(ctx, account, r)
}

// Redeem replaces one certificate against a code: by the account that holds it, once. The same request repeated gets the
// same certificate; a request that came to nothing leaves the code good.
func (s *Service) Redeem(ctx context.Context, account string, r Redemption) (bulkhead.IssuedCertificate, error) {
	return s.redeem(ctx, "account:"+account, account, r)
}

func (s *Service) redeem(ctx context.Context, actor, account string, r Redemption) (bulkhead.IssuedCertificate, error) {
	var none bulkhead.IssuedCertificate
	if s.cfg.Reissuer == nil {
		return none, bulkhead.NewFault(bulkhead.KindUnavailable, "this house takes no reissue by code")
	}
	t, err := s.check(ctx, account, r)
	if err != nil {
		return none, err
	}
	old, _, err := s.cfg.Store.Certificate(ctx, t.Replaces)
	if err != nil {
		return none, err
	}
	if t.RedeemedAt.IsZero() {
		if err := s.cfg.Store.ClaimTicket(ctx, t.ID, request(r), s.now()); err != nil {
			return none, err
		}
	}
	got, err := s.cfg.Reissuer.Reissue(ctx, account, old, r.CSR, r.Method)
	if err != nil {
		switch bulkhead.KindOf(err) {
		case bulkhead.KindUnavailable, bulkhead.KindInternal: // it may have been issued all the same: the request keeps its code
		default:
			_ = s.cfg.Store.ReleaseTicket(context.WithoutCancel(ctx), t.ID, request(r)) // else the same request is served at its next try
		}
		return none, err
	}
	ev := s.leaf(bulkhead.EvTicketRedeemed, t.ID, actor, "account "+account+", order "+t.OrderID+", "+t.Name)
	ev.Authority, ev.Serial = got.Certificate.Issuer, got.Certificate.Serial
	return got, s.cfg.Store.RedeemTicket(ctx, t.ID, request(r), got.Certificate.CertificateRef, s.now(), ev)
}

// registered finds the account of a code, and refuses whoever is not one of its registered contacts.
func (s *Service) registered(ctx context.Context, from string, r Redemption) (string, error) {
	no := bulkhead.NewFault(bulkhead.KindForbidden, "this address is not a registered contact of the account that the code is for").WithHint("ask from the registered address, or with the account's own token")
	t, err := s.cfg.Store.TicketByCode(ctx, codeHash(r.Code))
	if bulkhead.KindOf(err) == bulkhead.KindNotFound {
		return "", no
	}
	if err != nil {
		return "", err
	}
	a, err := s.cfg.Store.Account(ctx, t.AccountID)
	if err != nil {
		return "", err
	}
	from = strings.TrimSpace(from)
	if from == "" || !slices.ContainsFunc(a.Contacts, func(c string) bool { return strings.EqualFold(strings.TrimPrefix(c, "mailto:"), from) }) {
		return "", no
	}
	return a.ID, nil
}

// RedeemFor is Redeem by an operator for an account whose registered contact asked by mail.
func (s *Service) RedeemFor(ctx context.Context, actor, from string, r Redemption) (bulkhead.IssuedCertificate, error) {
	account, err := s.registered(ctx, from, r)
	if err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	return s.redeem(ctx, actor, account, r)
}

// MayRedeemFor says whether RedeemFor would be refused.
func (s *Service) MayRedeemFor(ctx context.Context, from string, r Redemption) (bulkhead.Ticket, error) {
	account, err := s.registered(ctx, from, r)
	if err != nil {
		return bulkhead.Ticket{}, err
	}
	return s.check(ctx, account, r)
}
