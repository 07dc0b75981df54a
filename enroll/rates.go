package enroll

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"

	"bulkhead"
)

// LimitName names a rate limit in configuration, in answers and in the record.
type LimitName string

// The rate limits.
const (
	OrdersPerAccount      LimitName = "orders_per_account"      // new orders
	AccountsPerPrefix     LimitName = "accounts_per_prefix"     // new accounts per IPv4 /24 or IPv6 /48 of the asker
	FailedValidations     LimitName = "failed_validations"      // per account and name
	CertificatesPerSet    LimitName = "certificates_per_set"    // per exact set of names
	CertificatesPerDomain LimitName = "certificates_per_domain" // per registered domain (public suffix and one label) or address
)

// LimitNames lists every limit.
var LimitNames = []LimitName{OrdersPerAccount, AccountsPerPrefix, FailedValidations, CertificatesPerSet, CertificatesPerDomain}

// Rate is Count units at once and in each Per; Count 0 is no limit.
type Rate struct {
	Count int
	Per   time.Duration
}

// Check refuses a rate that limits nothing and says otherwise.
func (r Rate) Check() error {
	if r.Count < 0 || r.Count > 0 && (r.Per < time.Second || r.Per/time.Duration(r.Count) < time.Microsecond) {
		return bulkhead.Faultf(bulkhead.KindUsage, "%d per %s is not a rate", r.Count, r.Per).WithHint("for example {count: 300, per: 3h}; count 0 is no limit")
	}
	return nil
}

// RateOverride replaces one limit for one account or one name. The name is what the limit counts by: a prefix for
// accounts_per_prefix, a domain for certificates_per_domain, the sorted names joined by commas for
// certificates_per_set. An override by account goes before one by name.
type RateOverride struct {
	Limit   LimitName
	Account string
	Name    string
	Rate    Rate
}

// RateLimits are the limits in force; the zero value limits nothing.
type RateLimits struct {
	Rates     map[LimitName]Rate
	Overrides []RateOverride
	// Exempt frees an order from the limits of orders and certificates, besides renewals that say which certificate
	// they replace (RFC 9773 section 5); nil frees none. Failed validations are always counted.
	Exempt func(acct bulkhead.Account, replaces bulkhead.CertificateRef, ids []bulkhead.Identifier) bool
}

// Check refuses unknown limits and rates that are none.
func (l RateLimits) Check() error {
	for name, r := range l.Rates {
		if err := checkRate(name, r); err != nil {
			return err
		}
	}
	for _, o := range l.Overrides {
		if err := checkRate(o.Limit, o.Rate); err != nil {
			return err
		}
		if (o.Account == "") == (o.Name == "") {
			return bulkhead.Faultf(bulkhead.KindUsage, "%s: an override is for an account or for a name", o.Limit)
		}
	}
	return nil
}

func checkRate(name LimitName, r Rate) error {
	if !slices.Contains(LimitNames, name) {
		return bulkhead.Faultf(bulkhead.KindUsage, "there is no limit %q", name)
	}
	if err := r.Check(); err != nil {
		return bulkhead.Faultf(bulkhead.KindUsage, "%s: %s", name, bulkhead.AsFault(err).Detail).WithHint(bulkhead.AsFault(err).Hint)
	}
	return nil
}

// RateLimits tells the limits in force, without overrides.
func (s *Service) RateLimits() map[LimitName]Rate { return s.cfg.Rates.Rates }

// rate is the limit that holds for an account and a name.
func (l RateLimits) rate(limit LimitName, account, name string) Rate {
	found := l.Rates[limit]
	for _, o := range l.Overrides {
		if o.Limit != limit {
			continue
		}
		if o.Account != "" && o.Account == account {
			return o.Rate
		}
		if o.Name != "" && o.Name == name {
			found = o.Rate
		}
	}
	return found
}

// charge adds what one unit costs, when there is a limit. Keys keep the name legible up to a length, then as a digest, and hold the
// rate: a limit that an operator changes counts from nothing, so that raising it helps at once whoever had used it up.
func (l RateLimits) charge(to []bulkhead.RateCharge, limit LimitName, account, name, key string) []bulkhead.RateCharge {
	r := l.rate(limit, account, name)
	if r.Count <= 0 {
		return to
	}
	if len(key) > 200 {
		key = bulkhead.Digest([]byte(key)).String()
	}
	interval := r.Per / time.Duration(r.Count)
	return append(to, bulkhead.RateCharge{Key: fmt.Sprintf("%s (%d per %s)/%s", limit, r.Count, r.Per, key), Interval: interval, Burst: interval * time.Duration(r.Count)})
}

// exempt reports whether an order is free of the limits of orders and certificates. A renewal can be claimed once per
// certificate, so its freedom is bounded by what was issued.
func (s *Service) exempt(ctx context.Context, acct bulkhead.Account, replaces bulkhead.CertificateRef, ids []bulkhead.Identifier) bool {
	return acct.Operator || replaces != (bulkhead.CertificateRef{}) || s.cfg.Rates.Exempt != nil && s.cfg.Rates.Exempt(acct, replaces, ids) || s.member(ctx, acct, replaces, ids)
}

