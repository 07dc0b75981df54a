package keys

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"io/fs"
	"strings"
	"sync"

	"bulkhead"
	"bulkhead/keys/internal/agefile"
)

const (
	fileScheme = "file:"
	fileSuffix = ".age"
)

// Config of a file ring. Exactly one of IdentityFile and Passphrase is given.
type Config struct {
	Dir          string // made with mode 0700 when it does not exist
	IdentityFile string // age identity, see NewIdentity; not readable by others
	Passphrase   []byte // sealed by scrypt (age); kept in memory as long as the ring
	// WorkFactor is the base-2 logarithm of scrypt's cost for new keys; 0 means 18, about a second per key.
	WorkFactor int
}

// FileRing keeps each key as PKCS#8 in a file NAME.age under one folder, sealed with age. The URI of a key is
// "file:NAME.age", relative to the folder, so that a data directory can move.
type FileRing struct {
	folder *agefile.Folder

	mu      sync.Mutex         // guards signers; also makes Generate and Destroy of one name exclusive
	signers map[string]*signer // by URI
}

var _ Ring = (*FileRing)(nil)

// OpenFileRing opens the ring of a folder. KindUsage without a folder or with no, or two, ways to open keys;
// KindNotFound and KindUnauthorized for an identity file that is absent, or that others may read.
func OpenFileRing(c Config) (*FileRing, error) {
	if c.Dir == "" {
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "key folder is not set").WithHint("set Dir to the folder of the key files")
	}
	if (c.IdentityFile == "") == (len(c.Passphrase) == 0) {
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "a key ring needs an identity file or a passphrase, and not both").
			WithHint("give the identity file made at first start, or the passphrase file")
	}
	folder, err := agefile.Open(agefile.Config{Dir: c.Dir, IdentityFile: c.IdentityFile, Passphrase: c.Passphrase, WorkFactor: c.WorkFactor})
	if err != nil {
		return nil, fault(err, c.IdentityFile)
	}
	return &FileRing{folder: folder, signers: make(map[string]*signer)}, nil
}

// NewIdentity makes an X25519 identity in a new file of mode 0600 and returns its public recipient. KindConflict when
// the file exists.
func NewIdentity(path string) (recipient string, err error) {
	recipient, err = agefile.NewIdentity(path)
	if err != nil {
		return "", fault(err, path)
	}
	return recipient, nil
}

// Open implements Ring. The parsed key stays in memory until it is destroyed.
func (r *FileRing) Open(ctx context.Context, uri string) (crypto.Signer, error) {
	name, err := fileName(uri)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, ok := r.signers[uri]; ok {
		return s, nil
	}
	der, err := r.folder.Read(name)
	if err != nil {
		return nil, fault(err, uri)
	}
	defer clear(der)
	key, err := x509.ParsePKCS8PrivateKey(der)
	inner, ok := key.(crypto.Signer)
	if err != nil || !ok {
		// The parser's error is left out: it may quote the key.
		return nil, bulkhead.Faultf(bulkhead.KindMalformed, "key %s is not a PKCS#8 signing key", uri).WithHint("restore the file from a backup")
	}
	s := newSigner(inner)
	r.signers[uri] = s
	return s, nil
}

// Generate implements Ring.
func (r *FileRing) Generate(ctx context.Context, name string, alg Algorithm) (string, crypto.Signer, error) {
	if err := CheckName(name); err != nil {
		return "", nil, err
	}
	if err := ctx.Err(); err != nil {
		return "", nil, err
	}
	inner, err := newKey(rand.Reader, alg)
	if err != nil {
		return "", nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(inner)
	if err != nil {
		return "", nil, bulkhead.NewFault(bulkhead.KindInternal, "key cannot be encoded")
	}
	defer clear(der)
	uri := fileScheme + name + fileSuffix
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.folder.Create(name+fileSuffix, der); err != nil {
		return "", nil, fault(err, uri)
	}
	s := newSigner(inner)
	r.signers[uri] = s
	return uri, s, nil
}

// Destroy implements Ring: the file is overwritten, synced and removed. See DestroyNotice.
func (r *FileRing) Destroy(ctx context.Context, uri string) error {
	name, err := fileName(uri)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.folder.Destroy(name); err != nil {
		return fault(err, uri)
	}
	if s, ok := r.signers[uri]; ok {
		s.destroy()
		delete(r.signers, uri)
	}
	return nil
}

// List implements Ring. It opens nothing.
func (r *FileRing) List(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	names, err := r.folder.List(fileSuffix)
	if err != nil {
		return nil, fault(err, "key folder")
	}
	uris := make([]string, 0, len(names))
	for _, n := range names {
		if uri := fileScheme + n; checkURI(uri) {
			uris = append(uris, uri)
		}
	}
	return uris, nil
}

func checkURI(uri string) bool { _, err := fileName(uri); return err == nil }

// fileName is the file of a URI. Only a slug with the suffix passes, so a URI cannot leave the folder.
func fileName(uri string) (string, error) {
	name, ok := strings.CutPrefix(uri, fileScheme)
	if base, suffix := strings.CutSuffix(name, fileSuffix); ok && suffix && CheckName(base) == nil {
		return name, nil
	}
	return "", bulkhead.Faultf(bulkhead.KindMalformed, "%q is not the URI of a key file", uri).WithHint("key URIs look like file:issuing-p256.age; see: bulkhead keys list")
}

// fault maps what a folder says. what is a URI or path, never a secret.
func fault(err error, what string) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return bulkhead.Faultf(bulkhead.KindNotFound, "%s does not exist", what).
			WithHint("check the path; a root key that was moved away must be brought back for this step").WithCause(err)
	case errors.Is(err, fs.ErrExist):
		return bulkhead.Faultf(bulkhead.KindConflict, "%s exists and is not overwritten", what).WithHint("choose another name").WithCause(err)
	case errors.Is(err, agefile.ErrIdentity):
		return bulkhead.Faultf(bulkhead.KindUnauthorized, "%s does not open with this identity or passphrase", what).
			WithHint("give the identity file or passphrase with which the key was sealed").WithCause(err)
	case errors.Is(err, agefile.ErrExposed):
		return bulkhead.Faultf(bulkhead.KindUnauthorized, "%s can be read by other users", what).WithHint("chmod 600 " + what).WithCause(err)
	case errors.Is(err, fs.ErrPermission):
		return bulkhead.Faultf(bulkhead.KindUnauthorized, "%s cannot be read by this user", what).WithHint("run as the user that owns the file").WithCause(err)
	case errors.Is(err, agefile.ErrDamaged):
		return bulkhead.Faultf(bulkhead.KindMalformed, "%s is damaged or not an age file", what).WithHint("restore the file from a backup").WithCause(err)
	default:
		return bulkhead.Faultf(bulkhead.KindInternal, "%s cannot be used; the log has the cause", what).WithCause(err)
	}
}
