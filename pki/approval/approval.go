// Package approval says what people sign when they approve, and whether enough of the right people did.
//
// Purpose: whoever acts on an approval judges it himself, from the signatures: the quorum before it executes, the status
// role before it activates, the signer before it believes that a stop has ended, an auditor with nothing but public keys.
// The row that says "approved" decides nothing.
//
// Invariant: a signature counts when it is over the digest of exactly this action and payload, by a key whose way into
// office is itself signed for, back to the first operators; one person counts once.
//
// Refuses: a security key's assertion over another challenge, for another origin or relying party, without the person
// verified; keys that merely stand in a table; as many approvals as the row asks for, instead of as many as the rule does.
package approval

import (
	"crypto/ed25519"
	"encoding/json"
	"slices"
	"strings"

	"bulkhead"
)

// Actions that change who the operators are.
const (
	AddOperator    = "operator.add"
	RemoveOperator = "operator.remove"
	AddSecurityKey = "operator.key"
)

// OperatorPayload is the payload of the actions about operators.
type OperatorPayload struct {
	Name        string       `json:"name"`
	PublicKey   []byte       `json:"public_key,omitempty"` // Ed25519, 32 bytes; for adding
	Roles       []string     `json:"roles,omitempty"`
	SecurityKey *SecurityKey `json:"security_key,omitempty"` // for adding, beside or instead of PublicKey, and for a key alone
}

// SecurityKey is what people sign of a WebAuthn credential.
type SecurityKey struct {
	ID        []byte `json:"id"`         // credential id
	PublicKey []byte `json:"public_key"` // DER SubjectPublicKeyInfo
	COSE      []byte `json:"cose_key"`   // the same as the authenticator gave it
	RPID      string `json:"rp_id"`      // relying party: the host's name
	Origin    string `json:"origin"`     // where it was registered: https://HOST[:PORT]
	Label     string `json:"label"`      // what its owner calls it
	AAGUID    []byte `json:"aaguid"`     // model, as the authenticator says
	// Attested is who vouches for the key, by the house's policy: the subject of the maker's certificate; empty where the house asks for none.
	Attested string `json:"attested,omitempty"`
}

// Digest is what an approval is over.
func Digest(action string, payload []byte) bulkhead.Hash {
	return bulkhead.Digest(append([]byte(action+"\n"), payload...))
}

// Statement is what an operator signs: the request, what it would do, and the digest of exactly what was shown. The digest
// is computed from what is there and not taken from a row.
func Statement(r bulkhead.ApprovalRequest) []byte {
	return []byte("bulkhead approval v1\n" + r.ID + "\n" + r.Action + "\n" + Digest(r.Action, r.Payload).String() + "\n")
}

// Challenge is the WebAuthn challenge of an approval: the SHA-256 of its statement.
func Challenge(r bulkhead.ApprovalRequest) []byte {
	h := bulkhead.Digest(Statement(r))
	return h[:]
}

// Key is a key whose signatures count for a person.
type Key struct {
	Operator string
	Roles    []string
	Ed25519  ed25519.PublicKey // nil for a security key
	Security *SecurityKey      // nil for a key file
	LeftAt   int64             // Unix time at which the person left, or the key was taken away; 0 while in office
	LeftBy   string            // the request by which the person left; "" when the rows alone say so
}

// Hash identifies the key.
func (k Key) Hash() bulkhead.Hash {
	if k.Security != nil {
		return bulkhead.Digest(k.Security.PublicKey)
	}
	return bulkhead.Digest(k.Ed25519)
}

// Record is what the store holds about operators.
type Record struct {
	Operators []bulkhead.Operator
	Keys      []bulkhead.SecurityKey
	Requests  []bulkhead.ApprovalRequest // those that changed operators and are approved or executed, oldest first
}

// Office is the keys that count, each with its way into office verified.
type Office struct {
	keys    map[bulkhead.Hash]Key
	origins []string
	needed  int
}

