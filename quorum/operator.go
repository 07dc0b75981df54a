package quorum

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"net/url"
	"strings"

	"bulkhead"
	"bulkhead/pki/approval"
)

// Bootstrap puts the first operators into office. It refuses when there are any already: later ones need a quorum.
func (q *Quorum) Bootstrap(ctx context.Context, ops ...bulkhead.Operator) error {
	have, err := q.cfg.Store.Operators(ctx)
	if err != nil {
		return err
	}
	if len(have) > 0 {
		return bulkhead.NewFault(bulkhead.KindConflict, "there are operators already").WithHint("bulkhead operator add NAME --public-key FILE")
	}
	for _, o := range ops {
		o.AddedAt = q.cfg.Now().UTC()
		ev := bulkhead.Evidence{Kind: bulkhead.EvOperator, At: o.AddedAt, Actor: "role:first-start", Ref: o.Name, KeyHash: o.KeyHash(), Detail: "added at first start"}
		if err := q.cfg.Store.PutOperator(ctx, o, ev); err != nil {
			return err
		}
	}
	return nil
}

// checkOperatorChange refuses what could never be executed.
func (q *Quorum) checkOperatorChange(ctx context.Context, action string, p OperatorPayload) error {
	if err := bulkhead.AuthorityID(p.Name).Check(); err != nil {
		return bulkhead.Faultf(bulkhead.KindMalformed, "%q is not an operator name", p.Name).WithHint("use lower-case letters, digits and '-'")
	}
	if err := CheckRoles(p.Roles); err != nil {
		return err
	}
	ops, err := q.cfg.Store.Operators(ctx)
	if err != nil {
		return err
	}
	inOffice, found := 0, false
	for _, o := range ops {
		if o.RemovedAt.IsZero() {
			if Has(o) { // administrators: they alone approve every action
				inOffice++
			}
			found = found || o.Name == p.Name
			if action == ActionAddOperator && len(p.PublicKey) > 0 && string(o.PublicKey) == string(p.PublicKey) {
				return bulkhead.Faultf(bulkhead.KindConflict, "that key is operator %s already: one key is one person", o.Name)
			}
		}
	}
	if p.SecurityKey != nil {
		if err := q.checkSecurityKey(ctx, *p.SecurityKey); err != nil {
			return err
		}
	}
	switch {
	case action == ActionAddKey && p.SecurityKey == nil:
		return bulkhead.NewFault(bulkhead.KindMalformed, "there is no security key in the request").WithHint("bulkhead operator invite " + p.Name)
	case action == ActionAddKey && !found, action == ActionRemoveOperator && !found:
		return bulkhead.Faultf(bulkhead.KindNotFound, "there is no operator %s in office", p.Name).WithHint("bulkhead operator list")
	case action == ActionAddOperator && len(p.PublicKey) != ed25519.PublicKeySize && (len(p.PublicKey) > 0 || p.SecurityKey == nil):
		return bulkhead.Faultf(bulkhead.KindMalformed, "an operator key is Ed25519 with %d octets, this one has %d", ed25519.PublicKeySize, len(p.PublicKey))
	case action == ActionAddOperator && found:
		return bulkhead.Faultf(bulkhead.KindConflict, "there is an operator %s already", p.Name).WithHint("bulkhead operator list")
	case action == ActionRemoveOperator && inOffice-admins(ops, p.Name) < q.cfg.Needed:
		return tooFew(p.Name, inOffice-1, q.cfg.Needed)
	}
	return nil
}

func tooFew(name string, left, needed int) error {
	return bulkhead.Faultf(bulkhead.KindGate, "removing %s would leave %d operators, a quorum needs %d", name, left, needed).WithHint("add an operator first: bulkhead operator add NAME --public-key FILE")
}

