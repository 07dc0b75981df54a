package profile

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead"
)

// URLs makes the addresses that are baked into certificates.
type URLs struct {
	Base string // of the status service, without a slash at the end, for example http://127.0.0.1:14080
}

func (u URLs) base() string { return strings.TrimRight(u.Base, "/") }

// CRL is the address of one shard's CRL: the bytes of the CDP and of the CRL's issuing distribution point.
func (u URLs) CRL(issuer bulkhead.AuthorityID, shard int) string {
	return u.base() + "/crl/" + string(issuer) + "/" + strconv.Itoa(shard) + ".crl"
}

// OCSP is the address of the responder for every issuer.
func (u URLs) OCSP() string { return u.base() + "/ocsp/" }

// CA is the address of an issuer's certificate, DER.
func (u URLs) CA(issuer bulkhead.AuthorityID) string {
	return u.base() + "/ca/" + string(issuer) + ".cer"
}

// Input is one request, joined with what the signer decided.
type Input struct {
	Issuer    *x509.Certificate
	IssuerID  bulkhead.AuthorityID
	Names     []bulkhead.Identifier
	PublicKey crypto.PublicKey
	Serial    bulkhead.Serial
	Now       time.Time
	Shard     int // CRL shard, see ShardOf
	URLs      URLs
}

// Template is the complete template of the certificate for one request; sign it with the issuer as parent. It fails
// with KindBadPublicKey, KindRejectedIdentifier or KindUnsupportedIdentifier (with a sub-fault per name) when the
// profile does not allow the request, and KindConflict when the issuer has less than an hour left.
func (p *Profile) Template(in Input) (*x509.Certificate, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	keyType, err := TypeOf(in.PublicKey)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(p.Keys, keyType) {
		return nil, bulkhead.Faultf(bulkhead.KindBadPublicKey, "profile %s does not allow %s keys", p.Name, keyType).WithHint("use one of: " + joined(p.Keys))
	}
	if err := p.CheckNames(in.Names); err != nil {
		return nil, err
	}
	t, err := leaf(in, p.Validity, p.Backdate)
	if err != nil {
		return nil, err
	}
	if err := p.subject(t, in); err != nil {
		return nil, err
	}
	if p.SubjectKeyIdentifier {
		if t.SubjectKeyId, err = KeyID(in.PublicKey); err != nil {
			return nil, err
		}
	}
	if _, ok := in.PublicKey.(*rsa.PublicKey); ok && p.KeyEncipherment {
		t.KeyUsage |= x509.KeyUsageKeyEncipherment
	} else if !ok && p.KeyEncipherment && p.Kind == SMIME {
		t.KeyUsage |= x509.KeyUsageKeyAgreement
	}
	t.ExtKeyUsage = slices.Clone(p.EKUs)
	t.Policies = slices.Clone(p.Policies)
	return t, nil
}

// subject fills the name as the profile says.
func (p *Profile) subject(t *x509.Certificate, in Input) error {
	switch p.CommonName {
	case CommonNameFirstDNS:
		t.Subject.CommonName = commonName(in.Names, bulkhead.DNS)
	case CommonNameMailbox:
		t.Subject.CommonName = commonName(in.Names, bulkhead.Email)
	case CommonNameOrganization, CommonNameOmit:
	}
	if p.Kind != CodeSigning {
		return nil
	}
	s, house := p.Subject, in.Issuer.Subject
	if s == (Subject{}) {
		if len(house.Organization) == 0 || len(house.Country) == 0 {
			return bulkhead.Faultf(bulkhead.KindConflict, "profile %s names no organization, and the issuer has none either", p.Name).
				WithHint("set subject in the profile: {organization, locality, country}")
		}
		s.Organization, s.Country = house.Organization[0], house.Country[0]
	}
	t.Subject.Organization, t.Subject.Country, t.Subject.CommonName = []string{s.Organization}, []string{s.Country}, s.Organization
	if s.Locality != "" {
		t.Subject.Locality = []string{s.Locality}
	}
	if s.Province != "" {
		t.Subject.Province = []string{s.Province}
	}
	return nil
}