// admitNewAccount takes a unit for the network of the asker.
func (s *Service) admitNewAccount(ctx context.Context, from netip.Addr) error {
	if !from.IsValid() {
		return nil
	}
	p := prefixOf(from)
	return s.take(ctx, s.cfg.Rates.charge(nil, AccountsPerPrefix, "", p, p))
}

// prefixOf is the network that one asker is taken to hold.
func prefixOf(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	bits := 48
	if a.Is4() {
		bits = 24
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return a.String()
	}
	return p.String()
}

// admitOrder takes a unit of orders, after a look at the limits that later steps will take from.
func (s *Service) admitOrder(ctx context.Context, acct bulkhead.Account, o bulkhead.Order, unproved []bulkhead.Identifier) error {
	var later []bulkhead.RateCharge
	for _, id := range unproved {
		later = s.failureCharge(later, acct.ID, id)
	}
	free := s.exempt(ctx, acct, o.Replaces, o.Identifiers)
	if !free {
		later = append(later, s.certificateCharges(acct.ID, o.Identifiers)...)
	}
	if len(later) > 0 {
		r, err := s.cfg.Store.PeekRate(ctx, s.now(), later)
		if err := s.limited(r, err); err != nil {
			return err
		}
	}
	if free {
		return nil
	}
	return s.take(ctx, s.cfg.Rates.charge(nil, OrdersPerAccount, acct.ID, "", acct.ID))
}

// admitCertificate takes a unit for the names of a certificate.
func (s *Service) admitCertificate(ctx context.Context, acct bulkhead.Account, o bulkhead.Order) error {
	if s.exempt(ctx, acct, o.Replaces, o.Identifiers) {
		return nil
	}
	return s.take(ctx, s.certificateCharges(acct.ID, o.Identifiers))
}

func (s *Service) certificateCharges(account string, ids []bulkhead.Identifier) []bulkhead.RateCharge {
	if len(s.cfg.Rates.Rates)+len(s.cfg.Rates.Overrides) == 0 {
		return nil
	}
	names, domains := map[string]bool{}, map[string]bool{}
	for _, id := range ids {
		names[id.Value] = true
		domains[registered(id)] = true
	}
	set := strings.Join(sorted(names), ",")
	out := s.cfg.Rates.charge(nil, CertificatesPerSet, account, set, set)
	for _, d := range sorted(domains) {
		out = s.cfg.Rates.charge(out, CertificatesPerDomain, account, d, d)
	}
	return out
}

func sorted(set map[string]bool) []string {
	out := make([]string, 0, len(set))
	for k := range set {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// registered is the domain that somebody registered to have the name: the public suffix and one label. Under names that
// are no public suffix, like "internal", that is the last two labels.
func registered(id bulkhead.Identifier) string {
	name := id.Base().Value
	if id.Type != bulkhead.DNS {
		return name
	}
	if d, err := publicsuffix.EffectiveTLDPlusOne(name); err == nil {
		return d
	}
	return name
}

func (s *Service) failureCharge(to []bulkhead.RateCharge, account string, id bulkhead.Identifier) []bulkhead.RateCharge {
	name := id.Base().Value
	return s.cfg.Rates.charge(to, FailedValidations, account, name, account+"/"+name)
}

// countFailure takes a unit when there is one left; a limit that is used up stays so.
func (s *Service) countFailure(ctx context.Context, a bulkhead.Authorization) {
	charges := s.failureCharge(nil, a.AccountID, a.Identifier)
	if len(charges) == 0 {
		return
	}
	if _, err := s.cfg.Store.TakeRate(ctx, s.now(), charges); err != nil {
		s.log.ErrorContext(ctx, "counting a failed validation", "error", err)
	}
}

// TakeOnce reports whether id is taken for the first time within life, over all processes on the record.
func (s *Service) TakeOnce(ctx context.Context, id string, life time.Duration) (bool, error) {
	r, err := s.cfg.Store.TakeRate(ctx, s.now(), []bulkhead.RateCharge{{Key: "once/" + id, Interval: life, Burst: life}})
	return r == nil, err
}

func (s *Service) take(ctx context.Context, charges []bulkhead.RateCharge) error {
	if len(charges) == 0 {
		return nil
	}
	r, err := s.cfg.Store.TakeRate(ctx, s.now(), charges)
	return s.limited(r, err)
}

func (s *Service) limited(r *bulkhead.RateRefusal, err error) error {
	if err != nil || r == nil {
		return err
	}
	limit, what, _ := strings.Cut(r.Key, "/")
	return bulkhead.Faultf(bulkhead.KindRateLimited, "the limit %s is used up for %s", limit, what).WithHint("wait as long as Retry-After says, or ask the operator for an override").WithRetry(max(r.Retry, time.Second))
}
