package rel

import (
	"context"

	"bulkhead"
)

// CTMonitors returns how far each log was read, by name.
func (s *Store) CTMonitors(ctx context.Context) ([]bulkhead.CTMonitor, error) {
	rows, err := list(ctx, s.reader, func(r scanner) (m bulkhead.CTMonitor, err error) {
		err = r.Scan(hashCol{&m.ID}, &m.Log, &m.First, &m.Read, &m.Size, hashCol{&m.Root}, timeCol{&m.At}, &m.Ours, &m.Unknown)
		return m, err
	}, `SELECT log_id, log, first, entries, size, root, at, ours, unknown FROM ct_monitors ORDER BY log, log_id`)
	return rows, s.fault("CTMonitors", err)
}

// PutCTMonitor records progress in a log, with its leaf. KindConflict when the record is further already: two processes read
// one log, and the slower one must not take its place back.
func (s *Store) PutCTMonitor(ctx context.Context, m bulkhead.CTMonitor, ev bulkhead.Evidence) error {
	return s.write(ctx, "PutCTMonitor", []bulkhead.Evidence{ev}, func(t *tx) error {
		n, err := exec(ctx, t, `INSERT INTO ct_monitors (log_id, log, first, entries, size, root, at, ours, unknown) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
			ON CONFLICT (log_id) DO UPDATE SET log = excluded.log, entries = excluded.entries, size = excluded.size, root = excluded.root, at = excluded.at, ours = excluded.ours, unknown = excluded.unknown
			WHERE ct_monitors.entries <= excluded.entries AND ct_monitors.size <= excluded.size`,
			hashArg(m.ID), m.Log, m.First, m.Read, m.Size, hashArg(m.Root), unix(m.At), m.Ours, m.Unknown)
		if err == nil && n == 0 {
			return conflict("log %s was read further by another process", m.Log)
		}
		return err
	})
}
