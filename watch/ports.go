// Package watch runs the detectors: each looks at evidence, the store, the edges or the log and raises an alarm when
// the house is not as it should be.
//
// Invariant: the same trouble is one alarm, however often it is seen; an alarm is evidence. A detector that cannot
// look says so; silence is never the sign of a broken detector.
//
// Refuses: to act. An alarm asks for a person or for a request on the ordinary path.
package watch

import (
	"context"
	"time"

	"bulkhead"
)

// Store is the durable record as the detectors need it.
type Store interface {
	Statuses(ctx context.Context, issuer bulkhead.AuthorityID, serials []bulkhead.Serial) ([]bulkhead.Status, error)
	// Pruned reports whether a certificate was issued and its row went with age.
	Pruned(ctx context.Context, ref bulkhead.CertificateRef) (bool, error)
	// RaiseAlarm inserts the alarm, or moves LastAt and Count of the one with the same detector and key; fresh tells
	// which. Evidence is appended only for a fresh one.
	RaiseAlarm(ctx context.Context, a bulkhead.Alarm, ev bulkhead.Evidence) (fresh bool, err error)
	Alarms(ctx context.Context, limit int) ([]bulkhead.Alarm, error)
	Alarm(ctx context.Context, id int64) (bulkhead.Alarm, error)
	// AckAlarm records who took an alarm. KindNotFound when there is none, KindConflict when it was taken already.
	AckAlarm(ctx context.Context, id int64, at time.Time, by, reason string, ev bulkhead.Evidence) error
}
