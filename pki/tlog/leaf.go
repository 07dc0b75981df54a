package tlog

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"

	"bulkhead"
)

// Version is the first byte of every leaf.
const Version = 1

// MaxDetail is the longest Detail in bytes; MaxText the longest of the other texts.
const (
	MaxDetail = 4096
	MaxText   = 255
)

// maxMilli is 9999-12-31T23:59:59.999Z, the last time that RFC 3339 can print.
const maxMilli = 253402300799999

// Marshal encodes e as a leaf. The same evidence always gives the same bytes; At is cut to milliseconds. It refuses
// what Parse would not read back: an empty kind, times before 1970 or after 9999, a negative count, a Detail over
// 4,096 bytes, other texts over 255 bytes, and text that is not UTF-8.
func Marshal(e bulkhead.Evidence) ([]byte, error) {
	if err := check(e); err != nil {
		return nil, fmt.Errorf("evidence leaf: %w", err)
	}
	serial := e.Serial.Bytes()
	b := make([]byte, 0, fixedSize+len(e.Actor)+len(e.Authority)+len(serial)+len(e.Ref)+len(e.Detail))
	b = append(b, Version)
	b = binary.BigEndian.AppendUint16(b, uint16(e.Kind))
	b = binary.BigEndian.AppendUint64(b, uint64(e.At.UnixMilli()))
	b = append(append(b, byte(len(e.Actor))), e.Actor...)
	b = append(append(b, byte(len(e.Authority))), e.Authority...)
	b = append(append(b, byte(len(serial))), serial...)
	b = append(append(b, byte(len(e.Ref))), e.Ref...)
	for _, h := range [...]*bulkhead.Hash{&e.KeyHash, &e.Signer, &e.Digest, &e.Link} {
		if h.IsZero() {
			b = append(b, 0)
		} else {
			b = append(append(b, byte(len(h))), h[:]...)
		}
	}
	b = binary.BigEndian.AppendUint64(b, uint64(e.Count))
	b = binary.BigEndian.AppendUint16(b, uint16(len(e.Detail)))
	return append(b, e.Detail...), nil
}

// fixedSize is what the largest leaf has beside its texts and its serial.
const fixedSize = 1 + 2 + 8 + 4 + 4*(1+sha256.Size) + 8 + 2

func check(e bulkhead.Evidence) error {
	if e.Kind == 0 {
		return errors.New("it has no kind")
	}
	if ms := e.At.UnixMilli(); ms < 0 || ms > maxMilli {
		return fmt.Errorf("time %s is outside 1970 to 9999", e.At.UTC().Format(time.RFC3339))
	}
	if e.Count < 0 {
		return fmt.Errorf("count %d is negative", e.Count)
	}
	for _, t := range [...]struct {
		name, text string
		max        int
	}{
		{"actor", e.Actor, MaxText},
		{"authority", string(e.Authority), MaxText},
		{"ref", e.Ref, MaxText},
		{"detail", e.Detail, MaxDetail},
	} {
		if len(t.text) > t.max {
			return fmt.Errorf("%s has %d bytes, at most %d are allowed", t.name, len(t.text), t.max)
		}
		if !utf8.ValidString(t.text) {
			return fmt.Errorf("%s is not UTF-8", t.name)
		}
	}
	return nil
}

// Parse reads a leaf and refuses everything that Marshal would not have written: another version, trailing bytes,
// non-UTF-8 text, a serial with leading zeros, a digest that is neither absent nor 32 non-zero bytes. Kinds that this
// version does not know are kept, so that an old reader can walk a newer log.
func Parse(leaf []byte) (bulkhead.Evidence, error) {
	return parseLeaf(leaf, func(b []byte) string { return string(b) })
}

// parseLeaf is Parse; word gives the string of a text that many leaves have.
func parseLeaf(leaf []byte, word func([]byte) string) (bulkhead.Evidence, error) {
	e, err := parse(leaf, word)
	if err != nil {
		return bulkhead.Evidence{}, fmt.Errorf("evidence leaf: %w", err)
	}
	return e, nil
}

func parse(leaf []byte, word func([]byte) string) (e bulkhead.Evidence, err error) {
	s := cryptobyte.String(leaf)
	var version uint8
	if !s.ReadUint8(&version) {
		return e, errors.New("it is empty")
	}
	if version != Version {
		return e, fmt.Errorf("version %d is not known, only %d is", version, Version)
	}
	var kind uint16
	var milli, count uint64
	var actor, authority, serial, ref, detail cryptobyte.String
	var digests [4]cryptobyte.String
	ok := s.ReadUint16(&kind) && s.ReadUint64(&milli) && s.ReadUint8LengthPrefixed(&actor) &&
		s.ReadUint8LengthPrefixed(&authority) && s.ReadUint8LengthPrefixed(&serial) && s.ReadUint8LengthPrefixed(&ref) &&
		s.ReadUint8LengthPrefixed(&digests[0]) && s.ReadUint8LengthPrefixed(&digests[1]) &&
		s.ReadUint8LengthPrefixed(&digests[2]) && s.ReadUint8LengthPrefixed(&digests[3]) &&
		s.ReadUint64(&count) && s.ReadUint16LengthPrefixed(&detail)
	if !ok {
		return e, errors.New("it is cut short")
	}
	if !s.Empty() {
		return e, fmt.Errorf("%d bytes trail it", len(s))
	}
	if milli > maxMilli || count > math.MaxInt64 {
		return e, errors.New("time or count is out of range")
	}
	e = bulkhead.Evidence{
		Kind: bulkhead.EvidenceKind(kind), At: time.UnixMilli(int64(milli)).UTC(), Actor: word(actor),
		Authority: bulkhead.AuthorityID(word(authority)), Ref: string(ref), Count: int64(count), Detail: string(detail),
	}
	if e.Serial, err = parseSerial(serial); err != nil {
		return e, err
	}
	for i, h := range []*bulkhead.Hash{&e.KeyHash, &e.Signer, &e.Digest, &e.Link} {
		if *h, err = parseDigest(digests[i]); err != nil {
			return e, err
		}
	}
	return e, check(e)
}

func parseSerial(p []byte) (bulkhead.Serial, error) {
	if len(p) == 0 {
		return bulkhead.Serial{}, nil
	}
	if p[0] == 0 {
		return bulkhead.Serial{}, errors.New("serial has leading zeros")
	}
	return bulkhead.SerialFromBytes(p)
}

func parseDigest(p []byte) (h bulkhead.Hash, err error) {
	switch len(p) {
	case 0:
		return h, nil
	case len(h):
		copy(h[:], p)
		if h.IsZero() {
			return h, errors.New("a digest is present but zero")
		}
		return h, nil
	default:
		return h, fmt.Errorf("a digest has %d bytes", len(p))
	}
}

// KindOf reads the kind of a leaf and nothing else of it; 0 for what is no leaf of this version.
func KindOf(leaf []byte) bulkhead.EvidenceKind {
	if len(leaf) < 3 || leaf[0] != 1 {
		return 0
	}
	return bulkhead.EvidenceKind(leaf[1])<<8 | bulkhead.EvidenceKind(leaf[2])
}
