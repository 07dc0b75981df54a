package run

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"bulkhead"
	"bulkhead/ceremony"
	"bulkhead/console"
	"bulkhead/enroll"
	"bulkhead/keys"
	"bulkhead/pki/profile"
	"bulkhead/quorum"
	"bulkhead/signer/signerrpc"
)

// actionActivate is the quorum action that carries through a change above the one-person threshold.
const actionActivate = "change.activate"

// actionRollback is the one that takes back what is public: people sign which rule is broken, and where that is explained.
const actionRollback = "change.rollback"

// takingBack is its payload.
type takingBack struct {
	activation
	Undoes   string `json:"undoes"`
	Incident string `json:"incident"`
	Rule     string `json:"rule"`
}

// activation is the payload of both: the change and the preview that people saw.
type activation struct {
	Change  string        `json:"change"`
	Preview bulkhead.Hash `json:"preview"`
}

// activateApproved runs when the quorum stands. It is idempotent: a change already public is left alone.
func (h *House) activateApproved(ctx context.Context, r bulkhead.ApprovalRequest) error {
	var p activation
	if err := json.Unmarshal(r.Payload, &p); err != nil {
		return bulkhead.NewFault(bulkhead.KindMalformed, "the payload of the request cannot be read").WithCause(err)
	}
	c, err := h.status.Change(ctx, p.Change)
	if err != nil {
		return err
	}
	if c.State == bulkhead.ChangePreviewed {
		if err := h.status.Approve(ctx, p.Change, p.Preview, "request:"+r.ID); err != nil {
			return err
		}
	}
	return h.status.Activate(ctx, p.Change)
}

// operators adapts quorum and gatekeeper to the console.
type operators struct {
	*quorum.Quorum
	gate *quorum.Gatekeeper
}

func (o operators) Authenticate(ctx context.Context, header, method, path string, body []byte) (bulkhead.Operator, error) {
	return o.gate.Authenticate(ctx, header, method, path, body)
}

func (o operators) ProposeAddOperator(ctx context.Context, actor, reason, name string, publicKey []byte, roles ...string) (bulkhead.ApprovalRequest, error) {
	if len(roles) == 0 {
		roles = []string{quorum.RoleAdmin}
	}
	return o.Propose(ctx, quorum.ActionAddOperator, quorum.OperatorPayload{Name: name, PublicKey: publicKey, Roles: roles}, actor, reason)
}

func (o operators) ProposeRemoveOperator(ctx context.Context, actor, reason, name string) (bulkhead.ApprovalRequest, error) {
	return o.Propose(ctx, quorum.ActionRemoveOperator, quorum.OperatorPayload{Name: name}, actor, reason)
}

func (o operators) ProposeActivation(ctx context.Context, actor, reason string, c bulkhead.Change) (bulkhead.ApprovalRequest, error) {
	if c.State != bulkhead.ChangePreviewed {
		return bulkhead.ApprovalRequest{}, bulkhead.Faultf(bulkhead.KindConflict, "change %s is %s, only a previewed change can be approved", c.ID, c.State)
	}
	if c.TakesBack() {
		return o.Propose(ctx, actionRollback, takingBack{activation{c.ID, c.PreviewHash}, c.Undoes, c.Incident, c.Rule}, actor, reason)
	}
	return o.Propose(ctx, actionActivate, activation{c.ID, c.PreviewHash}, actor, reason)
}

// orders adapts enrolment to the console.
type orders struct {
	*enroll.Service
	mu    sync.Mutex // guards house
	house bulkhead.Account
}

// IssueForOperator orders in the name of the house's own account, made when it is first needed.
func (o *orders) IssueForOperator(ctx context.Context, operator string, req bulkhead.CertificateRequest) (bulkhead.IssuedCertificate, error) {
	acct, err := o.houseAccount(ctx, operator)
	if err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	return o.OperatorOrder(ctx, "operator:"+operator, acct, upload(req))
}

func (o *orders) houseAccount(ctx context.Context, operator string) (bulkhead.Account, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.house.ID != "" {
		return o.house, nil
	}
	// The token is thrown away: nobody but this process orders as the house.
	acct, _, err := o.NewTokenAccount(ctx, "operator:"+operator, true)
	if err == nil {
		o.house = acct
	}
	return acct, err
}

func (o *orders) IssueForAccount(ctx context.Context, acct bulkhead.Account, req bulkhead.CertificateRequest) (bulkhead.IssuedCertificate, error) {
	return o.Enroll(ctx, acct, upload(req))
}

func upload(req bulkhead.CertificateRequest) enroll.Upload {
	return enroll.Upload{CSR: req.CSR, Profile: req.Profile, Authority: req.Authority, Replaces: req.Replaces}
}

// hierarchy grows the tree with keys of the signer's ring and certificates from elsewhere. A rehearsal stops after the
// checks.
type hierarchy struct {
	h         *House
	rehearsal bool
}

