package status_test

import (
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/ceremony"
	"bulkhead/keys"
	"bulkhead/status"
)

// TestWorldMoves: an approved change is refused when an authority, a certificate of one, or an anchor set is not what its
// paths were computed from; new certificates of subscribers, refreshed answers and an authority that has no certificate
// yet move nothing.
func TestWorldMoves(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		move  func(h *house)
		stale bool
	}{
		{"new certificates and a refresh", func(h *house) { h.issue(caA, 3); h.move(20 * time.Hour); h.tick(); h.status.Wait() }, false},
		{"an authority that waits for its certificate", func(h *house) {
			r := h.csr("c", name("Issuing C"))
			a, err := ceremony.Pending("issuing-c", r, 1, h.now())
			ok(h.t, err)
			ok(h.t, h.store.PutAuthority(h.t.Context(), a))
		}, false},
		{"another revocation of a subscriber", func(h *house) { h.revoke(h.issue(caA, 1)...) }, false},
		{"a cross-certificate", func(h *house) { h.addCross(caB, caA, "0707") }, true},
		{"a new authority", func(h *house) {
			h.addIssuing(rootCA, "issuing-c", h.csr("c", name("Issuing C")), name("Issuing C"), 1)
		}, true},
		{"an authority that retires", func(h *house) {
			a := h.authority(caB)
			a.State = bulkhead.AuthorityRetired
			ok(h.t, h.store.PutAuthority(h.t.Context(), a))
		}, true},
		{"a cross-certificate that ends", func(h *house) { h.move(50 * day) }, true},
		{"a cross-certificate that is revoked", func(h *house) {
			c, _ := h.previewed(bulkhead.Superseded, bulkhead.CertificateRef{Issuer: caA, Serial: hexSerial(h.t, "0606")})
			ok(h.t, h.status.Approve(h.t.Context(), c.ID, c.PreviewHash, "two people"))
			ok(h.t, h.status.Activate(h.t.Context(), c.ID))
		}, true},
		{"an anchor set", func(h *house) {
			var err error
			h.status, err = status.New(status.Config{Store: h.store, Signer: h.door, Objects: h.objects, HeadVerifier: h.verifier, Now: h.now,
				AnchorSets: []status.AnchorSet{{Name: "phones", Certificates: [][]byte{h.root.Raw}}}})
			ok(h.t, err)
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.addCross(caB, caA, "0606")
			ref := h.issue(caA, 1, func(c *bulkhead.Certificate) { c.NotAfter = h.now().Add(100 * day) })[0]
			ch, _ := h.previewed(bulkhead.Superseded, ref)
			ok(t, h.status.Approve(t.Context(), ch.ID, ch.PreviewHash, "two people"))
			c.move(h)
			err := h.status.Activate(t.Context(), ch.ID)
			if !c.stale {
				ok(t, err)
				return
			}
			wantKind(t, err, bulkhead.KindGate, "the world moved")
			if s := h.change(ch.ID).State; s != bulkhead.ChangeRefused || h.state(ref) != bulkhead.Issued {
				t.Errorf("the stale change is %s, its certificate %s", s, h.state(ref))
			}
		})
	}
}

// addCross records a certificate of one authority's name and key by another.
func (h *house) addCross(subject, issuer bulkhead.AuthorityID, serial string) {
	h.t.Helper()
	of := h.authority(subject)
	c := h.row(issuer, func(c *bulkhead.Certificate) {
		c.Serial, c.Kind, c.Profile, c.KeyHash = hexSerial(h.t, serial), bulkhead.CACertificate, "cross", bulkhead.Digest(of.SPKI)
	})
	h.plant(c, h.crossDER(h.authority(issuer), of, c.Serial))
}

// TestAnchorSetsOfConfiguration: what clients trust comes from configuration where there is one, a root of others
// included.
func TestAnchorSetsOfConfiguration(t *testing.T) {
	t.Parallel()
	d := newDay2016(t)
	s, err := status.New(status.Config{Store: d.store, Signer: d.door, Objects: d.objects, HeadVerifier: d.verifier, Now: d.now,
		AnchorSets: []status.AnchorSet{{Name: "old phones", Certificates: [][]byte{d.certs["r2"].Raw, d.certs["r3"].Raw}}, {Name: "nobody"},
			{Name: "strangers", Certificates: [][]byte{d.stranger()}}, {Name: "a broken file", Certificates: [][]byte{[]byte("x")}}}})
	ok(t, err)
	d.status = s
	_, p := d.previewed(bulkhead.Superseded, d.refs["cross"])
	if len(p.AnchorSets) != 4 || p.AnchorSets[0] != `clients of "old phones"` {
		t.Errorf("anchor sets %q", p.AnchorSets)
	}
	// Domain and Organisation have a stand-by under R3; Alpha and Cloud have none, and neither has the name R1 itself.
	if len(p.PathsLost) != 1 || p.PathsLost[0].Anchors != `clients of "old phones"` || p.PathsLost[0].Leaves != 8 || len(p.PathsReduced) != 1 || p.PathsReduced[0].Leaves != 19 {
		t.Errorf("lost %+v, reduced %+v", p.PathsLost, p.PathsReduced)
	}
	if len(p.Warnings) == 0 || !strings.HasPrefix(p.Warnings[0], "anchor set a broken file cannot be read as a certificate") {
		t.Errorf("warnings %q", p.Warnings)
	}
}

// TestRevokedAnchor: a certificate in a file of anchors stands for a name and a key. When it is revoked it leads nobody
// anywhere, and the name and key are trusted all the same.
func TestRevokedAnchor(t *testing.T) {
	t.Parallel()
	d := newDay2016(t)
	c, _ := d.previewed(bulkhead.Superseded, d.refs["cross"])
	ok(t, d.status.Approve(t.Context(), c.ID, c.PreviewHash, "two people"))
	ok(t, d.status.Activate(t.Context(), c.ID))
	_, cross, err := d.store.Certificate(t.Context(), d.refs["cross"])
	ok(t, err)
	d.status, err = status.New(status.Config{Store: d.store, Signer: d.door, Objects: d.objects, HeadVerifier: d.verifier, Now: d.now,
		AnchorSets: []status.AnchorSet{{Name: "cross", Certificates: [][]byte{cross}}, {Name: "r2", Certificates: [][]byte{d.certs["r2"].Raw}}}})
	ok(t, err)
	if _, p := d.previewed(bulkhead.Superseded, d.refs["alpha"]); len(p.PathsLost) != 1 || p.PathsLost[0].Anchors != `clients of "cross"` {
		t.Errorf("lost %+v", p.PathsLost)
	}
}

// stranger is a root that has nothing to do with the house.
func (d *day2016) stranger() []byte {
	d.t.Helper()
	_, key, err := d.ring.Generate(d.t.Context(), "stranger", keys.P256)
	ok(d.t, err)
	return selfSigned(d.t, template(d.t, "Stranger", "0102030405060708", 2010, 2030), key)
}
