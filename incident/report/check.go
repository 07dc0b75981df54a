package report

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"bulkhead"
)

// Sources are the ways in which the guidelines say that an incident came to light.
var Sources = []string{"Self Reported", "Third Party Reported", "Audit"}

// ActionKinds and ActionStates are the words of the table of action items.
var (
	ActionKinds  = []string{"Prevent", "Mitigate", "Detect"}
	ActionStates = []string{"Ongoing", "Complete", "Delayed", "Canceled"}
)

var (
	plainFields  = []string{"description", "source", "policies", "heuristic", "timeline-summary", "issuance-why", "analysis", "other", "estimate", "remediation", "commitments", "related", "confidential-bug"}
	factorParts  = []string{"description", "timeline", "detection", "interaction", "method"}
	relatedParts = []string{"bug", "url", "opened", "relation"}
	actionParts  = []string{"text", "kind", "covers", "evaluation", "due", "status"}
	lessonKinds  = []string{"well", "not-well", "lucky", "additional"}
	numbered     = regexp.MustCompile(`^[1-9][0-9]{0,2}$`)
	ccadbID      = regexp.MustCompile(`^A[0-9]{6,}$`)
)

// FieldNames is the grammar of fields in words, for hints and pages.
func FieldNames() []string {
	return append(slices.Clone(plainFields), "factor.N."+strings.Join(factorParts, "|"), "related.N."+strings.Join(relatedParts, "|"),
		"action.N."+strings.Join(actionParts, "|"), "lesson."+strings.Join(lessonKinds, "|")+".N", "element.NAME")
}

// CheckField refuses a field that no report has, and a value that its template does not allow (KindUsage).
func CheckField(field, text string) error {
	if strings.TrimSpace(text) == "" {
		return bulkhead.Faultf(bulkhead.KindUsage, "%s would be empty; write N/A and why when it does not apply", field).WithHint("bulkhead incident set ID " + field + " TEXT")
	}
	if len(text) > 64<<10 {
		return bulkhead.Faultf(bulkhead.KindUsage, "%s has more than 65536 octets", field)
	}
	if !knownField(field) {
		return bulkhead.Faultf(bulkhead.KindUsage, "there is no field %q", field).WithHint("one of: " + strings.Join(FieldNames(), ", "))
	}
	oneOf := func(words []string) error {
		if !slices.Contains(words, text) {
			return bulkhead.Faultf(bulkhead.KindUsage, "%s is %q", field, text).WithHint("one of: " + strings.Join(words, ", "))
		}
		return nil
	}
	parts := strings.Split(field, ".")
	switch {
	case field == "source":
		return oneOf(Sources)
	case parts[0] == "action" && parts[2] == "kind":
		return oneOf(ActionKinds)
	case parts[0] == "action" && parts[2] == "status":
		return oneOf(ActionStates)
	case parts[0] == "action" && parts[2] == "due", parts[0] == "related" && len(parts) == 3 && parts[2] == "opened":
		if _, err := time.Parse(time.DateOnly, text); err != nil {
			return bulkhead.Faultf(bulkhead.KindUsage, "%s is %q, not a date", field, text).WithHint("YYYY-MM-DD")
		}
	}
	return nil
}

func knownField(field string) bool {
	if slices.Contains(plainFields, field) {
		return true
	}
	parts := strings.Split(field, ".")
	if len(parts) == 2 && parts[0] == "element" {
		return slices.ContainsFunc(Elements, func(e struct{ Name, EN, JA string }) bool { return e.Name == parts[1] })
	}
	if len(parts) != 3 {
		return false
	}
	switch parts[0] {
	case "factor":
		return numbered.MatchString(parts[1]) && slices.Contains(factorParts, parts[2])
	case "related":
		return numbered.MatchString(parts[1]) && slices.Contains(relatedParts, parts[2])
	case "action":
		return numbered.MatchString(parts[1]) && slices.Contains(actionParts, parts[2])
	case "lesson":
		return slices.Contains(lessonKinds, parts[1]) && numbered.MatchString(parts[2])
	}
	return false
}

// gaps collects what a report still lacks.
type gaps struct {
	d   Document
	all []Missing
}

func (g *gaps) add(field, what, command string) {
	g.all = append(g.all, Missing{field, what, command})
}

// human asks for a text that only people can write.
func (g *gaps) human(field, what string) {
	if g.d.text(field) == "" {
		g.add(field, what, g.set(field, "TEXT"))
	}
}

func (g *gaps) set(field, text string) string {
	return "bulkhead incident set " + g.d.Incident.ID + " " + field + " " + text
}

// computed asks a person to confirm what the record says, and again when the record says something else by now.
func (g *gaps) computed(field, what string) {
	value, _ := g.d.Computed(field)
	text := g.d.text(field)
	switch rest, yes := strings.CutPrefix(text, strings.TrimSpace(confirmed)); {
	case text == "" && value == "":
		g.add(field, what+": the record has no value for it", g.set(field, "TEXT"))
	case text == "":
		g.add(field, what+": computed, but nobody has confirmed it", g.set(field, "--confirm"))
	case yes && strings.TrimSpace(rest) != strings.TrimSpace(value):
		g.add(field, what+": the record says something else than when it was confirmed", g.set(field, "--confirm"))
	}
}

