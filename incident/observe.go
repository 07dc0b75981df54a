package incident

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/incident/plan"
)

// observe brings items to where the record and the endpoints show them.
func (s *Service) observe(ctx context.Context, c bulkhead.Campaign) error {
	for _, step := range []func(context.Context, bulkhead.Campaign) error{s.holdsEnded, s.findReplacements, s.findSameKeys, s.elsewhere, s.look, s.early} {
		if err := step(ctx, c); err != nil && bulkhead.KindOf(err) != bulkhead.KindConflict { // somebody else moved the item: next round
			return err
		}
	}
	return nil
}

// holdsEnded finds what a process that ended a hold and was killed left.
func (s *Service) holdsEnded(ctx context.Context, c bulkhead.Campaign) error {
	return s.afterHolds(ctx, c, "role:incident", "hold ended")
}

// newCertificates is how many of them one round looks at.
const newCertificates = 100_000

// issuedPage is how many of them are read at once.
const issuedPage = 1000

// issued is a page of new certificates.
type issued struct {
	rows []bulkhead.Certificate
	err  error
}

// issuedAfter reads a page in the background.
func (s *Service) issuedAfter(ctx context.Context, cursor int64) <-chan issued {
	c := make(chan issued, 1)
	go func() {
		rows, err := s.cfg.Store.IssuedAfter(ctx, cursor, issuedPage)
		c <- issued{rows, err}
	}()
	return c
}

// findReplacements follows what was issued since the last round: a certificate that says which one it replaces, or that has
// the same account and names as an item.
func (s *Service) findReplacements(ctx context.Context, c bulkhead.Campaign) error {
	cursor := c.Cursor
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	next := s.issuedAfter(ctx, cursor)
	for seen := 0; seen < newCertificates; {
		page := <-next
		rows, err := page.rows, page.err
		if err != nil {
			return err
		}
		if len(rows) == issuedPage && seen+len(rows) < newCertificates { // read while these are looked through
			next = s.issuedAfter(ctx, rows[len(rows)-1].OutcomeSeq)
		}
		maybe, err := s.cfg.Store.Replacing(ctx, c.ID, rows)
		if err != nil {
			return err
		}
		if err := s.replacements(ctx, c, slices.DeleteFunc(slices.Clone(rows), func(n bulkhead.Certificate) bool {
			return !maybe[n.IntentSeq] && n.Replaces == (bulkhead.CertificateRef{}) && !s.cfg.Own(n)
		})); err != nil {
			return err
		}
		if len(rows) > 0 {
			cursor = rows[len(rows)-1].OutcomeSeq
		}
		if seen += len(rows); len(rows) < issuedPage {
			break
		}
	}
	if cursor == c.Cursor {
		return nil
	}
	c.Cursor = cursor
	return s.cfg.Store.MoveCampaign(ctx, c, bulkhead.CampaignRunning)
}

// together is steps of many items that are kept at once, each with its own evidence.
type together struct {
	moves []bulkhead.ItemMove
	evs   []bulkhead.Evidence
}

// replacements finds the items that new certificates replace and moves them together; one by one when somebody else moved
// one of them meanwhile, or two certificates replace the same.
func (s *Service) replacements(ctx context.Context, c bulkhead.Campaign, fresh []bulkhead.Certificate) error {
	var all together
	for _, n := range fresh {
		if err := s.replacement(ctx, c, n, &all); err != nil {
			return err
		}
	}
	if len(all.moves) == 0 {
		return nil
	}
	err := s.cfg.Store.MoveItems(ctx, c.ID, all.moves, nil, all.evs...)
	if bulkhead.KindOf(err) != bulkhead.KindConflict {
		return err
	}
	for _, n := range fresh {
		if err := s.replacement(ctx, c, n, nil); err != nil {
			return err
		}
	}
	return nil
}

