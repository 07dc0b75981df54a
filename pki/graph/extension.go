package graph

import (
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Extended key usages (RFC 5280 section 4.2.1.12).
const (
	usageOCSPSigning = "1.3.6.1.5.5.7.3.9"
	usageAny         = "2.5.29.37.0"
)

// readExtensions reads what follows the key: unique identifiers, extensions.
func (c *Certificate) readExtensions(tbs cryptobyte.String) {
	var ignored, wrapped, list cryptobyte.String
	var present bool
	_ = tbs.ReadOptionalASN1(&ignored, &present, cbasn1.Tag(1).ContextSpecific())
	_ = tbs.ReadOptionalASN1(&ignored, &present, cbasn1.Tag(2).ContextSpecific())
	if tbs.Empty() {
		return
	}
	if !tbs.ReadASN1(&wrapped, cbasn1.Tag(3).Constructed().ContextSpecific()) || !wrapped.ReadASN1(&list, cbasn1.SEQUENCE) {
		c.problem("the extensions cannot be read")
		return
	}
	seen := map[string]bool{}
	for !list.Empty() {
		var ext, value cryptobyte.String
		if !list.ReadASN1(&ext, cbasn1.SEQUENCE) {
			c.problem("the extensions end in the middle")
			return
		}
		oid, ok := readOID(&ext)
		_ = ext.SkipOptionalASN1(cbasn1.BOOLEAN)
		if !ok || !ext.ReadASN1(&value, cbasn1.OCTET_STRING) {
			c.problem("an extension cannot be read")
			continue
		}
		if seen[oid] {
			c.problem("extension %s occurs twice", oid)
		}
		seen[oid] = true
		if !c.readExtension(oid, value) {
			c.problem("extension %s cannot be read", oid)
		}
	}
}

func (c *Certificate) readExtension(oid string, v cryptobyte.String) bool {
	switch oid {
	case "2.5.29.14":
		var id cryptobyte.String
		ok := v.ReadASN1(&id, cbasn1.OCTET_STRING)
		c.ski = string(id)
		return ok
	case "2.5.29.35":
		return c.readAuthorityKey(v)
	case "2.5.29.19":
		return c.readBasicConstraints(v)
	case "2.5.29.37":
		return c.readUsages(v)
	case "1.3.6.1.5.5.7.48.1.5":
		c.NoCheck = true
	case "2.5.29.17":
		var list cryptobyte.String
		return v.ReadASN1(&list, cbasn1.SEQUENCE) && c.readAlternative(list)
	case "2.5.29.30":
		return c.readConstraints(v)
	}
	return true
}

func (c *Certificate) readAuthorityKey(v cryptobyte.String) bool {
	var body, id cryptobyte.String
	var present bool
	if !v.ReadASN1(&body, cbasn1.SEQUENCE) || !body.ReadOptionalASN1(&id, &present, cbasn1.Tag(0).ContextSpecific()) {
		return false
	}
	c.aki = string(id)
	return true
}

func (c *Certificate) readBasicConstraints(v cryptobyte.String) bool {
	var body cryptobyte.String
	if !v.ReadASN1(&body, cbasn1.SEQUENCE) {
		return false
	}
	if body.PeekASN1Tag(cbasn1.BOOLEAN) {
		var flag cryptobyte.String
		if !body.ReadASN1(&flag, cbasn1.BOOLEAN) || len(flag) != 1 {
			return false
		}
		c.CA = c.CA || flag[0] != 0 // BER's true is any octet but zero
	}
	if body.Empty() {
		return true
	}
	var n int
	if !body.ReadASN1Integer(&n) || n < 0 {
		return false
	}
	c.PathLen = n
	return body.Empty()
}

func (c *Certificate) readUsages(v cryptobyte.String) bool {
	var list cryptobyte.String
	if !v.ReadASN1(&list, cbasn1.SEQUENCE) || list.Empty() {
		return false
	}
	for !list.Empty() {
		oid, ok := readOID(&list)
		if !ok || len(c.Usages) >= maxNames {
			return false
		}
		if !c.hasUsage(oid) || len(c.Usages) > 100 {
			c.Usages = append(c.Usages, oid)
		}
	}
	return true
}

func (c *Certificate) readAlternative(list cryptobyte.String) bool {
	for !list.Empty() {
		var v cryptobyte.String
		var tag cbasn1.Tag
		if !list.ReadAnyASN1(&v, &tag) {
			return false
		}
		if len(c.names) >= maxNames {
			return false
		}
		n := generalName{kind: kind(tag &^ 0xe0), text: printable(string(v))}
		switch n.kind {
		case kindMail, kindDNS:
			n.text = string(v)
		case kindURI:
			u, err := url.Parse(string(v))
			if err != nil {
				return false
			}
			n.text = u.Hostname()
		case kindIP:
			a, ok := netip.AddrFromSlice(v)
			if !ok {
				return false
			}
			n.addr, n.text = a, a.String()
		case kindDir:
			d, ok := readName(v)
			if !ok {
				return false
			}
			n.rdns, n.text = d.rdns, d.text
		default:
			continue
		}
		c.names = append(c.names, n)
	}
	return true
}

// readConstraints reads nameConstraints (RFC 5280 section 4.2.1.10).
func (c *Certificate) readConstraints(v cryptobyte.String) bool {
	var body, list cryptobyte.String
	var present bool
	c.hasConstraint = true
	if !v.ReadASN1(&body, cbasn1.SEQUENCE) || !body.ReadOptionalASN1(&list, &present, cbasn1.Tag(0).Constructed().ContextSpecific()) {
		return false
	}
	ok := readSubtrees(list, &c.permitted)
	if !body.ReadOptionalASN1(&list, &present, cbasn1.Tag(1).Constructed().ContextSpecific()) {
		return false
	}
	if present {
		ok = readSubtrees(list, &c.excluded) && ok
	}
	return ok && body.Empty()
}

func readSubtrees(list cryptobyte.String, out *[]subtree) bool {
	for !list.Empty() {
		var one, v cryptobyte.String
		var tag cbasn1.Tag
		if !list.ReadASN1(&one, cbasn1.SEQUENCE) || !one.ReadAnyASN1(&v, &tag) || len(*out) >= maxNames {
			return false
		}
		s := subtree{kind: kind(tag &^ 0xe0), text: strings.ToLower(string(v))}
		switch s.kind {
		case kindMail, kindDNS, kindURI:
		case kindIP:
			p, ok := prefix(v)
			if !ok {
				return false
			}
			s.prefix, s.text = p, p.String()
		case kindDir:
			d, ok := readName(v)
			if !ok {
				return false
			}
			s.rdns, s.text = d.rdns, d.text
		default:
			continue
		}
		*out = append(*out, s)
	}
	return true
}

// prefix reads address and mask; masks with holes do not occur and are refused.
func prefix(v []byte) (netip.Prefix, bool) {
	half := len(v) / 2
	if len(v) != 8 && len(v) != 32 {
		return netip.Prefix{}, false
	}
	addr, _ := netip.AddrFromSlice(v[:half])
	bits, ended := 0, false
	for _, b := range v[half:] {
		for i := 7; i >= 0; i-- {
			set := b>>i&1 == 1
			if set && ended {
				return netip.Prefix{}, false
			}
			if set {
				bits++
			} else {
				ended = true
			}
		}
	}
	return netip.PrefixFrom(addr, bits).Masked(), true
}
