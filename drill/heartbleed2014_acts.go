package drill

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/pki/ocsp"
	"bulkhead/scan/probe/probetest"
)

// ownFirst: customers are told when the house's own servers are done, and not before.
func (d *day2014) ownFirst() error {
	if err := d.step(time.Hour); err != nil {
		return err
	}
	before, err := d.tally()
	if err != nil {
		return err
	}
	told := before.Total - before.ByState[bulkhead.ItemPlanned] - before.OwnTotal
	if err := d.through(firstOrdinary, true); err != nil {
		return err
	}
	if err := d.step(30 * time.Minute); err != nil {
		return err
	}
	t, err := d.tally()
	if err != nil {
		return err
	}
	d.say(fmt.Sprintf("The own estate was patched, rekeyed, reissued and seen installed (%d of %d); then the subscribers were told", t.OwnReplaced, t.OwnTotal))
	d.check("S4-6", told == 0 && t.OwnTotal == 2 && t.OwnReplaced == t.OwnTotal && t.ByState[bulkhead.ItemPlanned] == 0, "no subscriber is told before the own estate is done to the last one, and all are after it",
		"told before: %d; own estate %d of %d; not told after: %d", told, t.OwnReplaced, t.OwnTotal, t.ByState[bulkhead.ItemPlanned])
	return nil
}

// ordinary subscribers do as they are told.
func (d *day2014) ordinary() error {
	if err := d.through(firstOrdinary, false); err != nil {
		return err
	}
	n := 0
	err := d.every(firstOrdinary, false, func(x *site) error {
		it, _, err := d.item(x)
		if it.State == bulkhead.ItemInstalled || it.State == bulkhead.ItemRevoked {
			n++
		}
		return err
	})
	d.say(fmt.Sprintf("%d subscribers patched, made new keys, were reissued and were seen with the replacement", n))
	return err
}

// wrongKeys: the failure that Netcraft counted in 2014, and what becomes of it here.
func (d *day2014) wrongKeys() error {
	var neighbour *site
	_ = d.every(idle, false, func(x *site) error { neighbour = x; return nil })
	var refused []string
	err := d.every(sameKey, false, func(x *site) error {
		x.behave(probetest.Patched)
		for what, key := range map[string]*site{"its old key": x, "a neighbour's key": neighbour} {
			err := d.reissue(x, key.key)
			if err == nil {
				return fmt.Errorf("a request with %s was not refused", what)
			}
			refused = append(refused, fmt.Sprintf("%s: %s", what, bulkhead.KindOf(err)))
		}
		return nil
	})
	slices.Sort(refused)
	t, terr := d.tally()
	if terr != nil {
		return terr
	}
	d.check("S3-2", err == nil && len(refused) == 2 && t.SameKeyAttempts >= 2, "a request with the old key, or with any key of the campaign, is refused and counted", "%s; %d attempts counted", strings.Join(refused, "; "), t.SameKeyAttempts)
	if err := d.every(planted, false, func(x *site) error {
		it, steps, err := d.item(x)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(steps, func(s bulkhead.ItemStep) bool {
			return s.State == bulkhead.ItemReopened && strings.Contains(s.Detail, "same key")
		})
		detail := "never reopened"
		if i >= 0 {
			detail = fmt.Sprintf("%s (log entry %d)", steps[i].Detail, steps[i].LogIndex)
		}
		d.check("S3-3", i >= 0 && it.State != bulkhead.ItemReissued && it.State != bulkhead.ItemInstalled, "a replacement with the same key that was issued before the campaign is found, and its item reopened", "%s; it is %s", detail, it.State)
		return nil
	}); err != nil {
		return err
	}
	for _, part := range []int{sameKey, planted} {
		if err := d.through(part, false); err != nil {
			return err
		}
	}
	d.say("Same keys: requests with known keys were refused, a replacement with the same key from before the campaign was found and its item reopened; both subscribers came back with new keys", refused...)
	return nil
}

