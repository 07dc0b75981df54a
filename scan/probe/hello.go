package probe

import (
	"encoding/binary"
	"net/netip"
)

// Protocol versions on the wire (RFC 6101, 2246, 4346, 5246, 8446).
const (
	ssl30 uint16 = 0x0300
	tls10 uint16 = 0x0301
	tls11 uint16 = 0x0302
	tls12 uint16 = 0x0303
	tls13 uint16 = 0x0304
)

// legacy are the versions that the record-level look asks for, newest first.
var legacy = []uint16{tls12, tls11, tls10, ssl30}

func versionName(v uint16) string {
	switch v {
	case ssl30:
		return "SSL 3.0"
	case tls10:
		return "TLS 1.0"
	case tls11:
		return "TLS 1.1"
	case tls12:
		return "TLS 1.2"
	case tls13:
		return "TLS 1.3"
	}
	return "unknown version"
}

// Extension types (IANA TLS ExtensionType Values).
const (
	extServerName   = 0
	extStatus       = 5
	extGroups       = 10
	extPointFormats = 11
	extSignatures   = 13
	extHeartbeat    = 15 // RFC 6520
)

// hello says which client hello to write.
type hello struct {
	version uint16   // highest accepted
	name    string   // server name; empty sends none
	suites  []uint16 // in order of preference
	compact bool     // fewer suites and groups, for servers that choke on long hellos
	staple  bool     // ask for a stapled OCSP response
}

// groups are all that were ever named for TLS 1.2 (RFC 4492, 7027, 8422, 7919), the common ones first.
var groups = []uint16{23, 24, 25, 29, 30, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 26, 27, 28, 256, 257, 258, 259, 260}

// signatures are all pairs of hash and algorithm of RFC 5246, and those of RFC 8446 section 4.2.3.
var signatures = []uint16{
	0x0401, 0x0403, 0x0501, 0x0503, 0x0601, 0x0603, 0x0804, 0x0805, 0x0806, 0x0807, 0x0808, 0x0809, 0x080a, 0x080b,
	0x0301, 0x0303, 0x0201, 0x0203, 0x0402, 0x0502, 0x0602, 0x0302, 0x0202, 0x0101, 0x0102, 0x0103,
}

// marshal writes the hello as one record. Extensions are sent at SSL 3.0 too: OpenSSL read them there.
func (h hello) marshal(random [32]byte) []byte {
	p := make([]byte, 0, 1200)
	p = append(p, 22, 3, byte(min(h.version, tls10)), 0, 0) // record header
	p = append(p, 1, 0, 0, 0)                               // client hello
	p = binary.BigEndian.AppendUint16(p, h.version)
	p = append(p, random[:]...)
	p = append(p, 0) // no session
	p = appendList16(p, h.suites)
	p = append(p, 1, 0) // no compression
	at := len(p)
	p = append(p, 0, 0)
	p = h.appendExtensions(p)
	binary.BigEndian.PutUint16(p[at:], uint16(len(p)-at-2))
	binary.BigEndian.PutUint16(p[3:], uint16(len(p)-5))
	binary.BigEndian.PutUint16(p[7:], uint16(len(p)-9))
	return p
}

func (h hello) appendExtensions(p []byte) []byte {
	if _, err := netip.ParseAddr(h.name); h.name != "" && err != nil && len(h.name) <= 255 { // RFC 6066: no addresses
		n := uint16(len(h.name))
		p = append(p, 0, extServerName, 0, 0)
		binary.BigEndian.PutUint16(p[len(p)-2:], n+5)
		p = binary.BigEndian.AppendUint16(p, n+3)
		p = append(p, 0)
		p = binary.BigEndian.AppendUint16(p, n)
		p = append(p, h.name...)
	}
	g, s := groups, signatures
	if h.compact {
		g, s = g[:4], s[:16]
	}
	p = appendExtension16(p, extGroups, g)
	p = append(p, 0, extPointFormats, 0, 2, 1, 0)
	if h.version >= tls12 {
		p = appendExtension16(p, extSignatures, s)
	}
	if h.staple {
		p = append(p, 0, extStatus, 0, 5, 1, 0, 0, 0, 0)
	}
	return append(p, 0, extHeartbeat, 0, 1, 1) // peer_allowed_to_send
}

func appendList16(p []byte, list []uint16) []byte {
	p = binary.BigEndian.AppendUint16(p, uint16(2*len(list)))
	for _, v := range list {
		p = binary.BigEndian.AppendUint16(p, v)
	}
	return p
}

func appendExtension16(p []byte, id byte, list []uint16) []byte {
	p = append(p, 0, id)
	p = binary.BigEndian.AppendUint16(p, uint16(2*len(list)+2))
	return appendList16(p, list)
}
