package run

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"bulkhead"
)

// scrapeEvery bounds how often a scrape asks the store: counting a million rows is not free.
const scrapeEvery = 15 * time.Second

// houseMetrics reads the house when it is scraped.
type houseMetrics struct {
	h *House

	mu   sync.Mutex // guards below
	at   time.Time
	rows map[bulkhead.AuthorityID]map[bulkhead.CertificateState]int64
	crls []bulkhead.CRLRecord
}

var (
	descBuild     = prometheus.NewDesc("bulkhead_build_info", "1, with the version as a label.", []string{"version"}, nil)
	descRows      = prometheus.NewDesc("bulkhead_certificates", "Certificate rows in the store.", []string{"authority", "state"}, nil)
	descLag       = prometheus.NewDesc("bulkhead_evidence_lag_seconds", "Age of the oldest committed fact that no checkpoint covers.", nil, nil)
	descLeaves    = prometheus.NewDesc("bulkhead_evidence_checkpoint_leaves", "Leaves under the newest checkpoint.", nil, nil)
	descCRLEnd    = prometheus.NewDesc("bulkhead_crl_expiration_timestamp_seconds", "nextUpdate of the newest CRL of a shard.", []string{"authority", "shard"}, nil)
	descCRLThis   = prometheus.NewDesc("bulkhead_crl_this_update_timestamp_seconds", "thisUpdate of the newest CRL of a shard.", []string{"authority", "shard"}, nil)
	descCRLNumber = prometheus.NewDesc("bulkhead_crl_number", "CRLNumber of the newest CRL of a shard.", []string{"authority", "shard"}, nil)
	descStore     = prometheus.NewDesc("bulkhead_store_up", "1 when the store answers.", nil, nil)
)

// Describe implements prometheus.Collector.
func (m *houseMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descBuild, descRows, descLag, descLeaves, descCRLEnd, descCRLThis, descCRLNumber, descStore} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. What the store last said is repeated while it is away.
func (m *houseMetrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(descBuild, 1, m.h.version)
	if m.h.evidence != nil {
		gauge(descLag, m.h.evidence.Lag().Seconds())
		gauge(descLeaves, float64(m.h.evidence.Checkpoint().Size))
	}
	if m.h.store == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	up := 0.0
	if m.h.store.Ping(ctx) == nil {
		up = 1
		m.refresh(ctx)
	}
	gauge(descStore, up)
	for id, states := range m.rows {
		for state, n := range states {
			gauge(descRows, float64(n), string(id), string(state))
		}
	}
	for _, c := range m.crls {
		gauge(descCRLEnd, float64(c.NextUpdate.Unix()), string(c.Authority), strconv.Itoa(c.Shard))
		gauge(descCRLThis, float64(c.ThisUpdate.Unix()), string(c.Authority), strconv.Itoa(c.Shard))
		gauge(descCRLNumber, float64(c.Number), string(c.Authority), strconv.Itoa(c.Shard))
	}
}

// refresh asks the store when the last answer is old enough. Callers hold mu.
func (m *houseMetrics) refresh(ctx context.Context) {
	if time.Since(m.at) < scrapeEvery {
		return
	}
	rows, err := m.h.store.Counts(ctx)
	if err != nil {
		return
	}
	crls, err := m.h.store.CRLs(ctx)
	if err != nil {
		return
	}
	m.rows, m.crls, m.at = rows, crls, time.Now()
}

// counted counts the requests of a listener by method and status code.
func counted(reg prometheus.Registerer, listener string, h http.Handler) http.Handler {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bulkhead_http_requests_total", Help: "Requests by listener, method and status code.",
		ConstLabels: prometheus.Labels{"listener": listener}}, []string{"code", "method"})
	reg.MustRegister(c)
	return promhttp.InstrumentHandlerCounter(c, h)
}