// order: what must not pass before its turn, and what passes afterwards.
func (d *day2014) order() error {
	for _, part := range []int{twoNodes, otherMethod, slow} {
		if err := d.every(part, false, func(x *site) error { x.behave(probetest.Patched); return nil }); err != nil {
			return err
		}
	}
	if err := d.step(5 * time.Minute); err != nil {
		return err
	}
	for _, part := range []int{twoNodes, unpatched, slow} {
		if err := d.every(part, false, func(x *site) error { return d.reissue(x, nil) }); err != nil {
			return err
		}
	}
	if err := d.every(otherMethod, false, d.byOtherMethod); err != nil {
		return err
	}
	if err := d.step(5 * time.Minute); err != nil {
		return err
	}
	_ = d.every(twoNodes, false, func(x *site) error { x.install(0); return nil })
	_ = d.every(unpatched, false, func(x *site) error { x.install(); return nil })
	_ = d.every(otherMethod, false, func(x *site) error { x.install(); return nil })
	if err := d.step(5 * time.Minute); err != nil {
		return err
	}
	stale, leaks := "", ""
	var before [2]bulkhead.ItemState
	if err := d.every(twoNodes, false, func(x *site) error {
		it, _, err := d.item(x)
		before[0], stale = it.State, it.Detail
		if !strings.Contains(it.Detail, x.nodes[1].at.String()) || strings.Contains(it.Detail, x.nodes[0].at.String()) {
			stale = "the stale node is not the one named: " + it.Detail
			before[0] = ""
		}
		x.install(1)
		return err
	}); err != nil {
		return err
	}
	if err := d.every(unpatched, false, func(x *site) error {
		it, _, err := d.item(x)
		before[1], leaks = it.State, it.Detail
		return err
	}); err != nil {
		return err
	}
	// The patch comes late, and the key was made on a server that leaked: another one is needed.
	if err := d.through(unpatched, false); err != nil {
		return err
	}
	after := map[int]bulkhead.ItemState{}
	for _, part := range []int{twoNodes, unpatched} {
		if err := d.every(part, false, func(x *site) error {
			it, _, err := d.item(x)
			after[part] = it.State
			return err
		}); err != nil {
			return err
		}
	}
	d.say("One of two nodes was stale, one server was replaced before it was patched: neither counted as installed until it was put right", stale, leaks)
	d.check("S3-6", before[0] == bulkhead.ItemReissued && reached(after[twoNodes], bulkhead.ItemInstalled), "with one stale node the item is not installed, and the node is named", "%s: %s; afterwards %s", before[0], stale, after[twoNodes])
	d.check("S4-2", before[1] != "" && !reached(before[1], bulkhead.ItemReissued) && reached(after[unpatched], bulkhead.ItemInstalled), "an unpatched server cannot reach installed; once patched, with a key of after it, it can", "%s: %s; afterwards %s", before[1], leaks, after[unpatched])
	return nil
}

// reached reports whether a state is at least as far as another on the ordinary way.
func reached(s, want bulkhead.ItemState) bool {
	way := []bulkhead.ItemState{bulkhead.ItemPlanned, bulkhead.ItemReopened, bulkhead.ItemNotified, bulkhead.ItemPatched, bulkhead.ItemRekeyed, bulkhead.ItemReissued, bulkhead.ItemInstalled, bulkhead.ItemRevoked}
	return slices.Index(way, s) >= slices.Index(way, want)
}

// byOtherMethod reissues with a change of the validation method.
func (d *day2014) byOtherMethod(x *site) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	csr, err := requestWith(key, x.name)
	if err != nil {
		return err
	}
	got, asked, err := d.house.reh.Reissue(d.ctx, x.account, x.first.Certificate, csr, bulkhead.TLSALPN01, d.web.show)
	if err != nil {
		return err
	}
	var methods []string
	for _, id := range asked.Authorizations {
		a, err := d.house.roles.Enroll.Authorization(d.ctx, x.account, id)
		if err != nil {
			return err
		}
		for _, c := range a.Challenges {
			if c.State == bulkhead.ChallengeValid {
				methods = append(methods, fmt.Sprintf("%s at %s", c.Method, c.ValidatedAt.UTC().Format(time.RFC3339)))
			}
		}
	}
	d.check("S4-5", asked.ID != "" && len(methods) == 1 && strings.HasPrefix(methods[0], string(bulkhead.TLSALPN01)), "a reissue with another method asks for a new validation by it", "order %s was asked for; validated by %s", asked.ID, strings.Join(methods, ", "))
	x.now, x.key = got, key
	return nil
}

