package notice

import (
	"bufio"
	"bytes"
	"regexp"
	"strings"

	"bulkhead"
)

// Bounce is what a delivery status notification says of one of our messages.
type Bounce struct {
	MessageID  string
	Status     string // RFC 3463, like 5.1.1
	Diagnostic string
	Permanent  bool
}

var (
	ourMessageID = regexp.MustCompile(`(?i)^(?:Message-ID|X-Original-Message-ID|References|In-Reply-To):\s*<([0-9a-f]{40}@[a-z0-9.-]{1,253})>`)
	statusLine   = regexp.MustCompile(`(?i)^Status:\s*([245])\.(\d{1,3})\.(\d{1,3})`)
	actionLine   = regexp.MustCompile(`(?i)^Action:\s*(\w+)`)
)

// maxBounce bounds a report.
const maxBounce = 1 << 20

// ParseBounce finds our message id, status and diagnostic in a report (RFC 3464). It reads lines only: reports are
// multipart in many dialects, and all that matters stands at the beginning of lines in each.
func ParseBounce(mail []byte) (Bounce, error) {
	var b Bounce
	if len(mail) > maxBounce {
		return b, bulkhead.Faultf(bulkhead.KindMalformed, "a report of more than %d octets", maxBounce)
	}
	action := ""
	lines := bufio.NewScanner(bytes.NewReader(mail))
	lines.Buffer(make([]byte, 0, 4096), maxBounce+1)
	for lines.Scan() {
		l := strings.TrimRight(lines.Text(), "\r")
		if m := ourMessageID.FindStringSubmatch(l); m != nil {
			b.MessageID = strings.ToLower(m[1]) // the last one: the report has a head of its own before what it quotes
		}
		if m := statusLine.FindStringSubmatch(l); m != nil && b.Status == "" {
			b.Status = m[1] + "." + m[2] + "." + m[3]
		}
		if m := actionLine.FindStringSubmatch(l); m != nil && action == "" {
			action = strings.ToLower(m[1])
		}
		if rest, ok := cutFold(l, "Diagnostic-Code:"); ok && b.Diagnostic == "" {
			b.Diagnostic = strings.ToValidUTF8(clip(strings.TrimSpace(rest), 300), "")
		}
	}
	if b.MessageID == "" || b.Status == "" {
		return b, bulkhead.NewFault(bulkhead.KindMalformed, "this is no report about a message of ours: it has no message id or no status").WithHint("a delivery status notification as RFC 3464 has it, as one file")
	}
	b.Permanent = b.Status[0] == '5' && action != "delayed"
	return b, nil
}

func cutFold(line, prefix string) (string, bool) {
	if len(line) >= len(prefix) && strings.EqualFold(line[:len(prefix)], prefix) {
		return line[len(prefix):], true
	}
	return "", false
}

func clip(text string, most int) string {
	if len(text) > most {
		return text[:most]
	}
	return text
}
