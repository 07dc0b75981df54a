package incident_test

import (
	"os"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/incident"
	"bulkhead/incident/plan"
)

func size(b *testing.B, n int) int {
	if t := os.Getenv("BULKHEAD_CAMPAIGN"); t != "" {
		v, err := strconv.Atoi(t)
		if err != nil {
			b.Fatal(err)
		}
		return v
	}
	return n
}

// BenchmarkScopeAndPlan counts a scope over everything and plans it; "scans" is the time in sequential readings of the same
// rows. BULKHEAD_CAMPAIGN=1000000 is the full count.
func BenchmarkScopeAndPlan(b *testing.B) {
	n := size(b, 100_000)
	h := newHouse(b, func(c *incident.Config) {
		c.Chunk, c.Capacity = 1000, plan.Capacity{Signatures: n / 5, Validations: n / 5, Notices: n / 5}
	})
	h.many(n, n/20)
	start := time.Now()
	seen, f := 0, bulkhead.CertificateFilter{Limit: 1000}
	for {
		rows, next, err := h.store.Certificates(b.Context(), f)
		ok(b, err)
		if seen += len(rows); next == "" {
			break
		}
		f.After = next
	}
	scan := time.Since(start)
	if seen != n {
		b.Fatalf("%d rows of %d", seen, n)
	}
	for b.Loop() {
		start := time.Now()
		i := h.incident(incident.Intake{Playbook: "mass-revocation", Scope: byIssuer()})
		scope := time.Since(start)
		_, p, err := h.desk.Draft(b.Context(), "operator:a", incident.PlanRequest{Incident: i.ID})
		ok(b, err)
		took := time.Since(start)
		if p.Items != n {
			b.Fatalf("%d items", p.Items)
		}
		b.ReportMetric(scope.Seconds()/scan.Seconds(), "scope-scans")
		b.ReportMetric(took.Seconds()/scan.Seconds(), "scans")
	}
}

// BenchmarkExecute plans a campaign, starts it with its windows live, and revokes and publishes everything on the deadline
// clock; for the reference, as many certificates are revoked by one change of status. "ratio" is the campaign's time, from the
// plan on, in those of the change. BULKHEAD_CAMPAIGN=1000000 is the full count.
func BenchmarkExecute(b *testing.B) {
	n := size(b, 10_000)
	for b.Loop() {
		reference := referenceChange(b, n)
		h := newHouse(b, func(c *incident.Config) { c.Chunk = 500 })
		h.many(n, n/20)
		i := h.incident(incident.Intake{Playbook: "mass-revocation", Scope: byIssuer()})
		runtime.GC()
		start := time.Now()
		k := h.campaign(i, incident.PlanRequest{})
		planned := time.Since(start)
		h.tick() // windows are live, what is due is told, and what was issued is looked through
		told := time.Since(start)
		h.pass(k.ForceAt.Sub(h.now()) + time.Second)
		h.tick()
		took := time.Since(start)
		if t := h.sums(k.ID); t.ByState[bulkhead.ItemRevoked] != int64(n) {
			b.Fatalf("%+v", t)
		}
		b.ReportMetric(took.Seconds()/reference.Seconds(), "ratio")
		b.ReportMetric(planned.Seconds()/reference.Seconds(), "plan")
		b.ReportMetric((told-planned).Seconds()/reference.Seconds(), "first-round")
		b.ReportMetric((took-told).Seconds()/reference.Seconds(), "revoke")
		b.ReportMetric(float64(n)/took.Seconds(), "revoked/s")
		b.ReportMetric(peak(b), "peak-MiB")
	}
}

// referenceChange revokes n certificates by one change of status and says how long it took.
func referenceChange(b *testing.B, n int) time.Duration {
	h := newHouse(b)
	refs := h.many(n, n/20)
	items := make([]bulkhead.ChangeItem, n)
	for k, r := range refs {
		items[k] = bulkhead.ChangeItem{CertificateRef: r, Reason: bulkhead.Superseded}
	}
	runtime.GC()
	start := time.Now()
	c, err := h.status.PlanRevocation(b.Context(), "operator:a", "reference", items)
	ok(b, err)
	ok(b, h.status.Approve(b.Context(), c.ID, c.PreviewHash, "operator:a"))
	ok(b, h.status.Activate(b.Context(), c.ID))
	return time.Since(start)
}

// peak is the most memory that this process ever held at once, in MiB.
func peak(b *testing.B) float64 {
	var use syscall.Rusage
	ok(b, syscall.Getrusage(syscall.RUSAGE_SELF, &use))
	return float64(use.Maxrss) / 1024
}
