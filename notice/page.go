package notice

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"html"
	"slices"
	"strings"
	"time"

	"bulkhead"
)

// Public is an incident as everybody may read it: its words, and no certificate or account of anybody.
type Public struct {
	Incident bulkhead.Incident
	Steps    []bulkhead.NoticeStep // oldest first
	Products []string              // of its certificates: tls, smime, code-signing, ca
}

// Site is whose page it is and where it lies.
type Site struct {
	House string
	Base  string // of the page, like https://ca.example/status; no slash at its end
}

var pageWords = map[string][2]string{
	"title": {"Status of %s", "%s の状況"}, "none": {"No incident is known.", "現在、お知らせするインシデントはありません。"}, "open": {"ongoing", "対応中"}, "closed": {"closed", "終結"},
	"until": {"until", "期限"}, "do": {"What to do", "対応方法"}, "concerned": {"Concerned", "対象"}, "feed": {"Feed (Atom)", "フィード (Atom)"}, "other": {"日本語", "English"},
	"key-compromise": {"Keys may be known to others", "秘密鍵の漏えいの可能性"}, "ca-incident": {"Error of the certificate authority", "認証局の不備"},
	"status-incident": {"Wrong status answers", "失効確認の障害"}, "delayed-revocation": {"Revocation takes place later", "失効日時の変更"}, "resolved": {"Resolved", "終結"},
}

func word(language, key string) string {
	if language == "ja" {
		return pageWords[key][1]
	}
	return pageWords[key][0]
}

// said is the words of a step in a language; the other one where it has none.
func said(text, language string) string {
	var w Words
	if json.Unmarshal([]byte(text), &w) != nil {
		return ""
	}
	if s := strings.TrimSpace(w.In(language)); s != "" {
		return s
	}
	return strings.TrimSpace(w.EN + w.JA)
}

// Page is the public status page: plain HTML without scripts, newest incident first. The same facts give the same octets.
func Page(language string, site Site, all []Public) []byte {
	var b strings.Builder
	e := html.EscapeString
	title, other, here := fmt.Sprintf(word(language, "title"), site.House), "/ja/", "/"
	if language == "ja" {
		other, here = "/", "/ja/"
	}
	fmt.Fprintf(&b, "<!DOCTYPE html>\n<html lang=%q>\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n<title>%s</title>\n<link rel=\"alternate\" type=\"application/atom+xml\" href=\"%s\">\n", language, e(title), e(site.Base+here+"feed.atom"))
	b.WriteString("<style>body{font-family:sans-serif;line-height:1.6;max-width:50em;margin:2em auto;padding:0 1em;color:#1b1f24}article{border-top:2px solid #1f4e79;margin:1.5em 0}section{margin:1em 0 1em 1em}time{color:#4a525a}</style>\n</head>\n<body>\n")
	fmt.Fprintf(&b, "<h1>%s</h1>\n<p><a href=\"%s\">%s</a> · <a href=\"%s\">%s</a></p>\n", e(title), e(site.Base+other), word(language, "other"), e(site.Base+here+"feed.atom"), word(language, "feed"))
	if len(all) == 0 {
		fmt.Fprintf(&b, "<p>%s</p>\n", word(language, "none"))
	}
	for _, p := range newest(all) {
		fmt.Fprintf(&b, "<article id=\"%s\">\n<h2>%s</h2>\n<p>%s</p>\n", e(p.Incident.ID), e(word(language, p.Steps[len(p.Steps)-1].Day)), word(language, string(p.Incident.State)))
		if len(p.Products) > 0 {
			fmt.Fprintf(&b, "<p><b>%s:</b> %s</p>\n", word(language, "concerned"), e(products(language, p.Products)))
		}
		for _, s := range slices.Backward(p.Steps) {
			fmt.Fprintf(&b, "<section id=\"%s-%s\">\n<h3><time datetime=\"%s\">%s</time> %s</h3>\n<p>%s</p>\n<p><b>%s:</b> %s</p>\n", e(p.Incident.ID), e(s.Step), s.At.UTC().Format(time.RFC3339), s.At.UTC().Format("2006-01-02 15:04 UTC"),
				e(word(language, s.Day)), paragraphs(said(s.What, language)), word(language, "do"), paragraphs(said(s.Do, language)))
			if !s.Until.IsZero() {
				fmt.Fprintf(&b, "<p><b>%s:</b> %s</p>\n", word(language, "until"), e(until(language, s.Until)))
			}
			b.WriteString("</section>\n")
		}
		b.WriteString("</article>\n")
	}
	b.WriteString("</body>\n</html>\n")
	return []byte(b.String())
}

