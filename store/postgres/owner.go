package postgres

import (
	"context"
	"fmt"

	"bulkhead"
)

// CheckOwner is refused with KindForbidden unless this store was opened as the owner of the schema, or as somebody who is as good:
// for work that writes what no role's group may, and that must not stop half-way.
func (s *Store) CheckOwner(ctx context.Context, what string) error {
	var owner bool
	if err := s.reader.QueryRowContext(ctx, `SELECT pg_has_role(current_user, relowner, 'USAGE') FROM pg_class WHERE oid = 'certificates'::regclass`).Scan(&owner); err != nil {
		return fmt.Errorf("owner of the schema: %w", err)
	}
	if owner {
		return nil
	}
	return bulkhead.Faultf(bulkhead.KindForbidden, "%s writes what no role's database user may: it takes the database's owner", what).
		WithHint("put the owner's connection string into the file that store names in the data directory's bulkhead.yaml, for this one command (doc/deployment.md)")
}
