package scan

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/pki/crl"
	"bulkhead/pki/ocsp"
)

// Fetcher brings small public objects from an http URL: bounded, without redirects, and only from where a scan may dial.
type Fetcher interface {
	// Fetch posts body, or gets when it is nil; more than most octets are an error.
	Fetch(ctx context.Context, url, contentType string, body []byte, most int64) ([]byte, error)
}

// StatusSource is a way on which relying parties get OCSP answers and CRLs: as the certificate says, or through one cache.
type StatusSource struct {
	Tier string // "" as the certificate says
	Fetcher
	// Only are the authorities that the source speaks for; nil is all.
	Only []*x509.Certificate
}

// Facts adds to a whole look what others say of the certificate: status by OCSP and CRL from each source, the staple, CAA.
type Facts struct {
	Known   []*x509.Certificate // authorities that may have issued
	Ours    []*x509.Certificate // those of the house
	Sources []StatusSource
	MostCRL int64            // octets of a CRL; 0 fetches none
	Now     func() time.Time // by which answers are judged; nil takes the time of the look
	// CAA tells the record set of a name; nil asks for none.
	CAA func(ctx context.Context, name string) (bulkhead.CAASeen, error)
}

// Bounds of what a look fetches.
const (
	mostOCSP    = 64 << 10
	statusWait  = 10 * time.Second // one answer: BR 4.10.2
	availableIn = 15 * time.Minute // how long after its issue a certificate may lack status (BR 4.9.9)
)

// Add fills Status, CAA and Findings of an endpoint. It never fails: what cannot be had is said.
func (f Facts) Add(ctx context.Context, e *Endpoint) {
	e.Findings = Findings(e.Look, f.Known)
	if e.Chain == nil || e.Chain.Malformed != "" || len(e.Chain.DER) == 0 {
		return
	}
	leaf, err := x509.ParseCertificate(e.Chain.DER[0])
	if err != nil {
		return
	}
	issuer := issuerOf(leaf, e.Chain.DER[1:], f.Known)
	ours := of(f.Ours, issuer)
	at := e.At
	if f.Now != nil {
		at = f.Now()
	}
	if len(e.Staple) > 0 {
		s := f.judgeOCSP(e.Staple, leaf, issuer, at)
		s.Via = "staple"
		e.Status = append(e.Status, s)
	}
	for _, src := range f.Sources {
		if src.Only == nil || of(src.Only, issuer) {
			e.Status = append(e.Status, f.ask(ctx, src, leaf, issuer, at)...)
		}
	}
	for i := range e.Status {
		e.Status[i].Ours = ours
	}
	e.Findings = append(e.Findings, statusFindings(e.Status, leaf, at)...)
	f.caa(ctx, e, ours)
}

// of reports whether an authority is one of these, or stands right below one.
func of(these []*x509.Certificate, authority *x509.Certificate) bool {
	return authority != nil && slices.ContainsFunc(these, func(c *x509.Certificate) bool {
		return authority.Equal(c) || bytes.Equal(authority.RawIssuer, c.RawSubject) && authority.CheckSignatureFrom(c) == nil
	})
}

func (f Facts) caa(ctx context.Context, e *Endpoint, ours bool) {
	name := e.Endpoint.SNI
	if f.CAA == nil || name == "" {
		return
	}
	seen, err := f.CAA(ctx, name)
	if err != nil {
		seen = bulkhead.CAASeen{Name: name, Allows: "unknown", Detail: "the lookup failed: " + bulkhead.AsFault(err).Detail}
	}
	if !ours && seen.Records != "" {
		seen.Allows = "unknown" // by what name the records call another authority is not known here
	}
	e.CAA = &seen
	if ours && seen.Allows == "no" {
		e.Findings = append(e.Findings, Finding{Rule: "caa-forbids", Severity: bulkhead.Warning, Message: fmt.Sprintf("the CAA records at %s (%s) do not let this house issue: the next renewal fails", seen.At, seen.Records)})
	}
}

// firstHTTP is the first plain http URL.
func firstHTTP(urls []string) string {
	for _, u := range urls {
		if strings.HasPrefix(u, "http://") && len(u) < 2048 {
			return u
		}
	}
	return ""
}

