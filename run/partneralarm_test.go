package run

import (
	"context"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/enroll"
)

// TestPartnerOutOfProfile is D10 from an order to the record: what a registration partner's customer orders within its bounds
// alarms nobody; an order outside them is refused and is an alarm, and the same again is not another.
func TestPartnerOutOfProfile(t *testing.T) {
	w := newWorld(t)
	ctx := w.Context()
	_, err := w.approve(console.ActionAddPartner, bulkhead.Partner{ID: "north", Scope: bulkhead.PartnerScope{Names: []string{"north.test"}, Profiles: []string{"tls-server"}, PerHour: 50, PerDay: 50}})
	w.ok(err)
	person, _, err := w.h.enroll.AddPerson(ctx, "operator:test", "north", "yuki")
	w.ok(err)
	acct, _, err := w.h.enroll.NewCustomer(ctx, person)
	w.ok(err)
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- w.h.watch.Run(running) }()
	defer func() { stop(); <-done }()
	order := func(name string) error {
		_, err := w.h.enroll.NewOrder(ctx, acct, enroll.OrderRequest{Identifiers: []bulkhead.Identifier{{Type: bulkhead.DNS, Value: name}}})
		return err
	}
	judged := func(n int64) []bulkhead.Alarm {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			all, err := w.h.store.AlarmsOf(ctx, "D10", 10)
			w.ok(err)
			var seen int64
			for _, a := range all {
				seen += a.Count
			}
			if seen == n {
				return all
			}
			if seen > n || time.Now().After(end) {
				t.Fatalf("%d sightings, want %d: %+v", seen, n, all)
			}
		}
	}
	w.ok(order("www.north.test"))
	w.kind("beyond its names", order("www.google.test"), bulkhead.KindRejectedIdentifier)
	// Sightings are judged in their order: the first one was, and said nothing.
	if all := judged(1); len(all) != 1 || all[0].Severity != bulkhead.Warning || all[0].Runbook != "d10-partner.md" {
		t.Fatalf("%+v", all)
	}
	w.kind("again", order("mail.google.test"), bulkhead.KindRejectedIdentifier)
	if all := judged(2); len(all) != 1 {
		t.Errorf("the same trouble twice: %+v", all)
	}
}
