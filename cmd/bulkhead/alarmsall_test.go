package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"bulkhead"
	"bulkhead/internal/heldport"
	"bulkhead/keys"
	"bulkhead/notice/mailtest"
	"bulkhead/run"
	"bulkhead/watch/deliver"
)

// receivers are the three ways out for alarms, of which each writes down what it was told.
type receivers struct {
	relay *mailtest.Relay
	key   []byte

	mu    sync.Mutex
	hooks []deliver.Message
	lines []string
}

// newReceivers starts them and writes them into the configuration of a house that stands still.
func newReceivers(t *testing.T, dir string) *receivers {
	t.Helper()
	r := &receivers{relay: mailtest.New(t, false), key: []byte("0123456789abcdef0123456789abcdef")}
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(io.LimitReader(q.Body, 1<<20))
		var m deliver.Message
		if err := json.Unmarshal(body, &m); err != nil || !deliver.Verify(r.key, body, q.Header.Get(deliver.SignatureHeader)) {
			t.Errorf("a message that is not signed, or none: %v: %s", err, body)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.hooks = append(r.hooks, m)
	}))
	t.Cleanup(hook.Close)
	log, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	go func() {
		for b := make([]byte, 1<<16); ; {
			n, _, err := log.ReadFrom(b)
			if err != nil {
				return
			}
			r.mu.Lock()
			r.lines = append(r.lines, string(b[:n]))
			r.mu.Unlock()
		}
	}()
	path := filepath.Join(dir, run.ConfigFile)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	deliveries := fmt.Sprintf("\nwatch:\n    deliver:\n        - {name: pager, severity: critical, webhook: %q, key_file: pager.key}\n        - {name: siem, severity: notice, syslog: \"udp://%s\"}\n        - {name: desk, severity: warning, mail: [ops@example.test]}\n",
		hook.URL, log.LocalAddr())
	text = bytes.Replace(text, []byte("\nwatch:\n"), []byte(deliveries), 1)
	text = bytes.Replace(text, []byte("starttls: true\n"), []byte("starttls: false\n            smtp: "+r.relay.Addr+"\n            from: ca@example.test\n"), 1)
	for name, body := range map[string][]byte{run.ConfigFile: text, "pager.key": r.key} {
		if err := os.WriteFile(filepath.Join(dir, name), body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// told is how often each receiver was told of a detector.
func (r *receivers) told(detector string) (hooks, lines, mails int, last deliver.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.hooks {
		if m.Detector == detector {
			hooks, last = hooks+1, m
		}
	}
	for _, l := range r.lines {
		if strings.Contains(l, ` detector="`+detector+`"`) {
			lines++
		}
	}
	for _, m := range r.relay.To("ops@example.test") {
		if strings.Contains(m.Subject(), " "+detector+": ") {
			mails++
		}
	}
	return hooks, lines, mails, last
}

// rogueOf signs a certificate with an authority's key past the signer.
func rogueOf(t *testing.T, c *cli, id bulkhead.AuthorityID) []byte {
	t.Helper()
	cfg, err := run.LoadConfig(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	store, err := run.OpenStore(t.Context(), c.dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	a, err := store.Authority(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keys.OpenFileRing(keys.Config{Dir: filepath.Join(c.dir, "keys"), IdentityFile: filepath.Join(c.dir, "keys.identity")})
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ring.Open(t.Context(), a.KeyURI)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := x509.ParseCertificate(a.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: new(big.Int).SetBytes([]byte("rogue 2011-07-10")), DNSNames: []string{"www.google.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}, issuer, own.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// issuerOf is the authority's certificate, out of the chain of the house's first one.
func issuerOf(t *testing.T, c *cli) string {
	t.Helper()
	chain, err := os.ReadFile(filepath.Join(c.work, "one.example.test.fullchain.crt"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest := pem.Decode(chain)
	second, _ := pem.Decode(rest)
	return c.file(t, "issuer.pem", string(pem.EncodeToMemory(second)), 0o600)
}

// askedFor has somebody ask for the status of a serial that was never issued.
func askedFor(t *testing.T, c *cli, r run.Ready, serial string) {
	t.Helper()
	out, _ := exec.Command("openssl", "ocsp", "-issuer", issuerOf(t, c), "-serial", "0x"+serial, "-url", r.OCSP, "-no_nonce", "-timeout", "10").CombinedOutput() // the refusal is its exit
	if !strings.Contains(string(out), "unauthorized") {
		t.Fatalf("a serial that was never issued is answered: %s", out)
	}
}

// alarmWithin is S0-10's N seconds, with a machine that has other things to do.
const alarmWithin = time.Minute

// TestAlarmsReachEverybody is S0-10 from the fault to whoever is on call: a house whose alarms go out by webhook, syslog and mail
// tells nobody anything while it is well. Then faults are planted, one for each detector that looks at record, log and wire; each
// reaches all three, once, with a runbook that exists, and stands in the metrics; the same trouble again is told to nobody, and
// another one of the same kind is.
func TestAlarmsReachEverybody(t *testing.T) {
	t.Parallel()
	c := &cli{dir: filepath.Join(t.TempDir(), "data"), work: t.TempDir()}
	stop, _ := upAt(t, c.dir, "--listen", "127.0.0.1:0", "--status-listen", heldport.For(t).String(), "--metrics-listen", heldport.For(t).String(), "--resolver", heldport.For(t).String(), "--log-level", "error")
	stop()
	to := newReceivers(t, c.dir)
	stop, ready := upAt(t, c.dir)
	for _, name := range []string{"one", "two", "three"} {
		c.run(t, exitDone, "issue", name+".example.test", "--out", c.work)
	}
	reconciled := regexp.MustCompile(`bulkhead_reconciler_rows_total (\d+)`)
	metrics := func() string {
		cfg, err := run.LoadConfig(c.dir)
		if err != nil {
			t.Fatal(err)
		}
		return string(fetched("http://" + cfg.MetricsListen + "/metrics"))
	}
	until(t, "answered", func() (string, bool) {
		out, _ := exec.Command("openssl", "ocsp", "-issuer", issuerOf(t, c), "-cert", filepath.Join(c.work, "one.example.test.crt"), "-url", ready.OCSP, "-no_nonce", "-timeout", "10", "-noverify").CombinedOutput()
		return string(out), strings.Contains(string(out), ": good")
	})
	until(t, "well", func() (string, bool) { m := metrics(); return m, reconciled.MatchString(m) })
	if len(to.hooks)+len(to.lines)+len(to.relay.All()) > 0 {
		t.Errorf("told while all is well: %v %v", to.hooks, to.lines)
	}
	stop()

	rogue := rogueOf(t, c, "issuing-p256")
	db, err := sql.Open("sqlite", filepath.Join(c.dir, "bulkhead.db"))
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{
		`UPDATE signature_counters SET made = made + 1 WHERE announced = (SELECT MAX(announced) FROM signature_counters)`,
		`UPDATE certificates SET state = 'abandoned' WHERE names LIKE '%two.example.test%'`,
		`UPDATE caa_checks SET name = 'other.test' WHERE name = 'three.example.test'`,
	} {
		if res, err := db.Exec(q); err != nil {
			t.Fatal(err)
		} else if n, _ := res.RowsAffected(); n != 1 {
			t.Fatalf("%s: %d rows", q, n)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	_, ready = upAt(t, c.dir)
	askedFor(t, c, ready, "1234567890abcdef1234567890abcdef")
	c.run(t, exitRefused, "alarms", "sighted", "--source", "somebody's mail", c.file(t, "rogue.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rogue})), 0o600))

	all := []string{"D1", "D2", "D3", "D4", "D11"}
	said := func(want int, detectors ...string) {
		t.Helper()
		end := time.Now().Add(alarmWithin)
		for _, d := range detectors {
			for {
				hooks, lines, mails, last := to.told(d)
				if hooks == want && lines == want && mails == want {
					if _, err := os.Stat(filepath.Join("../../doc/runbooks", last.Runbook)); err != nil || last.Severity != bulkhead.Critical || last.Message == "" {
						t.Errorf("%s: %v, %+v", d, err, last)
					}
					break
				}
				if time.Now().After(end) {
					list, _ := c.run(t, exitDone, "alarms")
					t.Fatalf("%s: webhook %d, syslog %d, mail %d; want %d\n%s", d, hooks, lines, mails, want, list)
				}
				time.Sleep(50 * time.Millisecond)
			}
		}
	}
	said(1, all...)
	text := metrics()
	for _, d := range all {
		if want := fmt.Sprintf(`bulkhead_alarms_open{detector="%s",severity="critical"} 1`, d); !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	list, _ := c.run(t, exitDone, "alarms")
	for _, d := range all {
		if !strings.Contains(list, d+" ") {
			t.Errorf("%s is not listed:\n%s", d, list)
		}
	}
	if !strings.Contains(list, "read doc/runbooks/d3-signature-counter.md") {
		t.Errorf("no page to read:\n%s", list)
	}
	askedFor(t, c, ready, "1234567890abcdef1234567890abcdef")
	askedFor(t, c, ready, "1234567890abcdef1234567890abcde0")
	said(2, "D1") // the second serial, and not the first one again
}
