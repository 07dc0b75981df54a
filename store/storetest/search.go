package storetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"bulkhead"
)

// testSearch finds rows by profile, dates and text.
func testSearch(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	var list []bulkhead.Reservation
	for n, x := range []struct{ name, subject, profile string }{
		{"www.example.com", "CN=www.example.com", "tls-server"}, {"mail_1.example.net", "O=Example 100% GmbH", "tls-server"},
		{"a.test", "O=Dns Type Value Ltd", "tls-client"}, {"192.0.2.1", "", "tls-client"},
	} {
		r := reservation(n)
		r.Certificate.Names = []bulkhead.Identifier{{Type: bulkhead.DNS, Value: x.name}}
		r.Certificate.Subject, r.Certificate.Profile = x.subject, x.profile
		r.Certificate.ReservedAt, r.Certificate.NotAfter = at(n*10), at(1000+n*10)
		list = append(list, r)
	}
	seqs, errs, err := s.Reserve(ctx, list)
	settled(t, seqs, errs, err, len(list))
	for what, c := range map[string]struct {
		f    bulkhead.CertificateFilter
		want string
	}{
		"profile":         {bulkhead.CertificateFilter{Profile: "tls-client"}, "4 3"},
		"issued from":     {bulkhead.CertificateFilter{IssuedFrom: at(10), IssuedBefore: at(30)}, "3 2"},
		"expires":         {bulkhead.CertificateFilter{ExpiresFrom: at(1010), ExpiresBefore: at(1020)}, "2"},
		"expires by":      {bulkhead.CertificateFilter{ExpiresBy: at(1010)}, "2 1"},
		"text in name":    {bulkhead.CertificateFilter{Text: "EXAMPLE"}, "2 1"},
		"text and more":   {bulkhead.CertificateFilter{Text: "example", IssuedFrom: at(5)}, "2"},
		"text in subject": {bulkhead.CertificateFilter{Text: "gmbh"}, "2"},
		"percent":         {bulkhead.CertificateFilter{Text: "0%"}, "2"},
		"underscore":      {bulkhead.CertificateFilter{Text: "l_1"}, "2"},
		"no wildcard":     {bulkhead.CertificateFilter{Text: "w_w"}, ""},
		"backslash":       {bulkhead.CertificateFilter{Text: `\`}, ""},
		"JSON is no text": {bulkhead.CertificateFilter{Text: "value"}, "3"},
		"type is no text": {bulkhead.CertificateFilter{Text: `"dns"`}, ""},
		"one at a time":   {bulkhead.CertificateFilter{Text: "dns", Limit: 1}, "3"},
	} {
		rows, _, err := s.Certificates(ctx, c.f)
		ok(t, err)
		var got []string
		for _, r := range rows {
			got = append(got, fmt.Sprint(r.IntentSeq))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s finds %v, want %q", what, got, c.want)
		}
	}
}

// testPaging walks a few thousand rows while others are added: every row that was there at the start is seen once.
func testPaging(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	reserve(t, s, numbers(0, 3000)...)
	for _, f := range []bulkhead.CertificateFilter{{Limit: 97}, {Limit: 97, Text: "example"}, {Limit: 97, Name: ".example.com", Issuer: issuer}} {
		seq, _, err := s.EvidenceHead(ctx)
		ok(t, err)
		before := int(seq)
		seen := map[bulkhead.Serial]int{}
		last := int64(before) + 1
		for page := 0; ; page++ {
			rows, next, err := s.Certificates(ctx, f)
			ok(t, err)
			for _, c := range rows {
				if c.IntentSeq >= last {
					t.Fatalf("row %d after row %d", c.IntentSeq, last)
				}
				last = c.IntentSeq
				seen[c.Serial]++
			}
			if page < 5 {
				reserve(t, s, numbers(before+page*100, before+page*100+100)...)
			}
			if f.After = next; next == "" {
				break
			}
		}
		if len(seen) != before {
			t.Fatalf("%+v: %d rows seen, %d were there", f, len(seen), before)
		}
		for n, times := range seen {
			if times != 1 {
				t.Fatalf("%s seen %d times", n, times)
			}
		}
	}
}

func reply(n int, holder string, now time.Time) bulkhead.Reply {
	return bulkhead.Reply{KeyHash: digest("idempotency", n), Owner: "account:a", Request: digest("request", n), Holder: holder,
		LeaseUntil: now.Add(2 * time.Minute), ExpiresAt: now.Add(24 * time.Hour)}
}

// testReplies claims, finishes, releases and forgets idempotency keys.
func testReplies(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	first := reply(1, "one", at(0))
	equal(t, value(s.ClaimReply(ctx, first, at(0)))(t), first)
	equal(t, value(s.ClaimReply(ctx, reply(1, "two", at(1)), at(1)))(t), first) // the lease stands

	other := reply(1, "two", at(3))
	other.Request = digest("request", 9)
	equal(t, value(s.ClaimReply(ctx, other, at(3)))(t), first) // another request takes nothing over
	second := value(s.ClaimReply(ctx, reply(1, "two", at(3)), at(3)))(t)
	equal(t, second.Holder, "two")
	wantKind(t, s.FinishReply(ctx, first.KeyHash, "one", 200, []byte("late")), bulkhead.KindConflict)
	ok(t, s.ReleaseReply(ctx, first.KeyHash, "one")) // not its to give up
	ok(t, s.FinishReply(ctx, first.KeyHash, "two", 200, []byte("done")))
	wantKind(t, s.FinishReply(ctx, first.KeyHash, "two", 500, nil), bulkhead.KindConflict)
	ok(t, s.ReleaseReply(ctx, first.KeyHash, "two")) // an answer stays
	got := value(s.ClaimReply(ctx, reply(1, "three", at(30)), at(30)))(t)
	equal(t, got.Status, 200)
	equal(t, string(got.Body), "done")

	later := at(0).Add(24 * time.Hour)
	equal(t, value(s.ClaimReply(ctx, reply(1, "four", later), later))(t), reply(1, "four", later)) // expired
	ok(t, s.ReleaseReply(ctx, first.KeyHash, "four"))
	equal(t, value(s.ClaimReply(ctx, reply(1, "five", later), later))(t).Holder, "five")
	ok(t, s.ForgetReplies(ctx, later.Add(24*time.Hour)))
	wantKind(t, s.FinishReply(ctx, first.KeyHash, "five", 200, nil), bulkhead.KindConflict)

	stores := []Store{s, open(t, nil)}
	for round := range 10 {
		n := 100 + round
		won := 0
		holders := make([]string, 4)
		for _, err := range race(len(holders), func(i int) error {
			r, err := stores[i%2].ClaimReply(ctx, reply(n, fmt.Sprint(i), at(0)), at(0))
			holders[i] = r.Holder
			return err
		}) {
			ok(t, err)
		}
		for i, h := range holders {
			if h == fmt.Sprint(i) {
				won++
			}
		}
		if won != 1 {
			t.Fatalf("round %d: %d claims stand: %v", round, won, holders)
		}
	}
}
