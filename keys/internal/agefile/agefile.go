// Package agefile keeps small secrets in a folder, one file each, sealed with age.
//
// Invariant: a file has its name only once it is complete and durable, has mode 0600, and never replaces another.
//
// Refuses: file names with a path in them, an identity file that others may read, and plaintext on disk.
package agefile

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"filippo.io/age"
)

// What a folder says besides the errors of io/fs.
var (
	ErrIdentity = errors.New("agefile: identity does not match")
	ErrExposed  = errors.New("agefile: identity file is readable by others")
	ErrDamaged  = errors.New("agefile: damaged file")
)

const (
	defaultWorkFactor = 18
	maxWorkFactor     = 22
	maxPlaintext      = 64 << 10 // a PKCS#8 RSA 4096 key has under 3 KiB
	tempPrefix        = ".new-"
)

// Config of a folder.
type Config struct {
	Dir          string
	IdentityFile string
	Passphrase   []byte
	WorkFactor   int
}

// Folder seals and opens files. It is safe for concurrent use on different names.
type Folder struct {
	dir        string
	recipients []age.Recipient
	identities []age.Identity
}

// Open makes the folder when it does not exist and reads the identity.
func Open(c Config) (*Folder, error) {
	f := &Folder{dir: c.Dir}
	if err := f.unlockWith(c); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make key folder: %w", err)
	}
	return f, nil
}

func (f *Folder) unlockWith(c Config) error {
	if c.IdentityFile != "" {
		return f.readIdentity(c.IdentityFile)
	}
	work := c.WorkFactor
	if work == 0 {
		work = defaultWorkFactor
	}
	if work < 10 || work > maxWorkFactor {
		return fmt.Errorf("scrypt work factor %d is not between 10 and %d", work, maxWorkFactor)
	}
	recipient, err := age.NewScryptRecipient(string(c.Passphrase))
	if err != nil {
		return errors.New("passphrase cannot be used") // the library's error is left out: it may quote its input
	}
	recipient.SetWorkFactor(work)
	identity, err := age.NewScryptIdentity(string(c.Passphrase))
	if err != nil {
		return errors.New("passphrase cannot be used")
	}
	identity.SetMaxWorkFactor(maxWorkFactor)
	f.recipients, f.identities = []age.Recipient{recipient}, []age.Identity{identity}
	return nil
}

func (f *Folder) readIdentity(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open identity: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("open identity: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return ErrExposed
	}
	ids, err := age.ParseIdentities(io.LimitReader(file, maxPlaintext))
	if err != nil {
		return fmt.Errorf("%w: no age identity inside", ErrDamaged) // the library's error may quote the line
	}
	for _, id := range ids {
		if x, ok := id.(*age.X25519Identity); ok {
			f.identities = append(f.identities, x)
			f.recipients = append(f.recipients, x.Recipient())
		}
	}
	if len(f.identities) == 0 {
		return fmt.Errorf("%w: no X25519 identity inside", ErrDamaged)
	}
	return nil
}

// NewIdentity writes a new X25519 identity to a new file of mode 0600 and returns the recipient.
func NewIdentity(path string) (string, error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return "", fmt.Errorf("make identity: %w", err)
	}
	recipient := id.Recipient().String()
	text := "# public key: " + recipient + "\n" + id.String() + "\n"
	if err := createFile(filepath.Dir(path), filepath.Base(path), []byte(text)); err != nil {
		return "", err
	}
	return recipient, nil
}

// Create seals plaintext into a new file. fs.ErrExist when the name is taken.
func (f *Folder) Create(name string, plaintext []byte) error {
	if err := checkName(name); err != nil {
		return err
	}
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, f.recipients...)
	if err != nil {
		return fmt.Errorf("seal %s: %w", name, err)
	}
	if _, err := w.Write(plaintext); err != nil {
		return fmt.Errorf("seal %s: %w", name, err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("seal %s: %w", name, err)
	}
	return createFile(f.dir, name, sealed.Bytes())
}

// Read opens a file. fs.ErrNotExist, ErrIdentity or ErrDamaged.
func (f *Folder) Read(name string) ([]byte, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	file, err := os.Open(filepath.Join(f.dir, name))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer file.Close()
	r, err := age.Decrypt(file, f.identities...)
	if err != nil {
		var mismatch *age.NoIdentityMatchError
		if errors.As(err, &mismatch) {
			return nil, fmt.Errorf("read %s: %w", name, ErrIdentity)
		}
		return nil, fmt.Errorf("read %s: %w", name, ErrDamaged)
	}
	plaintext, err := io.ReadAll(io.LimitReader(r, maxPlaintext))
	if err != nil {
		clear(plaintext)
		return nil, fmt.Errorf("read %s: %w", name, ErrDamaged)
	}
	return plaintext, nil
}

// Destroy overwrites a file in place with random bytes, syncs it and removes it. File systems that never write in
// place, backups and flash storage may keep the old bytes.
func (f *Folder) Destroy(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	path := filepath.Join(f.dir, name)
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("destroy %s: %w", name, err)
	}
	info, err := file.Stat()
	if err == nil {
		_, err = io.CopyN(file, rand.Reader, info.Size())
	}
	if err == nil {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("destroy %s: %w", name, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("destroy %s: %w", name, err)
	}
	return syncDir(f.dir)
}

// List returns the names of the files with the suffix, sorted.
func (f *Folder) List(suffix string) ([]string, error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasSuffix(e.Name(), suffix) && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

func checkName(name string) error {
	if name == "" || name != filepath.Base(name) || strings.HasPrefix(name, ".") {
		return fmt.Errorf("%q is not a file name: %w", name, fs.ErrInvalid)
	}
	return nil
}

// createFile makes a complete, durable file appear under a name that is free: temporary file, sync, link, sync folder.
// A link, unlike a rename, fails when the name is taken.
func createFile(dir, name string, content []byte) (err error) {
	temp, err := os.CreateTemp(dir, tempPrefix+"*") // mode 0600
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(content)
	if err == nil {
		err = temp.Sync()
	}
	if err := errors.Join(err, temp.Close()); err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	if err := place(temp.Name(), filepath.Join(dir, name)); err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	return syncDir(dir)
}

// place links, and falls back to a rename on file systems without links (a memory stick in a ceremony).
func place(temp, path string) error {
	err := os.Link(temp, path)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	if _, err := os.Lstat(path); err == nil {
		return fs.ErrExist
	}
	return os.Rename(temp, path)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync key folder: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync key folder: %w", err)
	}
	return nil
}
