package storetest

import (
	"testing"
	"time"

	"bulkhead"
)

func raise(t testing.TB, s Store, key string, sev bulkhead.Severity, minute int, quiet time.Duration) bool {
	t.Helper()
	return value(s.RaiseAlarm(t.Context(), bulkhead.Alarm{Detector: "D8", Key: key, Severity: sev, Message: "m " + key, Runbook: "d8.md", FirstAt: at(minute), LastAt: at(minute), Count: 1, Quiet: quiet}, event("alarm")))(t)
}

func alarm(t testing.TB, s Store, key string) bulkhead.Alarm {
	t.Helper()
	for _, a := range value(s.Alarms(t.Context(), 100))(t) {
		if a.Key == key {
			return a
		}
	}
	t.Fatalf("no alarm %s", key)
	return bulkhead.Alarm{}
}

// testAlarmsTaken: an acknowledgement is durable with its evidence, given once, and ends when the trouble comes back.
func testAlarmsTaken(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	const hour = time.Hour
	equal(t, raise(t, s, "a", bulkhead.Warning, 0, hour), true)
	a := alarm(t, s, "a")
	equal(t, a.Open(), true)
	equal(t, value(s.Alarm(ctx, a.ID))(t), a)
	ok(t, s.AckAlarm(ctx, a.ID, at(5), "operator:alice", "known", event("ack")))
	wantKind(t, s.AckAlarm(ctx, a.ID, at(6), "operator:bob", "again", event("ack")), bulkhead.KindConflict)
	wantKind(t, s.AckAlarm(ctx, 4711, at(6), "operator:bob", "none", event("ack")), bulkhead.KindNotFound)
	_, err := s.Alarm(ctx, 4711)
	wantKind(t, err, bulkhead.KindNotFound)
	equal(t, len(checkEvidence(t, s)), 2)
	a.AckedAt, a.AckedBy, a.AckReason = at(5), "operator:alice", "known"
	equal(t, alarm(t, s, "a"), a)

	// While it goes on, and however late when there is no Quiet, the acknowledgement stands.
	equal(t, raise(t, s, "a", bulkhead.Warning, 60, hour), false)
	equal(t, raise(t, s, "a", bulkhead.Warning, 300, 0), false)
	equal(t, alarm(t, s, "a").AckedBy, "operator:alice")
	ok(t, s.PutDelivery(ctx, bulkhead.AlarmDelivery{Alarm: a, Receiver: "x", State: bulkhead.DeliveryDone, Attempts: 1, At: at(6)}))
	// Back after more than an hour it is news.
	equal(t, raise(t, s, "a", bulkhead.Critical, 361, hour), true)
	got := alarm(t, s, "a")
	equal(t, got.Open(), true)
	equal(t, got.Severity, bulkhead.Critical)
	equal(t, got.Count, 4)
	equal(t, got.FirstAt, at(0))
	equal(t, len(checkEvidence(t, s)), 3)
	equal(t, len(value(s.DueDeliveries(ctx, "x", bulkhead.Severities(), at(400), 10))(t)), 1)
}

// testAlarmDeliveries: each receiver is owed each open alarm of its severities until it took it or was given up for.
func testAlarmDeliveries(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	raise(t, s, "a", bulkhead.Warning, 0, 0)
	raise(t, s, "b", bulkhead.Critical, 1, 0)
	raise(t, s, "c", bulkhead.Notice, 2, 0)
	keys := func(receiver string, least bulkhead.Severity, minute, limit int) (out string) {
		for _, d := range value(s.DueDeliveries(ctx, receiver, bulkhead.AtLeast(least), at(minute), limit))(t) {
			equal(t, d.Receiver, receiver)
			equal(t, d.State, bulkhead.DeliveryPending)
			out += d.Alarm.Key
		}
		return out
	}
	equal(t, keys("x", bulkhead.Notice, 5, 10), "abc")
	equal(t, keys("x", bulkhead.Notice, 5, 2), "ab")
	equal(t, keys("x", bulkhead.Warning, 5, 10), "ab")
	equal(t, keys("x", bulkhead.Critical, 5, 10), "b")

	a, b := alarm(t, s, "a"), alarm(t, s, "b")
	later := bulkhead.AlarmDelivery{Alarm: a, Receiver: "x", State: bulkhead.DeliveryPending, Attempts: 1, NextAt: at(10), At: at(5), Error: "refused\x00"}
	ok(t, s.PutDelivery(ctx, later))
	equal(t, keys("x", bulkhead.Warning, 9, 10), "b")
	equal(t, keys("x", bulkhead.Warning, 10, 10), "ab")
	equal(t, keys("y", bulkhead.Warning, 5, 10), "ab")
	due := value(s.DueDeliveries(ctx, "x", bulkhead.AtLeast(bulkhead.Warning), at(10), 1))(t)[0]
	later.Error = "refused\uFFFD"
	equal(t, due, later)

	ok(t, s.PutDelivery(ctx, bulkhead.AlarmDelivery{Alarm: b, Receiver: "x", State: bulkhead.DeliveryDone, Attempts: 1, At: at(6)}))
	later.State, later.Attempts, later.NextAt, later.At = bulkhead.DeliveryFailed, 5, time.Time{}, at(11)
	ok(t, s.PutDelivery(ctx, later, event("undelivered")))
	equal(t, keys("x", bulkhead.Warning, 99, 10), "")
	equal(t, value(s.FailedDeliveries(ctx, 10))(t), []bulkhead.AlarmDelivery{later})
	ok(t, s.AckAlarm(ctx, a.ID, at(12), "operator:alice", "seen", event("ack")))
	equal(t, len(value(s.FailedDeliveries(ctx, 10))(t)), 0)
	equal(t, keys("y", bulkhead.Warning, 5, 10), "b")
	equal(t, len(checkEvidence(t, s)), 5)
}

// testCertificateChanges: which changes name a certificate, the newest first, whatever became of them.
func testCertificateChanges(t *testing.T, open Open) {
	s, ctx := open(t, nil), t.Context()
	one := bulkhead.Change{ID: "c-1", State: bulkhead.ChangePlanned, Actor: "operator:alice", Why: "lost key", CreatedAt: at(1)}
	ok(t, s.CreateChange(ctx, one, items(bulkhead.Superseded, at(2), 1, 2), event("planned")))
	two := one
	two.ID, two.State, two.Why = "c-2", bulkhead.ChangeRefused, "mistake"
	ok(t, s.CreateChange(ctx, two, items(bulkhead.KeyCompromise, at(3), 2, 3), event("planned")))
	got := value(s.CertificateChanges(ctx, issuer, []bulkhead.Serial{serial(2), serial(9)}))(t)
	equal(t, len(got), 2)
	want := bulkhead.CertificateChange{ChangeItem: items(bulkhead.KeyCompromise, at(3), 2)[0], Change: "c-2", State: bulkhead.ChangeRefused, Actor: "operator:alice", Why: "mistake"}
	equal(t, got[0], want)
	equal(t, got[1].Change, "c-1")
	equal(t, len(value(s.CertificateChanges(ctx, "another", []bulkhead.Serial{serial(2)}))(t)), 0)
	equal(t, len(value(s.CertificateChanges(ctx, issuer, nil))(t)), 0)
}
