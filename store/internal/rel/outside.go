package rel

import (
	"context"
	"strconv"
	"time"

	"bulkhead"
)

// AckAlarm records who took an alarm. KindNotFound when there is none, KindConflict when it was taken already.
func (s *Store) AckAlarm(ctx context.Context, id int64, at time.Time, by, reason string, ev bulkhead.Evidence) error {
	return s.write(ctx, "AckAlarm", []bulkhead.Evidence{ev}, func(t *tx) error {
		n, err := exec(ctx, t, `UPDATE alarms SET acked_at = $2, acked_by = $3, ack_reason = $4 WHERE seq = $1 AND acked_at = 0`, id, unix(at), text(by), text(reason))
		if err != nil || n == 1 {
			return err
		}
		var is string
		if err := t.QueryRowContext(ctx, `SELECT acked_by FROM alarms WHERE seq = $1`, id).Scan(&is); err != nil {
			return absent(err, "alarm", strconv.FormatInt(id, 10))
		}
		return conflict("alarm %d was acknowledged by %s", id, is)
	})
}

// Alarm returns one alarm; KindNotFound when there is none.
func (s *Store) Alarm(ctx context.Context, id int64) (bulkhead.Alarm, error) {
	a, err := one(ctx, s.reader, func(r scanner) (bulkhead.Alarm, error) { return scanAlarm(r) }, `SELECT `+alarmFields+` FROM alarms a WHERE a.seq = $1`, id)
	return a, s.fault("Alarm", absent(err, "alarm", strconv.FormatInt(id, 10)))
}

const deliveryFields = `COALESCE(d.state, 'pending'), COALESCE(d.attempts, 0), COALESCE(d.next_at, 0), COALESCE(d.at, 0), COALESCE(d.error, '')`

func scanDelivery(receiver string) func(r scanner) (bulkhead.AlarmDelivery, error) {
	return func(r scanner) (d bulkhead.AlarmDelivery, err error) {
		d.Receiver = receiver
		d.Alarm, err = scanAlarm(r, &d.State, &d.Attempts, timeCol{&d.NextAt}, timeCol{&d.At}, &d.Error)
		return d, err
	}
}

// DueDeliveries returns what has to go to a receiver by now, the oldest alarm first: open alarms of the severities that it
// neither accepted nor was given up for.
func (s *Store) DueDeliveries(ctx context.Context, receiver string, severities []bulkhead.Severity, now time.Time, limit int) ([]bulkhead.AlarmDelivery, error) {
	where, args := oneOf("a.severity", 4, severities)
	rows, err := list(ctx, s.reader, scanDelivery(receiver), `SELECT `+alarmFields+`, `+deliveryFields+` FROM alarms a
		LEFT JOIN alarm_deliveries d ON d.alarm = a.seq AND d.receiver = $1
		WHERE a.acked_at = 0 AND COALESCE(d.state, 'pending') = 'pending' AND COALESCE(d.next_at, 0) <= $2 AND `+where+` ORDER BY a.seq LIMIT $3`,
		append([]any{receiver, unix(now), atMost(limit)}, args...)...)
	return rows, s.fault("DueDeliveries", err)
}

// FailedDeliveries returns what was given up, of alarms that are open.
func (s *Store) FailedDeliveries(ctx context.Context, limit int) ([]bulkhead.AlarmDelivery, error) {
	rows, err := list(ctx, s.reader, func(r scanner) (d bulkhead.AlarmDelivery, err error) {
		d.Alarm, err = scanAlarm(r, &d.State, &d.Attempts, timeCol{&d.NextAt}, timeCol{&d.At}, &d.Error, &d.Receiver)
		return d, err
	}, `SELECT `+alarmFields+`, `+deliveryFields+`, d.receiver FROM alarm_deliveries d JOIN alarms a ON a.seq = d.alarm
		WHERE d.state = 'failed' AND a.acked_at = 0 ORDER BY d.at DESC, a.seq, d.receiver LIMIT $1`, atMost(limit))
	return rows, s.fault("FailedDeliveries", err)
}

// PutDelivery keeps how far a delivery is.
func (s *Store) PutDelivery(ctx context.Context, d bulkhead.AlarmDelivery, ev ...bulkhead.Evidence) error {
	return s.write(ctx, "PutDelivery", ev, func(t *tx) error {
		_, err := exec(ctx, t, `INSERT INTO alarm_deliveries (alarm, receiver, state, attempts, next_at, at, error) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (alarm, receiver) DO UPDATE SET state = excluded.state, attempts = excluded.attempts, next_at = excluded.next_at, at = excluded.at, error = excluded.error`,
			d.Alarm.ID, d.Receiver, string(d.State), d.Attempts, unix(d.NextAt), unix(d.At), text(d.Error))
		return err
	})
}

// CertificateChanges returns the changes that name the certificates, the newest first.
func (s *Store) CertificateChanges(ctx context.Context, issuer bulkhead.AuthorityID, serials []bulkhead.Serial) ([]bulkhead.CertificateChange, error) {
	var out []bulkhead.CertificateChange
	err := inChunks(serials, 2, func(x bulkhead.Serial) any { return serialArg(x) }, func(_ []bulkhead.Serial, in string, args []any) error {
		rows, err := list(ctx, s.reader, func(r scanner) (c bulkhead.CertificateChange, err error) {
			var epoch int64
			err = r.Scan(&c.Issuer, serialCol{&c.Serial}, &c.Reason, timeCol{&c.RevokedAt}, &c.Change, &c.State, &c.Actor, &c.Why, &epoch, timeCol{&c.ActivatedAt})
			c.Epoch = uint64(epoch)
			return c, err
		}, `SELECT i.issuer, i.serial, i.reason, i.revoked_at, c.id, c.state, c.actor, c.why, c.epoch, c.activated_at
			FROM change_items i JOIN changes c ON c.seq = i.change_seq WHERE i.issuer = $1 AND i.serial IN `+in+` ORDER BY c.seq DESC`,
			append([]any{string(issuer)}, args...)...)
		out = append(out, rows...)
		return err
	})
	return out, s.fault("CertificateChanges", err)
}