// Check lists every mandatory element that the report lacks, in the order of the template. An empty list is a report that
// may go out.
func Check(d Document) []Missing {
	g := &gaps{d: d}
	g.house()
	g.human("description", "what happened, in plain words")
	switch d.Kind {
	case Preliminary:
		g.computed("policies", "the policies that were not met, with version and section")
		g.human("source", "how it came to light: "+strings.Join(Sources, ", "))
		g.impact()
	case Full:
		g.full()
	case Delay:
		g.human("analysis", "why the revocation is delayed: factors, harm, what makes it exceptional")
		g.computed("estimate", "when the last certificate will be revoked")
		g.impact()
	case Closure:
		g.human("factor.1.description", "the root cause")
		g.human("remediation", "what was changed so that it does not happen again")
		g.human("commitments", "what the house promises beyond the action items, or N/A")
		g.actions()
		g.done()
	}
	return g.all
}

func (g *gaps) house() {
	if !ccadbID.MatchString(g.d.House.CCADB) {
		g.add("ccadb-id", "the CCADB's number of the CA owner, A and six digits or more", "set incident.ccadb_id in bulkhead.yaml")
	}
}

func (g *gaps) impact() {
	if len(g.d.Counts) == 0 {
		g.add("scope", "how many certificates are concerned: nobody has counted", "bulkhead incident scope "+g.d.Incident.ID+" --help")
	}
}

func (g *gaps) full() {
	g.computed("timeline-summary", "start, identification and end of the non-compliance")
	g.computed("policies", "the policies that were not met, with version and section")
	g.human("source", "how it came to light: "+strings.Join(Sources, ", "))
	g.impact()
	g.computed("heuristic", "the query with which others find the same certificates")
	g.human("issuance-why", "why issuance was stopped, or why not")
	if g.d.Incident.Kind == bulkhead.DelayedRevocation {
		g.human("analysis", "why the revocation is delayed: factors, harm, what makes it exceptional")
	}
	g.elements()
	if len(g.d.groups("related")) == 0 {
		g.human("related", "related incidents of the last two years, of all CAs; N/A and why when there are none")
	}
	for _, n := range g.d.groups("related") {
		for _, p := range relatedParts {
			g.human("related."+n+"."+p, "related incident "+n+": "+p)
		}
	}
	g.factors()
	for _, k := range lessonKinds[:3] {
		if len(g.d.groups("lesson."+k)) == 0 {
			g.human("lesson."+k+".1", "lessons learned, "+strings.ReplaceAll(k, "-", " ")+"; N/A and why when there is none")
		}
	}
	g.actions()
}

// elements asks for each of the twelve: by a line of the timeline, or by a word of a person why there is none.
func (g *gaps) elements() {
	for _, e := range Elements {
		if !slices.ContainsFunc(g.d.Timeline, func(m Moment) bool { return m.Element == e.Name }) && g.d.text("element."+e.Name) == "" {
			g.add("element."+e.Name, "timeline: "+e.EN+" is not there", "bulkhead incident note "+g.d.Incident.ID+" TEXT --element "+e.Name+"   or, when it does not apply: "+g.set("element."+e.Name, "\"N/A: why\""))
		}
	}
}

func (g *gaps) factors() {
	all := g.d.groups("factor")
	if len(all) == 0 {
		all = []string{"1"}
	}
	for _, n := range all {
		for _, p := range factorParts {
			what := map[string]string{"detection": "how it was detected and why it escaped", "interaction": "how it acted together with other factors", "method": "by which method it was found"}[p]
			if what == "" {
				what = p
			}
			g.human("factor."+n+"."+p, "contributing factor "+n+": "+what)
		}
	}
}

// actions asks for each part of each action item, and that together they cover every factor and everything that did not
// go well.
func (g *gaps) actions() {
	all := g.d.groups("action")
	if len(all) == 0 {
		all = []string{"1"}
	}
	covered := map[string]bool{}
	for _, n := range all {
		for _, p := range actionParts {
			g.human("action."+n+"."+p, "action item "+n+": "+p)
		}
		for _, c := range Covers(g.d.text("action." + n + ".covers")) {
			covered[c] = true
		}
	}
	need := g.d.groups("factor")
	for i := range need {
		need[i] = "factor." + need[i]
	}
	for _, n := range g.d.groups("lesson.not-well") {
		if !strings.HasPrefix(g.d.text("lesson.not-well."+n), "N/A") {
			need = append(need, "lesson.not-well."+n)
		}
	}
	for _, x := range need {
		if !covered[x] {
			g.add(x, "no action item covers "+x, g.set(fmt.Sprintf("action.%s.covers", all[len(all)-1]), "\""+strings.TrimLeft(g.d.text("action."+all[len(all)-1]+".covers")+", "+x, ", ")+"\""))
		}
	}
}

// Covers reads the list of what an action item covers: "factor.1, lesson.not-well.2".
func Covers(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' })
}

// done asks that everything promised is done, for a report that says so.
func (g *gaps) done() {
	for _, n := range g.d.groups("action") {
		if s := g.d.text("action." + n + ".status"); s != "" && s != "Complete" && s != "Canceled" {
			g.add("action."+n+".status", "action item "+n+" is "+s+"; a closure says that all are complete", g.set("action."+n+".status", "Complete"))
		}
	}
	if g.d.Tally.Live > 0 {
		g.add("revocations", count(g.d.Tally.Live, "certificate")+" neither revoked nor expired", "bulkhead campaign plan --incident "+g.d.Incident.ID)
	}
}