// leaf has what every end-entity certificate with names has in common.
func leaf(in Input, validity, backdate time.Duration) (*x509.Certificate, error) {
	notBefore, notAfter, err := window(in.Now, validity, backdate, in.Issuer)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		Version:               3,
		SerialNumber:          in.Serial.Big(),
		PublicKey:             in.PublicKey,
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		AuthorityKeyId:        slices.Clone(in.Issuer.SubjectKeyId),
		CRLDistributionPoints: []string{in.URLs.CRL(in.IssuerID, in.Shard)},
		OCSPServer:            []string{in.URLs.OCSP()},
		IssuingCertificateURL: []string{in.URLs.CA(in.IssuerID)},
	}
	for _, n := range in.Names {
		switch n.Type {
		case bulkhead.DNS:
			t.DNSNames = append(t.DNSNames, n.Value)
		case bulkhead.IP:
			t.IPAddresses = append(t.IPAddresses, net.ParseIP(n.Value))
		case bulkhead.Email:
			t.EmailAddresses = append(t.EmailAddresses, n.Value)
		}
	}
	return t, nil
}

func (in *Input) check() error {
	switch {
	case in.Issuer == nil || !in.Issuer.IsCA:
		return internal("template without an issuing certificate")
	case in.IssuerID.Check() != nil:
		return internal("template without an issuer's name")
	case in.URLs.base() == "":
		return internal("template without the status service's URL")
	case in.Shard < 0:
		return internal("CRL shard %d", in.Shard)
	case in.Serial.IsZero() || in.Now.IsZero():
		return internal("template without serial or time")
	case len(in.Issuer.SubjectKeyId) == 0:
		return internal("issuer %s has no subject key identifier (RFC 5280 section 4.2.1.2)", in.IssuerID)
	}
	return nil
}

func internal(format string, args ...any) error { return fmt.Errorf("profile: "+format, args...) }

// CheckNames says whether the profile can hold the names, with a sub-fault for each that it cannot.
func (p *Profile) CheckNames(names []bulkhead.Identifier) error {
	if len(names) == 0 {
		return bulkhead.NewFault(bulkhead.KindMalformed, "no names asked for").WithHint("ask for at least one name")
	}
	if len(names) > p.MaxNames {
		return bulkhead.Faultf(bulkhead.KindRejectedIdentifier, "%d names, profile %s allows %d", len(names), p.Name, p.MaxNames).WithHint("split the order")
	}
	var subs []bulkhead.SubFault
	for i, n := range names {
		if kind, detail := p.checkName(n); kind != "" {
			subs = append(subs, bulkhead.SubFault{Identifier: n, Kind: kind, Detail: detail})
		} else if slices.Contains(names[:i], n) {
			subs = append(subs, bulkhead.SubFault{Identifier: n, Kind: bulkhead.KindMalformed, Detail: "name asked for twice"})
		}
	}
	if len(subs) == 0 {
		return nil
	}
	f := bulkhead.Faultf(subs[0].Kind, "%s: %s", subs[0].Identifier.Value, subs[0].Detail).WithHint("leave the name out, or choose another profile")
	f.Subs = subs
	return f
}

func (p *Profile) checkName(n bulkhead.Identifier) (bulkhead.Kind, string) {
	if !slices.Contains(p.IdentifierTypes, n.Type) {
		return bulkhead.KindUnsupportedIdentifier, fmt.Sprintf("profile %s does not hold identifiers of type %s", p.Name, n.Type)
	}
	if err := n.Check(); err != nil {
		f := bulkhead.AsFault(err)
		return f.Kind, f.Detail
	}
	if n.Wildcard() && !p.Wildcard {
		return bulkhead.KindRejectedIdentifier, fmt.Sprintf("profile %s allows no wildcards", p.Name)
	}
	return "", ""
}

