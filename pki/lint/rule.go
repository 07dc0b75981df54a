package lint

import (
	"crypto/x509"
	"fmt"
	"time"
)

// rule is one of the house's own. Each has a file of its own.
type rule struct {
	name     string // "bulkhead_…"
	source   string
	severity Severity
	from     time.Time // date of signing from which it applies; zero for always
	sets     []Set
	check    func(*subject, report)
}

// report takes one broken detail.
type report func(format string, args ...any)

// subject is what a rule looks at.
type subject struct {
	set  Set
	at   time.Time
	cert *x509.Certificate    // nil for a CRL
	crl  *x509.RevocationList // nil for a certificate
	want Expect

	privateNames bool
}

func (r rule) run(found []Finding, s *subject) []Finding {
	if s.at.Before(r.from) {
		return found
	}
	r.check(s, func(format string, args ...any) {
		found = append(found, Finding{Rule: r.name, Source: r.source, Severity: r.severity, Detail: fmt.Sprintf(format, args...)})
	})
	return found
}

// OwnRule describes a rule of the house for documents.
type OwnRule struct {
	Name, Source string
	Severity     Severity
	From         time.Time
	Sets         []Set
}

// OwnRules lists the house's own rules.
func OwnRules() []OwnRule {
	var list []OwnRule
	for _, r := range ownRules() {
		list = append(list, OwnRule{r.name, r.source, r.severity, r.from, r.sets})
	}
	return list
}

func ownRules() []rule {
	return []rule{
		caOCSPSigning(), caAnyUsage(), caShape(), caUsageMissing(), caOneUsage(), rootValidity(),
		delegateProfile(), delegateSubject(), delegateFuture(),
		serialSize(), validityLimit(), mailValidity(), notBeforeWindow(),
		pointersPresent(), pointersAbsent(), pointerHost(),
		namesExpected(), nameConstraints(), leafUsage(), keyReuse(), keyExpected(),
		signatureAlgorithm(), parentEnd(), parentLink(),
		crlWindow(), crlReason(), crlScope(), crlParent(),
	}
}
