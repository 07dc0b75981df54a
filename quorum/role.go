package quorum

import (
	"slices"
	"strings"

	"bulkhead"
)

// Roles of operators. Who has none is an administrator, as every operator was before there were roles.
const (
	RoleAdmin       = "admin"        // everything
	RoleIssuerAdmin = "issuer-admin" // authorities, profiles, accounts, partners, stop and resume
	RoleRevoker     = "revoker"      // revocation, blocked keys, stop
	RoleAuditor     = "auditor"      // reads everything, changes nothing, approves nothing
)

// Roles lists every role.
var Roles = []string{RoleAdmin, RoleIssuerAdmin, RoleRevoker, RoleAuditor}

// CheckRoles refuses roles that do not exist.
func CheckRoles(roles []string) error {
	for _, r := range roles {
		if !slices.Contains(Roles, r) {
			return bulkhead.Faultf(bulkhead.KindUsage, "there is no role %q", r).WithHint("use " + strings.Join(Roles, ", "))
		}
	}
	return nil
}

// Has reports whether an operator has one of the roles. An administrator has all of them but the auditor's, which is no
// power.
func Has(o bulkhead.Operator, roles ...string) bool {
	if len(o.Roles) == 0 || slices.Contains(o.Roles, RoleAdmin) {
		return true
	}
	return slices.ContainsFunc(roles, func(r string) bool { return r != RoleAuditor && slices.Contains(o.Roles, r) })
}

// approvers says whose signature counts under an action, besides administrators'.
func approvers(action string) []string {
	noun, _, _ := strings.Cut(action, ".")
	switch noun {
	case "change":
		return []string{RoleRevoker}
	case "issuance", "partner", "account", "order":
		return []string{RoleIssuerAdmin}
	}
	return nil // operators, and what this table does not know: administrators alone
}
