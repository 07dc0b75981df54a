package profile

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"bulkhead"
)

// Difference says in words what a change of a profile means.
type Difference struct {
	Old       string   `json:"old"`
	New       string   `json:"new"`
	Grants    []string `json:"grants"`    // new power: what a certificate may be, hold or do that it could not before
	Withdraws []string `json:"withdraws"` // power that is taken away
	Other     []string `json:"other"`     // changes that are neither
}

// GrantsPower reports whether the change gives certificates a power that they did not have.
func (d Difference) GrantsPower() bool { return len(d.Grants) > 0 }

// Diff compares two profiles as files hold them. A new one that asks for the power of an authority or of an OCSP
// responder is refused with KindGate: no profile can have it. Other faults are those of Parse.
func Diff(oldText, newText []byte) (Difference, error) {
	before, err := Parse(oldText)
	if err != nil {
		return Difference{}, err
	}
	after, err := parseNew(newText)
	if err != nil {
		return Difference{}, err
	}
	d := Difference{Old: before.Name, New: after.Name, Grants: []string{}, Withdraws: []string{}, Other: []string{}}
	d.compare(before, after)
	return d, nil
}

// parseNew reads a profile that is to come into force.
func parseNew(text []byte) (*Profile, error) {
	if power := forbiddenPower(text); power != "" {
		return nil, bulkhead.Faultf(bulkhead.KindGate, "the new profile asks for %s, which no profile can grant", power).
			WithHint("authorities and OCSP responders come from a ceremony: bulkhead hierarchy add")
	}
	return Parse(text)
}

// forbiddenPower reads the file loosely: a strict reading would only say that a key or a value does not exist.
func forbiddenPower(text []byte) string {
	var loose struct {
		Kind  string   `yaml:"kind"`
		EKUs  []string `yaml:"extended_key_usages"`
		KUs   []string `yaml:"key_usages"`
		CA    bool     `yaml:"ca"`
		IsCA  bool     `yaml:"is_ca"`
		Basic any      `yaml:"basic_constraints"`
		Path  any      `yaml:"path_len"`
	}
	if yaml.Unmarshal(text, &loose) != nil {
		return ""
	}
	plain := strings.NewReplacer("-", "", "_", "", " ", "")
	for _, u := range append(loose.EKUs, loose.KUs...) {
		switch strings.ToLower(plain.Replace(u)) {
		case "ocspsigning", "1.3.6.1.5.5.7.3.9":
			return "OCSP signing"
		case "any", "anyextendedkeyusage", "2.5.29.37.0":
			return "every extended key usage, OCSP signing among them"
		case "certsign", "keycertsign", "crlsign":
			return "the signing of certificates or CRLs"
		}
	}
	if loose.CA || loose.IsCA || loose.Basic != nil || loose.Path != nil ||
		slices.Contains([]string{"ca", "root", "issuing", "intermediate", "subordinate", "authority"}, strings.ToLower(loose.Kind)) {
		return "the power of an authority"
	}
	if k := strings.ToLower(plain.Replace(loose.Kind)); k == "ocsp" || k == "ocspdelegate" || k == "ocspresponder" {
		return "OCSP signing"
	}
	return ""
}

func (d *Difference) grant(format string, args ...any) {
	d.Grants = append(d.Grants, fmt.Sprintf(format, args...))
}

func (d *Difference) withdraw(format string, args ...any) {
	d.Withdraws = append(d.Withdraws, fmt.Sprintf(format, args...))
}

func (d *Difference) other(format string, args ...any) {
	d.Other = append(d.Other, fmt.Sprintf(format, args...))
}

func (d *Difference) compare(a, b *Profile) {
	if a.Name != b.Name {
		d.other("another profile: %s, before %s", b.Name, a.Name)
	}
	if a.Kind != b.Kind {
		d.grant("certificates of another kind: %s, before %s", b.Kind, a.Kind)
	}
	d.times(a, b)
	d.names(a, b)
	d.keys(a, b)
	sets(d, "extended key usage", a.EKUs, b.EKUs, ekuName)
	sets(d, "policy", a.Policies, b.Policies, x509.OID.String)
	d.offer(a, b)
}

func (d *Difference) times(a, b *Profile) {
	switch {
	case b.Validity > a.Validity:
		d.grant("longer life: %s, before %s", days(b.Validity), days(a.Validity))
	case b.Validity < a.Validity:
		d.withdraw("shorter life: %s, before %s", days(b.Validity), days(a.Validity))
	}
	switch {
	case b.Backdate > a.Backdate:
		d.grant("an earlier beginning: %s before signing, so far %s", days(b.Backdate), days(a.Backdate))
	case b.Backdate < a.Backdate:
		d.withdraw("a later beginning: %s before signing, so far %s", days(b.Backdate), days(a.Backdate))
	}
	if a.RenewAt != b.RenewAt {
		d.other("renewal after %.0f %% of the life, before %.0f %%", b.RenewAt*100, a.RenewAt*100)
	}
}

