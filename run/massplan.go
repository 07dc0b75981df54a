package run

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"gopkg.in/yaml.v3"

	"bulkhead"
	"bulkhead/incident"
	"bulkhead/incident/report"
	"bulkhead/pki/policy"
)

// MassPlanStore is the durable record as the plan for mass revocation needs it.
type MassPlanStore interface {
	LiveLeaves(ctx context.Context, now time.Time) (map[bulkhead.AuthorityID]int64, error)
	Reach(ctx context.Context, now time.Time) (accounts, reachable int64, err error)
}

// massFile is what people prepare for the plan on a good day. Dates are YYYY-MM-DD.
type massFile struct {
	Criteria []struct {
		What      string `yaml:"what"`
		Threshold string `yaml:"threshold"`
	} `yaml:"criteria"`
	Contacts []struct {
		Name     string `yaml:"name"`
		Role     string `yaml:"role"`
		How      string `yaml:"how"`
		Verified day    `yaml:"verified"`
	} `yaml:"contacts"`
	Manual []struct {
		What    string `yaml:"what"`
		Runbook string `yaml:"runbook"`
	} `yaml:"manual"`
	Targets []struct {
		What   string   `yaml:"what"`
		Within Duration `yaml:"within"`
	} `yaml:"targets"`
	Training []struct {
		Who  string `yaml:"who"`
		What string `yaml:"what"`
		On   day    `yaml:"on"`
	} `yaml:"training"`
	Rehearsals []struct {
		On       day    `yaml:"on"`
		Scenario string `yaml:"scenario"`
		Result   string `yaml:"result"`
		Evidence string `yaml:"evidence"`
	} `yaml:"rehearsals"`
	Reviews []struct {
		On   day    `yaml:"on"`
		What string `yaml:"what"`
		By   string `yaml:"by"`
	} `yaml:"reviews"`
	NextReview day `yaml:"next_review"`
}

// day is a date in YAML.
type day struct{ time.Time }

// UnmarshalYAML reads YYYY-MM-DD.
func (d *day) UnmarshalYAML(n *yaml.Node) (err error) {
	d.Time, err = time.Parse(time.DateOnly, n.Value)
	return err
}

func readMassFile(path string) (f massFile, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return f, bulkhead.Faultf(bulkhead.KindUsage, "incident.mass_revocation: %s cannot be read", path).WithHint("correct it in " + ConfigFile).WithCause(err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return f, bulkhead.Faultf(bulkhead.KindUsage, "%s: %s", filepath.Base(path), err).WithHint("doc/reports.md has an example").WithCause(err)
	}
	return f, nil
}

// MassPlan writes the plan for mass revocation (BR 5.7.1.2) as configuration, policy and record have it now.
func (r reports) MassPlan(ctx context.Context, language string) (bulkhead.IncidentReport, error) {
	if language == "" {
		language = "en"
	}
	if language != "en" && language != "ja" {
		return bulkhead.IncidentReport{}, bulkhead.Faultf(bulkhead.KindUsage, "there is no language %q", language).WithHint("--lang en or ja")
	}
	p, err := r.massPlan(ctx, language)
	if err != nil {
		return bulkhead.IncidentReport{}, err
	}
	out := bulkhead.IncidentReport{Kind: "mass-revocation-plan", Language: language, At: p.At, Markdown: p.Markdown(), HTML: p.HTML(), Pictures: map[string]string{}, Missing: []bulkhead.ReportGap{}}
	for _, m := range p.Check() {
		out.Missing = append(out.Missing, bulkhead.ReportGap(m))
	}
	return out, nil
}

