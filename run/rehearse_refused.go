package run

import (
	"context"
	"time"

	"bulkhead"
	"bulkhead/enroll"
)

var _ enroll.Store = noOrderWrites{}

// What no order plans: a write that is new does not compile before it stands here or beside noOrderWrites.

func (noOrderWrites) CreateAccount(context.Context, bulkhead.Account, ...bulkhead.Evidence) error {
	return errRehearsal
}

func (noOrderWrites) UpdateAccount(context.Context, bulkhead.Account, bulkhead.AccountState, ...bulkhead.Evidence) error {
	return errRehearsal
}

func (noOrderWrites) CreateExternalKey(context.Context, bulkhead.ExternalKey, ...bulkhead.Evidence) error {
	return errRehearsal
}

func (noOrderWrites) RevokeExternalKey(context.Context, string, time.Time, ...bulkhead.Evidence) error {
	return errRehearsal
}

func (noOrderWrites) CreateBoundAccount(context.Context, bulkhead.Account, string, ...bulkhead.Evidence) error {
	return errRehearsal
}

func (noOrderWrites) ForgetRates(context.Context, time.Time) error { return errRehearsal }

func (noOrderWrites) UpdateOrder(context.Context, bulkhead.Order, bulkhead.OrderState, ...bulkhead.Evidence) error {
	return errRehearsal
}

func (noOrderWrites) EndOrder(context.Context, bulkhead.Order) error { return errRehearsal }

func (noOrderWrites) ProcessOrder(context.Context, bulkhead.Order, []bulkhead.CAACheck, <-chan struct{}, ...bulkhead.Evidence) error {
	return errRehearsal
}

func (noOrderWrites) UpdateAuthorization(context.Context, bulkhead.Authorization, bulkhead.AuthorizationState, *bulkhead.Validation, ...bulkhead.Evidence) error {
	return errRehearsal
}

func (noOrderWrites) ConcludeAuthorization(context.Context, bulkhead.Authorization, bulkhead.Validation, string, ...bulkhead.Evidence) error {
	return errRehearsal
}

func (noOrderWrites) RevokeAuthorizations(context.Context, []string, []bulkhead.Evidence) (int, error) {
	return 0, errRehearsal
}

func (noOrderWrites) PutCAAChecks(context.Context, []bulkhead.CAACheck, ...bulkhead.Evidence) error {
	return errRehearsal
}

func (noOrderWrites) MarkReplaced(context.Context, bulkhead.CertificateRef, bulkhead.CertificateRef) error {
	return errRehearsal
}

func (noOrderWrites) KillTokens(context.Context, int, func(bulkhead.Account) bulkhead.Evidence) (int, error) {
	return 0, errRehearsal
}

func (noOrderWrites) KillExternalKeys(context.Context, string, time.Time, int, func(bulkhead.ExternalKey) bulkhead.Evidence) (int, error) {
	return 0, errRehearsal
}

func (noOrderWrites) KillPeople(context.Context, string, time.Time, int, func(bulkhead.PartnerPerson) bulkhead.Evidence) (int, error) {
	return 0, errRehearsal
}

func (noOrderWrites) RollAccounts(context.Context, time.Time, int, func(bulkhead.Account) bulkhead.Evidence) (int, error) {
	return 0, errRehearsal
}

func (noOrderWrites) CreatePartner(context.Context, bulkhead.Partner, ...bulkhead.Evidence) error {
	return errRehearsal
}

func (noOrderWrites) UpdatePartner(context.Context, bulkhead.Partner, bulkhead.PartnerState, []bulkhead.Stop, ...bulkhead.Evidence) error {
	return errRehearsal
}

func (noOrderWrites) PutPerson(context.Context, bulkhead.PartnerPerson, ...bulkhead.Evidence) error {
	return errRehearsal
}

func (noOrderWrites) PutStop(context.Context, bulkhead.Stop, ...bulkhead.Evidence) error {
	return errRehearsal
}

func (noOrderWrites) EndStop(context.Context, bulkhead.Stop, ...bulkhead.Evidence) error {
	return errRehearsal
}

func (noOrderWrites) PutSecondApproval(context.Context, bulkhead.SecondApproval, ...bulkhead.Evidence) error {
	return errRehearsal
}
