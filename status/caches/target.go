package caches

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/pki/ocsp"
	"bulkhead/pki/pack"
)

// MaxAnswers bounds the certificates of one purge or verification by URL.
const MaxAnswers = 2000

// Answer is the newest published answer for one certificate, under each CertID hash that is pre-signed.
type Answer struct {
	Ref                    bulkhead.CertificateRef
	Issuer                 *x509.Certificate
	State                  ocsp.State
	ThisUpdate, NextUpdate time.Time
	Forms                  []HashAnswer
}

// HashAnswer is an answer for one CertID hash: the request that asks for it and the response as the origin gives it.
type HashAnswer struct{ Request, Response []byte }

// List is the newest published CRL of one shard.
type List struct {
	Ref pack.CRLRef
	ID  bulkhead.AuthorityID
	// Issuer verifies a CRL newer than this one.
	Issuer *x509.Certificate
}

// Targets are what is purged or verified: the published state of some certificates and CRLs.
type Targets struct {
	Answers []Answer
	Lists   []List
	All     bool // purge everything; Answers are then a sample unless Whole
	Whole   bool // Answers and Lists are everything that is published
}

// Find looks a serial up in an issuer's packs, newest pack first. It reports false when no pack answers for it.
func Find(id bulkhead.AuthorityID, issuer *x509.Certificate, packs []*pack.Pack, serial bulkhead.Serial) (Answer, bool, error) {
	a := Answer{Ref: bulkhead.CertificateRef{Issuer: id, Serial: serial}, Issuer: issuer}
	names, err := ocsp.NewIssuer(issuer.RawSubject, issuer.RawSubjectPublicKeyInfo)
	if err != nil {
		return a, false, err
	}
	key := serial.Fixed()
	for _, p := range packs {
		for _, hash := range []ocsp.HashAlgorithm{ocsp.SHA1, ocsp.SHA256} {
			var f pack.Found
			ok, err := p.FindHash(&key, hash, &f)
			if err != nil {
				return a, false, err
			}
			if !ok {
				break
			}
			req, err := ocsp.EncodeRequest([]ocsp.CertID{names.CertID(hash, serial)}, nil)
			if err != nil {
				return a, false, err
			}
			a.Forms = append(a.Forms, HashAnswer{Request: req, Response: ocsp.Assemble(f.TBS, f.Signature, f.Responder)})
			a.ThisUpdate, a.NextUpdate, a.State = time.Unix(f.ThisUpdate, 0).UTC(), time.Unix(f.NextUpdate, 0).UTC(), ocsp.Good
			if f.Revoked {
				a.State = ocsp.Revoked
			}
		}
		if len(a.Forms) > 0 {
			return a, true, nil
		}
	}
	return a, false, nil
}

// request is one fetch that a cache may hold an answer to.
type request struct {
	method, path string
	body         []byte
	answer       *Answer
	want         []byte
	list         *List
}

// what names the request for people.
func (r request) what() string {
	if r.list != nil {
		return fmt.Sprintf("CRL %s shard %d", r.list.ID, r.list.Ref.Shard)
	}
	return r.method + " for " + r.answer.Ref.String()
}

