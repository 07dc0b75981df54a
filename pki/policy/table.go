package policy

import "time"

// Ids of the rows, as incident reports and documents cite them.
const (
	ValidityMax       = "LIFE-MAX"
	ValidityShould    = "LIFE-SHOULD"
	ShortLivedMax     = "REV-SL"
	DCVReuseMax       = "DCV-REUSE"
	IdentityReuseMax  = "ID-REUSE"
	CAAReuseMin       = "CAA-REUSE"
	CAACorroboration  = "CAA-CORR"
	NotBeforeWindow   = "NB-LEAF"
	NotBeforeWindowCA = "NB-CA"
	RootValidityMin   = "ROOT-MIN"
	RootValidityMax   = "ROOT-MAX"
	MailValidityMax   = "SMIME-MAX"
	SerialMinBits     = "SER-MIN"
	SerialMaxBits     = "SER-MAX"

	Revoke24h       = "REV-24H"
	Revoke5d        = "REV-5D"
	Revoke5dShould  = "REV-5D-SHOULD"
	RevokeCA        = "REV-CA"
	ProblemReport   = "CPR"
	Suspension      = "REV-NOHOLD"
	ReasonForLeaf   = "REV-REASON"
	CRLFirst        = "CRL-FIRST"
	CRLLeafOCSP     = "CRL-LEAF-OCSP"
	CRLLeaf         = "CRL-LEAF"
	CRLAfterRevoke  = "CRL-REV"
	CRLNext         = "CRL-NEXT"
	CRLCA           = "CRL-CA"
	CRLCCADB        = "CRL-CCADB"
	CRLCCADBRevoked = "CRL-CCADB-REV"
	CRLAvailable    = "CRL-AVAIL"
	CRLNumberBits   = "CRL-NUM"
	StatusResponse  = "STAT-RT"

	OCSPAvailable    = "OCSP-AVAIL"
	OCSPMin          = "OCSP-MIN"
	OCSPMax          = "OCSP-MAX"
	OCSPShort        = "OCSP-SHORT"
	OCSPShortDivisor = "OCSP-UPD-S"
	OCSPLongBefore   = "OCSP-UPD-L"
	OCSPLongAfter    = "OCSP-UPD-L4"
	OCSPCA           = "OCSP-CA"
	SHA1Gone         = "OCSP-SIG"

	MPICPerspectives = "MPIC-N"
	MPICEnforced     = "MPIC-MUST"
	MPICRIRs         = "MPIC-RIR"
	DNSSECPrimary    = "MPIC-DNSSEC"

	LintBeforeSigning = "LINT"
	WeakKeyChecks     = "KEY-WEAK"
	FermatRounds      = "KEY-FERMAT"
	LogRetention      = "LOG-KEEP"
	SelfAudit         = "AUDIT"

	IncidentFirst      = "IR-FIRST"
	IncidentFull       = "IR-FULL"
	IncidentAnswer     = "IR-ANSWER"
	IncidentUpdate     = "IR-UPDATE"
	IncidentAction     = "IR-ACTION"
	DelayUpdate        = "IR-DELAY"
	DelayUpdateShould  = "IR-DELAY-SHOULD"
	IncidentList       = "IR-LIST"
	CADisclosure       = "CA-DISCLOSE"
	SupersededTemplate = "IR-TEMPLATE"
)

var (
	sc081a  = date(2026, time.March, 15) // first step of the shortening (SC-081)
	sc081b  = date(2027, time.March, 15)
	sc081c  = date(2029, time.March, 15)
	br200   = date(2023, time.September, 15) // certificate profiles (SC-062)
	sc063   = date(2024, time.March, 15)     // OCSP optional, short-lived certificates defined
	mpic1   = date(2025, time.March, 15)
	mpic2   = date(2025, time.September, 15)
	mpic3   = date(2026, time.March, 15)
	mpic4   = date(2026, time.June, 15)
	mpic5   = date(2026, time.December, 15)
	sc097   = date(2026, time.September, 15) // last SHA-1 signatures gone
	sc073   = date(2024, time.November, 15)  // weak key checks spelled out
	forever = time.Time{}
)

