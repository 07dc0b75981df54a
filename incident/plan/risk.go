package plan

import (
	"fmt"
	"time"
)

// Progress is how far a campaign has come, beside what its plan wanted by now.
type Progress struct {
	Now       time.Time
	UsableEnd time.Time
	ForceAt   time.Time
	Capacity  Capacity
	Total     int64 // items that are to be replaced
	Told      int64
	Replaced  int64
	DueTold   int64 // by the plan, until now
	DueDone   int64
}

// small is the share of a campaign below which a lag says nothing yet.
const small = 0.05

// Risk says why the deadline is at risk (D13): what is left no longer fits before the end, or notices or replacements
// lag behind the plan by half. It is silent while the plan is kept, and after ForceAt, when the clock acts by itself.
func Risk(p Progress) (why string, atRisk bool) {
	if p.Total == 0 || !p.Now.Before(p.ForceAt) {
		return "", false
	}
	left, open := p.UsableEnd.Sub(p.Now), p.Total-p.Replaced
	if need := Needed(p.Capacity, int(open), 0, 0); open > 0 && need > max(left, 0) {
		return fmt.Sprintf("%d replacements are open and take %s at full capacity; %s are left", open, need, max(left, 0).Round(time.Minute)), true
	}
	least := int64(float64(p.Total) * small)
	if p.DueTold > least && p.Told*2 < p.DueTold {
		return fmt.Sprintf("%d of %d notices that were due have gone out", p.Told, p.DueTold), true
	}
	if p.DueDone > least && p.Replaced*2 < p.DueDone {
		return fmt.Sprintf("%d of %d replacements that were due have happened", p.Replaced, p.DueDone), true
	}
	return "", false
}
