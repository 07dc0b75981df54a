package probe

import (
	"encoding/binary"
	"fmt"
)

// The two heartbeats (RFC 6520 section 4: type, payload length, payload, at least 16 bytes of padding).
//
// The malformed one claims one byte of payload more than its record holds, padding included: whoever answers it in full
// has read exactly one byte that was not sent, and whoever checks lengths discards it. Sizes are as large as they are
// because servers buffer what they write during a handshake (OpenSSL about 4 kB, nginx 16,384 bytes): an answer and its
// record header must together exceed 16,384 bytes to come out. They differ so that the answers can be told apart.
const (
	heartbeatHeader  = 3
	heartbeatPadding = 16

	malformedClaim = 16361              // payload length claimed; the full answer has 16,380 bytes
	malformedSent  = malformedClaim - 1 // payload bytes that are there
	wellFormed     = 16365              // payload of the largest record: 3 + 16,365 + 16 = 2^14

	heartbeatRequest  = 1
	heartbeatResponse = 2
)

// filler is what both payloads consist of, so that whoever finds it in a capture knows what it was.
const filler = "bulkhead CVE-2014-0160 check; "

// requests are the records for each version, made once: [0] malformed, [1] well-formed.
var requests = func() map[uint16][2][]byte {
	m := make(map[uint16][2][]byte, len(legacy))
	for _, v := range legacy {
		m[v] = [2][]byte{heartbeat(v, malformedClaim, malformedSent), heartbeat(v, wellFormed, wellFormed+heartbeatPadding)}
	}
	return m
}()

// heartbeat writes a request in one record. Its version must be that of the server hello: OpenSSL answers any other with
// an alert, which would look like a refusal of the heartbeat.
func heartbeat(version uint16, claim, body int) []byte {
	p := make([]byte, 0, 5+heartbeatHeader+body)
	p = append(p, recordHeartbeat, byte(version>>8), byte(version))
	p = binary.BigEndian.AppendUint16(p, uint16(heartbeatHeader+body))
	p = append(p, heartbeatRequest)
	p = binary.BigEndian.AppendUint16(p, uint16(claim))
	for len(p) < cap(p) {
		p = append(p, filler[:min(len(filler), cap(p)-len(p))]...)
	}
	return p
}

// answer is what the records after a heartbeat amount to.
type answer int

const (
	answerNone     answer = iota // nothing yet
	answerOverread               // to the malformed one, in full: with a byte that was not sent
	answerClipped                // to the malformed one, with no more than was sent
	answerGood                   // to the well-formed one
	answerAlert                  // fatal alert
	answerClose                  // close_notify
)

// answers measures what comes after a heartbeat. It is fed bytes as they arrive and keeps nothing of a payload.
type answers struct {
	header  [5]byte
	n       int // bytes of header
	typ     byte
	left    int     // of the record at hand
	small   [3]byte // first bytes of an alert or of a heartbeat message
	m       int     // bytes in small
	open    bool    // a heartbeat message is under way
	payload int     // that it claims
	got     int     // bytes of it so far
	alert   byte
	records int
	size    int // of the last complete message
}

const maxAnswerRecords = 4096

// feed takes what arrived and says what it completes; rest is what was not looked at because of that.
func (a *answers) feed(p []byte) (what answer, rest []byte, err error) {
	for len(p) > 0 {
		if a.n < len(a.header) {
			a.header[a.n] = p[0]
			a.n++
			p = p[1:]
			if a.n == 2 || a.n == len(a.header) {
				if what, err = a.begin(); err != nil || what != answerNone {
					return what, p, err
				}
			}
			continue
		}
		n := min(len(p), a.left)
		a.take(p[:n])
		p = p[n:]
		if a.left == 0 {
			if what, err = a.end(); err != nil || what != answerNone {
				return what, p, err
			}
		}
	}
	return answerNone, nil, nil
}

// begin looks at a record header. A clipped answer is known for one when the record after it is not its rest.
func (a *answers) begin() (answer, error) {
	length := 0
	if a.n == len(a.header) {
		length = int(binary.BigEndian.Uint16(a.header[3:]))
	}
	if err := checkRecord(a.header[0], a.header[1], length); err != nil || a.n < len(a.header) {
		return answerNone, err
	}
	if a.records++; a.records > maxAnswerRecords {
		return answerNone, errTooMuch
	}
	a.typ, a.left, a.m = a.header[0], length, 0
	clipped := false
	if a.open && a.typ == recordHeartbeat && a.got >= heartbeatHeader+a.payload && length != a.whole()-a.got {
		a.open, clipped = false, true
	}
	if length == 0 {
		a.n = 0
	}
	if clipped {
		return a.judge(), nil
	}
	return answerNone, nil
}

// whole is the length of the open message with the padding that it must have.
func (a *answers) whole() int { return heartbeatHeader + a.payload + heartbeatPadding }

// take counts body bytes of the record at hand.
func (a *answers) take(p []byte) {
	a.left -= len(p)
	if a.typ == recordHeartbeat && a.open {
		a.got += len(p)
		return
	}
	if a.m < len(a.small) {
		a.m += copy(a.small[a.m:], p)
	}
}

// end looks at a record that is complete.
func (a *answers) end() (answer, error) {
	a.n = 0
	switch {
	case a.typ == recordAlert && a.m >= 2 && a.small[0] == levelFatal:
		a.alert = a.small[1]
		return answerAlert, nil
	case a.typ == recordAlert && a.m >= 2 && a.small[1] == 0:
		return answerClose, nil
	case a.typ == recordAlert && a.m < 2:
		return answerNone, fmt.Errorf("%w: a short alert", errMalformed)
	case a.typ != recordHeartbeat:
		return answerNone, nil
	}
	if !a.open {
		if a.m < len(a.small) || a.small[0] != heartbeatResponse {
			return answerNone, nil // a request of the server, or too short to be a message
		}
		a.open, a.payload = true, int(binary.BigEndian.Uint16(a.small[1:]))
		a.got = int(binary.BigEndian.Uint16(a.header[3:]))
	}
	if a.got < a.whole() && (a.payload == malformedClaim || a.payload == wellFormed) {
		return answerNone, nil // the rest may come in another record
	}
	a.open = false
	return a.judge(), nil
}

// judge says which heartbeat the message at hand answers.
func (a *answers) judge() answer {
	a.size = a.got
	switch {
	case a.payload == malformedClaim && a.got >= a.whole():
		return answerOverread
	case a.payload == malformedClaim, a.payload == malformedSent && a.got >= a.whole(),
		a.payload == malformedSent-heartbeatPadding && a.got >= a.whole():
		return answerClipped
	case a.payload == wellFormed && a.got >= a.whole():
		return answerGood
	}
	return answerNone
}

// halfway reports whether an answer began and did not end.
func (a *answers) halfway() bool {
	return a.open || a.n == len(a.header) && a.typ == recordHeartbeat && a.left > 0 || a.n > 0 && a.header[0] == recordHeartbeat
}
