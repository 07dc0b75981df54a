package enroll

import (
	"context"
	"crypto"
	"net/mail"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/pki/keycheck"
)

// AccountRequest asks for an account held by a key.
type AccountRequest struct {
	JWK         []byte           // JSON public key
	Thumbprint  string           // RFC 7638, base64url
	Key         crypto.PublicKey // the same key
	Contacts    []string
	TermsAgreed bool
	ExternalKey string     // id of the external account key whose MAC was verified, "" for none
	From        netip.Addr // who asks, for the rate limit; zero when unknown
}

// NewAccount returns the account of the key, making it when there is none; created says which. A blocked or weak key
// is refused with KindBadPublicKey.
func (s *Service) NewAccount(ctx context.Context, req AccountRequest) (a bulkhead.Account, created bool, err error) {
	a, err = s.FindAccount(ctx, req.Thumbprint)
	if err == nil || bulkhead.KindOf(err) != bulkhead.KindAccountDoesNotExist {
		return a, false, err
	}
	spki, err := s.admitAccountKey(ctx, req.Key)
	if err != nil {
		return a, false, err
	}
	if err := s.checkContacts(req.Contacts); err != nil {
		return a, false, err
	}
	if req.ExternalKey == "" && s.cfg.ExternalRequired {
		return a, false, bulkhead.NewFault(bulkhead.KindExternalAccountRequired, "a new account needs an external account key").WithHint("ask the operator for one: bulkhead eab add")
	}
	if err := s.admitNewAccount(ctx, req.From); err != nil {
		return a, false, err
	}
	id, err := s.newID()
	if err != nil {
		return a, false, err
	}
	now := s.now()
	a = bulkhead.Account{ID: id, State: bulkhead.AccountValid, Thumbprint: req.Thumbprint, JWK: req.JWK, Contacts: req.Contacts, CreatedAt: now}
	if req.TermsAgreed {
		a.TermsAt = now
	}
	if req.ExternalKey != "" {
		err = s.cfg.Store.CreateBoundAccount(ctx, a, req.ExternalKey, s.accountEvidence(a, "created with external key "+req.ExternalKey, bulkhead.Digest(spki)))
	} else {
		err = s.cfg.Store.CreateAccount(ctx, a, s.accountEvidence(a, "created", bulkhead.Digest(spki)))
	}
	if bulkhead.KindOf(err) == bulkhead.KindConflict { // another request with the same key came first
		a, err = s.FindAccount(ctx, req.Thumbprint)
		return a, false, err
	}
	return a, err == nil, err
}

// NewTokenAccount makes an account for the API and returns its token, which is shown once and kept as a digest only.
// operator makes an account that orders as the house itself; addresses are where its holder is told of incidents.
func (s *Service) NewTokenAccount(ctx context.Context, actor string, operator bool, addresses ...string) (bulkhead.Account, string, error) {
	detail := "created for the API, " + bulkhead.ValidatesItself
	if operator {
		detail = "created for the API, for the house's own names"
	}
	return s.newTokenAccount(ctx, bulkhead.Account{Operator: operator, Creator: actor}, addresses, detail)
}

func (s *Service) newTokenAccount(ctx context.Context, a bulkhead.Account, addresses []string, detail string) (bulkhead.Account, string, error) {
	var err error
	if a.Contacts, err = s.mailContacts(addresses); err != nil {
		return bulkhead.Account{}, "", err
	}
	if a.ID, err = s.newID(); err != nil {
		return bulkhead.Account{}, "", err
	}
	token, err := s.newSecret("bh_")
	if err != nil {
		return bulkhead.Account{}, "", err
	}
	a.State, a.TokenHash, a.CreatedAt = bulkhead.AccountValid, bulkhead.Digest([]byte(token)), s.now()
	ev := s.accountEvidence(a, detail, bulkhead.Hash{})
	ev.Actor = a.Creator
	if err := s.cfg.Store.CreateAccount(ctx, a, ev); err != nil {
		return bulkhead.Account{}, "", err
	}
	return a, token, nil
}

// SetContacts replaces the mail addresses at which the holder of an account is told of incidents. An address that is none
// is KindInvalidContact.
func (s *Service) SetContacts(ctx context.Context, actor, id string, addresses []string) (bulkhead.Account, error) {
	contacts, err := s.mailContacts(addresses)
	if err != nil {
		return bulkhead.Account{}, err
	}
	return s.decideAccount(ctx, id, bulkhead.AccountValid, s.credentialLeaf(actor, id, "contacts updated"), func(a *bulkhead.Account) { a.Contacts = contacts })
}

