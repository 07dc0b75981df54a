package graph

import (
	"crypto/x509"
	"math/big"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestAnswersAreThoseRevoked is promise P1 in the graph: whatever twins there are, the answers that change are those of
// the certificates revoked.
func TestAnswersAreThoseRevoked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := randomGraph(t)
		c := rapid.SampledFrom(g.Certificates).Draw(t, "revoked")
		var want []*Certificate
		if !g.SelfSigned(c) {
			want = []*Certificate{c}
		}
		if got := g.Effects([]*Certificate{c}, nil, time.Time{}).Answers; !slices.Equal(got, want) {
			t.Fatalf("revoking %d changes %v", c.id, got)
		}
	})
}

// TestStandingAgrees holds the standing of an authority against what a certificate of it would keep and lose.
func TestStandingAgrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := randomGraph(t)
		set := drawSet(t, g)
		gone, list := map[*Certificate]bool{}, []*Certificate(nil)
		for _, c := range g.Certificates {
			if rapid.IntRange(0, 3).Draw(t, "revoked") == 0 {
				gone[c], list = true, append(list, c)
			}
		}
		// A leaf under every authority, which is not revoked.
		leaves := map[*Authority]*Certificate{}
		for _, a := range g.Authorities {
			c := fake(len(g.Certificates), "leaf", a.canonical, false, -1)
			leaf := &Authority{id: len(g.Authorities) + len(leaves), Name: "leaf", canonical: "leaf", Certificates: []*Certificate{c}}
			g.Certificates, g.subject, g.issuer, g.link = append(g.Certificates, c), append(g.subject, leaf), append(g.issuer, a), append(g.link, verified)
			leaves[a] = c
		}
		e := g.Effects(list, []AnchorSet{set}, time.Time{}).Sets[0]
		for _, a := range g.Authorities {
			before, after := naivePaths(g, leaves[a], set.Anchors, nil), naivePaths(g, leaves[a], set.Anchors, gone)
			want := Untouched
			switch {
			case len(before) == 0:
				want = Without
			case len(after) == 0:
				want = Cut
			case len(after) < len(before):
				want = Reduced
			}
			if got := e.Of(a); got != want {
				t.Fatalf("authority %d stands %d, want %d", a.id, got, want)
			}
			if got := g.Reached(set, time.Time{})(a); got != (len(before) > 0) {
				t.Fatalf("authority %d reached: %v", a.id, got)
			}
		}
	})
}

// TestSharedSerial: what an issuer gave the same serial number shares its answer, and no preview may hide that.
func TestSharedSerial(t *testing.T) {
	m := newMaker(t)
	same := func(c *x509.Certificate) { c.SerialNumber = big.NewInt(0x7777777777) }
	root := m.cert("Root", "Root", ca())
	a, b := m.cert("A", "Root", ca(same)), m.cert("B", "Root", ca(same))
	other := m.cert("C", "Other", ca(same)) // the issuer is not in the graph
	g := New([]*Certificate{root, a, b, other})
	if got := g.Effects([]*Certificate{a}, nil, now).Answers; !slices.Equal(got, []*Certificate{a, b}) {
		t.Errorf("A and B share their serial; the answers that change: %v", got)
	}
	if got := g.Effects([]*Certificate{other}, nil, now).Answers; !slices.Equal(got, []*Certificate{other}) {
		t.Errorf("the answers that change: %v", got)
	}
	if got := g.Effects([]*Certificate{root}, nil, now).Answers; len(got) != 0 {
		t.Errorf("a trust anchor has an answer: %v", got)
	}
}

// TestMisread2016: who would be called revoked by responders with each habit, when the cross-certificate is revoked, and
// when the older of the two certificates of R1's name and key is.
func TestMisread2016(t *testing.T) {
	d := makeDay2016(t)
	names := func(list []*Certificate) (out []string) {
		for _, c := range list {
			out = append(out, c.Subject)
		}
		return out
	}
	below := []string{"CN=Domain CA", "CN=Organization CA"}
	for h, want := range map[Habit][]string{BySubjectAndKey: below, ByKey: below, BySerial: nil, ByNewest: below} {
		got := d.g.Misread([]*Certificate{d.cross}, h)
		if !slices.Equal(names(got.Certificates), want) || len(want) > 0 && (len(got.Issuers) != 1 || got.Issuers[0] != d.g.Subject(d.r1)) {
			t.Errorf("%s: %v, issuers %v, want %v", h, names(got.Certificates), got.Issuers, want)
		}
	}
	// Nothing is newer than the cross-certificate: one that is older stands for nothing.
	if got := d.g.Misread([]*Certificate{d.r1}, ByNewest); len(got.Certificates)+len(got.Issuers) != 0 {
		t.Errorf("the older twin was taken for the newest: %v", names(got.Certificates))
	}
	if got := d.g.Misread([]*Certificate{d.org}, BySubjectAndKey); !slices.Equal(names(got.Certificates), []string{"CN=www.example.test"}) {
		t.Errorf("an authority without twins: %v", names(got.Certificates))
	}
	if got := d.g.Under([]*Certificate{d.cross}); len(got) != 3 { // R1 and the two below it
		t.Errorf("under the cross-certificate: %d authorities", len(got))
	}
}

// TestMisreadBySerialAndKey: what shares nothing but the number, or nothing but the key.
func TestMisreadBySerialAndKey(t *testing.T) {
	m := newMaker(t)
	same := func(c *x509.Certificate) { c.SerialNumber = big.NewInt(0x7777777777) }
	m.keys["Renamed"] = m.key("A")
	list := []*Certificate{m.cert("Root", "Root", ca()), m.cert("Other", "Other", ca()), m.cert("A", "Root", ca(same)), m.cert("B", "Other", ca(same)),
		m.cert("Renamed", "Other", ca()), m.cert("leaf", "Renamed", leaf("leaf.test"))}
	g := New(list)
	a := g.ByHash(list[2].Hash)
	if got := g.Misread([]*Certificate{a}, BySerial); len(got.Certificates) != 1 || got.Certificates[0].Subject != "CN=B" || len(got.Issuers) != 0 {
		t.Errorf("by serial: %+v", got)
	}
	if got := g.Misread([]*Certificate{a}, ByKey); len(got.Certificates) != 2 || got.Certificates[0].Subject != "CN=Renamed" || got.Certificates[1].Subject != "CN=leaf" {
		t.Errorf("by key: %+v", got)
	}
	if got := g.Misread([]*Certificate{a}, BySubjectAndKey); len(got.Certificates) != 0 {
		t.Errorf("by subject and key: %+v", got)
	}
}
