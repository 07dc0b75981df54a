package acme

import (
	"bytes"
	"crypto/sha256"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// plain is a signed request as nearly every client makes it: ES256 by an account, no member but those that RFC 8555 names and
// no text that needs an escape. It is read in one pass; the library reads a header four times and in between spells it again. What
// is not exactly so is no error here: the library judges it.
type plain struct {
	input     []byte // of the signature: both parts as they came, joined by a dot
	payload   []byte
	signature [64]byte
	kid       string
	nonce     string
	url       string
}

// parsePlain reads a body; false for one that is not plain.
func parsePlain(body []byte) (*plain, bool) {
	outer := [...]member{{name: "protected"}, {name: "payload"}, {name: "signature"}}
	if !flat(body, outer[:]) {
		return nil, false
	}
	protected, payload, signature := outer[0].value, outer[1].value, outer[2].value
	header, err := strict.AppendDecode(nil, protected)
	if err != nil {
		return nil, false
	}
	inner := [...]member{{name: "alg"}, {name: "kid"}, {name: "nonce"}, {name: "url"}}
	if !flat(header, inner[:]) || string(inner[0].value) != string(jose.ES256) || len(inner[1].value) == 0 {
		return nil, false
	}
	p := &plain{input: bytes.Join([][]byte{protected, payload}, []byte(".")), kid: string(inner[1].value), nonce: string(inner[2].value), url: string(inner[3].value)}
	if p.payload, err = strict.AppendDecode([]byte{}, payload); err != nil {
		return nil, false
	}
	octets, err := strict.AppendDecode(p.signature[:0], signature)
	if err != nil || len(octets) != len(p.signature) {
		return nil, false
	}
	return p, true
}

// verify reports whether a P-256 key made the signature; known is false for another kind of key.
func (p *plain) verify(key *accountKey) (good, known bool) {
	public := key.p256()
	if public == nil {
		return false, false
	}
	sum := sha256.Sum256(p.input)
	return key.signed(public, &sum, &p.signature), true
}

// member is one of a JSON object.
type member struct {
	name  string
	value []byte // nil until it was read
}

// flat reads a JSON object that has exactly these members, each a string of printable ASCII without escapes; false for any other text.
func flat(text []byte, members []member) bool {
	rest := space(text)
	if len(rest) == 0 || rest[0] != '{' {
		return false
	}
	rest = space(rest[1:])
	for n := range members {
		name, after, ok := literal(rest)
		at := slices.IndexFunc(members, func(m member) bool { return m.name == string(name) })
		after = space(after)
		if !ok || at < 0 || members[at].value != nil || len(after) == 0 || after[0] != ':' {
			return false // unknown, or for the second time
		}
		value, after, ok := literal(space(after[1:]))
		after = space(after)
		end := byte(',')
		if n == len(members)-1 {
			end = '}'
		}
		if !ok || len(after) == 0 || after[0] != end {
			return false
		}
		members[at].value, rest = value, space(after[1:])
	}
	return len(rest) == 0
}

// literal reads a string; its value is never nil.
func literal(text []byte) (value, after []byte, ok bool) {
	if len(text) == 0 || text[0] != '"' {
		return nil, nil, false
	}
	for i, c := range text[1:] {
		switch {
		case c == '"':
			return text[1 : i+1 : i+1], text[i+2:], true
		case c < 0x20 || c > 0x7e || c == '\\':
			return nil, nil, false
		}
	}
	return nil, nil, false
}

// space skips what JSON calls white space.
func space(text []byte) []byte { return bytes.TrimLeft(text, " \t\r\n") }
