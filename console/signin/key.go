package signin

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"strings"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"
	"github.com/go-webauthn/webauthn/webauthn"

	"bulkhead"
	"bulkhead/pki/approval"
)

// Steps that are remembered.
const (
	stepKey      = "key"
	stepRegister = "register"
	stepOIDC     = "oidc"
)

// rp is the relying party as the library wants it. What it can be lenient about, it is not.
func (s *Service) rp() (*webauthn.WebAuthn, error) {
	origin, rpID, err := s.site()
	if err != nil {
		return nil, err
	}
	needs, attested := true, protocol.PreferNoAttestation
	if s.cfg.Attestation != nil {
		attested = protocol.PreferDirectAttestation
	}
	return webauthn.New(&webauthn.Config{RPID: rpID, RPDisplayName: s.cfg.House, RPOrigins: []string{origin}, AttestationPreference: attested,
		AuthenticatorSelection: protocol.AuthenticatorSelection{RequireResidentKey: &needs, ResidentKey: protocol.ResidentKeyRequirementRequired, UserVerification: protocol.VerificationRequired}})
}

// holder is an operator as the library wants one.
type holder struct {
	name string
	keys []webauthn.Credential
}

func handleOf(name string) []byte { h := bulkhead.Digest([]byte("operator:" + name)); return h[:] }

func (h holder) WebAuthnID() []byte                         { return handleOf(h.name) }
func (h holder) WebAuthnName() string                       { return h.name }
func (h holder) WebAuthnDisplayName() string                { return h.name }
func (h holder) WebAuthnCredentials() []webauthn.Credential { return h.keys }

// Challenge is what a browser gets to begin with a security key.
type Challenge struct {
	ID        string `json:"id"` // of this sign-in, to be handed back
	PublicKey any    `json:"public_key"`
}

// BeginKey gives out a challenge to sign in with.
func (s *Service) BeginKey(ctx context.Context) (Challenge, error) {
	rp, err := s.rp()
	if err != nil {
		return Challenge{}, err
	}
	options, session, err := rp.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return Challenge{}, bulkhead.NewFault(bulkhead.KindInternal, "the challenge cannot be made").WithCause(err)
	}
	return s.challenge(ctx, stepKey, session, options.Response)
}

func (s *Service) challenge(ctx context.Context, kind string, step, options any) (Challenge, error) {
	body, err := json.Marshal(step)
	if err != nil {
		return Challenge{}, err
	}
	id, err := s.remember(ctx, kind, body)
	return Challenge{id, options}, err
}

// FinishKey lets the owner of a security key in who answered the challenge.
func (s *Service) FinishKey(ctx context.Context, id string, response []byte) (token string, x bulkhead.Session, err error) {
	no := func(why string, cause error) (string, bulkhead.Session, error) {
		return "", x, bulkhead.NewFault(bulkhead.KindUnauthorized, "the security key's answer does not count: "+why).WithHint("try again, or use the key that was registered").WithCause(cause)
	}
	body, err := s.recall(ctx, stepKey, id)
	if err != nil {
		return "", x, err
	}
	var session webauthn.SessionData
	if err := json.Unmarshal(body, &session); err != nil {
		return "", x, err
	}
	answer, err := protocol.ParseCredentialRequestResponseBytes(response)
	if err != nil {
		return no("it cannot be read", err)
	}
	rp, err := s.rp()
	if err != nil {
		return "", x, err
	}
	key, owner, err := s.keyOf(ctx, answer.RawID)
	if err != nil {
		return "", x, err
	}
	find := func(rawID, _ []byte) (webauthn.User, error) {
		return holder{owner.Name, []webauthn.Credential{credential(key)}}, nil
	}
	got, err := rp.ValidateDiscoverableLogin(find, session, answer)
	if err != nil {
		return no(reason(err), err)
	}
	if got.Flags.BackupEligible {
		return no("it can be copied", nil)
	}
	held, err := s.cfg.Quorum.Holder(ctx, key.KeyHash())
	if err == nil && held.Security == nil {
		err = bulkhead.NewFault(bulkhead.KindForbidden, "that key is no security key")
	}
	if err == nil {
		// The library only warns of a counter that goes back; here it is refused, by the record and under concurrency.
		err = s.cfg.Quorum.UseKey(ctx, owner.Name, *held.Security, answer.Response.AuthenticatorData.Counter)
	}
	if err != nil {
		return "", x, s.refused(ctx, owner.Name, key.KeyHash(), err)
	}
	return s.begin(ctx, owner, MethodKey, "", nil)
}

