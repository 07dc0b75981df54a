// Package profile turns a profile file into certificate templates.
//
// Purpose: a profile is a strict YAML file that says what a kind of certificate may hold. Parse validates it; Template
// joins it with one request and gives the complete template of the certificate to sign. The house's own certificates
// (root, issuing authority, cross-certificate, OCSP delegate, listener) have templates in the same style, fixed in code
// because their contents are not a matter of taste (BR 7.1.2).
//
// Invariant: same input, same output: time, serial and key are parameters. No template outlives its issuer, and only
// the templates of authorities have cA set.
//
// Refuses: unknown keys, contradictions inside a file, names or keys that the profile does not allow, a certificate
// for which the issuer has less than an hour left, and OCSPSigning or anyExtendedKeyUsage in any profile.
package profile

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"strings"
	"sync"
	"time"

	"bulkhead"
)

// Kind is what certificates of a profile are for.
type Kind string

// Kinds of profile.
const (
	TLSServer   Kind = "tls-server"
	TLSClient   Kind = "tls-client"
	SMIME       Kind = "smime"        // mailbox-validated, strict (S/MIME BR)
	CodeSigning Kind = "code-signing" // the house signs its own code (CSBR, non-EV)
)

// KeyType is a public key algorithm with its size, as profile files name it.
type KeyType string

// Key types that a profile may allow.
const (
	P256    KeyType = "p256"
	P384    KeyType = "p384"
	RSA2048 KeyType = "rsa2048"
	RSA3072 KeyType = "rsa3072"
	RSA4096 KeyType = "rsa4096"
	Ed25519 KeyType = "ed25519"
)

// CommonName says what the subject's common name holds.
type CommonName string

// Common name rules. BR 7.1.2.7.2 discourages the field; old clients show it.
const (
	CommonNameFirstDNS     CommonName = "first-dns"    // the first DNS name of at most 64 characters; absent when none fits
	CommonNameMailbox      CommonName = "mailbox"      // the first mail address of at most 64 characters (S/MIME BR 7.1.4.2.2)
	CommonNameOrganization CommonName = "organization" // the organization of the subject (CSBR 7.1.4.2.2)
	CommonNameOmit         CommonName = "omit"
)

const (
	// maxBackdate: notBefore stays within 48 hours of signing (BR 7.1.2.7).
	maxBackdate = 48 * time.Hour
	// maxHouseBackdate: for authorities and OCSP responders it is a day (BR 7.1.2.10.1, 7.1.2.8.1).
	maxHouseBackdate = 24 * time.Hour
	// maxNames bounds the size of a certificate, and of the work to validate it.
	maxNames = 1000
	// maxCommonName is ub-common-name (RFC 5280 appendix A.1).
	maxCommonName = 64
	// minRemaining: below it a certificate cut to its issuer's end would be of no use.
	minRemaining = time.Hour
	// maxLogs bounds what a certificate carries; root programs ask for two or three.
	maxLogs = 8
)

// Profile is a validated profile. Make one with Parse or Builtin.
type Profile struct {
	Name                 string
	Kind                 Kind
	Description          string
	Validity             time.Duration // inclusive, as BR 6.3.2 counts: notAfter = notBefore + Validity - 1 s
	Backdate             time.Duration // notBefore is this much before signing, for clocks that are behind
	RenewAt              float64       // fraction of the validity after which a client should renew
	Keys                 []KeyType
	IdentifierTypes      []bulkhead.IdentifierType
	MaxNames             int
	Wildcard             bool
	CommonName           CommonName
	SubjectKeyIdentifier bool // BR 7.1.2.7.6 discourages it in server certificates
	KeyEncipherment      bool // adds keyEncipherment for RSA keys, and in kind smime keyAgreement for EC keys
	Subject              Subject
	EKUs                 []x509.ExtKeyUsage
	Policies             []x509.OID
	DefaultAuthority     bulkhead.AuthorityID // used when a request names none
	ACME                 bool                 // offered in the ACME directory
	Logs                 int                  // timestamps of CT logs that a certificate must carry; 0 for none
}

