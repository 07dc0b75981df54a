// Package backup is the container of a backup: one age-encrypted tar stream (age-encryption.org/v1 around POSIX tar), so
// that `age -d FILE | tar t` reads it on a machine that has never seen this program.
//
// Invariant: the first entry says which format it is, the last is the manifest with size and SHA-256 of every entry between
// them, in order; a container whose manifest was not reached, or does not agree with what came before, is not a backup.
// Both directions stream: memory is bounded by one buffer and by the manifest, about 150 octets for each entry.
//
// Refuses: names that leave the target, names twice, anything that is not a plain file, a newer format, bytes after the
// manifest, a stream that ends early, and (age) a changed byte.
package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"

	"bulkhead"
)

// Format is the version that this program writes, and the newest that it reads.
const Format = 1

const (
	headerName   = "bulkhead-backup.json"
	manifestName = "manifest.json"
	maxHeader    = 1 << 20
	maxEntries   = 4_000_000 // about a billion evidence rows in full tiles
	maxManifest  = 1 << 30   // of maxEntries
	maxName      = 1024      // octets
	chunk        = 1 << 20   // of a Stream
)

// Header is the first entry.
type Header struct {
	Format  int       `json:"format"`
	House   string    `json:"house"`
	At      time.Time `json:"at"`
	Program string    `json:"program"` // version that wrote it
	Engine  string    `json:"engine"`  // "sqlite" or "postgres": how the record is kept inside
	Schema  int64     `json:"schema"`  // of the record
	// Identity says that keys.identity, which opens the sealed keys, is inside.
	Identity bool `json:"identity"`
}

// Entry is one file of the manifest.
type Entry struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"` // octets
	SHA256 string `json:"sha256"`
}

// Manifest is the last entry.
type Manifest struct {
	Entries  []Entry `json:"entries"`
	Bytes    int64   `json:"bytes"`
	Head     uint64  `json:"head"`     // sequence of the newest status head of the record; 0 for none
	Evidence int64   `json:"evidence"` // newest evidence row of the record
	// Left are files that were left out, with the reason.
	Left []string `json:"left,omitempty"`
}

// Writer writes one container. Not safe for concurrent use.
type Writer struct {
	seal     io.WriteCloser
	tar      *tar.Writer
	at       time.Time
	manifest Manifest
}

// NewWriter begins a container for the recipients, of which one is enough to open it.
func NewWriter(w io.Writer, h Header, recipients ...age.Recipient) (*Writer, error) {
	seal, err := age.Encrypt(w, recipients...)
	if err != nil {
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "the backup cannot be encrypted for these recipients").WithCause(err).
			WithHint("--recipient takes an age recipient (age1…), or use --passphrase-file alone")
	}
	b := &Writer{seal: seal, tar: tar.NewWriter(seal), at: h.At}
	h.Format = Format
	body, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	return b, b.put(headerName, 0o600, int64(len(body)), bytes.NewReader(body), nil)
}

func (b *Writer) put(name string, mode, size int64, r io.Reader, sum hash.Hash) error {
	head := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode & 0o777, Size: size, ModTime: b.at, Format: tar.FormatPAX}
	if err := b.tar.WriteHeader(head); err != nil {
		return fmt.Errorf("backup: %s: %w", name, err)
	}
	var w io.Writer = b.tar
	if sum != nil {
		w = io.MultiWriter(b.tar, sum)
	}
	n, err := io.CopyN(w, r, size)
	if err != nil {
		return fmt.Errorf("backup: %s: %d of %d octets: %w", name, n, size, err)
	}
	return nil
}

// File writes one file of exactly size octets.
func (b *Writer) File(name string, mode, size int64, r io.Reader) error {
	if err := checkName(name); err != nil {
		return err
	}
	sum := sha256.New()
	if err := b.put(name, mode, size, r, sum); err != nil {
		return err
	}
	b.manifest.Entries = append(b.manifest.Entries, Entry{Name: name, Size: size, SHA256: hex.EncodeToString(sum.Sum(nil))})
	b.manifest.Bytes += size
	return nil
}

