package dcv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"bulkhead"
)

// never are destinations that no configuration opens: this host's own link, groups, reserved space, tunnels that hide
// an inner address, and the addresses at which clouds hand out credentials.
var never = prefixes(
	"0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "224.0.0.0/4", "240.0.0.0/4", "100.100.100.200/32", "168.63.129.16/32",
	"::/128", "fe80::/10", "fec0::/10", "ff00::/8", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16", "100::/64",
	"fd00:ec2::254/128", "fd20:ce::254/128",
)

// private are destinations that only AllowPrivate opens.
var private = prefixes("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "192.0.2.0/24",
	"198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "::1/128", "fc00::/7", "2001:db8::/32")

func prefixes(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, t := range texts {
		out[i] = netip.MustParsePrefix(t)
	}
	return out
}

func within(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// checkAddress says why an address may not be dialled, nil when it may.
func (v *Validator) checkAddress(a netip.Addr) error {
	a = a.Unmap().WithZone("")
	switch {
	case !a.IsValid() || within(never, a):
		return fmt.Errorf("address %s is never dialled (link-local, multicast, reserved or metadata)", a)
	case within(private, a) && !v.cfg.AllowPrivate:
		return fmt.Errorf("address %s is private and configuration does not allow private targets", a)
	}
	return nil
}

// dial connects to the first of the checked addresses that answers and returns it with the connection.
func (v *Validator) dial(ctx context.Context, addrs []netip.Addr, port int) (net.Conn, netip.AddrPort, error) {
	d := net.Dialer{Timeout: v.cfg.Timeout, Control: v.control}
	var last error
	for _, a := range addrs {
		to := netip.AddrPortFrom(a, uint16(port)) //nolint:gosec // New checked the range
		c, err := d.DialContext(ctx, "tcp", to.String())
		if err == nil {
			return c, to, nil
		}
		last = bulkhead.Faultf(bulkhead.KindConnection, "connecting to %s: %s", to, plainNetError(err))
	}
	return nil, netip.AddrPort{}, last
}

// control sees the address that the socket will really connect to: the last word against rebinding.
func (v *Validator) control(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("dialling %q: %w", address, err)
	}
	return v.checkAddress(to.Addr())
}

// plainNetError keeps what the asker may know and can act on.
func plainNetError(err error) string {
	var dnsErr *net.DNSError
	var op *net.OpError
	switch {
	case errors.Is(err, context.DeadlineExceeded), os.IsTimeout(err):
		return "timeout"
	case errors.As(err, &dnsErr):
		return dnsErr.Err
	case errors.As(err, &op) && op.Err != nil:
		return op.Err.Error()
	}
	return err.Error()
}
