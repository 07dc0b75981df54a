package run

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/enroll"
	"bulkhead/enroll/dcv"
)

// TestPerspectives starts four, names them in a configuration, and looks through them.
func TestPerspectives(t *testing.T) {
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("tok.thumb")) })}
	go func() { _ = srv.Serve(web) }()
	t.Cleanup(func() { _ = srv.Close() })
	port := web.Addr().(*net.TCPAddr).Port

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 4)
	h := &House{dir: t.TempDir(), cfg: DefaultConfig(), now: func() time.Time { return time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC) }}
	for i, rir := range []string{"ARIN", "RIPE", "APNIC", "LACNIC"} {
		ready := make(chan PerspectiveReady, 1)
		dir := filepath.Join(h.dir, "p", rir)
		go func() {
			done <- RunPerspective(ctx, PerspectiveOptions{Dir: dir, Listen: "127.0.0.1:0", HTTPPort: port, PrivateTargets: true, CAAIdentities: []string{"ca.test"},
				Log: slog.New(slog.DiscardHandler), Ready: func(r PerspectiveReady) { ready <- r }})
		}()
		select {
		case r := <-ready:
			h.cfg.Perspectives = append(h.cfg.Perspectives, Perspective{Name: rir, URL: r.URL, RIR: rir, TokenFile: r.TokenFile, CertificateFile: r.CertificateFile})
		case err := <-done:
			t.Fatalf("perspective %d: %v", i, err)
		}
	}
	if err := h.cfg.Check(); err != nil {
		t.Fatal(err)
	}
	primary, err := dcv.New(dcv.Config{HTTPPort: port, AllowPrivate: true, CAAIdentities: []string{"ca.test"}, Now: h.now})
	if err != nil {
		t.Fatal(err)
	}
	v, err := h.perspectives(primary, enroll.NameSet{})
	if err != nil {
		t.Fatal(err)
	}
	detail, err := v.Validate(t.Context(), bulkhead.Identifier{Type: bulkhead.IP, Value: "127.0.0.1"}, bulkhead.HTTP01, "tok", "tok.thumb")
	if err != nil || !strings.Contains(detail, "corroborated 4/4 in 4 registries") {
		t.Fatalf("%v: %s", err, detail)
	}
	var found []string
	h.diagnosePerspectives(ctx, func(check, level, _, format string, _ ...any) { found = append(found, level) })
	if len(found) != 1 || found[0] != levelFinding { // five are asked for from 2026-12-15 on
		t.Errorf("doctor says %v", found)
	}
	cancel()
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	h.cfg.Perspectives = h.cfg.Perspectives[:3]
	if _, err := h.perspectives(primary, enroll.NameSet{}); bulkhead.KindOf(err) != bulkhead.KindUsage {
		t.Errorf("three were enough: %v", err)
	}
	h.cfg.Perspectives = nil
	if v, err := h.perspectives(primary, enroll.NameSet{}); err != nil || v != enroll.Validator(primary) {
		t.Errorf("without perspectives: %v", err)
	}
}

func TestAdmissionConfig(t *testing.T) {
	for text, wrong := range map[string]bool{
		"": false,
		"rate_limits: {orders_per_account: {count: 300, per: 3h}}\n":                                 false,
		"rate_limits: {orders_per_account: {count: 300, per: 0s}}\n":                                 true,
		"rate_limits: {orders_per_account: {count: -1}}\n":                                           true,
		"rate_limits: {nothing: {count: 1}}\n":                                                       true,
		"rate_limits: {overrides: [{limit: orders_per_account, account: abc, count: 9, per: 1h}]}\n": false,
		"rate_limits: {overrides: [{limit: orders_per_account, count: 9, per: 1h}]}\n":               true,
		"rate_limits: {overrides: [{limit: nothing, account: abc, count: 9, per: 1h}]}\n":            true,
		"perspectives: [{name: a, url: \"https://127.0.0.1:1\", rir: ARIN}]\n":                       true,
		"acme: {external_account_required: true, shared_nonces: true}\n":                             false,
	} {
		if _, err := ParseConfig([]byte(text)); (err != nil) != wrong {
			t.Errorf("%q: %v", text, err)
		}
	}
	dir := t.TempDir()
	first, err := secretForExternalKeys(dir)
	if err != nil || len(first) != 32 {
		t.Fatalf("%d octets, %v", len(first), err)
	}
	if again, err := secretForExternalKeys(dir); err != nil || string(again) != string(first) {
		t.Errorf("the secret changed: %v", err)
	}
	if err := writeFile(filepath.Join(dir, externalSecret), []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := secretForExternalKeys(dir); bulkhead.KindOf(err) != bulkhead.KindUsage {
		t.Errorf("got %v", err)
	}
}
