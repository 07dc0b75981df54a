package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"sort"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"bulkhead"
)

// enrolling are what both the role that serves subscribers and the console write: the console takes orders, too.
var enrolling = map[string]string{
	"looks":                "INSERT, UPDATE, DELETE",
	"accounts":             "INSERT, UPDATE",
	"authorizations":       "INSERT, UPDATE",
	"orders":               "INSERT, UPDATE",
	"order_authorizations": "INSERT",
	"validations":          "INSERT",
	"caa_checks":           "INSERT",
	"external_keys":        "INSERT, UPDATE",
	"rate_limits":          "INSERT, UPDATE, DELETE",
	"certificates":         "UPDATE (replaced_by_issuer, replaced_by_serial)",
	"blocked_keys":         "INSERT",
	"changes":              "INSERT, UPDATE",
	"change_items":         "INSERT",
	"change_evidence":      "INSERT",
	"campaign_attempts":    "INSERT",
	"campaign_moves":       "INSERT",
}

// own are what the group of each role may write beside that, table by table: a verb, or a verb with the columns it is good
// for. Everybody who has a group reads; nobody but the owner changes the schema. A role that is taken over can do what stands
// here and no more: the enrolling role cannot make a certificate row, change a status, give a second approval or set back
// what a partner used, the status role cannot change what was validated, no request is changed after it was opened but in its
// state, and nobody changes or deletes evidence.
var own = map[string]map[string]string{
	"signer": {
		"certificates":       "INSERT, UPDATE",
		"certificate_ders":   "INSERT, UPDATE",
		"certificate_names":  "INSERT, DELETE",
		"precertificates":    "INSERT",
		"delegates":          "INSERT, UPDATE, DELETE",
		"partner_use":        "INSERT, UPDATE, DELETE",
		"signature_counters": "INSERT, UPDATE",
		"held_scopes":        "INSERT, UPDATE",
		// It carries out the destruction of keys that people approved: it signs what is owed, destroys, and says so.
		"authorities": "UPDATE (state, key_uri)",
		"prepared":    "INSERT",
		"crl_numbers": "INSERT, UPDATE",
		"requests":    "UPDATE (state)",
	},
	"enroll": {
		"campaign_items": "UPDATE",
		"tickets":        "UPDATE",
		"check_results":  "INSERT, DELETE",
	},
	// It works on campaigns, too: it plans their changes and carries them through on the approvals that their plans have.
	"status": {
		"estate_looks":     "INSERT, UPDATE",
		"looks":            "INSERT, UPDATE, DELETE",
		"changes":          "INSERT, UPDATE",
		"change_items":     "INSERT, UPDATE",
		"incidents":        "INSERT",
		"campaigns":        "UPDATE",
		"campaign_items":   "UPDATE",
		"campaign_moves":   "INSERT",
		"campaign_jobs":    "UPDATE",
		"notice_steps":     "INSERT",
		"incident_notices": "INSERT",
		"tickets":          "INSERT",
		"change_evidence":  "INSERT",
		"certificates":     "UPDATE (state, revoked_at, reason)",
		"restorations":     "INSERT",
		"heads":            "INSERT, DELETE",
		"head_turn":        "UPDATE",
		"crls":             "INSERT, UPDATE",
		"crl_numbers":      "INSERT, UPDATE",
		"authorities":      "UPDATE (state, key_uri)",
	},
	"console": {
		"estate_looks":     "INSERT, UPDATE",
		"authorities":      "INSERT, UPDATE",
		"prepared":         "INSERT",
		"ceremonies":       "INSERT",
		"standbys":         "INSERT, UPDATE, DELETE",
		"operators":        "INSERT, UPDATE",
		"requests":         "INSERT, UPDATE (state)",
		"profile_versions": "INSERT",
		"approvals":        "INSERT",
		"security_keys":    "INSERT, UPDATE",
		"sessions":         "INSERT, UPDATE, DELETE",
		"invitations":      "INSERT, UPDATE",
		"signin_steps":     "INSERT, DELETE",
		"replies":          "INSERT, UPDATE, DELETE",
		"stops":            "INSERT, UPDATE",
		"partners":         "INSERT, UPDATE",
		"partner_people":   "INSERT, UPDATE",
		"second_approvals": "INSERT",
		"compromises":      "INSERT, UPDATE",
		"incidents":        "INSERT, UPDATE",
		"incident_items":   "INSERT, UPDATE, DELETE",
		"incident_counts":  "INSERT",
		"incident_fields":  "INSERT",
		"notice_steps":     "INSERT",
		"incident_notices": "INSERT, UPDATE",
		"campaigns":        "INSERT, UPDATE",
		"campaign_items":   "INSERT, UPDATE, DELETE",
		"campaign_keys":    "INSERT",
		"campaign_jobs":    "INSERT, UPDATE, DELETE",
		"tickets":          "INSERT, UPDATE",
	},
	"evidence": {},
	"watch":    {"notices": "INSERT", "alarm_deliveries": "INSERT, UPDATE, DELETE", "incident_notices": "UPDATE", "ct_monitors": "INSERT, UPDATE", "crl_seen": "INSERT, UPDATE"},
}

