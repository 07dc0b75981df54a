package run

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"bulkhead"
	"bulkhead/incident"
	"bulkhead/incident/plan"
	"bulkhead/scan"
	"bulkhead/signer/signerrpc"
	"bulkhead/status"
)

// Incident is the desk for the bad day, as it is prepared on a good one.
type Incident struct {
	// OnCall names who has which role: role, person and deputy of each.
	OnCall []OnCall `yaml:"on_call,omitempty"`
	// OwnAccounts are accounts of the house's own estate, which is replaced before customers are told. Certificates that
	// operators ordered, and the house's own listeners, belong to it anyway.
	OwnAccounts []string `yaml:"own_accounts,omitempty"`
	// OwnSites are sites of the house, as "bulkhead scan" takes targets: looked at before customers are told, with the house's own
	// listener and the names of its own certificates. Each must be seen.
	OwnSites []string `yaml:"own_sites,omitempty"`
	// Critical are names of critical infrastructure, .SUFFIX for everything below one: told first, revoked last.
	Critical []string `yaml:"critical,omitempty"`
	// Capacity is what the house can do in an hour, for plans.
	Capacity Capacity `yaml:"capacity"`
	// Explanation is the URL that renewal information gives to clients of a campaign.
	Explanation string `yaml:"explanation,omitempty"`
	// TicketLife is how long a code for a free reissue is good.
	TicketLife Duration `yaml:"ticket_life"`
	// CCADB is the number of the CA owner in the CCADB, for reports: A and six digits or more.
	CCADB string `yaml:"ccadb_id,omitempty"`
	// LookPorts are the ports at which the names of a campaign's certificates are looked at; 443 where there are none.
	LookPorts []int `yaml:"look_ports,omitempty"`
	// Contact is where customers ask, as notices of incidents print it.
	Contact string `yaml:"contact,omitempty"`
	// PartnerContacts are where registration partners are told of their own customers: partner and mail of each.
	PartnerContacts []PartnerContact `yaml:"partner_contacts,omitempty"`
	// MassRevocation is a file with what people prepared for the plan of BR 5.7.1.2, like contacts, training and rehearsals:
	// doc/reports.md.
	MassRevocation string `yaml:"mass_revocation,omitempty"`
	// ChainAdvice is a file with rules of what to do to the chain, by product and time of issue; empty uses the house's.
	ChainAdvice string `yaml:"chain_advice,omitempty"`
}

// OnCall is a role on the day.
type OnCall struct {
	Role   string `yaml:"role"`
	Person string `yaml:"person"`
	Deputy string `yaml:"deputy,omitempty"`
}

// Capacity is work in an hour; 0 is no limit.
type Capacity struct {
	// Signatures is replacements.
	Signatures int `yaml:"signatures"`
	// Validations is names validated anew.
	Validations int `yaml:"validations"`
	// Notices is accounts told.
	Notices int `yaml:"notices"`
}

func defaultIncident() Incident {
	return Incident{Capacity: Capacity{Signatures: 500_000, Validations: 100_000, Notices: 20_000}, TicketLife: Duration(30 * 24 * time.Hour)}
}

func (c Incident) check() error {
	if c.Capacity.Signatures < 0 || c.Capacity.Validations < 0 || c.Capacity.Notices < 0 {
		return wrong("incident.capacity", "a capacity is a number an hour, 0 for no limit")
	}
	if time.Duration(c.TicketLife) < time.Hour {
		return wrong("incident.ticket_life", "%s is shorter than an hour", time.Duration(c.TicketLife))
	}
	if c.CCADB != "" && !ccadbID.MatchString(c.CCADB) {
		return wrong("incident.ccadb_id", "%q is not A and six digits or more", c.CCADB)
	}
	for _, p := range c.LookPorts {
		if p < 1 || p > 65535 {
			return wrong("incident.look_ports", "%d is not a port", p)
		}
	}
	for _, site := range c.OwnSites {
		if t, err := scan.ParseTarget(site, 443); err != nil || t.Block.IsValid() {
			return wrong("incident.own_sites", "%q is no target", site)
		}
	}
	for _, d := range c.OnCall {
		if d.Role == "" || d.Person == "" {
			return wrong("incident.on_call", "a duty has a role and a person")
		}
	}
	return nil
}

