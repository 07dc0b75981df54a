package enroll

import (
	"context"
	"fmt"
	"time"

	"bulkhead"
)

// CheckPartner refuses a new partner that cannot be meant, or that exists.
func (s *Service) CheckPartner(ctx context.Context, p bulkhead.Partner) error {
	if err := bulkhead.AuthorityID(p.ID).Check(); err != nil {
		return bulkhead.Faultf(bulkhead.KindUsage, "%q is not the name of a partner", p.ID).WithHint("use lower-case letters, digits and '-'")
	}
	if err := p.Scope.Check(); err != nil {
		return err
	}
	for _, name := range p.Scope.Profiles {
		if _, err := s.cfg.Book.Profile(ctx, name); err != nil {
			return err
		}
	}
	_, err := s.cfg.Store.Partner(ctx, p.ID)
	switch bulkhead.KindOf(err) {
	case "":
		return bulkhead.Faultf(bulkhead.KindConflict, "there is a partner %s already", p.ID).WithHint("bulkhead partner show " + p.ID)
	case bulkhead.KindNotFound:
		return nil
	}
	return err
}

// AddPartner makes a partner by an approved request of the quorum. Making it twice is no error.
func (s *Service) AddPartner(ctx context.Context, request string, digest bulkhead.Hash, p bulkhead.Partner) error {
	if err := s.CheckPartner(ctx, p); err != nil {
		if bulkhead.KindOf(err) == bulkhead.KindConflict {
			return nil // before a crash
		}
		return err
	}
	p.State, p.CreatedAt = bulkhead.PartnerActive, s.now().Truncate(time.Second)
	ev := s.partnerLeaf("request:"+request, p.ID, "added: "+scopeText(p.Scope))
	ev.Digest = digest
	return s.cfg.Store.CreatePartner(ctx, p, ev)
}

func (s *Service) partnerLeaf(actor, id, detail string) bulkhead.Evidence {
	return bulkhead.Evidence{Kind: bulkhead.EvPartner, At: s.now(), Actor: actor, Ref: id, Detail: clip(detail)}
}

func scopeText(x bulkhead.PartnerScope) string {
	return fmt.Sprintf("names %v, profiles %v, %d an hour, %d a day, %s UTC", x.Names, x.Profiles, x.PerHour, x.PerDay, x.Hours())
}

// LimitPartner gives a partner another scope. by is "operator:NAME" for one that permits nothing that the old one did
// not; KindGate for a wider one, which takes an approved request, "request:ID".
func (s *Service) LimitPartner(ctx context.Context, by, id string, scope bulkhead.PartnerScope, approved bool) (bulkhead.Partner, error) {
	if err := scope.Check(); err != nil {
		return bulkhead.Partner{}, err
	}
	p, err := s.cfg.Store.Partner(ctx, id)
	if err != nil {
		return p, err
	}
	if !approved && !scope.Within(p.Scope) {
		return p, bulkhead.Faultf(bulkhead.KindGate, "this permits partner %s more than it may now: that takes two people", id).WithHint("bulkhead partner limit asks for it")
	}
	p.Scope = scope
	return p, s.cfg.Store.UpdatePartner(ctx, p, p.State, nil, s.partnerLeaf(by, id, "scope: "+scopeText(scope)))
}

