package evidence

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"bulkhead"
)

// watchLag raises the alarm while a row has been uncovered for too long.
func (l *Log) watchLag(ctx context.Context) {
	if lag := l.Lag(); lag >= AlarmAfter {
		l.alarm(ctx, "evidence-lag", bulkhead.Warning, fmt.Sprintf("evidence has not been covered by a checkpoint for %s", lag.Round(time.Second)))
	}
}

func (l *Log) forked(ctx context.Context, fork *ForkError) error {
	l.guard.shut()
	l.cfg.Log.Error("evidence log stops", slog.Any("error", fork))
	l.alarm(ctx, "evidence-fork", bulkhead.Critical, fork.Error())
	return bulkhead.NewFault(bulkhead.KindConflict, "the evidence log and the store differ; nothing more is signed over them").
		WithHint("keep both as they are and run: bulkhead fsck").WithCause(fork)
}

func (l *Log) alarm(ctx context.Context, detector string, severity bulkhead.Severity, message string) {
	if l.cfg.Alarm == nil {
		return
	}
	now := l.cfg.Now()
	l.cfg.Alarm(ctx, bulkhead.Alarm{Detector: detector, Key: l.cfg.Origin, Severity: severity, Message: message,
		Runbook: "evidence-log.md", FirstAt: now, LastAt: now, Count: 1})
}