// Subject is the organization that a code-signing certificate names. Without one it is the house's own: organization
// and country of the issuer's name.
type Subject struct {
	Organization string `yaml:"organization"`
	Locality     string `yaml:"locality"`
	Province     string `yaml:"province"`
	Country      string `yaml:"country"`
}

var ekuNames = map[string]x509.ExtKeyUsage{
	"server-auth":      x509.ExtKeyUsageServerAuth,
	"client-auth":      x509.ExtKeyUsageClientAuth,
	"email-protection": x509.ExtKeyUsageEmailProtection,
	"code-signing":     x509.ExtKeyUsageCodeSigning,
}

var (
	serverKeys = []KeyType{P256, P384, RSA2048, RSA3072, RSA4096} // BR 6.1.5
	clientKeys = append(slices.Clone(serverKeys), Ed25519)
	signerKeys = []KeyType{P256, P384, RSA3072, RSA4096} // CSBR 6.1.5.2
)

// kindRule is what a kind fixes; everything else is the profile file's choice.
type kindRule struct {
	usage       Usage
	eku         x509.ExtKeyUsage   // every certificate has it
	others      []x509.ExtKeyUsage // and may have these
	policy      *x509.OID          // every profile of the kind has it, and no other kind; nil for none
	source      string
	keys        []KeyType
	identifiers []bulkhead.IdentifierType
	commonNames []CommonName
}

var kindRules = sync.OnceValue(func() map[Kind]kindRule {
	tlsNames := []CommonName{CommonNameFirstDNS, CommonNameOmit}
	return map[Kind]kindRule{
		TLSServer: {UsageTLS, x509.ExtKeyUsageServerAuth, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, &oidDomainValidated, "BR 7.1.2.7.9",
			serverKeys, []bulkhead.IdentifierType{bulkhead.DNS, bulkhead.IP}, tlsNames},
		TLSClient: {UsageTLS, x509.ExtKeyUsageClientAuth, nil, nil, "BR 7.1.2.7.9",
			clientKeys, []bulkhead.IdentifierType{bulkhead.DNS, bulkhead.IP, bulkhead.Email}, tlsNames},
		SMIME: {UsageSMIME, x509.ExtKeyUsageEmailProtection, nil, &oidMailboxValidated, "S/MIME BR 7.1.6.1",
			serverKeys, []bulkhead.IdentifierType{bulkhead.Email}, []CommonName{CommonNameMailbox, CommonNameOmit}},
		CodeSigning: {UsageCodeSigning, x509.ExtKeyUsageCodeSigning, nil, &oidCodeSigning, "CSBR 7.1.6.1",
			signerKeys, []bulkhead.IdentifierType{bulkhead.DNS, bulkhead.Email}, []CommonName{CommonNameOrganization}},
	}
})

// Policies that the CA/Browser Forum reserves.
var (
	oidDomainValidated  = mustOID(2, 23, 140, 1, 2, 1)    // domain-validated (BR 7.1.6.1)
	oidMailboxValidated = mustOID(2, 23, 140, 1, 5, 1, 3) // mailbox-validated, strict (S/MIME BR 7.1.6.1)
	oidCodeSigning      = mustOID(2, 23, 140, 1, 4, 1)    // code signing, non-EV (CSBR 7.1.6.1)
)

// oidNoCheck is id-pkix-ocsp-nocheck (RFC 6960 section 4.2.2.2.1).
var oidNoCheck = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}

func mustOID(arcs ...uint64) x509.OID {
	oid, err := x509.OIDFromInts(arcs)
	if err != nil {
		panic(err) // a constant of this file is wrong
	}
	return oid
}

