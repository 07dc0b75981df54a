package bulkhead

import "net/netip"

// AddressClass says who may dial an address on behalf of somebody else.
type AddressClass int

// Address classes. The zero value is the one that nobody dials.
const (
	AddressNever   AddressClass = iota // no configuration opens it: link-local, groups, reserved, tunnels, metadata of clouds
	AddressPrivate                     // loopback, private and documentation space: the operator's own word opens it
	AddressPublic
)

// neverDialled are this host's own link, groups, reserved space, tunnels and translations that hide an inner address (NAT64, 6to4,
// Teredo, IPv4-compatible, SIIT), and the addresses at which clouds hand out credentials.
var neverDialled = addressPrefixes(
	"0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.88.99.0/24", "224.0.0.0/4", "240.0.0.0/4", "100.100.100.200/32", "168.63.129.16/32",
	"::/96", "::ffff:0:0:0/96", "fe80::/10", "fec0::/10", "ff00::/8", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16", "100::/64",
	"5f00::/16", "fd00:ec2::254/128", "fd20:ce::254/128",
)

var privateAddresses = addressPrefixes("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "192.0.2.0/24",
	"198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "fc00::/7", "2001:db8::/32", "3fff::/20")

func addressPrefixes(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, t := range texts {
		out[i] = netip.MustParsePrefix(t)
	}
	return out
}

// ClassOfAddress judges an address (RFC 6890 and the clouds' documentation). IPv4 inside IPv6 is judged as IPv4; a zone is
// dropped.
func ClassOfAddress(a netip.Addr) AddressClass {
	a = a.Unmap().WithZone("")
	switch {
	case !a.IsValid():
		return AddressNever
	case a == netip.IPv6Loopback():
		return AddressPrivate
	case addressWithin(neverDialled, a):
		return AddressNever
	case addressWithin(privateAddresses, a):
		return AddressPrivate
	}
	return AddressPublic
}

func addressWithin(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
