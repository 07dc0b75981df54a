package console

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"bulkhead"
)

// Retention deletes what is old enough.
type Retention interface {
	// Plan counts what Prune would delete.
	Plan(ctx context.Context, before time.Time) (bulkhead.Pruned, error)
	Prune(ctx context.Context, actor string, before time.Time) (bulkhead.Pruned, error)
}

func (a *API) retentionRoutes() {
	route(a, "POST /api/v1/prune", operation[PruneRequest, PruneResponse]{id: "prune", do: a.prune, plan: a.planPrune,
		summary: "delete certificates that ended before a day beyond the retention, and orders and authorisations that ran out; evidence stays"})
}

// PruneRequest names the day.
type PruneRequest struct {
	Before string `json:"before"` // like 2024-01-31
}

// PruneResponse counts the rows that are gone.
type PruneResponse struct {
	Certificates   int64 `json:"certificates"`
	Orders         int64 `json:"orders"`
	Authorizations int64 `json:"authorizations"`
	Replies        int64 `json:"replies"` // to requests with an idempotency key
}

func (in PruneRequest) day() (time.Time, error) {
	t, err := time.Parse(time.DateOnly, in.Before)
	if err != nil {
		return t, bulkhead.Faultf(bulkhead.KindMalformed, "before %q is not a day like 2024-01-31", in.Before).WithHint("bulkhead prune --help")
	}
	return t, nil
}

func (a *API) prune(ctx context.Context, w who, _ *http.Request, in PruneRequest) (PruneResponse, error) {
	day, err := in.day()
	if err != nil {
		return PruneResponse{}, err
	}
	n, err := a.cfg.Retention.Prune(ctx, w.actor(), day)
	return PruneResponse(n), err
}

func (a *API) planPrune(ctx context.Context, _ who, _ *http.Request, in PruneRequest) (Plan, error) {
	day, err := in.day()
	if err != nil {
		return Plan{}, err
	}
	n, err := a.cfg.Retention.Plan(ctx, day)
	if err != nil {
		return Plan{}, err
	}
	return planOf(fmt.Sprintf("delete %d certificates that ended before %s", n.Certificates, in.Before),
		fmt.Sprintf("delete %d orders, %d authorisations and %d replies that ran out before it", n.Orders, n.Authorizations, n.Replies)), nil
}