// Stream is a writer whose octets become entries name/000001, name/000002 and so on of at most 1 MiB, for what has no size
// beforehand. It is closed before anything else is written.
func (b *Writer) Stream(name string) io.WriteCloser { return &stream{to: b, name: name} }

type stream struct {
	to   *Writer
	name string
	buf  bytes.Buffer
	n    int
}

func (s *stream) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), chunk-s.buf.Len())
		s.buf.Write(rest[:n])
		rest = rest[n:]
		if s.buf.Len() == chunk {
			if err := s.flush(); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}

func (s *stream) flush() error {
	if s.buf.Len() == 0 {
		return nil
	}
	s.n++
	err := s.to.File(fmt.Sprintf("%s/%06d", s.name, s.n), 0o600, int64(s.buf.Len()), &s.buf)
	s.buf.Reset()
	return err
}

func (s *stream) Close() error { return s.flush() }

// Close writes the manifest and ends the container. head, evidence and left are those of Manifest.
func (b *Writer) Close(head uint64, evidence int64, left []string) (Manifest, error) {
	b.manifest.Head, b.manifest.Evidence, b.manifest.Left = head, evidence, left
	body, err := json.Marshal(b.manifest)
	if err != nil {
		return Manifest{}, err
	}
	err = b.put(manifestName, 0o600, int64(len(body)), bytes.NewReader(body), nil)
	return b.manifest, errors.Join(err, b.tar.Close(), b.seal.Close())
}

func checkName(name string) error {
	if name == headerName || name == manifestName || len(name) > maxName || !filepath.IsLocal(name) || filepath.ToSlash(filepath.Clean(name)) != name || strings.ContainsAny(name, "\\\x00") {
		return bulkhead.Faultf(bulkhead.KindMalformed, "%.100q is not a name inside a backup", name)
	}
	return nil
}

// File is what a reader is handed.
type File struct {
	Name string
	Mode int64 // permission bits
	Size int64 // octets
	Body io.Reader
}

// Read opens a container, hands each file to each, in order, and holds all of them against the manifest. begin is called
// with the header before the first. Nothing that each did counts before Read has returned without an error: KindUnauthorized
// when no identity opens it, KindConflict for a newer format, KindMalformed for what is damaged or cut off.
func Read(r io.Reader, begin func(Header) error, each func(File) error, ids ...age.Identity) (Header, Manifest, error) {
	return read(r, true, begin, each, ids)
}

// ReadSealed is Read by the word of the seal: names, sizes and order are held against the manifest, digests are not. Every octet was
// sealed by whoever wrote its digest, from the same memory, and the seal tells a changed, missing or added one; a digest tells
// only of a writer that was broken itself, and reading is faster by half without. It is for a restore, of which everything is
// judged afterwards.
func ReadSealed(r io.Reader, begin func(Header) error, each func(File) error, ids ...age.Identity) (Header, Manifest, error) {
	return read(r, false, begin, each, ids)
}

func read(r io.Reader, digests bool, begin func(Header) error, each func(File) error, ids []age.Identity) (Header, Manifest, error) {
	plain, err := age.Decrypt(r, ids...)
	if err != nil {
		var none *age.NoIdentityMatchError
		if errors.As(err, &none) {
			return Header{}, Manifest{}, bulkhead.NewFault(bulkhead.KindUnauthorized, "the backup does not open with this identity or passphrase").WithCause(err).
				WithHint("give the one that belongs to its recipient: --identity FILE or --passphrase-file FILE")
		}
		return Header{}, Manifest{}, bulkhead.NewFault(bulkhead.KindMalformed, "the file is not a backup, or its beginning is damaged").WithCause(err).
			WithHint("use another copy of the backup")
	}
	early := readAhead(plain)
	defer early.stop()
	return readPlain(early, digests, begin, each)
}

// readPlain is Read behind the seal.
func readPlain(plain io.Reader, digests bool, begin func(Header) error, each func(File) error) (Header, Manifest, error) {
	c := &reader{in: tar.NewReader(plain), names: map[string]bool{}, digests: digests}
	h, m, err := c.read(begin, each)
	if err != nil {
		return h, m, err
	}
	if n, err := io.Copy(io.Discard, plain); n > 0 || err != nil {
		return h, m, damaged("after the manifest", err)
	}
	return h, m, nil
}

