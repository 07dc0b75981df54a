package probe

import (
	"errors"
	"fmt"
	"strings"
)

// xmppServerPort is where servers speak to each other (RFC 6120 section 3.2.1), in a name space of its own.
const xmppServerPort = 5269

// xmpp is RFC 6120 section 5.
func xmpp(d *dialogue) error {
	space := "client"
	if d.endpoint.Port == xmppServerPort {
		space = "server"
	}
	to := d.endpoint.SNI
	if to == "" {
		to = d.endpoint.Host
	}
	if strings.ContainsAny(to, `<>&'"`) {
		return errors.New("the name does not fit into a stream header")
	}
	err := d.say("<?xml version='1.0'?><stream:stream xmlns='jabber:" + space +
		"' xmlns:stream='http://etherx.jabber.org/streams' to='" + to + "' version='1.0'>")
	if err != nil {
		return err
	}
	offered := false
	for done := false; !done; {
		tag, err := d.tag()
		if err != nil {
			return err
		}
		switch name := tagName(tag); name {
		case "starttls":
			offered = true
		case "/stream:features", "/features":
			done = true
		case "stream:features", "features":
			done = strings.HasSuffix(tag, "/")
		case "stream:error", "/stream:stream":
			return fmt.Errorf("<%s> in place of features", name)
		}
	}
	if !offered {
		return errNoSTARTTLS
	}
	if err := d.say("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"); err != nil {
		return err
	}
	for range maxLines {
		tag, err := d.tag()
		if err != nil {
			return err
		}
		switch name := tagName(tag); name {
		case "proceed":
			if !strings.HasSuffix(tag, "/") { // <proceed ...></proceed>: the end belongs to it
				tag, err = d.tag()
				if err == nil && tagName(tag) != "/proceed" {
					err = fmt.Errorf("<%s> within <proceed>", short(tagName(tag)))
				}
			}
			return err
		case "failure", "stream:error", "/stream:stream":
			return fmt.Errorf("<%s> to starttls", name)
		}
	}
	return errTooMuch
}

// tag reads past text and gives the inside of the next tag. Quotes may hold what ends a tag elsewhere.
func (d *dialogue) tag() (string, error) {
	for {
		b, err := d.w.ReadByte()
		if err != nil {
			return "", err
		}
		if b == '<' {
			break
		}
	}
	var p []byte
	var quote byte
	for {
		b, err := d.w.ReadByte()
		switch {
		case err != nil:
			return "", err
		case len(p) == maxLine:
			return "", fmt.Errorf("a tag of more than %d bytes", maxLine)
		case quote == 0 && b == '>':
			return string(p), nil
		case quote == 0 && (b == '\'' || b == '"'):
			quote = b
		case b == quote:
			quote = 0
		}
		p = append(p, b)
	}
}

// tagName is the name at the start of a tag, with the slash of an end tag.
func tagName(tag string) string {
	if i := strings.IndexAny(tag[min(1, len(tag)):], " \t\r\n/"); i >= 0 {
		return tag[:i+1]
	}
	return tag
}
