package policy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead"
)

// TestTable: rows of one id follow each other without overlap or gap, and every row says what, whence and for whom.
func TestTable(t *testing.T) {
	last := map[string]Row{}
	for _, r := range Rows() {
		if r.ID == "" || r.Rule == "" || r.Source == "" || r.AppliesTo == "" {
			t.Errorf("%s: a field for documents is empty: %+v", r.ID, r)
		}
		for _, d := range []time.Time{r.From, r.To} {
			if !d.IsZero() && (d.Location() != time.UTC || !d.Equal(d.Truncate(Day))) {
				t.Errorf("%s: %v is not midnight UTC", r.ID, d)
			}
		}
		if !r.To.IsZero() && !r.From.Before(r.To) {
			t.Errorf("%s: ends before it begins", r.ID)
		}
		if p, ok := last[r.ID]; ok && (p.To.IsZero() || !p.To.Equal(r.From)) {
			t.Errorf("%s: the row from %v does not follow the row to %v", r.ID, r.From, p.To)
		}
		last[r.ID] = r
	}
	rows := Rows()
	rows[0].ID = "changed"
	if Rows()[0].ID == "changed" {
		t.Error("Rows hands out the table itself")
	}
}

// TestBothSides: each row is the one in force from its first instant to its last, and not the second before or after.
func TestBothSides(t *testing.T) {
	edges := func(r Row) (in, out []time.Time) {
		if r.From.IsZero() {
			in = append(in, time.Time{})
		} else {
			in = append(in, r.From, r.From.Add(time.Nanosecond), r.From.In(time.FixedZone("west", -11*3600)))
			out = append(out, r.From.Add(-time.Nanosecond), r.From.Add(-time.Second))
		}
		if r.To.IsZero() {
			in = append(in, time.Date(2199, 12, 31, 0, 0, 0, 0, time.UTC))
		} else {
			in = append(in, r.To.Add(-time.Nanosecond), r.To.Add(-time.Second), r.To.Add(-time.Second).In(time.FixedZone("east", 14*3600)))
			out = append(out, r.To, r.To.Add(time.Second))
		}
		return in, out
	}
	for _, r := range Rows() {
		in, out := edges(r)
		for _, at := range in {
			if got, ok := At(r.ID, at); !ok || got != r {
				t.Errorf("%s at %v: got %+v, want the row from %v", r.ID, at, got, r.From)
			}
		}
		for _, at := range out {
			if got, _ := At(r.ID, at); got == r {
				t.Errorf("%s at %v: the row from %v to %v is still in force", r.ID, at, r.From, r.To)
			}
		}
	}
	if _, ok := At("no such id", sc081a); ok {
		t.Error("an unknown id has a row")
	}
}

func TestLifetimes(t *testing.T) {
	for _, c := range []struct {
		date                   time.Time
		life, dcv, ident, slow int // days, from date on; slow: short-lived
	}{
		{date(2021, time.October, 1), 398, 398, 825, 0},
		{sc063, 398, 398, 825, 10},
		{sc081a, 200, 200, 398, 7},
		{sc081b, 100, 100, 398, 7},
		{sc081c, 47, 10, 398, 7},
	} {
		for _, at := range []time.Time{c.date, c.date.Add(23*time.Hour + 59*time.Minute + 59*time.Second)} {
			got := []time.Duration{MaxValidity(at), DCVReuse(at), value(IdentityReuseMax, at).Duration, ShortLived(at)}
			for i, want := range []int{c.life, c.dcv, c.ident, c.slow} {
				if got[i] != time.Duration(want)*Day {
					t.Errorf("%v: number %d is %v, want %d d", at, i, got[i], want)
				}
			}
		}
	}
	before := sc081c.Add(-time.Second)
	if MaxValidity(before) != 100*Day || DCVReuse(before) != 100*Day {
		t.Error("the second before 2029-03-15 has the numbers of after")
	}
}

