package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sys/unix"

	"bulkhead"
	"bulkhead/backup"
	"bulkhead/console"
	"bulkhead/pki/pack"
	"bulkhead/proof"
	"bulkhead/publish"
	"bulkhead/store/postgres"
	"bulkhead/store/sqlite"
)

// What a restore may take, as documented: a base and a rate over the octets of the backup, for two cores and a disk.
const (
	restoreBase = 30 * time.Second
	restoreRate = 5 << 20 // octets a second
)

// RestoreOptions say what `bulkhead restore` was called with.
type RestoreOptions struct {
	File, Dir                    string
	Store                        string // "sqlite:FILE" or "postgres:FILE"; empty keeps that of the backup
	IdentityFile, PassphraseFile string
	// SeenHead is a file with a status head that an edge or a cache has seen: the memory of an edge (edge/head in its data
	// directory) or a downloaded copy. A backup that is older is refused.
	SeenHead string
}

// RestoreReport is what a restore did.
type RestoreReport struct {
	BackupReport
	Dir        string            `json:"dir"`
	Store      string            `json:"store"`
	Documented float64           `json:"documented_seconds"` // what it may take at most
	Findings   []console.Finding `json:"findings"`           // of fsck on the result
	Next       []string          `json:"next"`
}

func restoreStaging(dir string) string { return filepath.Clean(dir) + ".restore" }

// Restore makes a data directory from a backup. Everything is made in a staging folder, checked and renamed; killed
// half-way it starts over. KindUsage for a target that is not empty, KindGate for a backup that is older than what is public
// or was seen.
func Restore(ctx context.Context, o RestoreOptions) (RestoreReport, error) {
	began := time.Now()
	if entries, err := os.ReadDir(o.Dir); err == nil && len(entries) > 0 {
		return RestoreReport{}, bulkhead.Faultf(bulkhead.KindUsage, "%s is not empty; a restore never writes over anything", o.Dir).WithHint("bulkhead restore FILE --data DIR with a new or empty DIR")
	}
	release, err := lockPlace(ctx, filepath.Dir(filepath.Clean(o.Dir)))
	if err != nil {
		return RestoreReport{}, err
	}
	defer release()
	staging := restoreStaging(o.Dir)
	if err := os.RemoveAll(staging); err != nil {
		return RestoreReport{}, fmt.Errorf("clearing an interrupted restore: %w", err)
	}
	r := &restoring{o: o, staging: staging}
	report, err := r.make(ctx)
	r.ahead.stop()
	if r.synced != nil {
		err = errors.Join(err, room(<-r.synced))
	}
	if err == nil {
		err = r.finish()
	}
	if err != nil {
		if r.disk != nil {
			r.disk.Close() // again, after a sync: that says nothing new
		}
		return RestoreReport{}, errors.Join(err, os.RemoveAll(staging))
	}
	report.Seconds = time.Since(began).Seconds()
	report.Documented = (restoreBase + time.Duration(float64(report.Bytes)/restoreRate*float64(time.Second))).Seconds()
	return report, nil
}

// restoring is one restore under way.
type restoring struct {
	o       RestoreOptions
	staging string
	header  backup.Header
	cfg     Config
	rows    *os.File // of a PostgreSQL record, while it is read
	disk    *os.File // the staging folder's, for the sync at the end
	files   *placer
	synced  chan error // of the first sync, which runs beside the proof
	log     bool       // the log's files are being taken
	ahead   *ahead     // of the log, once they are written; the placer's until it is closed
}

// Names in the staging folder that do not survive it.
const (
	stagedRows   = "rows.restore"
	stagedRecord = "record.restore"
	stagedHead   = "head.restore"
)

