package graph

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Severity orders findings.
type Severity string

// Severities. Warnings and errors are things to act on; notices are things to know.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Notice  Severity = "notice"
)

var severityOrder = map[Severity]int{Error: 0, Warning: 1, Notice: 2}

// Rule names a check of Audit.
type Rule string

// The rules; doc/reference/hierarchy-audit.md explains each.
const (
	RuleOCSPSigning     Rule = "ca-with-ocsp-signing"
	RuleAnyUsage        Rule = "ca-with-any-eku"
	RuleTwin            Rule = "twin"
	RuleOutlives        Rule = "outlives-issuer"
	RulePathLength      Rule = "path-length"
	RuleNameConstraints Rule = "name-constraints"
	RuleUnreachable     Rule = "unreachable"
	RuleIssuerNotCA     Rule = "issuer-not-ca"
	RuleWeakKey         Rule = "weak-key"
	RuleWeakSignature   Rule = "weak-signature"
	RuleExpired         Rule = "expired"
	RuleBadSignature    Rule = "bad-signature"
	RuleNotVerified     Rule = "not-verified"
	RuleSerial          Rule = "serial"
	RuleMalformed       Rule = "malformed"
	RuleLimit           Rule = "limit"
)

// Rules lists every rule.
var Rules = []Rule{RuleOCSPSigning, RuleAnyUsage, RuleTwin, RuleOutlives, RulePathLength, RuleNameConstraints, RuleUnreachable, RuleIssuerNotCA,
	RuleWeakKey, RuleWeakSignature, RuleExpired, RuleBadSignature, RuleNotVerified, RuleSerial, RuleMalformed, RuleLimit}

// Finding is one thing that Audit has to say about one certificate.
type Finding struct {
	Rule        Rule
	Severity    Severity
	Certificate *Certificate
	Message     string
	Victims     []*Certificate // others that it touches, by subject and hash
	Total       int            // number of victims; more than len(Victims) when the list was cut
}

// maxVictims bounds the victims listed in one audit, so that thousands of dangerous siblings do not list each other in
// quadratic space.
const maxVictims = 250000

// auditor collects findings.
type auditor struct {
	g        *Graph
	at       time.Time
	findings []Finding
	room     int // victims that may still be listed
	names    int // name checks that may still be made
}

// Audit looks at every certificate of the graph at a time. Findings come errors first, then by rule, subject and hash.
func Audit(g *Graph, at time.Time) []Finding {
	a := &auditor{g: g, at: at, room: maxVictims, names: maxNameChecks}
	for _, c := range g.Certificates {
		a.ocspSigning(c)
		a.outlives(c)
		a.signature(c)
		a.issuer(c)
		a.serial(c)
		a.dates(c)
		a.malformed(c)
	}
	a.twins()
	a.weakKeys()
	a.unreachable()
	a.pathLength()
	a.nameConstraints()
	slices.SortStableFunc(a.findings, func(x, y Finding) int {
		return cmp.Or(severityOrder[x.Severity]-severityOrder[y.Severity], cmp.Compare(x.Rule, y.Rule),
			cmp.Compare(x.Certificate.Subject, y.Certificate.Subject), byHash(x.Certificate, y.Certificate), cmp.Compare(x.Message, y.Message))
	})
	return a.findings
}

func (a *auditor) report(r Rule, s Severity, c *Certificate, victims []*Certificate, format string, args ...any) {
	if !slices.IsSortedFunc(victims, byRank) {
		slices.SortFunc(victims, byRank)
	}
	f := Finding{Rule: r, Severity: s, Certificate: c, Message: fmt.Sprintf(format, args...), Total: len(victims)}
	n := min(a.room, len(victims))
	a.room -= n
	f.Victims = slices.Clone(victims[:n])
	a.findings = append(a.findings, f)
}

// ocspSigning finds authorities that are delegated responders of their issuer (RFC 6960 section 4.2.2.2): the incident
// of July 2020 (mozilla 1649951).
func (a *auditor) ocspSigning(c *Certificate) {
	direct, any := c.hasUsage(usageOCSPSigning), c.hasUsage(usageAny)
	if !c.CA || !direct && !any {
		return
	}
	rule, severity, what := RuleOCSPSigning, Error, "is an authority with the extended key usage OCSPSigning"
	if !direct {
		rule, severity, what = RuleAnyUsage, Warning, "is an authority with anyExtendedKeyUsage, which some verifiers take for OCSPSigning"
	}
	nocheck := "id-pkix-ocsp-nocheck is absent"
	if c.NoCheck {
		nocheck = "id-pkix-ocsp-nocheck is there, so verifiers will not even ask whether it is revoked"
	}
	if a.g.SelfSigned(c) {
		a.report(rule, Warning, c, nil, "%s; it is self-signed, so it gains nothing by it, but certificates copied from its profile would; %s", what, nocheck)
		return
	}
	siblings, sure := a.g.Siblings(c)
	how := ""
	if !sure {
		how = "; the issuer's key is not in the input or could not be checked: siblings are those with the issuer's name and key identifier"
	}
	more := ""
	if !a.at.IsZero() && a.at.After(c.NotAfter) {
		more = "; it has expired, so verifiers should refuse its answers"
	}
	a.report(rule, severity, c, siblings, "%s: whoever holds its key can answer for %s of its issuer %q, and \"good\" for itself after its own revocation; %s%s%s",
		what, count(len(siblings), "other certificate", "other certificates"), printable(c.Issuer), nocheck, how, more)
}