// ask gets OCSP and CRL from one source.
func (f Facts) ask(ctx context.Context, src StatusSource, leaf, issuer *x509.Certificate, at time.Time) (out []bulkhead.StatusSeen) {
	if u := firstHTTP(leaf.OCSPServer); u != "" {
		out = append(out, f.askOCSP(ctx, src, u, leaf, issuer, at))
	}
	if u := firstHTTP(leaf.CRLDistributionPoints); u != "" && f.MostCRL > 0 {
		out = append(out, f.askCRL(ctx, src, u, leaf, issuer, at))
	}
	return out
}

const noIssuer = "the issuer's certificate is neither sent nor known"

func (f Facts) askOCSP(ctx context.Context, src StatusSource, url string, leaf, issuer *x509.Certificate, at time.Time) bulkhead.StatusSeen {
	s := bulkhead.StatusSeen{Via: "ocsp", Tier: src.Tier, URL: url, State: bulkhead.StatusUnavailable, Detail: noIssuer}
	if issuer == nil {
		return s
	}
	body, err := request(leaf, issuer)
	if err == nil {
		wait, cancel := context.WithTimeout(ctx, statusWait)
		defer cancel()
		body, err = src.Fetch(wait, url, "application/ocsp-request", body, mostOCSP)
	}
	if err != nil {
		s.Detail = plainError(err)
		return s
	}
	got := f.judgeOCSP(body, leaf, issuer, at)
	got.Via, got.Tier, got.URL = s.Via, s.Tier, s.URL
	return got
}

// request asks with a SHA-1 CertID, the one that every responder knows (RFC 5019 section 2.1.1).
func request(leaf, issuer *x509.Certificate) ([]byte, error) {
	serial, err := bulkhead.SerialFromBig(leaf.SerialNumber)
	if err != nil {
		return nil, err
	}
	i, err := ocsp.NewIssuer(issuer.RawSubject, issuer.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil, err
	}
	return ocsp.EncodeRequest([]ocsp.CertID{i.CertID(ocsp.SHA1, serial)}, nil)
}

// judgeOCSP holds an answer against the certificate as a browser does: authority, serial, time.
func (f Facts) judgeOCSP(raw []byte, leaf, issuer *x509.Certificate, at time.Time) bulkhead.StatusSeen {
	s := bulkhead.StatusSeen{State: bulkhead.StatusUnavailable, Detail: noIssuer}
	if issuer == nil {
		return s
	}
	single, err := single(raw, leaf, issuer, at)
	if err != nil {
		s.Detail = bulkhead.AsFault(err).Detail
		return s
	}
	s.Detail, s.ThisUpdate, s.NextUpdate = "", single.ThisUpdate.UTC(), single.NextUpdate.UTC()
	switch single.State {
	case ocsp.Good:
		s.State = bulkhead.StatusGood
	case ocsp.Revoked:
		s.State, s.RevokedAt = bulkhead.StatusRevoked, single.RevokedAt.UTC()
	default:
		s.State = bulkhead.StatusUnknown
	}
	return s
}

func single(raw []byte, leaf, issuer *x509.Certificate, at time.Time) (ocsp.Single, error) {
	serial, err := bulkhead.SerialFromBig(leaf.SerialNumber)
	if err != nil {
		return ocsp.Single{}, err
	}
	r, err := ocsp.ParseResponse(raw)
	if err != nil {
		return ocsp.Single{}, err
	}
	return ocsp.CheckResponse(r, issuer, serial, at)
}

func (f Facts) askCRL(ctx context.Context, src StatusSource, url string, leaf, issuer *x509.Certificate, at time.Time) bulkhead.StatusSeen {
	s := bulkhead.StatusSeen{Via: "crl", Tier: src.Tier, URL: url, State: bulkhead.StatusUnavailable, Detail: noIssuer}
	if issuer == nil {
		return s
	}
	wait, cancel := context.WithTimeout(ctx, statusWait)
	defer cancel()
	der, err := src.Fetch(wait, url, "", nil, f.MostCRL)
	if err != nil {
		s.Detail = plainError(err)
		return s
	}
	if err := judgeList(&s, der, leaf, issuer, at); err != nil {
		s.State, s.Detail = bulkhead.StatusUnavailable, bulkhead.AsFault(err).Detail
	}
	return s
}

