package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bulkhead"
)

// look is one look under way.
type look struct {
	cfg   *Config
	keys  *memo
	ctx   context.Context //nolint:containedctx // lives as long as the call
	end   time.Time
	whole bool
	keep  bool // certificates of the next flight
	way   variant
	seen  [5]bulkhead.VersionSeen // by minor version
	chain [][]byte
	out   bulkhead.Look
}

// conclude sets the verdict by its reason.
func (l *look) conclude(r bulkhead.LookReason, detail string) {
	l.out.Reason, l.out.Verdict, l.out.Detail = r, bulkhead.LookReasons[r], detail
}

// done reports whether there is a verdict.
func (l *look) done() bool { return l.out.Verdict != "" }

// variant is one way to write the hello.
type variant struct {
	name    string
	compact bool
}

// hello is the one for a version in the way at hand.
func (l *look) hello(version uint16) hello {
	h := hello{version: version, suites: allSuites, compact: l.way.compact, staple: l.keep}
	if h.compact {
		h.suites = compactSuites
	}
	return h
}

// verdict asks for every version in turn until one negotiates heartbeat. Hellos that are refused or unanswered whatever
// the version are written in another way: without a server name, and short.
func (l *look) verdict() {
	name := l.out.Endpoint.SNI
	ways := []variant{{name, false}, {name, true}}
	if name != "" {
		ways = []variant{{name, false}, {"", false}, {name, true}}
	}
	var why *trouble
	for i, way := range ways {
		silent := why != nil && why.reason == bulkhead.ReasonNoHello
		if silent && !way.compact {
			continue // a server that is silent to long hellos may answer a short one; a name is no matter for silence
		}
		why = l.versions(way)
		if l.done() || l.any(bulkhead.VersionSpoken) {
			break
		}
		if why != nil && why.reason != bulkhead.ReasonNoHello || why == nil && i == 0 && l.plainlyRefused() {
			break
		}
	}
	if l.ctx.Err() != nil && !l.out.Verdict.Seen() && !errors.Is(l.ctx.Err(), context.DeadlineExceeded) {
		l.conclude(bulkhead.ReasonCancelled, "the look was called off before it could tell")
	}
	if !l.done() {
		l.sum(why)
	}
}

// trouble is the first thing that kept a version from being seen.
type trouble struct {
	reason bulkhead.LookReason
	detail string
}

// versions asks for each version in one way. It concludes when heartbeat is negotiated, or nothing can be reached.
func (l *look) versions(way variant) (first *trouble) {
	l.way = way
	l.seen = [5]bulkhead.VersionSeen{}
	for _, v := range legacy {
		if l.at(v).Outcome != "" {
			continue
		}
		a := l.ask(l.hello(v))
		err := l.weigh(v, a)
		if err != nil && first == nil {
			first = err
		}
		l.close(a)
		if l.done() || l.ctx.Err() != nil || err != nil && !l.any(bulkhead.VersionSpoken) {
			return first
		}
	}
	return first
}

// weigh notes what a connection says about version v, and goes on to the heartbeats where they are negotiated.
func (l *look) weigh(v uint16, a *asked) *trouble {
	switch {
	case a.hello && (a.version > v || a.version < ssl30):
		a.err = fmt.Errorf("%w: version %#04x in answer to %#04x", errMalformed, a.version, v)
	case a.hello:
		l.spoken(v, a)
		if !a.heartbeat {
			return nil
		}
		if a.stage != stageDone {
			l.conclude(a.failure())
			return nil
		}
		l.heartbeats(a)
		return nil
	case a.refused():
		l.refused(v, a.err)
		return nil
	}
	reason, detail := a.failure()
	if l.out.Connections == 0 || l.out.Connections == 1 && a.stage == stageSTARTTLS {
		l.conclude(reason, detail)
		return nil
	}
	if a.stage == stageDial {
		reason, detail = bulkhead.ReasonVersionsUnseen, "a later connection failed: "+detail
	}
	l.note(v, bulkhead.VersionUnanswered, "")
	return &trouble{reason, detail}
}

func (l *look) at(v uint16) *bulkhead.VersionSeen { return &l.seen[v-ssl30] }

