package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// flight is what a server says up to ServerHelloDone.
type flight struct {
	hello     bool // a server hello was read
	version   uint16
	suite     uint16
	heartbeat bool // the extension was negotiated and lets us send
	demands   bool // a client certificate is asked for
	chain     [][]byte
	staple    []byte
}

// Handshake message types (RFC 5246 section 7.4, RFC 6066 section 8).
const (
	msgHelloRequest      = 0
	msgServerHello       = 2
	msgCertificate       = 11
	msgServerKeyExchange = 12
	msgCertRequest       = 13
	msgServerHelloDone   = 14
	msgCertStatus        = 22
)

// What no server has a reason to exceed.
const (
	maxWarnings     = 16
	maxCertificates = 128
)

// handshakes reads the handshake bytes that lie spread over records.
type handshakes struct {
	w        *wire
	left     int // of the record at hand
	warnings int
}

// record goes to the next handshake record. Warnings and unasked heartbeats are passed over; a fatal alert is an error.
func (h *handshakes) record() error {
	for {
		typ, n, err := readHeader(h.w)
		if err != nil {
			return err
		}
		switch typ {
		case recordHandshake:
			h.left = n
			if n > 0 {
				return nil
			}
		case recordAlert:
			if err := h.alert(n); err != nil {
				return err
			}
		case recordHeartbeat:
			if err := skip(h.w, n); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%w: record type %d within the handshake", errMalformed, typ)
		}
	}
}

func (h *handshakes) alert(n int) error {
	if n != 2 {
		return fmt.Errorf("%w: an alert of %d bytes", errMalformed, n)
	}
	level, err := h.w.ReadByte()
	if err != nil {
		return err
	}
	code, err := h.w.ReadByte()
	if err != nil {
		return err
	}
	if level == levelFatal {
		return alertError(code)
	}
	if code == 0 {
		return errClosed
	}
	if h.warnings++; h.warnings > maxWarnings {
		return errTooMuch
	}
	return nil
}

func readHeader(w *wire) (typ byte, length int, err error) {
	var p [5]byte
	for i := range p {
		if p[i], err = w.ReadByte(); err != nil {
			return 0, 0, err
		}
		if i == 1 { // a line of text is told from TLS by its first bytes, however short it is
			if err := checkRecord(p[0], p[1], 0); err != nil {
				return 0, 0, err
			}
		}
	}
	length = int(binary.BigEndian.Uint16(p[3:]))
	return p[0], length, checkRecord(p[0], p[1], length)
}

func skip(w *wire, n int) error {
	for n > 0 {
		p, err := w.next(n)
		if err != nil {
			return err
		}
		n -= len(p)
	}
	return nil
}

// next gives up to n bytes of handshake.
func (h *handshakes) next(n int) ([]byte, error) {
	if h.left == 0 {
		if err := h.record(); err != nil {
			return nil, err
		}
	}
	p, err := h.w.next(min(n, h.left))
	h.left -= len(p)
	return p, err
}

// message is one handshake message that is read piece by piece, so that its length costs nothing.
type message struct {
	h    *handshakes
	left int
}

var errShort = fmt.Errorf("%w: a field runs past its end", errMalformed)

func (m *message) skip(n int) error {
	if n > m.left {
		return errShort
	}
	for n > 0 {
		p, err := m.h.next(n)
		if err != nil {
			return err
		}
		n -= len(p)
		m.left -= len(p)
	}
	return nil
}

func (m *message) uint(size int) (v int, err error) {
	if size > m.left {
		return 0, errShort
	}
	for range size {
		p, err := m.h.next(1)
		if err != nil {
			return 0, err
		}
		v = v<<8 | int(p[0])
		m.left--
	}
	return v, nil
}

// bytes keeps n bytes. It grows with what arrives, not with what was announced.
func (m *message) bytes(n int) ([]byte, error) {
	if n > m.left {
		return nil, errShort
	}
	out := make([]byte, 0, min(n, 4096))
	for len(out) < n {
		p, err := m.h.next(n - len(out))
		if err != nil {
			return nil, err
		}
		out = append(out, p...)
		m.left -= len(p)
	}
	return out, nil
}

