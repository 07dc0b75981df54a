package scan

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/pki/ocsp"
)

// Finding is something that a whole look found beside its verdict.
type Finding = bulkhead.LookFinding

// ruleWords describe each rule in one sentence.
var ruleWords = map[string]string{
	"certificate-unreadable": "The server's certificate cannot be read.",
	"certificate-expired":    "The certificate has expired or is not valid yet.",
	"certificate-expiring":   "The certificate ends within two weeks.",
	"name-mismatch":          "The certificate is not for the name that was asked for.",
	"chain-incomplete":       "The server does not send an intermediate certificate.",
	"chain-superfluous":      "The server sends certificates that no path needs.",
	"chain-disorder":         "The server sends its chain in the wrong order.",
	"key-weak":               "The key of the certificate is weak.",
	"key-shared":             "Other hosts show the same key.",
	"key-blocked":            "The key is blocked: it is known to others, or weak.",
	"key-kept":               "The host was vulnerable before and still shows the same key.",
	"key-unchanged":          "The key is the one of the look before.",
	"staple-bad":             "The stapled OCSP response does not speak for the certificate.",
	"staple-revoked":         "The stapled OCSP response says that the certificate is revoked.",
	"suites-weak":            "The server accepts weak cipher suites.",
	"revoked":                "The certificate is revoked.",
	"status-disagrees":       "Sources of status do not say the same of the certificate.",
	"status-missing":         "A source of status has no valid answer for the certificate.",
	"caa-forbids":            "The CAA records of the name do not let this house issue for it.",
}

// expiringWithin is how near an end must be to be told.
const expiringWithin = 14 * 24 * time.Hour

// Findings judges what a whole look saw: chain, key, dates, name, staple and suites. known are authorities that may have issued
// the leaf.
func Findings(l bulkhead.Look, known []*x509.Certificate) []Finding {
	var out []Finding
	add := func(rule string, s bulkhead.Severity, format string, args ...any) {
		out = append(out, Finding{Rule: rule, Severity: s, Message: fmt.Sprintf(format, args...)})
	}
	if n := len(l.Suites); n > 0 {
		add("suites-weak", bulkhead.Warning, "%d weak cipher suites are accepted", n)
	}
	c := l.Chain
	if c == nil {
		return out
	}
	if c.Malformed != "" {
		add("certificate-unreadable", bulkhead.Critical, "the certificate cannot be read: %s", c.Malformed)
		return out
	}
	switch left := c.NotAfter.Sub(l.At); {
	case c.Expired && left < 0:
		add("certificate-expired", bulkhead.Critical, "the certificate expired on %s", c.NotAfter.UTC().Format(time.DateOnly))
	case c.Expired:
		add("certificate-expired", bulkhead.Critical, "the certificate is valid from %s", c.NotBefore.UTC().Format(time.RFC3339))
	case left < expiringWithin && left < c.NotAfter.Sub(c.NotBefore)/3:
		add("certificate-expiring", bulkhead.Warning, "the certificate ends on %s", c.NotAfter.UTC().Format(time.DateOnly))
	}
	if c.Missing != "" {
		add("chain-incomplete", bulkhead.Warning, "the intermediate %q is not sent; browsers that do not know it refuse the server", c.Missing)
	}
	if len(c.Superfluous) > 0 {
		add("chain-superfluous", bulkhead.Notice, "sent and not needed: %s", strings.Join(c.Superfluous, ", "))
	}
	if c.Disorder {
		add("chain-disorder", bulkhead.Notice, "the chain is not in the order of RFC 5246 section 7.4.2")
	}
	if c.Key.Weak != "" {
		add("key-weak", bulkhead.Critical, "the key is weak: %s", c.Key.Weak)
	}
	leaf, err := x509.ParseCertificate(c.DER[0])
	if err != nil {
		return out
	}
	if host := l.Endpoint.SNI; host != "" && leaf.VerifyHostname(host) != nil {
		add("name-mismatch", bulkhead.Warning, "the certificate is not for %s", host)
	}
	if len(l.Staple) > 0 {
		out = append(out, staple(l, leaf, known)...)
	}
	return out
}