func (l *look) note(v uint16, o bulkhead.VersionOutcome, alert string) {
	*l.at(v) = bulkhead.VersionSeen{Version: v, Name: versionName(v), Outcome: o, Alert: alert}
}

func (l *look) spoken(asked uint16, a *asked) {
	for v := asked; v > a.version; v-- {
		l.note(v, bulkhead.VersionRefused, "")
	}
	l.note(a.version, bulkhead.VersionSpoken, "")
	l.at(a.version).Suite, l.at(a.version).Heartbeat = a.suite, a.heartbeat
}

func (l *look) refused(v uint16, err error) {
	var alert alertError
	why := "closed"
	if errors.As(err, &alert) {
		why = alertName(byte(alert))
	}
	l.note(v, bulkhead.VersionRefused, why)
}

func (l *look) any(o bulkhead.VersionOutcome) bool {
	return slices.ContainsFunc(l.seen[:], func(s bulkhead.VersionSeen) bool { return s.Outcome == o })
}

// plainlyRefused reports whether every version was refused because of the version: no other hello would help.
func (l *look) plainlyRefused() bool {
	return !slices.ContainsFunc(l.seen[:4], func(s bulkhead.VersionSeen) bool { return s.Alert != alertName(alertProtocolVersion) })
}

// sum concludes from the versions when none negotiated heartbeat.
func (l *look) sum(why *trouble) {
	switch {
	case l.any(bulkhead.VersionSpoken) && !l.any(bulkhead.VersionUnanswered) && l.complete():
		l.conclude(bulkhead.ReasonNotNegotiated, "no heartbeat on "+l.list(bulkhead.VersionSpoken)+"; nothing else of SSL 3.0 to TLS 1.2 is spoken")
	case l.any(bulkhead.VersionSpoken):
		detail := "no heartbeat on " + l.list(bulkhead.VersionSpoken) + ", but not every version was seen"
		if why != nil {
			detail += ": " + why.detail
		}
		l.conclude(bulkhead.ReasonVersionsUnseen, detail)
	case why != nil:
		l.conclude(why.reason, why.detail)
	default:
		l.allRefused()
	}
}

func (l *look) complete() bool {
	return !slices.ContainsFunc(l.seen[:4], func(s bulkhead.VersionSeen) bool { return s.Outcome == "" })
}

// allRefused tells a server that speaks TLS 1.3 alone from one that refuses us.
func (l *look) allRefused() {
	l.way = variant{name: l.out.Endpoint.SNI}
	if !l.complete() {
		l.conclude(bulkhead.ReasonVersionsUnseen, "the time for a look was over before every version was asked for")
		return
	}
	if l.modern(tls.VersionTLS13) == nil {
		l.conclude(bulkhead.ReasonTLS13Only, "the server speaks TLS 1.3 alone, which no faulty version of OpenSSL does")
		return
	}
	alerts := []string{}
	for _, s := range l.seen[:4] {
		if s.Alert != "" && !slices.Contains(alerts, s.Alert) {
			alerts = append(alerts, s.Alert)
		}
	}
	said := "the server refused every hello (" + strings.Join(alerts, ", ") + ")"
	if l.out.Endpoint.SNI == "" && slices.Contains(alerts, alertName(alertUnrecognizedName)) {
		l.conclude(bulkhead.ReasonNameRequired, said+"; ask again with the name that it serves")
		return
	}
	l.conclude(bulkhead.ReasonHelloRefused, said)
}

func (l *look) list(o bulkhead.VersionOutcome) string {
	var names []string
	for _, s := range l.seen {
		if s.Outcome == o {
			names = append(names, s.Name)
		}
	}
	return strings.Join(names, ", ")
}

// report lists the versions, newest first.
func (l *look) report() []bulkhead.VersionSeen {
	out := make([]bulkhead.VersionSeen, 0, len(l.seen))
	for v := tls13; v >= ssl30; v-- {
		s := *l.at(v)
		if s.Outcome == "" {
			s = bulkhead.VersionSeen{Version: v, Name: versionName(v), Outcome: bulkhead.VersionNotAsked}
		}
		out = append(out, s)
	}
	return out
}
