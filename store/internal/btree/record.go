package btree

import (
	"encoding/binary"
	"math"
)

// Value is one column of a row: good until the cursor moves.
type Value struct {
	Kind  Kind
	Int   int64  // of an Integer
	Bytes []byte // of a Text or Blob
}

// Kind is the type under which a value is stored (section 2.1).
type Kind uint8

// Kinds of values. A real number is none that any table here holds; it is read as its bits.
const (
	Null Kind = iota
	Integer
	Real
	Text
	Blob
)

// Columns reads the first len(to) columns of the row. A row that was written before a column was added is shorter: what it lacks
// is left as it stands in to.
func (c *Cursor) Columns(to []Value) error {
	head, n, ok := varint(c.payload)
	if !ok || head > uint64(len(c.payload)) || int(head) < n {
		return malformed("the header of a record has %d octets of %d", head, len(c.payload))
	}
	body := c.payload[head:]
	types := c.payload[n:head]
	for i := range to {
		if len(types) == 0 {
			return nil
		}
		serial, n, ok := varint(types)
		if !ok {
			return malformed("the header of a record is cut off")
		}
		types = types[n:]
		size := sizeOf(serial)
		if size > uint64(len(body)) {
			return malformed("column %d leaves its record", i)
		}
		to[i] = value(serial, body[:size:size])
		body = body[size:]
	}
	return nil
}

// sizes of the serial types 0 to 11; 10 and 11 are reserved and never stored.
var sizes = [12]uint64{0, 1, 2, 3, 4, 6, 8, 8, 0, 0, math.MaxUint64, math.MaxUint64}

func sizeOf(serial uint64) uint64 {
	if serial < uint64(len(sizes)) {
		return sizes[serial]
	}
	return (serial - 12) / 2
}

func value(serial uint64, p []byte) Value {
	switch {
	case serial >= 12 && serial%2 == 0:
		return Value{Kind: Blob, Bytes: p}
	case serial >= 12:
		return Value{Kind: Text, Bytes: p}
	}
	switch serial {
	case 0:
		return Value{}
	case 7:
		return Value{Kind: Real, Int: int64(binary.BigEndian.Uint64(p))}
	case 8:
		return Value{Kind: Integer}
	case 9:
		return Value{Kind: Integer, Int: 1}
	}
	v := int64(int8(p[0])) // the sign is in the first octet
	for _, b := range p[1:] {
		v = v<<8 | int64(b)
	}
	return Value{Kind: Integer, Int: v}
}
