package tlog

import (
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
	b := cryptobyte.NewBuilder(make([]byte, 0, 256))
	b.AddUint8(Version)
	b.AddUint16(uint16(e.Kind))
	b.AddUint64(uint64(e.At.UnixMilli()))
	addShort(b, []byte(e.Actor))
	addShort(b, []byte(e.Authority))
	addShort(b, e.Serial.Bytes())
	addShort(b, []byte(e.Ref))
	for _, h := range []bulkhead.Hash{e.KeyHash, e.Signer, e.Digest, e.Link} {
		if h.IsZero() {
			addShort(b, nil)
		} else {
			addShort(b, h[:])
		}
	}
	b.AddUint64(uint64(e.Count))
	b.AddUint16LengthPrefixed(func(c *cryptobyte.Builder) { c.AddBytes([]byte(e.Detail)) })
	return b.Bytes()
}

func addShort(b *cryptobyte.Builder, p []byte) {
	b.AddUint8LengthPrefixed(func(c *cryptobyte.Builder) { c.AddBytes(p) })
}

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
	texts := []struct {
		name, text string
		max        int
	}{
		{"actor", e.Actor, MaxText},
		{"authority", string(e.Authority), MaxText},
		{"ref", e.Ref, MaxText},
		{"detail", e.Detail, MaxDetail},
	}
	for _, t := range texts {
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