func (r *restoring) make(ctx context.Context) (RestoreReport, error) {
	if err := os.MkdirAll(filepath.Join(r.staging, "run"), 0o700); err != nil {
		return RestoreReport{}, bulkhead.Faultf(bulkhead.KindUnavailable, "%s cannot be made", r.staging).WithCause(err)
	}
	var err error
	if r.disk, err = os.Open(r.staging); err != nil {
		return RestoreReport{}, room(err)
	}
	r.files = newPlacer()
	h, m, err := readBackup(ctx, backup.ReadSealed, r.o.File, r.o.IdentityFile, r.o.PassphraseFile, func(h backup.Header) error { r.header = h; return nil },
		func(f backup.File) error { return r.take(ctx, f) })
	if placed := r.files.close(); err == nil {
		err = placed
	}
	if r.rows != nil {
		err = errors.Join(err, r.rows.Close())
	}
	if err != nil {
		return RestoreReport{}, err
	}
	r.synced = make(chan error, 1)
	go func() { r.synced <- unix.Syncfs(int(r.disk.Fd())) }()
	if err := r.configure(); err != nil {
		return RestoreReport{}, err
	}
	if err := r.notBackwards(ctx); err != nil {
		return RestoreReport{}, err
	}
	if err := r.record(ctx); err != nil {
		return RestoreReport{}, err
	}
	found, err := r.check(ctx)
	if err != nil {
		return RestoreReport{}, err
	}
	report := RestoreReport{BackupReport: backupReport(r.o.File, h, m, 0), Dir: r.o.Dir, Store: r.cfg.Store, Findings: found}
	report.Next = r.next()
	return report, nil
}

// take puts one file of the backup in its place of the staging folder.
func (r *restoring) take(ctx context.Context, f backup.File) error {
	if isLog := strings.HasPrefix(f.Name, backupEvidence); isLog != r.log {
		if r.log = isLog; !isLog { // the whole log came, for it stands together
			r.files.then(func() { r.ahead.stop(); r.ahead = startAhead(ctx, r.staging) })
		}
	}
	to, mode := "", os.FileMode(0o600)
	name, inData := strings.CutPrefix(f.Name, backupData)
	switch {
	case inData:
		to, mode = name, os.FileMode(f.Mode)&0o777|0o400
	case strings.HasPrefix(f.Name, backupEvidence):
		to, mode = filepath.Join(evidenceDir, strings.TrimPrefix(f.Name, backupEvidence)), 0o644
	case strings.HasPrefix(f.Name, backupObjects):
		to, mode = filepath.Join(objectsDir, strings.TrimPrefix(f.Name, backupObjects)), 0o644
	case f.Name == backupHead:
		to = stagedHead
	case f.Name == backupSQLite:
		to = stagedRecord
	case strings.HasPrefix(f.Name, backupRows+"/"):
		return r.takeRows(f.Body)
	default:
		return bulkhead.Faultf(bulkhead.KindMalformed, "the backup holds %.100q, which this program does not know", f.Name).WithHint("restore with the release that made it, or a newer one")
	}
	return r.files.place(filepath.Join(r.staging, filepath.FromSlash(to)), mode, f.Body)
}

func (r *restoring) takeRows(body io.Reader) (err error) {
	if r.rows == nil {
		if r.rows, err = os.OpenFile(filepath.Join(r.staging, stagedRows), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return room(err)
		}
	}
	if _, err := io.Copy(r.rows, body); err != nil {
		return room(err)
	}
	return nil
}

func room(err error) error {
	if err == nil {
		return nil
	}
	return bulkhead.NewFault(bulkhead.KindUnavailable, "the restored files cannot be written").WithCause(err).WithHint("check space and permissions beside the target")
}

// configure reads the configuration and changes what has another place on this host: nothing is written outside the target.
func (r *restoring) configure() error {
	cfg, err := LoadConfig(r.staging)
	if err != nil {
		return err
	}
	was := cfg
	if r.o.Store != "" {
		cfg.Store = r.o.Store
	}
	if kind, rest, _ := strings.Cut(cfg.Store, ":"); kind == "sqlite" && !filepath.IsLocal(rest) {
		cfg.Store = "sqlite:bulkhead.db"
	}
	if kind, _ := cfg.objectsKind(); kind == "dir" {
		cfg.Objects = "dir:" + objectsDir
	}
	r.cfg = cfg
	if err := cfg.Check(); err != nil {
		return err
	}
	if was.Store == cfg.Store && was.Objects == cfg.Objects {
		return nil
	}
	text, err := cfg.Marshal()
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(r.staging, ConfigFile), text, 0o644)
}

