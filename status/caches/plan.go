package caches

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"bulkhead"
)

// Assumption is what a plan is computed from. Times keep their zone and are printed in it.
type Assumption struct {
	Signed    time.Time     // when the last wrong answer was signed; zero when Dies was read from answers
	Validity  time.Duration // of that answer; with Signed
	Dies      time.Time     // nextUpdate of the last wrong answer; Signed + Validity when Signed is set
	Source    string        // where Dies was read, for people
	Corrected time.Time     // when the right answers became public
	Purged    time.Time     // when the server tiers are purged; zero means at once
}

// Plan says when the last wrong answer dies, in each tier and everywhere.
type Plan struct {
	Signed    time.Time  `json:"last_wrong_signed,omitzero"`
	Validity  string     `json:"validity,omitempty"`
	Source    string     `json:"source,omitempty"`
	Corrected time.Time  `json:"corrected"`
	Dies      time.Time  `json:"dies"` // the last wrong answer, everywhere
	Tiers     []TierPlan `json:"tiers"`
}

// TierPlan is when one tier serves its last wrong answer at the latest.
type TierPlan struct {
	Name         string    `json:"name"`
	Kind         Kind      `json:"kind"`
	Owner        string    `json:"owner"`
	TTL          string    `json:"ttl"`
	WithoutPurge time.Time `json:"without_purge"`
	WithPurge    time.Time `json:"with_purge"`
	Purgeable    bool      `json:"purgeable"`
}

// Make computes a plan. A tier holds what it fetched for its TTL, and may have fetched at the last moment at which the
// tier behind it was wrong; nobody believes an answer after its nextUpdate, so no tier is wrong beyond that. A purge
// helps a server tier when everything behind it is clean by then, and a client never.
func Make(tiers []Tier, a Assumption) (Plan, error) {
	if err := Check(tiers); err != nil {
		return Plan{}, err
	}
	if !a.Signed.IsZero() {
		if a.Validity <= 0 {
			return Plan{}, bulkhead.NewFault(bulkhead.KindUsage, "the time of the last wrong signature means nothing without a validity").WithHint("--validity 4d")
		}
		a.Dies = a.Signed.Add(a.Validity)
		if a.Corrected.IsZero() {
			a.Corrected = a.Signed
		}
	}
	if a.Dies.IsZero() || a.Corrected.IsZero() {
		return Plan{}, bulkhead.NewFault(bulkhead.KindUsage, "neither a last wrong signature nor a published answer is known").WithHint("--at TIME --validity DURATION")
	}
	if a.Purged.Before(a.Corrected) {
		a.Purged = a.Corrected // a purge before the correction fetches the wrong answer again
	}
	p := Plan{Signed: a.Signed, Source: a.Source, Corrected: a.Corrected, Dies: a.Dies, Tiers: []TierPlan{}}
	if !a.Signed.IsZero() {
		p.Validity = words(a.Validity)
	}
	without, with := a.Corrected, a.Corrected
	for _, t := range tiers {
		without = earlier(a.Dies, without.Add(t.TTL))
		clean := earlier(a.Dies, with.Add(t.TTL))
		switch {
		case t.Kind == Client:
			without, clean = a.Dies, a.Dies
		case t.Kind == Edge && clean.After(a.Purged):
			a.Purged = clean // a purge waits for the edges
		case t.Purge.Adapter != None && !with.After(a.Purged):
			clean = earlier(clean, a.Purged)
		}
		with = clean
		p.Tiers = append(p.Tiers, TierPlan{Name: t.Name, Kind: t.Kind, Owner: t.Owner, TTL: words(t.TTL), WithoutPurge: without, WithPurge: with, Purgeable: t.Purge.Adapter != None})
	}
	return p, nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// stamp is how times are printed: to the second, with the offset.
func stamp(t time.Time) string { return t.Format("2006-01-02 15:04:05 -07:00") }

// String is words first, then a table.
func (p Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "The last wrong answer dies at %s", stamp(p.Dies))
	if !p.Signed.IsZero() {
		fmt.Fprintf(&b, ":\nit was signed at %s and is valid for %s.\n", stamp(p.Signed), p.Validity)
	} else {
		fmt.Fprintf(&b, ",\nif the newest answers signed so far are wrong: %s.\n", p.Source)
	}
	b.WriteString("A client that has it believes it until then, and no purge reaches a client.\n")
	b.WriteString(p.gain())
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "\nTIER\tKIND\tOWNER\tTTL\tWRONG UNTIL, NO PURGE\tWRONG UNTIL, PURGED")
	for _, t := range p.Tiers {
		purged := stamp(t.WithPurge)
		if !t.Purgeable {
			purged += " (no purge)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", t.Name, t.Kind, t.Owner, t.TTL, stamp(t.WithoutPurge), purged)
	}
	_ = w.Flush() // a strings.Builder does not fail
	return strings.TrimRight(b.String(), "\n")
}

