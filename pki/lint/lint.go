// Package lint judges the bytes of certificates and CRLs before and after they are signed (BR 4.3.1.2).
//
// Purpose: DER in, findings out. The rules are those of zlint, filtered for what the object is, and the house's own,
// one per file with source and date.
//
// Invariant: the findings depend on the bytes, the set, the date and the expectation alone; a Linter never changes
// after New, but that it remembers what it found, and may be used by any number of goroutines. No rule looks at the signature value: before signing, the
// certificate that is linted is a twin signed by a throw-away key.
//
// Refuses: to leave out a rule without a written reason. Every zlint rule that is not run is in Exclusions with the
// sets concerned and why; a name that zlint does not know makes New fail, so the list cannot rot.
package lint

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	zx509 "github.com/zmap/zcrypto/x509"
	zlint "github.com/zmap/zlint/v3/lint"

	_ "github.com/zmap/zlint/v3" // registers the rules

	"bulkhead"
)

// Set says what an object is, and thereby which rules apply.
type Set string

// Sets of certificates.
const (
	SetRoot           Set = "root"
	SetIssuing        Set = "issuing"
	SetCross          Set = "cross"
	SetDelegate       Set = "ocsp-delegate"
	SetTLSServer      Set = "tls-server"
	SetTLSServerShort Set = "tls-server-short"
	SetTLSClient      Set = "tls-client"
	SetSMIME          Set = "smime"
	SetCodeSigning    Set = "code-signing"
	SetIssuingSMIME   Set = "issuing-smime"        // authority for S/MIME
	SetIssuingCode    Set = "issuing-code-signing" // authority for code signing
	SetInfrastructure Set = "infrastructure"       // the house's own listeners: private, no claim to follow the BR
)

// Sets of CRLs.
const (
	SetCRL     Set = "crl"      // covers subscriber certificates
	SetRootCRL Set = "root-crl" // covers CA certificates (and OCSP delegates) only
)

// Sets lists all sets.
func Sets() []Set {
	return []Set{SetRoot, SetIssuing, SetIssuingSMIME, SetIssuingCode, SetCross, SetDelegate, SetTLSServer, SetTLSServerShort, SetTLSClient,
		SetSMIME, SetCodeSigning, SetInfrastructure, SetCRL, SetRootCRL}
}

func (s Set) isCRL() bool { return slices.Contains(crlSets, s) }

// Severity of a finding.
type Severity string

// Severities. Only errors block.
const (
	Error  Severity = "error"
	Warn   Severity = "warn"
	Notice Severity = "notice"
)

// Finding is one rule that an object breaks.
type Finding struct {
	Rule     string // stable name: a zlint name, or "bulkhead_…"
	Source   string // "BR 7.1.2.10.6"
	Severity Severity
	Detail   string
}

// String is "error e_rule (source): detail".
func (f Finding) String() string {
	s := fmt.Sprintf("%s %s (%s)", f.Severity, f.Rule, f.Source)
	if f.Detail != "" {
		s += ": " + f.Detail
	}
	return s
}

// Config of a Linter.
type Config struct {
	// PrivateNames says that the authority serves names and addresses that mean something only inside a network
	// (localhost, *.test, *.internal, loopback and private ranges), and that its status service may have such a
	// URL. It leaves out exactly the rules that forbid those, listed in Exclusions(true).
	PrivateNames bool
}

// Linter runs the rules. Make one with New.
type Linter struct {
	byset        map[Set]rules
	privateNames bool
	zconfig      zlint.Configuration // empty: defaults of the rules
}

type rules struct {
	certificate []certificateRule // of the library
	memory      *memory           // of what these say to frames; nil for CRLs
	dates       []time.Time       // when these begin and end
	crl         []*zlint.RevocationListLint
	own         []rule
}

// New filters the rules once for every set. It fails with KindInternal when an exclusion names a rule that zlint does
// not have.
func New(c Config) (*Linter, error) {
	l := &Linter{byset: make(map[Set]rules), privateNames: c.PrivateNames, zconfig: zlint.NewEmptyConfig()}
	for _, set := range Sets() {
		r, err := foreign(set, c.PrivateNames)
		if err != nil {
			return nil, bulkhead.NewFault(bulkhead.KindInternal, "the lint rules do not fit the lint library").
				WithHint("compare Exclusions with the zlint version in go.mod").WithCause(err)
		}
		for _, o := range ownRules() {
			if slices.Contains(o.sets, set) {
				r.own = append(r.own, o)
			}
		}
		l.byset[set] = r
	}
	return l, nil
}

