package ceremony

import (
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/pki/profile"
)

// Words say what a plan does, to be read aloud by one person while another follows in the file. Dates are those of a
// ceremony held at now; the plan itself counts days.
func (p Plan) Words(now time.Time) []string {
	out := []string{fmt.Sprintf("This ceremony is called %q. Its transcript is signed by the root %s.", p.Title, p.Root)}
	if p.Change != "" {
		out = append(out, fmt.Sprintf("It carries change %s: what is signed here goes public with that change and not before.", p.Change))
	}
	for _, x := range p.Existing {
		key := "its key is not used here"
		if x.KeyURI != "" {
			key = "its key is used here: " + x.KeyURI
		}
		cert, err := x509.ParseCertificate(x.Certificate)
		if err != nil {
			out = append(out, fmt.Sprintf("The %s %s exists already, and its certificate cannot be read.", x.Kind, x.ID))
			continue
		}
		out = append(out, fmt.Sprintf("The %s %s exists already: %q, until %s; %s.", x.Kind, x.ID, cert.Subject.CommonName, cert.NotAfter.UTC().Format(time.DateOnly), key))
	}
	for i, s := range p.Steps {
		for j, line := range p.stepWords(s, now) {
			if j == 0 {
				line = fmt.Sprintf("Step %d of %d. %s", i+1, len(p.Steps), line)
			}
			out = append(out, line)
		}
	}
	return append(out, "Nothing else is signed.")
}

func until(now time.Time, days int) string {
	return now.Add(time.Duration(days) * day).UTC().Format(time.DateOnly)
}

func (p Plan) stepWords(s Step, now time.Time) []string {
	switch {
	case s.Root != nil:
		return []string{fmt.Sprintf("Make a new root %s: %q, a new %s key, for %d days, about until %s.", s.Root.ID, s.Root.Subject.CommonName, s.Root.Algorithm, s.Root.Days, until(now, s.Root.Days)),
			"It can sign authorities, their CRLs and OCSP responders, and no end certificate."}
	case s.Issuing != nil:
		return s.Issuing.words(now)
	case s.Cross != nil:
		return []string{fmt.Sprintf("Sign a second certificate for %s with the key of %s, for %d days, about until %s, path length %d.", s.Cross.Subject, s.Cross.Parent, s.Cross.Days, until(now, s.Cross.Days), s.Cross.PathLen),
			fmt.Sprintf("Everything below %s is then trusted by whoever trusts %s, too.", s.Cross.Subject, s.Cross.Parent)}
	case s.Standby != nil:
		return []string{fmt.Sprintf("Sign a stand-by certificate for the key of %s with the key of %s, for %d days, about until %s.", s.Standby.Subject, s.Standby.Parent, s.Standby.Days, until(now, s.Standby.Days)),
			"It lies ready and is served to nobody until it is activated."}
	case s.Delegate != nil:
		d := s.Delegate
		return []string{fmt.Sprintf("Sign %d OCSP responder certificates for %s; the last ends about %s.", len(d.Requests), d.Authority, until(now, len(d.Requests)*d.TurnoverDays+d.OverlapDays)),
			fmt.Sprintf("Whoever holds these keys can answer OCSP for all %d children of %s that this plan knows, and for every other one.", len(p.children(d.Authority)), d.Authority)}
	case s.Destroy != nil:
		line := "It owes nothing: every certificate below it has ended."
		if !s.Destroy.ChildrenUntil.IsZero() {
			line = fmt.Sprintf("Certificates below it live until %s; the CRLs signed before cover them.", s.Destroy.ChildrenUntil.UTC().Format(time.DateOnly))
		}
		return []string{fmt.Sprintf("DESTROY the key of %s, for ever, because: %s.", s.Destroy.Authority, strings.TrimSuffix(s.Destroy.Why, ".")), line}
	default:
		return s.CRL.words(p, now)
	}
}

func (s IssuingStep) words(now time.Time) []string {
	usage := s.Usage
	if usage == "" {
		usage = profile.UsageTLS
	}
	names := "for any name"
	if !s.Names.IsZero() {
		names = "within its name constraints only: " + constraintWords(s.Names)
	}
	key := "its request cannot be read"
	if csr, err := x509.ParseCertificateRequest(s.Request.CSR); err == nil {
		key = "whose key has SHA-256 " + group(bulkhead.Digest(csr.RawSubjectPublicKeyInfo).String()[:32])
	}
	return []string{fmt.Sprintf("Sign the %s authority %s, %q, with the key of %s, for %d days, about until %s, %s.", s.Kind, s.ID, s.Subject.CommonName, s.Parent, s.Days, until(now, s.Days), key),
		fmt.Sprintf("It can sign %s certificates %s. It can sign no other authority and answer OCSP for nobody but its own children.", usage, names)}
}

func constraintWords(n profile.NameConstraints) string {
	var parts []string
	for _, x := range []struct {
		what string
		list []string
	}{{"permitted", n.PermittedDNS}, {"permitted", n.PermittedIP}, {"permitted", n.PermittedEmail}, {"excluded", n.ExcludedDNS}, {"excluded", n.ExcludedIP}, {"excluded", n.ExcludedEmail}} {
		if len(x.list) > 0 {
			parts = append(parts, x.what+" "+strings.Join(x.list, ", "))
		}
	}
	return strings.Join(parts, "; ")
}