func TestShortLived(t *testing.T) {
	at := sc081a
	if got := TypeOf(at, at.Add(7*Day-time.Second)); got != ShortLife {
		t.Errorf("604,800 s are %s", got)
	}
	if got := TypeOf(at, at.Add(7*Day)); got != Subscriber {
		t.Errorf("604,801 s are %s", got)
	}
	at = sc081a.Add(-time.Second)
	if got := TypeOf(at, at.Add(10*Day-time.Second)); got != ShortLife {
		t.Errorf("864,000 s before 2026-03-15 are %s", got)
	}
	at = sc063.Add(-time.Second)
	if got := TypeOf(at, at.Add(time.Hour)); got != Subscriber {
		t.Errorf("before 2024-03-15 there is a %s", got)
	}
}

func TestCAAReuse(t *testing.T) {
	for ttl, want := range map[time.Duration]time.Duration{0: 8 * time.Hour, 8*time.Hour - 1: 8 * time.Hour, 8 * time.Hour: 8 * time.Hour, 9 * time.Hour: 9 * time.Hour} {
		if got := CAAReuse(ttl, sc081a); got != want {
			t.Errorf("TTL %v: %v, want %v", ttl, got, want)
		}
	}
}

func TestRevocationDeadlines(t *testing.T) {
	aware := date(2026, time.November, 21).Add(13*time.Hour + 37*time.Minute)
	for _, c := range []struct {
		of     ObjectType
		causes []Cause
		want   time.Duration
	}{
		{Subscriber, Causes24h(), 24 * time.Hour},
		{Subscriber, Causes5d(), 5 * Day},
		{Subscriber, []Cause{"never heard of"}, 24 * time.Hour},
		{CA, CausesCA(), 7 * Day},
		{CA, []Cause{"never heard of"}, 7 * Day},
	} {
		for _, cause := range c.causes {
			r, ok := DeadlineRow(c.of, cause, aware)
			if !ok || !r.Value.After(aware).Equal(aware.Add(c.want)) {
				t.Errorf("%s, %s: %v %v, want %v", c.of, cause, r.Value, ok, c.want)
			}
			if _, ok := DeadlineRow(ShortLife, cause, aware); ok {
				t.Errorf("a duty to revoke a short-lived certificate: %s", cause)
			}
		}
	}
	for _, c := range Causes24h() {
		if slices.Contains(Causes5d(), c) {
			t.Errorf("%s has two deadlines", c)
		}
	}
	if len(Causes24h()) != 5 || len(Causes5d()) != 11 {
		t.Error("BR 4.9.1.1 lists 5 and 11 causes")
	}
	if r, _ := DeadlineRow(Subscriber, KeyCompromised, aware); r.ID != Revoke24h {
		t.Errorf("key compromise cites %s", r.ID)
	}
}

func TestOCSP(t *testing.T) {
	at := sc081a
	lo, hi := OCSPWindow(at)
	if lo != 8*time.Hour || hi != 10*Day {
		t.Errorf("window %v to %v", lo, hi)
	}
	for _, c := range []struct{ interval, want time.Duration }{
		{8 * time.Hour, 4 * time.Hour},
		{16*time.Hour - time.Second, 8*time.Hour - 500*time.Millisecond},
		{16 * time.Hour, 8 * time.Hour},
		{4 * Day, 4*Day - 8*time.Hour},
		{4*Day + 8*time.Hour, 4 * Day},
		{10 * Day, 4 * Day},
	} {
		if got := RefreshBefore(c.interval, at); got != c.want {
			t.Errorf("interval %v: refresh by %v, want %v", c.interval, got, c.want)
		}
	}
	if lo, hi := OCSPWindow(date(2020, time.September, 30).Add(-time.Second)); lo != 0 || hi != 0 {
		t.Errorf("a window before there was one: %v %v", lo, hi)
	}
}

