package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"bulkhead"
	"bulkhead/evidence"
	"bulkhead/pki/graph"
	"bulkhead/proof"
	"bulkhead/status"
)

// ProveOptions say what is proved.
type ProveOptions struct {
	Dir          string
	Issuer       bulkhead.AuthorityID // "" with All
	All          bool
	Certificates string // folder or file with certificates from outside; "" for none
	Now          time.Time

	clock func() time.Time // of a rehearsal, whose days pass in seconds; nil is the machine's
}

// Prove reconciles what this house keeps about its signatures and gives the six negatives. It opens no key, takes no
// lock and may run beside the house, on either engine.
func Prove(ctx context.Context, o ProveOptions) (proof.Report, error) {
	none := proof.Report{}
	if o.All == (o.Issuer != "") {
		return none, bulkhead.NewFault(bulkhead.KindUsage, "name one issuer, or all").WithHint("bulkhead audit prove --all")
	}
	cfg, err := LoadConfig(o.Dir)
	if err != nil {
		return none, err
	}
	store, err := OpenStore(ctx, o.Dir, cfg)
	if err != nil {
		return none, err
	}
	defer store.Close()
	return reconcile(ctx, cfg, store, o, nil)
}

// reconcile holds record, log and what is public against each other in one pass over each. early is the log when it was proved
// before; whenever that does not settle it, the log is read again together with the rows. Optional.
func reconcile(ctx context.Context, cfg Config, store Store, o ProveOptions, early *ahead) (proof.Report, error) {
	none := proof.Report{}
	authorities, err := store.Authorities(ctx)
	if err != nil {
		return none, err
	}
	issuers, err := chosen(authorities, o)
	if err != nil {
		return none, err
	}
	// The counters first: the leaves that they stand for are then all read.
	head, counters, err := store.SignatureCounters(ctx)
	if err != nil {
		return none, err
	}
	proved, book, err := early.wait()
	if err != nil {
		return none, err
	}
	if proved == nil || !book.Stand(head, counters) {
		proved, book = nil, proof.NewBook(head, counters)
	}
	if o.clock == nil {
		o.clock = time.Now
	}
	pub := &published{issuers: issuers, now: o.clock}
	var out proof.Outside
	g, both := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		out, err = proveLog(both, o.Dir, cfg, store, proved, book)
		if errors.Is(err, evidence.ErrAnew) {
			book = proof.NewBook(head, counters)
			out, err = proveLog(both, o.Dir, cfg, store, nil, book)
		}
		return err
	})
	g.Go(func() error { return pub.open(both, o.Dir, cfg, store) })
	if err := g.Wait(); err != nil {
		return none, err
	}
	if out.CT, err = looked(ctx, cfg, store); err != nil {
		return none, err
	}
	if o.Certificates != "" {
		if err := bring(ctx, o.Certificates, &out); err != nil {
			return none, err
		}
	}
	return proof.Prove(ctx, proof.Config{Store: store, Book: book, Authorities: authorities, Issuers: issuers, All: o.All, House: cfg.House, Now: o.Now,
		Seen: pub.compared.Row, Published: pub.findings}, out)
}

// EvidenceScan is the record of evidence as whoever compares all of it reads it.
type EvidenceScan interface {
	// EvidenceRange goes over the rows with a sequence above seq and not above through (0 is the end), in order. A row and its leaf are
	// good until the next one.
	EvidenceRange(ctx context.Context, seq, through int64) iter.Seq2[*bulkhead.EvidenceRow, error]
}

func chosen(authorities []bulkhead.Authority, o ProveOptions) ([]bulkhead.AuthorityID, error) {
	var ids []bulkhead.AuthorityID
	for _, a := range authorities {
		if o.All || a.ID == o.Issuer {
			ids = append(ids, a.ID)
		}
	}
	if len(ids) == 0 {
		return nil, bulkhead.Faultf(bulkhead.KindNotFound, "there is no authority %s", o.Issuer).WithHint("bulkhead hierarchy show")
	}
	return ids, nil
}