// openDesk composes the incident desk. Enrolment refers to it by campaigns, which finds it once it is there.
func (h *House) openDesk(context.Context, seed) error {
	if !h.roles.has(signerrpc.Status, signerrpc.Enroll, signerrpc.Console) {
		return nil
	}
	c := h.cfg.Incident
	secret, err := h.ticketSecret()
	if err != nil {
		return err
	}
	cfg := incident.Config{Store: h.store, Revoker: campaignChanges{h.status, h}, Partners: partners{h},
		Capacity: plan.Capacity(c.Capacity), Own: h.ownEstate(), Critical: critical(c.Critical), Product: h.product, OnePerson: h.cfg.Status.OnePerson, TicketSecret: secret,
		TicketLife: time.Duration(c.TicketLife), Explanation: c.Explanation, Alarm: h.watch.Raise, Now: h.now, Log: h.log.With(slog.String("role", "incident"))}
	if !h.historic { // a rehearsal looks at its own fleet, or at nothing
		looks := endpointLooks{e: h.eyes(h.cfg.PrivateTargets), ports: h.lookPorts()}
		cfg.Looker, cfg.Estate = looks, estate{looks}
	}
	cfg.Adviser = adviser{h}
	if h.enroll != nil {
		cfg.Reissuer = h.enroll
	}
	if len(h.cfg.ExpiryNotices.channels()) > 0 {
		cfg.Notifier = campaignNotices{h}
	}
	if h.looker != nil {
		cfg.Looker = h.looker
	}
	for _, d := range c.OnCall {
		cfg.Duties = append(cfg.Duties, bulkhead.Duty(d))
	}
	if c.ChainAdvice != "" {
		text, err := os.ReadFile(inDir(h.dir, c.ChainAdvice))
		if err != nil {
			return bulkhead.Faultf(bulkhead.KindUsage, "incident.chain_advice: %s cannot be read", c.ChainAdvice).WithHint("correct chain_advice in " + ConfigFile).WithCause(err)
		}
		if cfg.Advice, err = incident.ParseAdvice(text); err != nil {
			return err
		}
	}
	h.desk, err = incident.New(cfg)
	return err
}

// ticketSecret is the key of ticket codes, nil in a process that has no secret of external accounts: it gives no codes.
func (h *House) ticketSecret() ([]byte, error) {
	base := h.enrolment.ExternalSecret
	if base == nil {
		if _, err := os.Stat(filepath.Join(h.dir, externalSecret)); err != nil {
			return nil, nil
		}
		var err error
		if base, err = secretForExternalKeys(h.dir); err != nil {
			return nil, err
		}
	}
	key, err := hkdf.Key(sha256.New, base, nil, "bulkhead ticket codes", 32)
	if err != nil {
		return nil, fmt.Errorf("ticket key: %w", err)
	}
	return key, nil
}

// runDesk works on campaigns and looks at clocks, beside the status service that carries its changes through.
func (h *House) runDesk(ctx context.Context, started <-chan struct{}) error {
	select {
	case <-ctx.Done():
		return nil
	case <-started:
	}
	return h.desk.Run(ctx, 0)
}

