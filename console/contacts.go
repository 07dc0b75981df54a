package console

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"bulkhead"
)

// ContactsRequest has the mail addresses at which the holder of an account is told of incidents and expiry; none is nobody.
type ContactsRequest struct {
	Contacts []string `json:"contacts,omitempty"`
}

func (in ContactsRequest) plan(would string) (Plan, error) {
	p := planOf(would)
	if len(in.Contacts) > 0 {
		p.Would = append(p.Would, "tell its holder at "+strings.Join(in.Contacts, ", "))
	}
	return p, nil
}

// contactsOf is the account in the path, when whoever asks may change its contacts: an operator, the account itself, or the
// partner that brought it. To others it does not exist.
func (a *API) contactsOf(ctx context.Context, w who, r *http.Request) (bulkhead.Account, error) {
	id := r.PathValue("id")
	if !w.isOperator() && !w.isPartner() && id != w.account.ID {
		return bulkhead.Account{}, noSuchAccount(id)
	}
	x, err := a.cfg.Credentials.AnyAccount(ctx, id)
	if err == nil && w.isPartner() && x.Partner != w.person.Partner {
		return bulkhead.Account{}, noSuchAccount(id)
	}
	return x, err
}

func noSuchAccount(id string) error {
	return bulkhead.Faultf(bulkhead.KindNotFound, "there is no account %s", id)
}

func (a *API) setContacts(ctx context.Context, w who, r *http.Request, in ContactsRequest) (AccountView, error) {
	x, err := a.contactsOf(ctx, w, r)
	if err == nil {
		x, err = a.cfg.Credentials.SetContacts(ctx, w.actor(), x.ID, in.Contacts)
	}
	return accountView(x), err
}

func (a *API) planContacts(ctx context.Context, w who, r *http.Request, in ContactsRequest) (Plan, error) {
	x, err := a.contactsOf(ctx, w, r)
	if err != nil {
		return Plan{}, err
	}
	if len(in.Contacts) == 0 {
		return planOf(fmt.Sprintf("tell nobody of what happens to the certificates of account %s", x.ID)), nil
	}
	return planOf(fmt.Sprintf("tell the holder of account %s at %s", x.ID, strings.Join(in.Contacts, ", "))), nil
}