// rights are all that the group of each role may write.
var rights = func() map[string]map[string]string {
	all := map[string]map[string]string{}
	for role, mine := range own {
		all[role] = maps.Clone(mine)
	}
	for _, role := range []string{"enroll", "console"} {
		maps.Copy(all[role], enrolling)
	}
	return all
}()

// ownersOnly are tables that no role writes: what they record is done with the owner's connection string, or was written by
// earlier versions of this program.
var ownersOnly = []string{"pruned", "campaign_steps"}

// shared is what every group writes: evidence of what it does, and alarms about what it sees.
var shared = map[string]string{
	"evidence":      "INSERT",
	"evidence_head": "UPDATE",
	"alarms":        "INSERT, UPDATE",
	// An alarm that comes back after it was acknowledged is delivered anew, whoever raises it.
	"alarm_deliveries": "DELETE",
}

// RoleSQL gives the statements, for the owner of the database, that make the groups and their rights. They can be run
// again: a right that is no more in the table is taken away.
func RoleSQL() string {
	var b strings.Builder
	b.WriteString("-- Groups of bulkhead's roles. Make a login user for each process: CREATE USER x IN ROLE bulkhead_enroll …\n")
	for _, role := range sorted(rights) {
		group := pgx.Identifier{"bulkhead_" + role}.Sanitize()
		fmt.Fprintf(&b, "\nDO $$ BEGIN CREATE ROLE %s NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;\n", group)
		fmt.Fprintf(&b, "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM %s;\n", group)
		fmt.Fprintf(&b, "GRANT USAGE ON SCHEMA public TO %s;\n", group)
		fmt.Fprintf(&b, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO %s;\n", group)
		all := map[string]string{}
		for t, v := range shared {
			all[t] = v
		}
		for t, v := range rights[role] {
			all[t] = v
		}
		for _, t := range sorted(all) {
			fmt.Fprintf(&b, "GRANT %s ON %s TO %s;\n", all[t], pgx.Identifier{t}.Sanitize(), group)
		}
	}
	return b.String()
}

func sorted[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

// ApplyRoles migrates the database and runs RoleSQL as the user of dsn, who owns the database and may make roles.
func ApplyRoles(ctx context.Context, dsn string) error {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return bulkhead.NewFault(bulkhead.KindUsage, "the address of the PostgreSQL database cannot be read").WithCause(err)
	}
	db := stdlib.OpenDB(*cfg)
	defer db.Close()
	if err := Migrate(ctx, db); err != nil {
		return err
	}
	return inOne(ctx, db, RoleSQL())
}

// inOne runs the statements in one transaction.
func inOne(ctx context.Context, db *sql.DB, text string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return bulkhead.NewFault(bulkhead.KindUnavailable, "cannot use the PostgreSQL database").WithCause(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(ctx, text); err != nil {
		return bulkhead.NewFault(bulkhead.KindForbidden, "the rights of the roles could not be given").WithHint("run it as the owner of the database, who may make roles (CREATEROLE)").WithCause(err)
	}
	return tx.Commit()
}