// keyOf finds a security key that counts, and its owner in office.
func (s *Service) keyOf(ctx context.Context, id []byte) (bulkhead.SecurityKey, bulkhead.Operator, error) {
	keys, err := s.cfg.Quorum.SecurityKeys(ctx)
	if err != nil {
		return bulkhead.SecurityKey{}, bulkhead.Operator{}, err
	}
	unknown := bulkhead.NewFault(bulkhead.KindForbidden, "that security key belongs to no operator in office").WithHint("an operator invites you: bulkhead operator invite NAME")
	for _, k := range keys {
		if string(k.ID) != string(id) || !k.RemovedAt.IsZero() {
			continue
		}
		op, err := s.cfg.Quorum.InOffice(ctx, k.Operator)
		if bulkhead.KindOf(err) == bulkhead.KindNotFound {
			err = unknown
		}
		return k, op, err
	}
	return bulkhead.SecurityKey{}, bulkhead.Operator{}, unknown
}

func credential(k bulkhead.SecurityKey) webauthn.Credential {
	return webauthn.Credential{ID: k.ID, PublicKey: k.COSE, Flags: webauthn.CredentialFlags{UserPresent: true, UserVerified: true}, Authenticator: webauthn.Authenticator{AAGUID: k.AAGUID, SignCount: k.SignCount}}
}

// reason is what the library says went wrong, for people.
func reason(err error) string {
	var e *protocol.Error
	if errors.As(err, &e) {
		return clip(strings.TrimSuffix(e.Details+": "+e.DevInfo, ": "))
	}
	return "it does not verify"
}

// Invited is what registering a key begins with.
type Invited struct {
	Operator string   `json:"operator"`
	New      bool     `json:"new"`             // who is no operator yet
	Roles    []string `json:"roles,omitempty"` // of somebody new
}

// Invite makes a link with which one person registers a security key, once and within a day. One operator may: the key counts
// when a quorum has approved it.
func (s *Service) Invite(ctx context.Context, by bulkhead.Operator, name string, roles []string) (link string, x bulkhead.Invitation, err error) {
	if err := bulkhead.AuthorityID(name).Check(); err != nil {
		return "", x, bulkhead.Faultf(bulkhead.KindMalformed, "%q is not an operator name", name).WithHint("use lower-case letters, digits and '-'")
	}
	origin, _, err := s.site()
	if err != nil {
		return "", x, err
	}
	if _, err := s.cfg.Quorum.InOffice(ctx, name); err == nil {
		if len(roles) > 0 {
			return "", x, bulkhead.Faultf(bulkhead.KindUsage, "operator %s is in office: roles do not change with a key", name).WithHint("leave the roles out")
		}
	} else if bulkhead.KindOf(err) != bulkhead.KindNotFound {
		return "", x, err
	} else if len(roles) == 0 {
		roles = []string{approval.RoleAdmin}
	}
	token, err := s.secret()
	if err != nil {
		return "", x, err
	}
	now := s.now()
	x = bulkhead.Invitation{TokenHash: hashOf(token), Operator: name, Roles: roles, Inviter: by.Name, CreatedAt: now, ExpiresAt: now.Add(inviteFor)}
	ev := bulkhead.Evidence{Kind: bulkhead.EvInvited, At: s.cfg.Now().UTC(), Actor: "operator:" + by.Name, Ref: name, Link: x.TokenHash, Detail: "to register a security key until " + x.ExpiresAt.Format("2006-01-02 15:04:05 UTC")}
	// The token is behind a '#': browsers send it to nobody, and it stands in no log.
	return origin + prefix + "register#" + token, x, s.cfg.Store.Invite(ctx, x, ev)
}

// invitation finds one that is good, whose inviter is still in office.
func (s *Service) invitation(ctx context.Context, token string) (bulkhead.Invitation, Invited, error) {
	var who Invited
	x, err := s.cfg.Store.Invitation(ctx, hashOf(token))
	if bulkhead.KindOf(err) == bulkhead.KindNotFound || err == nil && (!x.UsedAt.IsZero() || !s.now().Before(x.ExpiresAt)) {
		return x, who, bulkhead.NewFault(bulkhead.KindForbidden, "this invitation is not good, or not any more").WithHint("ask an operator for another: bulkhead operator invite NAME")
	}
	if err != nil {
		return x, who, err
	}
	if _, err := s.cfg.Quorum.InOffice(ctx, x.Inviter); err != nil {
		return x, who, bulkhead.Faultf(bulkhead.KindForbidden, "operator %s, who invited, is not in office any more", x.Inviter).WithHint("ask another operator: bulkhead operator invite NAME")
	}
	who = Invited{Operator: x.Operator}
	if _, err := s.cfg.Quorum.InOffice(ctx, x.Operator); bulkhead.KindOf(err) == bulkhead.KindNotFound {
		who.New, who.Roles = true, x.Roles
	} else if err != nil {
		return x, who, err
	}
	return x, who, nil
}