// NewOffice works out whose signatures count. first are the operators of the first start, from outside the store: then a
// key counts that needed people signed into office, of whom the same is true, and the rows may only take keys away. With
// nil the rows are believed; an empty list is nobody, and then nobody counts. origins are accepted for security keys beside the one of their registration.
func NewOffice(first []bulkhead.Operator, needed int, origins []string, r Record) Office {
	o := Office{keys: map[bulkhead.Hash]Key{}, origins: origins, needed: needed}
	if first == nil {
		for _, x := range r.Operators {
			o.add(x.Name, x.PublicKey, x.Roles, nil)
		}
		for _, k := range r.Keys {
			o.add(k.Operator, nil, rolesOf(r.Operators, k.Operator), ownKey(k))
		}
		o.leave(r)
		return o
	}
	for _, x := range first {
		o.add(x.Name, x.PublicKey, x.Roles, nil)
	}
	o.admit(r.Requests)
	o.leave(r)
	o.removeApproved(r)
	return o
}

func rolesOf(ops []bulkhead.Operator, name string) []string {
	for _, x := range ops {
		if x.Name == name {
			return x.Roles
		}
	}
	return []string{RoleAuditor} // of nobody: counts for nothing
}

func ownKey(k bulkhead.SecurityKey) *SecurityKey {
	return &SecurityKey{ID: k.ID, PublicKey: k.PublicKey, COSE: k.COSE, RPID: k.RPID, Origin: k.Origin, Label: k.Label, AAGUID: k.AAGUID}
}

func (o Office) add(name string, pub []byte, roles []string, sk *SecurityKey) {
	if len(pub) == ed25519.PublicKeySize {
		k := Key{Operator: name, Roles: roles, Ed25519: pub}
		if _, known := o.keys[k.Hash()]; !known {
			o.keys[k.Hash()] = k
		}
	}
	if sk != nil {
		k := Key{Operator: name, Roles: roles, Security: sk}
		if _, known := o.keys[k.Hash()]; !known {
			o.keys[k.Hash()] = k
		}
	}
}

// admit takes in, round by round, whoever was signed for by those who are in already. Who left since counts here: the
// signature was given in office.
func (o Office) admit(requests []bulkhead.ApprovalRequest) {
	for again := true; again; {
		again = false
		for _, r := range requests {
			if r.Action != AddOperator && r.Action != AddSecurityKey {
				continue
			}
			var p OperatorPayload
			if json.Unmarshal(r.Payload, &p) != nil {
				continue
			}
			roles := p.Roles
			if r.Action == AddSecurityKey {
				known, ok := o.roles(p.Name)
				if !ok {
					continue // its owner is nobody yet
				}
				roles, p.PublicKey = known, nil
			}
			if o.knows(p) || len(o.signers(r, nil)) < o.needed {
				continue
			}
			o.add(p.Name, p.PublicKey, roles, p.SecurityKey)
			again = true
		}
	}
}

// knows reports that every key of the payload is in already, or that there is none.
func (o Office) knows(p OperatorPayload) bool {
	known := true
	if len(p.PublicKey) == ed25519.PublicKeySize {
		_, ok := o.keys[bulkhead.Digest(p.PublicKey)]
		known = known && ok
	}
	if p.SecurityKey != nil {
		_, ok := o.keys[bulkhead.Digest(p.SecurityKey.PublicKey)]
		known = known && ok
	}
	return known
}

func (o Office) roles(name string) ([]string, bool) {
	for _, k := range o.keys {
		if k.Operator == name {
			return k.Roles, true
		}
	}
	return nil, false
}

// leave takes away what the rows say has gone, and what the rows do not have.
func (o Office) leave(r Record) {
	gone := map[bulkhead.Hash]int64{}
	for h := range o.keys {
		gone[h] = 1
	}
	left := func(at int64, owner string) int64 {
		for _, x := range r.Operators {
			if x.Name == owner && !x.RemovedAt.IsZero() && (at == 0 || x.RemovedAt.Unix() < at) {
				at = x.RemovedAt.Unix()
			}
		}
		return at
	}
	for _, x := range r.Operators {
		gone[x.KeyHash()] = left(0, x.Name)
	}
	for _, k := range r.Keys {
		at := int64(0)
		if !k.RemovedAt.IsZero() {
			at = k.RemovedAt.Unix()
		}
		gone[k.KeyHash()] = left(at, k.Operator)
	}
	for h, k := range o.keys {
		k.LeftAt = gone[h]
		o.keys[h] = k
	}
}

