package report_test

import (
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/incident/report"
)

func massPlan(language string) report.MassPlan {
	return report.MassPlan{Language: language, At: at(6, 9, 0), House: report.House{Name: "Example CA"}, Live: 83267, Largest: 60000,
		Criteria:  []report.Criterion{{"live certificates concerned", "1 % or more"}, {"certificates concerned", "1000 or more"}, {"an issuing authority is lost", "always"}},
		Contacts:  []report.Contact{{"Root program contact", "root programs", "program@browser.test", at(1, 0, 0)}},
		Automatic: []report.Work{{"find what is concerned", "bulkhead incident scope"}, {"revoke at the deadline", "deadline clock of the campaign"}},
		Manual:    []report.Work{{"approve the plan of the campaign", "doc/campaigns.md"}},
		Targets:   []report.Target{{"revoke subscriber certificates", 24 * time.Hour, "BR 4.9.1.1"}, {"revoke a CA certificate", 7 * 24 * time.Hour, "BR 4.9.1.2"}, {"triage", 30 * time.Minute, "own"}},
		Channels:  []report.Channel{{"mail", "contacts of the account, ja and en"}}, Accounts: 6807, Reachable: 6807, PerHour: 20000,
		Duties:    []bulkhead.Duty{{Role: "incident lead", Person: "Mori", Deputy: "Tanaka"}},
		Training:  []report.Training{{"Mori", "mass revocation drill", at(1, 0, 0)}},
		Rehearsed: []report.Rehearsal{{at(2, 0, 0), "mass-revocation", "told in 21 min, revoked in 9 h", "leaf 5120"}},
		Reviews:   []report.Review{{at(3, 0, 0), "second relay", "Mori"}}, Next: at(30, 0, 0), Measured: map[string]int64{"signatures": 500000, "validations": 100000}}
}

// TestMassPlan holds the plan against what people reviewed, in both languages.
func TestMassPlan(t *testing.T) {
	for _, l := range []string{"en", "ja"} {
		p := massPlan(l)
		if m := p.Check(); len(m) != 0 {
			t.Errorf("%+v", m)
		}
		golden(t, "massplan."+l+".md", p.Markdown())
	}
	golden(t, "massplan.ja.html", massPlan("ja").HTML())
	golden(t, "massplan.empty.md", report.MassPlan{Language: "en", At: at(6, 9, 0), House: report.House{Name: "Example CA"}}.Markdown())
}

// TestMassPlanNamesEachHole takes each element away, or lets it grow old: the plan says so at its top.
func TestMassPlanNamesEachHole(t *testing.T) {
	for field, spoil := range map[string]func(*report.MassPlan){
		"1-criteria": func(p *report.MassPlan) { p.Criteria = nil }, "2-contacts": func(p *report.MassPlan) { p.Contacts[0].Verified = at(1, 0, 0).AddDate(-2, 0, 0) },
		"3-manual": func(p *report.MassPlan) { p.Manual[0].How = "" }, "4-targets": func(p *report.MassPlan) { p.Targets = nil }, "5-channels": func(p *report.MassPlan) { p.Channels = nil },
		"5-throughput": func(p *report.MassPlan) { p.PerHour = 6000 }, "5-stale": func(p *report.MassPlan) { p.Reachable-- }, "6-roles": func(p *report.MassPlan) { p.Duties[0].Deputy = "" },
		"7-training": func(p *report.MassPlan) { p.Training = nil }, "8-rehearsal": func(p *report.MassPlan) { p.Rehearsed[0].On = at(1, 0, 0).AddDate(-2, 0, 0) }, "9-review": func(p *report.MassPlan) { p.Next = at(1, 0, 0) },
	} {
		p := massPlan("en")
		spoil(&p)
		m := p.Check()
		if len(m) != 1 || m[0].Field != field || m[0].Command == "" {
			t.Errorf("%s: %+v", field, m)
			continue
		}
		if !strings.Contains(p.Markdown(), m[0].What) {
			t.Errorf("%s is not in the plan", field)
		}
	}
}