// checkSecurityKey refuses a credential whose signatures could not be verified, or that is somebody's.
func (q *Quorum) checkSecurityKey(ctx context.Context, k approval.SecurityKey) error {
	u, err := url.Parse(k.Origin)
	switch {
	case len(k.ID) == 0 || len(k.ID) > 1023: // WebAuthn section 4, credential ID
		return bulkhead.NewFault(bulkhead.KindMalformed, "the security key has no credential id")
	case err != nil || u.Scheme != "https" || k.RPID == "" || u.Hostname() != k.RPID && !strings.HasSuffix(u.Hostname(), "."+k.RPID):
		return bulkhead.Faultf(bulkhead.KindMalformed, "the security key was registered at %q, which is not %q", k.Origin, k.RPID)
	}
	if _, err := x509.ParsePKIXPublicKey(k.PublicKey); err != nil {
		return bulkhead.NewFault(bulkhead.KindMalformed, "the public key of the security key cannot be read").WithCause(err)
	}
	have, err := q.cfg.Store.SecurityKeys(ctx)
	if err != nil {
		return err
	}
	for _, x := range have {
		if string(x.ID) == string(k.ID) || string(x.PublicKey) == string(k.PublicKey) {
			return bulkhead.Faultf(bulkhead.KindConflict, "that security key is, or was, operator %s's: one key is one person", x.Operator).WithHint("register it anew")
		}
	}
	return nil
}

// admins is 1 when the operator in office with the name is an administrator.
func admins(ops []bulkhead.Operator, name string) int {
	for _, o := range ops {
		if o.Name == name && o.RemovedAt.IsZero() && Has(o) {
			return 1
		}
	}
	return 0
}

// changeOperator carries an approved change of operators out. It is idempotent.
func (q *Quorum) changeOperator(ctx context.Context, r bulkhead.ApprovalRequest) error {
	var p OperatorPayload
	if err := json.Unmarshal(r.Payload, &p); err != nil {
		return bulkhead.NewFault(bulkhead.KindMalformed, "the payload of the request cannot be read").WithCause(err)
	}
	if done, err := q.changed(ctx, r, p); err != nil || done {
		return err
	}
	if err := q.checkOperatorChange(ctx, r.Action, p); err != nil {
		return err
	}
	ops, err := q.cfg.Store.Operators(ctx)
	if err != nil {
		return err
	}
	now := q.cfg.Now().UTC()
	ev := bulkhead.Evidence{Kind: bulkhead.EvOperator, At: now, Actor: "role:quorum", Ref: p.Name, Digest: r.Digest, Detail: r.Action + " by request " + r.ID}
	switch r.Action {
	case ActionAddOperator:
		next := bulkhead.Operator{Name: p.Name, PublicKey: p.PublicKey, Roles: p.Roles, AddedAt: now}
		if ev.KeyHash = next.KeyHash(); len(p.PublicKey) == 0 {
			ev.KeyHash = bulkhead.Digest(p.SecurityKey.PublicKey)
		}
		if err := q.cfg.Store.PutOperator(ctx, next, ev); err != nil || p.SecurityKey == nil {
			return err
		}
		return q.bind(ctx, r, p)
	case ActionAddKey:
		return q.bind(ctx, r, p)
	}
	for _, o := range ops {
		if o.Name == p.Name && o.RemovedAt.IsZero() {
			o.RemovedAt, ev.KeyHash = now, o.KeyHash()
			return q.cfg.Store.PutOperator(ctx, o, ev)
		}
	}
	return nil
}

// changed reports that a crash came after the request had been carried out.
func (q *Quorum) changed(ctx context.Context, r bulkhead.ApprovalRequest, p OperatorPayload) (bool, error) {
	ops, err := q.cfg.Store.Operators(ctx)
	if err != nil {
		return false, err
	}
	bound := p.SecurityKey == nil
	if !bound {
		keys, err := q.cfg.Store.SecurityKeys(ctx)
		if err != nil {
			return false, err
		}
		for _, k := range keys {
			bound = bound || k.Operator == p.Name && string(k.ID) == string(p.SecurityKey.ID)
		}
	}
	if r.Action == ActionAddKey {
		return bound, nil
	}
	for _, o := range ops {
		if o.Name != p.Name {
			continue
		}
		if r.Action == ActionRemoveOperator {
			return !o.RemovedAt.IsZero(), nil
		}
		if o.RemovedAt.IsZero() && string(o.PublicKey) == string(p.PublicKey) {
			if !bound { // it came between the two writes
				err = q.bind(ctx, r, p)
			}
			return true, err
		}
	}
	return false, nil
}

// bind makes a credential an operator's.
func (q *Quorum) bind(ctx context.Context, r bulkhead.ApprovalRequest, p OperatorPayload) error {
	k, now := p.SecurityKey, q.cfg.Now().UTC()
	key := bulkhead.SecurityKey{ID: k.ID, Operator: p.Name, PublicKey: k.PublicKey, COSE: k.COSE, RPID: k.RPID, Origin: k.Origin, Label: k.Label, AAGUID: k.AAGUID, AddedAt: now}
	return q.cfg.Store.PutSecurityKey(ctx, key, bulkhead.Evidence{Kind: bulkhead.EvSecurityKey, At: now, Actor: "role:quorum", Ref: p.Name, KeyHash: key.KeyHash(), Digest: r.Digest,
		Detail: "bound by request " + r.ID + ": " + k.Label})
}

