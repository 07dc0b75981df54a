package watch_test

import (
	"testing"
	"time"

	"bulkhead"
	"bulkhead/watch"
)

// TestUnknownCertificate plants what DigiNotar had for weeks (D2), and is silent about what the record knows.
func TestUnknownCertificate(t *testing.T) {
	s := open(t)
	issue(t, s, "01", true)
	issue(t, s, "02", false)
	known, _, err := s.Certificate(t.Context(), bulkhead.CertificateRef{Issuer: "ca", Serial: serial(t, "01")})
	if err != nil {
		t.Fatal(err)
	}
	other := bulkhead.Digest([]byte("another certificate"))
	for _, c := range []struct {
		serial string
		print  bulkhead.Hash
		want   bool
	}{{"01", known.Fingerprint, false}, {"01", other, true}, {"02", other, true}, {"03", other, true}} {
		got, err := watch.UnknownCertificate{Store: s}.Judge(t.Context(),
			watch.Sighting{Kind: watch.CertificateOnWire, Issuer: "ca", Serial: serial(t, c.serial), Fingerprint: c.print, At: now, Detail: "evil.test 192.0.2.1:443"})
		if err != nil || (got != nil) != c.want || c.want && (got.Severity != bulkhead.Critical || got.Runbook != "d2-unknown-certificate.md") {
			t.Errorf("serial %s: %+v, %v", c.serial, got, err)
		}
	}
}

// TestKeyReappears: a blocked key in a certificate from after the block is D12; one from before is what campaigns replace.
func TestKeyReappears(t *testing.T) {
	s := open(t)
	key := bulkhead.Digest([]byte("stolen"))
	ev := bulkhead.Evidence{Kind: bulkhead.EvKeyBlocked, At: now, Actor: "test", KeyHash: key}
	if err := s.BlockKey(t.Context(), bulkhead.BlockedKey{KeyHash: key, BlockedAt: now, Reason: "stolen", Actor: "test"}, ev); err != nil {
		t.Fatal(err)
	}
	d := watch.KeyReappears{Store: s}
	// One of our own is silent when it was made before the block, even within the grace that others' clocks get.
	issue(t, s, "05", true)
	mine, _, err := s.Certificate(t.Context(), bulkhead.CertificateRef{Issuer: "ca", Serial: serial(t, "05")})
	if err != nil {
		t.Fatal(err)
	}
	for print, want := range map[bulkhead.Hash]bool{mine.Fingerprint: mine.ReservedAt.After(now), bulkhead.Digest([]byte("another")): true} {
		got, err := d.Judge(t.Context(), watch.Sighting{Kind: watch.KeyOnWire, Key: key, Issuer: "ca", Serial: serial(t, "05"), Fingerprint: print, Since: now.Add(-time.Hour), At: now, Detail: "x.test"})
		if err != nil || (got != nil) != want {
			t.Errorf("own certificate: %+v, %v", got, err)
		}
	}
	for _, c := range []struct {
		key   bulkhead.Hash
		since time.Time
		want  bool
	}{{key, now.Add(time.Hour), true}, {key, now.Add(-48 * time.Hour), false}, {bulkhead.Digest([]byte("fine")), now.Add(time.Hour), false}} {
		got, err := d.Judge(t.Context(), watch.Sighting{Kind: watch.KeyOnWire, Key: c.key, Since: c.since, At: now, Detail: "x.test 192.0.2.1:443"})
		if err != nil || (got != nil) != c.want {
			t.Errorf("%+v: %+v, %v", c, got, err)
		}
	}
}
