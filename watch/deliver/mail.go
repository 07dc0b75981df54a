package deliver

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"bulkhead"
)

// Mailer sends one plain text to one address; it returns once the relay has accepted it.
type Mailer interface {
	SendText(ctx context.Context, to, subject, body string) error
}

// Mail sends alarms by mail.
type Mail struct {
	Mailer Mailer
	To     []string
	House  string
}

// Send implements Sender. Every address gets the alarm; one that is refused fails the attempt, which is then made again for all
// of them: a repetition is better than silence.
func (m Mail) Send(ctx context.Context, a bulkhead.Alarm) error {
	subject := fmt.Sprintf("[bulkhead %s] %s: %s", a.Severity, a.Detector, clip(line(a.Message), 120))
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", line(a.Message))
	for _, f := range [][2]string{{"house", m.House}, {"alarm", fmt.Sprint(a.ID)}, {"detector", a.Detector}, {"severity", string(a.Severity)}, {"first seen", a.FirstAt.UTC().Format("2006-01-02 15:04:05 UTC")},
		{"last seen", a.LastAt.UTC().Format("2006-01-02 15:04:05 UTC")}, {"times", fmt.Sprint(a.Count)}, {"what to do", bulkhead.RunbookPage(a.Runbook)}} {
		fmt.Fprintf(&b, "%-12s %s\n", f[0], line(f[1]))
	}
	fmt.Fprintf(&b, "\nTaken care of? bulkhead alarms ack %d --reason TEXT\n", a.ID)
	var errs []error
	for _, to := range m.To {
		if err := m.Mailer.SendText(ctx, to, subject, b.String()); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