// SecurityKeys returns every security key, those taken away included.
func (q *Quorum) SecurityKeys(ctx context.Context) ([]bulkhead.SecurityKey, error) {
	return q.cfg.Store.SecurityKeys(ctx)
}

// DropKey takes a security key away, at once and on one person's word: it takes power and gives none. KindGate when too few
// people could sign afterwards.
func (q *Quorum) DropKey(ctx context.Context, actor string, key bulkhead.Hash, reason string) error {
	if strings.TrimSpace(reason) == "" {
		return bulkhead.NewFault(bulkhead.KindMalformed, "taking a key away needs a reason").WithHint("--reason \"lost on the train\"")
	}
	keys, err := q.cfg.Store.SecurityKeys(ctx)
	if err != nil {
		return err
	}
	ops, err := q.cfg.Store.Operators(ctx)
	if err != nil {
		return err
	}
	others, able := map[string]bool{}, 0
	for _, k := range keys {
		if k.RemovedAt.IsZero() && k.KeyHash() != key {
			others[k.Operator] = true
		}
	}
	for _, o := range ops {
		if o.RemovedAt.IsZero() && Has(o) && (len(o.PublicKey) == ed25519.PublicKeySize || others[o.Name]) {
			able++
		}
	}
	for _, k := range keys {
		if k.KeyHash() != key || !k.RemovedAt.IsZero() {
			continue
		}
		if able < q.cfg.Needed {
			return tooFew("this key of "+k.Operator, able, q.cfg.Needed)
		}
		k.RemovedAt = q.cfg.Now().UTC()
		return q.cfg.Store.PutSecurityKey(ctx, k, bulkhead.Evidence{Kind: bulkhead.EvSecurityKey, At: k.RemovedAt, Actor: actor, Ref: k.Operator, KeyHash: key, Detail: "taken away: " + reason})
	}
	return bulkhead.NewFault(bulkhead.KindNotFound, "there is no such security key in use").WithHint("bulkhead operator keys")
}

// Review records that an operator in office confirmed that another one should still be one. It gives no power, so one
// person may.
func (q *Quorum) Review(ctx context.Context, by, name string) error {
	if by == name {
		return bulkhead.NewFault(bulkhead.KindGate, "nobody reviews himself").WithHint("another operator confirms: bulkhead operator review " + name)
	}
	o, err := q.InOffice(ctx, name)
	if err != nil {
		return err
	}
	now := q.cfg.Now().UTC()
	return q.cfg.Store.ReviewOperator(ctx, name, now, bulkhead.Evidence{Kind: bulkhead.EvAccessReview, At: now, Actor: "operator:" + by, Ref: name, KeyHash: o.KeyHash(), Detail: "should still be an operator, with roles " + strings.Join(o.Roles, ", ")})
}

// InOffice finds an operator in office by name; KindNotFound otherwise.
func (q *Quorum) InOffice(ctx context.Context, name string) (bulkhead.Operator, error) {
	ops, err := q.cfg.Store.Operators(ctx)
	if err != nil {
		return bulkhead.Operator{}, err
	}
	for _, o := range ops {
		if o.Name == name && o.RemovedAt.IsZero() {
			return o, nil
		}
	}
	return bulkhead.Operator{}, bulkhead.Faultf(bulkhead.KindNotFound, "there is no operator %s in office", name).WithHint("bulkhead operator list")
}

// inOffice finds the operator with the key file's key.
func (q *Quorum) inOffice(ctx context.Context, keyHash bulkhead.Hash) (bulkhead.Operator, error) {
	ops, err := q.cfg.Store.Operators(ctx)
	if err != nil {
		return bulkhead.Operator{}, err
	}
	for _, o := range ops {
		if o.KeyHash() == keyHash && o.RemovedAt.IsZero() && len(o.PublicKey) == ed25519.PublicKeySize {
			return o, nil
		}
	}
	return bulkhead.Operator{}, bulkhead.NewFault(bulkhead.KindForbidden, "that key belongs to no operator in office").WithHint("bulkhead operator list")
}
