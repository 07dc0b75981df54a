package run

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/evidence/cosign"
	"bulkhead/pki/tlog"
	"bulkhead/proof"
)

// Names inside an auditor's bundle; doc/auditor.md has the format.
const (
	bundleProof        = "proof.json"
	bundleCertificates = "certificates.txt"
	bundleTranscripts  = "transcripts/"
	bundleWitnessed    = "witnessed"
)

// coverWait is how long a bundle waits for a checkpoint over all that its proof speaks of.
const coverWait = 15 * time.Second

// BundleReport says what went into a bundle.
type BundleReport struct {
	File         string        `json:"file"`
	SHA256       bulkhead.Hash `json:"sha256"`
	Leaves       int64         `json:"leaves"`
	Certificates int64         `json:"certificates"`
	Transcripts  int           `json:"transcripts"`
	Uncovered    int64         `json:"uncovered"` // rows of the proof that no checkpoint covers
	Witnessed    int64         `json:"witnessed"` // leaves under the newest checkpoint with the quorum of witnesses
	Proof        proof.Report  `json:"proof"`
}

// Bundle writes what a stranger needs to verify this house without it: the log's tiles and checkpoint, the digest of every
// certificate, the ceremonies' transcripts and the proof over all issuers. It holds no certificate, no name of a customer
// and no secret. The file appears whole or not at all.
func Bundle(ctx context.Context, o ProveOptions, file string) (BundleReport, error) {
	none := BundleReport{}
	o.All, o.Issuer = true, ""
	cfg, err := LoadConfig(o.Dir)
	if err != nil {
		return none, err
	}
	report, err := Prove(ctx, o)
	if err != nil {
		return none, err
	}
	signed, cp, err := covered(ctx, filepath.Join(o.Dir, evidenceDir), report.Rows)
	if err != nil {
		return none, err
	}
	older, witnessed, err := cosigned(ctx, o.Dir, cfg, report.Rows)
	if err != nil {
		return none, err
	}
	if older != nil && witnessed.Size >= min(report.Rows, cp.Size) { // it is the log's own checkpoint, with more signatures
		signed, cp, older = older, witnessed, nil
	}
	wrong := bulkhead.Faultf(bulkhead.KindUsage, "the bundle %s cannot be written", file).WithHint("name a file in a folder that exists and is yours")
	tmp, err := os.CreateTemp(filepath.Dir(file), ".tmp-*")
	if err != nil {
		return none, wrong.WithCause(err)
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	store, err := OpenStore(ctx, o.Dir, cfg)
	if err != nil {
		return none, err
	}
	defer store.Close()
	b := &bundler{tar: tar.NewWriter(tmp), at: report.MadeAt, dir: o.Dir, out: BundleReport{File: file, Leaves: cp.Size, Uncovered: max(0, report.Rows-cp.Size), Proof: report}}
	b.out.Witnessed = witnessed.Size
	b.add("checkpoint", signed)
	if older != nil {
		b.add(bundleWitnessed, older)
	}
	b.tiles(filepath.Join(o.Dir, evidenceDir), cp.Size)
	b.certificates(ctx, store, report, cp.Size)
	b.transcripts()
	body, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return none, err
	}
	b.add(bundleProof, append(body, '\n'))
	if b.err != nil {
		return none, b.err
	}
	if err := errors.Join(b.tar.Close(), tmp.Chmod(0o644), tmp.Sync()); err != nil {
		return none, wrong.WithCause(err)
	}
	if b.out.SHA256, err = digestOf(tmp); err != nil {
		return none, err
	}
	if err := os.Rename(tmp.Name(), file); err != nil {
		return none, wrong.WithCause(err)
	}
	return b.out, syncDir(filepath.Dir(file))
}

