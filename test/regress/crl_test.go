package regress

import (
	"context"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/keys"
	"bulkhead/pki/lint"
	"bulkhead/pki/profile"
	"bulkhead/run"
	"bulkhead/signer"
	"bulkhead/status"
	"bulkhead/store/storetest/pgtest"
)

// numbers follows the CRLs of all shards and objects to a number that does not rise.
type numbers struct {
	t    testing.TB
	last map[string]*x509.RevocationList
	seen int
}

func (n *numbers) look(h *house) {
	n.t.Helper()
	for _, is := range h.head().Issuers {
		for _, ref := range is.CRLs {
			body, err := h.Objects.Get(n.t.Context(), ref.Name)
			ok(n.t, err)
			list, err := x509.ParseRevocationList(body)
			ok(n.t, err)
			key := string(is.ID) + "/" + itoa(int64(ref.Shard))
			old := n.last[key]
			n.last[key] = list
			if old == nil || string(old.Raw) == string(list.Raw) {
				continue
			}
			n.seen++
			if list.Number.Cmp(old.Number) <= 0 || list.ThisUpdate.Before(old.ThisUpdate) || len(list.RevokedCertificateEntries) < len(old.RevokedCertificateEntries) {
				n.t.Errorf("CRL %s: number %s of %s with %d entries follows number %s of %s with %d", key, list.Number, list.ThisUpdate, len(list.RevokedCertificateEntries),
					old.Number, old.ThisUpdate, len(old.RevokedCertificateEntries))
			}
		}
	}
}

// TestCRLNumberAcrossRestarts: one peer keeps the number in memory, and starts again.
func TestCRLNumberAcrossRestarts(t *testing.T) {
	h := newHouse(t, func(c *run.Config) { c.Status.CRLValidity = run.Duration(2 * time.Hour) })
	n := &numbers{t: t, last: map[string]*x509.RevocationList{}}
	for i := range 6 {
		p := h.issue(name(i))
		n.look(h)
		h.revoke(bulkhead.Superseded, p.CertificateRef)
		n.look(h)
		h.pass(61 * time.Minute) // past the middle: every list turns over
		n.look(h)
		h.restart()
		n.look(h)
	}
	if n.seen < 6*8 {
		t.Errorf("%d new CRLs were seen", n.seen)
	}
}

// beside is a status service of another process on the same record and objects, so to say.
func (h *house) beside() *status.Service {
	h.t.Helper()
	cfg, err := run.LoadConfig(h.dir)
	ok(h.t, err)
	store, err := run.OpenStore(h.t.Context(), h.dir, cfg)
	ok(h.t, err)
	h.t.Cleanup(func() { _ = store.Close() })
	body, err := os.ReadFile(filepath.Join(h.dir, "seed.json"))
	ok(h.t, err)
	var seed struct {
		HeadKeyURI string `json:"head_key_uri"`
	}
	ok(h.t, json.Unmarshal(body, &seed))
	ring, err := keys.OpenFileRing(keys.Config{Dir: filepath.Join(h.dir, "keys"), IdentityFile: filepath.Join(h.dir, "keys.identity")})
	ok(h.t, err)
	linter, err := lint.New(lint.Config{PrivateNames: true})
	ok(h.t, err)
	s, err := signer.New(signer.Config{Store: store, Keys: ring, Profiles: profile.Builtin(), URLs: profile.URLs{Base: cfg.StatusURL}, Linter: linter,
		HeadKeyURI: seed.HeadKeyURI, HeadName: cfg.House + "/status", Now: h.now})
	ok(h.t, err)
	h.t.Cleanup(func() { _ = s.Close() })
	svc, err := status.New(status.Config{Store: store, Signer: s, Objects: h.Objects, HeadVerifier: h.verifier(), Now: h.now, Log: slog.New(slog.DiscardHandler),
		Policy: status.Policy{AnswerValidity: time.Duration(cfg.Status.AnswerValidity), CRLValidity: time.Duration(cfg.Status.CRLValidity), OnePerson: cfg.Status.OnePerson}})
	ok(h.t, err)
	ok(h.t, svc.Start(h.t.Context()))
	return svc
}

// TestCRLNumberAcrossInstances: two status services on one PostgreSQL revoke at the same time; every list that goes
// public is above the one before it, and no revocation is lost.
func TestCRLNumberAcrossInstances(t *testing.T) {
	dsn := filepath.Join(t.TempDir(), "dsn")
	ok(t, os.WriteFile(dsn, []byte(pgtest.New(t)), 0o600))
	h := newHouse(t, func(c *run.Config) {
		c.Store = "postgres:" + dsn
		c.Status.CRLValidity = run.Duration(2 * time.Hour)
	})
	both := []*status.Service{h.Status, h.beside()}
	var all []paper
	for i := range 24 {
		p, err := h.order(name(i), newKey(t), issuing, bulkhead.CertificateRef{})
		ok(t, err)
		all = append(all, p)
	}
	h.look()
	n := &numbers{t: t, last: map[string]*x509.RevocationList{}}
	n.look(h)
	ctx, cancel := context.WithCancel(t.Context())
	var watching, working sync.WaitGroup
	watching.Go(func() {
		for ctx.Err() == nil {
			n.look(h)
			time.Sleep(2 * time.Millisecond)
		}
	})
	for i, svc := range both {
		working.Go(func() {
			for j := i; j < len(all); j += 2 {
				revokeStubbornly(t, svc, all[j].CertificateRef, h.now())
				if j%6 == i {
					h.shift.Add(int64(20 * time.Minute))
				}
			}
		})
	}
	working.Wait()
	cancel()
	watching.Wait()
	h.look()
	n.look(h)
	ok(t, both[1].Tick(t.Context()))
	ok(t, h.Edge.Refresh(t.Context()))
	for _, p := range all {
		h.want(p, "revoked")
	}
	if n.seen < 8 {
		t.Errorf("%d new CRLs were seen", n.seen)
	}
	times := map[bulkhead.CertificateRef]int{}
	h.each(func(ev bulkhead.Evidence) {
		if ev.Kind == bulkhead.EvRevocation {
			times[bulkhead.CertificateRef{Issuer: ev.Authority, Serial: ev.Serial}]++
		}
	})
	for _, p := range all {
		if times[p.CertificateRef] != 1 {
			t.Errorf("%s was revoked %d times", p.CertificateRef, times[p.CertificateRef])
		}
	}
}