func (r reports) massPlan(ctx context.Context, language string) (p report.MassPlan, err error) {
	h, now := r.h, r.h.now().UTC().Truncate(time.Second)
	c := h.cfg.Incident
	p = report.MassPlan{Language: language, At: now, House: report.House{Name: h.cfg.Organization, CCADB: c.CCADB}, PerHour: int64(c.Capacity.Notices),
		Measured: map[string]int64{"signatures": int64(c.Capacity.Signatures), "validations": int64(c.Capacity.Validations)}}
	live, err := h.store.LiveLeaves(ctx, now)
	if err != nil {
		return p, err
	}
	for _, n := range live {
		p.Live += n
		p.Largest = max(p.Largest, n)
	}
	if p.Accounts, p.Reachable, err = h.store.Reach(ctx, now); err != nil {
		return p, err
	}
	for _, d := range c.OnCall {
		p.Duties = append(p.Duties, bulkhead.Duty(d))
	}
	if h.cfg.ExpiryNotices.To.Mail.SMTP != "" {
		p.Channels = append(p.Channels, report.Channel{Name: p.Tr("mail", "電子メール"), How: h.cfg.ExpiryNotices.To.Mail.From})
	}
	if h.cfg.ExpiryNotices.To.Webhook != "" {
		p.Channels = append(p.Channels, report.Channel{Name: "webhook", How: "expiry_notices.to.webhook"})
	}
	r.process(&p)
	r.deadlines(&p, now)
	if c.MassRevocation == "" {
		return p, nil
	}
	f, err := readMassFile(inDir(h.dir, c.MassRevocation))
	if err != nil {
		return p, err
	}
	f.into(&p)
	return p, nil
}

// process is which steps the product does by itself, and which wait for a person.
func (reports) process(p *report.MassPlan) {
	p.Automatic = []report.Work{
		{What: p.Tr("find what is concerned", "対象証明書の特定"), How: "bulkhead incident scope"},
		{What: p.Tr("plan waves and dates", "段階と日程の計画"), How: "bulkhead campaign plan"},
		{What: p.Tr("move renewal information", "更新情報 (ARI) の前倒し"), How: "RFC 9773"},
		{What: p.Tr("find replacements, refuse known keys", "置き換えの確認と既知の鍵の拒否"), How: "bulkhead campaign status"},
		{What: p.Tr("revoke what is ready, and all at the deadline", "準備のできたものからの失効と期限での全件失効"), How: "bulkhead campaign status"},
		{What: p.Tr("put a delay on record", "遅延の記録"), How: "doc/runbooks/deadline-at-risk.md"}}
	p.Manual = []report.Work{
		{What: p.Tr("open the incident and say what happened", "インシデントの起票"), How: "doc/reports.md"},
		{What: p.Tr("approve the plan (two people)", "計画の承認 (2 名)"), How: "bulkhead approve ID"},
		{What: p.Tr("write what only people know", "報告書の記述項目の記入"), How: "doc/reports.md"}}
}

// deadlines are the targets that policy sets today, for a compromised key: the shortest there is.
func (r reports) deadlines(p *report.MassPlan, now time.Time) {
	for _, d := range incident.Deadlines(bulkhead.Incident{Cause: string(policy.Causes24h()[0]), AwareAt: now, Source: bulkhead.SourceReport}) {
		if !d.Due.IsZero() {
			p.Targets = append(p.Targets, report.Target{What: d.Object + ": " + d.Rule, Within: d.Due.Sub(now), Source: d.Source})
		}
	}
}

// into adds what people prepared.
func (f massFile) into(p *report.MassPlan) {
	for _, x := range f.Criteria {
		p.Criteria = append(p.Criteria, report.Criterion{What: x.What, Threshold: x.Threshold})
	}
	for _, x := range f.Contacts {
		p.Contacts = append(p.Contacts, report.Contact{Name: x.Name, Role: x.Role, How: x.How, Verified: x.Verified.Time})
	}
	for _, x := range f.Manual {
		p.Manual = append(p.Manual, report.Work{What: x.What, How: x.Runbook})
	}
	for _, x := range f.Targets {
		p.Targets = append(p.Targets, report.Target{What: x.What, Within: time.Duration(x.Within), Source: p.Tr("the house's own", "自社目標")})
	}
	for _, x := range f.Training {
		p.Training = append(p.Training, report.Training{Who: x.Who, What: x.What, On: x.On.Time})
	}
	for _, x := range f.Rehearsals {
		p.Rehearsed = append(p.Rehearsed, report.Rehearsal{On: x.On.Time, Scenario: x.Scenario, Result: x.Result, Evidence: x.Evidence})
	}
	for _, x := range f.Reviews {
		p.Reviews = append(p.Reviews, report.Review{On: x.On.Time, What: x.What, Author: x.By})
	}
	p.Next = f.NextReview.Time
	p.Sort()
}
