package profile

import (
	"crypto/x509"
	"net"
	"net/netip"
	"strings"

	"bulkhead"
)

// NameConstraints limit what an authority may certify (RFC 5280 section 4.2.1.10): the names below must be inside a
// permitted entry of their type, when there is one, and outside every excluded one.
//
// A DNS entry is a name and everything below it; a leading dot is allowed and means the same here, because implementations
// disagree about it. An IP entry is a range. A mail entry is a mailbox, a host, or with a leading dot every host below.
type NameConstraints struct {
	PermittedDNS   []string `json:"permitted_dns,omitempty" yaml:"permitted_dns"`
	ExcludedDNS    []string `json:"excluded_dns,omitempty" yaml:"excluded_dns"`
	PermittedIP    []string `json:"permitted_ip,omitempty" yaml:"permitted_ip"`
	ExcludedIP     []string `json:"excluded_ip,omitempty" yaml:"excluded_ip"`
	PermittedEmail []string `json:"permitted_email,omitempty" yaml:"permitted_email"`
	ExcludedEmail  []string `json:"excluded_email,omitempty" yaml:"excluded_email"`
}

// ParseConstraints sorts entries by what they look like: an address range, a mailbox, or a domain, which for an authority
// for mail is a mail host.
func ParseConstraints(u Usage, permit, exclude []string) (NameConstraints, error) {
	var n NameConstraints
	for _, x := range []struct {
		in             []string
		dns, ip, email *[]string
	}{{permit, &n.PermittedDNS, &n.PermittedIP, &n.PermittedEmail}, {exclude, &n.ExcludedDNS, &n.ExcludedIP, &n.ExcludedEmail}} {
		for _, text := range x.in {
			switch {
			case strings.Contains(text, "/"):
				*x.ip = append(*x.ip, text)
			case strings.Contains(text, "@") || u == UsageSMIME:
				*x.email = append(*x.email, text)
			default:
				*x.dns = append(*x.dns, text)
			}
		}
	}
	return n, n.Check()
}

// ConstraintsOf reads the constraints of a certificate, so that a second one for the same authority has the same.
func ConstraintsOf(c *x509.Certificate) NameConstraints {
	ranges := func(in []*net.IPNet) (out []string) {
		for _, n := range in {
			out = append(out, n.String())
		}
		return out
	}
	return NameConstraints{PermittedDNS: c.PermittedDNSDomains, ExcludedDNS: c.ExcludedDNSDomains, PermittedIP: ranges(c.PermittedIPRanges), ExcludedIP: ranges(c.ExcludedIPRanges),
		PermittedEmail: c.PermittedEmailAddresses, ExcludedEmail: c.ExcludedEmailAddresses}
}

// IsZero reports whether nothing is constrained.
func (n NameConstraints) IsZero() bool {
	return len(n.PermittedDNS)+len(n.ExcludedDNS)+len(n.PermittedIP)+len(n.ExcludedIP)+len(n.PermittedEmail)+len(n.ExcludedEmail) == 0
}

// Check verifies the syntax of every entry; KindMalformed names the first that is wrong.
func (n NameConstraints) Check() error { return n.apply(new(x509.Certificate)) }

// apply puts the constraints into a template, critical (RFC 5280 section 4.2.1.10).
func (n NameConstraints) apply(t *x509.Certificate) error {
	if n.IsZero() {
		return nil
	}
	t.PermittedDNSDomainsCritical = true
	for _, x := range []struct {
		in    []string
		out   *[]string
		check func(string) (string, error)
	}{
		{n.PermittedDNS, &t.PermittedDNSDomains, dnsConstraint}, {n.ExcludedDNS, &t.ExcludedDNSDomains, dnsConstraint},
		{n.PermittedEmail, &t.PermittedEmailAddresses, emailConstraint}, {n.ExcludedEmail, &t.ExcludedEmailAddresses, emailConstraint},
	} {
		for _, text := range x.in {
			entry, err := x.check(text)
			if err != nil {
				return err
			}
			*x.out = append(*x.out, entry)
		}
	}
	for _, x := range []struct {
		in  []string
		out *[]*net.IPNet
	}{{n.PermittedIP, &t.PermittedIPRanges}, {n.ExcludedIP, &t.ExcludedIPRanges}} {
		for _, text := range x.in {
			p, err := netip.ParsePrefix(text)
			if err != nil || p != p.Masked() || p.Addr().Is4In6() {
				return badConstraint(text, "an address range like 10.0.0.0/8")
			}
			*x.out = append(*x.out, &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())})
		}
	}
	return nil
}

func dnsConstraint(text string) (string, error) {
	name := strings.TrimPrefix(text, ".")
	if id := (bulkhead.Identifier{Type: bulkhead.DNS, Value: name}); id.Check() != nil || id.Wildcard() {
		return "", badConstraint(text, "a DNS name like example.com")
	}
	return name, nil
}

func emailConstraint(text string) (string, error) {
	host := strings.TrimPrefix(text, ".")
	if at := strings.LastIndexByte(text, '@'); at > 0 {
		host = text[at+1:]
	}
	if (bulkhead.Identifier{Type: bulkhead.DNS, Value: host}).Check() != nil || strings.HasPrefix(host, "*") {
		return "", badConstraint(text, "a mailbox, a host, or .host")
	}
	return text, nil
}

