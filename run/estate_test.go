package run

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead"
	"bulkhead/scan"
	"bulkhead/scan/probe/probetest"
)

// TestEstate looks at real endpoints of the house: one with the fault, one that is silent, a name at which nobody listens, one
// that still shows the certificate that was replaced; and it is clean when all of that is mended (S4-6).
func TestEstate(t *testing.T) {
	w := newWorld(t)
	old := w.served(w.live, w.key)
	ref, key := w.issue("here.test")
	n := w.node("127.0.0.1:0", old)
	site, err := probetest.Listen(probetest.Vulnerable, "127.0.0.1:0")
	w.ok(err)
	t.Cleanup(site.Close)
	closed, err := probetest.Listen(probetest.Patched, "127.0.0.1:0")
	w.ok(err)
	closed.Close()
	occupy(t, closed.Addr())
	w.h.cfg.Incident.OwnSites = []string{site.Addr().String()}
	e := w.h.eyes(false)
	e.names = book{netip.MustParseAddr("127.0.0.1")}
	x := estate{endpointLooks{e: e, ports: []uint16{n.at.Port(), closed.Addr().Port()}}}
	look := func() bulkhead.EstateLook {
		t.Helper()
		got, err := x.LookAtEstate(t.Context(), []bulkhead.CampaignItem{{CertificateRef: w.live}})
		w.ok(err)
		return got
	}
	has := func(l bulkhead.EstateLook, texts ...string) {
		t.Helper()
		all := strings.Join(l.Wrong, "\n")
		for _, s := range texts {
			if !strings.Contains(all, s) {
				t.Errorf("%q is not told: %s", s, all)
			}
		}
	}
	bad := look()
	has(bad, site.Addr().String()+": vulnerable", "here.test", "still shows the certificate that was replaced")
	if bad.Endpoints != 2 || len(bad.NotServed) != 1 || bad.Clean() {
		t.Errorf("%+v", bad)
	}
	<-n.cert
	n.cert <- w.served(ref, key)
	site.Swap(probetest.Patched)
	bad = look()
	has(bad, "the host was vulnerable on") // it kept its key
	site.Close()
	occupy(t, site.Addr())
	has(look(), "nobody listens")
	w.h.cfg.Incident.OwnSites = nil
	if good := look(); !good.Clean() || good.Endpoints != 1 || len(good.NotServed) != 1 {
		t.Errorf("%+v", good)
	}
	// A resolver that does not answer says nothing; one that knows no such name says that nobody serves there.
	for detail, clean := range map[string]bool{"x has no address: the resolver did not answer": false, "x has no address: the name does not exist": true} {
		var out bulkhead.EstateLook
		judgeOwn(&out, ownTarget{}, scan.Result{Target: "x:443", Reason: bulkhead.ReasonNameUnresolved, Detail: detail})
		if out.Clean() != clean {
			t.Errorf("%s: %+v", detail, out)
		}
	}
}

// occupy keeps a port on which nobody listens from everybody else on this machine: it is bound, and connections are refused. A
// child of this process that is between fork and exec may hold the listener for a moment after it was closed.
func occupy(t *testing.T, addr netip.AddrPort) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		t.Fatal(err)
	}
	at := &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if err = unix.Bind(fd, at); err == nil {
			return
		}
		if err != unix.EADDRINUSE || time.Now().After(end) {
			t.Fatal(err)
		}
	}
}
