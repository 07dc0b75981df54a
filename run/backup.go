package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"

	"bulkhead"
	"bulkhead/backup"
	"bulkhead/evidence"
	"bulkhead/pki/pack"
	"bulkhead/publish"
	"bulkhead/publish/origin"
	"bulkhead/publish/s3"
	"bulkhead/store/postgres"
	"bulkhead/store/sqlite"
)

// Folders inside a backup.
const (
	backupData     = "data/"     // files of the data directory
	backupEvidence = "evidence/" // the evidence log
	backupObjects  = "objects/"  // published objects that the newest head names
	backupHead     = "head"      // the newest status head of the record, signed
	backupSQLite   = "store/sqlite.db"
	backupRows     = "store/rows"
)

// BackupOptions say what `bulkhead backup` was called with.
type BackupOptions struct {
	Dir, Out       string
	Recipients     []string // age recipients
	PassphraseFile string   // instead of recipients
	WithIdentity   bool     // include what opens the sealed keys
	Version        string
}

// BackupReport is what a backup holds.
type BackupReport struct {
	File     string    `json:"file"`
	House    string    `json:"house"`
	At       time.Time `json:"at"`
	Engine   string    `json:"engine"`
	Schema   int64     `json:"schema"`
	Files    int       `json:"files"`
	Bytes    int64     `json:"bytes"` // before encryption
	Head     uint64    `json:"head"`
	Evidence int64     `json:"evidence"`
	Identity bool      `json:"identity"`
	Left     []string  `json:"left,omitempty"`
	Seconds  float64   `json:"seconds"`
}

func backupReport(file string, h backup.Header, m backup.Manifest, took time.Duration) BackupReport {
	return BackupReport{File: file, House: h.House, At: h.At, Engine: h.Engine, Schema: h.Schema, Files: len(m.Entries), Bytes: m.Bytes,
		Head: m.Head, Evidence: m.Evidence, Identity: h.Identity, Left: m.Left, Seconds: took.Seconds()}
}

// recipients of a backup: those named, or a passphrase alone.
func recipients(names []string, passphraseFile string) ([]age.Recipient, error) {
	if (len(names) == 0) == (passphraseFile == "") {
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "a backup is sealed for recipients or by a passphrase: one of the two").
			WithHint("bulkhead backup --out FILE --recipient age1… (age-keygen makes one), or --passphrase-file FILE")
	}
	if passphraseFile != "" {
		p, err := ReadSecret(passphraseFile)
		if err != nil {
			return nil, err
		}
		r, err := age.NewScryptRecipient(string(p))
		if err != nil {
			return nil, fmt.Errorf("passphrase: %w", err)
		}
		return []age.Recipient{r}, nil
	}
	var out []age.Recipient
	for _, n := range names {
		r, err := age.ParseRecipients(strings.NewReader(n))
		if err != nil {
			return nil, bulkhead.Faultf(bulkhead.KindUsage, "%.80q is not an age recipient", n).WithHint("give what age-keygen prints as the public key: age1…")
		}
		out = append(out, r...)
	}
	return out, nil
}

// identities that may open a backup.
func identities(identityFile, passphraseFile string) ([]age.Identity, error) {
	if (identityFile == "") == (passphraseFile == "") {
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "a backup opens with an identity or a passphrase: one of the two").WithHint("--identity FILE, or --passphrase-file FILE")
	}
	if passphraseFile != "" {
		p, err := ReadSecret(passphraseFile)
		if err != nil {
			return nil, err
		}
		id, err := age.NewScryptIdentity(string(p))
		if err != nil {
			return nil, fmt.Errorf("passphrase: %w", err)
		}
		return []age.Identity{id}, nil
	}
	f, err := os.Open(identityFile)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "the identity file %s cannot be read", identityFile).WithCause(err)
	}
	defer f.Close()
	ids, err := age.ParseIdentities(f)
	if err != nil { // the parser's error is left out: it may quote the key
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "%s is not an age identity file", identityFile).WithHint("it is the file that age-keygen wrote")
	}
	return ids, nil
}