func TestCRL(t *testing.T) {
	at := date(2024, time.February, 29).Add(time.Hour)
	after := sc063
	for _, c := range []struct {
		of   ObjectType
		ocsp bool
		at   time.Time
		want time.Time
	}{
		{Subscriber, true, after, after.Add(7 * Day)},
		{Subscriber, false, after, after.Add(4 * Day)},
		{Subscriber, false, after.Add(-time.Second), after.Add(-time.Second).Add(7 * Day)},
		{CA, false, at, time.Date(2025, time.March, 1, 1, 0, 0, 0, time.UTC)},
	} {
		if got := CRLMaxInterval(c.of, c.ocsp, c.at); !got.Equal(c.want) {
			t.Errorf("%s, OCSP %v, at %v: %v, want %v", c.of, c.ocsp, c.at, got, c.want)
		}
	}
	if got, want := CRLMaxNextUpdate(Subscriber, after), after.Add(10*Day-time.Second); !got.Equal(want) {
		t.Errorf("nextUpdate of a leaf CRL: %v, want %v", got, want)
	}
	if got, want := CRLMaxNextUpdate(CA, after), after.AddDate(1, 0, 0).Add(-time.Second); !got.Equal(want) {
		t.Errorf("nextUpdate of a CA CRL: %v, want %v", got, want)
	}
	if got := value(CRLAfterRevoke, after).After(after); !got.Equal(after.Add(24 * time.Hour)) {
		t.Errorf("CRL after a revocation: %v", got)
	}
}

func TestMPIC(t *testing.T) {
	for from, want := range map[time.Time]Perspectives{
		mpic1.Add(-time.Second): {0, 0, false},
		mpic1:                   {2, 0, false}, mpic2.Add(-time.Second): {2, 0, false},
		mpic2: {2, 0, true}, mpic3.Add(-time.Second): {2, 0, true},
		mpic3: {3, 2, true}, mpic4.Add(-time.Second): {3, 2, true},
		mpic4: {4, 2, true}, mpic5.Add(-time.Second): {4, 2, true},
		mpic5: {5, 2, true},
	} {
		if got := MPIC(from); got != want {
			t.Errorf("%v: %+v, want %+v", from, got, want)
		}
	}
	p := MPIC(mpic5)
	for _, c := range []struct {
		ok, n, rirs int
		want        bool
	}{{5, 5, 2, true}, {4, 5, 2, true}, {3, 5, 2, false}, {4, 4, 2, false}, {5, 5, 1, false}, {4, 6, 3, true}, {3, 6, 3, false}} {
		if got := p.Enough(c.ok, c.n, c.rirs); got != c.want {
			t.Errorf("%d of %d in %d: %v", c.ok, c.n, c.rirs, got)
		}
	}
	if !MPIC(mpic1).Enough(0, 2, 0) {
		t.Error("report only stops issuance")
	}
	if p.MayDiffer(1) != 0 {
		t.Error("one perspective alone may differ")
	}
}

func TestSHA1(t *testing.T) {
	if value(SHA1Gone, sc097.Add(-time.Second)).Count != 1 || value(SHA1Gone, sc097).Count != 0 {
		t.Error("SHA-1 ends at 2026-09-15")
	}
}

func TestReasons(t *testing.T) {
	leaf := []bulkhead.Reason{0, 1, 3, 4, 5, 9}
	ca := []bulkhead.Reason{1, 2, 3, 4, 5, 9}
	for r := bulkhead.Reason(-1); r < 12; r++ {
		if got := CRLReasonAllowed(Subscriber, r, sc081a); got != slices.Contains(leaf, r) {
			t.Errorf("leaf, %v: %v", r, got)
		}
		if got := CRLReasonAllowed(CA, r, sc081a); got != slices.Contains(ca, r) {
			t.Errorf("CA, %v: %v", r, got)
		}
	}
}

func TestPrints(t *testing.T) {
	for want, v := range map[string]Value{"47 d": days(47), "24 h": hours(24), "12 months": months(12), "0": count(0), "159": count(159),
		"15 min": span(15 * time.Minute), "10s": span(10 * time.Second), "2 d": hours(48)} {
		if v.String() != want {
			t.Errorf("%q, want %q", v, want)
		}
	}
	for _, r := range Rows() {
		if strings.TrimSpace(r.Value.String()) == "" {
			t.Errorf("%s prints nothing", r.ID)
		}
	}
}
