package incident_test

import (
	"bufio"
	"context"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/incident"
	"bulkhead/notice"
)

// post is an SMTP server that keeps what arrives.
type post struct {
	addr string

	mu     sync.Mutex
	mails  []arrived
	refuse map[string]bool // for good
}

type arrived struct{ to, subject, body string }

func newPost(t testing.TB) *post {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	t.Cleanup(func() { l.Close() })
	p := &post{addr: l.Addr().String(), refuse: map[string]bool{}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

func (p *post) serve(c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	r, to := bufio.NewReader(c), ""
	say := func(line string) { c.Write([]byte(line + "\r\n")) }
	say("220 post")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " ")
		switch verb {
		case "RCPT":
			to = line[strings.IndexByte(line, '<')+1 : strings.IndexByte(line, '>')]
			p.mu.Lock()
			no := p.refuse[to]
			p.mu.Unlock()
			if no {
				say("550 no such user")
				continue
			}
			say("250 ok")
		case "DATA":
			say("354 go on")
			var b strings.Builder
			for line, err = r.ReadString('\n'); err == nil && line != ".\r\n"; line, err = r.ReadString('\n') {
				b.WriteString(strings.TrimPrefix(line, "."))
			}
			p.keep(to, b.String())
			say("250 kept")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func (p *post) keep(to, data string) {
	a := arrived{to: to}
	if m, err := mail.ReadMessage(strings.NewReader(data)); err == nil {
		a.subject, _ = new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
		body, _ := io.ReadAll(quotedprintable.NewReader(m.Body))
		a.body = string(body)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mails = append(p.mails, a)
}

// to returns what arrived for an address.
func (p *post) to(address string) (out []arrived) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.mails {
		if m.to == address {
			out = append(out, m)
		}
	}
	return out
}

// letters is the desk's notifier as the composed house has it: real messages by a real relay.
type letters struct {
	h    *house
	tell *notice.Tell
}

// Notify implements incident.Notifier.
func (l *letters) Notify(ctx context.Context, i bulkhead.Incident, c bulkhead.Campaign, accounts map[string]int64, alone int64) (map[string]incident.Reached, error) {
	got, err := l.tell.Call(ctx, notice.CampaignCall{Incident: i.ID, Campaign: c.ID, Generation: c.Generation, NewKey: c.Needs.NewKey, Until: c.ForceAt, Accounts: accounts, Alone: alone})
	out := map[string]incident.Reached{}
	for id, r := range got {
		out[id] = incident.Reached(r)
	}
	return out, err
}

// open makes the telling side anew, as a process that starts does.
func (l *letters) open(p *post) {
	l.h.t.Helper()
	m, err := notice.NewMail(notice.MailConfig{Server: p.addr, From: "ca@house.test", Operator: "operator@house.test", Language: "both"})
	ok(l.h.t, err)
	l.tell, err = notice.NewTell(notice.TellConfig{Store: l.h.store, Gate: open{}, Carriers: []notice.Carrier{m}, Book: l.h.desk, PartnerContacts: map[string]string{"reseller": "desk@reseller.test"},
		Language: "both", House: "Example CA", Domain: "house.test", Lease: 40 * time.Second, Now: l.h.now})
	ok(l.h.t, err)
}

// open is a gate that lets everything pass.
type open struct{}

func (open) MayTell(context.Context, string) error { return nil }

// mailHouse is a house whose campaigns send mail.
func mailHouse(t testing.TB, e engine, change ...func(*incident.Config)) (*house, *letters, *post) {
	p, l := newPost(t), &letters{}
	h := newHouseOn(t, e, append([]func(*incident.Config){func(c *incident.Config) { c.Notifier = l }}, change...)...)
	l.h = h
	l.open(p)
	return h, l, p
}

// account makes one with contacts.
func (h *house) account(id, partner string, contacts ...string) {
	h.t.Helper()
	ok(h.t, h.store.CreateAccount(h.t.Context(), bulkhead.Account{ID: id, State: bulkhead.AccountValid, Thumbprint: id, JWK: []byte("{}"), Contacts: contacts, Partner: partner, CreatedAt: h.now()}))
}