// check finds contradictions. Lifetime limits by date are not here: they are policy and lint.
func (p *Profile) check() error {
	if err := bulkhead.AuthorityID(p.Name).Check(); err != nil {
		return invalid("%q is not a profile name", p.Name).WithHint("name: lower-case letters, digits and '-', for example tls-server")
	}
	rule, ok := kindRules()[p.Kind]
	if !ok {
		return invalid("kind %q does not exist", p.Kind).WithHint("kind: tls-server, tls-client, smime or code-signing")
	}
	for _, step := range []func(kindRule) error{p.checkTimes, p.checkNames, p.checkKeys, p.checkUsages, p.checkPolicies, p.checkSubject} {
		if err := step(rule); err != nil {
			return err
		}
	}
	if p.DefaultAuthority != "" {
		if err := p.DefaultAuthority.Check(); err != nil {
			return invalid("default_authority %q is not an authority name", p.DefaultAuthority).WithHint("see: bulkhead hierarchy show")
		}
	}
	return nil
}

func (p *Profile) checkTimes(kindRule) error {
	switch {
	case p.Validity <= minRemaining:
		return invalid("validity %v is not above %v", p.Validity, minRemaining).WithHint("validity: 47d, 12h, …")
	case p.Backdate < 0 || p.Backdate > maxBackdate:
		return invalid("backdate %v is not between 0 and %v (BR 7.1.2.7)", p.Backdate, maxBackdate).WithHint("backdate: 1h")
	case p.Validity-p.Backdate < minRemaining:
		return invalid("backdate %v leaves less than %v of the validity of %v", p.Backdate, minRemaining, p.Validity).WithHint("make backdate shorter, or validity longer")
	case p.Validity%time.Second != 0 || p.Backdate%time.Second != 0:
		return invalid("validity and backdate are whole seconds").WithHint("certificates have no fractions of seconds")
	case !(p.RenewAt > 0 && p.RenewAt < 1):
		return invalid("renew_at %v is not between 0 and 1", p.RenewAt).WithHint("renew_at: 0.66 renews after two thirds of the validity")
	}
	return nil
}

func (p *Profile) checkNames(rule kindRule) error {
	if p.MaxNames < 1 || p.MaxNames > maxNames {
		return invalid("max_names %d is not between 1 and %d", p.MaxNames, maxNames).WithHint("max_names: 100")
	}
	if len(p.IdentifierTypes) == 0 {
		return invalid("identifiers is empty").WithHint("identifiers: [dns, ip]")
	}
	for _, t := range p.IdentifierTypes {
		if !slices.Contains(rule.identifiers, t) {
			return invalid("kind %s cannot hold identifiers of type %q", p.Kind, t).WithHint("identifiers for this kind: " + joined(rule.identifiers))
		}
	}
	if p.ACME && slices.Contains(p.IdentifierTypes, bulkhead.Email) {
		return invalid("acme is set, but there is no challenge for mail addresses here (RFC 8823 is not built)").WithHint("acme: false; operators approve mailboxes of own_names")
	}
	if p.Wildcard && !slices.Contains(p.IdentifierTypes, bulkhead.DNS) {
		return invalid("wildcard is set, but identifiers does not hold dns").WithHint("remove wildcard, or add dns to identifiers")
	}
	if !slices.Contains(rule.commonNames, p.CommonName) {
		return invalid("common_name %q does not exist in kind %s", p.CommonName, p.Kind).WithHint("common_name for this kind: " + joined(rule.commonNames))
	}
	if dup, ok := firstDuplicate(p.IdentifierTypes); ok {
		return invalid("identifiers holds %q twice", dup).WithHint("remove one of them")
	}
	return nil
}

