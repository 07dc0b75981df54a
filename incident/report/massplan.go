package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"bulkhead"
)

// MassPlan is the plan for mass revocation that BR 5.7.1.2 demands, as the configuration, the policy and the record make
// it. What nobody prepared is named in it, not hidden.
type MassPlan struct {
	Language string
	At       time.Time
	House    House

	Live      int64            // certificates that are neither revoked nor expired
	Largest   int64            // of the largest issuing authority
	Criteria  []Criterion      // 1: when the plan begins
	Contacts  []Contact        // 2
	Automatic []Work           // 3
	Manual    []Work           // 3: each with its runbook
	Targets   []Target         // 4
	Channels  []Channel        // 5
	Accounts  int64            // 5: that hold live certificates
	Reachable int64            // 5: of them with a contact that works
	PerHour   int64            // 5: accounts told in an hour
	Duties    []bulkhead.Duty  // 6
	Training  []Training       // 7
	Rehearsed []Rehearsal      // 8
	Reviews   []Review         // 9: newest first
	Next      time.Time        // 9: next review
	Measured  map[string]int64 // work in an hour, by what: signatures, validations
}

// Criterion is an objective threshold.
type Criterion struct{ What, Threshold string }

// Contact is somebody who must be reached, and when that was last tried.
type Contact struct {
	Name, Role, How string
	Verified        time.Time
}

// Work is a step of the process; a manual one names its runbook.
type Work struct{ What, How string }

// Target is a time within which something must have happened.
type Target struct {
	What   string
	Within time.Duration
	Source string
}

// Channel is a way on which people are told.
type Channel struct{ Name, How string }

// Training is who learnt what when.
type Training struct {
	Who, What string
	On        time.Time
}

// Rehearsal is a drill and what proves it. No active subscriber certificate may have been revoked by it.
type Rehearsal struct {
	On                         time.Time
	Scenario, Result, Evidence string
}

// Review is one version of the plan.
type Review struct {
	On           time.Time
	What, Author string
}

// A plan, its contacts, trainings and rehearsals are good for a year (BR 5.7.1.2: annually).
const year = 366 * 24 * time.Hour

// Check names every part of the plan that is not there or out of date, with what to do.
func (p MassPlan) Check() []Missing {
	var out []Missing
	file := "in the file of incident.mass_revocation"
	want := func(ok bool, field, what, how string) {
		if !ok {
			out = append(out, Missing{field, what, how})
		}
	}
	want(len(p.Criteria) > 0, "1-criteria", "no objective threshold begins the plan", "criteria "+file)
	want(len(p.Contacts) > 0, "2-contacts", "nobody is named who must be reached", "contacts "+file)
	for _, c := range p.Contacts {
		want(p.fresh(c.Verified), "2-contacts", "contact "+c.Name+" was not verified within a year", "try it, then set verified "+file)
	}
	for _, w := range p.Manual {
		want(w.How != "", "3-manual", "manual step without a runbook: "+w.What, "runbook "+file)
	}
	want(len(p.Targets) > 0, "4-targets", "no targets", "targets "+file)
	want(len(p.Channels) > 0, "5-channels", "there is no channel on which customers are told", "expiry_notices.to.mail in bulkhead.yaml")
	want(p.PerHour > 0 && p.Accounts <= p.PerHour, "5-throughput", fmt.Sprintf("%d accounts are told in an hour, %d hold live certificates", p.PerHour, p.Accounts), "incident.capacity.notices in bulkhead.yaml, and a relay that takes as many")
	want(p.Reachable == p.Accounts, "5-stale", fmt.Sprintf("%d of %d accounts have no contact that works", p.Accounts-p.Reachable, p.Accounts), "bulkhead notice stale")
	want(len(p.Duties) > 0, "6-roles", "nobody is on call", "incident.on_call in bulkhead.yaml")
	for _, d := range p.Duties {
		want(d.Deputy != "", "6-roles", "role "+d.Role+" has no deputy", "incident.on_call in bulkhead.yaml")
		want(p.trained(d.Person), "7-training", d.Person+" ("+d.Role+") was not trained within a year", "training "+file)
	}
	want(len(p.Rehearsed) > 0 && p.fresh(p.Rehearsed[0].On), "8-rehearsal", "the plan was not rehearsed within a year", "bulkhead drill run mass-revocation, then rehearsals "+file)
	for _, r := range p.Rehearsed {
		want(r.Evidence != "", "8-rehearsal", "the rehearsal of "+date(r.On)+" has no evidence", "evidence "+file)
	}
	want(len(p.Reviews) > 0 && p.fresh(p.Reviews[0].On), "9-review", "the plan was not reviewed within a year", "reviews "+file)
	want(p.Next.After(p.At), "9-review", "the next review has no date, or it is past", "next_review "+file)
	return out
}

