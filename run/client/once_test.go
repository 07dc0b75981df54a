package client_test

import (
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"bulkhead"
	"bulkhead/run/client"
)

func connect(t *testing.T, s *httptest.Server) *client.Client {
	t.Helper()
	anchor := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(anchor, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Options{Addr: s.URL, CACert: anchor, Token: "t"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestDoOnce loses the answer, then is told that the first request is under way, and gets its answer: one key for all.
func TestDoOnce(t *testing.T) {
	var keys []string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch keys = append(keys, r.Header.Get("Idempotency-Key")); len(keys) {
		case 1:
			panic(http.ErrAbortHandler) // the connection breaks
		case 2:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusConflict)
			_, _ = w.Write([]byte(`{"title":"conflict","detail":"under way"}`))
		default:
			_, _ = w.Write([]byte(`{"serial":"01"}`))
		}
	}))
	defer server.Close()
	var out struct{ Serial string }
	if err := connect(t, server).DoOnce(t.Context(), http.MethodPost, "/x", nil, &out); err != nil || out.Serial != "01" {
		t.Fatal(out, err)
	}
	if len(keys) != 3 || keys[0] == "" || keys[1] != keys[0] || keys[2] != keys[0] {
		t.Errorf("keys %q", keys)
	}
}

// TestDoOnceRefused: a refusal is the answer, and what was never sent is not sent again.
func TestDoOnceRefused(t *testing.T) {
	asked := 0
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		w.WriteHeader(http.StatusConflict)
		_, _ = w.Write([]byte(`{"title":"conflict","detail":"no"}`))
	}))
	c := connect(t, server)
	if err := c.DoOnce(t.Context(), http.MethodPost, "/x", nil, nil); bulkhead.KindOf(err) != bulkhead.KindConflict || asked != 1 {
		t.Errorf("asked %d times: %v", asked, err)
	}
	server.Close()
	err := c.DoOnce(t.Context(), http.MethodPost, "/x", nil, nil)
	if bulkhead.KindOf(err) != bulkhead.KindUnavailable || errors.Is(err, client.ErrLost) {
		t.Errorf("a closed port: %v", err)
	}
}
