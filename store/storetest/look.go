package storetest

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"bulkhead"
)

// lookStore keeps what looks at endpoints showed.
type lookStore interface {
	PlaceLooks(ctx context.Context, book bulkhead.LookBook, p bulkhead.LookPlace, limit int) ([]bulkhead.LookRecord, error)
	HostLooks(ctx context.Context, book bulkhead.LookBook, host string, limit int) ([]bulkhead.LookRecord, error)
	HostsOfKey(ctx context.Context, book bulkhead.LookBook, key bulkhead.Hash, since time.Time, limit int) ([]string, error)
	KeepLooks(ctx context.Context, book bulkhead.LookBook, looks []bulkhead.LookRecord, most int) error
	KeepEstate(ctx context.Context, campaign string, e bulkhead.EstateLook, ev ...bulkhead.Evidence) error
	Estate(ctx context.Context, campaign string) (bulkhead.EstateLook, error)
	ForgetLooks(ctx context.Context, book bulkhead.LookBook, before time.Time) error
}

func look(host, address string, key, minute int) bulkhead.LookRecord {
	return bulkhead.LookRecord{LookPlace: bulkhead.LookPlace{Host: host, Address: netip.MustParseAddrPort(address)}, FirstAt: at(minute), LastAt: at(minute), Looks: 1, Verdict: bulkhead.Patched,
		Reason: bulkhead.ReasonDiscarded, Detail: "seen", Fingerprint: digest("look", key), Key: digest("key", key), Issued: at(0), NotAfter: at(1000),
		Findings: []bulkhead.LookFinding{{Rule: "key-weak", Severity: bulkhead.Critical, Message: "短い"}}}
}

// testLooks: a look that shows the same continues its row, another begins one; books are apart; of a place the newest rows
// stay; a host counts for a key until it shows another one.
func testLooks(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	first := look("a.test", "192.0.2.1:443", 1, 0)
	ok(t, s.KeepLooks(ctx, bulkhead.HouseLooks, []bulkhead.LookRecord{first, look("b.test", "[2001:db8::1]:25", 1, 1)}, 10))
	got := value(s.PlaceLooks(ctx, bulkhead.HouseLooks, first.LookPlace, 0))(t)
	if len(got) != 1 || got[0].Seq == 0 {
		t.Fatalf("%+v", got)
	}
	want := first
	want.Seq = got[0].Seq
	equal(t, got[0], want)
	equal(t, value(s.PlaceLooks(ctx, bulkhead.PublicLooks, first.LookPlace, 0))(t), nil)
	mail := first.LookPlace
	mail.STARTTLS = bulkhead.STARTTLSSMTP
	equal(t, value(s.PlaceLooks(ctx, bulkhead.HouseLooks, mail, 0))(t), nil)

	again := want
	again.LastAt, again.Detail, again.Findings = at(5), "again", nil
	ok(t, s.KeepLooks(ctx, bulkhead.HouseLooks, []bulkhead.LookRecord{again}, 10))
	again.LastAt = at(3) // one that was under way for long does not put the clock back
	ok(t, s.KeepLooks(ctx, bulkhead.HouseLooks, []bulkhead.LookRecord{again}, 10))
	again.LastAt, again.Looks = at(5), 3
	equal(t, value(s.HostLooks(ctx, bulkhead.HouseLooks, "a.test", 0))(t), []bulkhead.LookRecord{again})

	hosts := func(book bulkhead.LookBook, since int) []string {
		return value(s.HostsOfKey(ctx, book, digest("key", 1), at(since), 10))(t)
	}
	equal(t, hosts(bulkhead.HouseLooks, 0), []string{"a.test", "b.test"})
	equal(t, hosts(bulkhead.HouseLooks, 2), []string{"a.test"})
	equal(t, hosts(bulkhead.PublicLooks, 0), nil)
	unseen := look("b.test", "[2001:db8::1]:25", 1, 6)
	unseen.Fingerprint, unseen.Key, unseen.Verdict = bulkhead.Hash{}, bulkhead.Hash{}, bulkhead.Unreachable
	ok(t, s.KeepLooks(ctx, bulkhead.HouseLooks, []bulkhead.LookRecord{unseen}, 10)) // that it fell silent says nothing of its key
	equal(t, hosts(bulkhead.HouseLooks, 0), []string{"a.test", "b.test"})
	other := look("b.test", "[2001:db8::1]:25", 2, 7)
	other.Changed = []string{"another key"}
	ok(t, s.KeepLooks(ctx, bulkhead.HouseLooks, []bulkhead.LookRecord{other}, 10))
	equal(t, hosts(bulkhead.HouseLooks, 0), []string{"a.test"})

	for n := range 5 {
		ok(t, s.KeepLooks(ctx, bulkhead.HouseLooks, []bulkhead.LookRecord{look("a.test", "192.0.2.1:443", 10+n, 10+n)}, 3))
	}
	kept := value(s.HostLooks(ctx, bulkhead.HouseLooks, "a.test", 0))(t)
	if len(kept) != 3 || kept[0].Key != digest("key", 14) || kept[2].Key != digest("key", 12) {
		t.Fatalf("%d rows: %+v", len(kept), kept)
	}
	equal(t, len(value(s.HostLooks(ctx, bulkhead.HouseLooks, "b.test", 0))(t)), 3)
	ok(t, s.KeepLooks(ctx, bulkhead.PublicLooks, []bulkhead.LookRecord{first, other}, 3))
	ok(t, s.ForgetLooks(ctx, bulkhead.PublicLooks, at(7)))
	equal(t, value(s.HostLooks(ctx, bulkhead.PublicLooks, "a.test", 0))(t), nil)
	equal(t, len(value(s.HostLooks(ctx, bulkhead.PublicLooks, "b.test", 0))(t)), 1)
	equal(t, len(value(s.HostLooks(ctx, bulkhead.HouseLooks, "a.test", 0))(t)), 3)

	bad := []bulkhead.LookRecord{look("c.test", "192.0.2.3:443", 1, 0), look("c.test", "192.0.2.3:443", 1, 0)}
	bad[1].Detail = fmt.Sprintf("strange \x00 %c text \xff", 0xfffd)
	ok(t, s.KeepLooks(ctx, bulkhead.HouseLooks, bad, 3))
}

// testEstate: the last look of a campaign at the own estate stands, with its leaf.
func testEstate(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	equal(t, value(s.Estate(ctx, "c1"))(t), bulkhead.EstateLook{})
	for _, e := range []bulkhead.EstateLook{{At: at(1), Endpoints: 1, Wrong: []string{"www.ca.test: vulnerable"}}, {At: at(2), Endpoints: 2, NotServed: []string{"localhost"}}} {
		ok(t, s.KeepEstate(ctx, "c1", e, bulkhead.Evidence{Kind: bulkhead.EvEstateLook, At: start, Actor: "role:test", Ref: "c1", Count: int64(e.Endpoints)}))
		equal(t, value(s.Estate(ctx, "c1"))(t), e)
	}
	equal(t, value(s.Estate(ctx, "c2"))(t), bulkhead.EstateLook{})
	if got := len(checkEvidence(t, s)); got != 2 {
		t.Errorf("%d leaves", got)
	}
}