// judgeList holds a CRL against the certificate (RFC 5280 section 6.3.3): issuer, signature, scope, time; then looks the
// serial up.
func judgeList(s *bulkhead.StatusSeen, der []byte, leaf, issuer *x509.Certificate, at time.Time) error {
	serial, err := bulkhead.SerialFromBig(leaf.SerialNumber)
	if err != nil {
		return err
	}
	var revoked time.Time
	list, err := crl.Parse(der, func(e crl.Entry) error {
		if e.Serial == serial {
			revoked = e.RevokedAt
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := list.Verify(issuer); err != nil {
		return err
	}
	s.ThisUpdate, s.NextUpdate = list.ThisUpdate.UTC(), list.NextUpdate.UTC()
	switch {
	case list.Scope == crl.ScopeCACerts && !leaf.IsCA || list.Scope == crl.ScopeUserCerts && leaf.IsCA:
		return bulkhead.NewFault(bulkhead.KindGate, "the CRL is for another kind of certificates")
	case list.URL != "" && !slices.Contains(leaf.CRLDistributionPoints, list.URL):
		return bulkhead.NewFault(bulkhead.KindGate, "the CRL is that of another distribution point: "+list.URL)
	case at.Before(list.ThisUpdate) || at.After(list.NextUpdate):
		return bulkhead.Faultf(bulkhead.KindGate, "the CRL is good from %s to %s", list.ThisUpdate.UTC().Format(time.RFC3339), list.NextUpdate.UTC().Format(time.RFC3339))
	}
	if s.State, s.Detail = bulkhead.StatusGood, ""; !revoked.IsZero() {
		s.State, s.RevokedAt = bulkhead.StatusRevoked, revoked.UTC()
	}
	return nil
}

// plainError is an error without the address that the reader sees anyway.
func plainError(err error) string {
	if f := bulkhead.AsFault(err); f.Kind != bulkhead.KindInternal {
		return f.Detail
	}
	return err.Error()
}

// through names a source for a person.
func through(s bulkhead.StatusSeen) string {
	if s.Tier == "" {
		return "by " + strings.ToUpper(s.Via)
	}
	return fmt.Sprintf("by %s through %s", strings.ToUpper(s.Via), s.Tier)
}

// statusFindings says what is wrong with what the sources say. A staple is judged where it was found.
func statusFindings(all []bulkhead.StatusSeen, leaf *x509.Certificate, at time.Time) []Finding {
	var revoked, good, missing []string
	var since time.Time
	for _, s := range all {
		if s.Via == "staple" {
			continue
		}
		switch s.State {
		case bulkhead.StatusRevoked:
			revoked, since = append(revoked, through(s)), s.RevokedAt
		case bulkhead.StatusGood:
			good = append(good, through(s))
		case bulkhead.StatusUnknown:
			missing = append(missing, through(s)+": the responder does not know the certificate")
		default:
			missing = append(missing, through(s)+": "+s.Detail)
		}
	}
	var out []Finding
	if len(revoked) > 0 {
		out = append(out, Finding{Rule: "revoked", Severity: bulkhead.Critical, Message: fmt.Sprintf("the certificate was revoked on %s (%s)", since.Format(time.DateOnly), strings.Join(revoked, ", "))})
	}
	if len(revoked) > 0 && len(good) > 0 {
		out = append(out, Finding{Rule: "status-disagrees", Severity: bulkhead.Warning, Message: fmt.Sprintf("revoked %s, and good %s", strings.Join(revoked, ", "), strings.Join(good, ", "))})
	}
	if len(missing) > 0 && at.Sub(leaf.NotBefore) >= availableIn {
		out = append(out, Finding{Rule: "status-missing", Severity: bulkhead.Warning, Message: "no valid answer " + strings.Join(missing, "; ")})
	}
	return out
}
