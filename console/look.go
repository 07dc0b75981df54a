package console

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"bulkhead"
	"bulkhead/console/check"
)

// Looks keep what looks at endpoints showed.
type Looks interface {
	// KeepLooks compares looks with those before, keeps them, and returns them with what the history says.
	KeepLooks(ctx context.Context, looks []bulkhead.LookRecord) ([]bulkhead.LookRecord, error)
	// LooksOf returns what looks at a host showed, the newest first.
	LooksOf(ctx context.Context, host string, limit int) ([]bulkhead.LookRecord, error)
}

func (a *API) lookRoutes() {
	route(a, "GET /api/v1/looks", operation[none, LookList]{id: "listLooks", summary: "what looks at a host showed, the newest first: one entry for as long as they showed the same", do: a.looks,
		query: []parameter{{name: "host", about: "a name or an address, as it was looked at; required"}, {name: "limit", about: "1 to 1000; default 100"}}})
	route(a, "POST /api/v1/looks", operation[LookList, LookList]{id: "keepLooks", summary: "keep what a scan saw; the answer says what changed since the looks before", do: a.keepLooks, plan: a.planKeepLooks})
	// The public analyser serves these two itself; they are described here.
	look := description{path: "/api/v1/check", access: anybody, out: reflect.TypeFor[check.LookAnswer](), summary: "have one host looked at, without a login; limited for each asker and each host"}
	look.method, look.id, look.in = http.MethodPost, "check", reflect.TypeFor[check.LookRequest]()
	a.operations = append(a.operations, look)
	look.method, look.id, look.in = http.MethodGet, "checkTarget", reflect.TypeFor[none]()
	look.query = []parameter{{name: "target", about: "a host, HOST:PORT, or SCHEME://HOST; required"}, {name: "lang", about: "language of the advice", values: []string{"en", "ja"}}}
	a.operations = append(a.operations, look)
}

// LookList is looks at endpoints.
type LookList struct {
	Looks []bulkhead.LookRecord `json:"looks"`
}

func (a *API) looks(ctx context.Context, _ who, r *http.Request, _ none) (LookList, error) {
	host := strings.ToLower(r.URL.Query().Get("host"))
	if host == "" {
		return LookList{}, bulkhead.NewFault(bulkhead.KindMalformed, "host is not given").WithHint("/api/v1/looks?host=www.example.com")
	}
	limit, err := limitOf(r, 1000)
	if err != nil {
		return LookList{}, err
	}
	rows, err := a.cfg.Looks.LooksOf(ctx, host, limit)
	if rows == nil {
		rows = []bulkhead.LookRecord{}
	}
	return LookList{rows}, err
}

// mostLooks of one request.
const mostLooks = 500

func (in LookList) check() error {
	if len(in.Looks) == 0 || len(in.Looks) > mostLooks {
		return bulkhead.Faultf(bulkhead.KindMalformed, "a request keeps 1 to %d looks, not %d", mostLooks, len(in.Looks))
	}
	for i, l := range in.Looks {
		switch v, known := bulkhead.LookReasons[l.Reason]; {
		case l.Host == "" || len(l.Host) > 255 || !l.Address.IsValid() || l.Address.Port() == 0 || l.FirstAt.IsZero() || l.LastAt.Before(l.FirstAt):
			return bulkhead.Faultf(bulkhead.KindMalformed, "look %d has no host, address or time", i+1)
		case !known || v != l.Verdict:
			return bulkhead.Faultf(bulkhead.KindMalformed, "look %d: verdict %q with reason %q", i+1, l.Verdict, l.Reason)
		case len(l.Detail) > 4096 || len(l.Findings) > 64:
			return bulkhead.Faultf(bulkhead.KindMalformed, "look %d says too much", i+1)
		}
	}
	return nil
}

func (a *API) keepLooks(ctx context.Context, _ who, _ *http.Request, in LookList) (LookList, error) {
	if err := in.check(); err != nil {
		return LookList{}, err
	}
	rows, err := a.cfg.Looks.KeepLooks(ctx, in.Looks)
	return LookList{rows}, err
}

func (a *API) planKeepLooks(_ context.Context, _ who, _ *http.Request, in LookList) (Plan, error) {
	if err := in.check(); err != nil {
		return Plan{}, err
	}
	return planOf(fmt.Sprintf("compare %d looks with those before, and keep them", len(in.Looks))), nil
}
