package edge

import (
	"strings"
	"time"
)

// Values of decode beside the 64 digits.
const (
	notBase64 = 0xff
	padding   = 0xfe
	percent   = 0xfd
)

// decode maps both alphabets of RFC 4648: clients and proxies mix them.
var decode = func() (t [256]byte) {
	for i := range t {
		t[i] = notBase64
	}
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for i := range len(digits) {
		t[digits[i]] = byte(i)
	}
	t['-'], t['_'], t['='], t['%'] = 62, 63, padding, percent
	return t
}()

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	default:
		return 0, false
	}
}

// appendGet decodes the path of a GET: base64 in either alphabet, any character percent-encoded, padding there or
// not. Slashes in front are the client's joining of URL and request: no request begins with the digit '/'.
func appendGet(dst []byte, path string) ([]byte, bool) {
	path = strings.TrimLeft(path, "/")
	if path == "" || len(path) > maxGet {
		return dst, false
	}
	var acc uint32
	var bits, pad int
	for i := 0; i < len(path); i++ {
		// Four digits at a time while there are only digits.
		for bits == 0 && pad == 0 && i+4 <= len(path) {
			a, b, c, d := decode[path[i]], decode[path[i+1]], decode[path[i+2]], decode[path[i+3]]
			if a|b|c|d > 63 {
				break
			}
			dst = append(dst, a<<2|b>>4, b<<4|c>>2, c<<6|d)
			i += 4
		}
		if i == len(path) {
			break
		}
		c := path[i]
		v := decode[c]
		if v == percent {
			if i+2 >= len(path) {
				return dst, false
			}
			hi, ok1 := unhex(path[i+1])
			lo, ok2 := unhex(path[i+2])
			if !ok1 || !ok2 || hi<<4|lo == '%' {
				return dst, false
			}
			i += 2
			v = decode[hi<<4|lo]
		}
		if v == padding {
			if pad++; pad > 2 {
				return dst, false
			}
			continue
		}
		if v > 63 || pad > 0 {
			return dst, false
		}
		acc = acc<<6 | uint32(v)
		if bits += 6; bits >= 8 {
			bits -= 8
			dst = append(dst, byte(acc>>bits))
		}
	}
	return dst, bits < 6 // six bits left over is a lone digit
}

// askGet decodes and asks. When that leads nowhere and the path has slashes, a proxy may have taken "//" for "/":
// what it took out is put back.
func (e *Edge) askGet(ep *epoch, s *scratch, path string, now time.Time) outcome {
	var ok bool
	if s.in, ok = appendGet(s.in[:0], path); ok {
		if out := e.ask(ep, s, s.in, now, true); out != outMalformed {
			return out
		}
	}
	if out, ok := e.askRepaired(ep, s, path, now); ok {
		return out
	}
	return outMalformed
}

// Bounds of the repair: a request of usual length has 110 digits, so more than three double slashes, or more than
// eight slashes to choose from, is not worth trying.
const (
	maxLostSlashes = 3
	maxSlashes     = 8
)

// askRepaired doubles slashes in every combination that gives the length which the DER header announces, and takes
// the first that asks for a certificate we have an answer for. A wrong guess shifts all that follows it by six bits,
// so it does not parse, or names nobody; and a client checks which serial an answer is for.
func (e *Edge) askRepaired(ep *epoch, s *scratch, path string, now time.Time) (outcome, bool) {
	text := strings.TrimRight(plainDigits(path), "=")
	head, ok := appendGet(nil, text[:min(len(text), 8)])
	if !ok || len(head) < 4 || head[0] != 0x30 || ep == nil {
		return 0, false
	}
	total := 2 + int(head[1])
	switch {
	case head[1] == 0x81:
		total = 3 + int(head[2])
	case head[1] == 0x82:
		total = 4 + int(head[2])<<8 + int(head[3])
	case head[1] > 0x82:
		return 0, false
	}
	lost := (total*8+5)/6 - len(text)
	if n := strings.Count(text, "/"); lost < 1 || lost > maxLostSlashes || n == 0 || n > maxSlashes {
		return 0, false
	}
	return e.tryDoubling(ep, s, text, 0, lost, now)
}

func (e *Edge) tryDoubling(ep *epoch, s *scratch, text string, from, lost int, now time.Time) (outcome, bool) {
	if lost == 0 {
		var ok bool
		if s.in, ok = appendGet(s.in[:0], text); !ok {
			return 0, false
		}
		out := e.ask(ep, s, s.in, now, false)
		return out, out == outGood || out == outRevoked || out == outExpired
	}
	for i := from; i < len(text); i++ {
		if text[i] != '/' {
			continue
		}
		// The next round begins at the slash put in: three in a row become one as well.
		if out, ok := e.tryDoubling(ep, s, text[:i+1]+text[i:], i+1, lost-1, now); ok {
			return out, true
		}
	}
	return 0, false
}

// plainDigits undoes percent-encoding and the URL-safe alphabet; anything else stays for appendGet to refuse.
func plainDigits(path string) string {
	path = strings.TrimLeft(path, "/")
	if len(path) > maxGet {
		return ""
	}
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c == '%' && i+2 < len(path) {
			hi, ok1 := unhex(path[i+1])
			lo, ok2 := unhex(path[i+2])
			if ok1 && ok2 {
				c = hi<<4 | lo
				i += 2
			}
		}
		switch c {
		case '-':
			c = '+'
		case '_':
			c = '/'
		}
		b.WriteByte(c)
	}
	return b.String()
}