// mailContacts turns mail addresses into the contacts of an account (RFC 8555 section 7.3).
func (s *Service) mailContacts(addresses []string) ([]string, error) {
	var contacts []string
	for _, x := range addresses {
		contacts = append(contacts, "mailto:"+x)
	}
	return contacts, s.checkContacts(contacts)
}

// FindAccount returns the account of a key by its thumbprint, KindAccountDoesNotExist when there is none.
func (s *Service) FindAccount(ctx context.Context, thumbprint string) (bulkhead.Account, error) {
	a, err := s.cfg.Store.AccountByThumbprint(ctx, thumbprint)
	return s.usable(a, err)
}

// Account returns a usable account by id, KindAccountDoesNotExist when there is none.
func (s *Service) Account(ctx context.Context, id string) (bulkhead.Account, error) {
	a, err := s.cfg.Store.Account(ctx, id)
	return s.usable(a, err)
}

// AccountByToken returns the account of an API token, KindUnauthorized when there is none.
func (s *Service) AccountByToken(ctx context.Context, token string) (bulkhead.Account, error) {
	a, err := s.cfg.Store.AccountByToken(ctx, bulkhead.Digest([]byte(token)))
	if bulkhead.KindOf(err) == bulkhead.KindNotFound {
		return a, bulkhead.NewFault(bulkhead.KindUnauthorized, "the token is not known").WithHint("set BULKHEAD_TOKEN to a token of this server")
	}
	if err == nil {
		err = s.vouchedFor(ctx, a)
	}
	return s.usable(a, err)
}

// vouchedFor fails for a token that orders on an operator's word when that operator is not in office any more.
func (s *Service) vouchedFor(ctx context.Context, a bulkhead.Account) error {
	name, byOperator := strings.CutPrefix(a.Creator, "operator:")
	if !a.Operator || !byOperator || s.cfg.InOffice == nil {
		return nil
	}
	in, err := s.cfg.InOffice(ctx, name)
	if err == nil && !in {
		err = bulkhead.Faultf(bulkhead.KindUnauthorized, "the token orders on the word of operator %s, who is not in office any more", name).WithHint("an operator makes another: bulkhead account add --own-names")
	}
	return err
}

func (s *Service) usable(a bulkhead.Account, err error) (bulkhead.Account, error) {
	switch {
	case bulkhead.KindOf(err) == bulkhead.KindNotFound:
		return a, bulkhead.NewFault(bulkhead.KindAccountDoesNotExist, "no account has this key").WithHint("register it with newAccount first")
	case err != nil:
		return a, err
	case a.State != bulkhead.AccountValid:
		return a, bulkhead.Faultf(bulkhead.KindUnauthorized, "the account is %s", a.State)
	}
	return a, nil
}

// UpdateAccount replaces the contacts and records agreement to the terms.
func (s *Service) UpdateAccount(ctx context.Context, a bulkhead.Account, contacts []string, termsAgreed bool) (bulkhead.Account, error) {
	if err := s.checkContacts(contacts); err != nil {
		return a, err
	}
	return s.changeAccount(ctx, a, "contacts updated", bulkhead.Hash{}, func(now *bulkhead.Account) {
		now.Contacts = contacts
		if termsAgreed && now.TermsAt.IsZero() {
			now.TermsAt = s.now()
		}
	})
}

// ChangeKey gives the account another key (RFC 8555 section 7.3.5); the old key is dead when it returns. It fails with
// KindConflict and the account that holds it when the new key is in use.
func (s *Service) ChangeKey(ctx context.Context, a bulkhead.Account, req AccountRequest) (bulkhead.Account, error) {
	holder, err := s.cfg.Store.AccountByThumbprint(ctx, req.Thumbprint)
	if err == nil {
		return holder, bulkhead.NewFault(bulkhead.KindConflict, "the new key belongs to an account already")
	}
	if bulkhead.KindOf(err) != bulkhead.KindNotFound {
		return a, err
	}
	spki, err := s.admitAccountKey(ctx, req.Key)
	if err != nil {
		return a, err
	}
	return s.changeAccount(ctx, a, "key changed", bulkhead.Digest(spki), func(now *bulkhead.Account) {
		now.JWK, now.Thumbprint, now.RollDue = req.JWK, req.Thumbprint, time.Time{}
	})
}

