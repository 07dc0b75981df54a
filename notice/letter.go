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
	d := letterData{House: l.House, Incident: l.Incident, Portal: l.Portal, Page: l.Page, Contact: l.Contact, Count: len(l.Items), Certificates: certificates(language, l.Items),
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

func certificates(language string, items []Item) string {
	var b strings.Builder
	for i, c := range items {
		if i == most {
			fmt.Fprintf(&b, texts[language].more+"\n", len(items)-most)
			break
		}
		fmt.Fprintf(&b, "  %s\n    %s %s, %s %s\n", strings.Join(c.Names, ", "), c.Issuer, c.Serial, texts[language].until, c.NotAfter.UTC().Format("2006-01-02 15:04 UTC"))
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