const (
	tlsLeaf = "TLS server certificates"
	caCert  = "subordinate CA certificates"
	ocspSub = "OCSP answers for subscriber certificates"
)

// table is the record of POLICY 3.1 to 3.7; ids may repeat, with times that follow each other.
var table = append(append(append(lifeRows(), revocationRows()...), statusRows()...), conductRows()...)

func lifeRows() []Row {
	const maxRule, should = "a certificate is valid for at most", "a certificate should be valid for at most"
	const dcv, ident = "a validation of a name or address is reused for at most", "a validation of identity is reused for at most"
	return []Row{
		{ValidityMax, maxRule, days(398), date(2020, time.September, 1), sc081a, "BR 6.3.2", tlsLeaf},
		{ValidityMax, maxRule, days(200), sc081a, sc081b, "BR 6.3.2 (SC-081)", tlsLeaf},
		{ValidityMax, maxRule, days(100), sc081b, sc081c, "BR 6.3.2 (SC-081)", tlsLeaf},
		{ValidityMax, maxRule, days(47), sc081c, forever, "BR 6.3.2 (SC-081)", tlsLeaf},
		{ValidityShould, should, days(397), date(2020, time.September, 1), sc081a, "BR 6.3.2", tlsLeaf},
		{ValidityShould, should, days(199), sc081a, sc081b, "BR 6.3.2 (SC-081)", tlsLeaf},
		{ValidityShould, should, days(99), sc081b, sc081c, "BR 6.3.2 (SC-081)", tlsLeaf},
		{ValidityShould, should, days(46), sc081c, forever, "BR 6.3.2 (SC-081)", tlsLeaf},
		{ShortLivedMax, "no duty to revoke up to a validity of", days(10), sc063, sc081a, "BR 1.6.1, 4.9.1.1 (SC-063)", tlsLeaf},
		{ShortLivedMax, "no duty to revoke up to a validity of", days(7), sc081a, forever, "BR 1.6.1, 4.9.1.1 (SC-063)", tlsLeaf},
		{DCVReuseMax, dcv, days(398), date(2021, time.October, 1), sc081a, "BR 4.2.1", tlsLeaf},
		{DCVReuseMax, dcv, days(200), sc081a, sc081b, "BR 4.2.1 (SC-081)", tlsLeaf},
		{DCVReuseMax, dcv, days(100), sc081b, sc081c, "BR 4.2.1 (SC-081)", tlsLeaf},
		{DCVReuseMax, dcv, days(10), sc081c, forever, "BR 4.2.1 (SC-081)", tlsLeaf},
		{IdentityReuseMax, ident, days(825), forever, sc081a, "BR 4.2.1", tlsLeaf},
		{IdentityReuseMax, ident, days(398), sc081a, forever, "BR 4.2.1 (SC-081)", tlsLeaf},
		{CAAReuseMin, "a CAA answer may be relied on for its TTL, or if that is shorter for", hours(8), forever, forever, "BR 3.2.2.8", tlsLeaf},
		{CAACorroboration, "a corroborated CAA check is reused for at most", days(398), mpic1, forever, "BR 3.2.2.9", tlsLeaf},
		{NotBeforeWindow, "notBefore lies this near to the time of signing", hours(48), br200, forever, "BR 7.1.2.7", tlsLeaf},
		{NotBeforeWindowCA, "notBefore lies before the time of signing by at most", hours(24), br200, forever, "BR 7.1.2.1.1, 7.1.2.6.1, 7.1.2.8.1", "CA and OCSP responder certificates"},
		{RootValidityMin, "a root is valid for at least", days(2922), br200, forever, "BR 7.1.2.1.1", "root certificates"},
		{RootValidityMax, "a root is valid for at most", days(9132), br200, forever, "BR 7.1.2.1.1", "root certificates"},
		{MailValidityMax, "a strict or multipurpose S/MIME certificate is valid for at most", days(825), date(2023, time.September, 1), forever, "S/MIME BR 6.3.2", "S/MIME certificates"},
		{SerialMinBits, "bits of a serial number from a secure random source, at least", count(64), date(2016, time.September, 30), forever, "BR 7.1.2.7", "all certificates"},
		{SerialMaxBits, "a serial number is positive and below 2 to the power of", count(159), forever, forever, "BR 7.1.2.7, RFC 5280 4.1.2.2", "all certificates"},
	}
}