func (s CRLStep) words(p Plan, now time.Time) []string {
	n := s.count()
	out := []string{fmt.Sprintf("Sign %d CRLs of %s, numbers %d to %d: one for now, and successors every %d days until about %s; each lives %d days.",
		n, s.Authority, s.AfterNumber+1, s.AfterNumber+int64(n), s.TurnoverDays, until(now, s.HorizonDays), s.TurnoverDays+s.OverlapDays)}
	if len(s.Revoked) == 0 {
		return append(out, "They say that nothing is revoked.")
	}
	out = append(out, fmt.Sprintf("They say that %d certificates are revoked, and no other:", len(s.Revoked)))
	for _, r := range s.Revoked {
		name := ""
		for _, x := range p.Existing {
			if cert, err := x509.ParseCertificate(x.Certificate); err == nil && cert.SerialNumber.Cmp(r.Serial.Big()) == 0 {
				name = fmt.Sprintf(", which is %s, %q", x.ID, cert.Subject.CommonName)
			}
		}
		out = append(out, fmt.Sprintf("  serial %s%s, since %s, %s.", r.Serial, name, r.At.UTC().Format(time.RFC3339), r.Reason))
	}
	return out
}

// children are the authorities directly below one, as far as the plan knows them.
func (p Plan) children(id bulkhead.AuthorityID) []bulkhead.AuthorityID {
	var out []bulkhead.AuthorityID
	var above *x509.Certificate
	for _, x := range p.Existing {
		if x.ID == id {
			above, _ = x509.ParseCertificate(x.Certificate) // nil when it cannot be read: then it has no children here
		}
	}
	for _, x := range p.Existing {
		if cert, err := x509.ParseCertificate(x.Certificate); above != nil && err == nil && x.ID != id && cert.CheckSignatureFrom(above) == nil {
			out = append(out, x.ID)
		}
	}
	for _, s := range p.Steps {
		if s.Issuing != nil && s.Issuing.Parent == id {
			out = append(out, s.Issuing.ID)
		}
	}
	return out
}

// group writes a hash for reading aloud: four digits at a time.
func group(hex string) string {
	var b strings.Builder
	for i := 0; i < len(hex); i += 4 {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(hex[i:min(i+4, len(hex))])
	}
	return b.String()
}

// Grouped is the plan's digest for reading aloud.
func (p Plan) Grouped() string { return group(p.Digest().String()) }

// powers are what the plan lets somebody do afterwards that nobody may overlook, one sentence each.
func (p Plan) powers() []string {
	var out []string
	for _, s := range p.Steps {
		switch {
		case s.Root != nil:
			out = append(out, fmt.Sprintf("a new trust anchor %s", s.Root.ID))
		case s.Issuing != nil:
			usage := s.Issuing.Usage
			if usage == "" {
				usage = profile.UsageTLS
			}
			names := "for any name"
			if !s.Issuing.Names.IsZero() {
				names = constraintWords(s.Issuing.Names)
			}
			out = append(out, fmt.Sprintf("%s could sign %s certificates, %s, below %s", s.Issuing.ID, usage, names, s.Issuing.Parent))
		case s.Cross != nil:
			out = append(out, fmt.Sprintf("%s would be trusted by whoever trusts %s, with %d authorities below it", s.Cross.Subject, s.Cross.Parent, s.Cross.PathLen))
		case s.Standby != nil:
			out = append(out, fmt.Sprintf("%s could be served under %s", s.Standby.Subject, s.Standby.Parent))
		case s.Delegate != nil:
			for _, r := range s.Delegate.Requests {
				key := "an unreadable request"
				if csr, err := x509.ParseCertificateRequest(r.CSR); err == nil {
					key = bulkhead.Digest(csr.RawSubjectPublicKeyInfo).String()[:16]
				}
				out = append(out, fmt.Sprintf("key %s could sign OCSP for %d siblings below %s", key, len(p.children(s.Delegate.Authority)), s.Delegate.Authority))
			}
		}
	}
	return out
}

// NewPower names what p grants and old does not: a change of a ceremony template is judged by it.
func (p Plan) NewPower(old Plan) []string {
	had := map[string]bool{}
	for _, x := range old.powers() {
		had[x] = true
	}
	out := []string{}
	for _, x := range p.powers() {
		if !had[x] {
			out = append(out, x)
		}
	}
	return append(out, p.looseFaults()...)
}

// looseFaults names powers that no ceremony grants and a template may nevertheless ask for by its shape.
func (p Plan) looseFaults() []string {
	var out []string
	for _, s := range p.Steps {
		if s.Issuing == nil {
			continue
		}
		if csr, err := x509.ParseCertificateRequest(s.Issuing.Request.CSR); err == nil {
			if _, err := requestedUsage(csr); err != nil {
				out = append(out, fmt.Sprintf("%s asks for more than a ceremony gives (with OCSPSigning it could sign OCSP for %d siblings): %s",
					s.Issuing.ID, len(p.children(s.Issuing.Parent)), bulkhead.AsFault(err).Detail))
			}
		}
	}
	return out
}
