package incident

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"bulkhead"
	"bulkhead/incident/plan"
)

// PlanRequest says how an incident's certificates are to be replaced.
type PlanRequest = bulkhead.CampaignRequest

// page is how many rows one look at the record reads.
const page = 5000

// Draft makes a plan without keeping it: what a dry run shows.
func (s *Service) Draft(ctx context.Context, actor string, req PlanRequest) (bulkhead.Campaign, *plan.Plan, error) {
	c, p, _, err := s.draftPlan(ctx, actor, req)
	return c, p, err
}

// draftPlan reads the snapshot and plans. The campaign that it returns has the plan, and the generation after that of the
// incident's open campaign, if there is one.
func (s *Service) draftPlan(ctx context.Context, actor string, req PlanRequest) (bulkhead.Campaign, *plan.Plan, *snapshot, error) {
	i, err := s.open(ctx, req.Incident)
	if err != nil {
		return bulkhead.Campaign{}, nil, nil, err
	}
	if i.Kind != bulkhead.GeneralIncident {
		return bulkhead.Campaign{}, nil, nil, bulkhead.Faultf(bulkhead.KindUsage, "%s is the record of a delay; its certificates are those of incident %s", i.ID, i.Parent).
			WithHint("bulkhead campaign plan --incident " + i.Parent)
	}
	c, err := s.current(ctx, i)
	if err != nil {
		return c, nil, nil, err
	}
	s.wish(&c, i, req)
	snap, err := s.snapshot(ctx, i, c, req)
	if err != nil {
		return c, nil, nil, err
	}
	p, body, hash, err := plan.Make(snap.Snapshot)
	if err != nil {
		return c, nil, nil, err
	}
	c.State, c.Generation, c.ParentHash, c.PlanHash, c.Plan = bulkhead.CampaignPlanned, c.Generation+1, c.PlanHash, hash, body
	c.Items, c.Deadline, c.ForceAt, c.Approval = int64(p.Items), p.Deadline, p.ForceAt, ""
	if c.Actor == "" {
		c.Actor, c.CreatedAt = actor, s.now()
	}
	return c, p, snap, nil
}

// current is the open campaign of an incident, or an empty one.
func (s *Service) current(ctx context.Context, i bulkhead.Incident) (bulkhead.Campaign, error) {
	all, err := s.cfg.Store.Campaigns(ctx, 1000, bulkhead.CampaignPlanned, bulkhead.CampaignRunning, bulkhead.CampaignPaused)
	if err != nil {
		return bulkhead.Campaign{}, err
	}
	for _, c := range all {
		if c.Incident == i.ID {
			return c, nil
		}
	}
	return bulkhead.Campaign{Incident: i.ID, Reason: i.Reason}, nil
}

// wish settles what the campaign asks for: the request, else what was before, else the playbook.
func (s *Service) wish(c *bulkhead.Campaign, i bulkhead.Incident, req PlanRequest) {
	if c.Generation == 0 {
		if b, err := s.Playbook(i.Playbook); err == nil {
			c.Needs, c.Tickets = b.Needs, b.Tickets
		}
		c.Needs.NewKey = c.Needs.NewKey || i.Reason == bulkhead.KeyCompromise
	}
	if req.Needs != nil {
		c.Needs = *req.Needs
	}
	if req.Tickets != nil {
		c.Tickets = *req.Tickets
	}
}

// snapshot is the world for a plan, with the rows beside its items.
type snapshot struct {
	plan.Snapshot
	rows []row
}

// row is what the record keeps of an item beside the plan.
type row struct {
	name, account, order, product string
	key                           bulkhead.Hash
	notAfter                      time.Time
	replacement                   bulkhead.CertificateRef
}

