package bulkhead

import (
	"net/netip"
	"strings"
)

// IdentifierType is the kind of name in an order (RFC 8555 section 9.7.7, RFC 8738).
type IdentifierType string

// Identifier types that can be put into a certificate.
const (
	DNS   IdentifierType = "dns"
	IP    IdentifierType = "ip"
	Email IdentifierType = "email"
)

// Identifier is one name that a certificate speaks for. DNS values are lower-case A-labels, a wildcard has the
// prefix "*."; IP values are in canonical text form.
type Identifier struct {
	Type  IdentifierType `json:"type"`
	Value string         `json:"value"`
}

// ParseIdentifier guesses the type: an IP address, an address with "@", or a DNS name. It normalises but does not
// judge; whether a name may be served is policy.
func ParseIdentifier(text string) (Identifier, error) {
	t := strings.TrimSpace(text)
	if a, err := netip.ParseAddr(t); err == nil {
		if a.Zone() != "" {
			return Identifier{}, Faultf(KindMalformed, "address %q has a zone", text)
		}
		return Identifier{IP, a.Unmap().String()}, nil
	}
	if strings.Contains(t, "@") {
		return Identifier{Email, t}, nil
	}
	id := Identifier{DNS, strings.ToLower(strings.TrimSuffix(t, "."))}
	return id, id.Check()
}

// Wildcard reports whether the identifier is a wildcard DNS name.
func (id Identifier) Wildcard() bool { return id.Type == DNS && strings.HasPrefix(id.Value, "*.") }

// Base is the identifier without its wildcard label.
func (id Identifier) Base() Identifier {
	if id.Wildcard() {
		return Identifier{id.Type, id.Value[2:]}
	}
	return id
}

// String is "value" alone; the type is evident to a reader.
func (id Identifier) String() string { return id.Value }

// Check verifies the syntax of the value for its type (RFC 1034 preferred syntax with A-labels, RFC 8738).
func (id Identifier) Check() error {
	switch id.Type {
	case DNS:
		return checkDNSName(id.Base().Value, id.Value)
	case IP:
		a, err := netip.ParseAddr(id.Value)
		if err != nil || a.Zone() != "" || a.String() != id.Value {
			return Faultf(KindMalformed, "%q is not a canonical IP address (RFC 8738)", id.Value)
		}
		return nil
	case Email:
		at := strings.LastIndexByte(id.Value, '@')
		if at < 1 || at == len(id.Value)-1 {
			return Faultf(KindMalformed, "%q is not a mail address", id.Value)
		}
		return checkDNSName(strings.ToLower(id.Value[at+1:]), id.Value)
	default:
		return Faultf(KindUnsupportedIdentifier, "identifier type %q is not supported", id.Type)
	}
}

func checkDNSName(name, whole string) error {
	if name == "" || len(name) > 253 {
		return Faultf(KindMalformed, "%q is not a DNS name", whole)
	}
	for _, label := range strings.Split(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return Faultf(KindMalformed, "%q has a malformed label %q", whole, label)
		}
		for i := 0; i < len(label); i++ {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return Faultf(KindMalformed, "%q has a character %q that a DNS name may not have (use the A-label, lower case)", whole, string(rune(c)))
			}
		}
	}
	return nil
}
