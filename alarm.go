package bulkhead

import (
	"path"
	"time"
)

// Severity of an alarm.
type Severity string

// Severities.
const (
	Critical Severity = "critical"
	Warning  Severity = "warning"
	Notice   Severity = "notice"
)

// RunbookPage is where the page of an alarm stands, given its Runbook; rows of older versions hold a path.
func RunbookPage(runbook string) string { return "doc/runbooks/" + path.Base(runbook) }

// Alarm is what a detector raises (DETECTORS D1–D15). Key deduplicates: the same detector and key is one alarm whose
// Count and LastAt move.
type Alarm struct {
	ID       int64  // given by the record
	Detector string // "D1"
	Key      string
	Severity Severity
	Message  string
	Runbook  string // name of the page in doc/runbooks
	FirstAt  time.Time
	LastAt   time.Time
	Count    int64

	AckedAt   time.Time // zero while nobody has taken it
	AckedBy   string
	AckReason string
	// Quiet goes into the record with each sighting and does not come back: an acknowledged alarm that is seen again after
	// so long without a sighting is news. 0 lets the acknowledgement stand for ever.
	Quiet time.Duration
}

// Open reports whether nobody has acknowledged the alarm.
func (a Alarm) Open() bool { return a.AckedAt.IsZero() }

// Severities lists the severities, the worst first.
func Severities() []Severity { return []Severity{Critical, Warning, Notice} }

// AtLeast lists the severities that are s or worse; none when s does not exist.
func AtLeast(s Severity) []Severity {
	for i, x := range Severities() {
		if x == s {
			return Severities()[:i+1]
		}
	}
	return nil
}

// AlarmDelivery is the state of one alarm's way to one receiver.
type AlarmDelivery struct {
	Alarm    Alarm
	Receiver string // name in the configuration
	State    DeliveryState
	Attempts int
	NextAt   time.Time // when it is tried again; pending only
	At       time.Time // of the last attempt
	Error    string    // of the last attempt that failed
}

// DeliveryState says how far a delivery is.
type DeliveryState string

// Delivery states.
const (
	DeliveryPending DeliveryState = "pending"
	DeliveryDone    DeliveryState = "done"   // the receiver accepted it
	DeliveryFailed  DeliveryState = "failed" // given up
)
