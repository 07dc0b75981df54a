package bulkhead

import (
	"net/netip"
	"time"
)

// LookBook is one of the histories of looks. What strangers had looked at is kept apart from what the house looked at, so
// that a public page tells strangers only what strangers found out.
type LookBook string

// Books of looks.
const (
	PublicLooks LookBook = "public" // by the public analyser
	HouseLooks  LookBook = "house"  // by campaigns, operators and the own-estate report
)

// LookFinding is something that a whole look found beside its verdict.
type LookFinding struct {
	Rule     string   `json:"rule"`
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`
}

// LookPlace is where one looked: what the history of an endpoint is kept by.
type LookPlace struct {
	Host     string         `json:"host"`
	Address  netip.AddrPort `json:"address"`
	STARTTLS STARTTLS       `json:"starttls,omitempty"`
}

// LookRecord is what looks at one endpoint showed, from the first to the last that showed the same.
type LookRecord struct {
	Seq int64 `json:"-"` // 0 while it is not kept
	LookPlace
	FirstAt     time.Time     `json:"first_at"`
	LastAt      time.Time     `json:"last_at"`
	Looks       int64         `json:"looks"` // how many showed it
	Verdict     Verdict       `json:"verdict"`
	Reason      LookReason    `json:"reason"`
	Detail      string        `json:"detail"`
	Fingerprint Hash          `json:"fingerprint,omitzero"` // of the certificate served; zero when none was seen
	Key         Hash          `json:"spki_sha256,omitzero"`
	Issued      time.Time     `json:"not_before,omitzero"`
	NotAfter    time.Time     `json:"not_after,omitzero"`
	Findings    []LookFinding `json:"findings,omitempty"`
	Changed     []string      `json:"changed,omitempty"` // against the record before; empty for the first
}
