package run

import (
	"context"
	"slices"
	"time"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/scan/advice"
)

// adviser fills the five steps in with what is known of one certificate: the record, the campaign that it is in, and what looks
// of the house showed at its names.
type adviser struct{ h *House }

// state is what is known; seen is false when nobody has looked at its names yet.
func (x adviser) state(ctx context.Context, ref bulkhead.CertificateRef) (s advice.State, seen bool, err error) {
	c, _, err := x.h.store.Certificate(ctx, ref)
	if err != nil {
		return s, false, err
	}
	s.Host, s.Revoked = ref.Serial.String(), c.RevokedAt
	if len(c.Names) > 0 {
		s.Host = c.Names[0].Value
	}
	if blocked, err := x.h.store.BlockedKeys(ctx, c.KeyHash); err != nil {
		return s, false, err
	} else if len(blocked) > 0 {
		s.OldKey = c.KeyHash
	}
	product := x.h.product(c.Profile)
	s.Chain = append(x.h.desk.ChainAdvice(c.Profile, c.NotBefore), x.h.desk.ChainAdvice(product, c.NotBefore)...)
	replacement, err := x.campaign(ctx, &s, c)
	if err != nil {
		return s, false, err
	}
	seen, err = x.looks(ctx, &s, c, replacement)
	return s, seen, err
}

// campaign fills in how far the item has come, and returns its replacement's fingerprint; zero without one.
func (x adviser) campaign(ctx context.Context, s *advice.State, c bulkhead.Certificate) (bulkhead.Hash, error) {
	in, it, err := x.h.store.MembershipOf(ctx, c.CertificateRef)
	if bulkhead.KindOf(err) == bulkhead.KindNotFound {
		return bulkhead.Hash{}, nil
	}
	if err != nil {
		return bulkhead.Hash{}, err
	}
	if in.Needs.NewKey || in.Needs.Patch {
		s.OldKey = it.KeyHash
	}
	s.Vulnerable, s.RevokeAt, s.Installed = it.Vulnerable, it.RevokeAt, it.State == bulkhead.ItemInstalled
	tickets, err := x.h.store.Tickets(ctx, it.AccountID, in.ID, 10_000)
	if err != nil {
		return bulkhead.Hash{}, err
	}
	s.Ticket = slices.ContainsFunc(tickets, func(t bulkhead.Ticket) bool {
		return t.Replaces == c.CertificateRef && t.RedeemedAt.IsZero() && x.h.now().Before(t.ExpiresAt)
	})
	if it.Replacement == (bulkhead.CertificateRef{}) {
		return bulkhead.Hash{}, nil
	}
	n, _, err := x.h.store.Certificate(ctx, it.Replacement)
	if bulkhead.KindOf(err) == bulkhead.KindNotFound {
		return bulkhead.Hash{}, nil
	}
	s.Replaced = err == nil && (s.OldKey.IsZero() || n.KeyHash != s.OldKey)
	return n.Fingerprint, err
}

// adviceAge is how old a look may be to be told.
const adviceAge = 30 * 24 * time.Hour

// looks fills in what each place showed last; the worst verdict is the one that is told.
func (x adviser) looks(ctx context.Context, s *advice.State, c bulkhead.Certificate, replacement bulkhead.Hash) (seen bool, err error) {
	rank := []bulkhead.Verdict{bulkhead.Vulnerable, bulkhead.Inconclusive, bulkhead.Unreachable, bulkhead.Patched, bulkhead.NotSupported}
	for _, n := range c.Names {
		rows, err := x.h.history.Of(ctx, bulkhead.HouseLooks, n.Value, 100)
		if err != nil {
			return seen, err
		}
		newest := map[bulkhead.LookPlace]bool{}
		for _, r := range rows {
			if newest[r.LookPlace] || r.Reason == bulkhead.ReasonRefused || x.h.now().Sub(r.LastAt) > adviceAge {
				newest[r.LookPlace] = true
				continue
			}
			newest[r.LookPlace], seen = true, true
			if s.Verdict == "" || slices.Index(rank, r.Verdict) < slices.Index(rank, s.Verdict) {
				s.Verdict = r.Verdict
			}
			if r.LastAt.After(s.Looked) {
				s.Looked = r.LastAt
			}
			if r.Verdict == bulkhead.Vulnerable && r.LastAt.After(s.Vulnerable) {
				s.Vulnerable = r.LastAt
			}
			if !r.Key.IsZero() && (s.ServedKey.IsZero() || r.Key == s.OldKey) { // one node with the old key is enough
				s.ServedKey, s.Issued = r.Key, r.Issued
			}
			if s.Replaced && r.Fingerprint != replacement {
				s.Stale = append(s.Stale, r.Address.String())
			}
		}
	}
	s.Installed = s.Installed && len(s.Stale) == 0
	return seen, nil
}

// Advise implements console.Adviser.
func (x adviser) Advise(ctx context.Context, ref bulkhead.CertificateRef, language string) (console.AdviceView, error) {
	s, seen, err := x.state(ctx, ref)
	if err != nil {
		return console.AdviceView{}, err
	}
	a := advice.For(s, advice.Language(language))
	v := console.AdviceView{Certificate: ref.String(), Language: string(a.Language), Headline: a.Headline, Needed: a.Needed, Seen: seen, LookedAt: s.Looked, Steps: []console.AdviceStep{}, Text: a.Text()}
	for _, t := range a.Steps {
		v.Steps = append(v.Steps, console.AdviceStep{Number: t.Number, Title: t.Title, State: string(t.State), Text: t.Text})
	}
	return v, nil
}

// Words are the steps for a letter, by language, where something was seen; nil where not.
func (x adviser) Words(ctx context.Context, ref bulkhead.CertificateRef) (map[string]string, error) {
	s, seen, err := x.state(ctx, ref)
	if err != nil || !seen {
		return nil, err
	}
	out := map[string]string{}
	for _, l := range []advice.Language{advice.English, advice.Japanese} {
		out[string(l)] = advice.For(s, l).Short()
	}
	return out, nil
}
