package report

import (
	"slices"
	"strings"
	"time"
)

// words are the labels of a report. English ones are those of the CCADB's template, which readers search for.
var words = map[string][2]string{
	"preliminary": {"Preliminary Incident Report", "インシデント速報 (Preliminary Incident Report)"},
	"full":        {"Full Incident Report", "インシデント報告書 (Full Incident Report)"},
	"delay":       {"Delayed Revocation Report", "失効遅延報告書 (Delayed Revocation)"},
	"closure":     {"Report Closure Summary", "インシデント終結報告 (Report Closure Summary)"},

	"Summary": {"Summary", "概要"}, "Impact": {"Impact", "影響範囲"}, "Timeline": {"Timeline", "経緯"}, "Related": {"Related Incidents", "関連インシデント"},
	"RCA": {"Root Cause Analysis", "原因分析"}, "Lessons": {"Lessons Learned", "教訓"}, "Actions": {"Action Items", "再発防止策"}, "Appendix": {"Appendix", "付録"},
	"Delay": {"Revocation Status", "失効の状況"}, "Corrections": {"Impact Corrections", "影響範囲の訂正"}, "Evidence": {"Evidence", "証拠"}, "Scope": {"Statement of Scope", "影響がない範囲"},

	"ccadb": {"CA Owner CCADB unique ID", "CCADB 上の認証局運営者 ID"}, "description": {"Incident description", "インシデントの概要"},
	"summary": {"Timeline summary", "経緯の要約"}, "policies": {"Relevant policies", "関連する規程"}, "source": {"Source of incident disclosure", "発覚の経緯"},
	"total": {"Total number of certificates", "対象証明書の総数"}, "valid": {"Total number of \"remaining valid\" certificates", "現在も有効な証明書の数"},
	"types": {"Affected certificate types", "対象証明書の種別"}, "heuristic": {"Incident heuristic", "対象を特定する検索条件"},
	"stopped":  {"Was issuance stopped in response to this incident, and why or why not?", "発行停止の有無と理由"},
	"analysis": {"Analysis", "分析"}, "other": {"Additional considerations", "その他の考慮事項"},
	"known-impact": {"Known impact", "判明している影響"}, "contained": {"Contained or ongoing", "収束状況"},
	"ongoing": {"ongoing", "継続中"}, "contained-yes": {"contained", "収束"},
	"factor": {"Contributing Factor", "要因"}, "f-description": {"Description", "内容"}, "f-timeline": {"Timeline", "経緯"}, "f-detection": {"Detection", "検知と、検知できなかった理由"},
	"f-interaction": {"Interaction with other factors", "他の要因との関係"}, "f-method": {"Root Cause Analysis methodology used", "分析手法"},
	"l-well": {"What went well", "うまくいったこと"}, "l-not-well": {"What didn’t go well", "うまくいかなかったこと"}, "l-lucky": {"Where we got lucky", "幸運だったこと"}, "l-additional": {"Additional", "その他"},
	"revoked-n": {"Revoked", "失効済み"}, "not-revoked": {"Not yet revoked", "未失効"}, "expired": {"Planned for revocation, but expired", "失効予定だったが期限切れとなったもの"},
	"estimate": {"Estimated completion", "完了見込み"}, "held": {"On legal hold", "法的な保全により保留中"},
	"causes": {"Incident root cause(s)", "原因"}, "remediation": {"Remediation description", "是正の内容"}, "commitments": {"Commitment summary", "約束事項"},
	"timeline": {"Timeline of the incident (UTC)", "インシデントの経緯 (UTC)"}, "curve": {"Replaced and revoked certificates over time (UTC)", "証明書の再発行・失効の推移 (UTC)"},
	"deadline": {"deadline", "期限"}, "replaced": {"replaced", "再発行済み"}, "revoked": {"revoked", "失効済み"},
	"missing": {"MISSING", "未記入"}, "unconfirmed": {"(computed; not yet confirmed)", "(自動算出、未確認)"}, "changed": {"(MISSING confirmation: the record changed since)", "(未記入: 確認後に記録が変わりました)"},
	"no-line": {"no line in the timeline", "経緯に該当なし"}, "record": {"as the record has it at", "記録時点:"},
}

func (d Document) lang() int {
	if d.Language == "ja" {
		return 1
	}
	return 0
}

// say is a label in the language of the report.
func (d Document) say(key string) string { return words[key][d.lang()] }

func (d Document) element(name string) string {
	for _, e := range Elements {
		if e.Name == name {
			return [2]string{e.EN, e.JA}[d.lang()]
		}
	}
	return name
}

// isGap reports whether a text says that something is missing.
func isGap(text string) bool {
	return strings.Contains(text, words["missing"][0]) || strings.Contains(text, words["missing"][1])
}

func sortBy[T any](list []T, at func(T) time.Time) {
	slices.SortStableFunc(list, func(a, b T) int { return at(a).Compare(at(b)) })
}
