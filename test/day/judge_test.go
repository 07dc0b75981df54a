package day

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/crypto/ocsp"

	"bulkhead"
)

// firstAnswer is how long after issuance an answer must be there (BR 4.9.9).
const firstAnswer = 15 * time.Minute

// held is a certificate in the hands of the load, with what is true of it.
type held struct {
	ref      bulkhead.CertificateRef
	leaf     *x509.Certificate
	issuer   *x509.Certificate
	key      *ecdsa.PrivateKey // nil for authorities
	name     string
	byACME   bool
	issuedAt time.Time
	renewed  bool

	revoked   bool
	revokedAt time.Time // as first said in public
	reason    int

	asks [2]question // SHA-1 CertID by POST, SHA-256 CertID by GET
}

// question is one way to ask for a certificate's status, and the last answer.
type question struct {
	hash   crypto.Hash
	der    []byte
	path   string
	digest [sha256.Size]byte
	last   *ocsp.Response
}

func newHeld(got bulkhead.IssuedCertificate, key *ecdsa.PrivateKey, name string, byACME bool, at time.Time) (*held, error) {
	h := &held{ref: got.Certificate.CertificateRef, key: key, name: name, byACME: byACME, issuedAt: at}
	var err error
	if h.leaf, err = x509.ParseCertificate(got.DER); err != nil {
		return nil, err
	}
	if h.issuer, err = x509.ParseCertificate(got.Chain[0]); err != nil {
		return nil, err
	}
	for i, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		der, err := ocsp.CreateRequest(h.leaf, h.issuer, &ocsp.RequestOptions{Hash: hash})
		if err != nil {
			return nil, err
		}
		h.asks[i] = question{hash: hash, der: der, path: "/ocsp/" + url.PathEscape(base64.StdEncoding.EncodeToString(der))}
	}
	return h, nil
}

func thumbprint(t testing.TB, k jose.JSONWebKey) string {
	t.Helper()
	sum, err := k.Thumbprint(crypto.SHA256)
	ok(t, err)
	return base64.RawURLEncoding.EncodeToString(sum)
}

// judge is a relying party with a memory.
type judge struct {
	now      func() time.Time
	handler  http.Handler
	held     []*held
	lists    map[string]*list           // by URL
	signers  map[string]map[string]bool // issuer → names of OCSP delegates seen
	answers  int                        // looked at
	verified int                        // of them new, and verified whole
	problems []string
}

func newJudge(now func() time.Time) *judge {
	return &judge{now: now, lists: map[string]*list{}, signers: map[string]map[string]bool{}}
}

func (j *judge) object(format string, args ...any) {
	j.problems = append(j.problems, fmt.Sprintf("%s: ", j.now().UTC().Format("15:04:05"))+fmt.Sprintf(format, args...))
}

// list is what a CRL's URL gave last.
type list struct {
	der     []byte
	number  string
	parsed  *x509.RevocationList
	entries map[string]x509.RevocationListEntry
}

// look judges everything that a relying party could be told now.
func (j *judge) look() {
	now := j.now()
	fresh := map[string]*list{}
	j.held = slices.DeleteFunc(j.held, func(h *held) bool { return now.After(h.leaf.NotAfter) }) // nobody is owed anything
	for _, h := range j.held {
		for i := range h.asks {
			j.ask(h, &h.asks[i], now)
		}
		at := h.leaf.CRLDistributionPoints[0]
		if fresh[at] == nil {
			fresh[at] = j.fetch(at, h.issuer, now)
		}
		j.agree(h, fresh[at])
	}
}

