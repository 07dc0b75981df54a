package status_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/publish"
)

func (h *house) stray(t *testing.T, name string) {
	t.Helper()
	ok(t, h.dir.Put(t.Context(), publish.Object{Name: name, Body: strings.NewReader("stray")}))
}

func (h *house) has(name string) bool {
	_, err := h.dir.Get(h.t.Context(), name)
	return err == nil
}

// TestCollect: what no head has named for a day goes; what a head names, and what is not ours to judge, stays.
func TestCollect(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	refs := h.issue(caA, 3)
	stray := "crls/issuing-a/0/999999.crl"
	for _, name := range []string{stray, "packs/issuing-a/stray.pack", "ca/issuing-a/old.cer", "other/thing"} {
		h.stray(t, name)
	}
	old := h.head()
	h.revoke(refs[0]) // this head's CRL takes the place of an older one
	replaced := ""
	for i, c := range old.Issuer(caA).CRLs {
		if h.head().Issuer(caA).CRLs[i].Name != c.Name {
			replaced = c.Name
		}
	}
	if replaced == "" {
		t.Fatal("the revocation replaced no CRL")
	}
	h.move(4 * time.Hour)
	h.tick() // from here on it is known that nothing names them
	h.move(23 * time.Hour)
	h.settle()
	h.tick()
	if !h.has(stray) || !h.has(replaced) {
		t.Error("deleted before its time")
	}
	h.move(4 * time.Hour)
	h.settle()
	h.tick()
	if h.has(stray) || h.has("packs/issuing-a/stray.pack") || h.has(replaced) {
		t.Error("strays are there for ever")
	}
	if !h.has("ca/issuing-a/old.cer") || !h.has("other/thing") {
		t.Error("deleted what is not to be judged")
	}
	h.agree() // every object that the head names is there
}

// TestCollectAfterRestart: a process that never lives a day clears away what is over for certain, in bounded rounds.
func TestCollectAfterRestart(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	dir, err := h.dir.LocalPath("packs/issuing-a")
	ok(t, err)
	ok(t, os.MkdirAll(dir, 0o755))
	const n = 1100
	for i := range n {
		path := filepath.Join(dir, fmt.Sprintf("stray%d.pack", i))
		ok(t, os.WriteFile(path, []byte("x"), 0o600))
		at := h.now().Add(-9 * day)
		ok(t, os.Chtimes(path, at, at))
	}
	h.stray(t, "packs/issuing-a/young.pack")
	left := func() (n int) {
		all, err := h.dir.List(t.Context(), "packs/issuing-a/stray")
		ok(t, err)
		return len(all)
	}
	h.status = h.restart()
	h.tick()
	if left() != n-1000 {
		t.Errorf("%d of %d left after one round", left(), n)
	}
	h.tick()
	if left() != 0 || !h.has("packs/issuing-a/young.pack") {
		t.Errorf("%d left after two rounds; the young one is there: %v", left(), h.has("packs/issuing-a/young.pack"))
	}
	h.agree()
}

// TestCheck plants what Check is there to find.
func TestCheck(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rule  string
		plant func(h *house, ref bulkhead.CertificateRef)
	}{
		"nothing": {"", func(*house, bulkhead.CertificateRef) {}},
		"pack gone": {"object", func(h *house, _ bulkhead.CertificateRef) {
			ok(h.t, h.dir.Delete(h.t.Context(), h.head().Issuer(caA).Packs[0].Name))
		}},
		"CRL gone": {"object", func(h *house, _ bulkhead.CertificateRef) {
			ok(h.t, h.dir.Delete(h.t.Context(), h.head().Issuer(caB).CRLs[0].Name))
		}},
		"answers under another issuer": {"good-never-signed", func(h *house, _ bulkhead.CertificateRef) {
			h.publish(func(x *headEdit) { x.Issuer(caB).Packs = x.Issuer(caA).Packs })
		}},
		"answers gone": {"answer-missing", func(h *house, _ bulkhead.CertificateRef) {
			h.publish(func(x *headEdit) { x.Issuer(caA).Packs = nil })
		}},
		"revocation gone from the answers": {"answer", func(h *house, ref bulkhead.CertificateRef) {
			before := h.head().Issuer(caA).Packs
			h.revoke(ref)
			h.publish(func(x *headEdit) { x.Issuer(caA).Packs = before })
		}},
		"authority not named": {"head", func(h *house, _ bulkhead.CertificateRef) {
			h.addIssuing(rootCA, "issuing-c", h.csr("c", name("Issuing C")), name("Issuing C"), 1)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			c.plant(h, h.issue(caA, 2)[0])
			found := map[string]bool{}
			for _, d := range h.check() {
				found[d.Rule] = true
			}
			if c.rule == "" && len(found) > 0 || c.rule != "" && !found[c.rule] {
				t.Errorf("found %v, want %q", found, c.rule)
			}
		})
	}
}
