package approval_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/pki/approval"
)

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var now = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// person has a key file, and may have a security key.
type person struct {
	bulkhead.Operator
	file     ed25519.PrivateKey
	security crypto.Signer
	key      approval.SecurityKey
}

func newPerson(t testing.TB, name string, roles ...string) person {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	ok(t, err)
	return person{Operator: bulkhead.Operator{Name: name, PublicKey: pub, Roles: roles, AddedAt: now}, file: key}
}

func (p *person) buy(t testing.TB, s crypto.Signer) {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(s.Public())
	ok(t, err)
	p.security = s
	p.key = approval.SecurityKey{ID: []byte(p.Name + "'s key"), PublicKey: der, RPID: "ca.example", Origin: "https://ca.example:14000", Label: "blue"}
}

// touch is what the authenticator and the browser give; change may spoil it before it is signed.
func (p person) touch(t testing.TB, challenge []byte, change func(client map[string]any, data []byte)) approval.Assertion {
	t.Helper()
	client := map[string]any{"type": "webauthn.get", "challenge": base64.RawURLEncoding.EncodeToString(challenge), "origin": p.key.Origin, "crossOrigin": false, "new": "members are not an error"}
	host := sha256.Sum256([]byte(p.key.RPID))
	data := append(host[:], 0x05)
	data = binary.BigEndian.AppendUint32(data, 7)
	if change != nil {
		change(client, data)
	}
	body, err := json.Marshal(client)
	ok(t, err)
	sum := sha256.Sum256(body)
	signed := append(slices.Clone(data), sum[:]...)
	digest, opts := sha256.Sum256(signed), crypto.SignerOpts(crypto.SHA256)
	in := digest[:]
	if _, ed := p.security.(ed25519.PrivateKey); ed {
		in, opts = signed, crypto.Hash(0)
	}
	sig, err := p.security.Sign(rand.Reader, in, opts)
	ok(t, err)
	return approval.Assertion{CredentialID: p.key.ID, AuthenticatorData: data, ClientData: body, Signature: sig}
}

func (p person) approve(r bulkhead.ApprovalRequest) bulkhead.Approval {
	return bulkhead.Approval{RequestID: r.ID, Operator: p.Name, KeyHash: p.KeyHash(), Signature: ed25519.Sign(p.file, approval.Statement(r)), At: now}
}

func request(id, action string, payload any) bulkhead.ApprovalRequest {
	body, err := json.Marshal(payload)
	if err != nil {
		panic(err)
	}
	return bulkhead.ApprovalRequest{ID: id, Action: action, Payload: body, State: bulkhead.RequestOpen, CreatedAt: now}
}

func unauthorized(t *testing.T, err error, says string) {
	t.Helper()
	if bulkhead.KindOf(err) != bulkhead.KindUnauthorized || !strings.Contains(err.Error(), says) {
		t.Errorf("%v, want a refusal that says %q", err, says)
	}
}

// TestAssertion: a security key's signature counts over exactly the challenge, from its own place, with the person verified.
func TestAssertion(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	ok(t, err)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	ok(t, err)
	r := request("r-1", "change.activate", "what")
	challenge := approval.Challenge(r)
	for name, s := range map[string]crypto.Signer{"ES256": ec, "RS256": rs, "EdDSA": ed} {
		p := newPerson(t, "ada")
		p.buy(t, s)
		a, err := approval.ParseAssertion(p.touch(t, challenge, nil).Encode())
		ok(t, err)
		if err := a.Verify(p.key, challenge, nil); err != nil || a.Counter() != 7 {
			t.Errorf("%s: counter %d, %v", name, a.Counter(), err)
		}
		other := request("r-1", "change.activate", "something else")
		unauthorized(t, a.Verify(p.key, approval.Challenge(other), nil), "over something else")
		unauthorized(t, a.Verify(p.key, nil, nil), "over something else")
		moved := a
		moved.Signature = append(slices.Clone(a.Signature[:len(a.Signature)-1]), a.Signature[len(a.Signature)-1]^1)
		unauthorized(t, moved.Verify(p.key, challenge, nil), "does not verify")
		stranger := p
		stranger.key.ID = []byte("x")
		unauthorized(t, a.Verify(stranger.key, challenge, nil), "another credential")
	}
	p := newPerson(t, "ada")
	p.buy(t, ec)
	for says, change := range map[string]func(client map[string]any, data []byte){
		"made at https://evil": func(c map[string]any, _ []byte) { c["origin"] = "https://evil.example" },
		"made at":              func(c map[string]any, _ []byte) { c["crossOrigin"] = true },
		"no assertion":         func(c map[string]any, _ []byte) { c["type"] = "webauthn.create" },
		"relying party":        func(_ map[string]any, d []byte) { d[0] ^= 1 },
		"not verified":         func(_ map[string]any, d []byte) { d[32] = 0x01 },
		"PIN or biometry":      func(_ map[string]any, d []byte) { d[32] = 0x04 },
		"something else":       func(c map[string]any, _ []byte) { c["challenge"] = "AAAA" },
	} {
		unauthorized(t, p.touch(t, challenge, change).Verify(p.key, challenge, nil), says)
	}
	moved := p.touch(t, challenge, func(c map[string]any, _ []byte) { c["origin"] = "https://console.ca.example" })
	unauthorized(t, moved.Verify(p.key, challenge, nil), "made at")
	ok(t, moved.Verify(p.key, challenge, []string{"https://console.ca.example"}))
	if _, err := approval.ParseAssertion([]byte(`{"credential_id":"AA==","more":1}`)); err == nil {
		t.Error("an unknown member was accepted")
	}
}