// ask gets one answer and holds it against what is true, and against the answer before it.
func (j *judge) ask(h *held, q *question, now time.Time) {
	who := fmt.Sprintf("%s (%s, %s)", h.ref, h.name, q.hash)
	var res reply
	if q.hash == crypto.SHA1 {
		res = j.do(http.MethodPost, "/ocsp/", q.der)
	} else {
		res = j.do(http.MethodGet, q.path, nil)
	}
	j.answers++
	digest := sha256.Sum256(res.body)
	if q.last == nil || digest != q.digest {
		r, err := ocsp.ParseResponseForCert(res.body, h.leaf, h.issuer)
		if err != nil {
			if q.last != nil || now.Sub(h.issuedAt) > firstAnswer {
				j.object("%s: issued at %s and answered with %v", who, h.issuedAt.UTC().Format("15:04:05"), err)
			}
			return
		}
		j.verified++
		j.compare(h, q, r, now, who)
		j.headers(res, r, q.hash, now, who)
		q.last, q.digest = r, digest
	}
	r := q.last
	if now.Before(r.ThisUpdate) || !now.Before(r.NextUpdate) {
		j.object("%s: the answer is for %s to %s", who, r.ThisUpdate.Format("15:04:05"), r.NextUpdate.Format("15:04:05"))
		return
	}
	if interval := r.NextUpdate.Sub(r.ThisUpdate); interval < 8*time.Hour && r.NextUpdate.Before(h.leaf.NotAfter) || interval > 10*24*time.Hour {
		j.object("%s: an interval of %s (BR 4.9.9)", who, interval)
	}
	if by := latest(r); !now.Before(by) {
		j.object("%s: the answer for %s to %s stands, a newer one was due before %s", who, r.ThisUpdate.Format("15:04:05"), r.NextUpdate.Format("15:04:05"), by.Format("15:04:05"))
	}
	if want := map[bool]int{false: ocsp.Good, true: ocsp.Revoked}[h.revoked]; r.Status != want {
		j.object("%s: the answer says %d, true is %d", who, r.Status, want)
	}
}

// latest is when a newer answer has to be there: half of the interval before nextUpdate when that is less than 16 hours,
// else 8 hours before it and 4 days after thisUpdate (BR 4.9.9).
func latest(r *ocsp.Response) time.Time {
	interval := r.NextUpdate.Sub(r.ThisUpdate)
	if interval < 16*time.Hour {
		return r.NextUpdate.Add(-interval / 2)
	}
	by := r.NextUpdate.Add(-8 * time.Hour)
	if most := r.ThisUpdate.Add(4 * 24 * time.Hour); most.Before(by) {
		return most
	}
	return by
}

// compare holds a new answer against the one before it.
func (j *judge) compare(h *held, q *question, r *ocsp.Response, now time.Time, who string) {
	if r.Certificate != nil {
		issuer := string(h.ref.Issuer)
		if j.signers[issuer] == nil {
			j.signers[issuer] = map[string]bool{}
		}
		j.signers[issuer][r.Certificate.Subject.CommonName] = true
		if r.NextUpdate.After(r.Certificate.NotAfter) {
			j.object("%s: the answer outlives its delegate", who)
		}
	}
	if r.Status == ocsp.Revoked {
		switch {
		case h.revokedAt.IsZero():
			h.revokedAt = r.RevokedAt
		case !h.revokedAt.Equal(r.RevokedAt):
			j.object("%s: revoked at %s, now at %s", who, h.revokedAt, r.RevokedAt)
		}
		if r.RevocationReason != h.reason {
			j.object("%s: revoked for %d, true is %d", who, r.RevocationReason, h.reason)
		}
	}
	if q.last == nil {
		return
	}
	if by := latest(q.last); !now.Before(by) && !by.After(h.leaf.NotAfter) {
		j.object("%s: an answer for %s to %s was replaced at %s, due before %s", who, q.last.ThisUpdate.Format("15:04:05"), q.last.NextUpdate.Format("15:04:05"),
			now.UTC().Format("15:04:05"), by.Format("15:04:05"))
	}
	if r.ThisUpdate.Before(q.last.ThisUpdate) {
		j.object("%s: thisUpdate went from %s back to %s", who, q.last.ThisUpdate.Format("15:04:05"), r.ThisUpdate.Format("15:04:05"))
	}
	if q.last.Status == ocsp.Revoked && r.Status != ocsp.Revoked {
		j.object("%s: no longer revoked", who)
	}
}