// DeactivateAccount ends the account for ever; its pending and ready orders become invalid, what is being validated or
// issued comes to nothing.
func (s *Service) DeactivateAccount(ctx context.Context, a bulkhead.Account) (bulkhead.Account, error) {
	a, err := s.changeAccount(ctx, a, "deactivated", bulkhead.Hash{}, func(now *bulkhead.Account) { now.State = bulkhead.AccountDeactivated })
	if err != nil {
		return a, err
	}
	return a, s.cancelOpen(ctx, a)
}

// changeAccount applies a change to the row as it is now, so that no change undoes another. A request signed by a key
// that was replaced meanwhile is refused.
func (s *Service) changeAccount(ctx context.Context, asked bulkhead.Account, what string, key bulkhead.Hash, change func(*bulkhead.Account)) (bulkhead.Account, error) {
	defer s.lock(asked.ID)()
	now, err := s.Account(ctx, asked.ID)
	if err != nil {
		return asked, err
	}
	if now.Thumbprint != asked.Thumbprint {
		return asked, bulkhead.NewFault(bulkhead.KindUnauthorized, "the account has another key by now")
	}
	change(&now)
	return now, s.cfg.Store.UpdateAccount(ctx, now, bulkhead.AccountValid, s.accountEvidence(now, what, key))
}

func (s *Service) accountEvidence(a bulkhead.Account, detail string, key bulkhead.Hash) bulkhead.Evidence {
	return bulkhead.Evidence{Kind: bulkhead.EvAccount, At: s.now(), Actor: accountActor(a.ID), Ref: a.ID, KeyHash: key, Detail: detail}
}

// admitAccountKey refuses weak and blocked keys and returns the DER SubjectPublicKeyInfo. More kinds sign requests
// than may be certified.
func (s *Service) admitAccountKey(ctx context.Context, key crypto.PublicKey) ([]byte, error) {
	rules := keycheck.AnyRSASize()
	rules.P521, rules.Ed25519, rules.Lists = true, true, s.cfg.Keys.Lists
	if err := keycheck.Check(key, rules); err != nil {
		return nil, err
	}
	spki, err := keycheck.SPKI(key)
	if err != nil {
		return nil, err
	}
	return spki, s.unblocked(ctx, spki)
}

// admitKey refuses weak and blocked subscriber keys.
func (s *Service) admitKey(ctx context.Context, r Request) error {
	if err := keycheck.Check(r.Key, *s.cfg.Keys); err != nil {
		return err
	}
	return s.unblocked(ctx, r.SPKI)
}

// unblocked refuses a key that was reported as compromised (promise P10).
func (s *Service) unblocked(ctx context.Context, spki []byte) error {
	blocked, err := s.cfg.Store.BlockedKeys(ctx, bulkhead.Digest(spki))
	if err != nil {
		return err
	}
	if len(blocked) > 0 {
		return bulkhead.NewFault(bulkhead.KindBadPublicKey, "this key is blocked: it was reported as compromised").WithHint("make a new key").WithCause(errBlockedKey)
	}
	return nil
}

func (s *Service) checkContacts(contacts []string) error {
	if len(contacts) > s.limits.Contacts {
		return bulkhead.Faultf(bulkhead.KindInvalidContact, "%d contacts, at most %d are kept", len(contacts), s.limits.Contacts)
	}
	for _, c := range contacts {
		if err := checkContact(c); err != nil {
			return err
		}
	}
	return nil
}

// checkContact accepts mailto URLs with one address and no header fields (RFC 8555 section 7.3).
func checkContact(c string) error {
	if len(c) > 320 {
		return bulkhead.NewFault(bulkhead.KindInvalidContact, "a contact is longer than 320 characters")
	}
	u, err := url.Parse(c)
	if err != nil {
		return bulkhead.NewFault(bulkhead.KindInvalidContact, "a contact is not a URL")
	}
	if u.Scheme != "mailto" {
		return bulkhead.Faultf(bulkhead.KindUnsupportedContact, "contact scheme %q is not supported; use mailto:", u.Scheme)
	}
	address, err := url.PathUnescape(u.Opaque)
	if err != nil || u.RawQuery != "" || u.Fragment != "" || strings.Contains(address, ",") {
		return bulkhead.NewFault(bulkhead.KindInvalidContact, "a mailto contact has exactly one address and no header fields")
	}
	m, err := mail.ParseAddress(address)
	if err != nil || m.Address != address {
		return bulkhead.Faultf(bulkhead.KindInvalidContact, "%q is not a mail address", address)
	}
	return nil
}
