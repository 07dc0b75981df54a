package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/run/client"
)

// inOnePart is how many certificates one request names: well below what the server takes, and what a request may weigh.
const inOnePart = 10_000

// partTries is how often a part is sent whose answer does not come; the server takes each certificate once.
const partTries = 3

// errLong says that a list is too long for one request.
var errLong = errors.New("a long list")

// previewScope plans the revocation of what a query selects.
func (a *app) previewScope(ctx context.Context, cl *client.Client, s revocations, scope bulkhead.Scope, dry bool) error {
	if len(s.certs)+len(s.cas)+len(s.serials) > 0 {
		return bulkhead.NewFault(bulkhead.KindUsage, "a selection stands alone: with certificates beside it it would be ambiguous").WithHint("plan two changes")
	}
	const path = "/api/v1/scope-changes"
	in := console.ScopeChangeRequest{Scope: scope, Reason: s.reason, Why: s.text()}
	if dry {
		return a.rehearse(ctx, cl, http.MethodPost, path, in)
	}
	var v console.ChangeView
	if err := cl.Do(ctx, http.MethodPost, path, in, &v); err != nil {
		return err
	}
	v, err := a.previewed(ctx, cl, v)
	if err != nil {
		return err
	}
	return a.showPreview(v)
}

// previewLong plans a list of any length: it is read once and sent in parts.
func (a *app) previewLong(ctx context.Context, cl *client.Client, s revocations, dry bool) error {
	if len(s.cas) > 0 {
		return bulkhead.NewFault(bulkhead.KindUsage, "authorities are revoked by a change of their own, not in a long list").WithHint("plan two changes")
	}
	open := console.OpenChangeRequest{Why: s.text()}
	if dry {
		return a.rehearse(ctx, cl, http.MethodPost, "/api/v1/open-changes", open)
	}
	var v console.ChangeView
	if err := cl.Do(ctx, http.MethodPost, "/api/v1/open-changes", open, &v); err != nil {
		return err
	}
	path := "/api/v1/changes/" + url.PathEscape(v.ID)
	if err := a.sendAll(ctx, cl, path, s); err != nil {
		// Nobody can approve what has no preview; after an hour it would be ended anyway.
		_ = cl.Do(context.WithoutCancel(ctx), http.MethodPost, path+"/withdrawal", console.WithdrawRequest{Why: "its list could not be sent to the end"}, nil)
		return err
	}
	if err := cl.Do(ctx, http.MethodPost, path+"/preview", nil, &v); err != nil {
		return err
	}
	v, err := a.previewed(ctx, cl, v)
	if err != nil {
		return err
	}
	return a.showPreview(v)
}

// sendAll sends the certificates of a long list, each part of one issuer.
func (a *app) sendAll(ctx context.Context, cl *client.Client, path string, s revocations) error {
	waiting := map[bulkhead.AuthorityID][]bulkhead.Serial{}
	said := 0
	send := func(issuer bulkhead.AuthorityID) error {
		part := console.ChangePart{Issuer: issuer, Serials: waiting[issuer], Reason: s.reason}
		delete(waiting, issuer)
		n, err := sendPart(ctx, cl, path, part)
		if err == nil && n.Count >= said+10*inOnePart {
			said = n.Count
			a.say("change %s has %d certificates so far", n.ID, n.Count)
		}
		return err
	}
	add := func(it console.ChangeItem) error {
		waiting[it.Issuer] = append(waiting[it.Issuer], it.Serial)
		if len(waiting[it.Issuer]) == inOnePart {
			return send(it.Issuer)
		}
		return nil
	}
	for _, file := range s.certs {
		v, err := a.find(ctx, cl, file, "")
		if err == nil {
			err = add(console.ChangeItem{Issuer: v.Issuer, Serial: v.Serial})
		}
		if err != nil {
			return err
		}
	}
	for _, file := range s.serials {
		if err := eachSerial(file, add); err != nil {
			return err
		}
	}
	for issuer := range waiting {
		if err := send(issuer); err != nil {
			return err
		}
	}
	return nil
}

func sendPart(ctx context.Context, cl *client.Client, path string, part console.ChangePart) (n console.ChangeCount, err error) {
	for range partTries {
		err = cl.Do(ctx, http.MethodPost, path+"/items", part, &n)
		if bulkhead.KindOf(err) != bulkhead.KindUnavailable || ctx.Err() != nil {
			break
		}
	}
	return n, err
}