func (d *Difference) names(a, b *Profile) {
	switch {
	case b.MaxNames > a.MaxNames:
		d.grant("more names in one certificate: %d, before %d", b.MaxNames, a.MaxNames)
	case b.MaxNames < a.MaxNames:
		d.withdraw("fewer names in one certificate: %d, before %d", b.MaxNames, a.MaxNames)
	}
	d.flag("wildcard names: one certificate for every host below a name", a.Wildcard, b.Wildcard)
	sets(d, "identifiers of type", a.IdentifierTypes, b.IdentifierTypes, func(t bulkhead.IdentifierType) string { return string(t) })
	if a.CommonName != b.CommonName {
		d.other("common name: %s, before %s", b.CommonName, a.CommonName)
	}
	if a.Subject != b.Subject {
		d.grant("another subject: %s, before %s", b.Subject, a.Subject)
	}
}

// String is the subject for people.
func (s Subject) String() string {
	var parts []string
	for _, p := range []string{s.Organization, s.Locality, s.Province, s.Country} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	if len(parts) == 0 {
		return "the house's own"
	}
	return strings.Join(parts, ", ")
}

// strength is the work of breaking a key, in bits (NIST SP 800-57 part 1, table 2).
func strength(k KeyType) int {
	switch k {
	case RSA2048:
		return 112
	case P256, Ed25519, RSA3072:
		return 128
	case RSA4096:
		return 140
	case P384:
		return 192
	default:
		return 0 // unknown is weak: it will be looked at
	}
}

func (d *Difference) keys(a, b *Profile) {
	weakest := slices.Min(strengths(a.Keys))
	for _, k := range b.Keys {
		switch {
		case slices.Contains(a.Keys, k):
		case strength(k) < weakest:
			d.grant("weaker keys: %s with %d bits of strength, so far at least %d", k, strength(k), weakest)
		default:
			d.other("keys of type %s", k)
		}
	}
	for _, k := range a.Keys {
		if !slices.Contains(b.Keys, k) {
			d.withdraw("keys of type %s", k)
		}
	}
	d.flag("key encipherment: the key may decrypt what was sent to it", a.KeyEncipherment, b.KeyEncipherment)
	if a.SubjectKeyIdentifier != b.SubjectKeyIdentifier {
		d.other("subject key identifier: %v, before %v", b.SubjectKeyIdentifier, a.SubjectKeyIdentifier)
	}
}

func strengths(keys []KeyType) []int {
	out := make([]int, len(keys))
	for i, k := range keys {
		out[i] = strength(k)
	}
	return out
}

// offer is who gets it and from whom.
func (d *Difference) offer(a, b *Profile) {
	d.flag("an offer in the ACME directory: every ACME account may order it", a.ACME, b.ACME)
	switch {
	case b.Logs < a.Logs:
		d.grant("less transparency: %d CT timestamps, before %d", b.Logs, a.Logs)
	case b.Logs > a.Logs:
		d.withdraw("less secrecy: %d CT timestamps, before %d", b.Logs, a.Logs)
	}
	if a.DefaultAuthority != b.DefaultAuthority {
		d.other("issued by %q unless asked otherwise, before %q", b.DefaultAuthority, a.DefaultAuthority)
	}
	if a.Description != b.Description {
		d.other("another description")
	}
}

func (d *Difference) flag(what string, before, after bool) {
	switch {
	case after && !before:
		d.grant("%s", what)
	case before && !after:
		d.withdraw("%s", what)
	}
}

// sets compares what two profiles list.
func sets[T any](d *Difference, what string, before, after []T, name func(T) string) {
	texts := func(list []T) (out []string) {
		for _, x := range list {
			out = append(out, name(x))
		}
		return out
	}
	old, now := texts(before), texts(after)
	for _, x := range now {
		if !slices.Contains(old, x) {
			d.grant("%s %s", what, x)
		}
	}
	for _, x := range old {
		if !slices.Contains(now, x) {
			d.withdraw("%s %s", what, x)
		}
	}
}

func ekuName(u x509.ExtKeyUsage) string {
	for n, x := range ekuNames {
		if x == u {
			return n
		}
	}
	return fmt.Sprint(int(u))
}

// days writes whole days as days.
func days(t time.Duration) string {
	if t >= 24*time.Hour && t%(24*time.Hour) == 0 {
		if t == 24*time.Hour {
			return "1 day"
		}
		return fmt.Sprintf("%d days", t/(24*time.Hour))
	}
	return t.String()
}