// TestOffice: a key counts when its way into office was signed for, back to the first operators; a row can only take away.
func TestOffice(t *testing.T) {
	ada, bob, carol, mallory := newPerson(t, "ada", "admin"), newPerson(t, "bob"), newPerson(t, "carol", "revoker"), newPerson(t, "mallory")
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	carol.buy(t, ec)
	add := request("o-1", approval.AddOperator, approval.OperatorPayload{Name: "carol", PublicKey: carol.PublicKey, Roles: carol.Roles})
	add.Approvals = []bulkhead.Approval{ada.approve(add), bob.approve(add)}
	key := request("o-2", approval.AddSecurityKey, approval.OperatorPayload{Name: "carol", SecurityKey: &carol.key})
	key.Approvals = []bulkhead.Approval{ada.approve(key), bob.approve(key)}
	row := bulkhead.SecurityKey{ID: carol.key.ID, Operator: "carol", PublicKey: carol.key.PublicKey, RPID: carol.key.RPID, Origin: carol.key.Origin}
	record := approval.Record{Operators: []bulkhead.Operator{ada.Operator, bob.Operator, carol.Operator, mallory.Operator}, Keys: []bulkhead.SecurityKey{row}, Requests: []bulkhead.ApprovalRequest{add, key}}
	first := []bulkhead.Operator{ada.Operator, bob.Operator}
	in := func(o approval.Office, h bulkhead.Hash) bool { _, found := o.Key(h); return found }

	o := approval.NewOffice(first, 2, nil, record)
	if !in(o, ada.KeyHash()) || !in(o, carol.KeyHash()) || !in(o, row.KeyHash()) || in(o, mallory.KeyHash()) {
		t.Error("in office is whom the table has, or not whom people signed for")
	}
	change := request("c-1", "change.activate", "x")
	touch := bulkhead.Approval{RequestID: "c-1", Operator: "carol", KeyHash: row.KeyHash(), Signature: carol.touch(t, approval.Challenge(change), nil).Encode(), At: now}
	change.Approvals = []bulkhead.Approval{ada.approve(change), touch}
	ok(t, o.Judge(change))
	gate := func(o approval.Office, r bulkhead.ApprovalRequest, what string) {
		t.Helper()
		if err := o.Judge(r); bulkhead.KindOf(err) != bulkhead.KindGate {
			t.Errorf("%s: %v", what, err)
		}
	}
	twice := change
	twice.Approvals = []bulkhead.Approval{touch, carol.approve(change)}
	gate(o, twice, "one person with two keys")
	twice.Approvals = []bulkhead.Approval{ada.approve(change), ada.approve(change)}
	gate(o, twice, "one key twice")
	other := change
	other.Payload = []byte(`"y"`)
	gate(o, other, "another payload under the same signatures")
	small := change
	small.Needed, small.Approvals = 1, change.Approvals[:1]
	gate(o, small, "a row that asks for one signature")
	stop := request("s-1", "issuance.resume", "x")
	stop.Approvals = []bulkhead.Approval{ada.approve(stop), carol.approve(stop)}
	gate(o, stop, "a revoker's signature under a resumption")
	if nobody := approval.NewOffice([]bulkhead.Operator{}, 2, nil, record); in(nobody, ada.KeyHash()) || in(nobody, carol.KeyHash()) {
		t.Error("where nobody is known from outside the record, somebody is in office")
	}
	if unpinned := approval.NewOffice(nil, 2, nil, record); !in(unpinned, mallory.KeyHash()) {
		t.Error("without first operators the rows are believed")
	}

	// Who left counts no more, but under what was executed while she was there.
	record.Operators[2].RemovedAt = now.Add(time.Hour)
	o = approval.NewOffice(first, 2, nil, record)
	gate(o, change, "an open request with the signature of somebody who left")
	done := change
	done.State = bulkhead.RequestExecuted
	ok(t, o.Judge(done))
	late := done
	late.Approvals = slices.Clone(done.Approvals)
	late.Approvals[1].At = now.Add(2 * time.Hour)
	gate(o, late, "a signature from after she left")
	// Bob agrees to leave himself: his word counts for that, before, between and after the row says so, and for nothing else.
	go1 := request("o-5", approval.RemoveOperator, approval.OperatorPayload{Name: "bob"})
	go1.State, go1.Approvals = bulkhead.RequestApproved, []bulkhead.Approval{ada.approve(go1), bob.approve(go1)}
	go1.Approvals[1].At = now.Add(time.Second)
	leaving := record
	leaving.Operators, leaving.Requests = slices.Clone(record.Operators), append(slices.Clone(record.Requests), go1)
	wants := request("c-2", "change.activate", "x")
	wants.Approvals = []bulkhead.Approval{ada.approve(wants), bob.approve(wants)}
	for _, at := range []time.Time{{}, now.Add(2 * time.Second)} {
		leaving.Operators[1].RemovedAt = at
		o = approval.NewOffice(first, 2, nil, leaving)
		for _, state := range []bulkhead.RequestState{bulkhead.RequestApproved, bulkhead.RequestExecuted} {
			go1.State = state
			if err := o.Judge(go1); err != nil {
				t.Errorf("row %s, request %s: %v", at, state, err)
			}
		}
		gate(o, wants, "the word of somebody who agreed to leave")
	}
	// The row that says she is back does not bring her back, once two people signed that she leaves.
	record.Operators[2].RemovedAt = time.Time{}
	leave := request("o-3", approval.RemoveOperator, approval.OperatorPayload{Name: "carol"})
	leave.CreatedAt = now.Add(time.Minute)
	leave.Approvals = []bulkhead.Approval{ada.approve(leave), bob.approve(leave)}
	record.Requests = append(record.Requests, leave)
	if o = approval.NewOffice(first, 2, nil, record); in(o, carol.KeyHash()) || in(o, row.KeyHash()) {
		t.Error("a row brought somebody back who was signed out")
	}
	// A new key, signed for after that, is another matter.
	again := newPerson(t, "carol")
	back := request("o-4", approval.AddOperator, approval.OperatorPayload{Name: "carol", PublicKey: again.PublicKey})
	back.CreatedAt = now.Add(time.Hour)
	back.Approvals = []bulkhead.Approval{ada.approve(back), bob.approve(back)}
	record.Requests = append(record.Requests, back)
	record.Operators[2] = again.Operator
	if o = approval.NewOffice(first, 2, nil, record); !in(o, again.KeyHash()) || in(o, carol.KeyHash()) {
		t.Error("who came back has the wrong key")
	}
	// A security key alone that is taken away.
	record.Keys[0].RemovedAt = now
	if o = approval.NewOffice(first, 2, nil, record); in(o, row.KeyHash()) {
		t.Error("a key that was taken away counts")
	}
}

