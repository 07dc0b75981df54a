package bulkhead

import "time"

// Severity of an alarm.
type Severity string

// Severities.
const (
	Critical Severity = "critical"
	Warning  Severity = "warning"
	Notice   Severity = "notice"
)

// Alarm is what a detector raises (DETECTORS D1–D15). Key deduplicates: the same detector and key is one alarm whose
// Count and LastAt move.
type Alarm struct {
	Detector string // "D1"
	Key      string
	Severity Severity
	Message  string
	Runbook  string // path of the page in doc/runbooks
	FirstAt  time.Time
	LastAt   time.Time
	Count    int64
}
