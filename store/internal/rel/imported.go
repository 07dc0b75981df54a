package rel

import (
	"context"
	"runtime"

	"golang.org/x/sync/errgroup"

	"bulkhead"
	"bulkhead/pki/tlog"
)

var revokeImported = statement{
	each: `UPDATE certificates SET state = 'revoked', revoked_at = $2, reason = $3, outcome_seq = $4 WHERE intent_seq = $1 AND state = 'issued'`,
	many: `UPDATE certificates c SET state = 'revoked', revoked_at = v.at, reason = v.reason, outcome_seq = v.outcome
		FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS v (seq, at, reason, outcome) WHERE c.intent_seq = v.seq AND c.state = 'issued'`,
}

// Import commits certificates of foreign authorities with their leaves in one transaction, and the leaf about the whole. A
// certificate that is there already is left as it is, and is revoked when the item is and the row is not; nothing is ever
// taken back. The leaf of a revocation is the row's newest outcome: status that is published for the authority sees it as it sees
// a new certificate. results has one entry for each item.
func (s *Store) Import(ctx context.Context, items []bulkhead.Imported, ev ...bulkhead.Evidence) (results []bulkhead.ImportResult, err error) {
	set, err := newImports(items)
	if err != nil {
		return nil, s.fault("Import", err)
	}
	err = s.write(ctx, "Import", ev, func(t *tx) error {
		if err := t.lockEvidence(ctx); err != nil {
			return err
		}
		results = make([]bulkhead.ImportResult, len(items))
		return t.imported(ctx, set, results)
	})
	return results, s.fault("Import", err)
}

// imports are items with what can be worked out before anybody waits for the transaction.
type imports struct {
	items               []bulkhead.Imported
	refs                []bulkhead.CertificateRef
	leaves, revocations [][]byte // revocations: nil where the item is not revoked
	digests             []bulkhead.Hash
}

func newImports(items []bulkhead.Imported) (*imports, error) {
	n := len(items)
	m := &imports{items: items, refs: make([]bulkhead.CertificateRef, n), leaves: make([][]byte, n), revocations: make([][]byte, n), digests: make([]bulkhead.Hash, n)}
	workers := 1
	if n > manyLeaves {
		workers = runtime.GOMAXPROCS(0)
	}
	var g errgroup.Group
	for w := range workers {
		g.Go(func() (err error) {
			for i := w; i < n && err == nil; i += workers {
				it := &items[i]
				m.refs[i], m.digests[i] = it.Certificate.CertificateRef, bulkhead.Digest(it.DER)
				if m.leaves[i], err = tlog.Marshal(it.Leaf); err == nil && it.Certificate.State == bulkhead.Revoked {
					m.revocations[i], err = tlog.Marshal(it.Revocation)
				}
			}
			return err
		})
	}
	return m, g.Wait()
}

func (t *tx) imported(ctx context.Context, m *imports, results []bulkhead.ImportResult) error {
	have, err := t.issueStates(ctx, m.refs)
	if err != nil {
		return err
	}
	var fresh []int // items that are new
	var seqs, times, reasons column[int64]
	var revocations [][]byte
	for i := range m.items {
		it := &m.items[i].Certificate
		c, known := have[m.refs[i]]
		switch {
		case !known:
			results[i], fresh = bulkhead.ImportedNew, append(fresh, i)
			have[m.refs[i]] = &issueState{state: it.State, fingerprint: m.digests[i]}
		case c.fingerprint != m.digests[i]:
			results[i] = bulkhead.ImportRefused
		case c.state == bulkhead.Issued && it.State == bulkhead.Revoked && c.intentSeq > 0:
			results[i], c.state = bulkhead.ImportedRevoked, bulkhead.Revoked
			seqs, times, reasons = append(seqs, c.intentSeq), append(times, unix(it.RevokedAt)), append(reasons, int64(it.Reason))
			revocations = append(revocations, m.revocations[i])
		default:
			results[i] = bulkhead.ImportedKnown
		}
	}
	if err := t.importFresh(ctx, m, fresh); err != nil {
		return err
	}
	for _, i := range fresh {
		if leaf := m.revocations[i]; leaf != nil {
			revocations = append(revocations, leaf)
		}
	}
	outcomes, err := t.append(ctx, revocations)
	if err != nil {
		return err
	}
	return t.batch(ctx, revokeImported, seqs, times, reasons, column[int64](outcomes[:len(seqs)]))
}

// importFresh writes the rows of new certificates as they end: the leaf is intent and outcome in one, and a certificate that
// comes revoked was never good here.
func (t *tx) importFresh(ctx context.Context, m *imports, fresh []int) error {
	if len(fresh) == 0 {
		return nil
	}
	leaves := make([][]byte, len(fresh))
	for k, i := range fresh {
		leaves[k] = m.leaves[i]
	}
	seqs, err := t.append(ctx, leaves)
	if err != nil {
		return err
	}
	var rows certificateColumns
	var names nameColumns
	ders := make(column[[]byte], len(fresh))
	for k, i := range fresh {
		it := &m.items[i]
		rows.addAs(bulkhead.Reservation{Certificate: it.Certificate, Intent: it.Leaf}, seqs[k], it.Certificate.State, m.digests[i], seqs[k])
		names.add(it.Certificate.Names, seqs[k])
		ders[k] = it.DER
	}
	if err := t.batch(ctx, insertCertificate, rows.values()...); err != nil {
		return err
	}
	if err := t.batch(ctx, insertName, names.reversed, names.owners); err != nil {
		return err
	}
	return t.batch(ctx, insertDER, column[int64](seqs), ders)
}
