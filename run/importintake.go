package run

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"time"

	"golang.org/x/sync/errgroup"

	"bulkhead"
	"bulkhead/importer"
)

// Limits of an import.
const (
	maxImportFile = 256 << 20
	importBatch   = 8192 // certificates a transaction: others who append evidence wait for it, so it ends within half a second
	importLeast   = 2048 // and so many are not kept waiting for more when nobody is at a batch
	importChunk   = 64   // pieces that a worker is handed at once
	importGC      = 300  // percent by which memory may grow between collections, in place of 100: what is in use is little, and what is made is much
	importAhead   = 8    // chunks a worker that are read ahead
)

// intake is one import under way. What lists say is read first. Then one goroutine reads and takes apart, as many as there
// are processors judge, one keeps order and writes while the next batch is judged. Memory is bounded by chunks and batches, and
// by what the set keeps of each certificate.
type intake struct {
	o     ImportOptions
	id    string
	set   *importer.Set
	sum   hash.Hash
	store Store
	r     ImportReport

	state    bulkhead.AuthorityState  // before this import
	delegate *bulkhead.Delegate       // that was given
	recorded map[bulkhead.Serial]bool // listed, not in the input, and in the record

	over        map[bulkhead.Serial]*importer.CRL // holds that a newer list ended
	compromised map[bulkhead.Hash]bulkhead.Serial // keys that the authority revoked for keyCompromise, with one serial each
}

func newIntake(o ImportOptions, ca *x509.Certificate) (*intake, error) {
	raw := make([]byte, 8)
	if _, err := rand.Read(raw); err != nil {
		return nil, fmt.Errorf("random id: %w", err)
	}
	return &intake{o: o, id: "import-" + hex.EncodeToString(raw), set: importer.New(ca), sum: sha256.New(), compromised: map[bulkhead.Hash]bulkhead.Serial{}}, nil
}

// lists takes what index.txt, CRLs and lists say.
func (im *intake) lists(ctx context.Context) error {
	if im.o.Index != "" {
		f, err := os.Open(im.o.Index)
		if err != nil {
			return bulkhead.Faultf(bulkhead.KindUsage, "--index: %s cannot be read", im.o.Index).WithCause(err)
		}
		defer f.Close()
		all := io.TeeReader(f, im.sum)
		im.set.Index(im.o.Index, all)
		if _, err := io.Copy(io.Discard, all); err != nil { // what follows a line that cannot be read
			return bulkhead.Faultf(bulkhead.KindUsage, "--index: %s cannot be read", im.o.Index).WithCause(err)
		}
	}
	for _, source := range im.o.Sources {
		err := source.Lists(ctx, func(p importer.Piece) {
			j := im.set.Judge(p)
			im.set.TakeList(j)
			im.set.Take(j)
			im.hashPiece(p)
		})
		if err != nil {
			return err
		}
	}
	return im.files(ctx, func(path string) error {
		body, err := readImport(path)
		if err == nil && importer.HasList(body) {
			importer.Read(path, body, func(p importer.Piece) { im.set.TakeList(im.set.Judge(p)) })
		}
		return nil // what cannot be read is named when certificates are taken
	}, nil)
}

