package graph

import (
	"bytes"
	"encoding/base64"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	pemBegin = []byte("-----BEGIN ")
	pemEnd   = []byte("-----END ")
	pemDash  = []byte("-----")
)

// certificateLabels are the PEM labels that hold certificates (RFC 7468 section 5, and older ones). OpenSSL's trusted
// certificates carry its own settings behind the certificate.
var certificateLabels = map[string]bool{"CERTIFICATE": true, "X509 CERTIFICATE": true, "X.509 CERTIFICATE": true, "TRUSTED CERTIFICATE": true}

// Read takes the bytes of one file: any number of PEM blocks with anything between them, or DER certificates one after
// the other. Each block and each DER certificate appears in exactly one of the results; a file without any is one
// Unparsed.
func Read(file string, body []byte) ([]*Certificate, []Unparsed) {
	r := reader{file: file}
	if bytes.Contains(body, pemBegin) {
		r.pem(body)
	} else {
		r.der(body)
	}
	return r.found, r.unparsed
}

type reader struct {
	file     string
	next     int
	found    []*Certificate
	unparsed []Unparsed
}

func (r *reader) refuse(format string, args ...any) {
	r.unparsed = append(r.unparsed, Unparsed{Source{r.file, r.next}, fmt.Sprintf(format, args...)})
	r.next++
}

func (r *reader) take(der []byte, trailing bool) {
	if trailing {
		der = first(der)
	}
	c, err := Parse(der)
	if err != nil {
		r.refuse("%s", err)
		return
	}
	c.Source = Source{r.file, r.next}
	r.found = append(r.found, c)
	r.next++
}

// first is the first DER element of p; all of p when there is none.
func first(p []byte) []byte {
	in := cryptobyte.String(p)
	var element cryptobyte.String
	if in.ReadASN1Element(&element, cbasn1.SEQUENCE) {
		return element
	}
	return p
}

// der reads certificates that follow each other.
func (r *reader) der(body []byte) {
	if len(bytes.TrimSpace(body)) == 0 {
		r.refuse("the file is empty")
		return
	}
	// A line end after the last certificate is no part of it; one that is its last octet is.
	for len(bytes.TrimRight(body, "\r\n")) > 0 {
		element := first(body)
		if body[0] != 0x30 {
			if r.next == 0 {
				r.refuse("neither PEM nor DER")
			} else {
				r.refuse("%d octets follow the last certificate", len(body))
			}
			return
		}
		r.take(element, false)
		body = body[len(element):]
	}
}

// pem reads blocks more leniently than encoding/pem, which skips what it does not like without a word.
func (r *reader) pem(body []byte) {
	for {
		at := bytes.Index(body, pemBegin)
		if at < 0 {
			return
		}
		body = body[at+len(pemBegin):]
		line, rest, _ := bytes.Cut(body, []byte("\n"))
		label, _, ok := bytes.Cut(line, pemDash)
		if !ok {
			r.refuse("a PEM block has a broken first line")
			continue
		}
		end := bytes.Index(rest, pemDash)
		if end < 0 {
			r.refuse("the PEM block %q has no end", clip(label))
			return
		}
		text, closing := rest[:end], rest[end:]
		body = closing
		switch {
		case !bytes.HasPrefix(closing, pemEnd):
			r.refuse("the PEM block %q has no end", clip(label))
		case !certificateLabels[string(bytes.TrimSpace(label))]:
			r.refuse("a PEM block %q, not a certificate", clip(label))
		default:
			r.block(text, string(label) == "TRUSTED CERTIFICATE")
		}
	}
}

func clip(label []byte) string { return printable(string(label[:min(len(label), 40)])) }

func (r *reader) block(text []byte, trailing bool) {
	if at := bytes.LastIndexByte(text, ':'); at >= 0 { // RFC 1421 headers
		if nl := bytes.IndexByte(text[at:], '\n'); nl >= 0 {
			text = text[at+nl:]
		}
	}
	text = bytes.Map(func(c rune) rune {
		if c == ' ' || c == '\n' || c == '\r' || c == '\t' {
			return -1
		}
		return c
	}, text)
	text = bytes.TrimRight(text, "=")
	if len(text) > MaxCertificate*4/3+4 {
		r.refuse("the PEM block is too large for a certificate")
		return
	}
	der, err := base64.RawStdEncoding.DecodeString(string(text))
	if err != nil {
		r.refuse("the PEM block is not base64: %s", err)
		return
	}
	if len(der) == 0 {
		r.refuse("the PEM block is empty")
		return
	}
	r.take(der, trailing)
}
