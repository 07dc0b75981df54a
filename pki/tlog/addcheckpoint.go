package tlog

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"bulkhead"
)

// MaxAddCheckpoint bounds the body of an add-checkpoint request, in octets: 63 hashes, and a note with room for signatures.
const MaxAddCheckpoint = 64 << 10

// maxConsistency is the most hashes that a consistency proof has (C2SP tlog-witness).
const maxConsistency = 63

// AddCheckpoint is the body of a request to a witness (C2SP tlog-witness): the size that the witness is thought to have
// cosigned last, the proof from there, and the signed checkpoint.
type AddCheckpoint struct {
	Old   int64
	Proof []bulkhead.Hash
	Note  []byte
}

// Marshal writes the body.
func (a AddCheckpoint) Marshal() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "old %d\n", a.Old)
	for _, h := range a.Proof {
		b.WriteString(base64.StdEncoding.EncodeToString(h[:]) + "\n")
	}
	b.WriteByte('\n')
	b.Write(a.Note)
	return b.Bytes()
}

// ParseAddCheckpoint reads a body. The note is not looked at.
func ParseAddCheckpoint(body []byte) (a AddCheckpoint, err error) {
	if len(body) > MaxAddCheckpoint {
		return a, errors.New("the request is too long")
	}
	head, text, ok := bytes.Cut(body, []byte("\n\n"))
	if !ok {
		return a, errors.New("no empty line before the checkpoint")
	}
	lines := strings.Split(string(head), "\n")
	size, ok := strings.CutPrefix(lines[0], "old ")
	if a.Old, err = strconv.ParseInt(size, 10, 64); !ok || err != nil || a.Old < 0 || a.Old > maxSize || strconv.FormatInt(a.Old, 10) != size {
		return a, errors.New("the first line is not \"old\" and a size")
	}
	if len(lines)-1 > maxConsistency {
		return a, fmt.Errorf("a proof has at most %d hashes", maxConsistency)
	}
	for _, l := range lines[1:] {
		raw, err := base64.StdEncoding.Strict().DecodeString(l)
		if err != nil || len(raw) != len(bulkhead.Hash{}) {
			return a, errors.New("a line of the proof is not a hash in base64")
		}
		a.Proof = append(a.Proof, bulkhead.Hash(raw))
	}
	a.Note = text
	return a, nil
}

// ProveConsistency makes the proof, from tiles proved against newer, that the log of newer begins with the first older
// leaves (RFC 6962 section 2.1.2). It is empty for 0 leaves and for equal sizes.
func ProveConsistency(read TileReader, older int64, newer Checkpoint) ([]bulkhead.Hash, error) {
	if older < 0 || older > newer.Size {
		return nil, fmt.Errorf("%d leaves are not within %d: %w", older, newer.Size, ErrFork)
	}
	if older == 0 || older == newer.Size {
		return nil, nil
	}
	proof, err := tlog.ProveTree(newer.Size, older, newTiles(read).hashes(newer))
	if err != nil {
		return nil, fmt.Errorf("consistency of %d with %d leaves: %w", newer.Size, older, err)
	}
	out := make([]bulkhead.Hash, len(proof))
	for i, h := range proof {
		out[i] = bulkhead.Hash(h)
	}
	return out, nil
}

// CheckConsistency verifies a proof that newer begins with older. Errors wrap ErrProof, or ErrFork where no proof could help.
func CheckConsistency(proof []bulkhead.Hash, older, newer Checkpoint) error {
	switch {
	case older.Origin != newer.Origin || older.Size > newer.Size:
		return fmt.Errorf("%d leaves of %q cannot begin with %d of %q: %w", newer.Size, newer.Origin, older.Size, older.Origin, ErrFork)
	case older.Size == newer.Size && older.Root != newer.Root:
		return fmt.Errorf("two roots for %d leaves: %w", older.Size, ErrFork)
	case older.Size == newer.Size, older.Size == 0:
		if len(proof) > 0 {
			return fmt.Errorf("%d hashes prove what needs none: %w", len(proof), ErrProof)
		}
		return nil
	}
	list := make(tlog.TreeProof, len(proof))
	for i, h := range proof {
		list[i] = tlog.Hash(h)
	}
	if err := tlog.CheckTree(list, newer.Size, tlog.Hash(newer.Root), older.Size, tlog.Hash(older.Root)); err != nil {
		return fmt.Errorf("the proof does not lead from %d to %d leaves: %w", older.Size, newer.Size, ErrProof)
	}
	return nil
}
