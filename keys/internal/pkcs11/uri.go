// Package pkcs11 keeps keys on a PKCS#11 token.
//
// Purpose: find, make, use and destroy P-256, P-384 and RSA keys by their label, over a pool of sessions. Invariant: the
// private key is made on the token, sensitive and not extractable; the PIN comes from a file and stands in no URI, error or
// log; a token that went away is a fault of kind unavailable, and is used again, without a restart, once it is back.
//
// Refuses: a PIN in a URI, a label that is taken, two keys with one label, algorithms that the token's users do not need.
package pkcs11

import (
	"net/url"
	"strings"

	"bulkhead"
)

// URI is the part of RFC 7512 that names a token, and a key on it.
type URI struct {
	Token, Object         string
	ModulePath, PINSource string
}

// ParseURI reads pkcs11:token=…;object=…?module-path=…&pin-source=….
func ParseURI(text string) (URI, error) {
	var u URI
	bad := func(why string) (URI, error) {
		return URI{}, bulkhead.NewFault(bulkhead.KindMalformed, "not a PKCS#11 URI of this house: "+why).WithHint("pkcs11:token=NAME;object=KEY?module-path=LIB&pin-source=FILE (RFC 7512)")
	}
	rest, ok := strings.CutPrefix(text, "pkcs11:")
	if !ok || len(text) > 4096 {
		return bad("it does not begin with pkcs11:")
	}
	path, query, _ := strings.Cut(rest, "?")
	seen := map[string]bool{}
	for i, part := range append(strings.Split(path, ";"), strings.Split(query, "&")...) {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		v, err := url.PathUnescape(value)
		if err != nil || seen[name] || strings.ContainsRune(v, 0) {
			return bad("attribute " + name)
		}
		seen[name] = true
		inQuery := i >= strings.Count(path, ";")+1
		switch {
		case name == "pin-value":
			return bad("it holds a PIN; name a file with pin-source")
		case name == "token" && !inQuery:
			u.Token = v
		case name == "object" && !inQuery:
			u.Object = v
		case name == "type" && !inQuery && v == "private":
		case name == "module-path" && inQuery:
			u.ModulePath = v
		case name == "pin-source" && inQuery:
			u.PINSource = strings.TrimPrefix(v, "file:")
		default:
			return bad("attribute " + name)
		}
	}
	if u.Token == "" {
		return bad("it names no token")
	}
	return u, nil
}

// Key is the URI of a key on the token, without the ways to it.
func (u URI) Key(object string) string {
	return "pkcs11:token=" + url.PathEscape(u.Token) + ";object=" + url.PathEscape(object)
}
