package edge

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// outcome is how an OCSP request ended: a metric label each.
type outcome int

const (
	outGood outcome = iota
	outRevoked
	outNotModified
	outMalformed
	outSeveral    // more than one CertID: unauthorized
	outForeign    // not our issuer: unauthorized
	outUnassigned // our issuer, no answer: unauthorized, observed
	outExpired    // answer past nextUpdate: tryLater
	outNoHead     // nothing loaded yet: tryLater
	outTooLarge   // HTTP 413
	outMethod     // HTTP 405
	outLive       // signed for this request
	outBusy       // live answers wanted and too many, or none can be signed now: tryLater
	outInternal   // a live answer failed: internalError
	outDamaged    // the pack's bytes are not what the head speaks of: tryLater
	outcomes
)

var outcomeNames = [outcomes]string{"good", "revoked", "not_modified", "malformed", "several", "foreign", "unassigned", "expired", "no_head", "too_large", "method", "live", "busy", "internal", "damaged"}

type metrics struct {
	ocsp     [outcomes]prometheus.Counter
	files    *prometheus.CounterVec
	sequence prometheus.Gauge
	polled   prometheus.Gauge
	switches prometheus.Counter
	refused  prometheus.Counter
	failures *prometheus.CounterVec
	dropped  prometheus.Counter
	loaded   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "bulkhead", Subsystem: "edge", Name: name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "bulkhead", Subsystem: "edge", Name: name, Help: help}, []string{label})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "bulkhead", Subsystem: "edge", Name: name, Help: help})
	}
	requests := vec("ocsp_requests_total", "OCSP requests by outcome.", "outcome")
	m := &metrics{
		files:    vec("file_requests_total", "Requests for CRLs and CA certificates by HTTP status class.", "kind"),
		sequence: gauge("head_sequence", "Sequence of the head being served."),
		polled:   gauge("head_polled_timestamp_seconds", "When the head was last looked at with success."),
		switches: counter("head_switches_total", "Heads accepted."),
		refused:  counter("heads_refused_total", "Heads refused: bad signature, older, or objects that are not whole."),
		failures: vec("poll_failures_total", "Looks at the source that failed.", "kind"),
		dropped:  counter("observations_dropped_total", "Questions about unassigned serials that were not passed on."),
		loaded:   counter("object_bytes_loaded_total", "Octets of objects verified when they were loaded; the pages of packs that are verified in use are not counted."),
	}
	for i, name := range outcomeNames {
		m.ocsp[i] = requests.WithLabelValues(name)
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{requests, m.files, m.sequence, m.polled, m.switches, m.refused, m.failures, m.dropped, m.loaded} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("edge: register metrics: %w", err)
		}
	}
	return m, nil
}
