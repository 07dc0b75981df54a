package evidence

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/evidence/internal/tiles"
	"bulkhead/pki/tlog"
)

// NewKey makes the key that signs checkpoints (Ed25519, a signed-note key) for the log named origin, such as
// "ca.example/evidence". The private key goes to keyFile with mode 0600, the verifier key for auditors to keyFile
// with ".pub" appended; the latter's text is returned. It fails with KindConflict when keyFile exists: a log keeps its key.
func NewKey(keyFile, origin string) (verifier string, err error) {
	if origin == "" || strings.ContainsAny(origin, "+ \t\r\n") {
		return "", bulkhead.Faultf(bulkhead.KindMalformed, "%q cannot name a log", origin).
			WithHint("use a name without spaces and plus signs, for example ca.example/evidence")
	}
	private, verifier, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return "", fmt.Errorf("checkpoint key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(keyFile), 0o700); err != nil {
		return "", fmt.Errorf("checkpoint key: %w", err)
	}
	if err := writeNew(keyFile, private+"\n", 0o600); errors.Is(err, fs.ErrExist) {
		return "", bulkhead.Faultf(bulkhead.KindConflict, "the checkpoint key %s exists", keyFile).
			WithHint("a log keeps its key; start a new log in another directory, with another origin")
	} else if err != nil {
		return "", fmt.Errorf("checkpoint key: %w", err)
	}
	pub := keyFile + ".pub"
	if err := os.Remove(pub); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("verifier key: %w", err)
	}
	if err := writeNew(pub, verifier+"\n", 0o644); err != nil {
		return "", fmt.Errorf("verifier key: %w", err)
	}
	return verifier, nil
}

// writeNew creates a file durably, and fails with fs.ErrExist when there is one. It appears whole or not at all: a key
// file cut short by a crash would stop every later start.
func writeNew(path, text string, mode os.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(text)
	if err == nil {
		err = tmp.Chmod(mode)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Link(tmp.Name(), path) // unlike a rename, a link never replaces
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// Begin starts a log in dir: a signed checkpoint over no leaves, durable. It changes nothing where a log has begun. A
// first start calls it together with NewKey, so that from then on a log without a checkpoint is a finding; New calls it
// for an empty directory.
func Begin(dir, keyFile, origin string) error {
	signer, _, err := readKey(keyFile, origin)
	if err != nil {
		return err
	}
	for _, sign := range []string{tiles.CheckpointPath, tiles.StateDir} {
		if _, err := os.Stat(filepath.Join(dir, sign)); err == nil {
			return nil
		}
	}
	empty := tlog.Checkpoint{Origin: origin, Root: bulkhead.Digest(nil)}
	signed, err := note.Sign(&note.Note{Text: empty.Body()}, signer)
	if err != nil {
		return fmt.Errorf("first checkpoint: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("first checkpoint: %w", err)
	}
	err = writeNew(filepath.Join(dir, tiles.CheckpointPath), string(signed), 0o644)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("first checkpoint: %w", err)
	}
	return nil
}

// readKey reads the checkpoint key and checks that it is nobody else's to read and names the right log.
func readKey(keyFile, origin string) (note.Signer, note.Verifier, error) {
	info, err := os.Stat(keyFile)
	if err != nil {
		return nil, nil, bulkhead.Faultf(bulkhead.KindNotFound, "no checkpoint key in %s", keyFile).
			WithHint("restore it from the backup; a first start makes it").WithCause(err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, nil, bulkhead.Faultf(bulkhead.KindForbidden, "others may read the checkpoint key %s", keyFile).
			WithHint("chmod 600 " + keyFile)
	}
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, nil, fmt.Errorf("checkpoint key: %w", err)
	}
	private := strings.TrimSpace(string(text))
	signer, err := note.NewSigner(private)
	if err != nil {
		return nil, nil, bulkhead.Faultf(bulkhead.KindMalformed, "%s holds no checkpoint key", keyFile).
			WithHint("restore it from the backup").WithCause(err)
	}
	if signer.Name() != origin {
		return nil, nil, bulkhead.Faultf(bulkhead.KindConflict, "the checkpoint key %s is for the log %q, not %q", keyFile, signer.Name(), origin).
			WithHint("set the origin that the log was started with")
	}
	verifier, err := verifierOf(private)
	return signer, verifier, err
}

// verifierOf derives the verifier from a private note key: PRIVATE+KEY+name+hash+base64(algorithm || seed).
func verifierOf(private string) (note.Verifier, error) {
	part := strings.SplitN(private, "+", 5)
	seed, err := base64.StdEncoding.DecodeString(part[len(part)-1])
	if err != nil || len(part) != 5 || len(seed) != 1+ed25519.SeedSize {
		return nil, bulkhead.NewFault(bulkhead.KindMalformed, "the checkpoint key is no Ed25519 note key")
	}
	public := ed25519.NewKeyFromSeed(seed[1:]).Public().(ed25519.PublicKey)
	text, err := note.NewEd25519VerifierKey(part[2], public)
	if err != nil {
		return nil, fmt.Errorf("verifier key: %w", err)
	}
	return note.NewVerifier(text)
}