// BeginRegister gives out a challenge to register a security key with.
func (s *Service) BeginRegister(ctx context.Context, token string) (Challenge, Invited, error) {
	x, who, err := s.invitation(ctx, token)
	if err != nil {
		return Challenge{}, who, err
	}
	rp, err := s.rp()
	if err != nil {
		return Challenge{}, who, err
	}
	keys, err := s.cfg.Quorum.SecurityKeys(ctx)
	if err != nil {
		return Challenge{}, who, err
	}
	var have []protocol.CredentialDescriptor
	for _, k := range keys {
		if k.Operator == x.Operator {
			have = append(have, protocol.CredentialDescriptor{Type: protocol.PublicKeyCredentialType, CredentialID: k.ID})
		}
	}
	options, session, err := rp.BeginRegistration(holder{name: x.Operator}, webauthn.WithExclusions(have))
	if err != nil {
		return Challenge{}, who, bulkhead.NewFault(bulkhead.KindInternal, "the challenge cannot be made").WithCause(err)
	}
	c, err := s.challenge(ctx, stepRegister, registration{x.TokenHash, *session}, options.Response)
	return c, who, err
}

// registration is a key on its way.
type registration struct {
	Invitation bulkhead.Hash        `json:"invitation"`
	Session    webauthn.SessionData `json:"session"`
}

// FinishRegister takes a new security key and asks the quorum to bind it to the person who was invited.
func (s *Service) FinishRegister(ctx context.Context, token, id, label string, response []byte) (bulkhead.ApprovalRequest, error) {
	var none bulkhead.ApprovalRequest
	no := func(why string, cause error) (bulkhead.ApprovalRequest, error) {
		return none, bulkhead.NewFault(bulkhead.KindUnauthorized, "the security key cannot be registered: "+why).WithHint("try again, with another key perhaps").WithCause(cause)
	}
	x, who, err := s.invitation(ctx, token)
	if err != nil {
		return none, err
	}
	body, err := s.recall(ctx, stepRegister, id)
	if err != nil {
		return none, err
	}
	var step registration
	if err := json.Unmarshal(body, &step); err != nil || step.Invitation != x.TokenHash {
		return no("it was begun with another invitation", err)
	}
	answer, err := protocol.ParseCredentialCreationResponseBytes(response)
	if err != nil {
		return no("its answer cannot be read", err)
	}
	rp, err := s.rp()
	if err != nil {
		return none, err
	}
	got, err := rp.CreateCredential(holder{name: x.Operator}, step.Session, answer)
	if err != nil {
		return no(reason(err), err)
	}
	if got.Flags.BackupEligible {
		return no("it can be copied, and an operator's key must stay in its hardware", nil)
	}
	maker, err := s.cfg.Attestation.judge(answer.Response.AttestationObject, s.now())
	if err != nil {
		return no(firstLine(err), err)
	}
	spki, err := publicKey(got.PublicKey)
	if err != nil {
		return no("its public key is of a kind that cannot be verified", err)
	}
	origin, rpID, err := s.site()
	if err != nil {
		return none, err
	}
	key := approval.SecurityKey{ID: got.ID, PublicKey: spki, COSE: got.PublicKey, RPID: rpID, Origin: origin, Label: clip(label), AAGUID: got.Authenticator.AAGUID, Attested: clip(maker)}
	if err := s.cfg.Store.UseInvitation(ctx, x.TokenHash, s.now()); err != nil {
		return none, err
	}
	action, p := approval.AddSecurityKey, approval.OperatorPayload{Name: x.Operator, SecurityKey: &key}
	if who.New {
		action, p.Roles = approval.AddOperator, x.Roles
	}
	return s.cfg.Quorum.Propose(ctx, action, p, "operator:"+x.Inviter, "security key "+key.Label+" of "+x.Operator+", invited by "+x.Inviter)
}

// firstLine leaves out what is for the log.
func firstLine(err error) string {
	text, _, _ := strings.Cut(err.Error(), "\n")
	return text
}

// publicKey is a COSE key as everybody else writes one.
func publicKey(cose []byte) ([]byte, error) {
	k, err := webauthncose.ParsePublicKey(cose)
	if err != nil {
		return nil, err
	}
	var pub crypto.PublicKey
	switch k := k.(type) {
	case webauthncose.EC2PublicKeyData:
		if k.Algorithm != int64(webauthncose.AlgES256) {
			return nil, errKind
		}
		if len(k.XCoord) != 32 || len(k.YCoord) != 32 {
			return nil, errKind
		}
		p256, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, k.XCoord, k.YCoord))
		if err != nil {
			return nil, err
		}
		pub = p256
	case webauthncose.OKPPublicKeyData:
		if k.Algorithm != int64(webauthncose.AlgEdDSA) || len(k.XCoord) != ed25519.PublicKeySize {
			return nil, errKind
		}
		pub = ed25519.PublicKey(k.XCoord)
	case webauthncose.RSAPublicKeyData:
		if k.Algorithm != int64(webauthncose.AlgRS256) {
			return nil, errKind
		}
		e, err := webauthncose.ParseRSAPublicKeyDataExponent(&k)
		if err != nil {
			return nil, err
		}
		pub = &rsa.PublicKey{N: new(big.Int).SetBytes(k.Modulus), E: e}
	default:
		return nil, errKind
	}
	return x509.MarshalPKIXPublicKey(pub)
}

var errKind = errors.New("an algorithm other than ES256, EdDSA and RS256")