func badConstraint(text, want string) error {
	return bulkhead.Faultf(bulkhead.KindMalformed, "name constraint %q is not %s", text, want).WithHint("RFC 5280 section 4.2.1.10 has the forms")
}

// CheckConstraints holds names against the name constraints of every authority above the certificate, nearest first.
// KindRejectedIdentifier has a sub-fault per name that says which constraint of which authority refuses it. Constraints
// on other types of name (URIs, directory names) meet nothing in our certificates; a critical one that crypto/x509 does
// not know keeps the authority out when its certificate is accepted.
func CheckConstraints(names []bulkhead.Identifier, above []*x509.Certificate) error {
	var subs []bulkhead.SubFault
	for _, ca := range above {
		if !constrains(ca) {
			continue
		}
		for _, n := range names {
			if detail := violates(n, ca); detail != "" {
				subs = append(subs, bulkhead.SubFault{Identifier: n, Kind: bulkhead.KindRejectedIdentifier, Detail: detail})
			}
		}
	}
	if len(subs) == 0 {
		return nil
	}
	f := bulkhead.Faultf(bulkhead.KindRejectedIdentifier, "%s: %s", subs[0].Identifier.Value, subs[0].Detail).
		WithHint("leave the name out, or choose an authority that may certify it: bulkhead hierarchy show")
	f.Subs = subs
	return f
}

func constrains(c *x509.Certificate) bool {
	return len(c.PermittedDNSDomains)+len(c.ExcludedDNSDomains)+len(c.PermittedIPRanges)+len(c.ExcludedIPRanges)+
		len(c.PermittedEmailAddresses)+len(c.ExcludedEmailAddresses) > 0
}

// violates says which constraint of the authority refuses the name; "" when none does.
func violates(n bulkhead.Identifier, ca *x509.Certificate) string {
	who := ca.Subject.CommonName
	switch n.Type {
	case bulkhead.DNS:
		return judged(who, "DNS name", ca.PermittedDNSDomains, ca.ExcludedDNSDomains, func(c string, excluded bool) bool { return dnsInside(n.Value, c, excluded) })
	case bulkhead.Email:
		return judged(who, "mail address", ca.PermittedEmailAddresses, ca.ExcludedEmailAddresses, func(c string, excluded bool) bool { return emailInside(n.Value, c, excluded) })
	case bulkhead.IP:
		a, err := netip.ParseAddr(n.Value)
		if err != nil {
			return "not an address"
		}
		return judged(who, "address", ranges(ca.PermittedIPRanges), ranges(ca.ExcludedIPRanges), func(c string, _ bool) bool {
			p, err := netip.ParsePrefix(c)
			return err == nil && p.Contains(a.Unmap())
		})
	}
	return "names of type " + string(n.Type) + " cannot be held against the constraints of " + who
}

func judged(who, what string, permitted, excluded []string, inside func(constraint string, excluded bool) bool) string {
	for _, c := range excluded {
		if inside(c, true) {
			return "authority \"" + who + "\" excludes the " + what + " constraint \"" + c + "\""
		}
	}
	for _, c := range permitted {
		if inside(c, false) {
			return ""
		}
	}
	if len(permitted) > 0 {
		return "authority \"" + who + "\" permits only the " + what + " constraints " + strings.Join(permitted, ", ")
	}
	return ""
}

func ranges(nets []*net.IPNet) []string {
	var out []string
	for _, n := range nets {
		a, ok := netip.AddrFromSlice(n.IP)
		ones, bits := n.Mask.Size()
		if !ok || bits == 0 {
			continue // crypto/x509 refuses such a certificate
		}
		if a.Is4In6() && bits == 32 {
			a = a.Unmap()
		}
		out = append(out, netip.PrefixFrom(a, ones).String())
	}
	return out
}

// dnsInside: the constraint is the name itself or a parent of it. A wildcard stands for every name one label below, so an
// exclusion that meets any of them refuses it, while a permission must cover all of them.
func dnsInside(name, constraint string, excluded bool) bool {
	c, dotted := strings.ToLower(constraint), strings.HasPrefix(constraint, ".")
	c = strings.TrimPrefix(c, ".")
	if c == "" {
		return true // the empty constraint is every name
	}
	if rest, wildcard := strings.CutPrefix(name, "*."); wildcard {
		if under(rest, c) {
			return true
		}
		return excluded && strings.HasSuffix(c, "."+rest)
	}
	return strings.HasSuffix(name, "."+c) || !dotted && name == c
}

func under(name, parent string) bool { return name == parent || strings.HasSuffix(name, "."+parent) }

// emailInside: a mailbox is itself (its host in any case), a host is exactly that host, ".host" is every host below it.
// Verifiers disagree about hosts below a host and about the case of a mailbox, so an exclusion covers both.
func emailInside(address, constraint string, excluded bool) bool {
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return excluded
	}
	local, host := address[:at], strings.ToLower(address[at+1:])
	if i := strings.LastIndexByte(constraint, '@'); i >= 0 {
		same := constraint[:i] == local || excluded && strings.EqualFold(constraint[:i], local)
		return same && strings.EqualFold(constraint[i+1:], host)
	}
	if !excluded && constraint != "" && !strings.HasPrefix(constraint, ".") {
		return strings.EqualFold(host, constraint)
	}
	return dnsInside(host, constraint, excluded)
}
