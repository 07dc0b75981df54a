package signer

import (
	"context"
	"slices"
	"time"

	"bulkhead"
)

// checkEvidence requires for each name a validation by this account that still counts, and a look at CAA for this
// order that permits, which an early question leaves out. The signer reads them from the record itself: a caller cannot vouch. A validation by a method that
// is stopped does not count while another serves. It returns the methods on which the names rest.
func (s *Signer) checkEvidence(req bulkhead.CertificateRequest, names []bulkhead.Identifier, m mandate, early bool) ([]bulkhead.Method, error) {
	if m.evidence == nil {
		return nil, noOrder(req.OrderID)
	}
	validations, checks, stops := m.evidence.Validations, m.evidence.Checks, m.stops
	now := s.now()
	var methods []bulkhead.Method
	var subs []bulkhead.SubFault
	for _, n := range names {
		method, detail := s.validated(validations, req.AccountID, n, now, stops)
		if method == "" {
			subs = append(subs, bulkhead.SubFault{Identifier: n, Kind: bulkhead.KindUnauthorized, Detail: detail})
			continue
		}
		methods = append(methods, method)
		if early {
			continue
		}
		if kind, detail := caaPermits(checks, req.OrderID, n, now); kind != "" {
			subs = append(subs, bulkhead.SubFault{Identifier: n, Kind: kind, Detail: detail})
		}
	}
	if len(subs) == 0 {
		return methods, nil
	}
	return nil, unproved(subs)
}

// permitted reads the looks at CAA that the record has by now for the order of a ticket.
func (s *Signer) permitted(ctx context.Context, t *ticket) error {
	g, err := s.groundsOf(ctx, t.row.AccountID, t.row.OrderID)
	if err != nil {
		return err
	}
	if g.evidence == nil {
		return noOrder(t.row.OrderID)
	}
	var subs []bulkhead.SubFault
	for _, n := range t.row.Names {
		if kind, detail := caaPermits(g.evidence.Checks, t.row.OrderID, n, s.now()); kind != "" {
			subs = append(subs, bulkhead.SubFault{Identifier: n, Kind: kind, Detail: detail})
		}
	}
	if len(subs) > 0 {
		return unproved(subs)
	}
	return nil
}

func noOrder(id string) error {
	return bulkhead.Faultf(bulkhead.KindNotFound, "order %q is not there", id).WithHint("place an order first")
}

// unproved is the refusal of an order for names of which something is not proved.
func unproved(subs []bulkhead.SubFault) error {
	f := bulkhead.Faultf(subs[0].Kind, "%s: %s", subs[0].Identifier.Value, subs[0].Detail).WithHint("validate the names again with a new order")
	if subs[0].Kind == bulkhead.KindCAA {
		f.WithHint("let the domain's CAA records permit this authority, then order again")
	}
	f.Subs = subs
	return f
}

// validated looks for one validation on which a certificate for n may rest, rather one whose method is not stopped, and
// returns its method, or "" and why there is none.
func (s *Signer) validated(all []bulkhead.Validation, accountID string, n bulkhead.Identifier, now time.Time, stops bulkhead.Stops) (stopped bulkhead.Method, why string) {
	detail := "no validation of this name by this account"
	for _, v := range all {
		switch {
		case v.AccountID != accountID || v.Identifier != n.Base():
		case !slices.Contains(s.cfg.Methods, v.Method) || !methodServes(v.Method, n):
			detail = "validated by a method that does not serve for this name"
		case n.Wildcard() && !v.Wildcard:
			detail = "the validation does not cover the wildcard"
		case v.At.After(now.Add(time.Second)) || !now.Before(v.ReuseUntil):
			detail = "the validation is too old"
		case stops.Method(v.Method):
			stopped = v.Method
		default:
			return v.Method, ""
		}
	}
	return stopped, detail
}

// methodServes says for which names a method shows control: http-01 and tls-alpn-01 say nothing of a wildcard (BR
// 3.2.2.4.19, 3.2.2.4.20), dns-01 nothing of an address (RFC 8738 section 7), and only a person can vouch for mail.
func methodServes(m bulkhead.Method, n bulkhead.Identifier) bool {
	switch m {
	case bulkhead.OperatorApproval:
		return true
	case bulkhead.DNS01:
		return n.Type == bulkhead.DNS
	case bulkhead.HTTP01, bulkhead.TLSALPN01:
		return n.Type == bulkhead.DNS && !n.Wildcard() || n.Type == bulkhead.IP
	default:
		return false
	}
}

// caaPermits judges by the newest look at CAA for the name in this order. CAA speaks of domain names (RFC 8659): other
// names need no look, but one that was denied is heeded.
func caaPermits(all []bulkhead.CAACheck, orderID string, n bulkhead.Identifier, now time.Time) (bulkhead.Kind, string) {
	var newest *bulkhead.CAACheck
	for i := range all {
		c := &all[i]
		if c.OrderID == orderID && c.Identifier == n && (newest == nil || c.At.After(newest.At) || c.At.Equal(newest.At) && c.Result == bulkhead.CAADenied) {
			newest = c
		}
	}
	switch {
	case newest == nil && n.Type == bulkhead.DNS:
		return bulkhead.KindCAA, "CAA was not checked for this order"
	case newest == nil:
		return "", ""
	case newest.Result != bulkhead.CAAPermitted && newest.Result != bulkhead.CAAExempt:
		return bulkhead.KindCAA, "CAA does not permit it"
	case newest.At.After(now.Add(time.Second)) || !now.Before(newest.ValidUntil):
		return bulkhead.KindCAA, "the CAA check is too old"
	}
	return "", ""
}
