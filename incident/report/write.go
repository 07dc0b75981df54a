package report

import (
	"fmt"
	"sort"
	"strings"

	"bulkhead"
)

// Closing is the sentence with which a closure summary ends; the guidelines fix its words.
const Closing = "All Action Items disclosed in this report have been completed as described, and we request its closure."

// Markdown writes the report as the CCADB's template has it, for Bugzilla.
func Markdown(d Document) string { return markdown(d.blocks()) }

// HTML writes the report as one page without scripts, with its drawings inside.
func HTML(d Document) string {
	return page(d.language(), d.say(string(d.Kind))+": "+d.Incident.Title, d.blocks())
}

func (d Document) language() string {
	if d.Language == "ja" {
		return "ja"
	}
	return "en"
}

// Pictures are the drawings that the Markdown names, by file name.
func Pictures(d Document) map[string]string {
	if d.Kind == Closure {
		return nil
	}
	return map[string]string{"timeline.svg": d.timelineSVG(), "replacement.svg": d.curveSVG()}
}

func (d Document) blocks() []block {
	out := []block{heading{1, d.say(string(d.Kind)) + ": " + d.Incident.Title},
		paragraph(fmt.Sprintf("%s, %s %s, %s %s", d.House.Name, "incident", d.Incident.ID, d.say("record"), minute(d.At)))}
	switch d.Kind {
	case Preliminary:
		out = append(out, d.preliminary()...)
	case Full:
		out = append(out, d.full()...)
	case Delay:
		out = append(out, d.delay()...)
	case Closure:
		out = append(out, d.closure()...)
	}
	if d.Kind != Closure {
		out = append(out, d.scope()...)
	}
	return append(out, d.evidence()...)
}

// people prints what a person wrote, with its leaf, or that nobody did.
func (d Document) people(field string) string {
	t := d.Fields[field]
	if strings.TrimSpace(t.Text) == "" {
		return fmt.Sprintf("%s (bulkhead incident set %s %s TEXT)", d.say("missing"), d.Incident.ID, field)
	}
	return strings.TrimSpace(t.Text)
}

// optional prints N/A where nobody wrote anything and nobody has to.
func (d Document) optional(field string) string {
	if d.text(field) == "" {
		return "N/A"
	}
	return d.text(field)
}

// confirmedOr prints a computed value and whether a person stands behind it; a text of a person's own stands before it.
func (d Document) confirmedOr(field string) string {
	value, _ := d.Computed(field)
	text := d.text(field)
	switch rest, yes := strings.CutPrefix(text, strings.TrimSpace(confirmed)); {
	case text == "" && value == "":
		return d.people(field)
	case text == "":
		return value + "\n" + d.say("unconfirmed")
	case yes && strings.TrimSpace(rest) == strings.TrimSpace(value):
		return value + leaf(d.Fields[field].LogIndex)
	case yes:
		return value + "\n" + d.say("changed")
	}
	return text + leaf(d.Fields[field].LogIndex)
}

// leaf names the evidence of a figure.
func leaf(index int64) string {
	if index < 0 {
		return ""
	}
	return fmt.Sprintf(" [leaf %d]", index)
}

func (d Document) head() items {
	id := d.House.CCADB
	if id == "" {
		id = d.say("missing") + " (incident.ccadb_id in bulkhead.yaml)"
	}
	return items{{d.say("ccadb"), id}, {d.say("description"), d.people("description")}}
}

func (d Document) preliminary() []block {
	l := append(d.head(), item{d.say("policies"), d.confirmedOr("policies")}, item{d.say("source"), d.people("source")})
	state := d.say("contained-yes")
	if d.Ongoing() {
		state = d.say("ongoing")
	}
	return []block{heading{2, d.say("Summary")}, append(l, item{d.say("known-impact"), d.totals()}, item{d.say("contained"), state + d.stopWords()})}
}

// totals is the size of the incident, from its newest count.
func (d Document) totals() string {
	if len(d.Counts) == 0 {
		return d.say("missing") + " (bulkhead incident scope " + d.Incident.ID + ")"
	}
	c := d.Counts[len(d.Counts)-1]
	return fmt.Sprintf("%d (SHA-256 of the set %s)%s", c.Items, c.Digest, leaf(c.LogIndex))
}

func (d Document) stopWords() string {
	if d.Stop == nil {
		return ""
	}
	return "; " + d.stopped()
}

func (d Document) stopped() string {
	if d.Stop == nil {
		return "No"
	}
	text := "Yes, " + minute(d.Stop.StoppedAt) + leaf(d.Stop.LogIndex) + " (" + d.Stop.What + ")"
	if !d.Stop.ResumedAt.IsZero() {
		text += ", resumed " + minute(d.Stop.ResumedAt)
	}
	return text
}