func damaged(where string, err error) error {
	return bulkhead.Faultf(bulkhead.KindMalformed, "the backup is damaged or cut off (%s)", where).WithCause(err).WithHint("use another copy of the backup; nothing was restored from this one")
}

type reader struct {
	in      *tar.Reader
	names   map[string]bool
	got     []Entry
	bytes   int64
	digests bool // are held against the manifest
}

func (c *reader) read(begin func(Header) error, each func(File) error) (h Header, m Manifest, err error) {
	if err := c.json(headerName, maxHeader, &h); err != nil {
		return h, m, err
	}
	if h.Format != Format {
		if h.Format > Format {
			return h, m, bulkhead.Faultf(bulkhead.KindConflict, "the backup has format %d, this program knows %d", h.Format, Format).
				WithHint("restore with the release that made it (" + h.Program + "), or a newer one")
		}
		return h, m, damaged("format", nil)
	}
	if begin != nil {
		if err := begin(h); err != nil {
			return h, m, err
		}
	}
	for {
		x, err := c.in.Next()
		if err != nil {
			return h, m, damaged("the manifest is missing", err)
		}
		if x.Name == manifestName {
			if err := c.decode(x, maxManifest, &m); err != nil {
				return h, m, err
			}
			break
		}
		if err := c.file(x, each); err != nil {
			return h, m, err
		}
	}
	if _, err := c.in.Next(); err != io.EOF {
		return h, m, damaged("after the manifest", err)
	}
	return h, m, c.agree(m)
}

func (c *reader) json(name string, most int64, v any) error {
	x, err := c.in.Next()
	if err != nil || x.Name != name {
		return damaged(name, err)
	}
	return c.decode(x, most, v)
}

func (c *reader) decode(x *tar.Header, most int64, v any) error {
	if x.Typeflag != tar.TypeReg || x.Size > most {
		return damaged(x.Name, nil)
	}
	if err := json.NewDecoder(io.LimitReader(c.in, x.Size)).Decode(v); err != nil {
		return damaged(x.Name, err)
	}
	return nil
}

func (c *reader) file(x *tar.Header, each func(File) error) error {
	for k := range x.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse") { // claims octets that are not there
			return damaged(fmt.Sprintf("entry %.100q", x.Name), nil)
		}
	}
	if x.Typeflag != tar.TypeReg || x.Size < 0 || c.names[x.Name] || len(c.got) >= maxEntries {
		return damaged(fmt.Sprintf("entry %.100q", x.Name), nil)
	}
	if err := checkName(x.Name); err != nil {
		return err
	}
	c.names[x.Name] = true
	body := &counted{r: c.in}
	if c.digests {
		body.sum = sha256.New()
	}
	if each != nil {
		if err := each(File{Name: x.Name, Mode: x.Mode & 0o777, Size: x.Size, Body: body}); err != nil {
			if body.failed != nil {
				return damaged("in "+x.Name, body.failed)
			}
			return err
		}
	}
	if _, err := io.Copy(io.Discard, body); err != nil || body.n != x.Size {
		return damaged("in "+x.Name, err)
	}
	e := Entry{Name: x.Name, Size: x.Size}
	if c.digests {
		e.SHA256 = hex.EncodeToString(body.sum.Sum(nil))
	}
	c.got = append(c.got, e)
	c.bytes += x.Size
	return nil
}

// counted hashes what is read, if it is asked to, and remembers why it ended.
type counted struct {
	r      io.Reader
	sum    hash.Hash
	n      int64
	failed error
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.sum != nil {
		c.sum.Write(p[:n])
	}
	c.n += int64(n)
	if err != nil && err != io.EOF {
		c.failed = err
	}
	return n, err
}

func (c *reader) agree(m Manifest) error {
	if len(m.Entries) != len(c.got) || m.Bytes != c.bytes {
		return damaged("the manifest names other files", nil)
	}
	for i, e := range m.Entries {
		if !c.digests {
			e.SHA256 = ""
		}
		if e != c.got[i] {
			return damaged(fmt.Sprintf("%.100q is not what the manifest says", c.got[i].Name), nil)
		}
	}
	return nil
}
