package bulkhead

import (
	"bytes"
	"encoding/hex"
	"math/big"
	"strings"
)

// MaxSerialOctets is the longest serial number a certificate may carry (RFC 5280 section 4.1.2.2).
const MaxSerialOctets = 20

// Serial is a certificate serial number: a positive integer of at most 20 octets, kept as minimal big-endian bytes.
// It is comparable and usable as a map key. The zero value is no serial (0 is not a legal serial number).
type Serial struct {
	b [MaxSerialOctets]byte // right-aligned big-endian
}

// SerialFromBytes takes big-endian magnitude bytes (leading zeros allowed, no sign). It fails with KindMalformed when
// the value is zero or longer than 20 octets.
func SerialFromBytes(p []byte) (Serial, error) {
	for len(p) > 0 && p[0] == 0 {
		p = p[1:]
	}
	var s Serial
	if len(p) == 0 {
		return s, NewFault(KindMalformed, "serial number is zero or empty").WithHint("serials are lower-case hex, for example 03ab9c")
	}
	if len(p) > MaxSerialOctets {
		return s, Faultf(KindMalformed, "serial number has %d octets, at most %d are allowed (RFC 5280 section 4.1.2.2)", len(p), MaxSerialOctets)
	}
	copy(s.b[MaxSerialOctets-len(p):], p)
	return s, nil
}

// SerialFromBig converts a positive big integer.
func SerialFromBig(n *big.Int) (Serial, error) {
	if n == nil || n.Sign() <= 0 {
		return Serial{}, NewFault(KindMalformed, "serial number is not positive (RFC 5280 section 4.1.2.2)")
	}
	return SerialFromBytes(n.Bytes())
}

// ParseSerial reads hex in any case, with optional colons and leading zeros ("03:AB:9C", "03ab9c").
func ParseSerial(text string) (Serial, error) {
	t := strings.ReplaceAll(strings.TrimSpace(text), ":", "")
	t = strings.TrimPrefix(strings.TrimPrefix(t, "0x"), "0X")
	if len(t)%2 == 1 {
		t = "0" + t
	}
	p, err := hex.DecodeString(t)
	if err != nil {
		return Serial{}, Faultf(KindMalformed, "serial number %q is not hex", text).WithHint("serials are lower-case hex, for example 03ab9c; see: bulkhead cert list")
	}
	return SerialFromBytes(p)
}

// Bytes returns the minimal big-endian magnitude, without the sign octet DER may need.
func (s Serial) Bytes() []byte {
	i := 0
	for i < MaxSerialOctets && s.b[i] == 0 {
		i++
	}
	return append([]byte(nil), s.b[i:]...)
}

// Fixed returns the serial left-padded with zeros to 20 octets: the key used in sorted tables.
func (s Serial) Fixed() [MaxSerialOctets]byte { return s.b }

// Big returns the serial as an integer.
func (s Serial) Big() *big.Int { return new(big.Int).SetBytes(s.b[:]) }

// IsZero reports whether s is no serial at all.
func (s Serial) IsZero() bool { return s == Serial{} }

// String is lower-case hex without leading zeros, the form used in text, JSON and the store. The zero value gives "".
func (s Serial) String() string {
	return strings.TrimLeft(hex.EncodeToString(s.b[:]), "0")
}

// Compare orders serials by value: -1, 0 or 1.
func (s Serial) Compare(o Serial) int {
	return bytes.Compare(s.b[:], o.b[:])
}

// MarshalText implements encoding.TextMarshaler.
func (s Serial) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; the empty text is the zero value.
func (s *Serial) UnmarshalText(p []byte) error {
	if len(p) == 0 {
		*s = Serial{}
		return nil
	}
	v, err := ParseSerial(string(p))
	if err != nil {
		return err
	}
	*s = v
	return nil
}
