package rel

import (
	"context"
	"time"

	"bulkhead"
)

// RaiseAlarm inserts the alarm, or moves LastAt and adds to Count of the one with the same detector and key; fresh
// tells which. One that was acknowledged and not seen for longer than Quiet is fresh again: open, to be delivered anew.
// Evidence is appended only for a fresh one. A Count of 0 counts as 1.
func (s *Store) RaiseAlarm(ctx context.Context, a bulkhead.Alarm, ev bulkhead.Evidence) (fresh bool, err error) {
	leaves, err := marshal([]bulkhead.Evidence{ev})
	if err != nil {
		return false, s.fault("RaiseAlarm", err)
	}
	a.Count = max(a.Count, 1)
	err = s.write(ctx, "RaiseAlarm", nil, func(t *tx) error {
		fresh = false
		if known, err := t.repeatAlarm(ctx, a); err != nil || known {
			return err
		}
		// The first time: one raiser at a time, so look again.
		if err := t.lockEvidence(ctx); err != nil {
			return err
		}
		if known, err := t.repeatAlarm(ctx, a); err != nil || known {
			return err
		}
		if again, err := t.reopenAlarm(ctx, a); err != nil || again {
			if err == nil {
				fresh = true
				_, err = t.append(ctx, leaves)
			}
			return err
		}
		_, err := exec(ctx, t, `INSERT INTO alarms (detector, key, severity, message, runbook, first_at, last_at, count)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`, a.Detector, a.Key, string(a.Severity), text(a.Message), a.Runbook,
			unix(a.FirstAt), unix(a.LastAt), a.Count)
		if err != nil {
			return err
		}
		fresh = true
		_, err = t.append(ctx, leaves)
		return err
	})
	return fresh && err == nil, err
}

// repeatAlarm counts an alarm that stands already.
func (t *tx) repeatAlarm(ctx context.Context, a bulkhead.Alarm) (known bool, err error) {
	n, err := exec(ctx, t, `UPDATE alarms SET count = count + $3, last_at = CASE WHEN last_at < $4 THEN $4 ELSE last_at END
		WHERE detector = $1 AND key = $2 AND NOT (acked_at > 0 AND $5 > 0 AND $4 - last_at > $5)`,
		a.Detector, a.Key, a.Count, unix(a.LastAt), int64(a.Quiet/time.Second))
	return n > 0, err
}

// reopenAlarm takes the acknowledgement from an alarm that repeatAlarm left alone.
func (t *tx) reopenAlarm(ctx context.Context, a bulkhead.Alarm) (bool, error) {
	n, err := exec(ctx, t, `UPDATE alarms SET count = count + $3, last_at = $4, acked_at = 0, acked_by = '', ack_reason = '', message = $5, severity = $6
		WHERE detector = $1 AND key = $2`, a.Detector, a.Key, a.Count, unix(a.LastAt), text(a.Message), string(a.Severity))
	if err != nil || n == 0 {
		return false, err
	}
	_, err = exec(ctx, t, `DELETE FROM alarm_deliveries WHERE alarm IN (SELECT seq FROM alarms WHERE detector = $1 AND key = $2)`, a.Detector, a.Key)
	return true, err
}

const alarmFields = `a.seq, a.detector, a.key, a.severity, a.message, a.runbook, a.first_at, a.last_at, a.count, a.acked_at, a.acked_by, a.ack_reason`

func scanAlarm(r scanner, more ...any) (a bulkhead.Alarm, err error) {
	err = r.Scan(append([]any{&a.ID, &a.Detector, &a.Key, &a.Severity, &a.Message, &a.Runbook, timeCol{&a.FirstAt}, timeCol{&a.LastAt}, &a.Count,
		timeCol{&a.AckedAt}, &a.AckedBy, &a.AckReason}, more...)...)
	return a, err
}

// Alarms returns the alarms, the last seen first.
func (s *Store) Alarms(ctx context.Context, limit int) ([]bulkhead.Alarm, error) {
	rows, err := list(ctx, s.reader, func(r scanner) (bulkhead.Alarm, error) { return scanAlarm(r) }, `SELECT `+alarmFields+` FROM alarms a
		ORDER BY a.last_at DESC, a.seq DESC LIMIT $1`, atMost(limit))
	return rows, s.fault("Alarms", err)
}
