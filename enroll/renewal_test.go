package enroll_test

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
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
func (w *world) rows(n int, capacity bulkhead.CampaignCapacity) []string {
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
	k, _, err := desk.Plan(w.t.Context(), "operator:a", incident.PlanRequest{Incident: i.ID, Capacity: &capacity})
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
	paths := w.rows(2000, bulkhead.CampaignCapacity{})
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
	paths := w.rows(2, bulkhead.CampaignCapacity{})
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

// TestCampaignLoad: clients that pick a moment of the window that they are told, as RFC 9773 section 4.2 has it, come within what
// the plan was given for an hour, whichever moments they pick, and all before the clock.
func TestCampaignLoad(t *testing.T) {
	w := newWorld(t)
	const most = 12 // an hour
	paths := w.rows(150, bulkhead.CampaignCapacity{Signatures: most})
	client := &http.Client{Timeout: 30 * time.Second}
	var starts, picks []time.Time
	rng := rand.New(rand.NewPCG(7, 7))
	for _, p := range paths {
		res, err := client.Get(w.base + p)
		ok(t, err)
		var info struct {
			Window struct{ Start, End time.Time } `json:"suggestedWindow"`
		}
		ok(t, json.NewDecoder(res.Body).Decode(&info))
		res.Body.Close()
		starts = append(starts, info.Window.Start)
		picks = append(picks, info.Window.Start.Add(time.Duration(rng.Int64N(int64(info.Window.End.Sub(info.Window.Start))))))
	}
	slices.SortFunc(starts, time.Time.Compare)
	slices.SortFunc(picks, time.Time.Compare)
	if spread := starts[len(starts)-1].Sub(starts[0]); spread < 10*time.Hour {
		t.Errorf("every client is told the same %s", spread)
	}
	all, err := w.cfg.Campaigns.(*incident.Service).Campaigns(t.Context(), 1)
	ok(t, err)
	if last := picks[len(picks)-1]; last.After(all[0].ForceAt) {
		t.Errorf("a client is told to come at %s, and the clock acts at %s", last, all[0].ForceAt)
	}
	slice := starts[0]
	for _, x := range starts {
		if d := x.Sub(starts[0]); d > 0 {
			slice = x
			break
		}
	}
	length := slice.Sub(starts[0]) // of a slice of the plan: what is picked in an hour is of the slices that touch it
	for i, from := range picks {
		n := 0
		for _, x := range picks[i:] {
			if x.Sub(from) < time.Hour {
				n++
			}
		}
		if limit := int(most * (time.Hour + 2*length).Hours()); n > limit {
			t.Fatalf("%d clients come in the hour from %s; the plan has %d for an hour", n, from, most)
		}
	}
}