// gain says what purging is good for.
func (p Plan) gain() string {
	var last *TierPlan
	for i, t := range p.Tiers {
		if t.Kind == LoadBalancer || t.Kind == CDN {
			last = &p.Tiers[i]
		}
	}
	switch {
	case last == nil:
		return "There is no server tier to purge.\n"
	case !last.WithPurge.Before(last.WithoutPurge):
		return fmt.Sprintf("The server tiers are clean at %s, purged or not.\n", stamp(last.WithoutPurge))
	default:
		return fmt.Sprintf("Without a purge the server tiers are clean at %s; purged, at %s.\n", stamp(last.WithoutPurge), stamp(last.WithPurge))
	}
}

// Drain says how validity is lowered ahead of a risky change.
type Drain struct {
	To       string    `json:"to"`
	Now      time.Time `json:"now"`
	Longest  time.Time `json:"longest_nextupdate"` // of the answers that are out
	Earliest time.Time `json:"earliest_safe"`
	Before   time.Time `json:"before,omitzero"`
	Safe     bool      `json:"safe"` // Earliest is not after Before
	Set      []string  `json:"set"`
}

// Shorten computes a drain to validity to at now: the change is safe once every answer with the old validity has
// expired, which is at the longest nextUpdate among them. A zero before asks for the earliest time only.
func Shorten(tiers []Tier, now, longest time.Time, old, to time.Duration, before time.Time) (Drain, error) {
	if to <= 0 || to > old {
		return Drain{}, bulkhead.Faultf(bulkhead.KindUsage, "%s is not shorter than the validity now, %s", words(to), words(old)).WithHint("--to 8h")
	}
	d := Drain{To: words(to), Now: now, Longest: longest, Earliest: now, Before: before}
	if longest.After(now) {
		d.Earliest = longest
	}
	d.Safe = before.IsZero() || !d.Earliest.After(before)
	if to < old {
		d.Set = append(d.Set, fmt.Sprintf("status.answer_validity: %s (now %s), then restart the house: max-age follows, because no answer may be kept beyond its nextUpdate", to, old))
	}
	for _, t := range tiers {
		if t.TTL > to {
			d.Set = append(d.Set, fmt.Sprintf("caches.tiers %s: ttl %s or less (now %s), and the same in the cache itself; owner: %s", t.Name, to, t.TTL, t.Owner))
		}
	}
	return d, nil
}

// String is words first.
func (d Drain) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "The earliest safe time for the change is %s, when validity is lowered to %s now (%s):\nthe last answer with the old validity expires at %s.\n", stamp(d.Earliest), d.To, stamp(d.Now), stamp(d.Longest))
	switch {
	case d.Before.IsZero():
	case d.Safe:
		fmt.Fprintf(&b, "That is in time for %s.\n", stamp(d.Before))
	default:
		fmt.Fprintf(&b, "That is too late for %s, by %s: move the change.\n", stamp(d.Before), words(d.Earliest.Sub(d.Before)))
	}
	fmt.Fprintf(&b, "From then on a wrong answer lives for %s at most. Answers signed before the setting is in force move this time.\n", d.To)
	b.WriteString("Nothing was changed. Set:")
	for _, s := range d.Set {
		b.WriteString("\n  " + s)
	}
	return b.String()
}