func (p MassPlan) fresh(t time.Time) bool { return !t.IsZero() && p.At.Sub(t) <= year }

func (p MassPlan) trained(who string) bool {
	for _, t := range p.Training {
		if t.Who == who && p.fresh(t.On) {
			return true
		}
	}
	return false
}

func date(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.DateOnly)
}

// Markdown writes the plan.
func (p MassPlan) Markdown() string { return markdown(p.blocks()) }

// HTML writes the plan as one page.
func (p MassPlan) HTML() string {
	l := "en"
	if p.Language == "ja" {
		l = "ja"
	}
	return page(l, p.Tr("Mass Revocation Plan", "大規模失効対応計画"), p.blocks())
}

// Tr is one of two words, by the language of the plan.
func (p MassPlan) Tr(en, ja string) string {
	if p.Language == "ja" {
		return ja
	}
	return en
}

func (p MassPlan) head(en, ja string) []string { return strings.Split(p.Tr(en, ja), "|") }

// rows is a table, or the word that there is none.
func (p MassPlan) rows(head []string, rows [][]string) block {
	if len(rows) == 0 {
		return paragraph(p.Tr("MISSING", "未記入"))
	}
	for _, r := range rows {
		for i, c := range r {
			if c == "" || c == "-" {
				r[i] = p.Tr("MISSING", "未記入")
			}
		}
	}
	return table{head, rows}
}

func (p MassPlan) blocks() []block {
	out := []block{heading{1, p.Tr("Mass Revocation Plan", "大規模失効対応計画") + ": " + p.House.Name},
		paragraph(fmt.Sprintf(p.Tr("BR 5.7.1.2. Generated %s from configuration, policy and records: %d certificates are live, %d of the largest issuing authority.",
			"BR 5.7.1.2 に基づく計画です。%s 時点の設定・規程・記録から生成しました。有効な証明書は %d 件、最大の発行局で %d 件です。"), minute(p.At), p.Live, p.Largest))}
	out = append(out, p.gapList()...)
	out = append(out, p.first()...)
	out = append(out, p.notification()...)
	return append(out, p.people()...)
}

// gapList stands first: a plan with a hole says so before anything else.
func (p MassPlan) gapList() []block {
	gaps := p.Check()
	h := heading{2, p.Tr("What is missing", "不足している事項")}
	if len(gaps) == 0 {
		return []block{h, paragraph(p.Tr("Nothing.", "ありません。"))}
	}
	var rows [][]string
	for _, g := range gaps {
		rows = append(rows, []string{g.Field, g.What, g.Command})
	}
	return []block{h, table{p.head("Element|What|Where to set it", "要素|内容|設定箇所"), rows}}
}

func (p MassPlan) first() []block {
	var criteria, contacts, steps, targets [][]string
	for _, c := range p.Criteria {
		criteria = append(criteria, []string{c.What, c.Threshold})
	}
	for _, c := range p.Contacts {
		contacts = append(contacts, []string{c.Name, c.Role, c.How, date(c.Verified)})
	}
	for _, w := range p.Automatic {
		steps = append(steps, []string{w.What, p.Tr("automatic", "自動"), w.How})
	}
	for _, w := range p.Manual {
		steps = append(steps, []string{w.What, p.Tr("by hand", "手動"), w.How})
	}
	for _, t := range p.Targets {
		targets = append(targets, []string{t.What, hours(t.Within), t.Source})
	}
	return []block{heading{2, p.Tr("1. Activation criteria", "1. 発動基準")}, p.rows(p.head("Criterion|Threshold", "基準|しきい値"), criteria),
		heading{2, p.Tr("2. Contacts", "2. 連絡先")}, p.rows(p.head("Name|Role|How|Last verified", "名称|役割|連絡方法|最終確認日"), contacts),
		heading{2, p.Tr("3. Automation points and manual points", "3. 自動化された工程と手動の工程")}, p.rows(p.head("Step|Kind|How", "工程|種別|方法・手順書"), steps),
		heading{2, p.Tr("4. Targets", "4. 目標時間")}, p.rows(p.head("What|Within|Source", "対象|目標|根拠"), targets)}
}