func revocationRows() []Row {
	return []Row{
		{Revoke24h, "revoke within", hours(24), forever, forever, "BR 4.9.1.1 (1-5)", tlsLeaf},
		{Revoke5dShould, "should revoke within", hours(24), forever, forever, "BR 4.9.1.1 (6-16)", tlsLeaf},
		{Revoke5d, "revoke within", days(5), forever, forever, "BR 4.9.1.1 (6-16)", tlsLeaf},
		{RevokeCA, "revoke within", days(7), forever, forever, "BR 4.9.1.2", caCert},
		{ProblemReport, "preliminary report to subscriber and reporter within", hours(24), forever, forever, "BR 4.9.5", "problem reports"},
		{Suspension, "suspension of a certificate is allowed (1) or not (0)", count(0), forever, forever, "BR 4.9.13", "all certificates"},
		{ReasonForLeaf, "reason codes 0 (left out), 1, 3, 4, 5 and 9 only", count(1), date(2022, time.October, 1), forever, "BR 7.2.2, MRSP 6.1.1", tlsLeaf},
	}
}

func statusRows() []Row {
	const leafCRL, caCRL, all = "CRLs for subscriber certificates", "CRLs for CA certificates", "CRLs"
	return []Row{
		{CRLFirst, "first CRL after the first certificate of a CA within", hours(24), sc063, forever, "BR 4.9.7", all},
		{CRLLeafOCSP, "new CRL, when every certificate points to OCSP, at least every", days(7), forever, forever, "BR 4.9.7", leafCRL},
		{CRLLeaf, "new CRL, when some certificate does not point to OCSP, at least every", days(4), sc063, forever, "BR 4.9.7", leafCRL},
		{CRLAfterRevoke, "new CRL after a revocation was recorded within", hours(24), sc063, forever, "BR 4.9.7", all},
		{CRLNext, "nextUpdate is after thisUpdate by at most", days(10), forever, forever, "BR 7.2, MRSP 6", leafCRL},
		{CRLCA, "new CRL, and nextUpdate after thisUpdate, at most", months(12), forever, forever, "BR 4.9.7, 7.2", caCRL},
		{CRLCCADB, "disclose the CRL URL after the first certificate that has it within", days(7), forever, forever, "CCADB policy", all},
		{CRLCCADBRevoked, "disclose the CRL URL after the first revocation on it within", hours(4), forever, forever, "CCADB policy", all},
		{CRLAvailable, "a CRL can be fetched at least every", hours(4), forever, forever, "CCADB policy", all},
		{CRLNumberBits, "CRLNumber is below 2 to the power of", count(159), forever, forever, "BR 7.2.2", all},
		{StatusResponse, "a CRL or OCSP answer takes at most", span(10 * time.Second), forever, forever, "BR 4.10.2", "status services"},
		{OCSPAvailable, "an authoritative answer after publication of a certificate within", span(15 * time.Minute), date(2025, time.January, 15), forever, "BR 4.9.9", ocspSub},
		{OCSPMin, "validity of an answer, at least", hours(8), date(2020, time.September, 30), forever, "BR 4.9.9", ocspSub},
		{OCSPMax, "validity of an answer, at most", days(10), date(2020, time.September, 30), forever, "BR 4.9.9", ocspSub},
		{OCSPShort, "an interval is short below", hours(16), date(2020, time.September, 30), forever, "BR 4.9.9", ocspSub},
		{OCSPShortDivisor, "a short interval is renewed before nextUpdate by the interval divided by", count(2), date(2020, time.September, 30), forever, "BR 4.9.9", ocspSub},
		{OCSPLongBefore, "a long interval is renewed before nextUpdate by at least", hours(8), date(2020, time.September, 30), forever, "BR 4.9.9", ocspSub},
		{OCSPLongAfter, "a long interval is renewed after thisUpdate within", days(4), date(2020, time.September, 30), forever, "BR 4.9.9", ocspSub},
		{OCSPCA, "a new answer for a CA certificate at least every", months(12), forever, forever, "BR 4.9.9", "OCSP answers for CA certificates"},
		{SHA1Gone, "signatures with SHA-1 are allowed (1) or not (0)", count(1), forever, sc097, "BR 7.1.3.2", "OCSP responders, old CRLs"},
		{SHA1Gone, "signatures with SHA-1 are allowed (1) or not (0)", count(0), sc097, forever, "BR 7.1.3.2 (SC-097)", "all certificates, CRLs and OCSP answers"},
	}
}

