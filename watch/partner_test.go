package watch_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/watch"
)

// past is a partner's history as a test writes it.
type past struct {
	use   []bulkhead.PartnerUse
	known []string
	err   error
}

func (p past) PartnerUse(context.Context, string, time.Time) ([]bulkhead.PartnerUse, error) {
	return p.use, p.err
}

func (p past) PartnerKnows(_ context.Context, _, domain string, _ time.Time) (bool, error) {
	for _, d := range p.known {
		if d == domain {
			return true, nil
		}
	}
	return false, p.err
}

// office is four weeks of five certificates an hour at 9, 10 and 11 UTC.
func office() past {
	p := past{known: []string{"example.com"}}
	for day := 1; day <= 27; day++ {
		for _, hour := range []int{9, 10, 11} {
			p.use = append(p.use, bulkhead.PartnerUse{Hour: now.Truncate(24*time.Hour).AddDate(0, 0, -day).Add(time.Duration(hour) * time.Hour), Used: 5})
		}
	}
	return p
}

// TestPartnerBehaviour plants each way of being out of profile, and is silent beside it.
func TestPartnerBehaviour(t *testing.T) {
	at := func(hour int) time.Time { return now.Truncate(24 * time.Hour).Add(time.Duration(hour) * time.Hour) }
	ordered := func(hour int, names ...string) watch.Sighting {
		s := watch.Sighting{Kind: watch.PartnerOrdered, Partner: "north", At: at(hour)}
		for _, n := range names {
			s.Names = append(s.Names, bulkhead.Identifier{Type: bulkhead.DNS, Value: n})
		}
		return s
	}
	busy := office()
	busy.use = append(busy.use, bulkhead.PartnerUse{Hour: at(10), Used: 16})
	calm := office()
	calm.use = append(calm.use, bulkhead.PartnerUse{Hour: at(10), Used: 15})
	young := past{use: []bulkhead.PartnerUse{{Hour: at(3), Used: 9}}}
	refused := func(k bulkhead.Kind) watch.Sighting {
		s := ordered(10, "www.google.com")
		s.Kind, s.Refused = watch.PartnerRefused, k
		return s
	}
	for name, c := range map[string]struct {
		past     past
		seen     watch.Sighting
		says     string // "" is silence
		severity bulkhead.Severity
	}{
		"usual":                {office(), ordered(10, "www.example.com"), "", ""},
		"an hour beside":       {office(), ordered(12, "www.example.com"), "", ""},
		"volume":               {busy, ordered(10, "www.example.com"), "16 certificates this hour", bulkhead.Warning},
		"volume at the bound":  {calm, ordered(10, "www.example.com"), "", ""},
		"hours":                {office(), ordered(3, "www.example.com"), "at 03:00 UTC", bulkhead.Warning},
		"new domain":           {office(), ordered(10, "www.example.com", "login.other.co.jp"), "never had: other.co.jp", bulkhead.Notice},
		"new name, old domain": {office(), ordered(10, "new.example.com"), "", ""},
		"no profile yet":       {young, ordered(3, "www.anything.org"), "", ""},
		"refused":              {office(), refused(bulkhead.KindRejectedIdentifier), "beyond its bounds", bulkhead.Warning},
		"high value":           {office(), refused(bulkhead.KindUserActionRequired), "high-value list", bulkhead.Critical},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := watch.PartnerBehaviour{Store: c.past}.Judge(t.Context(), c.seen)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case c.says == "" && a != nil:
				t.Errorf("alarm: %s", a.Message)
			case c.says != "" && a == nil:
				t.Error("silence")
			case a != nil && (!strings.Contains(a.Message, c.says) || a.Severity != c.severity || a.Runbook == "" || !strings.HasPrefix(a.Key, "north/")):
				t.Errorf("%+v", a)
			}
		})
	}
	if _, err := (watch.PartnerBehaviour{Store: past{err: errors.New("away")}}).Judge(t.Context(), ordered(10, "www.example.com")); err == nil {
		t.Error("a detector that cannot look is silent")
	}
}
