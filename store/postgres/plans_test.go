package postgres_test

import (
	"strings"
	"testing"

	"bulkhead/store/postgres"
	"bulkhead/store/storetest/pgtest"
)

// TestKeyedPlans: with the settings of connections that keep plans, what is prepared over empty tables looks rows up by
// the index of their whole key.
func TestKeyedPlans(t *testing.T) {
	db := database(t, pgtest.New(t))
	db.SetMaxOpenConns(1)
	for k, v := range postgres.Keyed() {
		if _, err := db.ExecContext(t.Context(), `SELECT set_config($1, $2, false)`, k, v); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range []struct{ types, text, args, want string }{
		{"text, bytea[]", `SELECT c.* FROM unnest($2::bytea[]) AS v (serial), LATERAL (SELECT state FROM certificates
			WHERE issuer = $1 AND serial BETWEEN v.serial AND v.serial ORDER BY serial LIMIT 1) AS c`, `'x', '{}'`, "((issuer = $1) AND (serial >= v.serial)"},
		{"text", `SELECT issuer, der FROM certificates LEFT JOIN certificate_ders USING (intent_seq)
			WHERE order_id = $1 AND order_id <> '' AND state IN ('issued', 'revoked') AND kind <> 'precertificate' ORDER BY outcome_seq DESC LIMIT 1`, `'x'`, "certificates_order"},
		{"text[]", `SELECT result FROM caa_checks WHERE order_id IN (SELECT unnest($1::text[])) ORDER BY seq`, `'{}'`, "caa_checks_order"},
		{"text", `SELECT seq FROM orders WHERE id = $1`, `'x'`, "orders_id"},
		{"text", `SELECT id FROM orders WHERE state = $1 AND state IN ('pending', 'ready', 'processing') ORDER BY seq LIMIT 1`, `'pending'`, "orders_state"},
		{"text, text", `UPDATE orders SET state = 'ready' WHERE id = $1 AND state || '' = $2`, `'x', 'y'`, "orders_id"},
		{"bigint[]", `UPDATE certificates c SET state = 'issued' FROM unnest($1) AS v (seq) WHERE c.intent_seq = v.seq`, `'{}'`, "certificates_pkey"},
		{"text[]", `SELECT v.id FROM order_authorizations o JOIN authorizations a ON a.id = o.authorization_id AND a.state = 'valid'
			JOIN validations v ON v.authorization_id = a.id WHERE o.order_id IN (SELECT unnest($1::text[]))`, `'{}'`, "validations_authorization"},
		{"text[]", `SELECT state FROM authorizations WHERE id IN (SELECT unnest($1::text[]))`, `'{}'`, "authorizations_id"},
		{"text", `SELECT a.state, p.scope, EXISTS (SELECT 1 FROM stops WHERE ended_at = 0) FROM accounts a
			LEFT JOIN partners p ON p.id = a.partner AND a.partner <> '' WHERE a.id = $1`, `'x'`, "accounts_id"},
		{"text, bigint", `UPDATE orders SET state = 'ready' WHERE state || '' = 'pending' AND expires_at + 0 >= $2
			AND id IN (SELECT order_id FROM order_authorizations WHERE authorization_id = $1)
			AND NOT EXISTS (SELECT 1 FROM order_authorizations x JOIN authorizations y ON y.id = x.authorization_id
				WHERE x.order_id = orders.id AND (y.state <> 'valid' OR y.expires_at < $2))`, `'x', 1`, "order_authorizations_back"},
		{"bytea[]", `SELECT key_hash FROM blocked_keys WHERE key_hash IN (SELECT unnest($1::bytea[]))`, `'{}'`, "blocked_keys_pkey"},
	} {
		name := "p" + string(rune('a'+i))
		if _, err := db.ExecContext(t.Context(), "PREPARE "+name+"("+c.types+") AS "+c.text); err != nil {
			t.Fatal(err)
		}
		rows, err := db.QueryContext(t.Context(), "EXPLAIN EXECUTE "+name+"("+c.args+")")
		if err != nil {
			t.Fatal(err)
		}
		var plan []string
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, line)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		text := strings.Join(plan, "\n")
		if !strings.Contains(text, c.want) || strings.Contains(text, "Seq Scan") || strings.Contains(text, "Hash Join") || strings.Contains(text, "Merge Join") {
			t.Errorf("%s\nis not looked up by %s:\n%s", c.text, c.want, text)
		}
	}
}