// Backup writes one encrypted file with all that a blank host needs to go on answering as this house did. The house may
// run meanwhile. The file appears whole or not at all.
func Backup(ctx context.Context, o BackupOptions) (_ BackupReport, err error) {
	began := time.Now()
	to, err := recipients(o.Recipients, o.PassphraseFile)
	if err != nil {
		return BackupReport{}, err
	}
	cfg, err := LoadConfig(o.Dir)
	if err != nil {
		return BackupReport{}, err
	}
	if _, err := os.Lstat(o.Out); o.Out == "" || err == nil {
		return BackupReport{}, bulkhead.Faultf(bulkhead.KindUsage, "--out names a new file; %q is there already or empty", o.Out).WithHint("bulkhead backup --out FILE with a new name")
	}
	tmp, err := os.CreateTemp(filepath.Dir(o.Out), ".tmp-backup-*")
	if err != nil {
		return BackupReport{}, bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be written", o.Out).WithCause(err)
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	scratch, err := os.MkdirTemp(filepath.Join(o.Dir, "run"), "backup-")
	if err != nil {
		return BackupReport{}, bulkhead.Faultf(bulkhead.KindUnavailable, "no place for the copy of the record in %s", filepath.Join(o.Dir, "run")).WithCause(err)
	}
	defer os.RemoveAll(scratch)
	b := &backingUp{o: o, cfg: cfg, scratch: scratch, out: tmp.Name()}
	h, m, err := b.write(ctx, tmp, to)
	if err != nil {
		return BackupReport{}, err
	}
	if err := errors.Join(tmp.Sync(), tmp.Close(), os.Rename(tmp.Name(), o.Out), syncDir(filepath.Dir(o.Out))); err != nil {
		return BackupReport{}, bulkhead.Faultf(bulkhead.KindUnavailable, "%s cannot be written", o.Out).WithCause(err)
	}
	return backupReport(o.Out, h, m, time.Since(began)), nil
}

// backingUp is one backup under way.
type backingUp struct {
	o       BackupOptions
	cfg     Config
	scratch string
	out     string // the file that grows, which may be inside the data directory
	w       *backup.Writer
	left    []string
	at      postgres.Position // of a PostgreSQL record
}

// write copies in an order that makes the whole consistent: first the evidence log, then the record, which is younger and
// so covers it, then the objects that the record's newest head names, which were all stored before it.
func (b *backingUp) write(ctx context.Context, out io.Writer, to []age.Recipient) (h backup.Header, m backup.Manifest, err error) {
	engine, rest, _ := strings.Cut(b.cfg.Store, ":")
	record := filepath.Join(b.scratch, "record")
	h = backup.Header{House: b.cfg.House, At: time.Now().UTC().Truncate(time.Second), Program: b.o.Version, Engine: engine, Identity: b.o.WithIdentity}
	// The log is held aside until the header, which has the record's schema, is written.
	log := filepath.Join(b.scratch, "evidence")
	if err := evidence.Copy(ctx, filepath.Join(b.o.Dir, evidenceDir), func(name string, _ int64, r io.Reader) error { return spool(log, name, r) }); err != nil {
		return h, m, err
	}
	switch engine {
	case "sqlite":
		h.Schema, err = sqlite.Snapshot(ctx, inDir(b.o.Dir, rest), record)
	default:
		h.Schema, err = b.dumpPostgres(ctx, inDir(b.o.Dir, rest), record)
	}
	if err != nil {
		return h, m, err
	}
	if b.w, err = backup.NewWriter(out, h, to...); err != nil {
		return h, m, err
	}
	if err := errors.Join(b.dataFiles(ctx), b.tree(ctx, log, backupEvidence, nil)); err != nil {
		return h, m, err
	}
	if err := b.record(record, engine); err != nil {
		return h, m, err
	}
	head, seq, err := b.position(ctx, record, engine)
	if err != nil {
		return h, m, err
	}
	n, err := b.objects(ctx, head)
	if err != nil {
		return h, m, err
	}
	m, err = b.w.Close(n, seq, b.left)
	return h, m, err
}

// spool writes one file of a folder that is thrown away after the backup.
func spool(dir, name string, r io.Reader) error {
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// secretHalf reports whether a file of the data directory opens the sealed keys.
func (b *backingUp) secretHalf(path string) bool {
	return path == filepath.Join(b.o.Dir, identityFile) || b.cfg.KeyPassphraseFile != "" && path == inDir(b.o.Dir, b.cfg.KeyPassphraseFile)
}

// dataFiles copies the data directory without what is copied in another way, or is made anew.
func (b *backingUp) dataFiles(ctx context.Context) error {
	skip := map[string]bool{}
	for _, name := range []string{"run", "edge", evidenceDir, b.o.Out} {
		skip[inDir(b.o.Dir, name)] = true
	}
	kind, rest, _ := strings.Cut(b.cfg.Store, ":")
	if kind == "sqlite" {
		for _, more := range []string{"", "-wal", "-shm", "-journal"} {
			skip[inDir(b.o.Dir, rest)+more] = true
		}
	}
	if kind, rest := b.cfg.objectsKind(); kind == "dir" {
		skip[inDir(b.o.Dir, rest)] = true
	}
	if p := b.cfg.KeyPassphraseFile; filepath.IsAbs(p) {
		b.left = append(b.left, p+": outside the data directory; keep it elsewhere, it opens the keys")
	}
	return b.tree(ctx, b.o.Dir, backupData, func(path string) bool {
		if b.secretHalf(path) && !b.o.WithIdentity {
			b.left = append(b.left, filepath.Base(path)+": opens the sealed keys; keep it elsewhere, or back up with --with-identity")
			return true
		}
		return skip[path] || path == b.out || strings.HasPrefix(filepath.Base(path), ".tmp")
	})
}

// tree copies every plain file below root.
func (b *backingUp) tree(ctx context.Context, root, prefix string, skip func(path string) bool) error {
	root = filepath.Clean(root)
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		if path != root && skip != nil && skip(path) {
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil || e.IsDir() {
			return err
		}
		if !e.Type().IsRegular() {
			b.left = append(b.left, rel+": not a plain file")
			return nil
		}
		return b.file(prefix+filepath.ToSlash(rel), path)
	})
}

func (b *backingUp) file(name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return bulkhead.Faultf(bulkhead.KindUnavailable, "%s cannot be read", path).WithCause(err).WithHint("run the backup as the user that owns the data directory")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return b.w.File(name, int64(info.Mode().Perm()), info.Size(), f)
}

func (b *backingUp) record(path, engine string) error {
	if engine == "sqlite" {
		return b.file(backupSQLite, path)
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer f.Close()
	s := b.w.Stream(backupRows)
	if _, err := io.Copy(s, f); err != nil {
		return err
	}
	return s.Close()
}

// objects copies what the newest head of the record names, and certificates of authorities, which certificates point at.
func (b *backingUp) objects(ctx context.Context, signed []byte) (uint64, error) {
	if len(signed) == 0 {
		return 0, nil
	}
	v, err := readVerifier(filepath.Join(b.o.Dir, headPub))
	if err != nil {
		return 0, err
	}
	h, err := pack.OpenHead(signed, v)
	if err != nil {
		return 0, fmt.Errorf("newest head of the record: %w", err)
	}
	if err := b.w.File(backupHead, 0o644, int64(len(signed)), strings.NewReader(string(signed))); err != nil {
		return 0, err
	}
	objects, err := objectsOf(ctx, b.o.Dir, b.cfg)
	if err != nil {
		return 0, err
	}
	names, err := objectNames(ctx, objects, h)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		body, size, err := objects.Open(ctx, name)
		if err != nil {
			return 0, err
		}
		err = b.w.File(backupObjects+name, 0o644, size, body)
		if err := errors.Join(err, body.Close()); err != nil {
			return 0, err
		}
	}
	return h.Sequence, nil
}

// objectNames are the objects that a head names, each once, and all outside the folders that are collected.
func objectNames(ctx context.Context, objects publish.Reader, h *pack.Head) ([]string, error) {
	var names []string
	seen := map[string]bool{}
	add := func(n string) {
		if !seen[n] {
			seen[n] = true
			names = append(names, n)
		}
	}
	for _, ih := range h.Issuers {
		for _, ref := range ih.Packs {
			add(ref.Name)
		}
		for _, ref := range ih.CRLs {
			add(ref.Name)
		}
	}
	all, ok := objects.(publish.Store)
	if !ok {
		return names, nil
	}
	infos, err := all.List(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, x := range infos {
		if !strings.HasPrefix(x.Name, "packs/") && !strings.HasPrefix(x.Name, "crls/") {
			add(x.Name)
		}
	}
	return names, nil
}

// objectsOf opens the published objects that a configuration names.
func objectsOf(ctx context.Context, dir string, cfg Config) (publish.Reader, error) {
	kind, rest := cfg.objectsKind()
	switch kind {
	case "dir":
		return publish.NewDir(inDir(dir, rest))
	case "s3":
		c, err := readBucket(inDir(dir, rest))
		if err != nil {
			return nil, err
		}
		return s3.Open(ctx, c)
	}
	return origin.Open(cfg.Objects)
}

// position is how far the copy of the record is: its newest head and evidence row.
func (b *backingUp) position(ctx context.Context, record, engine string) ([]byte, int64, error) {
	if engine != "sqlite" {
		return b.at.Head, b.at.Evidence, nil
	}
	s, err := sqlite.Open(ctx, sqlite.Config{Path: record}) // the copy was written out before this migrates it
	if err != nil {
		return nil, 0, err
	}
	defer s.Close()
	rec, err := s.Head(ctx)
	if err != nil {
		return nil, 0, err
	}
	seq, _, err := s.EvidenceHead(ctx)
	return rec.Body, seq, err
}

// dumpPostgres writes the rows of the record to a file and keeps how far it had come.
func (b *backingUp) dumpPostgres(ctx context.Context, dsnFile, to string) (int64, error) {
	dsn, err := ReadSecret(dsnFile)
	if err != nil {
		return 0, err
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, fmt.Errorf("backup: %w", err)
	}
	b.at, err = postgres.Dump(ctx, string(dsn), f)
	return b.at.Schema, errors.Join(err, f.Close())
}

// VerifyBackup reads a backup to its end and holds every file against its manifest. It writes nothing.
func VerifyBackup(ctx context.Context, file, identityFile, passphraseFile string) (BackupReport, error) {
	began := time.Now()
	h, m, err := readBackup(ctx, backup.Read, file, identityFile, passphraseFile, nil, nil)
	if err != nil {
		return BackupReport{}, err
	}
	return backupReport(file, h, m, time.Since(began)), nil
}

// reading is backup.Read or backup.ReadSealed.
type reading func(r io.Reader, begin func(backup.Header) error, each func(backup.File) error, ids ...age.Identity) (backup.Header, backup.Manifest, error)

func readBackup(ctx context.Context, read reading, file, identityFile, passphraseFile string, begin func(backup.Header) error, each func(backup.File) error) (backup.Header, backup.Manifest, error) {
	ids, err := identities(identityFile, passphraseFile)
	if err != nil {
		return backup.Header{}, backup.Manifest{}, err
	}
	f, err := os.Open(file)
	if err != nil {
		return backup.Header{}, backup.Manifest{}, bulkhead.Faultf(bulkhead.KindUsage, "the backup %s cannot be read", file).WithCause(err)
	}
	defer f.Close()
	return read(f, begin, func(x backup.File) error {
		if err := ctx.Err(); err != nil || each == nil {
			return err
		}
		return each(x)
	}, ids...)
}
