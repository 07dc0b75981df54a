package approval

import (
	"slices"
	"strings"
)

// Roles of operators. Who has none is an administrator, as every operator was before there were roles.
const (
	RoleAdmin       = "admin"        // everything
	RoleIssuerAdmin = "issuer-admin" // authorities, profiles, accounts, partners, stop and resume
	RoleRevoker     = "revoker"      // revocation, blocked keys, stop
	RoleAuditor     = "auditor"      // reads everything, changes nothing, approves nothing
)

// Has reports whether somebody with the roles has one of those wanted. An administrator has all of them but the auditor's,
// which is no power.
func Has(has []string, wanted ...string) bool {
	if len(has) == 0 || slices.Contains(has, RoleAdmin) {
		return true
	}
	return slices.ContainsFunc(wanted, func(r string) bool { return r != RoleAuditor && slices.Contains(has, r) })
}

// Approvers says whose signature counts under an action, besides administrators'.
func Approvers(action string) []string {
	noun, _, _ := strings.Cut(action, ".")
	switch noun {
	case "change":
		return []string{RoleRevoker}
	case "issuance", "partner", "account", "order", "profile":
		return []string{RoleIssuerAdmin}
	}
	return nil // operators, and what this table does not know: administrators alone
}