// TestChain: operators may be signed for by those who were signed for; a ring of strangers who sign for each other is out.
func TestChain(t *testing.T) {
	people := []person{newPerson(t, "p-0"), newPerson(t, "p-1")}
	record := approval.Record{Operators: []bulkhead.Operator{people[0].Operator, people[1].Operator}}
	admit := func(id string, who person, by ...person) {
		r := request(id, approval.AddOperator, approval.OperatorPayload{Name: who.Name, PublicKey: who.PublicKey, Roles: who.Roles})
		for _, b := range by {
			r.Approvals = append(r.Approvals, b.approve(r))
		}
		// the newest first: the order of the rows must not matter
		record.Requests = append([]bulkhead.ApprovalRequest{r}, record.Requests...)
		record.Operators = append(record.Operators, who.Operator)
	}
	for i := 2; i < 6; i++ {
		p := newPerson(t, fmt.Sprintf("p-%d", i))
		admit(p.Name, p, people[i-1], people[i-2])
		people = append(people, p)
	}
	x, y := newPerson(t, "x"), newPerson(t, "y")
	admit("x", x, x, y)
	admit("y", y, y, x)
	revoker := newPerson(t, "revoker", approval.RoleRevoker)
	admit("revoker", revoker, people[0], people[1])
	z := newPerson(t, "z")
	admit("z", z, people[0], revoker) // who may not sign for operators
	o := approval.NewOffice([]bulkhead.Operator{people[0].Operator, people[1].Operator}, 2, nil, record)
	for _, p := range append(people, revoker) {
		if _, in := o.Key(p.KeyHash()); !in {
			t.Errorf("%s is not in office", p.Name)
		}
	}
	for _, p := range []person{x, y, z} {
		if _, in := o.Key(p.KeyHash()); in {
			t.Errorf("%s is in office", p.Name)
		}
	}
}

// FuzzAssertion: nothing that was not signed by the key is taken for its signature.
func FuzzAssertion(f *testing.F) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(f, err)
	p := newPerson(f, "ada")
	p.buy(f, ec)
	challenge := []byte("a challenge of the house, 32 octs")
	f.Add(p.touch(f, []byte("another"), nil).Encode())
	f.Add([]byte(`{"credential_id":"","authenticator_data":"AAAA","client_data":"e30=","signature":""}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := approval.ParseAssertion(body)
		if err == nil && a.Verify(p.key, challenge, nil) == nil {
			t.Errorf("%q was believed", body)
		}
		a.Counter()
	})
}
