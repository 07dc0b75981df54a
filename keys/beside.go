package keys

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"slices"
	"strings"

	"bulkhead"
	"bulkhead/keys/internal/pkcs11"
)

// BesideRing is a token with a folder of sealed files beside it. New keys are made on the token, but for the algorithms that
// a token does not have (Ed25519: what signs the status head); a key is found where its URI says. What lies in the folder
// from before the token came stays usable there.
type BesideRing struct {
	token, files Ring
	prefix       string
}

var _ Ring = (*BesideRing)(nil)

// Beside joins a token and a folder. Labels on the token begin with the prefix, so that houses may share one.
func Beside(token, files Ring, prefix string) *BesideRing {
	return &BesideRing{token: token, files: files, prefix: prefix}
}

// of is the ring that a URI belongs to.
func (r *BesideRing) of(uri string) Ring {
	if strings.HasPrefix(uri, "pkcs11:") {
		return r.token
	}
	return r.files
}

// Open implements Ring.
func (r *BesideRing) Open(ctx context.Context, uri string) (crypto.Signer, error) {
	return r.of(uri).Open(ctx, uri)
}

// Generate implements Ring.
func (r *BesideRing) Generate(ctx context.Context, name string, alg Algorithm) (string, crypto.Signer, error) {
	if err := CheckName(name); err != nil {
		return "", nil, err
	}
	if alg == Ed25519 {
		return r.files.Generate(ctx, name, alg)
	}
	return r.token.Generate(ctx, r.label(name), alg)
}

// label is the name with the prefix; one that would be too long ends in a digest of itself.
func (r *BesideRing) label(name string) string {
	label := r.prefix + name
	if len(label) <= maxName {
		return label
	}
	sum := sha256.Sum256([]byte(name))
	tail := "-" + hex.EncodeToString(sum[:8])
	return strings.TrimRight(label[:maxName-len(tail)], "-") + tail
}

// Destroy implements Ring.
func (r *BesideRing) Destroy(ctx context.Context, uri string) error {
	return r.of(uri).Destroy(ctx, uri)
}

// List implements Ring. Every key of the token is in it, whoever's it is: what this process could use is to be seen.
func (r *BesideRing) List(ctx context.Context) ([]string, error) {
	onToken, err := r.token.List(ctx)
	if err != nil {
		return nil, err
	}
	inFiles, err := r.files.List(ctx)
	if err != nil {
		return nil, err
	}
	all := append(onToken, inFiles...)
	slices.Sort(all)
	return all, nil
}

// TokenFiles checks the URI of a token's ring without opening it, and returns the library and the file of the PIN that it
// names. KindUsage for what is none, and for paths that are not absolute: a relative one would depend on where one stands.
func TokenFiles(uri string) (library, pin string, err error) {
	u, err := pkcs11.ParseURI(uri)
	if err != nil {
		return "", "", err
	}
	if u.Object != "" || !filepath.IsAbs(u.ModulePath) || !filepath.IsAbs(u.PINSource) {
		return "", "", bulkhead.NewFault(bulkhead.KindUsage, "this URI names no token with the full path of its library and of the file that holds its PIN").
			WithHint("pkcs11:token=NAME?module-path=/LIB&pin-source=/FILE")
	}
	return u.ModulePath, u.PINSource, nil
}