// paths are the forms in which clients write a GET request (RFC 6960 appendix A.1): base64 as it is, percent-encoded
// wholly or in part, in either case of hexadecimal digits. A cache keeps each apart.
func paths(prefix string, der []byte) []string {
	plain := base64.StdEncoding.EncodeToString(der)
	full := url.QueryEscape(plain)
	out := []string{full, plain, strings.NewReplacer("%2B", "%2b", "%2F", "%2f", "%3D", "%3d").Replace(full),
		strings.ReplaceAll(plain, "/", "%2F"), strings.ReplaceAll(full, "%2F", "/"), strings.ReplaceAll(plain, "=", "%3D")}
	for i, p := range out {
		out[i] = prefix + p
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// requests are all fetches of the targets, POST variants among them; base is the path of the status URL.
func (t Targets) requests(base string) []request {
	var out []request
	for i := range t.Answers {
		a := &t.Answers[i]
		for _, f := range a.Forms {
			for _, p := range paths(base+"/ocsp/", f.Request) {
				out = append(out, request{method: http.MethodGet, path: p, answer: a, want: f.Response})
			}
			out = append(out, request{method: http.MethodPost, path: base + "/ocsp/", body: f.Request, answer: a, want: f.Response})
		}
	}
	for i := range t.Lists {
		l := &t.Lists[i]
		out = append(out, request{method: http.MethodGet, path: fmt.Sprintf("%s/crl/%s/%d.crl", base, l.ID, l.Ref.Shard), list: l})
	}
	return out
}

// urls are the distinct paths of requests, in order.
func urls(all []request) []string {
	var out []string
	seen := map[string]bool{}
	for _, r := range all {
		if !seen[r.path] {
			seen[r.path] = true
			out = append(out, r.path)
		}
	}
	return out
}

// Verdicts on one fetch, from best to worst.
const (
	Newest    = "newest"
	Unchecked = "unchecked" // nothing came that could be judged
	Other     = "different" // neither the newest nor an older answer of ours
	Older     = "older"
)

// judged is a verdict with what led to it.
type judged struct {
	verdict string
	this    time.Time // thisUpdate of what came, when it could be read
	want    time.Time
	detail  string
}

// judge holds what a cache served against the newest published answer.
func (r request) judge(body []byte, now time.Time) judged {
	if r.list != nil {
		return r.list.judge(body)
	}
	j := judged{verdict: Newest, this: r.answer.ThisUpdate, want: r.answer.ThisUpdate}
	if bytes.Equal(body, r.want) {
		return j
	}
	j.verdict, j.this = Other, time.Time{}
	resp, err := ocsp.ParseResponse(body)
	if err != nil {
		j.detail = bulkhead.AsFault(err).Detail
		return j
	}
	if resp.Status != ocsp.Successful {
		j.detail = "OCSP " + resp.Status.String()
		return j
	}
	for _, s := range resp.Singles {
		if s.CertID.Serial == r.answer.Ref.Serial && s.ThisUpdate.Before(r.answer.ThisUpdate) {
			j.verdict, j.this, j.detail = Older, s.ThisUpdate, fmt.Sprintf("says %s, the newest says %s", s.State, r.answer.State)
			return j
		}
	}
	s, err := ocsp.CheckResponse(resp, r.answer.Issuer, r.answer.Ref.Serial, now)
	if err != nil {
		j.detail = bulkhead.AsFault(err).Detail
		return j
	}
	j.this = s.ThisUpdate
	if s.State != r.answer.State {
		j.detail = fmt.Sprintf("says %s, the newest says %s", s.State, r.answer.State)
		return j
	}
	j.verdict = Newest // signed since
	return j
}

func (l *List) judge(body []byte) judged {
	j := judged{verdict: Newest, this: l.Ref.ThisUpdate, want: l.Ref.ThisUpdate}
	if bulkhead.Digest(body) == l.Ref.Digest {
		return j
	}
	j.verdict, j.this = Other, time.Time{}
	got, err := x509.ParseRevocationList(body)
	if err != nil || got.Number == nil {
		j.detail = "not a CRL"
		return j
	}
	j.this = got.ThisUpdate
	if got.Number.IsInt64() && got.Number.Int64() < l.Ref.Number {
		j.verdict, j.detail = Older, fmt.Sprintf("has number %s, the newest %d", got.Number, l.Ref.Number)
		return j
	}
	if err := got.CheckSignatureFrom(l.Issuer); err != nil || got.ThisUpdate.Before(l.Ref.ThisUpdate) {
		j.detail = "not a CRL of this issuer"
		return j
	}
	j.verdict = Newest // signed since
	return j
}
