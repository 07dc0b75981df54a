package enroll_test

import (
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/enroll"
	"bulkhead/incident"
)

// rows puts n certificates of an account into the record, in a campaign that runs, and returns the paths of their renewal
// information.
func (w *world) rows(n int) []string {
	w.t.Helper()
	desk, err := incident.New(incident.Config{Store: w.store, Revoker: late{}, Now: w.now, Explanation: "https://ca.test/day"})
	ok(w.t, err)
	w.cfg.Campaigns = desk
	w.svc = w.service()
	w.serve()
	now := w.now().UTC().Truncate(time.Second)
	var paths []string
	var rs []bulkhead.Reservation
	var cs []bulkhead.Completion
	all, err := w.store.Authorities(w.t.Context())
	ok(w.t, err)
	own, err := x509.ParseCertificate(all[slices.IndexFunc(all, func(a bulkhead.Authority) bool { return a.ID == issuingCA })].Certificate)
	ok(w.t, err)
	for i := range n {
		serial := randomSerial(w.t)
		ref := bulkhead.CertificateRef{Issuer: issuingCA, Serial: serial}
		leaf := bulkhead.Evidence{Kind: bulkhead.EvCertificateIntent, At: now, Actor: "test", Authority: issuingCA, Serial: serial, Digest: bulkhead.Digest([]byte("tbs" + serial.String())), Signer: bulkhead.Digest([]byte("s"))}
		name := fmt.Sprintf("w%d.example.com", i)
		rs = append(rs, bulkhead.Reservation{Intent: leaf, Certificate: bulkhead.Certificate{CertificateRef: ref, Kind: bulkhead.LeafCertificate, State: bulkhead.Reserved, Profile: "tls-server", Subject: "CN=" + name,
			Names: []bulkhead.Identifier{{Type: bulkhead.DNS, Value: name}}, KeyHash: bulkhead.Digest([]byte(name)), AccountID: "a", OrderID: "o" + serial.String(), NotBefore: now, NotAfter: now.Add(60 * 24 * time.Hour), ReservedAt: now}})
		der := []byte("der " + serial.String())
		leaf.Kind, leaf.Link, leaf.Digest = bulkhead.EvCertificateOutcome, leaf.Digest, bulkhead.Digest(der)
		cs = append(cs, bulkhead.Completion{CertificateRef: ref, DER: der, Outcome: leaf})
		paths = append(paths, "/acme/renewal-info/"+enroll.CertID(own.SubjectKeyId, serial))
	}
	_, errs, err := w.store.Reserve(w.t.Context(), rs)
	ok(w.t, err)
	ok(w.t, errs[0])
	_, errs, err = w.store.Complete(w.t.Context(), cs)
	ok(w.t, err)
	ok(w.t, errs[0])
	i, err := desk.Open(w.t.Context(), "operator:a", incident.Intake{Title: "a bad day", Playbook: "mass-revocation", Scope: bulkhead.Scope{Accounts: []string{"a"}}})
	ok(w.t, err)
	k, _, err := desk.Plan(w.t.Context(), "operator:a", incident.PlanRequest{Incident: i.ID})
	ok(w.t, err)
	_, err = desk.Start(w.t.Context(), k.ID, k.PlanHash, "request:r")
	ok(w.t, err)
	return paths
}

// ask asks for every path, two at a time, and returns how long that took.
func ask(t testing.TB, client *http.Client, base string, paths []string) time.Duration {
	t.Helper()
	start := time.Now()
	var wg sync.WaitGroup
	for part := range slices.Chunk(paths, (len(paths)+1)/2) {
		wg.Go(func() {
			for _, p := range part {
				res, err := client.Get(base + p)
				if err != nil || res.StatusCode != http.StatusOK {
					t.Errorf("%s: %v", p, err)
					return
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
		})
	}
	wg.Wait()
	return time.Since(start)
}

// BenchmarkRenewalInfo asks for renewal information of certificates in a campaign, over HTTP, and a bare handler for the same
// octets under the same headers: "ratio" is our answers in a second to those of the bare handler, once they are prepared;
// "ratio-first" that of the first question about each certificate. Medians of rounds in turn.
func BenchmarkRenewalInfo(b *testing.B) {
	w := newWorld(b)
	paths := w.rows(2000)
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 4}}
	sample, err := client.Get(w.base + paths[0])
	ok(b, err)
	body, err := io.ReadAll(sample.Body)
	ok(b, err)
	sample.Body.Close()
	bare := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		for k, v := range sample.Header {
			if k != "Date" && k != "Content-Length" {
				rw.Header()[k] = v
			}
		}
		_, _ = rw.Write(body)
	}))
	b.Cleanup(bare.Close)
	var first, ready []float64
	for b.Loop() {
		for range 9 {
			w.shift.Add(int64(time.Minute)) // what was prepared is too old
			cold := ask(b, client, w.base, paths)
			reference := ask(b, client, bare.URL, paths)
			first, ready = append(first, reference.Seconds()/cold.Seconds()), append(ready, reference.Seconds()/ask(b, client, w.base, paths).Seconds())
		}
	}
	slices.Sort(first)
	slices.Sort(ready)
	b.ReportMetric(ready[len(ready)/2], "ratio")
	b.ReportMetric(first[len(first)/2], "ratio-first")
}

// TestRenewalAdviceIsFresh: prepared advice does not outlive what this process changes: a pause or a replacement of the plan, and a
// revocation; and of what others change it is seconds old at most.
func TestRenewalAdviceIsFresh(t *testing.T) {
	w := newWorld(t)
	paths := w.rows(2)
	id := strings.TrimPrefix(paths[0], "/acme/renewal-info/")
	window := func() bulkhead.RenewalInfo {
		t.Helper()
		info, err := w.svc.RenewalInfo(t.Context(), id)
		ok(t, err)
		return info
	}
	first := window()
	if first.ExplanationURL != "https://ca.test/day" || window() != first {
		t.Fatalf("%+v", first)
	}
	ref, err := w.svc.ResolveCertID(t.Context(), id)
	ok(t, err)
	_, err = w.svc.RenewalInfo(t.Context(), "AAAA.AAAA")
	if err == nil {
		t.Fatal("a stranger's identifier has advice")
	}
	desk := w.cfg.Campaigns.(*incident.Service)
	all, err := desk.Campaigns(t.Context(), 1)
	ok(t, err)
	ok(t, desk.Hold(t.Context(), "operator:a", all[0].Incident, ref, "a court"))
	if held := window(); held.ExplanationURL == first.ExplanationURL {
		t.Fatal("a certificate on hold is still told to renew")
	}
	other := strings.TrimPrefix(paths[1], "/acme/renewal-info/")
	before, err := w.svc.RenewalInfo(t.Context(), other)
	ok(t, err)
	// Another process, so to say: its desk holds the certificate, and ours does not know.
	foreign, err := incident.New(incident.Config{Store: w.store, Revoker: late{}, Now: w.now})
	ok(t, err)
	second, err := w.svc.ResolveCertID(t.Context(), other)
	ok(t, err)
	ok(t, foreign.Hold(t.Context(), "operator:a", all[0].Incident, second, "a court"))
	w.shift.Add(int64(11 * time.Second))
	after, err := w.svc.RenewalInfo(t.Context(), other)
	ok(t, err)
	if after.ExplanationURL == before.ExplanationURL {
		t.Fatal("advice is older than a few seconds")
	}
}
