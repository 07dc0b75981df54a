package main

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/console"
)

// TestNotice goes from the preview to the public page: nothing is kept by a preview or a dry run, a step is kept once, and
// the page shows its words and no certificate.
func TestNotice(t *testing.T) {
	c := houseUp(t)
	c.run(t, exitDone, "issue", "n0.example.test", "--out", c.work)
	i := asJSON[console.IncidentView](t, c, "incident", "open", "--title", "words of the house", "--playbook", "heartbleed-2014", "--name", ".example.test")
	words := []string{i.ID, "--day", "key-compromise", "--what-en", "A fault in a library.", "--what-ja", "ライブラリの脆弱性です。", "--do-en", "Update it.", "--do-ja", "更新してください。", "--until", "2027-01-31T12:00:00Z"}
	letter := asJSON[console.NoticeText](t, c, append([]string{"notice", "preview", "--lang", "ja"}, words...)...)
	if !strings.Contains(letter.Subject, "2027年1月31日 21:00") || !strings.Contains(letter.Body, "ライブラリの脆弱性です。") {
		t.Errorf("%+v", letter)
	}
	c.run(t, exitUsage, "notice", "plan", i.ID, "--day", "key-compromise", "--what-en", "only English", "--until", "2027-01-31T12:00:00Z")
	c.run(t, exitUsage, append([]string{"notice", "plan", "--step", "No Name"}, words...)...)
	c.run(t, exitDone, append([]string{"notice", "plan", "--dry-run"}, words...)...)
	if page := c.page(t, "/status/"); !strings.Contains(page, "No incident is known.") {
		t.Error(page)
	}
	c.run(t, exitDone, append([]string{"notice", "plan"}, words...)...)
	c.run(t, exitFailed, append([]string{"notice", "plan"}, words...)...)
	c.run(t, exitDone, "notice", "send", i.ID)
	c.run(t, exitDone, "notice", "status", i.ID)
	c.run(t, exitDone, "notice", "stale")
	c.run(t, exitFailed, "notice", "send", i.ID, "--step", "second")
	c.run(t, exitUsage, "notice", "bounce", c.file(t, "bounce", "nonsense", 0o600))
	for end := time.Now().Add(time.Minute); !strings.Contains(c.page(t, "/status/ja/"), "ライブラリ") && time.Now().Before(end); { // it may be a second old
		time.Sleep(100 * time.Millisecond)
	}
	if page := c.page(t, "/status/ja/"); !strings.Contains(page, "<b>対象:</b> TLS サーバー証明書</p>") { // by the certificates that it has (S2-20)
		t.Errorf("the page does not say of which product the certificates are:\n%s", page)
	}
	other := c.page(t, "/status/ja/feed.atom")
	for _, page := range []string{c.page(t, "/status/ja/"), other} {
		if !strings.Contains(page, "ライブラリの脆弱性です。") || strings.Contains(page, "example.test") || strings.Contains(page, "words of the house") {
			t.Error(page)
		}
	}
}

// page gets a public page.
func (c *cli) page(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(c.dir, "run", "ready.json"))
	if err != nil {
		t.Fatal(err)
	}
	var ready struct{ API string }
	if err := json.Unmarshal(text, &ready); err != nil {
		t.Fatal(err)
	}
	base, _, _ := strings.Cut(ready.API, "/api/")
	h := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // its certificate is not what is tested
	res, err := h.Get(base + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(res.Status, err)
	}
	return string(body)
}