// AddAuthority implements console.Hierarchy.
func (x hierarchy) AddAuthority(ctx context.Context, actor string, id bulkhead.AuthorityID, algorithm, commonName, usage string, predecessor bulkhead.AuthorityID) (bulkhead.Authority, error) {
	if err := id.Check(); err != nil {
		return bulkhead.Authority{}, err
	}
	if _, err := x.h.store.Authority(ctx, id); err == nil {
		return bulkhead.Authority{}, bulkhead.Faultf(bulkhead.KindConflict, "there is an authority %s already", id).WithHint("bulkhead hierarchy show")
	} else if bulkhead.KindOf(err) != bulkhead.KindNotFound {
		return bulkhead.Authority{}, err
	}
	if x.h.book.has(string(id)) {
		return bulkhead.Authority{}, bulkhead.Faultf(bulkhead.KindConflict, "%s is the name of a profile", id).WithHint("choose another name: both are names of ACME directories")
	}
	shards := 8
	if predecessor != "" {
		old, err := x.h.store.Authority(ctx, predecessor)
		if err != nil {
			return bulkhead.Authority{}, err
		}
		if old.State != bulkhead.AuthorityActive || old.Kind != bulkhead.IssuingAuthority {
			return bulkhead.Authority{}, bulkhead.Faultf(bulkhead.KindConflict, "%s is a %s authority and %s; only an active issuing authority is rotated", predecessor, old.Kind, old.State)
		}
		if usage, err = inheritedUsage(old, usage); err != nil {
			return bulkhead.Authority{}, err
		}
		shards = old.Shards
	}
	kind, err := profile.ParseUsage(usage)
	if err != nil {
		return bulkhead.Authority{}, err
	}
	if x.h.ring == nil {
		return bulkhead.Authority{}, bulkhead.NewFault(bulkhead.KindUnavailable, "this process holds no keys: a new authority's key is made where the signer is").WithHint("stop the roles for a moment and use bulkhead up on the signer's machine")
	}
	alg, err := keys.ParseAlgorithm(algorithm)
	if err != nil {
		return bulkhead.Authority{}, err
	}
	if commonName == "" {
		commonName = x.h.cfg.Organization + " " + string(id) + " " + x.h.cfg.House
	}
	if x.rehearsal {
		return bulkhead.Authority{ID: id, Kind: bulkhead.IssuingAuthority, State: bulkhead.AuthorityPending, Shards: shards}, nil
	}
	req, err := ceremony.NewAuthorityCSR(ctx, x.h.ring, string(id), ceremony.Name{CommonName: commonName, Organization: x.h.cfg.Organization, Country: x.h.cfg.Country}, alg, kind)
	if err != nil {
		return bulkhead.Authority{}, err
	}
	a, err := ceremony.Pending(id, req, shards, x.h.now().UTC())
	if err != nil {
		return bulkhead.Authority{}, err
	}
	detail := "key made, certificate request out"
	if predecessor != "" {
		a.Parent = predecessor // while pending: whom it will succeed
		detail += ", to succeed " + string(predecessor)
	}
	return a, x.h.store.PutAuthority(ctx, a, bulkhead.Evidence{Kind: bulkhead.EvAuthority, At: x.h.now().UTC(), Actor: actor, Authority: id,
		KeyHash: bulkhead.Digest(a.SPKI), Digest: bulkhead.Digest(a.CSR), Detail: detail})
}

// inheritedUsage is the usage of a rotation: the predecessor's, which nobody may change on the way.
func inheritedUsage(old bulkhead.Authority, asked string) (string, error) {
	cert, err := x509.ParseCertificate(old.Certificate)
	if err != nil {
		return "", fmt.Errorf("certificate of authority %s: %w", old.ID, err)
	}
	usage, one := profile.UsageOf(cert.ExtKeyUsage)
	if !one {
		usage = profile.UsageTLS // an enterprise root named none
	}
	if asked != "" && asked != string(usage) {
		return "", bulkhead.Faultf(bulkhead.KindUsage, "authority %s is for %s, its successor cannot be for %s", old.ID, usage, asked).WithHint("bulkhead hierarchy add NAME --usage " + asked)
	}
	return string(usage), nil
}

// AcceptAuthority implements console.Hierarchy. The predecessor of a rotation retires in the same breath: it issues no
// more, and goes on answering for what it issued.
func (x hierarchy) AcceptAuthority(ctx context.Context, actor string, id bulkhead.AuthorityID, certificate []byte, chain [][]byte) (bulkhead.Authority, error) {
	pending, err := x.h.store.Authority(ctx, id)
	if err != nil {
		return bulkhead.Authority{}, err
	}
	if pending.State != bulkhead.AuthorityPending {
		return bulkhead.Authority{}, bulkhead.Faultf(bulkhead.KindConflict, "authority %s is %s and waits for no certificate", id, pending.State).WithHint("bulkhead hierarchy show")
	}
	now := x.h.now().UTC()
	predecessor := pending.Parent
	pending.Parent = ""
	a, err := ceremony.AcceptCertificate(pending, certificate, chain, now)
	if err != nil {
		return bulkhead.Authority{}, err
	}
	if a.Parent, err = x.parentOf(ctx, a); err != nil || x.rehearsal {
		return a, err
	}
	if a.Parent != "" {
		if err := x.recordChild(ctx, actor, a, now); err != nil {
			return bulkhead.Authority{}, err
		}
	}
	ev := bulkhead.Evidence{Kind: bulkhead.EvAuthority, At: now, Actor: actor, Authority: id, KeyHash: bulkhead.Digest(a.SPKI), Digest: bulkhead.Digest(a.Certificate), Detail: "certificate accepted, authority active"}
	if err := x.activate(ctx, actor, a, predecessor, ev); err != nil {
		return bulkhead.Authority{}, err
	}
	if err := x.h.status.Tick(ctx); err != nil {
		x.h.log.WarnContext(ctx, "the new authority's first CRLs follow with the next look", slog.String("error", err.Error()))
	}
	return a, nil
}

