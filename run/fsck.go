package run

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/evidence"
	"bulkhead/pki/sct"
	"bulkhead/pki/tlog"
	"bulkhead/status"
)

// Fsck checks the whole state of a data directory: evidence rows against tiles, certificates against evidence, and
// what is published against the record. It opens no key and may run beside the house; what is on its way between the
// parts for less than a few seconds is then no finding.
func Fsck(ctx context.Context, dir string) ([]console.Finding, error) {
	cfg, err := LoadConfig(dir)
	if err != nil {
		return nil, err
	}
	store, err := OpenStore(ctx, dir, cfg)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	f := &fsck{store: store}
	for _, check := range []func(context.Context, string, Config) error{f.evidence, f.certificates, f.status} {
		if err := check(ctx, dir, cfg); err != nil {
			return f.out, err
		}
	}
	return f.out, nil
}

type fsck struct {
	store  Store
	out    []console.Finding
	leaves map[int64][]bulkhead.EvidenceRow // by block
	order  []int64                          // of the blocks, as they were read
}

func (f *fsck) add(check, level, format string, args ...any) {
	x := console.Finding{Check: check, Level: level, Detail: fmt.Sprintf(format, args...)}
	if level != levelOK {
		x.Next = "keep the data directory as it is and open an incident; do not repair by hand"
	}
	f.out = append(f.out, x)
}

func (f *fsck) evidence(ctx context.Context, dir string, _ Config) error {
	v, err := readVerifier(filepath.Join(dir, evidenceKey+".pub"))
	if err != nil {
		return err
	}
	r, err := evidence.Check(ctx, evidence.CheckConfig{Rows: f.store, Dir: filepath.Join(dir, evidenceDir), Verifier: v})
	if err != nil {
		return err
	}
	for _, x := range r.Findings {
		where := "the whole log"
		if x.Seq > 0 {
			where = fmt.Sprintf("row %d", x.Seq)
		}
		f.add("evidence/"+x.Rule, levelFailure, "%s: %s", where, x.Message)
	}
	if r.Omitted > 0 {
		f.add("evidence", levelFailure, "%d more findings are not shown", r.Omitted)
	}
	if len(r.Findings) == 0 {
		f.add("evidence", levelOK, "%d rows chain, %d are covered by the checkpoint, intents stand before outcomes, %d keys signed", r.Rows, r.Checkpoint.Size, len(r.Keys))
	}
	return nil
}

// certificates holds every row against its leaves: a certificate that anybody may have received is in evidence. Rows come in one
// scan in the order of their intents, and leaves in blocks.
func (f *fsck) certificates(ctx context.Context, _ string, _ Config) error {
	counts, err := f.store.Counts(ctx)
	if err != nil {
		return err
	}
	n, bad := 0, 0
	for c, err := range f.store.SignedRange(ctx, slices.Sorted(maps.Keys(counts)), 0, 0) {
		if err != nil {
			return err
		}
		n++
		if err := f.certificate(ctx, c); err != nil {
			bad++
			f.add("certificate", levelFailure, "%s: %s", c.CertificateRef, err)
		}
	}
	if bad == 0 {
		f.add("certificate", levelOK, "%d rows agree with their evidence", n)
	}
	return nil
}

