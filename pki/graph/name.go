package graph

import (
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var attributeNames = map[string]string{
	"2.5.4.3": "CN", "2.5.4.4": "SN", "2.5.4.5": "serialNumber", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.9": "street",
	"2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.97": "organizationIdentifier", "0.9.2342.19200300.100.1.25": "DC", "1.2.840.113549.1.9.1": "emailAddress",
}

// name is a distinguished name in three forms: for people, for comparing, and RDN by RDN.
type name struct {
	text, canonical string
	rdns            []string
	mails           []string // emailAddress attributes
}

func (c *Certificate) readNames(issuer, subject cryptobyte.String) {
	i, ok := readName(issuer)
	if !ok {
		c.problem("the issuer's name cannot be read")
	}
	s, ok := readName(subject)
	if !ok {
		c.problem("the subject's name cannot be read")
	}
	c.Issuer, c.issuer, c.Subject, c.subject = i.text, i.canonical, s.text, s.canonical
	if len(s.rdns) > 0 {
		c.names = append(c.names, generalName{kind: kindDir, text: s.text, rdns: s.rdns})
	}
	for _, m := range s.mails {
		c.names = append(c.names, generalName{kind: kindMail, text: m})
	}
}

// readName reads a Name. Names compare as RFC 5280 section 7.1 says for the common string types: without case, without
// outer and repeated spaces, whatever the type. A name that cannot be read compares by its octets.
func readName(element cryptobyte.String) (name, bool) {
	n := name{}
	in := element
	var rdns cryptobyte.String
	if !in.ReadASN1(&rdns, cbasn1.SEQUENCE) {
		return name{text: "(unreadable)", canonical: "\xff" + string(element)}, false
	}
	var text []string
	for !rdns.Empty() {
		var set cryptobyte.String
		if !rdns.ReadASN1(&set, cbasn1.SET) {
			return name{text: "(unreadable)", canonical: "\xff" + string(element)}, false
		}
		var people, exact []string
		for !set.Empty() {
			oid, value, folded, ok := readAttribute(&set)
			if !ok {
				return name{text: "(unreadable)", canonical: "\xff" + string(element)}, false
			}
			label := attributeNames[oid]
			if label == "" {
				label = oid
			}
			if label == "emailAddress" {
				n.mails = append(n.mails, value)
			}
			people = append(people, label+"="+printable(value))
			exact = append(exact, fmt.Sprintf("%s=%d:%s", oid, len(folded), folded))
		}
		text = append(text, strings.Join(people, "+"))
		n.rdns = append(n.rdns, strings.Join(exact, "+"))
	}
	n.text = strings.Join(text, ", ")
	n.canonical = strings.Join(n.rdns, "/")
	return n, true
}

func readAttribute(set *cryptobyte.String) (oid, value, folded string, ok bool) {
	var pair, raw cryptobyte.String
	var tag cbasn1.Tag
	if !set.ReadASN1(&pair, cbasn1.SEQUENCE) {
		return "", "", "", false
	}
	if oid, ok = readOID(&pair); !ok || !pair.ReadAnyASN1(&raw, &tag) {
		return "", "", "", false
	}
	value, isText := decodeString(tag, raw)
	if !isText {
		return oid, value, fmt.Sprintf("#%d:%x", tag, []byte(raw)), true
	}
	return oid, value, strings.Join(strings.Fields(strings.ToLower(value)), " "), true
}

// decodeString reads the string types of DirectoryString and IA5String; for others it gives hexadecimal and false.
func decodeString(tag cbasn1.Tag, raw []byte) (string, bool) {
	switch tag {
	case cbasn1.PrintableString, cbasn1.IA5String, cbasn1.UTF8String, cbasn1.Tag(18), cbasn1.Tag(26): // NumericString, VisibleString
		if utf8.Valid(raw) {
			return string(raw), true
		}
		return latin1(raw), true
	case cbasn1.T61String:
		return latin1(raw), true
	case cbasn1.Tag(30): // BMPString
		if len(raw)%2 != 0 {
			break
		}
		u := make([]uint16, len(raw)/2)
		for i := range u {
			u[i] = uint16(raw[2*i])<<8 | uint16(raw[2*i+1])
		}
		return string(utf16.Decode(u)), true
	}
	return fmt.Sprintf("#%x", raw), false
}

func latin1(raw []byte) string {
	r := make([]rune, len(raw))
	for i, b := range raw {
		r[i] = rune(b)
	}
	return string(r)
}

// printable keeps control characters off terminals and names short.
func printable(s string) string {
	out := strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r >= 0x200b && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
	if r := []rune(out); len(r) > 200 {
		return string(r[:200]) + "…"
	}
	return out
}
