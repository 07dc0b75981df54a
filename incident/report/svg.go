package report

import (
	"fmt"
	"html"
	"math"
	"strings"
	"time"
)

// drawing is a small writer of SVG: whole numbers, fixed order, no fonts of its own. The same data give the same octets.
type drawing struct {
	b    strings.Builder
	w, h int
}

func newDrawing(w, h int, title string) *drawing {
	d := &drawing{w: w, h: h}
	fmt.Fprintf(&d.b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" font-family="'Noto Sans CJK JP',IPAPGothic,'DejaVu Sans',sans-serif" font-size="12"><title>%s</title>`+"\n",
		w, h, w, h, html.EscapeString(title))
	return d
}

func (d *drawing) line(x1, y1, x2, y2 int, colour string, width int) {
	fmt.Fprintf(&d.b, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="%s" stroke-width="%d"/>`+"\n", x1, y1, x2, y2, colour, width)
}

func (d *drawing) dashed(x1, y1, x2, y2 int, colour string) {
	fmt.Fprintf(&d.b, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="%s" stroke-width="1" stroke-dasharray="4 3"/>`+"\n", x1, y1, x2, y2, colour)
}

func (d *drawing) circle(x, y, r int, colour string) {
	fmt.Fprintf(&d.b, `<circle cx="%d" cy="%d" r="%d" fill="%s"/>`+"\n", x, y, r, colour)
}

func (d *drawing) text(x, y int, anchor, colour, text string) {
	fmt.Fprintf(&d.b, `<text x="%d" y="%d" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, anchor, colour, html.EscapeString(text))
}

func (d *drawing) path(points [][2]int, colour string) {
	var p strings.Builder
	for i, q := range points {
		if i == 0 {
			fmt.Fprintf(&p, "M%d %d", q[0], q[1])
			continue
		}
		fmt.Fprintf(&p, " H%d V%d", q[0], q[1]) // a count changes at once, so the curve has steps
	}
	fmt.Fprintf(&d.b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", p.String(), colour)
}

func (d *drawing) end() string { return d.b.String() + "</svg>\n" }

const (
	ink, faint, blue, green, red = "#1b1f24", "#8b949e", "#1f4e79", "#2e7d32", "#b3261e"
	mostDrawn                    = 24 // lines of the timeline in the drawing; the table has all
)

// timelineSVG draws the moments that carry an element, and the deadlines, down one axis. Distances are equal: a day has
// minutes that matter beside weeks that do not.
func (d Document) timelineSVG() string {
	type mark struct {
		at     time.Time
		text   string
		colour string
	}
	var all []mark
	for _, m := range d.Timeline {
		if m.Element != "" {
			all = append(all, mark{m.At, d.element(m.Element), blue})
		}
	}
	for _, x := range d.Incident.Deadlines {
		if !x.Due.IsZero() {
			all = append(all, mark{x.Due, d.say("deadline") + ": " + x.Object + " (" + x.Source + ")", red})
		}
	}
	sortBy(all, func(m mark) time.Time { return m.at })
	left := len(all) - mostDrawn
	if left > 0 {
		all = all[:mostDrawn]
	}
	const row, top, axis = 26, 24, 190
	height := top + row*max(len(all), 1) + 12
	s := newDrawing(760, height, d.say("timeline"))
	s.line(axis, top-10, axis, height-14, faint, 2)
	for i, m := range all {
		y := top + row*i
		s.circle(axis, y, 5, m.colour)
		s.text(axis-14, y+4, "end", ink, minute(m.at))
		s.text(axis+14, y+4, "start", m.colour, shorten(m.text, 74))
	}
	return s.end()
}

// curveSVG draws how many certificates were replaced and revoked over time, against all of them and the deadline.
func (d Document) curveSVG() string {
	const width, height, l, r, top, bottom = 760, 300, 70, 20, 34, 46
	s := newDrawing(width, height, d.say("curve"))
	from, to := d.Incident.AwareAt, d.Incident.AwareAt
	for _, p := range d.Curve {
		if p.At.Before(from) {
			from = p.At
		}
		if p.At.After(to) {
			to = p.At
		}
	}
	due := d.due()
	if due.After(to) {
		to = due
	}
	if d.Tally.Live > 0 && d.At.After(to) {
		to = d.At // it goes on
	}
	span := max(to.Sub(from), time.Minute)
	most := niceTop(d.Tally.Total)
	x := func(t time.Time) int {
		return l + int(int64(width-l-r)*int64(t.Sub(from)/time.Second)/max(int64(span/time.Second), 1))
	}
	y := func(n int64) int {
		return height - bottom - int(math.Round(float64(n)/float64(most)*float64(height-top-bottom)))
	}
	for i := int64(0); i <= 4; i++ {
		n := most * i / 4
		s.line(l, y(n), width-r, y(n), "#e3e7eb", 1)
		s.text(l-8, y(n)+4, "end", ink, fmt.Sprint(n))
	}
	s.text(l, height-14, "start", ink, minute(from))
	s.text(width-r, height-14, "end", ink, minute(to))
	if !due.IsZero() {
		s.dashed(x(due), top, x(due), height-bottom, red)
		s.text(x(due)-6, height-bottom-8, "end", red, d.say("deadline"))
	}
	replaced, revoked := [][2]int{{x(from), y(0)}}, [][2]int{{x(from), y(0)}}
	for _, p := range d.Curve {
		replaced = append(replaced, [2]int{x(p.At), y(p.Replaced)})
		revoked = append(revoked, [2]int{x(p.At), y(p.Revoked)})
	}
	if n := len(d.Curve); n > 0 {
		replaced = append(replaced, [2]int{x(to), y(d.Curve[n-1].Replaced)})
		revoked = append(revoked, [2]int{x(to), y(d.Curve[n-1].Revoked)})
	}
	s.dashed(l, y(d.Tally.Total), width-r, y(d.Tally.Total), faint)
	s.path(replaced, green)
	s.path(revoked, blue)
	s.line(l, 16, l+24, 16, green, 3)
	s.text(l+30, 20, "start", ink, d.say("replaced"))
	s.line(l+130, 16, l+154, 16, blue, 3)
	s.text(l+160, 20, "start", ink, d.say("revoked"))
	return s.end()
}

// due is the earliest deadline to revoke.
func (d Document) due() time.Time {
	var out time.Time
	for _, x := range d.Incident.Deadlines {
		if x.Object != "report" && !x.Due.IsZero() && (out.IsZero() || x.Due.Before(out)) {
			out = x.Due
		}
	}
	return out
}

// niceTop is the end of an axis: the next of 4, 8, 20, 40, 80, 200 … so that quarters are whole.
func niceTop(n int64) int64 {
	for base := int64(1); ; base *= 10 {
		for _, m := range []int64{4, 8, 20} {
			if m*base >= n {
				return m * base
			}
		}
	}
}

func shorten(text string, most int) string {
	r := []rune(text)
	if len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return text
}