// files calls each for every file of the paths, in order, and bad for one that the file system does not show.
func (im *intake) files(ctx context.Context, each func(path string) error, bad func(path string)) error {
	for _, p := range im.o.Paths {
		err := filepath.WalkDir(p, func(path string, e fs.DirEntry, err error) error {
			if err != nil || ctx.Err() != nil {
				if path == p || ctx.Err() != nil {
					return bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be read", path).WithCause(err)
				}
				if bad != nil {
					bad(path)
				}
				return nil
			}
			if e.IsDir() {
				return nil
			}
			return each(path)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func readImport(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxImportFile) {
		err = fmt.Errorf("no plain file, or longer than %d octets", maxImportFile)
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// chunk is some pieces on their way: judged when done is closed.
type chunk struct {
	pieces []importer.Piece
	judged []importer.Judged
	items  []bulkhead.Imported // of those that are certificates
	done   chan struct{}
}

// run takes the certificates and writes them.
func (im *intake) run(ctx context.Context, chain [][]byte) (ImportReport, error) {
	im.r = ImportReport{ID: im.id, DryRun: im.o.DryRun, Authority: im.o.Authority, Exposed: []ExposedKey{}}
	if err := im.authority(ctx, chain, im.id); err != nil {
		return im.r, err
	}
	if err := im.endHolds(ctx); err != nil {
		return im.r, err
	}
	g, ctx := errgroup.WithContext(ctx)
	workers := max(1, runtime.GOMAXPROCS(0)-1) // the writer has one processor to itself: the others wait for it in the end
	work, order, batches, ready := make(chan *chunk, workers*importAhead), make(chan *chunk, workers*importAhead), make(chan []bulkhead.Imported), make(chan encoded)
	g.Go(func() error { defer close(work); defer close(order); return im.read(ctx, work, order) })
	for range workers {
		g.Go(func() error { im.judge(work); return nil })
	}
	g.Go(func() error { defer close(batches); return im.take(ctx, order, batches) })
	g.Go(func() error { defer close(ready); return im.prepare(ctx, batches, ready) })
	g.Go(func() error { return im.write(ctx, ready) })
	if err := g.Wait(); err != nil {
		return im.r, err
	}
	ctx = context.WithoutCancel(ctx) // that of the group has ended
	if err := im.known(ctx); err != nil {
		return im.r, err
	}
	if err := im.restate(ctx); err != nil {
		return im.r, err
	}
	if err := im.block(ctx); err != nil {
		return im.r, err
	}
	if err := im.serve(ctx); err != nil {
		return im.r, err
	}
	return im.finish(ctx)
}

// read reads and takes apart, chunk by chunk.
func (im *intake) read(ctx context.Context, work, order chan<- *chunk) error {
	c := &chunk{done: make(chan struct{})}
	send := func() error {
		for _, to := range []chan<- *chunk{work, order} {
			select {
			case to <- c:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		c = &chunk{done: make(chan struct{})}
		return nil
	}
	var full error
	emit := func(p importer.Piece) {
		if c.pieces = append(c.pieces, p); len(c.pieces) >= importChunk && full == nil {
			full = send()
		}
	}
	err := im.files(ctx, func(path string) error {
		body, err := readImport(path)
		if err != nil {
			emit(importer.Piece{File: path, Line: 1, Problem: "it cannot be read: " + err.Error()})
			return full
		}
		_, _ = im.sum.Write(body)
		importer.Read(path, body, emit)
		return full
	}, func(path string) { emit(importer.Piece{File: path, Line: 1, Problem: "it cannot be read"}) })
	for _, source := range im.o.Sources {
		if err != nil {
			return err
		}
		err = source.Certificates(ctx, func(p importer.Piece) {
			im.hashPiece(p)
			emit(p)
		})
		err = cmp.Or(full, err)
	}
	if err != nil {
		return err
	}
	return send()
}

// hashPiece puts a piece of a database into the digest over the sources: the bytes of its files say less.
func (im *intake) hashPiece(p importer.Piece) {
	fmt.Fprintf(im.sum, "%x %s %d %d %s\n", p.DER, p.Serial, p.RevokedAt.Unix(), p.Reason, p.Problem)
}

// judge judges chunks: what takes the time.
func (im *intake) judge(work <-chan *chunk) {
	for c := range work {
		c.judged, c.items = im.set.JudgeAll(c.pieces), make([]bulkhead.Imported, len(c.pieces))
		for i := range c.judged {
			if j := &c.judged[i]; j.Certificate != nil {
				c.items[i] = im.item(j.Certificate)
				j.Certificate.Certificate = nil // what was taken from it is enough, and a parsed one is large
			}
		}
		c.pieces = nil
		close(c.done)
	}
}

// take keeps the order of the input: which of two certificates with one serial is taken does not depend on who was faster.
func (im *intake) take(ctx context.Context, order <-chan *chunk, batches chan<- []bulkhead.Imported) error {
	batch := make([]bulkhead.Imported, 0, importLeast)
	send := func() error {
		select {
		case batches <- batch:
			batch = make([]bulkhead.Imported, 0, importLeast)
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for c := range order {
		select {
		case <-c.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		for i, j := range c.judged {
			if !im.set.Take(j) {
				continue
			}
			if batch = append(batch, c.items[i]); len(batch) == importBatch {
				if err := send(); err != nil {
					return err
				}
			}
		}
		if len(batch) >= importLeast {
			select {
			case batches <- batch:
				batch = make([]bulkhead.Imported, 0, importLeast)
			default: // the one before is not written yet
			}
		}
	}
	if len(batch) == 0 {
		return nil
	}
	return send()
}

// encoded is some items whose rows and leaves are encoded.
type encoded struct {
	items  []bulkhead.Imported
	commit func(ctx context.Context, ev ...bulkhead.Evidence) ([]bulkhead.ImportResult, error)
}

// prepare encodes the next batch while one is written.
func (im *intake) prepare(ctx context.Context, batches <-chan []bulkhead.Imported, ready chan<- encoded) error {
	for items := range batches {
		b, err := im.prepared(items)
		if err != nil {
			return err
		}
		select {
		case ready <- b:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// prepared is a batch that can be written, or of which can be looked what writing it would do.
func (im *intake) prepared(items []bulkhead.Imported) (b encoded, err error) {
	if b.items = items; im.o.DryRun {
		b.commit = func(ctx context.Context, _ ...bulkhead.Evidence) ([]bulkhead.ImportResult, error) {
			return im.would(ctx, items)
		}
		return b, nil
	}
	b.commit, err = im.store.PrepareImport(items)
	return b, err
}

// write writes batches, each in a transaction.
func (im *intake) write(ctx context.Context, ready <-chan encoded) error {
	for b := range ready {
		if err := im.writeBatch(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

func (im *intake) writeBatch(ctx context.Context, b encoded) error {
	results, err := b.commit(ctx)
	if err != nil {
		return err
	}
	im.r.count(b.items, results)
	im.note(b.items)
	return nil
}

// known takes the revocations of certificates that the record has and the input has not: a new CRL alone says enough.
func (im *intake) known(ctx context.Context) error {
	im.recorded = map[bulkhead.Serial]bool{}
	for page := range slices.Chunk(im.set.Missing(), importBatch) {
		rows, err := im.store.CertificatesBySerial(ctx, im.o.Authority, page)
		if err != nil {
			return err
		}
		var items []bulkhead.Imported
		for _, row := range rows {
			im.recorded[row.Serial] = true
			if _, revoked := im.set.Revoked[row.Serial]; !revoked || im.over[row.Serial] != nil || row.State != bulkhead.Issued {
				continue
			}
			_, der, err := im.store.Certificate(ctx, row.CertificateRef)
			if err != nil {
				return err
			}
			c, err := x509.ParseCertificate(der)
			if err != nil {
				return fmt.Errorf("certificate %s of the record: %w", row.CertificateRef, err)
			}
			items = append(items, im.item(&importer.Certificate{Certificate: c, Serial: row.Serial, Fingerprint: row.Fingerprint}))
		}
		if len(items) == 0 {
			continue
		}
		b, err := im.prepared(items)
		if err != nil {
			return err
		}
		if err := im.writeBatch(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// finish says what became of it all.
func (im *intake) finish(ctx context.Context) (ImportReport, error) {
	im.set.Finish(im.recorded)
	r := im.r
	r.Certificates, r.Sources = im.set.Size(), hex.EncodeToString(im.sum.Sum(nil))
	r.Problems = append(append([]importer.Problem{}, im.set.Problems...), r.Problems...)
	sort.SliceStable(r.Problems, func(i, j int) bool {
		a, b := r.Problems[i], r.Problems[j]
		return a.File < b.File || a.File == b.File && a.Line < b.Line
	})
	if im.o.DryRun || r.New+r.NewlyRevoked+r.Released+r.Restated+r.Blocked == 0 {
		return r, nil
	}
	sum, _ := bulkhead.ParseHash(r.Sources)
	_, err := im.store.AppendEvidence(ctx, bulkhead.Evidence{Kind: bulkhead.EvImported, At: im.o.Now().UTC(), Actor: "role:import", Authority: im.o.Authority, Ref: im.id, Digest: sum, Count: int64(r.New),
		Detail: fmt.Sprintf("%d new, %d newly revoked, %d released, %d held before and now revoked otherwise, %d keys blocked, %d known, %d pieces of the input not taken", r.New, r.NewlyRevoked, r.Released, r.Restated, r.Blocked, r.Known, len(r.Problems))})
	return r, err
}

func (r *ImportReport) count(items []bulkhead.Imported, results []bulkhead.ImportResult) {
	for i, x := range results {
		c := items[i].Certificate
		if c.State == bulkhead.Revoked {
			r.Revoked++
		}
		switch x {
		case bulkhead.ImportedNew:
			r.New++
		case bulkhead.ImportedRevoked:
			r.NewlyRevoked++
		case bulkhead.ImportedKnown:
			r.Known++
		default:
			r.Problems = append(r.Problems, importer.Problem{File: items[i].File, Line: items[i].Line, Reason: "serial " + c.Serial.String() + ": the record has another certificate under it"})
		}
	}
}

// would looks what writing a batch would do.
func (im *intake) would(ctx context.Context, items []bulkhead.Imported) ([]bulkhead.ImportResult, error) {
	serials := make([]bulkhead.Serial, len(items))
	for i, it := range items {
		serials[i] = it.Certificate.Serial
	}
	rows, err := im.store.CertificatesBySerial(ctx, im.o.Authority, serials)
	if err != nil {
		return nil, err
	}
	have := map[bulkhead.Serial]bulkhead.Certificate{}
	for _, c := range rows {
		have[c.Serial] = c
	}
	out := make([]bulkhead.ImportResult, len(items))
	for i, it := range items {
		c, known := have[it.Certificate.Serial]
		switch {
		case !known:
			out[i] = bulkhead.ImportedNew
		case c.Fingerprint != it.Certificate.Fingerprint:
			out[i] = bulkhead.ImportRefused
		case c.State == bulkhead.Issued && it.Certificate.State == bulkhead.Revoked:
			out[i] = bulkhead.ImportedRevoked
		default:
			out[i] = bulkhead.ImportedKnown
		}
	}
	return out, nil
}

func (im *intake) item(c *importer.Certificate) bulkhead.Imported {
	now := im.o.Now().UTC()
	row := bulkhead.Certificate{CertificateRef: bulkhead.CertificateRef{Issuer: im.o.Authority, Serial: c.Serial}, Kind: bulkhead.LeafCertificate, State: bulkhead.Issued, Profile: "imported",
		Names: namesOf(c.Certificate), Subject: c.Subject.String(), KeyHash: bulkhead.Digest(c.RawSubjectPublicKeyInfo), Fingerprint: c.Fingerprint, NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(), ReservedAt: c.NotBefore.UTC()}
	if c.IsCA {
		row.Kind = bulkhead.CACertificate
	}
	it := bulkhead.Imported{DER: c.Raw, File: c.File, Line: c.Line, Leaf: bulkhead.Evidence{Kind: bulkhead.EvImportedCertificate, At: now, Actor: "role:import", Authority: im.o.Authority, Serial: c.Serial, Ref: im.id,
		KeyHash: row.KeyHash, Digest: row.Fingerprint, Detail: brief(fmt.Sprintf("%s, line %d", c.File, c.Line))}}
	if r, ok := im.set.Revoked[c.Serial]; ok && im.over[c.Serial] == nil {
		row.State, row.RevokedAt, row.Reason = bulkhead.Revoked, r.At, r.Reason
		it.Revocation = bulkhead.Evidence{Kind: bulkhead.EvImportedRevocation, At: now, Actor: "role:import", Authority: im.o.Authority, Serial: c.Serial, Ref: im.id,
			Detail: brief(fmt.Sprintf("%s at %s, says %s", r.Reason, r.At.UTC().Format(time.RFC3339), r.Source))}
	}
	it.Certificate = row
	return it
}
