// Package advice says what the holder of one server has to do on the day of CVE-2014-0160, with what is known of this server
// filled in: the five steps of the notices of April 2014, in their order, in Japanese and English.
//
// Invariant: pure; a step is called done only when it was seen to be done; what was not looked at is open. The order is the
// point: a new certificate on a server that leaks is worth nothing.
//
// Refuses: to call a server safe; to pass over the new key.
package advice

import (
	"html"
	"strconv"
	"strings"
	"time"

	"bulkhead"
)

// Language is "en" or "ja".
type Language string

// Languages.
const (
	English  Language = "en"
	Japanese Language = "ja"
)

// LanguageOf takes the first language of an Accept-Language header (RFC 9110 section 12.5.4) that there is; English when
// there is none.
func LanguageOf(header string) Language {
	for part := range strings.SplitSeq(header, ",") {
		tag, _, _ := strings.Cut(strings.TrimSpace(part), ";")
		primary, _, _ := strings.Cut(strings.ToLower(tag), "-")
		switch Language(primary) {
		case Japanese:
			return Japanese
		case English:
			return English
		}
	}
	return English
}

// State is what is known of one holder's server; zero values are "not known".
type State struct {
	Host    string
	Verdict bulkhead.Verdict
	Looked  time.Time

	OldKey     bulkhead.Hash // key of the certificate to replace
	ServedKey  bulkhead.Hash // key of the certificate that the server shows
	Vulnerable time.Time     // when the fault was last seen there
	Issued     time.Time     // notBefore of the certificate served
	Chain      []string      // what the chain rules say to this holder, by product and time of issue
	Ticket     bool          // the reissue is free of charge by a code
	Replaced   bool          // a replacement with another key was issued
	Installed  bool          // every node shows the replacement
	Stale      []string      // nodes that do not
	RevokeAt   time.Time     // when the old certificate is revoked
	Revoked    time.Time
}

// Done is how far a step is.
type Done string

// Done values.
const (
	Yes  Done = "done"
	No   Done = "to do"
	Open Done = "not known"
)

// Step is one of the five.
type Step struct {
	Number int    `json:"number"`
	Title  string `json:"title"`
	State  Done   `json:"state"`
	Text   string `json:"text"`
}

// Advice is what there is to do.
type Advice struct {
	Language Language `json:"language"`
	Headline string   `json:"headline"`
	Needed   bool     `json:"needed"` // something is to be done as far as it is known
	Steps    []Step   `json:"steps,omitempty"`
}

// For says what to do.
func For(s State, l Language) Advice {
	w := words[l]
	if w == nil {
		l, w = English, words[English]
	}
	a := Advice{Language: l, Needed: s.Verdict == bulkhead.Vulnerable || !s.OldKey.IsZero() || !s.Vulnerable.IsZero()}
	a.Headline = strings.ReplaceAll(w.headline[s.Verdict], "{host}", s.Host)
	if a.Headline == "" {
		a.Headline = w.unseen
	}
	if s.Verdict == bulkhead.NotSupported && !a.Needed {
		return a
	}
	for i, f := range []func(State, *vocabulary) (Done, string){patch, rekey, reissue, install, revoke} {
		done, text := f(s, w)
		a.Steps = append(a.Steps, Step{Number: i + 1, Title: w.titles[i], State: done, Text: text})
	}
	return a
}

func patch(s State, w *vocabulary) (Done, string) {
	switch s.Verdict {
	case bulkhead.Vulnerable:
		return No, w.patchNo
	case bulkhead.Patched, bulkhead.NotSupported:
		return Yes, w.patchYes
	}
	return Open, w.patchOpen
}

func rekey(s State, w *vocabulary) (Done, string) {
	switch {
	case s.Verdict == bulkhead.Vulnerable:
		return No, w.rekeyLeaking
	case !s.OldKey.IsZero() && s.OldKey == s.ServedKey:
		return No, w.rekeySame
	case !s.Vulnerable.IsZero() && !s.Issued.IsZero() && s.Issued.Before(s.Vulnerable):
		return No, w.rekeyEarly
	case !s.OldKey.IsZero() && !s.ServedKey.IsZero():
		return Yes, w.rekeyYes
	}
	return Open, w.rekeyOpen
}

func reissue(s State, w *vocabulary) (Done, string) {
	text, done := w.reissueOpen, Open
	switch {
	case s.Replaced:
		text, done = w.reissueYes, Yes
	case s.Verdict == bulkhead.Vulnerable || !s.OldKey.IsZero():
		text, done = w.reissueNo, No
	}
	if s.Ticket && !s.Replaced {
		text += w.sep + w.ticket
	}
	return done, text
}

func install(s State, w *vocabulary) (Done, string) {
	text, done := w.installOpen, Open
	switch {
	case len(s.Stale) > 0:
		text, done = w.installPart+strings.Join(s.Stale, w.comma)+w.stop, No
	case s.Installed:
		text, done = w.installYes, Yes
	case !s.OldKey.IsZero() && s.OldKey == s.ServedKey:
		text, done = w.installOld, No
	}
	for _, c := range s.Chain {
		text += w.sep + w.chain + w.chainRule(c)
	}
	return done, text
}

func revoke(s State, w *vocabulary) (Done, string) {
	switch {
	case !s.Revoked.IsZero():
		return Yes, w.revoked + s.Revoked.UTC().Format("2006-01-02 15:04 UTC") + w.stop
	case !s.RevokeAt.IsZero():
		return No, w.revokeAt + s.RevokeAt.UTC().Format("2006-01-02 15:04 UTC") + w.stop
	}
	return Open, w.revokeOpen
}

// Text is the advice as plain text.
func (a Advice) Text() string {
	var b strings.Builder
	b.WriteString(a.Headline + "\n")
	w := words[a.Language]
	for _, s := range a.Steps {
		b.WriteString("\n" + strconv.Itoa(s.Number) + ". " + s.Title + " [" + w.done[s.State] + "]\n   " + s.Text + "\n")
	}
	return b.String()
}

// Short is the steps for a letter: a line for each, and what to do only where it is to do.
func (a Advice) Short() string {
	var b strings.Builder
	w := words[a.Language]
	for _, s := range a.Steps {
		b.WriteString("[" + w.done[s.State] + "] " + strconv.Itoa(s.Number) + ". " + s.Title + "\n")
		if s.State == No {
			b.WriteString("    " + s.Text + "\n")
		}
	}
	if len(a.Steps) == 0 {
		b.WriteString(a.Headline + "\n")
	}
	return b.String()
}

// HTML is the advice as a fragment: a paragraph and an ordered list, everything in it escaped.
func (a Advice) HTML() string {
	var b strings.Builder
	w := words[a.Language]
	b.WriteString(`<p class="headline">` + html.EscapeString(a.Headline) + "</p>\n")
	if len(a.Steps) == 0 {
		return b.String()
	}
	b.WriteString("<ol class=\"steps\">\n")
	for _, s := range a.Steps {
		b.WriteString(`<li class="` + strings.ReplaceAll(string(s.State), " ", "-") + `"><strong>` + html.EscapeString(s.Title) + `</strong> <span class="state">` +
			html.EscapeString(w.done[s.State]) + "</span><br>" + html.EscapeString(s.Text) + "</li>\n")
	}
	b.WriteString("</ol>\n")
	return b.String()
}
