package probe

import (
	"bytes"
	"errors"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/pki/keycheck"
)

// script is a connection that plays what a server says, step bytes at a time.
type script struct {
	in   io.Reader
	step int
	out  bytes.Buffer
}

func (s *script) Read(p []byte) (int, error) {
	if s.step > 0 {
		p = p[:min(len(p), s.step)]
	}
	return s.in.Read(p)
}
func (s *script) Write(p []byte) (int, error)      { return s.out.Write(p) }
func (s *script) Close() error                     { return nil }
func (s *script) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv6loopback, Port: 1} }
func (s *script) RemoteAddr() net.Addr             { return s.LocalAddr() }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

func play(text []byte, step int) *wire {
	return &wire{c: &script{in: bytes.NewReader(text), step: step}, limit: maxFlight}
}

// known are the errors that a conversation may end with.
func known(err error) bool {
	var alert alertError
	return err == nil || errors.Is(err, errSilence) || errors.Is(err, errClosed) || errors.Is(err, errTooMuch) ||
		errors.Is(err, errNotTLS) || errors.Is(err, errMalformed) || errors.As(err, &alert)
}

// serverHello is a flight of the shortest kind, with heartbeat.
var serverHello = append(append([]byte{22, 3, 3, 0, 53, 2, 0, 0, 45, 3, 3}, make([]byte, 32)...),
	0, 0, 0x2f, 0, 0, 5, 0, 15, 0, 1, 1, 14, 0, 0, 0)

// FuzzFlight: whatever a server sends before its hello is done is read or refused, the same however it is cut.
func FuzzFlight(f *testing.F) {
	f.Add(serverHello)
	f.Add(append(append([]byte{22, 3, 3, 0, 54}, serverHello[5:]...), 0))
	f.Add([]byte{21, 3, 1, 0, 2, 2, 40})
	f.Add([]byte{21, 3, 1, 0, 2, 1, 112, 22, 3, 0, 0, 4, 0, 0, 0, 0})
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	f.Add([]byte("\x16\x03\x01\x00\x04\x0b\xff\xff\xff"))
	f.Add(append(serverHello[:len(serverHello):len(serverHello)], 22, 3, 3, 0, 11, 11, 0, 0, 7, 0, 0, 4, 0, 0, 1, 9))
	f.Add(append(serverHello[:len(serverHello):len(serverHello)], 22, 3, 3, 0, 9, 22, 0, 0, 5, 1, 0, 0, 1, 9))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, keep := range []bool{true, false} {
			var whole, pieces flight
			err := readFlight(play(text, 0), &whole, keep, false)
			err1 := readFlight(play(text, 1), &pieces, keep, false)
			if !known(err) || (err == nil) != (err1 == nil) || err != nil && err.Error() != err1.Error() || !reflect.DeepEqual(whole, pieces) {
				t.Errorf("keep %v: %v, in pieces %v\n%+v\n%+v", keep, err, err1, whole, pieces)
			}
			if !keep && (whole.chain != nil || whole.staple != nil) {
				t.Error("kept what nobody asked for")
			}
			if whole.hello && err == nil && len(whole.chain) > maxCertificates {
				t.Errorf("%d certificates", len(whole.chain))
			}
		}
	})
}

// FuzzAnswers: what comes after a heartbeat is measured the same however it is cut, and is an over-read only when a whole
// heartbeat message of the full length is there.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte{21, 3, 3, 0, 2, 2, 10})
	f.Add([]byte{24, 3, 3, 0, 4, 2, 0, 1, 9})
	full := append([]byte{24, 3, 3, 0x3f, 0xfc, 2, 0x3f, 0xe9}, make([]byte, malformedClaim+heartbeatPadding)...)
	f.Add(full)
	f.Add(full[:len(full)-1])
	clipped := append([]byte{24, 3, 3, 0x3f, 0xfb, 2, 0x3f, 0xe9}, make([]byte, malformedSent+heartbeatPadding)...)
	f.Add(append(clipped, 24, 3, 3, 0, 1, 0))
	good := append([]byte{24, 3, 3, 0x40, 0, 2, 0x3f, 0xed}, make([]byte, wellFormed+heartbeatPadding)...)
	f.Add(append(clipped[:len(clipped):len(clipped)], good...))
	f.Fuzz(func(t *testing.T, text []byte) {
		whole, err := listen(text, len(text))
		pieces, err1 := listen(text, 1)
		if !reflect.DeepEqual(whole, pieces) || !known(err) || (err == nil) != (err1 == nil) {
			t.Errorf("%v (%v), in pieces %v (%v)", whole, err, pieces, err1)
		}
		for _, a := range whole {
			if a == answerOverread && len(text) < heartbeatHeader+malformedClaim+heartbeatPadding {
				t.Errorf("an over-read in %d bytes", len(text))
			}
		}
	})
}

