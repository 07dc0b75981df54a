package run

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"bulkhead"
	"bulkhead/watch/deliver"
	"bulkhead/watch/outside"
)

const rulesDir = "../deploy/prometheus"

// TestRules has promtool check the alert rules and run their tests: each fires on its planted fault, all are silent without.
func TestRules(t *testing.T) {
	for _, args := range [][]string{{"check", "rules", "rules.yaml"}, {"test", "rules", "rules_test.yaml"}} {
		cmd := exec.Command("promtool", args...)
		cmd.Dir = rulesDir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v (package prometheus; scripts/test-tools.sh installs it)\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// alertRules is as much of a rule file as the tests here read.
type alertRules struct {
	Groups []struct {
		Rules []struct {
			Alert       string
			Expr        string
			Annotations map[string]string
		}
	}
}

func readRules(t *testing.T) (r alertRules) {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(rulesDir, "rules.yaml"))
	if err == nil {
		err = yaml.Unmarshal(body, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRulesHaveRunbooks: whoever is woken finds the page, and every rule has its planted fault.
func TestRulesHaveRunbooks(t *testing.T) {
	tests, err := os.ReadFile(filepath.Join(rulesDir, "rules_test.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, g := range readRules(t).Groups {
		for _, r := range g.Rules {
			n++
			if _, err := os.Stat(filepath.Join("..", r.Annotations["runbook"])); err != nil || r.Annotations["runbook"] == "" || r.Annotations["summary"] == "" {
				t.Errorf("%s: %v", r.Alert, err)
			}
			if !strings.Contains(string(tests), `alertname="`+r.Alert+`"`) {
				t.Errorf("no fault is planted for %s", r.Alert)
			}
		}
	}
	if n < 10 {
		t.Errorf("%d rules", n)
	}
}

var metricName = regexp.MustCompile(`bulkhead_[a-z0-9_]+`)

// TestMetricsExist: every metric that the rules and the dashboard name is served by a house that runs.
func TestMetricsExist(t *testing.T) {
	w := newWorld(t)
	p := w.prober(w.own())
	p.Once(t.Context())
	w.h.prober.Store(p)
	w.h.outside.reconciler.Tick(t.Context())
	w.h.watch.Raise(t.Context(), bulkhead.Alarm{Detector: "D9", Key: "x", Severity: bulkhead.Critical, Message: "m", Runbook: "d9-flipped.md", FirstAt: w.now(), LastAt: w.now(), Count: 1})
	hook, err := deliver.NewSyslog("udp://127.0.0.1:1", "h", w.now)
	w.ok(err)
	w.h.outside.delivery, err = deliver.New(deliver.Config{Store: w.h.store, Receivers: []deliver.Receiver{{Name: "log", Least: bulkhead.Notice, Sender: hook}}, Now: w.now})
	w.ok(err)
	w.ok(w.h.outside.delivery.Once(t.Context()))
	families, err := w.h.metrics.Gather()
	w.ok(err)
	served := map[string]bool{}
	for _, f := range families {
		served[f.GetName()] = true
	}
	var named []string
	for _, g := range readRules(t).Groups {
		for _, r := range g.Rules {
			named = append(named, metricName.FindAllString(r.Expr, -1)...)
		}
	}
	body, err := os.ReadFile("../deploy/grafana/bulkhead.json")
	w.ok(err)
	var board struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	w.ok(json.Unmarshal(body, &board))
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			found := metricName.FindAllString(target.Expr, -1)
			if len(found) == 0 {
				t.Errorf("%s names no metric of ours", target.Expr)
			}
			named = append(named, found...)
		}
	}
	for _, name := range named {
		if !served[name] {
			t.Errorf("%s is named and not served", name)
		}
	}
	if len(named) < 20 {
		t.Errorf("%d names", len(named))
	}
}

// TestDoctorSaysUndelivered: a delivery that was given up, and an address that is never clean, are findings.
func TestDoctorSaysUndelivered(t *testing.T) {
	w := newWorld(t)
	say := func(check string) (out []string) {
		for _, f := range w.h.Diagnose(t.Context()) {
			if f.Check == check {
				out = append(out, f.Level+": "+f.Detail)
			}
		}
		return out
	}
	if got := say("alarm-delivery"); len(got) != 1 || !strings.HasPrefix(got[0], "finding: nobody is told") {
		t.Errorf("%q", got)
	}
	w.h.watch.Raise(t.Context(), bulkhead.Alarm{Detector: "D9", Key: "x", Severity: bulkhead.Critical, Message: "m", Runbook: "d9-flipped.md", FirstAt: w.now(), LastAt: w.now(), Count: 1})
	dead, err := deliver.NewSyslog("tcp://127.0.0.1:1", "h", w.now)
	w.ok(err)
	s, err := deliver.New(deliver.Config{Store: w.h.store, Attempts: 1, Receivers: []deliver.Receiver{{Name: "log", Least: bulkhead.Notice, Sender: dead}}, Now: w.now})
	w.ok(err)
	w.ok(s.Once(t.Context()))
	if got := say("alarm-delivery"); len(got) != 1 || !strings.HasPrefix(got[0], "failure: alarm 1 (D9, critical) was given up for receiver log") {
		t.Errorf("%q", got)
	}
	p := w.prober(w.own(), outside.Point{Name: "tier lb", Base: "http://127.0.0.1:1"})
	p.Once(t.Context())
	w.h.prober.Store(p)
	w.pass(6 * time.Minute)
	p.Once(t.Context())
	if got := say("probe"); len(got) != 1 || !strings.HasPrefix(got[0], "finding: no round through tier lb") {
		t.Errorf("%q", got)
	}
}