// proveLog compares rows, tiles and checkpoint, and fills the book on the way.
func proveLog(ctx context.Context, dir string, cfg Config, store Store, proved *evidence.Proved, book *proof.Book) (proof.Outside, error) {
	v, err := readVerifier(filepath.Join(dir, evidenceKey+".pub"))
	if err != nil {
		return proof.Outside{}, err
	}
	r, err := evidence.Check(ctx, evidence.CheckConfig{Rows: store, Dir: filepath.Join(dir, evidenceDir), Verifier: v, Range: store.EvidenceRange, Visit: book.Add,
		Proved: proved})
	if err != nil {
		return proof.Outside{}, err
	}
	out := proof.Outside{Log: proof.Checkpoint{Origin: r.Checkpoint.Origin, Size: r.Checkpoint.Size, Root: r.Checkpoint.Root}, Rows: r.Rows, Uncovered: r.Uncovered}
	for _, f := range r.Findings {
		x := proof.Finding{Rule: "evidence/" + f.Rule, Message: f.Message}
		if f.Seq > 0 {
			leaf := f.Seq - 1
			x.Leaf = &leaf
		}
		out.LogFaults = append(out.LogFaults, x)
	}
	return out, proveWitnesses(dir, cfg, v, &out)
}

// published compares what is public with the rows that the proof reads.
type published struct {
	issuers  []bulkhead.AuthorityID
	now      func() time.Time
	cfg      status.CheckConfig
	compared *status.Comparison
}

func (p *published) open(ctx context.Context, dir string, cfg Config, store Store) error {
	v, err := readVerifier(filepath.Join(dir, headPub))
	if err != nil {
		return err
	}
	objects, _, err := openPublished(ctx, dir, cfg)
	if err != nil {
		return err
	}
	p.cfg = status.CheckConfig{Store: store, Objects: objects, HeadVerifier: v, Now: p.now, Issuers: p.issuers}
	p.compared, err = status.Compare(ctx, p.cfg)
	return err
}

// findings are the disagreements that a second look finds again: a house that runs goes on while it is looked at, and rows
// that were read later than the head need not agree with it.
func (p *published) findings(ctx context.Context) ([]proof.Finding, int64, error) {
	found, answers := p.compared.Finish()
	if len(found) > 0 {
		again, _, err := status.Check(ctx, p.cfg)
		if err != nil {
			return nil, int64(answers), err
		}
		found = status.Standing(found, again)
	}
	var out []proof.Finding
	for _, d := range found {
		x := proof.Finding{Rule: "published/" + d.Rule, Issuer: d.Ref.Issuer, Message: fmt.Sprintf("%s: %s", d.Ref, d.Message)}
		if !d.Ref.Serial.IsZero() {
			x.Serial = d.Ref.Serial.String()
		}
		out = append(out, x)
	}
	return out, int64(answers), nil
}

// bring reads certificates from outside, as the audit of a hierarchy does.
func bring(ctx context.Context, path string, out *proof.Outside) error {
	r := &auditReader{ctx: ctx}
	if err := r.path(path); err != nil {
		return err
	}
	for _, c := range r.found {
		out.Brought = append(out.Brought, proof.Brought{Source: sourceName(c.Source), DER: c.Raw})
	}
	for _, u := range r.unparsed {
		out.Unread = append(out.Unread, sourceName(u.Source)+": "+u.Reason)
	}
	if len(r.found) == 0 && len(r.unparsed) == 0 {
		return bulkhead.Faultf(bulkhead.KindNotFound, "%s holds no certificate", path).WithHint("name a folder with PEM or DER files").WithCause(fs.ErrNotExist)
	}
	return nil
}

func sourceName(s graph.Source) string { return fmt.Sprintf("%s #%d", s.File, s.Index) }
