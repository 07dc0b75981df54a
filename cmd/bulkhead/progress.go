package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// progress is a bar on a terminal, with rate and time left, once something takes longer than two seconds. Elsewhere it is
// nothing.
type progress struct {
	w                io.Writer // nil for nothing
	what             string
	total, done, bad int
	began, drawn     time.Time
	shown            bool
}

// progressAfter is how long nothing is drawn, progressEvery how often it is at most.
const (
	progressAfter = 2 * time.Second
	progressEvery = 200 * time.Millisecond
)

func newProgress(w io.Writer, what string) *progress {
	f, ok := w.(*os.File)
	if !ok {
		return &progress{}
	}
	if st, err := f.Stat(); err != nil || st.Mode()&os.ModeCharDevice == 0 || os.Getenv("TERM") == "dumb" {
		return &progress{}
	}
	return &progress{w: w, what: what}
}

func (p *progress) start(total int) { p.total, p.began = total, time.Now() }

// step counts one, bad when it is worth counting apart.
func (p *progress) step(bad bool) {
	p.done++
	if bad {
		p.bad++
	}
	now := time.Now()
	if p.w == nil || now.Sub(p.began) < progressAfter || now.Sub(p.drawn) < progressEvery {
		return
	}
	p.drawn, p.shown = now, true
	fmt.Fprint(p.w, "\r\x1b[K"+p.line(now))
}

// line is the bar in words first.
func (p *progress) line(now time.Time) string {
	const width = 24
	full := width
	if p.total > 0 {
		full = min(width, width*p.done/p.total)
	}
	rate := float64(p.done) / now.Sub(p.began).Seconds()
	left := "unknown"
	if rate > 0 {
		left = time.Duration(float64(p.total-p.done) / rate * float64(time.Second)).Round(time.Second).String()
	}
	return fmt.Sprintf("%s [%s%s] %d of %d, %d vulnerable, %.0f a second, %s left", p.what, strings.Repeat("#", full), strings.Repeat(".", width-full),
		p.done, p.total, p.bad, rate, left)
}

func (p *progress) clear() {
	if p.shown {
		p.shown = false
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