// SuspendPartner is the kill switch, on one person's word: a stop covers the partner's customers, its people's tokens and
// its unused external account keys are dead. What it ever ordered and approved is PartnerLog.
func (s *Service) SuspendPartner(ctx context.Context, actor, id, why string) (bulkhead.Partner, bulkhead.Stop, error) {
	if err := wantReason(why); err != nil {
		return bulkhead.Partner{}, bulkhead.Stop{}, err
	}
	p, err := s.cfg.Store.Partner(ctx, id)
	if err != nil {
		return p, bulkhead.Stop{}, err
	}
	stopID, err := s.newID()
	if err != nil {
		return p, bulkhead.Stop{}, err
	}
	now := s.now()
	x := bulkhead.Stop{ID: stopID[:12], Kind: bulkhead.StopPartner, Value: id, Reason: clip(why), Actor: actor, At: now.Truncate(time.Second)}
	if p.State == bulkhead.PartnerActive {
		p.State = bulkhead.PartnerSuspended
		err := s.cfg.Store.UpdatePartner(ctx, p, bulkhead.PartnerActive, []bulkhead.Stop{x}, s.partnerLeaf(actor, id, "suspended: "+why),
			bulkhead.Evidence{Kind: bulkhead.EvStop, At: now, Actor: actor, Ref: x.ID, Detail: clip(x.Scope() + ": " + why)})
		if err != nil {
			return p, x, err
		}
	}
	leaf := func(ref, what string) bulkhead.Evidence { return s.credentialLeaf(actor, ref, what+": "+why) }
	for {
		people, err := s.cfg.Store.KillPeople(ctx, id, now, credentialBatch, func(x bulkhead.PartnerPerson) bulkhead.Evidence {
			return leaf(x.Partner+"/"+x.Name, "token killed with its registration partner")
		})
		if err != nil {
			return p, x, err
		}
		keys, err := s.cfg.Store.KillExternalKeys(ctx, id, now, credentialBatch, func(k bulkhead.ExternalKey) bulkhead.Evidence {
			return leaf(k.ID, "external account key killed with its registration partner")
		})
		if err != nil || people+keys == 0 {
			return p, x, err
		}
	}
}

// ResumePartner lifts a suspension and ends the stops of the partner, by an approved request. Its people need new tokens.
func (s *Service) ResumePartner(ctx context.Context, id, request string, digest bulkhead.Hash, why string) error {
	p, err := s.cfg.Store.Partner(ctx, id)
	if err != nil {
		return err
	}
	if p.State == bulkhead.PartnerSuspended {
		p.State = bulkhead.PartnerActive
		ev := s.partnerLeaf("request:"+request, id, "resumed: "+why)
		ev.Digest = digest
		if err := s.cfg.Store.UpdatePartner(ctx, p, bulkhead.PartnerSuspended, nil, ev); err != nil {
			return err
		}
	}
	stops, err := s.cfg.Store.Stops(ctx)
	if err != nil {
		return err
	}
	for _, x := range stops.Of(bulkhead.StopPartner) {
		if x.Value != id {
			continue
		}
		if err := s.EndStop(ctx, x.ID, request, digest, why); err != nil {
			return err
		}
	}
	return nil
}

// Partner returns a partner; Partners all of them, by name.
func (s *Service) Partner(ctx context.Context, id string) (bulkhead.Partner, error) {
	return s.cfg.Store.Partner(ctx, id)
}

// Partners returns all partners, by name.
func (s *Service) Partners(ctx context.Context) ([]bulkhead.Partner, error) {
	return s.cfg.Store.Partners(ctx)
}

// People returns those at a partner, by name.
func (s *Service) People(ctx context.Context, partner string) ([]bulkhead.PartnerPerson, error) {
	return s.cfg.Store.People(ctx, partner)
}

// AddPerson gives somebody at a partner a token, and returns it once; a token that the person had is dead.
func (s *Service) AddPerson(ctx context.Context, actor, partner, name string) (bulkhead.PartnerPerson, string, error) {
	x := bulkhead.PartnerPerson{Partner: partner, Name: name, CreatedAt: s.now().Truncate(time.Second)}
	if err := bulkhead.AuthorityID(name).Check(); err != nil {
		return x, "", bulkhead.Faultf(bulkhead.KindUsage, "%q is not the name of a person", name).WithHint("use lower-case letters, digits and '-'")
	}
	p, err := s.cfg.Store.Partner(ctx, partner)
	if err != nil {
		return x, "", err
	}
	if p.State != bulkhead.PartnerActive {
		return x, "", bulkhead.Faultf(bulkhead.KindGate, "partner %s is suspended", partner).WithHint("bulkhead partner resume " + partner + " --reason TEXT")
	}
	token, err := s.newSecret(PersonTokenPrefix)
	if err != nil {
		return x, "", err
	}
	x.TokenHash = bulkhead.Digest([]byte(token))
	return x, token, s.cfg.Store.PutPerson(ctx, x, s.credentialLeaf(actor, partner+"/"+name, "token of a person at a registration partner made"))
}