// ownEstate tells what the house holds itself. Accounts do not change sides, so what was looked up is kept.
func (h *House) ownEstate() func(bulkhead.Certificate) bool {
	var mu sync.Mutex
	known := map[string]bool{"": false}
	for _, a := range h.cfg.Incident.OwnAccounts {
		known[a] = true
	}
	return func(c bulkhead.Certificate) bool {
		mu.Lock()
		defer mu.Unlock()
		own, seen := known[c.AccountID]
		if seen {
			return own
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		a, err := h.store.Account(ctx, c.AccountID)
		if err != nil && bulkhead.KindOf(err) != bulkhead.KindNotFound {
			return false // looked up again at the next certificate
		}
		known[c.AccountID] = a.Operator
		return a.Operator
	}
}

func critical(names []string) func(bulkhead.Certificate) bool {
	return func(c bulkhead.Certificate) bool {
		for _, n := range c.Names {
			for _, want := range names {
				if n.Value == want || strings.HasPrefix(want, ".") && strings.HasSuffix(n.Value, want) {
					return true
				}
			}
		}
		return false
	}
}

// product is what a profile's certificates are for.
func (h *House) product(name string) string {
	if p := h.profile(name); p != nil {
		return string(p.Usage())
	}
	return "tls"
}

// partners resolves registration partners.
type partners struct{ h *House }

// PartnerAccounts implements incident.Partners.
func (p partners) PartnerAccounts(ctx context.Context, partner string) ([]string, error) {
	if _, err := p.h.store.Partner(ctx, partner); err != nil {
		return nil, err
	}
	const most = 5001 // one more than a scope takes
	rows, err := p.h.store.PartnerAccounts(ctx, partner, most)
	var out []string
	for _, a := range rows {
		out = append(out, a.ID)
	}
	return out, err
}

// campaigns is the desk as enrolment sees it.
type campaigns struct{ h *House }

func (c campaigns) RenewalWindow(ctx context.Context, ref bulkhead.CertificateRef) (bulkhead.RenewalInfo, bool, error) {
	return c.h.desk.RenewalWindow(ctx, ref)
}

func (c campaigns) Epoch() int64 { return c.h.desk.Epoch() }

func (c campaigns) IsMember(ctx context.Context, account string, replaces bulkhead.CertificateRef, names []bulkhead.Identifier) (bool, error) {
	return c.h.desk.IsMember(ctx, account, replaces, names)
}

func (c campaigns) KeySeen(ctx context.Context, account, order string, key bulkhead.Hash) error {
	return c.h.desk.KeySeen(ctx, account, order, key)
}

// campaignChanges is the ordinary change of status for campaigns.
type campaignChanges struct {
	*status.Service
	h *House
}

// ActivateForCampaign carries a change through on the approvals of the campaign's plan (doc/campaigns.md, "Approved
// once"). The quorum's own record is asked each time: the request must have been approved, and for exactly this plan. Every
// certificate of the change must be in the campaign.
func (x campaignChanges) ActivateForCampaign(ctx context.Context, c bulkhead.Campaign, change bulkhead.Change) error {
	if err := x.approved(ctx, c); err != nil {
		return err
	}
	now, err := x.Change(ctx, change.ID)
	if err != nil {
		return err
	}
	if now.State == bulkhead.ChangePlanned {
		if _, _, err := x.Preview(ctx, now.ID); err != nil {
			return err
		}
		if now, err = x.Change(ctx, change.ID); err != nil {
			return err
		}
	}
	if now.State == bulkhead.ChangePreviewed {
		if err := x.within(ctx, c, now); err != nil {
			return err
		}
		if err := x.Approve(ctx, now.ID, now.PreviewHash, c.Approval+" of campaign "+c.ID); err != nil {
			return err
		}
	}
	return x.Activate(ctx, now.ID)
}

// approved fails with KindGate unless the plan in force has its approvals.
func (x campaignChanges) approved(ctx context.Context, c bulkhead.Campaign) error {
	no := func(why string) error {
		return bulkhead.Faultf(bulkhead.KindGate, "campaign %s revokes nothing: %s", c.ID, why).WithHint("bulkhead campaign start " + c.ID)
	}
	id, byRequest := strings.CutPrefix(c.Approval, "request:")
	if !byRequest {
		if !strings.HasPrefix(c.Approval, "operator:") || c.Items > int64(x.h.cfg.Status.OnePerson) {
			return no("its plan has no approval")
		}
		return nil
	}
	r, err := approvals{x.h}.stands(ctx, id, no)
	if err != nil {
		return err
	}
	var p campaignPayload
	if err := json.Unmarshal(r.Payload, &p); err != nil || r.Action != actionCampaign || p.Campaign != c.ID || p.Plan != c.PlanHash {
		return no("request " + id + " approved something else")
	}
	return nil
}

// within fails with KindGate when the change touches a certificate that is not in the campaign.
func (x campaignChanges) within(ctx context.Context, c bulkhead.Campaign, change bulkhead.Change) error {
	stray, outside, err := x.h.store.ChangeOutside(ctx, change.ID, c.ID)
	if err != nil || !outside {
		return err
	}
	return bulkhead.Faultf(bulkhead.KindGate, "change %s touches %s, which campaign %s does not have", change.ID, stray, c.ID).WithHint("bulkhead change show " + change.ID)
}

// actionCampaign is the quorum action that puts a plan into force.
const actionCampaign = "campaign.start"

// campaignPayload is what two people approve: the plan, by its hash, and what it comes to in words.
type campaignPayload struct {
	Campaign string        `json:"campaign"`
	Plan     bulkhead.Hash `json:"plan"`
	Incident string        `json:"incident"`
	Items    int64         `json:"certificates"`
	Reason   string        `json:"revocation_reason"`
	ForceAt  time.Time     `json:"revoked_at_the_latest"`
	NewKeys  bool          `json:"blocks_every_key"`
}

// startApproved runs when the quorum stands.
func (h *House) startApproved(ctx context.Context, r bulkhead.ApprovalRequest) error {
	p, err := payload[campaignPayload](r)
	if err != nil {
		return err
	}
	_, err = h.desk.Start(ctx, p.Campaign, p.Plan, "request:"+r.ID)
	return err
}

// desk is the incident desk for the console: with the quorum in front of a start.
type desk struct {
	*incident.Service
	h *House
}

// AskStart asks for the approvals of a plan, or starts it on one person's word where one may.
func (d desk) AskStart(ctx context.Context, actor, id string, hash bulkhead.Hash, why string) (*bulkhead.ApprovalRequest, error) {
	c, err := d.MayStart(ctx, id, hash)
	if err != nil {
		return nil, err
	}
	if !d.NeedsQuorum(c) {
		_, err := d.Start(ctx, id, hash, actor)
		return nil, err
	}
	if strings.TrimSpace(why) == "" {
		why = "mass replacement for incident " + c.Incident
	}
	r, err := d.h.quorum.Propose(ctx, actionCampaign, campaignPayload{c.ID, c.PlanHash, c.Incident, c.Items, c.Reason.String(), c.ForceAt, c.Needs.NewKey}, actor, why)
	return &r, err
}

// DraftCampaign implements console.Campaigns.
func (d desk) DraftCampaign(ctx context.Context, actor string, req bulkhead.CampaignRequest) (bulkhead.Campaign, error) {
	c, _, err := d.Draft(ctx, actor, req)
	return c, err
}

// PlanCampaign implements console.Campaigns.
func (d desk) PlanCampaign(ctx context.Context, actor string, req bulkhead.CampaignRequest) (bulkhead.Campaign, error) {
	c, _, err := d.Plan(ctx, actor, req)
	return c, err
}