// parentOf finds our authority that signed a's certificate; "" when it is a foreign one.
func (x hierarchy) parentOf(ctx context.Context, a bulkhead.Authority) (bulkhead.AuthorityID, error) {
	cert, err := x509.ParseCertificate(a.Certificate)
	if err != nil {
		return "", err
	}
	all, err := x.h.store.Authorities(ctx)
	if err != nil {
		return "", err
	}
	for _, p := range all {
		if len(p.Certificate) == 0 || string(p.Subject) != string(cert.RawIssuer) {
			continue
		}
		if pc, err := x509.ParseCertificate(p.Certificate); err == nil && cert.CheckSignatureFrom(pc) == nil {
			return p.ID, nil
		}
	}
	return "", nil
}

// recordChild puts the authority's certificate among what its parent issued, so that its status is answered.
func (x hierarchy) recordChild(ctx context.Context, actor string, a bulkhead.Authority, now time.Time) error {
	cert, err := x509.ParseCertificate(a.Certificate)
	if err != nil {
		return err
	}
	serial, err := bulkhead.SerialFromBig(cert.SerialNumber)
	if err != nil {
		return err
	}
	return x.h.plantCertificate(ctx, actor, bulkhead.IssuedCertificate{DER: a.Certificate, Chain: a.Chain, Certificate: bulkhead.Certificate{
		CertificateRef: bulkhead.CertificateRef{Issuer: a.Parent, Serial: serial}, Kind: bulkhead.CACertificate, Profile: "issuing", Subject: cert.Subject.String(),
		KeyHash: bulkhead.Digest(a.SPKI), NotBefore: cert.NotBefore, NotAfter: cert.NotAfter}}, bulkhead.Digest([]byte(actor)), now)
}

// activate puts an authority in office and takes its predecessor out of it, both or neither.
func (x hierarchy) activate(ctx context.Context, actor string, a bulkhead.Authority, predecessor bulkhead.AuthorityID, ev bulkhead.Evidence) error {
	if predecessor == "" {
		return x.h.store.PutAuthority(ctx, a, ev)
	}
	old, err := x.h.store.Authority(ctx, predecessor)
	if err != nil {
		return err
	}
	if old.State != bulkhead.AuthorityActive { // it went by another way since the rotation began
		return x.h.store.PutAuthority(ctx, a, ev)
	}
	old.State, old.Successor = bulkhead.AuthorityRetired, a.ID
	return x.h.store.Succeed(ctx, a, old, ev, bulkhead.Evidence{Kind: bulkhead.EvAuthority, At: ev.At, Actor: actor, Authority: old.ID, KeyHash: bulkhead.Digest(old.SPKI),
		Detail: fmt.Sprintf("retired: issues no more, answers for what it issued; successor %s", a.ID)})
}

func (h *House) openAPI(context.Context, seed) error {
	if !h.roles.has(signerrpc.Console) {
		return nil
	}
	if err := h.openSignIn(); err != nil {
		return err
	}
	rehearsal, err := h.rehearsal()
	if err != nil {
		return err
	}
	h.api, err = console.New(console.Config{Offline: offline{h}, Alarms: h.watch, Explainer: h.explainer(), Inventory: h.store, Orders: &orders{Service: h.enroll}, Changes: h.status, Quorum: operators{h.quorum, h.gate},
		Desk:      desk{h.desk, h},
		Looks:     looks{h},
		Adviser:   adviser{h},
		Sightings: sighted{h},
		Reports:   reports{h},
		Notices:   teller{h.tell},
		Endings:   endings{h},
		Hierarchy: hierarchy{h: h}, Doctor: h, Admission: h.enroll, Retention: h.retention, Issuance: h.enroll, Compromises: compromises{h}, Credentials: credentials{h.enroll}, Partners: h.enroll, SignIn: h.signin, Replies: h.store, Profiles: h.book, Rehearsal: rehearsal, Version: h.version, Now: h.now, Log: h.log.With(slog.String("role", "console"))})
	return err
}

// API is the handler of /api/v1.
func (h *House) API() http.Handler { return h.api }

// urls are the addresses baked into certificates.
func (h *House) urls() profile.URLs { return profile.URLs{Base: h.cfg.StatusURL} }
