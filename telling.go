package bulkhead

import "time"

// IncidentField is what a person wrote for one field of an incident's report. The newest one counts; the older ones stay.
type IncidentField struct {
	Incident string
	Field    string
	Number   int // from 1
	Text     string
	Actor    string
	At       time.Time
	LogIndex int64 // of the leaf that has the digest of the text
}

// NoticeState is how far one message to one recipient has come.
type NoticeState string

// Notice states. A message in doubt was handed to the other side, whose answer is not known: it is not sent again by
// itself, because nobody shall be told twice, and it is listed, because nobody shall be forgotten.
const (
	NoticePlanned   NoticeState = "planned"
	NoticeSending   NoticeState = "sending" // claimed; found so after a restart it is in doubt
	NoticeSent      NoticeState = "sent"
	NoticeInDoubt   NoticeState = "in-doubt"
	NoticeBounced   NoticeState = "bounced"    // refused for good, at once or by a report that came back
	NoticeNoContact NoticeState = "no-contact" // the account has nothing that a message could be sent to
	NoticeNotNeeded NoticeState = "not-needed" // of a campaign: nothing was left to tell when its turn came
)

var noticeMoves = map[NoticeState][]NoticeState{
	NoticePlanned:   {NoticeSending, NoticeNotNeeded},
	NoticeSending:   {NoticePlanned, NoticeSent, NoticeInDoubt, NoticeBounced},
	NoticeSent:      {NoticeBounced},
	NoticeInDoubt:   {NoticePlanned, NoticeSent, NoticeBounced}, // a person decides
	NoticeBounced:   {},
	NoticeNoContact: {},
	NoticeNotNeeded: {},
}

// Open reports whether the message is still on its way.
func (s NoticeState) Open() bool { return s == NoticePlanned || s == NoticeSending }

// CanMove reports whether a message may go from state s to t.
func (s NoticeState) CanMove(t NoticeState) bool {
	for _, x := range noticeMoves[s] {
		if x == t {
			return true
		}
	}
	return false
}

// NoticeStep is one time at which everybody concerned is told: the same incident and step tell nobody twice.
type NoticeStep struct {
	Incident string
	Step     string // of letters, digits and hyphens
	Day      string // which templates: key-compromise, ca-incident, status-incident, delayed-revocation, resolved
	What     string // what happened, in words of the house; by language: "en" and "ja" are members of the JSON object
	Do       string // what to do, likewise
	Until    time.Time
	Actor    string
	At       time.Time
	LogIndex int64
}

// IncidentNotice is one message of a step to one recipient.
type IncidentNotice struct {
	Seq       int64
	Incident  string
	Step      string
	Channel   NoticeChannel
	Recipient string // "" for nobody
	Account   string // whose certificates it names; "" for those of a partner's accounts
	Partner   string // the registration partner that is told of its own customers; "" for an account
	Language  string
	Items     int64 // certificates when it was planned
	MessageID string
	State     NoticeState
	Tries     int
	MovedAt   time.Time
	Problem   string
}

// NoticeCount is how many messages of a step are in a state.
type NoticeCount struct {
	Step    string
	Channel NoticeChannel
	State   NoticeState
	N       int64
}

// NoticeAccount is an account with certificates in an incident.
type NoticeAccount struct {
	Account
	Items int64 // its certificates in the incident, live ones
}

// IncidentReport is a report as it stands: the same document in three forms, and what it still lacks.
type IncidentReport struct {
	Incident string            `json:"incident"`
	Kind     string            `json:"kind"`
	Language string            `json:"language"`
	At       time.Time         `json:"at"`
	Markdown string            `json:"markdown"`
	HTML     string            `json:"html"`
	Pictures map[string]string `json:"pictures"` // SVG by file name
	Rows     int64             `json:"rows"`     // of the appendix
	Missing  []ReportGap       `json:"missing"`  // empty: it may go out
}

// ReportGap is a mandatory element that a report lacks.
type ReportGap struct {
	Field   string `json:"field"`
	What    string `json:"what"`
	Command string `json:"command"` // that closes it
}

// ReportRequest says which report is wanted.
type ReportRequest struct {
	Kind      string // preliminary, full, delay or closure; "" is full
	Language  string // en or ja; "" is en
	ProofPath string // document of "audit prove", "" for none
	Proof     Hash   // its SHA-256
}

// AppendixPage is some rows of the appendix of certificates.
type AppendixPage struct {
	Columns []string   `json:"columns"`
	Rows    [][]string `json:"rows"`
	Next    int64      `json:"next"` // after of the next page; 0 at the end
}

// Announcement is what shall be told in a step of an incident, in each language that goes out.
type Announcement struct {
	Incident       string
	Step           string
	Day            string // which letters
	WhatEN, WhatJA string // what happened
	DoEN, DoJA     string // what to do
	Until          time.Time
}

// LetterItem is one certificate of an account in a campaign, as its letter shows it.
type LetterItem struct {
	CertificateRef
	Name        string // first of the certificate
	OrderID     string
	Product     string // tls, smime, code-signing, ca
	NotAfter    time.Time
	WindowStart time.Time // in which it is to be replaced; zero: at once
	WindowEnd   time.Time
	RevokeAt    time.Time
	Code        string // for one free reissue; "" without one
	// Seen is the steps by language, with what was seen at its names filled in; nil where nothing was.
	Seen map[string]string
}