func (p *Profile) checkKeys(rule kindRule) error {
	if len(p.Keys) == 0 {
		return invalid("keys is empty").WithHint("keys: [p256, rsa3072]")
	}
	rsa := false
	for _, k := range p.Keys {
		if !slices.Contains(rule.keys, k) {
			return invalid("kind %s does not allow key type %q (BR 6.1.5)", p.Kind, k).WithHint("keys for this kind: " + joined(rule.keys))
		}
		rsa = rsa || k == RSA2048 || k == RSA3072 || k == RSA4096
	}
	if dup, ok := firstDuplicate(p.Keys); ok {
		return invalid("keys holds %q twice", dup).WithHint("remove one of them")
	}
	switch {
	case p.KeyEncipherment && p.Kind == CodeSigning:
		return invalid("key_encipherment is set, but a code-signing key signs only (CSBR 7.1.2.3)").WithHint("remove key_encipherment")
	case p.KeyEncipherment && !rsa && p.Kind != SMIME:
		return invalid("key_encipherment is set, but keys holds no RSA type").WithHint("remove key_encipherment: only RSA keys encipher keys")
	}
	return nil
}

func (p *Profile) checkUsages(rule kindRule) error {
	if !slices.Contains(p.EKUs, rule.eku) {
		return invalid("kind %s lacks its own extended key usage", p.Kind).
			WithHint("extended_key_usages: [server-auth] for tls-server, [client-auth] for tls-client, [email-protection] for smime, [code-signing] for code-signing")
	}
	for _, u := range p.EKUs {
		if u != rule.eku && !slices.Contains(rule.others, u) {
			return invalid("kind %s cannot have a second purpose of that sort", p.Kind).WithHint("make a profile for each purpose; tls-server alone may add client-auth")
		}
	}
	if dup, ok := firstDuplicate(p.EKUs); ok {
		return invalid("extended_key_usages holds %v twice", dup).WithHint("remove one of them")
	}
	if p.Logs < 0 || p.Logs > maxLogs {
		return invalid("ct.logs %d is not between 0 and %d", p.Logs, maxLogs).WithHint("ct: {logs: 2}")
	}
	if p.Logs == 1 || p.Logs > 0 && p.Kind != TLSServer {
		return invalid("ct.logs is for kind tls-server, and timestamps come from two operators at least").WithHint("ct: {logs: 2} in a tls-server profile, or leave ct out")
	}
	return nil
}

// checkPolicies: each reserved policy belongs to one kind, and every profile of the kind has it.
func (p *Profile) checkPolicies(own kindRule) error {
	for kind, rule := range kindRules() {
		if rule.policy == nil {
			continue
		}
		if has := slices.ContainsFunc(p.Policies, rule.policy.Equal); has != (kind == p.Kind) {
			return invalid("policy %s belongs to kind %s, and every profile of that kind has it (%s)", rule.policy, kind, rule.source).
				WithHint("policies: [2.23.140.1.2.1] for tls-server, [2.23.140.1.5.1.3] for smime, [2.23.140.1.4.1] for code-signing")
		}
	}
	for i, o := range p.Policies {
		if slices.ContainsFunc(p.Policies[:i], o.Equal) {
			return invalid("policies holds %s twice (RFC 5280 section 4.2.1.4)", o).WithHint("remove one of them")
		}
	}
	return nil
}

func (p *Profile) checkSubject(kindRule) error {
	s := p.Subject
	if s == (Subject{}) {
		return nil
	}
	if p.Kind != CodeSigning {
		return invalid("subject is for kind code-signing: other kinds name no organization").WithHint("remove subject")
	}
	if s.Organization == "" || len(s.Organization) > maxCommonName || s.Locality == "" && s.Province == "" || len(s.Locality) > 128 || len(s.Province) > 128 ||
		len(s.Country) != 2 || strings.ToUpper(s.Country) != s.Country {
		return invalid("subject lacks organization, locality or province, or country as two capital letters (CSBR 7.1.4.2.2)").
			WithHint("subject: {organization: Example Ltd, locality: Geneva, country: CH}; without subject the house's own organization stands")
	}
	return nil
}

func firstDuplicate[T comparable](list []T) (T, bool) {
	for i, x := range list {
		if slices.Contains(list[:i], x) {
			return x, true
		}
	}
	var zero T
	return zero, false
}

func invalid(format string, args ...any) *bulkhead.Fault {
	return bulkhead.Faultf(bulkhead.KindInvalidProfile, format, args...)
}