// revokeStubbornly asks again while the other instance is faster, as clients do.
func revokeStubbornly(t testing.TB, svc *status.Service, ref bulkhead.CertificateRef, at time.Time) {
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		id, err := svc.RevokeCertificates(context.Background(), "operator:test", "two at once", []bulkhead.ChangeItem{{CertificateRef: ref, Reason: bulkhead.Superseded, RevokedAt: at}})
		switch k := bulkhead.KindOf(err); {
		case err == nil || k == bulkhead.KindAlreadyRevoked:
			return
		case id != "" && svc.Activate(context.Background(), id) == nil: // approved already: it only has to be carried on
			return
		case time.Now().After(end):
			t.Errorf("%s: %v", ref, err)
			return
		}
	}
}

// TestLargeCRL: one peer's default store takes no CRL above 1 MiB; the old one stays, and 8,400 revocations that were
// answered with 200 are never heard of. The full count goes through a change; the usual run puts the revocations into
// the record as a change leaves them, and the list turns over.
func TestLargeCRL(t *testing.T) {
	total, torture := 22_000, os.Getenv("BULKHEAD_TORTURE") != ""
	if torture {
		total = 50_000
	}
	h := newHouse(t, func(c *run.Config) { c.Status.OnePerson = 100_000 })
	p := h.issue(name(1))
	serials := make([]bulkhead.Serial, total)
	items := make([]bulkhead.ChangeItem, total)
	for i := range serials {
		b := make([]byte, 16)
		b[0] = 0x55
		binary.BigEndian.PutUint64(b[4:], uint64(i)*0x9e3779b97f4a7c15)
		serials[i] = serialOf(t, new(big.Int).SetBytes(b))
		items[i] = bulkhead.ChangeItem{CertificateRef: bulkhead.CertificateRef{Issuer: issuing, Serial: serials[i]}, Reason: bulkhead.Superseded, RevokedAt: h.now().UTC().Truncate(time.Second)}
	}
	h.plant(issuing, bulkhead.LeafCertificate, "CN=many", bulkhead.Digest([]byte("many")), serials...)
	began := time.Now()
	if torture {
		h.look()
		_, err := h.Status.RevokeCertificates(t.Context(), "operator:test", "many", items)
		ok(t, err)
		ok(t, h.Edge.Refresh(t.Context()))
	} else {
		h.recordRevoked(items)
		h.pass(4 * 24 * time.Hour)
	}
	t.Logf("%d revoked and public in %s", total, time.Since(began).Round(time.Millisecond))
	path := strings.TrimPrefix(p.leaf.CRLDistributionPoints[0], "http://"+p.statusAddress(t))
	path = path[:strings.LastIndexByte(path, '/')] + "/0.crl"
	res := h.do(http.MethodGet, path, nil)
	list, err := x509.ParseRevocationList(res.body)
	ok(t, err)
	ok(t, list.CheckSignatureFrom(p.issuer))
	if len(res.body) <= 1<<20 || len(list.RevokedCertificateEntries) != total {
		t.Fatalf("the CRL has %d octets and %d of %d entries", len(res.body), len(list.RevokedCertificateEntries), total)
	}
	for _, s := range []int{0, total / 2, total - 1} {
		n, _ := new(big.Int).SetString(serials[s].String(), 16)
		if got := h.status(p.at(n)); got != "revoked" {
			t.Errorf("serial %s is %s", serials[s], got)
		}
	}
}

// recordRevoked leaves in the record what an activated change leaves there, without new answers and lists.
func (h *house) recordRevoked(items []bulkhead.ChangeItem) {
	h.t.Helper()
	ctx, now := h.t.Context(), h.now().UTC().Truncate(time.Second)
	c := bulkhead.Change{ID: "planted", State: bulkhead.ChangePlanned, Actor: "role:test", Why: "planted", Count: len(items), CreatedAt: now}
	ok(h.t, h.Store.CreateChange(ctx, c, items))
	for _, next := range []bulkhead.ChangeState{bulkhead.ChangePreviewed, bulkhead.ChangeApproved, bulkhead.ChangeStaged} {
		was := c.State
		c.State = next
		ok(h.t, h.Store.MoveChange(ctx, c, was))
	}
	head := h.head()
	head.Sequence, head.At = head.Sequence+1, now
	body, err := head.Body()
	ok(h.t, err)
	signed, err := h.Signer.SignHead(ctx, body)
	ok(h.t, err)
	c.State, c.Epoch, c.ActivatedAt = bulkhead.ChangeActivated, head.Sequence, now
	ok(h.t, h.Store.Activate(ctx, c, bulkhead.HeadRecord{Sequence: head.Sequence, Body: signed, At: now}, nil))
}