// notBackwards refuses a copy that is older than what the world has seen: published again it would take back revocations.
func (r *restoring) notBackwards(ctx context.Context) error {
	v, err := readVerifier(filepath.Join(r.staging, headPub))
	if err != nil {
		return err
	}
	var have uint64
	signed, err := os.ReadFile(filepath.Join(r.staging, stagedHead))
	if err == nil {
		h, err := pack.OpenHead(signed, v)
		if err != nil {
			return fmt.Errorf("status head of the backup: %w", err)
		}
		have = h.Sequence
	}
	if r.o.SeenHead != "" {
		seen, err := os.ReadFile(r.o.SeenHead)
		if err != nil {
			return bulkhead.Faultf(bulkhead.KindUsage, "--seen-head: %s cannot be read", r.o.SeenHead).WithCause(err)
		}
		if err := older(have, seen, v, r.o.SeenHead); err != nil {
			return err
		}
	}
	if kind, _ := r.cfg.objectsKind(); kind == "dir" {
		return r.expose(ctx, signed)
	}
	public, err := objectsOf(ctx, r.staging, r.cfg)
	if err != nil {
		return err
	}
	seen, err := public.Head(ctx)
	if bulkhead.KindOf(err) == bulkhead.KindNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	return older(have, seen, v, r.cfg.Objects)
}

func older(have uint64, seen []byte, v note.Verifier, where string) error {
	h, err := pack.OpenHead(seen, v)
	if err != nil {
		return bulkhead.Faultf(bulkhead.KindMalformed, "%s holds no status head of this house", where).WithCause(err)
	}
	if h.Sequence <= have {
		return nil
	}
	return bulkhead.Faultf(bulkhead.KindGate, "the backup is of status head %d, %s has head %d of %s: going on from here would take back what the world has seen",
		have, where, h.Sequence, h.At.UTC().Format(time.RFC3339)).WithHint("bulkhead restore with a newer backup; edges go on serving head " + fmt.Sprint(h.Sequence) + " meanwhile")
}

// expose makes the head of the backup the public one of the restored folder.
func (r *restoring) expose(ctx context.Context, signed []byte) error {
	d, err := publish.NewDir(filepath.Join(r.staging, objectsDir))
	if err != nil || len(signed) == 0 {
		return err
	}
	return d.SetHead(ctx, signed)
}

// record puts the record where the configuration says, in the engine that it names.
func (r *restoring) record(ctx context.Context) (err error) {
	kind, rest, _ := strings.Cut(r.cfg.Store, ":")
	rowsPath, dbPath := filepath.Join(r.staging, stagedRows), filepath.Join(r.staging, stagedRecord)
	if kind == "sqlite" {
		to := filepath.Join(r.staging, rest)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return room(err)
		}
		if r.header.Engine == "sqlite" {
			return os.Rename(dbPath, to)
		}
		return r.load(rowsPath, func(f *os.File) error { return sqlite.LoadFile(ctx, to, r.header.Schema, f) })
	}
	if r.header.Engine == "sqlite" {
		f, err := os.OpenFile(rowsPath, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return room(err)
		}
		if err := errors.Join(sqlite.DumpFile(ctx, dbPath, f), f.Close(), os.Remove(dbPath)); err != nil {
			return err
		}
	}
	dsn, err := ReadSecret(inDir(r.staging, rest))
	if err != nil {
		return err
	}
	return r.load(rowsPath, func(f *os.File) error { return postgres.Load(ctx, string(dsn), r.header.Schema, f) })
}

func (r *restoring) load(path string, into func(*os.File) error) error {
	f, err := os.Open(path)
	if err != nil {
		return bulkhead.NewFault(bulkhead.KindMalformed, "the backup holds no record").WithCause(err).WithHint("use another copy of the backup")
	}
	defer f.Close()
	if err := into(f); err != nil {
		return err
	}
	return os.Remove(path)
}

