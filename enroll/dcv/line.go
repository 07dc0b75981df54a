package dcv

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	lineDial  = 500 * time.Millisecond // a resolver that drops TCP is asked over UDP after this
	lineIdle  = 3 * time.Second        // a server waits longer, so that an answer hardly ever meets a closed door
	lineAway  = time.Minute            // a resolver that did not take TCP is asked over UDP alone
	maxAtOnce = 1000                   // questions on one connection
)

// line is the way to one resolver: a TCP connection that is kept between questions and carries many at once (RFC 7766
// sections 6.2.1 and 7). Whoever is not on the path cannot put an answer into it, while over UDP a guessed port and
// number, or a forged fragment, is enough; and it costs no socket a question. Nothing that was answered is kept.
type line struct {
	server  string
	timeout time.Duration // of one question

	mu      sync.Mutex
	open    *conversation // nil while there is none
	dialing chan struct{} // closed when the dialling under way has ended; nil when there is none
	away    time.Time     // until then the resolver takes no TCP
}

// errNoLine says that the resolver is to be asked in another way, errCut that a connection ended before the answer came.
var (
	errNoLine = errors.New("the resolver takes no TCP")
	errCut    = errors.New("the connection to the resolver ended")
)

// ask gives the answer, or errNoLine. A connection that a server ended meanwhile is no failure: the question is asked
// again over a new one. It may have been asked already, by begin.
func (l *line) ask(ctx context.Context, m *dns.Msg, already *asked) (*dns.Msg, error) {
	for range 2 {
		if already == nil {
			all, err := l.begin(ctx, m)
			if err != nil {
				return nil, err
			}
			already = all[0]
		}
		in, err := already.wait(ctx, l.timeout)
		if errors.Is(err, os.ErrDeadlineExceeded) && already.c.dead() {
			l.giveUp()
		}
		if !errors.Is(err, errCut) {
			return in, err
		}
		already = nil
	}
	return nil, errNoLine
}

// begin asks questions in one piece and waits for no answer: each must be waited for or forgotten.
func (l *line) begin(ctx context.Context, all ...*dns.Msg) ([]*asked, error) {
	octets := make([][]byte, len(all))
	for i, m := range all {
		var err error
		if octets[i], err = m.Pack(); err != nil {
			return nil, err
		}
	}
	for range 2 {
		c, err := l.conversation(ctx)
		if err != nil {
			return nil, err
		}
		sent, err := c.send(octets, l.timeout)
		if !errors.Is(err, errCut) {
			return sent, err
		}
	}
	return nil, errNoLine
}

