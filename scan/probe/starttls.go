package probe

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"

	"bulkhead"
)

// Bounds of a dialogue.
const (
	maxDialogue = 1 << 15
	maxLine     = 2048
	maxLines    = 200
)

// errNoSTARTTLS says that the server will not go over to TLS.
var errNoSTARTTLS = errors.New("the server does not offer STARTTLS")

// dialogue is the conversation before TLS: a server that speaks lines, or nearly.
type dialogue struct {
	w        *wire
	endpoint bulkhead.Endpoint
	local    net.Addr
}

// dialogues lead up to the first byte of TLS.
var dialogues = map[bulkhead.STARTTLS]func(*dialogue) error{
	bulkhead.STARTTLSSMTP:     smtp,
	bulkhead.STARTTLSIMAP:     imap,
	bulkhead.STARTTLSPOP3:     pop3,
	bulkhead.STARTTLSFTP:      ftp,
	bulkhead.STARTTLSLDAP:     ldap,
	bulkhead.STARTTLSXMPP:     xmpp,
	bulkhead.STARTTLSPostgres: postgres,
}

func (d *dialogue) say(text string) error { return d.w.write([]byte(text)) }

// line reads one line without its end.
func (d *dialogue) line() (string, error) {
	var p []byte
	for {
		b, err := d.w.ReadByte()
		switch {
		case err != nil:
			return "", err
		case b == '\n':
			return strings.TrimSuffix(string(p), "\r"), nil
		case len(p) == maxLine:
			return "", fmt.Errorf("a line of more than %d bytes", maxLine)
		}
		p = append(p, b)
	}
}

// reply reads a reply of three digits that may go over several lines (RFC 5321 section 4.2, RFC 959 section 4.2). In
// FTP lines between the first and the last may be anything.
func (d *dialogue) reply() (code string, lines []string, err error) {
	for range maxLines {
		line, err := d.line()
		if err != nil {
			return "", nil, err
		}
		coded := len(line) >= 3 && strings.Trim(line[:3], "0123456789") == ""
		switch {
		case code == "" && !coded:
			return "", nil, fmt.Errorf("not a reply: %q", short(line))
		case code == "":
			code = line[:3]
		}
		if coded && len(line) > 4 {
			lines = append(lines, line[4:])
		}
		if coded && line[:3] == code && (len(line) == 3 || line[3] != '-') {
			return code, lines, nil
		}
	}
	return "", nil, errTooMuch
}

// want reads a reply and wants one code.
func (d *dialogue) want(code, after string) ([]string, error) {
	got, lines, err := d.reply()
	if err == nil && got != code {
		err = fmt.Errorf("reply %s %s", got, after)
	}
	return lines, err
}

// short keeps what of a stranger's line may stand in a message of ours.
func short(line string) string { return line[:min(len(line), 60)] }

// smtp is RFC 3207.
func smtp(d *dialogue) error {
	if _, err := d.want("220", "in place of a greeting"); err != nil {
		return err
	}
	if err := d.say("EHLO " + d.literal() + "\r\n"); err != nil {
		return err
	}
	code, lines, err := d.reply()
	switch {
	case err != nil:
		return err
	case code[0] == '5': // speaks no extensions
		return errNoSTARTTLS
	case code != "250":
		return fmt.Errorf("reply %s to EHLO", code)
	}
	offered := false
	for _, l := range lines {
		offered = offered || strings.EqualFold(strings.TrimSpace(l), "STARTTLS")
	}
	if !offered {
		return errNoSTARTTLS
	}
	if err := d.say("STARTTLS\r\n"); err != nil {
		return err
	}
	_, err = d.want("220", "to STARTTLS")
	return err
}

// literal names us by our address, as RFC 5321 section 4.1.3 has it for who has no name.
func (d *dialogue) literal() string {
	if a, ok := d.local.(*net.TCPAddr); ok {
		if v4 := a.IP.To4(); v4 != nil {
			return "[" + v4.String() + "]"
		}
		return "[IPv6:" + a.IP.String() + "]"
	}
	return "[127.0.0.1]"
}

