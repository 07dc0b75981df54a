package notice

import (
	"embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/template"
	"time"

	"bulkhead"
)

//go:embed letters/*.txt
var letters embed.FS

// Days are the kinds of day for which there are letters.
var Days = []string{"key-compromise", "ca-incident", "status-incident", "delayed-revocation", "resolved"}

// Words is a text in each language.
type Words struct {
	EN string `json:"en"`
	JA string `json:"ja"`
}

// In is the text in a language.
func (w Words) In(language string) string {
	if language == "ja" {
		return w.JA
	}
	return w.EN
}

// Letter is a message of a step to one recipient.
type Letter struct {
	House, Incident       string
	Portal, Page, Contact string // addresses; "" leaves their words away
	Step                  bulkhead.NoticeStep
	Items                 []Item
	More                  int    // certificates that are not among the items
	Proof                 string // where the proof about the authorities' own keys is; "" claims nothing
}

type letterData struct {
	House, Incident, Portal, Page, Contact string
	What, Do, Until, Certificates, Keys    string
	Count                                  int
}

// Write makes subject and body of a letter in a language: en, ja, or both.
func (l Letter) Write(language string) (subject, body string, err error) {
	if language == "both" {
		var subjects, bodies []string
		for _, one := range []string{"ja", "en"} {
			s, b, err := l.Write(one)
			if err != nil {
				return "", "", err
			}
			subjects, bodies = append(subjects, s), append(bodies, b)
		}
		return strings.Join(subjects, " / "), strings.Join(bodies, "\n----\n\n"), nil
	}
	if language != "en" && language != "ja" || !slices.Contains(Days, l.Step.Day) {
		return "", "", bulkhead.Faultf(bulkhead.KindUsage, "there is no letter for %q in %q", l.Step.Day, language).WithHint("days: " + strings.Join(Days, ", ") + "; languages: en, ja, both")
	}
	text, err := letters.ReadFile("letters/" + l.Step.Day + "." + language + ".txt")
	if err != nil {
		return "", "", fmt.Errorf("notice: %w", err)
	}
	t, err := template.New("letter").Option("missingkey=error").Parse(string(text))
	if err != nil {
		return "", "", fmt.Errorf("notice: %w", err)
	}
	d := letterData{House: l.House, Incident: l.Incident, Portal: l.Portal, Page: l.Page, Contact: l.Contact, Count: len(l.Items) + l.More, Certificates: certificates(language, l.Items, l.More),
		Keys: keysWords(language, l.Proof), Until: until(language, l.Step.Until)}
	for _, x := range []struct {
		json string
		to   *string
	}{{l.Step.What, &d.What}, {l.Step.Do, &d.Do}} {
		var w Words
		if err := json.Unmarshal([]byte(x.json), &w); err != nil {
			return "", "", fmt.Errorf("notice: the words of step %s: %w", l.Step.Step, err)
		}
		*x.to = strings.TrimSpace(w.In(language))
	}
	var b strings.Builder
	if err := t.Execute(&b, d); err != nil {
		return "", "", fmt.Errorf("notice: %w", err)
	}
	subject, body, _ = strings.Cut(b.String(), "\n")
	return strings.TrimSpace(subject), body, nil
}

// until prints a time in UTC, and in Japan's time where Japanese is read.
func until(language string, t time.Time) string {
	if t.IsZero() {
		return map[string]string{"en": "(no date)", "ja": "(期限なし)"}[language]
	}
	if language == "ja" {
		return t.In(time.FixedZone("JST", 9*3600)).Format("2006年1月2日 15:04") + "(日本時間)"
	}
	return t.UTC().Format("2006-01-02 15:04 UTC")
}

// productWord is a product in the words of a language; "" for none.
func productWord(language, product string) string {
	w, known := map[string][2]string{"tls": {"TLS server certificate", "TLS サーバー証明書"}, "smime": {"S/MIME certificate", "S/MIME 証明書"}, "code-signing": {"code signing certificate", "コードサイニング証明書"},
		"client": {"client certificate", "クライアント証明書"}, "ca": {"certificate of an authority", "認証局証明書"}}[product]
	switch {
	case !known:
		return product
	case language == "ja":
		return w[1]
	}
	return w[0]
}

func certificates(language string, items []Item, more int) string {
	var b strings.Builder
	for i, c := range items {
		if i == most {
			more += len(items) - most
			break
		}
		product := productWord(language, c.Product)
		if product != "" {
			product += ", "
		}
		fmt.Fprintf(&b, "  %s\n    %s%s %s, %s %s\n", strings.Join(c.Names, ", "), product, c.Issuer, c.Serial, texts[language].until, c.NotAfter.UTC().Format("2006-01-02 15:04 UTC"))
		if c.Replace != nil {
			b.WriteString(replacement(language, *c.Replace))
		}
	}
	if more > 0 {
		fmt.Fprintf(&b, texts[language].more+"\n", more)
	}
	return b.String()
}

// replacement says of one certificate of a campaign when it is to be replaced, by which code, and when the old one goes.
func replacement(language string, r Replacement) string {
	w := map[string]struct{ order, window, now, revoked, elsewhere, code string }{
		"en": {"    order %s\n", "    replace it between %s and %s\n", "    replace it at once\n", "    the old one is revoked at %s at the latest\n", "    the old one has no date: its revocation is not in our hands alone; replace it all the same\n", "    code for a free reissue, good once: %s\n"},
		"ja": {"    注文番号 %s\n", "    再発行の期間 %s ~ %s\n", "    できるだけ早く再発行してください\n", "    以前の証明書の失効 遅くとも %s\n", "    以前の証明書の失効日時は未定です(弊社だけでは失効できません)。それでも再発行してください\n", "    無償再発行コード(1回限り) %s\n"},
	}[language]
	var b strings.Builder
	if r.Order != "" {
		fmt.Fprintf(&b, w.order, r.Order)
	}
	if r.From.IsZero() {
		b.WriteString(w.now)
	} else {
		fmt.Fprintf(&b, w.window, until(language, r.From), until(language, r.To))
	}
	if !r.Revoked.IsZero() {
		fmt.Fprintf(&b, w.revoked, until(language, r.Revoked))
	} else {
		b.WriteString(w.elsewhere)
	}
	if r.Code != "" {
		fmt.Fprintf(&b, w.code, r.Code)
	}
	if seen := strings.TrimSpace(r.Seen[language]); seen != "" {
		b.WriteString(map[string]string{"en": "    what we have seen of it:\n", "ja": "    弊社で確認した状況:\n"}[language])
		for line := range strings.SplitSeq(seen, "\n") {
			b.WriteString("      " + strings.TrimRight(line, " ") + "\n")
		}
	}
	return b.String()
}

// keysWords says of the authorities' own keys what a proof shows, and nothing without one.
func keysWords(language, proof string) string {
	if proof == "" {
		return map[string]string{"en": "We are still examining this, and say so as long as it is not shown.", "ja": "現在調査中です。確認ができ次第、お知らせいたします。"}[language]
	}
	return fmt.Sprintf(map[string]string{"en": "No, as far as the evidence shows that we publish: %s", "ja": "いいえ。公開している証拠のとおり、弊社認証局の鍵への影響は認められておりません: %s"}[language], proof)
}
