package report

import (
	"fmt"
	"html"
	"strings"
)

// block is one piece of a page: the same pieces become Markdown and HTML, so that neither can say what the other does not.
type block interface {
	markdown(b *strings.Builder)
	html(b *strings.Builder)
}

type heading struct {
	level int
	text  string
}

func (h heading) markdown(b *strings.Builder) {
	fmt.Fprintf(b, "%s %s\n\n", strings.Repeat("#", h.level), h.text)
}

func (h heading) html(b *strings.Builder) {
	fmt.Fprintf(b, "<h%d>%s</h%d>\n", h.level, html.EscapeString(h.text), h.level)
}

// item is a line "name: value"; a value of several lines stands below its name.
type item struct{ name, value string }

func (i item) markdown(b *strings.Builder) {
	lines := strings.Split(strings.TrimSpace(i.value), "\n")
	if len(lines) == 1 {
		fmt.Fprintf(b, "- **%s:** %s\n", i.name, lines[0])
		return
	}
	fmt.Fprintf(b, "- **%s:**\n", i.name)
	for _, l := range lines {
		fmt.Fprintf(b, "  %s  \n", l)
	}
}

func (i item) html(b *strings.Builder) {
	class := ""
	if isGap(i.value) {
		class = ` class="gap"`
	}
	fmt.Fprintf(b, "<dt>%s</dt><dd%s>%s</dd>\n", html.EscapeString(i.name), class, lines(i.value))
}

func lines(text string) string {
	return strings.ReplaceAll(html.EscapeString(strings.TrimSpace(text)), "\n", "<br>")
}

// items is a list of them.
type items []item

func (l items) markdown(b *strings.Builder) {
	for _, i := range l {
		i.markdown(b)
	}
	b.WriteString("\n")
}

func (l items) html(b *strings.Builder) {
	b.WriteString("<dl>\n")
	for _, i := range l {
		i.html(b)
	}
	b.WriteString("</dl>\n")
}

type paragraph string

func (p paragraph) markdown(b *strings.Builder) { b.WriteString(string(p) + "\n\n") }
func (p paragraph) html(b *strings.Builder)     { b.WriteString("<p>" + lines(string(p)) + "</p>\n") }

type table struct {
	head []string
	rows [][]string
}

func (t table) markdown(b *strings.Builder) {
	row := func(cells []string) {
		b.WriteString("|")
		for _, c := range cells {
			c = strings.ReplaceAll(strings.ReplaceAll(strings.TrimSpace(c), "|", `\|`), "\n", "<br>")
			b.WriteString(" " + c + " |")
		}
		b.WriteString("\n")
	}
	row(t.head)
	b.WriteString("|" + strings.Repeat(" --- |", len(t.head)) + "\n")
	for _, r := range t.rows {
		row(r)
	}
	b.WriteString("\n")
}

func (t table) html(b *strings.Builder) {
	b.WriteString("<table><thead><tr>")
	for _, c := range t.head {
		b.WriteString("<th>" + html.EscapeString(c) + "</th>")
	}
	b.WriteString("</tr></thead><tbody>\n")
	for _, r := range t.rows {
		b.WriteString("<tr>")
		for _, c := range r {
			if isGap(c) {
				b.WriteString(`<td class="gap">` + lines(c) + "</td>")
			} else {
				b.WriteString("<td>" + lines(c) + "</td>")
			}
		}
		b.WriteString("</tr>\n")
	}
	b.WriteString("</tbody></table>\n")
}

// picture is a drawing; Markdown names its file, HTML has it inside.
type picture struct{ file, about, svg string }

func (p picture) markdown(b *strings.Builder) { fmt.Fprintf(b, "![%s](%s)\n\n", p.about, p.file) }
func (p picture) html(b *strings.Builder) {
	b.WriteString("<figure>" + p.svg + "<figcaption>" + html.EscapeString(p.about) + "</figcaption></figure>\n")
}

func markdown(blocks []block) string {
	var b strings.Builder
	for _, x := range blocks {
		x.markdown(&b)
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// style is for screens and A4 paper. It loads nothing.
const style = `@page{size:A4;margin:18mm 16mm 20mm}
body{font-family:"Noto Sans CJK JP","IPAPGothic","DejaVu Sans",sans-serif;font-size:10.5pt;line-height:1.55;color:#1b1f24;max-width:60em;margin:2em auto;padding:0 1em}
h1{font-size:19pt;line-height:1.25;margin:0 0 .3em;border-bottom:3px solid #1f4e79;padding-bottom:.25em}
h2{font-size:14pt;margin:1.5em 0 .4em;color:#1f4e79;break-after:avoid}
h3{font-size:11.5pt;margin:1.1em 0 .3em;break-after:avoid}
dl{display:grid;grid-template-columns:14em 1fr;gap:0;margin:.4em 0;border-top:1px solid #d5dbe1}
dt,dd{margin:0;padding:.35em .6em;border-bottom:1px solid #d5dbe1;break-inside:avoid;overflow-wrap:anywhere}
dt{font-weight:bold;background:#f4f6f8}
table{border-collapse:collapse;width:100%;margin:.5em 0;font-size:9pt}
thead{display:table-header-group}
tr{break-inside:avoid}
th,td{border:1px solid #c3cad1;padding:.3em .5em;text-align:left;vertical-align:top;overflow-wrap:anywhere}
th{background:#f4f6f8}
figure{margin:1em 0;break-inside:avoid}
figure svg{max-width:100%;height:auto}
figcaption{font-size:9pt;color:#4a525a}
.gap{background:#fdecea;color:#8a1c12;font-weight:bold}
html:lang(ja) :is(h1,h2,h3,dt,th){font-weight:500}
@media print{body{margin:0;padding:0;max-width:none}}
`

func page(language, title string, blocks []block) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<!DOCTYPE html>\n<html lang=%q>\n<head>\n<meta charset=\"utf-8\">\n<title>%s</title>\n<style>\n%s</style>\n</head>\n<body>\n", language, html.EscapeString(title), style)
	for _, x := range blocks {
		x.html(&b)
	}
	b.WriteString("</body>\n</html>\n")
	return b.String()
}
