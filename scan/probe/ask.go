package probe

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"bulkhead"
)

// stage is how far a connection came.
type stage int

const (
	stageDial     stage = iota
	stageSTARTTLS       // connected
	stageHello          // client hello sent, or about to be
	stageFlight         // some of an answer is there
	stageDone           // the flight is complete
)

// asked is one connection and what came of it.
type asked struct {
	flight
	stage stage
	err   error
	w     *wire
	stop  func() bool
}

// close ends the connection and counts its bytes.
func (l *look) close(a *asked) {
	if a.w == nil {
		return
	}
	a.stop()
	_ = a.w.c.Close()
	l.out.Sent += a.w.sent
	l.out.Received += a.w.received
	a.w = nil
}

// until is the end of a step that begins now.
func (l *look) until() time.Time {
	t := l.cfg.Now().Add(l.cfg.Timeout)
	if t.After(l.end) {
		return l.end
	}
	return t
}

// deadline bounds the reads and writes of a connection from here on, and ends them when the caller called off.
func (l *look) deadline(w *wire, t time.Time) {
	_ = w.c.SetDeadline(t)
	if l.ctx.Err() != nil {
		_ = w.c.SetDeadline(past)
	}
}

var past = time.Unix(1, 0)

// connect dials and speaks what comes before TLS.
func (l *look) connect() *asked {
	a := &asked{}
	begin := l.cfg.Now()
	ctx, cancel := context.WithDeadline(l.ctx, l.until())
	defer cancel()
	c, err := l.cfg.Dial(ctx, l.out.Endpoint.AddrPort())
	if err != nil {
		a.err = err
		return a
	}
	l.out.Connections++
	if l.out.Connections == 1 {
		l.out.ConnectTook = l.cfg.Now().Sub(begin)
	}
	a.w = &wire{c: c, limit: maxDialogue}
	a.stop = context.AfterFunc(l.ctx, func() { _ = c.SetDeadline(past) })
	a.stage = stageSTARTTLS
	if talk := dialogues[l.out.Endpoint.STARTTLS]; talk != nil {
		l.deadline(a.w, l.until())
		if a.err = talk(&dialogue{w: a.w, endpoint: l.out.Endpoint, local: c.LocalAddr()}); a.err != nil {
			return a
		}
	}
	a.stage = stageHello
	a.w.limit = a.w.received + maxFlight
	l.deadline(a.w, l.until())
	return a
}

// ask sends a hello and reads what the server says to it.
func (l *look) ask(h hello) *asked {
	a := l.connect()
	if a.err != nil {
		return a
	}
	var random [32]byte
	_, _ = rand.Read(random[:])
	h.name = l.way.name
	begin := l.cfg.Now()
	_ = a.w.write(h.marshal(random)) // who closed already may have said why
	if a.w.r == a.w.w {
		if a.err = a.w.fill(); a.err != nil {
			return a
		}
	}
	if l.out.HelloTook == 0 {
		l.out.HelloTook = l.cfg.Now().Sub(begin)
	}
	a.stage = stageFlight
	if a.err = readFlight(a.w, &a.flight, l.keep, !l.keep); a.err == nil {
		a.stage = stageDone
	}
	if l.keep && len(a.chain) > 0 { // once is enough
		l.keep, l.chain, l.out.Staple = false, a.chain, a.staple
	}
	return a
}

// refused reports whether the server said no to the hello as it was: an alert, or a close in place of any answer.
func (a *asked) refused() bool {
	var alert alertError
	return !a.hello && (errors.As(a.err, &alert) || a.stage == stageHello && errors.Is(a.err, errClosed))
}

// failure is the reason for which a connection told nothing.
func (a *asked) failure() (bulkhead.LookReason, string) {
	switch {
	case a.stage == stageDial:
		return dialFailure(a.err)
	case a.stage == stageSTARTTLS && errors.Is(a.err, errNoSTARTTLS):
		return bulkhead.ReasonSTARTTLSRefused, a.err.Error()
	case a.stage == stageSTARTTLS:
		return bulkhead.ReasonSTARTTLSFailed, fmt.Sprintf("before TLS began: %v", a.err)
	case errors.Is(a.err, errTooMuch):
		return bulkhead.ReasonTooMuch, fmt.Sprintf("%v: %d bytes and no end", a.err, a.w.received)
	case errors.Is(a.err, errNotTLS):
		return bulkhead.ReasonNotTLS, "the port answers, and not in TLS; does it want STARTTLS?"
	case errors.Is(a.err, errMalformed):
		return bulkhead.ReasonMalformedTLS, a.err.Error()
	case errors.Is(a.err, errSilence) && a.stage == stageHello:
		return bulkhead.ReasonNoHello, "the port is open, and the server answered no hello"
	case errors.Is(a.err, errSilence):
		return bulkhead.ReasonStalled, "the server fell silent before its hello was done"
	default:
		return bulkhead.ReasonTruncated, fmt.Sprintf("before the server's hello was done: %v", a.err)
	}
}

func dialFailure(err error) (bulkhead.LookReason, string) {
	var ne net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return bulkhead.ReasonRefused, "nothing listens on this port"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
		return bulkhead.ReasonNoRoute, "there is no way to this address from here"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT), errors.As(err, &ne) && ne.Timeout():
		return bulkhead.ReasonConnectTimeout, "the address does not answer, or a firewall drops what it is sent"
	default:
		return bulkhead.ReasonDialDenied, "no connection was made: " + err.Error()
	}
}