// staple judges a stapled answer with the issuer that was sent or is known; without one there is nothing to say.
func staple(l bulkhead.Look, leaf *x509.Certificate, known []*x509.Certificate) []Finding {
	issuer := issuerOf(leaf, l.Chain.DER[1:], known)
	if issuer == nil {
		return nil
	}
	s, err := single(l.Staple, leaf, issuer, l.At)
	switch {
	case err != nil:
		return []Finding{{Rule: "staple-bad", Severity: bulkhead.Warning, Message: "the stapled response is of no use to a browser: " + bulkhead.AsFault(err).Detail}}
	case s.State == ocsp.Revoked:
		return []Finding{{Rule: "staple-revoked", Severity: bulkhead.Critical, Message: "the certificate was revoked on " + s.RevokedAt.UTC().Format(time.DateOnly)}}
	}
	return nil
}

func issuerOf(leaf *x509.Certificate, sent [][]byte, known []*x509.Certificate) *x509.Certificate {
	all := slices.Clone(known)
	for _, der := range sent {
		if c, err := x509.ParseCertificate(der); err == nil {
			all = append(all, c)
		}
	}
	for _, c := range all {
		if bytes.Equal(c.RawSubject, leaf.RawIssuer) && leaf.CheckSignatureFrom(c) == nil {
			return c
		}
	}
	return nil
}

// keyOf is the key that an endpoint showed.
func keyOf(e Endpoint) (bulkhead.Hash, bool) {
	if e.Chain == nil || e.Chain.Malformed != "" {
		return bulkhead.Hash{}, false
	}
	return e.Chain.Key.SPKI, true
}

// SharedKeys adds which hosts of a run show the same key: one that leaks gives away all of them.
func SharedKeys(all []Result) {
	hosts := map[bulkhead.Hash][]string{}
	for _, r := range all {
		for _, e := range r.Endpoints {
			if k, ok := keyOf(e); ok && !slices.Contains(hosts[k], r.Host) {
				hosts[k] = append(hosts[k], r.Host)
			}
		}
	}
	for i := range all {
		for j := range all[i].Endpoints {
			e := &all[i].Endpoints[j]
			k, ok := keyOf(*e)
			if !ok || len(hosts[k]) < 2 {
				continue
			}
			if f, ok := sharedWith(all[i].Host, hosts[k]); ok {
				e.Findings = append(e.Findings, f)
			}
		}
	}
}

// Since compares with an earlier run: a host that was vulnerable and kept its key has done nothing, however new its
// certificate is.
func Since(all, before []Result) {
	type seen struct {
		key        bulkhead.Hash
		vulnerable bool
		at         time.Time
	}
	was := map[string]seen{}
	for _, r := range before {
		for _, e := range r.Endpoints {
			if k, ok := keyOf(e); ok {
				id := r.Target + " " + e.Endpoint.AddrPort().String()
				was[id] = seen{k, e.Verdict == bulkhead.Vulnerable || r.Verdict == bulkhead.Vulnerable, e.At}
			}
		}
	}
	for i := range all {
		for j := range all[i].Endpoints {
			e := &all[i].Endpoints[j]
			k, ok := keyOf(*e)
			w, known := was[all[i].Target+" "+e.Endpoint.AddrPort().String()]
			if !ok || !known || w.key != k {
				continue
			}
			if w.vulnerable {
				e.Findings = append(e.Findings, kept(w.at))
			} else {
				e.Findings = append(e.Findings, Finding{Rule: "key-unchanged", Severity: bulkhead.Notice, Message: "the key is the one of " + w.at.UTC().Format(time.DateOnly)})
			}
		}
	}
}

// ReadResults reads what an earlier run wrote: the JSON document, JSON lines, or its state file.
func ReadResults(r io.Reader, name string) ([]Result, error) {
	bad := func(err error) error {
		return bulkhead.Faultf(bulkhead.KindUsage, "%s is not the output of a scan: %s", name, err).WithHint("bulkhead scan --whole --json TARGET… > " + name)
	}
	dec := json.NewDecoder(bufio.NewReader(r))
	var out []Result
	for {
		var x struct {
			Result
			Targets []Result `json:"targets"`
		}
		err := dec.Decode(&x)
		switch {
		case errors.Is(err, io.EOF):
			if len(out) == 0 {
				return nil, bad(errors.New("it has no results"))
			}
			return out, nil
		case err != nil:
			return nil, bad(err)
		case x.Target != "":
			out = append(out, x.Result)
		}
		out = append(out, x.Targets...)
	}
}