// RemovePerson kills the token of one person.
func (s *Service) RemovePerson(ctx context.Context, actor, partner, name string) error {
	people, err := s.cfg.Store.People(ctx, partner)
	if err != nil {
		return err
	}
	for _, x := range people {
		if x.Name == name {
			x.TokenHash, x.RevokedAt = bulkhead.Hash{}, s.now().Truncate(time.Second)
			return s.cfg.Store.PutPerson(ctx, x, s.credentialLeaf(actor, partner+"/"+name, "token of a person at a registration partner killed"))
		}
	}
	return bulkhead.Faultf(bulkhead.KindNotFound, "there is no person %s at partner %s", name, partner).WithHint("bulkhead partner show " + partner)
}

// PersonTokenPrefix begins the tokens of people at partners.
const PersonTokenPrefix = "bhp_"

// PersonByToken returns who holds a token: KindUnauthorized for nobody, or when the partner is suspended.
func (s *Service) PersonByToken(ctx context.Context, token string) (bulkhead.PartnerPerson, error) {
	x, p, err := s.cfg.Store.PersonByToken(ctx, bulkhead.Digest([]byte(token)))
	if bulkhead.KindOf(err) == bulkhead.KindNotFound || err == nil && p.State != bulkhead.PartnerActive {
		return bulkhead.PartnerPerson{}, bulkhead.NewFault(bulkhead.KindUnauthorized, "the token is not known, or its registration partner is suspended").WithHint("ask the house for a new one")
	}
	return x, err
}

// NewCustomer makes an API account for a customer of the person's partner. It orders no name of the house and vouches for
// none: every name is validated by the house.
func (s *Service) NewCustomer(ctx context.Context, by bulkhead.PartnerPerson, addresses ...string) (bulkhead.Account, string, error) {
	return s.newTokenAccount(ctx, bulkhead.Account{Partner: by.Partner, Creator: by.Actor()}, addresses, "created for the API by a registration partner")
}

// AddCustomerKey is AddExternalKey for a customer of the person's partner: the account made with it belongs to the partner.
func (s *Service) AddCustomerKey(ctx context.Context, by bulkhead.PartnerPerson, note string, life time.Duration) (bulkhead.ExternalKey, []byte, error) {
	return s.addExternalKey(ctx, by.Actor(), by.Partner, note, life)
}

// Customers returns the accounts that a partner brought, newest first.
func (s *Service) Customers(ctx context.Context, partner string, limit int) ([]bulkhead.Account, error) {
	return s.cfg.Store.PartnerAccounts(ctx, partner, limit)
}

// PartnerUse returns what a partner used in each hour since t.
func (s *Service) PartnerUse(ctx context.Context, partner string, since time.Time) ([]bulkhead.PartnerUse, error) {
	return s.cfg.Store.PartnerUse(ctx, partner, since)
}

// PartnerLog lists everything that a partner's customers ever ordered, newest first, before a cursor; next is 0 after the
// last.
func (s *Service) PartnerLog(ctx context.Context, partner string, before int64, limit int) (rows []bulkhead.Order, words map[string][]bulkhead.SecondApproval, next int64, err error) {
	if _, err := s.cfg.Store.Partner(ctx, partner); err != nil {
		return nil, nil, 0, err
	}
	rows, next, err = s.cfg.Store.PartnerOrders(ctx, partner, before, limit)
	words = map[string][]bulkhead.SecondApproval{}
	for _, o := range rows {
		if err == nil && s.highValue(o) {
			words[o.ID], err = s.cfg.Store.SecondApprovals(ctx, o.ID)
		}
	}
	return rows, words, next, err
}
