package ocsp

import (
	"crypto"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	xocsp "golang.org/x/crypto/ocsp"

	"bulkhead"
)

var layouts = map[string][]HashAlgorithm{
	"SHA-1 then SHA-256": {SHA1, SHA256},
	"SHA-256 then SHA-1": {SHA256, SHA1},
	"SHA-1 alone":        {SHA1},
	"SHA-256 alone":      {SHA256},
}

// TestOpenSSLReadsBoth: OpenSSL searches the response for the CertID with which it asked.
func TestOpenSSLReadsBoth(t *testing.T) {
	h := newHouse(t)
	root, child := pemFile(t, h.root.cert), pemFile(t, h.child.cert)
	for layout, hashes := range layouts {
		resp := file(t, "r.der", sign(t, h.root.issuer(t), h.delegate, goodSingle(h.child.serial(t)), hashes...))
		for _, hash := range []string{"-sha1", "-sha256"} {
			out, err := tool(t, "openssl", "ocsp", "-respin", resp, "-CAfile", root, "-issuer", root, hash, "-cert", child, "-no_nonce")
			if !strings.Contains(out, "Response verify OK") {
				t.Errorf("%s, %s: %v\n%s", layout, hash, err, out)
			}
			held := len(hashes) == 2 || hashes[0] == SHA1 && hash == "-sha1" || hashes[0] == SHA256 && hash == "-sha256"
			if found := strings.Contains(out, ": good"); found != held || (err == nil) != held {
				t.Errorf("%s, asked with %s: status found %v, want %v\n%s", layout, hash, found, held, out)
			}
		}
	}
}

// TestOpenSSLReadsRevoked compares every field that OpenSSL prints of a revoked answer.
func TestOpenSSLReadsRevoked(t *testing.T) {
	h := newHouse(t)
	s := goodSingle(h.child.serial(t))
	s.State, s.RevokedAt, s.Reason, s.HasReason = Revoked, now.Add(-time.Hour), bulkhead.Superseded, true
	resp := file(t, "r.der", sign(t, h.root.issuer(t), h.delegate, s))
	root := pemFile(t, h.root.cert)
	out, err := tool(t, "openssl", "ocsp", "-respin", resp, "-CAfile", root, "-issuer", root, "-serial", "0x"+s.Serial.String(), "-resp_text")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"Cert Status: revoked", "Revocation Reason: superseded (0x4)", ": revoked", "Reason: superseded", "Signature Algorithm: ecdsa-with-SHA256",
		"Revocation Time: " + s.RevokedAt.Format("Jan _2 15:04:05 2006 GMT"), "Next Update: " + s.NextUpdate.Format("Jan _2 15:04:05 2006 GMT"),
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Count(out, "Cert Status: revoked") != 2 {
		t.Errorf("not two statements:\n%s", out)
	}
}

// TestGnuTLSReadsBoth has ocsptool ask a responder on loopback; it asks with SHA-1 and reads the first statement.
func TestGnuTLSReadsBoth(t *testing.T) {
	h := newHouse(t)
	root, child := pemFile(t, h.root.cert), pemFile(t, h.child.cert)
	issuer := h.root.issuer(t)
	for layout, hashes := range layouts {
		der := sign(t, issuer, h.delegate, goodSingle(h.child.serial(t)), hashes...)
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body := make([]byte, 4096)
			n, _ := r.Body.Read(body)
			var one One
			if !ParseOne(body[:n], &one) || one.Serial != h.child.serial(t) || !issuer.Matches(one.Hash, one.NameHash, one.KeyHash) {
				t.Errorf("ParseOne does not read GnuTLS's request %x", body[:n])
			}
			w.Header().Set("Content-Type", "application/ocsp-response")
			w.Write(der)
		}))
		out, err := tool(t, "ocsptool", "--ask="+srv.URL+"/ocsp/", "--load-issuer", root, "--load-cert", child, "--no-nonce")
		srv.Close()
		if err != nil || !strings.Contains(out, "Certificate Status: good") || !strings.Contains(out, "Verifying OCSP Response: Success") {
			t.Errorf("%s: %v\n%s", layout, err, out)
		}
		out, err = tool(t, "ocsptool", "-e", "--load-trust", root, "--load-response", file(t, "r.der", der))
		if err != nil || !strings.Contains(out, "Verifying OCSP Response: Success") {
			t.Errorf("%s: %v\n%s", layout, err, out)
		}
	}
}

// TestGoReadsBoth: with the certificate given, Go finds the statement by serial; without it, Go refuses two statements.
// The second half is why a pre-signed answer makes one statement: CertMagic and lego call ParseResponse.
func TestGoReadsBoth(t *testing.T) {
	h := newHouse(t)
	for layout, hashes := range layouts {
		der := sign(t, h.root.issuer(t), h.delegate, goodSingle(h.child.serial(t)), hashes...)
		r, err := xocsp.ParseResponseForCert(der, h.child.cert, h.root.cert)
		if err != nil || r.Status != xocsp.Good {
			t.Errorf("%s: ParseResponseForCert: %v", layout, err)
		}
		_, err = xocsp.ParseResponse(der, h.root.cert)
		if accepted := err == nil; accepted != (len(hashes) == 1) {
			t.Errorf("%s: ParseResponse accepted %v (%v); the package comment says otherwise", layout, accepted, err)
		}
	}
}