func (d Document) full() []block {
	out := []block{heading{2, d.say("Summary")},
		append(d.head(), item{d.say("summary"), d.confirmedOr("timeline-summary")}, item{d.say("policies"), d.confirmedOr("policies")}, item{d.say("source"), d.people("source")}),
		heading{2, d.say("Impact")}, d.impact()}
	out = append(out, d.corrections()...)
	out = append(out, heading{2, d.say("Timeline")}, picture{"timeline.svg", d.say("timeline"), d.timelineSVG()}, d.moments())
	out = append(out, picture{"replacement.svg", d.say("curve"), d.curveSVG()})
	out = append(out, heading{2, d.say("Related")}, d.related(), heading{2, d.say("RCA")})
	out = append(out, d.factors()...)
	out = append(out, heading{2, d.say("Lessons")}, d.lessons(), heading{2, d.say("Actions")}, d.actions(), heading{2, d.say("Appendix")}, d.appendix())
	return out
}

func (d Document) impact() items {
	analysis := d.optional("analysis")
	if d.Incident.Kind == bulkhead.DelayedRevocation {
		analysis = d.people("analysis")
	}
	return items{{d.say("total"), d.totals()}, {d.say("valid"), fmt.Sprintf("%d (%s %s)", d.Tally.Live, d.say("record"), minute(d.At))}, {d.say("types"), d.types()},
		{d.say("heuristic"), d.confirmedOr("heuristic")}, {d.say("stopped"), d.stopped() + "\n" + d.people("issuance-why")},
		{d.say("analysis"), analysis}, {d.say("other"), d.optional("other")}}
}

func (d Document) types() string {
	var out []string
	for _, t := range []string{"DV", "IV", "OV", "EV", "other"} {
		out = append(out, fmt.Sprintf("%s: %d", t, d.Types[t]))
	}
	return strings.Join(out, ", ")
}

// corrections prints every later count that differs: old, new, when, why.
func (d Document) corrections() []block {
	out := []block{heading{3, d.say("Corrections")}}
	if len(d.Counts) < 2 {
		return append(out, paragraph("N/A"))
	}
	t := table{head: d.columns("Old|New|Found (UTC)|Why|Evidence", "訂正前|訂正後|判明日時 (UTC)|理由|証拠")}
	for i, c := range d.Counts[1:] {
		t.rows = append(t.rows, []string{fmt.Sprint(d.Counts[i].Items), fmt.Sprint(c.Items), minute(c.At), c.Why, strings.TrimSpace(leaf(c.LogIndex))})
	}
	return append(out, t)
}

func (d Document) columns(en, ja string) []string {
	return strings.Split([2]string{en, ja}[d.lang()], "|")
}

// moments is the table of the timeline, and after it the expected elements that have no line.
func (d Document) moments() table {
	t := table{head: d.columns("UTC|Event|Element|Evidence", "日時 (UTC)|事象|項目|証拠")}
	seen := map[string]bool{}
	all := append([]Moment(nil), d.Timeline...)
	sort.SliceStable(all, func(i, j int) bool { return all[i].At.Before(all[j].At) })
	for _, m := range all {
		seen[m.Element] = true
		element := ""
		if m.Element != "" {
			element = d.element(m.Element)
		}
		t.rows = append(t.rows, []string{strings.TrimSuffix(minute(m.At), " UTC"), m.What, element, strings.TrimSpace(leaf(m.LogIndex))})
	}
	for _, e := range Elements {
		if seen[e.Name] {
			continue
		}
		why := d.text("element." + e.Name)
		if why == "" {
			why = d.say("missing") + ": " + d.say("no-line")
		}
		t.rows = append(t.rows, []string{"N/A", why, d.element(e.Name), ""})
	}
	return t
}

func (d Document) related() block {
	numbers := d.groups("related")
	if len(numbers) == 0 {
		return paragraph(d.people("related"))
	}
	t := table{head: d.columns("Bug|URL|Opened|Relation", "番号|URL|起票日|関係")}
	for _, n := range numbers {
		var row []string
		for _, p := range relatedParts {
			row = append(row, d.people("related."+n+"."+p))
		}
		t.rows = append(t.rows, row)
	}
	return t
}

func (d Document) factors() (out []block) {
	numbers := d.groups("factor")
	if len(numbers) == 0 {
		numbers = []string{"1"}
	}
	for _, n := range numbers {
		l := items{}
		for _, p := range factorParts {
			l = append(l, item{d.say("f-" + p), d.people("factor." + n + "." + p)})
		}
		out = append(out, heading{3, d.say("factor") + " #" + n}, l)
	}
	return out
}

func (d Document) lessons() items {
	var out items
	for _, k := range lessonKinds {
		var lines []string
		for _, n := range d.groups("lesson." + k) {
			lines = append(lines, n+". "+d.text("lesson."+k+"."+n))
		}
		if len(lines) == 0 && k == "additional" {
			lines = []string{"N/A"}
		} else if len(lines) == 0 {
			lines = []string{d.people("lesson." + k + ".1")}
		}
		out = append(out, item{d.say("l-" + k), strings.Join(lines, "\n")})
	}
	return out
}

