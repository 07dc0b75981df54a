package regress

import (
	"crypto"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bulkhead"
	"bulkhead/enroll"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// answerFile keeps the answer to a GET, for openssl.
func (h *house) answerFile(p paper) string {
	h.t.Helper()
	res := h.do(http.MethodGet, getPath(p.request(h.t, crypto.SHA1)), nil)
	path := filepath.Join(h.t.TempDir(), "answer.der")
	ok(h.t, os.WriteFile(path, res.body, 0o600))
	return path
}

// internet is a resolver for which every name is this machine, and a web server that knows the account's answers.
type internet struct {
	resolver string
	port     int
	account  atomic.Pointer[bulkhead.Account]
}

func newInternet(t testing.TB) *internet {
	t.Helper()
	in := &internet{}
	web, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	in.port = web.Addr().(*net.TCPAddr).Port
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, enroll.KeyAuthorization(*in.account.Load(), r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]))
	})}
	go srv.Serve(web) //nolint:errcheck // it ends with the test
	t.Cleanup(func() { srv.Close() })
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	ok(t, err)
	in.resolver = udp.LocalAddr().String()
	names := &dns.Server{PacketConn: udp, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		if len(q.Question) == 1 && q.Question[0].Qtype == dns.TypeA {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.IPv4(127, 0, 0, 1)})
		}
		_ = w.WriteMsg(m)
	})}
	go names.ActivateAndServe() //nolint:errcheck // it ends with the test
	t.Cleanup(func() { _ = names.Shutdown() })
	return in
}