// readFlight reads up to ServerHelloDone. With keep it keeps the certificates and the stapled answer, else nothing. What
// was read before an error is in f. With only it stops after a server hello that negotiates no heartbeat.
func readFlight(w *wire, f *flight, keep, only bool) error {
	h := &handshakes{w: w}
	for {
		m := &message{h: h, left: 4}
		typ, err := m.uint(1)
		if err != nil {
			return err
		}
		if m.left, err = m.uint(3); err != nil {
			return err
		}
		if typ != msgServerHello && typ != msgHelloRequest && !f.hello {
			return fmt.Errorf("%w: message %d in place of a server hello", errMalformed, typ)
		}
		if err := f.read(m, typ, keep); err != nil {
			return err
		}
		if typ == msgServerHelloDone && h.left > 0 {
			return fmt.Errorf("%w: %d bytes follow the end of the server's hello", errMalformed, h.left)
		}
		if typ == msgServerHelloDone || only && f.hello && !f.heartbeat {
			return nil
		}
	}
}

func (f *flight) read(m *message, typ int, keep bool) error {
	switch typ {
	case msgServerHello:
		if f.hello {
			return fmt.Errorf("%w: a second server hello", errMalformed)
		}
		return f.serverHello(m)
	case msgCertificate:
		if keep && f.chain == nil && m.left <= maxChain {
			return f.certificates(m)
		}
	case msgCertStatus:
		if keep && f.staple == nil && m.left <= maxStaple {
			return f.status(m)
		}
	case msgCertRequest:
		f.demands = true
	case msgServerHelloDone:
		if m.left != 0 {
			return fmt.Errorf("%w: a server hello done with a body", errMalformed)
		}
	case msgHelloRequest, msgServerKeyExchange:
	default:
		return fmt.Errorf("%w: message %d before the server hello is done", errMalformed, typ)
	}
	return m.skip(m.left)
}

func (f *flight) serverHello(m *message) error {
	v, err := m.uint(2)
	if err != nil {
		return err
	}
	if err = m.skip(32); err != nil {
		return err
	}
	n, err := m.uint(1)
	if err != nil {
		return err
	}
	if n > 32 {
		return fmt.Errorf("%w: a session id of %d bytes", errMalformed, n)
	}
	if err = m.skip(n); err != nil {
		return err
	}
	suite, err := m.uint(2)
	if err != nil {
		return err
	}
	if _, err = m.uint(1); err != nil { // compression
		return err
	}
	f.version, f.suite = uint16(v), uint16(suite)
	if m.left > 0 {
		if err := f.extensions(m); err != nil {
			return err
		}
	}
	f.hello = true
	return nil
}

func (f *flight) extensions(m *message) error {
	total, err := m.uint(2)
	if err != nil {
		return err
	}
	if total != m.left {
		return errShort
	}
	for m.left > 0 {
		id, err := m.uint(2)
		if err != nil {
			return err
		}
		n, err := m.uint(2)
		if err != nil {
			return err
		}
		if id == extHeartbeat && n == 1 {
			mode, err := m.uint(1)
			if err != nil {
				return err
			}
			// 2 is peer_not_allowed_to_send. The faulty OpenSSL answered all the same, so it counts as negotiated.
			f.heartbeat = mode == 1 || mode == 2
			continue
		}
		if err := m.skip(n); err != nil {
			return err
		}
	}
	return nil
}

func (f *flight) certificates(m *message) error {
	total, err := m.uint(3)
	if err != nil {
		return err
	}
	if total != m.left {
		return errShort
	}
	var chain [][]byte
	for m.left > 0 {
		n, err := m.uint(3)
		if err != nil {
			return err
		}
		if n == 0 || len(chain) == maxCertificates {
			return fmt.Errorf("%w: an empty certificate, or more than %d", errMalformed, maxCertificates)
		}
		der, err := m.bytes(n)
		if err != nil {
			return err
		}
		chain = append(chain, der)
	}
	f.chain = chain
	return nil
}

func (f *flight) status(m *message) error {
	if kind, err := m.uint(1); err != nil || kind != 1 {
		return errors.Join(err, m.skip(m.left))
	}
	n, err := m.uint(3)
	if err != nil {
		return err
	}
	if n != m.left {
		return errShort
	}
	f.staple, err = m.bytes(n)
	return err
}
