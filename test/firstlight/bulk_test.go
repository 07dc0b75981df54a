package firstlight

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestChangeOfMany: many certificates are revoked as one change: previewed first, refused to one person above the
// threshold, carried through by two; a preview that the world has overtaken is refused, and a withdrawn change is over.
func TestChangeOfMany(t *testing.T) {
	h := start(t, options{})
	h.edit("one_person: 10", "one_person: 2")
	h.stop()
	h.up()
	var lines []string
	var papers []paper
	for _, name := range []string{"a.bulk.test", "b.bulk.test", "c.bulk.test", "d.bulk.test"} {
		got := h.issue(name)
		papers = append(papers, got.paper(t))
		lines = append(lines, string(got.Certificate.Issuer)+","+got.Certificate.Serial)
	}
	list := func(name string, serials ...string) string {
		path := filepath.Join(t.TempDir(), name)
		ok(t, os.WriteFile(path, []byte("# of the test\n"+strings.Join(serials, "\n")+"\n"), 0o600))
		return path
	}
	plan := func(path string) string {
		var p struct {
			Change         string   `json:"change"`
			Hash           string   `json:"hash"`
			AnswersChanged int      `json:"answers_changed"`
			Blocked        []string `json:"blocked"`
			PathsLost      []string `json:"paths_lost"`
		}
		h.query(&p, "change", "preview", "--revoke-serials", path, "--reason", "superseded", "--why", "a test")
		if p.Change == "" || len(p.Hash) != 64 || p.AnswersChanged == 0 || p.Blocked == nil || p.PathsLost == nil {
			t.Fatalf("preview %+v", p)
		}
		return p.Change
	}
	h.refused(2, "is not ISSUER,SERIAL", "change", "preview", "--revoke-serials", list("bad", "nonsense"), "--why", "x")
	h.refused(1, "never issued", "change", "preview", "--revoke-serials", list("unknown", "issuing-p256,123456"), "--why", "x")
	all, two, gone := plan(list("all", lines...)), plan(list("two", lines[:2]...)), plan(list("gone", lines[3]))
	h.refused(3, "take two people", "change", "activate", all)
	h.refused(3, "quotes another preview", "change", "activate", two, "--preview", strings.Repeat("0", 63)+"1")
	h.must("change", "withdraw", gone, "--why", "a test")
	h.refused(1, "next: ", "change", "activate", gone)
	for _, p := range papers {
		if s := p.status(t); s == "revoked" || p.onCRL(t) {
			t.Fatalf("a certificate is %s before any change was carried through", s)
		}
	}
	h.must("change", "activate", two)
	papers[0].awaitRevoked(t)
	papers[1].awaitRevoked(t)
	h.refused(1, "was revoked at", "change", "preview", "--revoke-serials", list("again", lines[0]), "--reason", "superseded", "--why", "x")
	var req struct{ ID string }
	h.query(&req, "change", "approve", all)
	h.must("approve", req.ID, "--key", filepath.Join(h.dir, "operator", "operator-1.key"))
	h.refused(3, "the world moved", "approve", req.ID, "--key", filepath.Join(h.dir+"-root", "operator-2.key"))
	if s := papers[2].status(t); s == "revoked" {
		t.Error("a stale preview was carried through")
	}
}
