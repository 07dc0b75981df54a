package proof

import (
	"time"

	"bulkhead"
)

// Rules of findings that are this package's own; those of the log, of what is published and of CT keep theirs behind
// "evidence/", "published/" and "ct".
const (
	RuleRogue          = "certificate-not-in-log"      // signed by our key, brought from outside, and no leaf speaks of it
	RuleSeen           = "seen/certificate-not-in-log" // the same, met in a transparency log or on the wire (D2)
	RuleRowWithoutLeaf = "row-without-leaf"            // a certificate in the record that the log does not know
	RuleRowRemoved     = "row-removed"                 // a certificate in the log that the record does not know
	RuleRowDiffers     = "row-differs"                 // row and leaves speak of different things
	RuleNoOutcome      = "row-without-outcome"         // issued by its row, not by the log
	RuleNotIssued      = "outcome-without-row"         // signed by the log, not by its row
	RuleOtherBytes     = "certificate-differs"         // the stored certificate is not the one that was signed
	RuleCounterAhead   = "counter-ahead"               // the key was used more often than leaves explain
	RuleCounterBehind  = "counter-behind"              // the leaves speak of more than the key was used for
	RuleCounterMissing = "counter-missing"             // leaves of a key whose counter is gone
	RuleHardware       = "hardware-counter-ahead"      // the device's own counter is above the intents
	RuleUnchecked      = "issued-without-caa-record"   // an order's certificate without a CAA check before it
	RuleUnfounded      = "issued-without-validation"   // an order's certificate without account, or a validation of each name that counted then
)

// Finding is one thing that does not reconcile.
type Finding struct {
	Rule     string               `json:"rule"`
	Negative string               `json:"negative"` // the negative that it contradicts
	Issuer   bulkhead.AuthorityID `json:"issuer,omitempty"`
	Serial   string               `json:"serial,omitempty"`
	SHA256   bulkhead.Hash        `json:"sha256,omitzero"`
	Key      bulkhead.Hash        `json:"key,omitzero"`
	Leaf     *int64               `json:"leaf,omitempty"` // its number in the log, from 0
	Source   string               `json:"source,omitempty"`
	Message  string               `json:"message"`
}

// Lead is what asks for a person and proves nothing by itself: anybody may cause it.
type Lead struct {
	Detector string    `json:"detector"`
	Message  string    `json:"message"`
	At       time.Time `json:"at"`
	Count    int64     `json:"count"`
}

// KeyReport counts the signatures of one key.
type KeyReport struct {
	Key          bulkhead.Hash        `json:"key"` // SHA-256 of the SPKI
	Role         string               `json:"role"`
	Authority    bulkhead.AuthorityID `json:"authority,omitempty"`
	Announced    int64                `json:"announced"`
	Made         int64                `json:"made"`
	Certificates int64                `json:"certificates"`
	FirstLeaf    int64                `json:"first_leaf"`
	LastLeaf     int64                `json:"last_leaf"`
	Counter      *CounterReport       `json:"counter,omitempty"`
	Hardware     *int64               `json:"hardware_counter,omitempty"`
}

// CounterReport is the counter beside the leaves, which says the same or is a finding.
type CounterReport struct {
	Announced int64 `json:"announced"`
	Made      int64 `json:"made"`
	SinceLeaf int64 `json:"since_leaf"`
}

// Checkpoint is the signed head that the report rests on.
type Checkpoint struct {
	Origin string        `json:"origin"`
	Size   int64         `json:"size"`
	Root   bulkhead.Hash `json:"root"`
}

// Witnessed is the newest checkpoint that outside witnesses cosigned.
type Witnessed struct {
	Quorum string        `json:"quorum"` // "2 of 3"
	Size   int64         `json:"size"`   // leaves; 0 while there is none
	Root   bulkhead.Hash `json:"root,omitzero"`
	By     []WitnessedBy `json:"by"`
}

// WitnessedBy is one cosignature.
type WitnessedBy struct {
	Witness string    `json:"witness"`
	At      time.Time `json:"at"`
}

// CTLog is how far a transparency log was read; Size 0 for one that was not yet.
type CTLog struct {
	Name    string        `json:"name"`
	First   int64         `json:"first"` // entries from this number on
	Read    int64         `json:"read"`  // and before this one were held against the record
	Size    int64         `json:"size"`
	Root    bulkhead.Hash `json:"root,omitzero"`
	At      time.Time     `json:"at,omitzero"`
	Ours    int64         `json:"ours"`
	Unknown int64         `json:"unknown"`
}

// Number is one thing that was counted.
type Number struct {
	What string `json:"what"`
	N    int64  `json:"n"`
}

// Negative is one of the six answers.
type Negative struct {
	ID         string   `json:"id"`
	Question   string   `json:"question"`
	Answer     string   `json:"answer"` // "not found", "found", "cannot be proved by software; not found in what was examined"
	Examined   string   `json:"examined"`
	Numbers    []Number `json:"numbers"`
	Evidence   []string `json:"evidence"`    // where in the log
	NotCovered []string `json:"not_covered"` // what no number here says
	Findings   int      `json:"findings"`
}

// Report is the outcome of one run.
type Report struct {
	OK         bool                   `json:"ok"`
	MadeAt     time.Time              `json:"made_at"`
	House      string                 `json:"house"`
	Issuers    []bulkhead.AuthorityID `json:"issuers"`
	Checkpoint Checkpoint             `json:"checkpoint"`
	Rows       int64                  `json:"rows"`      // newest row looked at
	Uncovered  int64                  `json:"uncovered"` // rows that no checkpoint covers yet
	Witnessed  *Witnessed             `json:"witnessed,omitempty"`
	CT         []CTLog                `json:"ct"`
	Keys       []KeyReport            `json:"keys"`
	Negatives  []Negative             `json:"negatives"`
	Findings   []Finding              `json:"findings"`
	Omitted    int                    `json:"findings_omitted"` // beyond the first 1,000
	Leads      []Lead                 `json:"leads"`
}

// The six negatives, in the order in which they were asked in 2011.
const (
	RogueCertificates = "rogue-certificates"
	CustomerData      = "customer-data"
	RootKey           = "root-key"
	Infrastructure    = "ca-infrastructure"
	IssuingKey        = "issuing-key"
	Registration      = "registration-authority"
)