// open opens the record, which nobody else has when it is a file of the staging folder.
func (r *restoring) open(ctx context.Context) (Store, error) {
	if kind, rest, _ := strings.Cut(r.cfg.Store, ":"); kind == "sqlite" {
		return sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(r.staging, rest), Alone: true})
	}
	return OpenStore(ctx, r.staging, r.cfg)
}

// check is fsck on the staged folder. What contradicts the evidence refuses the restore; what is only old is told.
func (r *restoring) check(ctx context.Context) ([]console.Finding, error) {
	if err := os.RemoveAll(filepath.Join(r.staging, stagedHead)); err != nil {
		return nil, err
	}
	store, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	report, err := reconcile(ctx, r.cfg, store, ProveOptions{Dir: r.staging, All: true, Now: time.Now()}, r.ahead)
	f := &fsck{store: store}
	for _, x := range report.Findings {
		switch {
		case err == nil && contradicts(x.Rule):
			err = bulkhead.Faultf(bulkhead.KindGate, "the backup contradicts itself: %s: %s", x.Rule, x.Message).WithHint("use another copy of the backup, and keep this one")
			fallthrough
		case contradicts(x.Rule):
			f.add(x.Rule, levelFailure, "%s", x.Message)
		default:
			f.add(x.Rule, levelFinding, "%s", x.Message)
		}
	}
	if len(f.out) == 0 {
		f.add("reconciled", levelOK, "%d rows of evidence, the log of %d leaves, the record, the counters and what is public agree", report.Rows, report.Checkpoint.Size)
	}
	for i := range f.out {
		if f.out[i].Level != levelOK {
			f.out[i].Next = "bulkhead up: what is only old is signed again at once; then: bulkhead fsck"
		}
	}
	return f.out, errors.Join(err, store.Close())
}

// contradicts tells what cannot be explained by the age of a backup from what can: answers that ended, alarms that were open.
func contradicts(rule string) bool {
	switch rule {
	case proof.RuleRowWithoutLeaf, proof.RuleRowRemoved, proof.RuleRowDiffers, proof.RuleNoOutcome, proof.RuleNotIssued, proof.RuleOtherBytes,
		proof.RuleCounterAhead, proof.RuleCounterBehind, proof.RuleCounterMissing:
		return true
	}
	return strings.HasPrefix(rule, "evidence/")
}

// next is what an operator does after a restore.
func (r *restoring) next() []string {
	var out []string
	if !r.header.Identity && r.cfg.KeyPassphraseFile == "" {
		out = append(out, "bring "+identityFile+" back into "+r.o.Dir+" (mode 0600): without it the sealed keys do not open")
	} else if !r.header.Identity {
		out = append(out, "bring "+r.cfg.KeyPassphraseFile+" back: without it the sealed keys do not open")
	}
	if r.cfg.KeyRing != "" {
		out = append(out, "plug the token of key_ring in, or one with a copy of its keys: they are in no backup")
	}
	return append(out, "bulkhead up --data "+r.o.Dir)
}

// finish makes all durable and renames the staged folder into place.
func (r *restoring) finish() error {
	// One call for the whole file system: a log of a million certificates is tens of thousands of small files, and waiting for
	// each takes longer than writing them. The descriptor is older than the first octet, so that an error in between is told. What came
	// out of the backup went to the disk beside the proof; this is for what changed since.
	if err := errors.Join(unix.Syncfs(int(r.disk.Fd())), r.disk.Close()); err != nil {
		return room(err)
	}
	if err := os.Remove(r.o.Dir); err != nil && !errors.Is(err, os.ErrNotExist) { // empty, or Restore refused
		return fmt.Errorf("making place for the data directory: %w", err)
	}
	if err := os.Rename(r.staging, filepath.Clean(r.o.Dir)); err != nil {
		return fmt.Errorf("moving the restored folder into place: %w", err)
	}
	return syncDir(filepath.Dir(filepath.Clean(r.o.Dir)))
}