// snapshot reads every certificate of the incident that is neither revoked nor expired.
func (s *Service) snapshot(ctx context.Context, i bulkhead.Incident, c bulkhead.Campaign, req PlanRequest) (*snapshot, error) {
	out := &snapshot{Snapshot: plan.Snapshot{Incident: i.ID, Parent: c.PlanHash, Now: s.now(), FinishBy: req.FinishBy, Capacity: s.cfg.Capacity, Chunk: s.cfg.Chunk, Together: s.cfg.Together}}
	if req.Capacity != nil {
		out.Capacity = *req.Capacity
	}
	online, err := s.online(ctx)
	if err != nil {
		return nil, err
	}
	seen, err := s.seenReplaced(ctx, c.ID)
	if err != nil {
		return nil, err
	}
	if err := s.readItems(ctx, out, i, c, online, seen); err != nil {
		return nil, err
	}
	if len(out.Items) == 0 {
		return nil, bulkhead.Faultf(bulkhead.KindGate, "incident %s has no certificate that is neither revoked nor expired", i.ID).WithHint("bulkhead incident scope " + i.ID + " --help")
	}
	return out, nil
}

// readers is how many parts of the record are read at once for a plan.
const readers = 2

// readItems reads the items of an incident into a snapshot, in the order of their issue.
func (s *Service) readItems(ctx context.Context, out *snapshot, i bulkhead.Incident, c bulkhead.Campaign, online map[bulkhead.AuthorityID]bool, seen map[bulkhead.CertificateRef]bulkhead.CertificateRef) error {
	first, last, err := s.cfg.Store.PlanSpan(ctx, i.ID)
	if err != nil {
		return err
	}
	var parts [readers]snapshot
	g, ctx := errgroup.WithContext(ctx)
	for n := range int64(readers) {
		part := &parts[n]
		part.Now = out.Now
		from, to := first-1+(last-first+1)*n/readers, first-1+(last-first+1)*(n+1)/readers
		g.Go(func() error {
			for it, err := range s.cfg.Store.ItemsToPlan(ctx, i.ID, out.Now, from, to) {
				if err != nil {
					return err
				}
				if by, ok := seen[it.Certificate.CertificateRef]; ok && it.Certificate.ReplacedBy == (bulkhead.CertificateRef{}) {
					it.Certificate.ReplacedBy = by
				}
				if err := s.take(ctx, part, i, c, it, online); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for n := range parts {
		out.Items, out.rows = append(out.Items, parts[n].Items...), append(out.rows, parts[n].rows...)
		parts[n] = snapshot{}
	}
	return nil
}

func (s *Service) take(ctx context.Context, out *snapshot, i bulkhead.Incident, c bulkhead.Campaign, it *bulkhead.IncidentItem, online map[bulkhead.AuthorityID]bool) error {
	cert := &it.Certificate
	product := s.cfg.Product(cert.Profile)
	if cert.Kind == bulkhead.CACertificate {
		product = "ca"
	}
	replacement, err := s.goodReplacement(ctx, c, cert)
	if err != nil {
		return err
	}
	own := s.cfg.Own(*cert) || cert.Kind == bulkhead.InfraCertificate
	p := plan.Item{CertificateRef: cert.CertificateRef, IntentSeq: cert.IntentSeq, Product: product, Account: cert.AccountID, Replaced: replacement != (bulkhead.CertificateRef{}),
		Own: own, Critical: !own && s.cfg.Critical(*cert), Held: it.HeldWhy != "", Ceremony: !online[cert.Issuer] || cert.Kind == bulkhead.CACertificate,
		Revalidate: !own && product == "tls" && out.Now.Sub(cert.ReservedAt) > s.cfg.ValidationReuse, Deadline: deadlineOf(i, *cert)}
	name := cert.CertificateRef.String()
	if len(cert.Names) > 0 {
		name = cert.Names[0].Value
	}
	out.Items = append(out.Items, p)
	out.rows = append(out.rows, row{name: name, account: cert.AccountID, order: cert.OrderID, product: product, key: cert.KeyHash, notAfter: cert.NotAfter, replacement: replacement})
	return nil
}

// goodReplacement is what a certificate was replaced by, when that is good for something: not revoked, and with another key
// where a new one is needed.
func (s *Service) goodReplacement(ctx context.Context, c bulkhead.Campaign, cert *bulkhead.Certificate) (bulkhead.CertificateRef, error) {
	if cert.ReplacedBy == (bulkhead.CertificateRef{}) {
		return bulkhead.CertificateRef{}, nil
	}
	n, _, err := s.cfg.Store.Certificate(ctx, cert.ReplacedBy)
	if bulkhead.KindOf(err) == bulkhead.KindNotFound || err == nil && (n.State != bulkhead.Issued || c.Needs.NewKey && n.KeyHash == cert.KeyHash) {
		return bulkhead.CertificateRef{}, nil
	}
	return cert.ReplacedBy, err
}

// online says which authorities can publish a change without a ceremony.
func (s *Service) online(ctx context.Context) (map[bulkhead.AuthorityID]bool, error) {
	all, err := s.cfg.Store.Authorities(ctx)
	out := map[bulkhead.AuthorityID]bool{}
	for _, a := range all {
		out[a.ID] = a.KeyURI != ""
	}
	return out, err
}

// Plan makes a plan and keeps it. Nothing happens until it is started; a campaign that runs stops until the new plan is.
func (s *Service) Plan(ctx context.Context, actor string, req PlanRequest) (bulkhead.Campaign, *plan.Plan, error) {
	defer s.moved()
	c, p, snap, err := s.draftPlan(ctx, actor, req)
	if err != nil {
		return c, p, err
	}
	if c.ID == "" {
		if c.ID, err = s.newID(); err != nil {
			return c, p, err
		}
	}
	ev := s.leaf(bulkhead.EvCampaignPlanned, c.ID, actor, "for incident "+c.Incident)
	ev.Digest, ev.Link, ev.Count = c.PlanHash, c.ParentHash, c.Items
	if c.Generation == 1 && c.Cursor == 0 {
		c.Cursor = oldest(snap.Items) - 1 // replacements that came before the day count, too
	}
	if err := s.cfg.Store.PlanCampaign(ctx, c, c.Generation-1, campaignItems(p, snap, s.now()), campaignJobs(p), ev); err != nil {
		return c, p, err
	}
	if p.Late() {
		i, err := s.cfg.Store.Incident(ctx, c.Incident)
		if err != nil {
			return c, p, err
		}
		for _, d := range i.Deadlines {
			if d.Due.Equal(p.Deadline) {
				_, err = s.openDelay(ctx, i, d, c.Items, "the plan ends at "+utc(p.FinishBy))
				return c, p, err
			}
		}
	}
	return c, p, nil
}

func oldest(items []plan.Item) int64 {
	low := items[0].IntentSeq
	for _, it := range items {
		low = min(low, it.IntentSeq)
	}
	return low
}

// campaignItems are the rows of a plan, in its order.
func campaignItems(p *plan.Plan, snap *snapshot, now time.Time) iter.Seq[bulkhead.CampaignItem] {
	return func(yield func(bulkhead.CampaignItem) bool) {
		for _, a := range p.Assignments {
			it, r := snap.Items[a.Index], snap.rows[a.Index]
			item := bulkhead.CampaignItem{CertificateRef: it.CertificateRef, IntentSeq: it.IntentSeq, Ordinal: a.Ordinal, Wave: int(a.Wave), State: bulkhead.ItemPlanned, Product: r.product,
				AccountID: r.account, OrderID: r.order, Name: r.name, KeyHash: r.key, Own: it.Own, Critical: it.Critical, NotifyAt: a.NotifyAt, WindowStart: a.Start, WindowEnd: a.End,
				RevokeAt: a.RevokeAt, Deadline: it.Deadline, NotAfter: r.notAfter, Replacement: r.replacement, MovedAt: now}
			if a.Wave == plan.Held {
				item.State, item.Detail = bulkhead.ItemHeld, "on legal hold when the plan was made"
			}
			if !yield(item) {
				return
			}
		}
	}
}

func campaignJobs(p *plan.Plan) []bulkhead.CampaignJob {
	out := make([]bulkhead.CampaignJob, len(p.Jobs))
	for i, j := range p.Jobs {
		out[i] = bulkhead.CampaignJob{Kind: j.Kind, First: j.First, Last: j.Last, DueAt: j.DueAt}
	}
	return out
}

// NeedsQuorum reports whether starting the campaign takes more than one person.
func (s *Service) NeedsQuorum(c bulkhead.Campaign) bool { return c.Items > int64(s.cfg.OnePerson) }

// MayStart says whether the plan, named by its hash, may be started now; the approval is asked for after it.
func (s *Service) MayStart(ctx context.Context, id string, hash bulkhead.Hash) (bulkhead.Campaign, error) {
	c, err := s.cfg.Store.Campaign(ctx, id)
	if err != nil {
		return c, err
	}
	if c.State != bulkhead.CampaignPlanned {
		return c, bulkhead.Faultf(bulkhead.KindConflict, "campaign %s is %s; only a plan is started", id, c.State).WithHint("bulkhead campaign status " + id)
	}
	if hash != c.PlanHash {
		return c, bulkhead.Faultf(bulkhead.KindGate, "campaign %s has plan %s, not the one that was seen", id, c.PlanHash).WithHint("bulkhead campaign status " + id)
	}
	if _, err := s.open(ctx, c.Incident); err != nil {
		return c, err
	}
	return c, nil
}

// Start puts an approved plan into force. approval is the request that two people signed, or the one person where one may.
// In a campaign that asks for new keys every key of it is blocked in the same transaction, for ever. Doing it again for the
// same approval changes nothing.
func (s *Service) Start(ctx context.Context, id string, hash bulkhead.Hash, approval string) (bulkhead.Campaign, error) {
	defer s.moved()
	if c, err := s.cfg.Store.Campaign(ctx, id); err == nil && c.Approval == approval && c.PlanHash == hash && c.State != bulkhead.CampaignPlanned {
		return c, nil
	}
	c, err := s.MayStart(ctx, id, hash)
	if err != nil {
		return c, err
	}
	c.State, c.Approval = bulkhead.CampaignRunning, approval
	if c.StartedAt.IsZero() {
		c.StartedAt = s.now()
	}
	ev := s.leaf(bulkhead.EvCampaignStarted, id, approval, "incident "+c.Incident+", approved by "+approval)
	ev.Digest, ev.Count = hash, c.Items
	var keys func(int64, bulkhead.Hash) bulkhead.Evidence
	if c.Needs.NewKey {
		keys = func(fresh int64, all bulkhead.Hash) bulkhead.Evidence {
			k := s.leaf(bulkhead.EvCampaignKeys, id, approval, "every key of the campaign is refused for ever")
			k.Count, k.Digest = fresh, all
			return k
		}
	}
	return c, s.cfg.Store.StartCampaign(ctx, c, bulkhead.CampaignPlanned, keys, ev)
}

// Pause stops a campaign at the end of the chunk in hand. One person may; the clocks go on.
func (s *Service) Pause(ctx context.Context, actor, id, why string) (bulkhead.Campaign, error) {
	return s.turn(ctx, actor, id, why, bulkhead.CampaignRunning, bulkhead.CampaignPaused, bulkhead.EvCampaignPaused)
}

// Resume lets a paused campaign go on with the plan that was approved.
func (s *Service) Resume(ctx context.Context, actor, id, why string) (bulkhead.Campaign, error) {
	return s.turn(ctx, actor, id, why, bulkhead.CampaignPaused, bulkhead.CampaignRunning, bulkhead.EvCampaignResumed)
}

func (s *Service) turn(ctx context.Context, actor, id, why string, from, to bulkhead.CampaignState, kind bulkhead.EvidenceKind) (bulkhead.Campaign, error) {
	defer s.moved()
	if strings.TrimSpace(why) == "" {
		return bulkhead.Campaign{}, bulkhead.NewFault(bulkhead.KindUsage, "this needs a reason for the record").WithHint("--why TEXT")
	}
	c, err := s.cfg.Store.Campaign(ctx, id)
	if err != nil {
		return c, err
	}
	if c.State != from {
		return c, bulkhead.Faultf(bulkhead.KindConflict, "campaign %s is %s, not %s", id, c.State, from).WithHint("bulkhead campaign status " + id)
	}
	c.State = to
	return c, s.cfg.Store.MoveCampaign(ctx, c, from, s.leaf(kind, id, actor, why))
}

// MayEnd says whether End would be refused.
func (s *Service) MayEnd(ctx context.Context, id, why string) (bulkhead.Campaign, error) {
	c, err := s.cfg.Store.Campaign(ctx, id)
	if err != nil {
		return c, err
	}
	if strings.TrimSpace(why) == "" {
		return c, bulkhead.NewFault(bulkhead.KindUsage, "closing needs a reason for the record").WithHint("bulkhead campaign close " + id + " --why TEXT")
	}
	if c.State == bulkhead.CampaignClosed {
		return c, bulkhead.Faultf(bulkhead.KindConflict, "campaign %s is closed since %s", id, utc(c.ClosedAt))
	}
	if c.StartedAt.IsZero() {
		return c, nil
	}
	t, err := s.cfg.Store.TallyCampaign(ctx, id, s.now())
	if err != nil {
		return c, err
	}
	if open := t.Total - t.ByState[bulkhead.ItemRevoked] - t.ByState[bulkhead.ItemExpired] - t.ByState[bulkhead.ItemHeld]; open > 0 {
		return c, bulkhead.Faultf(bulkhead.KindGate, "%d certificates of campaign %s are neither revoked, expired nor on hold", open, id).WithHint("bulkhead campaign items " + id)
	}
	return c, nil
}

// End closes a campaign whose items are revoked, expired or on hold; one that never started may be closed at any time.
func (s *Service) End(ctx context.Context, actor, id, why string) (bulkhead.Campaign, error) {
	defer s.moved()
	c, err := s.MayEnd(ctx, id, why)
	if err != nil {
		return c, err
	}
	was := c.State
	c.State, c.ClosedAt = bulkhead.CampaignClosed, s.now()
	return c, s.cfg.Store.MoveCampaign(ctx, c, was, s.leaf(bulkhead.EvCampaignClosed, id, actor, why))
}

// Campaign returns one campaign.
func (s *Service) Campaign(ctx context.Context, id string) (bulkhead.Campaign, error) {
	return s.cfg.Store.Campaign(ctx, id)
}

// Campaigns returns campaigns, newest first.
func (s *Service) Campaigns(ctx context.Context, limit int, states ...bulkhead.CampaignState) ([]bulkhead.Campaign, error) {
	return s.cfg.Store.Campaigns(ctx, limit, states...)
}

// Status is a campaign with its numbers, and the jobs that had trouble.
func (s *Service) Status(ctx context.Context, id string) (bulkhead.Campaign, bulkhead.CampaignTally, []bulkhead.CampaignJob, error) {
	c, err := s.cfg.Store.Campaign(ctx, id)
	if err != nil {
		return c, bulkhead.CampaignTally{}, nil, err
	}
	t, err := s.cfg.Store.TallyCampaign(ctx, id, s.now())
	if err != nil {
		return c, t, nil, err
	}
	jobs, err := s.cfg.Store.CampaignJobs(ctx, id, 100)
	var troubled []bulkhead.CampaignJob
	for _, j := range jobs {
		if !j.Done && j.Problem != "" {
			troubled = append(troubled, j)
		}
	}
	return c, t, troubled, err
}

// CampaignItems returns items in the order of the plan.
func (s *Service) CampaignItems(ctx context.Context, id string, f bulkhead.CampaignItemFilter) ([]bulkhead.CampaignItem, error) {
	if _, err := s.cfg.Store.Campaign(ctx, id); err != nil {
		return nil, err
	}
	return s.cfg.Store.CampaignItems(ctx, id, f)
}

// History returns what one certificate went through in its campaign.
func (s *Service) History(ctx context.Context, ref bulkhead.CertificateRef) (bulkhead.Campaign, bulkhead.CampaignItem, []bulkhead.ItemStep, error) {
	c, it, err := s.cfg.Store.MembershipOf(ctx, ref)
	if err != nil {
		return c, it, nil, err
	}
	steps, err := s.cfg.Store.ItemSteps(ctx, c.ID, it.IntentSeq)
	return c, it, steps, err
}

// Import takes the word of a person for a step of one item that nobody can see from outside: a mail or code-signing
// certificate that is in use, an endpoint that is not reachable from here. The steps stay in order; revoking is not among
// them.
func (s *Service) Import(ctx context.Context, actor string, ref bulkhead.CertificateRef, to bulkhead.ItemState, why string) (bulkhead.CampaignItem, error) {
	c, it, err := s.MayImport(ctx, ref, to, why)
	if err != nil {
		return it, err
	}
	if err := s.move(ctx, c, actor, []bulkhead.CampaignItem{it}, to, "on the word of "+actor+": "+why, nil); err != nil {
		return it, err
	}
	_, it, err = s.cfg.Store.MembershipOf(ctx, ref)
	return it, err
}

// MayImport says whether Import would be refused.
func (s *Service) MayImport(ctx context.Context, ref bulkhead.CertificateRef, to bulkhead.ItemState, why string) (bulkhead.Campaign, bulkhead.CampaignItem, error) {
	c, it, err := s.cfg.Store.MembershipOf(ctx, ref)
	if err != nil {
		return c, it, err
	}
	switch to {
	case bulkhead.ItemNotified, bulkhead.ItemPatched, bulkhead.ItemInstalled:
	default:
		return c, it, bulkhead.Faultf(bulkhead.KindUsage, "the step %q is seen in the record and not imported", to).WithHint("notified, patched or installed")
	}
	if strings.TrimSpace(why) == "" {
		return c, it, bulkhead.NewFault(bulkhead.KindUsage, "an imported step needs its evidence in words").WithHint("--why \"who said so, and how they know\"")
	}
	if to == bulkhead.ItemInstalled && c.Needs.Patch && !it.Vulnerable.IsZero() && !it.Vulnerable.Before(it.MovedAt) {
		return c, it, bulkhead.Faultf(bulkhead.KindGate, "%s was seen with the fault at %s, after its replacement: installing there is worth nothing", it.Name, utc(it.Vulnerable)).
			WithHint("patch first, then look again: bulkhead campaign look " + c.ID)
	}
	if !c.Needs.CanMove(it.State, to, false) {
		return c, it, bulkhead.Faultf(bulkhead.KindGate, "%s is %s and cannot be %s next", ref, it.State, to).WithHint("bulkhead campaign items " + c.ID)
	}
	return c, it, nil
}

// move moves items by the same step with one piece of evidence.
func (s *Service) move(ctx context.Context, c bulkhead.Campaign, actor string, items []bulkhead.CampaignItem, to bulkhead.ItemState, detail string, job *bulkhead.CampaignJob) error {
	defer s.moved()
	moves := make([]bulkhead.ItemMove, len(items))
	for i, it := range items {
		moves[i] = bulkhead.ItemMove{IntentSeq: it.IntentSeq, From: it.State, To: to, At: s.now(), Detail: detail}
	}
	if len(moves) == 0 {
		return s.cfg.Store.MoveItems(ctx, c.ID, nil, job)
	}
	return s.cfg.Store.MoveItems(ctx, c.ID, moves, job, s.itemsLeaf(c, actor, items, string(to)+": "+detail))
}

// itemsLeaf is the evidence of one step of some items.
func (s *Service) itemsLeaf(c bulkhead.Campaign, actor string, items []bulkhead.CampaignItem, detail string) bulkhead.Evidence {
	refs := make([]bulkhead.CertificateRef, len(items))
	for i, it := range items {
		refs[i] = it.CertificateRef
	}
	return s.refsLeaf(c, actor, refs, detail)
}

// refsLeaf is itemsLeaf by the names of the certificates.
func (s *Service) refsLeaf(c bulkhead.Campaign, actor string, refs []bulkhead.CertificateRef, detail string) bulkhead.Evidence {
	b := newBatchLeaf()
	for _, ref := range refs {
		b.add(ref)
	}
	return s.batchLeaf(c, actor, detail, b)
}

// errOvertaken ends the work on a job that is no longer ours.
var errOvertaken = errors.New("the job was overtaken")

func overtaken(err error) error {
	if bulkhead.KindOf(err) == bulkhead.KindConflict {
		return fmt.Errorf("%w: %w", errOvertaken, err)
	}
	return err
}
