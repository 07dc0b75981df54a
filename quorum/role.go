package quorum

import (
	"slices"
	"strings"

	"bulkhead"
	"bulkhead/pki/approval"
)

// Roles of operators; package approval says what each is good for.
const (
	RoleAdmin       = approval.RoleAdmin
	RoleIssuerAdmin = approval.RoleIssuerAdmin
	RoleRevoker     = approval.RoleRevoker
	RoleAuditor     = approval.RoleAuditor
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
func Has(o bulkhead.Operator, roles ...string) bool { return approval.Has(o.Roles, roles...) }
