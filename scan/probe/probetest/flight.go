package probetest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"
	"time"
)

// clientHello is what a server looks at.
type clientHello struct {
	version   uint16
	suites    []uint16
	name      bool
	heartbeat bool
	status    bool
	length    int
}

func parseHello(p []byte) (h clientHello, ok bool) {
	h.length = len(p)
	take := func(size int) []byte {
		n := 0
		if len(p) >= size {
			for _, b := range p[:size] {
				n = n<<8 | int(b)
			}
			if len(p) >= size+n {
				v := p[size : size+n]
				p = p[size+n:]
				return v
			}
		}
		p = nil
		return nil
	}
	if len(p) < 40 || p[0] != 1 {
		return h, false
	}
	p = p[4:]
	h.version = binary.BigEndian.Uint16(p)
	p = p[34:]
	take(1)
	for s := take(2); len(s) >= 2; s = s[2:] {
		h.suites = append(h.suites, binary.BigEndian.Uint16(s))
	}
	take(1)
	p = take(2)
	for len(p) >= 4 {
		id := binary.BigEndian.Uint16(p)
		p = p[2:]
		body := take(2)
		switch id {
		case 0:
			h.name = len(body) > 0
		case 5:
			h.status = true
		case 15:
			h.heartbeat = len(body) == 1
		}
	}
	return h, len(h.suites) > 0
}

// greet answers a hello. It reports whether the conversation goes on.
func (t *talk) greet(h clientHello) bool {
	time.Sleep(t.b.Slow)
	if done := t.quirk(h); done {
		return false
	}
	versions := t.b.Versions
	if len(versions) == 0 {
		versions = allTLS
	}
	for _, v := range versions {
		if v <= h.version && v > t.version {
			t.version = v
		}
	}
	switch {
	case t.version == 0 && t.b.Quirk == SilentBelow:
		t.wait()
		return false
	case t.version == 0 && t.b.RefuseQuiet:
		return false
	case t.version == 0:
		t.alert(2, 70)
		return false
	case t.b.NameRequired && !h.name, t.b.NameRefused && h.name:
		t.alert(2, 112)
		return false
	case t.b.NameWarned && h.name:
		t.alert(1, 112)
	}
	suites := t.b.Suites
	if len(suites) == 0 {
		suites = []uint16{0x002f}
	}
	at := slices.IndexFunc(suites, func(s uint16) bool { return slices.Contains(h.suites, s) })
	if at < 0 {
		t.alert(2, 40)
		return false
	}
	return t.flight(h, suites[at])
}

// quirk does what is done in place of a flight.
func (t *talk) quirk(h clientHello) (done bool) {
	switch t.b.Quirk {
	case Silent:
		t.wait()
	case CloseOnHello:
	case ResetOnHello:
		t.reset()
	case AlertOnHello:
		t.alert(2, 40)
	case PlainText:
		t.write([]byte("220 no TLS here\r\n"))
	case HTTP:
		t.write([]byte("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"))
	case EndlessWarnings:
		t.version = TLS10
		t.endless([]byte{21, 3, 1, 0, 2, 1, 90})
	case EndlessEmpty:
		t.endless([]byte{22, 3, 1, 0, 0})
	case EchoBack:
		t.write(append([]byte{22, 3, 1, byte(h.length >> 8), byte(h.length), 1}, make([]byte, h.length-1)...))
	case LongHelloSilent:
		if h.length > 255 {
			t.wait()
			return true
		}
		return false
	default:
		return false
	}
	return true
}

// wait swallows what comes until the other side gives up.
func (t *talk) wait() {
	for t.more() == nil {
		t.in = nil
	}
}

// endless repeats p until the other side gives up.
func (t *talk) endless(p []byte) {
	var many []byte
	for len(many) < 4096 {
		many = append(many, p...)
	}
	for {
		if _, err := t.c.Write(many); err != nil {
			return
		}
	}
}

