package console

import (
	"context"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead"
)

// CertificateList is one page. With q it may be short, or empty, and have a next one.
type CertificateList struct {
	Certificates []CertificateView `json:"certificates"`
	Next         string            `json:"next,omitempty"` // cursor of the next page
}

// maxText is the longest free text to search for: the longest DNS name.
const maxText = 253

var certificateKinds = []string{string(bulkhead.LeafCertificate), string(bulkhead.Precertificate), string(bulkhead.CACertificate), string(bulkhead.DelegateCertificate), string(bulkhead.InfraCertificate)}

// inventoryStates are the states of rows, and the two that depend on the day.
var inventoryStates = []string{string(bulkhead.Reserved), string(bulkhead.Issued), string(bulkhead.Revoked), string(bulkhead.Abandoned), "valid", "expired"}

// inventoryQuery is what the search of the inventory takes.
func inventoryQuery() []parameter {
	at := reflect.TypeFor[time.Time]()
	return []parameter{
		{name: "issuer", about: "only of this authority"},
		{name: "serial", about: "only with this serial number"},
		{name: "name", about: "only with this name; .example.test for all below it"},
		{name: "q", about: "part of a name or of the subject, in any case"},
		{name: "key", about: "only with this key (SHA-256 of the SubjectPublicKeyInfo)"},
		{name: "profile", about: "only of this profile"},
		{name: "account", about: "only of this account"},
		{name: "kind", about: "only of this kind", values: certificateKinds},
		{name: "state", about: "only in this state; valid is issued and not expired, expired is issued and past its end", values: inventoryStates},
		{name: "issued_after", about: "at this time or later", kind: at},
		{name: "issued_before", about: "before this time", kind: at},
		{name: "expires_after", about: "at this time or later", kind: at},
		{name: "expires_before", about: "before this time", kind: at},
		{name: "expires_by", about: "at this time or earlier", kind: at},
		{name: "after", about: "cursor: next of the page before"},
		{name: "limit", about: "rows of a page, 1 to 1000; default 100", kind: reflect.TypeFor[int]()},
	}
}

// inventoryFilter reads the query. Parameters that do not exist are refused: a filter with a slip of the pen would find
// too much.
func inventoryFilter(q url.Values, now time.Time) (f bulkhead.CertificateFilter, err error) {
	for name, v := range q {
		if !slices.ContainsFunc(inventoryQuery(), func(p parameter) bool { return p.name == name }) {
			return f, malformed("there is no filter %q", name)
		}
		if len(v) != 1 {
			return f, malformed("the filter %q is given %d times", name, len(v))
		}
	}
	f = bulkhead.CertificateFilter{Issuer: bulkhead.AuthorityID(q.Get("issuer")), Name: strings.ToLower(q.Get("name")), Text: q.Get("q"), Profile: q.Get("profile"),
		AccountID: q.Get("account"), Kind: bulkhead.CertificateKind(q.Get("kind")), After: q.Get("after"), Limit: 100}
	if f.KeyHash, err = optional(q.Get("key"), bulkhead.ParseHash); err != nil {
		return f, err
	}
	if f.Serial, err = optional(q.Get("serial"), bulkhead.ParseSerial); err != nil {
		return f, err
	}
	if len(f.Text) > maxText {
		return f, malformed("q has more than %d octets", maxText)
	}
	if f.Kind != "" && !slices.Contains(certificateKinds, string(f.Kind)) {
		return f, malformed("kind %q is not one of %s", f.Kind, strings.Join(certificateKinds, ", "))
	}
	if t := q.Get("limit"); t != "" {
		if f.Limit, err = strconv.Atoi(t); err != nil || f.Limit < 1 || f.Limit > 1000 {
			return f, malformed("limit %q is not a number from 1 to 1000", t)
		}
	}
	for name, to := range map[string]*time.Time{"issued_after": &f.IssuedFrom, "issued_before": &f.IssuedBefore,
		"expires_after": &f.ExpiresFrom, "expires_before": &f.ExpiresBefore, "expires_by": &f.ExpiresBy} {
		if *to, err = optional(q.Get(name), parseTime); err != nil {
			return f, malformed("%s %q is neither a time like 2026-01-02T15:04:05Z nor a day like 2026-01-02", name, q.Get(name))
		}
	}
	return f, inState(&f, q.Get("state"), now)
}

// inState applies the state; valid and expired are questions of date.
func inState(f *bulkhead.CertificateFilter, state string, now time.Time) error {
	switch {
	case state == "":
	case state == "valid":
		f.State = bulkhead.Issued
		if f.ExpiresFrom.Before(now) {
			f.ExpiresFrom = now
		}
	case state == "expired":
		f.State = bulkhead.Issued
		if f.ExpiresBefore.IsZero() || f.ExpiresBefore.After(now) {
			f.ExpiresBefore = now
		}
	case slices.Contains(inventoryStates, state):
		f.State = bulkhead.CertificateState(state)
	default:
		return malformed("state %q is not one of %s", state, strings.Join(inventoryStates, ", "))
	}
	return nil
}

func malformed(format string, args ...any) error {
	return bulkhead.Faultf(bulkhead.KindMalformed, format, args...).WithHint("bulkhead cert list --help")
}

// parseTime reads RFC 3339 or a day, which begins at midnight UTC.
func parseTime(text string) (time.Time, error) {
	if t, err := time.Parse(time.DateOnly, text); err == nil {
		return t, nil
	}
	return time.Parse(time.RFC3339, text)
}

func (a *API) list(ctx context.Context, w who, r *http.Request, _ none) (CertificateList, error) {
	now := a.cfg.Now()
	f, err := inventoryFilter(r.URL.Query(), now)
	if err != nil {
		return CertificateList{}, err
	}
	w.restrict(&f)
	rows, next, err := a.cfg.Inventory.Certificates(ctx, f)
	if err != nil {
		return CertificateList{}, err
	}
	out := CertificateList{Certificates: []CertificateView{}, Next: next}
	for _, c := range rows {
		out.Certificates = append(out.Certificates, view(c, now))
	}
	return out, nil
}

func optional[T any](text string, parse func(string) (T, error)) (T, error) {
	if text == "" {
		var zero T
		return zero, nil
	}
	return parse(text)
}
