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

// StatusWord is what a source says of a certificate.
type StatusWord string

// Status words. Unavailable is everything that is no valid answer: it is never read as good.
const (
	StatusGood        StatusWord = "good"
	StatusRevoked     StatusWord = "revoked"
	StatusUnknown     StatusWord = "unknown"
	StatusUnavailable StatusWord = "unavailable"
)

// StatusSeen is what one source said of the certificate that a server shows, as a browser would judge it.
type StatusSeen struct {
	Via        string     `json:"via"`            // staple, ocsp or crl
	Tier       string     `json:"tier,omitempty"` // the cache it was fetched through; empty as the certificate says
	URL        string     `json:"url,omitempty"`
	State      StatusWord `json:"state"`
	Ours       bool       `json:"ours"` // an authority of this house answers for it
	ThisUpdate time.Time  `json:"this_update,omitzero"`
	NextUpdate time.Time  `json:"next_update,omitzero"`
	RevokedAt  time.Time  `json:"revoked_at,omitzero"`
	Detail     string     `json:"detail,omitempty"` // why there is no answer
}

// CAASeen is the CAA record set that holds for a name (RFC 8659 section 3).
type CAASeen struct {
	Name    string `json:"name"`              // that was asked for
	At      string `json:"at,omitempty"`      // where the records stand; empty when there are none up to the root
	Records string `json:"records,omitempty"` // as text
	Allows  string `json:"allows"`            // yes, no, or unknown: whether they let this house issue
	Detail  string `json:"detail"`
}

// EstateLook is what a look at the house's own endpoints showed: the gate before customers are told.
type EstateLook struct {
	At        time.Time `json:"at"`
	Endpoints int       `json:"endpoints"`            // that were looked at and serve
	NotServed []string  `json:"not_served,omitempty"` // own names at which nobody listens, or which do not exist: nothing to look at
	Wrong     []string  `json:"wrong,omitempty"`      // endpoint and what is wrong with it; empty is clean
}

// Clean reports whether customers may be told.
func (e EstateLook) Clean() bool { return len(e.Wrong) == 0 }
