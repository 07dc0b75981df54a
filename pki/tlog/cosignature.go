package tlog

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// Types of note keys (C2SP signed-note, "Signature types").
const (
	algEd25519     = 0x01
	algCosignature = 0x04 // timestamped Ed25519, C2SP tlog-cosignature cosignature/v1
)

// ErrCosignature says that a line which bears a witness's name is not that witness's cosignature.
var ErrCosignature = errors.New("cosignature is not valid")

// Witness is the public half of a witness: somebody who keeps the newest checkpoint that he saw of a log and signs only
// what extends it (C2SP tlog-cosignature). It is a note.Verifier.
type Witness struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

var _ note.Verifier = (*Witness)(nil)

// ParseWitness reads a witness's verifier key, name+hash+key. A plain Ed25519 key (type 0x01) stands for the cosigning key
// (type 0x04) of the same bytes, as witnesses' operators publish either.
func ParseWitness(text string) (*Witness, error) {
	part := strings.SplitN(strings.TrimSpace(text), "+", 3)
	if len(part) != 3 || !nameOK(part[0]) {
		return nil, errors.New("not of the form name+hash+key")
	}
	hash, err1 := hex.DecodeString(part[1])
	key, err2 := base64.StdEncoding.Strict().DecodeString(part[2])
	if err := errors.Join(err1, err2); err != nil || len(hash) != 4 || len(key) != 1+ed25519.PublicKeySize {
		return nil, errors.New("hash or key is not a note key's")
	}
	if key[0] != algEd25519 && key[0] != algCosignature {
		return nil, fmt.Errorf("key type %#x is not Ed25519 and not cosignature/v1", key[0])
	}
	if keyHash(part[0], key) != binary.BigEndian.Uint32(hash) {
		return nil, errors.New("the hash is not that of name and key")
	}
	return newWitness(part[0], key[1:]), nil
}

func newWitness(name string, key []byte) *Witness {
	return &Witness{name: name, hash: keyHash(name, append([]byte{algCosignature}, key...)), key: bytes.Clone(key)}
}

// nameOK is what a note allows as the name of a key.
func nameOK(name string) bool {
	return name != "" && !strings.ContainsAny(name, "+ \t\r\n") && strings.ToValidUTF8(name, "") == name
}

func keyHash(name string, key []byte) uint32 {
	sum := sha256.Sum256(append([]byte(name+"\n"), key...))
	return binary.BigEndian.Uint32(sum[:])
}

// Name implements note.Verifier.
func (w *Witness) Name() string { return w.name }

// KeyHash implements note.Verifier.
func (w *Witness) KeyHash() uint32 { return w.hash }

// Verify implements note.Verifier: sig is the time in seconds since 1970 and an Ed25519 signature.
func (w *Witness) Verify(msg, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	at := binary.BigEndian.Uint64(sig)
	return at < 1<<40 && ed25519.Verify(w.key, cosigned(at, msg), sig[8:])
}

// String is the verifier key in text, of type 0x04.
func (w *Witness) String() string {
	return fmt.Sprintf("%s+%08x+%s", w.name, w.hash, base64.StdEncoding.EncodeToString(append([]byte{algCosignature}, w.key...)))
}

// cosigned is what a witness signs for the body of a checkpoint.
func cosigned(at uint64, body []byte) []byte {
	return append(fmt.Appendf(nil, "cosignature/v1\ntime %d\n", at), body...)
}

// Cosigner is the private half of a witness.
type Cosigner struct {
	*Witness
	key crypto.Signer // Ed25519
}

// NewCosigner makes a cosigner named name of an Ed25519 key.
func NewCosigner(name string, key crypto.Signer) (*Cosigner, error) {
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok || !nameOK(name) {
		return nil, fmt.Errorf("%q with a key of type %T cannot cosign", name, key.Public())
	}
	return &Cosigner{Witness: newWitness(name, pub), key: key}, nil
}

// Cosign returns the signature line over the body of a checkpoint, made at the second of at.
func (c *Cosigner) Cosign(body string, at time.Time) (string, error) {
	if _, err := ParseCheckpoint(body); err != nil || at.Unix() < 0 {
		return "", fmt.Errorf("not a checkpoint that can be cosigned at %s: %w", at, err)
	}
	sig, err := c.key.Sign(nil, cosigned(uint64(at.Unix()), []byte(body)), crypto.Hash(0))
	if err != nil {
		return "", fmt.Errorf("cosignature: %w", err)
	}
	raw := binary.BigEndian.AppendUint32(nil, c.hash)
	raw = binary.BigEndian.AppendUint64(raw, uint64(at.Unix()))
	return fmt.Sprintf("— %s %s\n", c.name, base64.StdEncoding.EncodeToString(append(raw, sig...))), nil
}

// Cosignature is one witness's word for a checkpoint.
type Cosignature struct {
	Witness string
	At      time.Time // when the witness signed, to the second
	Line    string    // as it stands in the note, with its line end
}

// Cosignatures verifies a checkpoint as OpenCheckpoint does and returns the cosignatures of the witnesses on it, in the
// order of the witnesses. A line that bears the name and hash of a witness and does not verify is ErrCosignature; lines of
// others are ignored.
func Cosignatures(signed []byte, origin string, v note.Verifier, witnesses []*Witness) (Checkpoint, []Cosignature, error) {
	cp, err := OpenCheckpoint(signed, origin, v)
	if err != nil {
		return cp, nil, err
	}
	var out []Cosignature
	for _, w := range witnesses {
		n, err := note.Open(signed, note.VerifierList(w))
		if unverified := (*note.UnverifiedNoteError)(nil); errors.As(err, &unverified) {
			continue
		}
		if err != nil {
			return cp, nil, fmt.Errorf("%w: witness %s: %w", ErrCosignature, w.name, err)
		}
		sig := n.Sigs[0]
		raw, err := base64.StdEncoding.DecodeString(sig.Base64)
		if err != nil || len(raw) < 12 {
			return cp, nil, fmt.Errorf("%w: witness %s", ErrCosignature, w.name)
		}
		out = append(out, Cosignature{Witness: w.name, At: time.Unix(int64(binary.BigEndian.Uint64(raw[4:])), 0).UTC(), Line: fmt.Sprintf("— %s %s\n", sig.Name, sig.Base64)})
	}
	return cp, out, nil
}