// covered reads the published checkpoint, and waits a while for one over rows leaves; a house at rest publishes none.
func covered(ctx context.Context, dir string, rows int64) ([]byte, tlog.Checkpoint, error) {
	for end := time.Now().Add(coverWait); ; {
		signed, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
		if err != nil {
			return nil, tlog.Checkpoint{}, bulkhead.NewFault(bulkhead.KindNotFound, "the evidence log has no checkpoint").WithHint("bulkhead fsck").WithCause(err)
		}
		body, _, _ := strings.Cut(string(signed), "\n\n")
		cp, err := tlog.ParseCheckpoint(body + "\n")
		if err != nil {
			return nil, cp, bulkhead.NewFault(bulkhead.KindConflict, "the published checkpoint cannot be read").WithHint("bulkhead fsck").WithCause(err)
		}
		if cp.Size >= rows || time.Now().After(end) {
			return signed, cp, nil
		}
		select {
		case <-ctx.Done():
			return nil, cp, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// cosigned is the newest checkpoint that has the quorum of witnesses, where there are witnesses; it waits a while for one over
// rows leaves. nil when there is none.
func cosigned(ctx context.Context, dir string, cfg Config, rows int64) ([]byte, tlog.Checkpoint, error) {
	path := filepath.Join(dir, witnessedDir)
	for end := time.Now().Add(coverWait); cfg.Witnesses.Policy != "" && time.Now().Before(end) && ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(path, cosign.CheckpointName)); !errors.Is(err, fs.ErrNotExist) {
			return covered(ctx, path, rows)
		}
	}
	return nil, tlog.Checkpoint{}, ctx.Err()
}

type bundler struct {
	tar *tar.Writer
	at  time.Time
	dir string
	out BundleReport
	err error // the first; nothing is added after it
}

func (b *bundler) add(name string, body []byte) {
	if b.err != nil {
		return
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(body)), ModTime: b.at.Truncate(time.Second), Format: tar.FormatUSTAR}
	if b.err = b.tar.WriteHeader(h); b.err == nil {
		_, b.err = b.tar.Write(body)
	}
}

// tiles adds the objects over which a checkpoint of size leaves stands. Where a partial one has been removed for the full
// one, the full one goes in.
func (b *bundler) tiles(dir string, size int64) {
	for level := -1; level <= 7 && b.err == nil; level++ {
		n := size >> (8 * max(level, 0))
		if n == 0 {
			return
		}
		for i := range n / 256 {
			b.object(dir, tlog.Path(level, i, 256))
		}
		if w := int(n % 256); w > 0 {
			path := tlog.Path(level, n/256, w)
			if _, err := os.Stat(filepath.Join(dir, path)); errors.Is(err, fs.ErrNotExist) {
				path = tlog.Path(level, n/256, 256)
			}
			b.object(dir, path)
		}
	}
}

func (b *bundler) object(dir, path string) {
	if b.err != nil {
		return
	}
	body, err := os.ReadFile(filepath.Join(dir, path))
	if err != nil {
		b.err = bulkhead.Faultf(bulkhead.KindConflict, "the log has no %s", path).WithHint("bulkhead fsck").WithCause(err)
		return
	}
	b.add(path, body)
}

// certificates adds a line for each certificate that was signed or imported: issuer, serial, the number of its outcome leaf (of an
// imported one of the leaf that names it; later ones tell of its status), its SHA-256, and that of its precertificate or "-". A row that went with age has "pruned" in place of the last two, and no number.
func (b *bundler) certificates(ctx context.Context, store Store, r proof.Report, size int64) {
	var text bytes.Buffer
	for _, issuer := range r.Issuers {
		a, err := store.Authority(ctx, issuer)
		if err != nil && b.err == nil {
			b.err = err
			return
		}
		for row, err := range store.SignedRange(ctx, []bulkhead.AuthorityID{issuer}, 0, 0) {
			if b.err = err; err != nil {
				return
			}
			outcome := row.OutcomeSeq
			if a.Foreign() {
				outcome = row.IntentSeq
			}
			if outcome == 0 || outcome > size || outcome > r.Rows {
				continue
			}
			pre := "-"
			if !row.Precert.IsZero() {
				pre = row.Precert.String()
			}
			fmt.Fprintf(&text, "%s,%s,%d,%s,%s\n", row.Issuer, row.Serial, outcome-1, row.Fingerprint, pre)
			b.out.Certificates++
		}
		var last bulkhead.Serial
		for b.err == nil {
			list, err := store.PrunedAfter(ctx, issuer, last, 1000)
			if b.err = err; err != nil {
				return
			}
			for _, s := range list {
				last = s
				fmt.Fprintf(&text, "%s,%s,-,pruned,-\n", issuer, s)
			}
			if len(list) < 1000 {
				break
			}
		}
	}
	b.add(bundleCertificates, text.Bytes())
}

func (b *bundler) transcripts() {
	files, err := filepath.Glob(filepath.Join(b.dir, "ceremony", "*.json"))
	if b.err == nil {
		b.err = err
	}
	for _, f := range files {
		body, err := os.ReadFile(f)
		if err != nil && b.err == nil {
			b.err = err
		}
		b.add(bundleTranscripts+filepath.Base(f), body)
		b.out.Transcripts++
	}
}

func digestOf(f *os.File) (h bulkhead.Hash, err error) {
	if _, err = f.Seek(0, io.SeekStart); err != nil {
		return h, err
	}
	sum := sha256.New()
	if _, err = io.Copy(sum, f); err == nil {
		copy(h[:], sum.Sum(nil))
	}
	return h, err
}