func hours(d time.Duration) string {
	switch {
	case d%(24*time.Hour) == 0 && d > 48*time.Hour:
		return fmt.Sprintf("%d d", d/(24*time.Hour))
	case d >= time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d min", d/time.Minute)
}

func (p MassPlan) notification() []block {
	var channels [][]string
	for _, c := range p.Channels {
		channels = append(channels, []string{c.Name, c.How})
	}
	l := items{{p.Tr("Accounts with live certificates", "有効な証明書を持つアカウント"), fmt.Sprint(p.Accounts)}, {p.Tr("With a contact that works", "連絡可能なアカウント"), fmt.Sprint(p.Reachable)},
		{p.Tr("Accounts told in an hour", "1 時間あたりの通知数"), fmt.Sprint(p.PerHour)}, {p.Tr("Everybody is told within", "全件通知の所要時間"), p.everybody()}}
	for _, k := range []string{"signatures", "validations"} {
		l = append(l, item{map[string]string{"signatures": p.Tr("Replacements in an hour", "1 時間あたりの再発行数"), "validations": p.Tr("Names validated in an hour", "1 時間あたりの名前検証数")}[k], fmt.Sprint(p.Measured[k])})
	}
	return []block{heading{2, p.Tr("5. Notification methods", "5. 通知方法")}, p.rows(p.head("Channel|How", "経路|方法"), channels), l}
}

func (p MassPlan) everybody() string {
	if p.PerHour <= 0 {
		return p.Tr("MISSING: incident.capacity.notices", "未記入: incident.capacity.notices")
	}
	return fmt.Sprintf("%d min", (p.Accounts*60+p.PerHour-1)/p.PerHour)
}

func (p MassPlan) people() []block {
	var duties, training, drills, reviews [][]string
	for _, d := range p.Duties {
		duties = append(duties, []string{d.Role, d.Person, d.Deputy})
	}
	for _, t := range p.Training {
		training = append(training, []string{t.Who, t.What, date(t.On)})
	}
	for _, r := range p.Rehearsed {
		drills = append(drills, []string{date(r.On), r.Scenario, r.Result, r.Evidence})
	}
	for _, r := range p.Reviews {
		reviews = append(reviews, []string{date(r.On), r.What, r.Author})
	}
	return []block{heading{2, p.Tr("6. Roles", "6. 役割分担")}, p.rows(p.head("Role|Person|Deputy", "役割|担当者|代理"), duties),
		heading{2, p.Tr("7. Training", "7. 訓練・教育")}, p.rows(p.head("Who|What|On", "対象者|内容|実施日"), training),
		heading{2, p.Tr("8. Yearly rehearsal", "8. 年次演習")}, paragraph(p.Tr("No active subscriber certificate is revoked by a rehearsal.", "演習により、利用中のお客様の証明書が失効することはありません。")),
		p.rows(p.head("On|Scenario|Result|Evidence", "実施日|シナリオ|結果|証拠"), drills),
		heading{2, p.Tr("9. Review", "9. 見直し")}, items{{p.Tr("Next review", "次回見直し"), or(date(p.Next), p.Tr("MISSING", "未記入"))}}, p.rows(p.head("On|What|By", "日付|内容|担当"), reviews)}
}

func or(text, otherwise string) string {
	if text == "-" || text == "" {
		return otherwise
	}
	return text
}

// Sort puts rehearsals and reviews newest first, whatever the order in which people wrote them down.
func (p *MassPlan) Sort() {
	slices.SortStableFunc(p.Rehearsed, func(a, b Rehearsal) int { return b.On.Compare(a.On) })
	slices.SortStableFunc(p.Reviews, func(a, b Review) int { return b.On.Compare(a.On) })
}