// conversation is the open one, or a new one. Who comes while it is dialled waits for it.
func (l *line) conversation(ctx context.Context) (*conversation, error) {
	l.mu.Lock()
	if l.open != nil && !l.open.ended() {
		defer l.mu.Unlock()
		return l.open, nil
	}
	if time.Now().Before(l.away) {
		l.mu.Unlock()
		return nil, errNoLine
	}
	if l.dialing == nil {
		l.dialing = make(chan struct{})
		go l.dial(l.dialing)
	}
	done := l.dialing
	l.mu.Unlock()
	select {
	case <-done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil {
		return nil, errNoLine
	}
	return l.open, nil
}

// dial is nobody's in particular: who asked for it may give up, and others wait for it.
func (l *line) dial(done chan struct{}) {
	conn, err := net.DialTimeout("tcp", l.server, min(lineDial, l.timeout))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open, l.dialing = nil, nil; err != nil {
		l.away = time.Now().Add(lineAway)
	} else {
		l.open = converse(conn)
	}
	close(done)
}

// giveUp leaves TCP alone for a while.
func (l *line) giveUp() {
	l.mu.Lock()
	l.away = time.Now().Add(lineAway)
	l.mu.Unlock()
}

// conversation is one connection and the questions that are open on it.
type conversation struct {
	conn net.Conn
	idle *time.Timer

	mu    sync.Mutex
	asked map[uint16]chan answered
	heard time.Time     // when the last answer came
	over  chan struct{} // closed at its end
	isOff bool
}

// answered is what came for one question.
type answered struct {
	m   *dns.Msg
	err error
}

func converse(conn net.Conn) *conversation {
	c := &conversation{conn: conn, asked: map[uint16]chan answered{}, over: make(chan struct{})}
	c.idle = time.AfterFunc(lineIdle, c.endIdle)
	go c.listen()
	return c
}

// asked is a question that was sent.
type asked struct {
	c      *conversation
	id     uint16
	answer chan answered
	at     time.Time
}

// wait gives the answer. os.ErrDeadlineExceeded when none comes within the timeout; a connection on which nothing at all came
// meanwhile is then ended.
func (a *asked) wait(ctx context.Context, timeout time.Duration) (*dns.Msg, error) {
	defer a.forget()
	select {
	case in := <-a.answer: // beside that to another question
		return in.m, in.err
	default:
	}
	c := a.c
	late := time.NewTimer(time.Until(a.at.Add(timeout)))
	defer late.Stop()
	select {
	case in := <-a.answer:
		return in.m, in.err
	case <-c.over:
		select {
		case in := <-a.answer: // the last word
			return in.m, in.err
		default:
			return nil, errCut
		}
	case <-late.C:
		c.mu.Lock()
		silent := c.heard.Before(a.at)
		c.mu.Unlock()
		if silent {
			c.end()
		}
		return nil, os.ErrDeadlineExceeded
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// forget ends a question; a connection without any is closed after a while.
func (a *asked) forget() {
	a.c.mu.Lock()
	delete(a.c.asked, a.id)
	a.c.mu.Unlock()
	a.c.idle.Reset(lineIdle)
}

// send writes packed questions, each under a number of its own and with its length before it, in one piece (RFC 7766 sections
// 6.2.1.1 and 8). Nobody who is not on the path can answer here: the numbers need no secret.
func (c *conversation) send(questions [][]byte, timeout time.Duration) ([]*asked, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isOff {
		return nil, errCut
	}
	if len(c.asked)+len(questions) > maxAtOnce {
		return nil, errNoLine
	}
	now := time.Now()
	sent := make([]*asked, len(questions))
	framed := make([]byte, 0, 64*len(questions))
	for i, q := range questions {
		id := uint16(rand.Uint32())
		for _, taken := c.asked[id]; taken; _, taken = c.asked[id] {
			id = uint16(rand.Uint32())
		}
		framed = binary.BigEndian.AppendUint16(framed, uint16(len(q)))
		framed = binary.BigEndian.AppendUint16(framed, id)
		framed = append(framed, q[2:]...)
		sent[i] = &asked{c: c, id: id, answer: make(chan answered, 1), at: now}
		c.asked[id] = sent[i].answer
	}
	_ = c.conn.SetWriteDeadline(now.Add(timeout))
	if _, err := c.conn.Write(framed); err != nil {
		c.endLocked()
		return nil, errCut
	}
	return sent, nil
}

// listen hands each answer to who asked. An answer that cannot be read fails its question alone: what a zone holds shall
// not hurt the questions of others.
func (c *conversation) listen() {
	defer c.end()
	in := bufio.NewReader(c.conn)
	for {
		var size [2]byte
		if _, err := io.ReadFull(in, size[:]); err != nil {
			return
		}
		octets := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(in, octets); err != nil || len(octets) < 2 {
			return
		}
		m := new(dns.Msg)
		err := m.Unpack(octets)
		c.mu.Lock()
		id := binary.BigEndian.Uint16(octets)
		answer := c.asked[id]
		delete(c.asked, id)
		c.heard = time.Now()
		c.mu.Unlock()
		if answer != nil {
			answer <- answered{m, err}
		}
	}
}

func (c *conversation) ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.isOff
}

// dead reports that it ended without one answer.
func (c *conversation) dead() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.isOff && c.heard.IsZero()
}

func (c *conversation) endIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.asked) == 0 {
		c.endLocked()
	}
}

func (c *conversation) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked()
}

func (c *conversation) endLocked() {
	if !c.isOff {
		c.isOff = true
		close(c.over)
		c.idle.Stop()
		_ = c.conn.Close()
	}
}
