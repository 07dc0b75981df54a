package watch

import (
	"context"

	"bulkhead"
)

// BlockedKey is D12: somebody shows a key that was blocked, as the key of a request, an account or a client certificate. It
// was refused; whoever shows it holds a compromised key, or never learnt that it is one.
type BlockedKey struct{}

// ID implements Detector.
func (BlockedKey) ID() string { return "D12" }

// Wants implements Detector.
func (BlockedKey) Wants(k SightingKind) bool { return k == BlockedKeyShown }

// Judge implements Detector.
func (d BlockedKey) Judge(_ context.Context, s Sighting) (*bulkhead.Alarm, error) {
	return &bulkhead.Alarm{Detector: d.ID(), Key: s.Detail, Severity: bulkhead.Warning, Runbook: "d12-blocked-key.md", FirstAt: s.At, LastAt: s.At, Count: 1,
		Message: "a blocked key was shown and refused (SHA-256 of its SPKI " + s.Detail + "): somebody goes on using it"}, nil
}
