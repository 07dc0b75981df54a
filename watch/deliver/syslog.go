package deliver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"bulkhead"
)

// Syslog sends alarms as RFC 5424 messages. Syslog has no acknowledgement: accepted means that the message was handed to the
// network or the socket.
type Syslog struct {
	network, address string
	host, house      string
	now              func() time.Time
}

// maxDatagram bounds a message over UDP or a datagram socket (RFC 5426 section 3.2 asks receivers for 2,048 octets).
const maxDatagram = 2048

// NewSyslog reads udp://HOST:PORT, tcp://HOST:PORT or unix:///PATH.
func NewSyslog(target, house string, now func() time.Time) (*Syslog, error) {
	u, err := url.Parse(target)
	wrong := errors.New("syslog is udp://HOST:PORT, tcp://HOST:PORT or unix:///PATH")
	if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, wrong
	}
	s := &Syslog{network: u.Scheme, address: u.Host, house: house, now: now}
	switch u.Scheme {
	case "udp", "tcp":
		if _, _, err := net.SplitHostPort(u.Host); err != nil || u.Path != "" {
			return nil, wrong
		}
	case "unix":
		if s.address = u.Path; u.Host != "" || u.Path == "" {
			return nil, wrong
		}
	default:
		return nil, wrong
	}
	if s.host, err = os.Hostname(); err != nil {
		s.host = ""
	}
	return s, nil
}

// Send implements Sender.
func (s *Syslog) Send(ctx context.Context, a bulkhead.Alarm) error {
	msg := Encode(a, s.now(), s.host, s.house)
	network := s.network
	if network == "unix" {
		network = "unixgram"
	}
	d := net.Dialer{Timeout: sendTimeout}
	c, err := d.DialContext(ctx, network, s.address)
	if err != nil && s.network == "unix" {
		network = "unix" // a daemon that takes a stream
		c, err = d.DialContext(ctx, network, s.address)
	}
	if err != nil {
		return fmt.Errorf("syslog: %w", err)
	}
	defer c.Close()
	if end, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(end)
	}
	if network == "tcp" || network == "unix" {
		msg = append([]byte(strconv.Itoa(len(msg))+" "), msg...) // octet counting (RFC 6587 section 3.4.1)
	} else if len(msg) > maxDatagram {
		msg = []byte(clip(string(msg), maxDatagram))
	}
	if _, err := c.Write(msg); err != nil {
		return fmt.Errorf("syslog: %w", err)
	}
	return nil
}

// facility is "log audit" (RFC 5424 table 1).
const facility = 13

// Encode writes an RFC 5424 message: facility "log audit", severity critical, warning or notice, MSGID the detector, what
// programs read as structured data, what people read as UTF-8 text.
func Encode(a bulkhead.Alarm, now time.Time, host, house string) []byte {
	severity := map[bulkhead.Severity]int{bulkhead.Critical: 2, bulkhead.Warning: 4, bulkhead.Notice: 5}
	level, ok := severity[a.Severity]
	if !ok {
		level = severity[bulkhead.Warning]
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "<%d>1 %s %s bulkhead %d %s [alarm@32473", facility*8+level, now.UTC().Format("2006-01-02T15:04:05.000Z"), header(host, 255), os.Getpid(), header(a.Detector, 32))
	for _, p := range []struct{ name, value string }{{"id", strconv.FormatInt(a.ID, 10)}, {"house", house}, {"detector", a.Detector}, {"key", a.Key}, {"severity", string(a.Severity)},
		{"count", strconv.FormatInt(a.Count, 10)}, {"first", a.FirstAt.UTC().Format(time.RFC3339)}, {"runbook", a.Runbook}} {
		fmt.Fprintf(&b, ` %s="%s"`, p.name, escape(p.value))
	}
	b.WriteString("] \xef\xbb\xbf" + line(a.Message))
	return b.Bytes()
}

// header is a header field: printable ASCII without spaces, "-" for none.
func header(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return -1
		}
		return r
	}, text)
	if text = text[:min(len(text), most)]; text == "" {
		return "-"
	}
	return text
}

// escape is a PARAM-VALUE (RFC 5424 section 6.3.3).
func escape(text string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, `]`, `\]`).Replace(line(text))
}

// line keeps one message one line: control characters become spaces, what is not UTF-8 its replacement.
func line(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, " "))
}
