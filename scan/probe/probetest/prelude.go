package probetest

import (
	"bytes"
	"errors"
	"strings"

	"bulkhead"
)

var errQuit = errors.New("quit")

// prelude is what a server says before TLS.
func (t *talk) prelude() error {
	if t.b.Quirk == Silent {
		t.wait()
		return errQuit
	}
	switch t.b.STARTTLS {
	case bulkhead.STARTTLSSMTP:
		return t.lines("220 mail.test ESMTP\r\n", map[string]string{
			"EHLO": t.pick("250-mail.test\r\n250-PIPELINING\r\n250-STARTTLS\r\n250 HELP\r\n", "250-mail.test\r\n250 HELP\r\n")}, "STARTTLS", "220 go ahead\r\n")
	case bulkhead.STARTTLSIMAP:
		return t.lines("* OK [CAPABILITY IMAP4rev1] ready\r\n", nil, "b1 STARTTLS", t.pick("* CAPABILITY IMAP4rev1\r\nb1 OK begin\r\n", "b1 BAD what\r\n"))
	case bulkhead.STARTTLSPOP3:
		return t.lines("+OK ready\r\n", nil, "STLS", t.pick("+OK begin\r\n", "-ERR what\r\n"))
	case bulkhead.STARTTLSFTP:
		return t.lines("220-Welcome\r\n 220 not yet\r\n220 ready\r\n", nil, "AUTH TLS", t.pick("234 begin\r\n", "502 what\r\n"))
	case bulkhead.STARTTLSLDAP:
		if err := t.need(31); err != nil {
			return err
		}
		t.in = t.in[31:]
		t.write([]byte(t.pick("\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00", "\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x02\x04\x00\x04\x00")))
	case bulkhead.STARTTLSPostgres:
		if err := t.need(8); err != nil {
			return err
		}
		t.in = t.in[8:]
		t.write([]byte(t.pick("S", "N")))
	case bulkhead.STARTTLSXMPP:
		return t.xmpp()
	}
	return t.refusing()
}

func (t *talk) pick(yes, no string) string {
	if t.b.NoSTARTTLS {
		return no
	}
	return yes
}

// refusing waits for the other side to leave when there is no TLS.
func (t *talk) refusing() error {
	if !t.b.NoSTARTTLS {
		return nil
	}
	t.wait()
	return errQuit
}

// lines greets, answers lines, and is ready for TLS after the last.
func (t *talk) lines(greeting string, answers map[string]string, last, ready string) error {
	t.write([]byte(greeting))
	for {
		at := bytes.IndexByte(t.in, '\n')
		if at < 0 {
			if err := t.more(); err != nil {
				return err
			}
			continue
		}
		line := strings.TrimSpace(string(t.in[:at]))
		t.in = t.in[at+1:]
		if line == last {
			t.write([]byte(ready))
			return t.refusing()
		}
		word, _, _ := strings.Cut(line, " ")
		t.write([]byte(answers[word]))
	}
}

func (t *talk) xmpp() error {
	if err := t.until("version='1.0'>"); err != nil {
		return err
	}
	t.write([]byte("<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='a>b' version='1.0'><stream:features>"))
	t.write([]byte(t.pick("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>", "<mechanisms/>") + "</stream:features>"))
	if err := t.refusing(); err != nil {
		return err
	}
	if err := t.until("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"); err != nil {
		return err
	}
	t.write([]byte("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"))
	return nil
}

func (t *talk) until(text string) error {
	for {
		if _, rest, found := bytes.Cut(t.in, []byte(text)); found {
			t.in = rest
			return nil
		}
		if err := t.more(); err != nil {
			return err
		}
	}
}
