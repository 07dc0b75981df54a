package probe

import (
	"errors"
	"fmt"
	"time"

	"bulkhead"
)

// again are the times after the first well-formed heartbeat at which it is sent once more. A server that waits for the
// next event of its socket with a request unread (nginx, when both heartbeats reached it together) is woken by that.
var again = []time.Duration{1200 * time.Millisecond, 2500 * time.Millisecond}

// soon is how quickly an alert or a close must follow to be an answer; later it may be the server's own time-out. For
// far servers the time that a connection took is added four times, up to soonFar.
const (
	soon    = 2 * time.Second
	soonFar = 500 * time.Millisecond
)

// heartbeats sends the malformed heartbeat, pauses, sends the well-formed one, and concludes from what comes back.
func (l *look) heartbeats(a *asked) {
	end := l.until()
	seen := &answers{}
	if what, err := seen.drain(a.w); err != nil || what == answerAlert || what == answerClose {
		l.conclude(bulkhead.ReasonTruncated, "the server ended the connection right after its hello")
		return
	}
	*seen = answers{header: seen.header, n: seen.n, typ: seen.typ, left: seen.left} // what came unasked answers nothing
	a.w.limit = a.w.received + maxAnswer
	l.deadline(a.w, end)
	request := requests[a.version]
	_ = a.w.write(request[0]) // whoever closes has said why, or its silence is read below
	sent := l.cfg.Now()
	next, nudges := sent.Add(l.cfg.Pause), again
	for {
		until := next
		if next.IsZero() || until.After(end) {
			until = end
		}
		l.deadline(a.w, until)
		what, err := seen.read(a.w)
		now := l.cfg.Now()
		if errors.Is(err, errSilence) && l.ctx.Err() == nil && until.Before(end) {
			l.deadline(a.w, end)
			_ = a.w.write(request[1])
			next = time.Time{}
			if len(nudges) > 0 {
				next, nudges = sent.Add(l.cfg.Pause+nudges[0]), nudges[1:]
			}
			continue
		}
		if err != nil || what != answerNone {
			l.heard(a.version, seen, what, err, now.Sub(sent))
			return
		}
	}
}

// drain looks at what is buffered, without reading.
func (s *answers) drain(w *wire) (answer, error) {
	p := w.buf[w.r:w.w]
	w.r = w.w
	for len(p) > 0 {
		var what answer
		var err error
		if what, p, err = s.feed(p); err != nil || what != answerNone {
			return what, err
		}
	}
	return answerNone, nil
}

// read takes what arrives next and says what it completes.
func (s *answers) read(w *wire) (answer, error) {
	p, err := w.next(len(w.buf))
	if err != nil {
		return answerNone, err
	}
	what, rest, err := s.feed(p)
	w.r -= len(rest)
	return what, err
}

// heard concludes from the first thing that is an answer, or from there being none.
func (l *look) heard(version uint16, s *answers, what answer, err error, after time.Duration) {
	on := " on " + versionName(version)
	quick := after <= soon+min(4*l.out.ConnectTook, soonFar)
	switch {
	case what == answerOverread:
		l.out.AnswerBytes, l.out.ProofBytes = s.size, malformedClaim-malformedSent
		l.conclude(bulkhead.ReasonOverread, fmt.Sprintf("a heartbeat that held %d bytes of payload and claimed %d was answered with %d%s", malformedSent, malformedClaim, malformedClaim, on))
	case what == answerGood:
		l.out.AnswerBytes = s.size
		l.conclude(bulkhead.ReasonDiscarded, "the malformed heartbeat was discarded and the well-formed one answered"+on)
	case what == answerClipped:
		l.out.AnswerBytes = s.size
		l.conclude(bulkhead.ReasonClipped, "the malformed heartbeat was answered with no more than was sent"+on)
	case errors.Is(err, errTooMuch):
		l.conclude(bulkhead.ReasonTooMuch, "after the heartbeat: "+err.Error())
	case errors.Is(err, errNotTLS), errors.Is(err, errMalformed):
		l.conclude(bulkhead.ReasonMalformedTLS, "after the heartbeat: "+err.Error())
	case errors.Is(err, errSilence) && s.halfway():
		l.conclude(bulkhead.ReasonAnswerTruncated, "an answer to the heartbeat began and did not end"+on)
	case errors.Is(err, errSilence):
		l.conclude(bulkhead.ReasonHeartbeatSilence, "heartbeat is negotiated, and neither the malformed nor the well-formed one was answered in time"+on)
	case s.halfway():
		l.conclude(bulkhead.ReasonAnswerTruncated, "the connection ended within an answer to the heartbeat"+on)
	case !quick:
		l.conclude(bulkhead.ReasonHeartbeatLate, fmt.Sprintf("the connection ended %s after the heartbeat, too late to be an answer to it", after.Round(100*time.Millisecond)))
	case what == answerAlert:
		l.conclude(bulkhead.ReasonAlerted, "the malformed heartbeat was refused with the fatal alert "+alertName(s.alert)+on)
	default: // close_notify, end of file, reset
		l.conclude(bulkhead.ReasonClosed, "the server closed the connection on the malformed heartbeat"+on)
	}
}
