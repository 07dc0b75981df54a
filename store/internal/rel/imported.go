package rel

import (
	"context"
	"runtime"
	"sort"

	"golang.org/x/sync/errgroup"

	"bulkhead"
	"bulkhead/pki/tlog"
)

var revokeImported = statement{
	each: `UPDATE certificates SET state = 'revoked', revoked_at = $2, reason = $3, outcome_seq = $4 WHERE intent_seq = $1 AND state = 'issued'`,
	many: `UPDATE certificates c SET state = 'revoked', revoked_at = v.at, reason = v.reason, outcome_seq = v.outcome
		FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS v (seq, at, reason, outcome) WHERE c.intent_seq = v.seq AND c.state = 'issued'`,
}

// PrepareImport encodes certificates of foreign authorities and their leaves, which needs no transaction and can be done while another
// batch is written. commit writes them in one transaction, and the leaf about the whole. A
// certificate that is there already is left as it is, and is revoked when the item is and the row is not; nothing is ever
// taken back. The leaf of a revocation is the row's newest outcome: status that is published for the authority sees it as it sees
// a new certificate. commit's results have one entry for each item.
func (s *Store) PrepareImport(items []bulkhead.Imported) (commit func(ctx context.Context, ev ...bulkhead.Evidence) ([]bulkhead.ImportResult, error), err error) {
	m, err := newImports(items)
	if err != nil {
		return nil, s.fault("Import", err)
	}
	return func(ctx context.Context, ev ...bulkhead.Evidence) ([]bulkhead.ImportResult, error) {
		// Where rows are looked for one by one, they are not when the first and the last item are new: of the others the unique index
		// tells, and then nothing was written.
		for look := s.dialect.Arrays; ; look = true {
			results := make([]bulkhead.ImportResult, len(items))
			err := s.write(ctx, "Import", ev, func(t *tx) error {
				if err := t.lockEvidence(ctx); err != nil {
					return err
				}
				return t.imported(ctx, m, look, results)
			})
			if look || bulkhead.KindOf(err) != bulkhead.KindConflict {
				return results, err
			}
		}
	}, nil
}

// imports are items with what can be worked out before anybody waits for the transaction.
type imports struct {
	items               []bulkhead.Imported
	refs                []bulkhead.CertificateRef
	leaves, revocations [][]byte // revocations: nil where the item is not revoked
	digests             []bulkhead.Hash
	names               [][]string     // turned round, each once
	rows                foreignColumns // of those that are alike
	unlike              []bool
}

func newImports(items []bulkhead.Imported) (*imports, error) {
	n := len(items)
	m := &imports{items: items, refs: make([]bulkhead.CertificateRef, n), leaves: make([][]byte, n), revocations: make([][]byte, n), digests: make([]bulkhead.Hash, n),
		names: make([][]string, n), rows: newForeignColumns(n), unlike: make([]bool, n)}
	workers := 1
	if n > manyLeaves {
		workers = runtime.GOMAXPROCS(0)
	}
	var g errgroup.Group
	for w := range workers {
		g.Go(func() (err error) {
			for i := w; i < n && err == nil; i += workers {
				err = m.prepare(i)
			}
			return err
		})
	}
	return m, g.Wait()
}

func (m *imports) prepare(i int) (err error) {
	it := &m.items[i]
	m.refs[i], m.digests[i], m.names[i] = it.Certificate.CertificateRef, bulkhead.Digest(it.DER), reversedNames(it.Certificate.Names)
	if m.unlike[i] = !m.alike(i); !m.unlike[i] {
		m.rows.put(i, &it.Certificate, &m.digests[i])
	}
	if m.leaves[i], err = tlog.Marshal(it.Leaf); err == nil && it.Certificate.State == bulkhead.Revoked {
		m.revocations[i], err = tlog.Marshal(it.Revocation)
	}
	return err
}

// imported writes what is new. With look it looks for every item first; else it fails with a conflict when one is there that is
// neither the first nor the last, or twice among the items.
func (t *tx) imported(ctx context.Context, m *imports, look bool, results []bulkhead.ImportResult) error {
	refs := m.refs
	if n := len(refs); !look && n > 2 {
		refs = []bulkhead.CertificateRef{refs[0], refs[n-1]}
	}
	have, err := t.issueStates(ctx, refs)
	if err == nil && len(have) > 0 && len(refs) < len(m.refs) {
		look = true
		have, err = t.issueStates(ctx, m.refs)
	}
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
			if look {
				have[m.refs[i]] = &issueState{state: it.State, fingerprint: m.digests[i]}
			}
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
	seqs, err := t.append(ctx, some(column[[]byte](m.leaves), fresh))
	if err != nil {
		return err
	}
	var alike []int
	var numbers column[int64]
	var others certificateColumns
	var names nameColumns
	ders := make(column[[]byte], len(fresh))
	for k, i := range fresh {
		it := &m.items[i]
		if ders[k] = it.DER; m.unlike[i] {
			others.addAs(bulkhead.Reservation{Certificate: it.Certificate, Intent: it.Leaf}, seqs[k], it.Certificate.State, m.digests[i], seqs[k])
		} else {
			alike, numbers = append(alike, i), append(numbers, seqs[k])
		}
		for _, name := range m.names[i] {
			names.reversed, names.owners = append(names.reversed, name), append(names.owners, seqs[k])
		}
	}
	sort.Sort(&names)
	first := &m.items[0].Certificate
	if err := m.rows.insert(ctx, t, alike, numbers, first.Issuer, first.Profile); err != nil {
		return err
	}
	if err := t.batch(ctx, insertCertificate, others.values()...); err != nil {
		return err
	}
	if err := t.batch(ctx, insertName, names.reversed, names.owners); err != nil {
		return err
	}
	return t.batch(ctx, insertDER, column[int64](seqs), ders)
}
