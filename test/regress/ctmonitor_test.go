package regress

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/ct"
	"bulkhead/pki/sct"
	"bulkhead/proof"
	"bulkhead/run"
	"bulkhead/test/foreign"
)

// submit gives a chain to a log.
func submit(t testing.TB, l foreign.Log, chain ...[]byte) {
	t.Helper()
	submitTo(t, l, "add-chain", chain...)
}

func submitTo(t testing.TB, l foreign.Log, call string, chain ...[]byte) {
	t.Helper()
	body, err := json.Marshal(map[string][][]byte{"chain": chain})
	ok(t, err)
	client := http.Client{Timeout: 30 * time.Second}
	res, err := client.Post(l.URL+"/ct/v1/"+call, "application/json", bytes.NewReader(body))
	ok(t, err)
	defer res.Body.Close()
	if text, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%d %s %v", res.StatusCode, text, err)
	}
}

// TestTransparencyLogs: a house reads TesseraCT, a static-ct-api log. Its own certificates there are known; one that its key
// signed past the signer is D2, once, and exactly that one in the proof. A log that shows another tree, and one that is away,
// are told as such.
func TestTransparencyLogs(t *testing.T) {
	h := newHouse(t)
	good := h.issue("known.ct.test")
	log := foreign.TesseraCT(t, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.root.Raw}), "")
	files := http.FileServer(http.Dir(log.Dir))
	away, other := false, false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case away:
			http.Error(w, "away", http.StatusServiceUnavailable)
		case other && strings.HasPrefix(r.URL.Path, "/tile/data/"):
			rec := httptest.NewRecorder()
			files.ServeHTTP(rec, r)
			body := rec.Body.Bytes()
			if rec.Code == http.StatusOK {
				body[len(body)/2] ^= 1
			}
			w.WriteHeader(rec.Code)
			_, _ = w.Write(body)
		default:
			files.ServeHTTP(w, r)
		}
	}))
	defer server.Close()
	monitor, err := ct.NewMonitor(ct.MonitorConfig{Logs: []ct.MonitoredLog{{Name: "tessera", URL: server.URL, Origin: log.Origin, Key: log.Key, FromStart: true}},
		Record: h.Store, Now: h.now, Raise: h.Watch.Raise, AllowPrivate: true})
	ok(t, err)
	alarms := func() (out []string) {
		t.Helper()
		list, err := h.Store.AlarmsOf(t.Context(), "D2", 100)
		ok(t, err)
		for _, a := range list {
			out = append(out, a.Key)
		}
		return out
	}
	size := func() bulkhead.CTMonitor {
		t.Helper()
		all, err := h.Store.CTMonitors(t.Context())
		ok(t, err)
		if len(all) != 1 {
			return bulkhead.CTMonitor{}
		}
		return all[0]
	}
	// until reads until n entries were read: the log publishes some time after it has answered.
	until := func(n int64) {
		t.Helper()
		for end := time.Now().Add(time.Minute); size().Read < n; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%+v, alarms %v", size(), alarms())
			}
			monitor.Round(t.Context())
		}
	}
	submit(t, log, good.leaf.Raw, good.issuer.Raw, h.root.Raw)
	until(1)
	if m := size(); m.Ours != 1 || m.Unknown != 0 || len(alarms()) != 0 {
		t.Fatalf("%+v %v", m, alarms())
	}
	rogue := h.rogue(t, h.dir, "www.google.com")
	submit(t, log, rogue.Raw, good.issuer.Raw, h.root.Raw)
	until(2)
	monitor.Round(t.Context())
	want := string(issuing) + "," + bulkhead.Digest(rogue.Raw).String()
	if got := alarms(); len(got) != 1 || got[0] != want || size().Unknown != 1 {
		t.Fatalf("%v %+v", got, size())
	}
	got := h.provedAtRest(t)
	if len(got.Findings) != 1 || got.Findings[0].Rule != proof.RuleSeen || got.Findings[0].SHA256 != bulkhead.Digest(rogue.Raw) || got.Findings[0].Issuer != issuing ||
		len(got.CT) != 1 || got.CT[0].Read != 2 || got.CT[0].Ours != 2 || !strings.Contains(got.Text(), "entries of transparency logs that were read") {
		t.Errorf("%s", got.Text())
	}
	if got := proved(t, run.ProveOptions{Dir: h.dir, Issuer: "issuing-rsa2048"}); !got.OK {
		t.Errorf("the rogue of another issuer: %s", got.Text())
	}

	// What the log hands out is not what it signed: nothing of it is believed.
	other = true
	more := h.issue("more.ct.test")
	submit(t, log, more.leaf.Raw, more.issuer.Raw, h.root.Raw)
	for end := time.Now().Add(time.Minute); len(alarms()) < 2; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a false tile is no alarm")
		}
		monitor.Round(t.Context())
	}
	if got := alarms(); got[1] != "ct-log,tessera" || size().Read != 2 {
		t.Errorf("%v %+v", got, size())
	}
	other = false
	until(3)
	away = true
	monitor.Round(t.Context())
	if got := alarms(); len(got) != 3 || got[2] != "blind,tessera" || size().Ours != 3 {
		t.Errorf("%v %+v", got, size())
	}
}

// provedAtRest proves the house as it stands.
func (h *house) provedAtRest(t testing.TB) proof.Report {
	t.Helper()
	return proved(t, run.ProveOptions{Dir: h.dir})
}

// TestMonitorInTheHouse: the watch role reads the logs of the configuration, precertificates included.
func TestMonitorInTheHouse(t *testing.T) {
	h := newHouse(t)
	good := h.issue("house.ct.test")
	log := foreign.TesseraCT(t, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.root.Raw}), "")
	server := httptest.NewServer(http.FileServer(http.Dir(log.Dir)))
	defer server.Close()
	submit(t, log, good.leaf.Raw, good.issuer.Raw, h.root.Raw)
	rogue := h.rogue(t, h.dir, "www.google.com")
	submit(t, log, rogue.Raw, good.issuer.Raw, h.root.Raw)
	pre := h.rogue(t, h.dir, "pre.google.com", sct.Poison())
	submitTo(t, log, "add-pre-chain", pre.Raw, good.issuer.Raw, h.root.Raw)
	h.stop()
	body, err := os.ReadFile(filepath.Join(h.dir, run.ConfigFile))
	ok(t, err)
	text := fmt.Sprintf("ct:\n    allow_private: true\n    monitor_every: 200ms\n    monitor:\n        - name: tessera\n          url: %s\n          origin: %s\n          key: %s\n          from_start: true\n", server.URL, log.Origin, base64.StdEncoding.EncodeToString(log.Key))
	if i := bytes.Index(body, []byte("\nct:")); i >= 0 {
		t.Fatalf("the configuration has logs: %s", body[i:])
	}
	h.edit("\nlog:\n", "\n"+text+"log:\n")
	h.start()
	h.serve()
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		list, err := h.Store.AlarmsOf(t.Context(), "D2", 10)
		ok(t, err)
		if len(list) == 2 && strings.Contains(list[0].Key, bulkhead.Digest(rogue.Raw).String()) && strings.Contains(list[1].Key, bulkhead.Digest(pre.Raw).String()) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%+v", list)
		}
	}
}
