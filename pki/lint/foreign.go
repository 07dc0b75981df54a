package lint

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"

	zx509 "github.com/zmap/zcrypto/x509"
	zlint "github.com/zmap/zlint/v3/lint"
	"github.com/zmap/zlint/v3/util"
)

// sources of zlint rules by set. Each of the three Baseline Requirements speaks of its own certificates and of the
// authorities above them; the root programs speak of publicly trusted server certificates. A private client or listener
// certificate answers to the RFCs only.
func sources(set Set) zlint.SourceList {
	list := zlint.SourceList{zlint.RFC3279, zlint.RFC5280, zlint.RFC5480, zlint.RFC5891, zlint.RFC6960, zlint.RFC6962, zlint.RFC8813, zlint.Community}
	switch set {
	case SetTLSClient, SetInfrastructure:
		return list
	case SetSMIME, SetIssuingSMIME:
		return append(list, zlint.CABFSMIMEBaselineRequirements)
	case SetCodeSigning, SetIssuingCode:
		return append(list, zlint.CABFCSBaselineRequirements)
	default:
		return append(list, zlint.CABFBaselineRequirements, zlint.MozillaRootStorePolicy, zlint.AppleRootStorePolicy, zlint.ChromeRootStorePolicy)
	}
}

// foreign filters the registry of zlint for one set.
func foreign(set Set, private bool) (rules, error) {
	var out []string
	for _, x := range Exclusions(private) {
		if slices.Contains(x.Sets, set) {
			out = append(out, x.Rule)
		}
	}
	reg, err := zlint.GlobalRegistry().Filter(zlint.FilterOptions{IncludeSources: sources(set), ExcludeNames: out})
	if err != nil {
		return rules{}, fmt.Errorf("filter for %s: %w", set, err)
	}
	if set.isCRL() {
		return rules{crl: reg.RevocationListLints().Lints()}, nil
	}
	all := certificateRules(reg.CertificateLints().Lints())
	return rules{certificate: all, memory: &memory{of: map[string]*plan{}}, dates: datesOf(all)}, nil
}

// purposes says for which of the three Baseline Requirements the library takes a certificate.
type purposes struct{ server, mail, code bool }

func sourcesOf(c *zx509.Certificate) purposes {
	return purposes{util.IsServerAuthCert(c), util.IsEmailProtectionCert(c), util.IsCodeSigning(c.PolicyIdentifiers)}
}

type result = zlint.LintResult

// execute is zlint's CertificateLint.Execute for rules without a configuration, which is how a Linter runs them; nil when
// the rule does not apply. The library asks for the purposes of the certificate and reads an empty configuration once per
// rule; here it is done once per certificate, or not at all. A test compares the two.
func execute(l certificateRule, c *zx509.Certificate, is purposes) *result {
	if !l.concerns(is) || !l.CheckEffective(c) {
		return nil
	}
	return l.apply(c)
}

// concerns says whether a rule of one of the Baseline Requirements speaks of a certificate.
func (l certificateRule) concerns(is purposes) bool {
	if l.OverrideFrameworkFilter {
		return true
	}
	switch l.Source {
	case zlint.CABFBaselineRequirements:
		return is.server
	case zlint.CABFSMIMEBaselineRequirements:
		return is.mail
	case zlint.CABFCSBaselineRequirements:
		return is.code
	}
	return true
}

func (l certificateRule) apply(c *zx509.Certificate) *result {
	rule := l.shared
	if rule == nil {
		rule = l.Lint()
	}
	if !rule.CheckApplies(c) {
		return nil
	}
	return rule.Execute(c)
}

func (l certificateRule) findings(found []Finding, r *result) []Finding {
	if r == nil {
		return found
	}
	return appendForeign(found, &l.LintMetadata, r)
}

// certificateRule is a rule of the library, with one instance for everybody where an instance cannot remember anything.
type certificateRule struct {
	*zlint.CertificateLint
	shared zlint.LintInterface
}

func certificateRules(all []*zlint.CertificateLint) []certificateRule {
	out := make([]certificateRule, len(all))
	for i, l := range all {
		out[i].CertificateLint = l
		if rule := l.Lint(); forgets(reflect.TypeOf(rule)) {
			out[i].shared = rule
		}
	}
	return out
}

