package rel

import (
	"context"

	"bulkhead"
)

// PutProfileVersion adds a version of a profile; KindConflict when the request made this version before.
func (s *Store) PutProfileVersion(ctx context.Context, v bulkhead.ProfileVersion, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "PutProfileVersion", ev, func(t *tx) error {
		n, err := exec(ctx, t, `INSERT INTO profile_versions (name, version, request, activated_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
			v.Name, int64(v.Number), v.Request, unix(v.At))
		if err == nil && n == 0 {
			return conflict("request %s made version %d of profile %s before", v.Request, v.Number, v.Name)
		}
		return err
	})
}

// ProfileVersions returns the versions added after a sequence number, in their order.
func (s *Store) ProfileVersions(ctx context.Context, after int64) ([]bulkhead.ProfileVersion, error) {
	rows, err := list(ctx, s.reader, func(r scanner) (v bulkhead.ProfileVersion, err error) {
		err = r.Scan(&v.Seq, &v.Name, &v.Number, &v.Request, timeCol{&v.At})
		return v, err
	}, `SELECT seq, name, version, request, activated_at FROM profile_versions WHERE seq > $1 ORDER BY seq`, after)
	return rows, s.fault("ProfileVersions", err)
}