// TestGoAgreesOnFields reads our response with Go's parser and ours.
func TestGoAgreesOnFields(t *testing.T) {
	h := newHouse(t)
	s := goodSingle(h.child.serial(t))
	s.State, s.RevokedAt, s.Reason, s.HasReason = Revoked, now.Add(-48*time.Hour), bulkhead.CACompromise, true
	der := sign(t, h.root.issuer(t), h.delegate, s)
	theirs, err := xocsp.ParseResponseForCert(der, h.child.cert, h.root.cert)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := ParseResponse(der)
	if err != nil {
		t.Fatal(err)
	}
	got := ours.Singles[1].Single
	if got != s || ours.Singles[0].Single != s {
		t.Errorf("read back %+v, wrote %+v", got, s)
	}
	if !theirs.RevokedAt.Equal(got.RevokedAt) || theirs.RevocationReason != int(got.Reason) || !theirs.ThisUpdate.Equal(got.ThisUpdate) ||
		!theirs.NextUpdate.Equal(got.NextUpdate) || !theirs.ProducedAt.Equal(ours.ProducedAt) || string(theirs.TBSResponseData) != string(ours.TBS) ||
		string(theirs.Signature) != string(ours.Signature) || theirs.SignatureAlgorithm != ours.SignatureAlgorithm ||
		string(theirs.ResponderKeyHash) != string(ours.ResponderKeyHash) {
		t.Error("Go's parser reads other fields than ours")
	}
}

// TestRequestsOfOthers reads requests made by OpenSSL, GnuTLS and Go.
func TestRequestsOfOthers(t *testing.T) {
	h := newHouse(t)
	root, child := pemFile(t, h.root.cert), pemFile(t, h.child.cert)
	issuer := h.root.issuer(t)
	requests := map[string][]byte{}
	for _, args := range [][]string{{"-sha1"}, {"-sha256"}, {"-sha384"}, {"-sha512"}, {"-sha1", "-no_nonce"}} {
		out := file(t, "q.der", nil)
		full := append(append([]string{"ocsp", "-reqout", out, "-issuer", root}, args...), "-cert", child)
		if len(args) == 2 {
			full = []string{"ocsp", "-reqout", out, "-issuer", root, args[0], "-cert", child, args[1]}
		}
		if text, err := tool(t, "openssl", full...); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		requests["openssl "+strings.Join(args, " ")], _ = os.ReadFile(out)
	}
	out := file(t, "q.der", nil)
	if text, err := tool(t, "ocsptool", "-q", "--load-issuer", root, "--load-cert", child, "--outfile", out); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	requests["gnutls"], _ = os.ReadFile(out)
	for name, hash := range map[string]crypto.Hash{"go sha1": crypto.SHA1, "go sha256": crypto.SHA256, "go sha512": crypto.SHA512} {
		der, err := xocsp.CreateRequest(h.child.cert, h.root.cert, &xocsp.RequestOptions{Hash: hash})
		if err != nil {
			t.Fatal(err)
		}
		requests[name] = der
	}
	for name, der := range requests {
		r, err := ParseRequest(der, 1)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		id := r.CertIDs[0]
		if id.Serial != h.child.serial(t) || !issuer.Matches(id.Hash, id.NameHash, id.KeyHash) {
			t.Errorf("%s: read %+v", name, id)
		}
		if nonce := strings.HasPrefix(name, "openssl") && !strings.Contains(name, "no_nonce"); nonce != r.HasNonce {
			t.Errorf("%s: nonce %v, want %v (%s)", name, r.HasNonce, nonce, hex.EncodeToString(der))
		}
		var one One
		if small := id.Hash == SHA1 || id.Hash == SHA256; ParseOne(der, &one) != small {
			t.Errorf("%s: ParseOne reads it: %v", name, !small)
		}
	}
}

// TestOurRequestIsRead has OpenSSL and Go read a request of ours.
func TestOurRequestIsRead(t *testing.T) {
	h := newHouse(t)
	issuer := h.root.issuer(t)
	for _, hash := range []HashAlgorithm{SHA1, SHA256} {
		der, err := EncodeRequest([]CertID{issuer.CertID(hash, h.child.serial(t))}, []byte("0123456789abcdef"))
		if err != nil {
			t.Fatal(err)
		}
		q, err := xocsp.ParseRequest(der)
		if err != nil || q.SerialNumber.Cmp(h.child.cert.SerialNumber) != 0 || !issuer.Matches(hash, q.IssuerNameHash, q.IssuerKeyHash) {
			t.Errorf("Go: %v %+v", err, q)
		}
		out, err := tool(t, "openssl", "ocsp", "-reqin", file(t, "q.der", der), "-req_text", "-noverify")
		if err != nil || !strings.Contains(strings.ToLower(out), h.child.serial(t).String()) || !strings.Contains(out, "OCSP Nonce") {
			t.Errorf("openssl: %v\n%s", err, out)
		}
	}
}