// forgets reports whether values of a type have no state of their own: no fields, or compiled patterns only.
func forgets(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return false
	}
	for i := range t.NumField() {
		if t.Field(i).Type != reflect.TypeFor[*regexp.Regexp]() {
			return false
		}
	}
	return true
}

// Exclusion is a zlint rule that is not run, with the reason.
type Exclusion struct {
	Rule   string
	Sets   []Set
	Reason string
}

// Exclusions lists every zlint rule that is left out. With privateNames it includes those of Config.PrivateNames.
func Exclusions(privateNames bool) []Exclusion {
	list := always()
	if privateNames {
		list = append(list, private()...)
	}
	return list
}

var (
	issuingSets = []Set{SetIssuing, SetIssuingSMIME, SetIssuingCode}
	subCASets   = append(slices.Clone(issuingSets), SetCross)
	caSets      = append(slices.Clone(subCASets), SetRoot)
	serverSets  = []Set{SetTLSServer, SetTLSServerShort}
	leafSets    = []Set{SetTLSServer, SetTLSServerShort, SetTLSClient, SetSMIME, SetCodeSigning, SetInfrastructure}
	pointerSets = append(slices.Clone(subCASets), leafSets...)
	childSets   = append(slices.Clone(pointerSets), SetDelegate)
	certSets    = append(slices.Clone(childSets), SetRoot)
	crlSets     = []Set{SetCRL, SetRootCRL}
)

// always are left out whatever the configuration.
func always() []Exclusion {
	return []Exclusion{
		{"w_sub_cert_aia_contains_internal_names", certSets,
			"it reads the clock, so the same bytes could lint differently tomorrow; bulkhead_pointer_host asks the same with a date"},
		{"e_ecdsa_small_private_key", certSets,
			"pki/keycheck refuses the same keys, to the same bound, before anything is built, from a table: the rule's search costs more than all others together"},
		{"w_smime_aia_contains_internal_names", []Set{SetSMIME},
			"it reads the clock, so the same bytes could lint differently tomorrow; bulkhead_pointer_host asks the same with a date"},
		{"e_mailbox_validated_allowed_subjectdn_attributes", []Set{SetIssuingSMIME},
			"it takes an authority with the mailbox-validated policy for a subscriber; S/MIME BR 7.1.4.3 wants organization and country in an authority's name"},
		{"e_cert_issued_by_compromised_emudhra_ca", certSets,
			"it looks at the signature value, which on a twin is a throw-away key's, and for the keys of another company's CA"},
		{"n_ct_sct_policy_count_unsatisfied", certSets,
			"timestamps come from logs after linting; certificates are not submitted to logs"},
		{"n_ca_digital_signature_not_set", caSets,
			"authorities never sign OCSP answers themselves: delegates do, so the bit must stay unset"},
		{"w_ext_subject_key_identifier_missing_sub_cert", leafSets,
			"RFC 5280 section 4.2.1.2 says SHOULD, BR 7.1.2.7.6 says NOT RECOMMENDED for server certificates: the profile decides"},
		{"e_crl_next_update_invalid", []Set{SetRootCRL},
			"it takes every CRL for one of subscriber certificates; bulkhead_crl_window has the limits of both kinds, by date"},
	}
}

// private are left out with Config.PrivateNames, from the sets that hold names or pointers.
func private() []Exclusion {
	const names = "BR 3.2.2.4 and 7.1.4.2.1 forbid names and addresses that are not globally unique; serving them is what the operator asked for"
	return []Exclusion{
		{"e_dnsname_not_valid_tld", serverSets, names},
		{"e_ext_san_contains_reserved_ip", serverSets, names},
		{"e_subject_contains_reserved_ip", serverSets, names},
		{"e_ext_nc_intersects_reserved_ip", subCASets, names},
		{"e_cs_subject_locality_or_province_required", []Set{SetCodeSigning},
			"nobody verified where a private house is; a profile whose subject names an organization must name its place (pki/profile)"},
		{"n_san_iana_pub_suffix_empty", leafSets, "localhost and other single labels count as bare public suffixes here"},
	}
}
