package run

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"time"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/enroll"
	"bulkhead/pki/profile"
	"bulkhead/quorum"
)

// rehearsal is the console's ports over a record that keeps nothing: the compartments' own code makes the checks, so a
// dry run cannot be of another opinion than the real one.
func (h *House) rehearsal() (console.Rehearsal, error) {
	q, err := quorum.New(quorum.Config{Store: noQuorumWrites{h.store}, First: h.first, Origins: h.cfg.SignIn.Origins, Now: h.now, Log: h.log.With(slog.String("role", "rehearsal")),
		People: peopleFor, Execute: h.rehearsed()})
	if err != nil {
		return console.Rehearsal{}, err
	}
	return console.Rehearsal{Orders: rehearsedOrders{h}, Quorum: operators{q, h.gate}, Hierarchy: hierarchy{h: h, rehearsal: true}}, nil
}

// errRehearsal ends a rehearsal where the first change would be made.
var errRehearsal = errors.New("the rehearsal ends here")

// noQuorumWrites is the record without its writes. A write that is new does not compile before it stands here.
type noQuorumWrites struct{ quorum.Reads }

func (noQuorumWrites) PutOperator(context.Context, bulkhead.Operator, ...bulkhead.Evidence) error {
	return errRehearsal
}

func (noQuorumWrites) PutSecurityKey(context.Context, bulkhead.SecurityKey, ...bulkhead.Evidence) error {
	return errRehearsal
}

// UseSecurityKey refuses a counter that the record would refuse.
func (s noQuorumWrites) UseSecurityKey(ctx context.Context, id []byte, count uint32, _ time.Time) error {
	keys, err := s.SecurityKeys(ctx)
	for _, k := range keys {
		if string(k.ID) == string(id) && k.SignCount >= count && k.SignCount > 0 {
			return bulkhead.Faultf(bulkhead.KindConflict, "the security key's counter went back to %d", count)
		}
	}
	return err
}

func (noQuorumWrites) CreateRequest(context.Context, bulkhead.ApprovalRequest, ...bulkhead.Evidence) error {
	return nil
}

func (noQuorumWrites) ReviewOperator(context.Context, string, time.Time, ...bulkhead.Evidence) error {
	return errRehearsal
}

// AddApproval refuses what the record would refuse: a second approval by one operator.
func (s noQuorumWrites) AddApproval(ctx context.Context, a bulkhead.Approval, _ ...bulkhead.Evidence) error {
	r, err := s.Request(ctx, a.RequestID)
	if err != nil {
		return err
	}
	for _, x := range r.Approvals {
		if x.Operator == a.Operator {
			return bulkhead.Faultf(bulkhead.KindConflict, "operator %s approved request %s before", a.Operator, a.RequestID)
		}
	}
	return nil
}

func (noQuorumWrites) MoveRequest(context.Context, string, bulkhead.RequestState, bulkhead.RequestState, ...bulkhead.Evidence) error {
	return errRehearsal
}

// noOrderWrites stops an order where it would become a row, and keeps it. Other writes end the rehearsal
// (rehearse_refused.go).
type noOrderWrites struct {
	enroll.Reads
	order *bulkhead.Order
}

func (s noOrderWrites) CreateOrder(_ context.Context, o bulkhead.Order, _ []bulkhead.Authorization) error {
	*s.order = o
	return errRehearsal
}

func (s noOrderWrites) PlaceOrder(_ context.Context, o bulkhead.Order, _ []bulkhead.Authorization, _ []bulkhead.Validation, _ []bulkhead.CAACheck, _ ...bulkhead.Evidence) error {
	*s.order = o
	return errRehearsal
}

// TakeRate looks and takes nothing.
func (s noOrderWrites) TakeRate(ctx context.Context, now time.Time, charges []bulkhead.RateCharge) (*bulkhead.RateRefusal, error) {
	return s.PeekRate(ctx, now, charges)
}

func (noOrderWrites) AppendEvidence(context.Context, ...bulkhead.Evidence) ([]int64, error) {
	return nil, nil
}