// flight writes what comes up to ServerHelloDone.
func (t *talk) flight(h clientHello, suite uint16) bool {
	messages := [][]byte{t.serverHello(h, suite)}
	if !slices.Contains(anonymous, suite) {
		messages = append(messages, t.certificate())
	}
	if h.status && t.b.Staple != nil {
		messages = append(messages, message(22, append([]byte{1}, vector(3, t.b.Staple)...)))
	}
	if suite>>8 == 0xc0 || suite == 0x0088 || suite == 0x0003 {
		messages = append(messages, t.keyExchange(suite))
	}
	if t.b.ClientCert {
		body := append(vector(1, []byte{1, 2, 64}), vector(2, []byte{4, 1, 4, 3})...)
		messages = append(messages, message(13, append(body, vector(2, vector(2, make([]byte, 9000)))...)))
	}
	messages = append(messages, message(14, nil))
	if t.b.Pack || t.b.Fragment > 0 {
		messages = [][]byte{slices.Concat(messages...)}
	}
	size := 1 << 14
	if t.b.Fragment > 0 {
		size = t.b.Fragment
	}
	var out []byte
	for _, m := range messages {
		out = appendRecords(out, 22, t.version, size, m)
	}
	switch t.b.Quirk {
	case TruncatedFlight:
		t.write(out[:len(out)/2])
		return false
	case StalledFlight:
		t.write(out[:len(out)/2])
		t.wait()
		return false
	case EndlessFlight:
		t.write(out[:5+len(messages[0])])
		t.endless(appendRecords(nil, 22, t.version, 1<<14, append([]byte{11, 0xff, 0xff, 0xff}, make([]byte, 16000)...)))
		return false
	}
	t.write(out)
	return true
}

func (t *talk) serverHello(h clientHello, suite uint16) []byte {
	v := t.version
	if t.b.Quirk == HigherVersion {
		v = h.version + 1
	}
	p := []byte{byte(v >> 8), byte(v)}
	random := make([]byte, 32)
	_, _ = rand.Read(random)
	p = append(append(p, random...), 0, byte(suite>>8), byte(suite), 0)
	ext := []byte{0xff, 1, 0, 1, 0}
	if h.heartbeat && slices.Contains(t.b.Heartbeat, t.version) {
		ext = append(ext, 0, 15, 0, 1, max(t.b.Mode, 1))
	}
	return message(2, append(p, vector(2, ext)...))
}

func (t *talk) certificate() []byte {
	var list []byte
	for _, der := range t.b.Chain {
		list = append(list, vector(3, der)...)
	}
	if len(list) == 0 {
		list = vector(3, Leaf())
	}
	if n := t.b.ChainBytes - len(list); n > 3 {
		list = append(list, vector(3, make([]byte, n))...)
	}
	return message(11, vector(3, list))
}

var anonymous = []uint16{0xc018}

// signingKey is what Sign signs with.
var signingKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// keyExchange looks like a server's: a point and a signature, that nobody gets to check.
func (t *talk) keyExchange(suite uint16) []byte {
	digest := sha256.Sum256([]byte{byte(suite >> 8), byte(suite)})
	signature := digest[:]
	if t.b.Sign {
		signature, _ = rsa.SignPKCS1v15(rand.Reader, signingKey(), crypto.SHA256, digest[:])
	}
	return message(12, append(append([]byte{3, 0, 23, 65, 4}, make([]byte, 64)...), vector(2, signature)...))
}

// message frames a handshake message.
func message(typ byte, body []byte) []byte { return append([]byte{typ}, vector(3, body)...) }

// vector is body behind its length in size bytes.
func vector(size int, body []byte) []byte {
	p := make([]byte, 0, size+len(body))
	for i := size - 1; i >= 0; i-- {
		p = append(p, byte(len(body)>>(8*i)))
	}
	return append(p, body...)
}

func appendRecords(out []byte, typ byte, version uint16, size int, body []byte) []byte {
	for {
		n := min(size, len(body))
		out = append(out, typ, byte(version>>8), byte(version), byte(n>>8), byte(n))
		out = append(out, body[:n]...)
		body = body[n:]
		if len(body) == 0 {
			return out
		}
	}
}