func listen(text []byte, step int) (list []answer, err error) {
	a := &answers{}
	for len(text) > 0 {
		n := min(step, len(text))
		p := text[:n]
		for text = text[n:]; len(p) > 0; {
			var what answer
			if what, p, err = a.feed(p); err != nil {
				return list, err
			}
			if what != answerNone {
				list = append(list, what)
			}
		}
	}
	return list, nil
}

func fuzzDialogue(f *testing.F, p bulkhead.STARTTLS, seeds ...string) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Add([]byte(strings.Repeat("250-x\r\n", 5000)))
	f.Add([]byte(strings.Repeat("<a>", 5000)))
	f.Fuzz(func(t *testing.T, text []byte) {
		var errs [2]error
		var said [2]string
		var read [2]int64
		for i, step := range []int{1, 1 << 20} {
			w := play(text, step)
			w.limit = maxDialogue
			errs[i] = dialogues[p](&dialogue{w: w, endpoint: bulkhead.Endpoint{Host: "a.test"}, local: w.c.LocalAddr()})
			said[i], read[i] = w.c.(*script).out.String(), w.received-int64(w.w-w.r)
		}
		if (errs[0] == nil) != (errs[1] == nil) || said[0] != said[1] || errs[0] == nil && read[0] != read[1] {
			t.Errorf("in pieces %v after %q, at once %v after %q", errs[0], said[0], errs[1], said[1])
		}
		if len(said[0]) > 1000 || read[0] > maxDialogue+2048 {
			t.Errorf("said %d bytes, read %d", len(said[0]), read[0])
		}
	})
}

func FuzzSMTP(f *testing.F) {
	fuzzDialogue(f, bulkhead.STARTTLSSMTP, "220 a\r\n250-a\r\n250 STARTTLS\r\n220 go\r\n", "220-a\r\n220 b\r\n502 no\r\n", "554 no\r\n", "220\n250\n")
}

func FuzzIMAP(f *testing.F) {
	fuzzDialogue(f, bulkhead.STARTTLSIMAP, "* OK a\r\n* x\r\nb1 OK go\r\n", "* PREAUTH a\r\n", "* OK\r\nb1 BAD no\r\n", "* OK\r\n* BYE\r\n")
}

func FuzzPOP3(f *testing.F) {
	fuzzDialogue(f, bulkhead.STARTTLSPOP3, "+OK a\r\n+OK go\r\n", "+OK\n-ERR no\n", "-ERR\r\n")
}

func FuzzFTP(f *testing.F) {
	fuzzDialogue(f, bulkhead.STARTTLSFTP, "220-a\r\n 220 b\r\n220 c\r\n234 go\r\n", "220 a\r\n502 no\r\n", "220 a\r\n431 no\r\n")
}

func FuzzLDAP(f *testing.F) {
	fuzzDialogue(f, bulkhead.STARTTLSLDAP, "\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00", "\x30\x84\x00\x00\x00\x0c\x02\x01\x01\x78\x07\x0a\x01\x02\x04\x00\x04\x00", "\x30\x80", "\x30\x84\xff\xff\xff\xff")
}

func FuzzXMPP(f *testing.F) {
	fuzzDialogue(f, bulkhead.STARTTLSXMPP, "<?xml?><stream:stream id='a>b'><stream:features><starttls/></stream:features><proceed/>",
		"<stream:features/>", "<stream:features><starttls></starttls></stream:features><proceed></proceed>", "<stream:error/>")
}

func FuzzPostgres(f *testing.F) { fuzzDialogue(f, bulkhead.STARTTLSPostgres, "S", "N", "E\x00", "") }

// FuzzChain: whatever a server calls a certificate gets facts or a reason.
func FuzzChain(f *testing.F) {
	f.Add([]byte{0x30, 0}, []byte{})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		c := Chain([][]byte{a, b, a}, nil, keycheck.DefaultRules(), time.Unix(0, 0))
		if c.Malformed == "" && c.Key.SPKI.IsZero() {
			t.Error("neither facts nor a reason")
		}
	})
}
