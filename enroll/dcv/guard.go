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

// checkAddress says why an address may not be dialled, nil when it may.
func (v *Validator) checkAddress(a netip.Addr) error {
	switch bulkhead.ClassOfAddress(a) {
	case bulkhead.AddressNever:
		return fmt.Errorf("address %s is never dialled (link-local, multicast, reserved or metadata)", a)
	case bulkhead.AddressPrivate:
		if !v.cfg.AllowPrivate {
			return fmt.Errorf("address %s is private and configuration does not allow private targets", a)
		}
	}
	return nil
}

// dial connects to the first of the checked addresses that answers and returns it with the connection.
func (v *Validator) dial(ctx context.Context, addrs []netip.Addr, port int) (net.Conn, netip.AddrPort, error) {
	d := net.Dialer{Timeout: v.cfg.Timeout, Control: v.control, KeepAlive: -1} // it lives for one question, within a deadline
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
