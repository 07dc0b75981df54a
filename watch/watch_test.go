package watch_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/store/sqlite"
	"bulkhead/watch"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func open(t *testing.T) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "w.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func serial(t *testing.T, text string) bulkhead.Serial {
	t.Helper()
	s, err := bulkhead.ParseSerial(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// issue puts a certificate row into the record, completed or only reserved.
func issue(t *testing.T, s *sqlite.Store, text string, complete bool) {
	t.Helper()
	ref := bulkhead.CertificateRef{Issuer: "ca", Serial: serial(t, text)}
	leaf := bulkhead.Evidence{Kind: bulkhead.EvCertificateIntent, At: now, Actor: "test", Authority: ref.Issuer, Serial: ref.Serial, Digest: bulkhead.Digest([]byte(text)), Signer: bulkhead.Digest([]byte("key"))}
	c := bulkhead.Certificate{CertificateRef: ref, Kind: bulkhead.LeafCertificate, State: bulkhead.Reserved, NotBefore: now, NotAfter: now.Add(time.Hour), ReservedAt: now}
	if _, errs, err := s.Reserve(t.Context(), []bulkhead.Reservation{{Certificate: c, Intent: leaf}}); err != nil || errs[0] != nil {
		t.Fatal(err, errs)
	}
	if !complete {
		return
	}
	leaf.Kind, leaf.Link, leaf.Digest = bulkhead.EvCertificateOutcome, leaf.Digest, bulkhead.Digest([]byte("der"+text))
	if _, errs, err := s.Complete(t.Context(), []bulkhead.Completion{{CertificateRef: ref, DER: []byte("der" + text), Outcome: leaf}}); err != nil || errs[0] != nil {
		t.Fatal(err, errs)
	}
}

var marks int

// run judges the sightings and returns the alarms.
func run(t *testing.T, s watch.Store, detectors []watch.Detector, sightings ...watch.Sighting) []bulkhead.Alarm {
	t.Helper()
	w, err := watch.New(watch.Config{Store: s, Detectors: detectors, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	marks++ // judged last: when its alarm is there, the others have been judged
	mark := watch.Sighting{Kind: watch.UnassignedAsked, Issuer: "mark", Serial: serial(t, fmt.Sprintf("%02x", marks)), At: now}
	for _, x := range append(sightings, mark) {
		w.See(x)
	}
	for end := time.Now().Add(time.Minute); ; {
		all, err := w.Alarms(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		var out []bulkhead.Alarm
		seen := len(detectors) > 0 && detectors[0].ID() != "D1"
		for _, a := range all {
			if strings.HasPrefix(a.Key, "mark,") {
				seen = seen || a.Key == "mark,"+mark.Serial.String()
				continue
			}
			out = append(out, a)
		}
		if seen && (detectors[0].ID() == "D1" || len(out) > 0) || time.Now().After(end) {
			cancel()
			<-done
			return out
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestUnassignedSerial plants the fault of D1 and shows silence without it: serials that were issued do not alarm,
// those that were never issued, or only reserved, do, and the same trouble is one alarm.
func TestUnassignedSerial(t *testing.T) {
	s := open(t)
	issue(t, s, "01", true)
	issue(t, s, "02", false)
	ask := func(text string, at time.Time) watch.Sighting {
		return watch.Sighting{Kind: watch.UnassignedAsked, Issuer: "ca", Serial: serial(t, text), At: at}
	}
	d1 := []watch.Detector{watch.UnassignedSerial{Store: s}}
	if got := run(t, s, d1, ask("01", now), ask("01", now)); len(got) != 0 {
		t.Fatalf("alarms about an issued serial: %+v", got)
	}
	got := run(t, s, d1, ask("02", now), ask("03", now), ask("03", now.Add(time.Minute)), ask("03", now.Add(2*time.Minute)))
	count := map[string]int64{}
	for _, a := range got {
		if a.Detector != "D1" || a.Severity != bulkhead.Critical || a.Runbook == "" {
			t.Errorf("%+v", a)
		}
		count[a.Key] = a.Count
	}
	if len(got) != 2 || count["ca,2"] != 1 || count["ca,3"] != 3 {
		t.Errorf("alarms %v", count)
	}
}

// away is a store that cannot be asked; alarms still go to the real one.
type away struct{ *sqlite.Store }

func (away) Statuses(context.Context, bulkhead.AuthorityID, []bulkhead.Serial) ([]bulkhead.Status, error) {
	return nil, errors.New("away")
}

type blind struct{ watch.UnassignedSerial }

func (blind) ID() string { return "DX" }

// TestBlindDetector: a detector that cannot look says so, by an alarm of its own.
func TestBlindDetector(t *testing.T) {
	s := open(t)
	got := run(t, s, []watch.Detector{blind{watch.UnassignedSerial{Store: away{s}}}})
	if len(got) != 1 || got[0].Detector != "DX" || got[0].Key != "blind" {
		t.Errorf("%+v", got)
	}
}

// TestDropped: sightings beyond the queue are dropped without waiting, and that is an alarm.
func TestDropped(t *testing.T) {
	s := open(t)
	issue(t, s, "01", true)
	w, err := watch.New(watch.Config{Store: s, Detectors: []watch.Detector{watch.UnassignedSerial{Store: s}}, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	for range 5000 {
		w.See(watch.Sighting{Kind: watch.UnassignedAsked, Issuer: "ca", Serial: serial(t, "01"), At: now})
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	defer func() { cancel(); <-done }()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		all, err := w.Alarms(t.Context(), 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range all {
			if a.Detector == "watch" && a.Key == "dropped" {
				return
			}
		}
	}
	t.Error("nothing said that sightings were dropped")
}
