package console_test

import (
	"testing"
	"time"

	"bulkhead/console"
)

func TestPrune(t *testing.T) {
	h := openHouse(t)
	const path = "/api/v1/prune"
	before := h.evidence(t)
	plan := call[console.Plan](t, h, 200, "POST", path, `{"before":"2020-01-31","dry_run":true}`)
	if !plan.DryRun || len(plan.Would) != 2 {
		t.Fatalf("%+v", plan)
	}
	for body, status := range map[string]int{`{}`: 400, `{"before":"yesterday"}`: 400, `{"before":"2020-01-31T00:00:00Z"}`: 400,
		`{"before":"` + time.Now().AddDate(0, 0, -700).Format(time.DateOnly) + `"}`: 403} {
		for _, dry := range []string{"", "?dry_run=true"} {
			if p := call[problem](t, h, status, "POST", path+dry, body); p.Hint == "" {
				t.Errorf("%s: no next step: %+v", body, p)
			}
		}
	}
	if got := call[console.PruneResponse](t, h, 200, "POST", path, `{"before":"2020-01-31"}`); got != (console.PruneResponse{}) {
		t.Errorf("a new house had something to prune: %+v", got)
	}
	if after := h.evidence(t); after != before {
		t.Errorf("nothing was pruned and left evidence: %d rows, then %d", before, after)
	}
	acct := call[console.NewAccountResponse](t, h, 200, "POST", "/api/v1/accounts", "")
	if w := h.request(t, acct.Token, "POST", path, `{"before":"2020-01-31"}`); w.Code != 403 {
		t.Errorf("an account prunes: %d", w.Code)
	}
}
