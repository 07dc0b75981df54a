// Package scan looks at many endpoints: it reads targets, finds every address of a name, keeps a polite pace, tries again
// what could not be told, remembers what was done, and reports.
//
// Invariant: the address that was judged is the address that is dialled, whatever a name says later; every target that was
// asked for has exactly one result, which is the worst of its endpoints; a run that was killed goes on where it was and
// reports what an undisturbed one would have.
//
// Refuses: address blocks without a written authorisation that names them and has not ended; addresses that nobody may dial
// on another's behalf (link-local, metadata, tunnels), always; private ones that a name leads to, unless allowed; to try
// for ever; to call a target good of which an address could not be seen.
package scan

import (
	"context"
	"net/netip"
	"time"

	"bulkhead"
)

// Names finds every address of a name: A and AAAA.
type Names interface {
	Addresses(ctx context.Context, name string) ([]netip.Addr, error)
}

// Looker takes one bounded look at one endpoint. It always has a verdict and a reason, and dials through the Guard.
type Looker interface {
	Verdict(ctx context.Context, ep bulkhead.Endpoint) bulkhead.Look
	Look(ctx context.Context, ep bulkhead.Endpoint) bulkhead.Look
}

// Result is what is to say about one target.
type Result struct {
	Target    string              `json:"target"` // as it was asked for, with the port when it took the default
	Host      string              `json:"host"`
	Port      uint16              `json:"port"`
	STARTTLS  bulkhead.STARTTLS   `json:"starttls,omitempty"`
	Verdict   bulkhead.Verdict    `json:"verdict"` // the worst of its endpoints
	Reason    bulkhead.LookReason `json:"reason"`
	Detail    string              `json:"detail"`
	At        time.Time           `json:"at"` // when it was looked at first
	Endpoints []Endpoint          `json:"endpoints"`
}

// Endpoint is the look at one address of a target.
type Endpoint struct {
	bulkhead.Look
	Tries    int                   `json:"tries"`
	Findings []Finding             `json:"findings,omitempty"` // whole looks
	Status   []bulkhead.StatusSeen `json:"status,omitempty"`   // whole looks: what each source says of the certificate
	CAA      *bulkhead.CAASeen     `json:"caa,omitempty"`      // whole looks at a name
}

// rank orders looks from worst to best. An address at which nobody listens cannot leak, so it yields to one that was seen;
// one that fell silent may be ill for others, so it does not.
func rank(l bulkhead.Look) int {
	switch {
	case l.Verdict == bulkhead.Vulnerable:
		return 0
	case l.Verdict == bulkhead.Inconclusive:
		return 1
	case l.Reason == bulkhead.ReasonRefused || l.Reason == bulkhead.ReasonNoRoute:
		return 5
	case l.Verdict == bulkhead.Patched:
		return 3
	case l.Verdict == bulkhead.NotSupported:
		return 4
	}
	return 2
}

// judge gives a target the verdict of its worst endpoint.
func judge(r *Result) {
	worst := -1
	for i, e := range r.Endpoints {
		if worst < 0 || rank(e.Look) < rank(r.Endpoints[worst].Look) {
			worst = i
		}
	}
	if worst < 0 {
		return
	}
	e := r.Endpoints[worst]
	r.Verdict, r.Reason, r.Detail = e.Verdict, e.Reason, e.Detail
	for _, e := range r.Endpoints {
		if r.At.IsZero() || e.At.Before(r.At) {
			r.At = e.At
		}
	}
}

// Summary counts the targets of a run.
type Summary struct {
	Targets  int                      `json:"targets"`
	Verdict  map[bulkhead.Verdict]int `json:"verdict"`  // every verdict, also those of none
	Refused  int                      `json:"refused"`  // addresses that were not dialled because they may not be
	Critical int                      `json:"critical"` // critical findings of whole looks
}

// Summarize counts results.
func Summarize(all []Result) Summary {
	s := Summary{Targets: len(all), Verdict: map[bulkhead.Verdict]int{}}
	for _, v := range bulkhead.Verdicts {
		s.Verdict[v] = 0
	}
	for _, r := range all {
		s.Verdict[r.Verdict]++
		for _, e := range r.Endpoints {
			if e.Reason == bulkhead.ReasonDialDenied {
				s.Refused++
			}
			for _, f := range e.Findings {
				if f.Severity == bulkhead.Critical {
					s.Critical++
				}
			}
		}
	}
	return s
}

// Seen is how many targets have a verdict that rests on what a server did.
func (s Summary) Seen() int {
	n := 0
	for v, count := range s.Verdict {
		if v.Seen() {
			n += count
		}
	}
	return n
}

// Reached is how many targets took a connection at all.
func (s Summary) Reached() int { return s.Targets - s.Verdict[bulkhead.Unreachable] }