func (d Document) actions() table {
	t := table{head: d.columns("Action Item|Kind|Corresponding Root Cause(s)|Evaluation Criteria|Due Date|Status", "対策|種別|対応する原因|評価基準|期日|状況")}
	numbers := d.groups("action")
	if len(numbers) == 0 {
		numbers = []string{"1"}
	}
	for _, n := range numbers {
		var row []string
		for _, p := range actionParts {
			row = append(row, d.people("action."+n+"."+p))
		}
		t.rows = append(t.rows, row)
	}
	return t
}

func (d Document) appendix() paragraph {
	if d.Rows == 0 {
		return paragraph("N/A: " + d.totals())
	}
	if d.Rows >= ListAt {
		return paragraph(fmt.Sprintf("%d certificates: fingerprints.txt has the SHA-256 of each, one a line; certificates.csv has the %d columns.", d.Rows, len(Columns)))
	}
	return paragraph(fmt.Sprintf("%d certificates: certificates.csv, %d columns (%s).", d.Rows, len(Columns), strings.Join(Columns, "; ")))
}

func (d Document) delay() []block {
	l := append(d.head(), item{d.say("revoked-n"), fmt.Sprint(d.Tally.Revoked)}, item{d.say("not-revoked"), fmt.Sprint(d.Tally.Live)}, item{d.say("expired"), fmt.Sprint(d.Tally.Expired)},
		item{d.say("held"), fmt.Sprint(d.Tally.Held)}, item{d.say("estimate"), d.confirmedOr("estimate")}, item{d.say("analysis"), d.people("analysis")}, item{d.say("policies"), d.policies()})
	out := []block{heading{2, d.say("Delay")}, l}
	out = append(out, d.corrections()...)
	return append(out, picture{"replacement.svg", d.say("curve"), d.curveSVG()}, heading{2, d.say("Timeline")}, picture{"timeline.svg", d.say("timeline"), d.timelineSVG()}, d.moments())
}

func (d Document) closure() []block {
	var causes []string
	for _, n := range d.groups("factor") {
		causes = append(causes, n+". "+d.people("factor."+n+".description"))
	}
	if len(causes) == 0 {
		causes = []string{d.people("factor.1.description")}
	}
	closing := Closing
	g := &gaps{d: d}
	g.actions()
	g.done()
	if len(g.all) > 0 {
		closing = d.say("missing") + ": " + g.all[0].What
	}
	return []block{heading{2, d.say("Summary")}, append(d.head(), item{d.say("causes"), strings.Join(causes, "\n")}, item{d.say("remediation"), d.people("remediation")},
		item{d.say("commitments"), d.people("commitments")}), heading{2, d.say("Actions")}, d.actions(), paragraph(closing)}
}

// scope says what the incident does not touch, and only as far as a proof goes.
func (d Document) scope() []block {
	text := [2]string{"The authorities' own keys: no proof is attached, so nothing is claimed about them. Make one with \"bulkhead audit prove\" and attach it with --proof FILE.",
		"認証局自身の鍵について: 証明書類が添付されていないため、影響の有無は述べません。「bulkhead audit prove」で作成し、--proof FILE で添付してください。"}[d.lang()]
	if d.Proof != nil {
		text = fmt.Sprintf([2]string{"The authorities' own keys have no part in this incident as far as the attached proof shows: %s (SHA-256 %s).",
			"添付の証明書類が示す範囲で、認証局自身の鍵は本インシデントに関係しません: %s (SHA-256 %s)。"}[d.lang()], d.Proof.Path, d.Proof.Digest)
	}
	out := []block{heading{2, d.say("Scope")}, paragraph(text)}
	if len(d.Keys) == 0 {
		return out
	}
	t := table{head: d.columns("Key|Online|Where|Who has it", "鍵|オンライン|所在|保管者")}
	for _, k := range d.Keys {
		online := [2]string{"no", "いいえ"}
		if k.Online {
			online = [2]string{"yes", "はい"}
		}
		t.rows = append(t.rows, []string{k.Use, online[d.lang()], k.Where, k.Custodian})
	}
	return append(out, t)
}

// evidence says how a stranger checks the leaves that the report names.
func (d Document) evidence() []block {
	text := [2]string{"Each figure names the leaf of the evidence log %s that proves it. With a copy of the log and its public key: bulkhead-verify leaf --log DIR --key FILE --index N",
		"各数値には、それを裏付ける証拠ログ %s の葉番号 (leaf) を記しています。ログの写しと公開鍵があれば検証できます: bulkhead-verify leaf --log DIR --key FILE --index N"}[d.lang()]
	out := []block{heading{2, d.say("Evidence")}, paragraph(fmt.Sprintf(text, d.House.Origin))}
	var names []string
	for name := range d.Fields {
		names = append(names, name)
	}
	sort.Strings(names)
	if len(names) == 0 {
		return out
	}
	t := table{head: d.columns("Field|Set by|At (UTC)|Evidence", "項目|記入者|日時 (UTC)|証拠")}
	for _, n := range names {
		f := d.Fields[n]
		t.rows = append(t.rows, []string{n, f.Actor, strings.TrimSuffix(minute(f.At), " UTC"), strings.TrimSpace(leaf(f.LogIndex))})
	}
	return append(out, t)
}