func products(language string, all []string) string {
	var words []string
	for _, x := range all {
		words = append(words, productWord(language, x))
	}
	return strings.Join(words, ", ")
}

func paragraphs(text string) string {
	return strings.ReplaceAll(html.EscapeString(text), "\n", "<br>")
}

// newest sorts by the last step, newest first; incidents of which nobody was told are not public.
func newest(all []Public) []Public {
	out := slices.DeleteFunc(slices.Clone(all), func(p Public) bool { return len(p.Steps) == 0 })
	slices.SortStableFunc(out, func(a, b Public) int { return b.Steps[len(b.Steps)-1].At.Compare(a.Steps[len(a.Steps)-1].At) })
	return out
}

type atomLink struct {
	Rel  string `xml:"rel,attr,omitempty"`
	Href string `xml:"href,attr"`
}

type atomEntry struct {
	ID      string   `xml:"id"`
	Title   string   `xml:"title"`
	Updated string   `xml:"updated"`
	Link    atomLink `xml:"link"`
	Content struct {
		Type string `xml:"type,attr"`
		Text string `xml:",chardata"`
	} `xml:"content"`
}

type atomFeed struct {
	XMLName xml.Name    `xml:"http://www.w3.org/2005/Atom feed"`
	Lang    string      `xml:"xml:lang,attr"`
	ID      string      `xml:"id"`
	Title   string      `xml:"title"`
	Updated string      `xml:"updated"`
	Author  string      `xml:"author>name"`
	Links   []atomLink  `xml:"link"`
	Entries []atomEntry `xml:"entry"`
}

// Feed is the same as an Atom feed (RFC 4287), one entry for each step.
func Feed(language string, site Site, all []Public) ([]byte, error) {
	here := "/"
	if language == "ja" {
		here = "/ja/"
	}
	f := atomFeed{Lang: language, ID: site.Base + here, Title: fmt.Sprintf(word(language, "title"), site.House), Updated: time.Unix(0, 0).UTC().Format(time.RFC3339), Author: site.House,
		Links: []atomLink{{"self", site.Base + here + "feed.atom"}, {"", site.Base + here}}}
	type dated struct {
		bulkhead.NoticeStep
		of Public
	}
	var steps []dated
	for _, p := range all {
		for _, s := range p.Steps {
			steps = append(steps, dated{s, p})
		}
	}
	slices.SortStableFunc(steps, func(a, b dated) int { return b.At.Compare(a.At) })
	for _, s := range steps {
		link := site.Base + here + "#" + s.of.Incident.ID + "-" + s.Step
		e := atomEntry{ID: link, Title: word(language, s.Day), Updated: s.At.UTC().Format(time.RFC3339), Link: atomLink{Href: link}}
		e.Content.Type, e.Content.Text = "text", said(s.What, language)+"\n\n"+word(language, "do")+": "+said(s.Do, language)
		if len(s.of.Products) > 0 {
			e.Content.Text += "\n\n" + word(language, "concerned") + ": " + products(language, s.of.Products)
		}
		f.Entries = append(f.Entries, e)
	}
	if len(f.Entries) > 0 {
		f.Updated = f.Entries[0].Updated
	}
	p, err := xml.MarshalIndent(f, "", " ")
	if err != nil {
		return nil, fmt.Errorf("notice: %w", err)
	}
	return append([]byte(xml.Header), append(p, '\n')...), nil
}