func (f *fsck) certificate(ctx context.Context, c *bulkhead.SignedRow) error {
	intent, err := f.leaf(ctx, c.IntentSeq)
	if err != nil {
		return fmt.Errorf("intent: %w", err)
	}
	if intent.Kind == bulkhead.EvImportedCertificate { // of a foreign authority: it has one leaf, which names it
		if intent.Authority != c.Issuer || intent.Serial != c.Serial || intent.KeyHash != c.KeyHash || intent.Digest != c.Sum || c.Fingerprint != intent.Digest {
			return fmt.Errorf("leaf %d is not its import", c.IntentSeq-1)
		}
		return nil
	}
	if intent.Kind != bulkhead.EvCertificateIntent || intent.Authority != c.Issuer || intent.Serial != c.Serial || intent.KeyHash != c.KeyHash {
		return fmt.Errorf("leaf %d is not its intent", c.IntentSeq-1)
	}
	if c.State != bulkhead.Issued && c.State != bulkhead.Revoked {
		return nil
	}
	outcome, err := f.leaf(ctx, c.OutcomeSeq)
	if err != nil {
		return fmt.Errorf("outcome: %w", err)
	}
	switch {
	case outcome.Kind != bulkhead.EvCertificateOutcome || outcome.Serial != c.Serial || outcome.Authority != c.Issuer:
		return fmt.Errorf("leaf %d is not its outcome", c.OutcomeSeq-1)
	case outcome.Link != intent.Digest:
		return fmt.Errorf("its outcome does not follow its intent")
	case len(c.DER) == 0 || c.Fingerprint != c.Sum:
		return fmt.Errorf("the stored certificate is not the one of its row")
	case c.Fingerprint != outcome.Digest:
		return f.logged(ctx, c, outcome)
	}
	return nil
}

// logged: a certificate with timestamps follows a precertificate, which is the one in evidence and differs from it in
// nothing else.
func (f *fsck) logged(ctx context.Context, c *bulkhead.SignedRow, outcome bulkhead.Evidence) error {
	other := fmt.Errorf("the stored certificate is not the one in evidence")
	pre, err := f.store.Precertificate(ctx, c.CertificateRef)
	if bulkhead.KindOf(err) == bulkhead.KindNotFound {
		return other
	}
	if err != nil {
		return err
	}
	p, err1 := x509.ParseCertificate(pre)
	x, err2 := x509.ParseCertificate(c.DER)
	if err1 != nil || err2 != nil || bulkhead.Digest(pre) != outcome.Digest {
		return other
	}
	a, poisoned, err1 := sct.Bare(p.RawTBSCertificate)
	b, listed, err2 := sct.Bare(x.RawTBSCertificate)
	if err1 != nil || err2 != nil || !poisoned || !listed || !bytes.Equal(a, b) {
		return fmt.Errorf("the certificate differs from its precertificate in more than the timestamps")
	}
	return nil
}

// Leaves are read in blocks, of which the last ones are kept: rows come in the order of their intents, and an outcome is not far from
// its intent as a rule.
const leafBlock, leafBlocks = 1024, 16

func (f *fsck) leaf(ctx context.Context, seq int64) (bulkhead.Evidence, error) {
	if seq <= 0 {
		return bulkhead.Evidence{}, fmt.Errorf("there is no row %d", seq)
	}
	at := (seq - 1) / leafBlock
	rows, held := f.leaves[at]
	if !held {
		var err error
		if rows, err = f.store.EvidenceAfter(ctx, at*leafBlock, leafBlock); err != nil {
			return bulkhead.Evidence{}, err
		}
		if f.leaves == nil {
			f.leaves = map[int64][]bulkhead.EvidenceRow{}
		}
		if f.order = append(f.order, at); len(f.order) > leafBlocks {
			delete(f.leaves, f.order[0])
			f.order = f.order[1:]
		}
		f.leaves[at] = rows
	}
	i, found := slices.BinarySearchFunc(rows, seq, func(r bulkhead.EvidenceRow, seq int64) int { return cmp.Compare(r.Seq, seq) })
	if !found {
		return bulkhead.Evidence{}, fmt.Errorf("there is no row %d", seq)
	}
	return tlog.Parse(rows[i].Leaf)
}

func (f *fsck) status(ctx context.Context, dir string, cfg Config) error {
	v, err := readVerifier(filepath.Join(dir, headPub))
	if err != nil {
		return err
	}
	objects, _, err := openPublished(ctx, dir, cfg)
	if err != nil {
		return err
	}
	found, n, err := status.Check(ctx, status.CheckConfig{Store: f.store, Objects: objects, HeadVerifier: v, Now: time.Now})
	if err != nil {
		return err
	}
	for _, d := range found {
		f.add("status/"+d.Rule, levelFailure, "%s: %s", d.Ref, d.Message)
	}
	if len(found) == 0 {
		f.add("status", levelOK, "%d answers and every CRL agree with the record", n)
	}
	return nil
}
