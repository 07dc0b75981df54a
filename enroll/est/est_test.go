package est_test

import (
	"encoding/base64"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/enroll"
)

func TestCACerts(t *testing.T) {
	h := newHouse(t)
	for _, label := range []string{"", "tls-server/", string(issuingCA) + "/"} {
		got := certificates(t, h.dir, h.curl(label+"cacerts"))
		if len(got) != 2 || !slices.ContainsFunc(got, h.root.Equal) || !slices.ContainsFunc(got, h.issuing.Equal) {
			t.Errorf("%q: %d certificates", label, len(got))
		}
	}
	// The root is known by being self-signed, and the chain verifies with nothing but the answer.
	h.openssl("verify", "-CAfile", "root.pem", "issuing.pem")
	a := h.curl("cacerts", "--head")
	if a.status != 200 || a.header["content-transfer-encoding"] != "base64" || a.header["content-length"] == "" || a.body != "" {
		t.Errorf("HEAD gives %+v", a)
	}
}

func TestAddresses(t *testing.T) {
	h := newHouse(t)
	for _, c := range []struct {
		operation string
		args      []string
		status    int
		says      string
	}{
		{"nobody/cacerts", nil, 404, "no profile and no issuing authority"},
		{"root/cacerts", nil, 404, "no profile and no issuing authority"}, // it issues nothing here
		{"cacerts/more/cacerts", nil, 404, "no EST operation"},
		{"/cacerts", nil, 404, "no EST operation"},
		{"", nil, 404, "no EST operation"},
		{"keys", nil, 404, "simplereenroll below /.well-known/est/"},
		{"simpleenroll", nil, 405, "use POST"},
		{"cacerts", []string{"--data", ""}, 405, "use GET"},
		{"serverkeygen", []string{"--data", ""}, 501, "use simpleenroll"},
		{"tls-server/fullcmc", []string{"--data", ""}, 501, "use simpleenroll"},
	} {
		a := h.curl(c.operation, c.args...)
		a.want(t, c.status, c.says)
		if (c.status == 405) != (a.header["allow"] != "") {
			t.Errorf("%s: Allow is %q", c.operation, a.header["allow"])
		}
	}
}