// Expect is what the caller knows about the object besides its bytes. Zero fields are not checked.
type Expect struct {
	Issuer  *x509.Certificate     // the certificate whose key signs (or, for a twin, will sign)
	Names   []bulkhead.Identifier // exactly the subject alternative names, in any order; an empty non-nil list wants none
	KeyHash bulkhead.Hash         // SHA-256 of the subject's SPKI
	CRLURL  string                // exactly the one CRL distribution point
	OCSPURL string                // exactly the one OCSP pointer
	CAURL   string                // exactly the one pointer to the issuer's certificate
	Above   []*x509.Certificate   // every authority above it, nearest first: their name constraints hold
}

// Certificate lints one DER certificate as a member of set, for signing at the given time. Findings come in a fixed
// order. The error is a *bulkhead.Fault: KindMalformed when the bytes are no certificate, KindInternal when set is no
// set of certificates.
func (l *Linter) Certificate(der []byte, set Set, at time.Time) ([]Finding, error) {
	return l.Expected(der, set, at, Expect{})
}

// Expected is Certificate with what the caller knows: issuer, names, key, URLs.
func (l *Linter) Expected(der []byte, set Set, at time.Time, want Expect) ([]Finding, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil && l.byset[set].certificate != nil {
		return nil, malformed("certificate", err)
	}
	return l.Parsed(cert, set, at, want)
}

// Parsed is Expected for a certificate that the caller has parsed with crypto/x509 already.
func (l *Linter) Parsed(cert *x509.Certificate, set Set, at time.Time, want Expect) ([]Finding, error) {
	r, ok := l.byset[set]
	if !ok || set.isCRL() {
		return nil, bulkhead.Faultf(bulkhead.KindInternal, "%q is no lint set for certificates", set)
	}
	found, err := r.library(cert, set)
	if err != nil {
		return nil, err
	}
	s := &subject{set: set, at: at, cert: cert, want: want, privateNames: l.privateNames}
	for _, o := range r.own {
		found = o.run(found, s)
	}
	return sorted(found), nil
}

// CRL lints one DER CRL as a member of set, SetCRL or SetRootCRL, for signing at the given time.
func (l *Linter) CRL(der []byte, set Set, at time.Time) ([]Finding, error) {
	return l.ExpectedCRL(der, set, at, Expect{})
}

// ExpectedCRL is CRL with what the caller knows: of Expect it uses Issuer and CRLURL (the distribution point that the
// issuingDistributionPoint must name).
func (l *Linter) ExpectedCRL(der []byte, set Set, at time.Time, want Expect) ([]Finding, error) {
	r, ok := l.byset[set]
	if !ok || !set.isCRL() {
		return nil, bulkhead.Faultf(bulkhead.KindInternal, "%q is no lint set for CRLs", set)
	}
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, malformed("CRL", err)
	}
	zcrl, err := zx509.ParseRevocationList(der)
	if err != nil {
		return nil, malformed("CRL", err)
	}
	var found []Finding
	for _, lint := range r.crl {
		found = appendForeign(found, &lint.LintMetadata, lint.Execute(zcrl, l.zconfig))
	}
	s := &subject{set: set, at: at, crl: crl, want: want, privateNames: l.privateNames}
	for _, o := range r.own {
		found = o.run(found, s)
	}
	return sorted(found), nil
}

// Blocking returns nil when no finding is an error. Otherwise it is a *bulkhead.Fault of KindGate that names the rules.
func Blocking(findings []Finding) error {
	var lines []string
	for _, f := range findings {
		if f.Severity == Error {
			line := f.Rule + " (" + f.Source + ")"
			if f.Detail != "" {
				line += ": " + f.Detail
			}
			lines = append(lines, line)
		}
	}
	if lines == nil {
		return nil
	}
	return bulkhead.Faultf(bulkhead.KindGate, "lint refuses it: %s", strings.Join(lines, "; ")).
		WithHint("correct the profile or the request; no certificate was signed (BR 4.3.1.2)")
}

func malformed(what string, err error) error {
	return bulkhead.Faultf(bulkhead.KindMalformed, "the bytes are not a DER %s", what).
		WithHint("give one DER object without PEM armour").WithCause(err)
}

func appendForeign(found []Finding, m *zlint.LintMetadata, res *zlint.LintResult) []Finding {
	var sev Severity
	switch res.Status {
	case zlint.Fatal, zlint.Error:
		sev = Error
	case zlint.Warn:
		sev = Warn
	case zlint.Notice:
		sev = Notice
	default:
		return found
	}
	detail := m.Description
	if res.Details != "" {
		detail += " (" + res.Details + ")"
	}
	return append(found, Finding{Rule: m.Name, Source: cmp.Or(m.Citation, string(m.Source)), Severity: sev, Detail: detail})
}

// sorted puts errors first, then by rule and detail.
func sorted(found []Finding) []Finding {
	rank := map[Severity]int{Error: 0, Warn: 1, Notice: 2}
	slices.SortStableFunc(found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(rank[a.Severity], rank[b.Severity]), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Detail, b.Detail))
	})
	return found
}
