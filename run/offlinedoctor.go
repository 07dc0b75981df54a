package run

import (
	"context"
	"strings"
	"time"
)

// rehearseEvery is how old the last rehearsal of an emergency ceremony may be (and a real one is a rehearsal too).
const rehearseEvery = 365 * 24 * time.Hour

// diagnoseOffline looks at what the day needs on which a root is lost: stand-bys, and people who have done it before.
func (h *House) diagnoseOffline(ctx context.Context, add addFinding) {
	rows, err := (offline{h}).Standbys(ctx)
	if err != nil {
		return // the store is spoken of elsewhere
	}
	var without []string
	for _, s := range rows {
		if s.State == standbyNone {
			without = append(without, string(s.Authority))
		}
	}
	if len(without) > 0 {
		add("standby", levelFinding, "bulkhead hierarchy ceremony-file --standby "+without[0]+" (doc/ceremony.md)", "%d issuing authorities have no stand-by under another root: %s", len(without), strings.Join(without, ", "))
	} else {
		add("standby", levelOK, "", "every issuing authority has a stand-by under another root")
	}
	all, err := h.store.Ceremonies(ctx)
	if err != nil {
		return
	}
	var last time.Time
	for _, c := range all {
		// The unattended first start trained nobody: it is the one that no person imported.
		if c.Actor != "role:house" && c.FinishedAt.After(last) {
			last = c.FinishedAt
		}
	}
	switch {
	case last.IsZero():
		add("rehearsal", levelFinding, "rehearse: bulkhead-root run PLAN --rehearsal, then bulkhead hierarchy import (doc/ceremony.md)", "no ceremony was ever rehearsed")
	case h.now().Sub(last) > rehearseEvery:
		add("rehearsal", levelFinding, "rehearse: bulkhead-root run PLAN --rehearsal, then bulkhead hierarchy import (doc/ceremony.md)", "the last ceremony or rehearsal was on %s; once in 12 months is required", last.UTC().Format(time.DateOnly))
	default:
		add("rehearsal", levelOK, "", "the last ceremony or rehearsal was on %s", last.UTC().Format(time.DateOnly))
	}
}
