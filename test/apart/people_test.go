package apart

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// delivered is an alarm as a receiver gets it.
type delivered struct {
	Detector, Key, Severity, Message string
}

// receiver takes alarms by webhook.
type receiver struct {
	mu     sync.Mutex
	alarms []delivered
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var a delivered
	body, err := io.ReadAll(io.LimitReader(req.Body, 1<<20))
	if err != nil || json.Unmarshal(body, &a) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alarms = append(r.alarms, a)
}

func (r *receiver) has(detector, key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.alarms, func(a delivered) bool { return a.Detector == detector && strings.Contains(a.Key, key) })
}

// tellWatch tells the watch where the edge's sightings are and who gets alarms, and makes two certificates a large change.
func (h *house) tellWatch() {
	h.t.Helper()
	server := httptest.NewServer(&h.receiver)
	h.t.Cleanup(server.Close)
	key := filepath.Join(h.data("watch"), "receiver.key")
	ok(h.t, os.WriteFile(key, []byte(rand.Text()+rand.Text()+"\n"), 0o600))
	ok(h.t, os.Chown(key, int(users["watch"]), int(users["watch"])))
	h.edit("watch", func(text string) string {
		return strings.Replace(text, "\nwatch:\n", "\nwatch:\n    sightings: [\"http://"+h.metrics["edge"]+"\"]\n    deliver: [{name: desk, severity: warning, webhook: \""+server.URL+"\", key_file: receiver.key}]\n", 1)
	})
	for _, r := range []string{"console", "enroll", "status"} {
		h.edit(r, func(text string) string { return strings.Replace(text, "one_person: 10", "one_person: 1", 1) })
	}
}

// watched: the watch is a process of its own, and hears from an edge in another one that somebody asks for a serial that was
// never issued (as in 2011); whoever is on call gets it. For certificates that exist nobody is told.
func watched(t *testing.T, h *house) {
	h.t = t
	stem := h.issue("seen.example.test")
	h.wait("good", func() bool { return strings.Contains(h.ocsp(stem), stem+".crt: good") })
	const never = "5AFE0000000000000000000000000001"
	out, _ := exec.Command("openssl", "ocsp", "-issuer", stem+".issuer.crt", "-serial", "0x"+never, "-url", "http://"+h.http+"/ocsp/", "-noverify").CombinedOutput()
	if !strings.Contains(string(out), "unauthorized") {
		t.Fatalf("a serial that was never issued: %s", out)
	}
	h.wait("the alarm at its receiver", func() bool { return h.receiver.has("D1", strings.ToLower(never)) })
	if serial := h.serial(stem); h.receiver.has("D1", serial) {
		t.Errorf("an alarm about %s, which was issued", serial)
	}
	if out, err := h.bulkhead("alarms"); err != nil || !strings.Contains(out, "D1") {
		t.Errorf("alarms: %v: %s", err, out)
	}
}

// marked: the console is taken over, with its database user. It sets a change that takes two people to approved, which the
// database lets it do. The status role, another process, judges the signatures and refuses; two people's go through.
func marked(t *testing.T, h *house) {
	h.t = t
	change := func(tag string) (id string, stems []string) {
		t.Helper()
		var lines strings.Builder
		for i := range 2 {
			stem := h.issue(fmt.Sprintf("%s%d.example.test", tag, i))
			stems = append(stems, stem)
			fmt.Fprintf(&lines, "issuing-p256,%s\n", h.serial(stem))
		}
		file := filepath.Join(h.dir, tag+".serials")
		ok(t, os.WriteFile(file, []byte(lines.String()), 0o644))
		out, err := h.bulkhead("change", "preview", "--revoke-serials", file, "--reason", "superseded", "--json")
		i := strings.Index(out, "{")
		if err != nil || i < 0 {
			t.Fatalf("preview: %v: %s", err, out)
		}
		var v struct {
			Change string `json:"change"`
		}
		ok(t, json.NewDecoder(strings.NewReader(out[i:])).Decode(&v))
		return v.Change, stems
	}
	state := func(id string) string {
		out, _ := h.bulkhead("change", "show", id, "--json")
		var v struct {
			State string `json:"state"`
		}
		if i := strings.Index(out, "{"); i >= 0 {
			_ = json.NewDecoder(strings.NewReader(out[i:])).Decode(&v)
		}
		return v.State
	}
	id, stems := change("marked")
	ok(t, h.sql("console", "UPDATE changes SET state = 'approved' WHERE id = '"+id+"'"))
	h.wait("the refusal", func() bool { return state(id) == "refused" })
	h.wait("the alarm at its receiver", func() bool { return h.receiver.has("quorum", "change,"+id) })
	for _, stem := range stems {
		if got := h.ocsp(stem); !strings.Contains(got, stem+".crt: good") {
			t.Errorf("after the forged approval: %s", got)
		}
	}
	// Whoever may write operators and requests cannot make people of them either.
	id, _ = change("planted")
	ok(t, h.sql("console", `INSERT INTO operators (name, public_key, roles, added_at, removed_at, reviewed_at) VALUES ('mallory', '\x00', '["admin"]', 1, 0, 0);
		INSERT INTO requests (id, action, payload, digest, needed, state, actor, reason, created_at, expires_at) VALUES ('planted', 'change.activate', '\x7b7d', '\x00', 0, 'executed', 'x', 'x', 1, 1);
		UPDATE changes SET state = 'approved' WHERE id = '`+id+"'"))
	h.wait("the refusal", func() bool { return state(id) == "refused" })

	id, stems = change("signed")
	out, err := h.bulkhead("change", "approve", id, "--json")
	var r struct {
		ID string `json:"id"`
	}
	i := strings.Index(out, "{")
	if err != nil || i < 0 || json.NewDecoder(strings.NewReader(out[i:])).Decode(&r) != nil {
		t.Fatalf("asking for approval: %v: %s", err, out)
	}
	for _, key := range []string{filepath.Join(h.dir, "operator.key"), filepath.Join(h.data("signer")+"-root", "operator-2.key")} {
		if out, err := h.bulkhead("approve", r.ID, "--key", key); err != nil {
			t.Fatalf("approve: %v: %s", err, out)
		}
	}
	h.wait("revoked", func() bool { return strings.Contains(h.ocsp(stems[0]), stems[0]+".crt: revoked") })
	if h.receiver.has("quorum", id) {
		t.Error("an alarm for what two people signed")
	}
}
