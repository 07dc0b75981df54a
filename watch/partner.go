package watch

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"

	"bulkhead"
)

// Sightings of what registration partners bring.
const (
	// PartnerOrdered is an order of a customer of a partner that was taken.
	PartnerOrdered SightingKind = "partner-ordered"
	// PartnerRefused is one that was refused: beyond the partner's bounds, or a high-value name on one person's word.
	PartnerRefused SightingKind = "partner-refused"
)

// PartnerStore is the record of what partners used to do.
type PartnerStore interface {
	// PartnerUse returns what a partner reserved in each hour of the clock since t; hours without use are not there.
	PartnerUse(ctx context.Context, partner string, since time.Time) ([]bulkhead.PartnerUse, error)
	// PartnerKnows reports whether the partner had a certificate for the domain, or a name below it, before t.
	PartnerKnows(ctx context.Context, partner, domain string, t time.Time) (bool, error)
}

// What is out of profile. A partner with less history than this has no profile yet, and its bounds alone hold it.
const (
	partnerHistory  = 28 * 24 * time.Hour
	profileDays     = 7  // days with orders, before hours of the day mean something
	profileSize     = 20 // certificates, before a new domain means something
	volumeFloor     = 10 // certificates in an hour below which no volume is strange
	volumeFactor    = 3  // times the busiest hour of the history
	partnerRunbook  = "d10-partner.md"
	partnerDetector = "D10"
)

// PartnerBehaviour is D10: a registration partner does what it never did. In March 2011 nine certificates for seven
// well-known names came through one partner's account within hours, at a time of day of somebody else.
type PartnerBehaviour struct {
	Store PartnerStore
}

// ID implements Detector.
func (PartnerBehaviour) ID() string { return partnerDetector }

// Wants implements Detector.
func (PartnerBehaviour) Wants(k SightingKind) bool { return k == PartnerOrdered || k == PartnerRefused }

// Judge holds one order against the history of its partner: refusals, volume, hours of the day, new domains. The first
// that is out of profile is the alarm; each kind is one alarm a day.
func (d PartnerBehaviour) Judge(ctx context.Context, s Sighting) (*bulkhead.Alarm, error) {
	if s.Kind == PartnerRefused {
		return d.refused(s), nil
	}
	use, err := d.Store.PartnerUse(ctx, s.Partner, s.At.Add(-partnerHistory))
	if err != nil {
		return nil, err
	}
	h := historyOf(use, s.At)
	switch {
	case h.now >= volumeFloor && h.now > volumeFactor*h.busiest:
		return d.alarm(s, "volume", bulkhead.Warning, fmt.Sprintf("%d certificates this hour, and never more than %d in an hour of the four weeks before", h.now, h.busiest)), nil
	case h.days >= profileDays && !h.usual:
		return d.alarm(s, "hours", bulkhead.Warning, fmt.Sprintf("an order at %s UTC, an hour at which there was none in the four weeks before", s.At.UTC().Format("15:04"))), nil
	case h.total >= profileSize:
		return d.newDomain(ctx, s)
	}
	return nil, nil
}

func (d PartnerBehaviour) refused(s Sighting) *bulkhead.Alarm {
	severity, what := bulkhead.Warning, "an order beyond its bounds was refused ("+string(s.Refused)+")"
	if s.Refused == bulkhead.KindUserActionRequired {
		severity, what = bulkhead.Critical, "an order for a name of the high-value list waits for a second person"
	}
	return d.alarm(s, "refused-"+string(s.Refused), severity, what+": "+nameText(s.Names))
}

func (d PartnerBehaviour) newDomain(ctx context.Context, s Sighting) (*bulkhead.Alarm, error) {
	for _, n := range s.Names {
		domain := registeredDomain(n)
		if domain == "" {
			continue
		}
		known, err := d.Store.PartnerKnows(ctx, s.Partner, domain, s.At)
		if err != nil {
			return nil, err
		}
		if !known {
			return d.alarm(s, "new-names", bulkhead.Notice, "orders under a domain that it never had: "+domain), nil
		}
	}
	return nil, nil
}

func (d PartnerBehaviour) alarm(s Sighting, kind string, severity bulkhead.Severity, what string) *bulkhead.Alarm {
	return &bulkhead.Alarm{Detector: d.ID(), Key: s.Partner + "/" + kind + "/" + s.At.UTC().Format(time.DateOnly), Severity: severity, Runbook: partnerRunbook,
		Message: "registration partner " + s.Partner + " is out of profile: " + what + "; if nobody at the partner knows why: bulkhead partner suspend " + s.Partner + " --reason TEXT", FirstAt: s.At, LastAt: s.At, Count: 1}
}

// history is what a partner used to do before an hour.
type history struct {
	now     int  // in the hour of the order
	busiest int  // in one hour before
	total   int  // before
	days    int  // with orders, before the day of the order
	usual   bool // the hour of the day, or one beside it, had orders before the day of the order
}

func historyOf(use []bulkhead.PartnerUse, at time.Time) history {
	var h history
	hour, today := at.UTC().Truncate(time.Hour), at.UTC().Truncate(24*time.Hour)
	days := map[time.Time]bool{}
	for _, u := range use {
		if !u.Hour.Before(hour) {
			h.now += u.Used
			continue
		}
		h.busiest, h.total = max(h.busiest, u.Used), h.total+u.Used
		if u.Hour.Before(today) {
			days[u.Hour.Truncate(24*time.Hour)] = true
			between := (u.Hour.Hour() - hour.Hour() + 24) % 24
			h.usual = h.usual || between <= 1 || between == 23
		}
	}
	h.days = len(days)
	return h
}

// registeredDomain is the public suffix and one label, "" for addresses.
func registeredDomain(n bulkhead.Identifier) string {
	name := n.Base().Value
	switch n.Type {
	case bulkhead.IP:
		return ""
	case bulkhead.Email:
		name = name[strings.LastIndexByte(name, '@')+1:]
	}
	if d, err := publicsuffix.EffectiveTLDPlusOne(name); err == nil {
		return d
	}
	return name
}

func nameText(names []bulkhead.Identifier) string {
	var out []string
	for i, n := range names {
		if i == 5 {
			out = append(out, fmt.Sprintf("and %d more", len(names)-5))
			break
		}
		out = append(out, n.Value)
	}
	return strings.Join(out, ", ")
}
