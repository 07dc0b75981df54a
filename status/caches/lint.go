package caches

import (
	"fmt"
	"time"
)

// Levels of a finding.
const (
	LevelError   = "error"
	LevelWarning = "warning"
)

// Finding is one thing about the tiers that will hurt on the day.
type Finding struct {
	Level  string `json:"level"`
	Tier   string `json:"tier,omitempty"`
	Rule   string `json:"rule"`
	Detail string `json:"detail"`
	Next   string `json:"next"`
}

// Lint looks at tiers that pass Check. validity is that of OCSP answers; 0 leaves rules about it out.
func Lint(tiers []Tier, validity time.Duration) []Finding {
	out := []Finding{}
	add := func(level string, t Tier, rule, next, format string, args ...any) {
		out = append(out, Finding{Level: level, Tier: t.Name, Rule: rule, Detail: fmt.Sprintf(format, args...), Next: next})
	}
	clients, edges := 0, 0
	for i, t := range tiers {
		if t.Kind == Edge {
			edges++
		}
		if t.Kind == Client {
			clients++
		}
		for _, front := range tiers[i+1:] {
			if front.Kind == Client {
				break
			}
			if t.Kind != Client && t.TTL > front.TTL {
				add(LevelError, t, "longer-than-front", "lower its ttl to "+words(front.TTL)+", or drop the ttl of both",
					"%s may cache for %s and %s in front of it expects %s: after %s has let go, it fetches the old answer again", t.Name, words(t.TTL), front.Name, words(front.TTL), front.Name)
				break
			}
		}
		if validity > 0 && t.TTL > validity {
			add(LevelError, t, "longer-than-validity", "lower its ttl to "+words(validity)+" or less",
				"%s may keep an answer for %s, which is longer than the %s for which answers are valid: it serves expired ones", t.Name, words(t.TTL), words(validity))
		}
		if t.server() && t.Purge.Adapter == None {
			add(LevelWarning, t, "no-purge", "give it a purge adapter", "%s cannot be purged: a wrong answer stays for %s", t.Name, words(t.TTL))
		}
		if t.Kind != Client && len(t.addresses()) == 0 {
			add(LevelWarning, t, "no-probe", "give it nodes or a probe address", "%s cannot be verified: nothing is fetched through it", t.Name)
		} else if t.server() && t.Probe == "" {
			add(LevelWarning, t, "no-probe", "give it a probe address", "%s is verified node by node and not under the address that its clients use", t.Name)
		}
	}
	if edges == 0 {
		add(LevelWarning, Tier{}, "no-edge", "add a tier of kind edge with the edges as its nodes", "there is no edge tier: a purge cannot see whether the edges serve what is published")
	}
	if clients == 0 {
		add(LevelError, Tier{}, "no-client", "add a tier of kind client with the validity of answers as its ttl", "there is no client tier: the model ends before those who keep answers longest")
	}
	return out
}

// words writes a duration as people say it.
func words(d time.Duration) string {
	switch {
	case d >= 48*time.Hour && d%(24*time.Hour) == 0:
		return fmt.Sprintf("%d d", d/(24*time.Hour))
	case d >= time.Hour && d%time.Hour == 0:
		return fmt.Sprintf("%d h", d/time.Hour)
	case d >= time.Minute && d%time.Minute == 0:
		return fmt.Sprintf("%d min", d/time.Minute)
	default:
		return d.Round(time.Millisecond).String()
	}
}
