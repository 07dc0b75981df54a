package regress

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/proof"
	"bulkhead/run"
)

// TestSeenOnTheWire goes the whole way of 2011: a server on the network shows a certificate that our key signed past the signer;
// somebody has the house look at it; the watch raises D2, and audit prove reports exactly that certificate, as seen there, and under no
// other issuer. A server with a certificate that the house issued raises nothing, and the proof is clean.
func TestSeenOnTheWire(t *testing.T) {
	h := newHouse(t, func(c *run.Config) { c.Analyser.AllowPrivate = true })
	good := h.issue("known.wire.test")
	h.serve()
	h.wantClean()
	seen := func(leaf *x509.Certificate, key any) {
		t.Helper()
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw, good.issuer.Raw}, PrivateKey: key}}})
		ok(t, err)
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go shake(c)
			}
		}()
		client := http.Client{Timeout: 60 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // it is asked to look at something, on loopback
		cfg, err := run.LoadConfig(h.dir)
		ok(t, err)
		res, err := client.Post("https://"+cfg.Listen+"/api/v1/check", "application/json", strings.NewReader(`{"target":"`+l.Addr().String()+`"}`))
		ok(t, err)
		defer res.Body.Close()
		var r bulkhead.CheckResult
		ok(t, json.NewDecoder(res.Body).Decode(&r))
		if res.StatusCode != http.StatusOK || len(r.Looks) == 0 {
			t.Fatalf("%s: %+v", res.Status, r)
		}
	}
	alarms := func() []bulkhead.Alarm {
		t.Helper()
		list, err := h.Store.AlarmsOf(t.Context(), "D2", 10)
		ok(t, err)
		return list
	}
	seen(good.leaf, good.key)
	key := newKey(t)
	rogue := h.rogueFor(t, h.dir, key, "www.google.com")
	seen(rogue, key)
	for end := time.Now().Add(time.Minute); len(alarms()) == 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no D2")
		}
	}
	sum := bulkhead.Digest(rogue.Raw)
	if got := alarms(); len(got) != 1 || got[0].Key != string(issuing)+","+sum.String() || got[0].Severity != bulkhead.Critical || got[0].Runbook == "" {
		t.Fatalf("%+v", got)
	}
	got := h.provedAtRest(t)
	if got.OK || len(got.Findings) != 1 || got.Findings[0].Rule != proof.RuleSeen || got.Findings[0].Negative != proof.RogueCertificates || got.Findings[0].Issuer != issuing || got.Findings[0].SHA256 != sum ||
		!strings.Contains(got.Findings[0].Message, "127.0.0.1") {
		t.Errorf("%s", got.Text())
	}
	if got := proved(t, run.ProveOptions{Dir: h.dir, Issuer: other}); !got.OK {
		t.Errorf("the rogue of another issuer: %s", got.Text())
	}
}

// shake answers a handshake and waits for the other side to go.
func shake(c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second)) // whoever looks may go at any time
	_, _ = c.Read(make([]byte, 1))
}
