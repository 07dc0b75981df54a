package rel

import (
	"context"
	"slices"
	"time"

	"bulkhead"
)

const ceremonyFields = `digest, previous, root, title, rehearsal, change_id, began_at, finished_at, imported_at, actor, signed`

func scanCeremony(r scanner) (bulkhead.Ceremony, error) {
	var c bulkhead.Ceremony
	var rehearsal int64
	err := r.Scan(hashCol{&c.Digest}, hashCol{&c.Previous}, hashCol{&c.Root}, &c.Title, &rehearsal, &c.Change, timeCol{&c.BeganAt},
		timeCol{&c.FinishedAt}, timeCol{&c.ImportedAt}, &c.Actor, bytesCol{&c.Signed})
	c.Rehearsal = rehearsal != 0
	return c, err
}

// Ceremonies returns all ceremonies and rehearsals, the last imported first.
func (s *Store) Ceremonies(ctx context.Context) ([]bulkhead.Ceremony, error) {
	rows, err := list(ctx, s.reader, scanCeremony, `SELECT `+ceremonyFields+` FROM ceremonies ORDER BY imported_at DESC, finished_at DESC, digest`)
	return rows, s.fault("Ceremonies", err)
}

// PutCeremony keeps a ceremony and what it brought, all or nothing. KindConflict when the ceremony is there already, or an
// authority that it destroyed is neither revoked nor retired; then nothing changed. Delegates, prepared objects and
// stand-bys that are there already are left as they are.
func (s *Store) PutCeremony(ctx context.Context, c bulkhead.Ceremony, parts bulkhead.CeremonyParts, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "PutCeremony", ev, func(t *tx) error {
		var rehearsal int64
		if c.Rehearsal {
			rehearsal = 1
		}
		n, err := exec(ctx, t, `INSERT INTO ceremonies (`+ceremonyFields+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING`,
			hashArg(c.Digest), hashArg(c.Previous), hashArg(c.Root), text(c.Title), rehearsal, c.Change, unix(c.BeganAt), unix(c.FinishedAt),
			unix(c.ImportedAt), text(c.Actor), blob(c.Signed))
		if err != nil {
			return err
		}
		if n == 0 {
			return conflict("ceremony %s was imported before", c.Digest)
		}
		for _, a := range parts.Authorities {
			if err := t.putAuthority(ctx, a); err != nil {
				return err
			}
		}
		for _, d := range parts.Delegates {
			if err := t.putDelegate(ctx, d); err != nil {
				return err
			}
		}
		if err := t.putPrepared(ctx, parts.Prepared); err != nil {
			return err
		}
		for _, x := range parts.Standbys {
			if err := t.putStandby(ctx, x); err != nil {
				return err
			}
		}
		for _, id := range parts.Destroyed {
			n, err := exec(ctx, t, `UPDATE authorities SET state = 'destroyed', key_uri = '' WHERE id = $1 AND state IN ('revoked', 'retired')`, string(id))
			if err != nil {
				return err
			}
			if n == 0 {
				return conflict("authority %s is neither revoked nor retired", id)
			}
		}
		return nil
	})
}

// MoveAuthority stores state and key URI of an authority if its state is still expect; KindConflict otherwise.
func (s *Store) MoveAuthority(ctx context.Context, a bulkhead.Authority, expect bulkhead.AuthorityState, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "MoveAuthority", ev, func(t *tx) error {
		n, err := exec(ctx, t, `UPDATE authorities SET state = $3, key_uri = $4 WHERE id = $1 AND state = $2`, string(a.ID), string(expect), string(a.State), a.KeyURI)
		return t.moved(ctx, n, err, "authorities", "authority", string(a.ID), string(expect))
	})
}

// Standbys returns all stand-by certificates, by authority.
func (s *Store) Standbys(ctx context.Context) ([]bulkhead.Standby, error) {
	rows, err := remembered(s, ofStandbys, "standbys", func() ([]bulkhead.Standby, error) {
		return list(ctx, s.reader, func(r scanner) (x bulkhead.Standby, err error) {
			err = r.Scan(&x.Authority, &x.Under, bytesCol{&x.Certificate}, jsonCol{&x.Chain}, timeCol{&x.NotAfter}, timeCol{&x.AddedAt}, timeCol{&x.OfferedUntil})
			x.Chain = slices.Clip(x.Chain)
			return x, err
		}, `SELECT authority, under, certificate, chain, not_after, added_at, offered_until FROM standbys ORDER BY authority, added_at, digest`)
	})
	return slices.Clone(rows), s.fault("Standbys", err)
}

// PutStandby keeps a stand-by certificate; one that is there already is left as it is.
func (s *Store) PutStandby(ctx context.Context, x bulkhead.Standby, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "PutStandby", ev, func(t *tx) error { return t.putStandby(ctx, x) })
}

func (t *tx) putStandby(ctx context.Context, x bulkhead.Standby) error {
	_, err := exec(ctx, t, `INSERT INTO standbys (authority, digest, under, certificate, chain, not_after, added_at, offered_until)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`, string(x.Authority), hashArg(bulkhead.Digest(x.Certificate)),
		string(x.Under), blob(x.Certificate), jsonArg(x.Chain), unix(x.NotAfter), unix(x.AddedAt), unix(x.OfferedUntil))
	return err
}

// SwitchChain makes a stand-by the certificate that its authority serves, and lays the one that was served in its place:
// offered as an alternate until old.OfferedUntil. KindConflict when the authority's certificate is not old.Certificate any
// more, or there is no such stand-by; then nothing changed.
func (s *Store) SwitchChain(ctx context.Context, to, old bulkhead.Standby, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "SwitchChain", ev, func(t *tx) error {
		n, err := exec(ctx, t, `DELETE FROM standbys WHERE authority = $1 AND digest = $2`, string(to.Authority), hashArg(bulkhead.Digest(to.Certificate)))
		if err != nil {
			return err
		}
		if n == 0 {
			return conflict("authority %s has no such stand-by any more", to.Authority)
		}
		n, err = exec(ctx, t, `UPDATE authorities SET certificate = $3, chain = $4, parent = $5 WHERE id = $1 AND certificate = $2`,
			string(to.Authority), blob(old.Certificate), blob(to.Certificate), jsonArg(to.Chain), string(to.Under))
		if err != nil {
			return err
		}
		if n == 0 {
			return conflict("the certificate of authority %s was changed meanwhile", to.Authority)
		}
		return t.putStandby(ctx, old)
	})
}

// OfferStandby sets until when a stand-by is offered beside the chain that is served.
func (s *Store) OfferStandby(ctx context.Context, authority bulkhead.AuthorityID, certificate bulkhead.Hash, until time.Time, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "OfferStandby", ev, func(t *tx) error {
		n, err := exec(ctx, t, `UPDATE standbys SET offered_until = $3 WHERE authority = $1 AND digest = $2`, string(authority), hashArg(certificate), unix(until))
		if err == nil && n == 0 {
			err = conflict("authority %s has no such stand-by any more", authority)
		}
		return err
	})
}
