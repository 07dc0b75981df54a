package keycheck

import (
	"bufio"
	"bytes"
	"crypto/sha1" //nolint:gosec // the format of openssl-blacklist is SHA-1; it names keys, it does not protect anything
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"

	"bulkhead"
)

// Lengths of the truncated hashes that lists hold.
const (
	sha1Tail   = 10 // last 80 bits of SHA-1("Modulus=HEX\n"), openssl-blacklist
	sha256Head = 15 // first 120 bits of SHA-256(modulus, or x coordinate), badkeys
)

// List is a set of weak keys, each named by a truncated hash. It does not change after parsing and may be shared.
type List struct {
	Name   string
	sha1   [][sha1Tail]byte
	sha256 [][sha256Head]byte
}

// Len is the number of different entries.
func (l *List) Len() int { return len(l.sha1) + len(l.sha256) }

// ParseList reads a text list. Every line is empty, a comment after "#", or one entry in hex of any case:
//
//   - 20 digits: the last 80 bits of the SHA-1 of "Modulus=" + modulus in upper-case hex + "\n". These are the files
//     blacklist.RSA-2048 and so on of Debian's openssl-blacklist; make one with
//     openssl rsa -noout -modulus | sha1sum | cut -c 21-40
//   - 40 digits: the same hash in full
//   - 30 digits: the first 120 bits of the SHA-256 of the modulus (of the x coordinate for elliptic curves) as minimal
//     big-endian bytes, the hash of badkeys; Ed25519 keys count as the number that their 32 bytes spell
//   - 64 digits: the same hash in full
//
// Quotes, commas and brackets around entries are ignored, so that a JSON array of such strings, an entry a line or all
// on one, is a list too. Anything else is KindMalformed with the line number.
func ParseList(name string, r io.Reader) (*List, error) {
	l := &List{Name: name}
	in := bufio.NewScanner(r)
	in.Buffer(nil, 16<<20)
	for line := 1; in.Scan(); line++ {
		text, _, _ := strings.Cut(in.Text(), "#")
		for _, entry := range strings.FieldsFunc(text, separator) {
			if err := l.add(entry); err != nil {
				return nil, bulkhead.Faultf(bulkhead.KindMalformed, "weak-key list %s, line %d: %v", name, line, err).
					WithHint("entries are 20, 30, 40 or 64 hex digits; binary badkeys files are read by ParseBadkeys")
			}
		}
	}
	if err := in.Err(); err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindMalformed, "weak-key list %s cannot be read", name).WithCause(err)
	}
	l.sort()
	return l, nil
}

func separator(r rune) bool { return strings.ContainsRune(" \t\r\",[]", r) }

func (l *List) add(entry string) error {
	p, err := hex.DecodeString(entry)
	if err != nil {
		return fmt.Errorf("%.80q is not hex", entry)
	}
	switch len(p) {
	case sha1Tail, sha1.Size:
		l.sha1 = append(l.sha1, [sha1Tail]byte(p[len(p)-sha1Tail:]))
	case sha256Head, sha256.Size:
		l.sha256 = append(l.sha256, [sha256Head]byte(p))
	default:
		return fmt.Errorf("%.80q has %d hex digits", entry, len(entry))
	}
	return nil
}

// ParseBadkeys reads the binary block list of the badkeys project (blocklist.dat): records of 16 bytes, the 120 bits
// of ParseList and one byte that names the collection. It fails with KindMalformed.
func ParseBadkeys(name string, r io.Reader) (*List, error) {
	p, err := io.ReadAll(r)
	if err != nil || len(p)%(sha256Head+1) != 0 {
		return nil, bulkhead.Faultf(bulkhead.KindMalformed, "weak-key list %s is not a badkeys block list: %d bytes are no whole number of records", name, len(p)).
			WithHint("fetch it again, for example with: badkeys --update-bl").WithCause(err)
	}
	l := &List{Name: name}
	for record := range slices.Chunk(p, sha256Head+1) {
		l.sha256 = append(l.sha256, [sha256Head]byte(record))
	}
	l.sort()
	return l, nil
}

func (l *List) sort() {
	slices.SortFunc(l.sha1, func(a, b [sha1Tail]byte) int { return bytes.Compare(a[:], b[:]) })
	slices.SortFunc(l.sha256, func(a, b [sha256Head]byte) int { return bytes.Compare(a[:], b[:]) })
	l.sha1, l.sha256 = slices.Compact(l.sha1), slices.Compact(l.sha256)
}

func (l *List) hasModulus(n *big.Int) bool {
	if len(l.sha1) > 0 {
		h := sha1.Sum(fmt.Appendf(nil, "Modulus=%X\n", n)) //nolint:gosec // see the import
		tail := [sha1Tail]byte(h[sha1.Size-sha1Tail:])
		if _, ok := slices.BinarySearchFunc(l.sha1, tail, func(a, b [sha1Tail]byte) int { return bytes.Compare(a[:], b[:]) }); ok {
			return true
		}
	}
	return l.hasNumber(n.Bytes())
}

// hasNumber looks up a modulus or x coordinate, given as minimal big-endian bytes.
func (l *List) hasNumber(p []byte) bool {
	if len(l.sha256) == 0 {
		return false
	}
	h := sha256.Sum256(p)
	head := [sha256Head]byte(h[:])
	_, ok := slices.BinarySearchFunc(l.sha256, head, func(a, b [sha256Head]byte) int { return bytes.Compare(a[:], b[:]) })
	return ok
}
