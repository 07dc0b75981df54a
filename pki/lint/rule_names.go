package lint

import (
	"crypto/x509"
	"net/netip"
	"slices"
	"strings"

	"bulkhead"
)

// namesExpected: every subscriber certificate has alternative names, the common name repeats one of them, and where the
// caller knows what was validated they are exactly that.
func namesExpected() rule {
	return rule{
		name: "bulkhead_names", source: "BR 7.1.2.7.12, RFC 5280 4.2.1.6", severity: Error, sets: leafSets,
		check: func(s *subject, report report) {
			have := names(s.cert)
			if len(have) == 0 {
				report("no subject alternative names")
			}
			if len(s.cert.URIs) > 0 {
				report("a URI among the subject alternative names")
			}
			if cn := s.cert.Subject.CommonName; cn != "" && s.set == SetCodeSigning {
				if !slices.Contains(s.cert.Subject.Organization, cn) { // CSBR 7.1.4.2.2
					report("the common name %q is not the organization", cn)
				}
			} else if cn != "" && !slices.ContainsFunc(have, func(id bulkhead.Identifier) bool { return strings.EqualFold(id.Value, cn) }) {
				report("the common name %q is not among the subject alternative names", cn)
			}
			if s.want.Names == nil {
				return
			}
			for _, id := range have {
				if !slices.Contains(s.want.Names, id) {
					report("the name %s %q was not asked for", id.Type, id.Value)
				}
			}
			for _, id := range s.want.Names {
				if !slices.Contains(have, id) {
					report("the name %s %q is missing", id.Type, id.Value)
				}
			}
			if len(have) != len(slices.Compact(sortedNames(have))) {
				report("a name appears twice")
			}
		},
	}
}

// names are the subject alternative names as identifiers. DNS names keep their case, so that an upper-case one differs
// from what was asked for.
func names(c *x509.Certificate) []bulkhead.Identifier {
	var ids []bulkhead.Identifier
	for _, n := range c.DNSNames {
		ids = append(ids, bulkhead.Identifier{Type: bulkhead.DNS, Value: n})
	}
	for _, ip := range c.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			ids = append(ids, bulkhead.Identifier{Type: bulkhead.IP, Value: a.Unmap().String()})
		}
	}
	for _, m := range c.EmailAddresses {
		ids = append(ids, bulkhead.Identifier{Type: bulkhead.Email, Value: m})
	}
	return ids
}

func sortedNames(ids []bulkhead.Identifier) []bulkhead.Identifier {
	return slices.SortedFunc(slices.Values(ids), func(a, b bulkhead.Identifier) int {
		return strings.Compare(string(a.Type)+" "+a.Value, string(b.Type)+" "+b.Value)
	})
}
