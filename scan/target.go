package scan

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"

	"bulkhead"
)

// Target is one thing to look at: a host, or a block of addresses, at one port.
type Target struct {
	Text     string // how it is called in results; unique in a run
	Host     string // a name in lower case, or an address; "" for a block
	Address  netip.Addr
	Block    netip.Prefix
	Port     uint16
	SNI      string
	STARTTLS bulkhead.STARTTLS
}

// schemes are the ways to write a service: its port, and what is spoken before TLS.
var schemes = map[string]struct {
	port     uint16
	starttls bulkhead.STARTTLS
}{
	"https": {443, ""}, "tls": {443, ""}, "smtps": {465, ""}, "imaps": {993, ""}, "pop3s": {995, ""}, "ldaps": {636, ""}, "ftps": {990, ""},
	"smtp": {25, bulkhead.STARTTLSSMTP}, "submission": {587, bulkhead.STARTTLSSMTP}, "imap": {143, bulkhead.STARTTLSIMAP},
	"pop3": {110, bulkhead.STARTTLSPOP3}, "ftp": {21, bulkhead.STARTTLSFTP}, "ldap": {389, bulkhead.STARTTLSLDAP},
	"xmpp": {5222, bulkhead.STARTTLSXMPP}, "postgres": {5432, bulkhead.STARTTLSPostgres}, "postgresql": {5432, bulkhead.STARTTLSPostgres},
}

func noTarget(text, why string, args ...any) error {
	if len(text) > 100 {
		text = text[:100] + "…"
	}
	return bulkhead.Faultf(bulkhead.KindUsage, "%q is no target: %s", text, fmt.Sprintf(why, args...)).
		WithHint("bulkhead scan www.example.com 192.0.2.1 www.example.com:8443 smtp://mail.example.com")
}

// ParseTarget reads a name, an address, HOST:PORT, [IPv6]:PORT, SCHEME://HOST[:PORT], or a block of addresses. port is
// taken where the text and its scheme have none.
func ParseTarget(text string, port uint16) (Target, error) {
	t := Target{Port: port}
	rest, explicit := text, false
	if scheme, after, ok := strings.Cut(text, "://"); ok {
		s, known := schemes[strings.ToLower(scheme)]
		if !known {
			return t, noTarget(text, "%s:// is not known", scheme)
		}
		u, err := url.Parse("x://" + after)
		if err != nil || u.Host == "" || u.User != nil {
			return t, noTarget(text, "the address after %s:// cannot be read", scheme)
		}
		rest, t.Port, t.STARTTLS = u.Host, s.port, s.starttls
		explicit = true
	} else if strings.Contains(rest, "/") {
		p, err := netip.ParsePrefix(rest)
		if err != nil {
			return t, noTarget(text, "it is neither a host nor a block of addresses")
		}
		t.Block, t.Text = p.Masked(), fmt.Sprintf("%s port %d", p.Masked(), port)
		return t, nil
	}
	bare := rest
	if strings.HasPrefix(rest, "[") && strings.HasSuffix(rest, "]") {
		bare = rest[1 : len(rest)-1]
	}
	if a, err := netip.ParseAddr(bare); err == nil {
		rest, t.Address = bare, a
	} else if host, p, err := net.SplitHostPort(rest); err == nil {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return t, noTarget(text, "%q is no port", p)
		}
		rest, t.Port = host, uint16(n)
	}
	if err := t.host(text, rest); err != nil {
		return t, err
	}
	if t.Text = text; !explicit {
		t.Text = net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port)))
	}
	return t, nil
}

func (t *Target) host(text, host string) error {
	if a, err := netip.ParseAddr(host); err == nil {
		if t.Address = a.Unmap(); a.Zone() != "" {
			return noTarget(text, "an address with a zone is of this link alone")
		}
		t.Host = t.Address.String()
		return nil
	}
	host = strings.TrimSuffix(host, ".")
	ascii, err := idna.Lookup.ToASCII(host)
	if err != nil || ascii == "" || len(ascii) > 253 || strings.ContainsAny(ascii, "*_ ") || numeric(ascii) {
		return noTarget(text, "%q is neither a name nor an address", host)
	}
	t.Host, t.SNI = strings.ToLower(ascii), strings.ToLower(ascii)
	return nil
}

// numeric reports names that some resolvers take for addresses: "2130706433", "0x7f.1", "127.1".
func numeric(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	if last == "" {
		return true
	}
	_, err := strconv.ParseUint(last, 0, 64)
	return err == nil || strings.Trim(last, "0123456789") == ""
}

func localhost(name string) bool { return name == "localhost" || strings.HasSuffix(name, ".localhost") }

// Own is the addresses that the asker wrote himself, for a Guard. "localhost" is such a word.
func Own(all []Target) []netip.Prefix {
	var out []netip.Prefix
	for _, t := range all {
		switch {
		case t.Block.IsValid():
			out = append(out, t.Block)
		case t.Address.IsValid():
			out = append(out, netip.PrefixFrom(t.Address, t.Address.BitLen()))
		case localhost(t.Host):
			out = append(out, netip.MustParsePrefix("127.0.0.1/32"), netip.PrefixFrom(netip.IPv6Loopback(), 128))
		}
	}
	return out
}

// mostTargets of one file, and the longest line of one.
const (
	mostTargets = 1_000_000
	longestLine = 4096
)

// ReadTargets reads one target a line; empty lines and what follows "#" are passed over. A line that is no target is an error
// that names it: a list that was half understood must not look done.
func ReadTargets(r io.Reader, name string, ports []uint16) ([]Target, error) {
	var out []Target
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 0, 1024), longestLine)
	for n := 1; sc.Scan(); n++ {
		line, _, _ := strings.Cut(sc.Text(), "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		more, err := ParseTargets(line, ports)
		if err != nil {
			f := bulkhead.AsFault(err)
			return nil, bulkhead.Faultf(f.Kind, "%s line %d: %s", name, n, f.Detail).WithHint(f.Hint)
		}
		if out = append(out, more...); len(out) > mostTargets {
			return nil, bulkhead.Faultf(bulkhead.KindUsage, "%s has more than %d targets", name, mostTargets).WithHint("split it")
		}
	}
	if err := sc.Err(); err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be read: %s", name, err)
	}
	return out, nil
}

// ParseTargets is ParseTarget at each port; what has a port of its own is one target.
func ParseTargets(text string, ports []uint16) ([]Target, error) {
	var out []Target
	seen := map[string]bool{}
	for _, p := range ports {
		t, err := ParseTarget(text, p)
		if err != nil {
			return nil, err
		}
		if !seen[t.Text] {
			seen[t.Text] = true
			out = append(out, t)
		}
	}
	return out, nil
}