// revoked asks the edge.
func (d *day2014) revoked(x *site) (bool, error) {
	a, err := d.house.status(x.first.Certificate.CertificateRef)
	return a.State == ocsp.Revoked, err
}

// lateOnes: the visible date of one that is installed, and of one that is not.
func (d *day2014) lateOnes() error {
	if err := d.visibleDate(); err != nil {
		return err
	}
	var early bulkhead.CampaignItem
	var late *site
	for _, part := range []int{slow, gone, idle} {
		if err := d.every(part, false, func(x *site) error {
			it, _, err := d.item(x)
			if late == nil || it.RevokeAt.Before(early.RevokeAt) {
				early, late = it, x
			}
			return err
		}); err != nil {
			return err
		}
	}
	if err := d.step(max(0, early.RevokeAt.Sub(d.clock.now())) + 10*time.Minute); err != nil {
		return err
	}
	it, _, err := d.item(late)
	if err != nil {
		return err
	}
	gone, err := d.revoked(late)
	if err != nil {
		return err
	}
	d.check("S3-1", !gone && !it.State.Done() && d.clock.now().Before(d.campaign.ForceAt), "past its date, the old certificate is not revoked before the replacement is installed", "%s is %s at %s; its date was %s", late.name, it.State, d.clock.now().UTC().Format(time.RFC3339), it.RevokeAt.UTC().Format(time.RFC3339))
	if err := d.every(slow, false, func(x *site) error { x.install(); return nil }); err != nil {
		return err
	}
	d.say("One subscriber had the replacement and did not install it: its old certificate stayed good past its date, until the replacement was seen")
	return d.step(10 * time.Minute)
}

// visibleDate watches one item from installed to revoked.
func (d *day2014) visibleDate() error {
	var it bulkhead.CampaignItem
	var watched *site
	for _, x := range d.sites {
		if !x.concern || x.own {
			continue
		}
		i, _, err := d.item(x)
		if err != nil {
			return err
		}
		if i.State == bulkhead.ItemInstalled && i.RevokeAt.After(d.clock.now().Add(time.Minute)) && (watched == nil || i.RevokeAt.Before(it.RevokeAt)) {
			it, watched = i, x
		}
	}
	if watched == nil {
		return bulkhead.NewFault(bulkhead.KindUnavailable, "no item waits for its date: the hours of this day do not fit the plan")
	}
	if err := d.step(it.RevokeAt.Sub(d.clock.now()) - time.Minute); err != nil {
		return err
	}
	before, err := d.revoked(watched)
	if err != nil {
		return err
	}
	if err := d.step(7 * time.Minute); err != nil { // the desk looks again every five
		return err
	}
	after, err := d.revoked(watched)
	if err != nil {
		return err
	}
	d.say(fmt.Sprintf("%s was installed and shown its date, %s: good a minute before, revoked by itself after it", watched.name, it.RevokeAt.UTC().Format(time.RFC3339)))
	d.check("S4-7", !before && after, "the old certificate is revoked automatically after its replacement, at the date that its holder saw", "%s: revoked a minute before %t, within six minutes after %t", watched.name, before, after)
	return nil
}

