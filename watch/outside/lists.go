package outside

import (
	"context"

	"bulkhead"
	"bulkhead/pki/crl"
	"bulkhead/pki/pack"
)

// lists answers whether certificates stand on the published CRLs. Each CRL is read once for all that is asked of it in a
// step, and nothing of it is kept but the answers: memory does not grow with the number of entries.
type lists struct {
	view *View
	on   map[bulkhead.CertificateRef]bool // present for what was asked; true when it stands on its CRL
}

func newLists(v *View) *lists { return &lists{view: v, on: map[bulkhead.CertificateRef]bool{}} }

// want reads the CRLs of the shards in which the rows are.
func (l *lists) want(ctx context.Context, id bulkhead.AuthorityID, rows map[bulkhead.Serial]bulkhead.Status) error {
	is := l.view.Issuers[id]
	if is == nil {
		return nil
	}
	shards := map[int]pack.CRLRef{}
	for serial, st := range rows {
		ref := bulkhead.CertificateRef{Issuer: id, Serial: serial}
		if _, known := l.on[ref]; known {
			continue
		}
		l.on[ref] = false
		if c, ok := is.crl(st.Shard); ok {
			shards[st.Shard] = c
		}
	}
	for _, c := range shards {
		der, err := l.view.ReadCRL(ctx, c)
		if err != nil {
			return err
		}
		_, err = crl.Parse(der, func(e crl.Entry) error {
			if st, asked := rows[e.Serial]; asked && st.Shard == c.Shard {
				l.on[bulkhead.CertificateRef{Issuer: id, Serial: e.Serial}] = true
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *lists) holds(ref bulkhead.CertificateRef) bool { return l.on[ref] }
