package enroll

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"bulkhead"
	"bulkhead/pki/profile"
)

// NameSet is a set of names: exact DNS names, "*.suffix" for everything below a suffix, and address ranges. The zero
// value is empty.
type NameSet struct {
	exact    map[string]bool
	suffixes []string // with the leading dot
	ranges   []netip.Prefix
}

// ParseNameSet reads "localhost", "*.test", "10.0.0.0/8" or "192.0.2.1"; each entry fails with KindMalformed.
func ParseNameSet(entries ...string) (NameSet, error) {
	s := NameSet{exact: map[string]bool{}}
	for _, e := range entries {
		t := strings.ToLower(strings.TrimSpace(e))
		if p, err := netip.ParsePrefix(t); err == nil {
			s.ranges = append(s.ranges, p.Masked())
			continue
		}
		if a, err := netip.ParseAddr(t); err == nil && a.Zone() == "" {
			a = a.Unmap()
			s.ranges = append(s.ranges, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		id := bulkhead.Identifier{Type: bulkhead.DNS, Value: t}
		if err := id.Check(); err != nil {
			return NameSet{}, bulkhead.Faultf(bulkhead.KindMalformed, "%q is neither a name, nor *.suffix, nor an address range", e)
		}
		if id.Wildcard() {
			s.suffixes = append(s.suffixes, t[1:])
		} else {
			s.exact[t] = true
		}
	}
	return s, nil
}

// DefaultOwnNames is localhost, *.localhost, *.test, *.internal, loopback and the private ranges (RFC 1918, RFC 4193).
func DefaultOwnNames() NameSet {
	s := NameSet{exact: map[string]bool{"localhost": true}, suffixes: []string{".localhost", ".test", ".internal"}}
	for _, p := range []string{"127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"} {
		s.ranges = append(s.ranges, netip.MustParsePrefix(p))
	}
	return s
}

// IsEmpty reports whether nothing is in the set.
func (s NameSet) IsEmpty() bool { return len(s.exact)+len(s.suffixes)+len(s.ranges) == 0 }

// Contains reports whether the identifier (for a wildcard: the name under it) is in the set.
func (s NameSet) Contains(id bulkhead.Identifier) bool {
	switch id.Type {
	case bulkhead.IP:
		a, err := netip.ParseAddr(id.Value)
		if err != nil {
			return false
		}
		for _, p := range s.ranges {
			if p.Contains(a.Unmap()) {
				return true
			}
		}
		return false
	case bulkhead.DNS:
		name := id.Base().Value
		if s.exact[name] {
			return true
		}
		for _, suffix := range s.suffixes {
			if strings.HasSuffix(name, suffix) {
				return true
			}
		}
	case bulkhead.Email:
		// A mailbox is the house's own when its host is: whoever runs the domain decides who has the mailbox.
		if at := strings.LastIndexByte(id.Value, '@'); at > 0 {
			return s.Contains(bulkhead.Identifier{Type: bulkhead.DNS, Value: strings.ToLower(id.Value[at+1:])})
		}
	}
	return false
}

// normalise checks the identifiers of an order against syntax, profile and policy, in lower case and without
// doubles. All refusals are reported together (RFC 8555 section 6.7.1).
func (s *Service) normalise(p *profile.Profile, ids []bulkhead.Identifier) ([]bulkhead.Identifier, error) {
	if len(ids) == 0 {
		return nil, bulkhead.NewFault(bulkhead.KindMalformed, "the order names no identifier")
	}
	if most := min(p.MaxNames, s.limits.Names); len(ids) > most {
		return nil, bulkhead.Faultf(bulkhead.KindMalformed, "the order has %d identifiers, at most %d are allowed", len(ids), most)
	}
	seen := map[bulkhead.Identifier]bool{}
	var out []bulkhead.Identifier
	var subs []bulkhead.SubFault
	for _, id := range ids {
		if id.Type == bulkhead.DNS {
			id.Value = strings.ToLower(id.Value)
		}
		if err := s.judge(p, id); err != nil {
			f := bulkhead.AsFault(err)
			subs = append(subs, bulkhead.SubFault{Identifier: id, Kind: f.Kind, Detail: f.Detail})
			continue
		}
		if !seen[id] {
			seen[id] = true
			out = append(out, id)
		}
	}
	if len(subs) > 0 {
		return nil, joinSubs(subs)
	}
	return out, nil
}

// judge says whether one name may be ordered under the profile.
func (s *Service) judge(p *profile.Profile, id bulkhead.Identifier) error {
	if id.Type != bulkhead.DNS && id.Type != bulkhead.IP && id.Type != bulkhead.Email {
		return bulkhead.Faultf(bulkhead.KindUnsupportedIdentifier, "identifier type %q is not supported; use dns or ip", id.Type)
	}
	if id.Type == bulkhead.Email && !slices.Contains(p.IdentifierTypes, bulkhead.Email) {
		return bulkhead.Faultf(bulkhead.KindUnsupportedIdentifier, "profile %s has no mail addresses", p.Name)
	}
	if err := id.Check(); err != nil {
		return err
	}
	switch {
	case id.Type == bulkhead.DNS && isAddress(id.Base().Value):
		return bulkhead.Faultf(bulkhead.KindMalformed, "%q is an address; order it with type ip", id.Value)
	case !slices.Contains(p.IdentifierTypes, id.Type):
		return bulkhead.Faultf(bulkhead.KindRejectedIdentifier, "profile %s has no identifiers of type %s", p.Name, id.Type)
	case id.Wildcard() && !p.Wildcard:
		return bulkhead.Faultf(bulkhead.KindRejectedIdentifier, "profile %s has no wildcards", p.Name)
	case id.Wildcard() && !strings.Contains(id.Base().Value, "."):
		return bulkhead.Faultf(bulkhead.KindRejectedIdentifier, "%q covers a whole top-level domain", id.Value)
	case id.Type == bulkhead.DNS && publicSuffix(id.Base().Value):
		return bulkhead.Faultf(bulkhead.KindRejectedIdentifier, "%q is a public suffix: names are registered below it (BR 3.2.2.6)", id.Value)
	case s.cfg.Policy.Refused.Contains(id):
		return bulkhead.Faultf(bulkhead.KindRejectedIdentifier, "policy refuses %q", id.Value)
	}
	return nil
}

// publicSuffix reports whether a registry sells names right below this one. Suffixes of private owners, like those of hosts of
// pages, are names like any other.
func publicSuffix(name string) bool {
	suffix, icann := publicsuffix.PublicSuffix(name)
	return icann && suffix == name
}

func isAddress(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil
}

// joinSubs makes one fault of per-identifier ones: their kind when they agree, else compound.
func joinSubs(subs []bulkhead.SubFault) *bulkhead.Fault {
	kind := subs[0].Kind
	for _, x := range subs[1:] {
		if x.Kind != kind {
			kind = bulkhead.KindCompound
		}
	}
	detail := fmt.Sprintf("%s: %s", subs[0].Identifier.Value, subs[0].Detail)
	if len(subs) > 1 {
		detail = fmt.Sprintf("%s, and %d more", detail, len(subs)-1)
	}
	f := bulkhead.NewFault(kind, detail)
	f.Subs = subs
	return f
}
