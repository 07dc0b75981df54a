package day

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// tape stands between the judge and the edge and can play what was said before.
type tape struct {
	edge    http.Handler
	kept    map[string]*reply
	playing func(path string) bool // what is answered from the tape; nil for nothing
	mute    string                 // path that gets no answer
}

// ServeHTTP implements http.Handler.
func (p *tape) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // from memory
	r.Body = io.NopCloser(bytes.NewReader(body))
	key := r.RequestURI + string(body)
	res := &reply{code: http.StatusOK, header: http.Header{}}
	switch {
	case p.mute != "" && r.RequestURI == p.mute:
		res.body = []byte{0x30, 3, 0x0a, 1, 6} // unauthorized
	case p.playing != nil && p.playing(r.RequestURI) && p.kept[key] != nil:
		res = p.kept[key]
	default:
		p.edge.ServeHTTP(res, r)
		if p.playing == nil {
			p.kept[key] = res
		}
	}
	for name, v := range res.header {
		w.Header()[name] = v
	}
	w.WriteHeader(res.code)
	_, _ = w.Write(res.body) // into memory
}

// objects runs the judge once and wants an objection that says so, or silence.
func (l *load) objects(what, says string) {
	l.t.Helper()
	l.judge.problems = nil
	l.judge.look()
	all := strings.Join(l.judge.problems, "\n")
	l.judge.problems = nil
	switch {
	case says == "" && all != "":
		l.t.Fatalf("%s: the judge objects without a reason: %s", what, all)
	case !strings.Contains(all, says):
		l.t.Errorf("%s: no objection says %q: %s", what, says, all)
	}
}

// TestJudgeIsNotBlind plants each fault that the day would have to find, and shows silence before each.
func TestJudgeIsNotBlind(t *testing.T) {
	l := newLoad(t, 12)
	p := &tape{edge: l.judge.handler, kept: map[string]*reply{}}
	l.judge.handler = p
	isOCSP := func(path string) bool { return strings.HasPrefix(path, "/ocsp/") }
	isCRL := func(path string) bool { return strings.HasPrefix(path, "/crl/") }
	l.authorities()
	l.issue(8)
	l.h.look()
	l.objects("an ordinary minute", "")

	l.issue(1)
	l.h.clock.advance(14 * time.Minute)
	l.objects("14 minutes without a first answer", "")
	l.h.clock.advance(2 * time.Minute)
	l.objects("16 minutes without a first answer", "answered with")
	l.h.look()
	l.objects("the first answer", "")

	p.playing = func(string) bool { return false } // the tape stops here
	l.revoke(2, anyOf)
	l.h.look()
	l.objects("a revocation", "")
	p.playing = isOCSP
	l.objects("answers from before the revocation", "no longer revoked")
	p.playing = isCRL
	l.objects("a CRL from before the revocation", "listed in CRL")
	p.playing = nil
	l.forget()
	l.objects("after the tape", "")

	p.playing = func(string) bool { return false }
	for range 4 * 12 { // a refresh and a turn of the CRLs
		l.h.step(5 * time.Minute)
		l.objects("the hours that follow", "")
	}
	p.playing = isOCSP
	for _, h := range l.judge.held {
		h.asks[0].digest, h.asks[1].digest = [32]byte{}, [32]byte{}
	}
	l.objects("answers of four hours ago", "a newer one was due before")
	p.playing = isCRL
	l.objects("CRLs of four hours ago", "follows")
	p.playing, p.mute = nil, l.judge.held[len(l.judge.held)-1].asks[1].path
	l.forget()
	l.objects("a certificate that nobody answers for", "answered with")
	p.mute = ""
	l.forget()
	l.objects("after the silence", "")
	l.frozen()
}

// frozen stops the publisher for 13 hours.
func (l *load) frozen() {
	l.t.Helper()
	l.issue(1)
	l.h.look()
	l.objects("before the frost", "")
	for _, c := range []struct {
		hours time.Duration
		says  string
	}{{1, ""}, {4, "a newer one was due before"}, {2, ".crl number "}, {6, "try later"}} {
		l.h.clock.advance(c.hours * time.Hour)
		l.objects("a frozen publisher", c.says)
	}
	l.h.look()
	l.judge.look() // it notes when everything was replaced
	l.forget()
	l.objects("after the frost", "")
}

// forget makes the judge a stranger again.
func (l *load) forget() {
	l.judge.lists = map[string]*list{}
	for _, h := range l.judge.held {
		h.asks[0].last, h.asks[1].last = nil, nil
	}
}