// outlives finds certificates that end after every certificate of their issuer.
func (a *auditor) outlives(c *Certificate) {
	up := a.g.Issuer(c)
	if up == nil || a.g.SelfSigned(c) || c.NotAfter.IsZero() {
		return
	}
	var last time.Time
	for _, x := range up.Certificates {
		if x.NotAfter.After(last) {
			last = x.NotAfter
		}
	}
	if !last.IsZero() && c.NotAfter.After(last) {
		a.report(RuleOutlives, Warning, c, nil, "ends on %s, after its issuer %q, which ends on %s", day(c.NotAfter), printable(c.Issuer), day(last))
	}
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// signature judges how the certificate was signed.
func (a *auditor) signature(c *Certificate) {
	alg := c.signedWith()
	self := a.g.SelfSigned(c)
	switch alg.name {
	case "MD2 with RSA", "MD4 with RSA", "MD5 with RSA":
		if self {
			a.report(RuleWeakSignature, Notice, c, nil, "is signed with %s; it is self-signed, so nothing depends on that signature", alg.name)
		} else {
			a.report(RuleWeakSignature, Error, c, nil, "is signed with %s, whose collisions are practical: others with its signature can be made", alg.name)
		}
	case "SHA-1 with RSA", "SHA-1 with DSA", "SHA-1 with ECDSA", "SHA-1 with RSA-PSS":
		if !self {
			a.report(RuleWeakSignature, Warning, c, nil, "is signed with %s", alg.name)
		}
	}
	switch a.g.link[c.id] {
	case badSigned:
		if c.aki == "" && !c.SelfIssued() {
			a.report(RuleBadSignature, Warning, c, nil, "is signed by no key that the input has for its issuer %q; another key of that name may be missing", printable(c.Issuer))
		} else {
			a.report(RuleBadSignature, Error, c, nil, "its signature is not by the key of its issuer %q, though name and key identifier are", printable(c.Issuer))
		}
	case presumed:
		a.report(RuleNotVerified, Notice, c, nil, "its signature (%s) was not verified: algorithm or key is not supported; the issuer is taken by name", alg.name)
	case tooManyKeys:
		a.report(RuleNotVerified, Warning, c, nil, "its signature was not verified: the input has more than %d keys under the name %q", maxCandidates, printable(c.Issuer))
	}
}

// issuer finds certificates that hang below something that is no authority.
func (a *auditor) issuer(c *Certificate) {
	if up := a.g.Issuer(c); up != nil && !up.certifies && !a.g.SelfSigned(c) {
		a.report(RuleIssuerNotCA, Error, c, nil, "was signed by %q, which is no authority (cA is not set in any of its certificates)", printable(c.Issuer))
	}
}

// serial: RFC 5280 section 4.1.2.2; BR 7.1 asks for 64 random bits since 2016-09-30. No status is asked for self-signed
// certificates.
func (a *auditor) serial(c *Certificate) {
	severity := Warning
	if a.g.SelfSigned(c) {
		severity = Notice
	}
	switch {
	case c.Serial.Sign() < 0:
		a.report(RuleSerial, severity, c, nil, "has the negative serial number %s", c.SerialText())
	case c.Serial.Sign() == 0:
		a.report(RuleSerial, severity, c, nil, "has the serial number zero")
	case c.serialLen > 20:
		a.report(RuleSerial, severity, c, nil, "has a serial number of %d octets; 20 are allowed", c.serialLen)
	case c.Serial.BitLen() < 56 && !a.g.SelfSigned(c):
		a.report(RuleSerial, Notice, c, nil, "has a serial number of %d bits: too short to hold the 64 random bits that are asked for since 2016", c.Serial.BitLen())
	}
}

func (a *auditor) dates(c *Certificate) {
	if !a.at.IsZero() && !c.NotAfter.IsZero() && a.at.After(c.NotAfter) {
		a.report(RuleExpired, Notice, c, nil, "expired on %s", day(c.NotAfter))
	}
}

func (a *auditor) malformed(c *Certificate) {
	for _, p := range c.Problems {
		a.report(RuleMalformed, Warning, c, nil, "%s", p)
	}
}