// imap is RFC 9051 section 6.2.1.
func imap(d *dialogue) error {
	greeting, err := d.line()
	if err != nil {
		return err
	}
	if !hasFold(greeting, "* OK") {
		if hasFold(greeting, "* PREAUTH") { // too late for STARTTLS
			return errNoSTARTTLS
		}
		return fmt.Errorf("not a greeting: %q", short(greeting))
	}
	if err := d.say("b1 STARTTLS\r\n"); err != nil {
		return err
	}
	for range maxLines {
		line, err := d.line()
		switch {
		case err != nil:
			return err
		case hasFold(line, "b1 OK"):
			return nil
		case hasFold(line, "b1 NO"), hasFold(line, "b1 BAD"):
			return errNoSTARTTLS
		case hasFold(line, "* BYE"), !strings.HasPrefix(line, "* "):
			return fmt.Errorf("%q to STARTTLS", short(line))
		}
	}
	return errTooMuch
}

func hasFold(line, start string) bool {
	return len(line) >= len(start) && strings.EqualFold(line[:len(start)], start)
}

// pop3 is RFC 2595 section 4.
func pop3(d *dialogue) error {
	greeting, err := d.line()
	if err != nil {
		return err
	}
	if !hasFold(greeting, "+OK") {
		return fmt.Errorf("not a greeting: %q", short(greeting))
	}
	if err := d.say("STLS\r\n"); err != nil {
		return err
	}
	line, err := d.line()
	switch {
	case err != nil:
		return err
	case hasFold(line, "+OK"):
		return nil
	case hasFold(line, "-ERR"):
		return errNoSTARTTLS
	}
	return fmt.Errorf("%q to STLS", short(line))
}

// ftp is RFC 4217 section 4.
func ftp(d *dialogue) error {
	if _, err := d.want("220", "in place of a greeting"); err != nil {
		return err
	}
	if err := d.say("AUTH TLS\r\n"); err != nil {
		return err
	}
	code, _, err := d.reply()
	switch {
	case err != nil:
		return err
	case code == "234":
		return nil
	case code[0] == '5':
		return errNoSTARTTLS
	}
	return fmt.Errorf("reply %s to AUTH TLS", code)
}

// postgres is the SSLRequest of the frontend/backend protocol.
func postgres(d *dialogue) error {
	if err := d.say("\x00\x00\x00\x08\x04\xd2\x16\x2f"); err != nil {
		return err
	}
	b, err := d.w.ReadByte()
	switch {
	case err != nil:
		return err
	case b == 'S':
		return nil
	case b == 'N', b == 'E': // an error is what servers before 7.0 say
		return errNoSTARTTLS
	}
	return fmt.Errorf("byte %#02x to SSLRequest", b)
}

// ldapRequest is an ExtendedRequest with the OID of StartTLS (RFC 4511 section 4.14).
var ldapRequest = "\x30\x1d\x02\x01\x01\x77\x18\x80\x16" + "1.3.6.1.4.1.1466.20037"

func ldap(d *dialogue) error {
	if err := d.say(ldapRequest); err != nil {
		return err
	}
	tag, body, err := d.tlv()
	if err != nil {
		return err
	}
	inner := &dialogue{w: &wire{limit: 0}}
	if len(body) > len(inner.w.buf) {
		return fmt.Errorf("an LDAP message of %d bytes", len(body))
	}
	inner.w.w = copy(inner.w.buf[:], body)
	id, number, err1 := inner.tlv()
	kind, response, err2 := inner.tlv()
	if tag != 0x30 || err1 != nil || err2 != nil || id != 2 || !bytes.Equal(number, []byte{1}) || kind != 0x78 {
		return errors.New("not an answer to StartTLS")
	}
	if len(response) < 3 || response[0] != 0x0a || response[1] != 1 {
		return errors.New("an answer to StartTLS without a result")
	}
	if response[2] != 0 {
		return fmt.Errorf("%w (LDAP result %d)", errNoSTARTTLS, response[2])
	}
	return nil
}

// tlv reads one element of BER with a definite length below 64 kB.
func (d *dialogue) tlv() (tag byte, body []byte, err error) {
	if tag, err = d.w.ReadByte(); err != nil {
		return 0, nil, err
	}
	first, err := d.w.ReadByte()
	if err != nil {
		return 0, nil, err
	}
	length := int(first)
	if first >= 0x80 {
		if first == 0x80 || first > 0x84 {
			return 0, nil, errors.New("a BER length of this form is not read")
		}
		length = 0
		for range first & 0x7f {
			b, err := d.w.ReadByte()
			if err != nil {
				return 0, nil, err
			}
			length = length<<8 | int(b)
		}
	}
	if length > maxLine {
		return 0, nil, fmt.Errorf("a BER element of %d bytes", length)
	}
	for len(body) < length {
		b, err := d.w.ReadByte()
		if err != nil {
			return 0, nil, err
		}
		body = append(body, b)
	}
	return tag, body, nil
}
