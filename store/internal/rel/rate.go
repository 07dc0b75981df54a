package rel

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"

	"bulkhead"
)

// takeRate is the generic cell rate algorithm in one statement: it touches a row exactly when the unit is free.
const takeRate = `INSERT INTO rate_limits (key, tat) VALUES ($1, $3) ON CONFLICT (key) DO UPDATE
	SET tat = CASE WHEN rate_limits.tat > $2 THEN rate_limits.tat + $4 ELSE $3 END
	WHERE CASE WHEN rate_limits.tat > $2 THEN rate_limits.tat + $4 ELSE $3 END <= $5`

// errRefused undoes the transaction of a refusal.
var errRefused = errors.New("refused")

// TakeRate takes one unit from every limit, or nothing at all and says which limit is used up. It serves several
// processes on one record; what they disagree on is their clocks.
func (s *Store) TakeRate(ctx context.Context, now time.Time, charges []bulkhead.RateCharge) (*bulkhead.RateRefusal, error) {
	if len(charges) == 0 {
		return nil, nil
	}
	// Rows are locked in one order, so that two askers never wait for each other in a circle.
	charges = slices.Clone(charges)
	slices.SortFunc(charges, func(a, b bulkhead.RateCharge) int { return strings.Compare(a.Key, b.Key) })
	at := now.UnixMicro()
	var refused *bulkhead.RateRefusal
	err := s.writeKeyed(ctx, "TakeRate", nil, func(t *tx) error {
		for _, c := range charges {
			n, err := exec(ctx, t, takeRate, text(c.Key), at, at+c.Interval.Microseconds(), c.Interval.Microseconds(), at+c.Burst.Microseconds())
			if err != nil {
				return err
			}
			if n > 0 {
				continue
			}
			if refused, err = lookRate(ctx, t, now, c); err != nil {
				return err
			}
			if refused == nil { // the row is free by now and is taken at the next try
				refused = &bulkhead.RateRefusal{Key: c.Key}
			}
			return errRefused
		}
		return nil
	})
	if refused != nil {
		return refused, nil
	}
	return nil, err
}

// PeekRate says whether a limit is used up, without taking anything.
func (s *Store) PeekRate(ctx context.Context, now time.Time, charges []bulkhead.RateCharge) (*bulkhead.RateRefusal, error) {
	for _, c := range charges {
		if r, err := lookRate(ctx, s.reader, now, c); r != nil || err != nil {
			return r, s.fault("PeekRate", err)
		}
	}
	return nil, nil
}

func lookRate(ctx context.Context, q querier, now time.Time, c bulkhead.RateCharge) (*bulkhead.RateRefusal, error) {
	var tat int64
	err := q.QueryRowContext(ctx, `SELECT tat FROM rate_limits WHERE key = $1`, text(c.Key)).Scan(&tat)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	at := now.UnixMicro()
	wait := max(tat, at) + c.Interval.Microseconds() - (at + c.Burst.Microseconds())
	if wait <= 0 {
		return nil, nil
	}
	return &bulkhead.RateRefusal{Key: c.Key, Retry: time.Duration(wait) * time.Microsecond}, nil
}

// ForgetRates deletes what says nothing any more at now.
func (s *Store) ForgetRates(ctx context.Context, now time.Time) error {
	return s.write(ctx, "ForgetRates", nil, func(t *tx) error {
		_, err := exec(ctx, t, `DELETE FROM rate_limits WHERE tat <= $1`, now.UnixMicro())
		return err
	})
}