func conductRows() []Row {
	const n, must, rir = "remote perspectives that take part, at least", "too few corroborations stop issuance (1) or are only recorded (0)",
		"regional registries in which the corroborating perspectives lie, at least"
	const dcv, reports = "domain validation and CAA", "incident reports"
	return []Row{
		{MPICPerspectives, n, count(2), mpic1, mpic3, "BR 3.2.2.9", dcv},
		{MPICPerspectives, n, count(3), mpic3, mpic4, "BR 3.2.2.9", dcv},
		{MPICPerspectives, n, count(4), mpic4, mpic5, "BR 3.2.2.9", dcv},
		{MPICPerspectives, n, count(5), mpic5, forever, "BR 3.2.2.9", dcv},
		{MPICEnforced, must, count(0), mpic1, mpic2, "BR 3.2.2.9", dcv},
		{MPICEnforced, must, count(1), mpic2, forever, "BR 3.2.2.9", dcv},
		{MPICRIRs, rir, count(2), mpic3, forever, "BR 3.2.2.9", dcv},
		{DNSSECPrimary, "DNSSEC is validated on the primary perspective (1) or not (0)", count(1), sc081a, forever, "BR 3.2.2.8.1 (SC-085)", dcv},
		{LintBeforeSigning, "linting before signing is mandatory (1) or not (0)", count(1), mpic1, forever, "BR 4.3.1.2", tlsLeaf},
		{WeakKeyChecks, "Debian, ROCA and close-prime checks are mandatory (1) or not (0)", count(1), sc073, forever, "BR 6.1.1.3 (SC-073)", tlsLeaf},
		{FermatRounds, "rounds of Fermat factorisation, at least", count(100), sc073, forever, "BR 6.1.1.3 (SC-073)", "RSA keys"},
		{LogRetention, "records are kept after the event, expiry or destruction of the key for", months(24), forever, forever, "BR 5.4.3, 5.5.2", "audit logs and archives"},
		{SelfAudit, "a random sample is linted again at least every", months(3), forever, forever, "BR 8.7", tlsLeaf},
		{CADisclosure, "a CA certificate or its revocation is disclosed within", days(7), forever, forever, "CCADB policy", caCert},
		{IncidentFirst, "first report after becoming aware within", hours(72), forever, forever, "IRG 3.2", reports},
		{IncidentFull, "full report after the first disclosure within", days(14), forever, forever, "IRG 3.2", reports},
		{IncidentAnswer, "questions are answered within", days(7), forever, forever, "IRG 3.2", reports},
		{IncidentUpdate, "an open report is updated, unless it names a date, every", days(7), forever, forever, "IRG 3.2", reports},
		{IncidentAction, "a report is updated after an action item changed within", days(3), forever, forever, "IRG 3.2", reports},
		{DelayUpdateShould, "an update on delayed revocation should come every", days(3), forever, forever, "IRG 3.2", reports},
		{DelayUpdate, "an update on delayed revocation comes at least every", days(7), forever, forever, "IRG 3.2", reports},
		{IncidentList, "certificates in a report that may be listed as CSV, fewer than", count(10_000), forever, forever, "IRG 3.2", reports},
		{SupersededTemplate, "a superseded template may be used after its replacement for", days(30), forever, forever, "CCADB policy", reports},
	}
}
