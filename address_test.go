package bulkhead

import (
	"net/netip"
	"testing"
)

// TestClassOfAddress holds the ways that have been used to reach inside: private space, metadata services, and IPv4 hidden
// in IPv6.
func TestClassOfAddress(t *testing.T) {
	for text, want := range map[string]AddressClass{
		"8.8.8.8": AddressPublic, "2606:4700::1111": AddressPublic, "::ffff:8.8.8.8": AddressPublic,
		"127.0.0.1": AddressPrivate, "127.255.0.9": AddressPrivate, "::1": AddressPrivate, "::ffff:127.0.0.1": AddressPrivate,
		"10.1.2.3": AddressPrivate, "172.31.255.255": AddressPrivate, "192.168.0.1": AddressPrivate, "100.64.0.1": AddressPrivate,
		"fd00::1": AddressPrivate, "fc00::1": AddressPrivate, "2001:db8::1": AddressPrivate, "::ffff:10.0.0.1": AddressPrivate,
		"172.32.0.1": AddressPublic, "100.128.0.1": AddressPublic,
		"169.254.169.254": AddressNever, "::ffff:169.254.169.254": AddressNever, "100.100.100.200": AddressNever, "168.63.129.16": AddressNever,
		"192.0.0.192": AddressNever, "fd00:ec2::254": AddressNever, "fd20:ce::254": AddressNever, "fe80::1": AddressNever, "fe80::1%eth0": AddressNever,
		"0.0.0.0": AddressNever, "::": AddressNever, "0.1.2.3": AddressNever, "224.0.0.1": AddressNever, "255.255.255.255": AddressNever, "ff02::1": AddressNever,
		"::127.0.0.1": AddressNever, "::ffff:0:127.0.0.1": AddressNever, "64:ff9b::7f00:1": AddressNever, "64:ff9b::a9fe:a9fe": AddressNever, "64:ff9b:1::1": AddressNever,
		"2002:7f00:1::": AddressNever, "2002:a9fe:a9fe::1": AddressNever, "2001:0:7f00:1::": AddressNever, "192.88.99.1": AddressNever, "240.0.0.1": AddressNever,
	} {
		if got := ClassOfAddress(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: class %d, want %d", text, got, want)
		}
	}
	if ClassOfAddress(netip.Addr{}) != AddressNever {
		t.Error("no address at all may be dialled")
	}
}