// removeApproved takes away whom two people signed out of office, whatever the rows say of it.
func (o Office) removeApproved(r Record) {
	for _, req := range r.Requests {
		var p OperatorPayload
		if req.Action != RemoveOperator || json.Unmarshal(req.Payload, &p) != nil || len(o.signers(req, nil)) < o.needed {
			continue
		}
		for h, k := range o.keys {
			if k.Operator != p.Name || k.LeftBy != "" || k.LeftAt > 0 && k.LeftAt < req.CreatedAt.Unix() || o.addedAfter(r.Requests, h, req) {
				continue
			}
			if k.LeftBy = req.ID; k.LeftAt == 0 {
				k.LeftAt = max(req.CreatedAt.Unix(), 1)
			}
			o.keys[h] = k
		}
	}
}

// addedAfter reports that a key came into office by a request after another one.
func (o Office) addedAfter(all []bulkhead.ApprovalRequest, key bulkhead.Hash, than bulkhead.ApprovalRequest) bool {
	for _, r := range all {
		var p OperatorPayload
		if r.Action != AddOperator && r.Action != AddSecurityKey || json.Unmarshal(r.Payload, &p) != nil {
			continue
		}
		mine := len(p.PublicKey) > 0 && bulkhead.Digest(p.PublicKey) == key || p.SecurityKey != nil && bulkhead.Digest(p.SecurityKey.PublicKey) == key
		if mine && r.CreatedAt.After(than.CreatedAt) {
			return true
		}
	}
	return false
}

// Key finds a key in office; false for one that is not, or not any more.
func (o Office) Key(h bulkhead.Hash) (Key, bool) {
	k, ok := o.keys[h]
	return k, ok && k.LeftAt == 0
}

// signers are the different people whose signatures under a request verify and count for its action. With during, those
// who left count as well, when the approval is from before that.
func (o Office) signers(r bulkhead.ApprovalRequest, during func(Key, bulkhead.Approval) bool) []string {
	var names []string
	for _, a := range r.Approvals {
		k, ok := o.keys[a.KeyHash]
		if !ok || slices.Contains(names, k.Operator) || during != nil && !during(k, a) || !Has(k.Roles, Approvers(r.Action)...) {
			continue
		}
		if k.Verify(r, a.Signature, o.origins) == nil {
			names = append(names, k.Operator)
		}
	}
	return names
}

// Signers are the people whose signatures under a request count now. Under a request that was executed those count who
// were in office when they signed; under every other one only those who still are. Who agreed to leave was in office for
// that very request.
func (o Office) Signers(r bulkhead.ApprovalRequest) []string {
	return o.signers(r, func(k Key, a bulkhead.Approval) bool {
		return k.LeftAt == 0 || r.ID != "" && k.LeftBy == r.ID || r.State == bulkhead.RequestExecuted && a.At.Unix() <= k.LeftAt
	})
}

// Judge fails with KindGate unless a quorum of the right people signed exactly this request.
func (o Office) Judge(r bulkhead.ApprovalRequest) error { return o.Enough(r, o.needed) }

// Enough is Judge for an action that takes another number of people.
func (o Office) Enough(r bulkhead.ApprovalRequest, people int) error {
	if n := o.Signers(r); len(n) < max(people, 1) {
		by := "nobody"
		if len(n) > 0 {
			by = strings.Join(n, ", ")
		}
		return bulkhead.Faultf(bulkhead.KindGate, "request %s (%s) says %s and takes the signatures of %d people; those that verify are of %s", r.ID, r.Action, r.State, people, by).
			WithHint("bulkhead approve " + r.ID + " --proof, and doc/runbooks/quorum-missing.md")
	}
	return nil
}

// Verify fails unless the signature is this key's over the statement of the request.
func (k Key) Verify(r bulkhead.ApprovalRequest, signature []byte, origins []string) error {
	if k.Security == nil {
		if len(k.Ed25519) == ed25519.PublicKeySize && ed25519.Verify(k.Ed25519, Statement(r), signature) {
			return nil
		}
		return bulkhead.Faultf(bulkhead.KindUnauthorized, "the signature of %s is not over what request %s shows", k.Operator, r.ID).WithHint("read it and sign again: bulkhead approve " + r.ID + " --key FILE")
	}
	a, err := ParseAssertion(signature)
	if err != nil {
		return err
	}
	return a.Verify(*k.Security, Challenge(r), origins)
}