// noLook asks nobody outside: a rehearsal says of CAA that it was not checked.
type noLook struct{ enroll.Validator }

func (noLook) CheckCAA(context.Context, bulkhead.Identifier, bool, string, bulkhead.Method) (bulkhead.CAACheck, error) {
	return bulkhead.CAACheck{}, errRehearsal
}

// rehearsedOrders implements console.RehearsedOrders.
type rehearsedOrders struct{ h *House }

func (x rehearsedOrders) PlanForOperator(ctx context.Context, operator string, req bulkhead.CertificateRequest) (console.IssuePlan, error) {
	// The house's account need not exist yet.
	acct := bulkhead.Account{State: bulkhead.AccountValid, Operator: true}
	return x.plan(ctx, req, func(s *enroll.Service) (bulkhead.IssuedCertificate, error) {
		return s.OperatorOrder(ctx, "operator:"+operator, acct, upload(req))
	})
}

func (x rehearsedOrders) PlanForAccount(ctx context.Context, acct bulkhead.Account, req bulkhead.CertificateRequest) (console.IssuePlan, error) {
	return x.plan(ctx, req, func(s *enroll.Service) (bulkhead.IssuedCertificate, error) {
		return s.Enroll(ctx, acct, upload(req))
	})
}

// plan runs enrolment up to the order, and then what the signer would look at first.
func (x rehearsedOrders) plan(ctx context.Context, req bulkhead.CertificateRequest, order func(*enroll.Service) (bulkhead.IssuedCertificate, error)) (console.IssuePlan, error) {
	var o bulkhead.Order
	cfg := x.h.enrolment
	cfg.Store, cfg.Validator = noOrderWrites{x.h.store, &o}, noLook{cfg.Validator}
	s, err := enroll.New(cfg)
	if err != nil {
		return console.IssuePlan{}, err
	}
	defer s.Close(ctx) //nolint:errcheck // it has no work
	if again, err := order(s); !errors.Is(err, errRehearsal) {
		return console.IssuePlan{Again: again.Certificate.CertificateRef}, err
	}
	return x.template(ctx, o, req)
}

func (x rehearsedOrders) template(ctx context.Context, o bulkhead.Order, req bulkhead.CertificateRequest) (console.IssuePlan, error) {
	a, err := x.h.store.Authority(ctx, o.Authority)
	if err != nil {
		return console.IssuePlan{}, err
	}
	if !a.CanIssue() {
		return console.IssuePlan{}, bulkhead.Faultf(bulkhead.KindForbidden, "authority %s is %s and issues nothing", a.ID, a.State).WithHint("bulkhead hierarchy show")
	}
	issuer, err := x509.ParseCertificate(a.Certificate)
	if err != nil {
		return console.IssuePlan{}, err
	}
	csr, err := x509.ParseCertificateRequest(req.CSR)
	if err != nil {
		return console.IssuePlan{}, bulkhead.NewFault(bulkhead.KindBadCSR, "the CSR is not DER PKCS #10").WithCause(err)
	}
	serial, err := bulkhead.SerialFromBytes([]byte{1}) // stands for the one that the signer will draw
	if err != nil {
		return console.IssuePlan{}, err
	}
	p, err := x.h.book.Profile(ctx, o.Profile)
	if err != nil {
		return console.IssuePlan{}, err
	}
	t, err := p.Template(profile.Input{Issuer: issuer, IssuerID: a.ID, Names: o.Identifiers, PublicKey: csr.PublicKey, Serial: serial, Now: x.h.now(), URLs: x.h.urls()})
	if err != nil {
		return console.IssuePlan{}, err
	}
	return console.IssuePlan{Authority: a.ID, Profile: p.Name, Names: o.Identifiers, NotBefore: t.NotBefore, NotAfter: t.NotAfter,
		NotChecked: []string{"CAA records, which are asked for at issuance", "the linter's findings about the finished certificate"}}, nil
}
