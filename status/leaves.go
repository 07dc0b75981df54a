package status

import (
	"time"

	"bulkhead"
	"bulkhead/pki/tlog"
)

// leafEach is up to how many items each certificate of a change that revokes has a leaf of its own. Of a larger one a
// leaf names as many certificates as fit: it says the same of each of them, and a million cost ten thousand rows of the
// record in place of a million.
const leafEach = verifyAll

// activationLeaves are the leaves of the commit: the switch itself, and what became of each certificate.
func (s *Service) activationLeaves(st *staging, rec bulkhead.HeadRecord) []bulkhead.Evidence {
	c, now := st.change, s.cfg.Now().UTC()
	evs := []bulkhead.Evidence{{Kind: bulkhead.EvChangeActivated, At: now, Actor: c.Actor, Ref: c.ID, Digest: c.PreviewHash, Count: int64(rec.Sequence), Detail: c.Why}}
	if c.TakesBack() {
		evs = append(evs, bulkhead.Evidence{Kind: bulkhead.EvTakenBack, At: now, Actor: c.Actor, Ref: c.Undoes, Count: int64(c.Count), Detail: "taken back by change " + c.ID + ": " + c.Why})
	}
	for _, u := range st.issuers {
		switch {
		case c.TakesBack():
			for row := range u.rows.All() {
				evs = append(evs, restoration(c, row, now))
			}
		case c.Count <= leafEach:
			for row := range u.rows.All() {
				evs = append(evs, bulkhead.Evidence{Kind: bulkhead.EvRevocation, At: now, Actor: c.Actor, Authority: row.Issuer, Serial: row.Serial, Ref: c.ID, Detail: said(row.Item.Reason, row.Item.RevokedAt)})
			}
		default:
			evs = append(evs, revocations(c, u, now)...)
		}
	}
	return evs
}

// revocations are leaves that each name many certificates, in serial order, with the same reason and time.
func revocations(c bulkhead.Change, u affected, now time.Time) []bulkhead.Evidence {
	var evs []bulkhead.Evidence
	var list tlog.Revocations
	flush := func() {
		if list.Len() > 0 {
			evs = append(evs, bulkhead.Evidence{Kind: bulkhead.EvRevocations, At: now, Actor: c.Actor, Authority: u.authority.ID, Ref: c.ID, Count: int64(list.Len()), Detail: list.Detail()})
		}
	}
	for row := range u.rows.All() {
		if !list.Add(row.Serial, row.Item.Reason, row.Item.RevokedAt) {
			flush()
			list = tlog.Revocations{}
			list.Add(row.Serial, row.Item.Reason, row.Item.RevokedAt)
		}
	}
	flush()
	return evs
}

func restoration(c bulkhead.Change, row bulkhead.AffectedStatus, now time.Time) bulkhead.Evidence {
	ev := bulkhead.Evidence{Kind: bulkhead.EvRestoration, At: now, Actor: c.Actor, Authority: row.Issuer, Serial: row.Serial, Ref: c.ID,
		Detail: "the record says good as before; a revoked answer or CRL entry was public"}
	if row.State == bulkhead.Revoked {
		ev.Detail = "said revoked, " + said(row.Reason, row.RevokedAt) + "; says good again"
	}
	if !row.Item.WasRevokedAt.IsZero() {
		ev.Detail = "said revoked, " + said(row.Reason, row.RevokedAt) + "; says " + said(row.Item.WasReason, row.Item.WasRevokedAt) + " again"
	}
	return ev
}
