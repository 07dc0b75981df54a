package probetest

import (
	"bytes"
	"encoding/binary"
	"time"
)

// memory is what a faulty server returns in place of its own.
const memory = 'M'

// react does what the behaviour does on a record after the flight. It reports whether the conversation goes on.
func (t *talk) react(typ byte, body []byte) bool {
	if typ == 21 {
		return false
	}
	if typ != 24 || len(body) < 3 || body[0] != 1 {
		return true
	}
	time.Sleep(t.b.Late)
	claim := int(binary.BigEndian.Uint16(body[1:]))
	what := t.b.WellFormed
	if 3+claim+16 > len(body) {
		what = t.b.Malformed
	}
	goes := t.answer(what, claim, body[3:])
	if goes && t.b.Edge {
		return t.edge()
	}
	return goes
}

func (t *talk) answer(what Reaction, claim int, sent []byte) bool {
	switch what {
	case Discard:
	case Answer:
		t.heartbeat(claim, sent[:min(claim, len(sent))], claim)
	case Clip:
		t.heartbeat(len(sent), sent, len(sent))
	case ClipMisled:
		t.heartbeat(claim, sent, len(sent))
	case Alert:
		t.alert(2, 10)
	case CloseNotify:
		t.alert(1, 0)
		return false
	case Close:
		return false
	case Reset:
		t.reset()
		return false
	case Truncate, Hang:
		t.write([]byte{24, byte(t.version >> 8), byte(t.version), 0x3f, 0xfc, 2, byte(claim >> 8), byte(claim), memory})
		if what == Hang {
			t.wait()
		}
		return false
	case Flood:
		t.endless(appendRecords(nil, 24, t.version, 1<<14, append([]byte{2, 0, 8}, bytes.Repeat([]byte{memory}, 24)...)))
		return false
	case Garbage:
		t.write([]byte("500 internal error\r\n"))
		return false
	}
	return what != Alert
}

// heartbeat writes a response: what it claims, what was sent, filled up to total with what stands for memory, padding.
func (t *talk) heartbeat(claim int, sent []byte, total int) {
	p := append([]byte{2, byte(claim >> 8), byte(claim)}, sent...)
	for len(p) < 3+total+16 {
		p = append(p, memory)
	}
	size := 1 << 14
	if t.b.SplitAnswer > 0 {
		size = t.b.SplitAnswer
	}
	t.buffer(appendRecords(nil, 24, t.version, size, p))
}

// edge waits for more to arrive, whatever is there already: the server went back to its event loop, which wakes it only
// for what is new.
func (t *talk) edge() bool {
	_ = t.c.SetReadDeadline(time.Now().Add(time.Millisecond))
	for t.drain() == nil {
	}
	_ = t.c.SetReadDeadline(time.Time{})
	return t.more() == nil
}

func (t *talk) drain() error {
	var p [4096]byte
	n, err := t.c.Read(p[:])
	t.in = append(t.in, p[:n]...)
	return err
}
