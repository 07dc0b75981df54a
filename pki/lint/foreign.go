package lint

import (
	"fmt"
	"slices"

	zlint "github.com/zmap/zlint/v3/lint"
)

// sources of zlint rules by set. The BR and the root programs speak of publicly trusted server certificates and what
// is above them; a private client or listener certificate answers to the RFCs only.
func sources(set Set) zlint.SourceList {
	list := zlint.SourceList{zlint.RFC3279, zlint.RFC5280, zlint.RFC5480, zlint.RFC5891, zlint.RFC6960, zlint.RFC6962, zlint.RFC8813, zlint.Community}
	if set.isPublic() {
		list = append(list, zlint.CABFBaselineRequirements, zlint.MozillaRootStorePolicy, zlint.AppleRootStorePolicy, zlint.ChromeRootStorePolicy)
	}
	return list
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
	return rules{certificate: reg.CertificateLints().Lints()}, nil
}

// Exclusion is a zlint rule that is not run, with the reason.
type Exclusion struct {
	Rule   string
	Sets   []Set
	Reason string
}

// Exclusions lists every zlint rule that is left out. With private it includes those of Config.PrivateNames.
func Exclusions(private bool) []Exclusion {
	list := slices.Clone(always)
	if private {
		list = append(list, privateNames...)
	}
	return list
}

var always = []Exclusion{}

var privateNames = []Exclusion{}
