package probe

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
)

// Bounds of one connection.
const (
	maxFlight = 1 << 20 // bytes that we read before the server hello is done; real ones stay below 100 kB
	maxAnswer = 1 << 17 // bytes that we read after a heartbeat; two answers are 33 kB
	maxChain  = 1 << 18 // bytes of a certificate message that are kept
	maxStaple = 1 << 16
)

// What ends a conversation.
var (
	errSilence   = errors.New("the server fell silent")
	errClosed    = errors.New("the server closed the connection")
	errTooMuch   = errors.New("the server sent more than any server does")
	errNotTLS    = errors.New("what the server sent is not TLS")
	errMalformed = errors.New("the server sent malformed TLS")
)

// alertError is a fatal alert of the server.
type alertError byte

// Error implements error.
func (a alertError) Error() string { return "fatal alert " + alertName(byte(a)) }

// wire is one connection, counted and bounded. It reads ahead into a buffer of its own and keeps nothing else.
type wire struct {
	c        net.Conn
	buf      [2048]byte
	r, w     int
	received int64
	sent     int64
	limit    int64 // of received
}

func (w *wire) write(p []byte) error {
	n, err := w.c.Write(p)
	w.sent += int64(n)
	return plain(err)
}

// fill reads at least one byte into the empty buffer.
func (w *wire) fill() error {
	if w.received >= w.limit {
		return errTooMuch
	}
	n, err := w.c.Read(w.buf[:])
	w.r, w.w = 0, n
	w.received += int64(n)
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return plain(err)
}

// ReadByte implements io.ByteReader.
func (w *wire) ReadByte() (byte, error) {
	if w.r == w.w {
		if err := w.fill(); err != nil {
			return 0, err
		}
	}
	w.r++
	return w.buf[w.r-1], nil
}

// next gives up to n buffered bytes, valid until the next call.
func (w *wire) next(n int) ([]byte, error) {
	if w.r == w.w {
		if err := w.fill(); err != nil {
			return nil, err
		}
	}
	n = min(n, w.w-w.r)
	p := w.buf[w.r : w.r+n]
	w.r += n
	return p, nil
}

// plain maps what the network says to the few things that we tell apart.
func plain(err error) error {
	var ne net.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &ne) && ne.Timeout():
		return errSilence
	default: // end of file, reset, broken pipe
		return errClosed
	}
}

// Record types (RFC 5246 section 6.2.1, RFC 6520).
const (
	recordChangeCipher = 20
	recordAlert        = 21
	recordHandshake    = 22
	recordApplication  = 23
	recordHeartbeat    = 24
)

// maxRecord is the longest record body that may arrive: 2^14 and what encryption may add.
const maxRecord = 1<<14 + 2048

func checkRecord(typ, major byte, length int) error {
	if typ < recordChangeCipher || typ > recordHeartbeat || major != 3 {
		return errNotTLS
	}
	if length > maxRecord {
		return fmt.Errorf("%w: a record of %d bytes", errMalformed, length)
	}
	return nil
}

var alertNames = map[byte]string{
	0: "close_notify", 10: "unexpected_message", 20: "bad_record_mac", 22: "record_overflow", 30: "decompression_failure",
	40: "handshake_failure", 42: "bad_certificate", 43: "unsupported_certificate", 46: "certificate_unknown",
	47: "illegal_parameter", 48: "unknown_ca", 49: "access_denied", 50: "decode_error", 51: "decrypt_error",
	60: "export_restriction", 70: "protocol_version", 71: "insufficient_security", 80: "internal_error",
	86: "inappropriate_fallback", 90: "user_canceled", 100: "no_renegotiation", 109: "missing_extension",
	110: "unsupported_extension", 112: "unrecognized_name", 116: "certificate_required", 120: "no_application_protocol",
}

func alertName(code byte) string {
	if n, ok := alertNames[code]; ok {
		return n
	}
	return fmt.Sprintf("%d", code)
}

const (
	alertProtocolVersion  = 70
	alertUnrecognizedName = 112
	levelFatal            = 2
)
