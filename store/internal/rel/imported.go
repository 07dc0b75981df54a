package rel

import (
	"context"

	"bulkhead"
	"bulkhead/pki/tlog"
)

var revokeImported = `UPDATE certificates SET state = 'revoked', revoked_at = $2, reason = $3 WHERE intent_seq = $1 AND state = 'issued'`

// Import commits certificates of foreign authorities with their leaves in one transaction, and the leaf about the whole. A
// certificate that is there already is left as it is, and is revoked when the item is and the row is not; nothing is ever
// taken back. results has one entry for each item.
func (s *Store) Import(ctx context.Context, items []bulkhead.Imported, ev ...bulkhead.Evidence) (results []bulkhead.ImportResult, err error) {
	leaves := make([][]byte, len(items))
	for i, it := range items {
		if leaves[i], err = tlog.Marshal(it.Leaf); err != nil {
			return nil, s.fault("Import", err)
		}
	}
	err = s.write(ctx, "Import", ev, func(t *tx) error {
		if err := t.lockEvidence(ctx); err != nil {
			return err
		}
		results = make([]bulkhead.ImportResult, len(items))
		return t.imported(ctx, items, leaves, results)
	})
	return results, s.fault("Import", err)
}

func (t *tx) imported(ctx context.Context, items []bulkhead.Imported, leaves [][]byte, results []bulkhead.ImportResult) error {
	refs := make([]bulkhead.CertificateRef, len(items))
	for i, it := range items {
		refs[i] = it.Certificate.CertificateRef
	}
	have, err := t.issueStates(ctx, refs)
	if err != nil {
		return err
	}
	var fresh []bulkhead.Reservation
	var freshLeaves, revocations [][]byte
	var which []int
	seqs := map[int]int64{} // rows to revoke, by item
	for i, it := range items {
		c, known := have[refs[i]]
		switch {
		case !known:
			results[i] = bulkhead.ImportedNew
			fresh, freshLeaves, which = append(fresh, bulkhead.Reservation{Certificate: it.Certificate, Intent: it.Leaf}), append(freshLeaves, leaves[i]), append(which, i)
			have[refs[i]] = &issueState{state: it.Certificate.State, fingerprint: bulkhead.Digest(it.DER)}
		case c.fingerprint != bulkhead.Digest(it.DER):
			results[i] = bulkhead.ImportRefused
		case c.state == bulkhead.Issued && it.Certificate.State == bulkhead.Revoked && c.intentSeq > 0:
			results[i], seqs[i] = bulkhead.ImportedRevoked, c.intentSeq
		default:
			results[i] = bulkhead.ImportedKnown
		}
	}
	if err := t.importFresh(ctx, items, fresh, freshLeaves, which, seqs); err != nil {
		return err
	}
	for i := range items {
		seq, ok := seqs[i]
		if !ok {
			continue
		}
		leaf, err := tlog.Marshal(items[i].Revocation)
		if err != nil {
			return err
		}
		revocations = append(revocations, leaf)
		if _, err := exec(ctx, t, revokeImported, seq, unix(items[i].Certificate.RevokedAt), int64(items[i].Certificate.Reason)); err != nil {
			return err
		}
	}
	_, err = t.append(ctx, revocations)
	return err
}

// importFresh writes rows that are new, and adds those to be revoked to seqs.
func (t *tx) importFresh(ctx context.Context, items []bulkhead.Imported, fresh []bulkhead.Reservation, leaves [][]byte, which []int, seqs map[int]int64) error {
	if len(fresh) == 0 {
		return nil
	}
	numbers := make([]int64, len(fresh))
	if err := t.reserve(ctx, fresh, leaves, make([]error, len(fresh)), numbers); err != nil {
		return err
	}
	var rows, outcomes column[int64]
	var fingerprints, ders column[[]byte]
	for k, i := range which {
		rows, outcomes = append(rows, numbers[k]), append(outcomes, numbers[k])
		fingerprints, ders = append(fingerprints, hashArg(bulkhead.Digest(items[i].DER))), append(ders, items[i].DER)
		if items[i].Certificate.State == bulkhead.Revoked {
			seqs[i] = numbers[k]
		}
	}
	if err := t.batch(ctx, completeCertificate, rows, fingerprints, outcomes); err != nil {
		return err
	}
	return t.batch(ctx, insertDER, rows, ders)
}
