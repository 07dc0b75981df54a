// Package heldport keeps an address of loopback for a server that is started later, or again.
//
// Purpose: a test, or a rehearsal, has to write an address into a configuration before the server that will listen there runs, and
// after it was killed. A port that was merely free a moment ago goes to the next connection of any program on the machine.
//
// Invariant: until it is released, the system gives the port to nobody who did not ask for it by number: a socket is bound to it
// and never listens, so that connections to it are refused, and a server that sets SO_REUSEADDR, as nearly all do, may listen there.
//
// It refuses nothing that asks for the port by its number.
package heldport

import (
	"net/netip"
	"os"
	"syscall"
)

// Hold keeps an address at 127.0.0.1. Errors are those of the system.
func Hold() (at netip.AddrPort, release func(), err error) {
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return netip.AddrPort{}, nil, os.NewSyscallError("socket", err)
	}
	release = func() { _ = syscall.Close(fd) }
	if err = bind(fd); err != nil {
		release()
		return netip.AddrPort{}, nil, err
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		release()
		return netip.AddrPort{}, nil, os.NewSyscallError("getsockname", err)
	}
	port := name.(*syscall.SockaddrInet4).Port
	return netip.AddrPortFrom(loopback, uint16(port)), release, nil
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

func bind(fd int) error {
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	return os.NewSyscallError("bind", syscall.Bind(fd, &syscall.SockaddrInet4{Addr: loopback.As4()}))
}

// Tester is what For needs of a *testing.T.
type Tester interface {
	Helper()
	Fatal(args ...any)
	Cleanup(func())
}

// For keeps an address until the test has ended.
func For(t Tester) netip.AddrPort {
	t.Helper()
	at, release, err := Hold()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return at
}