func commonName(names []bulkhead.Identifier, of bulkhead.IdentifierType) string {
	for _, n := range names {
		if n.Type == of && len(n.Value) <= maxCommonName {
			return n.Value
		}
	}
	return ""
}

// window is the validity of a certificate signed now: never outside its issuer's (nil for a root), whole seconds, UTC.
func window(now time.Time, validity, backdate time.Duration, issuer *x509.Certificate) (notBefore, notAfter time.Time, err error) {
	now = now.UTC().Truncate(time.Second)
	notBefore = now.Add(-backdate)
	notAfter = notBefore.Add(validity - time.Second)
	if issuer == nil {
		return notBefore, notAfter, nil
	}
	if now.Before(issuer.NotBefore) {
		return notBefore, notAfter, bulkhead.Faultf(bulkhead.KindConflict, "issuer %q is not valid before %s", issuer.Subject.CommonName, stamp(issuer.NotBefore)).
			WithHint("check the clock of this machine")
	}
	if notBefore.Before(issuer.NotBefore) {
		notBefore = issuer.NotBefore.UTC()
		notAfter = notBefore.Add(validity - time.Second)
	}
	if notAfter.After(issuer.NotAfter) {
		notAfter = issuer.NotAfter.UTC()
		if notAfter.Sub(now) < minRemaining {
			return notBefore, notAfter, bulkhead.Faultf(bulkhead.KindConflict, "issuer %q ends at %s, less than %v from now", issuer.Subject.CommonName, stamp(issuer.NotAfter), minRemaining).
				WithHint("rotate the authority: bulkhead hierarchy rotate")
		}
	}
	return notBefore, notAfter, nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// TypeOf names the type of a public key; KindBadPublicKey for one that no profile can allow.
func TypeOf(pub crypto.PublicKey) (KeyType, error) {
	const hint = "use P-256, P-384 or RSA of 2048, 3072 or 4096 bits"
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return P256, nil
		case elliptic.P384():
			return P384, nil
		}
	case *rsa.PublicKey:
		switch k.N.BitLen() {
		case 2048:
			return RSA2048, nil
		case 3072:
			return RSA3072, nil
		case 4096:
			return RSA4096, nil
		}
		return "", bulkhead.Faultf(bulkhead.KindBadPublicKey, "RSA keys of %d bits are not accepted", k.N.BitLen()).WithHint(hint)
	case ed25519.PublicKey:
		return Ed25519, nil
	}
	return "", bulkhead.NewFault(bulkhead.KindBadPublicKey, "this type of key is not accepted").WithHint(hint)
}

// KeyID is the subject key identifier: the leftmost 160 bits of SHA-256 over the bits of the key (RFC 7093 section 2,
// method 1). It is not the key hash of OCSP, which has a definition of its own.
func KeyID(pub crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, bulkhead.NewFault(bulkhead.KindBadPublicKey, "this type of key is not accepted").WithHint("use P-256, P-384 or RSA").WithCause(err)
	}
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &spki); err != nil {
		return nil, internal("public key: %w", err)
	}
	sum := sha256.Sum256(spki.Key.Bytes)
	return sum[:20], nil
}

// ShardOf is the CRL shard of a new certificate: a function of the serial alone, spread evenly whatever the serial's
// structure. It is stored and baked into the certificate at issue and never computed again, so that the number of
// shards may grow.
func ShardOf(serial bulkhead.Serial, shards int) int {
	if shards <= 1 {
		return 0
	}
	fixed := serial.Fixed()
	sum := sha256.Sum256(fixed[:])
	return int(binary.BigEndian.Uint64(sum[:8]) % uint64(shards))
}

func joined[T ~string](list []T) string {
	text := make([]string, len(list))
	for i, x := range list {
		text[i] = string(x)
	}
	return strings.Join(text, ", ")
}