// replacement finds the items that a new certificate replaces. Their steps go into all, or are kept here when it is nil.
func (s *Service) replacement(ctx context.Context, c bulkhead.Campaign, n bulkhead.Certificate, all *together) error {
	found, err := s.replacedBy(ctx, c, n)
	if err != nil || len(found) == 0 {
		return err
	}
	known, err := s.knownKey(ctx, c, n.KeyHash)
	if err != nil {
		return err
	}
	for _, it := range found {
		if known {
			err = s.sameKey(ctx, c, it, n.CertificateRef)
		} else {
			err = s.reissued(ctx, c, it, n, all)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) replacedBy(ctx context.Context, c bulkhead.Campaign, n bulkhead.Certificate) ([]bulkhead.CampaignItem, error) {
	var found []bulkhead.CampaignItem
	add := func(it bulkhead.CampaignItem) {
		fresh := it.Replacement == (bulkhead.CertificateRef{}) || it.State == bulkhead.ItemReopened
		if !it.State.Done() && fresh && it.IntentSeq < n.IntentSeq && !slices.ContainsFunc(found, func(x bulkhead.CampaignItem) bool { return x.IntentSeq == it.IntentSeq }) {
			found = append(found, it)
		}
	}
	if n.Replaces != (bulkhead.CertificateRef{}) {
		in, it, err := s.cfg.Store.MembershipOf(ctx, n.Replaces)
		if err != nil && bulkhead.KindOf(err) != bulkhead.KindNotFound {
			return nil, err
		}
		if err == nil && in.ID == c.ID {
			add(it)
		}
	}
	alike, err := s.byName(ctx, c, n)
	if err != nil {
		return nil, err
	}
	for _, it := range alike {
		old, _, err := s.cfg.Store.Certificate(ctx, it.CertificateRef)
		if err != nil {
			return nil, err
		}
		if sameNames(old.Names, n.Names) && it.CertificateRef != n.CertificateRef {
			add(it)
		}
	}
	return found, nil
}

// byName finds items of the same account by one of the names. The house orders by an account of each process: for its own
// estate the name alone decides.
func (s *Service) byName(ctx context.Context, c bulkhead.Campaign, n bulkhead.Certificate) ([]bulkhead.CampaignItem, error) {
	if s.cfg.Own(n) {
		items, err := s.cfg.Store.CampaignItems(ctx, c.ID, bulkhead.CampaignItemFilter{OwnOnly: true, Limit: page})
		return slices.DeleteFunc(items, func(it bulkhead.CampaignItem) bool {
			return !slices.ContainsFunc(n.Names, func(name bulkhead.Identifier) bool { return name.Value == it.Name })
		}), err
	}
	if n.AccountID == "" {
		return nil, nil
	}
	var out []bulkhead.CampaignItem
	for _, name := range n.Names {
		items, err := s.cfg.Store.OpenItemsOf(ctx, c.ID, n.AccountID, name.Value)
		if err != nil {
			return nil, err
		}
		out = append(out, items...)
	}
	return out, nil
}

func sameNames(a, b []bulkhead.Identifier) bool {
	if len(a) != len(b) {
		return false
	}
	return !slices.ContainsFunc(a, func(x bulkhead.Identifier) bool { return !slices.Contains(b, x) })
}

func (s *Service) knownKey(ctx context.Context, c bulkhead.Campaign, key bulkhead.Hash) (bool, error) {
	if !c.Needs.NewKey {
		return false, nil
	}
	known, err := s.cfg.Store.KnownKeys(ctx, c.ID, key)
	return len(known) > 0, err
}

// sameKey reopens an item whose replacement has a key of the campaign: it replaced nothing (Netcraft saw many in 2014).
func (s *Service) sameKey(ctx context.Context, c bulkhead.Campaign, it bulkhead.CampaignItem, by bulkhead.CertificateRef) error {
	detail := "same key: " + by.String() + " has a key that is known; a new key is needed"
	if !c.Needs.CanMove(it.State, bulkhead.ItemReopened, false) {
		return s.cfg.Store.NoteItem(ctx, c.ID, bulkhead.ItemMove{IntentSeq: it.IntentSeq, Detail: detail})
	}
	return s.move(ctx, c, "role:incident", []bulkhead.CampaignItem{it}, bulkhead.ItemReopened, detail, nil)
}

// way is the steps from one state to reissued, in order, as the record alone can show them.
var way = []bulkhead.ItemState{bulkhead.ItemPlanned, bulkhead.ItemNotified, bulkhead.ItemPatched, bulkhead.ItemRekeyed, bulkhead.ItemReissued}

// reissued moves an item on the strength of its replacement. A campaign that asks for a patch waits for a passing look: a
// replacement on an unpatched server is worth nothing.
func (s *Service) reissued(ctx context.Context, c bulkhead.Campaign, it bulkhead.CampaignItem, n bulkhead.Certificate, all *together) error {
	at := slices.Index(way, it.State)
	if it.State == bulkhead.ItemReopened {
		at = 0
	}
	if at < 0 || it.State == bulkhead.ItemReissued {
		return nil
	}
	if c.Needs.Patch && at < 2 { // not seen patched yet
		return s.cfg.Store.NoteItem(ctx, c.ID, bulkhead.ItemMove{IntentSeq: it.IntentSeq, Replacement: n.CertificateRef, Detail: "replaced by " + n.CertificateRef.String() + ", and not yet seen patched"})
	}
	var moves []bulkhead.ItemMove
	var evs []bulkhead.Evidence
	from := it.State
	for _, to := range way[at+1:] {
		if to == bulkhead.ItemPatched && !c.Needs.Patch {
			continue
		}
		m := bulkhead.ItemMove{IntentSeq: it.IntentSeq, From: from, To: to, At: s.now(), Leaf: len(evs)}
		switch to {
		case bulkhead.ItemNotified:
			m.Detail = "replaced without being told"
		case bulkhead.ItemRekeyed:
			if m.Detail = "a request with key " + n.KeyHash.String(); n.KeyHash == it.KeyHash {
				continue // only where no new key is asked for
			}
		default:
			m.Detail, m.Replacement = "replaced by "+n.CertificateRef.String(), n.CertificateRef
		}
		ev := s.itemsLeaf(c, "role:incident", []bulkhead.CampaignItem{it}, string(to)+": "+m.Detail)
		if to == bulkhead.ItemRekeyed {
			ev.KeyHash = n.KeyHash
		}
		moves, evs, from = append(moves, m), append(evs, ev), to
	}
	if all == nil {
		return s.cfg.Store.MoveItems(ctx, c.ID, moves, nil, evs...)
	}
	for i := range moves {
		moves[i].Leaf += len(all.evs)
	}
	all.moves, all.evs = append(all.moves, moves...), append(all.evs, evs...)
	return nil
}

// early moves items that had a good replacement when the plan was made.
func (s *Service) early(ctx context.Context, c bulkhead.Campaign) error {
	if c.Needs.Patch {
		return nil // the look does it
	}
	var first int64
	for {
		items, err := s.cfg.Store.EarlyItems(ctx, c.ID, first, 1000)
		if err != nil || len(items) == 0 {
			return err
		}
		for _, it := range items {
			first = it.Ordinal
			n, _, err := s.cfg.Store.Certificate(ctx, it.Replacement)
			if err != nil {
				return err
			}
			if err := s.reissued(ctx, c, it, n, nil); err != nil {
				return err
			}
		}
	}
}

// findSameKeys finds replacements with the same key that exist already, by a query over the keys.
func (s *Service) findSameKeys(ctx context.Context, c bulkhead.Campaign) error {
	if !c.Needs.NewKey {
		return nil
	}
	items, err := s.cfg.Store.SameKeyReissues(ctx, c.ID, 1000)
	if err != nil {
		return err
	}
	for _, it := range items {
		if c.Needs.CanMove(it.State, bulkhead.ItemReopened, false) {
			if err := s.move(ctx, c, "role:incident", []bulkhead.CampaignItem{it}, bulkhead.ItemReopened, "same key: a later certificate has the key of this one; a new key is needed", nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// look looks at the endpoints of items whose next step is seen from outside, some in each round.
func (s *Service) look(ctx context.Context, c bulkhead.Campaign) error {
	if s.cfg.Looker == nil {
		return nil
	}
	var states []bulkhead.ItemState
	if c.Needs.Patch {
		states = append(states, bulkhead.ItemNotified, bulkhead.ItemReopened)
	}
	if c.Needs.Installed {
		states = append(states, bulkhead.ItemReissued)
	}
	if len(states) == 0 {
		return nil
	}
	s.mu.Lock()
	first := s.looks[c.ID] + 1
	s.mu.Unlock()
	items, err := s.cfg.Store.CampaignItems(ctx, c.ID, bulkhead.CampaignItemFilter{First: first, Limit: s.cfg.Looks, States: states, Product: "tls"})
	if err != nil {
		return err
	}
	last := int64(0) // the next round begins again
	for _, it := range items {
		if err := s.lookAt(ctx, c, it); err != nil {
			return err
		}
		last = it.Ordinal
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.looks[c.ID] = last; len(items) < s.cfg.Looks {
		s.looks[c.ID] = 0
	}
	return nil
}

// Look looks at one item now and moves it as far as what was seen carries.
func (s *Service) Look(ctx context.Context, ref bulkhead.CertificateRef) (bulkhead.CampaignItem, error) {
	c, it, err := s.cfg.Store.MembershipOf(ctx, ref)
	if err != nil {
		return it, err
	}
	if s.cfg.Looker == nil {
		return it, bulkhead.NewFault(bulkhead.KindUnavailable, "this house has nothing that looks at endpoints").WithHint("bulkhead campaign import --serials FILE --step installed --why TEXT")
	}
	if c.State != bulkhead.CampaignRunning {
		return it, bulkhead.Faultf(bulkhead.KindConflict, "campaign %s is %s", c.ID, c.State)
	}
	if err := s.lookAt(ctx, c, it); err != nil {
		return it, err
	}
	_, it, err = s.cfg.Store.MembershipOf(ctx, ref)
	return it, err
}

// seen is what all nodes of an item showed.
type seen struct {
	vulnerable string   // a node with the fault
	doubtful   string   // a node that could not be judged
	stale      []string // nodes without the replacement
	oldKey     []string // of them those that show the key to be replaced, in whatever certificate
	current    int
}

func judge(looks []EndpointLook, want, old bulkhead.Hash) seen {
	var x seen
	for _, l := range looks {
		switch l.Verdict {
		case "vulnerable":
			x.vulnerable = l.Address
		case "patched", "not_supported", "":
		default:
			x.doubtful = l.Address + " is " + l.Verdict
		}
		if !want.IsZero() && l.Fingerprint == want {
			x.current++
		} else {
			x.stale = append(x.stale, l.Address)
			if !old.IsZero() && l.Key == old {
				x.oldKey = append(x.oldKey, l.Address)
			}
		}
	}
	if len(looks) == 0 {
		x.doubtful = "no node was found"
	}
	return x
}

func (s *Service) lookAt(ctx context.Context, c bulkhead.Campaign, it bulkhead.CampaignItem) error {
	defer s.moved()
	looks, err := s.cfg.Looker.Look(ctx, it, c.Needs.Patch)
	if err != nil {
		return s.cfg.Store.NoteItem(ctx, c.ID, bulkhead.ItemMove{IntentSeq: it.IntentSeq, Detail: "could not look: " + bulkhead.AsFault(err).Detail})
	}
	var n bulkhead.Certificate
	if it.Replacement != (bulkhead.CertificateRef{}) {
		if n, _, err = s.cfg.Store.Certificate(ctx, it.Replacement); err != nil {
			return err
		}
	}
	x := judge(looks, n.Fingerprint, it.KeyHash)
	switch {
	case c.Needs.Patch && x.vulnerable != "":
		return s.seenVulnerable(ctx, c, it, x.vulnerable)
	case c.Needs.Patch && x.doubtful != "":
		return s.cfg.Store.NoteItem(ctx, c.ID, bulkhead.ItemMove{IntentSeq: it.IntentSeq, Detail: "not judged: " + x.doubtful})
	case c.Needs.Patch && (it.State == bulkhead.ItemNotified || it.State == bulkhead.ItemReopened):
		return s.seenPatched(ctx, c, it, n, len(looks))
	case it.State == bulkhead.ItemReissued && c.Needs.Installed:
		return s.seenInstalled(ctx, c, it, x)
	}
	return nil
}

// seenVulnerable keeps when the fault was seen. A replacement that exists by then was made, or put, on a server that leaks:
// the item needs another.
func (s *Service) seenVulnerable(ctx context.Context, c bulkhead.Campaign, it bulkhead.CampaignItem, node string) error {
	now := s.now()
	detail := "seen with the fault at " + node
	if it.Replacement == (bulkhead.CertificateRef{}) || !c.Needs.CanMove(it.State, bulkhead.ItemReopened, false) {
		return s.cfg.Store.NoteItem(ctx, c.ID, bulkhead.ItemMove{IntentSeq: it.IntentSeq, Detail: detail, Vulnerable: now})
	}
	detail += ", after its replacement was issued: patch first, then a new key"
	m := bulkhead.ItemMove{IntentSeq: it.IntentSeq, From: it.State, To: bulkhead.ItemReopened, At: now, Detail: detail, Vulnerable: now}
	return s.cfg.Store.MoveItems(ctx, c.ID, []bulkhead.ItemMove{m}, nil, s.itemsLeaf(c, "role:incident", []bulkhead.CampaignItem{it}, "reopened: "+detail))
}

func (s *Service) seenPatched(ctx context.Context, c bulkhead.Campaign, it bulkhead.CampaignItem, n bulkhead.Certificate, nodes int) error {
	if it.State == bulkhead.ItemReopened {
		if err := s.move(ctx, c, "role:incident", []bulkhead.CampaignItem{it}, bulkhead.ItemNotified, "its list says that a new key is needed", nil); err != nil {
			return err
		}
		it.State = bulkhead.ItemNotified
	}
	if err := s.move(ctx, c, "role:incident", []bulkhead.CampaignItem{it}, bulkhead.ItemPatched, seenNodes(nodes)+" without the fault", nil); err != nil {
		return err
	}
	if n.Fingerprint.IsZero() {
		return nil
	}
	it.State = bulkhead.ItemPatched
	known, err := s.knownKey(ctx, c, n.KeyHash)
	if err != nil {
		return err
	}
	if known {
		return s.sameKey(ctx, c, it, n.CertificateRef)
	}
	return s.reissued(ctx, c, it, n, nil)
}

// seenNodes says how many were looked at.
func seenNodes(n int) string {
	if n == 1 {
		return "1 node was seen"
	}
	return strconv.Itoa(n) + " nodes were seen"
}

// seenInstalled wants the replacement on every node; one that is stale is named.
func (s *Service) seenInstalled(ctx context.Context, c bulkhead.Campaign, it bulkhead.CampaignItem, x seen) error {
	if len(x.stale) > 0 {
		detail := fmt.Sprintf("partially installed: %d of %d nodes; not on %s", x.current, x.current+len(x.stale), strings.Join(x.stale[:min(len(x.stale), 10)], ", "))
		if len(x.oldKey) > 0 && c.Needs.NewKey {
			detail += "; still the OLD key on " + strings.Join(x.oldKey[:min(len(x.oldKey), 10)], ", ")
		}
		return s.cfg.Store.NoteItem(ctx, c.ID, bulkhead.ItemMove{IntentSeq: it.IntentSeq, Detail: detail})
	}
	return s.move(ctx, c, "role:incident", []bulkhead.CampaignItem{it}, bulkhead.ItemInstalled, seenNodes(x.current)+" with the replacement", nil)
}

// risk is D13: the deadline is at risk when notices or replacements are too slow.
func (s *Service) risk(ctx context.Context, c bulkhead.Campaign) error {
	first, err := s.cfg.Store.CampaignJobs(ctx, c.ID, 1)
	if err != nil || len(first) == 0 || first[0].Done { // those that are not done come first: everybody is told and everything revoked
		return err
	}
	t, err := s.cfg.Store.TallyCampaign(ctx, c.ID, s.now())
	if err != nil {
		return err
	}
	p, err := ReadPlan(c)
	if err != nil {
		return err
	}
	why, atRisk := plan.Risk(progress(p, t, s.now()))
	if !atRisk {
		return nil
	}
	now := s.now()
	s.cfg.Alarm(ctx, bulkhead.Alarm{Detector: "D13", Key: c.ID, Severity: bulkhead.Critical, FirstAt: now, LastAt: now, Count: 1, Runbook: "deadline-at-risk.md",
		Message: fmt.Sprintf("campaign %s may miss %s: %s", c.ID, utc(p.FinishBy), why)})
	return nil
}

// progress counts what the plan wants to be told and replaced: what was replaced already, is held or needs a ceremony does
// not count.
func progress(p *plan.Plan, t bulkhead.CampaignTally, now time.Time) plan.Progress {
	var total int64
	for _, w := range p.Waves {
		if w.Wave == plan.OwnEstate || w.Wave == plan.Subscribers || w.Wave == plan.Critical {
			total += int64(w.Items)
		}
	}
	replaced := t.ByState[bulkhead.ItemReissued] + t.ByState[bulkhead.ItemInstalled] + t.ByState[bulkhead.ItemRevoked] + t.ByState[bulkhead.ItemExpired]
	return plan.Progress{Now: now, UsableEnd: p.UsableEnd, ForceAt: p.ForceAt, Capacity: p.Capacity, Total: total, Told: t.Told, Replaced: min(replaced, total), DueTold: t.ToldDue, DueDone: t.DoneDue}
}

// KeySeen keeps that a blocked key came back in a request (D12), for every campaign that it belongs to.
func (s *Service) KeySeen(ctx context.Context, account, order string, key bulkhead.Hash) error {
	now := s.now()
	s.cfg.Alarm(ctx, bulkhead.Alarm{Detector: "D12", Key: key.String(), Severity: bulkhead.Warning, FirstAt: now, LastAt: now, Count: 1, Runbook: "d12-blocked-key.md",
		Message: fmt.Sprintf("account %s asked for a certificate with a blocked key (%s); it was refused", account, key)})
	all, err := s.cfg.Store.CampaignsOfKey(ctx, key)
	var errs []error
	for _, c := range all {
		ev := s.leaf(bulkhead.EvCampaignAttempt, c.ID, "account:"+account, "a request with a key of the campaign was refused")
		ev.KeyHash = key
		errs = append(errs, s.cfg.Store.AddAttempt(ctx, bulkhead.CampaignAttempt{Campaign: c.ID, KeyHash: key, AccountID: account, OrderID: order, At: now}, ev))
	}
	return errors.Join(append(errs, err)...)
}
