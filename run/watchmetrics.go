package run

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bulkhead"
)

// watchMetrics reads what the house sees of itself when it is scraped.
type watchMetrics struct{ h *House }

var (
	descAlarms     = prometheus.NewDesc("bulkhead_alarms_open", "Alarms that nobody has acknowledged, of the newest 1000.", []string{"detector", "severity"}, nil)
	descDelivered  = prometheus.NewDesc("bulkhead_alarm_delivery_attempts_total", "Attempts to deliver alarms by what became of them: done, retried, failed.", []string{"receiver", "result"}, nil)
	descGivenUp    = prometheus.NewDesc("bulkhead_alarm_deliveries_given_up", "Deliveries of open alarms that were given up, 1000 at most.", nil, nil)
	descProbed     = prometheus.NewDesc("bulkhead_probe_timestamp_seconds", "When a round through the address last ended.", []string{"point", "base"}, nil)
	descProbedGood = prometheus.NewDesc("bulkhead_probe_good_timestamp_seconds", "When a round through the address last ended without a finding.", []string{"point", "base"}, nil)
	descFetched    = prometheus.NewDesc("bulkhead_probe_fetches_total", "Fetches by probes.", []string{"point", "base"}, nil)
	descWrong      = prometheus.NewDesc("bulkhead_probe_findings_total", "Findings of probes: wrong answers (wrong) and fetches without one (blind).", []string{"point", "base", "kind"}, nil)
	descReconciled = prometheus.NewDesc("bulkhead_reconciler_timestamp_seconds", "When record, evidence and publication were last compared without trouble.", nil, nil)
	descBehind     = prometheus.NewDesc("bulkhead_reconciler_evidence_behind", "Rows of evidence that the reconciler has still to read.", nil, nil)
	descPending    = prometheus.NewDesc("bulkhead_reconciler_pending_revocations", "Revocations in evidence that are not yet seen in record, OCSP answers and CRL.", nil, nil)
	descCompared   = prometheus.NewDesc("bulkhead_reconciler_rows_total", "Certificates compared.", nil, nil)
	descRounds     = prometheus.NewDesc("bulkhead_reconciler_rounds_total", "Times that the whole inventory of an authority was compared.", nil, nil)
)

// Describe implements prometheus.Collector.
func (*watchMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descAlarms, descDelivered, descGivenUp, descProbed, descProbedGood, descFetched, descWrong, descReconciled, descBehind, descPending, descCompared, descRounds} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. What cannot be read is left out.
func (m *watchMetrics) Collect(ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) { send(d, prometheus.GaugeValue, v, labels...) }
	count := func(d *prometheus.Desc, v int64, labels ...string) {
		send(d, prometheus.CounterValue, float64(v), labels...)
	}
	m.alarms(gauge)
	if s := m.h.outside.delivery; s != nil {
		for name, t := range s.Tallies() {
			count(descDelivered, t.Done, name, "done")
			count(descDelivered, t.Retried, name, "retried")
			count(descDelivered, t.Failed, name, "failed")
		}
	}
	if p := m.h.prober.Load(); p != nil {
		for _, l := range p.Looks() {
			if l.At.IsZero() {
				continue
			}
			gauge(descProbed, float64(l.At.Unix()), l.Point, l.Base)
			gauge(descProbedGood, float64(max(l.Good.Unix(), 0)), l.Point, l.Base)
			count(descFetched, l.Fetched, l.Point, l.Base)
			count(descWrong, l.Wrong, l.Point, l.Base, "wrong")
			count(descWrong, l.Blind, l.Point, l.Base, "blind")
		}
	}
	if r := m.h.outside.reconciler; r != nil {
		if s := r.State(); !s.At.IsZero() {
			gauge(descReconciled, float64(s.At.Unix()))
			gauge(descBehind, float64(s.Behind))
			gauge(descPending, float64(s.Pending))
			count(descCompared, s.Rows)
			count(descRounds, s.Rounds)
		}
	}
}

// alarms reads the record: every severity of a detector that has alarms, those that are all taken as 0.
func (m *watchMetrics) alarms(gauge func(d *prometheus.Desc, v float64, labels ...string)) {
	if m.h.store == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if all, err := m.h.store.Alarms(ctx, 1000); err == nil {
		open := map[[2]string]int{}
		for _, s := range bulkhead.Severities() {
			open[[2]string{"D1", string(s)}] = 0 // so that the series is there before the first alarm
		}
		for _, a := range all {
			n := 0
			if a.Open() {
				n = 1
			}
			open[[2]string{a.Detector, string(a.Severity)}] += n
		}
		for k, n := range open {
			gauge(descAlarms, float64(n), k[0], k[1])
		}
	}
	if failed, err := m.h.store.FailedDeliveries(ctx, 1000); err == nil {
		gauge(descGivenUp, float64(len(failed)))
	}
}
