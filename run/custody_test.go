package run

import (
	"context"
	"crypto"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/incident"
	"bulkhead/keys"
	"bulkhead/keys/custody"
)

// tokenRing is a ring with one key of a token beside its files.
type tokenRing struct {
	keys.Ring
	uri, twin string
}

// List implements keys.Ring.
func (r tokenRing) List(ctx context.Context) ([]string, error) {
	uris, err := r.Ring.List(ctx)
	return append(uris, r.uri), err
}

// Open implements keys.Ring.
func (r tokenRing) Open(ctx context.Context, uri string) (crypto.Signer, error) {
	if uri == r.uri {
		uri = r.twin
	}
	return r.Ring.Open(ctx, uri)
}

// TestKeysList is S1-6: every private key with where it lives, whether it is online and who has it: sealed files and a token's
// keys of this host, the root's away from every role with those who used it last, its shares by name, what was destroyed
// nowhere; and the incident report prints the same.
func TestKeysList(t *testing.T) {
	w := newWorld(t)
	ctx := w.Context()
	list := func() map[string]console.KeyView {
		t.Helper()
		rows, err := offline{w.h}.Keys(ctx)
		w.ok(err)
		out := map[string]console.KeyView{}
		for _, k := range rows {
			out[k.Role+"/"+k.Use] = k
		}
		return out
	}
	find := func(begin string) console.KeyView {
		t.Helper()
		for use, k := range list() {
			if strings.HasPrefix(use, begin) {
				return k
			}
		}
		t.Fatalf("no key of %s", begin)
		return console.KeyView{}
	}
	for _, use := range []string{"issuing/authority issuing-p256 (active)", "issuing/authority issuing-rsa2048 (active)", "infrastructure/authority infrastructure", "ocsp-delegate/OCSP delegate of issuing-p256", "head/status head"} {
		k := find(use)
		if !k.Online || k.Where != "a sealed file of the data directory" || k.Custodian != "this host, role signer" || !strings.HasPrefix(k.URI, "file:") || k.KeySHA256.IsZero() || k.Algorithm == "" {
			t.Errorf("%s: %+v", use, k)
		}
	}
	if k := find("evidence/"); !k.Online || k.Where != "a file of the data directory" {
		t.Errorf("%+v", k)
	}
	root := find("root/authority root")
	if root.Online || root.Where != "offline, away from every role" || !strings.HasPrefix(root.Custodian, "bulkhead up, unattended, on ") || root.URI == "" || root.Holders != nil {
		t.Errorf("%+v", root)
	}

	// In shares: the public record of the split says who; a record that cannot be read is said and not passed over.
	var who []custody.Custodian
	for _, name := range []string{"ada", "edith", "grace"} {
		id, err := age.GenerateX25519Identity()
		w.ok(err)
		who = append(who, custody.Custodian{Name: name, Recipient: id.Recipient().String()})
	}
	_, record, _, err := custody.Split(rand.Reader, 2, who)
	w.ok(err)
	record.Keys = []string{root.URI}
	text, err := json.Marshal(record)
	w.ok(err)
	file := filepath.Join(w.h.dir, ceremonyDir, "custody.json")
	w.ok(os.WriteFile(file, text, 0o644))
	k := find("root/authority root")
	if k.Online || k.Needed != 2 || !slices.Equal(k.Holders, []string{"ada", "edith", "grace"}) || !strings.HasPrefix(k.Custodian, "any 2 of ada, edith, grace; last used by ") {
		t.Errorf("%+v", k)
	}
	i, err := w.h.desk.Open(ctx, "operator:test", incident.Intake{Title: "a drill", Playbook: "mass-revocation", Scope: bulkhead.Scope{Names: []string{"here.test"}}})
	w.ok(err)
	got, err := reports{w.h}.Report(ctx, i.ID, bulkhead.ReportRequest{Kind: "full"})
	w.ok(err)
	for _, line := range []string{"| authority root (active) | no | offline, sealed; in shares | any 2 of ada, edith, grace;", "| authority issuing-p256 (active) | yes | a sealed file of the data directory | this host, role signer |"} {
		if !strings.Contains(got.Markdown, line) {
			t.Errorf("the incident report does not say %q", line)
		}
	}
	if k := find("issuing/authority issuing-p256"); k.Holders != nil {
		t.Errorf("somebody else's shares: %+v", k)
	}
	w.ok(os.WriteFile(file, []byte("{}"), 0o644))
	if _, err := (offline{w.h}).Keys(ctx); bulkhead.KindOf(err) != bulkhead.KindMalformed {
		t.Errorf("a record that cannot be read: %v", err)
	}
	w.ok(os.Remove(file))

	// A token's key, and one that the ring does not have any more.
	a, err := w.h.store.Authority(ctx, rsaID)
	w.ok(err)
	file = a.KeyURI
	a.KeyURI = "pkcs11:token=house;object=issuing-rsa2048"
	w.ok(w.h.store.PutAuthority(ctx, a))
	w.h.ring = tokenRing{w.h.ring, a.KeyURI, file}
	if k := find("issuing/authority issuing-rsa2048"); !k.Online || k.Where != "a PKCS#11 token" || k.URI != a.KeyURI {
		t.Errorf("%+v", k)
	}
	// From a process that holds no key: what the record names, with the signer's machine as the place.
	w.h.ring = nil
	if k := find("issuing/authority issuing-p256"); !k.Online || k.Where != "the signer's machine" || k.Custodian != "role signer" {
		t.Errorf("%+v", k)
	}
}
