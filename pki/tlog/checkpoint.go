package tlog

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"bulkhead"
)

// What can be wrong with a log, told apart by errors.Is.
var (
	ErrCheckpoint = errors.New("checkpoint is not valid")            // format, origin or signature
	ErrTile       = errors.New("tile does not match the checkpoint") // a tile's bytes do not hash up to the root
	ErrLeaf       = errors.New("leaf does not match the tiles")      // an entry's bytes are not what the tiles cover
	ErrFork       = errors.New("checkpoints are not consistent")     // the newer log does not extend the older one
	ErrProof      = errors.New("proof does not verify")              // a path leads to another root
)

// maxSize keeps the arithmetic on positions in the tree within 64 bits.
const maxSize = 1 << 60

// Checkpoint is the signed head of a log (C2SP tlog-checkpoint).
type Checkpoint struct {
	Origin string        // the log's name, also the name of its key
	Size   int64         // number of leaves
	Root   bulkhead.Hash // RFC 6962 tree hash over them
}

// OpenCheckpoint verifies the signature by v, checks the origin and reads the body. Further signatures (witnesses)
// are ignored, further lines of the body refused. Errors wrap ErrCheckpoint.
func OpenCheckpoint(signed []byte, origin string, v note.Verifier) (Checkpoint, error) {
	n, err := note.Open(signed, note.VerifierList(v))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	cp, err := ParseCheckpoint(n.Text)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	if cp.Origin != origin {
		return Checkpoint{}, fmt.Errorf("%w: origin is %q, not %q", ErrCheckpoint, cp.Origin, origin)
	}
	return cp, nil
}

// ParseCheckpoint reads the body of a checkpoint: origin, size and root, one a line. It proves nothing; readers use
// OpenCheckpoint.
func ParseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[0] == "" || lines[3] != "" {
		return Checkpoint{}, errors.New("the body is not three lines")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || size > maxSize || strconv.FormatInt(size, 10) != lines[1] {
		return Checkpoint{}, fmt.Errorf("size %q is not a decimal number", lines[1])
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != len(bulkhead.Hash{}) {
		return Checkpoint{}, errors.New("root is not a SHA-256 hash in base64")
	}
	return Checkpoint{Origin: lines[0], Size: size, Root: bulkhead.Hash(root)}, nil
}

// Body is the text that a log signs for cp.
func (cp Checkpoint) Body() string {
	return fmt.Sprintf("%s\n%d\n%s\n", cp.Origin, cp.Size, base64.StdEncoding.EncodeToString(cp.Root[:]))
}
