package scan

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"bulkhead"
)

// Guard is the one place through which a scan reaches the network. It judges the address that is dialled, at the moment it is
// dialled, so that a name which answers differently the second time changes nothing.
type Guard struct {
	private bool
	hosts   map[netip.Addr]bool
	blocks  []netip.Prefix
	dialer  net.Dialer
}

// NewGuard makes a guard. private opens loopback and private space altogether, own only these addresses and blocks: those
// that the operator wrote as addresses. What ClassOfAddress says is never dialled stays shut either way.
func NewGuard(private bool, own ...netip.Prefix) *Guard {
	g := &Guard{private: private, hosts: map[netip.Addr]bool{}}
	for _, p := range own {
		if p.IsSingleIP() {
			g.hosts[p.Addr().Unmap()] = true
		} else {
			g.blocks = append(g.blocks, p)
		}
	}
	g.dialer = net.Dialer{KeepAlive: -time.Second, Control: g.control}
	return g
}

// Check says why an address may not be dialled, nil when it may.
func (g *Guard) Check(a netip.Addr) error {
	a = a.Unmap().WithZone("")
	switch bulkhead.ClassOfAddress(a) {
	case bulkhead.AddressPublic:
		return nil
	case bulkhead.AddressNever:
		return fmt.Errorf("%s is never dialled (link-local, multicast, reserved, a tunnel, or a metadata service)", a)
	}
	if g.private || g.hosts[a] {
		return nil
	}
	for _, p := range g.blocks {
		if p.Contains(a) {
			return nil
		}
	}
	return fmt.Errorf("%s is a private address and was not asked for as such", a)
}

// Dial connects to exactly this address, or fails.
func (g *Guard) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	if err := g.Check(to.Addr()); err != nil {
		return nil, err
	}
	return g.dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(to.Addr().Unmap(), to.Port()).String())
}

// control sees the address that the socket will really connect to: the last word.
func (g *Guard) control(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("dialling %q: %w", address, err)
	}
	return g.Check(to.Addr())
}

// resolver asks the system's servers, or one.
type resolver struct{ r *net.Resolver }

// NewResolver finds addresses by DNS at a server HOST:PORT, or as this machine does when it is empty. "localhost" and names
// below it are this machine without a question (RFC 6761 section 6.3).
func NewResolver(server string) Names {
	r := &net.Resolver{}
	if server != "" {
		r.PreferGo = true
		r.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, server)
		}
	}
	return resolver{r}
}

// mostAddresses of one name that are looked at.
const mostAddresses = 64

// Addresses implements Names.
func (r resolver) Addresses(ctx context.Context, name string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	if localhost(name) {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, nil
	}
	found, err := r.r.LookupNetIP(ctx, "ip", name+".")
	if err != nil {
		return nil, err
	}
	seen := map[netip.Addr]bool{}
	var out []netip.Addr
	for _, a := range found {
		if a = a.Unmap(); !seen[a] && len(out) < mostAddresses {
			seen[a] = true
			out = append(out, a)
		}
	}
	return out, nil
}