// clockRunsOut: whoever did nothing is revoked by the clock, before the deadline.
func (d *day2014) clockRunsOut() error {
	for d.clock.now().Before(d.campaign.ForceAt.Add(-8 * time.Hour)) {
		if err := d.step(6 * time.Hour); err != nil {
			return err
		}
	}
	if err := d.step(max(0, d.campaign.ForceAt.Sub(d.clock.now())) + 6*time.Minute); err != nil {
		return err
	}
	forced := 0
	for _, part := range []int{gone, idle} {
		if err := d.every(part, false, func(x *site) error {
			it, _, err := d.item(x)
			if it.State == bulkhead.ItemRevoked && strings.Contains(it.Detail, "deadline clock") {
				forced++
			}
			return err
		}); err != nil {
			return err
		}
	}
	d.say(fmt.Sprintf("The deadline clock revoked the %d that were never reached or did nothing, %s before the deadline", forced, d.campaign.Deadline.Sub(d.clock.now()).Truncate(time.Minute)))
	d.check("S3-1", forced == 2, "only the deadline clock revokes what was not installed", "%d of 2 by the clock", forced)
	return nil
}

// numbers: they sum up, each item went its way in order, and the world sees it.
func (d *day2014) numbers() error {
	t, err := d.tally()
	if err != nil {
		return err
	}
	var sum int64
	var words []string
	for _, s := range bulkhead.ItemStates {
		sum += t.ByState[s]
		if t.ByState[s] > 0 {
			words = append(words, fmt.Sprintf("%d %s", t.ByState[s], s))
		}
	}
	d.check("S3-10", sum == t.Total && t.Total == d.campaign.Items && t.ByState[bulkhead.ItemRevoked] == t.Total && t.Overdue == 0, "the numbers sum to the total; nothing is overdue", "%s of %d; %d same-key attempts; %d overdue", strings.Join(words, ", "), t.Total, t.SameKeyAttempts, t.Overdue)
	revoked, good, inOrder, whole := 0, 0, 0, 0
	for _, x := range d.sites {
		if !x.concern {
			continue
		}
		if is, err := d.revoked(x); err != nil {
			return err
		} else if is {
			revoked++
		}
		if x.part == gone || x.part == idle {
			continue
		}
		whole++
		if a, err := d.house.status(x.now.Certificate.CertificateRef); err != nil {
			return err
		} else if a.State == ocsp.Good {
			good++
		}
		_, steps, err := d.item(x)
		if err != nil {
			return err
		}
		if orderly(steps) {
			inOrder++
		}
	}
	d.say(fmt.Sprintf("At the edge %d of %d old certificates are revoked, and all %d replacements are good", revoked, t.Total, good))
	d.check("S3-1", inOrder == whole && int64(revoked) == t.Total && good == whole, "each item went notified, patched, rekeyed, reissued, installed, revoked, each step with its log entry", "%d of %d in order", inOrder, whole)
	if _, err := d.house.reh.Desk().End(d.ctx, "operator:operator-1", d.campaign.ID, "every certificate is replaced and revoked"); err != nil {
		return err
	}
	timeline, err := d.house.reh.Desk().Timeline(d.ctx, d.incident.ID)
	if err != nil {
		return err
	}
	var lines []string
	for _, e := range timeline[:min(len(timeline), 12)] {
		lines = append(lines, fmt.Sprintf("%s  entry %d  %s", e.At.UTC().Format(time.RFC3339), e.LogIndex, e.What))
	}
	d.say(fmt.Sprintf("The campaign is closed; the timeline of the incident has %d lines", len(timeline)), lines...)
	return nil
}

// orderly wants the last whole way of an item in order, each step with its evidence.
func orderly(steps []bulkhead.ItemStep) bool {
	want := []bulkhead.ItemState{bulkhead.ItemNotified, bulkhead.ItemPatched, bulkhead.ItemRekeyed, bulkhead.ItemReissued, bulkhead.ItemInstalled, bulkhead.ItemRevoked}
	at := 0
	for _, s := range steps {
		switch {
		case s.State == bulkhead.ItemReopened:
			at = 0
		case s.State == bulkhead.ItemPlanned:
		case at < len(want) && s.State == want[at] && s.LogIndex >= 0:
			at++
		default:
			return false
		}
	}
	return at == len(want)
}
