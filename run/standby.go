package run

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"sort"
	"time"

	"bulkhead"
	"bulkhead/ceremony"
	"bulkhead/console"
)

// standby judges a stand-by and finds the root that it stands under: one of the house's.
func (h *House) standby(all map[bulkhead.AuthorityID]bulkhead.Authority, id bulkhead.AuthorityID, certificate []byte, chain [][]byte, now time.Time) (bulkhead.Standby, error) {
	a, ok := all[id]
	if !ok || len(a.Certificate) == 0 || a.Kind == bulkhead.RootAuthority {
		return bulkhead.Standby{}, bulkhead.Faultf(bulkhead.KindNotFound, "there is no issuing authority %s with a certificate", id).WithHint("bulkhead hierarchy show")
	}
	x, err := ceremony.AcceptStandby(a, certificate, chain, now)
	if err != nil {
		return x, err
	}
	top := x.Chain[len(x.Chain)-1]
	for _, r := range all {
		if r.Kind == bulkhead.RootAuthority && bytes.Equal(r.Certificate, top) {
			x.Under = r.ID
		}
	}
	return x, nil // under a foreign root the house has no authority to name
}

// AddStandby implements console.Offline.
func (x offline) AddStandby(ctx context.Context, actor string, id bulkhead.AuthorityID, certificate []byte, chain [][]byte, dry bool) (console.StandbyView, error) {
	all, err := x.authorities(ctx)
	if err != nil {
		return console.StandbyView{}, err
	}
	now := x.h.now().UTC().Truncate(time.Second)
	s, err := x.h.standby(all, id, certificate, chain, now)
	if err != nil || dry {
		return standbyView(s, all[id], now), err
	}
	err = x.h.store.PutStandby(ctx, s, bulkhead.Evidence{Kind: bulkhead.EvStandby, At: now, Actor: actor, Authority: id, KeyHash: bulkhead.Digest(all[id].SPKI), Digest: bulkhead.Digest(s.Certificate),
		Detail: "stand-by under " + string(s.Under) + " laid ready"})
	return standbyView(s, all[id], now), err
}

func (x offline) authorities(ctx context.Context) (map[bulkhead.AuthorityID]bulkhead.Authority, error) {
	rows, err := x.h.store.Authorities(ctx)
	out := map[bulkhead.AuthorityID]bulkhead.Authority{}
	for _, a := range rows {
		out[a.ID] = a
	}
	return out, err
}

// States of a stand-by.
const (
	standbyNone    = "none"
	standbyReady   = "ready"
	standbyOffered = "offered"
	standbyEnded   = "ended"
)

func standbyView(s bulkhead.Standby, a bulkhead.Authority, now time.Time) console.StandbyView {
	end := s.NotAfter.UTC()
	v := console.StandbyView{Authority: s.Authority, State: standbyReady, Under: s.Under, Served: a.Parent, SHA256: bulkhead.Digest(s.Certificate), NotAfter: &end}
	if !s.OfferedUntil.IsZero() && s.OfferedUntil.After(now) {
		until := s.OfferedUntil.UTC()
		v.State, v.OfferedUntil = standbyOffered, &until
	}
	if !now.Before(s.NotAfter) {
		v.State = standbyEnded
	}
	return v
}

// Standbys implements console.Offline: every authority that issues stands at least once.
func (x offline) Standbys(ctx context.Context) ([]console.StandbyView, error) {
	all, err := x.authorities(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := x.h.store.Standbys(ctx)
	if err != nil {
		return nil, err
	}
	now, have := x.h.now(), map[bulkhead.AuthorityID]bool{}
	out := []console.StandbyView{}
	for _, s := range rows {
		v := standbyView(s, all[s.Authority], now)
		have[s.Authority] = have[s.Authority] || v.State != standbyEnded
		out = append(out, v)
	}
	for _, a := range all {
		if a.Kind == bulkhead.IssuingAuthority && a.State == bulkhead.AuthorityActive && !have[a.ID] {
			out = append(out, console.StandbyView{Authority: a.ID, State: standbyNone, Served: a.Parent})
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Authority < out[j].Authority })
	return out, nil
}

// ActivateStandby implements console.Offline. One person may: it changes which chain is served and no status, nothing is
// signed by a root, both certificates were checked when they came in, and it is undone the same way. On the day that it is
// for, the second person may be out of reach.
func (x offline) ActivateStandby(ctx context.Context, actor string, id bulkhead.AuthorityID, which bulkhead.Hash, offerOld time.Time, dry bool) (console.StandbyView, error) {
	a, err := x.h.store.Authority(ctx, id)
	if err != nil {
		return console.StandbyView{}, err
	}
	rows, err := x.h.store.Standbys(ctx)
	if err != nil {
		return console.StandbyView{}, err
	}
	now := x.h.now().UTC().Truncate(time.Second)
	to, err := chooseStandby(rows, id, which)
	if err != nil {
		return console.StandbyView{}, err
	}
	// Judged again, against today's clock and the certificate that is served now.
	if _, err := ceremony.AcceptStandby(a, to.Certificate, to.Chain, now); err != nil {
		return console.StandbyView{}, err
	}
	served, err := x509.ParseCertificate(a.Certificate)
	if err != nil {
		return console.StandbyView{}, fmt.Errorf("certificate of authority %s: %w", id, err)
	}
	old := bulkhead.Standby{Authority: id, Under: a.Parent, Certificate: a.Certificate, Chain: a.Chain, NotAfter: served.NotAfter.UTC(), AddedAt: now}
	detail := "the chain served before is not offered any more"
	if offerOld.After(now) {
		old.OfferedUntil = offerOld.UTC().Truncate(time.Second)
		detail = "the chain served before is offered as an alternate until " + old.OfferedUntil.Format(time.RFC3339)
	}
	if dry {
		return standbyView(to, a, now), nil
	}
	ev := bulkhead.Evidence{Kind: bulkhead.EvChainSwitched, At: now, Actor: actor, Authority: id, KeyHash: bulkhead.Digest(a.SPKI), Digest: bulkhead.Digest(to.Certificate), Link: bulkhead.Digest(a.Certificate),
		Detail: fmt.Sprintf("served under %s, before under %s; %s", to.Under, a.Parent, detail)}
	if err := x.h.store.SwitchChain(ctx, to, old, ev); err != nil {
		return console.StandbyView{}, err
	}
	if err := x.h.status.Tick(ctx); err != nil { // the AIA object
		x.h.log.WarnContext(ctx, "the authority's certificate is published with the next look", slog.String("error", err.Error()))
	}
	a.Parent = to.Under
	return standbyView(old, a, now), nil
}

func chooseStandby(rows []bulkhead.Standby, id bulkhead.AuthorityID, which bulkhead.Hash) (bulkhead.Standby, error) {
	var found []bulkhead.Standby
	for _, s := range rows {
		if s.Authority == id && (which.IsZero() || which == bulkhead.Digest(s.Certificate)) {
			found = append(found, s)
		}
	}
	switch {
	case len(found) == 0:
		return bulkhead.Standby{}, bulkhead.Faultf(bulkhead.KindNotFound, "authority %s has no such stand-by", id).WithHint("bulkhead hierarchy standby list")
	case len(found) > 1:
		return bulkhead.Standby{}, bulkhead.Faultf(bulkhead.KindUsage, "authority %s has %d stand-bys", id, len(found)).WithHint("name one: --sha256 HEX from bulkhead hierarchy standby list")
	}
	return found[0], nil
}
