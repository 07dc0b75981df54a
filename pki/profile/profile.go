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
	"time"

	"bulkhead"
)

// Kind is what certificates of a profile are for.
type Kind string

// Kinds of profile.
const (
	TLSServer Kind = "tls-server"
	TLSClient Kind = "tls-client"
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
	CommonNameFirstDNS CommonName = "first-dns" // the first DNS name of at most 64 characters; absent when none fits
	CommonNameOmit     CommonName = "omit"
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
	KeyEncipherment      bool // adds keyEncipherment for RSA keys
	EKUs                 []x509.ExtKeyUsage
	Policies             []x509.OID
	DefaultAuthority     bulkhead.AuthorityID // used when a request names none
	ACME                 bool                 // offered in the ACME directory
}

var ekuNames = map[string]x509.ExtKeyUsage{
	"server-auth": x509.ExtKeyUsageServerAuth,
	"client-auth": x509.ExtKeyUsageClientAuth,
}

var (
	serverKeys      = []KeyType{P256, P384, RSA2048, RSA3072, RSA4096} // BR 6.1.5
	clientKeys      = append(slices.Clone(serverKeys), Ed25519)
	identifierTypes = map[Kind][]bulkhead.IdentifierType{
		TLSServer: {bulkhead.DNS, bulkhead.IP},
		TLSClient: {bulkhead.DNS, bulkhead.IP, bulkhead.Email},
	}
)

// oidDomainValidated is domain-validated (BR 7.1.6.1).
var oidDomainValidated = mustOID(2, 23, 140, 1, 2, 1)

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
	if _, ok := identifierTypes[p.Kind]; !ok {
		return invalid("kind %q does not exist", p.Kind).WithHint("kind: tls-server or tls-client")
	}
	for _, step := range []func() error{p.checkTimes, p.checkNames, p.checkKeys, p.checkUsages} {
		if err := step(); err != nil {
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

func (p *Profile) checkTimes() error {
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

func (p *Profile) checkNames() error {
	if p.MaxNames < 1 || p.MaxNames > maxNames {
		return invalid("max_names %d is not between 1 and %d", p.MaxNames, maxNames).WithHint("max_names: 100")
	}
	if len(p.IdentifierTypes) == 0 {
		return invalid("identifiers is empty").WithHint("identifiers: [dns, ip]")
	}
	for _, t := range p.IdentifierTypes {
		if !slices.Contains(identifierTypes[p.Kind], t) {
			return invalid("kind %s cannot hold identifiers of type %q", p.Kind, t).WithHint("identifiers: [dns, ip]; tls-client may add email")
		}
	}
	if p.Wildcard && !slices.Contains(p.IdentifierTypes, bulkhead.DNS) {
		return invalid("wildcard is set, but identifiers does not hold dns").WithHint("remove wildcard, or add dns to identifiers")
	}
	if p.CommonName != CommonNameFirstDNS && p.CommonName != CommonNameOmit {
		return invalid("common_name %q does not exist", p.CommonName).WithHint("common_name: first-dns or omit")
	}
	if dup, ok := firstDuplicate(p.IdentifierTypes); ok {
		return invalid("identifiers holds %q twice", dup).WithHint("remove one of them")
	}
	return nil
}

func (p *Profile) checkKeys() error {
	allowed := clientKeys
	if p.Kind == TLSServer {
		allowed = serverKeys
	}
	if len(p.Keys) == 0 {
		return invalid("keys is empty").WithHint("keys: [p256, rsa2048]")
	}
	rsa := false
	for _, k := range p.Keys {
		if !slices.Contains(allowed, k) {
			return invalid("kind %s does not allow key type %q (BR 6.1.5)", p.Kind, k).WithHint("keys: p256, p384, rsa2048, rsa3072, rsa4096; tls-client may add ed25519")
		}
		rsa = rsa || k == RSA2048 || k == RSA3072 || k == RSA4096
	}
	if dup, ok := firstDuplicate(p.Keys); ok {
		return invalid("keys holds %q twice", dup).WithHint("remove one of them")
	}
	if p.KeyEncipherment && !rsa {
		return invalid("key_encipherment is set, but keys holds no RSA type").WithHint("remove key_encipherment: only RSA keys encipher keys")
	}
	return nil
}

func (p *Profile) checkUsages() error {
	need := map[Kind]x509.ExtKeyUsage{TLSServer: x509.ExtKeyUsageServerAuth, TLSClient: x509.ExtKeyUsageClientAuth}[p.Kind]
	if !slices.Contains(p.EKUs, need) {
		return invalid("kind %s lacks its own extended key usage", p.Kind).WithHint("extended_key_usages: [server-auth] for tls-server, [client-auth] for tls-client")
	}
	if p.Kind == TLSClient && len(p.EKUs) != 1 {
		return invalid("kind tls-client cannot have server-auth").WithHint("use kind tls-server with extended_key_usages: [server-auth, client-auth]")
	}
	if dup, ok := firstDuplicate(p.EKUs); ok {
		return invalid("extended_key_usages holds %v twice", dup).WithHint("remove one of them")
	}
	dv := slices.ContainsFunc(p.Policies, func(o x509.OID) bool { return o.Equal(oidDomainValidated) })
	if dv != (p.Kind == TLSServer) {
		return invalid("policy %s belongs to kind tls-server, and every tls-server profile has it (BR 7.1.2.7.9)", oidDomainValidated).
			WithHint("policies: [2.23.140.1.2.1] for tls-server")
	}
	for i, o := range p.Policies {
		if slices.ContainsFunc(p.Policies[:i], o.Equal) {
			return invalid("policies holds %s twice (RFC 5280 section 4.2.1.4)", o).WithHint("remove one of them")
		}
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
