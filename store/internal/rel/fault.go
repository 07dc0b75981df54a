package rel

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"bulkhead"
)

// retryAfter is what a caller is told to wait when the database is away or busy.
const retryAfter = 2 * time.Second

// fault turns any error into a *bulkhead.Fault and says which operation failed; nil stays nil.
func (s *Store) fault(op string, err error) error {
	if err == nil {
		return nil
	}
	var f *bulkhead.Fault
	if errors.As(err, &f) {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return bulkhead.Faultf(bulkhead.KindUnavailable, "the store did not answer %s in time", op).WithCause(err).WithRetry(retryAfter)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return bulkhead.Faultf(bulkhead.KindNotFound, "%s found nothing", op)
	}
	switch kind := s.dialect.Classify(err); kind {
	case bulkhead.KindConflict:
		return bulkhead.Faultf(kind, "%s: the row exists already, or what it refers to does not", op).WithCause(err)
	case bulkhead.KindMalformed:
		return bulkhead.Faultf(kind, "%s: a name or id is not valid UTF-8 text", op).WithCause(err)
	case bulkhead.KindForbidden:
		return bulkhead.Faultf(kind, "the database user of this role may not do %s", op).WithCause(err).
			WithHint("ask the role whose work it is; after an upgrade: bulkhead role database --apply")
	case bulkhead.KindUnavailable:
		return bulkhead.NewFault(kind, "the store is away or busy").WithCause(err).WithRetry(retryAfter).
			WithHint("bulkhead doctor says what is wrong with the database")
	default:
		return bulkhead.Faultf(bulkhead.KindInternal, "the store could not do %s; the log has the cause", op).WithCause(err)
	}
}

// absent replaces sql.ErrNoRows by a fault of KindNotFound that names what is missing.
func absent(err error, what, id string) error {
	if errors.Is(err, sql.ErrNoRows) {
		return notFound(what, id)
	}
	return err
}

func notFound(what, id string) error {
	return bulkhead.Faultf(bulkhead.KindNotFound, "there is no %s %s", what, id)
}

func conflict(format string, args ...any) error {
	return bulkhead.Faultf(bulkhead.KindConflict, format, args...).WithHint("read it again and decide anew")
}
