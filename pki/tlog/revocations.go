package tlog

import (
	"fmt"
	"strings"
	"time"

	"bulkhead"
)

// Revocations is the Detail of a leaf of kind EvRevocations in the making: what the certificates were revoked for and
// when, and their serials: "superseded 2026-11-26T17:00:00Z: 03ab9c 03ab9d". The zero value is empty.
type Revocations struct {
	text   strings.Builder
	reason bulkhead.Reason
	at     time.Time
	n      int
}

// Add takes one certificate in. It says no, and nothing changed, when the leaf is full or speaks of another reason or time.
func (r *Revocations) Add(serial bulkhead.Serial, reason bulkhead.Reason, at time.Time) bool {
	if r.n == 0 {
		r.reason, r.at = reason, at
		r.text.Grow(MaxDetail)
		r.text.WriteString(reason.String() + " " + at.UTC().Format(time.RFC3339) + ":")
	}
	hex := serial.String()
	if reason != r.reason || !at.Equal(r.at) || r.text.Len()+1+len(hex) > MaxDetail {
		return false
	}
	r.text.WriteByte(' ')
	r.text.WriteString(hex)
	r.n++
	return true
}

// Len is the number of certificates.
func (r *Revocations) Len() int { return r.n }

// Detail is the text.
func (r *Revocations) Detail() string { return r.text.String() }

// RevokedIn are the serials that a leaf of kind EvRevocation or EvRevocations names. It fails for one that Revocations
// would not have written.
func RevokedIn(e bulkhead.Evidence) ([]bulkhead.Serial, error) {
	if e.Kind == bulkhead.EvRevocation {
		return []bulkhead.Serial{e.Serial}, nil
	}
	said, list, found := strings.Cut(e.Detail, ": ")
	if _, at, ok := strings.Cut(said, " "); !found || !ok || e.Kind != bulkhead.EvRevocations {
		return nil, fmt.Errorf("evidence leaf: it names no revoked certificates")
	} else if _, err := time.Parse(time.RFC3339, at); err != nil {
		return nil, fmt.Errorf("evidence leaf: revoked when: %w", err)
	}
	var out []bulkhead.Serial
	for hex := range strings.SplitSeq(list, " ") {
		serial, err := bulkhead.ParseSerial(hex)
		if err != nil || serial.String() != hex {
			return nil, fmt.Errorf("evidence leaf: %q is no serial number", hex)
		}
		out = append(out, serial)
	}
	if int64(len(out)) != e.Count {
		return nil, fmt.Errorf("evidence leaf: it counts %d revoked certificates and names %d", e.Count, len(out))
	}
	return out, nil
}