func TestCSRAttributes(t *testing.T) {
	h := newHouse(t)
	a := h.curl("tls-server/csrattrs")
	if a.status != 200 || a.header["content-type"] != "application/csrattrs" {
		t.Fatalf("%+v", a)
	}
	der := tool(t, h.dir, []byte(a.body), "openssl", "base64", "-d")
	text := string(tool(t, h.dir, der, "openssl", "asn1parse", "-inform", "DER"))
	for _, want := range []string{"id-ecPublicKey", "prime256v1", "Extension Request", "X509v3 Subject Alternative Name"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if b := h.curl("csrattrs"); b.body != a.body {
		t.Error("without a label the default profile is described")
	}
}

func TestEnroll(t *testing.T) {
	h := newHouse(t)
	_, user := h.token(true)
	x := h.enrolled("simpleenroll", "one", join(user, h.request("one", "one.internal", "10.1.2.3"))...)
	if !slices.Equal(x.DNSNames, []string{"one.internal"}) || len(x.IPAddresses) != 1 {
		t.Errorf("%v %v", x.DNSNames, x.IPAddresses)
	}
	if c := h.row(x); c.Profile != "tls-server" {
		t.Errorf("profile %s", c.Profile)
	}
	x = h.enrolled("tls-server-short/simpleenroll", "two", join(user, h.request("two", "two.internal"))...)
	if c := h.row(x); c.Profile != "tls-server-short" {
		t.Errorf("profile %s", c.Profile)
	}
	x = h.enrolled(string(issuingCA)+"/simpleenroll", "three", join(user, h.request("three", "three.internal"))...)
	if c := h.row(x); c.Issuer != issuingCA {
		t.Errorf("issuer %s", c.Issuer)
	}
}

// TestBodies: RFC 8951 wants white space tolerated and Content-Transfer-Encoding ignored; bare DER is what some send.
func TestBodies(t *testing.T) {
	h := newHouse(t)
	_, user := h.token(true)
	h.request("a", "a.internal")
	der, err := os.ReadFile(h.path("a.der"))
	ok(t, err)
	text := base64.StdEncoding.EncodeToString(der)
	before := h.issuedRows()
	for name, body := range map[string]string{"one line": text, "crlf": "\r\n" + text[:70] + "\r\n" + text[70:] + "\r\n", "tabs": text[:7] + "\t " + text[7:], "der": string(der)} {
		ok(t, os.WriteFile(h.path("body"), []byte(body), 0o600))
		for _, encoding := range []string{"base64", "binary"} {
			a := h.curl("simpleenroll", join(user, []string{"--header", "Content-Type: application/pkcs10; charset=x", "--header", "Content-Transfer-Encoding: " + encoding, "--data-binary", "@body"})...)
			if len(certificates(t, h.dir, a)) != 1 {
				t.Errorf("%s as %s", name, encoding)
			}
		}
	}
	if n := h.issuedRows() - before; n != 1 {
		t.Errorf("one request sent eight times made %d certificates", n)
	}
}

// TestReenroll renews twice with a new key each time and once with the old one; the operator's word stays as old as it is.
func TestReenroll(t *testing.T) {
	h := newHouse(t)
	_, user := h.token(true)
	first := h.enrolled("tls-server-short/simpleenroll", "one", join(user, h.request("one", "one.internal", "*.one.internal"))...)
	h.shift.Store(int64(3 * 24 * time.Hour))
	second := h.enrolled("simplereenroll", "two", join(with("one"), h.request("two", "one.internal", "*.one.internal"))...)
	h.shift.Store(int64(6 * 24 * time.Hour))
	third := h.enrolled("tls-server-short/simplereenroll", "three", join(with("two"), h.request("three", "*.one.internal", "one.internal"))...)
	h.openssl("ec", "-in", "three.key", "-out", "four.key") // the old key again
	fourth := h.enrolled(string(issuingCA)+"/simplereenroll", "four", join(with("three"), h.request("four", "one.internal", "*.one.internal"))...)

	rows := []bulkhead.Certificate{h.row(first), h.row(second), h.row(third), h.row(fourth)}
	for i, c := range rows[1:] {
		if rows[i].ReplacedBy != c.CertificateRef || c.Profile != "tls-server-short" || c.AccountID != rows[0].AccountID || (c.KeyHash == rows[i].KeyHash) != (i == 2) {
			t.Errorf("%+v after %+v", c, rows[i])
		}
	}
	word, _, err := h.store.OrderEvidence(t.Context(), rows[0].OrderID)
	ok(t, err)
	last, checks, err := h.store.OrderEvidence(t.Context(), rows[3].OrderID)
	ok(t, err)
	if len(last) != 2 || len(checks) != 2 {
		t.Fatalf("%d validations, %d CAA checks", len(last), len(checks))
	}
	for _, v := range last {
		if v.Method != bulkhead.OperatorApproval || v.At.Sub(word[0].At).Abs() > time.Hour || !strings.Contains(v.Detail, rows[2].Serial.String()) {
			t.Errorf("%+v rests on %+v", v, word[0])
		}
	}

	// One that was replaced may be renewed still: its holder may have lost the answer. Nothing is replaced twice.
	again := h.enrolled("simplereenroll", "five", join(with("three"), h.request("five", "one.internal", "*.one.internal"))...)
	if c := h.row(third); c.ReplacedBy != rows[3].CertificateRef || h.row(again).State != bulkhead.Issued {
		t.Errorf("%+v", c)
	}
}

func TestReenrollByToken(t *testing.T) {
	h := newHouse(t)
	_, user := h.token(true)
	_, other := h.token(true)
	request := h.request("one", "one.internal")
	h.curl("simplereenroll", join(user, request)...).want(t, 403, "next: enrol for these names first")
	first := h.enrolled("simpleenroll", "one", join(user, request)...)
	h.curl("simplereenroll", join(other, request)...).want(t, 403, "no good certificate")
	second := h.enrolled("simplereenroll", "two", join(user, h.request("two", "one.internal"))...)
	if h.row(first).ReplacedBy != h.row(second).CertificateRef {
		t.Error("the first is not marked as replaced")
	}
	// A token decides wherever one is shown, whatever certificate is shown besides.
	h.curl("simplereenroll", join(other, with("two"), h.request("three", "one.internal"))...).want(t, 403, "no good certificate")
}

// TestAuthorizations: an account that is not the house's needs valid authorisations, for renewal too.
func TestAuthorizations(t *testing.T) {
	h := newHouse(t)
	acct, user := h.token(false)
	h.curl("simpleenroll", join(user, h.request("one", "www.site.test"))...).want(t, 403, "no valid authorization")
	h.validated(acct, "www.site.test")
	h.enrolled("simpleenroll", "one", join(user, h.request("one", "www.site.test"))...)
	h.enrolled("simplereenroll", "two", join(with("one"), h.request("two", "www.site.test"))...)
	h.shift.Store(int64(11 * 24 * time.Hour))
	before := h.issuedRows()
	a := h.curl("simplereenroll", join(with("two"), h.request("three", "www.site.test"))...)
	a.want(t, 403, "next: validate the names again through ACME with account "+acct.ID)
	if h.issuedRows() != before {
		t.Error("something was issued")
	}
	h.validated(acct, "www.site.test")
	h.enrolled("simplereenroll", "three", join(with("two"), h.request("three", "www.site.test"))...)
}

// TestApprovalAges: the operator's word does not carry renewals for ever.
func TestApprovalAges(t *testing.T) {
	h := newHouse(t, func(c *enroll.Config) { c.Limits.ApprovalReuse = 4 * 24 * time.Hour })
	_, user := h.token(true)
	h.enrolled("tls-server-short/simpleenroll", "one", join(user, h.request("one", "one.internal"))...)
	h.shift.Store(int64(3 * 24 * time.Hour))
	h.enrolled("simplereenroll", "two", join(with("one"), h.request("two", "one.internal"))...)
	h.shift.Store(int64(5 * 24 * time.Hour))
	h.curl("simplereenroll", join(with("two"), h.request("three", "one.internal"))...).want(t, 403, "next: an operator approves the names again with: bulkhead cert renew")
}

// TestOwnNamesShrink: a name that is no longer the house's is not renewed on an old word.
func TestOwnNamesShrink(t *testing.T) {
	h := newHouse(t)
	_, user := h.token(true)
	h.enrolled("simpleenroll", "one", join(user, h.request("one", "one.internal"))...)
	var err error
	h.cfg.Policy.OwnNames, err = enroll.ParseNameSet("*.test")
	ok(t, err)
	h.serve(h.cfg)
	h.curl("simplereenroll", join(with("one"), h.request("two", "one.internal"))...).want(t, 400, "own names")
}

// TestIssuerChanges: after a rotation the successor renews, and the entrance of the old one leads to it; under a revoked authority nobody authenticates.
func TestIssuerChanges(t *testing.T) {
	h := newHouse(t)
	_, user := h.token(true)
	h.enrolled("simpleenroll", "one", join(user, h.request("one", "one.internal"))...)
	next := h.authority("issuing-next")
	h.state(issuingCA, bulkhead.AuthorityRetired, "issuing-next")
	h.pem("issuing.pem", "CERTIFICATE", next.Raw)
	x := h.enrolled("simplereenroll", "two", join(with("one"), h.request("two", "one.internal"))...)
	if h.row(x).Issuer != "issuing-next" {
		t.Errorf("issued by %s", h.row(x).Issuer)
	}
	x = h.enrolled(string(issuingCA)+"/simpleenroll", "named", join(user, h.request("named", "named.internal"))...)
	if h.row(x).Issuer != "issuing-next" {
		t.Errorf("the entrance of the authority that was rotated leads to %s", h.row(x).Issuer)
	}
	h.state(issuingCA, bulkhead.AuthorityRevoked, "issuing-next")
	h.curl("simplereenroll", join(with("one"), h.request("three", "one.internal"))...).want(t, 401, "authority in office")
}

// TestRenewalsAreLimited: one renewal of a certificate is free, more of the same certificate are new ones.
func TestRenewalsAreLimited(t *testing.T) {
	h := newHouse(t, func(c *enroll.Config) {
		c.Rates.Rates = map[enroll.LimitName]enroll.Rate{enroll.CertificatesPerSet: {Count: 1, Per: 24 * time.Hour}}
	})
	_, user := h.token(true)
	h.enrolled("simpleenroll", "one", join(user, h.request("one", "one.internal"))...)
	for _, name := range []string{"two", "three"} {
		h.enrolled("simplereenroll", name, join(with("one"), h.request(name, "one.internal"))...)
	}
	before := h.issuedRows()
	a := h.curl("simplereenroll", join(with("one"), h.request("four", "one.internal"))...)
	a.want(t, http.StatusTooManyRequests, "next: wait as long as Retry-After says")
	if a.header["retry-after"] == "" || h.issuedRows() != before {
		t.Errorf("%v", a.header)
	}
	h.enrolled("simplereenroll", "five", join(with("three"), h.request("five", "one.internal"))...)
}

// TestPending: an order that takes long is answered 202, and the same request repeated gets its certificate.
func TestPending(t *testing.T) {
	h := newHouse(t, func(c *enroll.Config) {
		c.Limits.FinalizeWait, c.Limits.IssueTimeout = time.Millisecond, 200*time.Millisecond
	})
	_, user := h.token(true)
	h.issuer.shut.Store(true)
	send := join(user, h.request("one", "one.internal"))
	for range 2 {
		a := h.curl("simpleenroll", send...)
		a.want(t, http.StatusAccepted, "repeat the same request")
		if a.header["retry-after"] != "60" {
			t.Errorf("Retry-After is %q", a.header["retry-after"])
		}
	}
	h.issuer.shut.Store(false)
	x := h.enrolled("simpleenroll", "one", send...)
	if again := h.enrolled("simpleenroll", "one", send...); !x.Equal(again) || h.issuedRows() != 1 {
		t.Errorf("%d certificates", h.issuedRows())
	}
}