// headers holds what caches are told against the answer.
func (j *judge) headers(res reply, r *ocsp.Response, hash crypto.Hash, now time.Time, who string) {
	for name, want := range map[string]time.Time{"Last-Modified": r.ThisUpdate, "Expires": r.NextUpdate} {
		text := res.header.Get(name)
		if at, err := time.Parse(http.TimeFormat, text); err != nil || !at.Equal(want) {
			j.object("%s: %s is %q, the answer says %s", who, name, text, want)
		}
	}
	control := res.header.Get("Cache-Control")
	if hash == crypto.SHA1 {
		if control != "no-store" {
			j.object("%s: an answer to POST may be kept: %q", who, control)
		}
		return
	}
	_, rest, _ := strings.Cut(control, "max-age=")
	text, _, _ := strings.Cut(rest, ",")
	age, err := strconv.Atoi(text)
	if err != nil || now.Add(time.Duration(age)*time.Second).After(r.NextUpdate) {
		j.object("%s: Cache-Control %q outlives nextUpdate %s", who, control, r.NextUpdate)
	}
}

// fetch gets a CRL and holds it against the one before it.
func (j *judge) fetch(at string, issuer *x509.Certificate, now time.Time) *list {
	u, err := url.Parse(at)
	if err != nil {
		j.object("CRL URL %q: %v", at, err)
		return &list{}
	}
	res := j.do(http.MethodGet, u.Path, nil)
	old := j.lists[at]
	if old == nil || !bytes.Equal(old.der, res.body) {
		parsed, err := x509.ParseRevocationList(res.body)
		if err == nil {
			err = parsed.CheckSignatureFrom(issuer)
		}
		if err != nil {
			j.object("CRL %s: %d, %v", at, res.code, err)
			return &list{}
		}
		l := &list{der: res.body, parsed: parsed, number: parsed.Number.Text(16), entries: map[string]x509.RevocationListEntry{}}
		for _, e := range parsed.RevokedCertificateEntries {
			l.entries[e.SerialNumber.Text(16)] = e
		}
		if old != nil {
			if parsed.Number.Cmp(old.parsed.Number) <= 0 {
				j.object("CRL %s: number %s follows %s", at, l.number, old.number)
			}
			if parsed.ThisUpdate.Before(old.parsed.ThisUpdate) {
				j.object("CRL %s: thisUpdate went from %s back to %s", at, old.parsed.ThisUpdate, parsed.ThisUpdate)
			}
			if parsed.ThisUpdate.After(old.parsed.NextUpdate) {
				j.object("CRL %s: there is a gap from %s to %s", at, old.parsed.NextUpdate, parsed.ThisUpdate)
			}
		}
		j.lists[at] = l
	}
	l := j.lists[at]
	if now.Before(l.parsed.ThisUpdate) || !now.Before(l.parsed.NextUpdate) {
		j.object("CRL %s number %s is for %s to %s", at, l.number, l.parsed.ThisUpdate.Format("15:04:05"), l.parsed.NextUpdate.Format("15:04:05"))
	}
	return l
}

// agree holds the CRL against what is true and against OCSP.
func (j *judge) agree(h *held, l *list) {
	e, listed := l.entries[h.leaf.SerialNumber.Text(16)]
	if l.parsed == nil {
		return // objected to already
	}
	switch {
	case listed != h.revoked:
		j.object("%s (%s): listed in CRL %s is %v, true is %v", h.ref, h.name, l.number, listed, h.revoked)
	case listed && (e.ReasonCode != h.reason || !h.revokedAt.IsZero() && !e.RevocationTime.Equal(h.revokedAt)):
		j.object("%s (%s): the CRL says %d at %s, OCSP %d at %s", h.ref, h.name, e.ReasonCode, e.RevocationTime, h.reason, h.revokedAt)
	}
}

// reply is what the edge answered.
type reply struct {
	code   int
	header http.Header
	body   []byte
}

func (r *reply) Header() http.Header         { return r.header }
func (r *reply) WriteHeader(code int)        { r.code = code }
func (r *reply) Write(p []byte) (int, error) { r.body = append(r.body, p...); return len(p), nil }

func (j *judge) do(method, path string, body []byte) reply {
	res := reply{code: http.StatusOK, header: http.Header{}}
	r := &http.Request{Method: method, RequestURI: path, URL: &url.URL{Path: path}, Header: http.Header{}, Body: http.NoBody, ContentLength: int64(len(body))}
	if body != nil {
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	j.handler.ServeHTTP(&res, r)
	return res
}
